"""Several files as one golden set, and a part of it: what is taken, and what it is called."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.source import RefusedError
from gatehouse.errors import UserError
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.results import digest_now, digest_of
from gatehouse.evals.selection import Chosen, Selection, chosen_in, held_to, told

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "a.jsonl": '{"id": "a", "input": 1, "tags": ["x"]}\n\n{"id": "b", "input": 2, "tags": ["y", "x"]}\n',
    "b.csv": "id,input,tags\nc,3,z\nd,4,\n",
    "c.yaml": "- {id: e, input: 5, tags: [x]}\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a golden set of three files: a, b; c, d; e."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def refused(root: Path, *paths: str, tags: tuple[str, ...] = (), cases: tuple[str, ...] = ()) -> str:
    """What is said of a golden set that is none."""
    with pytest.raises(UserError) as caught:
        GoldenSet(paths, root, Selection(tags, cases))
    return str(caught.value)


def test_several_files_are_one_set(root: Path) -> None:
    """Cases of all files in their order, each with its own file and line, found by id."""
    whole = GoldenSet(tuple(FILES), root)
    assert [(c.id, c.path, c.line) for c in whole] == [
        ("a", "a.jsonl", 1),
        ("b", "a.jsonl", 3),
        ("c", "b.csv", 2),
        ("d", "b.csv", 3),
        ("e", "c.yaml", 1),
    ]
    assert [whole[c.id] for c in whole] == list(whole)
    assert (len(whole), whole.index["e"], whole.part) == (5, 4, "")
    assert whole.header() == {
        "path": "a.jsonl, b.csv, c.yaml",
        "paths": ["a.jsonl", "b.csv", "c.yaml"],
        "digest": whole.digest,
        "cases": 5,
    }


def test_ids_are_unique_across_files(root: Path) -> None:
    """The same id or input in two files is one fault that names both places."""
    (root / "d.jsonl").write_text('{"id": "b", "input": 9}\n{"input": "9"}\n')
    (root / "e.jsonl").write_text('{"input": "9"}\n')
    said = refused(root, "a.jsonl", "d.jsonl", "e.jsonl")
    assert 'd.jsonl:1: id "b" is given twice, first in a.jsonl:3.' in said
    assert "e.jsonl:1: the same input as in d.jsonl:2." in said


def test_faults_of_all_files_are_told_at_once(root: Path) -> None:
    """Bad lines of each file, a file without cases and one that is not there; 20 in full over all."""
    (root / "bad.jsonl").write_text("{}\n" * 15)
    (root / "bad.csv").write_text("input\nx,y\n")
    (root / "empty.yaml").write_text("[]\n")
    said = refused(root, "bad.jsonl", "bad.csv", "empty.yaml")
    assert all(
        part in said for part in ("bad.jsonl:15: ", "bad.csv:2: ", "empty.yaml: the golden set has no")
    )
    (root / "bad.csv").write_text("input\n" + "x,y\n" * 10)
    assert "\nbad.jsonl, bad.csv: and 5 more.\n" in refused(root, "bad.jsonl", "bad.csv")
    said = refused(root, "a.json", "a.jsonl", "./a.jsonl", "b.cvs")
    assert all(
        part in said for part in ("there is no file a.json.", "there is no file b.cvs.", "named twice")
    )


def test_a_part_is_what_has_a_tag_or_an_id(root: Path) -> None:
    """Cases with one of the tags and those with one of the ids, each once, in the order of the files."""
    for tags, cases, ids in (
        (("x",), (), "abe"),
        ((), ("d",), "d"),
        (("z", "y"), (), "bc"),
        (("x",), ("e", "c", "c"), "abce"),
    ):
        part = GoldenSet(tuple(FILES), root, Selection(tags, cases))
        assert "".join(case.id for case in part) == ids
        assert [part.index[name] for name in ids] == list(range(len(ids)))
        assert [part[name].id for name in ids] == list(ids)
        assert (len(part), part.of) == (len(ids), 5)
    assert "a" not in GoldenSet(tuple(FILES), root, Selection(cases=("e",)))


def test_a_name_that_no_case_has_is_refused(root: Path) -> None:
    """A misspelt tag or id is told with the nearest, all of them at once: an empty part measures nothing."""
    (root / "long.jsonl").write_text('{"id": "refund-twice", "input": 1, "tags": ["smoke"]}\n')
    said = refused(root, "long.jsonl", tags=("smok", "q"), cases=("refund-twicee", "smoke"))
    assert '--tag "smok": no case has this tag.\nDid you mean "smoke"?' in said
    assert '--tag "q": no case has this tag.\nThere are smoke.' in said
    assert '--case "refund-twicee": no case has this id.\nDid you mean "refund-twice"?' in said
    assert '--case "smoke": no case has this id' in said
    (root / "commas.csv").write_text('input,tags\na,"slow, smoke"\n')
    assert "There are" not in (said := refused(root, "commas.csv", tags=("smoke",)))
    assert '"slow, smoke" is one tag: in CSV a semicolon separates tags.' in said


def test_digests_tell_parts_and_files_apart(root: Path) -> None:
    """Of one whole file the digest is that of its bytes; no two sets or parts share theirs."""
    assert GoldenSet("a.jsonl", root).digest == f"sha256:{sha256(FILES['a.jsonl'].encode()).hexdigest()}"
    sets: list[tuple[tuple[str, ...], Selection]] = [
        (("a.jsonl",), Selection()),
        (("a.jsonl", "c.yaml"), Selection()),
        (("c.yaml", "a.jsonl"), Selection()),
        (("a.jsonl",), Selection(tags=("x",))),
        (("a.jsonl",), Selection(cases=("a", "b"))),
        (("a.jsonl",), Selection(cases=("a",))),
        (("a.jsonl", "c.yaml"), Selection(cases=("a",))),
    ]
    found = [GoldenSet(paths, root, selection) for paths, selection in sets]
    assert len({one.digest for one in found}) == len(sets)
    assert [digest_now(one.header(), root) for one in found] == [one.digest for one in found]
    again = GoldenSet("a.jsonl", root, Selection(cases=("b", "a", "b")))
    assert again.header() == found[4].header()
    (root / "c.yaml").write_text("- {id: e, input: 6}\n")
    assert digest_now(found[1].header(), root) != found[1].digest
    (root / "c.yaml").unlink()
    with pytest.raises(RefusedError):
        digest_now(found[1].header(), root)


def test_a_header_says_what_was_chosen(root: Path) -> None:
    """From the header of a part the same part is chosen again; one of an older version names one file."""
    part = GoldenSet(("a.jsonl", "b.csv"), root, Selection(("x",), ("d",)))
    header = json.loads(json.dumps(part.header()))
    assert (header["selected"], header["cases"], header["of"]) == ({"tags": ["x"], "cases": ["d"]}, 3, 4)
    assert chosen_in(header) == Chosen(("a.jsonl", "b.csv"), Selection(("x",), ("d",)))
    assert chosen_in({"path": "a.jsonl"}) == Chosen(("a.jsonl",))


@pytest.mark.parametrize(
    "dataset",
    [
        None,
        [],
        {},
        {"path": 1},
        {"paths": "a"},
        {"paths": [1]},
        {"path": "a", "selected": "a"},
        {"path": "a", "selected": {"tags": []}},
        {"path": "a", "selected": {"tags": [], "cases": [], "files": "2"}},
        {"path": "a", "selected": {"tags": [], "cases": [], "files": -1}},
        {"path": "a", "selected": {"tags": [], "cases": [], "files": True}},
        {"path": "a", "selected": {"tags": "a", "cases": []}},
        {"path": "a", "selected": {"tags": [], "cases": [[]]}},
    ],
)
def test_a_malformed_header_is_refused(dataset: Any) -> None:
    """What is not as we write it is no selection of anything, and never the whole by mistake."""
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        chosen_in(dataset)


def test_how_a_part_is_called() -> None:
    """A part is told by its options; of many names the first, and none at a length that fills the line."""
    assert told(Selection(), 3, 3) == ""
    assert told(Selection(("smoke",)), 3, 40) == "3 of 40 cases, selected by --tag smoke"
    many = Selection(("t",), ("e", "d", "c", "b", "a", "x" * 100))
    assert told(many, 3, 40) == "3 of 40 cases, selected by --tag t --case a, b, c and 3 more"
    assert len(told(Selection((), ("x" * 1000,)), 1, 2)) < 120


OWN = ("a.jsonl", "b.csv", "c.yaml")


@pytest.mark.parametrize(
    ("own", "asked", "paths", "files", "replaced"),
    [
        (OWN, (), OWN, 0, False),
        (OWN, ("c.yaml", "./b.csv", "x/../a.jsonl"), OWN, 0, False),
        (OWN, ("c.yaml", "./a.jsonl"), ("a.jsonl", "c.yaml"), 3, False),
        (OWN, ("a.jsonl", "other"), ("a.jsonl", "other"), 0, True),
        (OWN, (*OWN, "other"), (*OWN, "other"), 0, True),
        (OWN, ("../a.jsonl",), ("../a.jsonl",), 0, True),
        (OWN, ("a.jsonl", "./a.jsonl"), ("a.jsonl", "./a.jsonl"), 0, False),
        ((), ("a.jsonl",), ("a.jsonl",), 0, False),
        ((), (), (), 0, False),
    ],
)
def test_files_are_held_to_those_of_the_agent(
    root: Path,
    own: tuple[str, ...],
    asked: tuple[str, ...],
    paths: tuple[str, ...],
    files: int,
    replaced: bool,
) -> None:
    """All its files are the whole, some are a part, others stand in their place; old counts are forgotten."""
    found = held_to(own, Chosen(asked, Selection(("t",), (), files=7)), root)
    assert found == (Chosen(paths, Selection(("t",), (), files)), own if replaced else ())


def test_the_digest_of_files_is_that_of_their_golden_set(root: Path) -> None:
    """What a build notes of an agent's golden set is what a verdict on it says; "" for what is not there."""
    for paths in (("a.jsonl",), OWN):
        assert digest_of(paths, root) == GoldenSet(paths, root).digest
    assert [digest_of(paths, root) for paths in ((), ("gone",), ("a.jsonl", "../a.jsonl"))] == [""] * 3
