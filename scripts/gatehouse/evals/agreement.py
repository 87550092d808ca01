"""How far two graders agree, beyond chance: a judge with people, people with each other, a judge with itself.

A pair is (human, judge), both on the same scale. Every interval has a level of 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from gatehouse.evals.statistics import LEVEL, Interval, mean_interval, proportion_interval, wilson

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

Weights = Literal["none", "linear", "quadratic"]
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number measured on a sample, with its interval where there is one."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the judge agrees with people over `n` texts.

    `kappa` is None where chance alone would agree wholly: both use one and the same grade only.
    `bias` is the judge's mean grade less the people's.
    """

    n: int
    kappa: Estimate | None
    share: Estimate
    bias: Estimate


@dataclass(frozen=True, slots=True)
class Flips:
    """How often a judge contradicts itself on one text, over `texts` that it graded more than once.

    `any` is the share of texts whose grades are not all the same, `pairwise` the probability that two grades
    of a text differ.
    """

    texts: int
    any: Estimate
    pairwise: Estimate


def confusion(pairs: Sequence[Pair], grades: Sequence[float]) -> list[list[int]]:
    """Counts by the human's grade (row) and the judge's (column); raises KeyError for one off the scale."""
    place = {grade: i for i, grade in enumerate(grades)}
    table = [[0] * len(grades) for _ in grades]
    for human, judge in pairs:
        table[place[human]][place[judge]] += 1
    return table


def kappa(table: Sequence[Sequence[int]], weights: Weights = "none") -> Estimate | None:
    """Cohen's kappa of a confusion table (1960; weighted: 1968), None where it is undefined.

    `table` is square with at least one count; its grades are in order and a step apart. The interval is from
    the large-sample variance of Fleiss, Cohen and Everitt (1969), within [-1, 1]. Where that variance is 0 (a
    perfect agreement, a constant judge), Wilson's for the agreement takes its place, chance held fixed: a
    small sample is not to look certain.
    """
    size, n = len(table), sum(map(sum, table))
    span = range(size)
    p = [[count / n for count in row] for row in table]
    human = [math.fsum(row) for row in p]
    judge = [math.fsum(p[i][j] for i in span) for j in span]
    # Agreement weights: 1 on the diagonal, 0 at the greatest distance.
    v = [[1 - _distance(i, j, size, weights) for j in span] for i in span]
    observed = math.fsum(v[i][j] * p[i][j] for i in span for j in span)
    chance = math.fsum(v[i][j] * human[i] * judge[j] for i in span for j in span)
    if 1 - chance < 1e-12:  # noqa: PLR2004 nothing but rounding
        return None
    value = (observed - chance) / (1 - chance)
    by_human = [math.fsum(v[i][j] * judge[j] for j in span) for i in span]
    by_judge = [math.fsum(v[i][j] * human[i] for i in span) for j in span]
    spread = math.fsum(
        p[i][j] * (v[i][j] - (by_human[i] + by_judge[j]) * (1 - value)) ** 2 for i in span for j in span
    )
    variance = (spread - (value - chance * (1 - value)) ** 2) / (n * (1 - chance) ** 2)
    if variance > 1e-12:  # noqa: PLR2004 as above
        half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(variance)
        low, high = value - half, value + half
    else:
        low, high = ((end - chance) / (1 - chance) for end in wilson(min(n, max(0.0, observed * n)), n))
    return Estimate(value, (max(-1.0, low), min(1.0, high)))


def _distance(i: int, j: int, size: int, weights: Weights) -> float:
    if weights == "none" or size == 1:
        return float(i != j)
    share = abs(i - j) / (size - 1)
    return share if weights == "linear" else share**2


def agreement(pairs: Sequence[Pair], grades: Sequence[float], weights: Weights) -> Agreement:
    """The agreement of at least one pair on a scale of `grades`, in order and a step apart."""
    n = len(pairs)
    same = sum(human == judge for human, judge in pairs)
    return Agreement(
        n,
        kappa(confusion(pairs, grades), weights),
        Estimate(same / n, wilson(same, n)),
        bias(pairs),
    )


def bias(pairs: Sequence[Pair]) -> Estimate:
    """The mean of judge less human, with Student's interval; none where all differ alike: it has no width."""
    differences = [judge - human for human, judge in pairs]
    interval = mean_interval(differences) if min(differences) < max(differences) else None
    return Estimate(math.fsum(differences) / len(differences), interval)


def flips(repeated: Sequence[Sequence[Hashable]]) -> Flips | None:
    """The flips in the grades of each text; texts graded once say nothing, None where there are no others."""
    texts = [grades for grades in repeated if len(grades) > 1]
    if not texts:
        return None
    unsteady = sum(len(set(grades)) > 1 for grades in texts)
    shares = [_differing(grades) for grades in texts]
    return Flips(
        len(texts),
        Estimate(unsteady / len(texts), wilson(unsteady, len(texts))),
        Estimate(math.fsum(shares) / len(texts), proportion_interval(shares)),
    )


def _differing(grades: Sequence[Hashable]) -> float:
    """The share of the pairs of these grades that differ."""
    same = sum(math.comb(count, 2) for count in Counter(grades).values())
    return 1 - same / math.comb(len(grades), 2)


def rater_pairs(ratings: Sequence[Sequence[float]]) -> list[Pair]:
    """Every two ratings of a text, in the raters' order, over all texts."""
    return [pair for grades in ratings for pair in combinations(grades, 2)]


def corrected(judged: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> Estimate | None:
    """The pass rate that people would give, from a judge's verdicts and its errors on labelled texts.

    Prediction-powered inference (Angelopoulos et al., Science 382, 2023), lambda 1: the mean of `judged` plus
    the mean of human less judge over `labelled` (human, judge), which are other answers; the variances add.
    Each has pseudo-counts added, for the errors those of Agresti and Min (Statistics in Medicine 24, 2005): a
    judge that made no error on few labels is not known to make none. The interval is kept within [0, 1]; None
    where the value lies outside, for labels with such errors say nothing of these cases, and without any.
    """
    if not judged or not labelled:
        return None
    size, n = len(judged), len(labelled)
    missed = sum(human and not judge for human, judge in labelled)
    granted = sum(judge and not human for human, judge in labelled)
    passed = sum(judged)
    right = passed * n + (missed - granted) * size
    if not 0 <= right <= size * n:  # in whole numbers: 1 is not to be missed for the last bit of a float
        return None
    value = right / (size * n)
    rate = (passed + 1) / (size + 2)
    up, down = missed + 0.5, granted + 0.5
    error = (up + down - (up - down) ** 2 / (n + 2)) / (n + 2) ** 2
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(rate * (1 - rate) / (size + 2) + error)
    return Estimate(value, (max(0.0, value - half), min(1.0, value + half)))
