"""One run under one metric: what a test of a metric that asks no judge needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gatehouse.agent.protocol import Run, ToolCall
from gatehouse.errors import UserError
from gatehouse.evals.dataset import Case, to_case
from gatehouse.evals.metrics import gates_of
from tests.support.projects import agent_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.metrics.base import Score


class Scored(Protocol):
    """One metric, ready to score an output."""

    def __call__(self, output: Any = "", calls: list[ToolCall] | None = None, /, **keys: Any) -> Score | None:
        """The score of a run with this output and these calls, of the case with these keys."""


def held(folder: Path, name: str, agent: dict[str, Any] | None = None, **options: Any) -> Gate:
    """The gate of one metric with these options, of an agent file with these keys."""
    evals = {"dataset": "golden.jsonl", "metrics": {name: {"threshold": 1} | options}}
    folder.mkdir(exist_ok=True)
    gates = gates_of(agent_of(folder, evals=evals, **(agent or {})))
    return next(gate for gate in gates if gate.metric.name == name)


def scorer(folder: Path, name: str, agent: dict[str, Any] | None = None, **options: Any) -> Scored:
    """The function of one metric; its score of an output is None where it does not apply."""
    gate = held(folder, name, agent, **options)

    def score(output: Any = "", calls: list[ToolCall] | None = None, /, **keys: Any) -> Score | None:
        assert gate.score is not None
        run = Run("c0", "d0", 0, output, tool_calls=calls)
        return gate.score(case(**keys), run)

    return score


def case(**keys: Any) -> Case:
    """The case of a golden set's line."""
    return to_case({"id": "c0", "input": "question"} | keys, 1, "golden.jsonl")


def fault(folder: Path, name: str, agent: dict[str, Any] | None = None, **options: Any) -> str:
    """What is said of a metric with these options, which are wrong."""
    try:
        held(folder, name, agent, **options)
    except UserError as error:
        return str(error)
    return ""
