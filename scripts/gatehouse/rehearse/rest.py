"""What GitHub's REST API answers: each request goes to the part that knows its subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.rest_actions import Actions
from gatehouse.rehearse.rest_comments import LABELS, Comments
from gatehouse.rehearse.rest_environments import Environments
from gatehouse.rehearse.rest_pulls import Pulls
from gatehouse.rehearse.rest_refs import Refs
from gatehouse.rehearse.rest_releases import Releases
from gatehouse.rehearse.state import Account, Answer, Refusal, Repository, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.origin import Origin
    from gatehouse.rehearse.spec import Call, Spec


class Rest:
    """The API; `answer` is the one way in for a request, the parts serve whoever sets the stage."""

    def __init__(self, spec: Spec, origin: Origin, server_url: str, api_url: str, storage_url: str) -> None:
        self.world = World(spec, origin, server_url, api_url)
        self.comments = Comments(self.world)
        self.pulls = Pulls(self.world, self.comments)
        self.refs = Refs(self.world)
        self.actions = Actions(self.world, storage_url)
        self.environments = Environments(self.world)
        self.releases = Releases(self.world, storage_url)
        self._operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "repos/get": lambda repository, *_: Answer(200, self.show_repository(repository)),
            **self.comments.operations,
            **self.pulls.operations,
            **self.refs.operations,
            **self.actions.operations,
            **self.environments.operations,
            **self.releases.operations,
        }

    @property
    def repositories(self) -> dict[str, Repository]:
        """Every repository by its name, OWNER/REPO."""
        return self.world.repositories

    def answer(self, call: Call, account: Account) -> Answer:
        """What a request is answered; raises Refusal."""
        repository = self.repositories.get(f"{call.path['owner']}/{call.path['repo']}")
        if repository is None:
            raise Refusal(404, "Not Found")
        writes = call.operation.method != "GET"
        if writes and account.access == "read" and account.type == "Bot":
            raise Refusal(403, "Resource not accessible by integration")
        return self._operations[call.operation.id](repository, account, call)

    def add_repository(self, name: str, default_branch: str, fork_of: str) -> None:
        """Remember a repository whose git side exists."""
        repository = Repository(700 + len(self.repositories), name, default_branch, fork_of)
        repository.labels = {label: self.world.new_id() for label in LABELS}
        self.repositories[name] = repository

    def show_repository(self, repository: Repository) -> dict[str, Any]:
        """The repository as the API shows it."""
        return self.world.show_repository(repository)

    def refresh_pulls(self, pushed: str) -> None:
        """Follow refs that were moved behind the API's back."""
        self.pulls.refresh(pushed, [])

    def stored(self, path: str) -> bytes | None:
        """What a plain download gives: artifacts and assets on the storage server, assets by their page."""
        match path.strip("/").split("/"):
            case ["artifacts", owner, repo, number] if number.isdecimal():
                kept = self._repository(owner, repo).artifacts.get(int(number))
                return kept.content if kept else None
            case ["assets", owner, repo, number] if number.isdecimal():
                return self.releases.content(self._repository(owner, repo), int(number))
            case [owner, repo, "releases", "download", tag, name]:
                return self.releases.content_by_name(self._repository(owner, repo), tag, name)
        return None

    def _repository(self, owner: str, repo: str) -> Repository:
        return self.repositories.get(f"{owner}/{repo}") or Repository(0, "", "", "")
