"""What GitHub's REST API remembers and answers: repositories, pull requests, comments."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gatehouse.rehearse.origin import Origin
    from gatehouse.rehearse.spec import Call, Spec

MAX_COMMENT = 65_536
"""Characters of a comment's body; GitHub refuses a longer one."""

DOCUMENTATION = "https://docs.github.com/rest"


@dataclass(frozen=True)
class Account:
    """Who a token acts for. `access` "own" is a person from outside: their own comments and forks only."""

    login: str
    id: int
    type: Literal["Bot", "User"]
    access: Literal["write", "read", "own"]

    def show(self) -> dict[str, Any]:
        """The user as the API shows it, less what the description fills in."""
        return {"login": self.login, "id": self.id, "type": self.type}


@dataclass
class Comment:
    """A comment of an issue or pull request."""

    id: int
    number: int
    author: Account
    body: str
    created_at: str
    updated_at: str


@dataclass
class Pull:
    """A pull request; `head_repository` is its base's own unless it comes from a fork."""

    number: int
    author: Account
    title: str
    body: str | None
    base: str
    head: str
    head_repository: str
    draft: bool
    created_at: str
    updated_at: str
    state: str = "open"
    base_sha: str = ""
    head_sha: str = ""
    merge_sha: str | None = None


@dataclass
class Repository:
    """One repository's pull requests by number and comments by id."""

    id: int
    name: str
    default_branch: str
    fork_of: str
    pulls: dict[int, Pull] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]


class Refusal(Exception):  # noqa: N818 not a fault of ours: an answer
    """An error reply of the API."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors

    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        body: dict[str, Any] = {"message": self.message, "documentation_url": DOCUMENTATION}
        return body | {"status": str(self.status)} | ({"errors": list(self.errors)} if self.errors else {})


class Rest:
    """The API's memory; `answer` is the one way in for a request, the rest serves whoever sets the stage."""

    def __init__(self, spec: Spec, origin: Origin, server_url: str, api_url: str) -> None:
        self._spec, self._origin, self._server_url, self._api_url = spec, origin, server_url, api_url
        self.repositories: dict[str, Repository] = {}
        self._last_comment = 3_000_000_000  # beyond 32 bits, as on GitHub

    def answer(self, call: Call, account: Account) -> tuple[int, Any]:
        """Status and JSON for a request; raises Refusal."""
        repository = self.repositories.get(f"{call.path['owner']}/{call.path['repo']}")
        if repository is None:
            raise Refusal(404, "Not Found")
        if call.operation.method != "GET" and account.access == "read":
            raise Refusal(403, "Resource not accessible by integration")
        number = call.path.get("pull_number") or call.path.get("issue_number") or 0
        comment_id = call.path.get("comment_id", 0)
        match call.operation.id:
            case "repos/get":
                return 200, self.show_repository(repository)
            case "pulls/list":
                return 200, self._list_pulls(repository, call.query)
            case "pulls/create":
                return 201, self.create_pull(repository, account, call.body)
            case "pulls/get":
                return 200, self.show_pull(repository, number)
            case "pulls/update":
                return 200, self._update_pull(repository, account, number, call.body)
            case "issues/list-comments":
                since = call.query.get("since", "")
                return 200, [c for c in self.comments_of(repository, number) if c["updated_at"] >= since]
            case "issues/create-comment":
                return 201, self.create_comment(repository, account, number, call.body["body"])
            case "issues/get-comment":
                return 200, self._show_comment(repository, self._comment(repository, comment_id))
            case "issues/update-comment":
                return 200, self._update_comment(repository, account, comment_id, call.body["body"])
            case "issues/delete-comment":
                self._delete_comment(repository, account, comment_id)
                return 204, None
        raise Refusal(501, f"The stand-in does not play {call.operation.id}")

    def add_repository(self, name: str, default_branch: str, fork_of: str) -> None:
        """Remember a repository whose git side exists."""
        self.repositories[name] = Repository(700 + len(self.repositories), name, default_branch, fork_of)

    def show_repository(self, repository: Repository, schema: str = "full-repository") -> dict[str, Any]:
        """The repository as the API shows it."""
        given = {
            "id": repository.id,
            "name": repository.name.partition("/")[2],
            "full_name": repository.name,
            "owner": {"login": repository.owner, "type": "Organization"},
            "default_branch": repository.default_branch,
            "fork": bool(repository.fork_of),
            "url": f"{self._api_url}/repos/{repository.name}",
            "html_url": f"{self._server_url}/{repository.name}",
            "clone_url": f"{self._server_url}/{repository.name}.git",
        }
        return self._spec.fill(schema, given)

    def create_pull(self, repository: Repository, account: Account, wish: dict[str, Any]) -> dict[str, Any]:
        """Open a pull request from a request's body; raises Refusal where GitHub would."""
        owner, _, branch = wish["head"].rpartition(":")
        head_repository = self._head_repository(repository, owner)
        if self._origin.commit(repository.name, f"refs/heads/{wish['base']}") is None:
            raise invalid("PullRequest", "base")
        if head_repository is None or self._origin.commit(head_repository, f"refs/heads/{branch}") is None:
            raise invalid("PullRequest", "head")
        for other in repository.pulls.values():
            if (other.state, other.base, other.head, other.head_repository) == (
                *("open", wish["base"], branch),
                head_repository,
            ):
                message = f"A pull request already exists for {head_repository.partition('/')[0]}:{branch}."
                raise Refusal(
                    422,
                    "Validation Failed",
                    {"resource": "PullRequest", "code": "custom", "message": message},
                )
        number = len(repository.pulls) + 1
        pull = Pull(
            number,
            account,
            title=wish.get("title", ""),
            body=wish.get("body"),
            base=wish["base"],
            head=branch,
            head_repository=head_repository,
            draft=wish.get("draft", False),
            created_at=now(),
            updated_at=now(),
        )
        repository.pulls[number] = pull
        self._refresh(repository, pull)
        return self.show_pull(repository, number)

    def refresh_pulls(self, pushed: str) -> None:
        """Follow a push: every open pull request into or out of that repository gets its refs anew."""
        for repository in self.repositories.values():
            for pull in repository.pulls.values():
                if pull.state == "open" and pushed in (repository.name, pull.head_repository):
                    self._refresh(repository, pull)

    def show_pull(self, repository: Repository, number: int, schema: str = "pull-request") -> dict[str, Any]:
        """The pull request as the API shows it; raises Refusal (404)."""
        pull = repository.pulls.get(number)
        if pull is None:
            raise Refusal(404, "Not Found")
        given = {
            "id": repository.id * 1000 + number,
            "number": number,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "draft": pull.draft,
            "user": pull.author.show(),
            "created_at": pull.created_at,
            "updated_at": pull.updated_at,
            "url": f"{self._api_url}/repos/{repository.name}/pulls/{number}",
            "html_url": f"{self._server_url}/{repository.name}/pull/{number}",
            "merge_commit_sha": pull.merge_sha,
            "base": self._side(repository, pull.base, pull.base_sha),
            "head": self._side(self.repositories[pull.head_repository], pull.head, pull.head_sha),
        }
        if schema == "pull-request":
            given["mergeable"] = pull.merge_sha is not None
            given["mergeable_state"] = "clean" if pull.merge_sha else "dirty"
            given["comments"] = sum(comment.number == number for comment in repository.comments.values())
        return self._spec.fill(schema, given)

    def comments_of(self, repository: Repository, number: int) -> list[dict[str, Any]]:
        """Every comment of a pull request, oldest first; raises Refusal (404)."""
        self.show_pull(repository, number)
        return [self._show_comment(repository, c) for c in repository.comments.values() if c.number == number]

    def create_comment(
        self, repository: Repository, account: Account, number: int, body: str
    ) -> dict[str, Any]:
        """Add a comment; raises Refusal."""
        self.show_pull(repository, number)
        check_body(body)
        self._last_comment += 1
        comment = Comment(self._last_comment, number, account, body, now(), now())
        repository.comments[comment.id] = comment
        return self._show_comment(repository, comment)

    def _refresh(self, repository: Repository, pull: Pull) -> None:
        base = self._origin.commit(repository.name, f"refs/heads/{pull.base}") or pull.base_sha
        head = (
            self._origin.take_head(repository.name, pull.number, pull.head_repository, pull.head)
            or pull.head_sha
        )
        if (base, head) != (pull.base_sha, pull.head_sha):
            pull.base_sha, pull.head_sha, pull.updated_at = base, head, now()
            pull.merge_sha = self._origin.take_merge(repository.name, pull.number, base, head)

    def _head_repository(self, repository: Repository, owner: str) -> str | None:
        if owner in ("", repository.owner):
            return repository.name
        forks = [
            r.name for r in self.repositories.values() if (r.owner, r.fork_of) == (owner, repository.name)
        ]
        return forks[0] if forks else None

    def _side(self, repository: Repository, branch: str, sha: str) -> dict[str, Any]:
        shown = self.show_repository(repository, "repository")
        label = f"{repository.owner}:{branch}"
        return {"label": label, "ref": branch, "sha": sha, "repo": shown, "user": shown["owner"]}

    def _list_pulls(self, repository: Repository, query: dict[str, Any]) -> list[dict[str, Any]]:
        if query.get("sort", "created") != "created":
            raise Refusal(501, "The stand-in sorts pull requests by their creation only")
        state, head, base = query.get("state", "open"), query.get("head"), query.get("base")
        found = [
            pull.number
            for pull in repository.pulls.values()
            if state in ("all", pull.state)
            and base in (None, pull.base)
            and head in (None, f"{pull.head_repository.partition('/')[0]}:{pull.head}")
        ]
        found.sort(reverse=query.get("direction", "desc") == "desc")
        return [self.show_pull(repository, number, "pull-request-simple") for number in found]

    def _update_pull(
        self, repository: Repository, account: Account, number: int, wish: dict[str, Any]
    ) -> dict[str, Any]:
        self.show_pull(repository, number)
        pull = repository.pulls[number]
        if account.access != "write" and account != pull.author:
            raise Refusal(403, "Must have admin rights to Repository.")
        for key in ("title", "body", "state", "base"):
            if key in wish:
                setattr(pull, key, wish[key])
        pull.updated_at = now()
        self._refresh(repository, pull)
        return self.show_pull(repository, number)

    def _comment(self, repository: Repository, comment_id: int) -> Comment:
        if comment_id not in repository.comments:
            raise Refusal(404, "Not Found")
        return repository.comments[comment_id]

    def _show_comment(self, repository: Repository, comment: Comment) -> dict[str, Any]:
        issue = f"{self._api_url}/repos/{repository.name}/issues"
        page = f"{self._server_url}/{repository.name}/pull/{comment.number}"
        given = {
            "id": comment.id,
            "body": comment.body,
            "user": comment.author.show(),
            "created_at": comment.created_at,
            "updated_at": comment.updated_at,
            "url": f"{issue}/comments/{comment.id}",
            "issue_url": f"{issue}/{comment.number}",
            "html_url": f"{page}#issuecomment-{comment.id}",
            "performed_via_github_app": None,
        }
        return self._spec.fill("issue-comment", given)

    def _owned_comment(self, repository: Repository, account: Account, comment_id: int) -> Comment:
        comment = self._comment(repository, comment_id)
        if account.access != "write" and account != comment.author:
            raise Refusal(403, "Must have admin rights to Repository.")
        return comment

    def _update_comment(
        self, repository: Repository, account: Account, comment_id: int, body: str
    ) -> dict[str, Any]:
        comment = self._owned_comment(repository, account, comment_id)
        check_body(body)
        comment.body, comment.updated_at = body, now()
        return self._show_comment(repository, comment)

    def _delete_comment(self, repository: Repository, account: Account, comment_id: int) -> None:
        del repository.comments[self._owned_comment(repository, account, comment_id).id]


def check_body(body: str) -> None:
    """Refuse a comment as GitHub does: blank, or too long."""
    if not body.strip():
        raise invalid("IssueComment", "body", "Body can't be blank")
    if len(body) > MAX_COMMENT:
        raise invalid("IssueComment", "body", f"Body is too long (maximum is {MAX_COMMENT} characters)")


def invalid(resource: str, wrong: str, message: str = "") -> Refusal:
    """GitHub's refusal of one field."""
    error = {"resource": resource, "field": wrong, "code": "unprocessable" if message else "invalid"}
    return Refusal(422, "Validation Failed", error | ({"message": message} if message else {}))


def now() -> str:
    """This second, as GitHub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
