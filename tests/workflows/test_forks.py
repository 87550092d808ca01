"""A pull request from a fork: what its read-only run may not write, a run of the default branch does."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.model import StandInModel
from gatehouse.rehearse.origin import run_git
from tests.support.act import ROOT, ActResult, run_act, runner_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

NAME, FORK = "acme/refund-triage", "mallory/refund-triage"
EXAMPLE = ROOT / "examples/refund-triage"
KEYS = ("OPENAI_API_KEY", "MODEL_KEY")


@pytest.fixture
def model() -> Iterator[StandInModel]:
    """A model that answers."""
    with StandInModel() as model:
        yield model


class Fork:
    """The example with both workflows, a fork of it, and the fork's pull request."""

    def __init__(self, gh: GitHub, suite: Path, folder: Path, model: StandInModel) -> None:
        self.gh, self.suite, self.folder, self.model = gh, suite, folder, model
        self.work = folder / "work"
        shutil.copytree(EXAMPLE, self.work, ignore=shutil.ignore_patterns("changes", ".venv", ".gatehouse"))
        (self.work / ".github/workflows").mkdir(parents=True)
        for template in ("agent-ci.yml", "agent-ci-comment.yml"):
            shutil.copy(ROOT / "templates" / template, self.work / ".github/workflows" / template)
        run_git(self.work, "init", "--quiet", "--initial-branch=develop")
        self.commit("Refund triage")
        gh.create_repository(NAME, self.work, default_branch="develop")
        gh.create_repository(FORK, fork_of=NAME, default_branch="develop")
        run_git(self.work, "checkout", "--quiet", "-b", "feature")

    def commit(self, message: str) -> None:
        """Commit everything."""
        run_git(self.work, "add", "--all")
        run_git(self.work, "commit", "--quiet", "--allow-empty", "-m", message)

    def open(self) -> None:
        """Push to the fork, and open the pull request."""
        url = self.gh.clone_url(FORK, self.gh.token_of("mallory", may_write=True))
        run_git(self.work, "push", "--quiet", url, "feature")
        self.gh.open_pull(NAME, "mallory:feature", "develop", login="mallory")

    def gate(self) -> ActResult:
        """The fork's run: its code and its workflow, a read-only token, no secrets."""
        event = self.gh.pull_request_event(NAME, 1, "opened")
        checkout = runner_checkout(self.gh, NAME, event, self.folder / "checkout-gate")
        return self.play(checkout, "pull_request", event, "agent-ci.yml", token=self.gh.read_only_token)

    def comment(self, gate: ActResult) -> ActResult:
        """The run of the default branch that follows it."""
        pull = self.gh.pull(NAME, 1)
        run = {
            "id": 4242,
            "run_attempt": 1,
            "event": "pull_request",
            "head_sha": pull["head"]["sha"],
            "head_branch": "feature",
            "head_repository": {"full_name": FORK},
            "conclusion": "failure" if gate.exit_code else "success",
        }
        event = {
            "action": "completed",
            "workflow_run": run,
            "repository": pull["base"]["repo"],
            "sender": {"login": "mallory"},
        }
        checkout = runner_checkout(
            self.gh, NAME, {"ref": "refs/heads/develop"}, self.folder / "checkout-comment"
        )
        return self.play(
            checkout,
            "workflow_run",
            event,
            "agent-ci-comment.yml",
            env={"STAND_INS_ARTIFACTS_OF_4242": str(gate.artifacts)},
        )

    def play(
        self, checkout: Path, name: str, event: dict[str, Any], workflow: str, env: Any = None, **options: Any
    ) -> ActResult:
        """One run of one of the workflows."""
        return run_act(
            checkout,
            name,
            event,
            self.gh,
            folder=self.folder / name,
            suite=self.suite,
            workflow=f".github/workflows/{workflow}",
            env={"OLLAMA_BASE_URL": self.model.url, **(env or {})},
            **options,
        )

    def body(self) -> str:
        """The one comment."""
        [comment] = self.gh.comments(NAME, 1)
        assert comment["user"]["login"] == "github-actions[bot]"
        return str(comment["body"])


def test_a_fork_that_needs_no_key_is_measured_and_commented_on(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A fork's run is gated without a comment; the run after it comments, as the bot, with its table."""
    fork = Fork(gh, suite, tmp_path, model)
    fork.commit("Nothing to see")
    fork.open()
    gate = fork.gate()
    assert gate.jobs["gate"] == "success", gate.log
    assert "comment" not in gate.jobs
    assert gh.comments(NAME, 1) == []
    assert [path for method, path, _ in gh.calls if method in ("POST", "PATCH") and "/repos/" in path] == []
    commented = fork.comment(gate)
    assert commented.jobs == {"comment": "success"}, commented.log
    body = fork.body()
    assert body.splitlines()[1].startswith("### ✅ Gatehouse: refund-triage passes")
    assert "> These are the results of a fork's own run" in body
    assert "| exact_match |" in body
    assert f"{NAME}/actions/runs/4242/attempts/1" in body


def test_a_fork_without_a_key_needs_a_maintainer(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """An agent whose model takes a key is not measured in a fork's run: red, and the comment says who can."""
    fork = Fork(gh, suite, tmp_path, model)
    file = fork.work / "agents/refund-triage.v3.yaml"
    file.write_text(
        file.read_text()
        .replace("provider: ollama", "provider: openai")
        .replace("name: llama3.1:70b", "name: gpt-4.1-mini-2025-04-14")
    )
    fork.commit("A hosted model")
    fork.open()
    gate = fork.gate()
    assert gate.jobs["gate"] == "failure", gate.log
    verdict = json.loads((gate.artifacts / "gatehouse-eval/refund-triage/eval.json").read_bytes())
    assert verdict["state"] == "unscored"
    assert "not measured: needs a maintainer" in verdict["reason"], verdict["reason"]
    commented = fork.comment(gate)
    assert commented.jobs == {"comment": "success"}, commented.log
    first = fork.body().splitlines()[1]
    assert first.startswith("### ⚠️ Gatehouse: refund-triage was not measured: needs a maintainer")
    assert "`gh pr checkout NUMBER`" in fork.body()
