"""Faults that a stand-in is asked for, and the record of what was asked of it and took effect outside."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Fault:
    """A reply to spoil, `times` times, by `status`; None where the request takes effect."""

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None
    headers: dict[str, str]
    message: str
    lose_reply: bool
    delay: float


class Faulty:
    """A server that spoils replies where it is asked to.

    `calls` are all requests as (method, path, status), status 0 where the reply was lost; `effects` are the
    writes that took place, in order. `on_effect` is called with each in the server's thread, before its
    reply is sent.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.effects: list[str] = []
        self.on_effect: Callable[[str], None] | None = None
        self._lock = threading.RLock()
        self._faults: list[Fault] = []
        self._lost: set[int] = set()
        self._asked = 0

    def fail(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        status: int | None = 500,
        headers: dict[str, str] | None = None,
        message: str = "Injected",
        lose_reply: bool = False,
        delay: float = 0,
    ) -> None:
        """Spoil the next `times` requests of `method` whose path matches the pattern `path` somewhere.

        With `lose_reply`, or `status` None, the request takes effect; the first drops the connection instead
        of answering. `delay` is in seconds. Requests of git are "GIT", "upload-pack" or "receive-pack".
        """
        kept = None if lose_reply else status
        fault = Fault(method, re.compile(path), times, kept, headers or {}, message, lose_reply, delay)
        with self._lock:
            self._faults.append(fault)

    def lose(self, n: int) -> None:
        """Lose the reply to the n-th request from now, counted from 1, after it took effect."""
        with self._lock:
            self._lost.add(self._asked + n)

    def _suffered(self, method: str, path: str) -> tuple[Fault | None, bool]:
        """The fault of this request, its delay over, and whether its reply is lost."""
        with self._lock:
            self._asked += 1
            lost = self._asked in self._lost
            matching = (f for f in self._faults if f.times > 0 and f.method == method and f.path.search(path))
            fault = next(matching, None)
            if fault:
                fault.times -= 1
        if fault:
            time.sleep(fault.delay)
        return fault, lost or (fault is not None and fault.lose_reply)

    def _took_effect(self, effect: str) -> None:
        self.effects.append(effect)
        if self.on_effect:
            self.on_effect(effect)
