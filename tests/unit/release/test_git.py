"""Git for the release commands, against real repositories."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.github import GitHub
from gatehouse.release.git import Git, GitError, PushRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "acme/triage"


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub with one repository of one commit and a tag."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_bytes(b"one\r\ntwo\n")
    with GitHub(tmp_path / "github") as github:
        github.create_repository(NAME, source)
        github.git(NAME, "tag", "--annotate", "--message=x", "v0.1.0", "main")
        yield github


@pytest.fixture
def clone(gh: GitHub, tmp_path: Path) -> Git:
    """A clone without a token in it, whose git has the job's token."""
    folder = tmp_path / "clone"
    folder.mkdir()
    git = Git(folder, token=gh.token, server_url=gh.server_url)
    git("clone", "--quiet", gh.clone_url(NAME), ".")
    return git


def commit(git: Git, text: str) -> str:
    """A new commit in the clone."""
    (git.folder / "b.txt").write_text(text)
    git("add", "--all")
    git("commit", "--quiet", f"--message={text}")
    return git("rev-parse", "HEAD")


def test_what_a_clone_says(clone: Git) -> None:
    """Commits, trees, files with their own newlines, tags and ancestry are read as they are."""
    first = clone.commit("HEAD")
    assert first
    assert clone.tree("HEAD") == clone("rev-parse", "HEAD^{tree}")
    assert clone.show("HEAD", "a.txt") == "one\r\ntwo\n"
    assert clone.show("HEAD", "none.txt") is None
    assert clone.commit("nowhere") is None
    assert clone.commit("--all") is None
    assert clone.tags() == ["v0.1.0"]
    assert not clone.is_shallow()
    second = commit(clone, "second")
    assert clone.is_ancestor(first, second)
    assert clone.is_ancestor(first, first)
    assert not clone.is_ancestor(second, first)
    assert clone.remote_refs("refs/tags/*") == {"refs/tags/v0.1.0": first}


def test_names_are_what_git_says(clone: Git, gh: GitHub) -> None:
    """What splits lines elsewhere does not split a name, and a ref that only ends like another is none."""
    first = clone.commit("HEAD") or ""
    odd = "refs/tags/v0.2.0\u2028b\x85"
    for ref in (odd, "refs/notes/refs/tags/v9.9.9", "refs/heads/refs/tags/v9.9.9"):
        gh.git(NAME, "update-ref", ref, first)
    assert clone.remote_refs("refs/tags/*") == {"refs/tags/v0.1.0": first, odd: first}
    assert clone.remote_refs("refs/tags/v9.9.9", "refs/tags/v0.1*") == {"refs/tags/v0.1.0": first}
    clone("fetch", "--quiet", "--tags", "origin")
    assert clone.tags() == ["v0.1.0", odd.removeprefix("refs/tags/")]
    assert Git(clone.folder).lines("log", "--format=%b") == [""]


def test_the_token_is_no_argument(
    clone: Git, gh: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token reaches git by environment alone, also over a header that a checkout left behind."""
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    real = shutil.which("git")
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/argv"\nexec "{real}" "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    clone("config", f"http.{gh.server_url}/.extraheader", "AUTHORIZATION: basic b2xkOm9sZA==")
    again = Git(clone.folder, token=gh.token, server_url=gh.server_url)
    commit(again, "x")
    again.push("HEAD:refs/heads/feature/x")
    assert gh.git(NAME, "rev-parse", "refs/heads/feature/x") == again.commit("HEAD")
    said = (tmp_path / "argv").read_text()
    assert "push" in said
    assert gh.token not in said
    with pytest.raises(GitError) as error:
        again("fetch", "origin", f"refs/heads/{gh.token}")
    assert gh.token not in error.value.stderr


def test_a_lease_keeps_what_others_pushed(clone: Git, gh: GitHub) -> None:
    """A branch is created only where it is absent, and deleted only where it is what we saw."""
    mine = commit(clone, "mine")
    clone.push(f"{mine}:refs/heads/release/v1.0.0", lease={"refs/heads/release/v1.0.0": ""})
    other = commit(clone, "other")
    with pytest.raises(PushRefusedError):
        clone.push(f"{other}:refs/heads/release/v1.0.0", lease={"refs/heads/release/v1.0.0": ""})
    with pytest.raises(PushRefusedError):
        clone.push(":refs/heads/release/v1.0.0", lease={"refs/heads/release/v1.0.0": other})
    assert gh.git(NAME, "rev-parse", "refs/heads/release/v1.0.0") == mine
    clone.push(":refs/heads/release/v1.0.0", lease={"refs/heads/release/v1.0.0": mine})
    assert "refs/heads/release/v1.0.0" not in clone.remote_refs()


def test_settings_and_hooks_of_the_user_do_nothing(
    clone: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook, a signing key or an alias that a user has configured does not reach a release."""
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\nhooksPath = {tmp_path}/hooks\n[commit]\ngpgSign = true\n[user]\nname = Me\n")
    hook = tmp_path / "hooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (clone.folder / ".git/hooks/pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (clone.folder / ".git/hooks/pre-commit").chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    commit(Git(clone.folder), "ours")
    assert clone("log", "-1", "--format=%an") == "github-actions[bot]"


def test_a_server_that_is_away_is_no_refusal(clone: Git) -> None:
    """A push that did not reach the server is an infrastructure error, not a refusal."""
    clone("config", "remote.origin.url", "http://127.0.0.1:9/acme/triage")
    with pytest.raises(GitError) as error:
        clone.push("HEAD:refs/heads/x")
    assert not isinstance(error.value, PushRefusedError)
