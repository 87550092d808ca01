"""The formats of golden sets: the same cases in each, and files that are read whole have a limit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from gatehouse.errors import UserError
from gatehouse.evals import dataset_file
from gatehouse.evals.dataset import GoldenSet

SAME = Path(__file__).parents[2] / "support" / "golden"
"""One golden set in every format; the documentation shows these files."""


def test_the_same_case_is_the_same_in_every_format(tmp_path: Path) -> None:
    """One set as JSON Lines, CSV, YAML and JSON: equal cases, ids and digests, each at its own line."""
    shutil.copytree(SAME, tmp_path, dirs_exist_ok=True)
    lines = list(map(json.loads, (SAME / "refunds.jsonl").read_text().splitlines()))
    (tmp_path / "refunds.json").write_text(json.dumps(lines, indent=1))
    (tmp_path / "named.json").write_text(json.dumps({"cases": lines}))
    (tmp_path / "named.YML").write_text("cases:\n" + (SAME / "refunds.yaml").read_text())
    first = list(GoldenSet("refunds.jsonl", tmp_path))
    assert [case.line for case in first] == [1, 2, 3]
    for name, at in {
        "refunds.csv": [2, 3, 5],
        "refunds.yaml": [1, 6, 13],
        "named.YML": [2, 7, 14],
        "refunds.json": [2, 14, 23],
        "named.json": [1, 1, 1],
    }.items():
        found = GoldenSet(name, tmp_path)
        assert [(case.line, case.path) for case in found] == [(line, name) for line in at]
        assert [replace(case, line=0, path="") for case in found] == [
            replace(case, line=0, path="") for case in first
        ]
        assert found.digest == f"sha256:{sha256((tmp_path / name).read_bytes()).hexdigest()}"
        assert [found[case.id].digest for case in first] == [case.digest for case in first]


@pytest.mark.parametrize("name", ["a.csv", "a.yaml", "a.json"])
def test_a_file_that_is_read_whole_has_a_limit(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large to be held is refused, with the format that has no limit."""
    (tmp_path / name).write_text("input\n" + "x" * 100)
    monkeypatch.setattr(dataset_file, "MAX_WHOLE", 100)
    with pytest.raises(UserError, match=r"(?s)larger than .*Write JSON Lines"):
        GoldenSet(name, tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.yaml", "a.json"])
def test_what_is_no_utf8_is_refused(tmp_path: Path, name: str) -> None:
    """Bytes of another encoding are told with their line, also those of a spreadsheet's UTF-16."""
    (tmp_path / name).write_bytes(b"input\na\nr\xe9sum\xe9\n")
    with pytest.raises(UserError, match=rf"{name}:3: byte 2 of line 3 .* is not UTF-8 \(0xe9\)"):
        GoldenSet(name, tmp_path)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfinput caf\xe9\n")
    with pytest.raises(UserError, match=rf"{name}:1: byte 13 of line 1 .* is not UTF-8 \(0xe9\)"):
        GoldenSet(name, tmp_path)
    (tmp_path / name).write_bytes("input\na\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"is not UTF-8"):
        GoldenSet(name, tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.yaml", "a.json", "a.yml"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_no_golden_set(tmp_path: Path, name: str, content: str) -> None:
    """A file without a case is its author's mistake in each format."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}: the golden set has no cases"):
        GoldenSet(name, tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.yaml", "a.json"])
def test_a_folder_is_no_golden_set(tmp_path: Path, name: str) -> None:
    """A folder is refused, whatever its name ends with."""
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} is a folder"):
        GoldenSet(name, tmp_path)
