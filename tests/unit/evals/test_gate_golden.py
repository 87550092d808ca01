"""What counts as a change of a golden set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.evals.changes.golden import cases as compared
from gatehouse.evals.changes.golden import view
from gatehouse.evals.dataset import GoldenSet
from tests.support.projects import write_golden
from tests.unit.evals.test_gate_changes import told

if TYPE_CHECKING:
    from pathlib import Path

CASES: list[dict[str, Any]] = [
    {"id": "a", "input": "1", "expected": "1", "critical": True},
    {"id": "b", "input": "2", "expected": "2", "tags": ["hard"], "expected_tools": ["look_up"]},
    {"input": "3", "expected": "3"},
]


def golden_changes(tmp_path: Path, after: list[dict[str, Any]], before: Any = None) -> list[str]:
    """What is told of a golden set whose cases change."""
    views = []
    for cases in (before or CASES, after):
        write_golden(tmp_path, cases)
        views.append({case.id: view(case) for case in GoldenSet(["golden.jsonl"], tmp_path)})
    return told(list(compared(*views)))


def edited(position: int, **change: Any) -> list[dict[str, Any]]:
    """The cases, one of them edited; a key with None is taken out."""
    whole = CASES[position] | change
    new = {key: value for key, value in whole.items() if value is not None}
    return [*CASES[:position], new, *CASES[position + 1 :]]


GOLDEN = {
    "dropped": (CASES[1:], ["weaker: 1 case dropped: a: -"]),
    "added": ([*CASES, {"id": "d", "input": "4"}], ["stronger: 1 case added: d: -"]),
    "input": (edited(0, input="x"), ["changed: input changed in 1 case: a: -"]),
    "reference": (edited(0, expected="x"), ["changed: reference changed in 1 case: a: -"]),
    "no reference": (edited(0, expected=None), ["weaker: reference removed from 1 case: a: -"]),
    "reference emptied": (edited(0, expected=" "), ["weaker: reference removed from 1 case: a: -"]),
    "no tools": (edited(1, expected_tools=None), ["weaker: expected tools removed from 1 case: b: -"]),
    "contexts": (edited(0, contexts=["x"]), ["changed: contexts added to 1 case: a: -"]),
    "not critical": (edited(0, critical=None), ["weaker: critical mark removed from 1 case: a: -"]),
    "critical": (edited(1, critical=True), ["stronger: critical mark added to 1 case: b: -"]),
    "tags": (edited(1, tags=None), ["changed: tags removed from 1 case: b: -"]),
    "metadata": (edited(0, metadata={"x": 1}), ["changed: metadata added to 1 case: a: -"]),
    "refusal": (
        edited(0, metadata={"should_refuse": True, "x": 1}),
        ["changed: metadata added to 1 case: a: -", "changed: metadata.should_refuse added to 1 case: a: -"],
    ),
    "order": (CASES[::-1], []),
    "another spelling": (
        [{"id": "a", "question": "1", "answer": "1", "critical": True}, *CASES[1:]],
        [],
    ),
}


@pytest.mark.parametrize("row", GOLDEN.values(), ids=GOLDEN)
def test_cases(tmp_path: Path, row: tuple[list[dict[str, Any]], list[str]]) -> None:
    """What happened to a case is told by the part that changed."""
    assert golden_changes(tmp_path, row[0]) == row[1]


def test_a_case_without_an_id_is_dropped_and_added(tmp_path: Path) -> None:
    """A case that is known by its input and edited is told as dropped, with what that may mean."""
    dropped, added = golden_changes(tmp_path, edited(2, input="x"))
    assert dropped.startswith(
        "weaker: 1 case dropped (or edited, since a case without an id is known by its input): "
    )
    assert added.startswith("stronger: 1 case added: ")


def test_many_cases_are_counted(tmp_path: Path) -> None:
    """Ten ids are named, and how many more there are."""
    many = [{"id": f"c{i:02}", "input": i} for i in range(30)]
    [line] = golden_changes(tmp_path, many[25:], many)
    assert line == "weaker: 25 cases dropped: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 15 more: -"


def test_a_reference_that_is_null_is_one(tmp_path: Path) -> None:
    """A case whose reference is null on purpose loses it where the key is taken out."""
    null = [{"id": "a", "input": "1", "expected": None}]
    assert golden_changes(tmp_path, [{"id": "a", "input": "1"}], null) == [
        "weaker: reference removed from 1 case: a: -"
    ]


def test_a_reference_that_becomes_null_is_removed(tmp_path: Path) -> None:
    """A reference that is set to null is one taken away."""
    one, null = ([{"id": "a", "input": "1", "expected": value}] for value in ("1", None))
    assert golden_changes(tmp_path, null, one) == ["weaker: reference removed from 1 case: a: -"]
    assert golden_changes(tmp_path, one, null) == ["changed: reference changed in 1 case: a: -"]


def test_what_a_metric_judges_by_is_a_part_of_its_own(tmp_path: Path) -> None:
    """Metadata that a metric needs are named: another value may be either, taking them out is weaker."""
    case = {"id": "a", "input": "1", "metadata": {"should_refuse": True, "canary": "sesame-open"}}
    other = case | {"metadata": {"should_refuse": False}}
    assert golden_changes(tmp_path, [other], [case]) == [
        "changed: metadata.should_refuse changed in 1 case: a: -",
        "weaker: metadata.canary removed from 1 case: a: -",
    ]
