"""A machine or a runner that lacks what a command needs: told as such, or done without; never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatehouse.errors import Exit
from gatehouse.github import runner
from gatehouse.github.event import _SHAPES
from tests.support.projects import Done, call, cases, read, write_project

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = f"{sys.executable} -I -m gatehouse"
SIDE = {"sha": "c" * 40, "ref": "x", "repo": {"full_name": "acme/x"}}
PULL = {"pull_request": {"number": 1, "head": SIDE, "base": SIDE}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose gate has passed."""
    folder = write_project(tmp_path_factory.mktemp("place"), cases(2))
    (folder / "event.json").write_text(json.dumps(PULL))
    assert call(folder, "eval-gate", env=job(folder)).code == Exit.PASS
    return folder


def job(folder: Path, **changed: str) -> dict[str, str]:
    """The variables of a run on a pull request."""
    runner._annotated.clear()
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "acme/x",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_RUN_ID": "7",
        "GITHUB_API_URL": "http://127.0.0.1:9",
    }
    return env | changed


def told(done: Done, code: Exit, *words: str) -> None:
    """Assert how it ended, and that it said so in these words."""
    assert done.code == code, done
    assert "Traceback" not in done.err + done.out, done.err[-1500:]
    for word in words:
        assert word in done.err + done.out, done


WRONG = {
    "GITHUB_EVENT_NAME": "a b",
    "GITHUB_EVENT_PATH": "\n",
    "GITHUB_REPOSITORY": "acme",
    "GITHUB_SHA": "main",
    "GITHUB_RUN_ID": "-7",
}


@pytest.mark.parametrize("variable", _SHAPES)
def test_what_a_runner_sets(place: Path, variable: str) -> None:
    """A variable that is missing, empty or something else is named, with who sets it."""
    for value, words in (("", "is not set"), (WRONG[variable], "is not what GitHub sets")):
        done = call(place, "scorecard", env=job(place, **{variable: value}))
        told(done, Exit.INVALID, f"{variable} {words}", "A GitHub Actions runner sets it")


EVENTS = {
    "missing": (None, "cannot be read"),
    "a folder": (None, "cannot be read"),
    "empty": (b"", "is not JSON"),
    "torn": (b'{"pull_request": {', "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "no utf-8": (b'{"a": "\xff"}', "is not JSON"),
    "a list": (b"[]", "is not a JSON object"),
    "a pull request that is none": (b'{"pull_request": 5}', "no usable"),
    "no number": (json.dumps({"pull_request": {"head": SIDE, "base": SIDE}}).encode(), "no usable 'number'"),
    "no head": (json.dumps({"pull_request": {"number": 1, "base": SIDE}}).encode(), "no usable 'head'"),
    "a number in words": (
        json.dumps({"pull_request": PULL["pull_request"] | {"number": "one"}}).encode(),
        "no usable",
    ),
    "a commit that is none": (
        json.dumps({"pull_request": PULL["pull_request"] | {"head": SIDE | {"sha": "main"}}}).encode(),
        "no usable head.sha",
    ),
}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_that_cannot_be_read(place: Path, tmp_path: Path, event: str) -> None:
    """The event's file is named, with what is wrong with it."""
    content, words = EVENTS[event]
    path = tmp_path / "event.json"
    if content is not None:
        path.write_bytes(content)
    elif event == "a folder":
        path.mkdir()
    done = call(place, "scorecard", env=job(place, GITHUB_EVENT_PATH=str(path)))
    told(done, Exit.INVALID, str(path), words)


@pytest.mark.parametrize("command", ["eval-gate", "cost-gate", "scorecard"])
@pytest.mark.parametrize("where", ["folder", "missing/file", "/dev/full"])
def test_outputs_that_cannot_be_written(place: Path, command: str, where: str) -> None:
    """Where the runner's file for outputs cannot be written, the step is not green, and says why."""
    (place / "folder").mkdir(exist_ok=True)
    if where == "/dev/full" and not os.path.exists(where):  # noqa: PTH110 a device of Linux
        where = "missing/file"
    done = call(place, command, env=job(place, GITHUB_OUTPUT=where))
    told(done, Exit.UNSCORED, f"cannot be written to {where}", "GITHUB_OUTPUT")


@pytest.mark.parametrize("where", ["folder", "missing/file"])
def test_a_summary_that_cannot_be_written(place: Path, where: str) -> None:
    """A job summary that cannot be written is an undelivered scorecard."""
    (place / "folder").mkdir(exist_ok=True)
    done = call(place, "scorecard", env=job(place, GITHUB_STEP_SUMMARY=where))
    told(done, Exit.UNSCORED, f"cannot be written to {where}")


API = {
    "nonsense": "not an address: nonsense",
    "ftp://x": "not an address: ftp://x",
    "http://": "not an address: http:",
    "http://[::1": "not an address: http://[::1",
    "http://127.0.0.1:99999": "not an address",
}


@pytest.mark.parametrize("address", API)
def test_an_api_at_no_address(place: Path, address: str) -> None:
    """GITHUB_API_URL that is no address is named as what to check."""
    env = job(place, GITHUB_API_URL=address, GITHUB_TOKEN="ghs_0123456789")
    done = call(place, "scorecard", "--to", "comment", env=env)
    told(done, Exit.UNSCORED, API[address], "GITHUB_API_URL")


@pytest.mark.parametrize("proxy", ["://", "http://[", "socks5://x:1"])
def test_a_proxy_that_is_none(place: Path, proxy: str) -> None:
    """HTTPS_PROXY that no request can take is named beside the address."""
    env = job(place, GITHUB_API_URL="https://api.invalid", GITHUB_TOKEN="ghs_0123456789")
    done = call(place, "scorecard", "--to", "comment", env=env | {"HTTPS_PROXY": proxy, "https_proxy": proxy})
    told(done, Exit.UNSCORED, "HTTPS_PROXY")


def test_certificates_that_are_not_there(place: Path) -> None:
    """A bundle of certificates that does not exist is named at once, not after retries."""
    env = job(place, GITHUB_API_URL="https://api.invalid", GITHUB_TOKEN="ghs_0123456789")
    done = call(place, "scorecard", "--to", "comment", env=env | {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"})
    told(done, Exit.UNSCORED, "/nowhere/ca.pem", "REQUESTS_CA_BUNDLE")


@pytest.mark.parametrize("token", ["a\nb", "a b", "ghs_\u202e", "\u00e9"])
def test_a_token_that_is_none(place: Path, token: str) -> None:
    """A token that no request can carry is refused, and not shown."""
    done = call(place, "scorecard", "--to", "comment", env=job(place, GITHUB_TOKEN=token))
    told(done, Exit.INVALID, "the token for GitHub holds")
    assert token not in done.err


def test_no_token(place: Path) -> None:
    """A comment that is asked for without a token is not delivered, and says what to hand over."""
    told(call(place, "scorecard", "--to", "comment", env=job(place)), Exit.UNSCORED, "GITHUB_TOKEN is empty")


# What only a process of its own meets.

SHELL: dict[str, tuple[str, int, str]] = {
    "no home": ("unset HOME; {} eval-gate --out o1", 0, "exact_match"),
    "another's home": ("HOME=/nope {} eval-gate --out o2", 0, "exact_match"),
    "no temporary folder": ("TMPDIR=/nope {} eval-gate --out o3", 0, "exact_match"),
    "no language": ("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {} eval-gate --out o4", 0, "exact_match"),
    "odd columns": ("COLUMNS=x LINES=-1 {} --help", 0, "eval-gate"),
    "no git and no python": ("PATH=/nope VIRTUAL_ENV= {} eval-gate --out o5", 2, "No Python was found"),
    "stdin is closed": ("{} eval-gate --out o6 <&-", 0, "exact_match"),
    "stdout is closed": ("{} eval-gate --out o7 >&-", 0, ""),
    "stderr is closed": ("{} eval-gate --out o8 2>&-", 0, "exact_match"),
    "all is closed": ("{} eval-gate --out o9 <&- >&- 2>&-", 0, ""),
    "no room for a file": ("ulimit -f 0; {} eval-gate --out o10", 3, "cannot be written to o10"),
    "too few descriptors": ("ulimit -n 8; {} eval-gate --out o11", 2, "cannot be started"),
    "the folder is gone": ("mkdir gone; cd gone; rmdir ../gone; {} eval-gate", 2, "No agent file was found"),
    "python that is too old": ("{} eval-gate --out o12 --python ./old", 2, "is Python 3.7; an agent needs"),
    "python that says nothing": ("{} eval-gate --out o13 --python /bin/true", 2, "is not a working Python"),
    "python that is a shell": ("{} eval-gate --out o14 --python /bin/sh", 2, "is not a working Python"),
    "python that is a file": ("{} eval-gate --out o15 --python prompt.md", 2, "no such program"),
    "python that is a folder": ("{} eval-gate --out o16 --python agents", 2, "no such program"),
}


@pytest.mark.parametrize("row", SHELL)
def test_a_machine_that_lacks_something(place: Path, row: str) -> None:
    """Home, language, streams, room, descriptors, Python: done without, or told without a verdict."""
    script, code, words = SHELL[row]
    old = place / "old"
    old.write_text('#!/bin/sh\ncase "$*" in *version_info*) echo 3 7;; *) exit 1;; esac\n')
    old.chmod(0o755)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GATEHOUSE_"))
    }
    done = subprocess.run(
        ["bash", "-c", script.format(PROGRAM)],
        cwd=place,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told(Done(done.returncode, done.stdout, done.stderr), Exit(code), words)
    out = script.rpartition("--out ")[2].split(" ")[0]
    verdict = place / out / "eval.json"
    if "--out" in script and (code == 0 or verdict.exists()):
        assert (read(verdict)["state"] == "pass") is (code == 0)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """Where nobody reads the output any more, both agents are judged, and the exit code is the gate's."""
    write_project(tmp_path, name="first")
    write_project(tmp_path, name="second")
    command = [sys.executable, "-I", "-m", "gatehouse", "eval-gate", "--python", sys.executable]
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as closed:
        done = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=closed, check=False)
    states = [json.loads(file.read_bytes())["state"] for file in tmp_path.glob(".gatehouse/*/eval.json")]
    assert (done.returncode, states) == (0, ["pass", "pass"])
