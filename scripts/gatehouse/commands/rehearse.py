"""`gatehouse rehearse`: the whole way to a release on one machine, before the first push."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent
from time import monotonic
from typing import TYPE_CHECKING

import click

from gatehouse.errors import Exit, GatehouseError, Problem, UserError
from gatehouse.github.runner import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.github import GitHub
    from gatehouse.rehearse.index import Indexes
    from gatehouse.rehearse.runner import Machine
    from gatehouse.rehearse.story import Played
    from gatehouse.rehearse.train import Train

ROOT = Path(__file__).resolve().parents[3]
LINE = "━" * 100
NEEDED = ("build", "check_wheel_contents", "markdown_it", "packaging", "pypiserver", "trustme", "twine")
NOT_PLAYED = "lint, types and coverage of ci.yml, and other Pythons and systems than this one"


@click.command
@click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="New folder for everything that is played. Default: one in the system's temporary folder.",
)
@click.option(
    "--approve/--reject",
    default=None,
    help="The answer at the approval before PyPI. Default: you are asked.",
)
def rehearse(path: Path | None, out: Path | None, approve: bool | None) -> None:
    """Play a release on this machine, from a pull request to PyPI.

    Without PATH, a good and a bad change to examples/refund-triage go through the gate; the good one is
    merged and released. With PATH, a copy of your repository is released; your agents are not asked. GitHub
    and both package indexes are stand-ins, all else is real. Exit code: 0 all went as it must, a rejection
    included, 1 not.
    """
    templates = ROOT / "templates"
    if not templates.is_dir():
        raise UserError(
            "The rehearsal needs Gatehouse's repository: clone it and call `make rehearse` there."
        )
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        repair = 'Install Gatehouse with them: pip install "gatehouse-ci[rehearse]".'
        raise UserError(Problem(f"not installed: {', '.join(missing)}.", repair=repair))
    if approve is None and not sys.stdin.isatty():
        repair = (
            "Say what is to be answered: --approve, or --reject to see that nothing is published then. "
            "By make that is `make rehearse ARGS=--approve`."
        )
        raise UserError(Problem("there is no terminal to ask for the approval on.", repair=repair))
    folder = _new_folder(out, path)
    started = monotonic()
    # The stand-ins are no part of a gate's start.
    from gatehouse.rehearse.github import GitHub  # noqa: PLC0415
    from gatehouse.rehearse.index import Indexes  # noqa: PLC0415

    with GitHub(folder / "github") as github, Indexes(folder / "indexes", github) as indexes:
        answer = partial(_answer, approve)
        if path:
            good = _play_copy(path, github, indexes, folder, answer)
        else:
            good = _play_example(github, indexes, folder, answer)
    say(f"\n{monotonic() - started:.1f} s. Everything that was played is in {folder}; nothing else needs it.")
    click.get_current_context().exit(Exit.PASS if good else Exit.FAIL)


def _new_folder(out: Path | None, path: Path | None) -> Path:
    if out and out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty. Name a new one.")
    if out and path and out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--out {out}: it lies in {path}, where nothing is written. Name one elsewhere.")
    return (out or Path(tempfile.mkdtemp(prefix="gatehouse-rehearsal-"))).resolve()


def _answer(approve: bool | None, text: str) -> bool:
    """The answer at the approval: what the option says, else what is typed."""
    say(f"\n{LINE}\nApproval: the environment `release` waits for its reviewer.\n\n{text}\n")
    if approve is None:
        return click.confirm("Publish it to PyPI (a stand-in on this machine)?", default=False)
    say(f"{'Approved' if approve else 'Rejected'} by --{'approve' if approve else 'reject'}.\n")
    return approve


def _play_example(github: GitHub, indexes: Indexes, folder: Path, approve: Callable[[str], bool]) -> bool:
    """The two pull requests of the example, then the release of the good one; whether all went as it must."""
    from gatehouse.rehearse import story  # noqa: PLC0415 as above
    from gatehouse.rehearse.agent_ci import play_agent_ci  # noqa: PLC0415
    from gatehouse.rehearse.model import StandInModel  # noqa: PLC0415
    from gatehouse.rehearse.runner import Machine  # noqa: PLC0415
    from gatehouse.rehearse.train import Train  # noqa: PLC0415

    example = ROOT / "examples/refund-triage"
    with StandInModel() as model:
        machine = Machine(github, story.REPOSITORY, folder, {"OLLAMA_BASE_URL": model.url})
        story.publish(github, example, ROOT / "templates", folder / "seed")
        started, played = monotonic(), []
        for one in story.play(machine, example, folder):
            played.append(one)
            _show_pull(one)
        surprises = [
            f"Pull request #{one.number} ({one.change.title}): {what}."
            for one in played
            for what in one.surprises()
        ]
        train = Train(machine, indexes, judge=play_agent_ci, approve=approve, say=say)
        train.seconds["Two pull requests through the gate"] = monotonic() - started
        for one in played:
            train.done(f"#{one.number} {one.change.title}: {one.scorecard.get('state')}", one.comment)
        if surprises:
            _save_steps(machine)
            say("\nNot as it should be:\n" + "\n".join(f"- {what}" for what in surprises))
            return False
        say(f"\n{LINE}\nThe good change passed, the bad one was stopped. The release train leaves.\n")
        return _ride(train, played[0].number)


def _play_copy(
    path: Path, github: GitHub, indexes: Indexes, folder: Path, approve: Callable[[str], bool]
) -> bool:
    """The release of a copy of the user's repository; whether it went to its end."""
    from gatehouse.rehearse.agent_ci import stand_in_verdicts  # noqa: PLC0415 as above
    from gatehouse.rehearse.copy import CHANGE, copy_repository, require_package  # noqa: PLC0415
    from gatehouse.rehearse.runner import Machine  # noqa: PLC0415
    from gatehouse.rehearse.train import Train  # noqa: PLC0415

    copied = copy_repository(path, folder / "seed", ROOT / "templates")
    require_package(copied)
    say(f"A copy of {path.resolve()} is released; nothing is written there.")
    machine = Machine(github, copied.name, folder, {})
    github.create_repository(copied.name, copied.folder, default_branch=copied.develop)
    pull = github.open_pull(copied.name, CHANGE, copied.develop, "Rehearse a release")
    train = Train(
        machine,
        indexes,
        judge=stand_in_verdicts if copied.agents else None,
        asked=False,
        approve=approve,
        say=say,
        main=copied.main,
        develop=copied.develop,
    )
    for note in copied.notes:
        train.note(note)
    return _ride(train, pull["number"])


def _ride(train: Train, pull: int) -> bool:
    """Play the release, and end with the checklist, also of a release that fails; whether all went well."""
    trouble = ""
    try:
        say("")
        train.ride(pull)
        trouble = "\n".join(f"Not as it should be: {what}." for what in train.surprises())
    except GatehouseError as error:
        trouble = str(error)
    _save_steps(train.machine)
    say(f"\n{LINE}\nSeconds\n")
    for title, seconds in train.seconds.items():
        say(f"{seconds:6.1f}  {title}")
    say("\nDone, and where to look (· marks what is not as on GitHub)\n")
    for what, where in train.checklist:
        say(f"{'✓' if where else '·'} {what}" + indent(f"\n{where}" if where else "", "    "))
    say(f"· Not played: {NOT_PLAYED}.\n")
    if trouble:
        say(trouble, sys.stderr)
    elif train.approved:
        say("Released. On GitHub the workflows in templates/ do the same.")
    else:
        say("Rejected: PyPI and the GitHub Releases are untouched. What is on TestPyPI stays there.")
    return not trouble


def _show_pull(played: Played) -> None:
    """The scorecard of a pull request, and where its comment is."""
    from gatehouse.report.scorecard import Card, terminal  # noqa: PLC0415 as above

    say(f"\n{LINE}\nPull request #{played.number}: {played.change.title}\n")
    say(terminal([Card(a["name"], a["eval"], a["cost"]) for a in played.scorecard.get("agents", [])]))
    say(f"\nJobs: {', '.join(f'{s.command} {s.code}' for s in played.steps)} (exit codes)")
    say(f"Its comment: {played.comment}")


def _save_steps(machine: Machine) -> None:
    """Every command that was played, for a reader and for tests."""
    runs = [
        {
            "workflow": run.workflow,
            "event": run.event_name,
            "ref": run.ref,
            "steps": [asdict(s) for s in run.steps],
        }
        for run in machine.runs
    ]
    (machine.folder / "steps.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
