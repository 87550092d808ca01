"""The rehearsal: two pull requests through the whole gate, by the commands that the workflow calls."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.rehearse.story import Change, Played, Step
from tests.support.act import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a rehearsal, and what it printed."""
    folder = tmp_path_factory.mktemp("rehearsal") / "out"
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatehouse", "rehearse", "--out", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return folder, done


def test_the_good_change_passes_and_the_bad_one_is_stopped(
    rehearsal: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """It exits 0, shows both scorecards, and leaves one comment on each pull request."""
    folder, done = rehearsal
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✅ refund-triage passes" in done.stdout
    assert "❌ refund-triage fails: exact_match: 0.565 is below 0.85" in done.stdout
    assert str(folder) in done.stdout
    assert "passes" in (folder / "pull-1/comment.md").read_text()
    assert "fails" in (folder / "pull-2/comment.md").read_text()


def test_it_plays_the_steps_of_the_workflow(rehearsal: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """The commands, their order, their jobs and the values that they are given are those of agent-ci.yml."""
    expected = list(workflow_steps())
    for pull in json.loads((rehearsal[0] / "steps.json").read_bytes()):
        played = [(s["job"].removesuffix("-refund-triage"), s["command"]) for s in pull["steps"]]
        assert played == [(job, command) for job, command, _ in expected]
        for step, (_, _, literal) in zip(pull["steps"], expected, strict=True):
            assert literal.items() <= step["environment"].items()


def workflow_steps() -> Any:
    """Each step of agent-ci.yml that calls our actions: job, command, its literal values by variable."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/agent-ci.yml").read_text())
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            action = step.get("uses", "").removeprefix("$/actions/")
            if action == step.get("uses", "") or action == "setup":
                continue
            body = yaml.safe_load((ROOT / "actions" / action / "action.yml").read_text())["runs"]["steps"][-1]
            assert body["run"] == f"gatehouse {action}"
            variables = {
                value.removeprefix("${{ inputs.").removesuffix(" }}"): k for k, value in body["env"].items()
            }
            given = {
                variables[key]: value.strip()
                for key, value in (step.get("with") or {}).items()
                if "${{" not in value
            }
            yield name, action, given


def agents(*failing: str) -> list[dict[str, Any]]:
    """The agents of a scorecard.json, with these metrics failing."""
    return [{"eval": {"metrics": [{"name": name, "state": "fail"} for name in failing]}}]


GATED = [Step("run-x", "run", {}, 0), Step("gate", "eval-gate", {}, 1), Step("gate", "cost-gate", {}, 0)]
STOPPED = {"state": "fail", "agents": agents("exact_match", "critical_cases")}
BAD = Change("x", "X", "fail", frozenset({"exact_match"}))


@pytest.mark.parametrize(
    ("steps", "scorecard", "comments", "surprise"),
    [
        (GATED, STOPPED, 1, None),
        (GATED, STOPPED | {"state": "pass"}, 1, "its state is pass, not fail"),
        (GATED, STOPPED | {"agents": agents("latency_p95")}, 1, "['exact_match'] did not fail"),
        (GATED[:1], STOPPED, 1, "the eval gate ended with None"),
        ([Step("run-x", "run", {}, 3), *GATED[1:]], STOPPED, 1, "a step failed: [('run-x', 'run', 3)"),
        (GATED, STOPPED, 2, "there are 2 comments, not one"),
        (GATED, {}, 1, "its state is None"),
    ],
)
def test_a_wrong_ending_is_told(
    steps: list[Step], scorecard: dict[str, Any], comments: int, surprise: str | None
) -> None:
    """A rehearsal that stops the bad change for another reason, or not at all, says what surprised it."""
    played = Played(BAD, 1, steps, scorecard, comments=[{}] * comments)
    found = played.surprises()
    if surprise is None:
        assert found == []
    else:
        assert surprise in "; ".join(found)


def test_the_folder_has_to_be_new(tmp_path: Path) -> None:
    """A folder that holds something is refused before anything is written to it."""
    (tmp_path / "mine").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatehouse", "rehearse", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
