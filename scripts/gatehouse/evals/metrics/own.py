"""Metrics of the user's own code: scored where the agent runs, read from its runs everywhere else.

Nothing here imports that code: a gate that holds a write token or a key reads what it said as data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent.digest import canonical, code_files, files_digest
from gatehouse.evals.metrics.base import Metric, OptionError, Score, Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.errors import Problem
    from gatehouse.evals.dataset import Case

TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
NOT_SCORED = "not scored where the agent ran: run again"


class UnscoredError(Exception):
    """No value came of a metric for one run; the message says why."""


def own_metric(agent: Agent, name: str, target: str, kind: Literal["quality", "safety"]) -> Metric:
    """The metric `name` that the function `target` (module:function) computes.

    Its version is the digest of its code. Where no file of the repository is that code, the agent's warnings
    say so.
    """

    def scorer(options: Mapping[str, Any], _agent: Agent) -> Scorer:
        if not TARGET.fullmatch(target):
            raise OptionError(f'"{target}" is not module:function.')
        try:
            canonical(dict(options))
        except (TypeError, ValueError) as error:
            raise OptionError(f"its options are not JSON ({error}).") from None

        def score(_case: Case, run: Run) -> Score:
            if run.error is not None:
                return Score(0.0)  # a fault of the agent: it counts as the worst value
            found = run.own_scores.get(name)
            if found is None or found.value is None:
                raise UnscoredError(found.reason if found else NOT_SCORED)
            return Score(found.value, found.reason)

        return score

    warning = uncovered(agent, name, target)
    if warning and warning not in agent.warnings:
        agent.warnings.append(warning)
    version = files_digest(agent.root, _code(agent, target))
    return Metric(name, kind, f"Your own {target}.", scorer, version=version, known_as=target)


def target_of(metric: Metric) -> str | None:
    """The function that computes a metric of the user's own; None for any other metric."""
    return metric.known_as if ":" in metric.known_as else None


def uncovered(agent: Agent, name: str, target: str) -> Problem | None:
    """That no file of the repository is the code of the metric; None where there is one."""
    if _code(agent, target):
        return None
    return agent.problem(
        *("evals", "metrics", name, "metric"),
        message=f'code of metric "{name}" ({target}) is neither in the repository\'s root nor in its src.',
        repair="No digest can cover it: older runs are not told from newer ones after a change to this code.",
        value=True,
    )


def _code(agent: Agent, target: str) -> list[str]:
    return code_files(agent.root, target) if TARGET.fullmatch(target) else []
