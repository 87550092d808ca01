"""The record of a build, and the comparison of files with it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import UserError
from gatehouse.release.dist import BUILD, Agent, load_build
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


def test_fields_of_a_newer_writer_are_left_aside(tmp_path: Path) -> None:
    """A field that we do not know does not hinder us."""
    build = make_dist(tmp_path)
    data = json.loads((tmp_path / BUILD).read_text())
    data["more"], data["files"][0]["more"] = 1, 2
    (tmp_path / BUILD).write_text(json.dumps(data))
    assert load_build(tmp_path) == build
