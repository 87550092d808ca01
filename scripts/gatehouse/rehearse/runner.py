"""Plays the jobs of a workflow as a runner of GitHub would.

Each job gets a folder of its own, a fresh checkout over HTTP, the artifacts that it downloads, and the
commands that its actions call, as processes with the environment that they set: no token where it has none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from gatehouse.errors import Exit, GatehouseError, InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.rehearse.github import GitHub

AUTHOR = {
    "GIT_AUTHOR_NAME": "Rehearsal",
    "GIT_AUTHOR_EMAIL": "rehearsal@acme.example",
    "GIT_COMMITTER_NAME": "Rehearsal",
    "GIT_COMMITTER_EMAIL": "rehearsal@acme.example",
}
MAINTAINER = "maintainer"
"""Who merges, presses buttons and approves."""

FOREIGN = re.compile(
    r"(GITHUB|GATEHOUSE|ACTIONS|INPUT|RUNNER|TWINE|UV_PUBLISH|UV_PROJECT|SETUPTOOLS_SCM|GIT(?!_SSL))_"
    r"|PYTHON(PATH|HOME)$|VIRTUAL_ENV$|SOURCE_DATE_EPOCH$|.*PYPI"
)
"""Variables of the machine's user that no job may see: they would steer a command, or are real tokens."""

_SHOWN = 40
"""Lines of a failed step's log that its error shows."""


class StepFailedError(GatehouseError):
    """A step that had to succeed and did not: what it said, and where its log is (exit 1)."""

    code = Exit.FAIL


@dataclass(frozen=True, slots=True)
class Step:
    """One command as it was played; `environment` is what its action sets, secrets left out."""

    job: str
    command: str
    environment: dict[str, str]
    code: int
    seconds: float = 0.0
    log: str = ""
    workflow: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def require(self) -> Step:
        """The step itself; raises StepFailedError with what it said unless it ended with 0."""
        if self.code == 0:
            return self
        said = told(Path(self.log).read_text("utf-8", errors="replace"))
        where = f"{self.command} in the job {self.job} of {self.workflow}"
        raise StepFailedError(f"{where} ended with exit code {self.code}:\n\n{said}\n\nIts log: {self.log}")


@dataclass(frozen=True, slots=True)
class Machine:
    """What every job is played with: the stand-in, a folder for all that is played, and more variables."""

    github: GitHub
    repository: str
    folder: Path
    environment: dict[str, str]
    runs: list[WorkflowRun] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        """The environment of any job, before what its run sets."""
        kept = {k: v for k, v in os.environ.items() if not FOREIGN.match(k)}
        path = (
            f"{tools()}{os.pathsep}{kept.get('PATH', os.defpath)}"
            if tools()
            else kept.get("PATH", os.defpath)
        )
        # A proxy that the machine goes out by has no business with the stand-ins.
        local = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        ours = {
            "PATH": path,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_REPOSITORY_OWNER": self.repository.partition("/")[0],
            "GITHUB_SERVER_URL": self.github.server_url,
            "GITHUB_API_URL": self.github.api_url,
            "GITHUB_ACTOR": "dev",
            "RUNNER_OS": "macOS" if sys.platform == "darwin" else "Linux",
        }
        return kept | local | ours | self.environment

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the API answers a maintainer about the repository; raises StepFailedError with its refusal."""
        token = self.github.token_of(MAINTAINER, may_write=True)
        request = urllib.request.Request(  # noqa: S310 the stand-in's own address
            f"{self.github.api_url}/repos/{self.repository}/{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method=method,
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            said = json.loads(error.read() or b"{}").get("message", "")
            raise StepFailedError(f"GitHub refuses {method} {path}: {error.code} {said}") from None


class WorkflowRun:
    """One run of a workflow: its jobs in folders below `folder`, their steps, and its artifacts.

    `ref` and `sha` are what it runs on, `event` the payload that started it.
    """

    def __init__(
        self,
        machine: Machine,
        workflow: str,
        folder: Path,
        *,
        event_name: str,
        event: Mapping[str, Any],
        ref: str,
        sha: str,
        run_id: int,
        number: int = 1,
    ) -> None:
        self.machine, self.workflow, self.folder = machine, workflow, folder
        self.event_name, self.ref, self.sha, self.run_id = event_name, ref, sha, run_id
        machine.runs.append(self)
        self.artifacts = folder / "artifacts"
        self.steps: list[Step] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
        self.environment = machine.variables() | {
            "GITHUB_WORKFLOW": workflow.removesuffix(".yml"),
            "GITHUB_EVENT_NAME": event_name,
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_REF": ref,
            "GITHUB_REF_NAME": re.sub("^refs/(heads|tags|pull)/", "", ref),
            "GITHUB_REF_TYPE": "tag" if ref.startswith("refs/tags/") else "branch",
            "GITHUB_SHA": sha,
            "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_NUMBER": str(number),
            "GITHUB_RUN_ATTEMPT": "1",
        }

    def job(self, name: str, *, checkout: Literal["none", "commit", "parents", "full"] = "none") -> Job:
        """A new job: its workspace empty, with the commit, its parents too, or branches, tags and history."""
        job = Job(self, name)
        if checkout != "none":
            job.check_out(depth={"commit": 1, "parents": 2}.get(checkout))
        return job

    def finish(self, conclusion: Literal["success", "failure"]) -> None:
        """End the run on GitHub, its artifacts kept there."""
        github, name = self.machine.github, self.machine.repository
        for artifact in sorted(self.artifacts.glob("*")):
            github.add_artifact(name, self.run_id, artifact.name, artifact)
        github.finish_run(self.run_id, conclusion)


class Job:
    """A job being played: `folder` holds its logs, `workspace` is where its steps run."""

    def __init__(self, run: WorkflowRun, name: str) -> None:
        self.run, self.name = run, name
        self.folder = run.folder / name
        self.workspace, self.temp = self.folder / "checkout", self.folder / "temp"
        self.workspace.mkdir(parents=True)
        self.temp.mkdir()

    def check_out(self, *, depth: int | None) -> None:
        """The commit of the run as actions/checkout does it with this `fetch-depth`, None for everything.

        No credential is left behind.
        """
        url = self.run.machine.github.clone_url(self.run.machine.repository)
        git(self.workspace, "init", "--quiet")
        git(self.workspace, "remote", "add", "origin", url)
        if depth:
            git(self.workspace, "fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", self.run.sha)
            git(self.workspace, "checkout", "--quiet", "--detach", "FETCH_HEAD")
            return
        everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        git(self.workspace, "fetch", "--quiet", "--prune", "origin", *everything)
        branch = self.run.ref.removeprefix("refs/heads/")
        if branch != self.run.ref:
            git(self.workspace, "checkout", "--quiet", "-B", branch, self.run.sha)
        else:
            git(self.workspace, "checkout", "--quiet", "--detach", self.run.sha)

    def command(
        self,
        command: str,
        environment: Mapping[str, str] | None = None,
        *,
        secret: Mapping[str, str] | None = None,
    ) -> Step:
        """Play one of our commands; `secret` are variables that are not recorded."""
        arguments = [sys.executable, "-I", "-m", "gatehouse", command]
        return self._play(command, arguments, dict(environment or {}), dict(secret or {}))

    def must(
        self,
        command: str,
        environment: Mapping[str, str] | None = None,
        *,
        secret: Mapping[str, str] | None = None,
    ) -> Step:
        """As `command`; raises StepFailedError unless it exits with 0."""
        return self.command(command, environment, secret=secret).require()

    def shell(self, name: str, script: str, python: str) -> Step:
        """Play commands of the workflow's user by bash, where `python` is the interpreter of an environment.

        Raises StepFailedError unless they exit with 0.
        """
        binaries = Path(python).parent
        variables = {
            "PATH": f"{binaries}{os.pathsep}{self.run.environment['PATH']}",
            "VIRTUAL_ENV": str(binaries.parent),
            "UV_PYTHON": python,
        }
        return self._play(name, ["bash", "-euo", "pipefail", "-c", script], {}, variables).require()

    def _play(
        self, name: str, arguments: list[str], environment: dict[str, str], secret: dict[str, str]
    ) -> Step:
        files = {
            "GITHUB_OUTPUT": self.folder / f"outputs-{name}",
            "GITHUB_STEP_SUMMARY": self.folder / f"summary-{name}.md",
        }
        for file in files.values():
            file.touch()
        places = {"GITHUB_WORKSPACE": self.workspace, "RUNNER_TEMP": self.temp, **files}
        log = self.folder / f"{name}.log"
        started = monotonic()
        with log.open("wb") as output:
            done = subprocess.run(
                arguments,
                cwd=self.workspace,
                env=self.run.environment | {k: str(v) for k, v in places.items()} | environment | secret,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        given = outputs(files["GITHUB_OUTPUT"])
        seconds = round(monotonic() - started, 2)
        workflow = self.run.workflow
        step = Step(self.name, name, environment, done.returncode, seconds, str(log), workflow, given)
        self.run.steps.append(step)
        return step

    def hand_on(self, source: Path, artifact: str) -> None:
        """Upload a folder or a file as (a part of) an artifact of the run; nothing where there is none."""
        copy(source, self.run.artifacts / artifact)

    def fetch(self, artifact: str, to: Path) -> None:
        """Download an artifact of the run."""
        copy(self.run.artifacts / artifact, to)


def told(log: str) -> str:
    """The end of a log as a reader of the run sees it: errors that were annotations only as text."""
    lines = log.splitlines()
    text = "\n".join(line for line in lines if not line.startswith("::"))
    shown = []
    for line in lines:
        annotation = re.fullmatch(r"::error(?: [^:]*)?::(.*)", line)
        message = unquote(annotation[1]) if annotation else line
        if annotation and message.splitlines()[0] in text:
            continue  # said as text too
        if annotation or not line.startswith("::"):
            shown += message.splitlines()
    return "\n".join(shown[-_SHOWN:])


def copy(source: Path, destination: Path) -> None:
    """A file, or a folder's files, into another folder, which may exist; nothing where there is none."""
    if source.is_file():
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)
    elif source.exists():
        shutil.copytree(source, destination, dirs_exist_ok=True)


def tools() -> str:
    """The folder of uv, which `tools/bootstrap.py` may have put aside; "" where there is none."""
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.prefix).parent / ".tools/uv/bin"))
    return str(Path(found).parent) if found else ""


def virtual_environment(folder: Path, *install: str, seed: bool = False) -> str:
    """A new environment with what `install` names to pip, by uv where it is there; its interpreter's path.

    With `seed` pip is in it for certain. Raises InfrastructureError with the installer's message.
    """
    python = folder / "bin/python"
    uv = Path(tools(), "uv") if tools() else None
    # The interpreter that ours was made from: its own environment must not show through.
    base = getattr(sys, "_base_executable", sys.executable)
    if uv:
        execute([str(uv), "venv", "--quiet", *(["--seed"] if seed else []), "--python", base, str(folder)])
    else:
        execute([base, "-m", "venv", str(folder)])
    if install:
        by_uv = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
        by_pip = [str(python), "-m", "pip", "install", "--quiet", "--isolated"]
        execute([*(by_uv if uv else by_pip), *install])
    return str(python)


def execute(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What a program prints; raises InfrastructureError with its error text."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise InfrastructureError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    """Git without the user's own configuration, which may sign, hook or rewrite; what it prints."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    isolated = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return execute(["git", "-C", str(folder), *arguments], kept | AUTHOR | isolated).rstrip("\n")


def outputs(file: Path) -> dict[str, str]:
    """What a step wrote to GITHUB_OUTPUT, in the form with delimiters that our commands write."""
    values, lines = {}, iter(file.read_text("utf-8").splitlines())
    for line in lines:
        name, _, delimiter = line.partition("<<")
        value = []
        for text in lines:
            if text == delimiter:
                break
            value.append(text)
        values[name] = "\n".join(value)
    return values
