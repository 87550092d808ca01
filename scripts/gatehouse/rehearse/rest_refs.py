"""Refs, commits and branches by the API, under the same protection as a push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse import protection
from gatehouse.rehearse.state import (
    NOWHERE,
    Account,
    Answer,
    Refusal,
    Repository,
    World,
    require_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.protection import Rule
    from gatehouse.rehearse.spec import Call


class Refs:
    """The API's part for refs, branches and their protection."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "git/get-commit": self._get_commit,
            "git/get-ref": self._get,
            "git/list-matching-refs": self._list_matching,
            "git/create-ref": self._create,
            "git/update-ref": self._update,
            "git/delete-ref": self._delete,
            "repos/list-branches": self._list_branches,
            "repos/get-branch": self._get_branch,
            "repos/get-branch-protection": self._get_protection,
        }

    def _get_commit(self, repository: Repository, account: Account, call: Call) -> Answer:
        sha, name = call.path["commit_sha"], repository.name
        if self._world.origin.commit(name, sha) != sha:  # a branch's name, or a tag's own hash, is none
            raise Refusal(404, "Not Found")
        shown = self._world.origin.git(name, "log", "-1", "--no-show-signature", "--format=%T %P%n%B", sha)
        first, _, message = shown.partition("\n")
        tree, *parents = first.split()

        def links(of: str) -> dict[str, str]:
            address, page = f"git/commits/{of}", f"commit/{of}"
            where = self._world.address(repository, address), self._world.page(repository, page)
            return {"sha": of, "url": where[0], "html_url": where[1]}

        given = links(sha) | {
            "message": message,
            "tree": {"sha": tree, "url": self._world.address(repository, f"git/trees/{tree}")},
            "parents": [links(parent) for parent in parents],
        }
        return Answer(200, self._world.spec.fill("git-commit", given))

    def _get(self, repository: Repository, account: Account, call: Call) -> Answer:
        ref = f"refs/{call.path['ref']}"
        value = self._world.origin.value(repository.name, ref)
        if value is None:
            raise Refusal(404, "Not Found")
        return Answer(200, self._show(repository, ref, value))

    def _list_matching(self, repository: Repository, account: Account, call: Call) -> Answer:
        wanted = f"refs/{call.path['ref']}"
        refs = self._world.origin.refs(repository.name, "refs")
        return Answer(200, [self._show(repository, r, v) for r, v in refs.items() if r.startswith(wanted)])

    def _create(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        ref, sha = call.body["ref"], call.body["sha"]
        origin, name = self._world.origin, repository.name
        if not well_formed(ref):
            raise Refusal(422, "Reference name is not valid")
        if origin.value(name, ref):
            raise Refusal(422, "Reference already exists")
        if self._object(repository, sha) != sha:
            raise Refusal(422, "Object does not exist")
        self._set(repository, account, ref, sha)
        return Answer(201, self._show(repository, ref, sha))

    def _update(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        ref, sha = f"refs/{call.path['ref']}", call.body["sha"]
        old = self._world.origin.value(repository.name, ref)
        if old is None:
            raise Refusal(422, "Reference does not exist")
        if self._object(repository, sha) != sha:
            raise Refusal(422, "Object does not exist")
        forced = not self._world.origin.is_ancestor(repository.name, old, sha)
        if forced and not call.body.get("force", False):
            raise Refusal(422, "Update is not a fast forward")
        self._judge(repository, account, ref, old, sha, forced=forced)
        self._set(repository, account, ref, sha)
        return Answer(200, self._show(repository, ref, sha))

    def _delete(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        ref = f"refs/{call.path['ref']}"
        old = self._world.origin.value(repository.name, ref)
        if old is None:
            raise Refusal(422, "Reference does not exist")
        if ref == f"refs/heads/{repository.default_branch}":
            raise Refusal(422, "Cannot delete the default branch")
        self._judge(repository, account, ref, old, NOWHERE, forced=False)
        self._set(repository, account, ref, NOWHERE)
        return Answer(204)

    def _judge(
        self, repository: Repository, account: Account, ref: str, old: str, new: str, *, forced: bool
    ) -> None:
        """Refuse what the repository's rules do not allow."""
        for rule in self._rules(repository):
            if reason := rule.refuses(account.login, ref, old, new, forced=forced):
                whole = f"Repository rule violations found\n\n{reason}\n\n" if rule.ruleset else reason
                raise Refusal(422, whole)

    def _set(self, repository: Repository, account: Account, ref: str, value: str) -> None:
        try:
            self._world.move(repository, account, ref, value)
        except InfrastructureError as e:  # `release` exists, so `release/v1` cannot
            raise Refusal(422, "Reference update failed") from e

    def _object(self, repository: Repository, sha: str) -> str | None:
        try:
            self._world.origin.git(repository.name, "cat-file", "-e", sha)
        except InfrastructureError:
            return None
        return sha

    def _show(self, repository: Repository, ref: str, value: str) -> dict[str, Any]:
        kind = self._world.origin.git(repository.name, "cat-file", "-t", value)
        places = {"commit": "commits", "tag": "tags", "tree": "trees", "blob": "blobs"}
        given = {
            "ref": ref,
            "url": self._world.address(repository, f"git/{ref}"),
            "object": {
                "type": kind,
                "sha": value,
                "url": self._world.address(repository, f"git/{places[kind]}/{value}"),
            },
        }
        return self._world.spec.fill("git-ref", given)

    def _rules(self, repository: Repository) -> list[Rule]:
        return protection.read(self._world.origin.path(repository.name))

    def _rules_of(self, repository: Repository, branch: str) -> list[Rule]:
        every = self._rules(repository)
        return [rule for rule in every if protection.matches(rule.pattern, f"refs/heads/{branch}")]

    def _list_branches(self, repository: Repository, account: Account, call: Call) -> Answer:
        refs = self._world.origin.refs(repository.name, "refs/heads")
        shown = []
        for ref, sha in refs.items():
            name = ref.removeprefix("refs/heads/")
            protected = bool(self._rules_of(repository, name))
            if call.query.get("protected", protected) == protected:
                url = self._world.address(repository, f"commits/{sha}")
                shown.append({"name": name, "commit": {"sha": sha, "url": url}, "protected": protected})
        return Answer(200, shown)

    def _get_branch(self, repository: Repository, account: Account, call: Call) -> Answer:
        branch = call.path["branch"]
        sha = self._world.origin.value(repository.name, f"refs/heads/{branch}")
        if sha is None:
            raise Refusal(404, "Branch not found")
        rules = self._rules_of(repository, branch)
        address = self._world.address(repository, f"branches/{branch}")
        commit = {"sha": sha, "url": self._world.address(repository, f"commits/{sha}")}
        tree = self._world.origin.git(repository.name, "rev-parse", f"{sha}^{{tree}}")
        given = {
            "name": branch,
            "commit": commit
            | {"commit": {"tree": {"sha": tree}, "comment_count": 0}}
            | {"html_url": self._world.page(repository, f"commit/{sha}")},
            "protected": bool(rules),
            "protection": {"enabled": any(not rule.ruleset for rule in rules)},
            "protection_url": f"{address}/protection",
            "_links": {"html": self._world.page(repository, f"tree/{branch}"), "self": address},
        }
        return Answer(200, self._world.spec.fill("branch-with-protection", given))

    def _get_protection(self, repository: Repository, account: Account, call: Call) -> Answer:
        if account.access != "admin":  # no permission of a job's token covers it
            kind = "Resource not accessible by integration"
            raise Refusal(403, kind if account.type == "Bot" else "Must have admin rights to Repository.")
        rules = [r for r in self._rules_of(repository, call.path["branch"]) if not r.ruleset]
        if not rules:
            raise Refusal(404, "Branch not protected")
        shown: dict[str, Any] = {
            "allow_force_pushes": {"enabled": any(rule.allow_force for rule in rules)},
            "allow_deletions": {"enabled": any(rule.allow_delete for rule in rules)},
        }
        if any(rule.require_pull for rule in rules):
            shown["required_pull_request_reviews"] = {
                "dismiss_stale_reviews": False,
                "require_code_owner_reviews": False,
                "required_approving_review_count": max(rule.approvals for rule in rules),
            }
        return Answer(200, self._world.spec.fill("branch-protection", shown))


def well_formed(ref: str) -> bool:
    """Whether git would take a ref of this name, at least two levels below `refs`."""
    parts = ref.split("/")
    bad = ("..", "//", "@{", "\\", " ", "~", "^", ":", "?", "*", "[")
    return (
        ref.startswith("refs/")
        and len(parts) > 2  # noqa: PLR2004 refs, kind, name
        and not any(mark in ref for mark in bad)
        and not ref.endswith(("/", "."))
        and not any(part.startswith(".") or part.endswith(".lock") for part in parts)
        and ref.isprintable()
    )
