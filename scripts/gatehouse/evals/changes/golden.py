"""What changed between two versions of a golden set, case by case."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import canonical, sha256
from gatehouse.evals.changes.base import CaseView, Change, Effect, names
from gatehouse.evals.dataset import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatehouse.evals.dataset import Case

APART = {"id", "line", "path", "digest", "has_expected", "critical"}
"""Fields of a case that are no parts to compare one by one."""
LABELS = {"expected": "reference", "expected_tools": "expected tools"}
EMPTY = {sha256(canonical(nothing)) for nothing in ("", None)}
"""References that hold nothing."""
NO_MEASURE = {"tags", "metadata"}
"""Parts whose removal takes nothing away that every metric of them would need."""


def view(case: Case) -> CaseView:
    """A case as it is compared."""
    given: dict[str, Any] = {field.name: getattr(case, field.name) for field in fields(case)}
    parts = {name: value for name, value in given.items() if name not in APART}
    parts |= {f"metadata.{key}": case.metadata.get(key) for key in REFERENCE}
    parts["metadata"] = {key: value for key, value in case.metadata.items() if key not in REFERENCE}
    kept = {name: value for name, value in parts.items() if value not in (None, [], {})}
    if case.has_expected:  # it may be null, or empty, on purpose
        blank = isinstance(case.expected, str) and not case.expected.strip()
        kept["expected"] = "" if blank else case.expected
    digests = {name: sha256(canonical(_plain(value))) for name, value in kept.items()}
    derived = case.id == sha256(canonical({"input": case.input})).removeprefix("sha256:")[:12]
    return CaseView(case.path, digests, case.critical, derived)


def _plain(value: Any) -> Any:
    """A value as JSON: tool calls are dataclasses."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def cases(base: Mapping[str, CaseView], head: Mapping[str, CaseView]) -> Iterator[Change]:
    """Every change of the cases, by id; one that moved to another file is the same."""
    dropped = [case_id for case_id in base if case_id not in head]
    added = [case_id for case_id in head if case_id not in base]
    if dropped:
        what = f"{_count(dropped)} dropped"
        if any(base[one].derived for one in dropped) and any(head[one].derived for one in added):
            what += " (or edited, since a case without an id is known by its input)"
        yield _listed(Effect.WEAKER, what, dropped, base)
    found: dict[tuple[Effect, str], list[str]] = defaultdict(list)
    for case_id in base:
        if case_id in head and base[case_id] != head[case_id]:
            for kind in _kinds(base[case_id], head[case_id]):
                found[kind].append(case_id)
    for (effect, what), ids in found.items():
        yield _listed(effect, what.format(_count(ids)), ids, head)
    if added:
        yield _listed(Effect.STRONGER, f"{_count(added)} added", added, head)


def _kinds(base: CaseView, head: CaseView) -> Iterator[tuple[Effect, str]]:
    """What happened to one case, with a place for how many it happened to."""
    for part in dict(base.parts) | dict(head.parts):
        before, after = base.parts.get(part), head.parts.get(part)
        label = LABELS.get(part, part)
        if before == after:
            continue
        emptied = part == "expected" and after in EMPTY and before not in EMPTY
        if emptied or (after is None and part not in NO_MEASURE):
            yield Effect.WEAKER, f"{label} removed from {{}}"
        else:
            verb = "removed from" if after is None else "added to" if before is None else "changed in"
            yield Effect.CHANGED, f"{label} {verb} {{}}"
    if base.critical != head.critical:
        effect, verb = (Effect.WEAKER, "removed from") if base.critical else (Effect.STRONGER, "added to")
        yield effect, f"critical mark {verb} {{}}"


def _count(ids: list[str]) -> str:
    return f"{len(ids)} case{'s' * (len(ids) != 1)}"


def _listed(effect: Effect, what: str, ids: list[str], of: Mapping[str, CaseView]) -> Change:
    return Change(effect, what, names(ids), where=_paths(of[one].path for one in ids))


def _paths(paths: Iterable[str]) -> str:
    return names(dict.fromkeys(paths))
