"""`eval.json` out of scores: critical and failing cases, resolved ones, and their texts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Fault, ToolCall
from gatehouse.errors import State
from gatehouse.evals.assess import SHOWN_CASES, SHOWN_CHARACTERS, assess
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.results import StaleError
from gatehouse.evals.score import WITHHELD, read_scores, write_scores
from gatehouse.evals.selection import Selection
from tests.support.projects import CRASH, NO_ROUTE, cases, runs_of, subject_of, write_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.results import Subject

SECRET = "AKIA" + "Q3EGRIPTJ7WLNX2M"
EVALS = {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.5, "error_rate": 0.5, "latency_p50": 5}}


def subject(folder: Path, golden: Sequence[dict[str, Any]], **evals: Any) -> Subject:
    """A subject held to EVALS."""
    return subject_of(folder, golden=golden, evals=EVALS | evals)


def assessed(subject: Subject, runs: Sequence[Run], folder: Path, repeats: int = 1) -> dict[str, Any]:
    """Score and assess the runs, in `folder`."""
    gates = gates_of(subject.agent)
    files = [write_runs(folder, subject, runs, repeats=repeats, dataset=subject.golden.header())]
    write_scores(subject, gates, repeats, runs, files, folder)
    return assess(subject, gates, read_scores(subject, gates, folder), files, folder)


def test_a_gate_that_passes(tmp_path: Path) -> None:
    """`eval.json` says of what it is, has a row for each metric, and counts the resolved cases."""
    it = subject(tmp_path, cases(4))
    verdict = assessed(it, runs_of(it, c3={"output": "wrong"}), tmp_path / "out")
    assert (verdict["state"], verdict["reason"]) == (State.PASS, "3 of 3 metrics pass")
    assert [row["name"] for row in verdict["metrics"]] == ["exact_match", "error_rate", "latency_p50"]
    assert (verdict["cases"], verdict["resolved"], verdict["failing"], verdict["repeats"]) == (4, 3, 1, 1)
    assert verdict["agent"] == {
        "name": "echo",
        "version": "1",
        "digest": it.agent.digest,
        "path": "agents/echo.yaml",
    }
    assert verdict["dataset"] == it.golden.header()
    assert verdict["commit"] == it.commit
    assert verdict["runs"] == [str(tmp_path / "out/runs.jsonl")]
    assert verdict["latency_s"] == {"p50": 1.0, "p95": 1.0}


def test_a_failing_case_is_shown_with_its_texts(tmp_path: Path) -> None:
    """A failing case has its line, input, what was expected, what came, and each metric's reason."""
    golden = [{"id": "c", "input": {"q": 1}, "expected": ["x"], "tags": ["t"], "expected_tools": ["read"]}]
    it = subject(tmp_path, [*cases(2), *golden], metrics={"exact_match": 0.5, "tool_calls": 0})
    calls = [ToolCall("send", {"to": "é"}), ToolCall("read")]
    verdict = assessed(it, runs_of(it, c={"output": {"a": "é"}, "tool_calls": calls}), tmp_path / "out")
    assert verdict["failing_cases"] == [
        {
            "id": "c",
            "line": 3,
            "path": "golden.jsonl",
            "critical": False,
            "tags": ["t"],
            "reasons": {"exact_match": "differs from the expected output"},
            "values": {"exact_match": 0.0},
            "input": '{"q": 1}',
            "expected": '["x"]',
            "got": '{"a": "é"}',
            "tool_calls": 'send({"to": "é"})\nread({})',
        }
    ]


def test_a_crashed_case_fails_every_quality_metric(tmp_path: Path) -> None:
    """The agent's own fault is shown with its message, got nothing, and is not resolved."""
    it = subject(tmp_path, cases(3))
    verdict = assessed(it, runs_of(it, c1={"error": CRASH, "output": None}), tmp_path / "out")
    (case,) = verdict["failing_cases"]
    why = f"crash: {CRASH.message}"
    assert case["reasons"] == {"exact_match": why, "error_rate": why}
    assert case["got"] is None
    assert verdict["resolved"] == 2


def test_a_crashed_case_is_never_resolved(tmp_path: Path) -> None:
    """A crash that meets its threshold of 0 is no failing case, and not resolved either."""
    it = subject(tmp_path, cases(3), metrics={"exact_match": 0})
    verdict = assessed(it, runs_of(it, c1={"error": CRASH}), tmp_path / "out")
    assert (verdict["failing"], verdict["resolved"]) == (0, 2)


def test_the_gravest_failing_cases_come_first(tmp_path: Path) -> None:
    """Critical before others, then by how many metrics fail, then in the order of the golden set."""
    golden = cases(5)
    golden[3]["critical"] = golden[4]["critical"] = True
    it = subject(tmp_path, golden)
    wrong = {"output": "wrong"}
    runs = runs_of(it, c0=wrong, c1={"error": CRASH}, c2=wrong, c3=wrong, c4={"error": CRASH})
    verdict = assessed(it, runs, tmp_path / "out")
    assert [case["id"] for case in verdict["failing_cases"]] == ["c4", "c3", "c1", "c0", "c2"]
    assert [case["critical"] for case in verdict["failing_cases"]] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("changed", "state", "resolved"),
    [
        ({}, State.PASS, 5),
        ({"c0": {"output": "wrong"}}, State.FAIL, 4),
        ({"c0": {"error": CRASH}}, State.FAIL, 4),
        ({"c0": {"error": NO_ROUTE}}, State.UNSCORED, 4),
        ({"c1": {"output": "wrong"}}, State.PASS, 4),
        ({"c1": {"error": NO_ROUTE}}, State.PASS, 4),
    ],
)
def test_a_critical_case_must_pass(
    tmp_path: Path, changed: dict[str, Any], state: State, resolved: int
) -> None:
    """One critical case that fails or cannot be scored decides, even where a case may stay unscored."""
    golden = cases(5)
    golden[0]["critical"] = True
    it = subject(tmp_path, golden, max_unscored=1)
    verdict = assessed(it, runs_of(it, **changed), tmp_path / "out")
    assert (verdict["state"], verdict["resolved"]) == (state, resolved)
    row = verdict["metrics"][-1]
    assert (row["name"], row["state"]) == ("critical_cases", state)


def test_a_critical_case_that_no_metric_measures_is_unscored(tmp_path: Path) -> None:
    """A critical case without a reference, under metrics that all need one, has not passed."""
    golden = [*cases(2), {"id": "c", "input": "?", "critical": True}]
    it = subject(tmp_path, golden, metrics={"exact_match": 0.5})
    verdict = assessed(it, runs_of(it), tmp_path / "out")
    assert verdict["state"] == State.UNSCORED
    assert "1 of 1 unscored, and every one must pass: c" in verdict["reason"]
    assert verdict["resolved"] == 2


def test_repeats_show_the_one_that_failed(tmp_path: Path) -> None:
    """A case that fails on average is shown by its first repeat that failed, with that average."""
    it = subject(tmp_path, cases(2), metrics={"exact_match": 0.9})
    runs = [replace(run, repeat=repeat) for repeat in range(3) for run in runs_of(it)]
    runs[2] = replace(runs[2], output="second")
    runs[4] = replace(runs[4], output="third")
    verdict = assessed(it, runs, tmp_path / "out", repeats=3)
    assert [case["got"] for case in verdict["failing_cases"]] == ["second"]
    assert verdict["failing_cases"][0]["values"] == {"exact_match": pytest.approx(1 / 3)}
    assert verdict["metrics"][0]["value"] == pytest.approx(2 / 3)


def test_many_and_long_failing_cases_are_cut(tmp_path: Path) -> None:
    """At most a hundred failing cases with their texts, each text cut with the number of what is left out."""
    it = subject(tmp_path, cases(SHOWN_CASES + 20))
    long = {case.id: {"output": "x" * (SHOWN_CHARACTERS + 7)} for case in it.golden}
    verdict = assessed(it, runs_of(it, **long), tmp_path / "out")
    assert verdict["failing"] == SHOWN_CASES + 20
    assert len(verdict["failing_cases"]) == SHOWN_CASES
    assert verdict["failing_cases"][0]["got"] == "x" * SHOWN_CHARACTERS + "… (7 more characters)"


def test_texts_of_runs_that_do_not_belong_make_it_stale(tmp_path: Path) -> None:
    """Scores beside the runs of another agent are not mixed into one verdict."""
    it = subject(tmp_path, cases(3))
    runs = runs_of(it, c0={"output": "wrong"})
    assessed(it, runs, tmp_path / "out")
    other = replace(it, agent=replace(it.agent, parts={"prompt": "other"}))
    write_runs(tmp_path / "out", other, runs)
    gates = gates_of(it.agent)
    with pytest.raises(StaleError, match="another agent"):
        assess(
            it,
            gates,
            read_scores(it, gates, tmp_path / "out"),
            [tmp_path / "out/runs.jsonl"],
            tmp_path / "out",
        )


def test_what_was_leaked_is_not_shown(tmp_path: Path) -> None:
    """Of a case that leaks, neither answer nor tool calls nor what quotes them are in `eval.json`."""
    secret = SECRET
    golden = [
        {"id": "leak", "input": "a", "expected": {"a": 1}},
        {"id": "wrong", "input": "b", "expected": {"a": 1}},
    ]
    metrics = {"json_fields": 0.5, "secret_leak": 0.2}
    it = subject(tmp_path, [*cases(2), *golden], metrics=metrics)
    runs = runs_of(
        it,
        leak={"output": {"a": secret}, "tool_calls": [ToolCall("send", {"to": secret})]},
        wrong={"output": {"a": "two"}, "tool_calls": [ToolCall("send")]},
    )
    verdict = assessed(it, runs, tmp_path / "out")
    assert secret not in json.dumps(verdict)
    leak, wrong = sorted(verdict["failing_cases"], key=lambda case: str(case["id"]))
    assert leak["got"] == leak["tool_calls"]
    assert leak["got"].startswith("withheld: secret_leak found in it")
    assert leak["reasons"]["json_fields"] == WITHHELD
    assert "AWS" in leak["reasons"]["secret_leak"]
    assert (wrong["got"], wrong["tool_calls"]) == ('{"a": "two"}', "send({})")
    assert wrong["reasons"]["json_fields"]


def test_a_leak_of_any_repeat_withholds_the_case(tmp_path: Path) -> None:
    """A leak behind the repeat that is shown withholds its texts too; what did not leak keeps its reason."""
    it = subject(tmp_path, cases(2), metrics={"exact_match": 1, "secret_leak": 0})
    runs = [replace(run, repeat=repeat) for repeat in range(3) for run in runs_of(it)]
    runs[2] = replace(runs[2], output="wrong")
    runs[4] = replace(runs[4], output=SECRET)
    verdict = assessed(it, runs, tmp_path / "out", repeats=3)
    assert SECRET not in json.dumps(verdict)
    (case,) = verdict["failing_cases"]
    assert case["got"].startswith("withheld: secret_leak found in it")
    assert case["reasons"] == {"exact_match": "differs from the expected output"}


def test_a_fault_can_leak_too(tmp_path: Path) -> None:
    """A secret in the words with which the agent fails is found, and stands nowhere in the verdict."""
    it = subject(tmp_path, cases(2), metrics={"exact_match": 0.5, "secret_leak": {}, "error_rate": 1})
    crash = Fault("agent", "crash", f"GET /?key={SECRET} failed")
    wrong = {"error": crash, "output": None, "tool_calls": [ToolCall("send", {"to": SECRET})]}
    for runs in (runs_of(it, c1=wrong), runs_of(it, c0=wrong, c1=wrong)):
        verdict = assessed(it, runs, tmp_path / "out")
        assert SECRET not in json.dumps(verdict)
        case = verdict["failing_cases"][-1]
        assert case["reasons"]["exact_match"] == WITHHELD
        assert case["reasons"]["secret_leak"].startswith("failed, and in its message: ")
        assert case["tool_calls"].startswith("withheld")
    assert verdict["reason"].endswith(f"all 2 runs ended in an error: {WITHHELD}")


@pytest.mark.parametrize(
    ("output", "state", "why"),
    [
        ("c0", State.INCONCLUSIVE, "1 of 1 metrics pass; only the whole golden set can pass"),
        ("wrong", State.FAIL, "exact_match: 0 is below 0.5 (1 of 1 case fails)"),
    ],
)
def test_a_part_is_judged_by_what_it_has(tmp_path: Path, output: str, state: State, why: str) -> None:
    """A metric that no case of the part has anything for is shown so, and the others decide."""
    golden = [*cases(1), {"id": "r", "input": "x", "metadata": {"should_refuse": False}}]
    it = subject(tmp_path, golden, metrics={"exact_match": 0.5, "refusal": 1})
    part = GoldenSet("golden.jsonl", tmp_path, Selection(cases=("c0",)))
    it = replace(it, golden=part)
    output = part["c0"].input if output == "c0" else output
    verdict = assessed(it, runs_of(it, c0={"output": output}), tmp_path / "out")
    assert (verdict["state"], verdict["reason"]) == (
        state,
        f"1 of 2 cases, selected by --case c0: {why}",
    )
    rows = {row["name"]: (row["state"], row["reason"]) for row in verdict["metrics"]}
    assert rows["refusal"] == (
        State.INCONCLUSIVE,
        "no case of this part has metadata.should_refuse",
    )


@pytest.mark.parametrize("ids", [("a",), ()])
def test_where_nothing_is_measured_it_stays_unscored(tmp_path: Path, ids: tuple[str, ...]) -> None:
    """In a part for which no metric has anything, as in the whole for one of them, the state is unscored."""
    golden = [*cases(0 if ids else 1), {"id": "a", "input": "x"}]
    it = subject(tmp_path, golden, metrics={"exact_match": 0.5, "refusal": 1, "error_rate": 1})
    it = replace(it, golden=GoldenSet("golden.jsonl", tmp_path, Selection(cases=ids)))
    verdict = assessed(it, runs_of(it), tmp_path / "out")
    assert verdict["state"] == State.UNSCORED
    assert "no case could be measured" in verdict["reason"]


def test_what_an_agent_does_not_report_is_no_fault_of_the_part(tmp_path: Path) -> None:
    """A metric of tool calls that no run reports is unscored in a part, as it is in the whole."""
    it = subject(tmp_path, cases(2), metrics={"exact_match": 0.5, "forbidden_tools": {"tools": ["x"]}})
    it = replace(it, golden=GoldenSet("golden.jsonl", tmp_path, Selection(cases=("c0",))))
    verdict = assessed(it, runs_of(it), tmp_path / "out")
    assert verdict["state"] == State.UNSCORED
