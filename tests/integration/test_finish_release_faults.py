"""`gatehouse finish-release` disturbed after each effect and at each request, and run again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from tests.integration.test_finish_release import BACK, LATER, open_pulls, reaches
from tests.integration.test_tag_release import BRANCH, TAG, Prepared, cut, publish
from tests.support.faults import World, play_faults
from tests.support.repositories import NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with a release that was cut, and a develop that went on."""
    folder = tmp_path_factory.mktemp("source")
    with GitHub(folder / "github") as gh:
        cut(ReleaseRepository(gh, folder / "repository")).commit(
            "develop", {"CHANGELOG.md": LATER}, "Sort by mood"
        )
    return folder / f"github/{NAME}.git"


def world_of(
    source: Path, prepare: Callable[[ReleaseRepository], object]
) -> Callable[[Path], AbstractContextManager[World]]:
    """How to make a world of a published release and a develop that went on, then `prepare`d."""

    @contextmanager
    def make(folder: Path) -> Iterator[World]:
        with GitHub(folder / "github") as gh:
            repo = Prepared(gh, folder / "repository", source)
            gh.open_pull(NAME, BRANCH, "main", "Release")
            gh.git(NAME, "tag", TAG, gh.merge_pull(NAME, 1))
            publish(gh, TAG)
            prepare(repo)
            env = repo.environment(ref="refs/heads/main")
            yield World(["finish-release"], repo.folder, [gh], env, extra=repo)

    return make


def finished(world: World) -> dict[str, Any]:
    """Branches, what develop and the back-merge hold, and the pull requests."""
    repo: ReleaseRepository = world.extra
    refs = repo.refs()
    ends = [
        ref.removeprefix("refs/heads/") for ref in ("refs/heads/develop", f"refs/heads/{BACK}") if ref in refs
    ]
    subjects = {ref: repo.gh.git(NAME, "log", "--format=%s", ref, "^main").splitlines() for ref in ends}
    outputs = repo.outputs()
    return {
        "refs": sorted(refs),
        "reached": reaches(repo),
        "commits": subjects,
        "files": {ref: repo.gh.git(NAME, "rev-parse", f"{ref}^{{tree}}") for ref in ends},
        "pulls": [(pull["title"], pull["state"], pull["head"]["ref"]) for pull in repo.gh.pulls(NAME)],
        "outputs": {name: outputs.get(name) for name in ("merged", "branch-deleted")},
        "told": outputs.get("pull-request-url", "").rpartition("/")[2],
    }


def test_a_push_to_develop(tmp_path: Path, source: Path) -> None:
    """However it was disturbed, a second run leaves one merge on develop and no release branch."""
    played = play_faults(world_of(source, lambda _: None), finished, tmp_path)
    assert played.effects == ["push refs/heads/develop", "push :refs/heads/release/v1.2.0"]
    assert played.state["commits"]["develop"].count("Merge v1.2.0 back to develop") == 1


def test_a_pull_request(tmp_path: Path, source: Path) -> None:
    """However it was disturbed, a second run leaves one branch and one pull request."""
    played = play_faults(world_of(source, lambda repo: repo.gh.protect(NAME, "develop")), finished, tmp_path)
    assert [effect.split("/")[0].split()[0] for effect in played.effects] == ["push", "POST", "push"]
    assert len(played.state["pulls"]) == 2


def test_a_merged_pull_request(tmp_path: Path, source: Path) -> None:
    """However it was disturbed, a second run has removed both branches."""

    def merged(repo: ReleaseRepository) -> None:
        tip = repo.gh.git(NAME, "commit-tree", "-p", "develop", "-p", "main", "-m", "Back", "main^{tree}")
        repo.gh.git(NAME, "update-ref", f"refs/heads/{BACK}", tip)
        number = repo.gh.open_pull(NAME, BACK, "develop")["number"]
        repo.gh.merge_pull(NAME, number)
        assert open_pulls(repo.gh) == []

    played = play_faults(world_of(source, merged), finished, tmp_path)
    assert played.effects == [f"push :refs/heads/{BACK}", "push :refs/heads/release/v1.2.0"]


@pytest.mark.parametrize("method", ["develop", BACK])
def test_the_end_state_would_show_a_double(tmp_path: Path, source: Path, method: str) -> None:
    """What is compared changes with a second merge or another commit: it is no blind description."""
    with world_of(source, lambda repo: repo.gh.protect(NAME, "develop"))(tmp_path) as world:
        repo: ReleaseRepository = world.extra
        repo.gh.git(NAME, "branch", BACK, "main")
        before = finished(world)
        tip = repo.gh.git(NAME, "commit-tree", "-p", method, "-m", "Double", f"{method}^{{tree}}")
        repo.gh.git(NAME, "update-ref", f"refs/heads/{method}", tip)
        assert finished(world) != before
