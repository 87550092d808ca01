"""The golden set: one file or several, checked whole in one pass, then read a case at a time."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from gatehouse.agent.digest import canonical
from gatehouse.agent.protocol import ToolCall, parse_tool_calls
from gatehouse.agent.schema import faults, nearest
from gatehouse.agent.source import RefusedError, check_file, locate, parse_json
from gatehouse.errors import Problem, UserError
from gatehouse.evals.dataset_csv import Table
from gatehouse.evals.dataset_file import MAX_LINE, MAX_WHOLE
from gatehouse.evals.dataset_jsonl import JsonLines, changed, text_of
from gatehouse.evals.dataset_list import JsonList, YamlList
from gatehouse.evals.ids import Ids
from gatehouse.evals.selection import Selection, joined, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gatehouse.evals.dataset_file import GoldenFile, Row

__all__ = ["MAX_LINE", "Case", "GoldenSet", "is_usual", "to_case"]

MAX_SHOWN = 20
"""Faults shown; of the others only the number."""
COMPARED = 10_000
"""Names that a misspelt one is compared with."""
FORMATS: dict[str, type[GoldenFile]] = {".csv": Table, ".yaml": YamlList, ".yml": YamlList, ".json": JsonList}
"""How a file is read by the end of its name; any other is JSON Lines."""

EXPECTED = ("expected", "answer", "ground_truth")
REFERENCE = ("should_refuse", "canary")
"""Keys of a case's metadata that metrics judge by: a case with others is another case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a golden set.

    `line` of the file `path` is where it begins, from 1. `expected` may be null on purpose: `has_expected`
    says if there is a reference. `contexts` and `expected_tools` are None if the case says nothing of them.
    `digest` (16 hex digits) is of the input and the reference fields, those of the metadata among them:
    results of another one are of another case.
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
    path: str = ""


class GoldenSet:
    """A golden set, or the selected part of one: iterate over its cases, or look one up by id.

    Of JSON Lines only ids and places are held: each pass reads the file again, and raises UserError once it
    has changed. The cases of other formats are held as compact JSON.
    """

    def __init__(
        self, paths: str | Sequence[str], root: Path | None = None, selection: Selection | None = None
    ) -> None:
        """Check the whole of the files at `paths`, relative to `root` (default: the working directory).

        Raises UserError with every bad line of each file, the first 20 in full, and for a selection that
        names what no case has.
        """
        self.paths = (paths,) if isinstance(paths, str) else tuple(paths)
        self.path = ", ".join(self.paths)
        self.root = root or Path.cwd()
        self.selection = selection or Selection()
        self.index = Ids()
        """Every id's position, from 0."""
        self._offsets, self._lines, self._of = array("Q"), array("L"), array("L")
        """Of each case its place, the line it begins on, and which of the files it is in."""
        self._tags, self._taken = set[str](), dict[str, int]()
        self._last: Case | None = None
        self._files = self._find()
        self._check()
        self.digest = joined([file.digest for file in self._files], self.selection)
        """`sha256:` of the file's bytes; of several files, or a part, one that is made of theirs."""
        self.of = len(self.index)
        """Cases of the files."""
        if self.selection.tags or self.selection.cases:
            self._select()

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, case_id: object) -> bool:
        return case_id in self.index

    def __iter__(self) -> Iterator[Case]:
        """Every case, in the order of the files, one in memory at a time."""
        position = 0
        for number, golden_file in enumerate(self._files):
            if position == len(self) or self._of[position] != number:
                continue
            with golden_file.open() as file:
                while position < len(self) and self._of[position] == number:
                    yield self._case(file, position)
                    position += 1

    def __getitem__(self, case_id: str) -> Case:
        """The case with this id; raises KeyError."""
        if self._last is None or self._last.id != case_id:  # the same is asked for twice in a row, mostly
            position = self.index[case_id]
            with self._files[self._of[position]].open() as file:
                self._last = self._case(file, position)
        return self._last

    @property
    def part(self) -> str:
        """How much of the whole this is, as `3 of 40 cases, selected by --case a`; "" for the whole."""
        return told(self.selection, len(self), self.of, len(self.paths))

    def header(self) -> dict[str, Any]:
        """What the `dataset` of a results file says of it."""
        own = {"path": self.path, "paths": list(self.paths), "digest": self.digest, "cases": len(self)}
        return own | ({"selected": self.selection.to_json(), "of": self.of} if self.selection else {})

    def _case(self, file: BinaryIO, position: int) -> Case:
        path = self.paths[self._of[position]]
        file.seek(self._offsets[position])
        try:
            data = parse_json(text_of(file.readline(MAX_WHOLE)))
            return to_case(data, self._lines[position], path)
        except (RefusedError, KeyError, TypeError, AttributeError):
            raise changed(path) from None

    def _find(self) -> list[GoldenFile]:
        """The files; raises UserError with all that are none, or named twice."""
        found: list[GoldenFile] = []
        problems, places = [], set[Path]()
        for path in self.paths:
            try:
                place = locate(self.root, path)
                check_file(place, path)
            except RefusedError as e:
                problems.append(e.problem(path))
                continue
            if place in places:
                problems.append(Problem("the file is named twice.", path=path, repair="Name it once."))
            places.add(place)
            found.append(FORMATS.get(PurePath(path).suffix.lower(), JsonLines)(path, place))
        if problems:
            raise UserError(*problems)
        return found

    def _check(self) -> None:
        """The first pass: every case parsed and checked, ids and places noted."""
        count = 0
        problems: list[Problem] = []
        for number, file in enumerate(self._files):
            before = count, len(self.index)
            for problem in self._file_problems(number, file):
                count += 1
                problems += [problem] if len(problems) < MAX_SHOWN else []
            if before == (count, len(self.index)):
                repair = 'Add lines such as {"input": "..."}.' if isinstance(file, JsonLines) else "Add one."
                problems.append(Problem("the golden set has no cases.", path=file.path, repair=repair))
                count += 1
        if count > len(problems):
            problems.append(Problem(f"and {count - len(problems)} more.", path=self.path))
        if problems:
            raise UserError(*problems)

    def _file_problems(self, number: int, file: GoldenFile) -> Iterator[Problem]:
        """Everything that is wrong with one file; its good cases are noted."""
        try:
            for row in file.rows():
                if row.problems:
                    yield from row.problems
                else:
                    yield from self._take(number, file, row)
        except RefusedError as e:
            yield file.refused(e)
        except OSError as e:
            yield Problem(f"it cannot be read: {e.strerror}.", path=file.path)

    def _take(self, number: int, file: GoldenFile, row: Row) -> Iterator[Problem]:
        """Note a case, or say what is wrong with it."""
        data, at = row.data, row.at
        assert at is not None  # noqa: S101 a row without problems has it
        found = [] if is_usual(data) else list(faults(data, "golden", yaml=file.yaml))
        for fault in found:
            yield at(fault.keys, fault.message, fault.repair)
        if found:
            return
        try:
            case = to_case(data, row.line)
        except UnicodeEncodeError:
            yield at((), "it holds half of a surrogate pair, which is no character.", "")
            return
        wrong = _bad_id(case.id) or self._duplicate(number, case.id, "id" in data)
        if wrong:
            yield at(("id",) if "id" in data else (), *wrong)
            return
        position = self.index.add(case.id)
        self._offsets.append(file.keep(row))
        self._lines.append(row.line)
        self._of.append(number)
        if self.selection:
            self._tags.update(case.tags)
            if case.id in self.selection.cases or not {*case.tags}.isdisjoint(self.selection.tags):
                self._taken[case.id] = position

    def _duplicate(self, number: int, case_id: str, given: bool) -> tuple[str, str] | None:
        if case_id not in self.index:
            return None
        first = self.index[case_id]
        here = self._of[first] == number
        where = f"on line {self._lines[first]}"
        where = where if here else f"in {self.paths[self._of[first]]}:{self._lines[first]}"
        if given:
            return f'id "{case_id}" is given twice, first {where}.', "Every case needs an id of its own."
        return f"the same input as {where}.", 'Remove one of them, or give both an "id".'

    def _select(self) -> None:
        """Leave only what is selected; raises UserError for a name that no case has."""
        wrong = [("tag", "tag", name) for name in self.selection.tags if name not in self._tags]
        wrong += [("case", "id", name) for name in self.selection.cases if name not in self.index]
        if wrong:
            known = {"tag": self._tags, "case": {case.id for case in self}}
            raise UserError(
                *(
                    Problem(
                        f'--{option} "{name}": no case has this {what}.',
                        self.path,
                        repair=(option == "tag" and _together(name, known["tag"]))
                        or _near(name, known[option]),
                    )
                    for option, what, name in wrong
                )
            )
        taken = list(self._taken.values())
        self.index = Ids()
        for name in self._taken:
            self.index.add(name)
        self._offsets = array("Q", (self._offsets[position] for position in taken))
        self._lines = array("L", (self._lines[position] for position in taken))
        self._of = array("L", (self._of[position] for position in taken))


def _together(name: str, known: set[str]) -> str:
    """That `name` stands in one tag with others: what a CSV file with commas between tags comes to."""
    whole = next((one for one in sorted(known) if name in map(str.strip, one.split(","))), "")
    return f'"{whole}" is one tag: in CSV a semicolon separates tags.' if whole else ""


def _near(name: str, known: set[str]) -> str:
    return nearest(name, islice(sorted(known), COMPARED)) or (
        f"There are {', '.join(sorted(known)[:5])}." if known else ""
    )


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
    "metadata": lambda value: (
        isinstance(value, dict)
        and isinstance(value.get("should_refuse", True), bool)
        and "canary" not in value
    ),
}
"""What each key holds in nearly every line."""


def to_case(data: dict[str, Any], line: int, path: str = "") -> Case:
    """The case of a checked line."""
    asked = data["input"] if "input" in data else data["question"]
    given = next((key for key in EXPECTED if key in data), None)
    reference = {"expected": data[given]} if given else {}
    reference |= {key: data[key] for key in ("contexts", "expected_tools") if key in data}
    metadata = data.get("metadata", {})
    judged_by = {key: metadata[key] for key in REFERENCE if key in metadata}
    reference |= {"metadata": judged_by} if judged_by else {}
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
        metadata=metadata,
        digest=_digest({"input": asked, **reference})[:16],
        path=path,
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
