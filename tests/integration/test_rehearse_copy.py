"""The copy of a user's repository that a rehearsal works on: what it takes, adds, and says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gatehouse.errors import UserError
from gatehouse.rehearse.copy import CHANGE, ENTRY, Copy, copy_repository, require_package
from gatehouse.rehearse.runner import git
from gatehouse.release import changelog
from tests.support.act import ROOT
from tests.support.projects import call

if TYPE_CHECKING:
    from pathlib import Path

FILLED = "# Changelog\n\n## [Unreleased]\n\n### Fixed\n\n- It works.\n"


def repository(folder: Path, *, branch: str = "main") -> Path:
    """A repository with one commit on a branch, and something to release."""
    folder.mkdir()
    (folder / "CHANGELOG.md").write_text(FILLED)
    git(folder, "init", "--quiet", f"--initial-branch={branch}")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=First")
    return folder


def copied(source: Path) -> Copy:
    """Its copy, beside it."""
    return copy_repository(source, source.parent / "copy", ROOT / "templates")


def said(copy: Copy) -> str:
    """All notes."""
    return "\n".join(copy.notes)


def test_branches_keep_their_names_and_tags_their_commits(tmp_path: Path) -> None:
    """A repository with master, dev and a version tag gets no branch and no tag of ours."""
    source = repository(tmp_path / "mine", branch="master")
    git(source, "tag", "v1.0.0")
    git(source, "switch", "--quiet", "--create", "dev")
    git(source, "commit", "--quiet", "--allow-empty", "--message=Second")
    copy = copied(source)
    assert (copy.name, copy.main, copy.develop) == ("rehearsal/mine", "master", "dev")
    heads = git(copy.folder, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    assert heads == ["dev", CHANGE, "master"]
    assert git(copy.folder, "rev-parse", "dev") == git(source, "rev-parse", "dev")
    assert git(copy.folder, "tag", "--list") == "v1.0.0"
    assert git(copy.folder, "rev-parse", f"{CHANGE}~1") == git(source, "rev-parse", "dev")


def test_branches_that_only_the_remote_has_are_taken(tmp_path: Path) -> None:
    """A clone that never checked out develop is rehearsed with origin's."""
    origin = repository(tmp_path / "origin")
    git(origin, "branch", "develop")
    git(tmp_path, "clone", "--quiet", str(origin), "mine")
    copy = copied(tmp_path / "mine")
    assert git(copy.folder, "rev-parse", "develop") == git(origin, "rev-parse", "develop")
    assert "develop is origin's" in said(copy)


def test_a_folder_without_git_is_one_commit(tmp_path: Path) -> None:
    """Its files are taken, what was generated is not, and v0.0.0 is tagged and said."""
    source = tmp_path / "my folder"
    (source / ".venv").mkdir(parents=True)
    (source / ".venv/pyvenv.cfg").write_text("")
    (source / "a.py").write_text("")
    copy = copied(source)
    assert copy.name == "rehearsal/my-folder"
    assert git(copy.folder, "ls-tree", "--name-only", "develop") == "a.py"
    assert git(copy.folder, "rev-parse", "v0.0.0") == git(copy.folder, "rev-parse", "main")
    assert "no git repository" in said(copy)
    assert "tagged v0.0.0" in said(copy)
    assert sorted(path.name for path in source.iterdir()) == [".venv", "a.py"]


def test_without_a_tag_the_changelog_says_what_was_released_last(tmp_path: Path) -> None:
    """The first commit gets the tag of its newest version, so that the next one comes after it."""
    source = repository(tmp_path / "mine")
    (source / "CHANGELOG.md").write_text(f"{FILLED}\n## [1.9.0] - 2026-01-05\n\n## [1.10.0] - 2026-01-06\n")
    git(source, "commit", "--quiet", "--all", "--message=Second")
    copy = copied(source)
    assert git(copy.folder, "tag", "--list") == "v1.10.0"
    assert git(copy.folder, "rev-parse", "v1.10.0") == git(source, "rev-parse", "main~1")
    assert "tagged v1.10.0, the newest in CHANGELOG.md" in said(copy)


@pytest.mark.parametrize(
    ("text", "kept", "note"),
    [
        (None, "## [Unreleased]\n\n### Added\n\n- The first release.\n", "There is no CHANGELOG.md"),
        (FILLED, FILLED, ""),
        ("# Changelog\n\n## Unreleased\n", "# Changelog\n\n## Unreleased\n", "an entry is added"),
        ("# Log\r\n\r\n## [1.0.0] - 2026-01-05\r\n\r\n- A.\r\n", "- A.\r\n", "an entry is added"),
        ("", "", "an entry is added"),
    ],
)
def test_there_is_something_to_release(tmp_path: Path, text: str | None, kept: str, note: str) -> None:
    """A changelog with entries stays as it is; any other gets one, under Unreleased, in its own line ends."""
    source = repository(tmp_path / "mine")
    if text is None:
        git(source, "rm", "--quiet", "CHANGELOG.md")
    else:
        (source / "CHANGELOG.md").write_bytes(text.encode())
    git(source, "commit", "--quiet", "--all", "--allow-empty", "--message=Changelog")
    copy = copied(source)
    found = (copy.folder / "CHANGELOG.md").read_bytes().decode()
    assert len(changelog.entries(found)) == 1
    assert kept in found
    assert found.count("\r") == (found.count("\n") if "\r" in kept else 0)
    assert (note in said(copy)) if note else (found == FILLED and "CHANGELOG" not in said(copy))
    assert ("Rehearsed" in found) == ("entry is added" in note) == (ENTRY in found)


def test_own_workflows_stay_and_missing_ones_are_added(tmp_path: Path) -> None:
    """A workflow of the user's own is played as it is; agent-ci.yml comes only where there are agents."""
    source = repository(tmp_path / "mine")
    (source / ".github/workflows").mkdir(parents=True)
    (source / ".github/workflows/ci.yml").write_text("mine")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message=CI")
    copy = copied(source)
    workflows = copy.folder / ".github/workflows"
    assert (workflows / "ci.yml").read_text() == "mine"
    assert (workflows / "release.yml").read_text() == (ROOT / "templates/oidc/release.yml").read_text()
    assert not (workflows / "agent-ci.yml").exists()
    assert not copy.agents


def test_nothing_of_the_repository_is_run_or_locked(tmp_path: Path) -> None:
    """Neither its file monitor nor a filter nor a hook is started, and its index is not refreshed."""
    source = repository(tmp_path / "mine")
    for name in ("monitor", "filter", "hook"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> '{tmp_path}/ran'\ncat\n")
        (tmp_path / name).chmod(0o755)
    git(source, "config", "core.fsmonitor", str(tmp_path / "monitor"))
    git(source, "config", "core.hooksPath", str(tmp_path))
    git(source, "config", "filter.lfs.clean", str(tmp_path / "filter"))
    (source / ".git/info/attributes").write_text("*.md filter=lfs\n")
    (source / "a.py").write_text("not committed")
    os.utime(source / "CHANGELOG.md", (1, 1))  # as it was, but git has to look into it to know
    index = (source / ".git/index").read_bytes()
    copy = copied(source)
    assert not (tmp_path / "ran").exists()
    assert (source / ".git/index").read_bytes() == index
    assert "Not committed, so not rehearsed: a.py." in said(copy)


@pytest.mark.parametrize(("kind", "repair"), [("shallow", "--unshallow"), ("empty", "no commit")])
def test_what_has_no_history_is_refused(tmp_path: Path, kind: str, repair: str) -> None:
    """A shallow clone, or a repository without a commit, is an error that says what to do."""
    origin = repository(tmp_path / "origin")
    git(origin, "commit", "--quiet", "--allow-empty", "--message=Second")
    if kind == "shallow":
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{origin}", "mine")
    else:
        git(tmp_path, "init", "--quiet", "mine")
    with pytest.raises(UserError, match=repair):
        copied(tmp_path / "mine")


def test_a_folder_of_a_repository_is_not_taken_for_a_whole(tmp_path: Path) -> None:
    """One package of several is rehearsed from its repository, which the message names."""
    source = repository(tmp_path / "mine")
    (source / "packages/one").mkdir(parents=True)
    with pytest.raises(UserError, match="folder of a repository") as error:
        copied(source / "packages/one")
    assert f"Rehearse {source}" in str(error.value)


def test_a_copy_without_a_package_is_refused(tmp_path: Path) -> None:
    """Where the workflows would find nothing to build, nothing is played; their input `path` says where."""
    source = repository(tmp_path / "mine")
    copy = copied(source)
    with pytest.raises(UserError, match=r"^no Python package is here: there is no \./pyproject\.toml"):
        require_package(copy)
    staging = copy.folder / ".github/workflows/staging.yml"
    text = (ROOT / "templates/token/staging.yml").read_text()
    staging.write_text(text.replace("    secrets:\n", "    with:\n      path: packages/one\n    secrets:\n"))
    with pytest.raises(UserError, match=r"no packages/one/pyproject\.toml"):
        require_package(copy)
    (copy.folder / "packages/one").mkdir(parents=True)
    (copy.folder / "packages/one/pyproject.toml").touch()
    require_package(copy)


def test_a_package_of_several_has_its_own_tags_and_changelog(tmp_path: Path) -> None:
    """The tag prefix and the changelog that the workflows name are those that count in the copy."""
    source = repository(tmp_path / "mine")
    (source / "CHANGELOG.md").rename(source / "LOG.md")
    workflow = source / ".github/workflows/cut-release.yml"
    workflow.parent.mkdir(parents=True)
    given = "    with:\n      tag-prefix: one-v\n      changelog: LOG.md\n"
    workflow.write_text((ROOT / "templates/cut-release.yml").read_text().replace("    with:\n", given))
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message=Second")
    git(source, "tag", "v9.0.0")
    copy = copied(source)
    assert git(copy.folder, "tag", "--list").splitlines() == ["one-v0.0.0", "v9.0.0"]
    assert "CHANGELOG" not in said(copy)
    assert not (copy.folder / "CHANGELOG.md").exists()


def test_without_a_terminal_the_answer_has_to_be_given(tmp_path: Path) -> None:
    """By the option, or through make."""
    done = call(tmp_path, "rehearse", "--out", tmp_path / "out")
    assert done.code == 2
    assert "--approve, or --reject" in done.err
    assert "make rehearse ARGS=--approve" in done.err
