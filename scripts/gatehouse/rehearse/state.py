"""What the stand-in for GitHub remembers of its repositories, and the words in which it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.rehearse.origin import Origin
    from gatehouse.rehearse.spec import Spec

Access = Literal["admin", "write", "read", "own"]
Kind = Literal["Bot", "User"]

DOCUMENTATION = "https://docs.github.com/rest"
NOWHERE = "0" * 40
"""The hash that stands for no commit."""


@dataclass(frozen=True)
class Account:
    """Who a token acts for. `access` "own" is a person from outside: their own comments and forks only."""

    login: str
    id: int
    type: Kind
    access: Access

    @property
    def may_write(self) -> bool:
        """Whether it may push, merge and release."""
        return self.access in ("admin", "write")

    @property
    def is_job(self) -> bool:
        """Whether it is a job's own token, whose deeds start no workflow."""
        return self.login == "github-actions[bot]"

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
    """A pull request; `head_repository` is its base's own unless it comes from a fork.

    `merge_sha` is the merge that could be made while it is open, and the commit that it became afterwards.
    """

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
    merged_at: str | None = None
    merged_by: Account | None = None
    closed_at: str | None = None
    labels: list[str] = field(default_factory=list)


@dataclass
class Run:
    """A workflow run; `conclusion` is None until it is completed. `approvals`: environment to its state."""

    id: int
    workflow: str
    name: str
    number: int
    event: str
    head_branch: str
    head_sha: str
    actor: Account
    created_at: str
    status: str = "queued"
    conclusion: str | None = None
    updated_at: str = ""
    approvals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """An artifact of a run; `content` is the zip."""

    id: int
    run_id: int
    name: str
    content: bytes
    created_at: str


@dataclass
class Asset:
    """A file of a release."""

    id: int
    name: str
    content: bytes
    content_type: str
    label: str | None
    uploader: Account
    created_at: str


@dataclass
class Release:
    """A release; a draft has no `published_at`, and its tag need not exist."""

    id: int
    author: Account
    tag_name: str
    target: str
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    created_at: str
    published_at: str | None = None
    immutable: bool = False
    assets: list[Asset] = field(default_factory=list)


@dataclass(frozen=True)
class Environment:
    """An environment; `reviewers` are the logins of whom one has to approve, `branches` patterns of refs."""

    id: int
    name: str
    reviewers: tuple[str, ...]
    branches: tuple[str, ...]
    created_at: str


@dataclass
class Settings:
    """What an administrator has set for a repository."""

    pulls_by_actions: bool = True
    immutable_releases: bool = True
    delete_merged_branches: bool = False
    merge_methods: tuple[str, ...] = ("merge", "squash", "rebase")


@dataclass
class Repository:
    """One repository: what it holds besides git, by number, id or name."""

    id: int
    name: str
    default_branch: str
    fork_of: str
    settings: Settings = field(default_factory=Settings)
    pulls: dict[int, Pull] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    workflows: dict[str, int] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    immutable_tags: set[str] = field(default_factory=set)
    environments: dict[str, Environment] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]


class Move(NamedTuple):
    """A ref that went from one commit to another; NOWHERE where it did not exist before or does not now."""

    ref: str
    old: str
    new: str

    def __str__(self) -> str:
        return f":{self.ref}" if self.new == NOWHERE else self.ref


class Listing(NamedTuple):
    """Items that come in pages below `key`, beside their number."""

    key: str
    items: list[dict[str, Any]]


class Answer(NamedTuple):
    """What the API answers; a list or a Listing as body is cut into pages."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


class Refusal(Exception):  # noqa: N818 not a fault of ours: an answer
    """An error reply of the API."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors

    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        body: dict[str, Any] = {"message": self.message, "documentation_url": DOCUMENTATION}
        return body | {"status": str(self.status)} | ({"errors": list(self.errors)} if self.errors else {})


class World:
    """What all parts of the API share: the description, git, repositories, and who follows a moved ref."""

    def __init__(self, spec: Spec, origin: Origin, server_url: str, api_url: str) -> None:
        self.spec, self.origin, self.server_url, self.api_url = spec, origin, server_url, api_url
        self.repositories: dict[str, Repository] = {}
        self.followers: list[Callable[[Repository, Account, list[Move]], None]] = []
        self._ids = count(3_000_000_001)  # beyond 32 bits, as on GitHub

    def new_id(self) -> int:
        """An id that nothing else has."""
        return next(self._ids)

    def moved(self, repository: Repository, account: Account, moves: list[Move]) -> None:
        """Tell everyone that refs moved, whoever moved them and how."""
        for follow in self.followers if moves else []:
            follow(repository, account, moves)

    def move(self, repository: Repository, account: Account, ref: str, new: str) -> None:
        """Set a ref, or delete it for NOWHERE, and tell everyone."""
        old = self.origin.value(repository.name, ref) or NOWHERE
        self.origin.git(repository.name, "update-ref", *(("-d", ref) if new == NOWHERE else (ref, new)))
        self.moved(repository, account, [Move(ref, old, new)])

    def address(self, repository: Repository, path: str) -> str:
        """The API's address of something in a repository."""
        return f"{self.api_url}/repos/{repository.name}/{path}"

    def page(self, repository: Repository, path: str) -> str:
        """The address that a browser opens for something in a repository."""
        return f"{self.server_url}/{repository.name}/{path}"

    def show_repository(self, repository: Repository, schema: str = "full-repository") -> dict[str, Any]:
        """The repository as the API shows it."""
        given = {
            "id": repository.id,
            "name": repository.name.partition("/")[2],
            "full_name": repository.name,
            "owner": {"login": repository.owner, "type": "Organization"},
            "default_branch": repository.default_branch,
            "fork": bool(repository.fork_of),
            "url": f"{self.api_url}/repos/{repository.name}",
            "html_url": f"{self.server_url}/{repository.name}",
            "clone_url": f"{self.server_url}/{repository.name}.git",
        }
        return self.spec.fill(schema, given)


def invalid(resource: str, wrong: str, message: str = "", *, code: str = "") -> Refusal:
    """GitHub's refusal of one field."""
    error = {"resource": resource, "field": wrong}
    error["code"] = code or ("unprocessable" if message else "invalid")
    return Refusal(422, "Validation Failed", error | ({"message": message} if message else {}))


def custom(resource: str, message: str) -> Refusal:
    """GitHub's refusal of a request as a whole."""
    return Refusal(422, "Validation Failed", {"resource": resource, "code": "custom", "message": message})


def require_write(account: Account) -> None:
    """Refuse whoever has no write access."""
    if not account.may_write:
        raise Refusal(403, "Must have admin rights to Repository.")


def now() -> str:
    """This second, as GitHub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
