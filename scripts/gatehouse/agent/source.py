"""What users wrote: files read within limits, strict JSON, and YAML with the place of every key."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.agent.schema import Keys

MAX_FILE = 2**20
"""Bytes of a file that is read whole: agent file, prompt, output schema."""
MAX_NODES = 20_000
"""Values of a YAML file, each use of an alias counted again."""
MAX_JSON_DEPTH = 100
"""Levels of nesting in JSON."""
MAX_DEPTH = 40
"""Levels of nesting in a YAML file."""

LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader, seven times as quick, where PyYAML was built with it."""

TAG = "tag:yaml.org,2002:"
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class RefusedError(ValueError):
    """Why a file cannot be used; `line` and `column` in it count from 1, 0 where there is none."""

    def __init__(
        self, message: str, repair: str = "", line: int = 0, column: int = 0, source: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.repair, self.line, self.column, self.source = message, repair, line, column, source

    def problem(self, path: str) -> Problem:
        """The same as a fault of the file at `path`."""
        return Problem(
            self.message,
            path=path,
            line=self.line,
            column=self.column,
            source=self.source,
            repair=self.repair,
        )


def locate(root: Path, name: str) -> Path:
    """Where `name` is, relative to `root`, links followed; raises RefusedError if outside `root`."""
    try:
        base, place = root.resolve(), (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as e:
        raise RefusedError(f"{name!r} is not a usable path: {e}.") from None
    if not place.is_relative_to(base):
        raise RefusedError(f"{name} leads out of the repository.", f"Give a path inside {base}.")
    return place


def check_file(place: Path, name: str) -> None:
    """Raise RefusedError, with the nearest file's name, unless `place` is a regular file."""
    try:
        if place.is_file():
            return
        if place.is_dir():
            raise RefusedError(f"{name} is a folder, not a file.")
        if place.exists():
            raise RefusedError(f"{name} is not a regular file.")
        beside = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
    except OSError as e:
        raise RefusedError(f"{name[:200]} cannot be read: {e.strerror}.") from None
    near = get_close_matches(place.name, beside, 1)
    hint = f'Did you mean "{name[: len(name) - len(place.name)]}{near[0]}"?' if near else ""
    raise RefusedError(f"there is no file {name}.", hint or "Paths are relative to the repository's root.")


def read_file(root: Path, name: str) -> bytes:
    """The bytes of the file `name` under `root`; raises RefusedError (missing, outside, too big)."""
    place = locate(root, name)
    check_file(place, name)
    try:
        with place.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as e:
        raise RefusedError(f"{name} cannot be read: {e.strerror}.") from None
    if len(data) > MAX_FILE:
        raise RefusedError(f"{name} is larger than {MAX_FILE // 2**20} MiB.")
    return data


def decode(data: bytes, name: str) -> str:
    """UTF-8 text without its byte order mark; raises RefusedError with the place of the first bad byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        start = e.start + len(data) - len(e.object)  # the codec counts from behind a byte order mark
        line = data.count(b"\n", 0, start) + 1
        at = start - (data.rfind(b"\n", 0, start) + 1)
        message = f"byte {at + 1} of line {line} of {name} is not UTF-8 (0x{data[start]:02x})."
        raise RefusedError(message, "Save the file as UTF-8.", line) from None


def parse_json(text: str) -> Any:
    """JSON without duplicate keys, NaN, infinities, lone surrogates; raises RefusedError, with the place."""
    try:
        data = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()
        if text.count("[") + text.count("{") > MAX_JSON_DEPTH:
            _check_depth(data)
    except RefusedError:
        raise
    except json.JSONDecodeError as e:
        source = text.splitlines()[e.lineno - 1 : e.lineno] if len(text) <= 10_000 else []  # noqa: PLR2004 shown whole
        message = f"not JSON: {e.msg[0].lower()}{e.msg[1:]} at column {e.colno}."
        raise RefusedError(message, line=e.lineno, column=e.colno, source="".join(source)) from None
    except UnicodeEncodeError:
        raise RefusedError("it holds half of a surrogate pair, which is no character.") from None
    except RecursionError:
        raise RefusedError("it is nested too deeply.") from None
    except ValueError:
        raise RefusedError("it holds a number with too many digits.") from None
    return data


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RefusedError(f"key {json.dumps(twice)} is given twice in one object.", "Keep one of them.")
    return data


def _check_depth(data: Any) -> None:
    """Raise RecursionError for what a later stage, deeper in its own calls, could not write back."""
    level = [data]
    for _ in range(MAX_JSON_DEPTH):
        inner = (item for item in level if isinstance(item, dict | list))
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise RecursionError


def _constant(name: str) -> Any:
    raise RefusedError(f"{name} is not a number in JSON.", "Use a finite number, text or null.")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RefusedError(f"{text[:40]} is too large for a number.", "Use a finite number, text or null.")
    return value


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file: line and column count from 1, length in characters."""

    line: int
    column: int
    length: int


@dataclass(frozen=True, slots=True)
class Source:
    """A YAML file as JSON values, with the place of every key and value, and its faults."""

    path: str
    lines: list[str]
    data: Any
    keys: dict[Keys, Span] = field(default_factory=dict)
    values: dict[Keys, Span] = field(default_factory=dict)
    bad: dict[Keys, Problem] = field(default_factory=dict)

    def problem(self, keys: Keys, message: str, repair: str = "", *, value: bool = False) -> Problem:
        """A fault at `keys`: at the key, or with `value` at the value; at the nearest parent that exists."""
        for end in range(len(keys), -1, -1):
            first, second = (
                (self.values, self.keys) if value and end == len(keys) else (self.keys, self.values)
            )
            span = first.get(keys[:end]) or second.get(keys[:end])
            if span:
                return self.at(span, message, repair)
        return Problem(message, path=self.path, line=1, repair=repair)

    def at(self, span: Span, message: str, repair: str = "") -> Problem:
        """A fault at a place of this file."""
        source = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        return Problem(
            message,
            path=self.path,
            line=span.line,
            column=span.column if source else 0,
            length=max(1, min(span.length, len(source) - span.column + 1)),
            source=source,
            repair=repair,
        )


def parse_yaml(
    text: str, path: str, *, root: str = "agent", numbered: str = "", most: int = MAX_NODES
) -> Source:
    """One YAML document; raises RefusedError for what is no YAML, and keeps every other fault in `bad`.

    `root` is the key that the file begins with; the keys of a mapping named `numbered` may be whole numbers;
    `most` is how many values the file may hold.
    """
    lines = text.splitlines()
    control = CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise RefusedError(f"a control character (0x{ord(control[0]):02x}) in the file.", "Remove it.", line)
    try:
        _check_size(text, most)
        loader = LOADER(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise RefusedError("the file is empty.", f"It starts with `{root}:`.", 1)
            source = Source(path, lines, None)
            data = _Walk(loader, source, numbered, most).value(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        raise _syntax(e, lines, root) from None
    except yaml.YAMLError as e:
        raise RefusedError(f"not YAML: {e}.") from None
    except RecursionError:
        raise RefusedError("it is nested too deeply.") from None
    return Source(path, lines, data, source.keys, source.values, source.bad)


def _check_size(text: str, most: int) -> None:
    """Raise RefusedError for deep nesting, into which libyaml's composer recurses until the process dies.

    Also for more than `most` values, before the memory for them is taken.
    """
    level = nodes = 0
    for event in yaml.parse(text, LOADER):
        nodes += isinstance(event, yaml.NodeEvent)
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MAX_DEPTH or nodes > 2 * most:  # keys are no values
            limit = f"{MAX_DEPTH} levels" if level > MAX_DEPTH else f"{most} values"
            raise _too_much(limit, event.start_mark.line + 1 if event.start_mark else 0)


def _too_much(limit: str, line: int) -> RefusedError:
    return RefusedError(f"the file holds more than {limit}.", "Write less, or use fewer aliases.", line)


def _syntax(error: yaml.MarkedYAMLError, lines: list[str], root: str) -> RefusedError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    words = ", ".join(filter(None, (error.context, error.problem)))
    repair = "YAML indents with spaces; this line has a tab." if "\t" in source[: column + 1] else ""
    if "single document" in words:
        repair = f"One file holds one {root}: remove the `---` and what follows."
    return RefusedError(f"not YAML: {words}.", repair, line, column if source else 0, source)


class _Walk:
    """Turns YAML nodes into JSON values and notes where they stand."""

    def __init__(self, loader: Any, source: Source, numbered: str, most: int) -> None:
        self.loader, self.source, self.numbered, self.most, self.nodes = loader, source, numbered, most, 0

    def value(self, node: yaml.Node, keys: Keys) -> Any:
        """The JSON value of a node; raises RefusedError where the limits end."""
        self.nodes += 1
        span = self.source.values[keys] = self.span(node)
        if self.nodes > self.most or len(keys) > MAX_DEPTH:
            limit = f"{self.most} values" if self.nodes > self.most else f"{MAX_DEPTH} levels"
            raise _too_much(limit, span.line)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, keys)
        if node.tag not in (TAG + "map", TAG + "seq"):
            self.refuse(keys, span, f"the tag {node.tag.replace(TAG, '!!')} is not supported.", "Remove it.")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*keys, i)) for i, child in enumerate(node.value)]
        data = {}
        for key_node, child in node.value:
            key = self.key(key_node, keys)
            if key is not None:
                self.source.keys[*keys, key] = self.span(key_node)
                data[key] = self.value(child, (*keys, key))
        return data

    def key(self, node: yaml.Node, keys: Keys) -> str | None:
        """The key's text; None, with a fault noted, where it has none or is there already."""
        span = self.span(node)
        if node.tag == TAG + "merge":
            self.refuse((*keys, "<<"), span, "merge keys (<<) are not supported.", "Write the keys out.")
            return None
        texts = {TAG + "str", TAG + "int"} if keys and keys[-1] == self.numbered else {TAG + "str"}
        if not isinstance(node, yaml.ScalarNode) or node.tag not in texts:
            shown = f"{node.value[:40]!r}" if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            self.refuse((*keys, span.line), span, f"the key is not text: {shown}.", "Put it in quotes.")
            return None
        first = self.source.keys.get((*keys, node.value))
        if first:
            message = f'"{node.value}" is given twice, first on line {first.line}.'
            self.refuse((*keys, node.value, span.line), span, message, "Keep one of them.")
            return None
        return str(node.value)

    def scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        """A scalar's value; its text, with a fault noted, where JSON has no such value."""
        span, text = self.span(node), node.value
        if node.tag == TAG + "timestamp":
            self.refuse(keys, span, f"YAML reads {text[:40]} as a date.", "Put it in quotes.")
        elif node.tag in (TAG + "bool", TAG + "null", TAG + "int", TAG + "float"):
            try:
                value = self.loader.construct_object(node)
            except (ValueError, KeyError, yaml.YAMLError):
                self.refuse(keys, span, f"{text[:40]!r} is not a {node.tag.removeprefix(TAG)}.")
            else:
                if not isinstance(value, float) or math.isfinite(value):
                    return value
                self.refuse(keys, span, f"{text[:40]} is not a finite number.", "Give a finite number.")
        elif node.tag != TAG + "str":
            self.refuse(keys, span, f"the tag {node.tag.replace(TAG, '!!')} is not supported.", "Remove it.")
        return text

    def refuse(self, keys: Keys, span: Span, message: str, repair: str = "") -> None:
        """Note a fault."""
        self.source.bad[keys] = self.source.at(span, message, repair)

    def span(self, node: yaml.Node) -> Span:
        """The node's place, up to the end of its first line."""
        start, end = node.start_mark, node.end_mark
        length = end.column - start.column if end.line == start.line else 1
        return Span(start.line + 1, start.column + 1, max(1, length))
