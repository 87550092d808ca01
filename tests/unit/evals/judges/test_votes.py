"""Votes: when more are asked for, which has no good side, and what they come to."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from gatehouse.evals.judges.votes import Vote, combine, wants_more, why_undecided
from gatehouse.evals.metrics.base import Metric, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GRADES = Metric("helpfulness", "quality", "", low=1, high=5, step=1)
PASS_OR_FAIL = Metric("polite", "safety", "", low=0, high=1, step=1)
SHARE = Metric("faithfulness", "quality", "")


def votes(*values: float | None) -> list[Vote]:
    """A vote of each value, with a reason that names it."""
    return [Vote(f"judge {i}", value, f"because {value}") for i, value in enumerate(values)]


def at_least(threshold: float) -> Callable[[float], bool]:
    """What a floor holds."""
    return lambda value: value >= threshold - 1e-9


def below(threshold: float) -> Callable[[float], bool]:
    """What that floor does not hold."""
    return lambda value: not at_least(threshold)(value)


def at_most(threshold: float) -> Callable[[float], bool]:
    """What a ceiling holds."""
    return lambda value: value <= threshold + 1e-9


def more(  # the arguments of one question
    values: Sequence[float | None],
    holds: Callable[[float], bool],
    metric: Metric = GRADES,
    *,
    judges: int = 1,
    most: int = 9,
    panel: str = "majority",
) -> bool:
    """Whether further votes are wanted after these."""
    return wants_more(votes(*values), judges=judges, most=most, holds=holds, metric=metric, panel=panel)


@pytest.mark.parametrize("panel", ["majority", "mean"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pass_and_fail_exchanged_change_nothing(count: int, panel: str) -> None:
    """Of every vote on a scale of five, at every threshold: the same when fail is what holds."""
    for values in itertools.product([None, 1, 2, 3, 4, 5], repeat=count):
        for threshold in (1, 1.5, 2, 3, 3.5, 4, 5):
            wanted = more(values, at_least(threshold), panel=panel)
            assert more(values, below(threshold), panel=panel) is wanted, (values, threshold)


@pytest.mark.parametrize("metric", [GRADES, PASS_OR_FAIL, SHARE])
def test_a_scale_turned_round_changes_nothing(metric: Metric) -> None:
    """Grades counted from the other end, with a ceiling in place of the floor, get the same further votes."""
    dice = random.Random(5)  # noqa: S311 no secret
    turned = Metric(
        "turned", "quality", "", low=metric.low, high=metric.high, step=metric.step, direction="lower"
    )
    for _ in range(3000):
        span = int(metric.high - metric.low) if metric.step else 64
        values = [dice.choice([None, *range(span + 1)]) for _ in range(dice.randint(1, 4))]
        scale = (metric.high - metric.low) / span
        mine = [None if v is None else metric.low + v * scale for v in values]
        other = [None if v is None else metric.high - v * scale for v in values]
        threshold = metric.low + scale * dice.randint(1, span)
        wanted = more(mine, at_least(threshold), metric)
        ceiling = at_most(metric.low + metric.high - threshold)
        assert more(other, ceiling, turned) is wanted, (mine, threshold)


@pytest.mark.parametrize("threshold", [2, 3, 4, 5])
def test_the_same_distance_on_either_side_is_the_same(threshold: int) -> None:
    """One vote for the n-th grade below the threshold and one for the n-th from it on are treated alike."""
    for distance in range(4):
        above, below = threshold + distance, threshold - 1 - distance
        if above <= 5 and below >= 1:
            assert more([above], at_least(threshold)) is more([below], at_least(threshold)) is (distance == 0)


def test_a_noisy_judge_gains_nothing_by_further_votes() -> None:
    """A judge that errs upwards as often as downwards passes bad answers as often as it fails good ones."""
    dice = random.Random(7)  # noqa: S311 no secret

    def passes(truth: int) -> float:
        count = 0
        for _ in range(4000):
            given: list[float | None] = []
            while more(given, at_least(3), most=3):
                given.append(min(5, max(0, truth + dice.choice([-1, 0, 1]))))
            score = combine(votes(*given), panel="mean", metric=ZERO_TO_FIVE)
            assert score is not None
            count += score.value >= 2.5
        return count / 4000

    ZERO_TO_FIVE = Metric("symmetric", "quality", "", low=0, high=5, step=1)  # noqa: N806 3 of 0 to 5 is the middle
    assert passes(3) == pytest.approx(1 - passes(2), abs=0.03)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], True),
        ([5], False),
        ([4], True),  # one step away from failing
        ([3], True),  # one step away from passing
        ([2], False),
        ([None], True),
        ([5, 5], False),
        ([5, 4], True),  # no grade has more than half
        ([5, 3], True),  # split about the threshold
        ([5, 5, None], True),
        ([5, 5, 4], False),
        ([2, 2, 1], False),
    ],
)
def test_what_gets_further_votes(values: list[float | None], wanted: bool) -> None:
    """On a scale of five with a floor of four: what is split, undecided or near; nothing else."""
    assert more(values, at_least(4)) is wanted


@pytest.mark.parametrize("panel", ["majority", "mean"])
def test_far_from_the_threshold_a_difference_settles(panel: str) -> None:
    """Two judges who differ far from the threshold are not asked again: it fails by either."""
    assert more([2, 1], at_least(4), judges=2, panel=panel) is False


@pytest.mark.parametrize("value", [1.0, 0.97, 0.5])
def test_where_only_the_best_holds_nothing_is_near(value: float) -> None:
    """A metric that must hold wholly is not voted on again for each good case, nor for a nearly good one."""
    assert more([value], at_least(1), SHARE) is False


@pytest.mark.parametrize(("value", "wanted"), [(0, False), (1, False), (None, True)])
def test_of_two_grades_each_is_near(value: float | None, wanted: bool) -> None:
    """On a scale of fail and pass nearness counts for nothing; a split or undecided vote still does."""
    assert more([value], at_least(1), PASS_OR_FAIL) is wanted
    assert more([value, 1, 0], at_least(1), PASS_OR_FAIL) is True


@pytest.mark.parametrize(("value", "wanted"), [(0.74, False), (0.76, True), (0.84, True), (0.86, False)])
def test_without_steps_near_is_a_twentieth(value: float, wanted: bool) -> None:
    """A share is near its threshold within 5 % of the range on either side."""
    assert more([value], at_least(0.8), SHARE) is wanted


@pytest.mark.parametrize("judges", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_rounds_than_allowed(judges: int, most: int) -> None:
    """Judges that never agree are asked `most` times each, and then no more."""
    given: list[float | None] = []
    while more(given, at_least(3), judges=judges, most=most):
        given += [None] * judges
    assert len(given) == judges * most


@pytest.mark.parametrize(
    ("values", "majority", "mean"),
    [
        ([4], 4, 4),
        ([4, 4, 2], 4, 10 / 3),
        ([4, 2], 3, 3),
        ([5, 4, 3], 4, 4),
        ([5, 5, 1], 5, 11 / 3),
        ([4, 4, None], 4, 4),
        ([4, None], None, None),
        ([4, 4, None, None], None, None),
        ([4, 3, 3, None, 3], 3, 3.25),
        ([4, 4, 3, None], 4, 11 / 3),
        ([None], None, None),
        ([], None, None),
    ],
)
def test_grades_combined(values: list[float | None], majority: float | None, mean: float | None) -> None:
    """The majority's grade is the middle one, the mean the mean, where more than half of the votes decide."""
    for panel, expected in (("majority", majority), ("mean", mean)):
        score = combine(votes(*values), panel=panel, metric=GRADES)
        assert (score and score.value) == (None if expected is None else pytest.approx(expected))


def test_values_without_steps_are_averaged() -> None:
    """A library's numbers never repeat: by majority too they become their mean, and never leave the range."""
    score = combine(votes(0.8, 0.9, None), panel="majority", metric=SHARE)
    assert score is not None
    assert score.value == pytest.approx(0.85)
    for value in (0.1, 0.7, 1.0):
        same = combine(votes(value, value, value), panel="majority", metric=SHARE)
        assert same is not None
        assert same.value == value


def test_the_reason_is_of_the_nearest_vote() -> None:
    """A grade comes with the reason of the vote next to it, and with the split where there was one."""
    assert combine(votes(4), panel="majority", metric=GRADES) == Score(4, "because 4")
    assert combine(votes(4, 4), panel="majority", metric=GRADES) == Score(4, "because 4")
    assert combine(votes(2, 4, 4), panel="majority", metric=GRADES) == Score(4, "3 votes: 2, 4, 4; because 4")
    mean = combine(votes(5, 3, 1, None), panel="mean", metric=GRADES)
    assert mean == Score(3, "4 votes: 5, 3, 1, undecided; because 3")
    silent = combine([Vote("a", 4, ""), Vote("b", 4, ""), Vote("c", 3, "")], panel="majority", metric=GRADES)
    assert silent == Score(4, "3 votes: 4, 4, 3")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (votes(None), "because None"),
        ([Vote("a", None, "")], "no reason given"),
        (
            [Vote("a", 4, "x"), Vote("b", None, ""), Vote("c", None, "y")],
            "3 votes: 4, undecided, undecided; y",
        ),
    ],
)
def test_why_it_is_undecided(given: list[Vote], reason: str) -> None:
    """Without a grade the votes are shown, with the reason of the first judge that would not say."""
    assert why_undecided(given) == reason
