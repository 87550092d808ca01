"""What changed of the inputs that a workflow gives to Gatehouse: by what holds with the agent files."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from gatehouse.agent.definition import AGENT_FILES
from gatehouse.evals.changes.base import Change, Effect, other, way_of
from gatehouse.evals.metrics import known_as, registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.evals.changes.base import AgentView

    Pairs = Sequence[tuple[AgentView, AgentView]]

MAX_USD = "max-usd"
LIMITS = {"max-per-run": "cost_per_run", "max-per-resolved": "cost_per_resolved", MAX_USD: MAX_USD}
"""Inputs that are one limit, and the metric that each is of; what asking may cost is of none."""
NO_JUDGING = {
    "case-deadline",
    "comment-key",
    "concurrency",
    "install",
    "judge-key",
    "model-key",
    "python",
    "python-version",
    "run-deadline",
    "runner",
}
"""Inputs that say how the agent is run, not what it is held to; any other that cannot be read is weaker."""


def inputs(name: str, before: Any, after: Any, agents: Pairs) -> Iterator[Change]:
    """Every change of the inputs `with:` of a job or step; `agents` are those that both commits have."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        for change in other("inputs", name, before, after):
            yield replace(change, effect=Effect.WEAKER)
        return
    for key in before | after:
        old, new = before.get(key) or None, after.get(key) or None
        for change in other("workflow input", f"{name}: {key}", old, new):
            yield replace(change, effect=_effect(key, old, new, agents))


def patterns_of(value: Any) -> list[str]:
    """The patterns that the input `agent` names, one a line."""
    return [line.strip() for line in str(value or "").splitlines() if line.strip()]


def _effect(key: str, before: Any, after: Any, agents: Pairs) -> Effect:
    if key in NO_JUDGING:
        return Effect.CHANGED
    if key == "test" and before is None:
        return Effect.STRONGER
    if key == "agent":
        old_files, new_files = (patterns_of(value) or AGENT_FILES for value in (before, after))
        kept = all(any(_covers(by, one) for by in new_files) for one in old_files)
        return Effect.STRONGER if kept else Effect.WEAKER
    old, new = _held(key, before), _held(key, after)
    if old is None or new is None:
        return Effect.WEAKER
    names = [name for name in old | new if old.get(name) != new.get(name)]
    found = {effect for name in names for effect in _effects(name, old.get(name), new.get(name), agents)}
    return next((effect for effect in (Effect.WEAKER, Effect.STRONGER) if effect in found), Effect.CHANGED)


def _covers(by: str, one: str) -> bool:
    """Whether a pattern is sure to stand for every file that another one does."""
    if "${{" in by + one:
        return False
    wide, narrow = by.split("/"), one.split("/")
    parts = len(wide) == len(narrow) and "**" not in narrow and not set("?[") & set(by)
    return by == one or (parts and all(map(fnmatchcase, narrow, wide)))


def _held(key: str, value: Any) -> dict[str, float] | None:
    """What an input holds the agents to; None for one that cannot be read."""
    if key != "threshold" and key not in LIMITS:
        return None
    text = str(value or "").strip()
    if key in LIMITS:
        text = f"{LIMITS[key]}={text}" if text else ""
    found = {}
    for part in filter(None, (part.strip() for part in re.split("[,\n]", text))):
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            return None
    return found if all(map(math.isfinite, found.values())) else None


def _effects(name: str, before: float | None, after: float | None, agents: Pairs) -> Iterator[Effect]:
    """What another limit `name` does to each agent, whose own one counts where the input gives none."""
    lower = _is_ceiling(name, agents)
    for old, new in [tuple(_own(name, agent) for agent in pair) for pair in agents] or [(None, None)]:
        left, right = old if before is None else before, new if after is None else after
        if left != right:
            yield way_of(left, right, more_is_weaker=lower)


def _own(name: str, view: AgentView) -> float | None:
    """What the agent's file says of it; None where it says nothing, and everything passes."""
    if name == MAX_USD:
        return view.agent.evals.max_usd if view.agent else None
    gate = view.gates.get(name) or view.gates.get(known_as(name))
    if gate is None:
        return None
    return gate.metric.best if gate.threshold is None else gate.threshold


def _is_ceiling(name: str, agents: Pairs) -> bool:
    """Whether less is better. Rubrics and own metrics, which only a file knows, are better with more."""
    named = [view.gates[name].metric for pair in agents for view in pair if name in view.gates]
    metric = named[0] if named else registry().get(known_as(name))
    return name == MAX_USD or (metric is not None and metric.direction == "lower")
