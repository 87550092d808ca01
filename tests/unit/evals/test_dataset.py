"""The golden set: what a line may hold, and what every mistake in it says."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import ToolCall
from gatehouse.agent.schema import faults
from gatehouse.errors import UserError
from gatehouse.evals.dataset import MAX_LINE, GoldenSet, is_usual

if TYPE_CHECKING:
    from pathlib import Path


def golden(root: Path, content: str | bytes) -> GoldenSet:
    """The golden set of a file with this content."""
    (root / "golden.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    return GoldenSet("golden.jsonl", root)


def refused(root: Path, content: str | bytes) -> UserError:
    """The error of a file with this content."""
    with pytest.raises(UserError) as caught:
        golden(root, content)
    return caught.value


def test_every_key_arrives(tmp_path: Path) -> None:
    """A line with every key is a case with every field."""
    line = {
        "id": "a",
        "input": {"messages": ["hi"]},
        "expected": "yes",
        "contexts": ["p1", "p2"],
        "expected_tools": ["read", {"name": "send", "arguments": {"to": "me"}}],
        "tags": ["smoke"],
        "critical": True,
        "metadata": {"source": "ticket"},
    }
    (case,) = golden(tmp_path, json.dumps(line))
    assert (case.id, case.line, case.input, case.expected, case.has_expected) == (
        "a",
        1,
        {"messages": ["hi"]},
        "yes",
        True,
    )
    assert case.contexts == ["p1", "p2"]
    assert case.expected_tools == [ToolCall("read"), ToolCall("send", {"to": "me"})]
    assert (case.tags, case.critical, case.metadata) == (["smoke"], True, {"source": "ticket"})
    assert len(case.digest) == 16


def test_what_a_case_leaves_out_is_told_apart(tmp_path: Path) -> None:
    """No reference is another thing than null, and no tools named another thing than no tools expected."""
    cases = golden(tmp_path, '{"input": "a"}\n{"input": "b", "expected": null, "expected_tools": []}\n')
    bare, nothing = cases
    assert (bare.has_expected, bare.expected_tools, bare.contexts) == (False, None, None)
    assert (nothing.has_expected, nothing.expected, nothing.expected_tools) == (True, None, [])


@pytest.mark.parametrize("asked", ["input", "question"])
@pytest.mark.parametrize("given", ["expected", "answer", "ground_truth"])
def test_other_names_mean_the_same(tmp_path: Path, asked: str, given: str) -> None:
    """A question is an input, an answer and a ground truth are what is expected: id and digest are equal."""
    (case,) = golden(tmp_path, json.dumps({asked: "why?", given: "so"}))
    (same,) = golden(tmp_path, '{"input": "why?", "expected": "so"}')
    assert case == same


def test_ids_come_from_the_input(tmp_path: Path) -> None:
    """Without an id a case keeps its name when it moves or its reference changes; its digest tells."""
    one, two = golden(tmp_path, '{"input": "a"}\n{"input": "b"}\n')
    other, moved = golden(tmp_path, '{"input": "b"}\n{"tags": ["t"], "input": "a", "expected": "x"}\n')
    assert (moved.id, other.id) == (one.id, two.id)
    assert (moved.digest != one.digest, other.digest == two.digest) == (True, True)
    assert one.id == hashlib.sha256(b'{"input":"a"}').hexdigest()[:12]


@pytest.mark.parametrize(
    ("key", "value", "changes"),
    [
        ("expected", "x", True),
        ("contexts", ["c"], True),
        ("expected_tools", ["t"], True),
        ("tags", ["t"], False),
        ("critical", True, False),
        ("metadata", {"a": 1}, False),
        ("metadata", {"should_refuse": True}, True),
        ("metadata", {"canary": "PWNED-7f3a"}, True),
        ("id", "named", False),
    ],
)
def test_the_digest_is_of_input_and_reference(tmp_path: Path, key: str, value: Any, changes: bool) -> None:
    """What an answer is held against is in a case's digest, what it is sorted by is not."""
    (plain,) = golden(tmp_path, '{"input": "a"}')
    (more,) = golden(tmp_path, json.dumps({"input": "a", key: value}))
    assert (more.digest != plain.digest) is changes


def test_a_whole_number_is_an_id(tmp_path: Path) -> None:
    """A number as id is its text, so it meets the same number in quotes."""
    assert [case.id for case in golden(tmp_path, '{"id": 7, "input": "a"}')] == ["7"]
    assert "given twice" in str(refused(tmp_path, '{"id": 7, "input": "a"}\n{"id": "7", "input": "b"}'))


def test_harmless_bytes_change_nothing(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines and a missing last line end are read past; line numbers hold."""
    cases = golden(
        tmp_path, b'\xef\xbb\xbf{"id": "a", "input": "x"}\r\n\r\n  \n{"id": "b", "input": "\xc3\xa9\\u00e9"}'
    )
    assert [(case.id, case.line, case.input) for case in cases] == [("a", 1, "x"), ("b", 4, "éé")]


def test_cases_are_found_by_id(tmp_path: Path) -> None:
    """A case looked up is the one that iteration gives, in any order, also after a long line."""
    lines = [{"id": f"c{i}", "input": "ü" * (200_000 if i == 1 else i)} for i in range(5)]
    cases = golden(tmp_path, "\n".join(map(json.dumps, lines)))
    assert (len(cases), "c3" in cases, "c9" in cases) == (5, True, False)
    assert [cases[case.id] for case in reversed(list(cases))] == list(cases)[::-1]
    assert [cases.index[f"c{i}"] for i in range(5)] == list(range(5))
    with pytest.raises(KeyError):
        cases["c9"]


def test_the_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    """The set's digest is the plain SHA-256 of its file, long lines included."""
    content = json.dumps({"input": "x" * 300_000}).encode() + b"\n\n"
    assert golden(tmp_path, content).digest == "sha256:" + hashlib.sha256(content).hexdigest()


GOOD = '{"id": "good", "input": "a"}'
CASE = '{"id": "a", "input": "a", '

BAD: dict[str, tuple[str | bytes, int, str]] = {
    # Every row: the file's second line, the line that is wrong (0: the file), part of the message.
    "no JSON": ('{"input": }', 2, "not JSON: expecting value at column 11"),
    "two objects": (GOOD + GOOD, 2, "not JSON: extra data"),
    "a refusal as text": (
        CASE + '"metadata": {"should_refuse": "true"}}',
        2,
        '"should_refuse" is text ("true"): it must be true or false',
    ),
    "a refusal of null": (
        CASE + '"metadata": {"should_refuse": null}}',
        2,
        '"should_refuse" is empty: it must',
    ),
    "a canary of null": (
        CASE + '"metadata": {"canary": null}}',
        2,
        '"canary" is empty: it must be text or a',
    ),
    "no canary": (CASE + '"metadata": {"canary": []}}', 2, '"canary" is empty'),
    "an empty canary": (CASE + '"metadata": {"canary": ""}}', 2, "at least 6 letters or digits"),
    "a short canary": (CASE + '"metadata": {"canary": "-a-b-c-d-e-"}}', 2, "at least 6 letters or digits"),
    "one of the canaries": (
        CASE + '"metadata": {"canary": ["PWNED-7f3a", "x"]}}',
        2,
        'item 2 of "canary" is "x".',
    ),
    "a number as canary": (CASE + '"metadata": {"canary": [123456]}}', 2, 'item 1 of "canary" is a number'),
    "a list": ('["a"]', 2, "the line is no JSON object"),
    "no UTF-8": (b'{"input": "caf\xe9"}', 2, "byte 15 of the line is not UTF-8 (0xe9)"),
    "no UTF-8 behind a mark": (
        b'\xef\xbb\xbf{"input": "caf\xe9"}',
        2,
        "byte 18 of the line is not UTF-8 (0xe9)",
    ),
    "UTF-16": ('{"input": "a"}'.encode("utf-16"), 2, "byte 1 of the line is not UTF-8 (0xff)"),
    "NaN": (CASE + '"expected": NaN}', 2, "NaN is not a number in JSON"),
    "infinity": (CASE + '"metadata": {"a": [-Infinity]}}', 2, "-Infinity is not a number in JSON"),
    "a number too large": (CASE + '"expected": 1e999}', 2, "1e999 is too large"),
    "digits without end": (CASE + f'"expected": {"1" * 5000}}}', 2, "too many digits"),
    "half a character": (CASE + '"expected": "\\ud800"}', 2, "half of a surrogate pair"),
    "half a character, in capitals": (CASE + '"expected": "\\uD800"}', 2, "half of a surrogate pair"),
    "a key twice": (CASE + '"metadata": {"k": 1, "k": 2}}', 2, 'key "k" is given twice in one object'),
    "nested too deeply": (CASE + f'"expected": {"[" * 101}{"]" * 101}}}', 2, "nested too deeply"),
    "nested without end": (CASE + '"expected": ' + "[" * 100_000, 2, "nested too deeply"),
    "too long": (b'{"input": "' + b"x" * MAX_LINE + b'"}', 2, "longer than 10 MiB"),
    "no input": ('{"id": "a"}', 2, 'exactly one of "input" and "question"'),
    "two inputs": (CASE + '"question": "b"}', 2, 'exactly one of "input" and "question"'),
    "no input but null": ('{"input": null}', 2, '"input" is empty: it must be text'),
    "two references": (CASE + '"expected": 1, "ground_truth": 1}', 2, "at most one of"),
    "three references": (CASE + '"expected": 1, "answer": 1, "ground_truth": 1}', 2, "at most one of"),
    "an unknown key": (CASE + '"expcted": 1}', 2, 'unknown key "expcted".'),
    "the nearest key": (CASE + '"expcted": 1}', 2, 'Did you mean "expected"?'),
    "contexts as text": (CASE + '"contexts": "c"}', 2, '"contexts" is text ("c"): it must be a list'),
    "a context that is no text": (CASE + '"contexts": ["c", 1]}', 2, 'item 2 of "contexts" is a number'),
    "tools as an object": (CASE + '"expected_tools": {"name": "t"}}', 2, '"expected_tools" is an object'),
    "a tool without a name": (
        CASE + '"expected_tools": [{"arguments": {}}]}',
        2,
        '"name" is missing in item 1',
    ),
    "a tool without any name": (CASE + '"expected_tools": [""]}', 2, 'item 1 of "expected_tools" is empty'),
    "arguments as a list": (
        CASE + '"expected_tools": [{"name": "t", "arguments": []}]}',
        2,
        '"arguments" is a list',
    ),
    "an unknown key of a tool": (
        CASE + '"expected_tools": [{"name": "t", "args": {}}]}',
        2,
        'unknown key "args"',
    ),
    "tags as text": (CASE + '"tags": "t"}', 2, '"tags" is text'),
    "an empty tag": (CASE + '"tags": [""]}', 2, 'item 1 of "tags" is empty'),
    "critical as text": (CASE + '"critical": "yes"}', 2, "it must be true or false"),
    "metadata as text": (CASE + '"metadata": "m"}', 2, '"metadata" is text ("m"): it must be an object'),
    "an empty id": ('{"id": "", "input": "a"}', 2, '"id" is empty'),
    "a long id": (json.dumps({"id": "i" * 201, "input": "a"}), 2, "longer than 200 characters"),
    "an id that is null": ('{"id": null, "input": "a"}', 2, '"id" is empty: it must be text'),
    "an id that is a fraction": ('{"id": 1.5, "input": "a"}', 2, '"id" is a number'),
    "an id with a line end": ('{"id": "a\\nb", "input": "a"}', 2, "has control characters"),
    "an id that turns the text": ('{"id": "a\\u202eb", "input": "a"}', 2, "has control characters"),
    "an id with a space": ('{"id": " a", "input": "a"}', 2, "spaces at an end"),
    "an id twice": ('{"id": "good", "input": "b"}', 2, 'id "good" is given twice, first on line 1'),
    "an input twice": ('{"input": "b"}\n{"question": "b"}', 3, "the same input as on line 2"),
}


@pytest.mark.parametrize(("content", "line", "message"), BAD.values(), ids=BAD)
def test_every_mistake_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    """Each kind of mistake is one fault that says what and on which line; the lines around it are read."""
    raw = content if isinstance(content, bytes) else content.encode()
    error = refused(
        tmp_path, GOOD.encode() + b"\n" + raw + b'\n{"id": "last", "input": "z"}\n{"input": null}\n'
    )
    first, *_, last = error.problems
    assert message in str(error)
    assert (first.path, first.line) == ("golden.jsonl", line)
    assert last.line == raw.count(b"\n") + 4


@pytest.mark.parametrize(
    "content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"], ids=["nothing", "blank", "byte order mark"]
)
def test_a_set_without_cases_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty golden set is its author's mistake: nothing would be measured."""
    assert "the golden set has no cases" in str(refused(tmp_path, content))


def test_all_bad_lines_are_counted(tmp_path: Path) -> None:
    """The first 20 faults are shown, the rest is a number."""
    error = refused(tmp_path, "{}\n" * 25)
    assert [problem.line for problem in error.problems] == [*range(1, 21), 0]
    assert error.problems[-1].message == "and 5 more."
    assert len(refused(tmp_path, "{}\n" * 20).problems) == 20


def test_a_mistake_is_shown_with_a_caret(tmp_path: Path) -> None:
    """The caret stands below the key that is wrong."""
    error = refused(tmp_path, '{"input": "a", "tags": 1}')
    assert str(error).splitlines()[1:3] == ['    {"input": "a", "tags": 1}', "                   ~~~~~^"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path that is no golden set is a user error that says why, with the nearest name."""
    golden(tmp_path, GOOD)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path, message in {
        "goldn.jsonl": 'Did you mean "golden.jsonl"?',
        "folder": "folder is a folder",
        "pipe": "not a regular file",
        "../golden.jsonl": "leads out of the repository",
        "/etc/hostname": "leads out of the repository",
        "a\0b": "is not a usable path",
    }.items():
        with pytest.raises(UserError) as caught:
            GoldenSet(path, tmp_path)
        assert message in str(caught.value)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """Cases are never read from another file than the one that was checked."""
    cases = golden(tmp_path, GOOD)
    (tmp_path / "golden.jsonl").write_text('{"id": "good", "input": "b"}\n')
    for read in (lambda: list(cases), lambda: cases["good"]):
        with pytest.raises(UserError, match="has changed since"):
            read()
    (tmp_path / "golden.jsonl").unlink()
    with pytest.raises(UserError, match="can no longer be read"):
        list(cases)


def test_a_large_set_does_not_sit_in_memory(tmp_path: Path) -> None:
    """20 MB of cases take less than 3 MB, a refused line of 40 MB less than 25 MB."""
    lines = (json.dumps({"id": f"case-{i}", "input": "x" * 4000}) + "\n" for i in range(5_000))
    (tmp_path / "golden.jsonl").write_text("".join(lines))
    tracemalloc.start()
    try:
        cases = GoldenSet("golden.jsonl", tmp_path)
        assert sum(1 for _ in cases) == len(cases) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 3e6
        (tmp_path / "golden.jsonl").write_bytes(b"x" * 40_000_000)
        tracemalloc.reset_peak()
        with pytest.raises(UserError, match="longer than 10 MiB"):
            GoldenSet("golden.jsonl", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 25e6
    finally:
        tracemalloc.stop()


VALUES: tuple[Any, ...] = (
    None, True, 0, 1.5, "", "x", "y" * 201, [], [""], ["x"], ["x", 1], [{}], [{"name": "t"}], [{"name": ""}],
    [{"name": "t", "arguments": {}}], [{"name": "t", "arguments": []}],
    [{"name": "t", "more": 1}], {}, {"a": None}, {"should_refuse": True}, {"should_refuse": "true"},
    {"should_refuse": None}, {"canary": None}, {"canary": "short"},
)  # fmt: skip
KEYS = ("id", "input", "question", "expected", "answer", "ground_truth", "contexts", "expected_tools", "tags",
        "critical", "metadata", "unknown")  # fmt: skip


def test_the_quick_check_never_takes_what_the_schema_refuses() -> None:
    """Over every key, every kind of value and every pair of keys: what is usual has no fault."""
    lines: list[dict[str, Any]] = [
        {base: "x", key: value} for base in ("input", "question") for key in KEYS for value in VALUES
    ]
    lines += [dict.fromkeys(keys, "x") for n in range(4) for keys in itertools.combinations(KEYS[:6], n)]
    usual = [line for line in lines if is_usual(line)]
    assert [line for line in usual if list(faults(line, "golden"))] == []
    assert len(usual) > 100
