"""`gatehouse tag-release`: the tag on what a release branch became on main, and the start of its release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.commands._release import (
    branch_names,
    changelog_option,
    main_option,
    prefix_option,
    report,
    repository_at,
    start_once,
    workflow_files,
)
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
@main_option
@prefix_option
@changelog_option
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

    The tag goes on the commit that the release branch's pull request became on main, if staging was green for
    its very files, and the changelog names the version. Needs no checkout.
    Exit code: 0 tagged and started, also before; 1 a check failed; 2 an option to mend; 3 GitHub failed.
    """
    branch_names(main=main, tag_prefix=f"{tag_prefix}1")
    workflow_files(staging_workflow=(staging_workflow,), release_workflow=(release_workflow,))
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
        starts_itself = push_starts and tag not in tags
        _workflows_exist(place, staging_workflow, "" if starts_itself else release_workflow)
        decisions = _checks(place, merged, main, changelog, staging_workflow)
        report(decisions, f"Tag {tag}")
        if higher := closing.ahead_of(merged.version, tags, tag_prefix):
            annotate("notice", f"{higher} is newer than {tag}: this is a release of an older line.")
        if not all(decision.passed for decision in decisions):
            say(f"Nothing was changed: {tag} {'stands' if tag in tags else 'was not created'}.")
            click.get_current_context().exit(Exit.FAIL)
        if dry_run:
            if tag not in tags:
                say(f"Would create the tag {tag} at {merged.commit[:12]}.")
            say(f"Would start {release_workflow} on {tag}, unless it was started.")
            return
        made = tag not in tags and _tag(place, tag, merged)
        if made and push_starts:
            say(f"The tag starts {release_workflow} by itself.")
            return
        _start(place, tag, merged.commit, release_workflow, made=made)


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
    text = git.show(merged.commit, changelog)
    return [
        *decisions,
        _staged(place, merged, main, staging),
        closing.has_section(
            section(text, merged.version) if text is not None else None,
            merged.version,
            changelog,
            there=text is not None,
        ),
    ]


def _staged(place: Place, merged: closing.Merged, main: str, workflow: str) -> Decision:
    """Whether staging was green: at the branch's last commit, else at the merge or another of its files."""
    path, tree = f"actions/workflows/{quote(workflow, safe='')}", place.git.tree(merged.commit)
    other = "" if tree == place.git.tree(merged.head) else closing.other_files(merged, main)
    runs: list[dict[str, Any]] = []
    decision = Decision(passed=False, reason="")
    for query in ({"head_sha": merged.head}, {"head_sha": merged.commit}, {"branch": merged.branch}):
        runs += place.every(f"{path}/runs", "workflow_runs", **query)
        trees = {run["head_sha"]: place.git.tree(run["head_sha"]) for run in runs}
        decision = closing.staged(runs, trees, tree, workflow, other)
        if decision.passed:
            break
    return decision


def _tag(place: Place, tag: str, merged: closing.Merged) -> bool:
    """Create the tag; False where somebody else has meanwhile, at the same commit."""
    from gatehouse.github.api import ApiError, LostReplyError  # noqa: PLC0415 beside the 60 ms of requests

    try:
        place.post("git/refs", {"ref": f"refs/tags/{tag}", "sha": merged.commit})
    except LostReplyError:
        raise
    except ApiError as error:
        existing = place.git.remote_refs(f"refs/tags/{tag}").get(f"refs/tags/{tag}")
        _refuse_other(existing, merged, tag)
        if existing is None:
            raise InfrastructureError(f"The tag {tag} was not created. {error}") from None
        return False
    say(f"Created the tag {tag} at {merged.commit[:12]}.")
    return True


def _start(place: Place, tag: str, commit: str, workflow: str, *, made: bool) -> None:
    """Start the release on the tag, unless it was; raises UserError where GitHub cannot."""
    if not made:
        say(f"The tag {tag} is at {commit[:12]} already.")
    why_not = start_once(place, [workflow], f"refs/tags/{tag}", commit, made=made)[workflow]
    if why_not:
        raise UserError(Problem(why_not), left=f"The tag {tag} exists.")
