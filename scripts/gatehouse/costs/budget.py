"""Costs held against their limits: pure decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gatehouse.errors import State, plain_number

if TYPE_CHECKING:
    from gatehouse.costs.prices import Costs


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit's row in `cost.json`: dollars; `value` None where it could not be measured."""

    name: str
    value: float | None
    limit: float | None
    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class CostVerdict:
    """The cost gate's verdict over its limits."""

    state: State
    reason: str
    limits: list[Limit]

    def to_json(self) -> dict[str, Any]:
        """As it stands in `cost.json`."""
        return asdict(self)


def dollars(value: float) -> str:
    """Dollars as people read them: whole cents above a dollar, three digits below, never $0 for less."""
    if value >= 1 or value == 0:
        return f"${value:,.2f}"
    return f"${plain_number(value, 3)}"


def _beside(value: float, limit: float) -> str:
    """Dollars that never read as the limit that they are above or below."""
    alike = value != limit and dollars(value) == dollars(limit)
    return f"${plain_number(value, 10)}" if alike else dollars(value)


def judge_costs(
    costs: Costs,
    *,
    repeats: int,
    resolved: int | None,
    max_per_run: float | None,
    max_per_resolved: float | None,
) -> CostVerdict:
    """The verdict on the costs of a gate's runs.

    Per run is the mean over the runs that did not break off. Per resolved case is all that was
    spent, over the cases that were resolved; `resolved` None where no verdict says how many were.
    What is already known to be spent can only grow: a limit that it breaks is broken, priced or not.
    """
    unknown = _unknown(costs)
    per_run = costs.total / costs.runs if costs.runs else None
    limits = [_limit("cost_per_run", per_run, max_per_run, unknown, f"largest {dollars(costs.largest)}")]
    if resolved is not None or max_per_resolved is not None:
        limits.append(_per_resolved(costs, repeats, resolved, max_per_resolved, unknown))
    state = State.worst([row.state for row in limits])
    # A pass says what it was held to, or at least what a run costs; anything else only what is in the way.
    named = [
        row for row in limits if row.state == state and (row.limit is not None or state is not State.PASS)
    ]
    return CostVerdict(state, "; ".join(f"{row.name}: {row.reason}" for row in named or limits[:1]), limits)


def _unknown(costs: Costs) -> str:
    if not costs.runs:
        return "nothing was measured: no run was answered"
    if costs.unpriced:
        models = ", ".join(m.model for m in costs.by_model.values() if m.usd is None)
        return f"unpriced: nobody knows the price of {models}; write it as `pricing` in the agent file"
    if costs.without_usage:
        return f"{costs.without_usage} of {costs.runs} runs report no usage: return `usage` with the output"
    return ""


def _limit(name: str, value: float | None, limit: float | None, unknown: str, more: str) -> Limit:
    if value is not None and limit is not None and value > limit * (1 + 1e-9):
        return Limit(
            name, value, limit, State.FAIL, f"{_beside(value, limit)} is above {dollars(limit)} ({more})"
        )
    if unknown and limit is None and value is not None:
        return Limit(name, None, None, State.PASS, f"no limit is set; {unknown}")
    if unknown or value is None:
        return Limit(name, None, limit, State.UNSCORED, unknown)
    if limit is None:
        return Limit(name, value, None, State.PASS, f"{dollars(value)}, no limit is set ({more})")
    return Limit(
        name, value, limit, State.PASS, f"{_beside(value, limit)} is at most {dollars(limit)} ({more})"
    )


def _per_resolved(
    costs: Costs, repeats: int, resolved: int | None, limit: float | None, unknown: str
) -> Limit:
    name, spent = "cost_per_resolved", costs.total / repeats
    if resolved is None:
        return Limit(
            name,
            None,
            limit,
            State.UNSCORED,
            "no verdict says how many cases were resolved: run the eval gate",
        )
    if resolved == 0 and costs.runs:
        state = State.PASS if limit is None else State.FAIL
        reason = f"no case resolved; {unknown or f'{dollars(spent)} spent'}"
        return Limit(name, None, limit, state, reason)
    return _limit(name, spent / resolved if resolved else None, limit, unknown, f"{resolved} resolved")
