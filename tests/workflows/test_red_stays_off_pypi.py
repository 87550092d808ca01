"""What ends a release before PyPI: a trial, an installation that fails, an agent without a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.repositories import NAME
from tests.workflows.train import AGENT, COMMANDS, PROJECT, Train, built, template

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.rehearse.github import GitHub
    from gatehouse.rehearse.index import Indexes

pytestmark = pytest.mark.timeout(400)
"""Seconds: a run of a dozen jobs, on a machine that has other things to do."""

BUILT = {"test": "success", "build": "success"}


def test_a_trial_ends_before_pypi(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """A trial of v0.0.0rc1, from a branch that main does not hold, ends after the verified installation."""
    line = train({"release.yml": template("token/release.yml", release=COMMANDS)})
    line.repository.push("develop", "refs/tags/v0.0.0rc1")
    result = line.dispatch("release.yml", "refs/tags/v0.0.0rc1", {"trial": "true", "pre-release": "true"})
    proven = {"evidence": "success", "publish-testpypi": "success", "verify (3.12)": "success"}
    assert result.jobs == BUILT | proven, result.log
    assert built(result)["version"] == "0.0.0rc1"
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]
    assert (indexes.pypi.files(PROJECT), gh.releases(NAME)) == ({}, [])


def test_what_cannot_be_installed_is_not_published(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """A smoke command that fails after the installation from TestPyPI ends the release."""
    line = train(
        {"release.yml": template("token/release.yml", release=COMMANDS | {"smoke": "acme-triage && exit 7"})}
    )
    line.release("0.2.0")
    result = line.push("release.yml", "refs/tags/v0.2.0")
    proven = {"evidence": "success", "publish-testpypi": "success", "verify (3.12)": "failure"}
    assert result.jobs == BUILT | proven, result.log
    assert indexes.testpypi.files(PROJECT) == built(result)["digests"]
    assert "acme-triage && exit 7" in result.log
    assert (indexes.pypi.files(PROJECT), gh.releases(NAME)) == ({}, [])


def test_an_agent_without_a_verdict_is_published_nowhere(
    gh: GitHub, indexes: Indexes, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """A package with an agent that no gate has judged reaches neither index."""
    line = train({"release.yml": template("token/release.yml", release=COMMANDS)})
    line.commit("develop", AGENT)
    line.release("0.2.0")
    result = line.push("release.yml", "refs/tags/v0.2.0")
    assert result.jobs == BUILT | {"evidence": "failure"}, result.log
    assert [text for level, text, _ in result.annotations if level == "error" and "triage" in text] != []
    assert (indexes.testpypi.files(PROJECT), indexes.pypi.files(PROJECT), gh.releases(NAME)) == ({}, {}, [])
