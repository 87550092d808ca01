"""Costs against their limits: states and words."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.costs.budget import CostVerdict, dollars, judge_costs
from gatehouse.costs.prices import Costs, ModelCost
from gatehouse.errors import State

FAIL, UNSCORED, PASS = State.FAIL, State.UNSCORED, State.PASS
WHY = "unpriced: nobody knows the price of secret; write it as `pricing` in the agent file"
NOTHING = "nothing was measured: no run was answered"
UNPRICED = {("x", "secret"): ModelCost("x", "secret", usd=None), ("x", "a"): ModelCost("x", "a", usd=1.0)}


def costs(runs: int = 10, total: float = 0.4, **more: Any) -> Costs:
    """Ten runs for 40 cents, the largest 8, unless said."""
    return Costs(runs, total, **({"largest": 0.08} | more))


def verdict(costs: Costs, **more: Any) -> CostVerdict:
    """The verdict, without limits unless said."""
    limits: dict[str, Any] = {"repeats": 1, "resolved": None, "max_per_run": None, "max_per_resolved": None}
    return judge_costs(costs, **(limits | more))


@pytest.mark.parametrize(
    ("given", "limits", "state", "reason"),
    [
        (costs(), {}, PASS, "cost_per_run: $0.04, no limit is set (largest $0.08)"),
        (costs(), {"max_per_run": 0.05}, PASS, "cost_per_run: $0.04 is at most $0.05 (largest $0.08)"),
        (costs(), {"max_per_run": 0.04}, PASS, "cost_per_run: $0.04 is at most $0.04 (largest $0.08)"),
        (costs(), {"max_per_run": 0.03}, FAIL, "cost_per_run: $0.04 is above $0.03 (largest $0.08)"),
        # A limit of nothing is a limit.
        (costs(), {"max_per_run": 0.0}, FAIL, "cost_per_run: $0.04 is above $0.00 (largest $0.08)"),
        (
            costs(total=0.0, largest=0.0),
            {"max_per_run": 0.0},
            PASS,
            "cost_per_run: $0.00 is at most $0.00 (largest $0.00)",
        ),
        # Dollars never read as the limit that they are above.
        (
            costs(total=10.0001, largest=2.5),
            {"max_per_run": 1.0},
            FAIL,
            "cost_per_run: $1.00001 is above $1.00 (largest $2.50)",
        ),
        # Per resolved case.
        (
            costs(),
            {"resolved": 8, "max_per_resolved": 0.05},
            PASS,
            "cost_per_resolved: $0.05 is at most $0.05 (8 resolved)",
        ),
        (
            costs(),
            {"resolved": 4, "max_per_resolved": 0.05, "max_per_run": 0.05},
            FAIL,
            "cost_per_resolved: $0.1 is above $0.05 (4 resolved)",
        ),
        (
            costs(runs=30, total=1.2),
            {"resolved": 8, "max_per_resolved": 0.05, "repeats": 3},
            PASS,
            "cost_per_resolved: $0.05 is at most $0.05 (8 resolved)",
        ),
        (
            costs(),
            {"resolved": 0, "max_per_resolved": 5.0},
            FAIL,
            "cost_per_resolved: no case resolved; $0.4 spent",
        ),
        (costs(), {"resolved": 0}, PASS, "cost_per_run: $0.04, no limit is set (largest $0.08)"),
        (
            costs(),
            {"max_per_resolved": 5.0},
            UNSCORED,
            "cost_per_resolved: no verdict says how many cases were resolved: run the eval gate",
        ),
        # Unknown prices: never $0, and in the way of a limit only.
        (
            costs(unpriced=1, by_model=UNPRICED),
            {"max_per_run": 0.05},
            UNSCORED,
            f"cost_per_run: {WHY}",
        ),
        (
            costs(unpriced=1, by_model=UNPRICED),
            {},
            PASS,
            f"cost_per_run: no limit is set; {WHY}",
        ),
        (
            costs(unpriced=1, by_model=UNPRICED),
            {"max_per_run": 0.03},
            FAIL,
            "cost_per_run: $0.04 is above $0.03 (largest $0.08)",
        ),
        (
            costs(unpriced=1, by_model=UNPRICED),
            {"resolved": 0, "max_per_resolved": 5.0},
            FAIL,
            f"cost_per_resolved: no case resolved; {WHY}",
        ),
        (
            costs(without_usage=3),
            {"max_per_run": 1.0},
            UNSCORED,
            "cost_per_run: 3 of 10 runs report no usage: return `usage` with the output",
        ),
        (
            costs(without_usage=3),
            {},
            PASS,
            "cost_per_run: no limit is set; 3 of 10 runs report no usage: return `usage` with the output",
        ),
        # Nothing measured.
        (costs(0, 0.0, faults=5), {}, UNSCORED, f"cost_per_run: {NOTHING}"),
        (
            costs(0, 0.0, faults=5),
            {"resolved": 0, "max_per_resolved": 1.0, "max_per_run": 1.0},
            UNSCORED,
            f"cost_per_run: {NOTHING}; cost_per_resolved: {NOTHING}",
        ),
    ],
)
def test_verdicts(given: Costs, limits: dict[str, Any], state: State, reason: str) -> None:
    """The mean run is held to its limit; what is unknown never passes one, and what is known can break it."""
    found = verdict(given, **limits)
    assert (found.state, found.reason) == (state, reason)


DAY = "daily_usd: "


@pytest.mark.parametrize(
    ("given", "daily", "requests", "state", "reason", "near"),
    [
        (costs(10, 0.3), 50.0, 1200, PASS, "$36.00 a day at 1,200 requests, 72 % of $50.00", True),
        (costs(10, 0.3), 60.0, 1200, PASS, "$36.00 a day at 1,200 requests, 60 % of $60.00", False),
        # At the bounds, and just above: in words too.
        (costs(10, 0.35), 50.0, 1000, PASS, "$35.00 a day at 1,000 requests, 70 % of $50.00", False),
        (costs(10, 0.3501), 50.0, 1000, PASS, "$35.01 a day at 1,000 requests, 70.02 % of $50.00", True),
        (costs(10, 0.5), 50.0, 1000, PASS, "$50.00 a day at 1,000 requests, 100 % of $50.00", True),
        (costs(10, 0.5001), 50.0, 1000, FAIL, "$50.01 a day at 1,000 requests, 100.02 % of $50.00", False),
        (costs(10, 1.0), 50.0, 1000, FAIL, "$100.00 a day at 1,000 requests, 200 % of $50.00", False),
        (costs(10, 0.3), 0.0, 1, FAIL, "$0.03 a day at 1 request, of $0.00", False),
        (costs(10, 0.0), 0.0, 1, PASS, "$0.00 a day at 1 request, of $0.00", False),
        # Unknown: a limit is not held, unless what is known breaks it already.
        (costs(unpriced=1, by_model=UNPRICED), 50.0, 1000, UNSCORED, WHY, False),
        (costs(without_usage=1), 30.0, 1000, FAIL, "$40.00 a day at 1,000 requests, 133 % of $30.00", False),
        (costs(0, 0.0, faults=5), 50.0, 1000, UNSCORED, NOTHING, False),
        # No limit.
        (costs(10, 0.3), None, 1200, PASS, "$36.00 a day at 1,200 requests, no limit is set", False),
        (costs(unpriced=1, by_model=UNPRICED), None, 1, PASS, f"no limit is set; {WHY}", False),
    ],
)
def test_a_day_s_budget(
    given: Costs, daily: float | None, requests: int, state: State, reason: str, near: bool
) -> None:
    """A day is so many of the mean run: near its budget is a warning, above it fails."""
    found = verdict(given, daily_usd=daily, requests_per_day=requests)
    row = found.limits[-1]
    assert (row.name, row.limit, row.state, row.reason) == ("daily_usd", daily, state, reason)
    assert found.warnings == ([DAY + reason] if near else [])
    if daily is not None:
        assert found.state is state
        assert DAY + reason in found.reason


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (costs(10, 0.3), "$50.00 a day is enough for 1,666 requests of $0.03"),
        (costs(10, 0.0), "$50.00 a day is not projected"),
        (costs(unpriced=1, by_model=UNPRICED), "$50.00 a day is not projected"),
    ],
)
def test_without_requests_a_day_there_is_no_projection(given: Costs, reason: str) -> None:
    """A budget alone is no limit that a run could break: it is said how many requests it is enough for."""
    found = verdict(given, daily_usd=50.0)
    row = found.limits[-1]
    assert (row.value, row.limit, row.state) == (None, 50.0, PASS)
    assert row.reason == f"{reason}: write `budgets.requests_per_day` to have it projected"
    assert (found.state, found.warnings) == (PASS, [])
    assert "daily_usd" not in found.reason


def test_rows() -> None:
    """Each limit is a row of its own; an unknown cost has no value."""
    found = verdict(costs(), resolved=8, max_per_run=0.03)
    assert [(row.name, row.value, row.limit, row.state) for row in found.limits] == [
        ("cost_per_run", 0.04, 0.03, FAIL),
        ("cost_per_resolved", 0.05, None, PASS),
    ]
    (row,) = verdict(costs(without_usage=1)).limits
    assert row.value is None
    assert found.to_json()["limits"][0]["state"] == "fail"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (1.0, "$1.00"),
        (0.05, "$0.05"),
        (0.012345, "$0.0123"),
        (0.0001, "$0.0001"),
        (0.00001234, "$0.0000123"),
    ],
)
def test_dollars(value: float, shown: str) -> None:
    """Cents where there are some, three digits below, and never $0 for what is more."""
    assert dollars(value) == shown
