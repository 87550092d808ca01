"""Environments, and the approval that a reviewer gives or refuses a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.state import (
    Account,
    Answer,
    Environment,
    Listing,
    Refusal,
    Repository,
    Run,
    World,
    now,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.spec import Call


class Environments:
    """The API's part for environments."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "repos/get-all-environments": self._list,
            "repos/get-environment": self._get,
        }

    def add(self, repository: Repository, name: str, reviewers: list[str], branches: list[str]) -> None:
        """Make an environment, or make it anew."""
        made = Environment(self._world.new_id(), name, tuple(reviewers), tuple(branches), now())
        repository.environments[name] = made

    def _list(self, repository: Repository, account: Account, call: Call) -> Answer:
        every = repository.environments.values()
        return Answer(200, Listing("environments", [self._show(repository, one) for one in every]))

    def _get(self, repository: Repository, account: Account, call: Call) -> Answer:
        environment = repository.environments.get(call.path["environment_name"])
        if environment is None:
            raise Refusal(404, "Not Found")
        return Answer(200, self._show(repository, environment))

    def _show(self, repository: Repository, environment: Environment) -> dict[str, Any]:
        rules: list[dict[str, Any]] = []
        if environment.reviewers:
            people = [{"type": "User", "reviewer": person(self._world, n)} for n in environment.reviewers]
            rule = {"id": environment.id + 1, "node_id": "", "type": "required_reviewers"}
            rules.append(rule | {"prevent_self_review": False, "reviewers": people})
        if environment.branches:
            rules.append({"id": environment.id + 2, "node_id": "", "type": "branch_policy"})
        policy = {"protected_branches": False, "custom_branch_policies": True}
        given = {
            "id": environment.id,
            "name": environment.name,
            "url": self._world.address(repository, f"environments/{environment.name}"),
            "html_url": self._world.page(
                repository, f"deployments/activity_log?environment={environment.name}"
            ),
            "created_at": environment.created_at,
            "updated_at": environment.created_at,
            "protection_rules": rules,
        }
        # The description cannot say "null or an object" to `fill`, which would make one of null.
        filled = self._world.spec.fill("environment", given)
        return filled | {"deployment_branch_policy": policy if environment.branches else None}


def person(world: World, login: str) -> dict[str, Any]:
    """A user as the API shows one."""
    return world.spec.fill("simple-user", {"login": login, "id": 1, "type": "User"})


def approval_state(world: World, repository: Repository, account: Account, name: str) -> dict[str, Any]:
    """What the API shows of a run that waits for an environment."""
    environment = repository.environments[name]
    reviewers = [{"type": "User", "reviewer": person(world, login)} for login in environment.reviewers]
    given = {
        "environment": {"id": environment.id, "name": name, "node_id": "", "url": "", "html_url": ""},
        "wait_timer": 0,
        "wait_timer_started_at": None,
        "current_user_can_approve": account.login in environment.reviewers,
        "reviewers": reviewers,
    }
    return world.spec.fill("pending-deployment", given)


def reviewed(
    world: World, repository: Repository, account: Account, run: Run, wish: dict[str, Any]
) -> list[dict[str, Any]]:
    """Approve or reject a run for environments; the deployments as the API shows them. Raises Refusal."""
    by_id = {one.id: one for one in repository.environments.values()}
    chosen = [by_id[number] for number in wish["environment_ids"] if number in by_id]
    waiting = [one for one in chosen if run.approvals.get(one.name) == "waiting"]
    if not waiting or len(waiting) < len(wish["environment_ids"]):
        raise Refusal(422, "No pending deployment requests to approve or reject")
    if any(account.login not in one.reviewers for one in waiting):
        raise Refusal(422, "There was a problem approving one of the gates due to insufficient permissions.")
    shown = []
    for one in waiting:
        run.approvals[one.name] = wish["state"]
        given = {"id": world.new_id(), "sha": run.head_sha, "ref": run.head_branch, "environment": one.name}
        more = {"task": "deploy", "creator": account.show(), "payload": {}, "description": wish["comment"]}
        shown.append(world.spec.fill("deployment", given | more))
    return shown
