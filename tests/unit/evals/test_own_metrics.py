"""Metrics of the user's own code, in real processes: what they are shown, what they say, how they fail."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import OwnScore, Run, read_runs
from gatehouse.errors import UserError
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.own_metrics import WithOwnMetrics, own_gates, parse_score, pools_for
from gatehouse.evals.run import RunOptions, run_cases
from gatehouse.evals.score import score_run
from gatehouse.evals.worker_pool import StartError
from tests.support.projects import CRASH, NO_ROUTE, agent_of, run_of, subject_of
from tests.support.running import cases_of, info_of, pool_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.run import RunSummary

TONE = {"metric": "checks:tone", "threshold": 0.5}


def evals(**metrics: Any) -> dict[str, Any]:
    """The `evals` of an agent file with these metrics, by default `tone`."""
    return {"dataset": "golden.jsonl", "metrics": metrics or {"tone": TONE}}


def score_answers(
    folder: Path, source: str, count: int = 8, deadline_s: float = 20.0, **metrics: Any
) -> tuple[RunSummary, dict[str, Run]]:
    """Run an agent that repeats its input, scored by the functions of `source`; the runs by case."""
    gates = own_gates(agent_of(folder, evals=evals(**metrics)))
    (folder / "checks.py").write_text(source)
    pools = pools_for(
        gates,
        sys.executable,
        threads=4,
        environ={"PATH": "/usr/bin:/bin"},
        cwd=folder,
        out_dir=folder / "out",
    )
    target = WithOwnMetrics(pool_of(folder), gates, pools)
    options = RunOptions(concurrency=4, case_deadline_s=deadline_s)
    summary = run_cases(target, cases_of(range(count)), folder / "out", info_of(count), options)
    return summary, {run.id: run for run in read_runs(folder / "out" / "runs.jsonl")}


@pytest.mark.parametrize(
    ("returned", "score"),
    [
        (1, OwnScore(1.0)),
        (0.25, OwnScore(0.25)),
        (True, OwnScore(1.0)),
        (False, OwnScore(0.0)),
        ({"value": 0.5, "reason": "half"}, OwnScore(0.5, "half")),
        ({"value": 0.5}, OwnScore(0.5)),
        ({"value": 0.5, "reason": None}, OwnScore(0.5)),
        ({"value": 1, "reason": "x" * 3000}, OwnScore(1.0, "x" * 2000)),
        (1.5, OwnScore(None, "checks:tone returned 1.5, which is no number from 0 to 1")),
        (-1, OwnScore(None, "checks:tone returned -1, which is no number from 0 to 1")),
        (float("nan"), OwnScore(None, "checks:tone returned nan, which is no number from 0 to 1")),
        (None, OwnScore(None, "checks:tone returned NoneType, which is no number from 0 to 1")),
        ("1", OwnScore(None, "checks:tone returned str, which is no number from 0 to 1")),
        ({"score": 1}, OwnScore(None, "checks:tone returned dict, which is no number from 0 to 1")),
        ({"value": 2}, OwnScore(None, "checks:tone returned 2, which is no number from 0 to 1")),
        ({"value": 1, "reason": 5}, OwnScore(None, "checks:tone returned a reason that is no text")),
    ],
)
def test_what_a_metric_may_return(returned: Any, score: OwnScore) -> None:
    """A number from 0 to 1, a bool, or one with a reason; anything else is no value, and never a good one."""
    assert parse_score("checks:tone", returned) == score


def test_a_metric_sees_case_answer_and_options(tmp_path: Path) -> None:
    """It is handed everything that a native metric could look at, and its options of the agent file."""
    source = (
        "import json, pathlib\n"
        "async def tone(asked):\n"
        "    pathlib.Path('seen.json').write_text(json.dumps(asked))\n"
        "    return {'value': 0.75, 'reason': 'fine'}\n"
    )
    metric = TONE | {"words": ["kind"], "strict": True}
    _, runs = score_answers(tmp_path, source, 1, tone=metric)
    assert runs["c0"].own_scores == {"tone": OwnScore(0.75, "fine")}
    seen = json.loads((tmp_path / "seen.json").read_text())
    latency = seen["run"].pop("latency_s")
    assert seen == {
        "case": {
            "id": "c0",
            "input": 0,
            "expected": None,
            "contexts": None,
            "expected_tools": None,
            "tags": [],
            "metadata": {},
        },
        "run": {"output": 0, "contexts": None, "tool_calls": None, "usage": [], "iterations": None},
        "options": {"words": ["kind"], "strict": True},
    }
    assert runs["c0"].latency_s == latency


GUILTY = [
    ("raise ValueError('no such order')", "(exception): ValueError: no such order"),
    ("raise ConnectionError('no route')", "(connection): ConnectionError: no route"),
    ("import sys; sys.exit(7)", "(exit): the function ended its process: SystemExit: 7"),
    ("print('void'); import os; os._exit(7)", "(crash): the metric's process ended with exit code 7\nvoid"),
    ("import time; time.sleep(60)", "(hang): no answer within 1 s"),
    ("return float('nan')", "(garbage): the function returned float, which is not JSON"),
    ("return '\\ud800'", "(garbage): the reply is not valid Unicode"),
    ("return object()", "(garbage): the function returned object"),
    ("return {'output': 1}", "returned dict, which is no number from 0 to 1"),
    ("raise ValueError('the agent forgot')", "(exception): ValueError: the agent forgot"),
    ("return 7", "returned 7, which is no number from 0 to 1"),
]


@pytest.mark.parametrize(("body", "reason"), GUILTY)
def test_a_metric_that_fails_leaves_its_case_without_a_value(tmp_path: Path, body: str, reason: str) -> None:
    """Whatever a metric does to its process, the answers stay, and only the guilty score is missing."""
    source = f"def tone(asked):\n    if asked['case']['id'] == 'c3':\n        {body}\n    return 1\n"
    summary, runs = score_answers(tmp_path, source, deadline_s=1.0)
    guilty = runs["c3"].own_scores["tone"]
    assert guilty.value is None
    assert reason in guilty.reason
    assert guilty.reason.startswith("checks:tone ")
    assert [runs[f"c{i}"].output for i in range(8)] == list(range(8))
    assert {id_ for id_, run in runs.items() if run.own_scores["tone"].value != 1.0} == {"c3"}
    assert (summary.agent_faults, summary.infrastructure_faults, summary.stopped) == (0, 0, "")


def test_a_slow_metric_does_not_make_the_agent_slow(tmp_path: Path) -> None:
    """The latency is the agent's alone."""
    _, runs = score_answers(tmp_path, "import time\ndef tone(asked):\n    time.sleep(0.3)\n    return 1\n", 2)
    assert all(run.latency_s is not None and run.latency_s < 0.2 for run in runs.values())


def test_several_metrics_share_a_module_and_its_prints_have_a_log(tmp_path: Path) -> None:
    """Each has its own value and options; what they print lies apart from what the agent prints."""
    source = (
        "def tone(asked):\n    print('tone of', asked['case']['id'])\n"
        "    return asked['options'].get('give', 1)\n"
        "def length(asked):\n    return 0.5\n"
    )
    metrics: dict[str, Any] = {
        "tone": TONE,
        "low": TONE | {"give": 0.25},
        "length": {"metric": "checks:length", "threshold": 0},
    }
    _, runs = score_answers(tmp_path, source, 1, **metrics)
    values = {name: score.value for name, score in runs["c0"].own_scores.items()}
    assert values == {"tone": 1.0, "low": 0.25, "length": 0.5}
    assert (tmp_path / "out/own-metrics/checks.tone/worker.log").read_text() == "tone of c0\n" * 2
    assert not (tmp_path / "out/worker.log").exists()


@pytest.mark.parametrize("kind", ["exception", "crash"])
def test_an_answer_with_a_fault_is_not_scored(tmp_path: Path, kind: str) -> None:
    """There is nothing to score: the metric is not asked about it."""
    body = "raise ValueError" if kind == "exception" else "import os; os._exit(1)"
    gates = own_gates(agent_of(tmp_path, evals=evals(), code=f"def answer(x):\n    {body}\n"))
    (tmp_path / "checks.py").write_text("open('asked', 'w')\ndef tone(asked):\n    open('scored', 'w')\n")
    pools = pools_for(gates, sys.executable, threads=1, environ={}, cwd=tmp_path, out_dir=tmp_path / "out")
    target = WithOwnMetrics(pool_of(tmp_path), gates, pools)
    summary = run_cases(target, cases_of([1]), tmp_path / "out", info_of(1), RunOptions())
    assert summary.agent_faults == 1
    assert (tmp_path / "asked").exists()
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("def tones(asked): return 1\n", 'checks has no "tone"; did you mean "tones"?'),
        ("import os\nos._exit(4)\n", "exit code 4"),
    ],
)
def test_a_metric_that_cannot_be_loaded_stops_the_run_before_it_begins(
    tmp_path: Path, source: str, words: str
) -> None:
    """Nothing is asked; the message names metric, function and Python."""
    code = "import pathlib\ndef answer(x):\n    pathlib.Path('asked').touch()\n    return x\n"
    gates = own_gates(agent_of(tmp_path, evals=evals(), code=code))
    (tmp_path / "checks.py").write_text(source)
    pools = pools_for(gates, sys.executable, threads=1, environ={}, cwd=tmp_path, out_dir=tmp_path / "out")
    target = WithOwnMetrics(pool_of(tmp_path), gates, pools)
    with pytest.raises(StartError, match='metric "tone": checks:tone cannot be loaded') as error:
        run_cases(target, cases_of([1]), tmp_path / "out", info_of(1), RunOptions())
    assert words in str(error.value)
    assert sys.executable in str(error.value)
    assert not (tmp_path / "asked").exists()


def test_a_metric_whose_process_does_not_start_again_costs_no_answer(tmp_path: Path) -> None:
    """After a crash that it does not survive, every answer is kept, without its value."""
    source = (
        "import os, pathlib\n"
        "if pathlib.Path('died').exists(): raise RuntimeError('no more')\n"
        "def tone(asked):\n    pathlib.Path('died').touch()\n    os._exit(1)\n"
    )
    summary, runs = score_answers(tmp_path, source, 4)
    assert [runs[f"c{i}"].output for i in range(4)] == [0, 1, 2, 3]
    assert all(run.own_scores["tone"].value is None for run in runs.values())
    assert "no more" in "".join(run.own_scores["tone"].reason for run in runs.values())
    assert summary.stopped == ""


def gate(folder: Path, **metrics: Any) -> Gate:
    """The first gate of a small agent with these metrics."""
    return gates_of(agent_of(folder, evals=evals(**metrics)))[0]


SCORED = {"tone": OwnScore(0.75, "curt")}


@pytest.mark.parametrize(
    ("fields", "state", "value", "reason"),
    [
        ({"own_scores": SCORED}, "scored", 0.75, "curt"),
        ({"own_scores": {"tone": OwnScore(None, "it hung")}}, "unscored", None, "it hung"),
        ({}, "unscored", None, "not scored where the agent ran: run again"),
        (
            {"own_scores": {"other": OwnScore(1.0)}},
            "unscored",
            None,
            "not scored where the agent ran: run again",
        ),
        ({"error": CRASH, "own_scores": SCORED}, "fault", 0.0, f"crash: {CRASH.message}"),
        ({"error": NO_ROUTE, "own_scores": SCORED}, "unscored", None, f"connection: {NO_ROUTE.message}"),
    ],
)
def test_scores_are_read_from_the_run(
    tmp_path: Path, fields: dict[str, Any], state: str, value: float | None, reason: str
) -> None:
    """Where the agent did not run, a metric is what the run says of it; without a value it is unscored."""
    subject = subject_of(tmp_path, evals=evals())
    run = run_of(subject, "c0", **fields)
    [tone] = gates_of(subject.agent)
    assert score_run(tone, subject.golden["c0"], run) == (state, value, reason)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder, _metric: (folder / "checks.py").write_text("def tone(asked): return 0\n"), False),
        (lambda _folder, metric: metric.update(words=["kind"]), False),
        (lambda _folder, metric: metric.update(metric="checks:other"), False),
        (lambda _folder, metric: metric.update(threshold=0.9), True),
    ],
    ids=["code", "options", "function", "threshold"],
)
def test_the_method_is_code_options_and_function(tmp_path: Path, change: Any, same: bool) -> None:
    """What scores of one method can be compared by; a threshold is no part of it."""
    agent_of(tmp_path)
    (tmp_path / "checks.py").write_text("def tone(asked): return 1\n")
    before = gate(tmp_path, tone=TONE).method
    metric = dict(TONE)
    change(tmp_path, metric)
    assert (gate(tmp_path, tone=metric).method == before) is same


def test_code_outside_of_the_repository_is_warned_of(tmp_path: Path) -> None:
    """No digest covers it: the agent's warnings say so, once."""
    agent = agent_of(tmp_path, evals=evals(tone={"metric": "json:loads", "threshold": 1}))
    for _ in range(2):
        gates_of(agent)
    [warning] = agent.warnings[-1:]
    assert warning.message == (
        'code of metric "tone" (json:loads) is neither in the repository\'s root nor in its src.'
    )
    assert agent.warnings.count(warning) == 1
    (tmp_path / "checks.py").write_text("")
    covered = agent_of(tmp_path, evals=evals())
    gates_of(covered)
    assert not any("tone" in warning.message for warning in covered.warnings)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"metric": "../checks:tone"}, '"../checks:tone" is not module:function.'),
        ({"metric": "checks:"}, '"checks:" is not module:function.'),
        ({"metric": "checks:tone "}, '"checks:tone " is not module:function.'),
        ({"metric": ":"}, '":" is not module:function.'),
    ],
)
def test_what_is_no_function_is_the_file_s_to_mend(tmp_path: Path, metric: Any, words: str) -> None:
    """A metric with a colon that names no function is a fault of the agent file."""
    agent = agent_of(tmp_path, evals=evals(tone=metric | {"threshold": 1}))
    with pytest.raises(UserError) as error:
        own_gates(agent)
    assert words in str(error.value)


def test_a_run_needs_no_threshold(tmp_path: Path) -> None:
    """A threshold may be the command line's of a later stage; without own metrics nothing is checked."""
    agent = agent_of(tmp_path, evals=evals(tone={"metric": "checks:tone"}, exact_match={}))
    assert [gate.metric.name for gate in own_gates(agent)] == ["tone"]
    assert own_gates(agent_of(tmp_path, evals=evals(no_such_metric=1))) == []
