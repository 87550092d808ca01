"""`gatehouse tag-release`: the tag on what a release branch became on main, and the start of its release."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from gatehouse.commands._release import branch_names, report, repository_at
from gatehouse.errors import Decision, Exit, InfrastructureError, Problem, UserError
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, say, set_outputs
from gatehouse.release import closing
from gatehouse.release.version import branch_of, release_version, tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.commands._release import Place


@click.command("tag-release")
@click.option(
    "--version", default="", metavar="X.Y.Z", help="Default: the merged release that has no tag yet."
)
@click.option("--main", default="main", show_default=True, metavar="BRANCH", help="Branch of the releases.")
@click.option("--tag-prefix", default="v", show_default=True, metavar="TEXT", help="Prefix of version tags.")
@click.option(
    "--changelog", default="CHANGELOG.md", show_default=True, metavar="FILE", help="Must name the version."
)
@click.option(
    "--staging-workflow",
    default="staging.yml",
    show_default=True,
    metavar="FILE",
    help="Workflow that must have been green for these files.",
)
@click.option(
    "--release-workflow",
    default="release.yml",
    show_default=True,
    metavar="FILE",
    help="Workflow that is started on the tag.",
)
@click.option("--push-starts", is_flag=True, help="The token's tags start workflows by themselves.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
def tag_release(
    version: str,
    main: str,
    tag_prefix: str,
    changelog: str,
    staging_workflow: str,
    release_workflow: str,
    push_starts: bool,
    dry_run: bool,
) -> None:
    """Tag the merged release and start its workflow.

    The tag goes on the commit that the release branch's pull request became on main, if its files are those
    of the release branch, staging was green for them, and the changelog names the version. Needs no checkout.
    Exit code: 0 tagged and started, also before; 1 a check failed; 2 an option to mend; 3 GitHub failed.
    """
    branch_names(main=main, tag_prefix=f"{tag_prefix}1")
    event = Event.read()
    with repository_at(event) as place:
        tags = {
            ref.removeprefix("refs/tags/"): commit
            for ref, commit in place.git.remote_refs("refs/tags/*").items()
        }
        merged = _find(place, version, main, tag_prefix, tags)
        tag = tag_of(merged.version, tag_prefix)
        set_outputs({"version": str(merged.version), "tag": tag, "commit": merged.commit})
        _refuse_other(tags.get(tag), merged, tag)
        if tag in tags and (released := place.find(f"releases/tags/{quote(tag, safe='')}")):
            done = f"{tag} is released already: {released['html_url']}"
            report([Decision(passed=True, reason=done)], f"Tag {tag}")
            return
        _workflows_exist(place, staging_workflow, "" if push_starts else release_workflow)
        decisions = _checks(place, merged, main, changelog, staging_workflow)
        report(decisions, f"Tag {tag}")
        if higher := closing.ahead_of(merged.version, tags, tag_prefix):
            annotate("notice", f"{higher} is newer than {tag}: this is a release of an older line.")
        if not all(decision.passed for decision in decisions):
            say(f"Nothing was changed: {tag} {'stands' if tag in tags else 'was not created'}.")
            click.get_current_context().exit(Exit.FAIL)
        _tag(place, tag, merged, there=tag in tags, dry_run=dry_run)
        _start(place, tag, merged, release_workflow, push_starts=push_starts, dry_run=dry_run)


def _find(place: Place, version: str, main: str, prefix: str, tags: Mapping[str, str]) -> closing.Merged:
    """The merged release to tag; raises UserError where there is none."""
    wanted = release_version(version) if version.strip() else None
    branch = branch_of(wanted, prefix) if wanted else ""
    merged = place.merged_releases(main, prefix, branch)
    found = closing.to_tag(merged, () if wanted else tags, prefix)
    if found is None:
        name = branch or f"release/{prefix}X.Y.Z"
        repair = "Merge it first; cut-release opens it."
        raise UserError(Problem(f"no pull request from {name} into {main} was merged", repair=repair))
    say(f"{place.repository}: #{found.number} merged {found.branch} into {main} as {found.commit[:12]}.")
    return found


def _refuse_other(existing: str | None, merged: closing.Merged, tag: str) -> None:
    """Raise UserError where the tag is at another commit already."""
    if existing and existing != merged.commit:
        message = f"the tag {tag} exists already, at {existing[:12]} and not at {merged.commit[:12]}"
        repair = f"A published version is never moved: cut the next one. If nothing of {tag} was published, "
        repair += f"delete the tag (git push origin --delete {tag}) and run this again."
        raise UserError(Problem(message, repair=repair), left="Nothing was changed.")


def _workflows_exist(place: Place, staging: str, release: str) -> None:
    """Raise UserError for each workflow that the repository does not have; "" is none."""
    named = {"--staging-workflow": staging, "--release-workflow": release}
    missing = [
        Problem(f"the repository has no workflow {name}", repair=f"Name yours by {option}.")
        for option, name in named.items()
        if name and place.find(f"actions/workflows/{quote(name, safe='')}") is None
    ]
    if missing:
        raise UserError(*missing, left="Nothing was changed.")


def _checks(place: Place, merged: closing.Merged, main: str, changelog: str, staging: str) -> list[Decision]:
    """Every check of a merged release, all of them whatever the first says."""
    from gatehouse.release.changelog import section  # noqa: PLC0415 beside its parser of Markdown

    git = place.git
    place.fetch(
        f"+refs/heads/{main}:refs/remotes/origin/{main}", f"+refs/pull/{merged.number}/head:refs/pull/head"
    )
    there = git.commit(merged.commit) is not None
    on_main = there and git.is_ancestor(merged.commit, f"refs/remotes/origin/{main}")
    decisions = [closing.contained(merged, on_main=on_main, main=main)]
    if not on_main:
        return decisions
    tree = git.tree(merged.commit)
    text = git.show(merged.commit, changelog)
    return [
        *decisions,
        closing.same_tree(merged, tree, git.tree(merged.head), main),
        _staged(place, merged, tree, staging),
        closing.has_section(
            section(text, merged.version) if text is not None else None,
            merged.version,
            changelog,
            there=text is not None,
        ),
    ]


def _staged(place: Place, merged: closing.Merged, tree: str | None, workflow: str) -> Decision:
    """Whether staging was green: at the branch's last commit, else at another with the same files."""
    path = f"actions/workflows/{quote(workflow, safe='')}"
    decision = Decision(passed=False, reason="")
    for query in ({"head_sha": merged.head}, {"branch": merged.branch}):
        runs = list(place.every(f"{path}/runs", "workflow_runs", **query))
        trees = {run["head_sha"]: place.git.tree(run["head_sha"]) for run in runs}
        decision = closing.staged(runs, trees, tree, workflow)
        if decision.passed:
            break
    return decision


def _tag(place: Place, tag: str, merged: closing.Merged, *, there: bool, dry_run: bool) -> None:
    if there:
        say(f"The tag {tag} is at {merged.commit[:12]} already.")
        return
    if dry_run:
        say(f"Would create the tag {tag} at {merged.commit[:12]}.")
        return
    from gatehouse.github.api import ApiError, LostReplyError  # noqa: PLC0415 beside the 60 ms of requests

    try:
        place.post("git/refs", {"ref": f"refs/tags/{tag}", "sha": merged.commit})
    except LostReplyError:
        raise
    except ApiError as error:
        # Somebody else may have created it meanwhile.
        existing = place.git.remote_refs(f"refs/tags/{tag}").get(f"refs/tags/{tag}")
        _refuse_other(existing, merged, tag)
        if existing is None:
            raise InfrastructureError(f"The tag {tag} was not created. {error}") from None
    say(f"Created the tag {tag} at {merged.commit[:12]}.")


def _start(
    place: Place, tag: str, merged: closing.Merged, workflow: str, *, push_starts: bool, dry_run: bool
) -> None:
    """Start the release on the tag, unless the tag did, or it was started before."""
    if push_starts:
        say(f"The tag starts {workflow} by itself.")
        return
    path = f"actions/workflows/{quote(workflow, safe='')}"
    runs = place.every(f"{path}/runs", "workflow_runs", branch=tag)
    before = closing.started(runs, tag, merged.commit)
    if before.passed:
        say(f"{before.reason[:1].upper()}{before.reason[1:]}")
    elif dry_run:
        say(f"Would start {workflow} on {tag}.")
    else:
        _dispatch(place, path, workflow, tag)
        say(f"Started {workflow} on {tag}.")


def _dispatch(place: Place, path: str, workflow: str, tag: str) -> None:
    from gatehouse.github.api import ApiError  # noqa: PLC0415 beside the 60 ms of requests

    try:
        place.post(f"{path}/dispatches", {"ref": tag})
    except ApiError as error:
        if error.status != 422:  # noqa: PLR2004 HTTP's "not as it is": it has no such trigger
            raise
        problem = Problem(
            f"{workflow} was not started: {error.detail}",
            repair="Give it the trigger `workflow_dispatch`, or start it on the tag by hand.",
        )
        raise UserError(problem, left=f"The tag {tag} exists.") from None
