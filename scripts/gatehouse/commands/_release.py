"""What the commands of a release share: the repository on GitHub with a scratch clone, names, and reports."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Decision, Problem, UserError
from gatehouse.github.runner import annotate, append_summary, say
from gatehouse.release import closing
from gatehouse.release.git import Git

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatehouse.github.api import Api
    from gatehouse.github.event import Event


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
    """Raise UserError for options that are no names of branches or tags."""
    wrong = [
        Problem(f'--{option.replace("_", "-")} "{name}" is not a name of a branch or tag')
        for option, name in options.items()
        if not re.fullmatch(r"[A-Za-z0-9_][\w.@+-]*(/[\w@+-][\w.@+-]*)*", name) or ".." in name
    ]
    if wrong:
        raise UserError(*wrong)


def report(decisions: Sequence[Decision], title: str) -> None:
    """Say each decision with its reason, in the log, as an annotation where it failed, and in the summary."""
    from gatehouse.github.escape import markdown_inline  # noqa: PLC0415 beside its one use

    lines = [f"### {title}", ""]
    for decision in decisions:
        if decision.passed:
            say(f"ok: {decision.reason}")
        else:
            annotate("error", decision.reason)
        lines.append(f"- {'✅' if decision.passed else '❌'} {markdown_inline(decision.reason, 2000)}")
    append_summary("\n".join(lines) + "\n\n")
