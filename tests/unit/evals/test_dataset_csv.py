"""Golden sets as CSV: what a cell gives, and every mistake with its line."""

from __future__ import annotations

import csv
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import UserError
from gatehouse.evals.dataset import Case, GoldenSet

if TYPE_CHECKING:
    from pathlib import Path


def cases(root: Path, content: str | bytes) -> list[Case]:
    """The cases of a CSV file with this content."""
    (root / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(GoldenSet("a.csv", root))


def refused(root: Path, content: str | bytes) -> UserError:
    """The error of a file with this content."""
    with pytest.raises(UserError) as caught:
        cases(root, content)
    return caught.value


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-2", "@SUM(A1)", "=HYPERLINK(1)", "007", "true", "null", "{}", " a ", "1e400", "#x"],
)
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    """A cell of a text column is its text, whatever a spreadsheet or JSON would make of it."""
    (case,) = cases(tmp_path, f"input,expected\n{text},{text}\n")
    assert (case.input, case.expected) == (text, text)


def test_an_empty_cell_gives_nothing(tmp_path: Path) -> None:
    """No cell but a filled one is a key: no reference is another thing than an empty one, given as JSON."""
    bare, nothing, empty = cases(
        tmp_path,
        "id,input,expected,expected.json,contexts,expected_tools,tags,critical,metadata.a\n"
        'a,x,,,,,;,,\nb,x,,null, ,[], ; , ,\nc,x,,"""""",,,,,\n,,,,,,,,\n',
    )
    assert (bare.has_expected, bare.contexts, bare.expected_tools, bare.tags) == (False, None, None, [])
    assert (bare.critical, bare.metadata) == (False, {})
    assert (nothing.has_expected, nothing.expected, nothing.expected_tools) == (True, None, [])
    assert (empty.has_expected, empty.expected) == (True, "")


@pytest.mark.parametrize(
    ("word", "critical"),
    [
        ("true", True),
        ("TRUE", True),
        ("Yes", True),
        ("1", True),
        ("false", False),
        ("NO", False),
        ("0", False),
    ],
)
def test_words_for_critical(tmp_path: Path, word: str, critical: bool) -> None:
    """What spreadsheets and people write for true and false is understood."""
    (case,) = cases(tmp_path, f"input,critical\nx, {word} \n")
    assert case.critical is critical


def test_other_columns(tmp_path: Path) -> None:
    """Tags stand between semicolons, metadata as JSON or as columns of their own."""
    (case,) = cases(tmp_path, "question,answer,tags,metadata.a,metadata.b.c\nq,a, x ;y y;; ,1,=2\n")
    assert (case.input, case.expected, case.tags) == ("q", "a", ["x", "y y"])
    assert case.metadata == {"a": "1", "b.c": "=2"}
    (case,) = cases(tmp_path, 'question,metadata\nq,"{""a"": 1}"\n')
    assert case.metadata == {"a": 1}


def test_metadata_that_is_no_text(tmp_path: Path) -> None:
    """A key of the metadata is JSON where its column says so, and should_refuse is true or false."""
    header = (
        "input,metadata.should_refuse,metadata.canary,metadata.canary.json,metadata.n.json,metadata.json\n"
    )
    yes, no, none = cases(tmp_path, header + 'a,TRUE,PWNED-7f3a,,5,x\nb,no,,"[""PWNED-7f3a""]",,\nc, ,,, ,\n')
    assert yes.metadata == {"should_refuse": True, "canary": "PWNED-7f3a", "n": 5, "json": "x"}
    assert no.metadata == {"should_refuse": False, "canary": ["PWNED-7f3a"]}
    assert none.metadata == {}
    (same,) = cases(tmp_path, "input,metadata.should_refuse.json\na,true\n")
    assert same.metadata == {"should_refuse": True}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_lines_are_where_records_begin(tmp_path: Path, end: str, mark: str) -> None:
    """Byte order mark, blank lines, quoted line ends and each kind of line end keep a case's line right."""
    lines = ["id,input", "a,one", "", '"b","two', "", 'lines"', "c,three"]
    found = cases(tmp_path, mark + end.join(lines))
    assert [(case.id, case.line) for case in found] == [("a", 2), ("b", 4), ("c", 7)]
    assert found[1].input == f"two{end}{end}lines"


BAD: dict[str, tuple[str, int, str]] = {
    "a misspelt column": ("id,inptu\n", 1, '"inptu".\n    id,inptu\n       ~~~~^\nDid you mean "input"?'),
    "capitals": ("Input\nx\n", 1, 'unknown column "Input".\n    Input\n    ~~~~^\nDid you mean "input"?'),
    "an unknown column": ("input,zzz\nx,y\n", 1, "Known: id, input, question"),
    "JSON ids": ("input,id.json\nx,y\n", 1, 'unknown column "id.json"'),
    "JSON metadata of no name": ("input,metadata..json\nx,y\n", 1, 'unknown column "metadata..json"'),
    "a refusal": ("input,metadata.should_refuse\ng,\nb,maybe\n", 3, "false.\n    b,maybe\n      ~~~~^\n"),
    "a canary": ("input,metadata.canary\ng,\nb,abc\n", 3, '"canary" is "abc".\n    b,abc\n      ~~^\n'),
    "both of a key": ("input,metadata.a,metadata.a.json\ng,,\nb,1,1\n", 3, 'both "metadata.a" and'),
    "JSON metadata that is none": ("input,metadata.a.json\ng,1\nb,x\n", 3, '"metadata.a.json": not JSON'),
    "metadata of no name": ("input,metadata.\nx,y\n", 1, 'unknown column "metadata."'),
    "a column twice": ("input,id,input\nx,y,z\n", 1, 'column "input" is there twice'),
    "a column without a name": ("input,\nx,y\n", 1, "column 2 has no name"),
    "no header": ("a,b\nc,d\n", 1, 'unknown column "a"'),
    "no input": ("id,expected\na,b\n", 1, 'names no column "input"'),
    "metadata twice": ("input,metadata,metadata.a\nx,y,z\n", 1, 'a column "metadata" and one of a key of it'),
    "semicolons": ("id;input;expected\na;b;c\n", 1, "by semicolons.\n    id;input;expected\nSave the file"),
    "tabs": ("id\tinput\n1\t2\n", 1, "separated by tabs"),
    "a quote in the header": ('"input"x\n', 1, "a quote ends, and no comma follows it"),
    "a row too short": ("id,input\ngood,g\na\nz,1\n", 3, "the row has 1 cells, and the first row 2"),
    "a row too long": ("id,input\ngood,g\na,b,c\nz,1\n", 3, "the row has 3 cells, and the first row 2"),
    "text behind a quote": ('id,input\ngood,g\n"a"b,c\nz,1\n', 3, "a quote ends, and no comma follows it"),
    "text behind a quote, later": ('id,input\ngood,g\n"a\n"b,c\nz,1\n', 3, "a quote ends on line 4, and no"),
    "a quote left open": ('id,input\ngood,g\na,"b\nz,1\n', 3, "is opened in this row and never closed"),
    "NUL": ("id,input\ngood,g\na,b\0c\nz,1\n", 3, '"input": it holds a NUL'),
    "critical": ("id,input,critical\ngood,g,\na,b,maybe\n", 3, "nor false.\n    a,b,maybe\n        ~~~~^"),
    "contexts as text": ("id,input,contexts\ngood,g,\na,b,c\n", 3, '"contexts": not JSON'),
    "contexts as an object": ("id,input,contexts\ngood,g,\na,b,{}\n", 3, '"contexts" is an object'),
    "tools": ("id,input,expected_tools\ngood,g,\na,b,[1]\n", 3, 'item 1 of "expected_tools" is a number'),
    "metadata": ("id,input,metadata\ngood,g,\na,b,[]\n", 3, '"metadata" is a list: it must be an object'),
    "JSON that is none": ("id,input,expected.json\ngood,g,1\na,b,yes\n", 3, '"expected.json": not JSON'),
    "JSON input of null": ("id,input.json\ngood,1\na,null\n", 3, '"input" is empty'),
    "both": ("id,input,input.json\ngood,g,\na,b,1\n", 3, 'both "input" and "input.json" are given'),
    "two references": ("id,input,expected,answer\ngood,g,,\na,b,c,d\n", 3, 'at most one of "expected"'),
    "no input in a row": ("id,input\ngood,g\na,\n", 3, 'Give exactly one of "input" and "question"'),
    "a long id": ("id,input\ngood,g\n" + "i" * 201 + ",b\n", 3, "longer than 200 characters"),
    "an id with a space": ("id,input\ngood,g\n a,b\n", 3, "spaces at an end"),
    "an id twice": ("id,input\ngood,g\ngood,b\n", 3, 'id "good" is given twice, first on line 2'),
    "an input twice": ("input\ngood\ngood\n", 3, "the same input as on line 2"),
    "a cell too long": ("id,input\ngood,g\na," + "x" * (10 * 2**20 + 1) + "\n", 3, "is longer than 10 MiB"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "line", "message"), BAD.values(), ids=BAD)
def test_every_mistake_is_named_with_its_line(tmp_path: Path, content: str, line: int, message: str) -> None:
    """Each kind of mistake says what and where, the line on which its row begins."""
    error = refused(tmp_path, content)
    assert message in str(error)
    assert [(problem.path, problem.line) for problem in error.problems[:1]] == [("a.csv", line)]
    assert len(str(error)) < 2000


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One bad row does not hide the next, nor one bad cell the other."""
    error = refused(tmp_path, 'id,input,critical,contexts\na,b,x,y\nb\n"c"d,e,f,g\nd,,,\n')
    assert [problem.line for problem in error.problems] == [2, 2, 3, 4, 5]


def test_a_header_alone_is_no_golden_set(tmp_path: Path) -> None:
    """Columns without a row would measure nothing."""
    assert "the golden set has no cases" in str(refused(tmp_path, "id,input\n"))


def test_100_000_rows_are_read_in_seconds(tmp_path: Path) -> None:
    """A large export loads at once, and is gone through again from what is held."""
    rows: list[list[Any]] = [[f"c{i}", f'say "{i}"\n' + "x" * 50, "yes"] for i in range(100_000)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "input", "expected"], *rows])
    start = time.process_time()
    found = GoldenSet("a.csv", tmp_path)
    assert time.process_time() - start < 10
    assert (len(found), found["c99999"].line) == (100_000, 200_000)
