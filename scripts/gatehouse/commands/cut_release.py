"""`gatehouse cut-release`: a release branch from develop, its dated changelog, its pull request to main."""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli import Lines
from gatehouse.commands._cut import NOTHING, Cut, Names, is_alone, plan, pulls, resume
from gatehouse.commands._release import (
    branch_names,
    changelog_option,
    develop_option,
    main_option,
    prefix_option,
    report,
    repository_at,
    start_once,
    workflow_files,
)
from gatehouse.errors import Exit, GatehouseError, InfrastructureError, Problem, UserError
from gatehouse.github.escape import markdown_block, markdown_inline
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, append_summary, say, set_outputs
from gatehouse.release.git import GitError, PushRefusedError
from gatehouse.release.gitflow import SETTING, commit_message, pull_body, startable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.commands._release import Place

STARTED = ("staging.yml", "agent-ci.yml")
"""The workflows of a release branch."""


@click.command("cut-release")
@click.option(
    "--version",
    default="auto",
    show_default=True,
    metavar="X.Y.Z",
    help="Version to release, or auto (by the changelog), major, minor, patch.",
)
@develop_option
@main_option
@prefix_option
@changelog_option
@click.option(
    "--start",
    cls=Lines,
    multiple=True,
    metavar="FILE",
    help="Workflow to start on the release branch; repeatable. Default: staging.yml and agent-ci.yml.",
)
@click.option("--push-starts", is_flag=True, help="The token's pushes start workflows by themselves.")
@click.option("--skip-ci-check", is_flag=True, help="Cut although develop is not known to be green.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
def cut_release(
    version: str,
    develop: str,
    main: str,
    tag_prefix: str,
    changelog: str,
    start: tuple[str, ...],
    push_starts: bool,
    skip_ci_check: bool,
    dry_run: bool,
) -> None:
    """Cut a release branch from develop and open its pull request.

    The branch release/vX.Y.Z gets one commit more than develop: the changelog with Unreleased dated as X.Y.Z.
    Nothing is tagged or published. Needs no checkout; after a failure it can be run again and goes on.
    Exit code: 0 cut, also before; 1 a check failed; 2 a file, option or setting to mend; 3 GitHub failed.
    """
    branch_names(develop=develop, main=main, tag_prefix=f"{tag_prefix}1")
    path, workflows = _inside(changelog), start or STARTED
    workflow_files(start=workflows)
    event = Event.read()
    names = Names(f"{event.server_url}/{event.repository}", develop, main, tag_prefix, path)
    with repository_at(event) as place:
        cut = plan(place, names, version, skip_ci_check=skip_ci_check)
        set_outputs({"version": str(cut.version), "branch": cut.branch})
        report(cut.decisions, f"Cut {cut.tag}")
        if dry_run:
            _show(place, cut, names, () if push_starts and not cut.commit else workflows)
        if not all(decision.passed for decision in cut.decisions):
            say(NOTHING)
            click.get_current_context().exit(Exit.FAIL)
        if not dry_run:
            _carry_out(place, cut, names, workflows, push_starts=push_starts)


def _inside(changelog: str) -> str:
    """The changelog's path as git names it; raises UserError for one that leaves the repository."""
    path = PurePosixPath(changelog)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in changelog:
        problem = Problem(f'--changelog "{changelog}" is no file of the repository')
        raise UserError(problem, left=NOTHING)
    return str(path)


def _show(place: Place, cut: Cut, names: Names, workflows: tuple[str, ...]) -> None:
    """Show what would be done."""
    lines = (cut.before.splitlines(keepends=True), cut.after.splitlines(keepends=True))
    files = (f"a/{names.changelog}", f"b/{names.changelog}")
    difference = "".join(difflib.unified_diff(*lines, *files))
    body = pull_body(cut.version, cut.section, names.develop, names.main, names.prefix)
    starts = [
        name
        for name in workflows
        if startable(place.git.show(cut.commit or cut.base, f".github/workflows/{name}"))
    ]
    shown = [
        f"Branch: {cut.branch}, from {names.develop} at {cut.base[:12]}",
        f"Pull request: Release {cut.tag}, into {names.main}",
        f"Started on it: {', '.join(starts) or 'nothing'}",
        "",
        difference,
        body,
    ]
    say("Dry run: nothing is changed. It would be:\n\n" + "\n".join(shown))
    append_summary(
        "#### Dry run: nothing was changed\n\n" + markdown_block("\n".join(shown), 100_000, "diff")
    )


def _carry_out(
    place: Place, cut: Cut, names: Names, workflows: tuple[str, ...], *, push_starts: bool
) -> None:
    """Branch, pull request and workflows, each unless it is there; an error says what was done before it."""
    try:
        if not cut.commit:
            _push(place, cut, names)
        _still_alone(place, cut, names)
        cut.done.append(f"{cut.branch} is at {cut.commit[:12]}")
        set_outputs({"commit": cut.commit})
        pull = _pull_request(place, cut, names)
        cut.done.append(f"its pull request is {pull['html_url']}")
        set_outputs({"pull-request": str(pull["number"]), "pull-request-url": str(pull["html_url"])})
        if not (push_starts and cut.pushed):
            _start(place, cut, workflows)
    except GatehouseError:
        if cut.commit:
            so_far = "; ".join(cut.done) or f"{cut.branch} is pushed"
            say(f"Done so far: {so_far}. Run this again, and it goes on from there.")
        raise
    _sum_up(cut, pull)


def _push(place: Place, cut: Cut, names: Names) -> None:
    """Make the cut commit, and the release branch of it unless somebody else did meanwhile."""
    commit = _commit(place, cut, names)
    try:
        place.git.push(f"{commit}:{cut.ref}", lease={cut.ref: ""})
    except GitError as error:
        there = place.git.remote_refs(cut.ref).get(cut.ref)
        if there is None:
            raise _not_pushed(error, cut.branch) from None
        if there != commit:
            decision = resume(place, cut, names)
            if not decision.passed:
                raise UserError(Problem(decision.reason), left=NOTHING) from None
            say(f"Somebody else cut it meanwhile: {decision.reason}.")
            return
    cut.commit, cut.pushed = commit, True
    say(f"Pushed {cut.branch} at {commit[:12]}.")


def _commit(place: Place, cut: Cut, names: Names) -> str:
    """The cut commit, in the scratch clone: `base` with the changelog changed."""
    git = place.git
    file = git.folder / "changelog"
    file.write_bytes(cut.after.encode(errors="surrogateescape"))
    blob = git("hash-object", "-w", "--no-filters", "changelog")
    git("read-tree", cut.base)
    mode = git("ls-tree", cut.base, "--", f":(literal){names.changelog}").partition(" ")[0]
    git("update-index", "--cacheinfo", f"{mode},{blob},{names.changelog}")
    tree = git("write-tree")
    return git("commit-tree", tree, "-p", cut.base, "-m", commit_message(cut.version))


def _not_pushed(error: GitError, branch: str) -> GatehouseError:
    if not isinstance(error, PushRefusedError):
        return error
    said = error.stderr
    if "workflow" in said:
        repair = (
            "A job's token may not push changed workflows: give an App's token that has `workflows: write`."
        )
    else:
        repair = "The job needs `contents: write`, and no rule may forbid it to create release branches."
    return InfrastructureError(f"{branch} was not pushed. {error}\n{repair}")


def _still_alone(place: Place, cut: Cut, names: Names) -> None:
    """Look once more after the push: of two cuts at the same time, each of which saw none, none stays."""
    decision = is_alone(cut, place.git.remote_refs("refs/heads/*", "refs/tags/*"), names)
    if decision.passed:
        return
    left = f"{cut.branch} stays."
    if cut.pushed:
        try:
            place.git.push(f":{cut.ref}", lease={cut.ref: cut.commit})
            left = f"{cut.branch} was pushed and is deleted again. {NOTHING}"
            cut.commit = ""
        except GitError as error:
            left = f"{cut.branch} is pushed and could not be deleted again: {error}"
    message = f"another release was cut at the same time: {decision.reason}"
    raise UserError(Problem(message), left=left)


def _pull_request(place: Place, cut: Cut, names: Names) -> dict[str, Any]:
    """The open pull request of the release branch, which is made where there is none."""
    from gatehouse.github.api import ApiError, LostReplyError  # noqa: PLC0415 beside the 60 ms of requests

    if found := pulls(place, cut.branch, names.main, "open"):
        say(f"The pull request is open already: {found[0]['html_url']}")
        return found[0]
    body = pull_body(cut.version, cut.section, names.develop, names.main, names.prefix)
    wish = {"title": f"Release {cut.tag}", "head": cut.branch, "base": names.main, "body": body}
    try:
        pull: dict[str, Any] = place.post("pulls", wish)
    except ApiError as error:
        if isinstance(error, LostReplyError) or error.status == 422:  # noqa: PLR2004 there is one already
            if found := pulls(place, cut.branch, names.main, "open"):
                return found[0]
        elif "not permitted to create or approve pull requests" in error.detail:
            problem = Problem(
                "GitHub Actions may not open pull requests in this repository",
                repair=f"Switch on {SETTING}, or hand the action an App's token.",
            )
            raise UserError(
                problem, left="The pull request was not opened, and no workflow started."
            ) from None
        raise
    say(f"Opened {pull['html_url']}")
    return pull


def _start(place: Place, cut: Cut, workflows: tuple[str, ...]) -> None:
    """Start on the branch what its push did not start, of the workflows that it has."""
    there = [
        name for name in workflows if place.git.show(cut.commit, f".github/workflows/{name}") is not None
    ]
    for name, why_not in start_once(place, there, cut.ref, cut.commit, made=cut.pushed).items():
        if why_not:
            annotate("warning", why_not)
        else:
            cut.done.append(f"{name} is started")


def _sum_up(cut: Cut, pull: Mapping[str, Any]) -> None:
    for line in cut.done:
        say(f"{line}.")
    say(f"Next: review and merge {pull['html_url']} once staging is green, then run tag-release.")
    items = "".join(f"- {markdown_inline(line, 400)}\n" for line in cut.done)
    append_summary(f"{items}\nNext: merge [the pull request]({pull['html_url']}), then run *tag-release*.\n")
