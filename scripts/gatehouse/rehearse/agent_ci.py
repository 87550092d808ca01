"""The jobs of the `agent-ci` workflow: plan, run and gate, and for a pull request its comment."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.jobs import inputs_of
from gatehouse.rehearse.runner import virtual_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.rehearse.runner import WorkflowRun

VERDICTS = "gatehouse-eval"
"""The artifact that the gate leaves."""

_installing = threading.Lock()


def play_agent_ci(run: WorkflowRun) -> dict[str, Any]:
    """Play the workflow's jobs; the scorecard, {} where none was written.

    As in the workflow, gate and comment are played whatever came before: `run.steps` says how each ended.
    """
    job = run.job("plan", checkout="commit")
    wanted = agents_wanted(job.workspace)
    planned = job.command("plan", {"GATEHOUSE_PLAN_AGENTS": wanted}).outputs
    for agent in json.loads(planned.get("agents", "[]")):
        _run(run, agent)
    scorecard = _gate(run, wanted)
    if run.environment["GITHUB_EVENT_NAME"] == "pull_request":
        job = run.job("comment")
        job.fetch(VERDICTS, job.workspace / ".gatehouse")
        token = {"GITHUB_TOKEN": run.machine.github.token}
        job.command("scorecard", {"GATEHOUSE_SCORECARD_TO": "comment"}, secret=token)
    return scorecard


def agents_wanted(folder: Path) -> str:
    """The input `agent` that the repository's own agent-ci.yml gives; "" where it says none."""
    file = folder / ".github/workflows/agent-ci.yml"
    return inputs_of(file.read_text("utf-8", "replace")).get("agent", "") if file.is_file() else ""


def agent_files(folder: Path) -> list[Path]:
    """The agent files of a repository, where its agent-ci.yml looks for them; a pattern may name none."""
    patterns = [line.strip() for line in agents_wanted(folder).splitlines() if line.strip()]
    found = set[Path]()
    for pattern in patterns or ("agents/*.yaml", "agents/*.yml"):
        with suppress(ValueError, NotImplementedError):  # an absolute one, which `plan` speaks about
            found |= {path for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def stand_in_verdicts(run: WorkflowRun) -> dict[str, Any]:
    """In place of the workflow: a passing verdict on each agent, which was not asked anything."""
    from gatehouse.agent.definition import load_agent  # noqa: PLC0415 not for a package without agents

    job = run.job("stand-in-verdicts", checkout="commit")
    for path in agent_files(job.workspace):
        agent = load_agent(str(path.relative_to(job.workspace)), job.workspace)
        verdict = {
            "schema": 1,
            "agent": {"name": agent.name, "version": agent.version, "digest": agent.digest},
            "dataset": None,
            "commit": run.sha,
            "state": "pass",
            "reason": "a stand-in: the rehearsal did not ask the agent anything",
            "metrics": [],
            "failing": 0,
            "failing_cases": [],
        }
        file = run.artifacts / VERDICTS / agent.name / "eval.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(verdict), encoding="utf-8")
    return {}


def _run(run: WorkflowRun, agent: Mapping[str, str]) -> None:
    job = run.job(f"run-{agent['name']}", checkout="commit")
    python = _install(job.workspace, run.machine.folder / "environments")
    job.command("run", {"GATEHOUSE_RUN_AGENTS": agent["path"], "GATEHOUSE_RUN_PYTHON": python})
    for name in ("run.json", "runs.jsonl"):
        job.hand_on(job.workspace / ".gatehouse" / agent["name"] / name, f"gatehouse-run-{agent['name']}-0")


def _gate(run: WorkflowRun, wanted: str) -> dict[str, Any]:
    job = run.job("gate", checkout="parents")
    for artifact in run.artifacts.glob("gatehouse-run-*"):
        job.fetch(artifact.name, job.temp / "gatehouse-runs" / artifact.name)
    runs = str(job.temp / "gatehouse-runs")
    job.command("eval-gate", {"GATEHOUSE_EVAL_GATE_AGENTS": wanted, "GATEHOUSE_EVAL_GATE_RUNS": runs})
    job.command("cost-gate", {})
    job.command("gate-changes", {"GATEHOUSE_GATE_CHANGES_AGENTS": wanted})
    job.command("scorecard", {"GATEHOUSE_SCORECARD_TO": "summary\nannotations"})
    job.hand_on(job.workspace / ".gatehouse", VERDICTS)
    card = job.workspace / ".gatehouse/scorecard.json"
    return json.loads(card.read_bytes()) if card.exists() else {}


def _install(checkout: Path, environments: Path) -> str:
    """Install the agent's dependencies as the workflow does by default; the path of its interpreter.

    What takes the same requirements shares one environment.
    """
    requirements = checkout / "requirements.txt"
    wanted = requirements.read_bytes() if requirements.exists() else b""
    environment = environments / hashlib.sha256(wanted).hexdigest()[:12]
    with _installing:
        if environment.exists():
            return str(environment / "bin/python")
        given = ("--requirement", str(requirements)) if wanted.strip() else ()
        return virtual_environment(environment, *given)
