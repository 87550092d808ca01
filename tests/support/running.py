"""Runs of small agents, for tests: a function's source, some inputs, and what came of each."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from gatehouse.agent.interpreter import worker_environment
from gatehouse.agent.protocol import Run, RunInfo, read_runs
from gatehouse.evals.dataset import Case
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from gatehouse.evals.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def cases_of(inputs: Sequence[Any]) -> list[Case]:
    """A case for each input: c0, c1, ..."""
    return [Case(id=f"c{i}", line=i + 1, input=value, digest=f"d{i}") for i, value in enumerate(inputs)]


def info_of(count: int, **changed: Any) -> RunInfo:
    """What a run of `count` cases says of itself."""
    fields: dict[str, Any] = {
        "agent": {"name": "a", "version": "1", "digest": "sha256:a"},
        "dataset": {"path": "golden.jsonl", "digest": "sha256:d", "cases": count},
    }
    return RunInfo(**(fields | changed))


def pool_of(folder: Path, target: str = "agent:answer", threads: int = 4) -> WorkerPool:
    """Workers of this interpreter for a function in `folder`, whose results go to `folder/out`."""
    (folder / "out").mkdir(exist_ok=True)
    environ = worker_environment(os.environ)
    environ.pop("PYTHONUNBUFFERED", None)  # prints are to be as late as on most machines
    return WorkerPool(
        target,
        sys.executable,
        threads=threads,
        environ=environ,
        cwd=folder,
        out_dir=folder / "out",
    )


def ask_function(
    folder: Path, source: str, inputs: Sequence[Any], *, concurrency: int = 4, deadline_s: float = 30.0
) -> tuple[RunSummary, dict[str, Run]]:
    """Ask `answer` of `source` every input; the summary, and the runs by case id."""
    (folder / "agent.py").write_text(source)
    options = RunOptions(concurrency=concurrency, case_deadline_s=deadline_s)
    pool = pool_of(folder, threads=concurrency)
    summary = run_cases(pool, cases_of(inputs), folder / "out", info_of(len(inputs)), options)
    runs = list(read_runs(folder / "out" / "runs.jsonl"))
    assert len({run.id for run in runs}) == len(runs)
    return summary, {run.id: run for run in runs}
