"""The pull request of a run that this one follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.github.api import Api
    from gatehouse.github.event import FollowedRun


def choose(pulls: Iterable[Any], run: FollowedRun, repository: str) -> list[int]:
    """The numbers of those pull requests (as the API lists them) whose head is what the run was for.

    A branch can be pushed again, or be that of another fork of the same owner: the commit and the repository
    have to be those of the run.
    """
    return [
        int(pull["number"])
        for pull in pulls
        if pull["head"]["sha"] == run.head_sha
        and (pull["head"].get("repo") or {}).get("full_name") == run.head_repository
        and pull["base"]["repo"]["full_name"] == repository
    ]


def find(api: Api, repository: str, run: FollowedRun) -> tuple[int | None, str]:
    """The number of the open pull request that a fork's run was for, or None and why; raises ApiError.

    GitHub does not name it in the event of a fork's run, and what that run hands on is its author's word.
    """
    if run.event != "pull_request":
        return None, f"the run was started by {run.event}, not by a pull request."
    if run.head_repository is None:
        return None, "the fork of this run was deleted."
    if run.head_repository == repository:
        return None, "the run was of a branch of this repository, whose own comment job writes."
    head = f"{run.head_repository.partition('/')[0]}:{run.head_branch}"
    pages = api.pages(f"/repos/{repository}/pulls", state="open", head=head)
    found = choose((pull for page in pages for pull in page), run, repository)
    if len(found) == 1:
        return found[0], ""
    several = f"{', '.join(f'#{number}' for number in found)} all have it"
    what = f"commit {run.head_sha[:12]} of {head}"
    return None, f"no open pull request has {what}." if not found else f"{what}: {several}."
