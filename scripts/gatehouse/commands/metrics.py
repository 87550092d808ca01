"""`gatehouse metrics`: what can be measured, and what the metrics of an agent need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.agent.definition import load_agent
from gatehouse.commands._judge import agent_with_judge, judge_options
from gatehouse.commands._shared import agent_files, agent_option, eval_gates, threshold_option
from gatehouse.errors import UserError
from gatehouse.evals.metrics import registry
from gatehouse.github.runner import say, set_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.evals.metrics.base import Metric


@click.command
@agent_option
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
        listed = list(registry().values())
    else:
        try:
            listed = [
                gate.metric
                for path in agent_files(agents)
                for gate in eval_gates(agent_with_judge(load_agent(path), judge, embeddings), threshold)
            ]
        except UserError as error:
            # The gate itself annotates it; here it would be said twice.
            say(str(error))
            click.get_current_context().exit(error.code)
        asked = [metric for metric in listed if metric.models]
        extras = dict.fromkeys(metric.extra for metric in listed if metric.extra)
        set_outputs({"extras": " ".join(extras), "judged": bool(asked)})
    say("\n".join(_lines(listed)))


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
