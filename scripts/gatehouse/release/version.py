"""Versions, tags and release branches: PEP 440 as `packaging` reads it. Everything here is pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from gatehouse.errors import Problem, UserError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = Literal["major", "minor", "patch"]

_LIMIT = 30
"""Characters of a release's version: GitHub takes 255 bytes for the whole name of a ref, git as a file's."""

_FIRST = Version("0.1.0")
"""The first release of a repository without tags."""


def parse(text: str) -> Version:
    """The version that "1.2.0" or "v1.2.0" says; raises UserError for what is not PEP 440."""
    try:
        return Version(text.strip())
    except ValueError:  # InvalidVersion, or a number of more digits than Python reads
        shown = plain(text, 80)
        problem = Problem(
            f'"{shown}" is not a version', repair="Write it as PEP 440 has it: 1.2.0, or 1.2.0rc1."
        )
        raise UserError(problem) from None


def release_version(text: str) -> Version:
    """The final version X.Y.Z that a release is cut for; raises UserError for anything else."""
    version = parse(text)
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", str(version)):
        final = ".".join(map(str, (version.major, version.minor, version.micro)))
        message = f'"{plain(text.strip(), 80)}" is not a final version of three numbers'
        raise UserError(Problem(message, repair=f"Write {final}: a release branch is cut for X.Y.Z."))
    if len(str(version)) > _LIMIT:
        message = f'"{plain(text.strip(), 80)}" is too long for a branch and a tag'
        raise UserError(Problem(message, repair=f"Write at most {_LIMIT} characters."))
    return version


def tag_of(version: Version, prefix: str = "v") -> str:
    """The tag of a version, such as v1.2.0."""
    return f"{prefix}{version}"


def version_of_tag(tag: str, prefix: str = "v") -> Version | None:
    """The version that a tag names; None for a tag of something else, and for one not in canonical form.

    v1.2, v1.2.0-rc.1 and v01.2.0 are None: two spellings of one version would be two releases.
    """
    text = tag.removeprefix(prefix)
    if not tag.startswith(prefix) or not re.fullmatch(r"[0-9][0-9a-z.]*", text):
        return None
    try:
        version = Version(text)
    except ValueError:
        return None
    return version if str(version) == text and len(version.release) == 3 else None  # noqa: PLR2004 X.Y.Z


def branch_of(version: Version, prefix: str = "v") -> str:
    """The release branch of a version, such as release/v1.2.0."""
    return f"release/{tag_of(version, prefix)}"


def version_of_branch(branch: str, prefix: str = "v") -> Version | None:
    """The version that a release branch is for; None for any other branch."""
    if not branch.startswith("release/"):
        return None
    return version_of_tag(branch.removeprefix("release/"), prefix)


def newest(tags: Iterable[str], prefix: str = "v") -> Version | None:
    """The highest version among tags, by PEP 440's order; None where none of them names a version."""
    versions = [version for tag in tags if (version := version_of_tag(tag, prefix))]
    return max(versions, default=None)


def bump(current: Version | None, level: Level) -> Version:
    """The version after `current`, counted up at `level`; 0.1.0 where there is none.

    A pre-release is counted from the final version that it leads to, less one: after 1.2.0rc1 comes 1.2.0.
    """
    if current is None:
        return _FIRST
    major, minor, micro = current.major, current.minor, current.micro
    if current.is_prerelease and level == "patch":
        return Version(f"{major}.{minor}.{micro}")
    up = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, micro + 1),
    }
    return Version(".".join(map(str, up[level])))
