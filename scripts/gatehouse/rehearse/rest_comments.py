"""Comments, labels and commit statuses: what the API lets people and jobs write beside the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.state import (
    Account,
    Answer,
    Comment,
    Pull,
    Refusal,
    Repository,
    World,
    invalid,
    now,
    require_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.spec import Call

MAX_COMMENT = 65_536
"""Characters of a comment's body; GitHub refuses a longer one."""

LABELS = ("bug", "documentation", "enhancement", "question", "wontfix")
"""What a new repository has."""


class Comments:
    """The API's part for comments, labels and statuses."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "issues/list-comments": self._list,
            "issues/create-comment": self._create,
            "issues/get-comment": self._get,
            "issues/update-comment": self._update,
            "issues/delete-comment": self._delete,
            "issues/list-labels-for-repo": self._list_labels,
            "issues/list-labels-on-issue": self._list_issue_labels,
            "issues/add-labels": self._add_labels,
            "repos/create-commit-status": self._create_status,
            "repos/get-combined-status-for-ref": self._combined_status,
            "repos/list-commit-statuses-for-ref": self._list_statuses,
        }

    def of(self, repository: Repository, number: int) -> list[dict[str, Any]]:
        """Every comment of a pull request, oldest first; raises Refusal (404)."""
        pull_of(repository, number)
        return [self._show(repository, c) for c in repository.comments.values() if c.number == number]

    def create(self, repository: Repository, account: Account, number: int, body: str) -> dict[str, Any]:
        """Add a comment; raises Refusal."""
        pull_of(repository, number)
        check_body(body)
        comment = Comment(self._world.new_id(), number, account, body, now(), now())
        repository.comments[comment.id] = comment
        return self._show(repository, comment)

    def label(self, repository: Repository, number: int, names: list[str]) -> None:
        """Put labels on a pull request; a label that the repository does not have is made."""
        pull = pull_of(repository, number)
        for name in names:
            repository.labels.setdefault(name, self._world.new_id())
            if name not in pull.labels:
                pull.labels.append(name)

    def show_label(self, repository: Repository, name: str) -> dict[str, Any]:
        """A label as the API shows it."""
        given = {"id": repository.labels[name], "name": name, "default": name in LABELS, "color": "ededed"}
        return self._world.spec.fill("label", given | {"description": None})

    def _list(self, repository: Repository, account: Account, call: Call) -> Answer:
        since = call.query.get("since", "")
        found = self.of(repository, call.path["issue_number"])
        return Answer(200, [comment for comment in found if comment["updated_at"] >= since])

    def _create(self, repository: Repository, account: Account, call: Call) -> Answer:
        return Answer(201, self.create(repository, account, call.path["issue_number"], call.body["body"]))

    def _get(self, repository: Repository, account: Account, call: Call) -> Answer:
        return Answer(200, self._show(repository, comment_of(repository, call)))

    def _update(self, repository: Repository, account: Account, call: Call) -> Answer:
        comment = owned_comment(repository, account, call)
        check_body(call.body["body"])
        comment.body, comment.updated_at = call.body["body"], now()
        return Answer(200, self._show(repository, comment))

    def _delete(self, repository: Repository, account: Account, call: Call) -> Answer:
        del repository.comments[owned_comment(repository, account, call).id]
        return Answer(204)

    def _show(self, repository: Repository, comment: Comment) -> dict[str, Any]:
        page = self._world.page(repository, f"pull/{comment.number}")
        given = {
            "id": comment.id,
            "body": comment.body,
            "user": comment.author.show(),
            "created_at": comment.created_at,
            "updated_at": comment.updated_at,
            "url": self._world.address(repository, f"issues/comments/{comment.id}"),
            "issue_url": self._world.address(repository, f"issues/{comment.number}"),
            "html_url": f"{page}#issuecomment-{comment.id}",
            "performed_via_github_app": None,
        }
        return self._world.spec.fill("issue-comment", given)

    def _list_labels(self, repository: Repository, account: Account, call: Call) -> Answer:
        return Answer(200, [self.show_label(repository, name) for name in sorted(repository.labels)])

    def _list_issue_labels(self, repository: Repository, account: Account, call: Call) -> Answer:
        labels = pull_of(repository, call.path["issue_number"]).labels
        return Answer(200, [self.show_label(repository, name) for name in labels])

    def _add_labels(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        given = [one if isinstance(one, str) else one["name"] for one in call.body.get("labels", [])]
        self.label(repository, call.path["issue_number"], given)
        return self._list_issue_labels(repository, account, call)

    def _create_status(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        sha = call.path["sha"]
        if self._world.origin.commit(repository.name, sha) != sha:
            raise Refusal(422, f"No commit found for SHA: {sha}")
        status = self._world.spec.fill(
            "status",
            {
                "id": self._world.new_id(),
                "state": call.body["state"],
                "context": call.body.get("context", "default"),
                "description": call.body.get("description"),
                "target_url": call.body.get("target_url"),
                "url": self._world.address(repository, f"statuses/{sha}"),
                "creator": account.show(),
                "created_at": now(),
                "updated_at": now(),
            },
        )
        repository.statuses.setdefault(sha, []).insert(0, status)
        return Answer(201, status)

    def _list_statuses(self, repository: Repository, account: Account, call: Call) -> Answer:
        return Answer(200, repository.statuses.get(self._commit(repository, call), []))

    def _combined_status(self, repository: Repository, account: Account, call: Call) -> Answer:
        sha = self._commit(repository, call)
        newest: dict[str, dict[str, Any]] = {}
        for status in repository.statuses.get(sha, []):
            newest.setdefault(status["context"], status)
        given = {
            "state": combined([status["state"] for status in newest.values()]),
            "sha": sha,
            "total_count": len(newest),
            "statuses": list(newest.values()),
            "repository": self._world.show_repository(repository, "minimal-repository"),
            "url": self._world.address(repository, f"commits/{sha}/status"),
            "commit_url": self._world.address(repository, f"commits/{sha}"),
        }
        return Answer(200, self._world.spec.fill("combined-commit-status", given))

    def _commit(self, repository: Repository, call: Call) -> str:
        origin, ref = self._world.origin, call.path["ref"]
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}", ref):
            if commit := origin.commit(repository.name, name):
                return commit
        raise Refusal(404, "Not Found")


def combined(states: list[str]) -> str:
    """The state of a commit, from the newest of each context."""
    if {"failure", "error"} & set(states):
        return "failure"
    return "success" if states and set(states) == {"success"} else "pending"


def pull_of(repository: Repository, number: int) -> Pull:
    """A pull request; raises Refusal (404)."""
    if number not in repository.pulls:
        raise Refusal(404, "Not Found")
    return repository.pulls[number]


def comment_of(repository: Repository, call: Call) -> Comment:
    """The comment that a request names; raises Refusal (404)."""
    if call.path["comment_id"] not in repository.comments:
        raise Refusal(404, "Not Found")
    return repository.comments[call.path["comment_id"]]


def owned_comment(repository: Repository, account: Account, call: Call) -> Comment:
    """The comment that a request names, where the account may change it; raises Refusal."""
    comment = comment_of(repository, call)
    if not account.may_write and account.login != comment.author.login:
        raise Refusal(403, "Must have admin rights to Repository.")
    return comment


def check_body(body: str) -> None:
    """Refuse a comment as GitHub does: blank, or too long."""
    if not body.strip():
        raise invalid("IssueComment", "body", "Body can't be blank")
    if len(body) > MAX_COMMENT:
        raise invalid("IssueComment", "body", f"Body is too long (maximum is {MAX_COMMENT} characters)")
