"""The golden set: JSON Lines, checked whole in one pass, then read a line at a time."""

from __future__ import annotations

import hashlib
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gatehouse.agent.digest import canonical
from gatehouse.agent.protocol import ToolCall, parse_tool_calls
from gatehouse.agent.schema import faults
from gatehouse.agent.source import RefusedError, check_file, locate, parse_json
from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LINE = 10 * 2**20
"""Bytes of one line; a longer one is refused, and never held whole."""
MAX_SHOWN = 20
"""Faults shown; of the others only the number."""

EXPECTED = ("expected", "answer", "ground_truth")


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a golden set.

    `line` counts from 1. `expected` may be null on purpose: `has_expected` says if there is a reference.
    `contexts` and `expected_tools` are None if the case says nothing of them. `digest` (16 hex digits) is
    of the input and the reference fields: results of another digest are of another case.
    """

    id: str
    line: int
    input: Any
    expected: Any = None
    has_expected: bool = False
    contexts: list[str] | None = None
    expected_tools: list[ToolCall] | None = None
    tags: list[str] = field(default_factory=list)
    critical: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


class GoldenSet:
    """A golden set file: iterate over its cases, or look one up by id.

    Only ids and places are held: each pass reads the file again, and raises UserError once it has changed.
    """

    def __init__(self, path: str, root: Path | None = None) -> None:
        """Check the whole file at `path`, relative to `root` (default: the working directory).

        Raises UserError with every bad line, the first 20 in full.
        """
        self.path = path
        self.root = root or Path.cwd()
        self.digest = ""
        """`sha256:` of the file's bytes."""
        self.index: dict[str, int] = {}
        """Every id, with the case's position from 0."""
        self._offsets, self._lines = array("Q"), array("L")
        try:
            self._place = locate(self.root, path)
            check_file(self._place, path)
            with self._place.open("rb") as file:
                self._stamp = _stamp(file)
                self._check(file)
        except RefusedError as e:
            raise UserError(e.problem(path)) from None
        except OSError as e:
            raise UserError(Problem(f"it cannot be read: {e.strerror}.", path=path)) from None

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, case_id: object) -> bool:
        return case_id in self.index

    def __iter__(self) -> Iterator[Case]:
        """Every case, in the file's order, one line in memory at a time."""
        with self._open() as file:
            for offset, line in zip(self._offsets, self._lines, strict=True):
                yield self._case(file, offset, line)

    def __getitem__(self, case_id: str) -> Case:
        """The case with this id; raises KeyError."""
        position = self.index[case_id]
        with self._open() as file:
            return self._case(file, self._offsets[position], self._lines[position])

    def _open(self) -> BinaryIO:
        try:
            file = self._place.open("rb")
        except OSError as e:
            raise UserError(Problem(f"it can no longer be read: {e.strerror}.", path=self.path)) from None
        if _stamp(file) != self._stamp:
            file.close()
            raise self._changed()
        return file

    def _case(self, file: BinaryIO, offset: int, line: int) -> Case:
        file.seek(offset)
        try:
            return to_case(parse_json(_text(file.readline(MAX_LINE + 1))), line)
        except (RefusedError, KeyError, TypeError, AttributeError):
            raise self._changed() from None

    def _changed(self) -> UserError:
        return UserError(
            Problem("the file has changed since it was checked.", path=self.path, repair="Run again.")
        )

    def _check(self, file: BinaryIO) -> None:
        """The first pass: every line parsed and checked, ids and places noted."""
        sha, count = hashlib.sha256(), 0
        problems: list[Problem] = []
        for line, offset, raw in _lines(file, sha):
            found = list(self._line_problems(line, offset, raw))
            count += len(found)
            problems += found[: MAX_SHOWN - len(problems)]
        self.digest = "sha256:" + sha.hexdigest()
        if count > len(problems):
            problems.append(Problem(f"and {count - len(problems)} more.", path=self.path))
        if not count and not self.index:
            problems.append(
                Problem(
                    "the golden set has no cases.",
                    path=self.path,
                    repair='Add lines such as {"input": "..."}.',
                )
            )
        if problems:
            raise UserError(*problems)

    def _line_problems(self, line: int, offset: int, raw: bytes | None) -> Iterator[Problem]:
        """What is wrong with one line; a good one is noted."""
        if raw is None:
            yield Problem(f"the line is longer than {MAX_LINE // 2**20} MiB.", path=self.path, line=line)
            return
        try:
            text = _text(raw)
            data = parse_json(text)
        except RefusedError as e:
            yield Problem(e.message, self.path, line, e.column, source=e.source, repair=e.repair)
            return
        if not isinstance(data, dict):
            repair = "A golden set is JSON Lines: one {...} a line."
            yield self._at(line, text, "", "the line is no JSON object.", repair)
            return
        found = [] if is_usual(data) else list(faults(data, "golden"))
        for fault in found:
            yield self._at(line, text, fault.keys[0] if fault.keys else "", fault.message, fault.repair)
        if found:
            return
        case_id = to_case(data, line).id
        wrong = _bad_id(case_id) or self._duplicate(case_id, "id" in data)
        if wrong:
            yield self._at(line, text, "id" if "id" in data else "", *wrong)
            return
        self.index[case_id] = len(self._offsets)
        self._offsets.append(offset)
        self._lines.append(line)

    def _duplicate(self, case_id: str, given: bool) -> tuple[str, str] | None:
        if case_id not in self.index:
            return None
        first = self._lines[self.index[case_id]]
        if given:
            return (
                f'id "{case_id}" is given twice, first on line {first}.',
                "Every case needs an id of its own.",
            )
        return f"the same input as on line {first}.", 'Remove one of them, or give both an "id".'

    def _at(self, line: int, text: str, key: str | int, message: str, repair: str) -> Problem:
        """A fault of one key; the caret stands at its first mention."""
        shown = f'"{key}"' if key and f'"{key}"' in text else ""
        column = text.find(shown) + 1 if shown else 0
        source = text if len(text) <= 10_000 else ""  # noqa: PLR2004 what is worth keeping for one message
        return Problem(message, self.path, line, column if source else 0, max(1, len(shown)), source, repair)


def is_usual(data: dict[str, Any]) -> bool:
    """Whether a line is certainly what the schema takes, found out far more quickly; False says nothing."""
    return (
        ("input" in data) != ("question" in data)
        and sum(key in data for key in EXPECTED) <= 1
        and all(key in USUAL and USUAL[key](value) for key, value in data.items())
    )


def _are_tools(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(tool, dict)
        and tool.keys() == {"name", "arguments"}
        and _is_text(tool["name"])
        and isinstance(tool["arguments"], dict)
        for tool in value
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


USUAL: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: _is_text(value) and len(value) <= 200,  # noqa: PLR2004 the schema's maxLength
    "input": lambda value: value is not None,
    "question": lambda value: value is not None,
    **dict.fromkeys(EXPECTED, lambda _value: True),
    "contexts": _are_texts,
    "expected_tools": lambda value: _are_texts(value) or _are_tools(value),
    "tags": _are_texts,
    "critical": lambda value: isinstance(value, bool),
    "metadata": lambda value: isinstance(value, dict),
}
"""What each key holds in nearly every line."""


def to_case(data: dict[str, Any], line: int) -> Case:
    """The case of a checked line."""
    asked = data["input"] if "input" in data else data["question"]
    given = next((key for key in EXPECTED if key in data), None)
    reference = {"expected": data[given]} if given else {}
    reference |= {key: data[key] for key in ("contexts", "expected_tools") if key in data}
    return Case(
        id=str(data["id"]) if "id" in data else _digest({"input": asked})[:12],
        line=line,
        input=asked,
        expected=data[given] if given else None,
        has_expected=given is not None,
        contexts=data.get("contexts"),
        expected_tools=parse_tool_calls(data.get("expected_tools")),
        tags=data.get("tags", []),
        critical=data.get("critical", False),
        metadata=data.get("metadata", {}),
        digest=_digest({"input": asked, **reference})[:16],
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _bad_id(case_id: str) -> tuple[str, str] | None:
    if case_id.isprintable() and case_id == case_id.strip():
        return None
    return (
        '"id" has control characters, or spaces at an end.',
        "Ids are printable: they are shown and compared.",
    )


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _text(raw: bytes) -> str:
    """One line as text; raises RefusedError with the number of the first bad byte."""
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as e:
        message = f"byte {e.start + 1} of the line is not UTF-8 (0x{raw[e.start]:02x})."
        raise RefusedError(message, "Save the file as UTF-8.") from None


def _lines(file: BinaryIO, sha: Any) -> Iterator[tuple[int, int, bytes | None]]:
    """Number, offset and bytes of every line that is not blank; None for bytes that are too many."""
    number = offset = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        start, offset = offset, offset + len(raw)
        sha.update(raw)
        whole = len(raw) <= MAX_LINE
        while not raw.endswith(b"\n") and (rest := file.readline(2**16)):
            raw = rest
            offset += len(rest)
            sha.update(rest)
        if not whole:
            yield number, start, None
        elif raw.removeprefix(b"\xef\xbb\xbf").strip():
            yield number, start, raw
