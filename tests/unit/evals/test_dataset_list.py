"""Golden sets as one list, in YAML or JSON: what people may write, and every mistake with its line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gatehouse.errors import UserError
from gatehouse.evals.dataset import Case, GoldenSet

if TYPE_CHECKING:
    from pathlib import Path


def cases(root: Path, name: str, content: str) -> list[Case]:
    """The cases of a file with this content."""
    (root / name).write_text(content)
    return list(GoldenSet(name, root))


def refused(root: Path, name: str, content: str) -> UserError:
    """The error of a file with this content."""
    with pytest.raises(UserError) as caught:
        cases(root, name, content)
    return caught.value


def test_yaml_values_are_those_of_json(tmp_path: Path) -> None:
    """Quoted text stays text, plain numbers are what JSON makes of them, an alias is what its anchor is."""
    found = cases(
        tmp_path,
        "a.yaml",
        "- {id: 1, input: &a [1, -2.5, 1.0e+3, true, null], expected: 'no'}\n"
        '- {id: b, input: *a, expected: "1:30"}\n- id: c\n  input: |-\n    1e3\n',
    )
    assert [(case.id, case.input, case.expected) for case in found] == [
        ("1", [1, -2.5, 1000.0, True, None], "no"),
        ("b", [1, -2.5, 1000.0, True, None], "1:30"),
        ("c", "1e3", None),
    ]


LAUGHS = "".join(f"- &x{i} [{', '.join([f'*x{i - 1}'] * 9 if i else ['x'])}]\n" for i in range(9))
BAD_YAML: dict[str, tuple[str, int, str]] = {
    "no": ("- input: no\n", 1, "YAML reads no as false.\n    - input: no\n             ~^\nPut it in quotes"),
    "on": ("- input: x\n  expected: [On]\n", 2, "YAML reads On as true"),
    "a time": ("- input: 1:30\n", 1, "YAML reads 1:30 as 90"),
    "an octal": ("- input: 007\n", 1, "YAML reads 007 as 7"),
    "an underscore": ("- input: 1_000\n", 1, "YAML reads 1_000 as 1000"),
    "an exponent": ("- input: 1e3\n", 1, "YAML reads 1e3 as text"),
    "a date": ("- input: x\n  expected: 2024-01-31\n", 2, "YAML reads 2024-01-31 as a date"),
    "infinity": ("- input: .inf\n", 1, ".inf is not a finite number"),
    "a tag": ("- input: !!binary aGk=\n", 1, "the tag !!binary is not supported"),
    "a Python object": ("- input: !!python/object:os.system x\n", 1, "is not supported"),
    "a merge key": ("- <<: {tags: [a]}\n  input: x\n", 1, "merge keys (<<) are not supported"),
    "a key twice": ("- input: x\n  input: y\n", 2, '"input" is given twice, first on line 1'),
    "a key that is no text": ("- input: x\n  1: y\n", 2, "the key is not text"),
    "an unknown key": ("- input: x\n  expcted: y\n", 2, 'Did you mean "expected"?'),
    "a wrong type": ("- input: x\n  tags: y\n", 2, '"tags" is text ("y"): it must be a list'),
    "no input": ("- expected: y\n", 1, 'Give exactly one of "input"'),
    "text as a case": ("- x\n", 1, "the item is no mapping"),
    "a mapping": ("input: x\n", 1, "the file is no list of cases"),
    "another key": ("cases: [{input: x}]\nmore: 1\n", 1, "the file is no list of cases"),
    "text": ("x\n", 1, "the file is no list of cases"),
    "cases as text": ("cases: x\n", 1, "the file is no list of cases"),
    "two documents": ("- input: x\n---\n- input: y\n", 2, "One file holds one list of cases"),
    "a quote left open": ("- input: 'x\n", 2, "not YAML"),
    "a tab": ("- input: x\n\texpected: y\n", 2, "this line has a tab"),
    "an id twice": ("- {id: a, input: x}\n- {id: a, input: y}\n", 2, "is given twice, first on line 1"),
    "a control character": ("- input: x\n- input: a\x07\n", 2, "a control character (0x07)"),
    "a billion laughs": (LAUGHS, 1, "holds more than 200000 values.\nWrite JSON Lines (.jsonl)"),
    "itself": ("- input: &a [*a]\n", 1, "holds more than 40 levels"),
    "deep": ("[" * 100_000, 1, "holds more than 40 levels"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "line", "message"), BAD_YAML.values(), ids=BAD_YAML)
def test_every_mistake_in_yaml_is_named_with_its_line(
    tmp_path: Path, content: str, line: int, message: str
) -> None:
    """Each kind of mistake says what and where; what YAML reads otherwise than people do is one."""
    error = refused(tmp_path, "a.yaml", content)
    assert message in str(error)
    assert (error.problems[0].path, error.problems[0].line) == ("a.yaml", line)


def test_too_many_values_end_before_they_take_memory(tmp_path: Path) -> None:
    """A million items are refused while they are counted, not when they are all held."""
    error = refused(tmp_path, "a.yaml", "- 1\n" * 1_000_000)
    assert 400_000 <= error.problems[0].line <= 400_010  # read on that far: keys might be half of it
    assert "Write JSON Lines" in str(error)


BAD_JSON: dict[str, tuple[str, int, str]] = {
    "JSON Lines": ('{"input": "x"}\n{"input": "y"}\n', 1, "It looks like JSON Lines: name it .jsonl"),
    "text": ('"x"', 1, "the file is no list of cases"),
    "another key": ('{"cases": [{"input": "x"}], "more": 1}', 1, "not JSON: expecting ',' or the end"),
    "a number as a case": ('[{"input": "x"},\n 5]', 2, "the item is no JSON object"),
    "a key twice": ('[\n{"input": "x", "input": "y"}]', 2, 'key "input" is given twice'),
    "NaN": ('[\n{"input": NaN}]', 2, "NaN is not a number in JSON"),
    "an unknown key": ('[{"input": "x",\n  "expcted": 1}]', 2, '"expcted"'),
    "a comma too many": ('[{"input": "x"},]', 1, "not JSON: expecting value at column 17"),
    "a comma too few": ('[{"input": "x"}\n{"input": "y"}]', 1, "expecting ',' or the end of the list"),
    "an end too few": ('[{"input": "x"}', 1, "expecting ',' or the end of the list"),
    "text behind it": ('[{"input": "x"}]\nx', 1, "expecting ',' or the end of the list"),
    "a string left open": ('[{"input": "x"},\n{"input": "y}]', 2, "not JSON: unterminated string"),
    "deep": ("[" * 100_000, 1, "it is nested too deeply"),
    "deep in a case": (json.dumps([{"input": json.loads("[" * 101 + "]" * 101)}]), 1, "nested too deeply"),
    "digits without end": ("[" + "1" * 5000 + "]", 1, "a number is too long"),
    "half a character": ('[{"input": "\\ud800"}]', 1, "half of a surrogate pair"),
    "an id twice": ('[{"id": "a", "input": 1},\n{"id": "a", "input": 2}]', 2, "given twice, first on line 1"),
}


@pytest.mark.parametrize(("content", "line", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_every_mistake_in_json_is_named_with_its_line(
    tmp_path: Path, content: str, line: int, message: str
) -> None:
    """Each kind of mistake says what and where."""
    error = refused(tmp_path, "a.json", content)
    assert message in str(error)
    assert (error.problems[0].path, error.problems[0].line) == ("a.json", line)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One bad case does not hide the next."""
    error = refused(tmp_path, "a.yaml", "- input: no\n- input: x\n  tag: y\n- z\n- expected: 2024-01-31\n")
    assert [problem.line for problem in error.problems] == [1, 3, 4, 5]
    error = refused(tmp_path, "a.json", '[{"input": null},\n{"input": 1, "tags": 1},\n5]')
    assert [problem.line for problem in error.problems] == [1, 2, 3]
