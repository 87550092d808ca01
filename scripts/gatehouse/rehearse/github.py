"""A GitHub on this machine: the REST calls that Gatehouse makes, and git over HTTP beside them.

Every request and every reply is checked against GitHub's own OpenAPI description.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from gatehouse.rehearse import protection
from gatehouse.rehearse.front import OIDC, Front, new_token
from gatehouse.rehearse.oidc import subject
from gatehouse.rehearse.state import Account, Repository, Run, Settings, now

if TYPE_CHECKING:
    from pathlib import Path


class GitHub(Front):
    """The stand-in, serving while it is used as a context manager; these methods set and show the stage.

    What they do is nobody's request: it stands neither in `calls` nor in `effects`.
    """

    def create_repository(
        self, name: str, from_folder: Path | None = None, *, default_branch: str = "main", fork_of: str = ""
    ) -> None:
        """Repository OWNER/REPO: empty, or the branches and tags of `from_folder`, or its files."""
        with self._lock:
            self._origin.create(name, self._origin.path(fork_of) if fork_of else from_folder, default_branch)
            self._rest.add_repository(name, default_branch, fork_of)

    def clone_url(self, name: str, token: str = "") -> str:
        """The address to clone from, with a token in it where one is given."""
        address = f"{self.server_url}/{name}.git"
        return address.replace("://", f"://x-access-token:{token}@") if token else address

    def git(self, name: str, *args: str) -> str:
        """What git prints in the bare repository; for looking, and for moving refs behind the API's back."""
        return self._origin.git(name, *args)

    def settings(self, name: str) -> Settings:
        """What an administrator has set; change its fields to set it otherwise."""
        return self._rest.repositories[name].settings

    def forbid_pulls_by_actions(self, name: str) -> None:
        """Set what new repositories on GitHub have: a job's own token opens no pull requests."""
        self.settings(name).pulls_by_actions = False

    def protect(
        self, name: str, branch_pattern: str, require_pull: bool = True, *, ruleset: bool = False, **more: Any
    ) -> None:
        """Protect branches ("main", "release/*"), or what a pattern from "refs/" names ("refs/tags/v*").

        They are neither force-pushed nor deleted, and with `require_pull` changed by pull requests only, by
        git and the API alike. `ruleset` makes it speak as a ruleset does; `more` are other fields of Rule.
        """
        pattern = branch_pattern if branch_pattern.startswith("refs/") else f"refs/heads/{branch_pattern}"
        rule = protection.Rule(pattern, ruleset, require_pull, **more)
        protection.add(self._origin.path(name), rule, f"{self.server_url}/{name}")

    def open_pull(
        self, name: str, head: str, base: str, title: str = "A change", *, login: str = "dev"
    ) -> dict[str, Any]:
        """A new pull request as the API shows it; `head` is BRANCH, or OWNER:BRANCH for a fork."""
        with self._lock:
            wish = {"head": head, "base": base, "title": title}
            return self._rest.pulls.create(self._rest.repositories[name], self._person(login), wish)

    def pull(self, name: str, number: int) -> dict[str, Any]:
        """A pull request as the API shows it."""
        with self._lock:
            return self._rest.pulls.show(self._rest.repositories[name], number)

    def pulls(self, name: str) -> list[dict[str, Any]]:
        """Every pull request, open or not, oldest first, as the API shows them."""
        with self._lock:
            repository = self._rest.repositories[name]
            return [self._rest.pulls.show(repository, number) for number in repository.pulls]

    def merge_pull(self, name: str, number: int, method: str = "merge", *, login: str = "dev") -> str:
        """Merge as a person presses the button; the commit that the base is at then. Raises Refusal."""
        with self._lock:
            account = self._person(login, may_write=True)
            return self._rest.pulls.merge(self._rest.repositories[name], account, number, method)

    def label_pull(self, name: str, number: int, *labels: str) -> None:
        """Put labels on a pull request."""
        with self._lock:
            self._rest.comments.label(self._rest.repositories[name], number, list(labels))

    def comments(self, name: str, number: int) -> list[dict[str, Any]]:
        """Every comment of an issue or pull request, oldest first, as the API shows them."""
        with self._lock:
            return self._rest.comments.of(self._rest.repositories[name], number)

    def comment(self, name: str, number: int, body: str, *, login: str) -> dict[str, Any]:
        """A comment written by a person, as the API shows it."""
        with self._lock:
            repository, account = self._rest.repositories[name], self._person(login)
            return self._rest.comments.create(repository, account, number, body)

    @property
    def dispatches(self) -> list[dict[str, Any]]:
        """Every workflow dispatch, in order: repository, workflow, ref, sha, inputs, run_id, login."""
        return self._rest.actions.dispatches

    def add_run(
        self,
        name: str,
        workflow: str,
        head_sha: str,
        branch: str,
        event: str = "push",
        status: str = "completed",
        conclusion: str | None = "success",
    ) -> int:
        """The id of a run of the workflow file `workflow` that has come to be."""
        ended = conclusion if status == "completed" else None
        known = {"event": event, "head_branch": branch, "head_sha": head_sha}
        with self._lock:
            repository, account = self._rest.repositories[name], self._person("dev")
            run = self._rest.actions.add(
                repository, account, workflow, status=status, conclusion=ended, **known
            )
        return run.id

    def finish_run(self, run_id: int, conclusion: str = "success") -> None:
        """End a run that was queued or under way."""
        _, run = self._run(run_id)
        run.status, run.conclusion, run.updated_at = "completed", conclusion, now()

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Every run, oldest first, as the API shows them."""
        with self._lock:
            repository = self._rest.repositories[name]
            return [self._rest.actions.show(repository, run) for run in repository.runs.values()]

    def add_artifact(self, name: str, run_id: int, artifact_name: str, folder: Path) -> int:
        """The id of an artifact that holds the files of `folder`."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
        repository, run = self._run(run_id)
        with self._lock:
            made = self._rest.actions.add_artifact(repository, run, artifact_name, content.getvalue())
        return int(made["id"])

    def create_environment(
        self, name: str, environment: str, *, reviewers: tuple[str, ...] = (), branches: tuple[str, ...] = ()
    ) -> None:
        """An environment that one of the people `reviewers` has to approve, for refs by `branches` only."""
        with self._lock:
            made = self._rest.environments
            made.add(self._rest.repositories[name], environment, list(reviewers), list(branches))

    def await_approval(self, run_id: int, environment: str) -> None:
        """A job of the run has reached an environment; it waits where that has reviewers."""
        repository, run = self._run(run_id)
        known = repository.environments.get(environment)
        waits = known is not None and bool(known.reviewers)
        run.approvals[environment] = "waiting" if waits else "approved"
        run.status = "waiting" if waits else "in_progress"

    def approval(self, run_id: int, environment: str) -> str:
        """What became of it: "waiting", "approved" or "rejected"."""
        return self._run(run_id)[1].approvals[environment]

    def releases(self, name: str) -> list[dict[str, Any]]:
        """Every release, drafts too, oldest first, as the API shows them."""
        with self._lock:
            repository = self._rest.repositories[name]
            return [self._rest.releases.show(repository, one) for one in repository.releases.values()]

    def pull_request_event(self, name: str, number: int, action: str = "synchronize") -> dict[str, Any]:
        """The payload that starts a workflow on `pull_request`."""
        pull = self.pull(name, number)
        event = {"action": action, "number": number, "pull_request": pull, "repository": pull["base"]["repo"]}
        return event | {"sender": pull["user"]}

    def push_event(self, name: str, branch: str) -> dict[str, Any]:
        """The payload that starts a workflow on `push`; `branch` may be a tag as refs/tags/NAME."""
        ref = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
        with self._lock:
            after = self._origin.commit(name, ref) or ""
            before = self._origin.commit(name, f"{ref}~1") or "0" * 40
            repository = self._rest.show_repository(self._rest.repositories[name])
        event = {"ref": ref, "before": before, "after": after, "created": False}
        return event | {"deleted": False, "repository": repository, "sender": {"login": "dev"}}

    def dispatch_event(self, name: str, workflow: str, ref: str, inputs: dict[str, str]) -> dict[str, Any]:
        """The payload that starts a workflow on `workflow_dispatch`; `ref` is whole, refs/heads/NAME."""
        with self._lock:
            repository = self._rest.show_repository(self._rest.repositories[name])
        event = {"ref": ref, "inputs": inputs, "workflow": f".github/workflows/{workflow}"}
        return event | {"repository": repository, "sender": {"login": "dev"}}

    def oidc_environment(
        self, repository: str, ref: str, workflow: str, environment: str = "", **claims: str
    ) -> dict[str, str]:
        """The variables by which a job with `id-token: write` asks for its identity token.

        `ref` is whole (refs/tags/v1.0.0), `workflow` a file name. `claims` come over what they say, such as
        job_workflow_ref for a job of a called workflow.
        """
        place = f"{repository}/.github/workflows/{workflow}@{ref}"
        event = claims.get("event_name", "push")
        sha = self._origin.commit(repository, ref) or ""
        token = new_token("oidc")
        self._claims[token] = {
            "sub": subject(repository, ref, environment, event),
            "repository": repository,
            "repository_id": str(self._rest.repositories[repository].id),
            "repository_owner": repository.partition("/")[0],
            "repository_owner_id": "9000",
            "repository_visibility": "public",
            "ref": ref,
            "ref_type": "tag" if ref.startswith("refs/tags/") else "branch",
            "sha": sha,
            "workflow": workflow,
            "workflow_ref": place,
            "workflow_sha": sha,
            "job_workflow_ref": place,
            "job_workflow_sha": sha,
            "event_name": event,
            "run_id": "4242",
            "run_number": "1",
            "run_attempt": "1",
            "actor": "dev",
            "actor_id": "1002",
            "runner_environment": "github-hosted",
            **({"environment": environment} if environment else {}),
            **claims,
        }
        address = f"{self.server_url}{OIDC}?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": token}

    def verify_id_token(self, token: str) -> dict[str, Any]:
        """The claims of a token that this stand-in signed; raises IdTokenError.

        The audience is for the caller to compare.
        """
        return self._issuer.verify(token)

    def _person(self, login: str, *, may_write: bool = False) -> Account:
        return self._accounts[self.token_of(login, may_write=may_write)]

    def _run(self, run_id: int) -> tuple[Repository, Run]:
        for repository in self._rest.repositories.values():
            if run_id in repository.runs:
                return repository, repository.runs[run_id]
        raise KeyError(run_id)
