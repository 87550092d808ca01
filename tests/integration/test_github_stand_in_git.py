"""The GitHub of tests and rehearsals keeps refs, protects branches, merges, and loses replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.origin import run_git
from gatehouse.rehearse.state import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "acme/triage"
ROOT = f"/repos/{NAME}"
STAGING = """\
name: Staging
on:
  push:
    branches: ["release/**"]
  workflow_dispatch:
    inputs:
      version:
        required: true
      kind:
        type: choice
        options: [dev, rc]
        default: dev
"""
RELEASE = "on:\n  push:\n    tags: ['v*']\n"
CI = "on: push\n"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with three workflows on `main`, the same on `develop` plus a file, and tag v0.1.0."""
    folder = tmp_path / "work"
    workflows = folder / ".github/workflows"
    workflows.mkdir(parents=True)
    for name, text in (("staging", STAGING), ("release", RELEASE), ("ci", CI)):
        (workflows / f"{name}.yml").write_text(text)
    run_git(folder, "init", "--quiet", "--initial-branch=main")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "--quiet", "-m", "First")
    run_git(folder, "tag", "v0.1.0")
    run_git(folder, "checkout", "--quiet", "-b", "develop")
    commit(folder, "feature.py", "new = True\n")
    return folder


@pytest.fixture
def gh(tmp_path: Path, work: Path) -> Iterator[GitHub]:
    """A GitHub that holds that repository; `origin` of the work folder is it, with the job's token."""
    with GitHub(tmp_path / "github") as github:
        github.create_repository(NAME, work)
        run_git(work, "remote", "add", "origin", github.clone_url(NAME, github.token))
        run_git(work, "remote", "add", "dev", github.clone_url(NAME, github.token_of("dev", may_write=True)))
        yield github


def commit(folder: Path, name: str, text: str, message: str = "Change") -> str:
    """Write and commit a file; the commit's hash."""
    (folder / name).write_text(text)
    run_git(folder, "add", name)
    run_git(folder, "commit", "--quiet", "-m", message)
    return run_git(folder, "rev-parse", "HEAD")


def ask(gh: GitHub, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
    """One call of the API, as the job's bot unless a token is given."""
    headers = {"Authorization": f"Bearer {token or gh.token}"} | options.pop("headers", {})
    address = path if path.startswith("http") else gh.api_url + path
    return requests.request(method, address, headers=headers, timeout=10, **options)


def said(reply: requests.Response) -> tuple[int, str]:
    """The status, and GitHub's words."""
    body = reply.json()
    return reply.status_code, "; ".join(
        [body["message"], *(e.get("message", "") for e in body.get("errors", []))]
    )


def test_refs_are_made_found_moved_and_deleted(gh: GitHub, work: Path) -> None:
    """A ref with slashes is made once, found by name and prefix, moved forward only, and deleted."""
    old, new = run_git(work, "rev-parse", "main"), run_git(work, "rev-parse", "develop")
    wish = {"ref": "refs/heads/release/v1.0.0", "sha": old}
    made = ask(gh, "POST", f"{ROOT}/git/refs", json=wish)
    assert (made.status_code, made.json()["object"]["sha"]) == (201, old)
    assert said(ask(gh, "POST", f"{ROOT}/git/refs", json=wish)) == (422, "Reference already exists")
    one = f"{ROOT}/git/ref/heads/release/v1.0.0"
    assert ask(gh, "GET", one).json()["ref"] == wish["ref"]
    assert ask(gh, "GET", f"{ROOT}/git/ref/heads/release").status_code == 404
    found = ask(gh, "GET", f"{ROOT}/git/matching-refs/heads/re").json()
    assert [ref["ref"] for ref in found] == [wish["ref"]]
    change = f"{ROOT}/git/refs/heads/release/v1.0.0"
    assert ask(gh, "PATCH", change, json={"sha": new}).json()["object"]["sha"] == new
    assert said(ask(gh, "PATCH", change, json={"sha": old})) == (422, "Update is not a fast forward")
    assert ask(gh, "PATCH", change, json={"sha": old, "force": True}).status_code == 200
    for branch in ("release/v1.0.0", "release%2Fv1.0.0"):
        assert ask(gh, "GET", f"{ROOT}/branches/{branch}").json()["commit"]["sha"] == old
    assert ask(gh, "DELETE", change).status_code == 204
    assert said(ask(gh, "DELETE", change)) == (422, "Reference does not exist")
    assert said(ask(gh, "GET", f"{ROOT}/branches/release/v1.0.0")) == (404, "Branch not found")


@pytest.mark.parametrize(
    ("ref", "sha", "words"),
    [
        ("refs/heads/a..b", "main", "Reference name is not valid"),
        ("heads/a", "main", "Reference name is not valid"),
        ("refs/heads/a b", "main", "Reference name is not valid"),
        ("refs/heads/new", "absent", "Object does not exist"),
        ("refs/heads/main/below", "main", "Reference update failed"),
    ],
)
def test_bad_refs_are_refused(gh: GitHub, work: Path, ref: str, sha: str, words: str) -> None:
    """A name that git does not take, an unknown commit, and a branch below a branch are 422."""
    value = "f" * 40 if sha == "absent" else run_git(work, "rev-parse", sha)
    before = gh.git(NAME, "for-each-ref")
    assert said(ask(gh, "POST", f"{ROOT}/git/refs", json={"ref": ref, "sha": value})) == (422, words)
    assert gh.git(NAME, "for-each-ref") == before


@pytest.mark.parametrize("ruleset", [False, True], ids=["classic", "ruleset"])
def test_protection_refuses_pushes_in_githubs_words(gh: GitHub, work: Path, ruleset: bool) -> None:
    """A protected branch takes no push, no force-push and no deletion, and its neighbours still do."""
    gh.protect(NAME, "main", ruleset=ruleset)
    gh.protect(NAME, "release/*", require_pull=False, ruleset=ruleset)
    code = "GH013: Repository rule violations found" if ruleset else "GH006: Protected branch update failed"
    with pytest.raises(
        InfrastructureError, match=rf"{code} for refs/heads/main[\s\S]*through a pull request"
    ):
        run_git(work, "push", "origin", "develop:main", "develop:other")
    assert gh.git(NAME, "rev-parse", "main") != gh.git(NAME, "rev-parse", "other")
    run_git(work, "push", "--quiet", "origin", "main:release/v1", "main:release/a/b")
    run_git(work, "push", "--quiet", "origin", "develop:release/v1", ":release/a/b")
    gh.protect(NAME, "only/bot", ruleset=ruleset, bypass=("github-actions[bot]",))
    run_git(work, "push", "--quiet", "origin", "main:only/bot")
    run_git(work, "push", "--quiet", "origin", "develop:only/bot")
    with pytest.raises(InfrastructureError, match=code):
        run_git(work, "push", "dev", ":only/bot")
    with pytest.raises(InfrastructureError, match="Cannot force-push to this branch"):
        run_git(work, "push", "origin", "+main:release/v1")
    with pytest.raises(InfrastructureError, match="Cannot delete this branch"):
        run_git(work, "push", "origin", ":release/v1")
    assert [effect for effect in gh.effects if "refs/heads/main" in effect] == []


def test_protection_holds_for_the_api_too(gh: GitHub, work: Path) -> None:
    """What a push may not do to a protected branch, the API may not either; only an admin reads the rules."""
    gh.protect(NAME, "develop", approvals=1)
    main = run_git(work, "rev-parse", "main")
    one = f"{ROOT}/git/refs/heads/develop"
    assert said(ask(gh, "DELETE", one)) == (422, "Cannot delete this branch")
    assert ask(gh, "DELETE", f"{ROOT}/git/refs/heads/main").status_code == 422
    forced = ask(gh, "PATCH", one, json={"sha": main, "force": True})
    assert said(forced) == (422, "Cannot force-push to this branch")
    assert ask(gh, "GET", f"{ROOT}/branches/develop").json()["protected"] is True
    assert ask(gh, "GET", f"{ROOT}/branches/main").json()["protected"] is False
    rules = f"{ROOT}/branches/develop/protection"
    assert said(ask(gh, "GET", rules)) == (403, "Resource not accessible by integration")
    admin = gh.token_of("owner", is_admin=True)
    reviews = ask(gh, "GET", rules, admin).json()["required_pull_request_reviews"]
    assert reviews["required_approving_review_count"] == 1
    unprotected = ask(gh, "GET", rules.replace("develop", "main"), admin)
    assert said(unprotected) == (404, "Branch not protected")


def test_tags_can_be_frozen(gh: GitHub, work: Path) -> None:
    """Under a ruleset for tags a new tag is taken, and never moved or deleted again."""
    gh.protect(NAME, "refs/tags/v*", require_pull=False, ruleset=True, frozen=True)
    run_git(work, "push", "--quiet", "origin", "develop:refs/tags/v1.0.0")
    with pytest.raises(InfrastructureError, match=r"GH013[\s\S]*Cannot update this protected ref"):
        run_git(work, "push", "origin", "+main:refs/tags/v1.0.0")
    with pytest.raises(InfrastructureError, match="Cannot delete this protected ref"):
        run_git(work, "push", "origin", ":refs/tags/v1.0.0")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_pull_requests_really_merge(gh: GitHub, work: Path, method: str) -> None:
    """Each way of merging makes the commits that GitHub makes, and the pull request says so."""
    gh.protect(NAME, "main")
    commit(work, "second.py", "more = True\n", "Second")
    run_git(work, "push", "--quiet", "dev", "develop")
    number = gh.open_pull(NAME, "develop", "main", "Release 1.0.0")["number"]
    before = gh.git(NAME, "rev-parse", "main")
    merged = ask(gh, "PUT", f"{ROOT}/pulls/{number}/merge", json={"merge_method": method}).json()
    after = gh.git(NAME, "rev-parse", "main")
    assert (merged["merged"], merged["sha"]) == (True, after)
    parents = gh.git(NAME, "log", "-1", "--format=%P", after).split()
    assert gh.git(NAME, "rev-parse", f"{after}^{{tree}}") == run_git(work, "rev-parse", "develop^{tree}")
    if method == "merge":
        assert parents == [before, run_git(work, "rev-parse", "develop")]
        assert gh.git(NAME, "log", "-1", "--format=%s|%b", after).startswith(
            "Merge pull request #1 from acme/develop|Release 1.0.0"
        )
    elif method == "squash":
        assert parents == [before]
        assert gh.git(NAME, "log", "-1", "--format=%s", after) == "Release 1.0.0 (#1)"
    else:
        assert gh.git(NAME, "log", "--format=%s", f"{before}..{after}").split() == ["Second", "Change"]
        assert after != run_git(work, "rev-parse", "develop")
    shown = gh.pull(NAME, number)
    assert (shown["state"], shown["merged"], shown["merge_commit_sha"]) == ("closed", True, after)
    assert shown["merged_at"]
    of_commit = ask(gh, "GET", f"{ROOT}/commits/{after}/pulls").json()
    assert [(p["number"], p["merged_at"]) for p in of_commit] == [(1, shown["merged_at"])]
    assert said(ask(gh, "PUT", f"{ROOT}/pulls/1/merge"))[0] == 405


def test_merges_are_refused_as_on_github(gh: GitHub, work: Path) -> None:
    """A moved head is 409; a conflict, a method not allowed, and a missing review or check are 405."""
    gh.open_pull(NAME, "develop", "main")
    merge = f"{ROOT}/pulls/1/merge"
    moved = ask(gh, "PUT", merge, json={"sha": "f" * 40})
    assert said(moved) == (409, "Head branch was modified. Review and try the merge again.")
    gh.settings(NAME).merge_methods = ("squash",)
    assert said(ask(gh, "PUT", merge)) == (405, "Merge commits are not allowed on this repository.")
    gh.settings(NAME).merge_methods = ("merge",)
    gh.protect(NAME, "main", checks=("gate",))
    assert said(ask(gh, "PUT", merge)) == (405, 'Required status check "gate" is expected.')
    head = gh.pull(NAME, 1)["head"]["sha"]
    for state in ("failure", "success"):
        ask(gh, "POST", f"{ROOT}/statuses/{head}", json={"state": state, "context": "gate"})
        assert ask(gh, "GET", f"{ROOT}/commits/develop/status").json()["state"] == state
    gh.protect(NAME, "main", approvals=1)
    wanted = "At least 1 approving review is required by reviewers with write access."
    assert said(ask(gh, "PUT", merge)) == (405, wanted)
    run_git(work, "checkout", "--quiet", "main")
    commit(work, "feature.py", "other = True\n")
    run_git(work, "push", "--quiet", "dev", "main:base", "develop")
    gh.open_pull(NAME, "develop", "base")
    with pytest.raises(Refusal, match="Pull Request is not mergeable"):
        gh.merge_pull(NAME, 2)


def test_actions_may_be_forbidden_to_open_pull_requests(gh: GitHub) -> None:
    """Where the setting is off, the job's own token gets GitHub's 403, and a person's works."""
    gh.forbid_pulls_by_actions(NAME)
    wish = {"title": "Release", "head": "develop", "base": "main"}
    refused = ask(gh, "POST", f"{ROOT}/pulls", json=wish)
    words = "GitHub Actions is not permitted to create or approve pull requests."
    assert said(refused) == (403, words)
    person = gh.token_of("dev", may_write=True)
    assert ask(gh, "POST", f"{ROOT}/pulls", person, json=wish).status_code == 201


def test_pull_requests_follow_their_branches(gh: GitHub, work: Path) -> None:
    """Without new commits none opens; one whose commits reach the base is merged, one without head closed."""
    wish = {"title": "Nothing", "head": "main", "base": "develop"}
    nothing = ask(gh, "POST", f"{ROOT}/pulls", json=wish)
    assert said(nothing) == (422, "Validation Failed; No commits between develop and main")
    run_git(work, "push", "--quiet", "origin", "develop:one")
    gh.open_pull(NAME, "one", "main")
    run_git(work, "push", "--quiet", "origin", "develop:main")
    assert gh.pull(NAME, 1)["merged_at"]
    assert gh.pull(NAME, 1)["merge_commit_sha"] == run_git(work, "rev-parse", "develop")
    commit(work, "third.py", "x = 1\n")
    run_git(work, "push", "--quiet", "origin", "develop:two")
    gh.open_pull(NAME, "two", "main")
    run_git(work, "push", "--quiet", "origin", "develop:kept", ":two")
    assert (gh.pull(NAME, 2)["state"], gh.pull(NAME, 2)["merged_at"]) == ("closed", None)
    gh.settings(NAME).delete_merged_branches = True
    gh.open_pull(NAME, "kept", "main")
    gh.merge_pull(NAME, 3)
    assert "refs/heads/kept" not in gh.git(NAME, "for-each-ref")
    assert gh.pull(NAME, 3)["merged_at"]
    reopened = ask(gh, "PATCH", f"{ROOT}/pulls/2", json={"state": "open"})
    assert reopened.status_code == 422


def test_labels(gh: GitHub) -> None:
    """A label put on a pull request shows on it, and is made where the repository lacks it."""
    gh.open_pull(NAME, "develop", "main")
    gh.label_pull(NAME, 1, "no-changelog")
    added = ask(gh, "POST", f"{ROOT}/issues/1/labels", json={"labels": ["release", "no-changelog"]}).json()
    assert [label["name"] for label in added] == ["no-changelog", "release"]
    assert [label["name"] for label in gh.pull(NAME, 1)["labels"]] == ["no-changelog", "release"]
    assert "release" in [label["name"] for label in ask(gh, "GET", f"{ROOT}/labels").json()]
