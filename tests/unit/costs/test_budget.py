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
