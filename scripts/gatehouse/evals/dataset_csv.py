"""A golden set as CSV (RFC 4180): a header row with the keys of a case, then a case a row."""

from __future__ import annotations

import csv
import io
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from gatehouse.agent.schema import nearest
from gatehouse.agent.source import RefusedError, parse_json
from gatehouse.errors import Problem
from gatehouse.evals.dataset_file import MAX_LINE, MAX_SOURCE, Row, WholeFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.agent.schema import Keys

INPUTS = ("input", "question")
TEXTS = ("id", *INPUTS, "expected", "answer", "ground_truth")
"""Columns that are text as it stands, whatever it looks like; an empty cell is not given."""
AS_JSON = ".json"
"""Ends the name of such a column, but of the id's, where its cells are JSON instead; of a key of the metadata
too."""
LISTS = ("contexts", "expected_tools", "metadata")
"""Columns whose cells are JSON."""
COLUMNS = (*TEXTS, *LISTS, "tags", "critical")
METADATA = "metadata."
"""Begins the name of a column that is one key of the metadata, as text."""
TRUTHS = ("critical", "metadata.should_refuse")
"""Columns whose cells are true or false."""
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
QUOTES = 'Text with commas, quotes or line ends stands in "quotes", and a quote in it is written twice.'
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Table(WholeFile):
    """A header row, then a row for each case."""

    def rows(self) -> Iterator[Row]:
        """Every row with anything in it; one that cannot be told apart from the next is a row of its own."""
        self._text = self.text()
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader(io.StringIO(self._text, newline=""), strict=True)
        line, header = 1, list[str]()
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(line, problems=(self._no_csv(line, reader.line_num, error),))
                if header:
                    continue
                break
            if cells is None:
                break
            if not any(map(str.strip, cells)):
                continue
            if not header:
                header = [name.strip() for name in cells]
                if problems := self._header_problems(line, header, cells):
                    yield Row(line, problems=tuple(problems))
                    break
            else:
                yield self._row(line, header, cells, reader.line_num)
        del self._text

    @cached_property
    def _lines(self) -> list[str]:
        return [line.rstrip("\r\n") for line in io.StringIO(self._text, newline="")]

    def _no_csv(self, line: int, last: int, error: csv.Error) -> Problem:
        """The fault of a row that is no CSV; `line` is where it begins, `last` where that was noticed."""
        words = str(error)
        if "unexpected end of data" in words:
            words = "a quote is opened in this row and never closed."
        elif "field limit" in words:
            words = f"a cell is longer than {MAX_LINE // 2**20} MiB."
        elif "expected after" in words:
            where = f" on line {last}" if last != line else ""
            words = f"a quote ends{where}, and no comma follows it."
        else:
            words = f"not CSV: {words}."
        source = self._lines[line - 1] if line <= len(self._lines) else ""
        return Problem(
            words, self.path, line, source=source if len(source) <= MAX_SOURCE else "", repair=QUOTES
        )

    def _header_problems(self, line: int, header: list[str], cells: Sequence[str]) -> list[Problem]:
        """Everything that is wrong with the names of the columns."""
        at = partial(self._at, line, line, cells)
        if len(header) == 1:
            for separator, called in SEPARATORS.items():
                if len({*header[0].split(separator)} & {*COLUMNS}) > 1:
                    return [at((), f"the columns are separated by {called}.", "Save the file with commas.")]
        problems = []
        for i, name in enumerate(header):
            known = _is_column(name)
            if not name:
                problems.append(at((), f"column {i + 1} has no name.", "Name it, or remove it."))
            elif not known:
                hint = nearest(name.lower(), COLUMNS) or f"Known: {', '.join(COLUMNS)}, {METADATA}NAME."
                problems.append(at((i,), f'unknown column "{name[:80]}".', hint))
            elif name in header[:i]:
                problems.append(at((i,), f'column "{name}" is there twice.', "Keep one of them."))
        if "metadata" in header and any(name.startswith(METADATA) for name in header):
            message = f'there is a column "metadata" and one of a key of it ("{METADATA}...").'
            problems.append(at((), message, "Write the one or the other."))
        if not problems and not any(name.removesuffix(AS_JSON) in INPUTS for name in header):
            repair = f"The first row names the columns: {', '.join(COLUMNS)}."
            problems.append(at((), 'the first row names no column "input".', repair))
        return problems

    def _row(self, line: int, header: list[str], cells: list[str], last: int) -> Row:
        at = partial(self._cell_fault, line, last, header, cells)
        if len(cells) != len(header):
            message = f"the row has {len(cells)} cells, and the first row {len(header)}."
            return Row(line, problems=(at((), message, "Put text with commas in it in quotes."),))
        data: dict[str, Any] = {}
        problems = []
        for name, cell in zip(header, cells, strict=True):
            if cell == "":
                continue
            key = _key(name)
            try:
                value = _value(name, key, cell)
            except RefusedError as e:
                problems.append(at((name,), f'"{name}": {e.message}', e.repair))
                continue
            if value is NOTHING:
                continue
            into, inner = (
                (data.setdefault("metadata", {}), key.removeprefix(METADATA))
                if key.startswith(METADATA)
                else (data, key)
            )
            if inner in into:
                problems.append(
                    at((name,), f'both "{key}" and "{key}{AS_JSON}" are given.', "Keep one of them.")
                )
            into[inner] = value
        return Row(line, None if problems else data, at, problems=tuple(problems))

    def _cell_fault(
        self, line: int, last: int, header: list[str], cells: list[str], keys: Keys, message: str, repair: str
    ) -> Problem:
        """A fault of one cell, named by its column or by the key that it gives."""
        of = {".".join(map(str, keys[:n])) for n in (1, 2)} - {""}
        column = next((i for i, name in enumerate(header) if {name, _key(name)} & of), None)
        return self._at(line, last, cells, () if column is None else (column,), message, repair)

    def _at(
        self, line: int, last: int, cells: Sequence[str], keys: Keys, message: str, repair: str
    ) -> Problem:
        """A fault of a row, or of one cell of it: a caret below the cell where the row is written plainly."""
        source = self._lines[line - 1]
        if last != line or len(source) > MAX_SOURCE:
            return Problem(message, self.path, line, repair=repair)
        if not keys or '"' in source or not isinstance(keys[0], int) or keys[0] >= len(cells):
            return Problem(message, self.path, line, source=source, repair=repair)
        column = sum(len(cell) + 1 for cell in cells[: keys[0]]) + 1
        return Problem(message, self.path, line, column, max(1, len(cells[keys[0]])), source, repair)


NOTHING = object()
"""The value of a cell that gives nothing, such as a list of tags without any."""


def _is_column(name: str) -> bool:
    if name.startswith(METADATA):
        return _key(name) != METADATA
    return name in COLUMNS or (name.endswith(AS_JSON) and name.removesuffix(AS_JSON) in TEXTS[1:])


def _key(name: str) -> str:
    """What a column gives: a key of a case, or `metadata.KEY`."""
    key = name.removesuffix(AS_JSON)
    return name if key == "metadata" else key


def _value(name: str, key: str, cell: str) -> Any:
    """What a cell of the column `name` gives its key; raises RefusedError."""
    if "\0" in cell:
        raise RefusedError("it holds a NUL (0x00), which is no text.", "Save the file as UTF-8.")
    if name == "tags":
        return [tag for tag in map(str.strip, cell.split(";")) if tag] or NOTHING
    if name in TRUTHS:
        word = cell.strip().lower()
        if word and word not in WORDS:
            shown = cell if len(cell) <= 40 else cell[:37] + "..."  # noqa: PLR2004 what fits on a line
            raise RefusedError(f"{shown!r} is neither true nor false.", f"Write one of {', '.join(WORDS)}.")
        return WORDS.get(word, NOTHING)
    if name == key and key not in LISTS:
        return cell
    if not cell.strip():
        return NOTHING
    try:
        return parse_json(cell)
    except RefusedError as e:
        example = {
            "contexts": '["a passage"]',
            "expected_tools": '["search"]',
            "metadata": '{"source": "ticket"}',
        }
        about = f"Its cells are JSON, as in {example[key]}." if key in example else "Its cells are JSON."
        raise RefusedError(e.message, about) from None
