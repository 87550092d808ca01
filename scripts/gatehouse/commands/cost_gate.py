"""`gatehouse cost-gate`: what the runs cost, against what they may cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.commands._agents import agent_option
from gatehouse.commands._numbers import Dollars
from gatehouse.commands._shared import (
    dataset_option,
    each_agent,
    finish,
    out_option,
    runs_for,
    runs_option,
    subject_of,
)
from gatehouse.costs.budget import judge_costs
from gatehouse.costs.prices import add_up, price_table
from gatehouse.errors import InfrastructureError, State
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.results import OUT, SCHEMA, UNREADABLE, StaleError, read_json, runs_of, write_json
from gatehouse.evals.selection import Chosen, chosen_in
from gatehouse.evals.verdict import of_part
from gatehouse.github.runner import annotate, say
from gatehouse.report.scorecard import Card, terminal

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.evals.results import Subject


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
    dataset: tuple[str, ...],
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
        gated = Gated.read(folder / "eval.json")
        subject = subject_of(agent, Chosen(dataset) if dataset else gated.dataset)
        files = gated.runs if not runs else []
        repeats, found = runs_of(subject, files or runs_for(agent, runs, folder, only=only))
        limits = {gate.metric.name: gate.threshold for gate in gates_of(agent) if gate.metric.kind == "cost"}
        verdict = judge_costs(
            costs := add_up(agent, found),
            repeats=repeats,
            resolved=gated.resolved_of(subject),
            max_per_run=limits.get("cost_per_run") if max_per_run is None else max_per_run,
            max_per_resolved=limits.get("cost_per_resolved")
            if max_per_resolved is None
            else max_per_resolved,
            daily_usd=agent.budgets.daily_usd,
            requests_per_day=agent.budgets.requests_per_day,
        )
        verdict = replace(verdict, **of_part(verdict.state, verdict.reason, subject.golden.part))
        for warning in verdict.warnings:
            annotate("warning", f"{agent.name}: {warning}", file=agent.path)
        cost = {
            "schema": SCHEMA,
            **subject.header(),
            **verdict.to_json(),
            "by_model": costs.to_json(),
            "prices": asdict(price_table()) if costs.is_by_table else None,
        }
        write_json(folder / "cost.json", cost)
        say(terminal([Card(agent.name, None, cost, gates=("cost",))]))
        return verdict.state, verdict.reason

    finish(each_agent(agents or _gated_agents(out), out, "cost.json", work))


def _gated_agents(out: Path | None) -> tuple[str, ...]:
    """The agent files of which results lie under `--out`; raises InfrastructureError without any."""
    folders = [out] if out else sorted(OUT.glob("*/"))
    found = [_path_in(folder / "eval.json") or _path_in(folder / "run.json") for folder in folders]
    untold = [str(folder) for folder, path in zip(folders, found, strict=True) if not path]
    if untold or not found:
        raise InfrastructureError(
            f"Nothing was measured: no results lie in {', '.join(untold) or OUT}. Run the eval gate first."
        )
    return tuple(dict.fromkeys(path for path in found if path))


def _path_in(file: Path) -> str | None:
    try:
        path = read_json(file)["agent"]["path"]
    except (StaleError, KeyError, TypeError):
        return None
    return path if isinstance(path, str) else None


@dataclass(frozen=True, slots=True)
class Gated:
    """What `eval.json` hands on: golden set or part, the runs it took, and how many cases were resolved."""

    dataset: Chosen = field(default_factory=Chosen)
    runs: list[Path] = field(default_factory=list)
    resolved: int | None = None
    of: tuple[Any, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Gated:
        """From the file; empty where there is none; raises StaleError for one that is malformed."""
        if not path.exists():
            return cls()
        data = read_json(path)
        try:
            dataset, resolved, runs = data["dataset"], data.get("resolved"), data.get("runs", [])
            if not isinstance(runs, list):
                raise TypeError('"runs" is no list')
            return cls(
                dataset=chosen_in(dataset) if dataset else Chosen(),
                runs=[Path(file) for file in runs if Path(file).name],
                resolved=None if resolved is None or data["state"] == State.UNSCORED else int(resolved),
                of=(data["agent"]["digest"], dataset and dataset["digest"], data.get("commit")),
            )
        except UNREADABLE as error:
            raise StaleError(f"{path}: malformed ({error}). Run the eval gate again.") from None

    def resolved_of(self, subject: Subject) -> int | None:
        """How many cases were resolved, if it was this very agent, golden set and commit that was gated."""
        same = self.of == (subject.agent.digest, subject.golden.digest, subject.commit)
        return self.resolved if same else None
