"""A copy of a user's repository, made ready for the release train; the repository itself is only read."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.rehearse.agent_ci import agent_files
from gatehouse.rehearse.jobs import inputs_of
from gatehouse.rehearse.runner import git
from gatehouse.release.version import newest, tag_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.release.sections import Document

TRAIN = ("ci.yml", "staging.yml", "release.yml", "cut-release.yml", "tag-release.yml", "finish-release.yml")
"""The workflows that the train calls; agent-ci.yml joins them where there are agents."""

CHANGE = "feature/rehearsal"
"""The branch of the copy whose pull request begins the train."""

GENERATED = (".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", "*_cache", ".gatehouse")
"""What is left out of a folder that is no repository."""

ENTRY = "- Rehearsed: this entry stands in for what is under Unreleased when a release is cut."

_NAMED = 10
"""Uncommitted files that are named."""


@dataclass(slots=True)
class Copy:
    """The copy, a repository with a work tree in `folder`; `notes` say what is not as in the original.

    `name` is OWNER/NAME; `main` and `develop` are the names of those branches, CHANGE is ahead of the latter.
    `prefix` and `changelog` are what its own workflows say.
    """

    name: str
    folder: Path
    main: str = "main"
    develop: str = "develop"
    prefix: str = "v"
    changelog: str = "CHANGELOG.md"
    agents: bool = False
    notes: list[str] = field(default_factory=list)


def copy_repository(source: Path, folder: Path, templates: Path) -> Copy:
    """Copy the branches and tags of `source`, or a plain folder's files, into the new `folder`.

    Workflows and a changelog that are missing come from the folder `templates`. Raises UserError where there
    is nothing to copy.
    """
    plain_name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.resolve().name).strip("-.") or "package"
    copied = Copy(f"rehearsal/{plain_name}", folder)
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=rehearsal")
    start = _take_repository(source, copied) if (source / ".git").exists() else _take_folder(source, copied)
    git(folder, "switch", "--quiet", "--force-create", CHANGE, start)
    _add_workflows(copied, templates)
    _add_tag(copied)
    _add_entry(copied, templates / "CHANGELOG.md")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=Rehearse a release")
    return copied


def _take_folder(source: Path, copied: Copy) -> str:
    top = next((above for above in source.resolve().parents if (above / ".git").exists()), None)
    if top:
        repair = (
            f"Rehearse {top}. For one package of several its workflows say path, tag-prefix and changelog."
        )
        raise UserError(Problem("this is a folder of a repository.", path=str(source), repair=repair))
    shutil.copytree(
        source, copied.folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*GENERATED)
    )
    git(copied.folder, "add", "--all")
    git(copied.folder, "commit", "--quiet", "--allow-empty", "--message=The folder as it is")
    git(copied.folder, "branch", copied.main)
    git(copied.folder, "branch", copied.develop)
    copied.notes.append(
        "The folder is no git repository of its own: its files are one commit, on main and develop."
    )
    return copied.develop


def _take_repository(source: Path, copied: Copy) -> str:
    """The branches and tags of `source`; what its user works on, as the start of CHANGE."""
    try:
        head = _look(source, "rev-parse", "--verify", "HEAD^{commit}")
        current = _look(source, "rev-parse", "--abbrev-ref", "HEAD")
        shallow = _look(source, "rev-parse", "--is-shallow-repository") == "true"
    except InfrastructureError as error:
        raise UserError(Problem(f"no commit to rehearse: {error}", path=str(source))) from None
    if shallow:
        repair = f"Call `git -C {source} fetch --unshallow --tags` first."
        raise UserError(
            Problem("a shallow clone, whose versions cannot be known.", path=str(source), repair=repair)
        )
    remote = "+refs/remotes/origin/*:refs/remotes/origin/*"
    everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", remote)
    git(copied.folder, "fetch", "--quiet", "--no-tags", str(source.resolve()), *everything, head)
    _say_uncommitted(source, copied)
    copied.main = _branch(copied, ("main", "master"), head)
    copied.develop = _branch(copied, ("develop", "dev"), head)
    if (copied.main, copied.develop) != ("main", "develop"):
        copied.notes.append(
            f"Your branches are {copied.main} and {copied.develop}: on GitHub say so in the triggers of the "
            "workflows and by their inputs main and develop; here they are told."
        )
    if current not in (copied.main, copied.develop) and not _contains(copied, copied.develop, head):
        copied.notes.append(f"What you are on, {current}, is merged into {copied.develop} by a pull request.")
        return head
    return copied.develop


def _branch(copied: Copy, names: tuple[str, ...], head: str) -> str:
    """The first of these branches that is there, or its first name, made from what the user is on."""
    for prefix in ("refs/heads/", "refs/remotes/origin/"):
        for name in names:
            if _has(copied, prefix + name):
                if prefix != "refs/heads/":
                    git(copied.folder, "branch", "--no-track", name, prefix + name)
                    copied.notes.append(f"{name} is origin's: there is no local branch of this name.")
                return name
    git(copied.folder, "branch", names[0], head)
    copied.notes.append(f"There is no branch {names[0]}: it is made from what you are on.")
    return names[0]


def _say_uncommitted(source: Path, copied: Copy) -> None:
    changed = [
        line[3:] for line in _look(source, "status", "--porcelain", "--ignore-submodules=all").splitlines()
    ]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        copied.notes.append(f"Not committed, so not rehearsed: {', '.join(changed[:_NAMED])}{more}.")


def _add_tag(copied: Copy) -> None:
    if newest(git(copied.folder, "tag", "--list").splitlines(), copied.prefix) is None:
        told = newest(f"v{section.name}" for section in _changelog(copied).sections)
        tag = tag_of(told, copied.prefix) if told else f"{copied.prefix}0.0.0"
        root = git(copied.folder, "rev-list", "--max-parents=0", copied.develop).splitlines()[-1]
        git(copied.folder, "tag", tag, root)
        why = f"the newest in {copied.changelog}" if told else "as you would do once"
        copied.notes.append(f"There is no version tag: the first commit is tagged {tag}, {why}.")


def _changelog(copied: Copy) -> Document:
    from gatehouse.release.sections import parse  # noqa: PLC0415 a Markdown parser

    path = copied.folder / copied.changelog
    return parse(path.read_bytes().decode(errors="surrogateescape") if path.is_file() else "")


def train_workflows(templates: Path) -> dict[str, Path]:
    """The workflows of the train by name, where a user finds them to copy; the recommended form of two."""
    trusted = templates / "oidc"
    return {name: trusted / name if (trusted / name).exists() else templates / name for name in TRAIN}


def _add_workflows(copied: Copy, templates: Path) -> None:
    place = copied.folder / ".github/workflows"
    wanted = train_workflows(templates)
    copied.agents = bool(agent_files(copied.folder))
    if copied.agents:
        wanted["agent-ci.yml"] = templates / "agent-ci.yml"
        copied.notes.append("Your agents are not asked anything here: their passing verdicts are stand-ins.")
    missing = {name: template for name, template in wanted.items() if not (place / name).exists()}
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        for name, template in missing.items():
            shutil.copy(template, place / name)
        copied.notes.append(
            f"Workflows that are missing come from the templates: {', '.join(sorted(missing))}."
        )
    given = inputs_of((place / "cut-release.yml").read_text("utf-8", "replace"))
    copied.prefix = given.get("tag-prefix") or copied.prefix
    copied.changelog = given.get("changelog") or copied.changelog


def require_package(copied: Copy) -> None:
    """Raise UserError where the workflows would find nothing to build."""
    text = (copied.folder / ".github/workflows/staging.yml").read_text("utf-8", "replace")
    package = inputs_of(text).get("path") or "."
    if not (copied.folder / package / "pyproject.toml").is_file():
        message = f"no Python package is here: there is no {package}/pyproject.toml to build."
        repair = (
            "Only a package can be released; an agent without one has the gate alone. Where yours lies in a "
            "folder, the workflows say it by their input path, whose default is the root."
        )
        raise UserError(Problem(message, repair=repair))


def _add_entry(copied: Copy, template: Path) -> None:
    """Something to release under Unreleased, where the changelog has nothing there or is missing."""
    path = copied.folder / copied.changelog
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, path)
        copied.notes.append(f"There is no {copied.changelog}: the template's stands in, with one entry.")
        return
    document = _changelog(copied)
    found, lines, newline = document.named("unreleased"), list(document.lines), document.newline
    if any(document.entries(section) for section in found):
        return
    entry = [newline, f"### Changed{newline}", newline, ENTRY + newline]
    if found:
        lines[found[0].heading.end : found[0].heading.end] = entry
    else:
        first = next((at for at, line in enumerate(lines) if line.startswith("## ")), len(lines))
        lines[first:first] = [f"## [Unreleased]{newline}", *entry, newline]
    path.write_bytes("".join(lines).encode(errors="surrogateescape"))
    copied.notes.append(
        f"Nothing stands under Unreleased in {copied.changelog}: an entry is added in the copy."
    )


def _contains(copied: Copy, branch: str, commit: str) -> bool:
    return git(copied.folder, "rev-list", "--max-count=1", commit, f"^{branch}") == ""


def _has(copied: Copy, ref: str) -> bool:
    return bool(git(copied.folder, "for-each-ref", "--format=x", ref))


def _look(source: Path, *arguments: str) -> str:
    """Git in the user's repository that writes nothing there: no lock, hook, filter or monitor."""
    settings = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "safe.directory": "*"}
    settings |= {"filter.lfs.clean": "", "filter.lfs.process": "", "filter.lfs.required": "false"}
    given = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return git(source, "--no-optional-locks", *given, *arguments)
