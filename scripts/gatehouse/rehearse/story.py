"""Two pull requests on an example repository, played through the whole gate on this machine.

Each job of the `agent-ci` workflow is played as a runner would: a folder of its own, a fresh checkout of the
pull request's merge commit over HTTP, artifacts between jobs, and the commands that the actions call, as
processes. Only GitHub and the model are stand-ins.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.rehearse.agent_ci import play_agent_ci
from gatehouse.rehearse.copy import train_workflows
from gatehouse.rehearse.runner import Step, WorkflowRun, git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.runner import Machine

REPOSITORY = "acme/refund-triage"


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
class Played:
    """A pull request that has been through the gate."""

    change: Change
    number: int
    steps: list[Step] = field(default_factory=list)
    scorecard: dict[str, Any] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    folder: Path = Path()

    @property
    def comment(self) -> str:
        """The file that its comment is kept in."""
        return str(self.folder / "comment.md")

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


def publish(github: GitHub, example: Path, templates: Path, seed: Path) -> None:
    """The example as a repository of its own, released once, with the workflows that a user copies."""
    shutil.copytree(
        example,
        seed,
        ignore=shutil.ignore_patterns("changes", ".venv", ".gatehouse", "__pycache__", "outbox"),
    )
    (seed / ".github/workflows").mkdir(parents=True)
    for name, template in (train_workflows(templates) | {"agent-ci.yml": templates / "agent-ci.yml"}).items():
        shutil.copy(template, seed / ".github/workflows" / name)
    git(seed, "init", "--quiet", "--initial-branch=main")
    git(seed, "add", "--all")
    git(seed, "commit", "--quiet", "--message=Refund triage")
    git(seed, "tag", "v0.1.0")
    git(seed, "branch", "develop")
    github.create_repository(REPOSITORY, seed)


def play(machine: Machine, example: Path, folder: Path) -> Iterator[Played]:
    """Play every change of the story on the repository that `publish` made; files lie under `folder`.

    Raises InfrastructureError where a tool that is needed (git, an installer) fails.
    """
    for number, change in enumerate(CHANGES, 1):
        played = _open(machine.github, change, example, folder / f"pull-{number}")
        event = machine.github.pull_request_event(REPOSITORY, played.number)
        ref = f"refs/pull/{played.number}/merge"
        head, branch = event["pull_request"]["head"]["sha"], event["pull_request"]["head"]["ref"]
        run_id = machine.github.add_run(
            REPOSITORY, "agent-ci.yml", head, branch, event="pull_request", status="queued", conclusion=None
        )
        run = WorkflowRun(
            machine,
            "agent-ci.yml",
            played.folder,
            event_name="pull_request",
            event=event,
            ref=ref,
            sha=machine.github.git(REPOSITORY, "rev-parse", ref).strip(),
            run_id=run_id,
        )
        played.steps = run.steps
        played.scorecard = play_agent_ci(run)
        run.finish("failure" if any(step.code for step in run.steps) else "success")
        played.comments = machine.github.comments(REPOSITORY, played.number)
        text = "\n\n".join(comment["body"] for comment in played.comments)
        Path(played.comment).write_text(text, encoding="utf-8")
        yield played


def _open(github: GitHub, change: Change, example: Path, folder: Path) -> Played:
    clone = folder / "author"
    clone.parent.mkdir(parents=True)
    token = github.token_of("author", may_write=True)
    git(folder, "clone", "--quiet", "--branch=develop", github.clone_url(REPOSITORY, token), str(clone))
    git(clone, "switch", "--quiet", "--create", f"feature/{change.patch}")
    git(clone, "am", "--quiet", str(example / "changes" / f"{change.patch}.patch"))
    git(clone, "push", "--quiet", "origin", f"feature/{change.patch}")
    pull = github.open_pull(REPOSITORY, f"feature/{change.patch}", "develop", change.title, login="author")
    return Played(change, pull["number"], folder=folder)
