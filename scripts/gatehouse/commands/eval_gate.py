"""`gatehouse eval-gate`: run, score and verdict in one step."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

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
from gatehouse.commands.run import run_agent, run_options
from gatehouse.commands.verdict import judge_folder
from gatehouse.errors import GatehouseError, InfrastructureError, State
from gatehouse.evals.results import runs_of
from gatehouse.evals.run_files import locked
from gatehouse.evals.score import write_scores
from gatehouse.github.runner import say

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.selection import Chosen


@click.command("eval-gate")
@gate_options
@run_options
def eval_gate(
    agents: tuple[str, ...],
    dataset: Chosen,
    threshold: dict[str, float] | None,
    judge: tuple[str, ...],
    embeddings: str | None,
    runs: tuple[str, ...],
    out: Path | None,
    **options: Any,
) -> None:
    """Run, score and verdict in one step.

    With --runs the agent is not run: runs made elsewhere are scored and judged. Writes runs.jsonl,
    scores.jsonl and eval.json. Exit code: 0 pass, 1 fail, 2 a file or option to mend, 3 not measured.
    """

    def work(agent: Agent, folder: Path, only: bool) -> tuple[State, str]:
        agent = agent_with_judge(agent, judge, embeddings)
        gates, subject = eval_gates(agent, threshold), subject_of(agent, dataset)
        bench = bench_for(agent, gates, out)  # what a judge lacks is said before the agent is asked
        failure: GatehouseError | None = None
        if not runs:
            try:
                run_agent(subject, folder, **options)
            except InfrastructureError as error:
                # What was answered before is still scored: a gate that fails already is not less red.
                failure = error
        files = runs_for(agent, runs, folder, only=only)
        if failure and not any(file.exists() and file.stat().st_size for file in files):
            raise failure
        if failure:
            say(str(failure), sys.stderr)
        with locked(folder):
            repeats, found = runs_of(subject, files)
            write_scores(subject, gates, repeats, found, files, folder, bench)
            return judge_folder(subject, gates, folder)

    finish(each_agent(agents, out, "eval.json", work))
