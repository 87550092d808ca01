"""`gatehouse metrics`: what can be measured, and what the metrics of an agent need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.agent.definition import load_agent
from gatehouse.commands._agents import agent_files, agents_named
from gatehouse.commands._judge import agent_with_judge, judge_options
from gatehouse.commands._shared import (
    threshold_option,
)
from gatehouse.errors import Exit, UserError
from gatehouse.evals.metrics import gates_of, registry
from gatehouse.github.runner import say, set_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import Problem
    from gatehouse.evals.metrics.base import Metric


@click.command
@agents_named("Agent file, or a pattern of them; repeatable. Default: none, which lists every metric.")
@threshold_option
@judge_options
def metrics(
    agents: tuple[str, ...],
    threshold: dict[str, float] | None,
    judge: tuple[str, ...],
    embeddings: str | None,
) -> None:
    """List every metric with what it needs.

    With --agent only those that the agents are held to. Outputs: `extras`, what gatehouse-ci has to be
    installed with for them, and `judged`, whether a judge is asked.
    """
    if not agents:
        say("\n".join(_lines(registry().values())))
        return
    listed: list[Metric] = []
    problems: list[Problem] = []
    try:
        files = agent_files(agents)
    except UserError as error:
        files, problems = [], error.problems
    for path in files:
        try:
            agent = agent_with_judge(load_agent(path), judge, embeddings)
            listed += [gate.metric for gate in gates_of(agent, threshold)]
        except UserError as error:  # what the other agents need is still to be known
            problems += error.problems
    extras = dict.fromkeys(metric.extra for metric in listed if metric.extra)
    set_outputs({"extras": " ".join(extras), "judged": any(metric.models for metric in listed)})
    say("\n".join(_lines(listed)))
    if problems:
        # Not as an annotation: in a workflow the gate itself will make one.
        say("\n".join(map(str, problems)))
        click.get_current_context().exit(Exit.INVALID)


def _lines(listed: Iterable[Metric]) -> Iterable[str]:
    for metric in {metric.name: metric for metric in listed}.values():
        sign = "at least" if metric.direction == "higher" else "at most"
        unit = f", in {metric.unit}" if metric.unit else ""
        scale = f", from {metric.low:g} to {metric.high:g}" if (metric.low, metric.high) != (0, 1) else ""
        yield f"{metric.name}  ({metric.kind}, {sign} the threshold{unit}{scale})"
        yield f"    {metric.summary}" + (f" Needs {metric.needs}." if metric.needs else "")
        if metric.models:
            extra = f"; gatehouse-ci[{metric.extra}]" if metric.extra else ""
            yield f"    Asks {' and '.join(metric.models)}: {metric.calls}{extra}."
        elif metric.extra:
            yield f"    Install gatehouse-ci[{metric.extra}]."
        if metric.options:
            yield f"    Options: {', '.join(metric.options)}."
