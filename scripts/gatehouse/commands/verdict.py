"""`gatehouse verdict`: the third stage of the eval gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.commands._judge import agent_with_judge
from gatehouse.commands._shared import (
    each_agent,
    eval_gates,
    finish,
    gate_options,
    runs_for,
    subject_of,
)
from gatehouse.errors import State
from gatehouse.evals.assess import assess
from gatehouse.evals.results import Subject, write_json
from gatehouse.evals.score import read_scores
from gatehouse.github.runner import say
from gatehouse.report.scorecard import Card, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.selection import Chosen


def judge_folder(
    subject: Subject, gates: list[Gate], folder: Path, runs: Sequence[Path] = ()
) -> tuple[State, str]:
    """Write `eval.json` from the scores under `folder`, show it, and return its state and reason.

    `runs` are the files with the texts of the failing cases: without them, those that were scored.
    """
    scores = read_scores(subject, gates, folder)
    verdict = assess(subject, gates, scores, runs or scores.run_files, folder)
    write_json(folder / "eval.json", verdict)
    say(terminal([Card(subject.agent.name, verdict, None, gates=("eval",))]))
    return State(verdict["state"]), str(verdict["reason"])


@click.command
@gate_options
def verdict(
    agents: tuple[str, ...],
    dataset: Chosen,
    threshold: dict[str, float] | None,
    judge: tuple[str, ...],
    embeddings: str | None,
    runs: tuple[str, ...],
    out: Path | None,
) -> None:
    """Judge the scores: one threshold per metric.

    Reads scores.jsonl (and runs.jsonl for the texts of failing cases), writes eval.json. Exit code: 0 pass,
    1 fail, 2 a file or option to mend, 3 not measured.
    """

    def work(agent: Agent, folder: Path, only: bool) -> tuple[State, str]:
        agent = agent_with_judge(agent, judge, embeddings)
        gates, subject = eval_gates(agent, threshold), subject_of(agent, dataset)
        files = runs_for(agent, runs, folder, only=only) if runs else []
        return judge_folder(subject, gates, folder, files)

    finish(each_agent(agents, out, "eval.json", work))
