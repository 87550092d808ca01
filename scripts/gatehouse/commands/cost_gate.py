"""`gatehouse cost-gate`: what the runs cost, against what they may cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.commands._shared import (
    agent_option,
    dataset_option,
    each_agent,
    finish,
    out_option,
    runs_for,
    runs_option,
    subject_of,
)
from gatehouse.costs.budget import judge_costs
from gatehouse.costs.prices import add_up
from gatehouse.errors import InfrastructureError, State
from gatehouse.evals.assess import header
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.results import OUT, StaleError, read_json, runs_of, write_json
from gatehouse.github.runner import say
from gatehouse.report.scorecard import Card, terminal

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent


class Dollars(click.ParamType[float]):
    """An amount of US dollars: finite and not negative (click's float takes "nan")."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The amount; a click error for anything else."""
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not 0 <= amount < float("inf"):
            self.fail(f"{value!r} is not an amount of US dollars, such as 0.05", param, ctx)
        return amount


@click.command("cost-gate")
@agent_option
@dataset_option
@runs_option
@out_option
@click.option(
    "--max-per-run", type=Dollars(), metavar="USD", help="Limit of the mean cost of a run, in US dollars."
)
@click.option(
    "--max-per-resolved", type=Dollars(), metavar="USD", help="Limit of the cost per resolved case."
)
def cost_gate(
    agents: tuple[str, ...],
    dataset: str | None,
    runs: tuple[str, ...],
    out: Path | None,
    max_per_run: float | None,
    max_per_resolved: float | None,
) -> None:
    """Price the runs and hold them against their budget.

    Reads runs.jsonl and eval.json, writes cost.json. Without --agent every agent under .gatehouse/ is priced,
    with the golden set and the runs that its eval gate took. Exit codes as those of the eval gate.
    """

    def work(agent: Agent, folder: Path, only: bool) -> tuple[State, str]:
        gated = _eval_of(folder)
        subject = subject_of(agent, dataset or _dataset_of(gated))
        files = [Path(f) for f in gated.get("runs", [])] if gated and not runs else []
        repeats, found = runs_of(subject, files or runs_for(agent, runs, folder, only=only))
        limits = {gate.metric.name: gate.threshold for gate in gates_of(agent) if gate.metric.kind == "cost"}
        verdict = judge_costs(
            costs := add_up(agent, found),
            repeats=repeats,
            resolved=_resolved(gated, agent),
            max_per_run=limits.get("cost_per_run") if max_per_run is None else max_per_run,
            max_per_resolved=limits.get("cost_per_resolved")
            if max_per_resolved is None
            else max_per_resolved,
        )
        cost = header(subject) | verdict.to_json() | {"by_model": costs.to_json()}
        write_json(folder / "cost.json", cost)
        say(terminal([Card(agent.name, None, cost, gates=("cost",))]))
        return verdict.state, verdict.reason

    finish(each_agent(agents or _gated_agents(out), out, "cost.json", work))


def _gated_agents(out: Path | None) -> tuple[str, ...]:
    """The agent files of which results lie under `--out`."""
    folders = [out] if out else sorted(OUT.glob("*/"))
    found = []
    for folder in folders:
        for file in ("eval.json", "run.json"):
            path = _path_in(folder / file)
            if path:
                found.append(path)
                break
    if not found:
        raise InfrastructureError(
            f"Nothing was measured: no results lie under {out or OUT}/. Run the eval gate first."
        )
    return tuple(dict.fromkeys(found))


def _path_in(file: Path) -> str | None:
    try:
        path = read_json(file)["agent"]["path"]
    except (StaleError, KeyError, TypeError):
        return None
    return path if isinstance(path, str) else None


def _eval_of(folder: Path) -> dict[str, Any]:
    return read_json(folder / "eval.json") if (folder / "eval.json").exists() else {}


def _dataset_of(gated: dict[str, Any]) -> str | None:
    dataset = gated.get("dataset")
    return str(dataset["path"]) if dataset else None


def _resolved(gated: dict[str, Any], agent: Agent) -> int | None:
    """How many cases the eval gate of this very agent found resolved."""
    same = gated.get("agent", {}).get("digest") == agent.digest
    return (
        int(gated["resolved"]) if same and "resolved" in gated and gated["state"] != State.UNSCORED else None
    )
