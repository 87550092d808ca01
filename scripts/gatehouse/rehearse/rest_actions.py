"""Workflow runs, started by a dispatch or a push as on GitHub and then left queued; their artifacts."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.rest_environments import approval_state, reviewed
from gatehouse.rehearse.state import (
    NOWHERE,
    Account,
    Answer,
    Artifact,
    Listing,
    Move,
    Refusal,
    Repository,
    Run,
    World,
    now,
    require_write,
)
from gatehouse.rehearse.workflows import Workflow, load, starts_on_push

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.spec import Call

FOLDER = ".github/workflows/"
MAX_TAGS = 3
"""Tags pushed at once that still start workflows: for more, GitHub makes no events at all."""

MAX_FOUND = 1000
"""Runs that a search with filters leads to at most."""

STATUSES = {"completed", "in_progress", "queued", "requested", "waiting", "pending"}


class Actions:
    """The API's part for workflows, runs and artifacts; `dispatches` holds what was asked for, in order."""

    def __init__(self, world: World, storage_url: str) -> None:
        self._world, self._storage_url = world, storage_url
        self.dispatches: list[dict[str, Any]] = []
        world.followers.append(self._follow)
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "actions/get-workflow": self._get_workflow,
            "actions/create-workflow-dispatch": self._dispatch,
            "actions/list-workflow-runs": self._list,
            "actions/list-workflow-runs-for-repo": self._list,
            "actions/get-workflow-run": self._get_run,
            "actions/list-workflow-run-artifacts": self._list_artifacts,
            "actions/download-artifact": self._download,
            "actions/get-pending-deployments-for-run": self._pending,
            "actions/review-pending-deployments-for-run": self._review,
        }

    def add(self, repository: Repository, account: Account, file: str, **known: Any) -> Run:
        """A run of the workflow FILE; `known` are fields of Run."""
        text = self._world.origin.file(repository.name, known["head_sha"], FOLDER + file)
        workflow = load(text)
        number = 1 + sum(run.workflow == file for run in repository.runs.values())
        run = Run(
            self._world.new_id(),
            file,
            (workflow and workflow.name) or FOLDER + file,
            number,
            actor=account,
            created_at=now(),
            updated_at=now(),
            **known,
        )
        repository.runs[run.id] = run
        return run

    def add_artifact(self, repository: Repository, run: Run, name: str, content: bytes) -> dict[str, Any]:
        """Keep a zip as an artifact of a run; what the API shows of it."""
        artifact = Artifact(self._world.new_id(), run.id, name, content, now())
        repository.artifacts[artifact.id] = artifact
        return self._show_artifact(repository, artifact)

    def show(self, repository: Repository, run: Run) -> dict[str, Any]:
        """A run as the API shows it."""
        address = self._world.address(repository, f"actions/runs/{run.id}")
        workflow = self._world.address(repository, f"actions/workflows/{self._id(repository, run.workflow)}")
        places = ("jobs", "logs", "cancel", "rerun", "artifacts")
        small = self._world.show_repository(repository, "minimal-repository")
        given = {
            "id": run.id,
            "name": run.name,
            "path": FOLDER + run.workflow,
            "workflow_id": self._id(repository, run.workflow),
            "workflow_url": workflow,
            "run_number": run.number,
            "run_attempt": 1,
            "display_title": run.name,
            "event": run.event,
            "status": run.status,
            "conclusion": run.conclusion,
            "head_branch": run.head_branch,
            "head_sha": run.head_sha,
            "created_at": run.created_at,
            "updated_at": run.updated_at,
            "run_started_at": run.created_at,
            "actor": run.actor.show(),
            "triggering_actor": run.actor.show(),
            "url": address,
            "html_url": self._world.page(repository, f"actions/runs/{run.id}"),
            "repository": small,
            "head_repository": small,
            "pull_requests": [],
            "head_commit": None,
        }
        return self._world.spec.fill("workflow-run", given | {f"{p}_url": f"{address}/{p}" for p in places})

    def _follow(self, repository: Repository, account: Account, moves: list[Move]) -> None:
        """Start what a push starts: nothing for a job's own token."""
        tags = [move for move in moves if move.ref.startswith("refs/tags/") and move.new != NOWHERE]
        if account.is_job:
            return
        for move in moves:
            if move.new == NOWHERE or (move in tags and len(tags) > MAX_TAGS):
                continue
            commit = self._world.origin.commit(repository.name, move.ref)
            if commit is None or not move.ref.startswith(("refs/heads/", "refs/tags/")):
                continue
            for file, workflow in self._workflows(repository, commit):
                if starts_on_push(workflow, move.ref, partial(self._changed, repository, move)):
                    short = move.ref.split("/", 2)[2]
                    self.add(repository, account, file, event="push", head_branch=short, head_sha=commit)

    def _workflows(self, repository: Repository, commit: str) -> list[tuple[str, Workflow]]:
        origin, name = self._world.origin, repository.name
        paths = origin.git(name, "ls-tree", "--name-only", "-z", commit, "--", FOLDER).split("\0")
        files = [path for path in paths if path.endswith((".yml", ".yaml"))]
        loaded = [(path.removeprefix(FOLDER), load(origin.file(name, commit, path))) for path in files]
        return [(file, workflow) for file, workflow in loaded if workflow]

    def _changed(self, repository: Repository, move: Move) -> list[str]:
        """The files that a push changed; all of them for a new branch."""
        git, name = self._world.origin.git, repository.name
        if move.old == NOWHERE:
            return git(name, "ls-tree", "-r", "--name-only", "-z", move.new).split("\0")
        return git(name, "diff", "--name-only", "-z", move.old, move.new).split("\0")

    def _id(self, repository: Repository, file: str) -> int:
        return repository.workflows.setdefault(file, repository.id * 1000 + len(repository.workflows))

    def _file(self, repository: Repository, call: Call) -> str:
        """The file of the workflow that a request names, by file or id; raises Refusal (404).

        GitHub knows a workflow once its file is on the default branch, or once it has run.
        """
        wanted = str(call.path["workflow_id"])
        head = f"refs/heads/{repository.default_branch}"
        commit = self._world.origin.commit(repository.name, head)
        known = {file for file, _ in self._workflows(repository, commit)} if commit else set()
        for file in sorted(known | {run.workflow for run in repository.runs.values()}):
            if wanted in (file, str(self._id(repository, file))):
                return file
        raise Refusal(404, "Not Found")

    def _get_workflow(self, repository: Repository, account: Account, call: Call) -> Answer:
        file = self._file(repository, call)
        given = {
            "id": self._id(repository, file),
            "name": FOLDER + file,
            "path": FOLDER + file,
            "state": "active",
            "url": self._world.address(repository, f"actions/workflows/{self._id(repository, file)}"),
            "html_url": self._world.page(repository, f"blob/{repository.default_branch}/{FOLDER}{file}"),
        }
        return Answer(200, self._world.spec.fill("workflow", given))

    def _dispatch(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        file, wish = self._file(repository, call), call.body
        origin, name = self._world.origin, repository.name
        kinds = ("refs/heads/", "refs/tags/") if not wish["ref"].startswith("refs/") else ("",)
        ref = next((k + wish["ref"] for k in kinds if origin.value(name, k + wish["ref"])), None)
        commit = origin.commit(name, ref) if ref else None
        if ref is None or commit is None:
            raise Refusal(422, f"No ref found for: {wish['ref']}")
        workflow = load(origin.file(name, commit, FOLDER + file))
        if workflow is None or "workflow_dispatch" not in workflow.on:
            raise Refusal(422, "Workflow does not have 'workflow_dispatch' trigger")
        inputs = checked_inputs(workflow, wish.get("inputs", {}))
        short = ref.split("/", 2)[2]
        run = self.add(
            repository, account, file, event="workflow_dispatch", head_branch=short, head_sha=commit
        )
        self.dispatches.append(
            {
                "repository": name,
                "workflow": file,
                "ref": ref,
                "sha": commit,
                "inputs": inputs,
                "run_id": run.id,
                "login": account.login,
            }
        )
        if not wish.get("return_run_details"):
            return Answer(204)
        shown = self.show(repository, run)
        given = {"workflow_run_id": run.id, "run_url": shown["url"], "html_url": shown["html_url"]}
        return Answer(200, given)

    def _get_run(self, repository: Repository, account: Account, call: Call) -> Answer:
        return Answer(200, self.show(repository, run_of(repository, call)))

    def _list(self, repository: Repository, account: Account, call: Call) -> Answer:
        query = call.query
        file = self._file(repository, call) if "workflow_id" in call.path else None
        found = [
            run
            for run in reversed(repository.runs.values())
            if file in (None, run.workflow)
            and query.get("head_sha") in (None, run.head_sha)
            and query.get("branch") in (None, run.head_branch)
            and query.get("event") in (None, run.event)
            and query.get("actor") in (None, run.actor.login)
            and query.get("status") in (None, run.status, run.conclusion)
            and within(run.created_at, query.get("created", "*"))
        ]
        return Answer(200, Listing("workflow_runs", [self.show(repository, r) for r in found[:MAX_FOUND]]))

    def _show_artifact(self, repository: Repository, artifact: Artifact) -> dict[str, Any]:
        run, address = repository.runs[artifact.run_id], f"actions/artifacts/{artifact.id}"
        given = {
            "id": artifact.id,
            "name": artifact.name,
            "size_in_bytes": len(artifact.content),
            "digest": f"sha256:{hashlib.sha256(artifact.content).hexdigest()}",
            "url": self._world.address(repository, address),
            "archive_download_url": self._world.address(repository, f"{address}/zip"),
            "expired": False,
            "created_at": artifact.created_at,
            "updated_at": artifact.created_at,
            "expires_at": None,
            "workflow_run": {
                "id": run.id,
                "repository_id": repository.id,
                "head_repository_id": repository.id,
                "head_branch": run.head_branch,
                "head_sha": run.head_sha,
            },
        }
        return self._world.spec.fill("artifact", given)

    def _list_artifacts(self, repository: Repository, account: Account, call: Call) -> Answer:
        run, name = run_of(repository, call), call.query.get("name")
        found = [a for a in repository.artifacts.values() if a.run_id == run.id and name in (None, a.name)]
        if call.query.get("direction", "desc") == "desc":
            found.reverse()
        return Answer(200, Listing("artifacts", [self._show_artifact(repository, one) for one in found]))

    def _download(self, repository: Repository, account: Account, call: Call) -> Answer:
        artifact = repository.artifacts.get(call.path["artifact_id"])
        if artifact is None or call.path["archive_format"] != "zip":
            raise Refusal(404, "Not Found")
        where = f"{self._storage_url}/artifacts/{repository.name}/{artifact.id}?sig=stand-in"
        return Answer(302, None, {"Location": where})

    def _pending(self, repository: Repository, account: Account, call: Call) -> Answer:
        run = run_of(repository, call)
        waiting = [name for name, state in run.approvals.items() if state == "waiting"]
        return Answer(200, [approval_state(self._world, repository, account, name) for name in waiting])

    def _review(self, repository: Repository, account: Account, call: Call) -> Answer:
        run = run_of(repository, call)
        made = reviewed(self._world, repository, account, run, call.body)
        if "rejected" in run.approvals.values():
            run.status, run.conclusion, run.updated_at = "completed", "failure", now()
        elif "waiting" not in run.approvals.values():
            run.status, run.updated_at = "queued", now()
        return Answer(200, made)


def run_of(repository: Repository, call: Call) -> Run:
    """The run that a request names; raises Refusal (404)."""
    if call.path["run_id"] not in repository.runs:
        raise Refusal(404, "Not Found")
    return repository.runs[call.path["run_id"]]


def checked_inputs(workflow: Workflow, given: dict[str, Any]) -> dict[str, str]:
    """The inputs of a dispatch with the declared defaults; raises Refusal (422)."""
    declared: dict[str, Any] = (workflow.on.get("workflow_dispatch") or {}).get("inputs") or {}
    if unexpected := sorted(set(given) - set(declared)):
        raise Refusal(422, f"Unexpected inputs provided: {unexpected}".replace("'", '"'))
    values = {}
    for name, details in declared.items():
        about = details or {}
        default = about.get("default")
        if name not in given and default is None and about.get("required") == "true":
            raise Refusal(422, f"Required input '{name}' not provided")
        value = str(given.get(name, default or ""))
        if name in given and about.get("type") == "choice" and value not in about.get("options", []):
            raise Refusal(
                422, f"Provided value '{value}' for input '{name}' not in the list of allowed values"
            )
        values[name] = value
    return values


def within(moment: str, search: str) -> bool:
    """Whether a moment meets GitHub's search for dates: `*`, a day, `>=FROM`, `FROM..TO` and so on."""
    if ".." in search:
        start, _, end = search.partition("..")
        return (start == "*" or moment >= start) and (
            end == "*" or moment <= end + ("Z" if "T" in end else "T~")
        )
    for sign in (">=", "<=", ">", "<"):
        if search.startswith(sign):
            bound = search.removeprefix(sign)
            cut = moment[: len(bound)]
            return {">=": cut >= bound, "<=": cut <= bound, ">": cut > bound, "<": cut < bound}[sign]
    return search == "*" or moment.startswith(search)
