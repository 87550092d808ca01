"""`gatehouse changelog-guard`: a pull request that users will notice brings its changelog entry."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from gatehouse.cli import Lines
from gatehouse.commands._release import file_paths
from gatehouse.errors import Decision, Exit, Problem, UserError
from gatehouse.github.escape import markdown_block, plain
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, append_summary, say, set_outputs
from gatehouse.release.changelog import missing
from gatehouse.release.git import Git, GitError

OWN_BRANCHES = ("release/", "back-merge/")
"""Branches of the release train: what they bring was asked for before."""

UNSEEN = (
    *("docs/**", "doc/**", "/*.md", "/*.rst", "/LICENSE*"),
    *("**/tests/**", "**/test/**", "**/test_*.py", "**/*_test.py", "**/conftest.py"),
    *("**/.*", "**/.*/**"),
)
"""What users do not see, as git's own patterns: documentation, tests, and names with a dot in front."""

_NOTHING = "Nothing was judged."
_DEPTH = "Check out with `fetch-depth: 2` and without `ref:`, on the event `pull_request`."


@click.command("changelog-guard")
@click.option(
    "--changelog",
    default="CHANGELOG.md",
    show_default=True,
    metavar="FILE",
    help="Changelog, relative to the repository.",
)
@click.option(
    "--paths",
    cls=Lines,
    multiple=True,
    metavar="GLOB",
    help="Files that users see, such as src/**; ! in front leaves files out; repeatable. "
    "Default: all but documentation, tests and names with a dot in front.",
)
@click.option(
    "--skip-label",
    default="no-changelog",
    show_default=True,
    metavar="NAME",
    help="Label of the pull requests that need no entry.",
)
def changelog_guard(changelog: str, paths: tuple[str, ...], skip_label: str) -> None:
    """Ask a pull request for its changelog entry.

    A change of what users see needs a new entry under Unreleased. Reads the merge commit of the pull request
    (HEAD) and its base (HEAD^1). Exit code: 0 there is one, or none is needed; 1 there is none; 2 an option
    or the checkout is to mend.
    """
    file_paths(changelog=changelog)
    event = Event.read()
    state, reason = _judge(event, changelog, paths, skip_label)
    set_outputs({"state": state, "reason": reason})
    if state == "fail":
        reason += f"\nIf users see nothing of this change, label the pull request {plain(skip_label, 100)}."
        annotate("error", reason, file=changelog if Path(changelog).is_file() else "", title="Changelog")
        append_summary(f"### Changelog\n\n{markdown_block(reason, 20_000)}")
        click.get_current_context().exit(Exit.FAIL)
    say(f"{state}: {reason}")


def _judge(event: Event, changelog: str, paths: tuple[str, ...], skip_label: str) -> tuple[str, str]:
    """The state, "pass", "skip" or "fail", and its reason; raises UserError."""
    if event.number is None or event.head_ref is None:
        return "skip", "this is no pull request's run"
    if skip_label.casefold() in (label.casefold() for label in _labels()):
        return "skip", f"the pull request has the label {plain(skip_label, 100)}"
    if event.head_ref.startswith(OWN_BRANCHES) and not event.is_fork:
        return "skip", f"{plain(event.head_ref, 200)} is a branch of the release itself"
    git = Git(Path.cwd())
    _check_checkout(git, event.sha)
    before, after = git.show("HEAD^1", changelog), git.show("HEAD", changelog)
    if before is None or after is not None:
        seen = _changed(git, paths, changelog)
        if not seen:
            return "skip", "nothing that users see is changed"
        say(f"Users see: {', '.join(plain(path, 100) for path in seen[:5])}{' ...' * (len(seen) > 5)}")  # noqa: PLR2004
    decision: Decision = missing(before, after, changelog)
    return "pass" if decision.passed else "fail", decision.reason


def _labels() -> list[str]:
    """The names of the pull request's labels, as the event has them."""
    payload = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    labels = payload["pull_request"].get("labels")
    return [str(label.get("name")) for label in labels or [] if isinstance(label, dict)]


def _check_checkout(git: Git, sha: str) -> None:
    """Raise UserError unless HEAD is the merge commit of the run, and its first parent is here."""
    try:
        head = git("rev-parse", "--verify", "HEAD")
        # Not rev-list: for it the last commit of a shallow clone has no parents.
        lines = git("cat-file", "commit", "HEAD").partition("\n\n")[0].split("\n")
    except GitError:
        raise UserError(Problem("this is no checkout", repair=_DEPTH), left=_NOTHING) from None
    parents = [line for line in lines if line.startswith("parent ")]
    if head != sha or len(parents) != 2:  # noqa: PLR2004 base and head
        message = f"{head[:12]} is checked out, which is not the merge of the pull request into its base"
        raise UserError(Problem(message, repair=_DEPTH), left=_NOTHING)
    if git.commit("HEAD^1") is None:
        message = "the checkout lacks the base of the pull request, so nothing can be compared"
        raise UserError(Problem(message, repair=_DEPTH), left=_NOTHING)


def _changed(git: Git, paths: tuple[str, ...], changelog: str) -> list[str]:
    """The changed files that users see, the changelog left out; raises UserError for a pattern of git's."""
    patterns = [*paths] or [f"!{pattern}" for pattern in UNSEEN]
    specs = [f":(top,literal,exclude){changelog}"]
    for pattern in patterns:
        magic = "top,glob,exclude" if pattern.startswith("!") else "top,glob"
        specs.append(f":({magic}){pattern.removeprefix('!').removeprefix('/')}")
    try:
        listed = git.run("diff", "--name-only", "-z", "--no-renames", "HEAD^1", "HEAD", "--", *specs)
    except GitError as error:
        problem = Problem(
            f"--paths: {plain(error.stderr, 300).strip()}", repair="Write src/** or !src/old/**."
        )
        raise UserError(problem, left=_NOTHING) from None
    return [path for path in listed.split("\0") if path]
