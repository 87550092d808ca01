"""Stage three: a verdict for each metric by its own threshold, and the gate's out of them, never blended."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gatehouse.errors import State, plain_number
from gatehouse.evals.selection import first_few
from gatehouse.evals.statistics import (
    Interval,
    mean_interval,
    proportion_interval,
    quantile,
    quantile_interval,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.metrics.base import Metric

CRITICAL = "critical_cases"
"""The row for the cases that the golden set marks `critical`: every one must pass."""


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric's row in `eval.json`; `value` is None where nothing was measured."""

    name: str
    kind: str
    value: float | None
    n: int
    interval: Interval | None
    threshold: float | None
    state: State
    reason: str
    direction: str = "higher"
    unit: str = ""
    unscored: int = 0
    skipped: int = 0
    base: float | None = None
    delta: float | None = None
    delta_interval: Interval | None = None
    calibration: Trust | None = None
    metric: str = ""
    """What the metric is called in the lists, where the agent file gives it another name."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a judged metric's judge is known to agree with people; `kappa` None where nobody has asked.

    `pass_rate` is the share of cases that the judge passes, `corrected` that share corrected for the judge's
    own errors, with its 95 % interval; None where the labels do not say, which `reason` then does.
    """

    calibrated: bool
    reason: str
    kappa: float | None = None
    labels: int = 0
    pass_rate: float | None = None
    corrected: float | None = None
    corrected_interval: Interval | None = None
    enough: bool = True
    """Whether the agent file's `min_kappa`, if it sets one, is met."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's verdict over all its metrics."""

    state: State
    reason: str
    metrics: list[MetricVerdict] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it stands in `eval.json`."""
        return asdict(self)


def show(value: float, unit: str = "", beside: float | None = None) -> str:
    """A number as people read it, the unit behind it: three digits, more where it would equal `beside`."""
    digits = 3
    while beside not in (None, value) and digits < 17 and f"{value:.{digits}g}" == f"{beside:.{digits}g}":  # noqa: PLR2004
        digits += 1
    return plain_number(value, digits) + (f" {unit}" if unit else "")


def aggregate(metric: Metric, values: Sequence[float]) -> tuple[float, Interval | None]:
    """The metric's one value over the cases' (at least one), and its 95 % interval where there is one."""
    if metric.aggregate == "mean":
        mean = math.fsum(values) / len(values)
        bounded = metric.per_case and min(values) >= metric.low and max(values) <= metric.high
        return mean, _bounded_interval(metric, values) if bounded else mean_interval(values)
    ordered, q = sorted(values), {"p50": 0.5, "p95": 0.95}[metric.aggregate]
    return quantile(ordered, q), quantile_interval(ordered, q)


def _bounded_interval(metric: Metric, values: Sequence[float]) -> Interval | None:
    width = metric.high - metric.low
    interval = proportion_interval([(value - metric.low) / width for value in values])
    return interval and (metric.low + interval[0] * width, metric.low + interval[1] * width)


def judge(
    gate: Gate,
    values: Sequence[float],
    *,
    unscored: int,
    skipped: int,
    max_unscored: int,
    why_unscored: str = "",
    silent: int = 0,
) -> MetricVerdict:
    """The verdict of one metric from the values of its cases, the mean of their repeats each.

    `unscored` cases are missing through the infrastructure's fault, `skipped` ones have nothing that the
    metric could measure; of `silent` ones a run does not report it, which is no pass where others do. A gate
    that fails whatever the unscored cases would have been, fails; otherwise more than `max_unscored` of them
    leave it unscored.
    """
    metric = gate.metric
    value, interval = aggregate(metric, values) if values else (None, None)

    def verdict(state: State, reason: str) -> MetricVerdict:
        return MetricVerdict(
            metric.name,
            metric.kind,
            value,
            len(values),
            interval,
            gate.threshold,
            state,
            reason,
            metric.direction,
            metric.unit,
            unscored,
            skipped,
            metric=metric.known_as,
        )

    if _fails(gate, [*values, *[metric.best] * unscored]):
        return verdict(State.FAIL, _why_failed(gate, values))
    if unscored > max_unscored:
        why = f": {why_unscored}" if why_unscored else ""
        total = len(values) + unscored + skipped
        return verdict(
            State.UNSCORED, f"{unscored} of {total} cases could not be scored ({max_unscored} may){why}"
        )
    if value is None and gate.implied and skipped:
        reason = f"declared in the agent file, but no run reports it: return {metric.reports} with the output"
        return verdict(State.INCONCLUSIVE, reason)
    if value is None:
        why = why_unscored if unscored else f"none has {metric.needs or 'a value'}"
        return verdict(State.UNSCORED, f"no case could be measured: {why}")
    if _fails(gate, values):
        return verdict(State.FAIL, _why_failed(gate, values))
    if silent:
        total = len(values) + unscored + skipped
        return verdict(State.UNSCORED, f"in {silent} of {total} cases the agent reports no {metric.reports}")
    if gate.floor == "interval" and gate.threshold is not None:
        return verdict(*_by_interval(gate, gate.threshold, interval))
    if gate.threshold is None:
        return verdict(State.PASS, "holds in every case")
    side = "at least" if metric.direction == "higher" else "at most"
    return verdict(
        State.PASS,
        f"{show(value, metric.unit, gate.threshold)} is {side} {show(gate.threshold, metric.unit)}",
    )


def trusted(row: MetricVerdict, trust: Trust) -> MetricVerdict:
    """A judged metric's row with what is known of its judge: a pass by one not proven is inconclusive."""
    if row.state is State.PASS and not trust.enough:
        return replace(row, calibration=trust, state=State.INCONCLUSIVE, reason=trust.reason)
    return replace(row, calibration=trust)


def _fails(gate: Gate, values: Sequence[float]) -> bool:
    if not values:
        return False
    if gate.threshold is None:
        return not all(map(gate.holds, values))
    value, interval = aggregate(gate.metric, values)
    if gate.floor == "interval" and gate.metric.kind != "safety":
        # Fails when even the good end of the interval is on the wrong side.
        value = value if interval is None else interval[1 if gate.metric.direction == "higher" else 0]
    return not gate.holds(value)


def _why_failed(gate: Gate, values: Sequence[float]) -> str:
    metric = gate.metric
    failing = sum(not gate.holds(v) for v in values) if metric.per_case else 0
    cases = f"{failing} of {len(values)} case{'s' * (len(values) != 1)} fail{'s' * (failing == 1)}"
    if gate.threshold is None:
        return f"must hold in every case: {cases}"
    if not values:
        return "fails whatever the unscored cases would have been"
    value, _ = aggregate(metric, values)
    side = "below" if metric.direction == "higher" else "above"
    reason = f"{show(value, metric.unit, gate.threshold)} is {side} {show(gate.threshold, metric.unit)}"
    return f"{reason} ({cases})" if failing else reason


def _by_interval(gate: Gate, threshold: float, interval: Interval | None) -> tuple[State, str]:
    """A floor that the interval, not the value, must clear; its good end has cleared it here."""
    bad_end = interval and interval[0 if gate.metric.direction == "higher" else 1]
    if bad_end is None:
        return State.INCONCLUSIVE, "too few cases for an interval, which `floor: interval` asks for"
    if gate.holds(bad_end):
        return State.PASS, f"the whole interval is on the good side of {show(threshold, gate.metric.unit)}"
    if gate.metric.kind == "safety":
        return (
            State.FAIL,
            f"the interval reaches {show(bad_end)}: a safety metric must clear {show(threshold)}",
        )
    return (
        State.INCONCLUSIVE,
        f"{show(threshold, gate.metric.unit)} lies within the interval: more cases would tell",
    )


def judge_critical(critical: int, failed: Sequence[str], unscored: Sequence[str]) -> MetricVerdict | None:
    """The row of the critical cases, by the ids of those that failed and were unscored; None without any."""
    if not critical:
        return None
    state = State.FAIL if failed else State.UNSCORED if unscored else State.PASS
    ids = failed or unscored
    shown = first_few(ids)  # all of them stand first among the failing cases
    reason = {
        State.FAIL: f"{len(failed)} of {critical} failed, and every one must pass: {shown}",
        State.UNSCORED: f"{len(unscored)} of {critical} unscored, and every one must pass: {shown}",
        State.PASS: "every critical case passes",
    }[state]
    scored = critical - len(unscored)
    value = (scored - len(failed)) / scored if scored else None
    return MetricVerdict(CRITICAL, "safety", value, scored, None, None, state, reason, unscored=len(unscored))


def idle_in_part(gate: Gate, row: MetricVerdict) -> MetricVerdict | None:
    """The row of a metric that the whole golden set may measure, and no case of a part has what it needs for.

    None for any other: for what the agent does not report, or could not be asked, the part is no reason.
    """
    metric = gate.metric
    if row.value is not None or row.unscored or not row.skipped:
        return None
    if not metric.per_case or not metric.of_answer or metric.reports:
        return None
    return replace(
        row, state=State.INCONCLUSIVE, reason=f"no case of this part has {metric.needs or 'a value'}"
    )


def of_part(state: State, reason: str, part: str) -> dict[str, Any]:
    """State and reason of a verdict on a `part` of the golden set, such as "3 of 40 cases, selected by ...".

    What passes there is no pass: the other cases were not asked. "" is the whole.
    """
    if not part:
        return {"state": state, "reason": reason}
    if state is State.PASS:
        return {
            "state": State.INCONCLUSIVE,
            "reason": f"{part}: {reason}; only the whole golden set can pass",
        }
    return {"state": state, "reason": f"{part}: {reason}"}


def overall(metrics: Sequence[MetricVerdict], runs: int, faults: int, first_fault: str = "") -> Verdict:
    """The gate's verdict: the worst state of its metrics, with the reasons of those that have it.

    Where every one of the `runs` ended in a fault, nothing was measured, whoever's fault it was: a gate that
    cannot start the agent says nothing about the agent.
    """
    if runs == 0:
        return Verdict(State.UNSCORED, "nothing was measured: no case was run", list(metrics))
    if faults == runs:
        why = f": {first_fault}" if first_fault else ""
        return Verdict(
            State.UNSCORED, f"nothing was measured: all {runs} runs ended in an error{why}", list(metrics)
        )
    if not metrics:
        return Verdict(State.UNSCORED, "nothing was measured: the agent file names no metric", [])
    state = State.worst([m.state for m in metrics])
    alike: dict[str, list[str]] = {}
    for m in metrics:
        if m.state == state:
            alike.setdefault(m.reason, []).append(m.name)
    named = [f"{', '.join(names)}: {reason}" for reason, names in alike.items()]
    if state is State.PASS:
        return Verdict(state, f"{len(metrics)} of {len(metrics)} metrics pass", list(metrics))
    return Verdict(state, "; ".join(named), list(metrics))
