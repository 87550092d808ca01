"""Costs held against their limits: pure decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gatehouse.errors import State, plain_number

if TYPE_CHECKING:
    from gatehouse.costs.prices import Costs


DAILY = "daily_usd"
NEAR = 0.7
"""Share of a day's budget above which its projection is a warning."""


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
    warnings: list[str]
    """What is within its limit, but not by much."""

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
    daily_usd: float | None = None,
    requests_per_day: int | None = None,
) -> CostVerdict:
    """The verdict on the costs of a gate's runs.

    Per run is the mean over the runs that did not break off. Per resolved case is all that was
    spent, over the cases that were resolved; `resolved` None where no verdict says how many were. A day is
    what `requests_per_day` of the mean run cost.
    What is already known to be spent can only grow: a limit that it breaks is broken, priced or not.
    """
    unknown = _unknown(costs)
    per_run = costs.total / costs.runs if costs.runs else None
    limits = [_limit("cost_per_run", per_run, max_per_run, unknown, f"largest {dollars(costs.largest)}")]
    if resolved is not None or max_per_resolved is not None:
        limits.append(_per_resolved(costs, repeats, resolved, max_per_resolved, unknown))
    if daily_usd is not None or requests_per_day is not None:
        limits.append(_daily(per_run, daily_usd, requests_per_day, unknown))
    warnings = [f"{row.name}: {row.reason}" for row in limits if row.name == DAILY and _is_near(row)]
    state = State.worst([row.state for row in limits])
    # A pass says what it was held to, or at least what a run costs; anything else only what is in the way.
    held = [row for row in limits if row.limit is not None and row.value is not None]
    named = [row for row in (held if state is State.PASS else limits) if row.state == state]
    reason = "; ".join(f"{row.name}: {row.reason}" for row in named or limits[:1])
    return CostVerdict(state, reason, limits, warnings)


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


def _daily(per_run: float | None, limit: float | None, requests: int | None, unknown: str) -> Limit:
    """What a day is projected to cost."""
    if requests is None:
        return Limit(DAILY, None, limit, State.PASS, _no_projection(per_run, limit or 0.0, unknown))
    projected = None if per_run is None else per_run * requests
    day = (
        ""
        if projected is None
        else f"{dollars(projected)} a day at {requests:,} request{'s' * (requests != 1)}"
    )
    if limit is None:
        why = f"no limit is set; {unknown}" if unknown else f"{day}, no limit is set"
        return Limit(DAILY, None if unknown else projected, None, State.PASS, why)
    over = projected is not None and projected > limit * (1 + 1e-9)
    if projected is None or (unknown and not over):
        return Limit(DAILY, None, limit, State.UNSCORED, unknown)
    share = f"{_percent(projected / limit)} of {dollars(limit)}" if limit else f"of {dollars(limit)}"
    return Limit(DAILY, projected, limit, State.FAIL if over else State.PASS, f"{day}, {share}")


def _no_projection(per_run: float | None, limit: float, unknown: str) -> str:
    repair = "write `budgets.requests_per_day` to have it projected"
    if unknown or not per_run:
        return f"{dollars(limit)} a day is not projected: {repair}"
    enough = f"{int(limit / per_run):,} requests of {dollars(per_run)}"
    return f"{dollars(limit)} a day is enough for {enough}: {repair}"


def _is_near(row: Limit) -> bool:
    """Whether a limit holds, and most of it is used up."""
    if row.value is None or not row.limit or row.state is not State.PASS:
        return False
    return row.value > NEAR * row.limit * (1 + 1e-9)


def _percent(share: float) -> str:
    """A share in whole percent; in more digits where it would read as a bound that it is above or below."""
    for digits in range(7):
        shown = f"{100 * share:.{digits}f}"
        if all((float(shown) > bound) == (share > bound / 100) for bound in (100 * NEAR, 100)):
            break
    return f"{shown} %"
