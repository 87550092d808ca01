"""`gatehouse cut-release`, killed after each of its outside effects, and without the reply to each call."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from tests.support.faults import World, play_faults
from tests.support.repositories import NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRANCH = "release/v0.2.0"


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A repository whose develop is green, and the command that cuts its release."""
    with GitHub(folder / "github") as gh:
        repo = ReleaseRepository(gh, folder / "repository")
        repo.green()
        job = folder / "job"
        job.mkdir()
        yield World(["cut-release"], job, [gh], repo.environment(), extra=repo)


def ended(world: World) -> dict[str, Any]:
    """Everything outside that a cut could have touched, less hashes and times."""
    repo: ReleaseRepository = world.extra
    git, changed = repo.gh.git, {}
    for ref in repo.refs():
        if not ref.startswith("refs/heads/release/"):
            continue
        changed[ref] = {
            "subjects": git(NAME, "log", "--format=%B", f"develop..{ref}").split("\n"),
            "parent": git(NAME, "rev-parse", f"{ref}~1") == repo.head("develop"),
            "changelog": repo.show(ref, "CHANGELOG.md").replace(repo.gh.server_url, "SERVER"),
        }
    return {
        "refs": sorted(repo.refs()),
        "main and develop": [git(NAME, "log", "--format=%s", name) for name in ("main", "develop")],
        "release branches": changed,
        "pull requests": [(p["title"], p["body"], p["head"]["ref"], p["state"]) for p in repo.gh.pulls(NAME)],
        "started": sorted((d["workflow"], d["ref"]) for d in repo.gh.dispatches),
        "runs": sorted((r["path"], r["head_branch"], r["event"]) for r in repo.gh.runs(NAME)),
        "checkout": sorted(path.name for path in world.cwd.iterdir()),
    }


@pytest.mark.timeout(600)
def test_every_fault_is_made_good(tmp_path: Path) -> None:
    """Whichever effect it is killed after, whichever reply is lost: run again, it ends as if undisturbed."""
    played = play_faults(world, ended, tmp_path)
    assert played.effects == [
        f"push refs/heads/{BRANCH}",
        f"POST /repos/{NAME}/pulls",
        f"POST /repos/{NAME}/actions/workflows/staging.yml/dispatches",
        f"POST /repos/{NAME}/actions/workflows/agent-ci.yml/dispatches",
    ]
    assert played.state["started"] == [
        ("agent-ci.yml", f"refs/heads/{BRANCH}"),
        ("staging.yml", f"refs/heads/{BRANCH}"),
    ]
    assert len(played.state["pull requests"]) == 1
