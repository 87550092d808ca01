"""Results that a pull request, a kill or an older state left: none of them is a verdict on this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.commands._shared import eval_gates
from gatehouse.errors import Exit, UserError
from gatehouse.evals.run_files import locked
from tests.support.projects import call, cases, read, write_golden, write_project

if TYPE_CHECKING:
    from pathlib import Path

OUT = ".gatehouse/echo"
SHA = "c" * 40
RUNNER = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": SHA, "GITHUB_REPOSITORY": "acme/x", "GITHUB_RUN_ID": "1"}


def git(folder: Path, *arguments: str) -> None:
    """Git in a repository of the test's own."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def two_agents(folder: Path) -> None:
    """Agents `echo` and `other`, whose runs lie in `artifacts/`."""
    write_project(folder)
    write_project(folder, name="other", model={"provider": "ollama", "name": "llama3.1:70b"})
    for name in ("echo", "other"):
        call(folder, "run", "--agent", f"agents/{name}.yaml", "--out", f"artifacts/gatehouse-run-{name}-0")


@pytest.mark.parametrize("stage", ["eval-gate", "run", "score", "verdict", "cost-gate", "scorecard"])
def test_committed_results_are_refused(tmp_path: Path, stage: str) -> None:
    """Where results are checked in, no stage reads or writes there: exit 2, and how to take them out."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    git(tmp_path, "init")
    git(tmp_path, "add", "--all", "--force")
    git(tmp_path, "commit", "-m", "With results")
    before = {p: p.read_bytes() for p in (tmp_path / ".gatehouse").rglob("*") if p.is_file()}
    done = call(tmp_path, stage)
    assert done.code == Exit.INVALID
    assert "is committed" in done.err
    assert "git rm -r --cached .gatehouse" in done.err
    assert {p: p.read_bytes() for p in (tmp_path / ".gatehouse").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("stage", [("score",), ("eval-gate", "--runs", ".gatehouse/echo/runs.jsonl")])
def test_scoring_where_another_run_writes_is_refused(tmp_path: Path, stage: tuple[str, ...]) -> None:
    """While a folder is held, whoever scores into it is told so, and the scores there stay as they are."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    before = {name: (tmp_path / OUT / name).read_bytes() for name in ("scores.json", "scores.jsonl")}
    with locked(tmp_path / OUT):
        done = call(tmp_path, *stage)
    assert done.code == Exit.INVALID
    assert "another run writes its results here" in done.err
    assert {name: (tmp_path / OUT / name).read_bytes() for name in before} == before
    assert call(tmp_path, *stage).code == Exit.PASS


@pytest.mark.parametrize("stage", ["score", "eval-gate"])
def test_whoever_scores_holds_the_folder(tmp_path: Path, monkeypatch: Any, stage: str) -> None:
    """From the reading of the runs to the last word nobody else gets in."""
    write_project(tmp_path)
    call(tmp_path, "run")
    module = f"gatehouse.commands.{stage.replace('-', '_')}"
    held = []

    def watched(name: str) -> None:
        original = getattr(import_module(module), name)

        def step(*arguments: Any) -> Any:
            with pytest.raises(UserError, match="another run writes"), locked(tmp_path / OUT):
                pass
            held.append(name)
            return original(*arguments)

        monkeypatch.setattr(f"{module}.{name}", step)

    steps = ["runs_of", "write_scores"] + ["judge_folder"] * (stage == "eval-gate")
    for name in steps:
        watched(name)
    assert call(tmp_path, stage).code == Exit.PASS
    assert held == steps


def test_a_link_in_the_place_of_results_is_refused(tmp_path: Path) -> None:
    """A committed link named like the folder of results leads nothing out of the repository."""
    outside = tmp_path / "outside"
    outside.mkdir()
    write_project(tmp_path / "repository")
    git(tmp_path / "repository", "init")
    (tmp_path / "repository/.gatehouse").symlink_to(outside)
    git(tmp_path / "repository", "add", "--all")
    assert call(tmp_path / "repository", "eval-gate").code == Exit.INVALID
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_a_verdict_is_replaced(tmp_path: Path) -> None:
    """What is written never goes through a link that waits under its name, or its temporary one."""
    write_project(tmp_path)
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / OUT).mkdir(parents=True)
    verdicts = ("eval.json", "eval.partial", "run.json", "run.partial")
    for name in (*verdicts, "runs.jsonl", "scores.json", "scores.jsonl", "scores.jsonl.partial"):
        (tmp_path / OUT / name).symlink_to(target)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    assert target.read_text() == "kept"


@pytest.mark.parametrize("commit", [None, "d" * 40])
def test_runs_of_no_commit_or_another_do_not_count(tmp_path: Path, commit: str | None) -> None:
    """On a runner the commit is known: runs that name none, or another one, leave the gate unscored."""
    write_project(tmp_path)
    call(tmp_path, "run", "--out", "artifacts/x")
    info = read(tmp_path / "artifacts/x/run.json") | {"commit": commit}
    (tmp_path / "artifacts/x/run.json").write_text(json.dumps(info))
    done = call(tmp_path, "eval-gate", "--runs", "artifacts", env=RUNNER)
    assert done.code == Exit.UNSCORED
    assert "is of another commit" in done.err


def test_a_verdict_of_no_commit_is_not_shown_as_one(tmp_path: Path) -> None:
    """Verdict files without a commit, or of no agent's digest, are no pass on the scorecard of a runner."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == call(tmp_path, "cost-gate").code == Exit.PASS
    (tmp_path / "event.json").write_text("{}")
    event = {"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "GITHUB_EVENT_NAME": "push"}
    server = {"GITHUB_SERVER_URL": "http://127.0.0.1:1", "GITHUB_API_URL": "http://127.0.0.1:1"}
    env = RUNNER | event | server | {"GITHUB_REF": "refs/heads/x", "GITHUB_RUN_ATTEMPT": "1"}
    card = call(tmp_path, "scorecard", env=env)
    assert card.out.startswith("⚠️ echo was not measured: "), card
    for name in ("eval.json", "cost.json"):
        data = read(tmp_path / OUT / name)
        (tmp_path / OUT / name).write_text(json.dumps(data | {"agent": data["agent"] | {"digest": None}}))
    assert call(tmp_path, "scorecard").out.startswith("⚠️ echo was not measured: ")


def test_an_agent_that_breaks_the_gate_is_not_forgotten(tmp_path: Path) -> None:
    """Of two agents, one whose runs cannot be read stays on the scorecard, and in the cost gate."""
    two_agents(tmp_path)
    runs = tmp_path / "artifacts/gatehouse-run-other-0/runs.jsonl"
    lines = [json.loads(line) | {"latency_s": 10**400} for line in runs.read_text().splitlines()]
    runs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert call(tmp_path, "eval-gate", "--runs", "artifacts").code == Exit.UNSCORED
    assert call(tmp_path, "cost-gate").code == Exit.UNSCORED
    card = call(tmp_path, "scorecard").out
    assert card.startswith("⚠️ 1 of 2 agents: other was not measured: ")


def test_a_gate_that_is_broken_off_says_so_of_every_agent(tmp_path: Path, monkeypatch: Any) -> None:
    """A gate that ends at its first agent, as a kill would, leaves no agent without a word."""
    two_agents(tmp_path)

    def killed(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gatehouse.commands.eval_gate.write_scores", killed)
    assert call(tmp_path, "eval-gate", "--runs", "artifacts").code == 130
    for name in ("echo", "other"):
        verdict = read(tmp_path / f".gatehouse/{name}/eval.json")
        assert (verdict["state"], verdict["reason"]) == ("unscored", "the gate was broken off")
    assert call(tmp_path, "scorecard").out.startswith("⚠️ 2 of 2 agents: ")


def test_a_fault_of_ours_is_one_agents(tmp_path: Path, monkeypatch: Any) -> None:
    """An exception that nobody foresaw leaves its agent unscored, and the others judged."""
    two_agents(tmp_path)

    def broken(agent: Any, *arguments: Any, **options: Any) -> Any:
        if agent.name == "echo":
            raise ZeroDivisionError("nobody foresaw it")
        return original(agent, *arguments, **options)

    original = eval_gates
    monkeypatch.setattr("gatehouse.commands.eval_gate.eval_gates", broken)
    assert call(tmp_path, "eval-gate", "--runs", "artifacts").code == Exit.UNSCORED
    assert "ZeroDivisionError" in read(tmp_path / ".gatehouse/echo/eval.json")["reason"]
    assert read(tmp_path / ".gatehouse/other/eval.json")["state"] == "pass"


def test_a_critical_case_that_no_answer_was_compared_with_has_not_passed(tmp_path: Path) -> None:
    """Metrics of what an answer took do not say that a critical case was answered well."""
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.5, "error_rate": 0.5}}
    write_project(tmp_path, evals=evals, budgets={"max_iterations": 3})
    write_golden(tmp_path, [*cases(3), {"id": "c", "input": "?", "critical": True}])
    assert call(tmp_path, "eval-gate").code == Exit.UNSCORED
    assert "critical_cases: 1 of 1 unscored" in read(tmp_path / OUT / "eval.json")["reason"]
    assert read(tmp_path / OUT / "eval.json")["resolved"] == 3


def test_what_an_installation_generates_does_not_change_the_agent(tmp_path: Path) -> None:
    """On a runner only tracked files are the agent: the run job installs, the gate job does not."""
    write_project(tmp_path)
    git(tmp_path, "init")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "-m", "An agent")
    clean = tmp_path.parent / f"{tmp_path.name}-gate"
    shutil.copytree(tmp_path, clean)
    (tmp_path / "_version.py").write_text("version = 1\n")
    (tmp_path / "requirements-frozen.txt").write_text("x==1\n")
    assert call(tmp_path, "run", "--out", str(clean / "artifacts/x"), env=RUNNER).code == Exit.PASS
    assert call(clean, "eval-gate", "--runs", "artifacts", env=RUNNER).code == Exit.PASS
    assert os.path.exists(clean / OUT / "eval.json")  # noqa: PTH110
