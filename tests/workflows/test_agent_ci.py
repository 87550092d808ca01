"""The gate of a pull request, from the templates that a user copies, on the example repository."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import load_agent
from gatehouse.agent.protocol import Run, RunInfo
from gatehouse.evals.dataset import GoldenSet
from gatehouse.rehearse.model import StandInModel
from gatehouse.rehearse.origin import run_git
from tests.support.act import ROOT, ActResult, run_act, runner_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

NAME = "acme/refund-triage"
EXAMPLE = ROOT / "examples/refund-triage"
GOOD, BAD = "partial-refunds", "warmer-tone"


@pytest.fixture
def model() -> Iterator[StandInModel]:
    """A model that answers."""
    with StandInModel() as model:
        yield model


class Repository:
    """The example with a template as its workflow, and a pull request on it."""

    def __init__(self, gh: GitHub, suite: Path, folder: Path, template: str) -> None:
        self.gh, self.suite, self.folder = gh, suite, folder
        self.work = folder / "work"
        shutil.copytree(EXAMPLE, self.work, ignore=shutil.ignore_patterns("changes", ".venv", ".gatehouse"))
        (self.work / ".github/workflows").mkdir(parents=True)
        shutil.copy(ROOT / "templates" / template, self.work / ".github/workflows/agent-ci.yml")
        run_git(self.work, "init", "--quiet", "--initial-branch=develop")
        self.commit("Refund triage")
        gh.create_repository(NAME, self.work, default_branch="develop")
        run_git(self.work, "checkout", "--quiet", "-b", "feature/change")
        self.runs = 0

    def commit(self, message: str) -> None:
        """Commit everything."""
        run_git(self.work, "add", "--all")
        run_git(self.work, "commit", "--quiet", "--allow-empty", "-m", message)

    def apply(self, patch: str) -> None:
        """Apply one of the example's changes."""
        run_git(self.work, "apply", str(EXAMPLE / "changes" / f"{patch}.patch"))
        self.commit("A change")

    def push(self) -> None:
        """Push the branch, and open its pull request the first time."""
        url = self.gh.clone_url(NAME, self.gh.token_of("dev", may_write=True))
        run_git(self.work, "push", "--quiet", url, "feature/change")
        if not self.runs:
            self.gh.open_pull(NAME, "feature/change", "develop", "A change")

    def play(self, model: StandInModel, **options: Any) -> ActResult:
        """Run the workflow for the pull request as it is now."""
        self.push()
        self.runs += 1
        event = self.gh.pull_request_event(NAME, 1)
        checkout = runner_checkout(self.gh, NAME, event, self.folder / f"checkout-{self.runs}")
        env = {"OLLAMA_BASE_URL": model.url, "OPENAI_BASE_URL": model.url}
        folder = self.folder / f"run-{self.runs}"
        return run_act(
            checkout, "pull_request", event, self.gh, folder=folder, suite=self.suite, env=env, **options
        )

    def comments(self) -> list[dict[str, Any]]:
        """The pull request's comments."""
        return self.gh.comments(NAME, 1)


def first_line(comment: dict[str, Any]) -> str:
    """The first line that a reader sees: the one below the marker."""
    return next(line for line in str(comment["body"]).splitlines() if not line.startswith("<!--"))


def test_good_change_passes_and_its_comment_is_edited(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A good change passes every job, with a dependency of its own; a second run edits the same comment."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    repository.apply(GOOD)
    result = repository.play(model)
    assert set(result.jobs.values()) == {"success"}, result.log
    assert set(result.jobs) == {
        "plan",
        "run (refund-triage, agents/refund-triage.v3.yaml)",
        "gate",
        "comment",
    }
    [comment] = repository.comments()
    assert comment["user"]["login"] == "github-actions[bot]"
    assert first_line(comment).startswith("### ✅ Gatehouse: refund-triage passes")
    assert repository.gh.pull(NAME, 1)["head"]["sha"] in comment["body"].splitlines()[0]
    assert "✅ Gatehouse: refund-triage passes" in result.summaries["gate"]
    assert "refund-triage/eval.json" in result.artifact("gatehouse-eval")

    run_git(repository.work, "revert", "--no-edit", "HEAD")
    repository.apply(BAD)
    result = repository.play(model)
    assert result.jobs["gate"] == "failure", result.log
    assert result.jobs["comment"] == "success", result.log
    [edited] = repository.comments()
    assert edited["id"] == comment["id"]
    assert first_line(edited).startswith(
        "### ❌ Gatehouse: refund-triage fails: exact_match: 0.565 is below 0.85"
    )


def test_bad_change_fails_the_gate_job_and_no_other(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A bad change is run, fails the gate for its quality, still has its cost, and is commented."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    repository.apply(BAD)
    result = repository.play(model)
    run = "run (refund-triage, agents/refund-triage.v3.yaml)"
    assert result.jobs == {"plan": "success", run: "success", "gate": "failure", "comment": "success"}, (
        result.log
    )
    assert result.exit_code == 1
    verdict = json.loads((result.artifacts / "gatehouse-eval/refund-triage/eval.json").read_bytes())
    assert verdict["state"] == "fail"
    failing = {m["name"] for m in verdict["metrics"] if m["state"] == "fail"}
    assert failing == {"exact_match", "tool_calls", "critical_cases"}
    cost = json.loads((result.artifacts / "gatehouse-eval/refund-triage/cost.json").read_bytes())
    assert cost["state"] == "pass"
    errors = [properties for level, _, properties in result.annotations if level == "error"]
    assert {"evals/golden/refund-triage.jsonl"} == {p["file"] for p in errors if "file" in p}
    assert len(errors) <= 10


def test_quota_used_up_is_never_green(gh: GitHub, suite: Path, tmp_path: Path) -> None:
    """A provider that refuses every call leaves the gate red; the comment, by its own key, says so."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    repository.apply(GOOD)
    workflow = repository.work / ".github/workflows/agent-ci.yml"
    workflow.write_text(workflow.read_text() + "    with:\n      comment-key: nightly\n")
    repository.commit("A comment of its own")
    body = json.dumps({"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}})
    with StandInModel(fail=lambda _number: (429, body, {})) as model:
        result = repository.play(model)
    assert result.jobs["gate"] == "failure", result.log
    [comment] = repository.comments()
    assert comment["body"].startswith("<!-- gatehouse:scorecard key=nightly head=")
    assert "refund-triage was not measured" in first_line(comment)
    assert "⚠️" in first_line(comment)


def test_broken_agent_file_is_never_green(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """An agent file that does not load fails plan and gate, and the comment names file, line and fault."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    file = repository.work / "agents/refund-triage.v3.yaml"
    file.write_text(file.read_text().replace("exact_match:", "exact_mach:"))
    repository.commit("A typing error")
    result = repository.play(model)
    assert result.jobs["gate"] == "failure", result.log
    [comment] = repository.comments()
    assert "was not measured" in first_line(comment)
    said = unescape(first_line(comment))
    assert re.search(r'refund-triage\.v3\.yaml:[0-9]+</code>: unknown metric "exact_mach"', said)
    assert sum("exact_mach" in message for _, message, _ in result.annotations) == 1, "said twice"


def test_one_job_form(gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel) -> None:
    """The root action does all of it in one job, which a bad change fails after its comment is written.

    A second workflow on the same pull request, with a comment-key, has a comment of its own.
    """
    repository = Repository(gh, suite, tmp_path, "agent-ci-one-job.yml")
    repository.apply(BAD)
    result = repository.play(model)
    assert result.jobs == {"gate": "failure"}, result.log
    [comment] = repository.comments()
    assert first_line(comment).startswith("### ❌ Gatehouse: refund-triage fails")

    run_git(repository.work, "revert", "--no-edit", "HEAD")
    workflow = repository.work / ".github/workflows/agent-ci.yml"
    workflow.write_text(workflow.read_text() + "          comment-key: nightly\n")
    repository.commit("Back to what it was, in a second workflow")
    result = repository.play(model)
    assert result.jobs == {"gate": "success"}, result.log
    bad, good = repository.comments()
    assert bad["body"] == comment["body"]
    assert first_line(good).startswith("### ✅ Gatehouse: refund-triage passes")


def test_results_that_are_committed_are_no_results(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A pull request that brings its own runs and verdicts, and fails its own tests, is never green."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    workflow = repository.work / ".github/workflows/agent-ci.yml"
    workflow.write_text(workflow.read_text() + "    with:\n      test: exit 1\n")
    agent = load_agent("agents/refund-triage.v3.yaml", repository.work)
    golden = GoldenSet(agent.evals.dataset[0], repository.work)
    whole = {"path": golden.path, "digest": golden.digest, "cases": len(golden)}
    info = RunInfo({"name": agent.name, "version": "3", "digest": agent.digest}, whole, complete=True)
    runs = "".join(Run(c.id, c.digest, 0, c.expected, tool_calls=c.expected_tools).to_line() for c in golden)
    for folder in (".gatehouse/refund-triage", ".gatehouse-runs/gatehouse-run-refund-triage-0"):
        (repository.work / folder).mkdir(parents=True)
        info.write(repository.work / folder / "run.json")
        (repository.work / folder / "runs.jsonl").write_text(runs)
    (repository.work / ".gitignore").unlink()
    repository.commit("Results of my own")
    result = repository.play(model)
    assert result.jobs["gate"] == "failure", result.log
    assert "comment" not in result.jobs or "✅" not in first_line(repository.comments()[0])
    assert "✅ Gatehouse" not in result.summaries.get("gate", "")


QUEUE = "gh-readonly-queue/develop/pr-1-" + "0" * 40


@pytest.mark.parametrize(
    ("name", "branch", "template"),
    [
        ("push", "develop", "../tests/workflows/examples/junit-report.yml"),
        ("merge_group", QUEUE, "agent-ci.yml"),
    ],
)
def test_without_a_pull_request_nobody_is_written_to(
    name: str, branch: str, template: str, gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A push to develop, and the group of a merge queue at its own commit: gated, with summary and artifact.

    The scorecard as a report of tests is read by a reporter.
    """
    repository = Repository(gh, suite, tmp_path, template)
    if name == "merge_group":
        repository.apply(GOOD)
        run_git(
            repository.work,
            "push",
            "--quiet",
            gh.clone_url(NAME, gh.token_of("dev", may_write=True)),
            f"HEAD:{branch}",
        )
    event = gh.push_event(NAME, branch)
    checkout = runner_checkout(gh, NAME, event, tmp_path / "checkout")
    if name == "merge_group":
        group = {"head_sha": event["after"], "head_ref": event["ref"], "base_ref": "refs/heads/develop"}
        event = {key: event[key] for key in ("repository", "sender")} | {"merge_group": group}
    env = {"OLLAMA_BASE_URL": model.url}
    result = run_act(checkout, name, event, gh, folder=tmp_path / "run", suite=suite, env=env)
    assert "comment" not in result.jobs, result.log
    assert set(result.jobs.values()) == {"success"}, result.log
    assert "✅ Gatehouse: refund-triage passes" in result.summaries["gate"]
    verdict = json.loads((result.artifacts / "gatehouse-eval/refund-triage/eval.json").read_bytes())
    assert verdict["commit"] == gh.git(NAME, "rev-parse", branch)
    assert ("report" in result.jobs, "0 failed." in result.log) == (name == "push", name == "push")
    assert [path for method, path, _ in gh.calls if method != "GET" and "/repos/" in path] == []
    assert repository.runs == 0


def test_gate_reports_when_the_agent_cannot_be_installed(
    gh: GitHub, suite: Path, tmp_path: Path, model: StandInModel
) -> None:
    """A pull request whose requirements cannot be installed has a red gate, and a comment that says why."""
    repository = Repository(gh, suite, tmp_path, "agent-ci.yml")
    (repository.work / "requirements.txt").write_text("./there-is-no-such-folder\n")
    repository.commit("A requirement that nobody has")
    result = repository.play(model)
    assert result.jobs["run (refund-triage, agents/refund-triage.v3.yaml)"] == "failure", result.log
    assert result.jobs["gate"] == "failure", result.log
    [comment] = repository.comments()
    assert "refund-triage was not measured: No runs of refund-triage were found" in comment["body"]
