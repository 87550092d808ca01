"""What the commands of a release share: the repository on GitHub with a scratch clone, names, and reports."""

from __future__ import annotations

import os
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.errors import Decision, InfrastructureError, Problem, UserError
from gatehouse.github.escape import markdown_inline, plain
from gatehouse.github.runner import annotate, append_summary, say
from gatehouse.release import closing
from gatehouse.release.git import Git
from gatehouse.release.gitflow import is_under_way, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatehouse.github.api import Api
    from gatehouse.github.event import Event


_NAME_LIMIT = 200
"""Bytes of a branch's name, and of a tag's less its version, whose own limit `release_version` has."""
_PATH_LIMIT, _PART_LIMIT = 1000, 255
"""Bytes of a path, and of one name in it, that Linux and macOS take."""

SETTLE = 3.0
"""Seconds until GitHub lists a run that was just started."""

_named = partial(click.option, show_default=True)
develop_option = _named("--develop", default="develop", metavar="BRANCH", help="Branch where features meet.")
main_option = _named("--main", default="main", metavar="BRANCH", help="Branch of the releases.")
prefix_option = _named(
    "--tag-prefix", default="v", metavar="TEXT", help="Prefix of tags and release branches."
)
changelog_option = _named(
    "--changelog", default="CHANGELOG.md", metavar="FILE", help="Changelog, relative to the repository."
)


@dataclass(frozen=True, slots=True)
class Place:
    """One repository on GitHub, and a scratch clone of it that holds only what was fetched."""

    api: Api
    git: Git
    repository: str
    server_url: str

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at a path below the repository's; raises ApiError."""
        return self.api.get(f"/repos/{self.repository}/{path}", **query)

    def find(self, path: str, **query: str | int) -> Any:
        """As `get`; None where there is nothing (404)."""
        from gatehouse.github.api import ApiError  # noqa: PLC0415 beside the 60 ms of requests

        try:
            return self.get(path, **query)
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 HTTP's "not found"
                return None
            raise

    def every(self, path: str, key: str = "", **query: str | int) -> Iterator[dict[str, Any]]:
        """Each item of a listing, through all its pages; `key` names the list in each page's object."""
        for page in self.api.pages(f"/repos/{self.repository}/{path}", **query):
            yield from page[key] if key else page

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers a POST; raises ApiError, LostReplyError."""
        return self.api.post(f"/repos/{self.repository}/{path}", body)

    def merged_releases(self, main: str, prefix: str, branch: str = "") -> list[closing.Merged]:
        """The merged release pull requests into `main`, all or those of one branch."""
        head = {"head": f"{self.repository.partition('/')[0]}:{branch}"} if branch else {}
        pulls = self.every("pulls", state="closed", base=main, **head)
        found = (closing.merged_release(pull, self.repository, main, prefix) for pull in pulls)
        return [merged for merged in found if merged]

    def fetch(self, *refspecs: str) -> None:
        """Fetch refs of the repository, without tags that nobody asked for; raises GitError."""
        self.git("fetch", "--quiet", "--no-tags", "origin", *refspecs)


@contextmanager
def repository_at(event: Event) -> Iterator[Place]:
    """The run's repository, by the token in GITHUB_TOKEN; the scratch clone is gone afterwards.

    The checkout of the job is left alone: it may be shallow, and it is the user's. Raises UserError.
    """
    from gatehouse.github.api import Api  # noqa: PLC0415 beside the 60 ms of requests

    token = os.environ.get("GITHUB_TOKEN", "").strip()
    if not token:
        raise UserError(Problem("GITHUB_TOKEN is empty", repair="Hand the job's token to the step."))
    with (
        tempfile.TemporaryDirectory(prefix="gatehouse-", ignore_cleanup_errors=True) as folder,
        Api(event.api_url, token) as api,
    ):
        git = Git(Path(folder), token=token, server_url=event.server_url)
        git("init", "--quiet", "--initial-branch=scratch")
        git("remote", "add", "origin", f"{event.server_url}/{event.repository}.git")
        yield Place(api, git, event.repository, event.server_url)


def branch_names(**options: str) -> None:
    """Raise UserError for options that are no names of branches or tags, or too long ones.

    Stricter than git-check-ref-format: what a shell or an address would take for something else is none.
    """
    wrong = [
        Problem(f'--{option.replace("_", "-")} "{plain(name, 100)}" is not a name of a branch or tag')
        for option, name in options.items()
        if not re.fullmatch(r"[A-Za-z0-9_][\w.@+-]*(/[\w@+-][\w.@+-]*)*", name)
        or ".." in name
        or name.endswith(".")
        or ".lock/" in f"{name}/"
        or len(name.encode()) > _NAME_LIMIT
    ]
    if wrong:
        raise UserError(*wrong)


def workflow_files(**options: tuple[str, ...]) -> None:
    """Raise UserError for options that are no names of files of workflows."""
    wrong = [
        Problem(
            f'--{option.replace("_", "-")} "{plain(name, 100)}" is no workflow file',
            repair="Write the name of a file in .github/workflows, such as staging.yml.",
        )
        for option, names in options.items()
        for name in names
        if not re.fullmatch(r"[\w.-]{1,100}\.ya?ml", name, re.ASCII)
    ]
    if wrong:
        raise UserError(*wrong)


def file_paths(**options: str) -> None:
    """Raise UserError for options that are too long to be the path of a file."""
    wrong = [
        Problem(f'--{option.replace("_", "-")} "{plain(path, 100)}" is too long for the path of a file')
        for option, path in options.items()
        if len(os.fsencode(path)) > _PATH_LIMIT or max(map(len, os.fsencode(path).split(b"/"))) > _PART_LIMIT
    ]
    if wrong:
        raise UserError(*wrong)


def start_once(
    place: Place, workflows: Sequence[str], ref: str, commit: str, *, made: bool
) -> dict[str, str]:
    """Start workflows on `ref`, a full name, at its `commit`, unless they were; why each is not, "" if it is.

    `made` says that this very process made the ref. Else somebody may have started them this moment, and
    GitHub does not list a run at once. Raises ApiError, InfrastructureError.
    """
    name = ref.split("/", 2)[2]
    runs = _runs(place, commit)
    if not made and not all(started(runs, workflow, name, commit) for workflow in workflows):
        time.sleep(SETTLE)
        runs = _runs(place, commit)
    done = {}
    for workflow in workflows:
        done[workflow] = ""
        if run := started(runs, workflow, name, commit):
            before = is_under_way(run, workflow, name)
            say(before.reason) if before.passed else annotate("warning", before.reason)
        else:
            done[workflow] = _dispatch(place, workflow, ref, commit)
    return done


def _runs(place: Place, commit: str) -> list[dict[str, Any]]:
    return list(place.every("actions/runs", "workflow_runs", head_sha=commit))


def _dispatch(place: Place, workflow: str, ref: str, commit: str) -> str:
    """Start a workflow; why GitHub cannot, "" where it did.

    By the full name of the ref: of a branch and a tag of one name, a short one means the branch.
    """
    from gatehouse.github.api import ApiError, LostReplyError  # noqa: PLC0415 beside the 60 ms of requests

    name = ref.split("/", 2)[2]
    try:
        place.post(f"actions/workflows/{quote(workflow, safe='')}/dispatches", {"ref": ref})
    except LostReplyError:
        for wait in (0.0, SETTLE):
            time.sleep(wait)
            if started(_runs(place, commit), workflow, name, commit):
                return ""
        raise
    except ApiError as error:
        if "Resource not accessible" in error.detail:
            repair = f"To start {workflow}, the job needs `actions: write`."
            raise InfrastructureError(f"{workflow} was not started. {error}\n{repair}") from None
        why = {
            404: "GitHub knows a workflow once its file is on the default branch. Bring it there",
            422: f"{error.detail}. Mend that",
        }.get(error.status or 0)
        if why is None:
            raise
        return f"{workflow} was not started: {why}, and start it on {name}."
    say(f"Started {workflow} on {name}.")
    return ""


def report(decisions: Sequence[Decision], title: str) -> None:
    """Say each decision with its reason, in the log, as an annotation where it failed, and in the summary."""
    lines = [f"### {title}", ""]
    for decision in decisions:
        if decision.passed:
            say(f"ok: {decision.reason}")
        else:
            annotate("error", decision.reason)
        lines.append(f"- {'✅' if decision.passed else '❌'} {markdown_inline(decision.reason, 2000)}")
    append_summary("\n".join(lines) + "\n\n")
