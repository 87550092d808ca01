"""`gatehouse scorecard`: the verdict delivered to the people who decide."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

import click

from gatehouse.agent.definition import load_agent
from gatehouse.agent.source import RefusedError, check_file, locate
from gatehouse.cli import Lines
from gatehouse.commands._shared import no_verdict, out_option, refuse_committed
from gatehouse.errors import Exit, InfrastructureError, State, UserError
from gatehouse.evals.results import OUT, SCHEMA, UNREADABLE, StaleError, read_json, write_json
from gatehouse.evals.run_files import writing
from gatehouse.github.event import Event, current_commit
from gatehouse.github.runner import annotate, append_summary, in_actions, say, set_outputs
from gatehouse.report.scorecard import SUMMARY_LIMIT, Card, markdown, reasons, state_of, terminal

PLACES = ("summary", "annotations", "comment")
ANNOTATED = 9
"""Failing cases that are annotated: GitHub keeps ten of a kind, and the gate's own error is one."""


@click.command
@out_option
@click.option(
    "--to",
    cls=Lines,
    multiple=True,
    metavar="PLACE",
    help="summary, annotations or comment; repeatable. Default: all that this run can reach.",
)
@click.option(
    "--author",
    metavar="LOGIN",
    help="Who our comments are from: the login of the App where its token is given. "
    "Default: github-actions[bot].",
)
@click.option(
    "--key",
    default="gate",
    show_default=True,
    metavar="NAME",
    help="Which comment is edited: another workflow on the same pull request takes another key.",
)
def scorecard(out: Path | None, to: tuple[str, ...], author: str | None, key: str) -> None:
    """Deliver the verdict: comment, job summary, annotations.

    Reads eval.json and cost.json of every agent under .gatehouse/, writes scorecard.md and scorecard.json
    there. The comment needs a pull request's event and a token in GITHUB_TOKEN. Exit code: 0 delivered,
    3 not delivered; whether the gate passed, its own step says.
    """
    _check_places(to)
    folder, cards = _cards(out)
    if not cards and not in_actions():
        raise InfrastructureError(
            f"Nothing was measured: no results lie in {folder.absolute()}. "
            "Run the eval gate first, in this folder."
        )
    event = Event.read() if in_actions() else None
    run_url, head = (
        (event.run_url, event.head_sha or event.sha) if event else ("", current_commit(Path.cwd()) or "")
    )
    body = markdown(cards, run_url=run_url, head=head)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scorecard.md").write_text(body + "\n", encoding="utf-8")
    say(terminal(cards))
    if "summary" in (to or PLACES):
        append_summary(markdown(cards, run_url=run_url, head=head, limit=SUMMARY_LIMIT))
    if "annotations" in (to or PLACES) and in_actions():
        _annotate(cards)
    url, failure = "", None
    if "comment" in (to or PLACES):
        try:
            url = _comment(event, body, head, author, key, asked="comment" in to)
        except InfrastructureError as error:
            failure = error
    data = {
        "schema": SCHEMA,
        "state": state_of(cards),
        "commit": head,
        "comment": url,
        "agents": [
            {"name": c.name, "state": c.state, "reason": c.reason, "eval": c.eval, "cost": c.cost}
            for c in cards
        ],
    }
    write_json(folder / "scorecard.json", data)
    set_outputs({"state": state_of(cards), "comment-url": url, "markdown": str(folder / "scorecard.md")})
    if failure:
        raise failure
    click.get_current_context().exit(Exit.PASS if cards else Exit.UNSCORED)


def _check_places(to: tuple[str, ...]) -> None:
    unknown = [place for place in to if place not in PLACES]
    if unknown:
        raise UserError(f"--to {', '.join(map(repr, unknown))}: write {', '.join(PLACES)}.")


def _cards(out: Path | None) -> tuple[Path, list[Card]]:
    """The folder that the scorecard is written to, and a card for every agent's folder below it."""
    refuse_committed(out or OUT)
    folders = [out] if out else sorted(OUT.glob("*/"))
    commit = current_commit(Path.cwd())
    cards = []
    for folder in folders:
        verdict, cost = _read(folder / "eval.json", commit), _read(folder / "cost.json", commit)
        named = verdict or cost
        cards.append(Card(named["agent"]["name"] if named else folder.name, verdict, cost))
    return out or OUT, cards


def _read(path: Path, commit: str | None) -> dict[str, Any] | None:
    """A verdict file, or why it does not count, in its place; None where there is none."""
    if not path.exists():
        return None
    try:
        data = read_json(path)
        gate = path.stem
        card = Card(data["agent"]["name"], **{"eval": None, "cost": None, gate: data}, gates=(gate,))
        markdown([card]), terminal([card])  # what cannot be shown is malformed
        _check_current(data, path, commit)
    except (StaleError, *UNREADABLE) as error:
        reason = str(error) if isinstance(error, StaleError) else f"{path} is malformed ({error})"
        return no_verdict(path.name, path.parent.name, "", reason, Exit.UNSCORED)
    return data


def _check_current(data: dict[str, Any], path: Path, commit: str | None) -> None:
    """Raise StaleError for a verdict on another commit or, where they are checked out, other files."""
    agent, dataset = data["agent"], data["dataset"]
    again = f"it does not count. Run the gate again, or delete {path.parent}."
    if commit and data.get("commit") != commit:
        theirs = str(data.get("commit") or "none")
        raise StaleError(f"{path} is of another commit ({theirs[:12]}, not {commit[:12]}): {again}")
    if data["state"] != State.UNSCORED and not agent["digest"]:
        raise StaleError(f"{path} says of which agent it is by no digest: {again}")
    with suppress(UserError):  # gone, or broken: the gates say so
        now = load_agent(agent["path"])
        if agent["digest"] and (now.digest, now.name) != (agent["digest"], agent["name"]):
            raise StaleError(f"{path} is of another agent than {agent['path']}: {again}")
    with suppress(RefusedError, OSError):
        if dataset and digest_of(dataset["path"]) != dataset["digest"]:
            raise StaleError(f"{path} is of another golden set than {dataset['path']}: {again}")


def digest_of(path: str) -> str:
    """The digest of a golden set by its bytes alone; raises RefusedError or OSError where it is not here."""
    place = locate(Path.cwd(), path)
    check_file(place, path)
    with place.open("rb") as file:
        return f"sha256:{file_digest(file, 'sha256').hexdigest()}"


def _annotate(cards: list[Card]) -> None:
    """The failing cases at their lines of the golden set; where the gate passes all the same, as warnings."""
    failing = [(card, case) for card in cards for case in (card.eval or {}).get("failing_cases", [])]
    for card, case in failing[:ANNOTATED]:
        told = reasons(card.eval or {"metrics": []}, case)
        why = "; ".join(f"{name}: {reason}" for name, reason in told.items())
        if case["got"] is not None:
            why += f"\ngot {case['got'][:300]}"
        annotate(
            "error" if card.state is State.FAIL else "warning",
            why,
            file=(card.eval or {})["dataset"]["path"],
            line=case["line"],
            title=f"{card.name}: {case['id']}",
        )


def _comment(event: Event | None, body: str, head: str, author: str | None, key: str, *, asked: bool) -> str:
    """Deliver the comment and return its address; "" where this run has no pull request to write to."""
    token = os.environ.get("GITHUB_TOKEN", "")
    if event is None or event.number is None:
        if asked:
            say("No comment: this is no pull request's run.")
        return ""
    if event.is_fork and not asked:
        say("No comment: the run of a fork's pull request may not write one. The job summary has it all.")
        return ""
    if not token:
        if asked:
            raise InfrastructureError("No comment: GITHUB_TOKEN is empty. Hand the job's token to the step.")
        return ""
    from gatehouse.github.api import Api  # noqa: PLC0415 beside the 60 ms of requests
    from gatehouse.github.comments import ACTIONS_BOT, deliver  # noqa: PLC0415 as above

    who = author or ACTIONS_BOT
    with Api(event.api_url, token) as api:
        done = deliver(api, event.repository, event.number, body, key=key, head_sha=head, author=who)
    say(f"Comment {done.action}: {done.reason} {done.url}")
    return done.url
