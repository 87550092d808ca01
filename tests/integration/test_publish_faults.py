"""Publishing disturbed at every outside effect and every reply ends where an undisturbed run does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.index import Indexes
from tests.support.dists import make_dist
from tests.support.faults import World, play_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REF = "refs/tags/v1.2.0"


@pytest.mark.parametrize("command", ["publish-testpypi", "publish-pypi"])
def test_every_fault_is_made_good(command: str, tmp_path: Path) -> None:
    """Killed after each upload, or each reply lost: run again, the index holds each file once, as built."""

    @contextmanager
    def make(place: Path) -> Iterator[World]:
        work = place / "work"
        make_dist(work / "dist")
        with GitHub(place / "github") as github, Indexes(place / "indexes", github) as indexes:
            github.create_repository("acme/triage")
            index = indexes.pypi if command == "publish-pypi" else indexes.testpypi
            environment = indexes.environment
            if command == "publish-pypi":  # one by the job's id token, the other by an API token
                index.trust("acme-triage", "acme/triage", "release.yml", "release")
                job = github.oidc_environment("acme/triage", REF, "release.yml", "release")
                environment |= {"GITHUB_ACTIONS": "true", **job}
            else:
                environment |= {"TEST_PYPI_TOKEN": index.token}
            yield World([command], work, [index, github], environment, extra=index)

    def describe(world: World) -> Any:
        return {"files": world.extra.files("acme-triage"), "uploads": sorted(world.extra.effects)}

    played = play_faults(make, describe, tmp_path)
    assert len([effect for effect in played.effects if effect.startswith("upload ")]) == 2
