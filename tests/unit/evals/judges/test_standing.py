"""What a calibration says of a judge to a gate, in words and in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatehouse.evals.agreement import Estimate
from gatehouse.evals.judges import calibration
from gatehouse.evals.judges.standing import MIN_LABELS, corrected_rate, show, status
from tests.unit.evals.judges.test_calibration import NUMBER, PAIRS, calibrated, gate_of

ENOUGH = PAIRS + PAIRS
"""Forty texts, kappa 0.91."""
BY_CHANCE = [(1.0, 5.0), (1.0, 1.0), (5.0, 5.0), (5.0, 1.0)] * 10
"""Forty texts on which the judge tosses a coin."""


def test_status_in_words() -> None:
    """With kappa, interval and number of labels; below a minimum too."""
    found = calibrated(ENOUGH)
    assert status(found, None).reason.startswith("calibrated: kappa 0.91 [0.8")
    assert status(found, None).reason.endswith(", 40 labels")
    assert (status(found, 0.6).calibrated, status(found, 0.6).passed) == (True, True)
    below = status(found, 0.95)
    assert (below.calibrated, below.passed) == (True, False)
    assert below.reason.startswith("kappa 0.91 [0.8")
    assert below.reason.endswith("] is below the minimum 0.95, 40 labels")


def test_few_labels_meet_no_minimum() -> None:
    """Whatever their kappa, fewer than 30 labels do not show it, and say so; the thirtieth is enough."""
    pairs = [(1.0, 1.0), (5.0, 5.0)] * (MIN_LABELS // 2)
    few, enough = calibrated(pairs[:-1]), calibrated(pairs)
    assert len(pairs) == 30
    found = status(few, 0.6)
    assert (found.calibrated, found.passed) == (True, False)
    assert found.reason.startswith(
        "29 labels are too few to show the minimum 0.6 (30 at least): kappa 1.00 ["
    )
    assert status(enough, 0.6).passed
    assert status(few, None).passed
    assert status(few, None).reason.startswith("calibrated on few labels: kappa 1.00 [")
    assert status(enough, None).reason.startswith("calibrated: kappa 1.00 [")


def test_a_kappa_that_may_be_chance_is_not_called_calibrated() -> None:
    """Where the interval holds 0, of few labels or of many, the words say what is not shown."""
    two = status(calibrated([(1.0, 1.0), (5.0, 5.0)]), None)
    assert two.reason.startswith("compared on few labels, not shown to agree beyond chance: kappa 1.00 [-")
    many = status(calibrated(BY_CHANCE), None)
    assert many.reason.startswith("compared, not shown to agree beyond chance: kappa 0.00 [-")


def test_a_kappa_that_equals_its_minimum_meets_it() -> None:
    """The last bit of a float fails nobody, and what is below shows so many digits that one sees it."""
    found = calibrated(ENOUGH)
    assert found.kappa is not None
    assert status(found, found.kappa + 1e-12).passed
    near = status(found, round(found.kappa + 0.0005, 4))
    assert not near.passed
    assert near.reason.startswith(f"kappa {found.kappa:.4f} [")
    assert show(Estimate(0.5, None)) == "0.50"


def test_never_calibrated_and_no_longer_calibrated() -> None:
    """Nothing at all and a changed rubric or judge read differently, and a minimum says what to do."""
    never, changed = status(None, None), status(None, None, before="2026-05-01")
    assert (never.calibrated, never.passed) == (changed.calibrated, changed.passed) == (False, True)
    assert never.reason == "not calibrated: no labels were ever held against this judge"
    assert changed.reason == (
        "not calibrated as it is now: the calibration of 2026-05-01 was of another rubric, judge or version; "
        "run `gatehouse calibrate`"
    )
    for before in (None, "2026-05-01"):
        asked = status(None, 0.6, before=before)
        assert not asked.passed
        assert asked.reason.endswith("; evals.judge.min_kappa asks for 0.6: run `gatehouse calibrate`")


def test_doubtful_labels_meet_no_minimum() -> None:
    """Whatever kappa is, labels that changed or are gone are told, and show no minimum."""
    found = replace(calibrated(ENOUGH), doubt="the labels have changed since")
    for minimum in (None, 0.6):
        told = status(found, minimum)
        assert told.reason.startswith("calibrated: kappa 0.91 [0.8")
        assert told.reason.endswith(", 40 labels; the labels have changed since")
        assert (told.calibrated, told.passed) == (True, minimum is None)
        assert told.kappa is not None
    assert status(found, 0.95).reason.endswith(
        "is below the minimum 0.95, 40 labels; the labels have changed since"
    )


def test_one_grade_only_has_no_kappa() -> None:
    """It meets no minimum, and says what to label."""
    alike = status(calibrated([(4.0, 4.0)] * 40), 0.6)
    assert (alike.calibrated, alike.passed) == (True, False)
    assert "one and the same grade only, 40 labels" in alike.reason
    assert "evals.judge.min_kappa asks for 0.6: label answers of other grades" in alike.reason


def test_nothing_decided_is_not_calibrated() -> None:
    """A judge that is undecided on every text is not calibrated, and corrects nothing."""
    found = calibrated([(4.0, None)])
    assert (status(found, None).calibrated, found.kappa) == (False, None)
    assert isinstance(corrected_rate(found, gate_of().holds, [True]), str)
    calibration.pretty(calibration.to_json(found))


def test_corrected_rate_holds_both_sides_to_the_threshold() -> None:
    """At a threshold of 3, a judge that gives 3 where people give 2 passes 4 of 20 texts too many."""
    found = calibrated(PAIRS)
    rate = corrected_rate(found, gate_of(threshold=3.0).holds, [True] * 80 + [False] * 20)
    assert not isinstance(rate, str)
    assert rate[0] == pytest.approx(0.8 - 0.2)
    assert rate[1][0] < rate[0] < rate[1][1]
    at_four = corrected_rate(found, gate_of(threshold=4.0).holds, [True] * 80 + [False] * 20)
    assert not isinstance(at_four, str)
    assert at_four[0] == pytest.approx(0.8)


def test_no_rate_by_a_judge_that_agrees_by_chance() -> None:
    """Where kappa is 0, below 0 or undefined there is no corrected rate, and the words say so."""
    gate, judged = gate_of(NUMBER, 0.5), [True] * 5 + [False] * 5
    constant = [(1.0, 1.0)] * 7 + [(0.0, 1.0)] * 3
    for pairs in (constant, [(0.0, 1.0), (1.0, 0.0)] * 10, [(1.0, 1.0)] * 10):
        rate = corrected_rate(calibrated(pairs, gate), gate.holds, judged)
        assert rate == "no corrected pass rate: that takes a kappa above 0"


def test_no_rate_beyond_all_or_nothing() -> None:
    """A judge that passes 71 %, and on the labels missed 4 of 10, has no corrected rate and not 100 %."""
    gate = gate_of(NUMBER, 0.5)
    found = calibrated([(1.0, 1.0)] * 3 + [(0.0, 0.0)] * 3 + [(1.0, 0.0)] * 4, gate)
    assert found.kappa is not None
    assert found.kappa > 0
    rate = corrected_rate(found, gate.holds, [True] * 71 + [False] * 29)
    assert isinstance(rate, str)
    assert "beyond 0 to 100%" in rate
