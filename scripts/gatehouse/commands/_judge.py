"""Who judges, for the commands that ask or name a judge."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatehouse.cli import Lines
from gatehouse.errors import Problem, UserError
from gatehouse.evals.results import OUT
from gatehouse.github.runner import annotate, in_actions

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.evals.judges.bench import Bench
    from gatehouse.evals.metrics import Gate

F = TypeVar("F", bound=Callable[..., Any])


def judge_options(function: F) -> F:
    """`--judge` and `--embeddings`: over those of the agent file."""
    function = click.option(
        "--embeddings",
        metavar="PROVIDER:MODEL",
        help="Model of embeddings, for metrics that need them. Default: evals.embeddings of the agent file, "
        "else the judge's provider's usual one.",
    )(function)
    return click.option(
        "--judge",
        "judge",
        cls=Lines,
        multiple=True,
        metavar="PROVIDER:MODEL",
        help="Model that judges; repeated, a panel. Default: evals.judge of the agent file.",
    )(function)


def agent_with_judge(agent: Agent, judge: tuple[str, ...], embeddings: str | None) -> Agent:
    """The agent, judged by whom the command line names; raises UserError for what names no model."""
    evals = agent.evals
    if judge:
        evals = replace(evals, judge=replace(evals.judge, models=tuple(dict.fromkeys(judge))))
    if embeddings:
        evals = replace(evals, embeddings=embeddings)
    return replace(agent, evals=evals)


def with_models(agent: Agent, gates: list[Gate]) -> list[Gate]:
    """The gates, each knowing the models that it asks; raises UserError where one is missing or misnamed."""
    from gatehouse.evals.judges.model import embeddings_of, parse_model  # noqa: PLC0415 beside its one use

    setting, problems = agent.evals.judge, list[Problem | str]()
    judged = [gate for gate in gates if "judge" in gate.metric.models]
    embedded = [gate for gate in gates if "embeddings" in gate.metric.models]
    if judged and not setting.models:
        problems.append(
            agent.problem(
                "evals",
                message=f"{_metrics(judged)} a judge.",
                repair="Write evals: {judge: PROVIDER:MODEL}, or give --judge PROVIDER:MODEL.",
            )
        )
    for name in (*setting.models, *([agent.evals.embeddings] if agent.evals.embeddings else [])):
        try:
            parse_model(name)
        except UserError as error:
            problems += error.problems
    embeddings = None if problems else embeddings_of(setting, agent.evals.embeddings)
    if embedded and not problems and not embeddings:
        problems.append(
            agent.problem(
                "evals",
                message=f"{_metrics(embedded)} a model of embeddings, the judge's provider has no usual one.",
                repair="Write evals: {embeddings: PROVIDER:MODEL}, or give --embeddings PROVIDER:MODEL.",
            )
        )
    if problems:
        raise UserError(*problems)
    return [replace(gate, embeddings=embeddings) for gate in gates]


def _metrics(gates: list[Gate]) -> str:
    names = ", ".join(f'"{gate.metric.name}"' for gate in gates)
    return f"metric {names} needs" if len(gates) == 1 else f"metrics {names} need"


JUDGEMENTS = "judgements.jsonl"
"""The file in which a judge's replies are kept, beside the agents' folders: the same is never asked twice."""
CACHE = "GATEHOUSE_CACHE"
"""Names another folder for it: on a runner one that no checkout and no artifact of results holds."""


def bench_for(agent: Agent, gates: list[Gate], out: Path | None) -> Bench | None:
    """Whom the gates ask, ready to be opened; None where no gate asks anybody.

    Raises UserError where a library is missing, and InfrastructureError where a key is.
    """
    asked = [gate for gate in gates if gate.metric.judged]
    if not asked:
        return None
    from gatehouse.costs.prices import price  # noqa: PLC0415 only where there is something to judge
    from gatehouse.evals.judges.bench import Bench  # noqa: PLC0415 as above
    from gatehouse.evals.judges.cache import JudgementCache  # noqa: PLC0415 as above
    from gatehouse.evals.judges.model import resolve_models, self_preference  # noqa: PLC0415 as above

    if missing := missing_extras(asked):
        names = ", ".join(missing)
        raise UserError(
            f"{_metrics([g for g in asked if g.metric.extra in missing])} {' and '.join(missing)}: "
            f"install gatehouse-ci[{names.replace(' ', '')}]."
        )
    setting = agent.evals.judge
    if any("judge" in gate.metric.models for gate in asked) and (doubt := self_preference(agent)):
        annotate("warning", doubt)
    needs = {model for gate in asked for model in gate.metric.models}
    models = resolve_models(setting, agent.evals.embeddings, needs=needs, environ=os.environ)
    bench = Bench(models, setting, price=lambda usage: price(usage, agent)[0], cache=None)
    asked_models = [*models.judges, *([models.embeddings] if models.embeddings else [])]
    secret = next((model.endpoint.key for model in asked_models if model.endpoint.key), None)
    # On a runner other jobs may have written it: there only a signed judgement is one.
    folder = Path(os.environ.get(CACHE) or out or OUT)
    bench.cache = JudgementCache(folder / JUDGEMENTS, secret, trusted=not in_actions())
    return bench


def missing_extras(gates: list[Gate]) -> list[str]:
    """The extras that these gates need and that are not installed."""
    from importlib.util import find_spec  # noqa: PLC0415 beside its one use

    extras = dict.fromkeys(gate.metric.extra for gate in gates if gate.metric.extra)
    return [extra for extra in extras if find_spec(extra) is None]
