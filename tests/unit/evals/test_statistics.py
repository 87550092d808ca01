"""The intervals beside the values, against published figures."""

import math

import pytest

from gatehouse.evals import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (40, 40, 0.9124, 1.0),
    ],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    """Wilson's interval equals the published figures, also with no failure at all."""
    assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("p", "df", "t"),
    # Any table of Student's t.
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 10, 2.22814),
        (0.95, 30, 1.69726),
        (0.995, 120, 2.61742),
    ],
)
def test_t_quantile(p: float, df: int, t: float) -> None:
    """Student's t quantiles equal the tables'."""
    assert statistics.t_quantile(p, df) == pytest.approx(t, abs=5e-5)


def test_mean_interval() -> None:
    """The mean's interval is that of the textbook, and there is none for a single value."""
    # n = 5, mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert statistics.mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert statistics.mean_interval([1.0]) is None


def test_proportion_interval_never_shrinks_to_a_point() -> None:
    """Values that all agree still leave doubt, and fractions stay within 0 and 1."""
    assert statistics.proportion_interval([1.0] * 40) == pytest.approx((0.9124, 1.0), abs=5e-5)
    low, high = statistics.proportion_interval([0.5] * 10) or (0.0, 0.0)
    assert low < 0.5 < high
    assert (statistics.proportion_interval([1.0, 1.0, 0.5]) or (0, 2))[1] <= 1.0
    assert statistics.proportion_interval([]) is None


def test_quantile() -> None:
    """Quantiles interpolate between the neighbours; a single value is every quantile."""
    assert statistics.quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert statistics.quantile([1.0, 2.0, 3.0, 4.0], 1.0) == 4.0
    assert statistics.quantile([7.0], 0.95) == 7.0


def test_quantile_interval_by_order_statistics() -> None:
    """The median of 10 lies between the 2nd and the 9th with 95 %; its 95th percentile has no upper end."""
    values = [float(i) for i in range(1, 11)]
    assert statistics.quantile_interval(values, 0.5) == (2.0, 9.0)
    assert statistics.quantile_interval(values, 0.95) is None
    assert statistics.quantile_interval([], 0.5) is None
