"""`gatehouse.github.event`: the run we are in, as the runner describes it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import UserError
from gatehouse.github.event import Event, FollowedRun, current_commit

if TYPE_CHECKING:
    from pathlib import Path

PULL = {
    "number": 7,
    "head": {"sha": "a" * 40, "ref": "feature/x", "repo": {"full_name": "octo/agents"}},
    "base": {"sha": "b" * 40, "ref": "develop", "repo": {"full_name": "octo/agents"}},
}


def environment(tmp_path: Path, payload: Any, **changes: str) -> dict[str, str]:
    """What a runner sets, with `payload` as its event."""
    path = tmp_path / "event.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_REPOSITORY": "octo/agents",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_RUN_ID": "123",
        "GITHUB_RUN_ATTEMPT": "2",
    } | changes


def test_a_pull_request(tmp_path: Path) -> None:
    """Every field of a pull request's run is read; the author's commit is not the merge commit."""
    event = Event.read(
        environment(tmp_path, {"pull_request": PULL}, GITHUB_SERVER_URL="https://ghe.example/")
    )
    assert event == Event(
        name="pull_request",
        repository="octo/agents",
        sha="c" * 40,
        ref="refs/pull/7/merge",
        run_id=123,
        run_attempt=2,
        server_url="https://ghe.example",
        api_url="https://api.github.com",
        number=7,
        head_sha="a" * 40,
        head_ref="feature/x",
        base_ref="develop",
        base_sha="b" * 40,
        is_fork=False,
    )
    assert event.run_url == "https://ghe.example/octo/agents/actions/runs/123/attempts/2"


def test_a_push_has_no_pull_request(tmp_path: Path) -> None:
    """For other events the pull request's fields are None."""
    event = Event.read(environment(tmp_path, {"after": "x"}, GITHUB_EVENT_NAME="push"))
    assert (event.name, event.number, event.head_sha, event.is_fork) == ("push", None, None, False)


@pytest.mark.parametrize("repo", [None, {"full_name": "mallory/agents"}])
def test_forks_are_known(repo: dict[str, str] | None, tmp_path: Path) -> None:
    """A head in another repository, or in one that was deleted, is a fork."""
    head = {**PULL["head"], "repo": repo}  # type: ignore[dict-item]
    assert Event.read(environment(tmp_path, {"pull_request": {**PULL, "head": head}})).is_fork


FOLLOWED = {
    "id": 77,
    "run_attempt": 3,
    "event": "pull_request",
    "head_sha": "a" * 40,
    "head_branch": "feature/x",
    "head_repository": {"full_name": "mallory/agents"},
}


def test_a_run_that_follows_another(tmp_path: Path) -> None:
    """A workflow_run has no pull request of its own; what it follows is GitHub's word, its page too."""
    name = {"GITHUB_EVENT_NAME": "workflow_run"}
    event = Event.read(environment(tmp_path, {"workflow_run": FOLLOWED}, **name))
    assert event.follows == FollowedRun(77, 3, "pull_request", "a" * 40, "feature/x", "mallory/agents")
    assert event.run_url == "https://github.com/octo/agents/actions/runs/77/attempts/3"
    assert (event.number, event.is_fork) == (None, False)
    gone = Event.read(environment(tmp_path, {"workflow_run": FOLLOWED | {"head_repository": None}}, **name))
    assert gone.follows is not None
    assert gone.follows.head_repository is None
    push = Event.read(environment(tmp_path, {"workflow_run": FOLLOWED}, GITHUB_EVENT_NAME="push"))
    assert push.follows is None


@pytest.mark.parametrize("changed", [None, [], {}, FOLLOWED | {"id": "x"}, FOLLOWED | {"head_sha": "../x"}])
def test_a_followed_run_without_its_fields_is_a_user_error(changed: Any, tmp_path: Path) -> None:
    """A payload whose run lacks a field, or has one of another kind, is said to be unusable."""
    with pytest.raises(UserError, match='"workflow_run" in the event has no usable'):
        Event.read(environment(tmp_path, {"workflow_run": changed}, GITHUB_EVENT_NAME="workflow_run"))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ({"pull_request": {}}, "no usable 'head'"),
        ({"pull_request": {**PULL, "number": "x"}}, "no usable"),
        ({"pull_request": {**PULL, "base": None}}, "no usable"),
        ({"pull_request": []}, "no usable"),
    ],
)
def test_a_bad_payload_is_a_user_error(payload: Any, message: str, tmp_path: Path) -> None:
    """A payload that is none names its file and what is wrong."""
    with pytest.raises(UserError, match=message) as error:
        Event.read(environment(tmp_path, payload))
    assert "event.json" in str(error.value)


def test_a_missing_payload_is_a_user_error(tmp_path: Path) -> None:
    """A payload that is not there is said to be so."""
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Event.read(environment(tmp_path, {}, GITHUB_EVENT_PATH=str(tmp_path / "none")))


def test_every_missing_variable_is_named_at_once(tmp_path: Path) -> None:
    """Outside Actions one message names all that is missing or malformed."""
    with pytest.raises(UserError) as error:
        Event.read(environment(tmp_path, {}, GITHUB_REPOSITORY="a/b/c", GITHUB_SHA="", GITHUB_RUN_ID="x"))
    assert [p.message for p in error.value.problems] == [
        "GITHUB_REPOSITORY is not what GitHub sets",
        "GITHUB_SHA is not set",
        "GITHUB_RUN_ID is not what GitHub sets",
    ]


def test_current_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEAD, in Actions GITHUB_SHA; None outside a repository, before its first commit, without git."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_SHA", "f" * 40)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit(tmp_path) is None
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@e.example", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    assert current_commit(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert current_commit(tmp_path) == head.stdout.strip()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert current_commit(tmp_path) == "f" * 40
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert current_commit(tmp_path) is None


def test_outside_actions_one_message_says_where_it_works() -> None:
    """Without any of the runner's variables there is one fault, not one for each variable."""
    with pytest.raises(UserError, match="run of GitHub Actions only") as error:
        Event.read({"PATH": "/bin"})
    assert len(error.value.problems) == 1
