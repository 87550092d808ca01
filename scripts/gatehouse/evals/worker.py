"""One worker process of the user's interpreter, seen from our side: its pipes, its calls, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from gatehouse.agent.protocol import Fault
from gatehouse.evals.asked import nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_REPLY = 8 * 2**20
"""Bytes of one reply."""
GRACE_S = 2.0
"""Seconds that a live worker may take to say so after a deadline."""
LAST_WORDS_S = 0.02
"""Seconds to read what an ended worker wrote last on its standard error."""
EXIT_S = 1.0
"""Seconds between a worker's end and that of its pipe: either may be long in coming after the other."""


class Answer(NamedTuple):
    """What came back for one call; `seconds` is None where nobody could measure."""

    value: Any
    seconds: float | None
    fault: Fault | None = None


@dataclass(slots=True)
class Trial:
    """The calls that were under way when their worker died; `convicted` once one of them did it again."""

    convicted: bool = False


@dataclass(slots=True, eq=False)
class Call:
    """One request under way. It may move to another worker; whoever waits for `answer` does not notice."""

    number: int
    request: bytes
    deadline_s: float
    answer: asyncio.Future[Answer]
    timer: asyncio.TimerHandle | None = None
    late: bool = False
    trial: Trial | None = None
    tell: Callable[[int], None] = nobody
    """Hears of each time that it is sent."""

    def settle(self, answer: Answer) -> None:
        """Hand over the answer, unless nobody waits any more."""
        self.stop_timer()
        if not self.answer.done():
            self.answer.set_result(answer)

    def stop_timer(self) -> None:
        """No deadline runs any more."""
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def hang(self) -> Answer:
        """No answer by the deadline: the agent's own fault."""
        return Answer(
            None, self.deadline_s, Fault("agent", "hang", f"no answer within {self.deadline_s:g} s")
        )


class Owner(Protocol):
    """Who hears of a worker's life; `who` is whose code it runs, in words."""

    who: str

    def log(self, data: bytes) -> None:
        """What the user's code printed."""

    def ended(self, worker: Worker, why: Fault | None, calls: list[Call]) -> None:
        """The process is gone, `calls` unanswered; `why` where we know better than its exit code."""


class Worker(asyncio.SubprocessProtocol):
    """A process that runs `agent/worker.py`; every method runs in the event loop."""

    def __init__(self, owner: Owner, calls: Iterable[Call] = (), *, retiring: bool = False) -> None:
        self.owner = owner
        self.calls = {call.number: call for call in calls}
        self.retiring = retiring
        """Takes no new calls and ends with its last one."""
        self.ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """None when the function is loaded, else why it is not."""
        self.gone = asyncio.Event()
        self._buffer = bytearray()
        self._why: Fault | None = None
        self._eof = self._exited = self._ending = False

    # What the pool calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))

    @property
    def usable(self) -> bool:
        """Whether it takes new calls."""
        return not (self.retiring or self._why or self._eof or self._exited)

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: negative for a signal."""
        return self._transport.get_returncode()

    def ask(self, call: Call) -> None:
        """Send a call, or keep it until the function is loaded: its deadline does not run before."""
        self.calls[call.number] = call
        if self.ready.done():
            self._send(call)

    def forget(self, call: Call) -> None:
        """Nobody waits for this call any more."""
        call.stop_timer()
        self.calls.pop(call.number, None)
        self._retire()

    def kill(self, why: Fault | None = None) -> None:
        """End the process with everything it started; its calls go back to the owner."""
        if self.gone.is_set():
            return
        self._why = self._why or why
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
        if not self._exited:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # should the agent have left its group

    # What the process does

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Frames on 1, the user's prints on 2."""
        if fd != 1:
            self.owner.log(data)
            return
        self._buffer += data
        if b"\n" in data:
            *lines, rest = self._buffer.split(b"\n")
            self._buffer = rest
            for line in lines:
                self._frame(bytes(line))
        elif len(self._buffer) > MAX_REPLY + 2**16:
            self._garbage()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The worker closed its channel, or ended."""
        if fd == 1:
            self._eof = True
            closed = Fault("agent", "crash", f"{self.owner.who} closed the channel of its worker")
            asyncio.get_running_loop().call_later(EXIT_S, self.kill, closed)
            self._end()

    def process_exited(self) -> None:
        """The process ended; what it had written may still be in the pipe."""
        self._exited = True
        self.kill()  # what it started and left behind
        self._end()
        asyncio.get_running_loop().call_later(EXIT_S, self._end, True)

    def _end(self, now: bool = False) -> None:
        if not self._ending and self._exited and (self._eof or now):
            self._ending = True
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._report)

    def _report(self) -> None:
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            call.stop_timer()
        self.owner.ended(self, self._why, calls)
        self._transport.close()
        self.gone.set()

    def _frame(self, line: bytes) -> None:
        try:
            frame = json.loads(line)
            if "id" in frame:
                self._answer(frame)
            elif "alive" in frame and self._why is None:
                self._alive(self.calls.get(frame["alive"]), self.calls.get(frame["busy"]))
            elif "alive" not in frame and not self.ready.done():
                self.ready.set_result(None if "ready" in frame else str(frame["failed"]))
                for call in list(self.calls.values()):
                    self._send(call)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._garbage()

    def _garbage(self) -> None:
        self.kill(Fault("agent", "garbage", f"{self.owner.who} wrote into the channel of its worker"))

    def _answer(self, frame: dict[str, Any]) -> None:
        fault = Fault(*map(str, frame["fault"])) if "fault" in frame else None  # type: ignore[arg-type]
        answer = Answer(frame.get("value"), float(frame["seconds"]), fault)
        if call := self.calls.pop(frame["id"], None):
            call.settle(call.hang() if call.late else answer)
            self._retire()

    def _retire(self) -> None:
        if self.retiring and not self.calls:
            self.kill()

    # Deadlines

    def _send(self, call: Call) -> None:
        call.tell(1)
        self._stdin.write(call.request)
        call.late = False
        call.timer = asyncio.get_running_loop().call_later(call.deadline_s, self._late, call)

    def _late(self, call: Call) -> None:
        call.late = True
        self._stdin.write(b'{"cancel":%d}\n' % call.number)
        call.timer = asyncio.get_running_loop().call_later(GRACE_S, self._frozen, call)

    def _frozen(self, call: Call) -> None:
        """Not even the reading thread answers: whichever call did this holds the whole interpreter."""
        self.kill(call.hang().fault)

    def _alive(self, call: Call | None, blocker: Call | None) -> None:
        if blocker:  # one call blocks the event loop: the others are not to blame, and are asked again
            self.calls.pop(blocker.number)
            blocker.settle(blocker.hang())
            self.kill(BLOCKED)
        elif call:  # a thread that hangs, or a task that ignores its cancellation
            self.calls.pop(call.number)
            call.settle(call.hang())
            self.retiring = True
            self._retire()


BLOCKED = Fault("agent", "hang", "another case blocked the event loop")
"""Why a worker ended whose remaining calls are innocent."""
