"""Never green without measuring: whatever keeps a gate from measuring leaves it unscored, and everybody told.

Each case goes through the command line. It ends with exit 3, `eval.json` holds the state and the reason, and
so does the first line of the scorecard.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Exit
from gatehouse.rehearse.model import StandInModel
from tests.support.projects import call, cases, gatehouse, read, start, write_golden, write_project
from tests.support.stub_model import Reply, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.projects import Done

OPENAI: dict[str, Any] = {"model": {"provider": "openai", "name": "gpt-4o-mini-2024-07-18"}}
OUT = ".gatehouse/echo"


def assert_unscored(folder: Path, done: Done, *words: str) -> None:
    """Exit 3, told in `eval.json`, and in the scorecard's first line."""
    assert done.code == Exit.UNSCORED, done
    assert "fault of Gatehouse" not in done.err
    verdict = read(folder / OUT / "eval.json")
    assert verdict["state"] == "unscored"
    for word in words:
        assert word in verdict["reason"]
    assert_scorecard_says(folder, *words)


def assert_scorecard_says(folder: Path, *words: str) -> None:
    """The scorecard is delivered, and its first line says that nothing was measured and why."""
    card = call(folder, "scorecard")
    assert card.code == Exit.PASS, card
    first = card.out.splitlines()[0]
    assert first.startswith("⚠️ echo was not measured: ")
    for word in words:
        assert word.removesuffix(".") in first
    assert (folder / ".gatehouse/scorecard.md").read_text().startswith("### ⚠️ Gatehouse: ")
    assert read(folder / ".gatehouse/scorecard.json")["state"] == "unscored"


def test_an_empty_golden_set_is_its_authors_to_mend(tmp_path: Path) -> None:
    """A golden set without a case is exit 2, for every command, and the scorecard says it first."""
    write_project(tmp_path, [])
    for command in ("run", "score", "verdict", "eval-gate", "cost-gate"):
        done = call(tmp_path, command, "--agent", "agents/echo.yaml")
        assert done.code == Exit.INVALID, command
        assert "golden.jsonl: the golden set has no cases." in done.err
    assert read(tmp_path / OUT / "eval.json")["state"] == "unscored"
    assert_scorecard_says(tmp_path, "golden.jsonl: the golden set has no cases.")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def answer(x):\n    raise ValueError('no way')\n", ("all 5 runs ended in an error", "no way")),
        ("import os\ndef answer(x):\n    os._exit(7)\n", ("all 5 runs ended in an error", "exit code 7")),
        (
            "import urllib.request\ndef answer(x):\n    urllib.request.urlopen('http://127.0.0.1:1')\n",
            ("all 5 runs ended in an error", "connection"),
        ),
        ("import no_such_module\n", ("agent:answer cannot be loaded", "No module named 'no_such_module'")),
        ("def other(x): return x\n", ("agent:answer cannot be loaded",)),
    ],
    ids=["raises", "exits", "no network", "does not import", "has no function"],
)
def test_every_case_errored(tmp_path: Path, code: str, words: tuple[str, ...]) -> None:
    """An agent that fails every case, or cannot even start, was not measured: whoever's fault it is."""
    write_project(tmp_path, code=code)
    assert_unscored(tmp_path, call(tmp_path, "eval-gate"), *words)
    cost = call(tmp_path, "cost-gate")
    assert cost.code == Exit.UNSCORED
    assert read(tmp_path / OUT / "cost.json")["state"] == "unscored"


def test_a_missing_key(tmp_path: Path) -> None:
    """Without a key nothing is asked, and the message names the variables that could hold it."""
    write_project(tmp_path, code=None, **OPENAI)
    done = gatehouse(tmp_path, "eval-gate")
    words = ("No key for openai", "GATEHOUSE_MODEL_KEY", "OPENAI_API_KEY")
    assert_unscored(tmp_path, done, *words)
    for stage in ("score", "eval-gate"):
        later = call(tmp_path, stage, "--runs", OUT)
        assert_unscored(tmp_path, later, "No case was answered: No key for openai")


REFUSALS: dict[str, tuple[Reply, tuple[str, ...]]] = {
    "quota": (
        Reply({"error": {"code": "insufficient_quota", "message": "You are out of credit."}}, 429),
        ("quota: HTTP 429: You are out of credit.",),
    ),
    "wrong key": (
        Reply({"error": {"code": "invalid_api_key", "message": "Wrong key."}}, 401),
        ("key: HTTP 401: Wrong key.",),
    ),
    "error body with status 200": (
        Reply({"error": {"message": "The model is overloaded."}}, 200),
        ("provider-error: HTTP 200: The model is overloaded.",),
    ),
    "a web page with status 200": (
        Reply(b"<html>Sign in</html>", 200),
        ("provider-error: the reply is not a JSON object",),
    ),
    "no choices with status 200": (
        Reply(completion() | {"choices": []}, 200),
        ("provider-error: the reply is no chat completion",),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_provider_that_refuses(tmp_path: Path, refusal: str) -> None:
    """A quota used up, a wrong key, an error in what calls itself a success: no answer, no verdict."""
    reply, words = REFUSALS[refusal]
    write_project(tmp_path, code=None, **OPENAI)
    with stub_model(lambda _n: reply) as model:
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test"}
        done = call(tmp_path, "eval-gate", env=env)
    assert_unscored(tmp_path, done, "all 5 runs ended in an error", *words)
    assert "sk-test" not in done.out + done.err


def test_one_refused_case_is_enough(tmp_path: Path) -> None:
    """By default no case may stay unscored; `max_unscored` allows it, and the verdict is on the others."""
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.8}}
    reply = {"error": {"message": "no"}}
    for may, code in ((0, Exit.UNSCORED), (1, Exit.PASS)):
        write_project(tmp_path, code=None, evals=evals | {"max_unscored": may}, **OPENAI)
        write_golden(tmp_path, cases(5, expected="hello"))
        with stub_model(lambda n: Reply(reply) if n == 2 else Reply()) as model:
            env = {"OPENAI_BASE_URL": model.url}
            done = call(tmp_path, "eval-gate", "--concurrency", "1", env=env)
        assert done.code == code
        row = read(tmp_path / OUT / "eval.json")["metrics"][0]
        assert (row["n"], row["unscored"], row["value"]) == (4, 1, 1.0)
    assert row["state"] == "pass"


def test_an_agents_own_model_that_fails(tmp_path: Path) -> None:
    """The example's way: code of the user's whose model answers with an error every time."""
    code = (
        "import json, os, urllib.request\n"
        "def answer(text):\n"
        "    body = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': text}]}).encode()\n"
        "    url = os.environ['OLLAMA_BASE_URL'] + '/chat/completions'\n"
        "    return json.load(urllib.request.urlopen(url, body))['choices'][0]['message']['content']\n"
    )
    write_project(tmp_path, code=code)
    with StandInModel(fail=lambda _n: (503, '{"error": "down"}', {})) as model:
        done = call(tmp_path, "eval-gate", env={"OLLAMA_BASE_URL": model.url})
    assert_unscored(tmp_path, done, "all 5 runs ended in an error", "503")


def commit(folder: Path) -> None:
    """Everything in `folder` as one more commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.com"]
    if not (folder / ".git").exists():
        (folder / ".gitignore").write_text(".gatehouse/\n")
        subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x", "--allow-empty", "--no-gpg-sign"], check=True)


def other_agent(folder: Path) -> None:
    """A change of the code."""
    (folder / "agent.py").write_text("def answer(text):\n    return text.upper()\n")


def other_golden_set(folder: Path) -> None:
    """One case more."""
    write_golden(folder, cases(6))


STALE: dict[str, tuple[Callable[[Path], None], str]] = {
    "agent": (other_agent, "another agent"),
    "golden set": (other_golden_set, "another golden set"),
    "commit": (commit, "another commit"),
}


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose gates have both passed."""
    folder = write_project(tmp_path_factory.mktemp("passed"))
    commit(folder)
    assert call(folder, "eval-gate").code == Exit.PASS
    assert call(folder, "cost-gate", "--max-per-run", "0").code == Exit.PASS
    return folder


def copy(folder: Path, to: Path) -> Path:
    """The repository with its results, for one test to change."""
    subprocess.run(["cp", "-r", f"{folder}/.", str(to)], check=True)
    return to


@pytest.mark.parametrize("what", STALE)
@pytest.mark.parametrize(
    "args",
    [
        ("score",),
        ("verdict",),
        ("eval-gate", "--runs", OUT),
        ("score", "--runs", f"{OUT}/runs.jsonl"),
        ("cost-gate",),
        ("cost-gate", "--agent", "agents/echo.yaml"),
        ("cost-gate", "--runs", OUT, "--max-per-run", "5"),
    ],
    ids=" ".join,
)
def test_results_of_something_else(passed: Path, tmp_path: Path, what: str, args: tuple[str, ...]) -> None:
    """Results of another agent, golden set or commit lying in the folder count for no stage."""
    change, words = STALE[what]
    folder = copy(passed, tmp_path)
    change(folder)
    done = call(folder, *args)
    assert done.code == Exit.UNSCORED, done
    assert words in done.err
    file = "cost.json" if args[0] == "cost-gate" else "eval.json"
    assert read(folder / OUT / file)["state"] == "unscored"
    assert words in read(folder / OUT / file)["reason"]
    assert_scorecard_says(folder, words)


@pytest.mark.parametrize("what", STALE)
def test_a_scorecard_of_something_else(passed: Path, tmp_path: Path, what: str) -> None:
    """Over verdicts of another agent, golden set or commit the scorecard says that they do not count."""
    change, words = STALE[what]
    folder = copy(passed, tmp_path)
    assert call(folder, "scorecard").out.startswith("✅")
    change(folder)
    assert_scorecard_says(folder, f"eval.json is of {words}", f"cost.json is of {words}")


def test_a_run_anew_replaces_what_lay_there(passed: Path, tmp_path: Path) -> None:
    """The eval gate runs a changed agent again instead of taking the old answers for its own."""
    folder = copy(passed, tmp_path)
    other_agent(folder)
    assert call(folder, "eval-gate").code == Exit.FAIL
    assert not (folder / OUT / "cost.json").exists()
    assert read(folder / OUT / "eval.json")["failing"] == 5


def test_a_killed_run(tmp_path: Path) -> None:
    """A run that was killed in the middle is unscored by what is missing, and is finished by the next one."""
    slow = "import time\ndef answer(text):\n    time.sleep(0 if text < 'a2' else 60)\n    return text\n"
    write_project(tmp_path, code=slow)
    with start(tmp_path, "run", "--concurrency", "1") as process:
        deadline = time.monotonic() + 20
        while len(lines(tmp_path)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for stage in ("score", "verdict"):
        done = call(tmp_path, stage)
    words = ("3 of 5 cases could not be scored (0 may)", "not run: the run ended before it")
    assert_unscored(tmp_path, done, *words)
    assert_unscored(tmp_path, call(tmp_path, "eval-gate", "--runs", OUT), *words)


def lines(folder: Path) -> list[str]:
    """The runs so far."""
    file = folder / OUT / "runs.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def test_a_run_past_its_deadline(tmp_path: Path) -> None:
    """What was answered before the run's deadline is scored; the rest is missing, which is no pass."""
    slow = "import time\ndef answer(text):\n    time.sleep(0 if text < 'a2' else 60)\n    return text\n"
    write_project(tmp_path, code=slow)
    done = call(tmp_path, "eval-gate", "--concurrency", "1", "--run-deadline", "3")
    assert_unscored(tmp_path, done, "3 of 5 cases could not be scored (0 may)")
    assert "3 of 5 answers are missing: the run's deadline of 3 s passed" in done.err
    assert_unscored(tmp_path, done, "not run: 3 of 5 answers are missing: the run's deadline of")


def test_a_gate_that_fails_already_fails(tmp_path: Path) -> None:
    """Missing answers do not hide a failure: three wrong of five fail at 0.8, whatever the others were."""
    slow = "import time\ndef answer(text):\n    time.sleep(0 if text < 'a3' else 60)\n    return 'wrong'\n"
    write_project(tmp_path, code=slow)
    done = call(tmp_path, "eval-gate", "--concurrency", "1", "--run-deadline", "3")
    assert done.code == Exit.FAIL
    assert read(tmp_path / OUT / "eval.json")["state"] == "fail"


@pytest.mark.parametrize(
    "args", [("--runs", "empty"), ("--runs", "nowhere"), ("--runs", "empty", "--runs", "nowhere")]
)
def test_no_runs_where_they_were_looked_for(tmp_path: Path, args: tuple[str, ...]) -> None:
    """An artifact that is empty or missing leaves every stage unscored, which says where it looked."""
    write_project(tmp_path)
    (tmp_path / "empty").mkdir()
    for command in ("score", "eval-gate"):
        assert_unscored(tmp_path, call(tmp_path, command, *args), "No runs of echo were found in ", args[1])
    done = call(tmp_path, "cost-gate", "--agent", "agents/echo.yaml", *args)
    assert done.code == Exit.UNSCORED
    assert "No runs of echo were found in" in read(tmp_path / OUT / "cost.json")["reason"]


def test_no_results_at_all(tmp_path: Path) -> None:
    """Later stages where nothing was run are unscored, each with what to do."""
    write_project(tmp_path)
    assert call(tmp_path, "cost-gate").code == Exit.UNSCORED
    done = gatehouse(tmp_path, "scorecard")
    assert done.code == Exit.UNSCORED
    assert done.err.startswith(f"Nothing was measured: no results lie in {tmp_path / '.gatehouse'}.")
    assert_unscored(tmp_path, call(tmp_path, "verdict"), "scores.json: missing. Run the stage before again.")
    assert_unscored(tmp_path, call(tmp_path, "score"), "run.json: missing. Run the agent again.")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "agent": 5}'])
@pytest.mark.parametrize(
    "file", ["eval.json", "cost.json", "scores.json", "run.json", "runs.jsonl", "scores.jsonl"]
)
def test_broken_results_are_no_results(passed: Path, tmp_path: Path, file: str, content: str) -> None:
    """A results file that is empty, torn or something else is unscored in whatever reads it, no crash."""
    folder = copy(passed, tmp_path)
    (folder / OUT / file).write_text(content)
    readers = {
        "eval.json": ["cost-gate", "scorecard"],
        "cost.json": ["scorecard"],
        "scores.json": ["verdict"],
        "scores.jsonl": ["verdict"],
        "run.json": ["score", "cost-gate"],
        "runs.jsonl": ["score", "cost-gate"],
    }
    for command in readers[file]:
        done = call(folder, command)
        assert "fault of Gatehouse" not in done.err
        assert done.code == (Exit.PASS if command == "scorecard" else Exit.UNSCORED), done
    assert call(folder, "scorecard").out.startswith("⚠️")


def test_a_verdict_without_its_parts_is_malformed(passed: Path, tmp_path: Path) -> None:
    """An `eval.json` that passes but lacks what a scorecard shows does not count as a pass."""
    folder = copy(passed, tmp_path)
    whole = read(folder / OUT / "eval.json")
    for key in ("agent", "dataset", "state", "reason", "metrics"):
        partial = {name: value for name, value in whole.items() if name != key}
        (folder / OUT / "eval.json").write_text(json.dumps(partial))
        assert_scorecard_says(folder, "eval.json is malformed")


def test_nothing_to_be_held_to(tmp_path: Path) -> None:
    """An agent file without a metric, or a golden set without a reference for any, is no pass."""
    write_project(tmp_path, evals={"dataset": "golden.jsonl"})
    done = call(tmp_path, "eval-gate")
    assert done.code == Exit.INVALID
    assert "names no metric: nothing would be measured" in done.err
    write_project(tmp_path, [{"id": "c0", "input": "a"}])
    assert_unscored(tmp_path, call(tmp_path, "eval-gate"), "no case could be measured: none has expected")


def test_an_unknown_price_under_a_limit(tmp_path: Path) -> None:
    """A limit on a price that nobody knows is not kept; without a limit it is said to be unknown."""
    usage = "{'output': x, 'usage': [{'model': 'secret-1', 'input_tokens': 9, 'output_tokens': 9}]}"
    write_project(tmp_path, code=f"def answer(x): return {usage}\n", **OPENAI)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    assert call(tmp_path, "cost-gate", "--max-per-run", "0.05").code == Exit.UNSCORED
    assert_scorecard_says(tmp_path, "nobody knows the price of secret-1")
    assert call(tmp_path, "cost-gate").code == Exit.PASS
    cost: dict[str, Any] = read(tmp_path / OUT / "cost.json")
    assert cost["limits"][0]["value"] is None
    assert "unpriced" in cost["reason"]
