"""`gatehouse finish-release` against real git over HTTP and the GitHub stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from tests.integration.test_tag_release import BRANCH, CUT, TAG, Done, cut, publish
from tests.support.faults import World, run
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACK = "back-merge/v1.2.0"
LATER = CHANGELOG.replace("- Sort by urgency.\n", "- Sort by urgency.\n- Sort by mood.\n")
"""The changelog of a develop that went on after the cut."""


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub."""
    with GitHub(tmp_path / "github") as github:
        yield github


@pytest.fixture
def repo(gh: GitHub, tmp_path: Path) -> ReleaseRepository:
    """A repository whose release 1.2.0 is published."""
    return released(ReleaseRepository(gh, tmp_path / "repository"))


def released(repo: ReleaseRepository, method: str = "merge") -> ReleaseRepository:
    """Cut, merge, tag and publish 1.2.0."""
    cut(repo)
    repo.gh.git(NAME, "tag", TAG, repo.gh.merge_pull(NAME, 1, method))
    publish(repo.gh, TAG)
    return repo


def finish(repo: ReleaseRepository, *args: str, token: str | None = None) -> Done:
    """Run the command as a job of the repository."""
    world = World(
        ["finish-release", *args],
        repo.folder,
        [repo.gh],
        repo.environment(ref="refs/heads/main", token=token),
    )
    ended = run(world)
    return Done(ended.code, ended.output, repo.outputs())


def reaches(repo: ReleaseRepository, branch: str = "develop") -> bool:
    """Whether the tag is in the history of a branch."""
    return TAG in repo.gh.git(NAME, "tag", "--merged", branch).split()


def open_pulls(gh: GitHub) -> list[dict[str, Any]]:
    """The open pull requests."""
    return [pull for pull in gh.pulls(NAME) if pull["state"] == "open"]


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_tag_comes_back_to_develop(gh: GitHub, tmp_path: Path, method: str) -> None:
    """However the release was merged, the tag is in develop's history afterwards, and its branch is gone."""
    repo = released(ReleaseRepository(gh, tmp_path / "repository"), method)
    before = repo.head("develop")
    done = finish(repo)
    assert done.code == 0, done.output
    assert reaches(repo)
    assert gh.git(NAME, "show", "--no-patch", "--format=%P", "develop").split() == [before, repo.head("main")]
    assert gh.git(NAME, "show", "--no-patch", "--format=%s", "develop") == "Merge v1.2.0 back to develop"
    assert repo.show("develop", "CHANGELOG.md") == CUT.strip()
    assert not repo.head(BRANCH)
    assert done.outputs == {"merged": "true", "pull-request-url": "", "branch-deleted": "true"}
    tip = repo.head("develop")
    again = finish(repo, "--version", "1.2.0")
    assert again.code == 0, again.output
    assert (repo.head("develop"), again.outputs) == (tip, done.outputs)


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_what_came_meanwhile_stays_unreleased(gh: GitHub, tmp_path: Path, method: str) -> None:
    """Entries that develop got after the cut stay under Unreleased, where git would release them."""
    repo = released(ReleaseRepository(gh, tmp_path / "repository"), method)
    repo.commit("develop", {"CHANGELOG.md": LATER, "mood.py": "MOODS = 7\n"}, "Sort by mood")
    done = finish(repo)
    assert done.code == 0, done.output
    unreleased, _, rest = repo.show("develop", "CHANGELOG.md").partition("## [1.2.0]")
    assert "Sort by mood." in unreleased
    assert "Sort by urgency." not in unreleased
    assert "Sort by urgency." in rest
    assert "Sort by mood." not in rest
    assert repo.show("develop", "mood.py") == "MOODS = 7"


@pytest.mark.parametrize("version", ["1.2.0rc1", "v1.2.0.dev3", " 1.2.0a1 "])
def test_a_pre_release_is_left_as_it_is(gh: GitHub, tmp_path: Path, version: str) -> None:
    """A pre-release has nothing to merge back: its release branch goes on, and that is no failure."""
    repo = cut(ReleaseRepository(gh, tmp_path / "repository"))
    gh.git(NAME, "tag", "v1.2.0rc1", BRANCH)
    publish(gh, "v1.2.0rc1", prerelease=True)
    before = repo.refs()
    done = finish(repo, "--version", version)
    assert done.code == 0, done.output
    assert "nothing to merge back for a pre-release" in done.output
    assert done.outputs == {"merged": "false", "pull-request-url": "", "branch-deleted": "false"}
    assert repo.refs() == before


@pytest.mark.parametrize("args", [("--version", "1.2.0.post1"), ()])
def test_a_post_release_is_finished(gh: GitHub, repo: ReleaseRepository, args: tuple[str, ...]) -> None:
    """A post-release that a person tagged on main comes back to develop as any release does."""
    finish(repo)
    repo.push("main", "refs/heads/post")
    post = repo.commit("post", {"README.md": "# Mended\n"})
    repo.push("post", "refs/heads/main")
    gh.git(NAME, "tag", "v1.2.0.post1", post)
    publish(gh, "v1.2.0.post1")
    done = finish(repo, *args)
    assert done.code == 0, done.output
    assert reaches(repo)
    assert repo.show("develop", "README.md") == "# Mended"


def test_without_a_github_release_nothing_is_done(gh: GitHub, tmp_path: Path) -> None:
    """A version without a published GitHub Release is not finished; a draft is none."""
    repo = cut(ReleaseRepository(gh, tmp_path / "repository"))
    gh.git(NAME, "tag", TAG, gh.merge_pull(NAME, 1))
    publish(gh, TAG, draft=True)
    before = repo.refs()
    for args in ((), ("--version", "1.2.0")):
        done = finish(repo, *args)
        assert done.code == 2, done.output
    assert "v1.2.0 has no published GitHub Release" in done.output
    assert repo.refs() == before


@pytest.mark.parametrize("ruleset", [False, True])
def test_a_protected_develop_gets_a_pull_request(gh: GitHub, repo: ReleaseRepository, ruleset: bool) -> None:
    """Where develop takes no push, a pull request carries the merge; when it is merged the branch goes."""
    repo.commit("develop", {"CHANGELOG.md": LATER}, "Sort by mood")
    gh.protect(NAME, "develop", ruleset=ruleset)
    before = repo.head("develop")
    done = finish(repo)
    assert done.code == 0, done.output
    (pull,) = open_pulls(gh)
    assert (pull["head"]["ref"], pull["base"]["ref"]) == (BACK, "develop")
    assert done.outputs == {"merged": "false", "pull-request-url": pull["html_url"], "branch-deleted": "true"}
    assert repo.head("develop") == before
    assert finish(repo).outputs == done.outputs
    assert len(gh.pulls(NAME)) == 2
    gh.merge_pull(NAME, pull["number"])
    last = finish(repo)
    assert last.code == 0, last.output
    assert last.outputs == {"merged": "true", "pull-request-url": "", "branch-deleted": "true"}
    assert sorted(repo.refs()) == [
        "refs/heads/develop",
        "refs/heads/main",
        "refs/tags/v0.1.0",
        "refs/tags/v1.2.0",
    ]
    assert "Sort by mood." in repo.show("develop", "CHANGELOG.md").partition("## [1.2.0]")[0]


def test_a_rule_that_only_the_push_tells_of(gh: GitHub, repo: ReleaseRepository, monkeypatch: Any) -> None:
    """Where the API calls develop unprotected and its push is refused all the same, it is a pull request."""
    gh.protect(NAME, "develop", ruleset=True)
    refs = type(gh._rest.refs)
    monkeypatch.setattr(refs, "_rules_of", lambda *_: [])
    done = finish(repo)
    assert done.code == 0, done.output
    assert len(open_pulls(gh)) == 1


def test_the_setting_that_forbids_pull_requests_is_named(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where Actions may open no pull request, the setting is named, and a second run goes on from there."""
    gh.protect(NAME, "develop")
    gh.forbid_pulls_by_actions(NAME)
    done = finish(repo)
    assert done.code == 2, done.output
    assert "Allow GitHub Actions to create and approve pull requests" in done.output
    assert f"The branch {BACK} was pushed" in done.output
    gh.settings(NAME).pulls_by_actions = True
    pushed = repo.head(BACK)
    assert finish(repo).code == 0
    assert [pull["head"]["sha"] for pull in open_pulls(gh)] == [pushed]


def test_conflicts_are_named_and_left_to_a_person(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where both sides changed a file, the pull request holds the tag's commit and names the file."""
    hostile = "a`|<img src=x>.py"
    for branch in ("develop", BRANCH):
        repo.commit(branch, {hostile: f"{branch}\n"})
    gh.open_pull(NAME, BRANCH, "main")
    main = gh.merge_pull(NAME, 2)
    gh.git(NAME, "tag", "--force", TAG, main)
    done = finish(repo)
    assert done.code == 0, done.output
    (pull,) = open_pulls(gh)
    assert pull["head"]["sha"] == main
    assert done.outputs["merged"] == "false"
    assert hostile in done.output
    assert "<img" not in pull["body"]
    assert "&#96;&#124;&#60;img" in pull["body"]
    assert "CHANGELOG" not in pull["body"]
    assert "git merge origin/develop" in pull["body"]


def test_a_changelog_that_nobody_can_tell_is_left_to_a_person(gh: GitHub, repo: ReleaseRepository) -> None:
    """Where develop rewrote an entry that was released, the changelog is named as a conflict."""
    rewritten = CHANGELOG.replace("Sort by urgency.", "Sort by urgency, quickly.")
    repo.commit("develop", {"CHANGELOG.md": rewritten})
    done = finish(repo)
    assert done.code == 0, done.output
    (pull,) = open_pulls(gh)
    assert "CHANGELOG&#46;md" in pull["body"]
    assert pull["head"]["sha"] == repo.head("main")


def test_a_squashed_back_merge_is_said_and_mended(gh: GitHub, repo: ReleaseRepository) -> None:
    """A back-merge merged by squash leaves the tag out: it is said, with the way to mend it, which works."""
    gh.protect(NAME, "develop", bypass=("maintainer",))
    finish(repo)
    (pull,) = open_pulls(gh)
    gh.merge_pull(NAME, pull["number"], "squash")
    done = finish(repo)
    assert done.code == 1, done.output
    assert "git merge -s ours v1.2.0" in done.output
    assert done.outputs["merged"] == "false"
    assert open_pulls(gh) == []
    clone = repo.clone("develop", token=repo.token)
    git(clone, "merge", "--quiet", "-s", "ours", "-m", "Take the tag", TAG)
    git(clone, "push", "--quiet", "origin", "HEAD:develop")
    last = finish(repo)
    assert last.code == 0, last.output
    assert reaches(repo)
    assert not repo.head(BACK)


def test_a_branch_of_somebody_else_is_left_alone(gh: GitHub, repo: ReleaseRepository) -> None:
    """A branch that is called like ours and lacks the tag is an error, and stays."""
    foreign = repo.commit(BACK, {"x": "y"})
    gh.protect(NAME, "develop")
    done = finish(repo)
    assert done.code == 2, done.output
    assert f"the branch {BACK} exists and lacks {TAG}" in done.output
    assert repo.head(BACK) == foreign


def test_a_release_branch_that_holds_more_is_kept(gh: GitHub, repo: ReleaseRepository) -> None:
    """What was pushed to the release branch after its merge is not lost: the branch stays, and it is said."""
    tip = repo.commit(BRANCH, {"late.py": "x\n"}, "A late fix ::error::x")
    done = finish(repo)
    assert done.code == 1, done.output
    assert "it holds what was not released" in done.output
    assert "A late fix" in done.output
    assert done.outputs == {"merged": "true", "pull-request-url": "", "branch-deleted": "false"}
    assert repo.head(BRANCH) == tip


def moves(gh: GitHub, monkeypatch: pytest.MonkeyPatch, branch: str, nth: int, method: str) -> list[str]:
    """Let somebody push to a branch while our n-th push is under way; the commit, once it is there.

    At "GET" git asks where the branches are, at "POST" it pushes.
    """
    found, seen, answer = list[str](), list[str](), gh._answer_git

    def moving(way: str, service: str, *rest: Any) -> Any:
        if (way, service) == (method, "receive-pack"):
            seen.append(way)
            if len(seen) == nth:
                found.append(
                    gh.git(NAME, "commit-tree", "-p", branch, "-m", "Meanwhile", f"{branch}^{{tree}}")
                )
                gh.git(NAME, "update-ref", f"refs/heads/{branch}", found[0])
        return answer(way, service, *rest)

    monkeypatch.setattr(gh, "_answer_git", moving)
    return found


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_develop_that_moves_is_followed(
    gh: GitHub, repo: ReleaseRepository, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Where develop moves between look and push, it is merged again: nothing is forced."""
    moved = moves(gh, monkeypatch, "develop", 1, method)
    done = finish(repo)
    assert moved
    assert done.code == 0, done.output
    assert reaches(repo)
    assert moved[0] in gh.git(NAME, "rev-list", "develop")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_push_to_the_release_branch_meanwhile_is_not_lost(
    gh: GitHub, repo: ReleaseRepository, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Who pushes while the branch is being deleted is not overrun: it is looked at again."""
    moved = moves(gh, monkeypatch, BRANCH, 2, method)
    done = finish(repo)
    assert moved
    assert done.code == 0, done.output
    assert done.outputs["branch-deleted"] == "true"  # it holds the tag's files still: nothing of it is lost
    assert "holds just what was released" in done.output


def test_a_rule_may_keep_the_release_branch(gh: GitHub, repo: ReleaseRepository) -> None:
    """A release branch that no one may delete is kept and said to be, and the release is finished."""
    gh.protect(NAME, "release/**", require_pull=False)
    done = finish(repo)
    assert done.code == 0, done.output
    assert "a rule forbids its deletion" in done.output
    assert done.outputs["branch-deleted"] == "false"
    assert repo.head(BRANCH)


def test_a_read_only_token_changes_nothing(gh: GitHub, repo: ReleaseRepository) -> None:
    """A token that may not push ends with exit code 3, says so, and leaves every ref where it was."""
    before = repo.refs()
    done = finish(repo, token=gh.read_only_token)
    assert done.code == 3, done.output
    assert "denied" in done.output
    assert repo.refs() == before


def test_the_checkout_is_left_alone(gh: GitHub, repo: ReleaseRepository) -> None:
    """The work tree, refs and settings of the job's own clone are not touched."""
    clone = repo.clone("main")
    (clone / "README.md").write_text("not committed\n")
    before = {path: path.read_bytes() for path in sorted(clone.rglob("*")) if path.is_file()}
    ended = run(World(["finish-release"], clone, [gh], repo.environment(ref="refs/heads/main")))
    assert ended.code == 0, ended.output
    assert {path: path.read_bytes() for path in sorted(clone.rglob("*")) if path.is_file()} == before
