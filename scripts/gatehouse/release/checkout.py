"""What is to be built: the commit, its ref, the version that it must get, and a clean copy of its files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import Version

from gatehouse.errors import Decision, Problem, UserError
from gatehouse.github.escape import plain
from gatehouse.release.git import Git, GitError
from gatehouse.release.version import newest, tag_of, version_of_branch, version_of_tag

Candidate = Literal["dev", "rc", "scm"]
NOTHING = "Nothing was built."
_FULL = "Check out with `fetch-depth: 0`; in a clone of your own: `git fetch --tags{}`."
"""The repair of a clone that lacks tags or, with --unshallow, history."""
_REF_LIMIT = 1000
"""Bytes of a ref."""


@dataclass(frozen=True, slots=True)
class Run:
    """The numbers of a workflow's run; all 0 outside GitHub Actions."""

    id: int = 0
    attempt: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version that a ref asks for. With `pretend`, setuptools-scm has to be told it.

    `version` None leaves it to setuptools-scm. `tag` is the tag that is built, None for a branch.
    """

    version: Version | None
    reason: str
    pretend: bool = False
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Checkout:
    """A clean checkout: `epoch` is the commit's time in seconds since 1970, `project` relative to `top`."""

    top: Path
    project: str
    ref: str
    commit: str
    tree: str
    epoch: int
    tags_here: tuple[str, ...]
    """The version tags of this package at the commit."""


def wanted_version(ref: str, prefix: str, candidate: Candidate, run: Run, epoch: int) -> Wanted:
    """The version that `ref` must be built as; raises UserError for a tag or a release branch that has none.

    dev: X.Y.Z.dev and the run's id and attempt, which no other build has (outside a run: the commit's time);
    rc: X.Y.Zrc and the workflow's run number; scm: setuptools-scm's own.
    """
    if ref.startswith("refs/tags/"):
        tag = ref.removeprefix("refs/tags/")
        version = version_of_tag(tag, prefix)
        if version is None:
            raise refused(f'the tag "{plain(tag, 100)}" names no version', f"Write it as {prefix}1.2.0.")
        return Wanted(version, f"the tag {tag}", tag=tag)
    if not ref.startswith("refs/heads/release/"):
        return Wanted(None, "setuptools-scm counts from the last tag")
    branch = ref.removeprefix("refs/heads/")
    version = version_of_branch(branch, prefix)
    if version is None or str(version) != version.base_version:
        repair = f"Name it release/{prefix}X.Y.Z, or push under a name that does not begin with release/."
        raise refused(f'the branch "{plain(branch, 100)}" names no version to release', repair)
    if candidate == "scm":
        return Wanted(None, "setuptools-scm counts from the last tag (candidate: scm)")
    if candidate == "rc":
        if not run.number:
            raise refused(
                "a release candidate takes the number of the workflow's run, and this is no run",
                "Build with --candidate dev here.",
            )
        return Wanted(Version(f"{version}rc{run.number}"), f"the branch {branch}", pretend=True)
    number = f"{run.id}{run.attempt:02d}" if run.id else str(epoch)
    return Wanted(Version(f"{version}.dev{number}"), f"the branch {branch}", pretend=True)


def version_is_right(built: Version, wanted: Wanted, tags_here: tuple[str, ...], prefix: str) -> Decision:
    """Whether the built version is the one that the ref asks for, and one that an index takes."""
    if built.local:
        return Decision(
            False,
            f"the built version is {built}: no index takes a local version (+{built.local}). Write "
            'local_scheme = "no-local-version" under [tool.setuptools_scm]; '
            'with hatch-vcs raw-options = { local_scheme = "no-local-version" } under [tool.hatch.version].',
        )
    if wanted.version is not None:
        if built == wanted.version:
            return Decision(True, f"{built} by {wanted.reason}")
        return Decision(
            False,
            f"the built version is {built}, and {plain(wanted.reason, 200)} asks for {wanted.version}: "
            "the project does not take its version from git. "
            'Write dynamic = ["version"] instead of a fixed one, and let setuptools-scm or hatch-vcs say it.',
        )
    if built.is_devrelease or any(version_of_tag(tag, prefix) == built for tag in tags_here):
        return Decision(True, f"{built}: {wanted.reason}")
    return Decision(
        False,
        f"the built version is {built}, and the tag {tag_of(built, prefix)} is not at this commit: other "
        "commits would be built under the same version. Take it from git: "
        'dynamic = ["version"] and setuptools-scm or hatch-vcs, without a fixed version.',
    )


def read_checkout(path: Path, ref: str, sha: str, prefix: str) -> Checkout:
    """The checkout that the folder `path` belongs to; raises UserError for one that must not be built.

    `ref` and `sha` are what a runner says that it checked out, "" elsewhere: git's own then. Faults are a
    shallow clone, a commit that is not the ref's, and changes that are in no commit.
    """
    if not path.is_dir():
        raise refused(f"--path {plain(str(path), 200)}: no such folder")
    try:
        inside = Git(path)
        top = path.joinpath(inside("rev-parse", "--show-cdup") or ".").resolve()
        project = inside("rev-parse", "--show-prefix").rstrip("/") or "."
    except GitError:
        raise refused(f"{plain(str(path), 200)} is in no git repository", "The version is in git.") from None
    git = Git(top)
    commit = git.commit("HEAD")
    if commit is None:
        raise refused("the repository has no commit yet")
    here = tuple(tag for tag in git.lines("tag", "--points-at", "HEAD") if version_of_tag(tag, prefix))
    ref = ref or _own_ref(git, here, prefix)
    faults = [*_ref_faults(git, ref, sha, commit), *_dirty_faults(git)]
    if git.is_shallow():
        faults.append(
            Problem(
                "the clone is shallow: its versions and its main are not known",
                repair=_FULL.format(" --unshallow"),
            )
        )
    if faults:
        raise UserError(*faults, left=NOTHING)
    epoch = int(git("log", "-1", "--no-show-signature", "--format=%ct", "HEAD"))
    return Checkout(top, project, ref, commit, git.tree("HEAD") or "", epoch, here)


def require_tag_in_reach(checkout: Checkout, prefix: str) -> None:
    """Raise UserError where no version tag is in the commit's history: a version would be invented."""
    git = Git(checkout.top)
    if newest(git.lines("tag", "--merged", "HEAD"), prefix):
        return
    if found := newest(git.tags(), prefix):
        raise refused(
            f"the tag {tag_of(found, prefix)} is not in this commit's history, nor is any other version tag",
            "Merge the branch that was tagged, which a squashed merge back does not do: "
            f"`git merge {tag_of(found, prefix)}`.",
        )
    try:
        refs = git.remote_refs(f"refs/tags/{prefix}*")
    except GitError:
        refs = {}
    if newest((ref.removeprefix("refs/tags/") for ref in refs), prefix):
        raise refused("the clone has none of the version tags that its origin has", _FULL.format(""))
    first = git.lines("rev-list", "--max-parents=0", "--first-parent", "HEAD")[-1][:12]
    raise refused(
        f"there is no version tag {prefix}X.Y.Z yet to count from",
        f"Tag the first commit: `git tag {prefix}0.0.0 {first} && git push origin {prefix}0.0.0`. "
        "Where there are tags, the checkout lacks them: check out with `fetch-depth: 0`.",
    )


def is_on_main(checkout: Checkout, main: str) -> bool | None:
    """Whether main contains the commit: origin's main, else the local one; None where there is neither."""
    git = Git(checkout.top)
    for ref in (f"refs/remotes/origin/{main}", f"refs/heads/{main}"):
        if git.commit(ref):
            return git.is_ancestor(checkout.commit, ref)
    return None


def export(checkout: Checkout, target: Path, tag: str | None, prefix: str) -> None:
    """Write the checkout's tracked files to `target`, a repository with the same history.

    Building there keeps untracked files out, leaves nothing behind in the checkout, and gives each file the
    same mode everywhere. Of the tags only version tags of this package are there, and at the commit itself
    only `tag` (None: the newest): `deploy-2030`, a moving `v1`, or a candidate's tag at the same commit would
    mislead setuptools-scm. Files come from the work tree, so that those of submodules and LFS are whole.
    """
    source, git = Git(checkout.top), Git(target)
    target.mkdir(parents=True)
    git.environment["GIT_DEFAULT_REF_FORMAT"] = "files"
    git("init", "--quiet", "--template=", f"--object-format={source('rev-parse', '--show-object-format')}")
    objects = source("rev-parse", "--path-format=absolute", "--git-path", "objects")
    info = target / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_bytes(os.fsencode(objects) + b"\n")
    here = newest(checkout.tags_here, prefix)
    refs = _refs_to_keep(source, checkout, tag or (tag_of(here, prefix) if here else None), prefix)
    (target / ".git" / "packed-refs").write_bytes(os.fsencode("".join(f"{line}\n" for line in refs)))
    # setuptools-scm writes the branch's name into the sdist: it is the ref's, however it was checked out, but
    # none at a version's tag, where a branch is built as that version: the tag's bytes then.
    branch = checkout.ref if checkout.ref.startswith("refs/heads/") and not here else None
    head = f"ref: {branch}" if branch else checkout.commit
    (target / ".git" / "HEAD").write_bytes(os.fsencode(head + "\n"))
    git("read-tree", "HEAD")
    names = [name for name in source.run("ls-files", "-z", "--recurse-submodules").split("\0") if name]
    missing = [name for name in names if not os.path.lexists(checkout.top / name)]
    if missing:
        raise refused(
            f"the checkout is not whole: {_listed(missing)}", "Check out without `sparse-checkout`."
        )
    staged = (entry.partition("\t") for entry in source.run("ls-files", "-z", "--stage").split("\0"))
    modes = {name: about.split(" ")[0] for about, _, name in staged if name}
    for name in names:
        _copy(checkout.top / name, target / name, modes.get(name))


def changelog_of(checkout: Checkout, path: str) -> str | None:
    """The changelog at the commit, None for none; `path` is relative to here. Raises UserError: no UTF-8."""
    name = os.path.relpath(Path.cwd().resolve() / path, checkout.top)
    return Git(checkout.top).text(checkout.commit, name, NOTHING)


def tracked_files(top: Path) -> set[str]:
    """The names of the files in git, submodules' too, relative to `top`."""
    return set(filter(None, Git(top).run("ls-files", "-z", "--recurse-submodules").split("\0")))


def untracked_files(top: Path, project: str) -> list[str]:
    """The files below `project` that are neither in git nor ignored, relative to `top`."""
    names = Git(top).run("ls-files", "-z", "--others", "--exclude-standard", "--", f":(literal){project}")
    return [name for name in names.split("\0") if name]


def ignored_files(top: Path, names: list[str]) -> set[str]:
    """Those of `names` (relative to `top`, existing or not) that the repository's .gitignore covers."""
    try:
        return set(filter(None, Git(top).run("check-ignore", "-z", "--", *names).split("\0")))
    except GitError:  # it fails where none is ignored
        return set()


def _own_ref(git: Git, tags_here: tuple[str, ...], prefix: str) -> str:
    """The branch that is checked out, else the newest version tag at the commit, else HEAD."""
    try:
        return git("symbolic-ref", "--quiet", "HEAD")
    except GitError:
        version = newest(tags_here, prefix)
        return f"refs/tags/{tag_of(version, prefix)}" if version else "HEAD"


def _ref_faults(git: Git, ref: str, sha: str, commit: str) -> list[Problem]:
    """What is wrong with building `commit` as `ref`: build.json says both, and publishing goes by them."""
    shown = plain(ref, 200)
    try:
        usable = len(ref.encode()) <= _REF_LIMIT
    except UnicodeEncodeError:
        usable = False
    if not usable:
        return [Problem(f"the ref {shown} is too long, or no UTF-8", repair="Rename the branch or the tag.")]
    named = git.commit(ref) if ref.startswith("refs/tags/") else sha or commit
    if named is None:
        return [Problem(f"the clone lacks {shown}, which this run is of", repair=_FULL.format(""))]
    if named == commit:
        return []
    repair = "Check out without `ref:`: a build is of what its run is of."
    message = f"{shown} is {named[:12]}, and the commit that is checked out is {commit[:12]}"
    return [Problem(message, repair=repair)]


def _dirty_faults(git: Git) -> list[Problem]:
    lines = git.run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames").split("\0")
    changed = [line[3:] for line in lines if line]
    if not changed:
        return []
    repair = "Commit them, or `git restore` them; a step before the build may have rewritten a lock file."
    return [Problem(f"changes that are in no commit: {_listed(changed)}", repair=repair)]


def _refs_to_keep(source: Git, checkout: Checkout, own: str | None, prefix: str) -> list[str]:
    """`HASH REF` of the refs that the copy has."""
    kept = []
    listed = source.lines("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", "refs")
    for line in listed:
        found, peeled, ref = line.split(" ", 2)
        tag = ref.removeprefix("refs/tags/")
        foreign = version_of_tag(tag, prefix) is None
        rival = (peeled or found) == checkout.commit and tag != own
        if ref.startswith(("refs/heads/", "refs/remotes/")) or (tag != ref and not (foreign or rival)):
            kept.append(f"{found} {ref}")
    if checkout.ref.startswith("refs/heads/"):
        kept = [line for line in kept if line.partition(" ")[2] != checkout.ref]
        kept.append(f"{checkout.commit} {checkout.ref}")
    return kept


def _copy(source: Path, target: Path, mode: str | None) -> None:
    """One file or symlink with its mode in git, whatever it has here; a folder is a submodule's.

    `mode` is git's, such as 100755, None for a file of a submodule.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        return
    shutil.copyfile(source, target, follow_symlinks=False)
    if not source.is_symlink():
        runs = mode == "100755" if mode else source.stat().st_mode & 0o100
        target.chmod(0o755 if runs else 0o644)


def _listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(plain(name, 100) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004


def refused(message: str, repair: str = "", path: str = "") -> UserError:
    """The error of one fault, found before anything was built."""
    return UserError(Problem(message, path=path, repair=repair), left=NOTHING)
