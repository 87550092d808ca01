"""Intervals beside a measured value, in the standard library: scipy would cost every start half a second."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Interval = tuple[float, float]
LEVEL = 0.95
"""The confidence level of every interval that is shown."""


def wilson(successes: float, n: int, level: float = LEVEL) -> Interval:
    """The score interval of a proportion (Wilson 1927); `successes` may be a sum of fractions in [0, 1].

    For fractions it is conservative: no variable on [0, 1] varies more than a coin of the same mean.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return 0.0 if successes == 0 else low, 1.0 if successes == n else high


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Student's t interval of the mean of independent `values`; None below two of them."""
    n = len(values)
    if n < 2:  # noqa: PLR2004 a spread needs two
        return None
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = t_quantile((1 + level) / 2, n - 1) * error
    return mean - half, mean + half


def proportion_interval(values: Sequence[float]) -> Interval | None:
    """The interval of the mean of values in [0, 1], one per case; None without cases.

    Wilson's for passes and failures, and where all values agree (a t interval would then have no width);
    otherwise Student's, kept within [0, 1].
    """
    if not values:
        return None
    if all(v in (0.0, 1.0) for v in values) or min(values) == max(values):
        return wilson(math.fsum(values), len(values))
    interval = mean_interval(values)
    return interval and (max(0.0, interval[0]), min(1.0, interval[1]))


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile of sorted, non-empty `values` by linear interpolation (Hyndman and Fan's type 7)."""
    position = q * (len(values) - 1)
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def quantile_interval(values: Sequence[float], q: float, level: float = LEVEL) -> Interval | None:
    """The interval of a quantile of sorted `values` by order statistics, without assuming a distribution.

    The ranks are the binomial's own quantiles (Conover, Practical Nonparametric Statistics, 3.2); None where
    the sample is too small to have an order statistic on either side.
    """
    n, tail = len(values), (1 - level) / 2
    if n == 0:
        return None
    low = high = -1
    cumulated = 0.0
    for k in range(n + 1):
        log_p = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        cumulated += math.exp(log_p + k * math.log(q) + (n - k) * math.log1p(-q))
        if low < 0 and cumulated > tail:
            low = k
        if cumulated >= 1 - tail:
            high = k
            break
    return (values[low - 1], values[high]) if low >= 1 and 0 <= high < n else None


def t_quantile(p: float, df: int) -> float:
    """Student's t quantile for 0.5 <= p < 1 and df >= 1: Newton's method on the incomplete beta function."""
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    z = NormalDist().inv_cdf(p)
    t = z + (z**3 + z) / (4 * df)
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    for _ in range(60):
        density = math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))
        step = (1 - 0.5 * _beta(df / 2, 0.5, df / (df + t * t)) - p) / density
        t -= step
        if abs(step) < 1e-13 * max(1.0, abs(t)):
            break
    return t


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 400):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + numerator * d) or tiny)
            c = (1 + numerator / c) or tiny
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:  # noqa: PLR2004 double precision
            break
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * fraction / a
