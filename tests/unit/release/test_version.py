"""Versions, tags and release branches."""

from __future__ import annotations

import pytest
from packaging.version import Version

from gatehouse.errors import UserError
from gatehouse.release.version import (
    branch_of,
    bump,
    newest,
    parse,
    release_version,
    tag_of,
    version_of_branch,
    version_of_tag,
)

HOSTILE = [
    "1.2.0; rm -rf /",
    "$(id)",
    "1.2.0\n2.0.0",
    "::error::x",
    "\uff11.2.0-",
    "../1.2.0",
    "1.2.0#",
    "-x",
    "",
    "9" * 5000,
]


@pytest.mark.parametrize(("text", "version"), [("1.2.0", "1.2.0"), ("v1.2.0", "1.2.0"), (" 1.2.0 ", "1.2.0")])
def test_a_final_version_is_taken_with_and_without_v(text: str, version: str) -> None:
    """A release version is three numbers; a leading v and blanks around it are forgiven."""
    assert str(release_version(text)) == version


@pytest.mark.parametrize("text", ["1.2", "1.2.0rc1", "1.2.0.dev3", "1.2.0+local", "1!1.2.0", "1.2.0.post1"])
def test_a_release_is_cut_for_a_final_version(text: str) -> None:
    """What is a version but not X.Y.Z is refused, and the message says the X.Y.Z meant."""
    with pytest.raises(UserError, match=r"Write 1\.2\.0"):
        release_version(text)


def test_a_version_fits_into_a_name() -> None:
    """What makes no branch and no tag, since their names would be too long, is not released."""
    fits = f"1.{'9' * 26}.0"
    assert str(release_version(fits)) == fits
    with pytest.raises(UserError, match="at most 30 characters"):
        release_version(f"1{fits}")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_version_is_refused(text: str) -> None:
    """No text that only looks like a version, or holds one, is taken for it."""
    with pytest.raises(UserError, match="not a version"):
        parse(text)
    assert version_of_tag(f"v{text}") is None
    assert version_of_branch(f"release/v{text}") is None


@pytest.mark.parametrize(
    "tag", ["v1.2", "v1.2.0-rc.1", "v01.2.0", "v1.2.0RC1", "1.2.0", "V1.2.0", "v1.2.0.0", "v1", "v1.2.0+x"]
)
def test_a_tag_has_one_spelling(tag: str) -> None:
    """A tag that is not the canonical one of its version names none: two spellings were two releases."""
    assert version_of_tag(tag) is None


@pytest.mark.parametrize("text", ["0.0.0", "0.0.0rc1", "1.2.0", "10.20.30", "1.2.0.post1"])
@pytest.mark.parametrize("prefix", ["v", "", "triage-v", "pkg/v"])
def test_tag_and_branch_name_their_version(text: str, prefix: str) -> None:
    """A version's tag and branch lead back to it, whatever the prefix."""
    version = Version(text)
    assert version_of_tag(tag_of(version, prefix), prefix) == version
    assert version_of_branch(branch_of(version, prefix), prefix) == version


def test_newest_goes_by_version_not_by_letter() -> None:
    """1.10.0 beats 1.9.0, a final version beats its candidates, and other tags do not count."""
    assert newest(["v1.9.0", "v1.10.0rc1", "v1", "deploy-2030", "x"]) == Version("1.10.0rc1")
    assert newest(["v1.10.0", "v1.10.0rc2"]) == Version("1.10.0")
    assert newest(["deploy-2030"]) is None
    assert newest(["a-v2.0.0", "b-v1.0.0"], "b-v") == Version("1.0.0")


@pytest.mark.parametrize(
    ("current", "level", "following"),
    [
        ("1.2.3", "major", "2.0.0"),
        ("1.2.3", "minor", "1.3.0"),
        ("1.2.3", "patch", "1.2.4"),
        ("1.2.0rc1", "patch", "1.2.0"),
        (None, "patch", "0.1.0"),
        (None, "major", "0.1.0"),
    ],
)
def test_bump(current: str | None, level: str, following: str) -> None:
    """A version is counted up at its level; a candidate's patch is its own final version."""
    assert str(bump(Version(current) if current else None, level)) == following  # type: ignore[arg-type]
