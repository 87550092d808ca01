"""Every metric joins one registry here, and an agent's file says which of them it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent.definition import JudgeSetting
from gatehouse.agent.digest import canonical, sha256
from gatehouse.errors import UserError
from gatehouse.evals.metrics import budgets, by_deepeval, by_ragas, by_rubric, fields, safety, text, tools
from gatehouse.evals.metrics.base import OptionError
from gatehouse.evals.metrics.own import own_metric, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.definition import Agent, MetricSetting
    from gatehouse.errors import Problem
    from gatehouse.evals.metrics.base import JudgedScorer, Metric, Scorer

RESERVED = "critical_cases"
"""The verdict's own row."""
REFUSED = by_ragas.REFUSED | by_deepeval.REFUSED
"""Metrics of the libraries that no golden set of single answers can feed, and why."""


def registry() -> dict[str, Metric]:
    """Every metric by its name, in the order they are listed; rubrics are found by their files."""
    modules = (text, fields, tools, safety, budgets, by_ragas, by_deepeval)
    return {metric.name: metric for module in modules for metric in module.METRICS}


def known_as(name: str) -> str:
    """A metric's own name, for one of its other spellings."""
    return by_ragas.ALIASES.get(name) or by_deepeval.ALIASES.get(name) or name


@dataclass(frozen=True, slots=True)
class Gate:
    """One metric as one agent is held to it; `threshold` None means that every case must hold.

    Exactly one of `score` and `judge` is there: what scores a run, or what asks a judge about it.
    """

    metric: Metric
    score: Scorer | None
    threshold: float | None
    floor: Literal["value", "interval"] = "value"
    implied: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    judge: JudgedScorer | None = None
    judged_by: JudgeSetting = field(default_factory=JudgeSetting)
    embeddings: str | None = None

    @property
    def method(self) -> str:
        """What a score depends on beside agent and case: metric, options, and whoever judges, and how."""
        metric = self.metric
        method: list[Any] = [metric.known_as or metric.name, metric.version, dict(self.options)]
        if "judge" in metric.models:
            method += [list(self.judged_by.models), self.judged_by.panel, self.judged_by.votes]
        if "embeddings" in metric.models:
            method.append(self.embeddings)
        return sha256(canonical(method))

    @property
    def voted_at(self) -> float | None:
        """The threshold near which a judge votes again: there the votes depend on it, the method does not."""
        voted = "judge" in self.metric.models and self.judged_by.votes > 1
        return (self.metric.best if self.threshold is None else self.threshold) if voted else None

    def holds(self, value: float) -> bool:
        """Whether a value, of one case or of all, is on the good side of the threshold."""
        tolerance = 1e-9  # 0.1 + 0.2: a mean is never to fail for the last bit of a float
        threshold = self.metric.best if self.threshold is None else self.threshold
        if self.metric.direction == "higher":
            return value >= threshold - tolerance
        return value <= threshold + tolerance


def gates_of(agent: Agent, thresholds: Mapping[str, float] | None = None) -> list[Gate]:
    """What the agent is held to.

    Its file's metrics, the thresholds of the command line over them, and what its guardrails and budgets
    imply. Raises UserError with every unknown name and wrong option at once.
    """
    asked = _Asked(agent, registry())
    for name, setting in agent.evals.metrics.items():
        asked.add(name, setting)
    for name, threshold in (thresholds or {}).items():
        asked.hold(name, threshold)
    gates = [gate for name in asked.settings if (gate := asked.gate(name))]
    if asked.problems:
        raise UserError(*asked.problems)
    taken = {gate.metric.name for gate in gates}
    implied = [m for m in asked.known.values() if m.name not in taken and m.implied(agent)]
    return gates + [Gate(m, m.scorer({}, agent), None, implied=True) for m in implied if m.scorer]


class _Asked:
    """The metrics that a file and a command line ask for, by the metric's own name, and what is wrong."""

    def __init__(self, agent: Agent, known: dict[str, Metric]) -> None:
        self.agent, self.known = agent, known
        self.problems: list[Problem | str] = []
        self.settings: dict[str, tuple[str, MetricSetting | None]] = {}
        """Each metric with its name in the file, "" where only the command line names it."""
        self.thresholds: dict[str, float] = {}
        self.spelled: dict[str, str] = {}
        """How the command line writes each of its metrics."""

    def add(self, name: str, setting: MetricSetting) -> None:
        """A metric of the file."""
        own = name if setting.metric else known_as(name)
        if own in self.settings:
            message = f'"{name}" and "{self.settings[own][0]}" are one metric: give it once.'
            self.problems.append(self.agent.problem("evals", "metrics", name, message=message))
        self.settings[own] = name, setting

    def hold(self, name: str, threshold: float) -> None:
        """A threshold of the command line."""
        own = name if name in self.settings else known_as(name)
        if own in self.thresholds:
            self.problems.append(
                f'--threshold: "{name}" and "{self.spelled[own]}" are one metric: give it once.'
            )
        self.thresholds[own], self.spelled[own] = threshold, name
        self.settings.setdefault(own, ("", None))

    def gate(self, own: str) -> Gate | None:
        """The gate of one metric; None where it is wrong, which is noted."""
        agent, (name, setting) = self.agent, self.settings[own]
        metric = self.find(own, name, setting)
        if metric is None:
            return None
        options = setting.options if setting else {}
        self.problems += _wrong_options(agent, metric, name, options)
        threshold = self.thresholds.get(own, setting.threshold if setting else None)
        if threshold is None and metric.kind != "safety":
            self.problems.append(
                agent.problem(
                    "evals",
                    "metrics",
                    name,
                    message=f'metric "{own}" has no threshold.',
                    repair=f"Write {own}: 0.9, or {own}: {{threshold: 0.9}}.",
                )
            )
        if threshold is not None and (threshold < 0 or (metric.per_case and _is_outside(metric, threshold))):
            self.problems.append(
                _out_of_range(agent, metric, threshold, "" if own in self.thresholds else name)
            )
        try:
            score = metric.scorer(options, agent) if metric.scorer else None
            judge = metric.judged(options, agent) if metric.judged else None
        except OptionError as error:
            repair = "" if name else f"Options are given in the agent file, under evals.metrics.{own}."
            self.problems.append(_at(agent, name, f'metric "{own}": {error}', repair))
            return None
        metric = replace(metric, requires=metric.requires + metric.options_require(options))
        floor = setting.floor if setting else "value"
        return Gate(
            metric,
            score,
            threshold,
            floor,
            options=options,
            judge=judge,
            judged_by=agent.evals.judge,
            embeddings=agent.evals.embeddings,
        )

    def find(self, own: str, name: str, setting: MetricSetting | None) -> Metric | None:
        """The metric, under its own name; None where there is none, which is noted."""
        if setting and setting.metric and ":" in setting.metric:
            return self.own_metric(own, name, setting)
        if setting and setting.kind:
            message = (
                f'metric "{own}" has its own kind: only one of your own code (module:function) is given one.'
            )
            self.problems.append(self.agent.problem("evals", "metrics", name, "kind", message=message))
        meant = known_as(setting.metric) if setting and setting.metric else own
        metric = self.known.get(meant)
        try:
            rubric = by_rubric.rubric_metric(meant, self.agent.root)
        except UserError as error:
            self.problems += error.problems
            return None
        if metric and rubric:
            message = f'"{meant}" is a metric and a rubric too: give the rubric another file name.'
            self.problems.append(_at(self.agent, name, message))
        if not metric and not rubric:
            self.problems.append(_unknown(self.agent, name, meant, self.known))
        found = metric or rubric
        if found is None or own == meant:
            return found
        return None if self.is_taken(own, name) else replace(found, name=own, known_as=found.name)

    def own_metric(self, own: str, name: str, setting: MetricSetting) -> Metric | None:
        """The metric of the user's own code; None where its name is taken, which is noted."""
        if self.is_taken(own, name):
            return None
        target = str(setting.metric)
        return own_metric(self.agent, own, target, setting.kind or "quality")

    def is_taken(self, own: str, name: str) -> bool:
        """Whether another metric has this name, which everybody knows: it must be what they think."""
        taken = {RESERVED, *self.known, *REFUSED, *by_rubric.rubric_names(self.agent.root)}
        if own not in taken and known_as(own) == own:
            return False
        self.problems.append(_at(self.agent, name, f'"{own}" is the name of another metric.'))
        return True


def _at(agent: Agent, name: str, message: str, repair: str = "") -> Problem | str:
    """A fault of a metric, at its key in the file, or of the command line."""
    if name:
        return agent.problem("evals", "metrics", name, message=message, repair=repair)
    return f"--threshold: {message} {repair}".strip()


def _wrong_options(agent: Agent, metric: Metric, name: str, options: Mapping[str, Any]) -> list[Problem]:
    if target_of(metric):  # what its own code takes, only that code knows
        return []
    return [
        agent.problem(
            "evals",
            "metrics",
            name,
            option,
            message=f'metric "{metric.name}" has no option "{option}".',
            repair=f"Its options: {', '.join(('threshold', 'floor', 'metric', *metric.options))}.",
        )
        for option in options
        if option not in metric.options
    ]


def _is_outside(metric: Metric, threshold: float) -> bool:
    return not metric.low <= threshold <= metric.high


def _out_of_range(agent: Agent, metric: Metric, threshold: float, name: str) -> Problem | str:
    """Outside of what a case can have, or an amount below 0: such a gate could never pass, or never fail."""
    bounds = f"from {metric.low:g} to {metric.high:g}" if metric.per_case else "of 0 or more"
    return _at(agent, name, f'metric "{metric.name}" takes a threshold {bounds}, not {threshold:g}.')


def _unknown(agent: Agent, name: str, meant: str, known: Mapping[str, Metric]) -> Problem | str:
    from difflib import get_close_matches  # noqa: PLC0415 only for the error

    if meant in REFUSED:
        return _at(agent, name, f'metric "{meant}" cannot be used: {REFUSED[meant]}')
    names = [*known, *by_ragas.ALIASES, *by_deepeval.ALIASES, *by_rubric.rubric_names(agent.root), *REFUSED]
    # Nearer than usual: "helpfulness", a rubric's name, is no misspelled "faithfulness".
    near = get_close_matches(meant, names, 1, 0.8)
    if near and near[0] in REFUSED:
        return _at(agent, name, f'unknown metric "{meant}"; "{near[0]}" cannot be used: {REFUSED[near[0]]}')
    message, everything = f'unknown metric "{meant}".', "`gatehouse metrics` lists every name."
    if near:
        return _at(agent, name, message, f'Did you mean "{near[0]}"? {everything}')
    rubric = f"{by_rubric.FOLDER}/{meant.partition('.')[0]}.yaml"
    return _at(
        agent, name, message, f"A rubric of that name would be {rubric}, which is not there. {everything}"
    )
