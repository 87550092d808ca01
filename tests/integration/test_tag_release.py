"""`gatehouse tag-release` against real git over HTTP and the GitHub stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.commands import _release
from gatehouse.rehearse.github import GitHub
from tests.support.faults import World, run
from tests.support.projects import call
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRANCH, TAG = "release/v1.2.0", "v1.2.0"
CUT = CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [1.2.0] - 2026-11-21\n")


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub."""
    with GitHub(tmp_path / "github") as github:
        yield github


@pytest.fixture
def repo(gh: GitHub, tmp_path: Path) -> ReleaseRepository:
    """A repository whose release 1.2.0 is cut and staged; pull request 1 waits."""
    return cut(ReleaseRepository(gh, tmp_path / "repository"))


def cut(repo: ReleaseRepository, version: str = "1.2.0", changelog: str = CUT) -> ReleaseRepository:
    """Cut a release, open its pull request and let staging be green."""
    repo.commit(f"release/v{version}", {"CHANGELOG.md": changelog}, f"Release v{version}")
    repo.gh.open_pull(repo.name, f"release/v{version}", "main", f"Release v{version}", login="maintainer")
    repo.green(f"release/v{version}", "staging.yml")
    return repo


class Prepared(ReleaseRepository):
    """The repository of `source`, a bare one made before, in another stand-in: ready in an instant."""

    def __init__(self, gh: GitHub, folder: Path, source: Path) -> None:
        folder.mkdir()
        self.gh, self.name, self.folder = gh, NAME, folder
        gh.create_repository(NAME, source)


@dataclass
class Done:
    """What a command came to."""

    code: int
    output: str
    outputs: dict[str, str] = field(default_factory=dict)


def tag_release(repo: ReleaseRepository, *args: str, token: str | None = None) -> Done:
    """Run the command as a job of the repository."""
    world = World(
        ["tag-release", *args], repo.folder, [repo.gh], repo.environment(ref="refs/heads/main", token=token)
    )
    ended = run(world)
    return Done(ended.code, ended.output, repo.outputs())


def dispatched(gh: GitHub) -> list[tuple[Any, Any]]:
    """Which workflows were started where."""
    return [(one["workflow"], one["ref"].removeprefix("refs/tags/")) for one in gh.dispatches]


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_merge_is_tagged_and_released(gh: GitHub, repo: ReleaseRepository, method: str) -> None:
    """However the release pull request was merged, its merge is tagged and the release started, once."""
    merged = gh.merge_pull(NAME, 1, method)
    done = tag_release(repo)
    assert done.code == 0, done.output
    assert repo.head(f"refs/tags/{TAG}") == merged
    assert done.outputs == {"version": "1.2.0", "tag": TAG, "commit": merged}
    again = tag_release(repo)
    assert again.code == 0, again.output
    assert "release.yml was started already on v1.2.0 and is queued: http" in again.output
    assert dispatched(gh) == [("release.yml", TAG)]


def test_a_dry_run_shows_and_changes_nothing(gh: GitHub, repo: ReleaseRepository) -> None:
    """With --dry-run every check is made, and neither tag nor run comes to be."""
    gh.merge_pull(NAME, 1)
    before = gh.effects[:]
    done = tag_release(repo, "--dry-run")
    assert done.code == 0, done.output
    assert "Would create the tag v1.2.0" in done.output
    assert "Would start release.yml" in done.output
    assert gh.effects == before
    assert done.outputs["tag"] == TAG


def test_a_pushed_tag_that_starts_workflows_is_left_to_it(gh: GitHub, repo: ReleaseRepository) -> None:
    """With --push-starts the tag's own run is the release: nothing is dispatched."""
    gh.merge_pull(NAME, 1)
    done = tag_release(repo, "--push-starts", token=repo.token)
    assert done.code == 0, done.output
    assert dispatched(gh) == []
    assert [run["path"] for run in gh.runs(NAME) if run["head_branch"] == TAG] == [
        ".github/workflows/release.yml"
    ]
    assert tag_release(repo).code == 0
    assert dispatched(gh) == []


def test_nothing_to_tag(repo: ReleaseRepository) -> None:
    """Before the pull request is merged there is nothing to tag, with or without a version."""
    for args in ((), ("--version", "1.2.0"), ("--version", "v1.2.0")):
        done = tag_release(repo, *args)
        assert done.code == 2, done.output
        assert "into main was merged" in done.output
    assert repo.head(f"refs/tags/{TAG}") == ""


def test_a_pull_request_of_a_fork_is_none(gh: GitHub, repo: ReleaseRepository) -> None:
    """A fork's branch that is named like a release is not tagged when its pull request is merged."""
    gh.create_repository("mallory/triage", fork_of=NAME)
    gh.git("mallory/triage", "branch", "release/v9.9.9", "develop")
    gh.open_pull(NAME, "mallory:release/v9.9.9", "main", login="mallory")
    gh.merge_pull(NAME, 2)
    done = tag_release(repo)
    assert done.code == 2, done.output
    assert tag_release(repo, "--version", "9.9.9").code == 2


def test_other_files_than_the_release_branchs_are_refused(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where main had commits of its own, what was merged was never staged: refused, with what to do."""
    repo.push("main", "refs/heads/hotfix")
    repo.commit("hotfix", {"hotfix.txt": "quick"})
    repo.push("hotfix", "refs/heads/main")
    gh.merge_pull(NAME, 1)
    done = tag_release(repo)
    assert done.code == 1, done.output
    assert "main got other files than release/v1.2.0 held" in done.output
    assert "cut the next version" in done.output
    assert "was never green" in done.output
    assert repo.head(f"refs/tags/{TAG}") == ""
    assert dispatched(gh) == []


def test_other_files_that_were_staged_are_tagged(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where main had commits of its own, a green staging of the merge's own files is all that is asked."""
    repo.push("main", "refs/heads/hotfix")
    repo.commit("hotfix", {"hotfix.txt": "quick"})
    repo.push("hotfix", "refs/heads/main")
    merged = gh.merge_pull(NAME, 1)
    assert tag_release(repo).code == 1
    gh.add_run(NAME, "staging.yml", merged, "any")
    done = tag_release(repo)
    assert done.code == 0, done.output
    assert repo.head(f"refs/tags/{TAG}") == merged


def test_a_branch_of_the_tags_name_is_not_started(gh: GitHub, repo: ReleaseRepository) -> None:
    """A branch named v1.2.0 with another release workflow is not what is started: the tag is."""
    merged = gh.merge_pull(NAME, 1)
    evil = "on: workflow_dispatch\njobs: {}\n"
    repo.commit(TAG, {".github/workflows/release.yml": evil}, "Mine")
    assert tag_release(repo).code == 0
    assert [(one["ref"], one["sha"]) for one in gh.dispatches] == [(f"refs/tags/{TAG}", merged)]


@pytest.mark.parametrize(
    ("conclusion", "starts", "said"),
    [
        (None, True, "Started release.yml on v1.2.0"),
        ("startup_failure", True, "Started release.yml on v1.2.0"),
        ("failure", False, "ended with failure: http"),
        ("cancelled", False, "Re-run it there"),
    ],
)
@pytest.mark.parametrize("args", [(), ("--push-starts",)])
def test_a_tag_of_before_gets_its_release(
    gh: GitHub,
    repo: ReleaseRepository,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    conclusion: str | None,
    starts: bool,
    said: str,
) -> None:
    """Whoever made the tag, a release that never began is started, and of one that failed it is warned."""
    merged = gh.merge_pull(NAME, 1)
    gh.git(NAME, "tag", TAG, merged)
    if conclusion:
        gh.add_run(NAME, "release.yml", merged, TAG, "push", "completed", conclusion)
    monkeypatch.setattr(_release, "time", SimpleNamespace(sleep=lambda _: None))
    env = repo.environment(ref="refs/heads/main")
    done = call(repo.folder, "tag-release", "--version", "1.2.0", *args, env=env)
    assert done.code == 0, done.err
    assert dispatched(gh) == [("release.yml", TAG)] * starts
    assert said in done.out
    assert ("warning" in done.out) is not starts


@pytest.mark.parametrize("there", [False, True])
def test_two_quick_presses_start_one_release(
    gh: GitHub, repo: ReleaseRepository, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Where the tag was there, it is looked once more after GitHub had time to list the first press's run."""
    merged = gh.merge_pull(NAME, 1)
    if there:
        gh.git(NAME, "tag", TAG, merged)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        gh.add_run(NAME, "release.yml", merged, TAG, "workflow_dispatch", "queued", None)

    monkeypatch.setattr(_release, "time", SimpleNamespace(sleep=wait))
    env = repo.environment(ref="refs/heads/main")
    done = call(repo.folder, "tag-release", "--version", "1.2.0", env=env)
    assert done.code == 0, done.err
    assert waits == [_release.SETTLE] * there
    assert dispatched(gh) == [("release.yml", TAG)] * (not there)


def test_a_merge_that_is_gone_from_main_is_refused(gh: GitHub, repo: ReleaseRepository) -> None:
    """A merge that main does not contain any more is not tagged."""
    before = repo.head("main")
    gh.merge_pull(NAME, 1)
    gh.git(NAME, "update-ref", "refs/heads/main", before)
    done = tag_release(repo)
    assert done.code == 1, done.output
    assert "is not on main" in done.output


@pytest.mark.parametrize(
    ("event", "conclusion", "status", "says"),
    [
        ("push", "failure", "completed", "is failure"),
        ("push", None, "in_progress", "is in progress"),
        ("pull_request", "success", "completed", "was never green"),
    ],
)
def test_without_a_green_staging_nothing_is_tagged(
    gh: GitHub, tmp_path: Path, event: str, conclusion: str | None, status: str, says: str
) -> None:
    """A failed, an unfinished and a pull request's own staging run are no green staging."""
    repo = ReleaseRepository(gh, tmp_path / "repository")
    repo.commit(BRANCH, {"CHANGELOG.md": CUT})
    gh.open_pull(NAME, BRANCH, "main", "Release")
    gh.add_run(NAME, "staging.yml", repo.head(BRANCH), BRANCH, event, status, conclusion)
    gh.merge_pull(NAME, 1)
    done = tag_release(repo)
    assert done.code == 1, done.output
    assert says in done.output
    assert repo.head(f"refs/tags/{TAG}") == ""


def test_staging_of_the_same_files_counts(gh: GitHub, tmp_path: Path) -> None:
    """A staging run of an earlier commit with the same files is evidence for them."""
    repo = ReleaseRepository(gh, tmp_path / "repository")
    staged = repo.commit(BRANCH, {"CHANGELOG.md": CUT})
    repo.commit(BRANCH, {}, "Nothing but a new commit")
    gh.add_run(NAME, "staging.yml", staged, BRANCH)
    gh.open_pull(NAME, BRANCH, "main", "Release")
    gh.merge_pull(NAME, 1)
    done = tag_release(repo)
    assert done.code == 0, done.output


def test_a_changelog_without_the_version_is_refused(gh: GitHub, tmp_path: Path) -> None:
    """The changelog has to name the version at the commit that is tagged."""
    repo = cut(ReleaseRepository(gh, tmp_path / "repository"), changelog=CHANGELOG)
    gh.merge_pull(NAME, 1)
    done = tag_release(repo)
    assert done.code == 1, done.output
    assert "CHANGELOG.md has no section [1.2.0]" in done.output
    done = tag_release(repo, "--changelog", "NEWS.md")
    assert "NEWS.md does not exist at that commit" in done.output


def test_a_tag_elsewhere_is_never_moved(gh: GitHub, repo: ReleaseRepository) -> None:
    """A tag that stands at another commit is an error that says both, and stays where it is."""
    gh.merge_pull(NAME, 1)
    repo.push("develop", f"refs/tags/{TAG}")
    before = repo.head(f"refs/tags/{TAG}")
    done = tag_release(repo, "--version", "1.2.0")
    assert done.code == 2, done.output
    assert "exists already" in done.output
    assert repo.head(f"refs/tags/{TAG}") == before


def test_an_older_line_is_said_to_be_one(gh: GitHub, repo: ReleaseRepository) -> None:
    """A version below the newest tag is tagged only by name, and it is said that a newer one exists."""
    gh.merge_pull(NAME, 1)
    repo.push("develop", "refs/tags/v2.0.0")
    done = tag_release(repo, "--version", "1.2.0")
    assert done.code == 0, done.output
    assert "v2.0.0 is newer than v1.2.0" in done.output


def test_a_published_release_is_not_started_again(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where the GitHub Release is there already, all is done, even if the runs of staging are gone since."""
    merged = gh.merge_pull(NAME, 1)
    gh._rest.repositories[NAME].runs.clear()
    gh.git(NAME, "tag", TAG, merged)
    publish(gh, TAG)
    done = tag_release(repo)
    assert done.code == 0, done.output
    assert "is released already" in done.output
    assert dispatched(gh) == []


def publish(gh: GitHub, tag: str, **more: Any) -> dict[str, Any]:
    """A GitHub Release of a tag, as a person makes one."""
    reply = requests.post(
        f"{gh.api_url}/repos/{NAME}/releases",
        json={"tag_name": tag, **more},
        headers={"Authorization": f"Bearer {gh.token_of('maintainer', may_write=True)}"},
        timeout=10,
    )
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def test_workflows_are_looked_for_first(gh: GitHub, repo: ReleaseRepository) -> None:
    """A workflow that does not exist is said before anything is done, all of them at once."""
    gh.merge_pull(NAME, 1)
    done = tag_release(repo, "--staging-workflow", "stage.yml", "--release-workflow", "ship.yml")
    assert done.code == 2, done.output
    assert "no workflow stage.yml" in done.output
    assert "no workflow ship.yml" in done.output
    assert repo.head(f"refs/tags/{TAG}") == ""


def test_a_workflow_without_a_button_is_said(gh: GitHub, tmp_path: Path) -> None:
    """Where the release workflow takes no dispatch, the tag stands, and what to do is said."""
    repo = ReleaseRepository(gh, tmp_path / "repository")
    repo.commit("develop", {".github/workflows/release.yml": "on: { push: { tags: ['v*'] } }\njobs: {}\n"})
    cut(repo)
    gh.merge_pull(NAME, 1)
    done = tag_release(repo)
    assert done.code == 2, done.output
    assert "workflow_dispatch" in done.output
    assert "The tag v1.2.0 exists." in done.output


@pytest.mark.parametrize(
    "name", ["main;id", "--upload-pack=x", "a..b", "refs heads", "$(id)", "x:y", "é\n", ""]
)
def test_hostile_names_are_refused(repo: ReleaseRepository, name: str) -> None:
    """A branch or a prefix that is no name reaches neither git nor GitHub."""
    before = list(repo.gh.calls)
    for option in ("--main", "--tag-prefix"):
        if not (option == "--tag-prefix" and not name):
            done = tag_release(repo, f"{option}={name}")
            assert done.code == 2, done.output
    assert repo.gh.calls == before


def test_a_version_of_another_kind_is_refused(repo: ReleaseRepository) -> None:
    """A version that is none, or no final one, is refused with the repair."""
    for version in ("1.2", "1.2.0rc1", "../../x", "1.2.0; id", "9" * 500):
        done = tag_release(repo, "--version", version)
        assert done.code == 2, done.output


def test_without_a_token(repo: ReleaseRepository) -> None:
    """An empty GITHUB_TOKEN is said by name."""
    done = tag_release(repo, token="")
    assert (done.code, "GITHUB_TOKEN is empty" in done.output) == (2, True)


def test_the_token_is_nowhere_to_be_seen(gh: GitHub, repo: ReleaseRepository) -> None:
    """Neither success nor failure shows the token."""
    gh.merge_pull(NAME, 1)
    gh.fail("POST", "/git/refs", status=403, message=f"no, {gh.token}")
    done = tag_release(repo)
    assert done.code == 3, done.output
    assert gh.token not in done.output
    assert gh.token not in tag_release(repo).output
