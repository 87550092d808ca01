"""A part of a golden set is never mistaken for all of it: on no stage, in no file, at no exit."""

from __future__ import annotations

import json
import shlex
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.release.dist import Agent
from gatehouse.release.evidence import read_verdict, verdict_of
from tests.support.projects import call, cases, read, write_project

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
def answer(text):
    usage = [{"provider": "ollama", "model": "llama3.1:8b", "input_tokens": 10, "output_tokens": 2}]
    return {"output": "no" if text in ("a1", "a4") else text, "usage": usage}
"""
PART = "2 of 5 cases, selected by --case c0, c2"
SELECT = ("--case", "c0", "--case", "c2")


def project(folder: Path, **evals: Any) -> Path:
    """An agent with five cases in two files, of which c1 and c4 fail."""
    golden = cases(5)
    golden[0]["tags"] = ["smoke"]
    golden[2]["tags"] = ["smoke", "slow"]
    metrics = {"exact_match": 0.5, "cost_per_run": 1}
    files = {"dataset": ["golden.jsonl", "more.yaml"], "metrics": metrics} | evals
    write_project(folder, golden[:3], CODE, evals=files, pricing={"input_per_mtok": 1, "output_per_mtok": 1})
    (folder / "more.yaml").write_text(json.dumps(golden[3:]))  # JSON of this kind is YAML
    return folder


def results(folder: Path, name: str = "eval.json") -> dict[str, Any]:
    """A results file of the agent."""
    return read(folder / ".gatehouse" / "echo" / name)


def test_a_part_that_passes_is_inconclusive(tmp_path: Path) -> None:
    """Where each selected case passes, state, reason and files say that it is a part; exit code 0."""
    folder = project(tmp_path)
    done = call(folder, "eval-gate", *SELECT)
    verdict = results(folder)
    assert (done.code, verdict["state"], verdict["cases"], verdict["resolved"]) == (0, "inconclusive", 2, 2)
    assert verdict["reason"] == f"{PART}: 1 of 1 metrics pass; only the whole golden set can pass"
    assert PART in done.out.splitlines()[1]
    assert [
        json.loads(line)["id"] for line in (folder / ".gatehouse/echo/runs.jsonl").read_text().splitlines()
    ] == ["c0", "c2"]
    dataset = verdict["dataset"]
    assert dataset == results(folder, "run.json")["dataset"] == results(folder, "scores.json")["dataset"]
    assert (dataset["path"], dataset["paths"]) == ("golden.jsonl, more.yaml", ["golden.jsonl", "more.yaml"])
    assert (dataset["selected"], dataset["cases"], dataset["of"]) == (
        {"tags": [], "cases": ["c0", "c2"]},
        2,
        5,
    )


@pytest.mark.parametrize(
    ("asked", "state", "code"), [(["--tag", "smoke"], "inconclusive", 1), (["--case", "c1"], "fail", 1)]
)
def test_a_part_that_fails_fails(tmp_path: Path, asked: list[str], state: str, code: int) -> None:
    """A failed part is a failed gate; `on_inconclusive: fail` also refuses one that would pass."""
    folder = project(tmp_path, on_inconclusive="fail")
    assert call(folder, "eval-gate", *asked).code == code
    verdict = results(folder)
    assert verdict["state"] == state
    assert f"of 5 cases, selected by {' '.join(asked)}: " in verdict["reason"]


def test_the_stages_take_the_same_part(tmp_path: Path) -> None:
    """run, score, verdict and the cost gate, which needs no options, come to what eval-gate comes to."""
    folder = project(tmp_path)
    assert call(folder, "run", "--tag", "smoke").code == 0
    assert call(folder, "score", "--tag", "smoke").code == 0
    assert call(folder, "verdict", "--tag", "smoke").code == 0
    by_stages = results(folder)
    assert call(folder, "eval-gate", "--tag", "smoke").code == 0
    assert {**results(folder), "latency_s": 0} == {**by_stages, "latency_s": 0}
    assert call(folder, "cost-gate").code == 0
    cost = results(folder, "cost.json")
    assert (cost["state"], cost["dataset"]) == ("inconclusive", by_stages["dataset"])
    assert cost["reason"].startswith("2 of 5 cases, selected by --tag smoke: ")


def test_a_part_and_the_whole_refuse_each_others_results(tmp_path: Path) -> None:
    """What was run, scored or judged of a part does not count for the whole, nor the other way round."""
    folder, other = project(tmp_path), ("--case", "c1")
    assert call(folder, "eval-gate", *SELECT).code == 0
    told = f"is of a part of the golden set ({PART}), and the whole is asked for"
    for command in (
        ("score",),
        ("verdict",),
        ("cost-gate", "--dataset", "golden.jsonl", "--dataset", "more.yaml"),
        ("eval-gate", "--runs", ".gatehouse/echo"),
    ):
        done = call(folder, *command)
        assert (done.code, told in done.out + done.err) == (3, True), command
    assert call(folder, "eval-gate", *SELECT).code == 0
    for stage in ("score", "verdict"):
        done = call(folder, stage, *other)
        assert (done.code, "a part of the golden set (1 of 5 cases" in done.out + done.err) == (3, True)
    assert call(folder, "eval-gate").code == 0
    for stage in ("score", "verdict"):
        done = call(folder, stage, *SELECT)
        assert (done.code, "is of the whole, and a part of" in done.out + done.err) == (3, True)


@pytest.mark.parametrize("first", [(), SELECT])
def test_neither_resumes_the_other(tmp_path: Path, first: tuple[str, ...]) -> None:
    """An unfinished run of the whole is not continued as a part, nor a part as the whole."""
    folder = project(tmp_path)
    assert call(folder, "run", *first).code == 0
    info = folder / ".gatehouse/echo/run.json"
    info.write_text(json.dumps(read(info) | {"complete": False}))
    then = () if first else SELECT
    done = call(folder, "run", *then)
    assert (done.code, "kept from the run before" in done.out) == (0, False)
    assert results(folder, "run.json")["dataset"]["cases"] == (5 if first else 2)
    info.write_text(json.dumps(read(info) | {"complete": False}))
    assert "kept from the run before" in call(folder, "run", *then).out


def test_a_part_is_no_evidence(tmp_path: Path) -> None:
    """For publishing, the verdict on a part is none, whatever the agent says of inconclusive ones."""
    folder = project(tmp_path)
    assert call(folder, "eval-gate", *SELECT).code == 0
    assert call(folder, "cost-gate").code == 0
    digest = results(folder)["agent"]["digest"]
    agent = Agent("echo", "agents/echo.yaml", 1, digest, "warn")
    verdict = verdict_of(agent, read_verdict(folder / ".gatehouse/echo"))
    assert (verdict.allows(agent), verdict.decisive) == (False, False)
    assert verdict.reason == "eval.json is of a part of the golden set (2 of 5 cases)"
    assert call(folder, "eval-gate").code == 0
    assert call(folder, "cost-gate").code == 0
    assert verdict_of(agent, read_verdict(folder / ".gatehouse/echo")).allows(agent)


def test_the_scorecard_says_that_it_is_a_part(tmp_path: Path) -> None:
    """Its first line says so, and its command asks for the same part of the same files again."""
    folder = project(tmp_path)
    asked = ("--tag", "smoke", "--case", "c1", "--threshold", "exact_match=0.6")
    assert call(folder, "eval-gate", *asked).code == 0
    assert call(folder, "cost-gate").code == 0
    done = call(folder, "scorecard")
    text = (folder / ".gatehouse/scorecard.md").read_text()
    assert "3 of 5 cases, selected by" in text.splitlines()[0]
    assert "3 of 5 cases, selected by" in done.out.splitlines()[0]
    assert "golden.jsonl:2" in unescape(text)
    line = next(line for line in text.splitlines() if "gatehouse eval-gate" in line)
    again = shlex.split(line)[shlex.split(line).index("eval-gate") :]
    assert [again[i + 1] for i, word in enumerate(again) if word == "--dataset"] == [
        "golden.jsonl",
        "more.yaml",
    ]
    before = results(folder)
    assert call(folder, *again).code == 0
    assert {**results(folder), "latency_s": 0} == {**before, "latency_s": 0}
    (folder / "more.yaml").write_text("- {id: c3, input: changed}\n")
    assert call(folder, "cost-gate").code == 3
    assert call(folder, "scorecard").code == 0
    text = unescape((folder / ".gatehouse/scorecard.md").read_text())
    assert "is of another golden set than golden.jsonl, more.yaml" in text


def test_failing_cases_are_told_with_their_own_file(tmp_path: Path) -> None:
    """Of several files, the one that holds the case stands beside its line."""
    folder = project(tmp_path)
    assert call(folder, "eval-gate").code == 0
    assert [(case["id"], case["path"], case["line"]) for case in results(folder)["failing_cases"]] == [
        ("c1", "golden.jsonl", 2),
        ("c4", "more.yaml", 1),
    ]


def test_a_name_that_no_case_has_runs_nothing(tmp_path: Path) -> None:
    """An unknown id or tag is the caller's mistake: exit code 2, with the nearest, and nothing is asked."""
    folder = project(tmp_path)
    for command in ("run", "eval-gate"):
        done = call(folder, command, "--case", "c11", "--tag", "smok")
        assert done.code == 2
        assert 'Did you mean "smoke"?' in done.err
        assert '--case "c11": no case has this id.' in done.err
    assert not (folder / ".gatehouse/echo/runs.jsonl").exists()


FILES = "1 of 2 files of the golden set, selected by --dataset"


def verdict_as_evidence(folder: Path, golden: str = "") -> str:
    """Why what lies there lets nobody publish; "" where it does."""
    agent = Agent("echo", "agents/echo.yaml", 1, results(folder)["agent"]["digest"], "warn", golden)
    verdict = verdict_of(agent, read_verdict(folder / ".gatehouse/echo"))
    return "" if verdict.allows(agent) else verdict.reason


def test_some_files_of_the_agents_golden_set_are_a_part(tmp_path: Path) -> None:
    """`--dataset` with one of two files passes nowhere: no gate, no stage, no evidence takes it for all."""
    folder = project(tmp_path)
    asked = ("--dataset", "./golden.jsonl")
    assert call(folder, "eval-gate", *asked).code == 0
    verdict = results(folder)
    assert (verdict["state"], verdict["cases"]) == ("inconclusive", 3)
    assert verdict["reason"] == f"{FILES}: 1 of 1 metrics pass; only the whole golden set can pass"
    assert verdict["dataset"]["selected"] == {"tags": [], "cases": [], "files": 2}
    assert verdict["dataset"] == results(folder, "run.json")["dataset"]
    assert verdict["warnings"] == []
    assert call(folder, "cost-gate").code == 0
    assert results(folder, "cost.json")["reason"].startswith(f"{FILES}: ")
    assert verdict_as_evidence(folder) == "eval.json is of a part of the golden set (1 of 2 files)"
    assert call(folder, "scorecard").code == 0
    text = (folder / ".gatehouse/scorecard.md").read_text()
    assert FILES in unescape(text).splitlines()[0]
    assert "--dataset golden.jsonl --threshold" in text
    for stage in ("score", "verdict"):
        done = call(folder, stage)
        assert (done.code, f"part of the golden set ({FILES}), and the whole" in done.out + done.err) == (
            3,
            True,
        )
    (folder / ".gatehouse/echo/run.json").write_text(
        json.dumps(results(folder, "run.json") | {"complete": False})
    )
    assert "kept from the run before" not in call(folder, "run").out


def test_a_part_of_some_files_says_both(tmp_path: Path) -> None:
    """`--dataset` and `--tag` together: how many of those files' cases, and how many of the files."""
    folder = project(tmp_path)
    assert call(folder, "eval-gate", "--dataset", "golden.jsonl", "--tag", "smoke").code == 0
    told = f"2 of 3 cases, selected by --tag smoke, in {FILES}: "
    assert results(folder)["reason"].startswith(told)
    assert results(folder)["state"] == "inconclusive"


def test_some_files_that_fail_fail(tmp_path: Path) -> None:
    """A part that fails is a failed gate, as ever."""
    folder = project(tmp_path, metrics={"exact_match": 0.9})
    assert call(folder, "eval-gate", "--dataset", "golden.jsonl").code == 1
    assert results(folder)["reason"].startswith(f"{FILES}: exact_match: ")


def test_the_agents_own_files_are_the_whole_however_they_are_named(tmp_path: Path) -> None:
    """In another order or spelling they are the same golden set, with the same digest."""
    folder = project(tmp_path)
    assert call(folder, "eval-gate").code == 0
    whole = results(folder)
    assert (
        call(folder, "eval-gate", "--dataset", "./more.yaml", "--dataset", "agents/../golden.jsonl").code == 0
    )
    assert (results(folder)["dataset"], results(folder)["state"]) == (whole["dataset"], "pass")
    assert verdict_as_evidence(folder, whole["dataset"]["digest"]) == ""
    (folder / "more.yaml").write_text('- {id: c3, input: "3", expected: "3"}\n')
    assert call(folder, "eval-gate").code == 0
    assert results(folder)["state"] == "pass"
    assert "is of another golden set than the built files hold" in verdict_as_evidence(
        folder, whole["dataset"]["digest"]
    )


@pytest.mark.parametrize("others", [("other.csv",), ("golden.jsonl", "other.csv")])
def test_another_golden_set_is_told_and_is_no_evidence(tmp_path: Path, others: tuple[str, ...]) -> None:
    """With files that are not the agent's the verdict stands, says so, and lets nobody publish."""
    folder = project(tmp_path)
    (folder / "other.csv").write_text("id,input,expected\nx,hello,hello\n")
    assert call(folder, "eval-gate", *(f"--dataset={path}" for path in others)).code == 0
    verdict = results(folder)
    own = "golden.jsonl, more.yaml"
    assert verdict["state"] == "pass"
    assert verdict["dataset"]["instead_of"] == own.split(", ")
    assert verdict["warnings"] == [
        f"Judged on {', '.join(others)}, not on the golden set of the agent file ({own})."
    ]
    assert call(folder, "cost-gate").code == 0
    assert results(folder, "cost.json")["dataset"] == verdict["dataset"]
    assert "is not the golden set of the agent file" in verdict_as_evidence(folder)


def test_an_agent_without_a_golden_set_takes_any(tmp_path: Path) -> None:
    """Where the agent file names none, `--dataset` is the whole, without a warning."""
    folder = project(tmp_path)
    path = folder / "agents/echo.yaml"
    names = "    dataset:\n    - golden.jsonl\n    - more.yaml\n"
    assert names in path.read_text()
    path.write_text(path.read_text().replace(names, ""))
    assert call(folder, "eval-gate", "--dataset", "golden.jsonl").code == 0
    assert (results(folder)["state"], results(folder)["warnings"]) == ("pass", [])
    assert not results(folder)["dataset"].keys() & {"selected", "instead_of"}
    assert call(folder, "cost-gate").code == 0
    assert verdict_as_evidence(folder) == ""


def test_options_replace_the_files_of_the_agent(tmp_path: Path) -> None:
    """`--dataset` given twice is two files, in a variable one a line, and none of the agent's."""
    folder = project(tmp_path)
    (folder / "other.csv").write_text("id,input,expected\nx,hello,hello\n")
    assert call(folder, "eval-gate", "--dataset", "other.csv", "--dataset", "more.yaml").code == 0
    assert results(folder)["dataset"]["paths"] == ["other.csv", "more.yaml"]
    assert call(folder, "cost-gate").code == 0
    env = {"GATEHOUSE_EVAL_GATE_DATASET": "more.yaml\nother.csv\n"}
    assert call(folder, "eval-gate", env=env).code == 0
    assert (results(folder)["dataset"]["paths"], results(folder)["state"]) == (
        ["more.yaml", "other.csv"],
        "pass",
    )
