"""Pull requests: opened, followed, merged by commit, squash or rebase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.rehearse import protection
from gatehouse.rehearse.rest_comments import Comments, combined, pull_of
from gatehouse.rehearse.state import (
    NOWHERE,
    Account,
    Answer,
    Move,
    Pull,
    Refusal,
    Repository,
    World,
    custom,
    invalid,
    now,
    require_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.spec import Call

MAX_BODY = 65_536
"""Characters of a pull request's body; GitHub refuses a longer one."""

FORBIDDEN = "GitHub Actions is not permitted to create or approve pull requests."


class Pulls:
    """The API's part for pull requests."""

    def __init__(self, world: World, comments: Comments) -> None:
        self._world, self._comments = world, comments
        world.followers.append(lambda repository, _, moves: self.refresh(repository.name, moves))
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "pulls/list": self._list,
            "pulls/create": lambda r, a, call: Answer(201, self.create(r, a, call.body)),
            "pulls/get": lambda r, _, call: Answer(200, self.show(r, call.path["pull_number"])),
            "pulls/update": self._update,
            "pulls/merge": self._merge,
            "repos/list-pull-requests-associated-with-commit": self._list_of_commit,
        }

    def create(self, repository: Repository, account: Account, wish: dict[str, Any]) -> dict[str, Any]:
        """Open a pull request from a request's body; raises Refusal where GitHub would."""
        owner, _, branch = wish["head"].rpartition(":")
        head_repository = self._head_repository(repository, owner)
        commit = self._world.origin.commit
        base = commit(repository.name, f"refs/heads/{wish['base']}")
        if account.is_job and not repository.settings.pulls_by_actions:
            raise Refusal(403, FORBIDDEN)
        if base is None:
            raise invalid("PullRequest", "base")
        head = commit(head_repository, f"refs/heads/{branch}") if head_repository else None
        if head_repository is None or head is None:
            raise invalid("PullRequest", "head")
        _check_body(wish.get("body"))
        for other in repository.pulls.values():
            wanted = ("open", wish["base"], branch, head_repository)
            if (other.state, other.base, other.head, other.head_repository) == wanted:
                shown = f"{head_repository.partition('/')[0]}:{branch}"
                raise custom("PullRequest", f"A pull request already exists for {shown}.")
        if self._world.origin.is_ancestor(repository.name, head, base):
            raise custom("PullRequest", f"No commits between {wish['base']} and {wish['head']}")
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
        self._refresh(repository, pull, {})
        return self.show(repository, number)

    def refresh(self, pushed: str, moves: list[Move]) -> None:
        """Follow moved refs: every open pull request into or out of that repository gets its refs anew."""
        moved = {move.ref: move for move in moves}
        for repository in self._world.repositories.values():
            for pull in repository.pulls.values():
                if pull.state == "open" and pushed in (repository.name, pull.head_repository):
                    self._refresh(repository, pull, moved if pushed == pull.head_repository else {})

    def show(self, repository: Repository, number: int, schema: str = "pull-request") -> dict[str, Any]:
        """The pull request as the API shows it; raises Refusal (404)."""
        pull = pull_of(repository, number)
        given = {
            "id": repository.id * 1000 + number,
            "number": number,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "draft": pull.draft,
            "user": pull.author.show(),
            "labels": [self._comments.show_label(repository, name) for name in pull.labels],
            "created_at": pull.created_at,
            "updated_at": pull.updated_at,
            "closed_at": pull.closed_at,
            "merged_at": pull.merged_at,
            "url": self._world.address(repository, f"pulls/{number}"),
            "html_url": self._world.page(repository, f"pull/{number}"),
            "merge_commit_sha": pull.merge_sha,
            "base": self._side(repository, pull.base, pull.base_sha),
            "head": self._side(self._world.repositories[pull.head_repository], pull.head, pull.head_sha),
        }
        if schema == "pull-request":
            clean = pull.merge_sha is not None and not pull.merged_at
            given["merged"] = pull.merged_at is not None
            given["merged_by"] = pull.merged_by and pull.merged_by.show()
            given["mergeable"] = None if pull.merged_at else clean
            given["mergeable_state"] = "unknown" if pull.merged_at else "clean" if clean else "dirty"
            given["comments"] = sum(comment.number == number for comment in repository.comments.values())
        return self._world.spec.fill(schema, given)

    def merge(
        self,
        repository: Repository,
        account: Account,
        number: int,
        method: str,
        *,
        title: str = "",
        text: str = "",
    ) -> str:
        """Merge by "merge", "squash" or "rebase"; the commit that the base is at then. Raises Refusal."""
        pull, origin = pull_of(repository, number), self._world.origin
        self._check_mergeable(repository, account, pull, method)
        signature = f"{account.login} <{account.id}+{account.login}@users.noreply.github.com>"
        if method == "rebase":
            commit = origin.rebase(repository.name, pull.base_sha, pull.head_sha)
            if commit is None:
                raise Refusal(405, "This branch can't be rebased")
        else:
            owner = pull.head_repository.partition("/")[0]
            if method == "merge":
                title = title or f"Merge pull request #{number} from {owner}/{pull.head}"
                text, parents = text or pull.title, [pull.base_sha, pull.head_sha]
            else:
                title, parents = title or f"{pull.title} (#{number})", [pull.base_sha]
            message = f"{title}\n\n{text}".strip()
            tree = f"{pull.merge_sha}^{{tree}}"
            commit = origin.commit_tree(repository.name, tree, parents, message, signature)
        self._close(pull, commit, account)
        self._world.move(repository, account, f"refs/heads/{pull.base}", commit)
        if repository.settings.delete_merged_branches and pull.head_repository == repository.name:
            self._world.move(repository, account, f"refs/heads/{pull.head}", NOWHERE)
        return commit

    def _check_mergeable(self, repository: Repository, account: Account, pull: Pull, method: str) -> None:
        require_write(account)
        if pull.state != "open" or pull.draft or pull.merge_sha is None:
            raise Refusal(405, "Pull Request is not mergeable")
        if method not in repository.settings.merge_methods:
            named = {"merge": "Merge commits", "squash": "Squash merges", "rebase": "Rebase merges"}[method]
            raise Refusal(405, f"{named} are not allowed on this repository.")
        states = {s["context"]: s["state"] for s in reversed(repository.statuses.get(pull.head_sha, []))}
        for rule in protection.read(self._world.origin.path(repository.name)):
            if (
                not protection.matches(rule.pattern, f"refs/heads/{pull.base}")
                or account.login in rule.bypass
            ):
                continue
            if rule.approvals:
                wanted = (
                    "1 approving review is"
                    if rule.approvals == 1
                    else f"{rule.approvals} approving reviews are"
                )
                raise Refusal(405, f"At least {wanted} required by reviewers with write access.")
            for check in rule.checks:
                if combined([states.get(check, "pending")]) != "success":
                    raise Refusal(405, f'Required status check "{check}" is expected.')

    def _close(self, pull: Pull, commit: str, account: Account | None) -> None:
        """Mark a pull request as merged by `commit`."""
        pull.state, pull.merge_sha, pull.merged_by = "closed", commit, account
        pull.merged_at = pull.closed_at = pull.updated_at = now()

    def _refresh(self, repository: Repository, pull: Pull, moved: dict[str, Move]) -> None:
        origin = self._world.origin
        base = origin.commit(repository.name, f"refs/heads/{pull.base}") or pull.base_sha
        head = (
            origin.take_head(repository.name, pull.number, pull.head_repository, pull.head) or pull.head_sha
        )
        if (base, head) != (pull.base_sha, pull.head_sha):
            pull.base_sha, pull.head_sha, pull.updated_at = base, head, now()
            if origin.is_ancestor(repository.name, head, base):
                # As on GitHub: what has reached its base by a push counts as merged.
                return self._close(pull, base, None)
            pull.merge_sha = origin.take_merge(repository.name, pull.number, base, head)
        gone = moved.get(f"refs/heads/{pull.head}")
        if gone and gone.new == NOWHERE:
            pull.state, pull.closed_at = "closed", now()
        return None

    def _head_repository(self, repository: Repository, owner: str) -> str | None:
        if owner in ("", repository.owner):
            return repository.name
        every = self._world.repositories.values()
        forks = [r.name for r in every if (r.owner, r.fork_of) == (owner, repository.name)]
        return forks[0] if forks else None

    def _side(self, repository: Repository, branch: str, sha: str) -> dict[str, Any]:
        shown = self._world.show_repository(repository, "repository")
        label = f"{repository.owner}:{branch}"
        return {"label": label, "ref": branch, "sha": sha, "repo": shown, "user": shown["owner"]}

    def _list(self, repository: Repository, account: Account, call: Call) -> Answer:
        query = call.query
        if query.get("sort", "created") not in ("created", "updated"):
            raise Refusal(501, "The stand-in sorts pull requests by their creation or their last change only")
        state, head, base = query.get("state", "open"), query.get("head"), query.get("base")
        found = [
            pull
            for pull in repository.pulls.values()
            if state in ("all", pull.state)
            and base in (None, pull.base)
            and head in (None, f"{pull.head_repository.partition('/')[0]}:{pull.head}")
        ]
        by_change = query.get("sort") == "updated"
        descends = query.get("direction", "desc") == "desc"
        found.sort(key=lambda pull: (pull.updated_at if by_change else "", pull.number), reverse=descends)
        return Answer(200, [self.show(repository, pull.number, "pull-request-simple") for pull in found])

    def _list_of_commit(self, repository: Repository, account: Account, call: Call) -> Answer:
        origin, name = self._world.origin, repository.name
        sha = origin.commit(name, call.path["commit_sha"])
        if sha is None:
            raise Refusal(422, f"No commit found for SHA: {call.path['commit_sha']}")
        found = []
        for pull in repository.pulls.values():
            # GitHub knows nothing of the commits of forks here.
            own = pull.head_repository == name and (pull.state == "open" or pull.merged_at)
            theirs = own and origin.is_ancestor(name, sha, pull.head_sha)
            new = theirs and not origin.is_ancestor(name, sha, pull.base_sha)
            if (pull.merged_at and sha == pull.merge_sha) or new:
                found.append(self.show(repository, pull.number, "pull-request-simple"))
        return Answer(200, found)

    def _update(self, repository: Repository, account: Account, call: Call) -> Answer:
        pull = pull_of(repository, call.path["pull_number"])
        if not account.may_write and account.login != pull.author.login:
            raise Refusal(403, "Must have admin rights to Repository.")
        _check_body(call.body.get("body"))
        state = call.body.get("state", pull.state)
        if state != pull.state:
            lost = self._world.origin.commit(pull.head_repository, f"refs/heads/{pull.head}") is None
            if state == "open" and (pull.merged_at or lost):
                why = "The pull request cannot be reopened."
                raise invalid("PullRequest", "state", f"state cannot be changed. {why}")
            pull.closed_at = now() if state == "closed" else None
        for key in ("title", "body", "state", "base"):
            if key in call.body:
                setattr(pull, key, call.body[key])
        pull.updated_at = now()
        if pull.state == "open":
            self._refresh(repository, pull, {})
        return Answer(200, self.show(repository, pull.number))

    def _merge(self, repository: Repository, account: Account, call: Call) -> Answer:
        pull = pull_of(repository, call.path["pull_number"])
        if call.body.get("sha", pull.head_sha) != pull.head_sha:
            raise Refusal(409, "Head branch was modified. Review and try the merge again.")
        method = call.body.get("merge_method", "merge")
        title, text = call.body.get("commit_title", ""), call.body.get("commit_message", "")
        sha = self.merge(repository, account, pull.number, method, title=title, text=text)
        return Answer(200, {"merged": True, "message": "Pull Request successfully merged", "sha": sha})


def _check_body(body: str | None) -> None:
    """Refuse a body as GitHub does: too long."""
    if body and len(body) > MAX_BODY:
        raise invalid("PullRequest", "body", f"Body is too long (maximum is {MAX_BODY} characters)")
