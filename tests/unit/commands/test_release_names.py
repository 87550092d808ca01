"""The names that options of a release may hold."""

from __future__ import annotations

import subprocess

import pytest

from gatehouse.commands._release import branch_names, file_paths, workflow_files
from gatehouse.errors import UserError
from tests.support.hostile import KINDS

NAMES = {
    **dict.fromkeys(("main", "release/v1", "1", "a/b.c", "a.lockx", "café", "x" * 200), True),
    **{
        f"1{text}": False
        for text in ("..a", ".", ".lock", ".lock/a", "/.a", "//a", "/", "@{a", " ", "~", "^")
    },
    **{f"1{text}": False for text in (":", "?", "*", "[", "\\", "\x7f", "\n", "x" * 200)},
    **dict.fromkeys(("", "-a", "@", ".a", "/a", *KINDS.values()), False),
}


@pytest.mark.parametrize(("name", "taken"), NAMES.items(), ids=lambda value: repr(value)[:30])
def test_a_branch_is_what_git_takes(name: str, taken: bool) -> None:
    """No name passes that git refuses, none that is too long, and every usual one does."""
    if not taken:
        with pytest.raises(UserError, match="--main"):
            branch_names(main=name)
        return
    branch_names(main=name)
    subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=True)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".yml", "ci", "a/ci.yml", "ci.yml\n", "\u0661.yml", f"{'x' * 101}.yml", "%2e.yml"]
)
def test_a_workflow_is_the_name_of_a_file(name: str) -> None:
    """What is no name of a workflow's file never becomes a part of an address; all are told at once."""
    workflow_files(start=("ci.yml", "a_b-c.1.yaml"), workflow=())
    with pytest.raises(UserError) as error:
        workflow_files(start=("ci.yml", name), release_workflow=(name,))
    assert [problem.message.split(" ")[0] for problem in error.value.problems] == [
        "--start",
        "--release-workflow",
    ]


@pytest.mark.parametrize("path", ["x" * 256, "a/" + "\u00e9" * 128, "a/" * 501])
def test_a_path_is_one_that_a_file_can_have(path: str) -> None:
    """What no file can be called is refused, before a system call says so; what one can be is not."""
    file_paths(changelog="x" * 255, out="a/" * 500)
    with pytest.raises(UserError, match="--out"):
        file_paths(out=path)
