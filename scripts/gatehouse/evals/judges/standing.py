"""What a calibration says of a judge: whether it is to be trusted, and what it makes of a pass rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatehouse.evals.agreement import Estimate, corrected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.evals.agreement import Agreement
    from gatehouse.evals.judges.calibration import Calibration, Holds
    from gatehouse.evals.statistics import Interval

MIN_LABELS = 30
"""Labels that a minimum of kappa asks for: on fewer even the interval is too narrow, and two may agree."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether there is a calibration, whether it shows what is asked of it, both in words, and its kappa."""

    calibrated: bool
    passed: bool
    reason: str
    kappa: Estimate | None = None


def status(
    calibration: Calibration | None,
    min_kappa: float | None,
    holds: Holds | None = None,
    before: str | None = None,
) -> Status:
    """What a calibration says of a judge, at the threshold of `holds` or else at its own.

    Without a minimum everything passes; with one only a kappa that reaches it on `MIN_LABELS` labels or more,
    which are in the repository as they were.
    `before` is the day on which another way of judging the metric was calibrated.
    """
    found = calibration and calibration.agreement(holds)
    if not (calibration and found):
        return Status(False, min_kappa is None, _not_calibrated(min_kappa, before))
    shown = _shown(found, min_kappa)
    if not calibration.doubt:
        return shown
    return Status(True, min_kappa is None, f"{shown.reason}; {calibration.doubt}", shown.kappa)


def _shown(found: Agreement, min_kappa: float | None) -> Status:
    """What an agreement says of a judge."""
    labels = f"{found.n} label{'s' * (found.n != 1)}"
    if found.kappa is None:
        reason = f"kappa is undefined: people and judge give one and the same grade only, {labels}"
        if min_kappa is not None:
            reason += f"; evals.judge.min_kappa asks for {min_kappa:g}: label answers of other grades too"
        return Status(True, min_kappa is None, reason)
    kappa = f"kappa {show(found.kappa, beside=min_kappa)}"
    if min_kappa is not None and found.n < MIN_LABELS:
        few = f"{labels} {'are' if found.n > 1 else 'is'} too few to show the minimum {min_kappa:g}"
        return Status(True, False, f"{few} ({MIN_LABELS} at least): {kappa}", found.kappa)
    if min_kappa is not None and found.kappa.value < min_kappa - 1e-9:
        return Status(True, False, f"{kappa} is below the minimum {min_kappa:g}, {labels}", found.kappa)
    few = " on few labels" * (found.n < MIN_LABELS)
    by_chance = found.kappa.interval is not None and found.kappa.interval[0] <= 0
    said = f"compared{few}, not shown to agree beyond chance" if by_chance else f"calibrated{few}"
    return Status(True, True, f"{said}: {kappa}, {labels}", found.kappa)


def _not_calibrated(min_kappa: float | None, before: str | None) -> str:
    if before:
        of = f"the calibration of {before} was of another rubric, judge or version"
        reason = f"not calibrated as it is now: {of}"
    else:
        reason = "not calibrated: no labels were ever held against this judge"
    if min_kappa is not None:
        return f"{reason}; evals.judge.min_kappa asks for {min_kappa:g}: run `gatehouse calibrate`"
    return f"{reason}; run `gatehouse calibrate`" if before else reason


def show(estimate: Estimate, beside: float | None = None) -> str:
    """An estimate as people read it: `0.71 [0.58, 0.84]`, with more digits where it would equal `beside`."""
    digits = 2 if beside is None or f"{estimate.value:.2f}" != f"{beside:.2f}" else 4
    interval = ", ".join(f"{end:.{digits}f}" for end in estimate.interval or ())
    return f"{estimate.value:.{digits}f}" + (f" [{interval}]" if interval else "")


def corrected_rate(
    calibration: Calibration, holds: Holds, judged: Sequence[bool]
) -> tuple[float, Interval] | str:
    """The pass rate of the cases `judged` as people would see it, with its interval, or why there is none."""
    measured = calibration.agreement(holds)
    if not (measured and measured.kappa and measured.kappa.value > 1e-12):  # noqa: PLR2004 nothing but rounding
        return "no corrected pass rate: that takes a kappa above 0"
    labelled = [(holds(human), holds(judge)) for human, judge in calibration.spread()]
    found = corrected(judged, labelled)
    if not (found and found.interval):
        return (
            "no corrected pass rate: by the judge's errors on the labels it would lie beyond 0 to 100%, "
            "so they are not like these cases, or too few"
        )
    return found.value, found.interval
