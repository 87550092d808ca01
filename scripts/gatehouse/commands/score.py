"""`gatehouse score`: the second stage of the eval gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.commands._judge import agent_with_judge, bench_for
from gatehouse.commands._shared import (
    each_agent,
    eval_gates,
    finish,
    gate_options,
    runs_for,
    subject_of,
)
from gatehouse.errors import State
from gatehouse.evals.results import runs_of
from gatehouse.evals.run_files import locked
from gatehouse.evals.score import write_scores
from gatehouse.github.runner import say

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.selection import Chosen


@click.command
@gate_options
def score(
    agents: tuple[str, ...],
    dataset: Chosen,
    threshold: dict[str, float] | None,
    judge: tuple[str, ...],
    embeddings: str | None,
    runs: tuple[str, ...],
    out: Path | None,
) -> None:
    """Score the runs with every metric.

    Reads runs.jsonl, asks the judge where a metric has one, writes scores.jsonl beside it. The thresholds are
    the next stage's.
    """

    def work(agent: Agent, folder: Path, only: bool) -> tuple[State, str]:
        agent = agent_with_judge(agent, judge, embeddings)
        gates, subject = eval_gates(agent, threshold), subject_of(agent, dataset)
        bench = bench_for(agent, gates, out)
        files = runs_for(agent, runs, folder, only=only)
        with locked(folder):
            repeats, found = runs_of(subject, files)
            write_scores(subject, gates, repeats, found, files, folder, bench)
        say(f"{agent.name}: scored by {', '.join(gate.metric.name for gate in gates)}.")
        (folder / "eval.json").unlink(missing_ok=True)  # scored, and not judged yet
        return State.PASS, "scored"

    finish(each_agent(agents, out, "eval.json", work))
