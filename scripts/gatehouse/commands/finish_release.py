"""`gatehouse finish-release`: a published release merged back to develop, and its branch removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.commands._release import (
    branch_names,
    changelog_option,
    develop_option,
    file_paths,
    main_option,
    prefix_option,
    report,
    repository_at,
)
from gatehouse.errors import Decision, Exit, InfrastructureError, Problem, UserError
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, say, set_outputs
from gatehouse.release import closing
from gatehouse.release.git import GitError, PushRefusedError
from gatehouse.release.version import branch_of, parse, release_version, tag_of

if TYPE_CHECKING:
    from packaging.version import Version

    from gatehouse.commands._release import Place

_ATTEMPTS = 5
"""How often a branch that moves under us is followed."""

_DEVELOP, _MAIN, _BACK = "refs/scratch/develop", "refs/scratch/main", "refs/scratch/back"
_TAG, _RELEASE = "refs/scratch/tag", "refs/scratch/release"
"""Where the scratch clone keeps what it fetched."""

_SETTING = """\
Allow it in Settings, Actions, General, "Allow GitHub Actions to create and approve pull requests", or give
the action the token of an App. Then run this again."""

_WORKFLOWS = """\
The release changes workflow files, which the job's own token may not push. Give the action the token of an
App or a person with the permission "Workflows", or open the pull request from the tag by hand."""


@dataclass(slots=True)
class Release:
    """The release to finish, and where it is in the repository; `merged` is its pull request, if known."""

    place: Place
    version: Version
    prefix: str
    main: str
    develop: str
    changelog: str
    merged: closing.Merged | None = None
    commit: str = ""
    refs: dict[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """Its tag."""
        return tag_of(self.version, self.prefix)

    @property
    def branch(self) -> str:
        """Its release branch."""
        return branch_of(self.version, self.prefix)

    @property
    def back(self) -> str:
        """The branch of its back-merge."""
        return closing.back_merge_branch(self.version, self.prefix)

    def fetch(self) -> None:
        """Fetch what is there now; `refs` maps the short name of each branch to its commit."""
        names = [f"refs/heads/{name}" for name in (self.main, self.develop, self.branch, self.back)]
        found = self.place.git.remote_refs(*names, f"refs/tags/{self.tag}", f"refs/tags/{self.tag}^{{}}")
        self.refs = {
            name.removeprefix("refs/heads/"): commit for name, commit in found.items() if name in names
        }
        missing = [name for name in (self.main, self.develop) if name not in self.refs]
        if missing or f"refs/tags/{self.tag}" not in found:
            absent = [f"there is no branch {name}" for name in missing]
            absent += [f"there is no tag {self.tag}"] * (f"refs/tags/{self.tag}" not in found)
            raise UserError(*absent, left="Nothing was changed.")
        self.commit = found[f"refs/tags/{self.tag}"]
        places = {self.develop: _DEVELOP, self.back: _BACK, self.branch: _RELEASE, self.main: _MAIN}
        wanted = [f"+refs/heads/{name}:{to}" for name, to in places.items() if name in self.refs]
        if self.merged:
            wanted.append(f"+refs/pull/{self.merged.number}/head:refs/scratch/pull")
        self.place.fetch(f"+refs/tags/{self.tag}:{_TAG}", *wanted)

    def reaches_develop(self) -> bool:
        """Whether the tag is in the history of develop."""
        return self.place.git.is_ancestor(self.commit, _DEVELOP)


@click.command("finish-release")
@click.option("--version", default="", metavar="X.Y.Z", help="Default: the newest that was released.")
@develop_option
@main_option
@prefix_option
@changelog_option
def finish_release(version: str, develop: str, main: str, tag_prefix: str, changelog: str) -> None:
    """Merge a release back to develop and remove its branch.

    Nothing is forced: where develop takes no push, or a person has to merge, a pull request is opened.
    Run it again when that is merged. Needs no checkout. Exit code: 0 done, waiting for that pull request, or
    nothing to do for a pre-release; 1 the back-merge was squashed, or the release branch holds more; 2 an
    option to mend; 3 GitHub failed.
    """
    branch_names(main=main, develop=develop, tag_prefix=f"{tag_prefix}1")
    file_paths(changelog=changelog)
    event = Event.read()
    if version.strip() and parse(version).is_prerelease:
        set_outputs({"merged": False, "pull-request-url": "", "branch-deleted": False})
        report([Decision(passed=True, reason="nothing to merge back for a pre-release")], "Finish release")
        return
    with repository_at(event) as place:
        release = Release(place, _version(place, version, tag_prefix), tag_prefix, main, develop, changelog)
        release.merged = max(
            place.merged_releases(main, tag_prefix, release.branch), key=lambda one: one.number, default=None
        )
        release.fetch()
        merge, url = _merge_back(release)
        removal, gone = _remove_branch(release)
        merged = release.reaches_develop()
        set_outputs({"merged": merged, "pull-request-url": url, "branch-deleted": gone})
        report([merge, removal], f"Finish {release.tag}")
        click.get_current_context().exit(Exit.PASS if merge.passed and removal.passed else Exit.FAIL)


def _version(place: Place, version: str, prefix: str) -> Version:
    """The version to finish; raises UserError where it has no published GitHub Release."""
    if not version.strip():
        newest = closing.newest_release(place.every("releases"), prefix)
        if newest is None:
            raise UserError("no version was released on GitHub yet", left="Nothing was changed.")
        return newest
    wanted = parse(version)
    if not wanted.is_postrelease:  # a post-release has no branch of its own, and is tagged by hand
        release_version(version)
    tag = tag_of(wanted, prefix)
    found = place.find(f"releases/tags/{quote(tag, safe='')}")
    if found is None or found["draft"]:
        problem = Problem(
            f"{tag} has no published GitHub Release", repair="Run this after the release workflow has ended."
        )
        raise UserError(problem, left="Nothing was changed.")
    return wanted


def _merge_back(release: Release) -> tuple[Decision, str]:
    """Bring the tag into develop, or a pull request that does; what was reached, and that one's address."""
    for attempt in range(_ATTEMPTS + 1):
        if release.reaches_develop():
            _remove_back_merge(release)
            return Decision(passed=True, reason=f"{release.develop} contains {release.tag}"), ""
        if attempt == _ATTEMPTS:
            break
        pulls = _pulls(release)
        if merged := [str(pull["html_url"]) for pull in pulls if pull.get("merged_at")]:
            return Decision(
                passed=False, reason=closing.squashed(release.tag, release.develop, merged[0])
            ), ""
        if waiting := _open(pulls):
            return Decision(passed=True, reason=f"{waiting} waits to be merged by a merge commit"), waiting
        conflicts = _merge(release)
        url = ""
        if conflicts or release.back in release.refs or _is_protected(release) or not _push_merge(release):
            url = _by_pull(release, conflicts)
        if url and conflicts:
            listed = ", ".join(conflicts)
            reason = f"a person has to merge {release.tag}: {listed} changed on both sides: {url}"
            return Decision(passed=True, reason=reason), url
        if url:
            return Decision(passed=True, reason=f"{url} waits to be merged by a merge commit"), url
    raise InfrastructureError(f"{release.develop} moved {_ATTEMPTS} times meanwhile. Run this again.")


def _push_merge(release: Release) -> bool:
    """Push the merge to develop; False where a rule wants a pull request. Where develop moved, look anew."""
    try:
        release.place.git.push(f"HEAD:refs/heads/{release.develop}")
    except PushRefusedError as error:
        if closing.by_rule(error.stderr):
            return False
        _look_anew(release, release.develop, error)
        return True
    say(f"Pushed the merge of {release.tag} to {release.develop}.")
    release.place.git("update-ref", _DEVELOP, "HEAD")
    return True


def _by_pull(release: Release, conflicts: list[str]) -> str:
    """A pull request that merges the tag into develop: its address, "" where something moved meanwhile.

    Its branch holds the merge, or with conflicts just the tag's commit, for a person to merge.
    """
    ref = f"refs/heads/{release.back}"
    if release.back in release.refs:
        if not release.place.git.is_ancestor(release.commit, _BACK):
            repair = "It is not ours. Delete or rename it, and run this again."
            raise UserError(
                Problem(f"the branch {release.back} exists and lacks {release.tag}", repair=repair)
            )
    else:
        try:
            release.place.git.push(f"{release.commit if conflicts else 'HEAD'}:{ref}", lease={ref: ""})
        except PushRefusedError as error:
            _look_anew(release, release.back, error)
            return ""
        say(f"Pushed {release.back}.")
    return _create_pull(release, conflicts)


def _create_pull(release: Release, conflicts: list[str]) -> str:
    """Open the pull request of the back-merge's branch; its address, "" where there is nothing to merge."""
    from gatehouse.github.api import ApiError  # noqa: PLC0415 beside the 60 ms of requests

    body = closing.back_merge_body(release.version, release.develop, release.prefix, conflicts)
    title = f"Merge {release.tag} back to {release.develop}"
    wish = {"title": title, "head": release.back, "base": release.develop, "body": body}
    try:
        pull = release.place.post("pulls", wish)
    except ApiError as error:
        if error.status == 403 and "not permitted to create" in error.detail:  # noqa: PLR2004 HTTP's "forbidden"
            left = f"The branch {release.back} was pushed."
            raise UserError(Problem(error.detail, repair=_SETTING), left=left) from None
        if error.status != 422:  # noqa: PLR2004 HTTP's "not as it is": there is one, or develop has it all
            raise
        release.fetch()
        if not release.reaches_develop() and not _open(_pulls(release)):
            raise
        return ""
    say(f"Opened {pull['html_url']}")
    return str(pull["html_url"])


def _look_anew(release: Release, branch: str, error: PushRefusedError) -> None:
    """Fetch again after a refused push; raises what it was refused for, unless the branch has moved."""
    if closing.lacks_workflow_permission(error.stderr):
        raise UserError(
            Problem("the push was refused", repair=_WORKFLOWS), left="Nothing was merged."
        ) from None
    before = release.refs.get(branch)
    release.fetch()
    if release.refs.get(branch) == before:
        raise error


def _is_protected(release: Release) -> bool:
    found = release.place.get(f"branches/{quote(release.develop, safe='')}")
    return bool(found["protected"])


def _pulls(release: Release) -> list[dict[str, Any]]:
    """The pull requests of the back-merge's branch into develop, the newest first."""
    head = f"{release.place.repository.partition('/')[0]}:{release.back}"
    return list(release.place.every("pulls", state="all", head=head, base=release.develop))


def _open(pulls: list[dict[str, Any]]) -> str:
    """The address of the one that is open, "" where none is."""
    return next((str(pull["html_url"]) for pull in pulls if pull["state"] == "open"), "")


def _merge(release: Release) -> list[str]:
    """Merge the tag into develop in the scratch clone, as HEAD; the files that conflict, none if done."""
    git = release.place.git
    git("checkout", "--quiet", "--force", "--detach", _DEVELOP)
    message = f"Merge {release.tag} back to {release.develop}"
    failure = None
    try:
        git("merge", "--quiet", "--no-ff", "--no-commit", "-m", message, _TAG)
    except GitError as error:
        failure = error
    conflicts = [path for path in git("diff", "--name-only", "--diff-filter=U", "-z").split("\0") if path]
    if failure and not conflicts:
        raise failure
    if texts := _texts(release):
        conflicts = _settle_changelog(release, texts, conflicts)
    if conflicts:
        git("merge", "--abort")
    else:
        git("commit", "--quiet", "--no-verify", "-m", message)
    return conflicts


def _settle_changelog(release: Release, texts: tuple[str, str, str], conflicts: list[str]) -> list[str]:
    """Write develop's changelog as it is after the release, if that can be told; what still conflicts.

    Also where git saw no conflict: it would put develop's new entries under the version that was released.
    """
    from gatehouse.release.changelog import back_merge  # noqa: PLC0415 beside its parser of Markdown

    base, released, develop = texts
    others = [path for path in conflicts if path != release.changelog]
    text = back_merge(*texts)
    if text is None:
        changed = base not in (released, develop)
        return [*others, release.changelog] if changed else conflicts
    git = release.place.git
    (git.folder / release.changelog).write_bytes(text.encode(errors="surrogateescape"))
    git("add", "--", release.changelog)
    return others


def _base(release: Release) -> str:
    """Where the release branch left develop; where it was squashed, only its pull request still knows."""
    git = release.place.git
    side = _TAG
    if release.merged:
        side = release.merged.head if git.commit(release.merged.head) else _TAG
    try:
        return git("merge-base", side, _DEVELOP)
    except GitError:  # no common history
        return ""


def _texts(release: Release) -> tuple[str, str, str] | None:
    """The changelog where the release left develop, as released, and of develop; None without all three."""
    git = release.place.git
    if (git.folder / release.changelog).is_symlink() or not (base := _base(release)):
        return None
    texts = [git.show(ref, release.changelog) for ref in (base, release.commit, _DEVELOP)]
    old, released, now = texts
    return None if old is None or released is None or now is None else (old, released, now)


def _remove_back_merge(release: Release) -> None:
    """Delete the branch of the back-merge once develop has all of it, or its pull request was merged."""
    tip = release.refs.get(release.back)
    if tip is None:
        return
    merged = {pull["head"]["sha"] for pull in _pulls(release) if pull.get("merged_at")}
    if tip not in merged and not release.place.git.is_ancestor(tip, _DEVELOP):
        annotate("warning", f"{release.back} is kept: it holds what {release.develop} lacks.")
        return
    try:
        _delete(release, release.back, tip)
        say(f"Deleted {release.back}.")
    except PushRefusedError as error:
        annotate("warning", f"{release.back} is kept: {error}")


def _remove_branch(release: Release) -> tuple[Decision, bool]:
    """Delete the release branch if nothing is lost by it; why, and whether it is gone."""
    git = release.place.git
    for _ in range(_ATTEMPTS):
        tip = release.refs.get(release.branch)
        if tip is None:
            return Decision(passed=True, reason=f"{release.branch} is gone"), True
        known = [release.merged.head] if release.merged and git.commit(release.merged.head) else []
        left = [f"^{commit}" for commit in (_TAG, _MAIN, *known)]
        decision = closing.removable(
            release.branch,
            tip,
            release.merged,
            on_main=git.is_ancestor(tip, _MAIN),
            same=git.tree(tip) == git.tree(_TAG),
            extra=git.lines("log", "--format=%s", tip, *left),
        )
        if not decision.passed:
            return decision, False
        try:
            _delete(release, release.branch, tip)
        except PushRefusedError as error:
            if closing.by_rule(error.stderr):
                reason = f"{release.branch} is kept: a rule forbids its deletion. Delete it by hand."
                return Decision(passed=True, reason=reason), False
            _look_anew(release, release.branch, error)
            continue
        say(f"Deleted {release.branch}.")
        return decision, True
    raise InfrastructureError(f"{release.branch} moved {_ATTEMPTS} times meanwhile. Run this again.")


def _delete(release: Release, branch: str, tip: str) -> None:
    """Delete a branch if it is still at `tip`: what somebody pushes meanwhile is not lost."""
    ref = f"refs/heads/{branch}"
    release.place.git.push(f":{ref}", lease={ref: tip})
