"""The GitHub that tests and `gatehouse rehearse` use behaves as GitHub does."""

from __future__ import annotations

import base64
import secrets
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.origin import run_git
from gatehouse.rehearse.rest_comments import MAX_COMMENT
from gatehouse.rehearse.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "acme/refund-triage"
COMMENTS = f"/repos/{NAME}/issues/1/comments"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with `main`, and a branch `change` that adds a file."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "README.md").write_text("Triage\n")
    run_git(folder, "init", "--quiet", "--initial-branch=main")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "--quiet", "-m", "First")
    run_git(folder, "checkout", "--quiet", "-b", "change")
    commit(folder, "prompt.txt", "Be kind.\n")
    return folder


@pytest.fixture
def gh(tmp_path: Path, source: Path) -> Iterator[GitHub]:
    """A GitHub with one repository and pull request 1 from `change` into `main`."""
    with GitHub(tmp_path / "github") as github:
        github.create_repository(NAME, source)
        github.open_pull(NAME, "change", "main", "Kinder")
        yield github


def commit(folder: Path, name: str, text: str) -> str:
    """Write and commit a file; the commit's hash."""
    (folder / name).write_text(text)
    run_git(folder, "add", name)
    run_git(folder, "commit", "--quiet", "-m", f"Change {name}")
    return run_git(folder, "rev-parse", "HEAD")


def call(gh: GitHub, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
    """One call of the API, as the job's bot unless a token is given."""
    headers = {"Authorization": f"Bearer {token or gh.token}"}
    return requests.request(method, gh.api_url + path, headers=headers, timeout=10, **options)


def test_comments_are_created_edited_and_deleted(gh: GitHub) -> None:
    """A comment can be created, read, edited and deleted, and says that the job's bot wrote it."""
    created = call(gh, "POST", COMMENTS, json={"body": "first"})
    assert created.status_code == 201
    assert created.json()["user"] | {"login": "github-actions[bot]", "type": "Bot"} == created.json()["user"]
    one = f"/repos/{NAME}/issues/comments/{created.json()['id']}"
    assert call(gh, "PATCH", one, json={"body": "second"}).json()["body"] == "second"
    assert [comment["body"] for comment in gh.comments(NAME, 1)] == ["second"]
    assert call(gh, "GET", one).json()["body"] == "second"
    assert call(gh, "DELETE", one).status_code == 204
    assert call(gh, "GET", one).status_code == 404
    assert gh.comments(NAME, 1) == []
    assert gh.calls[0] == ("POST", COMMENTS, 201)


def test_pages_follow_links(gh: GitHub) -> None:
    """A list comes in pages of `per_page`, oldest comment first, and Link leads through all of them."""
    for number in range(7):
        gh.comment(NAME, 1, str(number), login="reader")
    reply = call(gh, "GET", COMMENTS, params={"per_page": "3"})
    bodies = [comment["body"] for comment in reply.json()]
    while "next" in reply.links:
        reply = call(gh, "GET", reply.links["next"]["url"].removeprefix(gh.api_url))
        bodies += [comment["body"] for comment in reply.json()]
    assert bodies == list("0123456")
    assert reply.links.keys() == {"prev", "first"}
    assert "Link" not in call(gh, "GET", COMMENTS).headers


def test_pages_hold_at_most_a_hundred(gh: GitHub) -> None:
    """A `per_page` above 100 is cut to 100, and the default is 30."""
    for number in range(101):
        gh.comment(NAME, 1, str(number), login="reader")
    assert len(call(gh, "GET", COMMENTS, params={"per_page": "200"}).json()) == 100
    assert len(call(gh, "GET", COMMENTS).json()) == 30


@pytest.mark.parametrize(
    ("body", "status"),
    [("x" * MAX_COMMENT, 201), ("x" * (MAX_COMMENT + 1), 422), (" \n", 422), ("é" * MAX_COMMENT, 201)],
    ids=["longest", "too long", "blank", "characters, not bytes"],
)
def test_comment_body_limits(gh: GitHub, body: str, status: int) -> None:
    """A comment of more than 65,536 characters, or a blank one, is refused with 422."""
    assert call(gh, "POST", COMMENTS, json={"body": body}).status_code == status


def test_tokens_decide_what_is_allowed(gh: GitHub) -> None:
    """No or a wrong token is 401; a read-only one reads; a stranger edits only what is their own."""
    assert call(gh, "GET", COMMENTS, "wrong").status_code == 401
    assert requests.get(gh.api_url + COMMENTS, timeout=10).status_code == 401
    ours = call(gh, "POST", COMMENTS, json={"body": "ours"}).json()
    one = f"/repos/{NAME}/issues/comments/{ours['id']}"
    assert call(gh, "GET", COMMENTS, gh.read_only_token).status_code == 200
    refused = call(gh, "POST", COMMENTS, gh.read_only_token, json={"body": "no"})
    assert (refused.status_code, refused.json()["message"]) == (403, "Resource not accessible by integration")
    mallory = gh.token_of("mallory")
    theirs = call(gh, "POST", COMMENTS, mallory, json={"body": "<!-- gatehouse -->"}).json()
    assert theirs["user"] | {"login": "mallory", "type": "User"} == theirs["user"]
    assert call(gh, "PATCH", one, mallory, json={"body": "forged"}).status_code == 403
    assert [comment["body"] for comment in gh.comments(NAME, 1)] == ["ours", "<!-- gatehouse -->"]


def test_pull_requests_are_created_and_found(gh: GitHub, source: Path) -> None:
    """A pull request can be opened once per branch, found by its head, changed and closed."""
    run_git(source, "push", "--quiet", gh.clone_url(NAME, gh.token), "change:other")
    pulls = f"/repos/{NAME}/pulls"
    wish = {"title": "Other", "head": "other", "base": "main"}
    assert call(gh, "POST", pulls, json=wish).json()["number"] == 2
    assert call(gh, "POST", pulls, json=wish).status_code == 422
    assert call(gh, "POST", pulls, json=wish | {"head": "absent"}).json()["errors"][0]["field"] == "head"
    assert call(gh, "POST", pulls, json=wish | {"base": "absent"}).json()["errors"][0]["field"] == "base"
    found = call(gh, "GET", pulls, params={"head": "acme:other"}).json()
    assert [pull["number"] for pull in found] == [2]
    assert [pull["number"] for pull in call(gh, "GET", pulls).json()] == [2, 1]
    assert call(gh, "PATCH", f"{pulls}/2", json={"state": "closed"}).json()["state"] == "closed"
    assert [pull["number"] for pull in call(gh, "GET", pulls).json()] == [1]
    assert call(gh, "GET", f"{pulls}/3").status_code == 404
    assert call(gh, "GET", f"/repos/{NAME}").json()["default_branch"] == "main"


def test_pull_refs_follow_pushes(gh: GitHub, source: Path, tmp_path: Path) -> None:
    """The head and merge refs are made when a pull request opens and again at each push to either side."""
    remote = gh.clone_url(NAME, gh.token)
    head = run_git(source, "rev-parse", "change")
    pull = gh.pull(NAME, 1)
    assert pull["head"]["sha"] == head == gh.git(NAME, "rev-parse", "refs/pull/1/head")
    assert gh.git(NAME, "rev-parse", "refs/pull/1/merge^2") == head
    assert pull["mergeable"] is True
    newer = commit(source, "prompt.txt", "Be brief.\n")
    run_git(source, "push", "--quiet", remote, "change")
    assert gh.pull(NAME, 1)["head"]["sha"] == newer == gh.git(NAME, "rev-parse", "refs/pull/1/merge^2")
    run_git(source, "checkout", "--quiet", "main")
    base = commit(source, "prompt.txt", "Be rude.\n")
    run_git(source, "push", "--quiet", remote, "main")
    assert gh.pull(NAME, 1)["base"]["sha"] == base
    assert gh.pull(NAME, 1)["mergeable"] is False
    assert "refs/pull/1/merge" not in gh.git(NAME, "for-each-ref")
    assert call(gh, "GET", f"/repos/{NAME}/pulls/1").json()["mergeable_state"] == "dirty"


def test_merge_ref_is_fetched_over_http(gh: GitHub, tmp_path: Path) -> None:
    """A client fetches the merge commit by its ref or its hash and finds both sides' files in it."""
    work = tmp_path / "work"
    work.mkdir()
    run_git(work, "init", "--quiet")
    sha = gh.pull(NAME, 1)["merge_commit_sha"]
    for wanted in ("refs/pull/1/merge", sha):
        run_git(work, "fetch", "--quiet", "--depth=1", gh.server_url + "/" + NAME, wanted)
        assert run_git(work, "rev-parse", "FETCH_HEAD") == sha
    run_git(work, "checkout", "--quiet", sha)
    assert {path.name for path in work.iterdir()} == {".git", "README.md", "prompt.txt"}


def test_pull_request_of_a_fork(gh: GitHub, source: Path) -> None:
    """A pull request from a fork has the fork as its head, and its owner may push there only."""
    gh.create_repository("mallory/refund-triage", fork_of=NAME)
    token = gh.token_of("mallory")
    head = commit(source, "evil.txt", "x")
    run_git(source, "push", "--quiet", gh.clone_url("mallory/refund-triage", token), "change:evil")
    with pytest.raises(InfrastructureError, match="403"):
        run_git(source, "push", "--quiet", gh.clone_url(NAME, token), "change:evil")
    pull = gh.open_pull(NAME, "mallory:evil", "main", login="mallory")
    assert pull["head"]["repo"]["full_name"] == "mallory/refund-triage"
    assert pull["head"]["repo"]["fork"] is True
    assert gh.git(NAME, "rev-parse", "refs/pull/2/merge^2") == head
    event = gh.pull_request_event(NAME, 2)
    assert (event["number"], event["repository"]["full_name"]) == (2, NAME)


@pytest.mark.parametrize("user", ["nobody", "reader", "wrong"])
def test_pushes_need_write_access(gh: GitHub, source: Path, user: str) -> None:
    """A push with no token, a read-only one or a wrong one is refused and moves nothing."""
    token = {"nobody": "", "reader": gh.read_only_token, "wrong": "wrong"}[user]
    before = gh.git(NAME, "for-each-ref")
    with pytest.raises(InfrastructureError):
        run_git(source, "push", "--quiet", gh.clone_url(NAME, token), "change:new")
    assert gh.git(NAME, "for-each-ref") == before


def test_pull_refs_are_not_pushed_to(gh: GitHub, source: Path) -> None:
    """Nobody pushes to the refs of a pull request."""
    with pytest.raises(InfrastructureError, match="hidden ref"):
        run_git(source, "push", gh.clone_url(NAME, gh.token), "main:refs/pull/1/head")


def test_large_push_in_chunks(gh: GitHub, source: Path) -> None:
    """A push above git's buffer, which comes in chunks, and a lower-case `basic`, are understood."""
    (source / "large.bin").write_bytes(secrets.token_bytes(2_000_000))
    run_git(source, "add", ".")
    run_git(source, "commit", "--quiet", "-m", "Large")
    basic = base64.b64encode(f"x-access-token:{gh.token}".encode()).decode()
    run_git(
        source,
        "-c",
        f"http.extraheader=AUTHORIZATION: basic {basic}",
        "push",
        "--quiet",
        gh.clone_url(NAME),
        "HEAD:large",
    )
    assert gh.git(NAME, "rev-parse", "large") == run_git(source, "rev-parse", "HEAD")


def test_injected_faults_come_and_go(gh: GitHub) -> None:
    """A fault answers so many calls that match it, with its headers, and the next call goes through."""
    gh.fail("POST", r"/comments$", times=2, status=429, headers={"Retry-After": "1"})
    for _ in range(2):
        reply = call(gh, "POST", COMMENTS, json={"body": "x"})
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "1")
    assert call(gh, "GET", COMMENTS).json() == []
    assert call(gh, "POST", COMMENTS, json={"body": "x"}).status_code == 201


def test_lost_reply_takes_effect(gh: GitHub) -> None:
    """A lost reply drops the connection after the comment was made."""
    gh.fail("POST", r"/comments$", lose_reply=True)
    with pytest.raises(requests.ConnectionError):
        call(gh, "POST", COMMENTS, json={"body": "made"})
    assert [comment["body"] for comment in gh.comments(NAME, 1)] == ["made"]
    assert gh.calls == [("POST", COMMENTS, 0)]


def test_delayed_reply(gh: GitHub) -> None:
    """A delayed call takes that long and then succeeds."""
    gh.fail("GET", COMMENTS, status=None, delay=0.2)
    start = time.monotonic()
    assert call(gh, "GET", COMMENTS).status_code == 200
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize(
    ("method", "path", "options", "reason"),
    [
        ("POST", COMMENTS, {"json": {"text": "x"}}, "'body' is a required property"),
        ("POST", COMMENTS, {"json": {"body": 1}}, "1 is not of type 'string'"),
        ("POST", COMMENTS, {"json": {"body": "x", "bodi": "y"}}, "unknown bodi"),
        ("POST", COMMENTS, {"data": b"{"}, "not JSON"),
        ("POST", COMMENTS, {}, "the body is missing"),
        ("GET", COMMENTS, {"params": {"per_pag": "3"}}, 'unknown query parameter "per_pag"'),
        ("GET", COMMENTS, {"params": {"page": "two"}}, "'two' is not of type 'integer'"),
        ("GET", COMMENTS.replace("/1/", "/one/"), {}, "'one' is not of type 'integer'"),
        ("GET", f"/repos/{NAME}/pulls?state=merged", {}, "'merged' is not one of"),
        ("PUT", COMMENTS, {}, "not among the described operations"),
        ("GET", "/repos/acme", {}, "not among the described operations"),
    ],
)
def test_requests_outside_the_description(
    gh: GitHub, method: str, path: str, options: dict[str, Any], reason: str
) -> None:
    """A request that breaks GitHub's description is answered 500 with the reason, and remembered."""
    reply = call(gh, method, path, **options)
    assert reply.status_code == 500
    assert reason in reply.json()["message"]
    assert [reason in violation for violation in gh.violations] == [True]
    gh.violations.clear()


def test_replies_are_checked_too(gh: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of the stand-in that breaks the description is a violation as well."""
    monkeypatch.setattr(gh._rest, "show_repository", lambda _: {"id": "seven"})
    assert call(gh, "GET", f"/repos/{NAME}").status_code == 500
    assert "reply 200" in gh.violations[0]
    gh.violations.clear()


def test_leaving_with_violations_raises(tmp_path: Path) -> None:
    """A violation that nobody looked at fails whoever used the stand-in."""
    with pytest.raises(SpecError, match="not among the described"), GitHub(tmp_path) as gh:
        requests.get(gh.api_url + "/rate_limit", timeout=10)


def test_repository_from_plain_files(tmp_path: Path) -> None:
    """A folder that is no repository becomes the first commit of one, and stays as it was."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "agent.yaml").write_text("agent: {}\n")
    with GitHub(tmp_path / "github") as gh:
        gh.create_repository(NAME, folder, default_branch="develop")
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "--quiet", gh.clone_url(NAME), str(clone)], check=True)
        assert (clone / "agent.yaml").read_text() == "agent: {}\n"
        assert gh.push_event(NAME, "develop")["after"] == run_git(clone, "rev-parse", "HEAD")
    assert [path.name for path in folder.iterdir()] == ["agent.yaml"]
