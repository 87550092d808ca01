"""Agreement of two graders, against scikit-learn, published figures and simulation."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from gatehouse.evals import agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.evals.agreement import Weights

FIVE: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_is_scikit_learns(weights: Weights) -> None:
    """On random pairs, few and many, even and lopsided, kappa is what scikit-learn says."""
    # A second that other tests need not wait.
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]  # noqa: PLC0415

    rng = random.Random(7)  # noqa: S311 a simulation
    compared = 0
    for _ in range(150):
        grades = FIVE[: rng.randint(2, 5)]
        pull = rng.random()
        shares = [rng.random() ** 3 + 0.01 for _ in grades]
        humans = rng.choices(grades, shares, k=rng.choice([1, 2, 5, 40, 200]))
        judges = [human if rng.random() < pull else rng.choice(grades) for human in humans]
        if len({*humans, *judges}) == 1:
            continue  # where it is undefined: the next test
        ours = agreement.kappa(agreement.confusion(list(zip(humans, judges, strict=True)), grades), weights)
        theirs = cohen_kappa_score(
            humans, judges, labels=list(grades), weights=None if weights == "none" else weights
        )
        assert ours is not None
        assert ours.value == pytest.approx(theirs, abs=1e-12)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_of_one_grade_is_undefined(weights: Weights) -> None:
    """Where both graders use one and the same grade, chance agrees as well: there is no kappa."""
    assert agreement.kappa([[9, 0], [0, 0]], weights) is None
    assert agreement.kappa([[9]], weights) is None


def test_kappa_of_published_tables() -> None:
    """Kappa is 0.492 in Cohen's own example (1960), and 0.68 with error 0.087 in Fleiss's textbook (13.1)."""
    cohen = agreement.kappa([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    assert cohen is not None
    assert cohen.value == pytest.approx(0.492, abs=5e-4)
    fleiss = agreement.kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    assert fleiss is not None
    assert fleiss.value == pytest.approx(0.676, abs=5e-4)
    assert fleiss.interval == pytest.approx((0.676 - 1.96 * 0.087, 0.676 + 1.96 * 0.087), abs=2e-3)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappas_variance_is_that_of_the_delta_method(weights: Weights) -> None:
    """The formula of 1969 gives what differentiating kappa by each cell's share gives."""
    table = [[20, 5, 1, 0], [4, 30, 6, 1], [0, 7, 25, 4], [1, 0, 5, 11]]
    found, n, scale = agreement.kappa(table, weights), sum(map(sum, table)), 10**6
    assert found is not None
    slopes = []
    for i in range(4):
        for j in range(4):
            more = [[count * scale for count in row] for row in table]
            more[i][j] += scale // 100
            moved = agreement.kappa(more, weights)
            assert moved is not None
            # One more share h of a cell, all rescaled to 1: the slope along (cell - p).
            slopes.append((table[i][j] / n, (moved.value - found.value) / (0.01 / n)))
    mean = sum(share * slope for share, slope in slopes)
    variance = sum(share * (slope - mean) ** 2 for share, slope in slopes) / n
    half = 1.959964 * math.sqrt(variance)
    assert found.interval == pytest.approx((found.value - half, found.value + half), abs=1e-4)


def test_perfect_agreement_of_few_is_not_certain() -> None:
    """Ten pairs that agree give kappa 1, and an interval that reaches far below it."""
    perfect = agreement.kappa([[5, 0], [0, 5]])
    assert perfect is not None
    assert perfect.interval is not None
    assert perfect.value == 1.0
    assert perfect.interval[1] == 1.0
    # Wilson: 10 of 10 is 0.7225 or more; chance is 0.5.
    assert perfect.interval[0] == pytest.approx((0.7225 - 0.5) / 0.5, abs=1e-3)


def test_a_constant_judge_has_kappa_0_with_doubt() -> None:
    """A judge that always says the same agrees by chance only, which few labels leave in doubt."""
    constant = agreement.kappa([[0, 6], [0, 14]])
    assert constant is not None
    assert constant.value == pytest.approx(0.0)
    assert constant.interval is not None
    assert constant.interval[0] < 0 < constant.interval[1]


def drawn(rng: random.Random, table: Sequence[Sequence[float]], n: int) -> list[tuple[float, float]]:
    """`n` pairs of places, by the weights of a table."""
    cells = [(float(i), float(j)) for i in range(len(table)) for j in range(len(table))]
    return rng.choices(cells, [table[int(i)][int(j)] for i, j in cells], k=n)


BINARY = [[30, 8], [6, 56]]
GRADES = [[10, 4, 1, 0, 0], [3, 12, 4, 1, 0], [1, 4, 15, 5, 1], [0, 1, 4, 15, 4], [0, 0, 1, 4, 10]]


@pytest.mark.parametrize(
    ("table", "weights", "n"), [(BINARY, "none", 60), (GRADES, "linear", 60), (GRADES, "quadratic", 120)]
)
def test_kappas_interval_covers(table: list[list[int]], weights: Weights, n: int) -> None:
    """Of simulated samples of a known population, about 95 % have its kappa in their interval."""
    rng = random.Random(11)  # noqa: S311 a simulation
    truth = agreement.kappa(table, weights)
    assert truth is not None
    covered = 0
    for _ in range(1000):
        found = agreement.kappa(
            agreement.confusion(drawn(rng, table, n), [float(i) for i in range(len(table))]), weights
        )
        assert found is not None
        assert found.interval is not None
        covered += found.interval[0] <= truth.value <= found.interval[1]
    assert 0.92 <= covered / 1000 <= 0.98


def test_agreement_and_bias() -> None:
    """Share with Wilson's interval, and bias with its sign: above 0 the judge grades higher than people."""
    found = agreement.agreement([(1, 2), (2, 2), (3, 4), (5, 5)], FIVE, "quadratic")
    assert (found.n, found.share.value, found.bias.value) == (4, 0.5, 0.5)
    assert found.share.interval == pytest.approx((0.150, 0.850), abs=1e-3)
    # Differences 1, 0, 1, 0: s = 0.57735, t(0.975, 3) = 3.182446.
    assert found.bias.interval == pytest.approx((0.5 - 0.91869, 0.5 + 0.91869), abs=1e-4)
    assert agreement.bias([(1, 2), (2, 3)]).interval is None


def test_confusion_has_people_in_its_rows() -> None:
    """A row is the human's grade and a column the judge's; a grade off the scale is an error."""
    assert agreement.confusion([(1, 2), (1, 2), (2, 1)], (1.0, 2.0)) == [[0, 2], [1, 0]]
    with pytest.raises(KeyError):
        agreement.confusion([(1, 9)], FIVE)


def test_flips() -> None:
    """Texts whose grades differ, and how often two grades of a text do; a text graded once says nothing."""
    found = agreement.flips([[1, 1, 1], [1, 1, 2], [None, 1], [5]])
    assert found is not None
    assert found.texts == 3
    assert found.any.value == pytest.approx(2 / 3)
    # None, two and one of the pairs differ: 0/3, 2/3, 1/1.
    assert found.pairwise.value == pytest.approx((0 + 2 / 3 + 1) / 3)
    assert agreement.flips([[1], [2]]) is None


def test_rater_pairs() -> None:
    """Every two raters of a text are a pair."""
    assert agreement.rater_pairs([(1, 2), (3,), (1, 2, 3)]) == [(1, 2), (1, 2), (1, 3), (2, 3)]


def test_corrected_rate_adds_the_judges_mean_error() -> None:
    """A judge that passes 80 %, and on labels passes one in ten too many, leaves 70 %."""
    labelled = [(True, True)] * 8 + [(False, True)] + [(False, False)]
    found = agreement.corrected([True] * 8 + [False] * 2, labelled)
    assert found is not None
    assert found.value == pytest.approx(0.7)
    assert agreement.corrected([], labelled) is None
    assert agreement.corrected([True], []) is None


def test_a_correction_beyond_all_or_nothing_is_none() -> None:
    """Errors that would take the rate above 1 or below 0 correct nothing; exactly 1 is still a rate."""
    assert agreement.corrected([True] * 50, [(True, False)] * 5 + [(True, True)] * 5) is None
    assert agreement.corrected([False] * 50, [(False, True)] * 5 + [(True, True)] * 5) is None
    # 0.7 + 0.1 + 0.1 + 0.1 is not 1 for a float.
    found = agreement.corrected([True] * 7 + [False] * 3, [(True, False)] * 3 + [(True, True)] * 7)
    assert found is not None
    assert found.value == 1.0
    assert found.interval is not None
    assert found.interval[0] < 0.8


def test_few_flawless_labels_leave_doubt() -> None:
    """Where every case passes and the judge never erred, the interval still has a width."""
    flawless = agreement.corrected([True] * 50, [(True, True)] * 10)
    assert flawless is not None
    assert flawless.interval is not None
    assert flawless.interval[0] < 0.9
    assert flawless.interval[1] == 1.0


@pytest.mark.parametrize(
    ("rate", "right_pass", "right_fail", "cases", "labels"),
    [(0.8, 0.95, 0.7, 100, 60), (0.95, 0.98, 0.8, 200, 100), (0.5, 0.8, 0.8, 50, 40)],
)
def test_corrected_rates_interval_covers(
    rate: float, right_pass: float, right_fail: float, cases: int, labels: int
) -> None:
    """Of simulated gates, about 95 % have the rate that people would give in the corrected interval.

    The judge's own interval has it far less often: that is what the labels are for.
    """
    from gatehouse.evals.statistics import wilson  # noqa: PLC0415 beside its one use

    rng = random.Random(3)  # noqa: S311 a simulation

    def text() -> tuple[bool, bool]:
        human = rng.random() < rate
        return human, rng.random() < right_pass if human else rng.random() >= right_fail

    covered = naive = given = 0
    for _ in range(1000):
        judged = [text()[1] for _ in range(cases)]
        found = agreement.corrected(judged, [text() for _ in range(labels)])
        if found is None:
            continue
        assert found.interval is not None
        given += 1
        covered += found.interval[0] <= rate <= found.interval[1]
        low, high = wilson(sum(judged), cases)
        naive += low <= rate <= high
    assert given > 950
    assert 0.92 <= covered / given <= 0.99
    if rate == 0.8:
        assert covered > naive
