"""The release train whose every workflow is called, published by tokens: from develop to PyPI and back."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import NAME
from tests.workflows.train import CHECKS, COMMANDS, PROJECT, Train, built, template

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub
    from gatehouse.rehearse.index import Indexes

pytestmark = pytest.mark.timeout(400)
"""Seconds: a run of a dozen jobs, on a machine that has other things to do."""

BUTTONS = {name: template(name) for name in ("cut-release.yml", "tag-release.yml", "finish-release.yml")}
CHECKED = ("lint", "test (ubuntu-latest, 3.12)", "coverage", "gate")
BUILD_AND_TEST = {"test": "success", "build": "success"}
TESTPYPI = {"publish-testpypi": "success", "verify (3.12)": "success"}


def install(indexes: Indexes, version: str, folder: Path) -> str:
    """What the package's command says once pip has installed it from the stand-in's PyPI."""
    target = str(folder / "installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--isolated",
        "--quiet",
        "--no-deps",
        "--target",
        target,
    ]
    command += ["--index-url", indexes.pypi.simple_url, f"{PROJECT}=={version}"]
    subprocess.run(command, check=True)
    say = f"import sys; sys.path.insert(0, {target!r}); import acme_triage; acme_triage.main()"
    return subprocess.run(
        [sys.executable, "-I", "-c", say], check=True, capture_output=True, text=True
    ).stdout


def test_ci_checks_a_pull_request_and_publishes_develop(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """A pull request is checked and published nowhere; what is merged goes to TestPyPI and is installed."""
    line = train({"ci.yml": template("token/ci.yml", ci=CHECKS)})
    line.commit("feature/x", {"acme_triage/speed.py": '"""Speed."""\n'})
    pull = gh.open_pull(NAME, "feature/x", "develop")
    result = line.play("ci.yml", "pull_request", gh.pull_request_event(NAME, pull["number"]))
    assert result.jobs == dict.fromkeys(CHECKED, "success"), result.log
    assert ("warning", "Types") in [(level, at.get("title")) for level, _, at in result.annotations]
    assert indexes.testpypi.files(PROJECT) == {}

    line.repository.merge_pull(pull["number"])
    result = line.push("ci.yml", "develop")
    published = ("test", "build", "publish-testpypi", "verify")
    assert result.jobs == dict.fromkeys([*CHECKED, *published], "success"), result.log
    assert built(result)["version"] == "0.1.1.dev5"
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]


def test_from_develop_to_the_tag(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """One button cuts and starts staging, which proves it; the other tags and starts the release."""
    line = train(BUTTONS | {"staging.yml": template("token/staging.yml", staging=COMMANDS)})
    repository = line.repository
    line.finish_runs()

    result = line.dispatch("cut-release.yml", "refs/heads/develop", {"version": "auto"})
    assert result.jobs == {"cut": "success"}, result.log
    [pull] = gh.pulls(NAME)
    assert (pull["head"]["ref"], pull["base"]["ref"]) == ("release/v0.2.0", "main")
    assert "## [0.2.0] - " in repository.show("release/v0.2.0", "CHANGELOG.md")
    started = {(one["workflow"], one["ref"]) for one in gh.dispatches}
    assert ("staging.yml", "refs/heads/release/v0.2.0") in started

    result = line.dispatch("staging.yml", "refs/heads/release/v0.2.0")
    assert result.jobs == BUILD_AND_TEST | TESTPYPI | {"gate": "success"}, result.log
    assert built(result)["version"] == "0.2.0.dev424201"
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]
    line.finish_runs()

    repository.merge_pull(pull["number"])
    result = line.dispatch("tag-release.yml", "refs/heads/main")
    assert result.jobs == {"tag": "success"}, result.log
    assert gh.git(NAME, "rev-parse", "v0.2.0^{commit}") == repository.head("main")
    assert (gh.dispatches[-1]["workflow"], gh.dispatches[-1]["ref"]) == ("release.yml", "refs/tags/v0.2.0")
    assert indexes.pypi.files(PROJECT) == {}


def test_from_the_tag_to_pypi_and_back_to_develop(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train], tmp_path: Path
) -> None:
    """What was built once is on PyPI, where pip finds it, and in the GitHub Release; develop has the tag."""
    publishing = template("token/release.yml", release=COMMANDS | {"smoke": "acme-triage"})
    line = train(BUTTONS | {"release.yml": publishing})
    repository = line.repository
    line.release("0.2.0")

    result = line.dispatch("release.yml", "refs/tags/v0.2.0")
    last = {
        "evidence": "success",
        "publish-pypi": "success",
        "github-release": "success",
        "finish": "success",
    }
    assert result.jobs == BUILD_AND_TEST | TESTPYPI | last, result.log
    digests = built(result)["digests"]
    assert indexes.testpypi.files(PROJECT) == digests
    assert indexes.pypi.files(PROJECT) == digests
    assert install(indexes, "0.2.0", tmp_path) == "acme-triage 0.2.0\n"
    [release] = gh.releases(NAME)
    assert (release["tag_name"], release["draft"]) == ("v0.2.0", False)
    assets = {asset["name"]: asset["digest"].removeprefix("sha256:") for asset in release["assets"]}
    assert digests.items() <= assets.items()
    assert repository.head("release/v0.2.0") == ""
    assert gh.git(NAME, "tag", "--list", "--merged", "develop") == "v0.1.0\nv0.2.0"

    before = repository.refs()
    result = line.dispatch("finish-release.yml", "refs/heads/main")
    assert result.jobs == {"finish": "success"}, result.log
    assert repository.refs() == before
