"""The user's function as a target: workers of the user's interpreter, replaced when they die or hang."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gatehouse.agent.interpreter import check_version
from gatehouse.agent.protocol import Fault, MalformedError, Run
from gatehouse.errors import GatehouseError, InfrastructureError, Problem, UserError
from gatehouse.evals.asked import HEARER
from gatehouse.evals.run_files import writing
from gatehouse.evals.worker import BLOCKED, MAX_REPLY, Answer, Call, Trial, Worker
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.evals.run import Case

SCRIPT = Path(__file__).parent.parent / "agent" / "worker.py"
START_S = 120.0
"""Seconds for the interpreter and the user's imports."""
LOG_BYTES = 2**20
"""Bytes of what the agent prints that are kept."""
TAIL_BYTES = 2**13
REPLY_KEYS = frozenset({"output", "contexts", "tool_calls", "usage", "iterations", "error"})


class StartError(InfrastructureError):
    """The agent cannot be started, so no case can be asked."""


def sentence(text: str) -> str:
    """A message of the user's interpreter as a sentence, harmless for a terminal."""
    shown = plain(text).rstrip()
    return shown if shown.endswith((".", "?", "!")) else f"{shown}."


def parse_reply(case: Case, repeat: int, answer: Answer) -> Run:
    """The run that an answer makes; a reply that breaks the protocol becomes the agent's fault.

    A dict with "output", all of whose keys are the protocol's, is a full reply; anything else is the output.
    """
    run = partial(Run, id=case.id, case=case.digest, repeat=repeat, latency_s=answer.seconds)
    if answer.fault:
        return run(output=None, error=answer.fault)
    value = answer.value
    if not isinstance(value, dict) or "output" not in value or not value.keys() <= REPLY_KEYS:
        return run(output=value)
    try:
        # A run reads itself back here: what is written is what every later stage accepts.
        return Run.from_json(
            {"id": case.id, "case": case.digest, "repeat": repeat, "latency_s": answer.seconds}
            | value
            | {"error": _own_fault(value.get("error"))}
        )
    except MalformedError as error:
        return run(output=None, error=Fault("agent", "garbage", f"the reply breaks the protocol: {error}"))


def _own_fault(error: Any) -> dict[str, Any] | None:
    """A fault that the function reports itself: a text, or an object with a message."""
    if error is None:
        return None
    fault = {"message": error} if isinstance(error, str) else error
    if not isinstance(fault, dict):
        raise MalformedError('"error" is neither a text nor an object')
    return {"by": "agent", "kind": "error"} | fault


def last_lines(printed: bytes, lines: int) -> str:
    """The end of what was printed, harmless for a terminal."""
    return "\n".join(plain(printed.decode(errors="replace")).splitlines()[-lines:])


class PrintLog:
    """What the agent prints: the first megabyte in a file, the last lines at hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._left = LOG_BYTES
        self._end = b""

    def clear(self) -> None:
        """What an earlier run printed is not this one's."""
        with writing(self.path.parent):
            self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Keep what there is room for; on a full disk the answers count, not what was printed beside them."""
        self._end = (self._end + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self._left > 0:
            with suppress(OSError):
                self._file = self._file or self.path.open("wb", buffering=0)
                self._file.write(data[: self._left])
                if self._left <= len(data):
                    self._file.write(b"\n[what was printed after this is left out]\n")
            self._left -= len(data)

    def tail(self, lines: int) -> str:
        """The last lines, harmless for a terminal."""
        return last_lines(self._end, lines)

    def close(self) -> None:
        """Close the file; there is none where nothing was printed."""
        if self._file:
            self._file.close()


class WorkerPool:
    """`module:function` in the user's interpreter: one worker at a time, more while a culprit is sought.

    `threads` is how many calls of a plain function run at once; `environ` is the worker's whole environment.
    What it prints goes to `worker.log` in `out_dir`, at most a megabyte of it. `who` is whose function it is,
    as messages call it.
    """

    def __init__(
        self,
        target: str,
        python: str,
        *,
        threads: int,
        environ: Mapping[str, str],
        cwd: Path,
        out_dir: Path,
        who: str = "the agent",
    ) -> None:
        self.who = who
        self.environ = environ
        self.cwd = cwd
        self.target = target
        # Halving, until the guilty one is alone.
        self.tries = 1 + (threads - 1).bit_length()
        self.command = (python, str(SCRIPT), target, str(threads), str(MAX_REPLY))
        self.workers: set[Worker] = set()
        self.trials: list[Trial] = []
        self._numbers = count(1)
        self._current: Worker | None = None
        self._starting = asyncio.Lock()
        self._failed: GatehouseError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._log = PrintLog(out_dir / "worker.log")

    async def open(self) -> None:
        """Start the first worker; raises StartError, or UserError for an interpreter that cannot serve."""
        self._log.clear()
        await self._worker()

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """A case's input as one call; raises StartError when a replaced worker does not start."""
        return parse_reply(case, repeat, await self.call(case.input, deadline_s))

    async def call(self, value: Any, deadline_s: float) -> Answer:
        """One call of the function with a value, and what it returned as it is; raises as `ask` does."""
        number = next(self._numbers)
        request = json.dumps({"id": number, "input": value}).encode() + b"\n"
        answer = asyncio.get_running_loop().create_future()
        call = Call(number, request, deadline_s, answer, tell=HEARER.get())
        (await self._worker()).ask(call)
        try:
            return await call.answer
        finally:
            for worker in list(self.workers) if call.answer.cancelled() else ():
                worker.forget(call)

    async def close(self) -> None:
        """Kill what runs, with everything it started, and wait for it."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self.workers):
            worker.kill()
        for worker in list(self.workers):
            await worker.gone.wait()
        self._log.close()

    def notes(self) -> list[str]:
        """What a summary should add."""
        unexplained = sum(not trial.convicted for trial in self.trials)
        process = f"{self.who[:1].upper()}{self.who[1:]}'s process"
        note = f"{process} died {unexplained} times and did not again when its cases were asked again."
        return [note] if unexplained else []

    # What workers tell

    def log(self, data: bytes) -> None:
        """What the agent printed."""
        self._log.write(data)

    def ended(self, worker: Worker, why: Fault | None, calls: list[Call]) -> None:
        """A worker is gone: find who did it among `calls`, by halves, each in a fresh worker.

        A call that was alone is convicted. Halving costs one worker's start for each doubling of the calls,
        one after the other would cost as many as there are calls.
        """
        self.workers.discard(worker)
        if not worker.ready.done():
            worker.ready.set_result(how_it_ended(worker.returncode, self.who))
        elif self._closing or not calls:
            return
        elif why is BLOCKED:
            self._ask_again(calls)
        elif len(calls) == 1:
            (call,) = calls
            ended = f"{how_it_ended(worker.returncode, self.who)}\n{self._log.tail(5)}".rstrip()
            fault = why or Fault("agent", "crash", ended)
            call.settle(Answer(None, call.deadline_s if fault.kind == "hang" else None, fault))
            if call.trial:
                call.trial.convicted = True
        else:
            if calls[0].trial is None:
                self.trials.append(Trial())
                for call in calls:
                    call.trial = self.trials[-1]
            self._ask_again(calls[: len(calls) // 2])
            self._ask_again(calls[len(calls) // 2 :])

    def _ask_again(self, calls: list[Call]) -> None:
        task = asyncio.create_task(self._retry(calls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retry(self, calls: list[Call]) -> None:
        try:
            await self._start(calls, retiring=True)
        except GatehouseError as error:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(error)

    async def _worker(self) -> Worker:
        """The worker for new calls, started where there is none."""
        if self._current and self._current.usable:
            return self._current
        async with self._starting:
            if not (self._current and self._current.usable):
                self._current = await self._start()
            return self._current

    async def _start(self, calls: Sequence[Call] = (), *, retiring: bool = False) -> Worker:
        if self._failed:
            raise self._failed
        try:
            _, worker = await asyncio.get_running_loop().subprocess_exec(
                partial(Worker, self, calls, retiring=retiring),
                *self.command,
                cwd=self.cwd,
                env=self.environ,
                start_new_session=True,
            )
        except OSError as error:
            self._failed = UserError(Problem(f"{self.command[0]} cannot be started: {error.strerror}."))
            raise self._failed from None
        self.workers.add(worker)
        try:
            failed = await asyncio.wait_for(asyncio.shield(worker.ready), START_S)
        except TimeoutError:
            failed = f"it was not loaded within {START_S:g} s"
        if failed is not None:
            worker.kill()
            self._failed = check_version(self.command[0]) or StartError(
                f"{self.target} cannot be loaded, so no case can be asked: {sentence(failed)} "
                f"Python is {self.command[0]}: install {self.who} and its dependencies there, or name "
                f"another by --python. What it printed is in {self._log.path}."
            )
            raise self._failed
        return worker


def how_it_ended(returncode: int | None, who: str = "the agent") -> str:
    """How a process ended, in words."""
    if returncode is None or returncode >= 0:
        return f"{who}'s process ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"{who}'s process was killed by {name}"
