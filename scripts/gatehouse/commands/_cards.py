"""What lies under `.gatehouse` for the scorecard: verdict files, each checked before it counts."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatehouse.agent.definition import load_agent
from gatehouse.agent.source import RefusedError
from gatehouse.commands._shared import no_verdict, refuse_committed
from gatehouse.errors import Exit, State, UserError
from gatehouse.evals.results import OUT, UNREADABLE, StaleError, digest_now, read_json
from gatehouse.github.event import current_commit
from gatehouse.report.junit import junit
from gatehouse.report.prose import prose
from gatehouse.report.scorecard import GATES, Card, markdown, terminal

LARGEST = 16 * 2**20
"""Bytes of one results file: a hundred failing cases of long texts have a third of it."""
MOST = 64 * 2**20
"""Bytes of all results of another run together."""
AGENTS = 200
"""Agents whose results are taken over from another run."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was found in `folder`; `changes` of the gate itself as data, as Markdown and as lines."""

    folder: Path
    cards: list[Card]
    changes: dict[str, Any] | None = None
    changes_markdown: str = ""
    changes_lines: list[str] = field(default_factory=list)


def read_results(out: Path | None) -> Results:
    """A card for every agent's folder; raises UserError where results are committed.

    Files that are not what they should be, or of something else than what is checked out, become cards that
    say so.
    """
    refuse_committed(out or OUT)
    folders = [out] if out else sorted(OUT.glob("*/"))
    commit = current_commit(Path.cwd())
    cards = []
    for folder in folders:
        verdict, cost = (_read(folder / f"{gate}.json", commit) for gate in GATES)
        named = verdict or cost
        cards.append(Card(named["agent"]["name"] if named else folder.name, verdict, cost))
    return Results(out or OUT, cards, *_changes((out or OUT) / "changes.json", commit))


def read_foreign(commit: str | None) -> Results:
    """The results of another run, whose author may have written them by hand.

    Size, schema and names are checked. All have to be of one commit: of `commit`, or where that is not known
    of that of the first. Nothing is checked out that they could be compared with.
    """
    folders = sorted(path for path in OUT.glob("*/") if not path.is_symlink())
    names = [folder / f"{gate}.json" for folder in folders for gate in GATES]
    found = [path for path in [*names, OUT / "changes.json"] if path.is_file() and not path.is_symlink()]
    if len(folders) > AGENTS or sum(path.stat().st_size for path in found) > MOST:
        reason = f"the results hold more than {AGENTS} agents or {MOST >> 20} MiB: they are not read"
        verdict = no_verdict("eval.json", "results", "", reason, Exit.UNSCORED)
        return Results(OUT, [Card("results", verdict, None, gates=("eval",))])
    read: dict[Path, dict[str, Any]] = {}
    for path in [path for path in names if path in found]:
        try:
            read[path] = _read_foreign(path, commit)
            commit = commit or read[path]["commit"]
        except (StaleError, *UNREADABLE) as error:
            read[path] = _malformed(path, error)
    cards = [Card(f.name, read.get(f / "eval.json"), read.get(f / "cost.json")) for f in folders]
    return Results(OUT, cards, *_changes(OUT / "changes.json", commit))


def _read_foreign(path: Path, commit: str | None) -> dict[str, Any]:
    """A verdict file of another run; raises StaleError or one of UNREADABLE."""
    data = _bounded(path)
    _check_schema(data, path)
    if data["agent"]["name"] != path.parent.name:
        raise ValueError(f"it is of agent {data['agent']['name']!r}")
    if not re.fullmatch(r"[0-9a-f]{40,64}", str(data["commit"])):
        raise ValueError("it names no commit")
    _show(data, path)
    if commit and data["commit"] != commit:
        raise StaleError(f"{path} is of another commit ({data['commit'][:12]}, not {commit[:12]})")
    return data


def _read(path: Path, commit: str | None) -> dict[str, Any] | None:
    """A verdict file, or why it does not count, in its place; None where there is none."""
    if not path.exists():
        return None
    try:
        data = _bounded(path)
        _show(data, path)
        _check_current(data, path, commit)
    except (StaleError, *UNREADABLE) as error:
        return _malformed(path, error)
    return data


def _bounded(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST:
        raise StaleError(f"{path} is larger than {LARGEST >> 20} MiB: it is not read")
    return read_json(path)


def _show(data: dict[str, Any], path: Path) -> None:
    """Raise one of UNREADABLE for what cannot be shown."""
    gate = path.stem
    card = Card(data["agent"]["name"], **{"eval": None, "cost": None, gate: data}, gates=(gate,))
    markdown([card])
    terminal([card])
    junit([card])


def _check_schema(data: dict[str, Any], path: Path) -> None:
    from gatehouse.agent.schema import validator  # noqa: PLC0415 beside the 65 ms of jsonschema

    fault = next(validator(path.stem).iter_errors(data), None)
    if fault:
        raise ValueError(f"{fault.json_path}: {fault.message[:200]}")


def _malformed(path: Path, error: Exception) -> dict[str, Any]:
    return no_verdict(path.name, path.parent.name, "", _why(path, error), Exit.UNSCORED)


def _why(path: Path, error: Exception) -> str:
    return str(error) if isinstance(error, StaleError) else f"{path} is malformed ({error})"


def _check_current(data: dict[str, Any], path: Path, commit: str | None) -> None:
    """Raise StaleError for a verdict on another commit or, where they are checked out, other files."""
    agent, dataset = data["agent"], data["dataset"]
    again = f"it does not count. Run the gate again, or delete {path.parent}."
    if commit and data.get("commit") != commit:
        theirs = str(data.get("commit") or "none")
        raise StaleError(f"{path} is of another commit ({theirs[:12]}, not {commit[:12]}): {again}")
    if data["state"] != State.UNSCORED and not agent["digest"]:
        raise StaleError(f"{path} says of which agent it is by no digest: {again}")
    with suppress(UserError):  # gone, or broken: the gates say so
        now = load_agent(agent["path"])
        if agent["digest"] and (now.digest, now.name) != (agent["digest"], agent["name"]):
            raise StaleError(f"{path} is of another agent than {agent['path']}: {again}")
    with suppress(RefusedError, OSError):
        if dataset and digest_now(dataset, Path.cwd()) != dataset["digest"]:
            raise StaleError(f"{path} is of another golden set than {dataset['path']}: {again}")


def _changes(path: Path, commit: str | None) -> tuple[dict[str, Any] | None, str, list[str]]:
    """What changes.json says of the gate itself, as data, Markdown and lines; nothing where it is missing."""
    if not path.exists() or path.is_symlink():
        return None, "", []
    from gatehouse.report.changes import lines, section  # noqa: PLC0415 only where there is a file

    try:
        data = _bounded(path)
        _check_schema(data, path)
        if commit and data["commit"] != commit:
            raise StaleError(f"{path} is of another commit: it does not count")
        return data, section(data), lines(data)
    except (StaleError, *UNREADABLE) as error:
        line = f"What changes in the gate itself is not known: {_why(path, error)}"
        return None, f"⚠️ {prose(line, 400)}", [f"⚠️ {line}"]
