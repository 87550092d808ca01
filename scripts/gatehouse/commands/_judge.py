"""Who judges, for the commands that ask or name a judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatehouse.agent.providers import SHORTEST_KEY, keys_in
from gatehouse.cli import Lines
from gatehouse.errors import Problem, UserError
from gatehouse.evals.results import OUT
from gatehouse.github.escape import command
from gatehouse.github.runner import annotate, in_actions
from gatehouse.report.scorecard import SOURCE

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
    """The gates, each knowing the models that it asks; raises UserError where one is missing or misnamed.

    What speaks against the choice of a judge joins the agent's warnings; a name that pins no weights is a
    fault, where the agent file says so.
    """
    from gatehouse.evals.judges.calibration import read_calibration  # noqa: PLC0415 beside its one use
    from gatehouse.evals.judges.model import embeddings_of  # noqa: PLC0415 as above

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
    problems += _misnamed(agent)
    if judged and not problems:
        problems += _doubtful(agent)
    embeddings = None if problems else embeddings_of(setting, agent.evals.embeddings)
    if embedded and not problems and not embeddings:
        problems.append(
            agent.problem(
                "evals",
                message=f"{_metrics(embedded)} a model of embeddings, the judge's provider has no usual one.",
                repair="Write evals: {embeddings: PROVIDER:MODEL}, or give --embeddings PROVIDER:MODEL.",
            )
        )
    gates = [replace(gate, embeddings=embeddings) for gate in gates]
    for gate in gates:  # a file to mend is said before anything is asked
        if "judge" not in gate.metric.models:
            continue
        try:
            read_calibration(agent.root, gate.metric.name, gate.method)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return gates


def _misnamed(agent: Agent) -> Iterator[Problem]:
    """Judges and embeddings models that are not PROVIDER:MODEL of a known provider, where they are named."""
    from gatehouse.evals.judges.model import parse_model  # noqa: PLC0415 beside its one use

    named = [("judge", name, "A judge") for name in agent.evals.judge.models]
    if agent.evals.embeddings:
        named.append(("embeddings", agent.evals.embeddings, "A model of embeddings"))
    for key, name, what in named:
        try:
            parse_model(name, what)
        except UserError as error:
            yield from (_where(agent, key, name, fault.message, fault.repair) for fault in error.problems)


def _doubtful(agent: Agent) -> list[Problem]:
    """Judges that their provider may change unseen, where the agent file calls that an error.

    Warnings, also of a judge of its own answers, are given here, once, and join those of the agent.
    """
    from gatehouse.evals.judges.model import self_preference, unpinned  # noqa: PLC0415 beside its one use

    policy = agent.evals.unpinned_model
    names = unpinned(agent.evals.judge.models) if policy != "allow" else []
    message = 'judge "{}" names no fixed model: it has no date, version, tag or digest.'
    repair = "Its provider may change it unseen, and every grade with it: pin it, or set "
    repair += "`evals.unpinned_model: allow`."
    found = [_where(agent, "judge", name, message.format(name), repair) for name in names]
    own = self_preference(agent)
    warnings = [*([] if policy == "error" else found), *([Problem(own)] if own else [])]
    for warning in warnings:
        if warning not in agent.warnings:
            agent.warnings.append(warning)
            annotate("warning", warning.message, file=warning.path, line=warning.line)
    return found if policy == "error" else []


def _where(agent: Agent, key: str, name: str, message: str, repair: str) -> Problem:
    """The fault of a model at the value of `evals.KEY` that names it, else of the option of that name."""
    value: Any = agent.source.data["agent"].get("evals", {}).get(key)
    keys: tuple[str | int, ...] = ("evals", key)
    if isinstance(value, dict):
        value, keys = value["model"], (*keys, "model")
    if isinstance(value, list) and name in value:
        value, keys = name, (*keys, value.index(name))
    if value == name:
        return agent.problem(*keys, message=message, repair=repair, value=True)
    return Problem(f"--{key}: {message}", repair=repair)


def _metrics(gates: list[Gate]) -> str:
    names = ", ".join(f'"{gate.metric.name}"' for gate in gates)
    return f"metric {names} needs" if len(gates) == 1 else f"metrics {names} need"


JUDGEMENTS = "judgements.jsonl"
"""The file in which a judge's replies are kept, beside the agents' folders: the same is never asked twice."""
CACHE = "GATEHOUSE_CACHE"
"""Names another folder for it: on a runner one that no checkout and no artifact of results holds."""


def bench_for(agent: Agent, gates: list[Gate], out: Path | None) -> Bench | None:
    """Whom the gates ask, ready to be opened; None where no gate asks anybody.

    Raises UserError where a library of any gate is missing, and InfrastructureError where a key is.
    """
    if missing := missing_extras(gates):
        lacking = [gate for gate in gates if gate.metric.extra in missing]
        extras = ",".join(missing)
        message = f"{_metrics(lacking)} {' and '.join(missing.values())}, which is not installed."
        repair = f'Install "gatehouse-ci[{extras}] @ git+{SOURCE}" in the place of gatehouse-ci.'
        where = ("evals", "metrics", lacking[0].metric.name)
        raise UserError(agent.problem(*where, message=message, repair=repair))
    asked = [gate for gate in gates if gate.metric.judged]
    if not asked:
        return None
    from gatehouse.costs.prices import price  # noqa: PLC0415 only where there is something to judge
    from gatehouse.evals.judges.bench import Bench  # noqa: PLC0415 as above
    from gatehouse.evals.judges.cache import JudgementCache  # noqa: PLC0415 as above
    from gatehouse.evals.judges.model import JUDGE_KEY, resolve_models  # noqa: PLC0415 as above

    setting = agent.evals.judge
    mask_keys(os.environ.get(JUDGE_KEY, ""))
    needs = {model for gate in asked for model in gate.metric.models}
    models = resolve_models(setting, agent.evals.embeddings, needs=needs, environ=os.environ)
    bench = Bench(models, setting, price=lambda usage: price(usage, agent)[0], cache=None)
    keys = [os.environ.get(JUDGE_KEY, "").strip(), *(model.endpoint.key for model in models.everyone)]
    # On a runner other jobs may have written it: there only a signed judgement is one. Elsewhere it is the
    # user's own, and stays so whatever key they have today.
    secret = next(filter(None, keys), None) if in_actions() else None
    folder = Path(os.environ.get(CACHE) or out or OUT)
    bench.cache = JudgementCache(folder / JUDGEMENTS, secret, trusted=not in_actions())
    return bench


def mask_keys(secret: str) -> None:
    """Let the runner hide each of several keys: of the secret that holds them it knows the lines only."""
    lines = {line.strip() for line in secret.splitlines()}
    for key in keys_in(secret):
        if in_actions() and key not in lines and len(key) >= SHORTEST_KEY:
            print(command("add-mask", key), flush=True)  # noqa: T201 a workflow command


def missing_extras(gates: list[Gate]) -> dict[str, str]:
    """The extras that these gates need and that are not installed, each with the library that it brings."""
    from importlib.util import find_spec  # noqa: PLC0415 beside its one use

    extras = {m.extra: m.library or m.extra for m in (gate.metric for gate in gates) if m.extra}
    return {extra: library for extra, library in extras.items() if find_spec(library) is None}
