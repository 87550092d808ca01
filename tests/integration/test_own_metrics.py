"""Metrics of the user's own code from the command line: scored where the agent runs, read everywhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gatehouse.errors import Exit
from tests.support.projects import ECHO, call, gatehouse, read, write_project
from tests.support.stub_model import Reply, completion, stub_model

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = Path(__file__).parent / "examples/own-metric"
OUT = ".gatehouse/echo"
IMPORTED = "imported.txt"
SOURCE = (
    "import os\n"
    f"with open({IMPORTED!r}, 'a') as log: log.write('x')\n"
    "def polite(asked):\n"
    "    if asked['run']['output'] == 'a3':\n"
    "        return {'value': asked['options'].get('low', 0.25), 'reason': 'no word of thanks'}\n"
    "    return 1\n"
)
POLITE = {"metric": "checks.tone:polite", "threshold": 0.8}


def project(folder: Path, source: str = SOURCE, *, code: str = ECHO, **metric: Any) -> Path:
    """An agent that is held to a metric of its repository's own, which is no part of the agent's code."""
    metrics = {"polite": POLITE | metric, "exact_match": 1}
    write_project(folder, evals={"dataset": "golden.jsonl", "metrics": metrics}, entrypoint="bot.main:answer")
    for path, text in (("bot/main.py", code), ("checks/tone.py", source)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    return folder


def row(folder: Path, name: str = "polite") -> dict[str, Any]:
    """The metric's row of the verdict."""
    return next(m for m in read(folder / OUT / "eval.json")["metrics"] if m["name"] == name)


def test_a_metric_of_ones_own_gates(tmp_path: Path) -> None:
    """It is measured as any other, its reason shown; a threshold that it misses fails the gate."""
    project(tmp_path)
    assert gatehouse(tmp_path, "eval-gate").code == Exit.PASS
    assert (row(tmp_path)["value"], row(tmp_path)["state"], row(tmp_path)["n"]) == (0.85, "pass", 5)
    project(tmp_path, threshold=0.9)
    assert call(tmp_path, "eval-gate").code == Exit.FAIL
    [case] = read(tmp_path / OUT / "eval.json")["failing_cases"]
    assert case["reasons"] == {"polite": "no word of thanks"}


def test_one_of_safety_must_hold_in_every_case(tmp_path: Path) -> None:
    """It is of the kind that the file says, and needs no threshold then."""
    project(tmp_path)
    metrics = {"polite": {"metric": POLITE["metric"], "kind": "safety"}}
    write_project(tmp_path, evals={"dataset": "golden.jsonl", "metrics": metrics})
    assert call(tmp_path, "eval-gate").code == Exit.FAIL
    assert (row(tmp_path)["kind"], row(tmp_path)["threshold"]) == ("safety", None)


@pytest.mark.parametrize("stage", ["score", "eval-gate", "verdict", "cost-gate", "scorecard", "metrics"])
def test_no_other_stage_executes_it(tmp_path: Path, stage: str) -> None:
    """Only `run` imports the user's code: a gate with a key or a token takes what it said as data."""
    project(tmp_path)
    assert call(tmp_path, "run").code == Exit.PASS
    assert (tmp_path / IMPORTED).read_text() == "x"
    (tmp_path / IMPORTED).unlink()
    runs = ("--runs", OUT) if stage in ("score", "eval-gate") else ()
    if stage not in ("score", "eval-gate"):
        assert call(tmp_path, "score").code == Exit.PASS
    assert call(tmp_path, stage, *runs).code == Exit.PASS
    assert not (tmp_path / IMPORTED).exists()


def change_code(folder: Path) -> None:
    """The metric's code, but not the agent's."""
    project(folder, SOURCE + "# milder now\n")


def change_options(folder: Path) -> None:
    """The metric's options."""
    project(folder, low=0.5)


def change_nothing(folder: Path) -> None:
    """The threshold alone."""
    project(folder, threshold=0.5)


@pytest.mark.parametrize(
    ("change", "stale"), [(change_code, True), (change_options, True), (change_nothing, False)]
)
def test_what_another_metric_scored_is_refused(tmp_path: Path, change: Any, stale: bool) -> None:
    """Answers that were scored by other code or options do not count, in no later stage; it is said which."""
    project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    change(tmp_path)
    done = call(tmp_path, "verdict")
    assert done.code == (Exit.UNSCORED if stale else Exit.PASS)
    for stage in ("score", "eval-gate"):
        done = call(tmp_path, stage, "--runs", OUT)
        assert done.code == (Exit.UNSCORED if stale else Exit.PASS), done
        assert ("the runs were not scored by polite as" in done.err) is stale


def test_a_metric_that_was_not_there_at_the_run(tmp_path: Path) -> None:
    """Runs from before a metric was named do not pass it."""
    project(tmp_path)
    evals = {"dataset": "golden.jsonl", "metrics": {"exact_match": 1}}
    write_project(tmp_path, evals=evals, entrypoint="bot.main:answer")
    assert call(tmp_path, "run").code == Exit.PASS
    project(tmp_path)
    done = call(tmp_path, "eval-gate", "--runs", OUT)
    assert done.code == Exit.UNSCORED
    assert "the runs were not scored by polite as" in done.err


def test_a_changed_metric_is_not_resumed(tmp_path: Path) -> None:
    """Half a run that other code scored is run anew, one of the same code goes on."""
    down = "if os.path.exists('down') and x > 'a2': raise ConnectionError"
    code = f"import os\ndef answer(x):\n    {down}\n    return x\n"
    for source, kept in ((SOURCE, True), (SOURCE + "# milder\n", False)):
        project(tmp_path, code=code)
        (tmp_path / "down").touch()
        assert call(tmp_path, "run").code == Exit.PASS
        info = read(tmp_path / OUT / "run.json")
        (tmp_path / OUT / "run.json").write_text(json.dumps(info | {"complete": False}))
        (tmp_path / "down").unlink()
        project(tmp_path, source, code=code)
        done = call(tmp_path, "run")
        assert done.code == Exit.PASS
        assert ("3 kept from the run before" in done.out) is kept


@pytest.mark.parametrize("entry", ["chat", "command"])
def test_every_kind_of_agent_is_scored(tmp_path: Path, entry: str) -> None:
    """An agent without a function of its own is scored by the same workers."""
    project(tmp_path)
    evals = {"dataset": "golden.jsonl", "metrics": {"polite": POLITE}}
    if entry == "command":
        loop = (
            "import json, sys\n"
            "for line in sys.stdin:\n"
            "    print(json.dumps({'id': json.loads(line)['id'], 'output': 'x'}), flush=True)\n"
        )
        (tmp_path / "loop.py").write_text(loop)
        write_project(tmp_path, evals=evals, entrypoint={"command": "python3 loop.py"})
        done = call(tmp_path, "eval-gate")
    else:
        write_project(tmp_path, code=None, evals=evals)
        with stub_model(lambda _n: Reply(completion("x"))) as model:
            done = call(tmp_path, "eval-gate", env={"OLLAMA_BASE_URL": model.url})
    assert done.code == Exit.PASS, done
    assert row(tmp_path)["value"] == 1.0


@pytest.mark.parametrize("stage", ["run", "eval-gate"])
def test_one_that_cannot_be_imported(tmp_path: Path, stage: str) -> None:
    """Nothing is asked and nothing measured; it is said which metric, which module and which Python."""
    project(
        tmp_path, "import no_such_module\n", code="def answer(x):\n    open('asked', 'w')\n    return x\n"
    )
    done = call(tmp_path, stage)
    assert done.code == Exit.UNSCORED
    for word in ('metric "polite"', "checks.tone:polite", "no_such_module", "Python is /"):
        assert word in done.err
    assert not (tmp_path / "asked").exists()


def test_one_that_fails_a_case(tmp_path: Path) -> None:
    """The case is unscored for that metric, with its reason; the others are measured."""
    project(tmp_path, "def polite(asked):\n    assert asked['run']['output'] != 'a3', 'rude'\n    return 1\n")
    assert call(tmp_path, "eval-gate").code == Exit.UNSCORED
    assert row(tmp_path)["state"] == "unscored"
    assert "AssertionError: rude" in row(tmp_path)["reason"]
    assert row(tmp_path, "exact_match")["state"] == "pass"


def test_forged_scores_are_refused(tmp_path: Path) -> None:
    """What a run claims is checked as data: a value that no metric can have makes the runs unusable."""
    project(tmp_path)
    assert call(tmp_path, "run").code == Exit.PASS
    runs = tmp_path / OUT / "runs.jsonl"
    honest = runs.read_text()
    for forged in ('"value":7.0', '"value":true', '"value":"1"', '"value":NaN'):
        runs.write_text(honest.replace('"value":1.0', forged, 1))
        assert call(tmp_path, "score", "--runs", OUT).code == Exit.UNSCORED, forged
    lines = [json.loads(line) | {"own_scores": {}} for line in honest.splitlines()]
    runs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert call(tmp_path, "eval-gate", "--runs", OUT).code == Exit.UNSCORED
    assert "not scored where the agent ran: run again" in row(tmp_path)["reason"]


def test_a_runner_digests_what_is_tracked(tmp_path: Path) -> None:
    """What an installation leaves behind in one job is no part of the metric's digest in another."""
    import subprocess  # noqa: PLC0415 beside its one use

    project(tmp_path)
    (tmp_path / ".gitignore").write_text(f".gatehouse/\n{IMPORTED}\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=T", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x", "--no-gpg-sign"]):
        subprocess.run([*git, *words], check=True)
    env = {"GITHUB_ACTIONS": "true"}
    (tmp_path / "checks/made.py").write_text("# by an installation\n")
    assert call(tmp_path, "run", env=env).code == Exit.PASS
    (tmp_path / "checks/made.py").unlink()
    done = call(tmp_path, "eval-gate", "--runs", OUT, env=env)
    assert done.code == Exit.PASS, done


def test_the_how_to_s_example(tmp_path: Path) -> None:
    """What the documentation shows works as it stands."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    shown = (ROOT / "docs/how-to/own-metric.md").read_text()
    for name in ("shop", "checks"):
        (tmp_path / name).mkdir()
    (tmp_path / "checks/tone.py").write_text(shown.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "shop/bot.py").write_text("def answer(text):\n    return text\n")
    golden = [{"input": "Thanks!"}, {"input": "Bye."}, {"input": "No.", "expected": "no purchase"}]
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in golden))
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    verdict = read(tmp_path / ".gatehouse/shop/eval.json")
    assert verdict["metrics"][0]["value"] == pytest.approx(2 / 3)
    assert verdict["failing_cases"][0]["reasons"] == {"thanks": "none of thank you, thanks"}
