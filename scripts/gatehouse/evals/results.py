"""The files between the stages: what lies in `--out`, and whether it belongs to this agent and commit."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import MalformedError, Run, RunInfo, read_runs, replace_file
from gatehouse.agent.source import RefusedError, check_file, locate
from gatehouse.errors import InfrastructureError
from gatehouse.evals.run_files import writing
from gatehouse.evals.selection import chosen_in, first_few, joined, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.dataset import GoldenSet

SCHEMA = 1
"""The version of the results files that this code writes, and the newest that it reads."""
UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, OSError, RecursionError)
"""What a file can cause that is not what it should be."""
OUT = Path(".gatehouse")
"""The folder of all results, one folder for each agent in it."""


class StaleError(InfrastructureError):
    """Results that are missing, malformed, or of another agent, golden set or commit."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What results must be of to count: one agent, one golden set, one commit (None where unknown)."""

    agent: Agent
    golden: GoldenSet
    commit: str | None
    instead_of: tuple[str, ...] = ()
    """The files of the agent file's golden set, where `golden` is another."""

    def header(self) -> dict[str, Any]:
        """The keys with which every results file says what it is of."""
        agent, golden = self.agent, self.golden
        return {
            "agent": {
                "name": agent.name,
                "version": agent.version,
                "digest": agent.digest,
                "path": agent.path,
            },
            "dataset": golden.header() | ({"instead_of": list(self.instead_of)} if self.instead_of else {}),
            "commit": self.commit,
        }

    def warnings(self) -> list[str]:
        """What a verdict should say of what it is of."""
        if not self.instead_of:
            return []
        files = first_few(self.golden.paths), first_few(self.instead_of)
        return ["Judged on {}, not on the golden set of the agent file ({}).".format(*files)]

    def check(self, agent: dict[str, Any], dataset: dict[str, Any], commit: str | None, path: Path) -> None:
        """Raise StaleError where the header of `path` is of something else."""
        parts = _part_in(dataset, path), self.golden.part
        if parts[0] != parts[1]:
            found, asked = (f"a part of the golden set ({part})" if part else "the whole" for part in parts)
            raise StaleError(
                f"{path} is of {found}, and {asked} is asked for: it does not count. "
                "Run the agent again, or give the same --dataset, --tag and --case as before."
            )
        for what, theirs, ours in (
            ("agent", agent["digest"], self.agent.digest),
            ("golden set", dataset["digest"], self.golden.digest),
            ("commit", commit, self.commit),
        ):
            if theirs != ours and (what != "commit" or ours):
                raise StaleError(
                    f"{path} is of another {what} ({_short(theirs)}, not {_short(ours)}): "
                    "it does not count. Run the agent again."
                )


def _part_in(dataset: dict[str, Any], path: Path) -> str:
    """How much of its golden set the header of `path` is of; "" for the whole; raises StaleError."""
    try:
        chosen = chosen_in(dataset)
        return told(chosen.selection, int(dataset["cases"]), int(dataset.get("of") or 0), len(chosen.paths))
    except UNREADABLE as error:
        raise StaleError(f'{path}: "dataset" is malformed ({error}). Run the agent again.') from None


def digest_now(dataset: dict[str, Any], root: Path) -> str:
    """The digest that the golden set which a header names has now, by the bytes of its files alone.

    Raises RefusedError or OSError where one is not here, and what is in UNREADABLE for a malformed header.
    """
    chosen, digests = chosen_in(dataset), []
    for path in chosen.paths:
        place = locate(root, path)
        check_file(place, path)
        with place.open("rb") as file:
            digests.append(f"sha256:{file_digest(file, 'sha256').hexdigest()}")
    return joined(digests, chosen.selection)


def digest_of(paths: Sequence[str], root: Path) -> str:
    """The digest of a golden set by its files under `root`; "" without any, or where one is not there."""
    with suppress(RefusedError, OSError):
        return digest_now({"paths": list(paths)}, root) if paths else ""
    return ""


def _short(digest: str | None) -> str:
    return str(digest).removeprefix("sha256:")[:12]


def find_runs(paths: Iterable[str]) -> list[Path]:
    """Every `runs.jsonl` that `paths` name, themselves or in a folder below; none where none is there.

    A `run.json` alone counts too: it says why there are no runs beside it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        below = {
            file.with_name("runs.jsonl") for name in ("runs.jsonl", "run.json") for file in path.rglob(name)
        }
        found += sorted(below) if path.is_dir() else [path] if path.exists() else []
    return found


def runs_of(subject: Subject, files: Sequence[Path]) -> tuple[int, Iterator[Run]]:
    """The repeats and the runs of `files`, each checked as it is read; raises StaleError.

    `run.json` beside a file says whose runs they are. A run of an unknown case, of a case that has changed
    since, or a second one of the same case and repeat makes the whole unusable: nothing here is repaired.
    """
    if not files:
        raise StaleError(
            f"No runs of {subject.agent.name} were found: it was not run, or its results were lost."
        )
    infos = []
    for file in files:
        try:
            info = RunInfo.read(file.with_name("run.json"))
        except (MalformedError, OSError) as error:
            raise StaleError(f"{file.with_name('run.json')}: {_why(error)}. Run the agent again.") from None
        subject.check(info.agent, info.dataset, info.commit, file)
        infos.append(info)
        if not (info.failure or file.exists()):
            raise StaleError(f"{file}: missing. Run the agent again.")
    files = [file for file in files if file.exists() and file.stat().st_size]
    if not files:
        why = next((info.failure for info in infos if info.failure), "the run was broken off.")
        raise StaleError(f"No case was answered: {why}")
    repeats = {info.repeats for info in infos}
    if len(repeats) > 1:
        raise StaleError(f"The runs differ in repeats ({sorted(repeats)}): they are not parts of one run.")
    if not 1 <= infos[0].repeats <= MAX_REPEATS:
        raise StaleError(
            f"{files[0].with_name('run.json')}: {infos[0].repeats} repeats. Run the agent again."
        )
    return infos[0].repeats, _checked(subject.golden, files, infos[0].repeats)


def failure_of(files: Iterable[Path]) -> str | None:
    """Why a run is incomplete, as its `run.json` beside one of `files` says; None where it says nothing."""
    for file in files:
        with suppress(MalformedError, OSError):
            failure = RunInfo.read(file.with_name("run.json")).failure
            if failure:
                return failure[:2000]
    return None


MAX_REPEATS = 1000
"""Repeats of one case that a run may ask for, and that results may claim."""


def _checked(golden: GoldenSet, files: Sequence[Path], repeats: int) -> Iterator[Run]:
    seen = bytearray(len(golden) * repeats)
    try:
        for run in chain.from_iterable(map(read_runs, files)):
            if run.id not in golden or run.repeat >= repeats:
                raise StaleError(
                    f"The runs hold case {run.id!r}, repeat {run.repeat}, which nobody asked for."
                )
            if golden[run.id].digest != run.case:
                raise StaleError(f"Case {run.id!r} has changed since it was run. Run the agent again.")
            slot = golden.index[run.id] * repeats + run.repeat
            if seen[slot]:
                raise StaleError(f"The runs hold case {run.id!r}, repeat {run.repeat}, twice.")
            seen[slot] = 1
            yield run
    except (MalformedError, OSError) as error:
        raise StaleError(f"{_why(error)}. Run the agent again.") from None


def _why(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace `path` in one step: a reader never sees half of it; raises InfrastructureError."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)


def read_json(path: Path) -> dict[str, Any]:
    """A results file that one of our stages wrote, of this or an older schema; raises StaleError."""
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError, OSError) as error:
        raise StaleError(f"{path}: {_why(error)}. Run the stage before again.") from None
    if not isinstance(data, dict):
        raise StaleError(f"{path}: not an object. Run the stage before again.")
    if data.get("schema") not in range(SCHEMA + 1):
        raise StaleError(f"{path}: of schema {data.get('schema')!r}, this Gatehouse reads up to {SCHEMA}.")
    return data


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
