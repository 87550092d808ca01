"""The user's own metrics where the agent runs: each answer handed to them, what they say kept in the run."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from gatehouse.agent.protocol import OwnScore
from gatehouse.errors import GatehouseError
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.metrics.own import target_of
from gatehouse.evals.run_files import writing
from gatehouse.evals.worker_pool import StartError, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run, ToolCall
    from gatehouse.evals import dataset
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.run import Case, Target

FOLDER = "own-metrics"
"""Where the results' folder holds what the metrics print, a `worker.log` in a folder for each function."""
WHO = "the metric"
"""Whose processes these are, as their messages call it."""
MAX_REASON = 2000
"""Characters of a metric's reason that are kept."""


def own_gates(agent: Agent) -> list[Gate]:
    """The agent's own metrics, as every later stage knows them; a threshold may be the command line's.

    Raises UserError for what is wrong with any metric of the file, where one of them is of the user's own.
    """
    metrics = agent.evals.metrics
    if not any(":" in (setting.metric or "") for setting in metrics.values()):
        return []
    open_ones = {name: 1.0 for name, setting in metrics.items() if setting.threshold is None}
    return [gate for gate in gates_of(agent, open_ones) if target_of(gate.metric)]


def methods_of(gates: Sequence[Gate]) -> dict[str, Any]:
    """What `run.json` says of them, for a run that others are to resume or to score; {} without any."""
    return {"own_metrics": {gate.metric.name: gate.method for gate in gates}} if gates else {}


def pools_for(
    gates: Sequence[Gate], python: str, *, threads: int, environ: Mapping[str, str], cwd: Path, out_dir: Path
) -> dict[str, WorkerPool]:
    """Workers of the user's interpreter, for each function that computes one of the metrics.

    Raises InfrastructureError where there can be no folder for what they print.
    """
    pools = {}
    for target in dict.fromkeys(str(target_of(gate.metric)) for gate in gates):
        logs = out_dir / FOLDER / target.replace(":", ".")
        with writing(out_dir):
            logs.mkdir(parents=True, exist_ok=True)
        pools[target] = WorkerPool(
            target, python, threads=threads, environ=environ, cwd=cwd, out_dir=logs, who=WHO
        )
    return pools


class WithOwnMetrics:
    """A target whose every answer the user's own metrics score too, before it is written.

    What goes wrong with a metric is no fault of the answer: it leaves the metric alone without a value. An
    answer with a fault is not shown to them.
    """

    def __init__(self, target: Target, gates: Sequence[Gate], pools: Mapping[str, WorkerPool]) -> None:
        self.target, self.gates, self.pools = target, gates, pools
        self.tries = target.tries

    async def open(self) -> None:
        """Start everybody; raises StartError, naming the metric, where one cannot be loaded."""
        # The metrics first: an agent may be a dear thing to start.
        for target, pool in self.pools.items():
            try:
                await pool.open()
            except StartError as error:
                raise StartError(f"{self._names(target)}: {error}") from None
        await self.target.open()

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """The target's answer with the scores; each metric has the case's deadline again."""
        run = await self.target.ask(case, repeat, deadline_s)
        if run.error is not None:
            return run
        scores = await asyncio.gather(*(self._score(gate, case, run, deadline_s) for gate in self.gates))
        names = [gate.metric.name for gate in self.gates]
        return replace(run, own_scores=dict(zip(names, scores, strict=True)))

    async def close(self) -> None:
        """Leave nothing behind."""
        await asyncio.gather(*(pool.close() for pool in self.pools.values()), self.target.close())

    def notes(self) -> list[str]:
        """What the target has to say, and which metric's process died."""
        own = [(self._names(target), note) for target, pool in self.pools.items() for note in pool.notes()]
        return [*self.target.notes(), *(f"{names}: {note}" for names, note in own)]

    async def _score(self, gate: Gate, case: Case, run: Run, deadline_s: float) -> OwnScore:
        target = str(target_of(gate.metric))
        shown = {"case": _shown(cast("dataset.Case", case)), "run": _answer(run), "options": {**gate.options}}
        try:
            said = await self.pools[target].call(shown, deadline_s)
        except GatehouseError as error:  # its process does not start any more
            return OwnScore(None, str(error)[:MAX_REASON])
        except (ValueError, RecursionError) as error:
            return OwnScore(None, f"{target} cannot be shown the answer: {error}"[:MAX_REASON])
        if said.fault is not None:
            message = f"{target} failed ({said.fault.kind}): {said.fault.message}"
            return OwnScore(None, message[:MAX_REASON])
        return parse_score(target, said.value)

    def _names(self, target: str) -> str:
        names = [f'"{gate.metric.name}"' for gate in self.gates if target_of(gate.metric) == target]
        return f"metric{'s' * (len(names) > 1)} {', '.join(names)}"


def parse_score(target: str, value: Any) -> OwnScore:
    """What the function `target` returned, as a score: a number from 0 to 1, a bool, or {value, reason}."""
    reason: Any = ""
    if isinstance(value, dict) and "value" in value:
        value, reason = value["value"], value.get("reason")
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        shown = str(value) if isinstance(value, int | float) else type(value).__name__
        return OwnScore(None, f"{target} returned {shown[:50]}, which is no number from 0 to 1")
    if reason is not None and not isinstance(reason, str):
        return OwnScore(None, f"{target} returned a reason that is no text")
    return OwnScore(float(value), (reason or "")[:MAX_REASON])


def _shown(case: dataset.Case) -> dict[str, Any]:
    """What a metric sees of a case."""
    keys = ("id", "input", "expected", "contexts", "tags", "metadata")
    return {key: getattr(case, key) for key in keys} | {"expected_tools": _calls(case.expected_tools)}


def _answer(run: Run) -> dict[str, Any]:
    """What a metric sees of an answer."""
    return {
        "output": run.output,
        "contexts": run.contexts,
        "tool_calls": _calls(run.tool_calls),
        "usage": [asdict(usage) for usage in run.usage],
        "iterations": run.iterations,
        "latency_s": run.latency_s,
    }


def _calls(calls: Sequence[ToolCall] | None) -> list[dict[str, Any]] | None:
    """Tool calls as an agent reports them; `approved` is None in those of a golden set."""
    if calls is None:
        return None
    return [{"name": call.name, "arguments": call.arguments, "approved": call.approved} for call in calls]
