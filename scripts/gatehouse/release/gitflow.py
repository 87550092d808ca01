"""What is decided when a release is cut from develop: which version, whether it may be, what is said of it.

Everything here is pure: it takes what GitHub and git said, and hands back decisions with their reasons.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Decision, Problem, UserError
from gatehouse.github.escape import markdown_block, markdown_inline, plain
from gatehouse.release.changelog import level
from gatehouse.release.version import (
    bump,
    newest,
    release_version,
    tag_of,
    version_of_branch,
    version_of_tag,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.version import Version

    from gatehouse.release.version import Level

LEVELS: dict[str, Level] = {"major": "major", "minor": "minor", "patch": "patch"}
GREEN = ("success", "skipped", "neutral")
"""Conclusions of a run that stand in nobody's way."""

BODY_LIMIT = 65_536
"""Characters of a pull request's text; GitHub refuses a longer one."""

SETTING = "Settings > Actions > General > Allow GitHub Actions to create and approve pull requests"

_TRAILER = re.compile(r"^Gatehouse-Cut: (\S+)\s*\Z", re.MULTILINE)
_SHOWN = 10
"""Commits or workflows that a reason lists."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: full hash, message, and hashes of its parents."""

    hash: str
    message: str
    parents: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.hash[:12]} "{plain(self.message.partition(chr(10))[0], 80)}"'


def final_tags(tags: Iterable[str], prefix: str) -> list[str]:
    """The tags of final versions: a candidate is no release to count from or to compare with."""
    versions = {tag: version_of_tag(tag, prefix) for tag in tags}
    return [tag for tag, version in versions.items() if version and not version.is_prerelease]


def chosen(
    wanted: str, tags: Iterable[str], prefix: str, changelog: str, path: str = "CHANGELOG.md"
) -> tuple[Version, str]:
    """The version to release and why: as given, or counted from the newest tag, for auto by the changelog.

    Raises UserError for a version that is none, or a changelog that says nothing.
    """
    word = wanted.strip().lower()
    current = newest(final_tags(tags, prefix), prefix)
    if word not in ("auto", *LEVELS):
        return _given(wanted), "as asked for"
    how, why = level(changelog, current, path) if word == "auto" else (LEVELS[word], f"{word} was asked for")
    return bump(current, how), f"after {current}: {why}" if current else f"the first release: {why}"


def _given(wanted: str) -> Version:
    try:
        return release_version(wanted)
    except UserError as error:
        fault = error.problems[0]
        repair = f"{fault.repair} Or auto, major, minor or patch."
        raise UserError(Problem(fault.message, repair=repair), left="Nothing was changed.") from None


def unused(
    version: Version, tags: Iterable[str], releases: Iterable[Mapping[str, Any]], prefix: str
) -> Decision:
    """Whether the version is newer than every tag, and has no GitHub Release, a draft included."""
    tag, highest = tag_of(version, prefix), newest(tags, prefix)
    if highest == version:
        return Decision(
            passed=False,
            reason=f"{tag} is tagged already: a published version is never cut again. Take a newer one.",
        )
    if highest and highest > version:
        return Decision(
            passed=False,
            reason=f"{tag} is older than the tag {tag_of(highest, prefix)}. Take a version above {highest}.",
        )
    there = next((release for release in releases if release["tag_name"] == tag), None)
    if there:
        kind = "a draft of a GitHub Release" if there["draft"] else "a GitHub Release"
        return Decision(
            passed=False,
            reason=f"there is {kind} of {tag} already: {plain(str(there['html_url']), 300)} "
            "Delete it if nothing of it was published, else take a newer version.",
        )
    return Decision(
        passed=True, reason=f"{tag} is newer than every tag, and there is no GitHub Release of it"
    )


def alone(branches: Iterable[str], version: Version, tags: Iterable[str], prefix: str) -> Decision:
    """Whether no other release is under way: a release branch whose version has no tag yet."""
    known = set(tags)
    others = sorted(
        branch
        for branch in branches
        if (other := version_of_branch(branch, prefix))
        and other != version
        and tag_of(other, prefix) not in known
    )
    if not others:
        return Decision(passed=True, reason="no other release is under way")
    names = ", ".join(plain(branch, 100) for branch in others[:_SHOWN])
    are = "is" if len(others) == 1 else "are"
    return Decision(
        passed=False,
        reason=f"{names} {are} under way. Finish that first: merge its pull request and run tag-release. "
        f"To give it up, delete it: git push origin --delete {plain(others[0], 100)}",
    )


def unmerged(pulls: Iterable[Mapping[str, Any]], branch: str) -> Decision:
    """Whether the release branch was not merged before; `pulls` are those from it into main."""
    for pull in pulls:
        if pull["merged_at"]:
            return Decision(
                passed=False,
                reason=f"#{pull['number']} has merged {plain(branch, 100)} already: run tag-release.",
            )
    return Decision(passed=True, reason=f"{plain(branch, 100)} was not merged before")


def green(runs: Iterable[Mapping[str, Any]], develop: str, commit: str) -> Decision:
    """Whether every workflow that a push to `develop` started at its head commit passed.

    `runs` are as the API shows them; of one workflow the newest counts.
    """
    latest: dict[Any, Mapping[str, Any]] = {}
    for run in runs:
        if (run["event"], run["head_branch"], run["head_sha"]) == ("push", develop, commit):
            other = latest.get(run["workflow_id"])
            if other is None or _order(run) > _order(other):
                latest[run["workflow_id"]] = run
    here = f"{plain(develop, 100)} ({commit[:12]})"
    if not latest:
        return Decision(
            passed=False,
            reason=f"no workflow was started by the push of {here}: whether it works is not known. A push "
            "with a job's own token starts none; any later push does. Or say --skip-ci-check.",
        )
    bad = [
        f"{plain(str(run['name']), 80)} {_state(run)} ({plain(str(run['html_url']), 300)})"
        for run in latest.values()
        if run["conclusion"] not in GREEN
    ]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        return Decision(
            passed=False,
            reason=f"{here} is not green: {', '.join(bad[:_SHOWN])}{more}. Mend it, or wait, and run this "
            "again; or say --skip-ci-check.",
        )
    passed = [run for run in latest.values() if run["conclusion"] == "success"]
    if not passed:
        return Decision(
            passed=False,
            reason=f"no workflow passed at {here}, all were skipped: whether it works is not known. Push "
            "what they run for, or say --skip-ci-check.",
        )
    noun = "workflow" if len(passed) == 1 else "workflows"
    return Decision(passed=True, reason=f"{here} is green: {len(passed)} {noun} passed")


def has_all(lacking: Sequence[Commit], develop: str, main: str) -> Decision:
    """Whether `develop` has what `main` has, a hotfix too; `lacking` are main's commits that it lacks."""
    into, source = plain(develop, 100), plain(main, 100)
    if not lacking:
        return Decision(passed=True, reason=f"{into} has all that {source} has")
    listed = ", ".join(map(str, lacking[:_SHOWN]))
    more = " and more" if len(lacking) > _SHOWN else ""
    return Decision(
        passed=False,
        reason=f"{into} lacks what {source} has: {listed}{more}. Merged there, the release would be other "
        f"files than staging saw. Merge {source} into {into} first, and run this again.",
    )


def _order(run: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(run["run_number"]), int(run.get("run_attempt") or 1), int(run["id"])


def _state(run: Mapping[str, Any]) -> str:
    if run["status"] != "completed":
        return f"is {plain(str(run['status']), 40).replace('_', ' ')}"
    return f"ended with {plain(str(run['conclusion']), 40).replace('_', ' ')}"


def resumable(
    branch: str,
    tip: Commit,
    others: Sequence[Commit],
    changed: Sequence[str],
    version: Version,
    changelog: str,
    *,
    on_develop: bool,
) -> Decision:
    """Whether a release branch that exists is our own cut of that version, and nothing else.

    `others` are its commits that develop lacks, newest first; `changed` are the files that `tip` changes;
    `on_develop` says that develop contains its parent.
    """
    shown = plain(branch, 100)
    ours = (
        cut_version(tip.message) == str(version)
        and len(tip.parents) == 1
        and on_develop
        and list(changed) == [changelog]
    )
    if ours:
        return Decision(
            passed=True, reason=f"{shown} is cut already, as {tip.hash[:12]}: going on from there"
        )
    foreign = [commit for commit in others if cut_version(commit.message) != str(version)] or [tip]
    listed = ", ".join(map(str, foreign[:_SHOWN]))
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    return Decision(
        passed=False,
        reason=f"{shown} exists and holds commits that are not this cut's: {listed}{more}. It is left as it "
        f"is. To cut {version} anew, delete it first: git push origin --delete {shown}",
    )


def commit_message(version: Version) -> str:
    """The message of the cut commit; its trailer is how a repetition knows it."""
    return f"Release {version}\n\nGatehouse-Cut: {version}\n"


def cut_version(message: str) -> str:
    """The version that a commit says it cuts; "" for any other commit."""
    found = _TRAILER.search(message)
    return found[1] if found else ""


def startable(text: str | None) -> bool:
    """Whether a workflow file can be started by a dispatch; False for none, and for what is no workflow."""
    import yaml  # noqa: PLC0415 16 ms that only a cut needs

    try:
        # Strings for all scalars: `on` would be true.
        document = yaml.load(text or "", Loader=yaml.BaseLoader)  # noqa: S506 it makes strings only
    except (yaml.YAMLError, RecursionError):
        return False
    on = document.get("on") if isinstance(document, dict) else None
    return on == "workflow_dispatch" or (isinstance(on, (list, dict)) and "workflow_dispatch" in on)


def started(
    runs: Iterable[Mapping[str, Any]], workflow: str, name: str, commit: str
) -> Mapping[str, Any] | None:
    """The run of a workflow's file that was started on the branch or tag at its commit; None without one.

    A run for the pull request is none: it is of the merge, and may wait for a person's approval. Neither is
    one whose file GitHub could not read. One that did not fail comes before one that did, the newest first.
    """
    own = [
        run
        for run in runs
        if run["event"] in ("push", "workflow_dispatch")
        and (run["head_branch"], run["head_sha"]) == (name, commit)
        and str(run["path"]).partition("@")[0] == f".github/workflows/{workflow}"
        and run["conclusion"] != "startup_failure"
    ]
    return min(own, key=_failed, default=None)


def is_under_way(run: Mapping[str, Any], workflow: str, name: str) -> Decision:
    """Whether a run that was started before needs nobody; the reason says what to do about it."""
    where = plain(str(run["html_url"]), 300)
    what = f"{workflow} was started already on {plain(name, 100)} and {_state(run)}: {where}"
    if _failed(run):
        return Decision(passed=False, reason=f"{what} Re-run it there: it is not started a second time.")
    if run["event"] == "workflow_dispatch" and run["conclusion"]:
        what += " If that was for something else, such as a trial, start another by hand."
    return Decision(passed=True, reason=what)


def _failed(run: Mapping[str, Any]) -> bool:
    return run["conclusion"] not in (None, *GREEN)


def pull_body(version: Version, section: str, develop: str, main: str, prefix: str) -> str:
    """The text of the release's pull request: a checklist to the end, and the changelog's section.

    At most BODY_LIMIT characters: what does not fit of the section is cut, and the text says so.
    """
    tag, into, source = (markdown_inline(text, 200) for text in (tag_of(version, prefix), main, develop))
    head = "\n".join(
        [
            f"Releases {tag}, cut from {source}. Fixes go to this branch until it is merged.",
            "",
            "### Staging",
            "",
            "- [x] Release branch cut, changelog dated",
            "- [ ] The changelog below says what users need to know",
            "- [ ] Staging is green: build, TestPyPI, verified install",
            "",
            "### Production",
            "",
            "- [ ] Reviewed and approved",
            f"- [ ] Merged into {into} by *Create a merge commit*",
            f"- [ ] {tag} tagged by the workflow *tag-release*, which starts the release",
            "- [ ] Release is green: build, TestPyPI, verified install",
            "- [ ] Publishing to PyPI approved",
            "- [ ] GitHub Release published with the built files",
            "- [ ] Published package tried",
            "",
            "### Cleanup",
            "",
            f"- [ ] {into} merged back to {source} by the workflow *finish-release*",
            "- [ ] Release branch deleted",
            "- [ ] Changelog ready for new entries",
            "",
            "### Changelog",
            "",
            "",
        ]
    )
    return head + _fenced(section or "(empty)", BODY_LIMIT - len(head))


def _fenced(section: str, room: int) -> str:
    """The section in a code block, at most `room` characters; cut, it says so above and where it ends."""
    whole = markdown_block(section, len(section), "markdown")
    if len(whole) <= room:
        return whole
    notice = f"Cut to fit GitHub's limit of {BODY_LIMIT:,} characters: the changelog has the rest.\n\n"
    room -= len(notice)

    def length(limit: int) -> int:
        return len(markdown_block(section, limit, "markdown"))

    # Searched for: the fences are as long as the longest run of backticks before the cut.
    limit = bisect_right(range(room), room, key=length) - 1
    return notice + markdown_block(section, limit, "markdown")
