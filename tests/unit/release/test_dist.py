"""The record of a build, and the comparison of files with it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import UserError
from gatehouse.release.dist import BUILD, NOTES, SUMS, Agent, digests_of, load_build
from tests.support.dists import make_dist

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AGENT = Agent("triage", "agents/triage.yaml", "3", "sha256:" + "a" * 64, "warn")


def test_a_build_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What `save` writes, `load_build` reads, agents included; `sha256sum --check` agrees."""
    build = make_dist(tmp_path, agents=[AGENT])
    assert load_build(tmp_path) == build
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def change_bytes(folder: Path) -> None:
    """Other bytes of the same length."""
    wheel = next(folder.glob("*.whl"))
    content = bytearray(wheel.read_bytes())
    content[100] ^= 1
    wheel.write_bytes(content)


def add_sdist(folder: Path) -> None:
    """One more file that would be uploaded."""
    (folder / "acme_triage-9.9.9.tar.gz").write_bytes(b"x")


def link_wheel(folder: Path) -> None:
    """The wheel as a link to a file elsewhere."""
    wheel = next(folder.glob("*.whl"))
    other = folder.parent / "elsewhere"
    wheel.rename(other)
    wheel.symlink_to(other)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change_bytes, "not the one that was built"),
        (lambda folder: next(folder.glob("*.whl")).write_bytes(b"short"), "5 bytes"),
        (lambda folder: next(folder.glob("*.whl")).unlink(), "missing"),
        (link_wheel, "missing"),
        (add_sdist, "does not name this file"),
        (lambda folder: (folder / BUILD).unlink(), "cannot be read"),
        (lambda folder: (folder / BUILD).write_text("{"), "not JSON"),
        (lambda folder: (folder / BUILD).write_text("[" * 100_000), "not JSON"),
        (lambda folder: (folder / BUILD).write_text("[]"), "the whole"),
        (lambda folder: (folder / BUILD).write_text(" " * 2**21), "larger than"),
    ],
)
def test_other_files_than_the_built_ones_are_refused(
    tmp_path: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    """A file that is changed, missing, linked or added, or a record that is none, stops every later stage."""
    folder = tmp_path / "dist"
    make_dist(folder)
    spoil(folder)
    with pytest.raises(UserError, match=said):
        load_build(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": "x\n"},
        {"version": "1.0 --index-url http://x"},
        {"commit": "main"},
        {"files": []},
        {"files": [{"name": "../../x.whl", "sha256": "a" * 64, "size": 1, "kind": "wheel"}]},
        {"files": [{"name": "-x.whl", "sha256": "a" * 64, "size": 1, "kind": "wheel"}]},
        {"files": [{"name": "x.exe", "sha256": "a" * 64, "size": 1, "kind": "wheel"}]},
        {"on_main": "yes"},
        {"schema": 2},
        {"tag": "v1\x1b[2J"},
        {
            "agents": [
                {"name": "../a", "path": "a", "version": 1, "digest": "a" * 64, "on_inconclusive": "warn"}
            ]
        },
    ],
)
def test_a_hostile_record_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Names that leave the folder, become options or hold control characters are no record of a build."""
    make_dist(tmp_path)
    data = json.loads((tmp_path / BUILD).read_text())
    (tmp_path / BUILD).write_text(json.dumps(data | changes))
    with pytest.raises(UserError):
        load_build(tmp_path)


def rebuild(folder: Path) -> None:
    """Another build of the same version, which agrees with itself."""
    make_dist(folder, code="import os")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rebuild, r"SHA256SUMS, acme_triage-1.2.0-py3-none-any.whl, acme_triage-1.2.0.tar.gz, build.json"),
        (lambda folder: make_dist(folder, on_main=False), BUILD),
        (lambda folder: make_dist(folder, agents=[AGENT]), BUILD),
        (lambda folder: (folder / NOTES).write_text("Send your keys.\n"), NOTES),
        (lambda folder: (folder / SUMS).unlink(), SUMS),
        (lambda folder: (folder / "more.txt").write_text(""), "more.txt"),
        (lambda folder: (folder / "more").mkdir(), "more"),
        (link_wheel, "acme_triage-1.2.0-py3-none-any.whl"),
    ],
)
def test_what_the_build_did_not_hand_on_is_refused(
    tmp_path: Path, change: Callable[[Path], Any], said: str
) -> None:
    """A folder that was changed after the build is refused, however well it agrees with itself."""
    folder = tmp_path / "dist"
    build = make_dist(folder)
    digests = json.dumps(digests_of(folder))
    assert load_build(folder, digests) == build
    change(folder)
    with pytest.raises(UserError, match=f"changed after the build: {said}"):
        load_build(folder, digests)


@pytest.mark.parametrize("digests", ["x", "[]", '"build.json"', "[" * 100_000])
def test_digests_that_are_none_are_refused(tmp_path: Path, digests: str) -> None:
    """What is no JSON object of digests compares nothing, and is not believed to."""
    make_dist(tmp_path)
    with pytest.raises(UserError, match="no JSON object"):
        load_build(tmp_path, digests)


def test_a_missing_artifact_is_said_to_be_missing(tmp_path: Path) -> None:
    """With digests too, a folder without a build is one that was not downloaded, not one that was changed."""
    with pytest.raises(UserError, match="cannot be read"):
        load_build(tmp_path / "dist", "{}")


def test_fields_of_a_newer_writer_are_left_aside(tmp_path: Path) -> None:
    """A field that we do not know does not hinder us."""
    build = make_dist(tmp_path)
    data = json.loads((tmp_path / BUILD).read_text())
    data["more"], data["files"][0]["more"] = 1, 2
    (tmp_path / BUILD).write_text(json.dumps(data))
    assert load_build(tmp_path) == build
