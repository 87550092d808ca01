"""What a cut of a release is to do, found by looking at GitHub and git only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Decision, Problem, UserError
from gatehouse.github.runner import say
from gatehouse.release import changelog as changelogs
from gatehouse.release.git import GitError
from gatehouse.release.gitflow import (
    Commit,
    alone,
    chosen,
    final_tags,
    green,
    has_all,
    resumable,
    unmerged,
    unused,
)
from gatehouse.release.version import branch_of, newest, tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

    from gatehouse.commands._release import Place

NOTHING = "Nothing was changed."

_DEVELOP, _MAIN = "refs/cut/develop", "refs/cut/main"
"""Where the scratch clone keeps what it fetched."""


@dataclass(frozen=True, slots=True)
class Names:
    """The branches, the prefix of tags, the path of the changelog in the repository, and its web address."""

    url: str
    develop: str
    main: str
    prefix: str
    changelog: str


@dataclass(slots=True)
class Cut:
    """What is to be cut from the commit `base`; `commit` is "" until the release branch is on the server.

    `before` and `after` are the changelog; `pushed` says that this very process pushed the branch.
    """

    version: Version
    tag: str
    branch: str
    base: str
    before: str
    after: str
    section: str
    decisions: list[Decision]
    commit: str = ""
    pushed: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def ref(self) -> str:
        """The full name of the release branch."""
        return f"refs/heads/{self.branch}"


def plan(place: Place, names: Names, wanted: str, *, skip_ci_check: bool) -> Cut:
    """What is to be done and whether it may be, by looking only; raises UserError."""
    refs = place.git.remote_refs("refs/heads/*", "refs/tags/*")
    tags = [ref.removeprefix("refs/tags/") for ref in refs if ref.startswith("refs/tags/")]
    base, text = _develop(place, refs, names)
    version, why = chosen(wanted, tags, names.prefix, text, names.changelog)
    say(f"Version {version}, {why}.")
    tag, branch = tag_of(version, names.prefix), branch_of(version, names.prefix)
    cut = Cut(version, tag, branch, base, text, "", "", [])
    cut.decisions = [
        unused(version, tags, place.every("releases"), names.prefix),
        is_alone(cut, refs, names),
        unmerged(pulls(place, branch, names.main, "all"), branch),
    ]
    if cut.ref in refs:
        cut.decisions.append(resume(place, cut, names))
        return cut
    cut.decisions += [
        has_all(_lacking(place), names.develop, names.main),
        _green(place, base, names, skip=skip_ci_check),
    ]
    latest = newest(final_tags(tags, names.prefix), names.prefix)
    cut.after = changelogs.cut(
        text,
        version,
        datetime.now(UTC).date(),
        names.url,
        tag_of(latest, names.prefix) if latest else None,
        names.prefix,
        names.changelog,
    )
    cut.section = changelogs.section(cut.after, version) or ""
    return cut


def _develop(place: Place, refs: Mapping[str, str], names: Names) -> tuple[str, str]:
    """The head commit of develop, fetched, and its changelog; raises UserError for what is not there."""
    missing = [
        Problem(f"there is no branch {name}", repair=f"Name yours by {option}.")
        for option, name in (("--develop", names.develop), ("--main", names.main))
        if f"refs/heads/{name}" not in refs
    ]
    if missing:
        raise UserError(*missing, left=NOTHING)
    place.fetch(f"+refs/heads/{names.develop}:{_DEVELOP}", f"+refs/heads/{names.main}:{_MAIN}")
    base = place.git.commit(_DEVELOP) or ""
    text = place.git.text(base, names.changelog, NOTHING)
    mode = place.git("ls-tree", base, "--", f":(literal){names.changelog}").partition(" ")[0]
    if text is None or not mode.startswith("100"):
        what = "does not exist" if text is None else "is a link: name the file itself"
        repair = "Write one with a heading `## [Unreleased]`, or name yours by --changelog."
        raise UserError(Problem(f"{what} on {names.develop}", names.changelog, repair=repair), left=NOTHING)
    return base, text


def is_alone(cut: Cut, refs: Mapping[str, str], names: Names) -> Decision:
    """Whether no other release is under way, by the refs of the server."""
    found: dict[str, list[str]] = {"heads": [], "tags": []}
    for ref in refs:
        _, kind, name = ref.split("/", 2)
        found[kind].append(name)
    return alone(found["heads"], cut.version, found["tags"], names.prefix)


def pulls(place: Place, branch: str, main: str, state: str) -> list[dict[str, Any]]:
    """The pull requests from the release branch into main, newest first."""
    owner = place.repository.partition("/")[0]
    found = place.every("pulls", state=state, head=f"{owner}:{branch}", base=main)
    return [pull for pull in found if (pull["head"]["repo"] or {}).get("full_name") == place.repository]


def _lacking(place: Place) -> list[Commit]:
    """Some of main's commits that develop lacks; none where merging them would not change its files."""
    try:
        merged = place.git("merge-tree", "--write-tree", _DEVELOP, _MAIN)
    except GitError:  # a conflict, no common history, or a git before 2.38
        merged = ""
    if merged == place.git.tree(_DEVELOP):
        return []
    return _commits(place, "--max-count=11", _MAIN, f"^{_DEVELOP}")


def _green(place: Place, base: str, names: Names, *, skip: bool) -> Decision:
    if skip:
        return Decision(
            passed=True, reason=f"whether {names.develop} is green was not asked: --skip-ci-check"
        )
    runs = place.every("actions/runs", "workflow_runs", head_sha=base, event="push")
    return green(runs, names.develop, base)


def resume(place: Place, cut: Cut, names: Names) -> Decision:
    """Whether the release branch on the server is our own; then the cut takes its commit and changelog."""
    git, own = place.git, "refs/cut/release"
    place.fetch(f"+{cut.ref}:{own}", f"+refs/heads/{names.develop}:{_DEVELOP}")
    tip = _commits(place, "--max-count=1", own)[0]
    others = _commits(place, "--max-count=100", own, f"^{_DEVELOP}")
    changed = git.run("diff-tree", "-r", "-z", "--no-commit-id", "--name-only", own).split("\0")[:-1]
    on_develop = all(git.is_ancestor(parent, _DEVELOP) for parent in tip.parents)
    decision = resumable(
        cut.branch, tip, others, changed, cut.version, names.changelog, on_develop=on_develop
    )
    if decision.passed:
        cut.commit, cut.base = tip.hash, tip.parents[0]
        cut.before = git.show(cut.base, names.changelog) or ""
        cut.after = git.show(tip.hash, names.changelog) or ""
        cut.section = changelogs.section(cut.after, cut.version) or ""
    return decision


def _commits(place: Place, *which: str) -> list[Commit]:
    listed = place.git.run("log", "-z", "--no-show-signature", "--format=%H%n%P%n%B", *which)
    parts = [one.split("\n", 2) for one in listed.split("\0") if one]
    return [Commit(commit, message, tuple(parents.split())) for commit, parents, message in parts]
