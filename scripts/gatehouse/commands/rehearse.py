"""`gatehouse rehearse`: the whole gate on one machine, before the first push."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import click

from gatehouse.errors import Exit, UserError
from gatehouse.github.runner import say


@click.command
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="New folder for everything that is played. Default: one in the system's temporary folder.",
)
def rehearse(out: Path | None) -> None:
    """Play pull requests through the whole gate on this machine.

    A good and a bad change to examples/refund-triage go through run, eval gate, cost gate and scorecard, by
    the commands that the workflow calls. Exit code: 0 the good one passed and the bad one was stopped for
    the right reasons, 1 otherwise.
    """
    # The stand-ins are no part of a gate's start.
    from gatehouse.rehearse.story import CHANGES, play  # noqa: PLC0415
    from gatehouse.report.scorecard import Card, terminal  # noqa: PLC0415

    root = Path(__file__).resolve().parents[3]
    example, template = root / "examples/refund-triage", root / "templates/agent-ci.yml"
    if not example.is_dir():
        raise UserError(
            "The rehearsal needs Gatehouse's repository: clone it and call `make rehearse` there."
        )
    if out and out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty. Name a new one.")
    folder = (out or Path(tempfile.mkdtemp(prefix="gatehouse-rehearsal-"))).absolute()
    started, surprises, played = monotonic(), [], []
    for one in play(example, template, folder, lambda text: say(f"\n{'━' * 100}\n{text}\n")):
        played.append(one)
        say(terminal([Card(a["name"], a["eval"], a["cost"]) for a in one.scorecard.get("agents", [])]))
        say(f"\nJobs: {', '.join(f'{s.command} {s.code}' for s in one.steps)} (exit codes)")
        say(f"Files: {one.folder}")
        (one.folder / "comment.md").write_text("\n\n".join(c["body"] for c in one.comments), encoding="utf-8")
        surprises += [f"Pull request #{one.number} ({one.change.title}): {what}." for what in one.surprises()]
    steps = [{"pull": one.number, "steps": [asdict(step) for step in one.steps]} for one in played]
    (folder / "steps.json").write_text(json.dumps(steps, indent=1), encoding="utf-8")
    say(f"\n{'━' * 100}\n")
    for one in played:
        state = one.scorecard.get("state", "no verdict")
        say(f"#{one.number} {one.change.title}: {state}; its comment: {one.folder}/comment.md")
    if surprises or len(played) != len(CHANGES):
        say("\nNot as it should be:\n" + "\n".join(f"- {what}" for what in surprises))
        click.get_current_context().exit(Exit.FAIL)
    seconds = monotonic() - started
    say(f"\nThe good change passed, the bad one was stopped. {seconds:.1f} s, everything is in {folder}")
