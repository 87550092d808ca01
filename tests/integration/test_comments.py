"""The sticky comment against the GitHub stand-in: faults, races, strangers, many pages."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import InfrastructureError
from gatehouse.github.api import Api, ApiError
from gatehouse.github.comments import ACTIONS_BOT, BODY_LIMIT, Delivered, deliver, marker
from gatehouse.rehearse.github import GitHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "octo/agents"
COMMENT = r"/issues/comments/\d+$"
COMMENTS = r"/issues/1/comments$"
PULL = r"/pulls/1$"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub with pull request 1 from `feature` into `main`; its description is kept to the end."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "README.md").write_text("x\n")
    with GitHub(tmp_path / "github") as made:
        made.create_repository(REPO, tmp_path / "files")
        push(made, "feature")
        made.open_pull(REPO, "feature", "main")
        yield made


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the client waited instead of sleeping."""
    return []


@pytest.fixture
def api(github: GitHub, waits: list[float]) -> Iterator[Api]:
    """A client with the job's own token."""
    with Api(github.api_url, github.token, sleep=waits.append) as made:
        yield made


def push(github: GitHub, branch: str) -> str:
    """A new commit on a branch, which is made of main where it is new; its hash."""
    known = github.git(REPO, "for-each-ref", f"refs/heads/{branch}")
    parent = branch if known else "main"
    message = f"change after {parent} {github.git(REPO, 'rev-parse', parent)}"
    commit = github.git(REPO, "commit-tree", f"{parent}^{{tree}}", "-p", parent, "-m", message)
    github.git(REPO, "update-ref", f"refs/heads/{branch}", commit)
    if known:
        github._rest.refresh_pulls(REPO)
    return commit


def head(github: GitHub) -> str:
    """The commit at the head of the pull request."""
    return str(github.pull(REPO, 1)["head"]["sha"])


def send(api: Api, github: GitHub, body: str = "report", **changes: Any) -> Delivered:
    """One delivery for the pull request's present head, unless told otherwise."""
    return deliver(api, REPO, 1, body, **{"key": "main", "head_sha": head(github), **changes})


def bodies(github: GitHub, login: str = ACTIONS_BOT) -> list[str]:
    """The bodies of one author's comments, without our marker's line."""
    comments = [c["body"] for c in github.comments(REPO, 1) if c["user"]["login"] == login]
    return [body.partition("\n")[2] if body.startswith("<!-- gatehouse") else body for body in comments]


def writes(github: GitHub) -> list[str]:
    """The methods of all writes that were asked for."""
    return [method for method, _, _ in github.calls if method != "GET"]


def test_a_second_run_edits_the_same_comment(api: Api, github: GitHub) -> None:
    """Created, left alone when nothing changed, edited for other text and for a new commit: one comment."""
    first = send(api, github)
    assert first.action == "created"
    assert first.url == github.comments(REPO, 1)[0]["html_url"]
    assert send(api, github) == Delivered("unchanged", first.url, "The comment was unchanged.")
    assert writes(github) == ["POST"]
    assert send(api, github, "other") == Delivered("updated", first.url, "The comment was updated.")
    commit = push(github, "feature")
    assert send(api, github, "other").action == "updated"
    assert bodies(github) == ["other"]
    assert github.comments(REPO, 1)[0]["body"] == marker("main", commit) + "other"


def test_another_key_is_another_comment(api: Api, github: GitHub) -> None:
    """Comments with different keys live side by side."""
    send(api, github, "a", key="a")
    send(api, github, "b", key="b")
    send(api, github, "a2", key="a")
    assert bodies(github) == ["a2", "b"]


def test_a_copied_marker_is_not_ours(api: Api, github: GitHub) -> None:
    """A stranger's comment with our marker, posted first, is left alone and hides nothing."""
    forged = marker("main", head(github)) + "all green"
    github.comment(REPO, 1, forged, login="mallory")
    assert send(api, github, "real").action == "created"
    assert send(api, github, "real 2").action == "updated"
    assert bodies(github) == ["real 2"]
    assert github.comments(REPO, 1)[0]["body"] == forged


def test_ours_is_found_on_the_third_page(api: Api, github: GitHub) -> None:
    """With 250 comments before it, ours is still edited and not made again."""
    for number in range(250):
        github.comment(REPO, 1, f"talk {number}", login="dev")
    send(api, github, "a")
    send(api, github, "b")
    assert bodies(github) == ["b"]
    assert len(github.comments(REPO, 1)) == 251


def test_a_stale_run_writes_nothing(api: Api, github: GitHub) -> None:
    """A run for a commit that is no longer the head, the slower one, leaves the newer run's comment alone."""
    old = head(github)
    new = push(github, "feature")
    send(api, github, "newer")
    late = send(api, github, "older", head_sha=old)
    assert late.action == "stale"
    assert late.reason == (
        f"Nothing was written: these are results of {old[:7]}, and the pull request is at {new[:7]}."
    )
    assert bodies(github) == ["newer"]
    assert writes(github) == ["POST"]


def test_a_push_during_the_listing_is_noticed(github: GitHub, waits: list[float]) -> None:
    """The head is asked for after the listing, just before writing."""
    old = head(github)

    class PushesMeanwhile(Api):
        """A client during whose listing of comments a commit is pushed."""

        def pages(self, path: str, **query: str | int) -> Iterator[Any]:
            yield from super().pages(path, **query)
            push(github, "feature")

    with PushesMeanwhile(github.api_url, github.token, sleep=waits.append) as api:
        assert send(api, github, head_sha=old).action == "stale"
    assert writes(github) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", COMMENTS), ("GET", PULL), ("POST", COMMENTS), ("PATCH", COMMENT), ("DELETE", COMMENT)],
)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("fault", ["lost", "500"])
def test_any_reply_can_be_lost(method: str, path: str, times: int, fault: str, github: GitHub) -> None:
    """Whichever call loses its reply, done or not, once or twice: there ends up one comment, our body."""
    for body in ("first", "second"):  # two of ours from an earlier accident: one is edited, one deleted
        if method != "POST":
            with Api(github.api_url, github.token) as api:
                api.post(f"/repos/{REPO}/issues/1/comments", {"body": marker("main", head(github)) + body})
    github.fail(method, path, times=times, lose_reply=fault == "lost", status=500)
    with Api(github.api_url, github.token, sleep=lambda _: None) as api:
        delivered = send(api, github)
    assert delivered.action == ("created" if method == "POST" else "updated")
    assert bodies(github) == ["report"]
    spoilt = [status for asked, _, status in github.calls if asked == method and status in (0, 500)]
    assert len(spoilt) >= 1


def test_a_create_with_a_lost_reply_is_not_repeated(api: Api, github: GitHub) -> None:
    """The comment that was made before the reply was lost is found: one POST, and it counts as created."""
    github.fail("POST", COMMENTS, lose_reply=True)
    assert send(api, github).action == "created"
    assert writes(github) == ["POST"]


def test_a_github_that_always_fails_is_given_up(api: Api, github: GitHub) -> None:
    """When no write ever succeeds, the delivery ends with an error that says to run it again."""
    github.fail("POST", COMMENTS, times=99)
    with pytest.raises(InfrastructureError, match="did not settle in 8 attempts"):
        send(api, github)


@pytest.mark.parametrize("attempt", range(3))
def test_two_runs_at_once_leave_one_comment(attempt: int, github: GitHub) -> None:
    """Runs of the same commit that create at the same time agree on one comment, the oldest."""
    github.fail("POST", COMMENTS, times=2, lose_reply=False, status=None, delay=0.05)
    results: dict[str, Delivered] = {}
    start = threading.Barrier(4)

    def run(body: str) -> None:
        with Api(github.api_url, github.token, sleep=lambda _: None) as api:
            start.wait()
            results[body] = send(api, github, body)

    threads = [threading.Thread(target=run, args=(f"run {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(bodies(github)) == 1
    assert bodies(github)[0] in results


def test_a_run_that_wrote_too_late_takes_its_comment_back(github: GitHub, waits: list[float]) -> None:
    """A commit and its run's comment that come between the last look and a create: the late comment goes."""
    old = head(github)

    class IsOvertaken(Api):
        """A client just before whose create a newer run delivers."""

        def post(self, path: str, body: Any) -> Any:
            push(github, "feature")
            with Api(github.api_url, github.token) as newer:
                send(newer, github, "newer")
            return super().post(path, body)

    with IsOvertaken(github.api_url, github.token, sleep=waits.append) as api:
        assert send(api, github, "older", head_sha=old).action == "stale"
    assert bodies(github) == ["newer"]


def test_a_token_that_may_not_write(github: GitHub) -> None:
    """A read-only token, as a fork's run has, gives an error with the permissions to paste."""
    with Api(github.api_url, github.read_only_token) as api, pytest.raises(ApiError) as error:
        send(api, github)
    assert error.value.status == 403
    assert "pull-requests: write" in str(error.value)
    assert "workflow_run" in str(error.value)
    assert github.comments(REPO, 1) == []


def test_a_pull_request_that_does_not_exist(api: Api) -> None:
    """A wrong number is an error that names the request."""
    with pytest.raises(
        ApiError, match=r"GET /api/v3/repos/octo/agents/issues/9/comments: GitHub answered 404"
    ):
        deliver(api, REPO, 9, "x", key="main", head_sha="a" * 40)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", COMMENTS, 429), ("GET", PULL, 403), ("POST", COMMENTS, 429), ("POST", COMMENTS, 403)],
)
def test_rate_limits_are_waited_out(method: str, path: str, status: int, github: GitHub) -> None:
    """A rate limit with Retry-After at any call delays the delivery by that time."""
    waited: list[float] = []
    github.fail(method, path, status=status, headers={"Retry-After": "11"}, message="Slow down")
    with Api(github.api_url, github.token, sleep=waited.append) as api:
        assert send(api, github).action == "created"
    assert waited == [11.0]
    assert bodies(github) == ["report"]


def test_a_mistaken_author_doubles_nothing(api: Api, github: GitHub) -> None:
    """Where the token writes as somebody else than was said, earlier comments are found all the same."""
    send(api, github, "a", author="my-app[bot]")
    send(api, github, "b", author="my-app[bot]")
    assert bodies(github) == ["b"]


def test_a_body_at_the_limit(api: Api, github: GitHub) -> None:
    """The limit counts the marker: a body that just fits is taken, one more is an error."""
    room = BODY_LIMIT - len(marker("main", head(github)))
    assert send(api, github, "é" * room).action == "created"
    with pytest.raises(InfrastructureError, match="65,537 characters, GitHub takes 65,536"):
        send(api, github, "é" * (room + 1))
