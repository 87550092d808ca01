"""What GitHub says about the run we are in: repository, commit, pull request."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Problem, UserError
from gatehouse.github.runner import in_actions

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHAPES = {
    "GITHUB_EVENT_NAME": r"\w+",
    "GITHUB_EVENT_PATH": r".+",
    "GITHUB_REPOSITORY": r"[\w.-]+/[\w.-]+",
    "GITHUB_SHA": r"[0-9a-f]{40,64}",
    "GITHUB_RUN_ID": r"[0-9]{1,18}",
}
"""The variables that every run has, and what they look like."""


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """The run that a `workflow_run` event follows, as GitHub tells it: nothing here is the run's own word.

    `event` is what started it, `head_sha` the commit that its author pushed, `head_repository` ("owner/name")
    where to; None where that was deleted since.
    """

    id: int
    attempt: int
    event: str
    head_sha: str
    head_branch: str
    head_repository: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One run of a workflow. The fields from `number` on are the pull request's, None for other events.

    `follows` is there for `workflow_run` alone, which runs on the default branch, at `sha`.
    `repository` is "owner/name". For a pull request `sha` is the merge commit that GitHub made for the run;
    `head_sha` is the commit that its author pushed.
    """

    name: str
    repository: str
    sha: str
    ref: str
    run_id: int
    run_attempt: int
    server_url: str
    api_url: str
    number: int | None = None
    head_sha: str | None = None
    head_ref: str | None = None
    base_ref: str | None = None
    base_sha: str | None = None
    is_fork: bool = False
    follows: FollowedRun | None = None

    @property
    def run_url(self) -> str:
        """The page of this attempt of the run, or of the one that it follows."""
        run, attempt = self.run_id, self.run_attempt
        if self.follows:
            run, attempt = self.follows.id, self.follows.attempt
        return f"{self.server_url}/{self.repository}/actions/runs/{run}/attempts/{attempt}"

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Event:
        """The event from the environment and the payload it points to; raises UserError with every fault."""
        if not any(env.get(name) for name in _SHAPES):
            problem = Problem(
                "this works in a run of GitHub Actions only",
                repair="The workflows in templates/ call it there; `make rehearse` plays them all here.",
            )
            raise UserError(problem)
        problems = [
            Problem(
                f"{name} is {'not set' if not env.get(name) else 'not what GitHub sets'}",
                repair="A GitHub Actions runner sets it: run this there, or set it by hand.",
            )
            for name, shape in _SHAPES.items()
            if not re.fullmatch(shape, env.get(name, ""))
        ]
        if problems:
            raise UserError(*problems)
        payload = _payload(Path(env["GITHUB_EVENT_PATH"]))
        attempt = env.get("GITHUB_RUN_ATTEMPT", "")
        return cls(
            name=env["GITHUB_EVENT_NAME"],
            repository=env["GITHUB_REPOSITORY"],
            sha=env["GITHUB_SHA"],
            ref=env.get("GITHUB_REF", ""),
            run_id=int(env["GITHUB_RUN_ID"]),
            run_attempt=int(attempt) if attempt.isdecimal() else 1,
            server_url=(env.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/"),
            api_url=(env.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/"),
            **_pull_request(payload.get("pull_request"), env["GITHUB_EVENT_PATH"]),
            follows=_followed(payload.get("workflow_run"), env),
        )


def current_commit(cwd: Path) -> str | None:
    """The commit that is checked out: GITHUB_SHA in Actions, else git's HEAD at `cwd`.

    None outside a repository, before its first commit, and without git.
    """
    if in_actions() and (sha := os.environ.get("GITHUB_SHA")):
        return sha
    try:
        git = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], cwd=cwd, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return git.stdout.strip() if git.returncode == 0 else None


def _payload(path: Path) -> dict[str, Any]:
    try:
        payload = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(Problem(f"the event cannot be read: {error.strerror}", path=str(path))) from None
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(f"the event is not JSON: {error}", path=str(path))) from None
    if not isinstance(payload, dict):
        raise UserError(Problem("the event is not a JSON object", path=str(path)))
    return payload


def _followed(run: Any, env: Mapping[str, str]) -> FollowedRun | None:
    """The run that a `workflow_run` payload names, None for other events; raises UserError."""
    if env["GITHUB_EVENT_NAME"] != "workflow_run":
        return None
    try:
        head = run["head_repository"]
        followed = FollowedRun(
            int(run["id"]),
            int(run.get("run_attempt") or 1),
            str(run["event"]),
            str(run["head_sha"]),
            str(run["head_branch"] or ""),
            str(head["full_name"]) if head else None,
        )
        if not re.fullmatch(_SHAPES["GITHUB_SHA"], followed.head_sha):
            raise ValueError("head_sha")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = Problem(f'"workflow_run" in the event has no usable {error}', path=env["GITHUB_EVENT_PATH"])
        raise UserError(problem) from None
    return followed


def _pull_request(pull: Any, path: str) -> dict[str, Any]:
    """The fields of a `pull_request` object of the payload; {} for None, UserError where one is missing."""
    if pull is None:
        return {}
    try:
        head, base = pull["head"], pull["base"]
        fields: dict[str, Any] = {
            "number": int(pull["number"]),
            "head_sha": str(head["sha"]),
            "head_ref": str(head["ref"]),
            "base_ref": str(base["ref"]),
            "base_sha": str(base["sha"]),
            # A fork that was deleted has no repository any more.
            "is_fork": head.get("repo") is None or head["repo"]["full_name"] != base["repo"]["full_name"],
        }
        if not re.fullmatch(_SHAPES["GITHUB_SHA"], fields["head_sha"]):
            raise ValueError("head.sha")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = Problem(f'"pull_request" in the event has no usable {error}', path=path)
        raise UserError(problem) from None
    return fields
