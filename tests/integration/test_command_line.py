"""The commands as people and workflows type them: one after the other, twice, for several agents."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatehouse.errors import Exit
from gatehouse.rehearse.model import StandInModel
from tests.support.projects import call, cases, gatehouse, read, write_golden, write_project

EXAMPLE = Path(__file__).parents[2] / "examples" / "refund-triage"
OUT = ".gatehouse/echo"
UNDERSCORE = """
import re
def underscore(word):
    return re.sub(r"([a-z0-9])([A-Z])", r"\\1_\\2", word).replace("-", "_").lower()
"""
STAMPS = {"latency_s", "runs"}
"""What differs between two runs of the same."""


def same(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict without what a clock says."""
    return {key: value for key, value in verdict.items() if key not in STAMPS}


def test_the_three_lines_of_the_article(tmp_path: Path) -> None:
    """The playbook's commands work as they are written there, on the example and its model over HTTP."""
    folder = tmp_path / "refund-triage"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("outbox", "__pycache__", ".gatehouse"))
    # That the example's own environment works has its own test: here a word of its one package is enough.
    (folder / "inflection.py").write_text(UNDERSCORE)
    agent, dataset = "agents/refund-triage.v3.yaml", "evals/golden/refund-triage.jsonl"
    with StandInModel() as model:
        # An interpreter with the example's other package, PyYAML: the one that runs this test.
        env = {"OLLAMA_BASE_URL": model.url, "VIRTUAL_ENV": sys.prefix}
        gate = gatehouse(
            folder,
            *("eval-gate", "--agent", agent, "--dataset", dataset, "--threshold", "exact_match=0.85"),
            env=env,
        )
    assert gate.code == Exit.PASS, gate
    assert gate.out.splitlines()[1].startswith("✅ refund-triage passes: ")
    cost = gatehouse(folder, "cost-gate", "--max-per-run", "0.05")
    assert cost.code == Exit.PASS, cost
    assert "is at most $0.05 (largest $" in cost.out
    card = gatehouse(folder, "scorecard")
    assert card.code == Exit.PASS, card
    assert card.out.startswith("✅ refund-triage passes: ")
    assert (
        (folder / ".gatehouse/scorecard.md").read_text().startswith("### ✅ Gatehouse: refund-triage passes")
    )
    scorecard = read(folder / ".gatehouse/scorecard.json")
    assert [agent["name"] for agent in scorecard["agents"]] == ["refund-triage"]
    assert scorecard["state"] == "pass"


def test_stages_are_the_gate(tmp_path: Path) -> None:
    """`run`, `score` and `verdict` one by one come to the verdict of `eval-gate`, and to its exit code."""
    write_project(tmp_path, [*cases(4), {"id": "wrong", "input": "a", "expected": "b"}])
    whole = call(tmp_path, "eval-gate", "--threshold", "exact_match=0.9")
    assert whole.code == Exit.FAIL
    at_once = read(tmp_path / OUT / "eval.json")
    shutil.rmtree(tmp_path / ".gatehouse")
    assert call(tmp_path, "run").code == Exit.PASS
    assert not (tmp_path / OUT / "eval.json").exists()
    assert call(tmp_path, "score", "--threshold", "exact_match=0.9").code == Exit.PASS
    assert not (tmp_path / OUT / "eval.json").exists()
    assert call(tmp_path, "verdict", "--threshold", "exact_match=0.9").code == Exit.FAIL
    assert same(read(tmp_path / OUT / "eval.json")) == same(at_once)


def test_runs_from_elsewhere(tmp_path: Path) -> None:
    """Runs that another job made are scored, judged and priced where they lie, without running the agent."""
    write_project(tmp_path, [*cases(4), {"id": "wrong", "input": "a", "expected": "b"}])
    assert call(tmp_path, "run", "--out", "artifacts/gatehouse-run-echo-0").code == Exit.PASS
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    assert call(tmp_path, "eval-gate", "--runs", "artifacts").code == Exit.PASS
    at_once = read(tmp_path / OUT / "eval.json")
    assert at_once["runs"] == ["artifacts/gatehouse-run-echo-0/runs.jsonl"]
    assert at_once["failing_cases"][0]["got"] == "a"
    assert call(tmp_path, "cost-gate", "--max-per-run", "1").code == Exit.PASS
    shutil.rmtree(tmp_path / ".gatehouse")
    assert call(tmp_path, "score", "--runs", "artifacts").code == Exit.PASS
    assert call(tmp_path, "verdict").code == Exit.PASS
    assert same(read(tmp_path / OUT / "eval.json")) == same(at_once)


def test_two_gates_in_a_row(tmp_path: Path) -> None:
    """A second gate runs anew and comes to the same; after a change it comes to another verdict."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    first = read(tmp_path / OUT / "eval.json")
    assert call(tmp_path, "cost-gate").code == Exit.PASS
    second = call(tmp_path, "eval-gate")
    assert second.code == Exit.PASS
    assert "5 answers" in second.out
    assert "kept" not in second.out
    assert same(read(tmp_path / OUT / "eval.json")) == same(first)
    assert not (tmp_path / OUT / "cost.json").exists()
    (tmp_path / "agent.py").write_text("def answer(text):\n    return 'no'\n")
    assert call(tmp_path, "eval-gate").code == Exit.FAIL
    assert call(tmp_path, "scorecard").out.startswith(
        "❌ echo fails: exact_match: 0 is below 0.8 (5 of 5 cases fail)"
    )


def test_repeats(tmp_path: Path) -> None:
    """Each case is asked three times and counts once, by the mean of its answers."""
    code = (
        "from collections import Counter\n"
        "seen = Counter()\n"
        "def answer(text):\n"
        "    seen[text] += 1\n"
        "    return 'wrong' if text == 'a0' and seen[text] == 2 else text\n"
    )
    write_project(tmp_path, code=code)
    done = call(tmp_path, "eval-gate", "--repeats", "3", "--concurrency", "1")
    assert done.code == Exit.PASS, done
    verdict = read(tmp_path / OUT / "eval.json")
    row = verdict["metrics"][0]
    assert (row["n"], row["value"]) == (5, pytest.approx(14 / 15))
    assert (verdict["repeats"], verdict["resolved"]) == (3, 4)
    assert [case["got"] for case in verdict["failing_cases"]] == ["wrong"]
    assert len((tmp_path / OUT / "runs.jsonl").read_text().splitlines()) == 15


def test_several_agents(tmp_path: Path) -> None:
    """Without `--agent` every agent file is gated, in a folder of its own; one failure is the exit code."""
    write_project(tmp_path)
    write_project(
        tmp_path,
        name="strict",
        evals={"dataset": "golden.jsonl", "metrics": {"regex": {"threshold": 1, "pattern": "b"}}},
    )
    done = call(tmp_path, "eval-gate")
    assert done.code == Exit.FAIL
    assert read(tmp_path / ".gatehouse/echo/eval.json")["state"] == "pass"
    assert read(tmp_path / ".gatehouse/strict/eval.json")["state"] == "fail"
    assert call(tmp_path, "cost-gate").code == Exit.PASS
    card = call(tmp_path, "scorecard")
    assert card.out.startswith("❌ 1 of 2 agents: strict fails: regex: 0 is below 1 (5 of 5 cases fail)")
    assert call(tmp_path, "eval-gate", "--agent", "agents/echo.yaml").code == Exit.PASS
    assert (
        call(tmp_path, "eval-gate", "--agent", "agents/e*.yaml", "--agent", "agents/echo.yaml").code
        == Exit.PASS
    )


def test_runs_of_several_agents_lie_together(tmp_path: Path) -> None:
    """Of runs that were handed over together each agent takes its own, by what `run.json` says."""
    write_project(tmp_path)
    write_project(tmp_path, name="other", model={"provider": "ollama", "name": "llama3.1:70b"})
    for name in ("echo", "other"):
        out = f"artifacts/gatehouse-run-{name}-0"
        assert call(tmp_path, "run", "--agent", f"agents/{name}.yaml", "--out", out).code == Exit.PASS
    assert call(tmp_path, "eval-gate", "--runs", "artifacts").code == Exit.PASS
    assert read(tmp_path / ".gatehouse/other/eval.json")["runs"] == [
        "artifacts/gatehouse-run-other-0/runs.jsonl"
    ]
    alone = ("eval-gate", "--agent", "agents/echo.yaml", "--runs")
    assert call(tmp_path, *alone, "artifacts").code == Exit.PASS
    others = call(tmp_path, *alone, "artifacts/gatehouse-run-other-0")
    assert others.code == Exit.UNSCORED
    assert "another agent" in others.err


def test_limits_of_the_agent_file_and_the_command_line(tmp_path: Path) -> None:
    """The cost gate is held to the file's limits, and to the command line's over them."""
    usage = "{'output': text, 'usage': [{'input_tokens': 1000000, 'output_tokens': 0}]}"
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.8, "cost_per_run": 1.5}}
    prices = {"input_per_mtok": 2, "output_per_mtok": 0}
    write_project(tmp_path, code=f"def answer(text): return {usage}\n", evals=evals, pricing=prices)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    done = call(tmp_path, "cost-gate")
    assert done.code == Exit.FAIL
    assert "cost_per_run: $2.00 is above $1.50 (largest $2.00)" in done.out
    assert call(tmp_path, "cost-gate", "--max-per-run", "2").code == Exit.PASS
    done = call(tmp_path, "cost-gate", "--max-per-run", "2", "--max-per-resolved", "1.99")
    assert "cost_per_resolved: $2.00 is above $1.99 (5 resolved)" in done.out
    assert done.code == Exit.FAIL
    assert call(tmp_path, "cost-gate", "--max-per-run", "0").code == Exit.FAIL
    names = [limit["name"] for limit in read(tmp_path / OUT / "cost.json")["limits"]]
    assert names == ["cost_per_run", "cost_per_resolved"]


def test_resolved_cases_of_another_verdict_do_not_count(tmp_path: Path) -> None:
    """Cost per resolved case takes the count of this agent's verdict on this golden set, or none."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    limit = ("cost-gate", "--agent", "agents/echo.yaml", "--max-per-resolved", "1")
    assert call(tmp_path, *limit).code == Exit.PASS
    write_golden(tmp_path, cases(4))
    assert call(tmp_path, "run", "--out", "artifacts").code == Exit.PASS
    done = call(tmp_path, *limit, "--runs", "artifacts")
    assert done.code == Exit.UNSCORED
    assert "no verdict says how many cases were resolved: run the eval gate" in done.out


def test_an_inconclusive_gate_warns_or_fails(tmp_path: Path) -> None:
    """A floor within the interval passes with a word, or fails where the agent file asks for that."""
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": {"threshold": 0.8, "floor": "interval"}}}
    for policy, code in (("warn", Exit.PASS), ("fail", Exit.FAIL)):
        write_project(tmp_path, evals=evals | {"on_inconclusive": policy})
        done = call(tmp_path, "eval-gate")
        assert done.code == code
        assert done.out.splitlines()[1].startswith(
            "🟡 echo passes, but is not proven: exact_match: 0.8 lies within"
        )


def test_outputs_and_summary_in_actions(tmp_path: Path) -> None:
    """In a workflow the outputs carry state, reason and agents, and the summary is the scorecard."""
    write_project(tmp_path, [{"id": "x", "input": "a", "expected": "b"}])
    (tmp_path / "event.json").write_text("{}")
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": "acme/echo",
        "GITHUB_SHA": "a" * 40,
        "GITHUB_RUN_ID": "7",
    }
    gate = gatehouse(tmp_path, "eval-gate", env=env)
    assert gate.code == Exit.FAIL
    outputs = (tmp_path / "output").read_text()
    assert "state<<" in outputs
    assert "\nfail\n" in outputs
    assert json.dumps("exact_match: 0 is below 0.8 (1 of 1 case fails)") in outputs
    card = gatehouse(tmp_path, "scorecard", env=env)
    assert card.code == Exit.PASS
    assert (tmp_path / "summary.md").read_text().startswith("### ❌ Gatehouse: echo fails: ")
    annotations = [
        line for line in card.out.splitlines() if line.startswith("::error file=golden.jsonl,line=1,")
    ]
    assert len(annotations) == 1
    assert "exact_match%3A" not in annotations[0]


def test_plan_lists_the_agents(tmp_path: Path) -> None:
    """`gatehouse plan` prints every agent as JSON, or what is wrong with all that do not load."""
    write_project(tmp_path)
    write_project(tmp_path, name="other")
    done = call(tmp_path, "plan")
    assert done.code == Exit.PASS
    assert json.loads(done.out) == [
        {"name": "echo", "path": "agents/echo.yaml"},
        {"name": "other", "path": "agents/other.yaml"},
    ]
    for name in ("echo", "other"):
        (tmp_path / f"agents/{name}.yaml").write_text("agent: 5\n")
    done = call(tmp_path, "plan")
    assert done.code == Exit.INVALID
    assert "agents/echo.yaml:1" in done.err
    assert "agents/other.yaml:1" in done.err


def test_a_users_files_do_not_reach_the_program(tmp_path: Path) -> None:
    """A yaml.py in the checkout, or a PYTHONPATH, is the user's: the isolated program never imports it."""
    write_project(tmp_path)
    for name in ("yaml", "click", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    done = gatehouse(tmp_path, "plan", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == Exit.PASS, done


def test_nothing_is_written_outside_the_results(tmp_path: Path) -> None:
    """Both gates and the scorecard leave the repository as it was, but for `.gatehouse`."""
    write_project(tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    before = {path for path in tmp_path.rglob("*") if ".git" not in path.parts}
    for command in ("eval-gate", "cost-gate", "scorecard"):
        assert gatehouse(tmp_path, command).code == Exit.PASS
    after = {path for path in tmp_path.rglob("*") if ".git" not in path.parts}
    assert {path.relative_to(tmp_path).parts[0] for path in after - before} == {".gatehouse"}
