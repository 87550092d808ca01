"""Every metric joins one registry here, and an agent's file says which of them it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent.digest import canonical, sha256
from gatehouse.errors import UserError
from gatehouse.evals.metrics import budgets, text, tools
from gatehouse.evals.metrics.base import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.definition import Agent, MetricSetting
    from gatehouse.errors import Problem
    from gatehouse.evals.metrics.base import Metric, Scorer


def registry() -> dict[str, Metric]:
    """Every metric by its name, in the order they are listed."""
    return {metric.name: metric for module in (text, tools, budgets) for metric in module.METRICS}


@dataclass(frozen=True, slots=True)
class Gate:
    """One metric as one agent is held to it; `threshold` None means that every case must hold."""

    metric: Metric
    score: Scorer
    threshold: float | None
    floor: Literal["value", "interval"] = "value"
    implied: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """What a score of this metric depends on beside agent and case: its version and its options."""
        return sha256(canonical([self.metric.version, dict(self.options)]))

    def holds(self, value: float) -> bool:
        """Whether a value, of one case or of all, is on the good side of the threshold."""
        tolerance = 1e-9  # 0.1 + 0.2: a mean is never to fail for the last bit of a float
        if self.metric.direction == "higher":
            return value >= (1.0 if self.threshold is None else self.threshold) - tolerance
        return value <= (0.0 if self.threshold is None else self.threshold) + tolerance


def gates_of(agent: Agent, thresholds: Mapping[str, float] | None = None) -> list[Gate]:
    """What the agent is held to.

    Its file's metrics, the thresholds of the command line over them, and what its guardrails and budgets
    imply. Raises UserError with every unknown name and wrong option at once.
    """
    known, problems, gates = registry(), [], []
    settings: dict[str, MetricSetting | None] = dict(agent.evals.metrics)
    for name in thresholds or {}:
        settings.setdefault(name, None)
    for name, setting in settings.items():
        metric = known.get(name)
        if metric is None:
            problems.append(_unknown(agent, name, known, in_file=setting is not None))
            continue
        problems += _wrong_options(agent, metric, setting)
        threshold = (thresholds or {}).get(name, setting.threshold if setting else None)
        if threshold is None and metric.kind != "safety":
            problems.append(
                agent.problem(
                    "evals",
                    "metrics",
                    name,
                    message=f'metric "{name}" has no threshold.',
                    repair=f"Write {name}: 0.9, or {name}: {{threshold: 0.9}}.",
                )
            )
        if threshold is not None and (threshold < 0 or (metric.per_case and threshold > 1)):
            problems.append(_out_of_range(agent, metric, threshold, in_file=name not in (thresholds or {})))
        try:
            score = metric.scorer(setting.options if setting else {}, agent)
        except OptionError as error:
            problems.append(agent.problem("evals", "metrics", name, message=f'metric "{name}": {error}'))
            continue
        options = setting.options if setting else {}
        gates.append(Gate(metric, score, threshold, setting.floor if setting else "value", options=options))
    if problems:
        raise UserError(*problems)
    implied = [m for m in known.values() if m.name not in settings and m.implied(agent)]
    return gates + [Gate(m, m.scorer({}, agent), None, implied=True) for m in implied]


def _wrong_options(agent: Agent, metric: Metric, setting: MetricSetting | None) -> list[Problem]:
    return [
        agent.problem(
            "evals",
            "metrics",
            metric.name,
            option,
            message=f'metric "{metric.name}" has no option "{option}".',
            repair=f"Its options: {', '.join(('threshold', 'floor', *metric.options))}.",
        )
        for option in (setting.options if setting else ())
        if option not in metric.options
    ]


def _out_of_range(agent: Agent, metric: Metric, threshold: float, *, in_file: bool) -> Problem | str:
    """A share above 1 or an amount below 0: such a gate could never pass, or never fail."""
    bounds = "from 0 to 1" if metric.per_case else "of 0 or more"
    message = f'metric "{metric.name}" takes a threshold {bounds}, not {threshold:g}.'
    if in_file:
        return agent.problem("evals", "metrics", metric.name, message=message)
    return f"--threshold: {message}"


def _unknown(agent: Agent, name: str, known: Mapping[str, Metric], *, in_file: bool) -> Problem | str:
    from difflib import get_close_matches  # noqa: PLC0415 only for the error

    near = get_close_matches(name, known, 1)
    repair = (f'Did you mean "{near[0]}"? ' if near else "") + "`gatehouse metrics` lists every name."
    message = f'unknown metric "{name}".'
    if in_file:
        return agent.problem("evals", "metrics", name, message=message, repair=repair)
    return f"--threshold: {message} {repair}"
