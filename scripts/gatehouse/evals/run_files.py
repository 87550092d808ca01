"""`runs.jsonl` and `run.json` while they are written: locked, appended to, resumed after a kill."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from gatehouse.agent.protocol import MAX_LINE, Fault, MalformedError, Run, RunInfo
from gatehouse.errors import InfrastructureError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MAX_DEPTH = 100
"""Levels of nesting in an output: what is written must be readable by every later stage."""

RUNS = "runs.jsonl"
INFO = "run.json"
SPENT = "spent.txt"
"""What asking has cost so far, where there is a cap: dollars, a line for each that was counted in or out."""


class RunFiles:
    """The results of one run in `out_dir`, open for appending; `done` are the finished (id, repeat) pairs."""

    def __init__(self, out_dir: Path, info: RunInfo, hide: Sequence[str] = ()) -> None:
        self.out_dir = out_dir
        self.hide = [secret.encode() for secret in hide]
        self.info = replace(info, complete=False)
        self.done: set[tuple[str, int]] = set()
        self._runs: IO[bytes]

    def can_resume(self) -> bool:
        """Whether an unfinished run of the same agent, golden set, commit and options lies here."""
        try:
            before = RunInfo.read(self.out_dir / INFO)
            return replace(before, failure=self.info.failure, notes=[]) == self.info
        except (OSError, MalformedError):
            return False

    def resume(self, digests: Mapping[str, str]) -> None:
        """Keep the finished runs of the cases in `digests` (id to digest), and drop every other line."""
        partial = self.out_dir / (RUNS + ".partial")
        drop_verdicts(self.out_dir)
        with writing(self.out_dir), partial.open("wb") as kept:
            for run in readable_runs(self.out_dir):
                known = digests.get(run.id) == run.case and run.repeat < self.info.repeats
                unscored = run.error is not None and run.error.by == "infrastructure"
                if known and not unscored and (run.id, run.repeat) not in self.done:
                    self.done.add((run.id, run.repeat))
                    kept.write(run.to_line().encode())
        with writing(self.out_dir):
            partial.replace(self.out_dir / RUNS)
            self.info.write(self.out_dir / INFO)  # why it was incomplete is past
            self._runs = (self.out_dir / RUNS).open("ab", buffering=0)

    def restart(self) -> None:
        """Begin anew. In this order a kill at any point leaves no old run under the new `run.json`."""
        drop_verdicts(self.out_dir)
        with writing(self.out_dir):
            for name in (INFO, SPENT, RUNS):
                (self.out_dir / name).unlink(missing_ok=True)  # it may be a link
            (self.out_dir / RUNS).write_bytes(b"")
            self.info.write(self.out_dir / INFO)
            self._runs = (self.out_dir / RUNS).open("ab", buffering=0)

    def append(self, run: Run) -> Run:
        """Write one run, and return it as it was written: what cannot be written is the agent's garbage."""
        try:
            if _too_deep([run.output, [call.arguments for call in run.tool_calls or []]]):
                raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
            line = run.to_line().encode()
        except ValueError as error:  # also NaN, or a lone surrogate
            fault = Fault("agent", "garbage", f"the reply cannot be written as JSON: {error}")
            run = Run(run.id, run.case, run.repeat, None, latency_s=run.latency_s, error=fault)
            line = run.to_line().encode(errors="replace")
        for secret in self.hide:  # an agent, or its provider's error message, may repeat its key
            line = line.replace(secret, b"***")
        with writing(self.out_dir):
            self._runs.write(line)
        return run

    def finish(self, notes: Sequence[str] = ()) -> None:
        """Every case was asked; `notes` are what a person should know of it."""
        shown = list(notes)
        for secret in self.hide:
            shown = [note.replace(secret.decode(), "***") for note in shown]
        with writing(self.out_dir):
            replace(self.info, complete=True, notes=shown).write(self.out_dir / INFO)

    def close(self) -> None:
        """Close the file; what is missing can be asked later."""
        self._runs.close()


def drop_verdicts(out_dir: Path) -> None:
    """What was found of older runs is not this one's; `eval.json` is the gate's own to write."""
    with writing(out_dir):
        for file in ("scores.json", "cost.json"):
            (out_dir / file).unlink(missing_ok=True)


@contextmanager
def locked(out_dir: Path) -> Iterator[None]:
    """Make `out_dir` and hold it alone, to run or to score; raises UserError where another run holds it."""
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        lock = (out_dir / "run.lock").open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{out_dir}: another run writes its results here. Wait for it, or give another --out."
            ) from None
        yield


@contextmanager
def writing(out_dir: Path) -> Iterator[None]:
    """Tell a disk that is full or a folder that is not ours as what it is; raises InfrastructureError."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"The results cannot be written to {out_dir}: {error}") from error


def readable_runs(out_dir: Path) -> Iterator[Run]:
    """The runs in `out_dir` that are whole: a process that was killed leaves half of its last line."""
    try:
        lines = (out_dir / RUNS).open("rb")
    except FileNotFoundError:
        return
    with lines:
        while raw := lines.readline(MAX_LINE):
            try:
                if raw.endswith(b"\n"):
                    yield Run.from_json(json.loads(raw))
            except (ValueError, RecursionError):
                continue


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
