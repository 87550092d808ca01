"""`gatehouse scorecard`: the verdict delivered to the people who decide."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatehouse.agent.protocol import replace_file
from gatehouse.cli import Lines
from gatehouse.commands._cards import Results, read_foreign, read_results
from gatehouse.commands._shared import out_option
from gatehouse.errors import Exit, InfrastructureError, State, UserError
from gatehouse.evals.results import SCHEMA, write_json
from gatehouse.evals.run_files import writing
from gatehouse.github.event import Event, current_commit
from gatehouse.github.runner import annotate, append_summary, in_actions, say, set_outputs
from gatehouse.report.junit import junit
from gatehouse.report.rows import reasons
from gatehouse.report.scorecard import SUMMARY_LIMIT, Card, markdown, state_of, terminal

if TYPE_CHECKING:
    from gatehouse.github.api import Api

PLACES = ("summary", "annotations", "comment")
ANNOTATED = 9
"""Failing cases that are annotated: GitHub keeps ten of a kind, and the gate's own error is one."""
KEY = "[a-z0-9]+(-[a-z0-9]+)*"
LONGEST_KEY = 60
REFUSED = (403, 429)
"""What GitHub answers a token that may not write, and one that wrote too much: no second try would help."""
FORK = "These are the results of a fork's own run: its code and its workflow are the author's."


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

    Reads eval.json and cost.json of every agent under .gatehouse/, writes scorecard.md, scorecard.json and
    scorecard.xml (JUnit) there. The comment needs a pull request's event, or that of a workflow_run which
    follows a fork's, and a token in GITHUB_TOKEN. Exit code: 0 delivered, 3 not delivered; whether the gate
    passed, its own step says.
    """
    _check(to, key)
    places = to or PLACES
    event = Event.read() if in_actions() else None
    results, head = _results(out, event)
    if not results.cards and not event:
        raise InfrastructureError(
            f"Nothing was measured: no results lie in {results.folder.absolute()}. "
            "Run the eval gate first, in this folder."
        )
    run_url, note = (event.run_url, FORK if _is_of_a_fork(event) else "") if event else ("", "")
    shown = partial(
        markdown, results.cards, run_url=run_url, head=head, note=note, changes=results.changes_markdown
    )
    body = shown()
    with writing(results.folder):
        results.folder.mkdir(parents=True, exist_ok=True)
        # Not through a link that waits there.
        replace_file(results.folder / "scorecard.md", body + "\n")
        replace_file(results.folder / "scorecard.xml", junit(results.cards, commit=head))
    say(terminal(results.cards, changes=results.changes_lines))
    if "summary" in places:
        append_summary(shown(limit=SUMMARY_LIMIT))
    if "annotations" in places and in_actions():
        _annotate(results.cards)
    url, failure = "", None
    if "comment" in places:
        try:
            url = _comment(event, body, head, author, key, asked="comment" in to)
        except InfrastructureError as error:
            failure = error
        if not url and "summary" not in places:
            append_summary(shown(limit=SUMMARY_LIMIT))
    _hand_on(results, head, url)
    if failure:
        raise failure
    click.get_current_context().exit(Exit.PASS if results.cards else Exit.UNSCORED)


def _check(to: tuple[str, ...], key: str) -> None:
    problems = []
    unknown = [place for place in to if place not in PLACES]
    if unknown:
        problems.append(f"--to {', '.join(map(repr, unknown))}: write {', '.join(PLACES)}.")
    if not re.fullmatch(KEY, key) or len(key) > LONGEST_KEY:
        problems.append(
            f"--key {key!r}: write small letters and digits in words joined by hyphens, such as nightly, "
            f"at most {LONGEST_KEY} characters."
        )
    if problems:
        raise UserError(*problems)


def _results(out: Path | None, event: Event | None) -> tuple[Results, str]:
    """What there is to show, and the commit that it is of."""
    if event and (run := event.follows):
        # Of a pull request's run the results name the merge that GitHub made, which nothing here knows.
        return read_foreign(None if run.event == "pull_request" else run.head_sha), run.head_sha
    head = (event.head_sha or event.sha) if event else current_commit(Path.cwd()) or ""
    return read_results(out), head


def _is_of_a_fork(event: Event) -> bool:
    return event.follows is not None and event.follows.head_repository != event.repository


def _hand_on(results: Results, head: str, url: str) -> None:
    """Write scorecard.json, and tell later steps."""
    state, folder = state_of(results.cards), results.folder
    data = {
        "schema": SCHEMA,
        "state": state,
        "commit": head,
        "comment": url,
        "agents": [
            {"name": c.name, "state": c.state, "reason": c.reason, "eval": c.eval, "cost": c.cost}
            for c in results.cards
        ],
        "changes": results.changes,
    }
    write_json(folder / "scorecard.json", data)
    files = {"markdown": str(folder / "scorecard.md"), "junit": str(folder / "scorecard.xml")}
    set_outputs({"state": state, "comment-url": url, **files})


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
            file=case.get("path") or (card.eval or {})["dataset"]["path"],
            line=case["line"],
            title=f"{card.name}: {case['id']}",
        )


def _comment(event: Event | None, body: str, head: str, author: str | None, key: str, *, asked: bool) -> str:
    """Deliver the comment and return its address; "" where there is none to write, or GitHub refuses it.

    Raises InfrastructureError where it should be there and is not.
    """
    token = os.environ.get("GITHUB_TOKEN", "")
    if event is None or (event.number is None and event.follows is None):
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
    from gatehouse.github.api import Api, ApiError  # noqa: PLC0415 beside the 60 ms of requests

    try:
        with Api(event.api_url, token) as api:
            return _deliver(api, event, body, head, author, key)
    except ApiError as error:
        if error.status not in REFUSED or not os.environ.get("GITHUB_STEP_SUMMARY"):
            raise
        annotate("warning", f"The scorecard stands in the job summary instead. {error}", title="No comment")
        return ""


def _deliver(api: Api, event: Event, body: str, head: str, author: str | None, key: str) -> str:
    from gatehouse.github.comments import ACTIONS_BOT, deliver  # noqa: PLC0415 beside the 60 ms of requests
    from gatehouse.github.pulls import find  # noqa: PLC0415 as above

    number, why = event.number, ""
    if event.follows:
        number, why = find(api, event.repository, event.follows)
    if number is None:
        say(f"No comment: {why} The job summary has the scorecard.")
        return ""
    who = author or ACTIONS_BOT
    done = deliver(api, event.repository, number, body, key=key, head_sha=head, author=who)
    say(f"Comment {done.action}: {done.reason} {done.url}")
    return done.url
