"""Two pull requests on an example repository, played through the whole gate on this machine.

Each job of the `agent-ci` workflow is played as a runner would: a folder of its own, a fresh checkout of the
pull request's merge commit over HTTP, artifacts between jobs, and the commands that the actions call, as
processes. Only GitHub and the model are stand-ins.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.model import StandInModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = "acme/refund-triage"
OUR_AUTHOR = {
    "GIT_AUTHOR_NAME": "Rehearsal",
    "GIT_AUTHOR_EMAIL": "rehearsal@acme.example",
    "GIT_COMMITTER_NAME": "Rehearsal",
    "GIT_COMMITTER_EMAIL": "rehearsal@acme.example",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One pull request: the patch it brings, and how it has to end.

    Only this list knows that; no command and no stand-in sees it. `failing` are metrics that have to fail.
    """

    patch: str
    title: str
    state: str
    failing: frozenset[str] = frozenset()


CHANGES = (
    Change("partial-refunds", "Refund the damaged part of a set", "pass"),
    Change("warmer-tone", "Answer in a warmer tone", "fail", frozenset({"exact_match", "critical_cases"})),
)


@dataclass(slots=True)
class Step:
    """One command as it was played; `environment` is what its action sets, tokens left out."""

    job: str
    command: str
    environment: dict[str, str]
    code: int


@dataclass(slots=True)
class Played:
    """A pull request that has been through the gate."""

    change: Change
    number: int
    steps: list[Step] = field(default_factory=list)
    scorecard: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    folder: Path = Path()

    def surprises(self) -> list[str]:
        """What did not end as it had to; nothing where the gate did its work."""
        agents = self.scorecard.get("agents", [])
        failing = {
            m["name"] for a in agents for m in (a["eval"] or {}).get("metrics", []) if m["state"] == "fail"
        }
        gates = {step.command: step.code for step in self.steps if step.job == "gate"}
        expected_code = 1 if self.change.state == "fail" else 0
        found = [
            (
                self.scorecard.get("state") == self.change.state,
                f"its state is {self.scorecard.get('state')}, not {self.change.state}",
            ),
            (self.change.failing <= failing, f"{sorted(self.change.failing - failing)} did not fail"),
            (gates.get("eval-gate") == expected_code, f"the eval gate ended with {gates.get('eval-gate')}"),
            (
                all(s.code == 0 for s in self.steps if s.command != "eval-gate"),
                f"a step failed: {[(s.job, s.command, s.code) for s in self.steps if s.code]}",
            ),
            (len(self.comments) == 1, f"there are {len(self.comments)} comments, not one"),
        ]
        return [what for good, what in found if not good]


def play(example: Path, template: Path, folder: Path, say: Any = lambda _: None) -> Iterator[Played]:
    """Play every change of the story on a copy of `example`; results and logs lie under `folder`.

    Raises InfrastructureError where a tool that is needed (git, an installer) fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with GitHub(folder / "github") as github, StandInModel() as model:
        _publish(github, example, template, folder / "seed")
        for number, change in enumerate(CHANGES, 1):
            say(f"Pull request #{number}: {change.title}")
            played = _open(github, change, example, folder / f"pull-{number}")
            _Runner(github, model.url, played, folder).play()
            yield played


def _publish(github: GitHub, example: Path, template: Path, seed: Path) -> None:
    """The example as a repository of its own, with the workflow that a user copies."""
    shutil.copytree(
        example,
        seed,
        ignore=shutil.ignore_patterns("changes", ".venv", ".gatehouse", "__pycache__", "outbox"),
    )
    (seed / ".github/workflows").mkdir(parents=True)
    shutil.copy(template, seed / ".github/workflows/agent-ci.yml")
    _git(seed, "init", "--quiet", "--initial-branch=main")
    _git(seed, "add", "--all")
    _git(seed, "commit", "--quiet", "--message=Refund triage")
    _git(seed, "branch", "develop")
    github.create_repository(REPOSITORY, seed)


def _open(github: GitHub, change: Change, example: Path, folder: Path) -> Played:
    clone = folder / "author"
    clone.parent.mkdir(parents=True)
    token = github.token_of("author", may_write=True)
    _git(folder, "clone", "--quiet", "--branch=develop", github.clone_url(REPOSITORY, token), str(clone))
    _git(clone, "switch", "--quiet", "--create", f"feature/{change.patch}")
    _git(clone, "am", "--quiet", str(example / "changes" / f"{change.patch}.patch"))
    _git(clone, "push", "--quiet", "origin", f"feature/{change.patch}")
    pull = github.open_pull(REPOSITORY, f"feature/{change.patch}", "develop", change.title, login="author")
    return Played(change, pull["number"], folder=folder)


class _Runner:
    """Plays the jobs of the workflow for one pull request."""

    def __init__(self, github: GitHub, model_url: str, played: Played, folder: Path) -> None:
        self.github = github
        self.played = played
        self.folder = folder
        self.artifacts = played.folder / "artifacts"
        event = github.pull_request_event(REPOSITORY, played.number)
        (played.folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
        self.merge = github.git(REPOSITORY, "rev-parse", f"refs/pull/{played.number}/merge").strip()
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("GITHUB_", "GATEHOUSE_", "ACTIONS_", "INPUT_"))
        }
        # A proxy that the machine goes out by has no business with the stand-ins.
        self.environment = kept | {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_SHA": self.merge,
            "GITHUB_EVENT_PATH": str(played.folder / "event.json"),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REF": f"refs/pull/{played.number}/merge",
            "GITHUB_RUN_ID": str(played.number),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_SERVER_URL": github.server_url,
            "GITHUB_API_URL": github.api_url,
            "OLLAMA_BASE_URL": model_url,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def play(self) -> None:
        """The jobs, in the workflow's order; `gate` and `comment` are played whatever came before."""
        agents = self._plan()
        for agent in agents:
            self._run(agent)
        self._gate()
        self._comment()
        self.played.comments = self.github.comments(REPOSITORY, self.played.number)

    def _plan(self) -> list[dict[str, str]]:
        with self._job("plan") as job:
            self._command(job, "plan", {"GATEHOUSE_PLAN_AGENTS": ""})
            agents: list[dict[str, str]] = json.loads(_outputs(job / "outputs-plan").get("agents", "[]"))
            return agents

    def _run(self, agent: Mapping[str, str]) -> None:
        with self._job(f"run-{agent['name']}") as job:
            python = _install(job / "checkout", self.folder / "environments")
            self._command(
                job,
                "run",
                {"GATEHOUSE_RUN_AGENTS": agent["path"], "GATEHOUSE_RUN_PYTHON": python},
                as_job="run",
            )
            _hand_on(
                job / "checkout/.gatehouse" / agent["name"],
                self.artifacts / f"gatehouse-run-{agent['name']}-0",
            )

    def _gate(self) -> None:
        with self._job("gate") as job:
            for artifact in self.artifacts.glob("gatehouse-run-*"):
                _hand_on(artifact, job / "temp/gatehouse-runs" / artifact.name)
            self._command(job, "eval-gate", {"GATEHOUSE_EVAL_GATE_RUNS": str(job / "temp/gatehouse-runs")})
            self._command(job, "cost-gate", {})
            self._command(job, "scorecard", {"GATEHOUSE_SCORECARD_TO": "summary\nannotations"})
            _hand_on(job / "checkout/.gatehouse", self.artifacts / "gatehouse-eval")
            card = job / "checkout/.gatehouse/scorecard.json"
            self.played.scorecard = json.loads(card.read_bytes()) if card.exists() else {}

    def _comment(self) -> None:
        with self._job("comment", checkout=False) as job:
            _hand_on(self.artifacts / "gatehouse-eval", job / "checkout/.gatehouse")
            where = {"GATEHOUSE_SCORECARD_TO": "comment", "GITHUB_TOKEN": self.github.token}
            self._command(job, "scorecard", where)

    @contextmanager
    def _job(self, name: str, *, checkout: bool = True) -> Iterator[Path]:
        job = self.played.folder / name
        (job / "checkout").mkdir(parents=True)
        if checkout:
            url = self.github.clone_url(REPOSITORY, self.github.token)
            _git(job / "checkout", "init", "--quiet")
            _git(job / "checkout", "fetch", "--quiet", "--depth=1", url, self.merge)
            _git(job / "checkout", "checkout", "--quiet", "FETCH_HEAD")
        yield job

    def _command(self, job: Path, command: str, environment: Mapping[str, str], *, as_job: str = "") -> None:
        """Play one command in the job's checkout, its output in a log beside it."""
        files = {
            "GITHUB_OUTPUT": job / f"outputs-{command}",
            "GITHUB_STEP_SUMMARY": job / f"summary-{command}.md",
        }
        for file in files.values():
            file.touch()
        with (job / f"{command}.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-I", "-m", "gatehouse", command],
                cwd=job / "checkout",
                env=self.environment | {k: str(v) for k, v in files.items()} | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        shown = {name: value for name, value in environment.items() if name != "GITHUB_TOKEN"}
        self.played.steps.append(Step(as_job or job.name, command, shown, done.returncode))


def _install(checkout: Path, environments: Path) -> str:
    """Install the agent's dependencies as the workflow does by default; the path of its interpreter.

    Both pull requests of the story take the same requirements: one environment serves them.
    """
    requirements = checkout / "requirements.txt"
    wanted = requirements.read_bytes() if requirements.exists() else b""
    environment = environments / hashlib.sha256(wanted).hexdigest()[:12]
    python = environment / "bin/python"
    if environment.exists():
        return str(python)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.prefix).parent / ".tools/uv/bin"))
    with_uv = [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else []
    base = getattr(sys, "_base_executable", sys.executable)
    _run(
        [uv, "venv", "--quiet", "--python", base, str(environment)]
        if uv
        else [base, "-m", "venv", str(environment)]
    )
    if wanted.strip():
        _run(
            [
                *(with_uv or [str(python), "-m", "pip", "install", "--quiet", "--isolated"]),
                "--requirement",
                str(requirements),
            ]
        )
    return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()[-2000:]}")


def _git(folder: Path, *arguments: str) -> None:
    """Git without the user's own configuration, which may sign, hook or rewrite."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | OUR_AUTHOR
    environment |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InfrastructureError(f"`git {' '.join(arguments)}` failed:\n{done.stderr.strip()[-2000:]}")


def _hand_on(source: Path, destination: Path) -> None:
    """An artifact from one job to the next."""
    if source.exists():
        shutil.copytree(source, destination, dirs_exist_ok=True)


def _outputs(file: Path) -> dict[str, str]:
    """What a step wrote to GITHUB_OUTPUT, in the form with delimiters that our runner module writes."""
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
