"""Results files that are not what a stage wrote: told as such by whatever reads them, and never a pass.

They come from a job that ran a stranger's code. The rules are those of the published schemas, each broken at
each key; the commands are the real ones, in a runner's environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.schema import validator
from gatehouse.errors import Exit
from gatehouse.github import runner
from tests.support.projects import call, cases, read, write_project
from tests.support.wrong import VALUES, Wrong, missing_of, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.projects import Done

OUT = ".gatehouse/echo"
CODE = """
TOKENS = {"input_tokens": 3, "cached_tokens": 1, "output_tokens": 2}
def answer(text):
    return {
        "output": text if text != "a2" else "other",
        "contexts": ["a"],
        "tool_calls": [{"name": "look", "arguments": {"at": 1}, "approved": True}],
        "usage": {"provider": "ollama", "model": "m", **TOKENS},
        "iterations": 1,
    }
"""
READERS = {
    "eval.json": ["cost-gate", "scorecard"],
    "cost.json": ["scorecard"],
    "run.json": ["score", "cost-gate"],
    "runs.jsonl": ["score", "cost-gate"],
    "scores.jsonl": ["verdict"],
    "scores.json": ["verdict"],
}
"""Each results file, and the commands that read it."""
MODEL = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "calls"), 1)
JUDGE = {
    "models": ["ollama:llama3.1:70b"],
    "embeddings": None,
    "calls": 1,
    "cached": 0,
    "shared": 0,
    "kept": 0,
    "repaired": 0,
    "usd": 0.1,
    "max_usd": None,
    "by_model": [MODEL | {"provider": "ollama", "model": "m", "usd": 0.1}] * 2,
    "notes": ["a note"],
}
OPTIONAL = {
    "run": {"dataset.selected", "dataset.of", "dataset.instead_of", "options.own_metrics"},
    "eval": {"dataset.selected", "dataset.of", "dataset.instead_of", "exit_code"},
    "cost": {"dataset.selected", "dataset.of", "dataset.instead_of", "exit_code"},
}
"""Keys that only others have: results of a part, of another golden set, or of a gate without a verdict."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose gates have been passed by all but one case, and its results kept aside in `kept`."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "event.json").write_text("{}")
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.5, "contains": 0.5}}
    price = {"input_per_mtok": 1, "output_per_mtok": 1}
    write_project(folder, cases(3), code=CODE, evals=evals, pricing=price)
    assert call(folder, "eval-gate", env=env(folder)).code == Exit.PASS
    assert call(folder, "cost-gate", "--max-per-run", "1", env=env(folder)).code == Exit.PASS
    shutil.copytree(folder / ".gatehouse", folder / "kept")
    return folder


def env(folder: Path) -> dict[str, str]:
    """What a runner sets for a push."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "acme/echo",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_RUN_ID": "7",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }


def read_by(folder: Path, command: str, file: str, content: bytes | Callable[[Path], object]) -> Done:
    """What a command says where this results file holds that."""
    shutil.rmtree(folder / ".gatehouse")
    shutil.copytree(folder / "kept", folder / ".gatehouse")
    (folder / "summary.md").unlink(missing_ok=True)
    path = folder / OUT / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    runner._annotated.clear()
    done = call(folder, command, env=env(folder))
    assert "Traceback" not in done.err + done.out, done.err[-1500:]
    assert done.code in ((0, 3) if command == "scorecard" else (0, 1, 3)), done
    return done


def whole(folder: Path, file: str) -> Any:
    """A results file that is right, with what a judge would leave; of lines the first."""
    name, _, kind = file.partition(".")
    path = folder / "kept/echo" / file
    data = json.loads(path.read_text().splitlines()[0]) if kind == "jsonl" else read(path)
    if name in ("eval", "scores") and kind == "json":
        data["judge"] = JUDGE
    if name == "runs":
        data["own_scores"] = {"mine": {"value": 0.5, "reason": "half"}}
    if name == "scores" and kind == "jsonl":
        data["votes"] = [1.0]
    return data


def written(folder: Path, file: str, data: Any) -> bytes:
    """The document as it stands in its file; as a line with the other lines after it."""
    if not file.endswith(".jsonl"):
        return json.dumps(data).encode()
    _, *others = (folder / "kept/echo" / file).read_text().splitlines()
    return "".join(f"{line}\n" for line in [json.dumps(data), *others]).encode()


def rules(file: str, data: Any) -> Iterator[Wrong]:
    """Every rule of the file's schema, broken; of `scores.json`, which has none, every type at every key."""
    if file != "scores.json":
        yield from wrong(schema_of(file), data)
        return
    for at in _keys(data):
        yield from (Wrong(at, f"is {kind}", value) for kind, value in VALUES.items())


def _keys(data: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, value in data.items() if isinstance(data, dict) else ():
        yield (*at, key)
        yield from _keys(value, (*at, key))


def schema_of(file: str) -> dict[str, Any]:
    """The published schema of a results file, of a line where it has lines."""
    schema: Any = validator(file.partition(".")[0]).schema
    return dict(schema)


@pytest.mark.parametrize("file", [file for file in READERS if file != "scores.json"])
def test_every_key_is_tried(results: Path, file: str) -> None:
    """A key that is added to a schema is broken below, or this test names it."""
    name = file.partition(".")[0]
    assert set(missing_of(schema_of(file), whole(results, file))) <= OPTIONAL.get(name, set())


CAUSES = re.compile(r"\.jsonl?\b|\"dataset\"|of another commit|not run: ")
"""What a reader names: a file, a key of it, or what is missing."""


def test_changes_of_the_gate_that_are_none(results: Path) -> None:
    """A changes.json with a broken rule is no verdict: it is shown, or said not to be known."""
    change = dict.fromkeys(("what", "name", "before", "after", "where", "agent"), "x") | {"effect": "weaker"}
    data = {
        "schema": 1,
        "commit": "c" * 40,
        "base": {"commit": "d" * 40, "name": "main"},
        "due": True,
        "compared": True,
        "reason": "",
        "weaker": 1,
        "changes": [change],
    }
    assert not list(missing_of(schema_of("changes.json"), data))
    for row in wrong(schema_of("changes.json"), data):
        content = json.dumps(row.put(data)).encode()
        done = read_by(results, "scorecard", "../changes.json", content)
        assert done.code == Exit.PASS, (row, done)
        assert "echo passes" in done.out, row


PARTS = 4
"""Tests that share the rules of one file, so that several processes can have a part each."""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("file", READERS)
def test_every_rule_broken_in_a_results_file(results: Path, file: str, part: int) -> None:
    """No reader crashes; what it cannot use is unscored and says why, or is a key that it does not need."""
    data = whole(results, file)
    for number, row in enumerate(rules(file, data)):
        if number % PARTS != part:
            continue
        for command in READERS[file]:
            if (command, file) == ("cost-gate", "eval.json") and len(row.at) > 2:
                continue  # that gate reads nothing there
            done = read_by(results, command, file, written(results, file, row.put(data)))
            told = done.out + done.err
            if done.code == Exit.UNSCORED or "was not measured" in told:
                assert CAUSES.search(told), (row, told)


IDENTITY = {
    "eval.json": ("agent.digest", "commit", "dataset.digest", "state"),
    "cost.json": ("agent.digest", "commit", "dataset.digest", "state"),
    "run.json": ("agent.digest", "commit", "dataset.digest", "complete", "schema"),
    "runs.jsonl": ("id", "case", "repeat", "error"),
    "scores.jsonl": ("id", "metric", "state"),
    "scores.json": ("agent.digest", "commit", "dataset.digest", "metrics.exact_match.method", "run_files"),
}
"""The keys that decide whether results count: without them nothing may pass."""


@pytest.mark.parametrize("file", READERS)
def test_what_a_verdict_rests_on_is_never_guessed(results: Path, file: str) -> None:
    """Where the key that says of what results are is gone or of another type, nothing passes."""
    data = whole(results, file)
    for key in IDENTITY[file]:
        at = tuple(key.split("."))
        inner = data
        for step in at[:-1]:
            inner = inner[step]
        for row in [Wrong(at, "is a number", 1.5), Wrong(at, "is missing", gone=True)]:
            if key in ("state", "error", "run_files") and row.gone and file not in ("eval.json", "cost.json"):
                continue
            command = READERS[file][-1]
            done = read_by(results, command, file, written(results, file, row.put(data)))
            told = done.out + done.err
            assert done.code == Exit.UNSCORED or "was not measured" in told, (row, told)


def _no_file(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _round(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem")


def _half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


CONTENTS: dict[str, bytes | Callable[[Path], object]] = {
    "missing": _no_file,
    "empty": b"",
    "a blank": b" \n\n",
    "torn": _half,
    "no json": b"state: pass\n",
    "no utf-8": b'{"schema": 1, "state": "\xff"}',
    "utf-16": '{"schema": 1}'.encode("utf-16"),
    "nul": b"\0" * 100,
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "nothing in it": b"{}",
    "NaN": b'{"schema": NaN}',
    "endless": b'{"schema": 1e999}',
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "deep": b'{"a":' * 100_000,
    "deep lists": b"[" * 100_000,
    "twice": b'{"schema": 1, "schema": 99}',
    "newer": b'{"schema": 99, "agent": {"name": "echo"}}',
    "huge": b'{"a": "' + b"x" * (17 * 2**20) + b'"}',
    "a folder": _folder,
    "a link to nowhere": _dangling,
    "a link to itself": _round,
    "unreadable": _unreadable,
}


NOT_THERE = ("missing", "a link to nowhere", "a link to itself")
"""As if no eval gate had been run, which the cost gate does not need."""


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("file", READERS)
def test_a_file_that_holds_something_else(results: Path, file: str, content: str) -> None:
    """Missing, torn, no JSON, too large, a folder, a link: unscored or as if it were not there, no crash."""
    if content == "unreadable" and not os.path.exists("/proc/self/mem"):  # noqa: PTH110 a device of Linux
        CONTENTS[content] = _no_file
    for command in READERS[file]:
        done = read_by(results, command, file, CONTENTS[content])
        told = done.out + done.err
        gone = content in NOT_THERE and (command, file) == ("cost-gate", "eval.json")
        assert gone or done.code == Exit.UNSCORED or "was not measured" in told, (command, told)
