"""How a rehearsal plays a job: what its commands see, and what is told of one that fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.jobs import inputs_of
from gatehouse.rehearse.runner import Job, Machine, StepFailedError, WorkflowRun, git, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "acme/thing"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[WorkflowRun]:
    """A run on develop of a repository with two commits and a tag."""
    seed = tmp_path / "seed"
    seed.mkdir()
    git(seed, "init", "--quiet", "--initial-branch=develop")
    git(seed, "commit", "--quiet", "--allow-empty", "--message=First")
    git(seed, "tag", "v0.1.0")
    git(seed, "commit", "--quiet", "--allow-empty", "--message=Second")
    with GitHub(tmp_path / "github") as github:
        github.create_repository(NAME, seed, default_branch="develop")
        sha = github.git(NAME, "rev-parse", "develop")
        yield WorkflowRun(
            Machine(github, NAME, tmp_path, {}),
            "staging.yml",
            tmp_path / "run",
            event_name="push",
            event={},
            ref="refs/heads/develop",
            sha=sha,
            run_id=github.add_run(NAME, "staging.yml", sha, "develop", status="queued"),
        )


def shown(job: Job, script: str) -> str:
    """What a script prints in the job."""
    step = job.shell("script", script, "/nowhere/bin/python")
    return (job.folder / "script.log").read_text() if step.code == 0 else ""


def test_a_job_sees_no_token_and_nothing_that_steers_our_commands(
    run: WorkflowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens and settings of the machine's user reach no job; the runner's own variables do."""
    foreign = ["GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "PYPI_TOKEN", "TEST_PYPI_TOKEN"]
    foreign += ["TWINE_PASSWORD", "UV_PUBLISH_TOKEN", "GATEHOUSE_BUILD_OUT", "PYTHONPATH", "GIT_DIR"]
    foreign += ["SETUPTOOLS_SCM_PRETEND_VERSION", "SOURCE_DATE_EPOCH"]
    for name in foreign:
        monkeypatch.setenv(name, "of-the-user")
    fresh = WorkflowRun(
        run.machine, "ci.yml", tmp_path / "fresh", event_name="push", event={}, ref=run.ref, sha="s", run_id=7
    )
    printed = shown(fresh.job("job"), "env")
    assert "of-the-user" not in printed
    lines = printed.splitlines()
    for line in ("GITHUB_REPOSITORY=acme/thing", "GITHUB_RUN_ID=7", "GITHUB_REF_NAME=develop", "CI=true"):
        assert line in lines


def test_a_checkout_is_the_commit_alone_or_everything(run: WorkflowRun) -> None:
    """A full one has branches, tags and history, a plain one a commit; no credential is left behind."""
    look = "git rev-list --count HEAD; git tag --list; git branch --remotes; git config --list --local"
    alone = shown(run.job("alone", checkout="commit"), look)
    assert alone.startswith("1\n")
    assert "v0.1.0" not in alone
    full = shown(run.job("full", checkout="full"), look)
    assert full.startswith("2\nv0.1.0\n")
    assert "origin/develop" in full
    assert "extraheader" not in alone + full
    assert "x-access-token" not in alone + full


def test_artifacts_are_handed_on_and_kept_on_github(run: WorkflowRun) -> None:
    """What one job hands on another fetches; the end of the run registers it, with the conclusion."""
    first, second = run.job("first"), run.job("second")
    (first.workspace / "made").write_text("x")
    first.hand_on(first.workspace, "things")
    second.fetch("things", second.workspace / "in")
    assert (second.workspace / "in/made").read_text() == "x"
    run.finish("success")
    github = run.machine.github
    [shown_run] = github.runs(NAME)
    assert (shown_run["status"], shown_run["conclusion"]) == ("completed", "success")
    listed = run.machine.ask("GET", f"actions/runs/{run.run_id}/artifacts")["artifacts"]
    assert [artifact["name"] for artifact in listed] == ["things"]


def test_a_step_that_fails_is_told_with_its_words_and_its_log(run: WorkflowRun) -> None:
    """The error names command, job, workflow, exit code, what was said, and the log; the step is recorded."""
    job = run.job("test")
    with pytest.raises(StepFailedError) as error:
        job.shell("test", "echo one is not two; exit 5", "/nowhere/bin/python")
    message = str(error.value)
    assert message.startswith("test in the job test of staging.yml ended with exit code 5:")
    assert "one is not two" in message
    assert message.endswith(str(job.folder / "test.log"))
    assert [(step.command, step.code) for step in run.steps] == [("test", 5)]


def test_secrets_are_used_and_not_recorded(run: WorkflowRun) -> None:
    """A command gets what is secret; the steps that are kept do not show it."""
    step = run.job("job").command("metrics", {"GATEHOUSE_X": "plain"}, secret={"GITHUB_TOKEN": "hidden"})
    assert step.code == 0
    assert step.environment == {"GATEHOUSE_X": "plain"}


def test_what_only_an_annotation_says_is_told_once() -> None:
    """An error that is in the log as annotation only is shown as text, one that is text already is not."""
    log = "start\n::error file=a.py,line=3::bad%0Anews 100%25\n::notice::x\nend\n"
    assert told(log) == "start\nbad\nnews 100%\nend"
    assert told("a.py: bad\n::error::bad\n") == "a.py: bad"


INPUTS = """\
jobs:
  {name}:
    uses: gatehouse-ci/gatehouse/.github/workflows/{name}.yml@v1
    with: {{ test: make test, python-version: "3.10", install: "${{{{ vars.X }}}}" }}
  other:
    steps:
      - uses: actions/checkout@v7
        with: {{ path: elsewhere }}
      - uses: gatehouse-ci/gatehouse/actions/verify-install@v1
        with: {{ smoke: thing go }}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INPUTS.format(name="_build"), {"test": "make test", "python-version": "3.10", "smoke": "thing go"}),
        (INPUTS.format(name="ci").replace("actions/verify-install@v1", ".github/workflows/_build.yml@v1"),
         {"test": "make test", "python-version": "3.10"}),
        ("jobs: {a: {runs-on: x, steps: [{run: 'true'}]}}", {}),
        ("jobs: [", {}),
        ("", {}),
        ("jobs: 3", {}),
        (json.dumps({"jobs": {"a": "b"}}), {}),
    ],
)  # fmt: skip
def test_inputs_are_those_that_the_file_gives_us(text: str, expected: dict[str, str]) -> None:
    """What our workflows and actions are given is played; expressions, others' inputs and no YAML are not."""
    assert inputs_of(text) == expected


def test_a_build_beside_our_ci_does_not_say_how_to_test() -> None:
    """In ci.yml the build leaves the tests to the job that has run them: its `true` does not count."""
    calls = "{{ uses: gatehouse-ci/gatehouse/.github/workflows/{}.yml@v1, with: {{ test: {} }} }}"
    text = f"jobs:\n  ci: {calls.format('ci', 'make test')}\n  build: {calls.format('_build', 'true')}\n"
    assert inputs_of(text) == {"test": "make test"}
