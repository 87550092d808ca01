"""`gatehouse gate-changes`: what a pull request changes of the gate itself."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from gatehouse.agent.definition import AGENT_FILES
from gatehouse.commands._agents import agent_option
from gatehouse.commands._shared import first_lines, refuse_committed
from gatehouse.commands._trees import Tree
from gatehouse.commands._views import load_views, uncommitted
from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.evals.changes import compare
from gatehouse.evals.changes.base import Change, Effect, names
from gatehouse.evals.results import OUT, SCHEMA, write_json
from gatehouse.github.escape import plain
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, in_actions, say, set_outputs
from gatehouse.release.git import Git
from gatehouse.report.changes import lines

FILE = OUT / "changes.json"
_NOTHING = "Nothing was compared."
_DEPTH = "Check out with `fetch-depth: 2` and without `ref:`."


@dataclass(frozen=True, slots=True)
class Base:
    """What to compare with: a commit and its name, or why there is none, and whether one was due."""

    commit: str | None
    name: str = ""
    reason: str = ""
    due: bool = True


@click.command("gate-changes")
@agent_option
@click.option(
    "--base",
    metavar="REV",
    help="Commit to compare with, a branch, tag or hash. Default: the base of the pull request.",
)
def gate_changes(agents: tuple[str, ...], base: str | None) -> None:
    """Name what changed of the gate itself.

    Compares the commit that is checked out (HEAD) with its base: metrics, thresholds, budgets, guardrails,
    golden sets, rubrics, and the workflows that use Gatehouse. Writes .gatehouse/changes.json, which the
    scorecard shows apart from the verdict. Exit code: 0 whatever has changed, and where the base cannot be
    read, which is then said; 2 an option is to mend.
    """
    refuse_committed(OUT)
    git = Git(Path.cwd())
    found = _base(git, base)
    # Until it is done, the comparison is one that was not: no older file stands for it.
    _leave(git, found, found.reason or "the comparison was broken off")
    if found.commit is None:
        if found.due:
            annotate("warning", f"The gate itself was not compared with its base: {found.reason}.")
        else:
            say(f"Nothing to compare: {found.reason}.")
        return
    try:
        changes, edited = _compare(git, found.commit, agents)
    except UserError as error:
        _leave(git, found, plain(first_lines(error), 500))
        raise
    except (InfrastructureError, OSError) as error:
        reason = plain(str(error), 500)
        _leave(git, found, reason)
        annotate("warning", f"The gate itself was not compared with its base: {reason}")
        return
    left_out = ""
    if edited:
        left_out = f"Edits that are not committed are left out: {plain(names(edited))}"
        annotate("warning", left_out)
    data = _leave(git, found, left_out, changes)
    say("\n".join(lines(data)) or f"The gate itself is as it is in {found.name}.")


def _base(git: Git, named: str | None) -> Base:
    """What HEAD is compared with; raises UserError for a name that is none."""
    if git.commit("HEAD") is None:
        raise UserError(Problem("this is no checkout of a commit", repair=_DEPTH), left=_NOTHING)
    if named:
        commit = git.commit(named)
        if commit is None:
            message = f"--base {plain(named, 200)}: there is no such commit in this clone"
            raise UserError(Problem(message, repair="Fetch it first, or name another."), left=_NOTHING)
        return Base(commit, named)
    event = Event.read() if in_actions() else None
    if event is None:
        return Base(None, reason="no base was named; give --base develop", due=False)
    if event.name == "merge_group":
        return _of_merge_group(git)
    if event.number is None:
        return Base(None, reason="this is no pull request's run", due=False)
    return _of_pull_request(git, event)


def _of_pull_request(git: Git, event: Event) -> Base:
    """The first parent of the merge commit that GitHub made for the run."""
    name = event.base_ref or "the base"
    if event.name == "pull_request_target":
        return Base(None, name, "a run of pull_request_target checks out the base, not the pull request")
    # Not rev-list: for it the last commit of a shallow clone has no parents.
    parents = re.findall(r"^parent ", git("cat-file", "commit", "HEAD").partition("\n\n")[0], re.MULTILINE)
    if git.commit("HEAD") != event.sha or len(parents) != 2:  # noqa: PLR2004 base and head
        return Base(None, name, f"HEAD is not the merge of the pull request into its base. {_DEPTH}")
    commit = git.commit("HEAD^1")
    return Base(commit, name, "" if commit else f"the checkout lacks the base. {_DEPTH}")


def _of_merge_group(git: Git) -> Base:
    """The commit that the merge queue put the group on."""
    group = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes()).get("merge_group")
    group = group if isinstance(group, dict) else {}
    sha, ref = str(group.get("base_sha")), str(group.get("base_ref") or "the base")
    commit = git.commit(sha) if re.fullmatch("[0-9a-f]{40,64}", sha) else None
    reason = "" if commit else f"the checkout lacks the base of the merge group. {_DEPTH}"
    return Base(commit, ref.removeprefix("refs/heads/"), reason)


def _compare(git: Git, base: str, agents: tuple[str, ...]) -> tuple[list[Change], list[str]]:
    """The changes of HEAD, and the files of it with edits that are not committed.

    Raises InfrastructureError, OSError, UserError where there is no agent file.
    """
    trees = Tree(git, base), Tree(git, "HEAD")
    with TemporaryDirectory(prefix="gatehouse-", dir=os.environ.get("RUNNER_TEMP")) as folder:
        if not any(tree.matching(agents or AGENT_FILES) for tree in trees):
            shown = ", ".join(plain(pattern, 100) for pattern in agents) or "agents/*.yaml"
            problem = Problem(
                f"no agent file of HEAD or of its base matches {shown}",
                repair="Name yours with --agent; only what is committed is compared.",
            )
            raise UserError(problem, left=_NOTHING)
        views = load_views(*trees, agents, Path(folder))
        # On a runner the agent's code may have written what it likes, and git may execute what it finds.
        return compare(*views), [] if in_actions() else uncommitted(trees[1], views[1], agents)


def _leave(git: Git, base: Base, reason: str, changes: list[Change] | None = None) -> dict[str, Any]:
    """Write changes.json and hand on the outputs; without `changes` nothing was compared."""
    found = changes or []
    weaker = sum(change.effect is Effect.WEAKER for change in found)
    data = {
        "schema": SCHEMA,
        "commit": git.commit("HEAD"),
        "base": {"commit": base.commit, "name": base.name} if base.commit else None,
        "due": base.due,
        "compared": changes is not None,
        "reason": reason,
        "weaker": weaker,
        "changes": [{k: v and plain(v) for k, v in asdict(change).items()} for change in found],
    }
    write_json(FILE, data)
    compared = changes is not None
    set_outputs({"compared": compared, "weaker": weaker > 0, "changes": len(found)})
    return data
