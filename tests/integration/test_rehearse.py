"""The rehearsal: pull requests through the gate and a release to PyPI, by the commands of the workflows."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.rehearse.runner import Step, git
from gatehouse.rehearse.story import Change, Played
from gatehouse.release.dist import load_build
from tests.support.act import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

# A whole story takes half a minute, on a machine that is busy several times that.
pytestmark = pytest.mark.timeout(600)

NOT_PLAYED = {("ci.yml", "ci")}
"""The job whose lint, types and coverage are left out; its tests are played."""


def rehearse(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """`gatehouse rehearse` with these arguments, where nobody can be asked."""
    command = [sys.executable, "-I", "-m", "gatehouse", "rehearse", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL, **options
    )


def test_the_example_is_judged_and_released(tmp_path: Path) -> None:
    """With --approve the bad change is stopped, the good one reaches PyPI, the checklist says where to look.

    One test, because one story serves all of it.
    """
    folder = tmp_path / "out"
    done = rehearse("--approve", "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_both_changes_are_judged(folder, done.stdout)
    assert_what_was_built_is_released(folder)
    assert_the_branches_are_in_order(folder)
    assert_the_steps_are_those_of_the_workflows(json.loads((folder / "steps.json").read_bytes()))
    assert_the_checklist_leads_somewhere(done.stdout)


def assert_both_changes_are_judged(folder: Path, printed: str) -> None:
    """Both scorecards are shown, and each pull request has its comment."""
    assert "✅ refund-triage passes" in printed
    assert "❌ refund-triage fails: exact_match: 0.565 is below 0.85" in printed
    assert "passes" in (folder / "pull-1/comment.md").read_text()
    assert "fails" in (folder / "pull-2/comment.md").read_text()


def assert_what_was_built_is_released(folder: Path) -> None:
    """PyPI and the GitHub Release hold the bytes that the build of the tag made, and pip installed them."""
    build = load_build(folder / "train/release-v0.2.0/artifacts/gatehouse-dist-acme-refund-triage")
    assert (build.version, build.tag, build.on_main) == ("0.2.0", "v0.2.0", True)
    built = {file.name: file.sha256 for file in build.files}
    assert stored(folder / "indexes/pypi") == built
    assert built.items() < stored(folder / "indexes/testpypi").items()
    released = json.loads((folder / "train/release.json").read_bytes())
    assert (released["tag_name"], released["draft"], released["prerelease"]) == ("v0.2.0", False, False)
    assets = {asset["name"]: asset["digest"] for asset in released["assets"]}
    assert {name: f"sha256:{digest}" for name, digest in built.items()}.items() <= assets.items()
    assert [name for name in assets if "refund-triage" in name and name.endswith(".json")], assets
    assert "looks every order up" in (folder / "train/release-notes.md").read_text()
    installed = json.loads((folder / "train/install/report.json").read_bytes())["install"]
    digests = {one["download_info"]["archive_info"]["hashes"]["sha256"] for one in installed}
    assert digests & set(built.values())


def stored(index: Path) -> dict[str, str]:
    """SHA-256 of every wheel and sdist that an index keeps, by name."""
    files = [file for file in index.rglob("*") if file.name.endswith((".whl", ".tar.gz"))]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def assert_the_branches_are_in_order(folder: Path) -> None:
    """The tag is on main and in develop's history, the release branch is gone, one pull request led there."""
    origin = folder / "github/acme/refund-triage.git"
    assert git(origin, "rev-parse", "v0.2.0^{commit}") == git(origin, "rev-parse", "main")
    assert "v0.2.0" in git(origin, "tag", "--merged", "develop").splitlines()
    assert "release" not in git(origin, "for-each-ref", "refs/heads")
    assert len(git(origin, "for-each-ref", "refs/pull/*/head").splitlines()) == 3
    assert "## [0.2.0] - 20" in git(origin, "show", "develop:CHANGELOG.md")


def assert_the_steps_are_those_of_the_workflows(runs: list[dict[str, Any]]) -> None:
    """Every run played the commands of its workflow in order, in their jobs, with the values given there."""
    assert [run["workflow"] for run in runs[:2]] == ["agent-ci.yml", "agent-ci.yml"]
    assert {run["workflow"] for run in runs} >= {
        "ci.yml",
        "cut-release.yml",
        "staging.yml",
        "tag-release.yml",
    }
    for run in runs:
        expected = list(workflow_steps(run["workflow"], run["event"]))
        steps = [step for step in run["steps"] if step["command"] not in ("install", "test")]
        played = [(step["job"].removesuffix("-refund-triage"), step["command"]) for step in steps]
        assert played == [(job, command) for job, command, _ in expected], run["workflow"]
        for step, (_, _, literal) in zip(steps, expected, strict=True):
            assert literal.items() <= step["environment"].items()
        assert "GITHUB_TOKEN" not in json.dumps(run)


def workflow_steps(file: str, event: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each step of a template that calls our actions: job, command, its literal values by variable."""
    folder = ROOT / "templates"
    text = ((folder / "oidc" / file) if (folder / "oidc" / file).exists() else folder / file).read_text()
    for name, job in yaml.safe_load(text)["jobs"].items():
        if (file, name) not in NOT_PLAYED:
            yield from job_steps(name, job, event)


def job_steps(name: str, job: dict[str, Any], event: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The steps of one job, or of the workflow that it calls."""
    called = re.fullmatch(
        r"(?:gatehouse-ci/gatehouse|\$)/(.github/workflows/.+?)(?:@v1)?", job.get("uses", "")
    )
    if called:
        for inner, body in yaml.safe_load((ROOT / called[1]).read_text())["jobs"].items():
            if inner != "comment" or event == "pull_request":
                yield from job_steps(inner, body, event)
    for step in job.get("steps", []):
        found = re.fullmatch(r"(?:gatehouse-ci/gatehouse|\$)/actions/([\w-]+)(?:@v1)?", step.get("uses", ""))
        if found and found[1] != "setup":
            yield name, found[1], literals(found[1], step.get("with") or {})


def literals(action: str, given: dict[str, Any]) -> dict[str, str]:
    """What a step gives an action without an expression, by the variable that the action hands it on with."""
    steps = yaml.safe_load((ROOT / "actions" / action / "action.yml").read_text())["runs"]["steps"]
    [body] = [step for step in steps if step.get("run") == f"gatehouse {action}"]
    variables = {value.removeprefix("${{ inputs.").removesuffix(" }}"): k for k, value in body["env"].items()}
    return {variables[k]: str(v).strip() for k, v in given.items() if "${{" not in str(v)}


def assert_the_checklist_leads_somewhere(printed: str) -> None:
    """Every file and folder that the checklist names is there, and the seconds of the stages are told."""
    checklist = printed.partition("Done, and where to look")[2]
    places = re.findall(r"^    (/.+)$", checklist, re.MULTILINE)
    assert len(places) > 10
    assert not [place for place in places if not os.path.exists(place)]  # noqa: PTH110 text, no path
    assert re.search(r"^ +\d+\.\d  Staging$", printed, re.MULTILINE)


PYPROJECT = """\
[build-system]
requires = ["setuptools>=80", "setuptools-scm>=10.3.4,<11"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-tiny"
description = "Tiny"
readme = "README.md"
requires-python = ">=3.11"
dynamic = ["version"]

[tool.setuptools]
py-modules = ["tiny"]

[tool.setuptools_scm]
local_scheme = "no-local-version"
"""

WORKFLOW = """\
on:
  push: {{ branches: [{branch}] }}
  workflow_dispatch:
jobs:
  {name}:
    uses: gatehouse-ci/gatehouse/.github/workflows/{name}.yml@v1
    with: {{ install: "true", test: python -m unittest -v }}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A user's repository: an agent, a tag, a branch with work partly committed, no changelog entry."""
    folder = tmp_path / "tiny"
    test = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_it(self):\n        import tiny\n"
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": "# tiny\n",
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [0.3.0] - 2026-01-05\n\n- Tiny.\n",
        "tiny.py": '"""Tiny."""\n',
        "test_tiny.py": test,
        "agents/tiny.yaml": (ROOT / "templates/agent.yaml").read_text().replace("support", "tiny"),
        "prompts/tiny.md": "Answer.\n",
        "evals/golden/tiny.jsonl": '{"id": "a", "input": "b", "expected": "c"}\n',
    }
    for name, branch in {
        "ci": "main",
        "staging": "release/**",
        "release": "never",
        "pages": "develop",
    }.items():
        files[f".github/workflows/{name}.yml"] = WORKFLOW.format(name=name, branch=branch)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=Tiny")
    git(folder, "tag", "v0.3.0")
    git(folder, "branch", "develop")
    git(folder, "switch", "--quiet", "--create", "feature/more")
    (folder / "tiny.py").write_text('"""Tiny, and more."""\n')
    git(folder, "commit", "--quiet", "--all", "--message=More")
    (folder / "draft.py").write_text("not committed")
    (folder / "README.md").write_text("# tiny, changed\n")
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of the last change, and bytes of every file and folder below, git's own included."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        found[str(path)] = (about.st_mode, about.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def test_a_rejected_release_of_a_repository_ends_before_pypi(package: Path, tmp_path: Path) -> None:
    """A copy of PATH goes by its own workflows' inputs; with --reject nothing reaches PyPI or GitHub."""
    before, folder = contents(package), tmp_path / "out"
    done = rehearse(package, "--reject", "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(package) == before
    assert "Rejected: PyPI and the GitHub Releases are untouched" in done.stdout
    assert stored(folder / "indexes/pypi") == {}
    assert not (folder / "train/release.json").exists()
    versions = {name.split("-")[1] for name in stored(folder / "indexes/testpypi") if name.endswith(".whl")}
    assert "0.4.0" in versions
    assert len(versions) == 3
    for said in (
        "Not committed, so not rehearsed: README.md, draft.py.",
        "What you are on, feature/more, is merged into develop by a pull request.",
        "Nothing stands under Unreleased in CHANGELOG.md: an entry is added in the copy.",
        "from the templates: agent-ci.yml, cut-release.yml, finish-release.yml, tag-release.yml.",
        "Your agents are not asked anything here: their passing verdicts are stand-ins.",
        "ci.yml does not start on a push to develop, as it has to: here it does.",
        "pages.yml, which starts on a push to develop, is taken for green.",
        "Each agent of release/v0.4.0 has a stand-in verdict: none was asked anything",
    ):
        assert said in done.stdout
    tests = (folder / "train/staging-release-v0.4.0/test/test.log").read_text()
    assert "test_it (test_tiny.T.test_it) ... ok" in tests
    origin = folder / "github/rehearsal/tiny.git"
    assert "and more" in git(origin, "show", "v0.4.0:tiny.py")
    assert "draft.py" not in git(origin, "ls-tree", "--name-only", "v0.4.0")


def test_a_package_that_cannot_be_built_ends_with_the_message_of_its_build(
    package: Path, tmp_path: Path
) -> None:
    """What fails is told in its own words with its log's place, exit code 1; the repository is untouched."""
    (package / "pyproject.toml").write_text(PYPROJECT.replace("build_meta", "build_nothing"))
    git(package, "commit", "--quiet", "--all", "--message=Break it")
    before = contents(package)
    done = rehearse(package, "--approve", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert contents(package) == before
    assert "build in the job build of ci.yml ended with exit code 2" in done.stderr
    assert "build_nothing" in done.stderr
    log = re.search(r"^Its log: (.+)$", done.stderr, re.MULTILINE)
    assert log
    assert "build_nothing" in Path(log[1]).read_text()
    assert "✓ #1 merged to develop" in done.stdout
    assert stored(tmp_path / "out/indexes") == {}


def test_without_a_terminal_the_answer_has_to_be_given(tmp_path: Path) -> None:
    """Where nobody can be asked and neither option says it, nothing is played."""
    done = rehearse("--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--approve, or --reject" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("typed", "answer"), [("y", "True"), ("n", "False"), ("", "False")])
def test_on_a_terminal_the_approval_is_asked_for(typed: str, answer: str) -> None:
    """What would be published is shown, and what is typed decides; an empty line is a no."""
    program = (
        "from gatehouse.commands.rehearse import _answer; print('answer', _answer(None, 'acme 1.0, sha'))"
    )
    ours, theirs = pty.openpty()
    asked = subprocess.Popen([sys.executable, "-I", "-c", program], stdin=theirs, stdout=subprocess.PIPE)
    os.write(ours, f"{typed}\n".encode())
    printed, _ = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert b"acme 1.0, sha" in printed
    assert f"answer {answer}" in printed.decode()


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


def test_the_folder_has_to_be_new_and_outside(tmp_path: Path) -> None:
    """A folder that holds something, or lies in the repository, is refused before anything is written."""
    (tmp_path / "mine").write_text("kept")
    done = rehearse("--approve", "--out", tmp_path)
    assert (done.returncode, "not empty" in done.stderr) == (2, True)
    done = rehearse(tmp_path, "--approve", "--out", tmp_path / "out")
    assert (done.returncode, "nothing is written" in done.stderr) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
