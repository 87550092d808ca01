"""Ask an agent every case of its golden set: bounded at once, within deadlines, written as answers come.

One engine for every kind of agent. It never holds more cases than it asks at once, can be killed at any
point, and goes on where it was.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from gatehouse.evals.run_files import RunFiles, locked
from gatehouse.evals.throttle import DeadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from gatehouse.agent.protocol import Run, RunInfo
    from gatehouse.evals.progress import Progress

HOPELESS_KINDS = ("connection", "key", "quota")
HOPELESS_AFTER = 20
"""When this many first answers are the same fault of the infrastructure, the others would be too."""


class Case(Protocol):
    """What is asked: a case of the golden set."""

    @property
    def id(self) -> str:
        """Unique in its golden set."""

    @property
    def digest(self) -> str:
        """Of input and reference."""

    @property
    def input(self) -> Any:
        """A text, or any JSON value."""


class Target(Protocol):
    """An agent that can be asked."""

    @property
    def tries(self) -> int:
        """How often one case is sent at most: again where a connection or a process broke off."""

    async def open(self) -> None:
        """Get ready, or raise a GatehouseError that says why no case can be asked."""

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One answer; whatever goes wrong with this case alone is in the run's `error`.

        Raises DeadError when no other case could be answered either: the run stops, what it has is kept.
        """

    async def close(self) -> None:
        """Leave nothing behind; also after an `open` that failed."""

    def notes(self) -> list[str]:
        """What a person should know of this run beside its answers."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`concurrency` cases at once; a deadline for each, and one for the whole run, in seconds."""

    concurrency: int = 8
    case_deadline_s: float = 60.0
    run_deadline_s: float = 1800.0


@dataclass(slots=True)
class RunSummary:
    """What a run did, in answers: wanted, kept from before, asked now, unusable by whose fault.

    `stopped` is "" for a run that asked every case; else the run is incomplete and can be resumed.
    """

    total: int
    resumed: int = 0
    asked: int = 0
    agent_faults: int = 0
    infrastructure_faults: int = 0
    seconds: float = 0.0
    stopped: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def not_asked(self) -> int:
        """Answers that are missing."""
        return self.total - self.resumed - self.asked


def run_cases(
    target: Target,
    golden_set: Iterable[Case],
    out_dir: Path,
    info: RunInfo,
    options: RunOptions,
    *,
    progress: Progress | None = None,
    hide: Sequence[str] = (),
) -> RunSummary:
    """Ask every case `info.repeats` times and write `runs.jsonl` and `run.json` to `out_dir`.

    `golden_set` is gone through more than once; `info.dataset["cases"]` is how many cases it has. Resumes an
    unfinished run whose `run.json` equals `info`. What `hide` holds is written as `***`. Raises UserError for
    a folder in use or an interpreter that cannot serve, InfrastructureError for an agent that cannot start or
    a full disk, and KeyboardInterrupt on SIGINT and SIGTERM; whatever was answered by then is kept.
    """
    with locked(out_dir):
        files = RunFiles(out_dir, info, hide)
        if files.can_resume():
            files.resume({case.id: case.digest for case in golden_set})
        else:
            files.restart()
        try:
            engine = _Engine(target, files, options, progress)
            return asyncio.run(engine.run(golden_set))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            files.close()


class _Engine:
    def __init__(
        self, target: Target, files: RunFiles, options: RunOptions, progress: Progress | None
    ) -> None:
        self.target = target
        self.files = files
        self.options = options
        self.progress = progress
        self.summary = RunSummary(files.info.dataset["cases"] * files.info.repeats, resumed=len(files.done))
        self.first_kind: str | None = None

    async def run(self, golden_set: Iterable[Case]) -> RunSummary:
        started = monotonic()
        this = asyncio.current_task()
        if this:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        todo = self._todo(golden_set)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self.target.open()
            tasks = [asyncio.create_task(self._ask_on(todo)) for _ in range(self.options.concurrency)]
            await self._wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.target.close()
        if not self.summary.stopped and self.summary.not_asked:
            self.summary.stopped = "the golden set changed while it was run"
        self.summary.notes = self.target.notes()
        if not self.summary.stopped:
            self.files.finish(self.summary.notes)
        self.summary.seconds = monotonic() - started
        self._show(last=True)
        return self.summary

    async def _wait(self, tasks: list[asyncio.Task[None]]) -> None:
        """Until all are done, one fails, or the run's deadline passes."""
        done, pending = await asyncio.wait(
            tasks, timeout=self.options.run_deadline_s, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        if pending:
            self.summary.stopped = f"the run's deadline of {self.options.run_deadline_s:g} s passed"

    def _todo(self, golden_set: Iterable[Case]) -> Iterator[tuple[Case, int]]:
        for case in golden_set:
            for repeat in range(self.files.info.repeats):
                if self.summary.stopped:
                    return
                if (case.id, repeat) not in self.files.done:
                    yield case, repeat

    async def _ask_on(self, todo: Iterator[tuple[Case, int]]) -> None:
        """One of `concurrency` tasks that share the cases."""
        for case, repeat in todo:
            try:
                run = await self.target.ask(case, repeat, self.options.case_deadline_s)
            except DeadError as dead:
                self.summary.stopped = self.summary.stopped or dead.message
                return
            self._record(run)

    def _record(self, run: Run) -> None:
        run = self.files.append(run)
        self.summary.asked += 1
        kind = None
        if run.error and run.error.by == "infrastructure":
            self.summary.infrastructure_faults += 1
            kind = run.error.kind
        elif run.error:
            self.summary.agent_faults += 1
        if self.summary.asked == 1:
            self.first_kind = kind
        elif kind != self.first_kind:
            self.first_kind = None
        if self.summary.asked == HOPELESS_AFTER and self.first_kind in HOPELESS_KINDS and run.error:
            why = run.error.message
            self.summary.stopped = f"the first {HOPELESS_AFTER} answers were all the same fault: {why}"
        self._show()

    def _show(self, *, last: bool = False) -> None:
        if self.progress:
            done = self.summary.resumed + self.summary.asked
            faults = self.summary.agent_faults + self.summary.infrastructure_faults
            self.progress.update(done, self.summary.total, faults, last=last)
