"""What changed of the gate itself between two commits: everything here is pure and executes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gatehouse.evals.changes.agents import settings
from gatehouse.evals.changes.base import Change, Effect
from gatehouse.evals.changes.golden import cases
from gatehouse.evals.changes.workflows import workflows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.evals.changes.base import AgentView, View

    Pairs = list[tuple[AgentView | None, AgentView | None]]

KINDS = {
    "evals/rubrics/": "rubric",
    "evals/calibration/": "calibration",
    "evals/labels/": "labels",
}
"""What a file is, by the folder that it lies in."""
OWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
"""Where GitHub looks for CODEOWNERS: it reads the first that there is."""
ORDER = list(Effect)


def compare(base: View, head: View) -> list[Change]:
    """Every change from `base` to `head`, what makes the gate weaker first."""
    both = pairs(base, head)
    judges = [view.agent.evals.judge for view in (*base.agents, *head.agents) if view.agent]
    calibrated = any(judge.min_kappa is not None for judge in judges)
    found = [*_agents(base, both), *_owners(base.files, head.files)]
    found += _files(base.files, head.files, calibrated=calibrated)
    loaded = [(one, other) for one, other in both if one and other and one.agent and other.agent]
    found += workflows(base.workflows, head.workflows, loaded)
    if not base.agents:  # everything is new: that one line says it
        new = [f"{kind} added" for kind in KINDS.values()]
        found = [
            change for change in found if change.effect is not Effect.STRONGER and change.what not in new
        ]
    return sorted(found, key=lambda change: ORDER.index(change.effect))


def pairs(base: View, head: View) -> Pairs:
    """Each agent in both: by path and name, else by name, else by path; None where it is in one only."""
    found: Pairs = []
    left, right = list(base.agents), list(head.agents)
    for same in (
        lambda a, b: (a.name, a.path) == (b.name, b.path),
        lambda a, b: a.name == b.name,
        lambda a, b: a.path == b.path,
    ):
        for one in list(left):
            match = next((other for other in right if same(one, other)), None)
            if match:
                found.append((one, match))
                left.remove(one)
                right.remove(match)
    return [*found, *((one, None) for one in left), *((None, one) for one in right)]


def _agents(base: View, both: Pairs) -> Iterator[Change]:
    if not base.agents:
        yield Change(Effect.CHANGED, "the base has no agent file: there is nothing to compare with yet")
        return
    for before, after in both:
        if after is None and before:
            yield Change(Effect.WEAKER, "agent file removed", where=before.path, agent=before.name)
        elif before is None and after:
            if not after.covered:
                continue
            yield Change(Effect.STRONGER, "agent file added", where=after.path, agent=after.name)
        elif before and after:
            if not after.covered:
                what = "agent file no longer covered by a gate"
                yield Change(Effect.WEAKER, what, where=after.path, agent=after.name)
            for change in _agent(before, after):
                yield replace(change, agent=after.name, where=change.where or after.path)


def _agent(base: AgentView, head: AgentView) -> Iterator[Change]:
    if base.name != head.name:
        yield Change(Effect.CHANGED, "agent renamed", before=base.name, after=head.name)
    if base.path != head.path:
        yield Change(Effect.CHANGED, "agent file moved", before=base.path, after=head.path)
    for which, one in (("base", base), ("pull request", head)):
        if one.problem:
            what = f"agent file not compared, because that of the {which} cannot be used"
            yield Change(Effect.WEAKER, what, after=one.problem)
            return
    yield from settings(base, head)
    for which, found in (("base", base.cases), ("pull request", head.cases)):
        if isinstance(found, str):
            what = f"golden set not compared, because that of the {which} cannot be read"
            yield Change(Effect.WEAKER, what, after=found)
            return
    if isinstance(base.cases, dict) and isinstance(head.cases, dict):
        yield from cases(base.cases, head.cases)


def _owners(base: Mapping[str, str], head: Mapping[str, str]) -> Iterator[Change]:
    """Who must review, by the one file that GitHub reads."""
    before, after = (next((path for path in OWNERS if path in files), "") for files in (base, head))
    if not before and after:
        yield Change(Effect.STRONGER, "CODEOWNERS added", where=after)
    elif base.get(before) != head.get(after):
        yield Change(Effect.WEAKER, "who must review changed (CODEOWNERS)", where=after or before)


def _files(base: Mapping[str, str], head: Mapping[str, str], *, calibrated: bool) -> Iterator[Change]:
    """Rubrics, calibrations and labels: which are gone, others now, or new; `calibrated` where one counts."""
    for path in sorted(base.keys() | head.keys()):
        kind = next((kind for folder, kind in KINDS.items() if path.startswith(folder)), "")
        if not kind or base.get(path) == head.get(path):
            continue
        verb = "removed" if path not in head else "added" if path not in base else "changed"
        effect = Effect.STRONGER if (kind, verb) == ("rubric", "added") else Effect.CHANGED
        if verb == "removed" or (kind == "calibration" and calibrated):
            effect = Effect.WEAKER
        yield Change(effect, f"{kind} {verb}", where=path)
