"""The release train whose publish jobs stand in the caller's own files and prove by OIDC who they are."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.act import ROOT, find_uv
from tests.support.repositories import NAME
from tests.workflows.train import AGENT, COMMANDS, DESCRIBED, PROJECT, Train, built, template

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub
    from gatehouse.rehearse.index import Indexes

pytestmark = pytest.mark.timeout(400)
"""Seconds: a run of a dozen jobs, on a machine that has other things to do."""

CHECKS = {
    "lint": "success",
    "test (ubuntu-latest, 3.12)": "success",
    "coverage": "success",
    "gate": "success",
}
BUILD_AND_TEST = {"test": "success", "build": "success"}
TESTPYPI = {"publish-testpypi": "success", "verify (3.12)": "success"}

LOCKED = f'{DESCRIBED}\n[dependency-groups]\ndev = ["mypy", "pytest", "pytest-cov", "ruff"]\n'


def lock(clone: Path, pyproject: str) -> str:
    """The `uv.lock` of a project in its clone; uv resolves it from the registry."""
    (clone / "pyproject.toml").write_text(pyproject)
    cache = {"UV_CACHE_DIR": str(ROOT / ".tools" / "uv-cache")}
    subprocess.run([find_uv(), "lock", "--quiet"], cwd=clone, env={**os.environ, **cache}, check=True)
    return (clone / "uv.lock").read_text()


def test_ci_of_a_locked_project_publishes_its_dev_build(
    indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """Where a uv.lock lies the defaults are ruff, mypy and pytest of the lock; a push to develop goes on."""
    line = train({"ci.yml": template("oidc/ci.yml")})
    line.trust("ci.yml")
    locked = lock(line.repository.clone(), LOCKED)
    line.commit("develop", {"pyproject.toml": LOCKED, "uv.lock": locked})
    result = line.push("ci.yml", "develop")
    assert result.jobs == CHECKS | BUILD_AND_TEST | {"publish-testpypi": "success", "verify": "success"}, (
        result.log
    )
    assert result.artifact("gatehouse-junit-ubuntu-latest-3.12") == ["junit.xml"]
    assert result.artifact("gatehouse-coverage") == ["coverage.xml"]
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]
    assert "/_/oidc/mint-token" in [path for _, path, _ in indexes.testpypi.calls]


def test_staging(gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]) -> None:
    """A push of a release branch is tested by default with pytest, and its build installed from TestPyPI.

    The button on another branch builds nothing, and is red in words.
    """
    line = train({"staging.yml": template("oidc/staging.yml")})
    line.trust("staging.yml")
    result = line.dispatch("staging.yml", "refs/heads/develop")
    assert result.jobs == {"gate": "failure"}, result.log
    assert "Staging builds release branches only" in [text[:36] for _, text, _ in result.annotations]
    line.commit("release/v0.2.0", {"acme_triage/speed.py": '"""Speed."""\n'})
    result = line.push("staging.yml", "release/v0.2.0")
    assert result.jobs == BUILD_AND_TEST | TESTPYPI | {"gate": "success"}, result.log
    assert "1 passed" in result.log
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]
    assert gh.releases(NAME) == []


def test_release(gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]) -> None:
    """A person's tag carries package and verdicts to where they belong, by each index's trusted publisher."""
    line = train({"release.yml": template("oidc/release.yml", _build=COMMANDS)})
    line.trust("release.yml")
    line.commit("develop", AGENT)
    line.release("0.2.0")
    line.judge("release/v0.2.0")
    result = line.push("release.yml", "refs/tags/v0.2.0")
    last = {
        "evidence": "success",
        "publish-pypi": "success",
        "github-release": "success",
        "finish": "success",
    }
    assert result.jobs == BUILD_AND_TEST | TESTPYPI | last, result.log
    assert indexes.pypi.files(PROJECT) == built(result)["digests"]
    [release] = gh.releases(NAME)
    assert (release["tag_name"], release["draft"], release["prerelease"]) == ("v0.2.0", False, False)
    assert "Sort by urgency." in release["body"]
    assert {"triage-eval.json", "triage-cost.json"} <= {asset["name"] for asset in release["assets"]}
    assert line.repository.head("release/v0.2.0") == ""
    assert gh.git(NAME, "tag", "--list", "--merged", "develop") == "v0.1.0\nv0.2.0"
