"""What a metric is: a name, what it needs, and a function that scores one run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case
    from gatehouse.evals.judges.base import Judge, Sample


class Score(NamedTuple):
    """What a metric says of one run: a value, and in words why it is not better."""

    value: float
    reason: str = ""


Scorer = Callable[["Case", "Run"], Score | None]
"""Scores one run; None where the metric does not apply to it (the case has no reference, say)."""


JudgedScorer = Callable[["Sample", "Judge"], Awaitable[Score]]
"""Scores one sample by a judge's one vote; the sample holds everything that the metric `requires`.

Raises JudgeError where no value came of it, UndecidedError where the judge itself will not say."""


class OptionError(ValueError):
    """An option of a metric in the agent file is missing or wrong; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `scorer` makes its function from the options in the agent file; raises OptionError.

    `aggregate` is how the cases' values become one; `direction` says which side of the threshold is good;
    a case's value lies from `low` to `high`. `needs` is what a case or the agent file has to hold, in words,
    and `reports` what an agent's reply has to.
    `of_answer` is whether it looks at what the agent answered or did, and not only at what that took.
    An implied metric joins a gate by itself, where `implied` finds that the agent file asks for it.

    A judged metric has `judged` in place of `scorer`: it makes the function that asks a judge, which imports
    the library that it needs when it is first called; `extra` of our distribution brings it. `requires` names
    what a sample must hold ("expected", "contexts", "expected_tools", "tool_calls"), `options_require` what
    it must by the metric's options. `models` are those that are asked ("judge", "embeddings"), `calls` how
    many calls a case takes, in words. A grade has steps of `step`.
    """

    name: str
    kind: Literal["quality", "safety", "cost", "latency"]
    summary: str
    scorer: Callable[[Mapping[str, Any], Agent], Scorer] | None = None
    direction: Literal["higher", "lower"] = "higher"
    aggregate: Literal["mean", "p50", "p95"] = "mean"
    unit: str = ""
    needs: str = ""
    reports: str = ""
    of_answer: bool = True
    withholds: bool = False
    """Whether what it finds must not be shown: the texts of a case in which it does are kept back."""
    options: tuple[str, ...] = ()
    implied: Callable[[Agent], bool] = field(default=lambda _agent: False)
    version: int | str = 1
    judged: Callable[[Mapping[str, Any], Agent], JudgedScorer] | None = None
    extra: str = ""
    library: str = ""
    """What `extra` brings, where that has another name."""
    requires: tuple[str, ...] = ()
    options_require: Callable[[Mapping[str, Any]], tuple[str, ...]] = field(default=lambda _options: ())
    models: tuple[str, ...] = ()
    calls: str = ""
    low: float = 0.0
    high: float = 1.0
    step: float | None = None
    known_as: str = ""
    """What it is called in the lists, where an agent file gives it another name."""

    @property
    def worst(self) -> float:
        """The value of a case that the agent itself failed."""
        return self.low if self.direction == "higher" else self.high

    @property
    def best(self) -> float:
        """The value that no case can better."""
        return self.high if self.direction == "higher" else self.low

    @property
    def per_case(self) -> bool:
        """Whether one case can pass or fail it: a latency percentile belongs to the whole set."""
        return self.kind in ("quality", "safety")
