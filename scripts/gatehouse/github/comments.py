"""The sticky comment: one comment on a pull request, edited in place whatever fails, races or repeats.

`choose` and `decide` are pure; `deliver` looks, takes one step, and looks again until nothing is left to do.
That is why a lost reply, a second run at the same time and a repeated run all end in the same place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gatehouse.errors import InfrastructureError
from gatehouse.github.api import ApiError, LostReplyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.github.api import Api

ACTIONS_BOT = "github-actions[bot]"
"""The author of what is written with a job's own token."""

BODY_LIMIT = 65_536
"""Characters of a comment, marker included."""

_ROUNDS = 8
"""Looks at the pull request before giving up; a delivery takes two, lost replies and races the rest."""

_MARKER = re.compile(r"<!-- gatehouse:scorecard key=([A-Za-z0-9._/-]+) head=([0-9a-f]+) -->(?:\r?\n|\Z)")


class Comment(NamedTuple):
    """One of our comments; `head` is the commit that its marker names."""

    id: int
    body: str
    head: str
    url: str


class Step(NamedTuple):
    """What to do next: `create`, `update` comment `ids[0]`, `delete` comments `ids`, or nothing any more."""

    do: Literal["create", "update", "delete", "done", "stale"]
    ids: tuple[int, ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a delivery ended; `stale`: nothing was written, the pull request has moved on. `url` may be ""."""

    action: Literal["created", "updated", "unchanged", "stale"]
    url: str
    reason: str


def marker(key: str, head_sha: str) -> str:
    """The first line of a comment: which comment of ours it is, and of which commit.

    `key` tells several comments on one pull request apart; raises ValueError where it could not be read back.
    """
    line = f"<!-- gatehouse:scorecard key={key} head={head_sha} -->\n"
    if not _MARKER.fullmatch(line):
        raise ValueError(f"no marker can hold key {key!r} and commit {head_sha!r}")
    return line


def choose(comments: Iterable[Any], key: str, author: str) -> list[Comment]:
    """Those of a pull request's comments (as the API lists them) that are ours, oldest first.

    Ours have our author and begin with our marker: anybody can copy a marker, nobody can be our author, and
    our author may quote one. A comment whose account is gone has no `user`.
    """
    ours = []
    for comment in comments:
        found = _MARKER.match(comment.get("body") or "")
        if found and found[1] == key and (comment.get("user") or {}).get("login") == author:
            body = comment["body"].replace("\r\n", "\n")
            ours.append(Comment(int(comment["id"]), body, found[2], str(comment.get("html_url") or "")))
    return sorted(ours)


def decide(ours: list[Comment], body: str, head_sha: str, current: str, *, since: int | None) -> Step:
    """The next step towards one comment, the oldest, with the newest body.

    `ours` as `choose` returns it, `body` what this run has to say about commit `head_sha`, `current` the pull
    request's head. `since` is None until this run has written, then the id from which on a comment is not
    older than that. From then on this run no longer insists on its own body: the youngest comment's counts,
    else what the oldest says, so that two runs at once agree and do not overwrite each other in turns.
    """
    if current != head_sha:
        # Ours was written just before the newer commit came, beside the comment of its run: that one stays.
        late = tuple(comment.id for comment in ours[1:] if comment.head == head_sha)
        return Step("delete", late) if late else Step("stale")
    if not ours:
        return Step("create", body=body) if since is None else Step("done")
    if since is not None:
        newer = [comment for comment in ours if comment.id >= since and comment.head == head_sha]
        body = (newer or ours[:1])[-1].body
    if ours[0].body.rstrip() != body.rstrip():
        return Step("update", (ours[0].id,), body)
    younger = tuple(comment.id for comment in ours[1:])
    return Step("delete", younger) if younger else Step("done")


def deliver(
    api: Api, repository: str, number: int, body: str, *, key: str, head_sha: str, author: str = ACTIONS_BOT
) -> Delivered:
    """Bring the one comment with `key` on pull request `number` to `body`, written for commit `head_sha`.

    `repository` is "owner/name"; `body` comes without the marker; `author` is the login that the token writes
    as. Raises ApiError; InfrastructureError for a body that is too long, or when the comment does not settle.
    """
    body = marker(key, head_sha) + body
    if len(body) > BODY_LIMIT:
        raise InfrastructureError(f"the comment has {len(body):,} characters, GitHub takes {BODY_LIMIT:,}")
    action: Literal["created", "updated", "unchanged"] = "unchanged"
    since, url = None, ""
    for _ in range(_ROUNDS):
        try:
            ours = _list(api, repository, number, key, author)
            # Asked for last: the listing can take a while, and a newer commit's comment must stay.
            current = str(api.get(f"/repos/{repository}/pulls/{number}")["head"]["sha"])
        except (LookupError, TypeError, AttributeError, ValueError):
            raise InfrastructureError(
                f"What was asked of {repository}#{number} was not answered as GitHub does. "
                "Check GITHUB_API_URL and the proxy before it."
            ) from None
        step = decide(ours, body, head_sha, current, since=since)
        url = ours[0].url if ours else url
        if step.do == "stale":
            reason = f"these are results of {head_sha[:7]}, and the pull request is at {current[:7]}"
            return Delivered("stale", url, f"Nothing was written: {reason}.")
        if step.do == "done":
            return Delivered(action, url, f"The comment was {action}.")
        if action == "unchanged" and step.do != "delete":
            action = "created" if step.do == "create" else "updated"
        try:
            created = _take(api, repository, number, step)
            if created:
                # Even if `author` was mistaken, this login finds the comments of earlier runs.
                author, since = str((created["user"] or {}).get("login") or author), int(created["id"])
                url = str(created.get("html_url") or "")
            elif step.do == "update":
                since = ours[-1].id + 1
        except LostReplyError:
            continue  # the next look shows whether it was done
        except ApiError as error:
            if error.status != 404 or step.do == "create":  # noqa: PLR2004 somebody deleted it meanwhile
                raise
    raise InfrastructureError(
        f"the comment on {repository}#{number} did not settle in {_ROUNDS} attempts: GitHub loses replies, "
        "or something else edits or deletes it. Run this step again."
    )


def _take(api: Api, repository: str, number: int, step: Step) -> Any:
    """Take one step; returns the comment, as the API shows it, that a create made."""
    comments = f"/repos/{repository}/issues/comments"
    if step.do == "create":
        return api.post(f"/repos/{repository}/issues/{number}/comments", {"body": step.body})
    if step.do == "update":
        api.patch(f"{comments}/{step.ids[0]}", {"body": step.body})
    for comment in step.ids if step.do == "delete" else ():
        api.delete(f"{comments}/{comment}")
    return None


def _list(api: Api, repository: str, number: int, key: str, author: str) -> list[Comment]:
    pages = api.pages(f"/repos/{repository}/issues/{number}/comments")
    return choose((comment for page in pages for comment in page), key, author)
