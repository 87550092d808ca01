"""Runs become scores, scores are read back, and what does not belong to the subject is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Fault, Run
from gatehouse.errors import InfrastructureError, UserError
from gatehouse.evals.metrics import gates_of, registry
from gatehouse.evals.metrics.base import Metric
from gatehouse.evals.results import StaleError, Subject
from gatehouse.evals.score import WITHHELD, Scores, Tally, read_scores, score_run, write_scores
from tests.support.projects import COMMIT, CRASH, HANG, NO_ROUTE, cases, run_of, runs_of, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gatehouse.evals.metrics import Gate

METRICS = {"exact_match": 0.8, "error_rate": 0.1, "latency_p95": 5}


def gated(folder: Path, count: int = 3, **project: Any) -> tuple[Subject, list[Gate]]:
    """A subject with `count` cases, held to METRICS."""
    project = {"golden": cases(count), "evals": {"dataset": "golden.jsonl", "metrics": METRICS}} | project
    subject = subject_of(folder, **project)
    return subject, gates_of(subject.agent)


def scored(
    subject: Subject, gates: Sequence[Gate], runs: Iterable[Run], out: Path, repeats: int = 1
) -> Scores:
    """The runs, scored and read back."""
    write_scores(subject, gates, repeats, runs, [out / "runs.jsonl"], out)
    return read_scores(subject, gates, out)


@pytest.mark.parametrize(
    ("metric", "error", "expected"),
    [
        ("exact_match", None, ("scored", 1.0, "")),
        ("exact_match", CRASH, ("fault", 0.0, f"crash: {CRASH.message}")),
        ("exact_match", NO_ROUTE, ("unscored", None, f"connection: {NO_ROUTE.message}")),
        ("error_rate", None, ("scored", 0.0, "")),
        ("error_rate", HANG, ("fault", 1.0, f"hang: {HANG.message}")),
        ("error_rate", NO_ROUTE, ("unscored", None, f"connection: {NO_ROUTE.message}")),
        ("latency_p95", None, ("scored", 1.0, "")),
        ("latency_p95", CRASH, ("skipped", None, "")),
        ("latency_p95", HANG, ("scored", 1.0, "")),
        ("latency_p95", NO_ROUTE, ("unscored", None, f"connection: {NO_ROUTE.message}")),
    ],
)
def test_states(tmp_path: Path, metric: str, error: Fault | None, expected: tuple[Any, ...]) -> None:
    """The agent's fault is the worst value, the infrastructure's none, and a crash is no quick answer."""
    subject, gates = gated(tmp_path)
    gate = next(gate for gate in gates if gate.metric.name == metric)
    assert score_run(gate, subject.golden["c0"], run_of(subject, "c0", error=error)) == expected


@pytest.mark.parametrize("by", ["agent", "infrastructure"])
def test_the_words_of_a_fault_are_withheld_where_they_leak(tmp_path: Path, by: Any) -> None:
    """A server's error may quote what must not be shown: nobody's reason does, nor the first fault."""
    mail = "jane.doe@example.com"
    metrics: dict[str, Any] = {"exact_match": 0.5, "pii_leak": {}, "canary_leak": {"text": "PWNED-7f3a"}}
    subject, gates = gated(tmp_path, evals={"dataset": "golden.jsonl", "metrics": metrics})
    for words in (f"500: no account for {mail}", "500: PWNED-7f3a"):
        for error in (Fault(by, "server", words), Fault(by, words, "500")):
            runs = [run_of(subject, "c0", error=error)]
            scores = scored(subject, gates, runs, tmp_path / "out")
            kept = (tmp_path / "out/scores.jsonl").read_text() + (tmp_path / "out/scores.json").read_text()
            assert mail not in kept
            assert "PWNED" not in kept
            assert scores.info["first_fault"] == WITHHELD
            assert bool(scores.tallies["pii_leak"].unscored[0]) == (by == "infrastructure")


def test_a_fault_where_the_metric_does_not_apply(tmp_path: Path) -> None:
    """A crash on a case without a reference has no exact match, but it is a fault still."""
    subject, gates = gated(tmp_path, golden=[{"id": "c0", "input": "a0"}])
    run = run_of(subject, "c0")
    assert score_run(gates[0], subject.golden["c0"], run) == ("skipped", None, "")
    assert score_run(gates[0], subject.golden["c0"], replace(run, error=CRASH))[:2] == ("fault", None)


def test_round_trip_with_repeats(tmp_path: Path) -> None:
    """A case's value is the mean of its repeats, each metric has its own tally, and the runs are counted."""
    subject, gates = gated(tmp_path)
    runs = [replace(run, repeat=repeat) for repeat in range(4) for run in runs_of(subject)]
    runs[0] = replace(runs[0], output="wrong")
    runs[4] = replace(runs[4], error=CRASH)
    scores = scored(subject, gates, runs, tmp_path / "out", repeats=4)
    exact, errors, latency = (scores.tallies[name] for name in METRICS)
    assert [exact.value(slot) for slot in range(3)] == [0.75, 0.75, 1.0]
    assert [errors.value(slot) for slot in range(3)] == [0.0, 0.25, 0.0]
    assert latency.value(1) == 1.0
    assert not sum(exact.unscored)
    assert list(exact.faults) == [0, 1, 0]
    assert scores.info["runs"] == {"total": 12, "agent_faults": 1, "infrastructure_faults": 0}
    assert scores.info["first_fault"] == f"crash: {CRASH.message}"
    assert scores.info["latency_s"] == {"p50": 1.0, "p95": 1.0}
    assert scores.run_files == [tmp_path / "out/runs.jsonl"]


def test_one_unscored_or_missing_repeat_leaves_a_case_unscored(tmp_path: Path) -> None:
    """The mean of two repeats is not the mean of three: such a case has no value."""
    subject, gates = gated(tmp_path)
    runs = [replace(run, repeat=repeat) for repeat in range(3) for run in runs_of(subject)]
    runs[3] = replace(runs[3], error=NO_ROUTE)
    del runs[8]
    exact = scored(subject, gates, runs, tmp_path / "out", repeats=3).tallies["exact_match"]
    assert [exact.value(slot) for slot in range(3)] == [None, 1.0, None]
    assert list(exact.unscored) == [1, 0, 1]
    assert exact.why_unscored == f"connection: {NO_ROUTE.message}"
    exact = scored(subject, gates, runs[:8][1:3], tmp_path / "out").tallies["exact_match"]
    assert exact.why_unscored == "not run: the run ended before it"


def test_writing_scores_removes_what_was_said_of_older_ones(tmp_path: Path) -> None:
    """What says of which runs the scores are is gone before new ones are written."""
    subject, gates = gated(tmp_path)
    (tmp_path / "scores.json").write_text("{}")

    def runs() -> Iterable[Run]:
        assert not (tmp_path / "scores.json").exists()
        yield from runs_of(subject)

    write_scores(subject, gates, 1, runs(), [], tmp_path)
    assert (tmp_path / "scores.json").exists()


def test_a_run_that_breaks_off_leaves_no_scores(tmp_path: Path) -> None:
    """Runs that turn out stale half way leave nothing that a verdict could read."""
    subject, gates = gated(tmp_path)

    def runs() -> Iterable[Run]:
        yield run_of(subject, "c0")
        raise StaleError("stale")

    with pytest.raises(StaleError):
        write_scores(subject, gates, 1, runs(), [], tmp_path)
    with pytest.raises(StaleError, match=r"scores.json: missing"):
        read_scores(subject, gates, tmp_path)


def test_half_a_surrogate_pair_is_scored(tmp_path: Path) -> None:
    """What has no bytes is written as a question mark: a model cannot end the gate with it."""
    subject, gates = gated(tmp_path, evals={"metrics": {"contains": {"threshold": 1, "text": "\ufffd?"}}})
    run = run_of(subject, "c0", error=replace(CRASH, message="\ud800"))
    assert scored(subject, gates, [run], tmp_path).tallies["contains"].value(0) == 0.0


def test_an_unwritable_folder_is_the_infrastructure_s(tmp_path: Path) -> None:
    """A folder that cannot be made is told by name."""
    subject, gates = gated(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=r"cannot be written to .*file/out"):
        write_scores(subject, gates, 1, runs_of(subject), [], tmp_path / "file/out")


STALE: dict[str, tuple[Callable[[Subject], Subject], str]] = {
    "agent": (lambda s: replace(s, agent=replace(s.agent, parts={"prompt": "other"})), "another agent"),
    "commit": (lambda s: replace(s, commit="d" * 40), "another commit"),
}


@pytest.mark.parametrize("what", STALE)
def test_scores_of_something_else_do_not_count(tmp_path: Path, what: str) -> None:
    """Scores of another agent or commit are refused, each by name."""
    subject, gates = gated(tmp_path)
    scored(subject, gates, runs_of(subject), tmp_path)
    change, message = STALE[what]
    with pytest.raises(StaleError, match=message):
        read_scores(change(subject), gates, tmp_path)


def test_scores_of_another_golden_set_or_metric_do_not_count(tmp_path: Path) -> None:
    """A golden set with one more space, or a metric that was not scored, makes the scores stale."""
    subject, gates = gated(tmp_path)
    scored(subject, gates[:1], runs_of(subject), tmp_path)
    with pytest.raises(StaleError, match="has no scores of error_rate, latency_p95"):
        read_scores(subject, gates, tmp_path)
    changed, _ = gated(tmp_path, golden=[*cases(2), {"id": "c2", "input": "a2 ", "expected": "a2"}])
    with pytest.raises(StaleError, match="another golden set"):
        read_scores(changed, gates[:1], tmp_path)


@pytest.mark.parametrize("commits", [(COMMIT, None), (None, None)])
def test_an_unknown_commit_is_no_other_commit(tmp_path: Path, commits: tuple[str | None, str | None]) -> None:
    """Outside a repository the commit cannot be compared, and does not matter."""
    subject, gates = gated(tmp_path)
    scored(replace(subject, commit=commits[0]), gates, runs_of(subject), tmp_path)
    assert read_scores(replace(subject, commit=commits[1]), gates, tmp_path)


def test_results_of_no_commit_are_not_this_commit_s(tmp_path: Path) -> None:
    """Where the commit is known, results that name none do not count: they were made elsewhere."""
    subject, gates = gated(tmp_path)
    scored(replace(subject, commit=None), gates, runs_of(subject), tmp_path)
    with pytest.raises(StaleError, match="another commit"):
        read_scores(replace(subject, commit=COMMIT), gates, tmp_path)


def test_scores_by_other_options_are_no_scores(tmp_path: Path) -> None:
    """A metric whose options changed since has to score again."""
    subject, gates = gated(tmp_path)
    scored(subject, gates, runs_of(subject), tmp_path)
    changed = [replace(gate, options={"text": "other"}) for gate in gates]
    with pytest.raises(StaleError, match="as it is asked for now"):
        read_scores(subject, changed, tmp_path)


LINE = {
    "id": "c0",
    "case": "x",
    "repeat": 0,
    "metric": "exact_match",
    "value": 1.0,
    "state": "scored",
    "reason": "",
}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "5",
        "[" * 100_000,
        json.dumps(LINE | {"id": "unknown"}),
        json.dumps(LINE | {"value": "1"}),
        json.dumps(LINE | {"value": float("nan")}),
        json.dumps(LINE | {"value": float("inf")}),
        json.dumps(LINE | {"value": 500}),
        json.dumps(LINE | {"value": -0.01, "state": "fault"}),
        json.dumps(LINE | {"state": "splendid"}),
        json.dumps(LINE | {"state": "unscored"}),
        json.dumps({key: value for key, value in LINE.items() if key != "state"}),
        json.dumps(LINE) + "\n" + json.dumps(LINE),
        "\udcff",
    ],
    ids=[
        "torn",
        "number",
        "deep",
        "case",
        "text",
        "nan",
        "inf",
        "above",
        "below",
        "state",
        "mixed",
        "missing",
        "twice",
        "bytes",
    ],
)
def test_a_malformed_line_makes_all_scores_unusable(tmp_path: Path, line: str) -> None:
    """Nothing is repaired: a line that is torn, foreign or there twice is told with the file's name."""
    subject, gates = gated(tmp_path)
    scored(subject, gates, runs_of(subject), tmp_path)
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert '"id":"c0"' in lines[0]
    assert '"metric":"exact_match"' in lines[0]
    lines[0] = line
    (tmp_path / "scores.jsonl").write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(StaleError, match=r"scores.jsonl: malformed .*Score the runs again"):
        read_scores(subject, gates, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"repeats": 0},
        {"repeats": -1},
        {"repeats": "1"},
        {"runs": {"total": 1}},
        {"runs": None},
        {"metrics": None},
        {"agent": "echo"},
        {"agent": {"name": "echo"}},
        {"dataset": None},
        {"run_files": 5},
        {"schema": 99},
    ],
)
def test_a_malformed_scores_json_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """`scores.json` is checked as far as it is used; one of a newer version is not guessed at."""
    subject, gates = gated(tmp_path)
    scored(subject, gates, runs_of(subject), tmp_path)
    info = json.loads((tmp_path / "scores.json").read_text()) | changed
    (tmp_path / "scores.json").write_text(json.dumps(info))
    with pytest.raises(StaleError):
        read_scores(subject, gates, tmp_path)


def test_a_value_beyond_its_rubrics_scale_is_none(tmp_path: Path) -> None:
    """The bounds are those of the metric: 5 of 5 is a score and 6 is not; seconds and dollars have none."""
    rubric = Metric("helpfulness", "quality", "", low=1, high=5)
    line = LINE | {"metric": "helpfulness"}
    for value in (1, 3.5, 5, 5 + 1e-12):
        Tally.empty(1, rubric).add(0, line | {"value": value})
    for value in (0, 0.99, 5.01, 500):
        with pytest.raises(ValueError, match="is not from 1 to 5"):
            Tally.empty(1, rubric).add(0, line | {"value": value})
    Tally.empty(1, registry()["latency_p95"]).add(0, line | {"value": 500})


def test_missing_scores_say_what_to_run(tmp_path: Path) -> None:
    """Without `scores.jsonl` beside its `scores.json` there is nothing to judge."""
    subject, gates = gated(tmp_path)
    scored(subject, gates, runs_of(subject), tmp_path)
    (tmp_path / "scores.jsonl").unlink()
    with pytest.raises(StaleError, match=r"scores.jsonl: missing. Score the runs again."):
        read_scores(subject, gates, tmp_path)


def test_a_golden_set_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    """Scores are of the golden set that was checked: a change under way is the author's to know."""
    subject, gates = gated(tmp_path)
    (tmp_path / "golden.jsonl").write_text('{"id": "c0", "input": "other"}\n')
    with pytest.raises(UserError, match="changed since it was checked"):
        write_scores(subject, gates, 1, [Run("c0", "x", 0, "a0")], [], tmp_path)
