"""Who wants to know of each time that a case is sent to its agent: it may have to be paid for."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def nobody(_times: int) -> None:
    """Nobody wants to know."""


HEARER: ContextVar[Callable[[int], None]] = ContextVar("hearer", default=nobody)
"""Hears of the case that the current task asks: 1 before it is sent, -1 where that cost nothing."""


def tell(times: int) -> None:
    """Say that the case is sent so many times more, or was fewer."""
    HEARER.get()(times)
