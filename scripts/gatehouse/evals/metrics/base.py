"""What a metric is: a name, what it needs, and a function that scores one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case


class Score(NamedTuple):
    """What a metric says of one run: a value, and in words why it is not better."""

    value: float
    reason: str = ""


Scorer = Callable[["Case", "Run"], Score | None]
"""Scores one run; None where the metric does not apply to it (the case has no reference, say)."""


class OptionError(ValueError):
    """An option of a metric in the agent file is missing or wrong; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `scorer` makes its function from the options in the agent file; raises OptionError.

    `aggregate` is how the cases' values become one; `direction` says which side of the threshold is good.
    `needs` is what a case or the agent file has to hold, `reports` what an agent's reply has to.
    `of_answer` is whether it looks at what the agent answered or did, and not only at what that took.
    An implied metric joins a gate by itself, where `implied` finds that the agent file asks for it.
    """

    name: str
    kind: Literal["quality", "safety", "cost", "latency"]
    summary: str
    scorer: Callable[[Mapping[str, Any], Agent], Scorer]
    direction: Literal["higher", "lower"] = "higher"
    aggregate: Literal["mean", "p50", "p95"] = "mean"
    unit: str = ""
    needs: str = ""
    reports: str = ""
    of_answer: bool = True
    options: tuple[str, ...] = ()
    implied: Callable[[Agent], bool] = field(default=lambda _agent: False)
    version: int = 1

    @property
    def worst(self) -> float:
        """The value of a case that the agent itself failed."""
        return 0.0 if self.direction == "higher" else 1.0

    @property
    def per_case(self) -> bool:
        """Whether one case can pass or fail it: a latency percentile belongs to the whole set."""
        return self.kind in ("quality", "safety")
