"""One gate with metrics of ragas and deepeval and a rubric, stage by stage, as a user types it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Exit
from gatehouse.rehearse.model import StandInModel
from tests.support.projects import gatehouse, read, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RUBRIC = """\
rubric:
  shows: [input, answer, contexts]
  criteria: Does the answer say what the reader needs to know, and only that?
  anchors:
    1: It says nothing of what was asked.
    5: It answers the question fully and briefly.
"""
GIVEN = (
    "--judge",
    "ollama:llama3.1:70b",
    "--threshold",
    "faithfulness=0.85,answer_relevance=0.2,helpfulness=2",
)
AGENT = 'def answer(text):\n    return "Notice is four weeks for everybody."\n'
CONTEXTS = ["Notice is four weeks for everybody, in writing."]


@pytest.fixture(scope="module")
def model() -> Iterator[StandInModel]:
    """The model that judges."""
    with StandInModel() as model:
        yield model


def project(folder: Path, contexts: list[str] = CONTEXTS, **evals: Any) -> Path:
    """A repository with three questions about notice, a safety metric in its file, and a rubric."""
    golden = [
        {"id": f"c{i}", "input": f"How long is notice in office {i}?", "contexts": contexts} for i in range(3)
    ]
    evals = {"dataset": "golden.jsonl", "metrics": {"toxicity": {}}} | evals
    write_project(folder, golden=golden, code=AGENT, evals=evals)
    rubric = folder / "evals/rubrics/helpfulness.yaml"
    rubric.parent.mkdir(parents=True)
    rubric.write_text(RUBRIC)
    return folder


def told(model: StandInModel, **more: str) -> Mapping[str, str]:
    """The environment in which the judge is found."""
    return {"OLLAMA_BASE_URL": model.url, "NO_PROXY": "127.0.0.1"} | more


def states(folder: Path) -> dict[str, str]:
    """The state of each metric in the verdict."""
    return {row["name"]: row["state"] for row in read(folder / ".gatehouse/echo/eval.json")["metrics"]}


def test_one_command_line_for_all_of_them(tmp_path: Path, model: StandInModel) -> None:
    """ragas, deepeval and a rubric are gated by one command, each on its own, judging counted apart."""
    folder = project(tmp_path)
    done = gatehouse(folder, "eval-gate", *GIVEN, env=told(model))
    assert done.code == Exit.PASS, done.out + done.err
    assert set(states(folder)) == {"toxicity", "faithfulness", "answer_relevancy", "helpfulness"}
    verdict = read(folder / ".gatehouse/echo/eval.json")
    assert verdict["judge"]["models"] == ["ollama:llama3.1:70b"]
    assert verdict["judge"]["embeddings"] == "ollama:nomic-embed-text"
    assert verdict["judge"]["calls"] == model.count > 0
    assert {row["model"] for row in verdict["judge"]["by_model"]} == {"llama3.1:70b", "nomic-embed-text"}
    assert verdict["extras"] == ["deepeval", "ragas"]
    assert all(row["calibration"]["calibrated"] is False for row in verdict["metrics"])
    assert f"Judge ollama:llama3.1:70b, ollama:nomic-embed-text: {model.count} calls" in done.out
    assert "helpfulness: not calibrated" in done.out
    gatehouse(folder, "cost-gate", env=told(model))
    cost = read(folder / ".gatehouse/echo/cost.json")
    assert cost["by_model"] == [] or {row["model"] for row in cost["by_model"]} == {"llama3.1:8b"}


def test_stages_alone_come_to_the_same(tmp_path: Path, model: StandInModel) -> None:
    """run, score and verdict judge as eval-gate does, and what was judged is not judged again."""
    folder = project(tmp_path)
    assert gatehouse(folder, "eval-gate", *GIVEN, env=told(model)).code == Exit.PASS
    whole = read(folder / ".gatehouse/echo/eval.json")
    before = model.count
    assert gatehouse(folder, "score", *GIVEN, env=told(model)).code == Exit.PASS
    assert gatehouse(folder, "verdict", *GIVEN).code == Exit.PASS
    assert model.count == before
    again = read(folder / ".gatehouse/echo/eval.json")
    assert again["metrics"] == whole["metrics"]
    assert again["judge"]["cached"] > 0
    assert again["judge"]["calls"] == 0


def test_scores_of_another_judge_do_not_count(tmp_path: Path, model: StandInModel) -> None:
    """A verdict for one judge is not reached from the scores of another."""
    folder = project(tmp_path, judge="ollama:llama3.1:70b")
    assert gatehouse(folder, "eval-gate", env=told(model)).code == Exit.PASS
    done = gatehouse(folder, "verdict", "--judge", "ollama:other:70b")
    assert done.code == Exit.UNSCORED
    assert "has no scores of toxicity" in done.err


def test_a_changed_rubric_is_judged_anew(tmp_path: Path, model: StandInModel) -> None:
    """Scores by the old words of a rubric are stale once it says something else."""
    folder = project(tmp_path, metrics={"helpfulness": 2}, judge="ollama:llama3.1:70b")
    assert gatehouse(folder, "eval-gate", env=told(model)).code == Exit.PASS
    rubric = folder / "evals/rubrics/helpfulness.yaml"
    rubric.write_text(rubric.read_text().replace("and only that", "and nothing else"))
    assert gatehouse(folder, "verdict").code == Exit.UNSCORED
    before = model.count
    assert gatehouse(folder, "score", env=told(model)).code == Exit.PASS
    assert model.count > before
    assert gatehouse(folder, "verdict").code == Exit.PASS


def test_what_the_contexts_do_not_hold_fails(tmp_path: Path, model: StandInModel) -> None:
    """An answer that its contexts do not support misses faithfulness, and only that."""
    folder = project(tmp_path, contexts=["Lunch is served at noon."])
    done = gatehouse(folder, "eval-gate", *GIVEN, env=told(model))
    assert done.code == Exit.FAIL
    assert states(folder)["faithfulness"] == "fail"
    assert states(folder)["answer_relevancy"] == "pass"
    failing = read(folder / ".gatehouse/echo/eval.json")["failing_cases"]
    assert "Notice is four weeks" in failing[0]["reasons"]["faithfulness"]


def test_without_contexts_nobody_can_say(tmp_path: Path, model: StandInModel) -> None:
    """Cases for which nobody reports contexts leave faithfulness unscored, with how many and why."""
    folder = project(tmp_path, contexts=[], metrics={"faithfulness": 0.5}, judge="ollama:llama3.1:70b")
    done = gatehouse(folder, "eval-gate", env=told(model))
    assert done.code == Exit.UNSCORED
    reason = read(folder / ".gatehouse/echo/eval.json")["metrics"][0]["reason"]
    assert reason.startswith("3 of 3 cases could not be scored (0 may): no contexts")


def test_a_missing_key_is_said_before_the_agent_is_run(tmp_path: Path) -> None:
    """Where the judge has no key, nothing is run at all: no tokens are spent on answers nobody can judge."""
    folder = project(tmp_path, judge="openai:gpt-4o-2024-08-06", metrics={"helpfulness": 4})
    done = gatehouse(folder, "eval-gate")
    assert done.code == Exit.UNSCORED
    assert "GATEHOUSE_JUDGE_KEY or OPENAI_API_KEY" in done.err
    assert not (folder / ".gatehouse/echo/runs.jsonl").exists()


def test_the_agent_never_sees_the_judges_key(tmp_path: Path, model: StandInModel) -> None:
    """Where agent and judge share a job, the agent's process lacks the judge's key, and no file has it."""
    code = "import os\ndef answer(text):\n    return 'Notice: ' + str(sorted(os.environ.items()))\n"
    folder = project(tmp_path, judge="ollama:llama3.1:70b", metrics={"helpfulness": 1})
    (folder / "agent.py").write_text(code)
    key = "judge-key-0123456789"
    gatehouse(folder, "eval-gate", env=told(model, GATEHOUSE_JUDGE_KEY=key))
    files = [path for path in (folder / ".gatehouse").rglob("*") if path.is_file()]
    assert any(path.name == "runs.jsonl" and path.stat().st_size for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert "GATEHOUSE_JUDGE_KEY" not in (folder / ".gatehouse/echo/runs.jsonl").read_text()


def test_a_dead_judge_is_told_with_its_address(tmp_path: Path) -> None:
    """Where nobody listens, the verdict says who was to be asked, where, and what names another address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    folder = project(tmp_path, judge="ollama:llama3.1:70b", metrics={"helpfulness": 4})
    environment = {"OLLAMA_BASE_URL": url, "NO_PROXY": "127.0.0.1", "GATEHOUSE_JUDGE_KEY": "judge-key-01234"}
    done = gatehouse(folder, "eval-gate", env=environment)
    assert done.code == Exit.UNSCORED
    (row,) = read(folder / ".gatehouse/echo/eval.json")["metrics"]
    assert (
        f"the judge's provider ollama cannot be reached at {url} (connection refused). Is it running? "
        "GATEHOUSE_JUDGE_BASE_URL or OLLAMA_BASE_URL names another address."
    ) in row["reason"]
    assert "ClientConnectorError" not in done.out + done.err
    assert "judge-key-01234" not in done.out + done.err


def test_a_misnamed_judge_is_told_by_its_line_or_option(tmp_path: Path) -> None:
    """Before anything is run, with the whole name that was probably meant."""
    folder = project(tmp_path, judge="llama3.1:70b", metrics={"helpfulness": 4})
    done = gatehouse(folder, "eval-gate")
    assert done.code == Exit.INVALID
    assert 'agents/echo.yaml:12: unknown model provider "llama3.1".' in done.err
    assert 'A judge is PROVIDER:MODEL. Did you mean "ollama:llama3.1:70b"?' in done.err
    done = gatehouse(folder, "score", "--judge", "gpt-4o")
    assert "--judge: 'gpt-4o' names no model." in done.err


def test_an_unpinned_judge_is_in_the_verdict(tmp_path: Path, model: StandInModel) -> None:
    """Once, beside what else is to be said of the agent."""
    folder = project(tmp_path, judge="ollama:llama3.1", metrics={"helpfulness": 1})
    done = gatehouse(folder, "eval-gate", env=told(model))
    assert (done.out + done.err).count('judge "ollama:llama3.1" names no fixed model') == 1
    warnings = read(folder / ".gatehouse/echo/eval.json")["warnings"]
    assert sum('judge "ollama:llama3.1" names no fixed model' in warning for warning in warnings) == 1


def test_a_judge_that_is_the_agents_own_model_is_warned_about(tmp_path: Path, model: StandInModel) -> None:
    """Models prefer their own answers: the gate says so, and so does its verdict."""
    folder = project(tmp_path, judge="ollama:llama3.1:8b", metrics={"helpfulness": 1})
    done = gatehouse(folder, "eval-gate", env=told(model))
    assert "models prefer their own" in done.out + done.err
    assert any(
        "prefer their own" in warning for warning in read(folder / ".gatehouse/echo/eval.json")["warnings"]
    )


def test_a_minimum_of_agreement_holds_a_pass_back(tmp_path: Path, model: StandInModel) -> None:
    """With `min_kappa`, a pass by a judge that nobody compared with people is inconclusive."""
    judge = {"model": "ollama:llama3.1:70b", "min_kappa": 0.6}
    folder = project(tmp_path, judge=judge, metrics={"helpfulness": 2})
    done = gatehouse(folder, "eval-gate", env=told(model))
    assert done.code == Exit.PASS
    assert states(folder) == {"helpfulness": "inconclusive"}
    strict = project(tmp_path / "strict", judge=judge, metrics={"helpfulness": 2}, on_inconclusive="fail")
    assert gatehouse(strict, "eval-gate", env=told(model)).code == Exit.FAIL


def test_the_metrics_of_an_agent(tmp_path: Path) -> None:
    """`gatehouse metrics --agent` lists what that agent is held to, and hands on what has to be installed."""
    folder = project(tmp_path)
    output = folder / "output"
    output.touch()
    done = gatehouse(
        folder, "metrics", "--agent", "agents/echo.yaml", *GIVEN, env={"GITHUB_OUTPUT": str(output)}
    )
    assert done.code == Exit.PASS
    names = [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert names == ["toxicity", "faithfulness", "answer_relevancy", "helpfulness"]
    lines = output.read_text().splitlines()
    assert lines[1] == "deepeval ragas"
    assert lines[4] == "true"
    (folder / "agents/echo.yaml").write_text("agent: [")
    broken = gatehouse(folder, "metrics", "--agent", "agents/echo.yaml", env={"GITHUB_ACTIONS": "true"})
    assert broken.code == Exit.INVALID
    assert "::error" not in broken.out


def test_a_broken_file_hides_nothing_of_the_others(tmp_path: Path) -> None:
    """Of several agents the libraries of those that load are known, whatever is wrong with another."""
    folder = project(tmp_path, judge="ollama:llama3.1:70b")
    (folder / "agents/broken.yaml").write_text("agent: [")
    output = folder / "output"
    output.touch()
    done = gatehouse(folder, "metrics", "--agent", "agents/*.yaml", env={"GITHUB_OUTPUT": str(output)})
    assert done.code == Exit.INVALID
    assert "agents/broken.yaml" in done.out
    assert output.read_text().splitlines()[1] == "deepeval"


def test_a_panel_on_the_command_line(tmp_path: Path, model: StandInModel) -> None:
    """`--judge` repeated is a panel, and every vote is in the scores."""
    folder = project(tmp_path, metrics={"helpfulness": 2})
    two = ("--judge", "ollama:llama3.1:70b", "--judge", "ollama:qwen2.5:32b")
    assert gatehouse(folder, "eval-gate", *two, env=told(model)).code in (Exit.PASS, Exit.FAIL)
    lines = map(json.loads, (folder / ".gatehouse/echo/scores.jsonl").read_text().splitlines())
    assert all(len(line["votes"]) >= 2 for line in lines)
    assert len(read(folder / ".gatehouse/echo/eval.json")["judge"]["models"]) == 2


def test_a_metric_of_a_library_that_asks_nobody(tmp_path: Path) -> None:
    """A metric that needs no model is scored without any judge being named or reached."""
    folder = project(tmp_path, metrics={"pattern_match": {"threshold": 1, "pattern": "Notice .*"}})
    done = gatehouse(folder, "eval-gate")
    assert done.code == Exit.PASS, done.out + done.err
    assert "Judge" not in done.out


def test_what_no_judge_looked_at_is_said(tmp_path: Path, model: StandInModel) -> None:
    """Cases that a judged metric does not apply to are counted in the verdict's warnings, on a pass too."""
    folder = project(tmp_path, metrics={"accurate": {"metric": "answer_accuracy", "threshold": 0}})
    golden = folder / "golden.jsonl"
    first, *others = golden.read_text().splitlines()
    whole = json.loads(first) | {"expected": "Notice is four weeks."}
    golden.write_text("\n".join([json.dumps(whole), *others, ""]))
    done = gatehouse(folder, "eval-gate", "--judge", "ollama:llama3.1:70b", env=told(model))
    assert done.code == Exit.PASS, done.out + done.err
    verdict = read(folder / ".gatehouse/echo/eval.json")
    assert any("accurate: 2 of 3 cases lack what it needs (expected)" in text for text in verdict["warnings"])
    assert verdict["metrics"][0]["metric"] == "answer_accuracy"
    assert "accurate (answer_accuracy)" in done.out


def test_votes_were_asked_for_near_one_threshold(tmp_path: Path, model: StandInModel) -> None:
    """A verdict at another threshold is not reached from votes asked for near the old one."""
    folder = project(tmp_path, metrics={"helpfulness": 2}, judge="ollama:llama3.1:70b")
    assert gatehouse(folder, "eval-gate", env=told(model)).code == Exit.PASS
    assert gatehouse(folder, "verdict", "--threshold", "helpfulness=3").code == Exit.UNSCORED
    assert gatehouse(folder, "score", "--threshold", "helpfulness=3", env=told(model)).code == Exit.PASS
    assert gatehouse(folder, "verdict", "--threshold", "helpfulness=3").code == Exit.PASS
