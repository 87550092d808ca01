"""A golden set as one list of cases, in YAML or in JSON; or a mapping whose `cases` are that list."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from gatehouse.agent.source import RefusedError, parse_json, parse_yaml
from gatehouse.errors import Problem
from gatehouse.evals.dataset_file import MAX_SOURCE, Row, WholeFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.schema import Keys
    from gatehouse.agent.source import Source

MAX_NODES = 200_000
"""Values of a YAML file, each use of an alias counted again; two seconds."""
PLAIN = re.compile(r"true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""A boolean or number as JSON spells it, and as everybody reads it."""
HEAD = re.compile(r'[ \t\r\n]*(\{[ \t\r\n]*"cases"[ \t\r\n]*:[ \t\r\n]*)?\[')
"""How a JSON file begins; with a group where its list has a name."""
LIST_ENDS = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\Z")
MAPPING_ENDS = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*\Z")
BLANK = re.compile(r"[ \t\r\n]*")
COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
A_LIST = "A golden set is a list of cases, or a mapping with the one key `cases`."


class YamlList(WholeFile):
    """A YAML list, or `cases:` with a list."""

    yaml = True

    def rows(self) -> Iterator[Row]:
        """Every item of the list."""
        text = self.text()
        try:
            source = parse_yaml(text, self.path, root="list of cases", most=MAX_NODES)
        except RefusedError as e:
            if e.message == "the file is empty.":
                return
            if "holds more than" in e.message:
                raise RefusedError(
                    e.message, "Write JSON Lines (.jsonl), which may hold any number.", e.line
                ) from None
            raise
        for keys, problem in _misread(source):
            source.bad.setdefault(keys, problem)
        prefix, cases = (
            ((), source.data) if isinstance(source.data, list) else (("cases",), _cases(source.data))
        )
        if cases is None:
            yield Row(
                1,
                problems=(source.problem((), "the file is no list of cases.", A_LIST), *source.bad.values()),
            )
            return
        bad: dict[int, list[Problem]] = {}
        for keys, problem in source.bad.items():
            item = keys[len(prefix)] if len(keys) > len(prefix) else 0
            bad.setdefault(item if isinstance(item, int) else 0, []).append(problem)
        for i, case in enumerate(cases):
            line = source.values[*prefix, i].line
            yield self._row(line, case, partial(_at, source, (*prefix, i)), bad.pop(i, []))
        for problems in bad.values():
            yield Row(1, problems=tuple(problems))

    @staticmethod
    def _row(line: int, case: Any, at: Any, problems: list[Problem]) -> Row:
        if not isinstance(case, dict) and not problems:
            problems = [at((), "the item is no mapping.", "A case is a mapping with `input`.")]
        return Row(line, case, at, problems=tuple(sorted(problems, key=lambda problem: problem.line)))


def _cases(data: Any) -> list[Any] | None:
    """The list of a mapping with the one key `cases`; None for anything else."""
    cases = data.get("cases") if isinstance(data, dict) and len(data) == 1 else None
    return cases if isinstance(cases, list) else None


def _at(source: Source, item: Keys, keys: Keys, message: str, repair: str) -> Problem:
    return source.problem((*item, *keys), message, repair, value=bool(keys))


def _misread(source: Source) -> Iterator[tuple[Keys, Problem]]:
    """Booleans and numbers that people read otherwise: no, on, 1:30, 007, 1_000; and 1e3, which is text."""
    level: list[tuple[Keys, Any]] = [((), source.data)]
    while level:
        keys, value = level.pop()
        if isinstance(value, dict):
            level += [((*keys, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            level += [((*keys, i), inner) for i, inner in enumerate(value)]
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and PLAIN.fullmatch(value)):
            span = source.values[keys]
            text = source.lines[span.line - 1][span.column - 1 :][: span.length]
            as_json = PLAIN.fullmatch(text.lower()) is not None
            if as_json is isinstance(value, str):
                message = f"YAML reads {text[:40]} as {'text' if as_json else json.dumps(value)[:40]}."
                yield keys, source.at(span, message, "Put it in quotes if it is text.")


class JsonList(WholeFile):
    """A JSON list, or an object whose one key `cases` is that list."""

    def rows(self) -> Iterator[Row]:
        """Every item of the list."""
        text = self.text()
        if not text.strip():
            return
        head = HEAD.match(text)
        if head is None:
            lines = "It looks like JSON Lines: name it .jsonl." if text.lstrip().startswith("{") else A_LIST
            yield Row(1, problems=(Problem("the file is no list of cases.", self.path, 1, repair=lines),))
            return
        yield from self._items(text, head.end(), MAPPING_ENDS if head[1] else LIST_ENDS)

    def _items(self, text: str, start: int, ending: re.Pattern[str]) -> Iterator[Row]:
        """The items from `start` on, up to what ends the file."""
        scan = json.JSONDecoder().raw_decode
        line, counted, before = 1, 0, BLANK
        while not ending.match(text, start):
            between = before.match(text, start)
            try:
                if between is None:
                    raise json.JSONDecodeError("Expecting ',' or the end of the list", text, start)
                begin = between.end()
                _, start = scan(text, begin)
            except json.JSONDecodeError as e:
                yield Row(e.lineno, problems=(self._no_json(e),))
                return
            except (RecursionError, ValueError):
                start = -1
            line, counted, before = line + text.count("\n", counted, begin), begin, COMMA
            if start < 0:
                yield Row(
                    line,
                    problems=(Problem("it is nested too deeply, or a number is too long.", self.path, line),),
                )
                return
            yield self._row(line, text[begin:start])

    def _row(self, line: int, item: str) -> Row:
        try:
            data = parse_json(item)
        except RefusedError as e:
            return Row(line, problems=(self.refused(e, line),))
        at = partial(self._at, line, item)
        if not isinstance(data, dict):
            return Row(line, problems=(at((), "the item is no JSON object.", 'A case is {"input": ...}.'),))
        return Row(line, data, at)

    def _no_json(self, error: json.JSONDecodeError) -> Problem:
        source = error.doc.split("\n")[error.lineno - 1].rstrip("\r")
        source = source if len(source) <= MAX_SOURCE else ""
        message = f"not JSON: {error.msg[0].lower()}{error.msg[1:]} at column {error.colno}."
        return Problem(message, self.path, error.lineno, error.colno if source else 0, source=source)

    def _at(self, line: int, item: str, keys: Keys, message: str, repair: str) -> Problem:
        """A fault of one key, at its first mention, as in JSON Lines."""
        shown = f'"{keys[0]}"' if keys else ""
        place = max(0, item.find(shown)) if shown else 0
        source = item.split("\n")[item.count("\n", 0, place)].rstrip("\r")
        source = source if len(source) <= MAX_SOURCE else ""
        column = source.find(shown) + 1 if shown and source else 0
        at = line + item.count("\n", 0, place)
        return Problem(message, self.path, at, column, max(1, len(shown)), source, repair)
