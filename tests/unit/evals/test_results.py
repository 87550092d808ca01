"""What lies in the folder of results counts only if it is of this agent, golden set and commit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import InfrastructureError
from gatehouse.evals.results import StaleError, find_runs, read_json, runs_of, write_json
from tests.support.projects import cases, run_of, subject_of, write_runs
from tests.support.projects import runs_of as right_runs

if TYPE_CHECKING:
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.results import Subject


GOLDEN = {"path": "g", "digest": "sha256:0", "cases": 3}


def read_all(subject: Subject, *files: Path) -> tuple[int, list[Run]]:
    """Repeats and runs of some files, read to the end."""
    repeats, runs = runs_of(subject, files)
    return repeats, list(runs)


def test_parts_of_one_run_are_read_as_one(tmp_path: Path) -> None:
    """Runs of several files are joined, and an empty part is no fault."""
    subject = subject_of(tmp_path, golden=cases(3))
    runs = right_runs(subject)
    files = [write_runs(tmp_path / str(i), subject, part) for i, part in enumerate((runs[:1], runs[1:], []))]
    assert read_all(subject, *files) == (1, runs)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"agent": {"name": "echo", "digest": "sha256:0123456789abcdef"}},
            r"another agent \(0123456789ab, not",
        ),
        ({"dataset": GOLDEN}, "another golden set"),
        (
            {"dataset": GOLDEN | {"selected": {"tags": [], "cases": ["c0"]}, "of": 9}},
            r"a part of the golden set \(3 of 9 cases, selected by --case c0\), and the whole is asked for",
        ),
        ({"dataset": GOLDEN | {"selected": "c0"}}, r"runs.jsonl: \"dataset\" is malformed"),
        ({"dataset": GOLDEN | {"paths": [None]}}, r"runs.jsonl: \"dataset\" is malformed"),
        ({"commit": "d" * 40}, r"another commit \(dddddddddddd, not cccccccccccc\)"),
        ({"repeats": 0}, "0 repeats"),
        ({"repeats": 1001}, "1001 repeats"),
    ],
)
def test_runs_of_something_else_do_not_count(tmp_path: Path, info: dict[str, Any], message: str) -> None:
    """`run.json` says whose runs they are: another agent, golden set or commit is refused by name."""
    subject = subject_of(tmp_path)
    with pytest.raises(StaleError, match=rf"{message}(.|\n)*Run the agent again"):
        read_all(subject, write_runs(tmp_path / "out", subject, right_runs(subject), **info))


def test_parts_of_different_runs_are_refused(tmp_path: Path) -> None:
    """Files that were run with different repeats are not one run."""
    subject = subject_of(tmp_path)
    files = [write_runs(tmp_path / str(n), subject, right_runs(subject), repeats=n) for n in (1, 2)]
    with pytest.raises(StaleError, match=r"differ in repeats \(\[1, 2\]\)"):
        read_all(subject, *files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": "c9"}, "case 'c9', repeat 0, which nobody asked for"),
        ({"repeat": 1}, "case 'c0', repeat 1, which nobody asked for"),
        ({"case": "0" * 16}, "Case 'c0' has changed since it was run"),
        ({"id": "c1"}, "Case 'c1' has changed since it was run"),
        ({}, "case 'c0', repeat 0, twice"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """A run of an unknown or changed case, or a second one of the same, makes the whole unusable."""
    subject = subject_of(tmp_path)
    runs = [*right_runs(subject), replace(run_of(subject, "c0"), **changed)]
    with pytest.raises(StaleError, match=message):
        read_all(subject, write_runs(tmp_path / "out", subject, runs))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"runs.jsonl:6: .*Run the agent again"),
        ("[]", r"runs.jsonl:6: not an object"),
        ('{"id": 5}', r'runs.jsonl:6: "id"'),
        ("[" * 100_000, r"runs.jsonl:6: "),
    ],
)
def test_a_malformed_run_is_told_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    """A torn line is not skipped: the file and the line's number say where it is."""
    subject = subject_of(tmp_path)
    file = write_runs(tmp_path / "out", subject, right_runs(subject))
    with file.open("a") as lines:
        lines.write(line + "\n")
    with pytest.raises(StaleError, match=message):
        read_all(subject, file)


def test_missing_and_malformed_run_files(tmp_path: Path) -> None:
    """Runs without their `run.json`, and a `run.json` without its runs, are told by path."""
    subject = subject_of(tmp_path)
    file = write_runs(tmp_path / "out", subject, right_runs(subject))
    file.unlink()
    with pytest.raises(StaleError, match=r"out/runs.jsonl: missing. Run the agent again."):
        read_all(subject, file)
    file.with_name("run.json").write_text("{}")
    with pytest.raises(StaleError, match=r"out/run.json: \"schema\" is not a count. Run the agent again."):
        read_all(subject, file)
    file.with_name("run.json").unlink()
    with pytest.raises(StaleError, match=r"out/run.json: missing. Run the agent again."):
        read_all(subject, file)


@pytest.mark.parametrize("exists", [True, False])
def test_runs_without_an_answer_say_why(tmp_path: Path, exists: bool) -> None:
    """A run that ended before its first answer hands on the reason that its `run.json` holds."""
    subject = subject_of(tmp_path)
    file = write_runs(tmp_path / "out", subject, [], complete=False, failure="No key for openai.")
    if not exists:
        file.unlink()
    with pytest.raises(StaleError, match=r"No case was answered: No key for openai."):
        read_all(subject, file)
    file = write_runs(tmp_path / "killed", subject, [], complete=False)
    with pytest.raises(StaleError, match=r"No case was answered: the run was broken off."):
        read_all(subject, file)


def test_find_runs(tmp_path: Path) -> None:
    """A folder stands for every run below it, also one that left no answer, a file for itself."""
    names = ("b/runs.jsonl", "a/deep/runs.jsonl", "a/deep/run.json", "a/other.jsonl", "failed/run.json")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    below = [tmp_path / name / "runs.jsonl" for name in ("a/deep", "b", "failed")]
    assert find_runs([str(tmp_path)]) == below
    assert find_runs([str(tmp_path / "a/other.jsonl"), str(tmp_path / "no")]) == [tmp_path / "a/other.jsonl"]
    assert find_runs([]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting"),
        (b"[]", "not an object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"\xff", "decode"),
        (b'{"schema": 2}', "schema 2"),
        (b"{}", "schema None"),
    ],
)
def test_read_json_refuses_what_we_did_not_write(tmp_path: Path, content: bytes, message: str) -> None:
    """A results file that is torn, no object or no UTF-8 says what to run again."""
    path = tmp_path / "eval.json"
    path.write_bytes(content)
    with pytest.raises(StaleError, match=rf"eval.json: .*{message}"):
        read_json(path)
    with pytest.raises(StaleError, match=r"no.json: missing"):
        read_json(tmp_path / "no.json")


def test_write_json_replaces_whole_files(tmp_path: Path) -> None:
    """A file is replaced in one step, text without bytes becomes a question mark, a full disk is told."""
    path = tmp_path / "new" / "eval.json"
    write_json(path, {"a": "é\ud800"})
    assert json.loads(path.read_text()) == {"a": "é?"}
    write_json(path, {"schema": 0, "b": 1})
    assert read_json(path) == {"schema": 0, "b": 1}
    assert [p.name for p in path.parent.iterdir()] == ["eval.json"]
    with pytest.raises(InfrastructureError, match="cannot be written to"):
        write_json(path / "below" / "eval.json", {})
    with pytest.raises(InfrastructureError, match="cannot be written to"):
        write_json(Path("/proc/none/eval.json"), {})
