"""Metrics of what a run took: loops, tokens, seconds, errors, dollars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.evals.metrics.base import Metric, OptionError, Score, Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case


def _within(what: str, limit_of: Callable[[Agent], int | None], used: Callable[[Run], int | None]) -> Any:
    def scorer(_options: Mapping[str, Any], agent: Agent) -> Scorer:
        limit = limit_of(agent)
        if limit is None:
            raise OptionError(f"needs budgets.{what} in the agent file.")

        def score(_case: Case, run: Run) -> Score | None:
            n = used(run)
            if n is None:
                return None
            return Score(1.0) if n <= limit else Score(0.0, f"{n} is over {what} {limit}")

        return score

    return scorer


def tokens(run: Run) -> int | None:
    """All tokens of a run, in and out; None where the agent reports no usage."""
    return sum(u.input_tokens + u.output_tokens for u in run.usage) if run.usage else None


def _latency(_options: Mapping[str, Any], _agent: Agent) -> Scorer:
    return lambda _case, run: None if run.latency_s is None else Score(run.latency_s)


def _error_rate(_options: Mapping[str, Any], _agent: Agent) -> Scorer:
    # A run that the agent itself failed never gets here: it has the worst value.
    return lambda _case, _run: Score(0.0)


def _by_cost_gate(_options: Mapping[str, Any], _agent: Agent) -> Scorer:
    return lambda _case, _run: None


def _max_iterations(agent: Agent) -> int | None:
    return agent.budgets.max_iterations


def _max_tokens(agent: Agent) -> int | None:
    return agent.budgets.max_tokens_per_run


METRICS = [
    Metric(
        "max_iterations",
        "safety",
        "No run takes more loops than budgets.max_iterations.",
        _within("max_iterations", _max_iterations, lambda run: run.iterations),
        needs="budgets.max_iterations",
        of_answer=False,
        reports="`iterations`",
        implied=lambda agent: agent.budgets.max_iterations is not None,
    ),
    Metric(
        "max_tokens_per_run",
        "safety",
        "No run takes more tokens than budgets.max_tokens_per_run.",
        _within("max_tokens_per_run", _max_tokens, tokens),
        needs="budgets.max_tokens_per_run",
        of_answer=False,
        reports="`usage`",
        implied=lambda agent: agent.budgets.max_tokens_per_run is not None,
    ),
    Metric(
        "error_rate",
        "quality",
        "The share of runs that the agent itself failed: crash, hang, garbage.",
        _error_rate,
        of_answer=False,
        direction="lower",
    ),
    Metric(
        "latency_p50",
        "latency",
        "Half of the runs answer within this many seconds.",
        _latency,
        direction="lower",
        aggregate="p50",
        unit="s",
    ),
    Metric(
        "latency_p95",
        "latency",
        "95 % of the runs answer within this many seconds.",
        _latency,
        direction="lower",
        aggregate="p95",
        unit="s",
    ),
    Metric(
        "cost_per_run",
        "cost",
        "Mean dollars of a run; judged by the cost gate.",
        _by_cost_gate,
        direction="lower",
        unit="$",
    ),
    Metric(
        "cost_per_resolved",
        "cost",
        "Dollars for each resolved case; judged by the cost gate.",
        _by_cost_gate,
        direction="lower",
        unit="$",
    ),
]
