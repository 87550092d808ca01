"""What is decided once a release pull request is merged: the tag, the way back to develop, the clean-up.

Everything here is pure: it takes what GitHub and git said, and hands back decisions with their reasons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Decision
from gatehouse.github.escape import markdown_block, markdown_inline, plain
from gatehouse.release.version import branch_of, newest, tag_of, version_of_branch, version_of_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.version import Version

_STARTED_BY = ("push", "workflow_dispatch")
"""Events whose runs are of the repository's own commits: a fork's pull request brings its own workflow."""

_RULE = re.compile(r"\bGH006\b|\bGH013\b|protected branch hook declined", re.IGNORECASE)
_SHOWN = 20
"""Files or commits that a text lists."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged release pull request; `head` is its branch's last commit, `commit` what main got of it."""

    number: int
    version: Version
    branch: str
    head: str
    commit: str
    url: str


def merged_release(pull: Mapping[str, Any], repository: str, main: str, prefix: str) -> Merged | None:
    """A pull request as the API shows it, if it is a merged one from a release branch of `repository`.

    One from a fork is none, whatever its branch is called: nobody cut it.
    """
    head = pull["head"]
    version = version_of_branch(head["ref"], prefix)
    own = (head.get("repo") or {}).get("full_name") == repository
    if version is None or version.is_prerelease or not own:
        return None
    if not pull.get("merged_at") or not pull.get("merge_commit_sha") or pull["base"]["ref"] != main:
        return None
    commit = str(pull["merge_commit_sha"])
    return Merged(int(pull["number"]), version, head["ref"], head["sha"], commit, str(pull["html_url"]))


def to_tag(merged: Sequence[Merged], tags: Iterable[str], prefix: str) -> Merged | None:
    """The newest merged release without a tag; where all have theirs, the newest; None without any.

    One that is older than the newest tag was left behind on purpose and is only tagged by its version.
    """
    latest = newest((tag for tag in tags if _is_final(tag, prefix)), prefix)
    known = set(tags)
    waiting = [
        one
        for one in merged
        if tag_of(one.version, prefix) not in known and (latest is None or one.version > latest)
    ]
    return max(waiting or merged, key=lambda one: (one.version, one.number), default=None)


def _is_final(tag: str, prefix: str) -> bool:
    version = version_of_tag(tag, prefix)
    return version is not None and not version.is_prerelease


def contained(merged: Merged, *, on_main: bool, main: str) -> Decision:
    """Whether what was merged is still on main."""
    short = merged.commit[:12]
    if on_main:
        return Decision(passed=True, reason=f"{short}, the merge of #{merged.number}, is on {main}")
    return Decision(
        passed=False,
        reason=f"{short}, the merge of #{merged.number}, is not on {main}: {main} was moved since. "
        "Bring it back there, or cut the next version.",
    )


def other_files(merged: Merged, main: str) -> str:
    """Why what main got was not staged, where it is not what the release branch held, and what to do."""
    branch, into = plain(merged.branch, 200), plain(main, 100)
    return (
        f" {into} got other files than {branch} held: it had commits that the branch lacked. Push "
        f"{merged.commit[:12]} as {branch} again, let staging run there, and run this again; or merge "
        f"{into} into develop and cut the next version."
    )


def staged(
    runs: Iterable[Mapping[str, Any]],
    trees: Mapping[str, str | None],
    tree: str | None,
    workflow: str,
    other: str = "",
) -> Decision:
    """Whether staging was green for these very files.

    `runs` are the workflow's as the API shows them, newest first; `trees` are the trees of their commits;
    `other` is what `other_files` says, "" where main got what the release branch held.
    """
    told = ""
    for run in runs:
        if run["event"] not in _STARTED_BY or tree is None or trees.get(run["head_sha"]) != tree:
            continue
        state = run.get("conclusion") or run["status"]
        if state == "success":
            return Decision(passed=True, reason=f"{workflow} was green for these files: {run['html_url']}")
        told = told or f" Its newest run for them is {str(state).replace('_', ' ')}: {run['html_url']}"
    repair = "" if told else other or " Start it on the release branch."
    return Decision(
        passed=False, reason=f"{workflow} was never green for the files to be tagged.{told}{repair}"
    )


def has_section(body: str | None, version: Version, path: str, *, there: bool) -> Decision:
    """Whether the changelog at the commit speaks of the version; `body` is that section's, None for none."""
    if body and body.strip():
        return Decision(passed=True, reason=f"{path} has the section [{version}]")
    what = f"has no section [{version}]" if there else "does not exist at that commit"
    what = what if body is None else f"says nothing under [{version}]"
    return Decision(
        passed=False,
        reason=f"{path} {what}. A release is cut by cut-release, which writes it; "
        "or name another file by --changelog.",
    )


def ahead_of(version: Version, tags: Iterable[str], prefix: str) -> str:
    """The newest final tag above `version`, "" for none: then this is a release of an older line."""
    higher = newest((tag for tag in tags if _is_final(tag, prefix)), prefix)
    return tag_of(higher, prefix) if higher and higher > version else ""


def newest_release(releases: Iterable[Mapping[str, Any]], prefix: str) -> Version | None:
    """The highest final version that has a published GitHub Release."""
    tags = (r["tag_name"] for r in releases if not r["draft"] and not r["prerelease"])
    return newest((tag for tag in tags if _is_final(tag, prefix)), prefix)


def by_rule(stderr: str) -> bool:
    """Whether a push was refused by a rule of the branch, rather than because it moved."""
    return bool(_RULE.search(stderr))


def lacks_workflow_permission(stderr: str) -> bool:
    """Whether a push was refused because it changes workflow files, which a job's token never may."""
    return re.search(r"without .?workflows?.? (permission|scope)", stderr) is not None


def removable(
    branch: str, tip: str, merged: Merged | None, *, on_main: bool, same: bool, extra: Sequence[str]
) -> Decision:
    """Whether the release branch may go: nothing on it would be lost.

    `tip` is its commit; `on_main` says that main contains it, `same` that it holds the tag's files; `extra`
    are the subjects of the commits that the pull request did not have.
    """
    shown = plain(branch, 200)
    if merged and tip == merged.head:
        return Decision(passed=True, reason=f"{shown} was merged as it is by #{merged.number}")
    if on_main or same:
        what = "main contains it" if on_main else "it holds just what was released"
        return Decision(passed=True, reason=f"{shown} can go: {what}")
    listed = "; ".join(plain(subject, 80) for subject in extra[:_SHOWN])
    return Decision(
        passed=False,
        reason=f"{shown} is kept: it holds what was not released ({listed or tip[:12]}). Bring that into "
        "develop, then delete the branch, or delete it if nobody needs it.",
    )


def back_merge_branch(version: Version, prefix: str) -> str:
    """The branch that carries a release back where develop is protected, such as back-merge/v1.2.0."""
    return f"back-merge/{tag_of(version, prefix)}"


def squashed(tag: str, develop: str, url: str) -> str:
    """What to do after a back-merge was merged otherwise than by a merge commit."""
    return (
        f"{url} was merged, but not by a merge commit: {tag} is not in the history of {develop}, so versions "
        f"there would go on from the release before it. On a branch from {develop}, run\n"
        f"    git merge -s ours {tag}\n"
        f'open a pull request to {develop}, and merge it by "Create a merge commit". Then run this again.'
    )


def back_merge_body(version: Version, develop: str, prefix: str, conflicts: Sequence[str]) -> str:
    """The text of the back-merge's pull request; `conflicts` are the files that a person has to merge."""
    tag = tag_of(version, prefix)
    branch = back_merge_branch(version, prefix)
    what = f"Brings {markdown_inline(tag, 100)} back to {markdown_inline(develop, 200)}"
    lines = [f"{what}: the next version counts from it there, and fixes of the release branch are kept."]
    lines += [
        "",
        '**Merge it by "Create a merge commit".** Squashed or rebased, the tag would not be in its history.',
    ]
    if conflicts:
        lines += ["", "These files changed on both sides, and a person has to merge them:", ""]
        lines += [f"- {markdown_inline(path, 300)}" for path in conflicts[:_SHOWN]]
        lines += [f"- and {len(conflicts) - _SHOWN} more"] * (len(conflicts) > _SHOWN)
        steps = f"git fetch origin\ngit switch {quote(branch)}\ngit merge {quote(f'origin/{develop}')}\n"
        steps += "# edit the files above, then\ngit commit --all --no-edit\ngit push\n"
        lines += ["", "Use *Resolve conflicts* here, or on your machine:", "", markdown_block(steps, 2000)]
    return "\n".join([*lines, "", f"Release branch: {markdown_inline(branch_of(version, prefix), 200)}"])


def our_drafts(releases: Iterable[Mapping[str, Any]], tag: str, marker: str) -> list[Mapping[str, Any]]:
    """The drafts of a tag that carry our marker, the first made first; a person's are left alone."""
    found = [r for r in releases if r["draft"] and r["tag_name"] == tag and marker in (r.get("body") or "")]
    return sorted(found, key=lambda release: int(release["id"]))


def is_newest(version: Version, releases: Iterable[Mapping[str, Any]], prefix: str) -> bool:
    """Whether this is to be shown as the latest release: final, and above every final one published."""
    newest_one = newest_release(releases, prefix)
    return not version.is_prerelease and (newest_one is None or version >= newest_one)


def release_before(version: Version, releases: Iterable[Mapping[str, Any]], prefix: str) -> str:
    """The tag of the highest final release below `version`, "" for none: generated notes begin there."""
    tags = (r["tag_name"] for r in releases if not r["draft"] and not r["prerelease"])
    below = [
        tag
        for tag in tags
        if (one := version_of_tag(tag, prefix)) and one < version and not one.is_prerelease
    ]
    before = newest(below, prefix)
    return tag_of(before, prefix) if before else ""


def asset_name(name: str) -> str:
    """The name under which GitHub keeps a file: it replaces other characters in silence."""
    return re.sub(r"[^A-Za-z0-9._+@-]+", ".", name)


def is_intact(asset: Mapping[str, Any], sha256: str, size: int) -> bool | None:
    """Whether an asset holds just these bytes; None where GitHub says no digest: then download it."""
    if asset["state"] != "uploaded" or asset["size"] != size:
        return False
    digest = asset.get("digest")
    return bool(digest == f"sha256:{sha256}") if digest else None
