"""How far a run is: one line that changes on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from gatehouse.github.runner import emit

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_EVERY_S = 10.0
REDRAW_EVERY_S = 0.1


class Progress:
    """Reports to `stream`: the first and the last state always, those between at most every few seconds.

    `what` is counted, and `bad` says what those are that cannot be used.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = monotonic,
        *,
        what: str = "answers",
        bad: str = "faults",
    ) -> None:
        self.stream, self.what, self.bad = stream, what, bad
        self.clock = clock
        self.terminal = stream.isatty() and not os.environ.get("CI")  # a runner may fake a terminal
        self.every = REDRAW_EVERY_S if self.terminal else LINE_EVERY_S
        self.started = clock()
        self.shown_at = float("-inf")

    def update(self, done: int, total: int, bad: int, *, last: bool = False) -> None:
        """Show that `done` of `total` are there, `bad` of them unusable, if it is time to."""
        now = self.clock()
        if now - self.shown_at < self.every and not last:
            return
        self.shown_at = now
        text = f"{done} of {total} {self.what}, {bad} {self.bad}, {now - self.started:.0f} s"
        if self.terminal:
            emit(f"\r\x1b[K{text}" + ("\n" if last else ""), self.stream)
        else:
            emit(f"{text}\n", self.stream)
