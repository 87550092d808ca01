"""When a judge is asked again, and how the votes on one sample become one grade. Pure.

A further vote is asked for by a rule that knows no good side: exchange pass and fail, and the same samples
get the same votes. To ask again only what failed would lift every score by the judge's own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gatehouse.errors import plain_number
from gatehouse.evals.metrics.base import Metric, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEAR = 0.05
"""How near to the threshold a value without steps is close, as a share of the metric's range."""

TINY = 1e-6
"""A share of the range that makes a value worse than the best, and no rounding error."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What one judge said of one sample: a value, or None where it would not say, and why."""

    judge: str
    value: float | None
    reason: str


def wants_more(
    votes: Sequence[Vote],
    *,
    judges: int,
    most: int,
    holds: Callable[[float], bool],
    metric: Metric,
    panel: str = "majority",
) -> bool:
    """Whether each of the `judges` is to vote once more, at most `most` times in all.

    So it is where the votes make no grade yet, where one of them is undecided or they are split about
    whether the threshold `holds`, and where their grade is near the threshold, on either side of it.
    """
    if len(votes) >= most * judges:
        return False
    values = _decided(votes)
    combined = _combined(votes, panel, metric)
    if combined is None or len(values) < len(votes) or len({holds(value) for value in values}) > 1:
        return True
    return _is_near(combined, holds, metric)


def combine(votes: Sequence[Vote], *, panel: str, metric: Metric) -> Score | None:
    """The middle one of the grades; with panel "mean", and for values without steps, their mean.

    The middle one is the majority's: half of the grades at least are no higher, and half no lower. Where no
    more than half of the votes gave a grade there is none: None.
    """
    value = _combined(votes, panel, metric)
    if value is None:
        return None
    nearest = min((vote for vote in votes if vote.value is not None), key=lambda vote: _distance(vote, value))
    return Score(value, _with_split(votes, nearest.reason))


def why_undecided(votes: Sequence[Vote]) -> str:
    """Why there is no grade: what was voted, and what the first who would not say gave as the reason."""
    silent = [vote.reason for vote in votes if vote.value is None]
    return _with_split(votes, next(filter(None, silent), "no reason given"))


def _decided(votes: Sequence[Vote]) -> list[float]:
    return [vote.value for vote in votes if vote.value is not None]


def _combined(votes: Sequence[Vote], panel: str, metric: Metric) -> float | None:
    values = _decided(votes)
    if 2 * len(values) <= len(votes):
        return None
    if panel == "mean" or metric.step is None:
        mean = sum(values) / len(values)
        return min(max(mean, min(values)), max(values))  # the last bit of a float must not leave the range
    return median(values)


def _is_near(value: float, holds: Callable[[float], bool], metric: Metric) -> bool:
    """Whether one step nearer or farther would flip `holds`.

    With two grades that is so of each, and where nothing but the best of values without steps holds, of every
    good one: there it does not count.
    """
    width = metric.high - metric.low
    only_best = not holds(metric.best + (metric.worst - metric.best) * TINY)
    if width <= metric.step if metric.step is not None else only_best:
        return False
    step = NEAR * width if metric.step is None else metric.step
    beside = (max(metric.low, value - step), min(metric.high, value + step))
    return any(holds(other) != holds(value) for other in beside)


def _distance(vote: Vote, value: float) -> float:
    return abs((vote.value if vote.value is not None else float("inf")) - value)


def _with_split(votes: Sequence[Vote], reason: str) -> str:
    """The reason, after how the votes were split where they were."""
    shown = ["undecided" if vote.value is None else plain_number(vote.value, 3) for vote in votes]
    if len(set(shown)) <= 1:
        return reason
    return "; ".join(filter(None, [f"{len(votes)} votes: {', '.join(shown)}", reason]))
