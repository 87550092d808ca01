"""The verdict of a metric from its cases' values, and the gate's from its metrics': states and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from gatehouse.errors import State
from gatehouse.evals.metrics import Gate, registry
from gatehouse.evals.verdict import MetricVerdict, judge, judge_critical, of_part, overall, show

if TYPE_CHECKING:
    from collections.abc import Sequence

FAIL, UNSCORED, INCONCLUSIVE, PASS = State.FAIL, State.UNSCORED, State.INCONCLUSIVE, State.PASS
EXACT, LATENCY, ERRORS, CLEAN = "exact_match", "latency_p95", "error_rate", "not_contains"


def gate(
    name: str,
    threshold: float | None,
    floor: Literal["value", "interval"] = "value",
    *,
    implied: bool = False,
) -> Gate:
    """A gate of a metric whose scorer is not asked."""
    return Gate(registry()[name], lambda _case, _run: None, threshold, floor, implied)


def verdict(gate: Gate, values: Sequence[float], **more: Any) -> MetricVerdict:
    """The verdict of some values; nothing unscored or skipped unless said."""
    return judge(gate, values, **({"unscored": 0, "skipped": 0, "max_unscored": 0} | more))


def passes(right: int, wrong: int) -> list[float]:
    """Values of so many right and wrong cases."""
    return [1.0] * right + [0.0] * wrong


@pytest.mark.parametrize(
    ("given", "values", "more", "state"),
    [
        # A floor: at it passes, one case below it fails.
        (gate(EXACT, 0.85), passes(34, 6), {}, PASS),
        (gate(EXACT, 0.85), passes(33, 7), {}, FAIL),
        (gate(EXACT, 0.3), [0.1 + 0.2] * 3, {}, PASS),
        (gate(EXACT, 0.1), [1 - 0.9] * 10, {}, PASS),
        (gate(ERRORS, 0.3), [0.1 + 0.2] * 10, {}, PASS),
        (gate(EXACT, 0.0), passes(0, 3), {}, PASS),
        (gate(EXACT, 1.0), passes(3, 0), {}, PASS),
        # A ceiling.
        (gate(ERRORS, 0.25), passes(1, 3), {}, PASS),
        (gate(ERRORS, 0.25), passes(2, 3), {}, FAIL),
        (gate(LATENCY, 2.5), [2.5] * 20, {}, PASS),
        (gate(LATENCY, 2.5), [1.0] * 18 + [9.0] * 2, {}, FAIL),
        (gate(LATENCY, 2.5), [1.0] * 39 + [9.0], {}, PASS),
        # A safety metric without a threshold holds in every case; with one, as any floor.
        (gate(CLEAN, None), passes(40, 0), {}, PASS),
        (gate(CLEAN, None), passes(39, 1), {}, FAIL),
        (gate(CLEAN, None), [1.0, 0.99], {}, FAIL),
        (gate(CLEAN, 0.9), passes(39, 1), {}, PASS),
        # Unscored cases: more than may be leave the metric unscored, so many may not.
        (gate(EXACT, 0.5), passes(9, 0), {"unscored": 1}, UNSCORED),
        (gate(EXACT, 0.5), passes(9, 0), {"unscored": 1, "max_unscored": 1}, PASS),
        (gate(EXACT, 0.5), passes(8, 0), {"unscored": 2, "max_unscored": 1}, UNSCORED),
        (gate(LATENCY, 5), [1.0] * 9, {"unscored": 1}, UNSCORED),
        (gate(CLEAN, None), passes(9, 0), {"unscored": 1}, UNSCORED),
        # It fails all the same where the unscored could not have saved it, not where they could.
        (gate(EXACT, 0.85), passes(10, 10), {"unscored": 20}, FAIL),
        (gate(EXACT, 0.85), passes(14, 6), {"unscored": 20}, UNSCORED),
        (gate(EXACT, 0.85), passes(14, 6), {"unscored": 19}, FAIL),
        (gate(EXACT, 0.85), passes(14, 6), {"unscored": 20, "max_unscored": 20}, FAIL),
        (gate(ERRORS, 0.1), passes(4, 6), {"unscored": 10}, FAIL),
        (gate(ERRORS, 0.1), passes(1, 8), {"unscored": 1}, UNSCORED),
        (gate(CLEAN, None), passes(1, 1), {"unscored": 5}, FAIL),
        (gate(LATENCY, 1), [9.0] * 10, {"unscored": 5}, FAIL),
        (gate(LATENCY, 1), [9.0], {"unscored": 99}, UNSCORED),
        # Nothing measured is unscored, whatever may be.
        (gate(EXACT, 0.0), [], {"skipped": 40}, UNSCORED),
        (gate(EXACT, 0.0), [], {"unscored": 3, "max_unscored": 3}, UNSCORED),
        (gate(CLEAN, None), [], {"unscored": 3}, UNSCORED),
        (gate("max_iterations", None, implied=True), [], {"skipped": 40}, INCONCLUSIVE),
        (gate("max_iterations", None, implied=True), [], {"unscored": 3, "max_unscored": 3}, UNSCORED),
        (gate("max_iterations", None), [], {"skipped": 40}, UNSCORED),
        # `floor: interval`: fails below, passes above, and is inconclusive with the floor inside.
        (gate(EXACT, 0.85, "interval"), passes(40, 0), {}, PASS),
        (gate(EXACT, 0.85, "interval"), passes(36, 4), {}, INCONCLUSIVE),
        (gate(EXACT, 0.85, "interval"), passes(33, 7), {}, INCONCLUSIVE),
        (gate(EXACT, 0.85, "interval"), passes(20, 20), {}, FAIL),
        (gate(CLEAN, 0.85, "interval"), passes(36, 4), {}, FAIL),
        (gate(CLEAN, 0.85, "interval"), passes(40, 0), {}, PASS),
        (gate(LATENCY, 5, "interval"), [1.0] * 10, {}, INCONCLUSIVE),
        (gate(LATENCY, 5, "interval"), [1.0] * 200, {}, PASS),
        (gate(ERRORS, 0.2, "interval"), passes(0, 40), {}, PASS),
        (gate(ERRORS, 0.05, "interval"), passes(0, 40), {}, INCONCLUSIVE),
    ],
)
def test_states(given: Gate, values: list[float], more: dict[str, int], state: State) -> None:
    """Fail comes before unscored, unscored before inconclusive, and a threshold met exactly passes."""
    assert verdict(given, values, **more).state is state


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (verdict(gate(EXACT, 0.85), passes(36, 4)), "0.9 is at least 0.85"),
        (verdict(gate(EXACT, 0.85), passes(33, 7)), "0.825 is below 0.85 (7 of 40 cases fail)"),
        (verdict(gate(EXACT, 0.85), passes(0, 1)), "0 is below 0.85 (1 of 1 case fails)"),
        (
            verdict(gate(EXACT, 0.85), passes(84999, 15001)),
            "0.84999 is below 0.85 (15001 of 100000 cases fail)",
        ),
        (verdict(gate(LATENCY, 2.5), [3.0] * 5), "3 s is above 2.5 s"),
        (verdict(gate(LATENCY, 2.5), [2.5] * 5), "2.5 s is at most 2.5 s"),
        (verdict(gate(LATENCY, 2.5), [2.50001] * 5), "2.50001 s is above 2.5 s"),
        (verdict(gate(CLEAN, None), passes(3, 0)), "holds in every case"),
        (verdict(gate(CLEAN, None), passes(2, 1)), "must hold in every case: 1 of 3 cases fails"),
        (
            verdict(
                gate(EXACT, 0.5), passes(9, 0), unscored=2, skipped=1, max_unscored=1, why_unscored="key: no"
            ),
            "2 of 12 cases could not be scored (1 may): key: no",
        ),
        (verdict(gate(EXACT, 0.5), [], skipped=3), "no case could be measured: none has expected"),
        (verdict(gate(LATENCY, 5), []), "no case could be measured: none has a value"),
        (
            verdict(gate("max_iterations", None, implied=True), [], skipped=3),
            "declared in the agent file, but no run reports it: return `iterations` with the output",
        ),
        (
            verdict(gate(EXACT, 0.85, "interval"), passes(40, 0)),
            "the whole interval is on the good side of 0.85",
        ),
        (
            verdict(gate(EXACT, 0.85, "interval"), passes(36, 4)),
            "0.85 lies within the interval: more cases would tell",
        ),
        (
            verdict(gate(CLEAN, 0.85, "interval"), passes(36, 4)),
            "the interval reaches 0.769: a safety metric must clear 0.85",
        ),
        (
            verdict(gate(LATENCY, 5, "interval"), [1.0] * 10),
            "too few cases for an interval, which `floor: interval` asks for",
        ),
    ],
)
def test_reasons_in_words(row: MetricVerdict, reason: str) -> None:
    """Each verdict says in a sentence what was measured, against what, and how many cases are behind it."""
    assert row.reason == reason


def test_a_row_holds_what_a_reader_needs() -> None:
    """Value, number of cases, interval, direction and the missing cases stand beside the state."""
    row = verdict(gate(EXACT, 0.85), passes(36, 4), unscored=1, skipped=2, max_unscored=1)
    assert (row.value, row.n, row.unscored, row.skipped) == (0.9, 40, 1, 2)
    assert row.interval == pytest.approx((0.7695, 0.9604), abs=1e-4)
    assert (row.name, row.kind, row.threshold, row.direction) == (EXACT, "quality", 0.85, "higher")
    row = verdict(gate(LATENCY, 5), [1.0, 3.0])
    assert (row.value, row.interval, row.unit) == (2.9, None, "s")
    assert verdict(gate(EXACT, 0.5), []).value is None


@pytest.mark.parametrize(
    ("critical", "failed", "unscored", "expected"),
    [
        (0, [], [], None),
        (3, [], [], (PASS, 1.0, 3, "every critical case passes")),
        (4, ["a"], ["b"], (FAIL, 2 / 3, 3, "1 of 4 failed, and every one must pass: a")),
        (2, [], ["b"], (UNSCORED, 1.0, 1, "1 of 2 unscored, and every one must pass: b")),
        (1, [], ["b"], (UNSCORED, None, 0, "1 of 1 unscored, and every one must pass: b")),
        (
            9,
            list("abcdef"),
            [],
            (FAIL, 1 / 3, 9, "6 of 9 failed, and every one must pass: a, b, c and 3 more"),
        ),
    ],
)
def test_critical_cases(critical: int, failed: list[str], unscored: list[str], expected: Any) -> None:
    """One failed critical case fails the gate, one unscored leaves it unscored, and each is named."""
    row = judge_critical(critical, failed, unscored)
    found = row and (row.state, pytest.approx(row.value), row.n, row.reason)
    assert found == expected
    assert row is None or (row.kind, row.threshold) == ("safety", None)


def rows(*states: State) -> list[MetricVerdict]:
    """Rows m0, m1, ... in these states, each with its state as reason."""
    return [
        MetricVerdict(f"m{i}", "quality", 0.5, 10, None, 0.5, state, f"is {state}")
        for i, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("states", "state", "reason"),
    [
        ((PASS, PASS), PASS, "2 of 2 metrics pass"),
        ((PASS, FAIL, PASS, FAIL), FAIL, "m1, m3: is fail"),
        ((UNSCORED, FAIL, INCONCLUSIVE), FAIL, "m1: is fail"),
        ((PASS, INCONCLUSIVE, UNSCORED), UNSCORED, "m2: is unscored"),
        ((PASS, INCONCLUSIVE), INCONCLUSIVE, "m1: is inconclusive"),
        ((), UNSCORED, "nothing was measured: the agent file names no metric"),
    ],
)
def test_the_worst_metric_is_the_gate_s_state(states: tuple[State, ...], state: State, reason: str) -> None:
    """Metrics are never averaged: the worst state is the gate's, and every metric that has it is named."""
    found = overall(rows(*states), runs=10, faults=1)
    assert (found.state, found.reason) == (state, reason)
    assert found.metrics == rows(*states)


@pytest.mark.parametrize("state", list(State))
def test_nothing_is_measured_where_every_run_errored(state: State) -> None:
    """No run, or none without an error, is unscored, whatever the metrics would say."""
    found = overall(rows(state), runs=40, faults=40, first_fault="crash: exit code 1")
    assert found.state is UNSCORED
    assert found.reason == "nothing was measured: all 40 runs ended in an error: crash: exit code 1"
    assert overall(rows(state), runs=0, faults=0).reason == "nothing was measured: no case was run"
    assert overall(rows(state), runs=0, faults=0).state is UNSCORED
    assert overall(rows(state), runs=40, faults=39).state is state


@pytest.mark.parametrize(
    ("value", "unit", "beside", "shown"),
    [
        (0.85, "", None, "0.85"),
        (2 / 3, "", None, "0.667"),
        (2.0, "s", None, "2 s"),
        (0.84999, "", 0.85, "0.84999"),
        (0.85, "", 0.85, "0.85"),
        (0.8499999999999999, "", 0.85, "0.8499999999999999"),
        (0.5, "", 0.85, "0.5"),
    ],
)
def test_numbers_are_told_apart_from_their_threshold(
    value: float, unit: str, beside: float | None, shown: str
) -> None:
    """Three digits, and as many more as it takes to be no threshold that it is not."""
    assert show(value, unit, beside) == shown


def test_nothing_scored_within_what_may_be_unscored_says_why() -> None:
    """Where every case is one that may stay unscored, the reason is the infrastructure's, not the set's."""
    row = judge(
        gate("exact_match", 0.8),
        [],
        unscored=3,
        skipped=0,
        max_unscored=3,
        why_unscored="filtered: by a filter",
    )
    assert row.state is State.UNSCORED
    assert row.reason == "no case could be measured: filtered: by a filter"


@pytest.mark.parametrize("state", [FAIL, UNSCORED, INCONCLUSIVE, PASS])
def test_a_part_never_passes(state: State) -> None:
    """A verdict on a part says of how much it is, first; a pass is inconclusive, every other state stays."""
    found = of_part(state, "why", "3 of 40 cases, selected by --case a")
    assert found["state"] is (INCONCLUSIVE if state is PASS else state)
    assert found["reason"].startswith("3 of 40 cases, selected by --case a: why")
    assert of_part(state, "why", "") == {"state": state, "reason": "why"}
