"""Every run is judged once by every judged metric, whatever becomes of a judge on the way."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.agent.protocol import ToolCall
from gatehouse.commands._judge import bench_for
from gatehouse.commands._shared import eval_gates
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.model import JUDGE_BASE_URL, JUDGE_KEY, Models
from gatehouse.evals.judges.scoring import Court
from gatehouse.evals.metrics import Gate, registry
from gatehouse.evals.results import StaleError, Subject
from gatehouse.evals.score import Scores, read_scores, write_scores
from tests.support.projects import CRASH, NO_ROUTE, cases, run_of, runs_of, subject_of
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.judges.base import Judge, Sample
    from gatehouse.evals.metrics.base import Score

RUBRIC = """\
rubric:
  criteria: Does the answer help?
  anchors: {1: It does not., 5: It does.}
"""
GRADED = """\
rubric:
  shows: [input, answer, expected, contexts]
  criteria: Is the answer grounded?
  anchors: {1: It is not., 5: It is.}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "OLLAMA_BASE_URL", "GATEHOUSE_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)


class Grader:
    """A judge that gives the answer "aN" the grades of `grades["aN"]`, one a vote, the last one for ever."""

    def __init__(self, grades: dict[str, list[Any]]) -> None:
        self.grades, self.asked, self.lock = grades, defaultdict[str, int](int), Lock()
        self.stub: StubModel | None = None

    def __call__(self, number: int) -> Reply:
        """The grade as the rubric's schema wants it; a Reply of the test's own as it is."""
        assert self.stub is not None
        text = "\n".join(message["content"] for message in self.stub.requests[number][2]["messages"])
        found = re.search(r'"answer": ?"(a\d+)"', text)
        assert found, text
        with self.lock:
            grades, at = self.grades[found[1]], self.asked[found[1]]
            self.asked[found[1]] += 1
        grade = grades[min(at, len(grades) - 1)]
        if isinstance(grade, Reply):
            return grade
        schema = self.stub.requests[number][2]["response_format"]["json_schema"]["schema"]
        name = next(iter(schema["properties"]))
        said = {"reason": f"grade {grade}", "grade": grade}
        return Reply(completion(json.dumps(said if name == "reason" else {name: said})))


def judged(
    folder: Path,
    grades: dict[str, list[Any]],
    *,
    runs: Callable[[Subject], Iterable[Run]] = runs_of,
    golden: list[dict[str, Any]] | None = None,
    monkeypatch: pytest.MonkeyPatch,
    rubric: str = RUBRIC,
    **judge: Any,
) -> tuple[Scores, list[dict[str, Any]], Grader]:
    """The runs of as many cases as `grades`, judged by a rubric with threshold 4; scores, lines, judge."""
    (folder / "evals/rubrics").mkdir(parents=True, exist_ok=True)
    (folder / "evals/rubrics/help.yaml").write_text(rubric)
    setting = {"model": "ollama:judge:1"} | judge
    evals = {"dataset": "golden.jsonl", "metrics": {"help": 4}, "judge": setting}
    subject = subject_of(folder, golden=golden or cases(len(grades)), evals=evals)
    gates = eval_gates(subject.agent, None)
    grader = Grader(grades)
    with stub_model(grader) as stub:
        grader.stub = stub
        monkeypatch.setenv(JUDGE_BASE_URL, stub.url)
        out = folder / "out"
        bench = bench_for(subject.agent, gates, None)
        write_scores(subject, gates, 1, runs(subject), [out / "runs.jsonl"], out, bench)
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    return read_scores(subject, gates, out), sorted(lines, key=lambda line: str(line["id"])), grader


def test_clear_grades_take_one_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grades far from the threshold are asked for once, and stand with their reason."""
    scores, lines, grader = judged(tmp_path, {"a0": [5], "a1": [1]}, monkeypatch=monkeypatch)
    assert [(line["value"], line["state"], line["reason"]) for line in lines] == [
        (5, "scored", "grade 5"),
        (1, "scored", "grade 1"),
    ]
    assert dict(grader.asked) == {"a0": 1, "a1": 1}
    assert "votes" not in lines[0]
    assert scores.info["judge"]["calls"] == 2
    assert scores.info["judge"]["models"] == ["ollama:judge:1"]


@pytest.mark.parametrize("grade", [3, 4])
def test_a_close_grade_is_voted_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grade: int) -> None:
    """A grade next to the threshold gets all its votes, whether it passes or fails."""
    _, (line,), grader = judged(tmp_path, {"a0": [grade, 5, 5]}, monkeypatch=monkeypatch)
    assert grader.asked["a0"] == 3
    assert line["votes"] == [grade, 5, 5]
    assert line["value"] == 5


def test_a_panel_votes_with_every_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each judge of a panel votes, and their mean counts where the file says so."""
    models = ["ollama:judge:1", "ollama:judge:2"]
    _, (line,), _ = judged(
        tmp_path, {"a0": [1, 2]}, monkeypatch=monkeypatch, model=models, panel="mean", votes=1
    )
    assert sorted(line["votes"]) == [1, 2]
    assert line["value"] == 1.5


def test_an_undecided_judge_leaves_the_case_unscored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that cannot tell is asked again; where it never can, nothing is made up."""
    _, lines, grader = judged(tmp_path, {"a0": [None], "a1": [None, 5, 5]}, monkeypatch=monkeypatch)
    assert (lines[0]["state"], lines[0]["value"]) == ("unscored", None)
    assert lines[0]["reason"].startswith("undecided: ")
    assert grader.asked["a0"] == 3
    assert (lines[1]["state"], lines[1]["value"]) == ("scored", 5)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(completion('{"grade": 11, "reason": "top"}')), "malformed"),
        (Reply(completion("I would give it a five.")), "malformed"),
        (Reply(completion(None, refusal="I cannot grade this.")), "refused"),
        (Reply({"error": {"message": "no", "code": "insufficient_quota"}}, status=429), "quota"),
        (Reply({"error": {"message": "bad key"}}, status=401), "key"),
    ],
)
def test_what_is_no_grade_is_never_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply, why: str
) -> None:
    """A grade off the scale, prose, a refusal or an error leave that case unscored, and the others scored."""
    _, lines, _ = judged(tmp_path, {"a0": [reply], "a1": [5]}, monkeypatch=monkeypatch)
    assert (lines[0]["state"], lines[0]["value"]) == ("unscored", None)
    assert lines[0]["reason"].startswith(why)
    assert (lines[1]["state"], lines[1]["value"]) == ("scored", 5)


def test_a_judge_that_stalls_ends_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that never answers costs its deadline, and the case, not the gate."""
    _, lines, _ = judged(
        tmp_path, {"a0": [Reply(hang=True)], "a1": [5]}, monkeypatch=monkeypatch, deadline_s=0.5
    )
    assert lines[0]["state"] == "unscored"
    assert lines[0]["reason"].startswith("timeout")
    assert lines[1]["value"] == 5


def test_faults_are_not_shown_to_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's fault has the scale's worst value, the infrastructure's none, and no judge is asked."""

    def runs(subject: Subject) -> list[Run]:
        good = run_of(subject, "c2")
        return [run_of(subject, "c0", error=CRASH), run_of(subject, "c1", error=NO_ROUTE), good]

    grades = {"a0": [5], "a1": [5], "a2": [5]}
    _, lines, grader = judged(tmp_path, grades, monkeypatch=monkeypatch, runs=runs)
    assert [(line["state"], line["value"]) for line in lines] == [
        ("fault", 1),
        ("unscored", None),
        ("scored", 5),
    ]
    assert dict(grader.asked) == {"a2": 1}


def test_what_a_case_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reference the metric does not apply; without contexts nobody can say that it holds."""
    golden: list[dict[str, Any]] = [
        {"id": "c0", "input": "a0"},
        {"id": "c1", "input": "a1", "expected": "a1"},
        {"id": "c2", "input": "a2", "expected": "a2", "contexts": ["a2 is so"]},
        {"id": "c3", "input": "a3", "expected": "a3", "contexts": ["a3 is so"]},
    ]

    def runs(subject: Subject) -> list[Run]:
        *others, last = (run_of(subject, f"c{i}") for i in range(4))
        return [*others, replace(last, contexts=[])]

    grades = {f"a{i}": [5] for i in range(4)}
    _, lines, grader = judged(
        tmp_path, grades, golden=golden, monkeypatch=monkeypatch, rubric=GRADED, runs=runs
    )
    assert [line["state"] for line in lines] == ["skipped", "unscored", "scored", "unscored"]
    assert lines[1]["reason"].startswith("no contexts")
    assert set(grader.asked) == {"a2"}


def long_run(subject: Subject, what: str, size: int) -> Run:
    """A run of case c0 whose golden set or reply has a text of so many characters; the rest is short."""
    contexts = ["x" * (size - 1), "x"] if what == "reported" else None
    return replace(run_of(subject, "c0", "a0" if what != "answer" else "x" * size), contexts=contexts)


TOO_LONG = "longer than 100,000 characters, which no judge is shown"


@pytest.mark.parametrize(
    ("what", "state", "value", "reason"),
    [
        ("answer", "scored", 1, f"the answer is {TOO_LONG}"),
        ("reported", "scored", 1, f"the contexts together are {TOO_LONG}"),
        ("input", "unscored", None, f"in the golden set the input is {TOO_LONG}"),
        ("expected", "unscored", None, f"in the golden set the expected answer is {TOO_LONG}"),
        ("contexts", "unscored", None, f"in the golden set the contexts together are {TOO_LONG}"),
    ],
)
def test_a_text_too_long_is_shown_to_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, state: str, value: float | None, reason: str
) -> None:
    """The agent's own is its failure, with the worst value; the golden set's leaves the case unscored."""
    case: dict[str, Any] = {"id": "c0", "input": "q", "expected": "a0", "contexts": ["a0 is so"]}
    if what in case:
        case[what] = ["x" * 60_000, "x" * 40_001] if what == "contexts" else "x" * 100_001
    _, (line,), grader = judged(
        tmp_path,
        {"a0": [5]},
        golden=[case],
        runs=lambda subject: [long_run(subject, what, 100_001)],
        monkeypatch=monkeypatch,
        rubric=GRADED,
    )
    assert (line["state"], line["value"], line["reason"]) == (state, value, reason)
    assert not grader.asked


def test_the_longest_text_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text as long as the bound is shown whole; what the rubric does not show may be longer."""
    golden: list[dict[str, Any]] = [
        {"id": "c0", "input": "x" * 100_000, "expected": "x" * 100_001, "contexts": ["x" * 100_001]}
    ]
    _, (line,), grader = judged(tmp_path, {"a0": [5]}, golden=golden, monkeypatch=monkeypatch, runs=only_a0)
    assert (line["state"], line["value"]) == ("scored", 5)
    assert grader.stub is not None
    assert "x" * 100_000 in grader.stub.requests[0][2]["messages"][-1]["content"]


def only_a0(subject: Subject) -> list[Run]:
    """One run, whose answer is "a0"."""
    return [run_of(subject, "c0", "a0")]


@pytest.mark.parametrize("name", [name for name, metric in registry().items() if metric.judged])
def test_no_metric_asks_about_an_answer_that_is_too_long(tmp_path: Path, name: str) -> None:
    """Whichever library has the metric: it has the worst value, and nobody is asked."""
    golden = [{"id": "c0", "input": "q", "expected": "a", "contexts": ["c"], "expected_tools": ["t"]}]
    subject = subject_of(tmp_path, golden=golden)
    gate = Gate(registry()[name], None, None, judge=_nobody)
    run = run_of(subject, "c0", "x" * 100_001)
    run = replace(run, tool_calls=[ToolCall("t", {})])
    setting = JudgeSetting(("ollama:judge:1",))
    bench = Bench(Models([], None), setting, price=lambda _usage: None, cache=None)
    found = asyncio.run(Court(bench).judge_run(gate, subject.golden["c0"], run))
    assert (found.state, found.value, found.reason) == (
        "scored",
        gate.metric.worst,
        f"the answer is {TOO_LONG}",
    )


async def _nobody(_sample: Sample, _judge: Judge) -> Score:
    raise AssertionError("asked")


def test_nothing_is_judged_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers judged again are taken from what was kept, each vote for itself."""
    first, lines, grader = judged(tmp_path, {"a0": [4, 5, 4], "a1": [1]}, monkeypatch=monkeypatch)
    second, again, other = judged(tmp_path, {"a0": [1], "a1": [5]}, monkeypatch=monkeypatch)
    assert again == lines
    assert sum(grader.asked.values()) == 4
    assert sum(other.asked.values()) == 0
    assert (first.info["judge"]["calls"], first.info["judge"]["cached"]) == (4, 0)
    assert (second.info["judge"]["calls"], second.info["judge"]["cached"]) == (0, 4)


def test_on_a_runner_unsigned_judgements_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key to sign with, another job could have written the file: there every answer is judged."""
    judged(tmp_path, {"a0": [1]}, monkeypatch=monkeypatch)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    _, (line,), other = judged(tmp_path, {"a0": [5]}, monkeypatch=monkeypatch)
    assert line["value"] == 5
    assert other.asked["a0"] == 1


def test_a_developers_judgements_outlive_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is added, changed or removed costs nothing that was judged."""
    for key in (None, "sk-judge-0123456789", "ollama=sk-another-0123456789", None):
        if key:
            monkeypatch.setenv(JUDGE_KEY, key)
        else:
            monkeypatch.delenv(JUDGE_KEY, raising=False)
        scores, (line,), _ = judged(tmp_path, {"a0": [1]}, monkeypatch=monkeypatch)
        assert line["value"] == 1
        assert scores.info["judge"]["notes"] == []
    assert scores.info["judge"]["cached"] == 1


def test_on_a_runner_judgements_are_signed_with_all_keys_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has one of several keys can forge nothing; and each of them is masked."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    held = "ollama=sk-judge-0123456789\nopenai=sk-another-0123456789"
    for key, cached in ((held, 0), (held + "\n", 1), ("ollama=sk-judge-0123456789", 0)):
        monkeypatch.setenv(JUDGE_KEY, key)
        scores, _, grader = judged(tmp_path, {"a0": [5]}, monkeypatch=monkeypatch)
        assert (scores.info["judge"]["cached"], grader.asked["a0"]) == (cached, 1 - cached)
        said = capsys.readouterr().out
        masked = [line.removeprefix("::add-mask::") for line in said.splitlines() if "add-mask" in line]
        assert masked == [line.partition("=")[2] for line in key.split()]
    assert scores.info["judge"]["notes"] == [
        "1 kept judgement does not count (signed with another key, or corrupt): asked again."
    ]


def test_one_key_alone_is_the_runners_to_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a secret as a whole; and off a runner nothing prints a key."""
    for actions, key in (("true", "sk-judge-0123456789"), ("", "ollama=sk-judge-0123456789")):
        monkeypatch.setenv("GITHUB_ACTIONS", actions)
        monkeypatch.setenv(JUDGE_KEY, key)
        judged(tmp_path, {"a0": [5]}, monkeypatch=monkeypatch)
        said = capsys.readouterr()
        assert "sk-judge" not in said.out + said.err


def test_what_is_not_judged_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How far the judging is, counts what is unscored as that."""
    judged(tmp_path, {"a0": [None], "a1": [5]}, monkeypatch=monkeypatch)
    assert "2 of 2 answers judged, 1 unscored, " in capsys.readouterr().err


def test_a_run_that_does_not_belong_ends_the_judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reading of the runs refuses is told as it is, and no scores are left behind."""

    def runs(subject: Subject) -> Iterator[Run]:
        yield run_of(subject, "c0")
        raise StaleError("the runs hold a case twice")

    with pytest.raises(StaleError, match="twice"):
        judged(tmp_path, {"a0": [5], "a1": [5]}, monkeypatch=monkeypatch, runs=runs)
    assert not (tmp_path / "out/scores.json").exists()


def test_a_dead_provider_keeps_what_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that stops answering leaves the rest unscored with the reason, and the first grades stay."""
    dead = Reply({"error": {"message": "gone"}}, status=500)
    grades: dict[str, list[Any]] = {"a0": [5], "a1": [5]} | {f"a{i}": [dead] for i in range(2, 40)}
    scores, lines, _ = judged(tmp_path, grades, monkeypatch=monkeypatch, concurrency=16, votes=1)
    states = [line["state"] for line in lines]
    assert (states.count("scored"), states.count("unscored")) == (2, 38)
    assert any(line["reason"].startswith("dead") for line in lines)
    assert scores.info["judge"]["calls"] < 40 * 4


def test_a_gate_never_spends_more_than_its_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not judged when the money is spent is unscored, and says so."""
    expensive = {"judge:1": {"input_per_mtok": 1000.0, "output_per_mtok": 1000.0}}
    folder = tmp_path
    (folder / "evals/rubrics").mkdir(parents=True)
    (folder / "evals/rubrics/help.yaml").write_text(RUBRIC)
    judge = {"model": "ollama:judge:1", "max_usd": 12.0, "votes": 1, "concurrency": 1}
    evals = {"dataset": "golden.jsonl", "metrics": {"help": 4}, "judge": judge}
    subject = subject_of(folder, golden=cases(200), evals=evals, pricing=expensive)
    gates = eval_gates(subject.agent, None)
    grader = Grader({f"a{i}": [5] for i in range(200)})
    with stub_model(grader) as stub:
        grader.stub = stub
        monkeypatch.setenv(JUDGE_BASE_URL, stub.url)
        bench = bench_for(subject.agent, gates, None)
        write_scores(subject, gates, 1, runs_of(subject), [], folder / "out", bench)
    judge_report = json.loads((folder / "out/scores.json").read_text())["judge"]
    lines = [json.loads(line) for line in (folder / "out/scores.jsonl").read_text().splitlines()]
    unscored = [line for line in lines if line["state"] == "unscored"]
    assert 0 < len(unscored) < 200
    assert all(line["reason"].startswith("budget") for line in unscored)
    assert 0 < judge_report["usd"] <= 12.0
