"""The harness runs a workflow as GitHub does; workflow and suite are the tests' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.origin import run_git
from tests.support.act import ROOT, ActResult, materialise, run_act, runner_checkout, without_self_references

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

NAME = "acme/refund-triage"
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"
UPLOAD = "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a"
DOWNLOAD = "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c"
RESTORE = "actions/cache/restore@55cc8345863c7cc4c66a329aec7e433d2d1c52a9"
SAVE = "actions/cache/save@55cc8345863c7cc4c66a329aec7e433d2d1c52a9"
PYTHON = "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97"
UV = "astral-sh/setup-uv@20cfd1bf945f4377ade1205e4dbc17946fc9a30d"

SUITE = {
    "actions/hello/action.yml": """
name: Hello
description: Greets
inputs: {whom: {description: Whom, required: true}}
outputs: {said: {description: What, value: "${{ steps.say.outputs.said }}"}}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: echo "said=$(cat "$GITHUB_ACTION_PATH/../../greeting.txt") $WHOM" >> "$GITHUB_OUTPUT"
      env: {WHOM: "${{ inputs.whom }}"}
""",
    ".github/workflows/shared.yml": """
on:
  workflow_call:
    inputs: {whom: {type: string, required: true}}
    secrets: {model-key: {required: true}}
    outputs: {said: {value: "${{ jobs.greet.outputs.said }}"}}
jobs:
  greet:
    runs-on: ubuntu-latest
    outputs: {said: "${{ steps.hello.outputs.said }}"}
    steps:
      - id: hello
        uses: $/actions/hello
        with: {whom: "${{ inputs.whom }}"}
      - run: test "$KEY" = sesame
        env: {KEY: "${{ secrets.model-key }}"}
""",
    "greeting.txt": "Hello",
}


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    """A suite of one action and one reusable workflow that calls it by `$/`."""
    folder = tmp_path / "suite"
    for name, text in SUITE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(without_self_references(text))
    return folder


@pytest.fixture
def play(gh: GitHub, tmp_path: Path, small_suite: Path) -> Play:
    """Runs a workflow for pull request 1 of a repository where it stands on both sides."""
    return Play(gh, tmp_path, small_suite)


class Play:
    """A repository whose pull request adds `prompt.txt` to a base that has moved on."""

    def __init__(self, gh: GitHub, folder: Path, suite: Path) -> None:
        self.gh, self.folder, self.suite = gh, folder, suite

    def __call__(self, jobs: str, **options: object) -> ActResult:
        """Run a workflow of these jobs; `options` are those of `run_act`."""
        source = self.folder / "source"
        (source / ".github/workflows").mkdir(parents=True)
        (source / ".github/workflows/gate.yml").write_text(f"name: gate\non: [pull_request]\njobs:\n{jobs}")
        run_git(source, "init", "--quiet", "--initial-branch=main")
        self.commit("README.md")
        run_git(source, "checkout", "--quiet", "-b", "change")
        self.commit("prompt.txt")
        run_git(source, "checkout", "--quiet", "main")
        self.commit("moved-on.txt")
        self.gh.create_repository(NAME, source)
        self.gh.open_pull(NAME, "change", "main")
        event = self.gh.pull_request_event(NAME, 1)
        checkout = runner_checkout(self.gh, NAME, event, self.folder / "checkout")
        return run_act(
            checkout,
            "pull_request",
            event,
            self.gh,
            folder=self.folder / "run",
            suite=self.suite,
            **options,  # type: ignore[arg-type]
        )

    def commit(self, name: str) -> None:
        """Commit a new file."""
        source = self.folder / "source"
        (source / name).write_text(name)
        run_git(source, "add", ".")
        run_git(source, "commit", "--quiet", "-m", f"Add {name}")


def test_jobs_check_out_the_merge_and_pass_artifacts(play: Play) -> None:
    """A job sees the pull request merged into its base, without credentials, and hands files on."""
    result = play(f"""
  first:
    runs-on: ubuntu-latest
    steps:
      - uses: {CHECKOUT}
        with: {{persist-credentials: false}}
      - run: test -f prompt.txt && test -f moved-on.txt && test "$(git rev-parse HEAD)" = "$GITHUB_SHA"
      - run: test "$GITHUB_REF" = refs/pull/1/merge && test "$GITHUB_HEAD_REF" = change
      - run: '! grep -ri authorization .git'
      - run: mkdir -p out/.secret && echo kept > out/kept
      - run: echo a > out/.hidden && echo b > out/.secret/c
      - uses: {UPLOAD}
        with: {{name: results, path: out}}
  second:
    runs-on: ubuntu-latest
    needs: first
    steps:
      - run: test -z "$(ls -A)"
      - uses: {DOWNLOAD}
        with: {{name: results, path: here}}
      - run: test "$(cat here/kept)" = kept && test "$(find here -type f)" = here/kept
""")
    assert result.jobs == {"first": "success", "second": "success"}, result.log
    assert result.exit_code == 0
    assert result.artifact("results") == ["kept"]
    assert play.gh.pull(NAME, 1)["merge_commit_sha"] == run_git(play.folder / "checkout", "rev-parse", "HEAD")


def test_the_whole_history_is_there_where_it_is_asked_for(play: Play) -> None:
    """With `fetch-depth: 0` a job has every branch and the history, still at the commit of its event."""
    result = play(f"""
  whole:
    runs-on: ubuntu-latest
    steps:
      - uses: {CHECKOUT}
        with: {{persist-credentials: false, fetch-depth: 0}}
      - run: test "$(git rev-parse --is-shallow-repository)" = false && git log --format=%s | grep README.md
      - run: test "$(git rev-parse HEAD)" = "$GITHUB_SHA" && test -f prompt.txt
      - run: git rev-parse origin/main origin/change
""")
    assert result.jobs == {"whole": "success"}, result.log


def test_only_the_wanted_job_of_a_matrix_runs(play: Play) -> None:
    """`matrix` picks the jobs of a matrix by their values, and leaves other matrices alone."""
    result = play(
        """
  one:
    runs-on: ubuntu-latest
    strategy: {matrix: {python: ["3.11", "3.12"]}}
    steps: [{run: "test ${{ matrix.python }} = 3.12"}]
  other:
    runs-on: ubuntu-latest
    strategy: {matrix: {letter: [a, b]}}
    steps: [{run: "true"}]
""",
        matrix={"python": "3.12"},
    )
    assert set(result.jobs) == {"one (3.12)", "other (a)", "other (b)"}, result.log


def test_failing_steps_fail_their_job(play: Play) -> None:
    """A failing step is a failing job and run; what needs it is skipped unless it says always."""
    result = play("""
  broken:
    runs-on: ubuntu-latest
    steps:
      - run: echo "::error file=agents/a.yaml,line=3::too low"
      - run: echo "# Bad" >> "$GITHUB_STEP_SUMMARY"
      - run: exit 3
      - run: echo not reached
  after:
    needs: broken
    runs-on: ubuntu-latest
    steps: [{run: echo never}]
  gate:
    needs: [broken, after]
    if: always()
    runs-on: ubuntu-latest
    steps:
      - run: test "$RESULT" = failure && test "$AFTER" = skipped
        env: {RESULT: "${{ needs.broken.result }}", AFTER: "${{ needs.after.result }}"}
""")
    assert result.jobs == {"broken": "failure", "gate": "success"}, result.log
    assert result.exit_code == 1
    assert "| not reached" not in result.log
    assert result.annotations == [("error", "too low", {"file": "agents/a.yaml", "line": "3"})]
    assert result.summaries == {"broken": "# Bad\n"}


def test_reusable_workflow_of_the_suite(play: Play) -> None:
    """A workflow and an action of the suite run at `@v1`, see the suite's files, and hand outputs back."""
    result = play(
        """
  call:
    uses: gatehouse-ci/gatehouse/.github/workflows/shared.yml@v1
    with: {whom: "it's me"}
    secrets: {model-key: "${{ secrets.KEY }}"}
  after:
    needs: call
    runs-on: ubuntu-latest
    steps:
      - run: test "$SAID" = "Hello it's me"
        env: {SAID: "${{ needs.call.outputs.said }}"}
""",
        secrets={"KEY": "sesame"},
    )
    assert result.jobs == {"greet": "success", "after": "success"}, result.log
    assert result.exit_code == 0
    assert "sesame" not in result.log


def test_each_job_of_a_matrix_has_its_result(play: Play) -> None:
    """The jobs of a matrix are told apart by its values, and one that fails fails the run."""
    result = play("""
  run:
    runs-on: ubuntu-latest
    strategy: {matrix: {agent: [{name: triage, shard: 1}, {name: refund, shard: 2}]}}
    steps: [{run: "test ${{ matrix.agent.name }} = triage"}]
""")
    assert result.jobs == {"run (triage, 1)": "success", "run (refund, 2)": "failure"}, result.log
    assert result.exit_code == 1


def test_jobs_are_apart_from_each_other_and_from_the_test(
    play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job finds no file, home or temporary folder of another job, and no variable of the test's process."""
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_FIND_LINKS", "GITHUB_STEP_SUMMARY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, str(tmp_path / "leak"))
    clean = """
    runs-on: ubuntu-latest
    steps:
      - run: test -z "$PYTHONPATH$VIRTUAL_ENV$PIP_FIND_LINKS$ANTHROPIC_API_KEY"
      - run: env | grep -v "$GITHUB_STEP_SUMMARY" | { ! grep /leak; }
      - run: test ! -e ~/left && test ! -e "$RUNNER_TEMP/left" && test ! -e left
      - run: touch ~/left "$RUNNER_TEMP/left" left
"""
    result = play(f"  one:{clean}  two:\n    needs: one{clean}")
    assert result.jobs == {"one": "success", "two": "success"}, result.log


def test_pythons_and_uv_are_of_the_job(play: Play) -> None:
    """setup-python gives a bare Python with pip, setup-uv a uv, and a job without them has neither."""
    result = play(f"""
  tools:
    runs-on: ubuntu-latest
    steps:
      - run: '! command -v uv'
      - id: python
        uses: {PYTHON}
        with: {{python-version: "3.11"}}
      - uses: {UV}
      - run: test "$(command -v python)" = "$WHERE" && python --version | grep "Python 3"
        env: {{WHERE: "${{{{ steps.python.outputs.python-path }}}}"}}
      - run: python -m pip --version && pip list --format=freeze | {{ ! grep -v pip; }}
      - run: '! python -c "import click"'
      - run: uv --version && uv venv --offline made
""")
    assert result.jobs == {"tools": "success"}, result.log


def test_artifacts_follow_the_real_rules(play: Play) -> None:
    """Names are unique and must exist, a pattern may match nothing, and folders are kept apart or merged."""
    result = play(f"""
  up:
    runs-on: ubuntu-latest
    steps:
      - run: mkdir -p .gatehouse/a/deep .gatehouse/b
      - run: echo 1 > .gatehouse/a/deep/x && echo 2 > .gatehouse/b/y.json
      - {{uses: {UPLOAD}, with: {{name: run-a, path: .gatehouse/a}}}}
      - {{uses: {UPLOAD}, with: {{name: run-b, path: .gatehouse/b/*.json}}}}
      - {{uses: {UPLOAD}, with: {{name: none, path: .gatehouse}}}}
      - uses: {UPLOAD}
        with: {{name: whole, path: ".gatehouse\\n!.gatehouse/b", include-hidden-files: true}}
      - {{uses: {UPLOAD}, with: {{name: run-b, path: .gatehouse/b, overwrite: true}}}}
      - {{id: again, uses: {UPLOAD}, with: {{name: run-b, path: .gatehouse/b}}, continue-on-error: true}}
      - run: test "$AGAIN" = failure
        env: {{AGAIN: "${{{{ steps.again.outcome }}}}"}}
  down:
    needs: up
    runs-on: ubuntu-latest
    steps:
      - {{uses: {DOWNLOAD}, with: {{pattern: run-*, path: apart}}}}
      - {{uses: {DOWNLOAD}, with: {{pattern: run-*, path: merged, merge-multiple: true}}}}
      - {{uses: {DOWNLOAD}, with: {{pattern: absent-*, path: nothing}}}}
      - run: test -f apart/run-a/deep/x && test -f apart/run-b/y.json && test -f merged/deep/x
      - run: test -f merged/y.json && test ! -e nothing
      - {{uses: {DOWNLOAD}, with: {{name: absent}}}}
""")
    assert result.jobs == {"up": "success", "down": "failure"}, result.log
    assert "Artifact not found for name: absent" in result.log
    assert result.artifact("whole") == ["a/deep/x"]
    assert not (result.artifacts / "none").exists()


def test_caches_follow_the_real_rules(play: Play) -> None:
    """A key is saved once, the newest of a prefix is found, by the same path only, and none is no failure."""
    temp = "path: '${{ runner.temp }}/kept'"
    result = play(f"""
  before:
    runs-on: ubuntu-latest
    steps:
      - {{id: none, uses: {RESTORE}, with: {{{temp}, key: kept-1, restore-keys: kept-}}}}
      - run: test -z "$HIT" && test ! -e "$RUNNER_TEMP/kept"
        env: {{HIT: "${{{{ steps.none.outputs.cache-hit }}}}"}}
      - {{uses: {SAVE}, with: {{{temp}, key: kept-0}}}}
      - run: mkdir "$RUNNER_TEMP/kept" && echo 1 > "$RUNNER_TEMP/kept/file"
      - {{uses: {SAVE}, with: {{{temp}, key: kept-1}}}}
      - run: echo 2 > "$RUNNER_TEMP/kept/file"
      - {{uses: {SAVE}, with: {{{temp}, key: kept-1}}}}
      - {{uses: {SAVE}, with: {{{temp}, key: kept-2}}}}
  after:
    needs: before
    runs-on: ubuntu-latest
    steps:
      - {{id: near, uses: {RESTORE}, with: {{{temp}, key: kept-9, restore-keys: kept-}}}}
      - run: test "$HIT $KEY" = "false kept-2" && test "$(cat "$RUNNER_TEMP/kept/file")" = 2
        env:
          HIT: ${{{{ steps.near.outputs.cache-hit }}}}
          KEY: ${{{{ steps.near.outputs.cache-matched-key }}}}
      - {{id: exact, uses: {RESTORE}, with: {{{temp}, key: kept-1}}}}
      - run: test "$HIT" = true && test "$(cat "$RUNNER_TEMP/kept/file")" = 1
        env: {{HIT: "${{{{ steps.exact.outputs.cache-hit }}}}"}}
      - {{uses: {RESTORE}, with: {{path: elsewhere, key: kept-1}}}}
      - run: test ! -e elsewhere
""")
    assert result.jobs == {"before": "success", "after": "success"}, result.log
    warnings = [message for level, message, _ in result.annotations if level == "warning"]
    assert [message.partition(":")[0] for message in warnings] == ["Path Validation Error", "Failed to save"]


def test_the_job_reaches_the_api(play: Play) -> None:
    """A step reaches the stand-in's API with the job's token, and its call is seen there."""
    result = play("""
  ask:
    runs-on: ubuntu-latest
    steps:
      - run: >-
          "$STAND_INS_PYTHON" -c "import os, requests;
          requests.post(os.environ['GITHUB_API_URL'] + '/repos/' + os.environ['GITHUB_REPOSITORY']
          + '/issues/1/comments', json={'body': 'from the job'},
          headers={'Authorization': 'Bearer ' + os.environ['TOKEN']}).raise_for_status()"
        env: {TOKEN: "${{ github.token }}"}
""")
    assert result.exit_code == 0, result.log
    assert [comment["body"] for comment in play.gh.comments(NAME, 1)] == ["from the job"]
    assert play.gh.token not in result.log


def test_the_suite_is_what_a_runner_gets(tmp_path: Path) -> None:
    """The suite comes without `.git` and ignored files, with a version to read, and without `$/`."""
    target = materialise(tmp_path / "suite")
    assert (target / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
    assert not (target / ".git").exists()
    assert not (target / ".venv").exists()
    archival = (target / ".git_archival.txt").read_text()
    assert "$Format" not in archival
    assert "describe-name: v" in archival
    yaml = [*target.glob("actions/*/action.yml"), *target.glob(".github/workflows/*.yml")]
    assert [path.name for path in yaml if "uses: $/" in path.read_text()] == []


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("- uses: $/actions/setup # own", "- uses: gatehouse-ci/gatehouse/actions/setup@v1 # own"),
        ('uses: "$/.github/workflows/x.yml"', 'uses: "gatehouse-ci/gatehouse/.github/workflows/x.yml@v1"'),
        ("uses: $/", "uses: gatehouse-ci/gatehouse@v1"),
        ("run: echo $/actions", "run: echo $/actions"),
    ],
)
def test_self_references_are_rewritten(text: str, rewritten: str) -> None:
    """`$/` becomes the suite's repository and ref in `uses`, and stays elsewhere."""
    assert without_self_references(text) == rewritten
