"""A rubric file: what is graded, by which grades, what earns them, and examples."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent.schema import Keys, faults, label, nearest
from gatehouse.agent.source import RefusedError, decode, parse_yaml, read_file
from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.agent.source import Source

SHOWN = ("input", "contexts", "expected", "answer")
"""What a judge can be shown, in the order in which it is."""
DEFAULT_SHOWS = ("input", "answer")
DEFAULT_SCALE = (1, 5)
GRADE = re.compile("0|[1-9][0-9]{0,2}")
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names of rubrics and of their dimensions: file names and keys of the reply."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that is graded.

    `name` is "" where it is the rubric's only one, `scale` its worst and its best grade.
    """

    name: str
    kind: Literal["quality", "safety"]
    scale: tuple[int, int]
    criteria: str
    anchors: dict[int, str]


@dataclass(frozen=True, slots=True)
class Example:
    """What is shown of a graded answer, and the reply that it deserves."""

    shown: dict[str, Any]
    reply: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rubric:
    """One rubric file; `shows` names what the judge is shown, in the order of `SHOWN`."""

    path: str
    shows: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    examples: tuple[Example, ...] = field(default=())


def load_rubric(path: str, root: Path) -> Rubric:
    """The rubric at `path`, relative to `root`; raises UserError with every fault of the file."""
    try:
        source = parse_yaml(decode(read_file(root, path), path), path, root="rubric", numbered="anchors")
    except RefusedError as e:
        raise UserError(e.problem(path)) from None
    problems = [*source.bad.values(), *_problems(source)]
    if problems:
        raise UserError(*sorted(problems, key=lambda p: (p.line, p.column)))
    return _build(source.data["rubric"], path)


def _problems(source: Source) -> Iterator[Problem]:
    """What the schema refuses, and what it cannot say."""
    for fault in faults(source.data, "rubric", yaml=True):
        if fault.keys not in source.bad:
            yield source.problem(fault.keys, fault.message, fault.repair, value=fault.at_value)
    rubric = source.data.get("rubric") if isinstance(source.data, dict) else None
    if isinstance(rubric, dict):
        yield from _Rules(source, rubric).problems()


class _Rules:
    """What holds between the keys of a rubric; each rule passes by what the schema has refused."""

    def __init__(self, source: Source, rubric: dict[str, Any]) -> None:
        self.source, self.rubric = source, rubric
        given = rubric.get("dimensions")
        self.several = "dimensions" in rubric
        several = given if isinstance(given, dict) else {}
        self.dimensions = {name: one for name, one in several.items() if isinstance(one, dict)}
        if not self.several:
            self.dimensions = {"": rubric}

    def fault(self, keys: Keys, message: str, repair: str = "", *, value: bool = False) -> Problem:
        """A fault at `keys` below `rubric:`."""
        return self.source.problem(("rubric", *keys), message, repair, value=value)

    def problems(self) -> Iterator[Problem]:
        """Every fault."""
        if self.several:
            yield from self.beside()
        yield from self.scale_of((), self.rubric)
        for name, dimension in self.dimensions.items():
            keys: Keys = ("dimensions", name) if self.several else ()
            if self.several:
                yield from self.scale_of(keys, dimension)
            yield from self.anchors(keys, dimension)
        yield from self.half_characters((), self.rubric)
        examples = self.rubric.get("examples")
        for i, example in enumerate(examples if isinstance(examples, list) else []):
            if isinstance(example, dict):
                yield from self.example(("examples", i), example)

    def beside(self) -> Iterator[Problem]:
        """What stands beside dimensions or names them."""
        for key in ("criteria", "anchors"):
            if key in self.rubric:
                message = f'"{key}" stands beside "dimensions".'
                yield self.fault((key,), message, "Move it into a dimension of its own.")
        for name in self.dimensions:
            if not NAME.fullmatch(name):
                message = f"{json.dumps(name)[:80]} is no name of a dimension."
                repair = 'Up to 64 letters, digits, "_" and "-"; it starts with a letter or digit.'
                yield self.fault(("dimensions", name), message, repair)

    def scale(self, dimension: dict[str, Any]) -> tuple[int, int] | None:
        """The scale of a dimension; None where it is none."""
        given = dimension.get("scale", self.rubric.get("scale", DEFAULT_SCALE))
        ends = _ends(given)
        return ends if ends and ends[0] < ends[1] else None

    def scale_of(self, keys: Keys, dimension: dict[str, Any]) -> Iterator[Problem]:
        """A scale that goes nowhere."""
        ends = _ends(dimension.get("scale"))
        if ends and ends[0] >= ends[1]:
            message = f'"scale" goes from {ends[0]} to {ends[1]}.'
            yield self.fault((*keys, "scale"), message, "The worst grade comes first, as in [1, 5].")

    def anchors(self, keys: Keys, dimension: dict[str, Any]) -> Iterator[Problem]:
        """Keys that are no grades, and ends that have no anchor."""
        anchors, scale = dimension.get("anchors"), self.scale(dimension)
        if not isinstance(anchors, dict) or scale is None:
            return
        low, high = scale
        for key in anchors:
            if not GRADE.fullmatch(key) or not low <= int(key) <= high:
                message = f"{json.dumps(key)[:80]} is no grade of the scale from {low} to {high}."
                repair = f"Its keys are whole numbers from {low} to {high}."
                yield self.fault((*keys, "anchors", key), message, repair)
        for end in (low, high):
            if str(end) not in anchors:
                message = f'"anchors" says nothing of grade {end}.'
                repair = f"Both ends of the scale need an anchor: {low} and {high}."
                yield self.fault((*keys, "anchors"), message, repair)

    def half_characters(self, keys: Keys, value: Any) -> Iterator[Problem]:
        r"""Text that cannot be sent: YAML takes "\ud800", half of a character."""
        if isinstance(value, dict | list):
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                yield from self.half_characters((*keys, key), child)
        elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
            message = f"{label(keys)} holds half of a surrogate pair, which is no character."
            yield self.fault(keys, message, "Write the character itself.", value=True)

    def example(self, keys: Keys, example: dict[str, Any]) -> Iterator[Problem]:
        """An example is shown as a case is, and graded in every dimension."""
        shows = self.rubric.get("shows", DEFAULT_SHOWS)
        usable = (
            isinstance(shows, list | tuple) and "answer" in shows and all(what in SHOWN for what in shows)
        )
        for what in SHOWN if usable else ():
            if what in shows and what not in example:
                message = f'"{what}" is missing in {label(keys)}.'
                yield self.fault(keys, message, f"The judge is shown {', '.join(shows)}.", value=True)
            elif what in example and what not in shows:
                message = f'"{what}" in {label(keys)} is not shown to the judge.'
                yield self.fault((*keys, what), message, f'Remove it, or add {what} to "shows".')
        for key in ("grade", "reason"):
            if key in example:
                yield from self.by_dimension((*keys, key), example[key])

    def by_dimension(self, keys: Keys, given: Any) -> Iterator[Problem]:
        """A grade or a reason: one for each dimension and for nothing else, plain where there is only one."""
        if self.several != isinstance(given, dict):
            message = f"{label(keys)} is {'not ' if self.several else ''}by dimension."
            form = "{" + ", ".join(f"{name}: ..." for name in self.dimensions) + "}"
            repair = f"Write {keys[-1]}: {form}." if self.several else "There is only one: write it plainly."
            yield self.fault(keys, message, repair, value=True)
            return
        if not self.several:
            yield from self.off_scale(keys, given, self.rubric)
            return
        for name, one in given.items():
            if name in self.dimensions:
                yield from self.off_scale((*keys, name), one, self.dimensions[name])
                continue
            repair = nearest(name, self.dimensions) or f"They are {', '.join(self.dimensions)}."
            yield self.fault((*keys, name), f"{json.dumps(name)[:80]} is no dimension.", repair)
        for name in self.dimensions:
            if name not in given:
                yield self.fault(keys, f'"{name}" is missing in {label(keys)}.', value=True)

    def off_scale(self, keys: Keys, given: Any, dimension: dict[str, Any]) -> Iterator[Problem]:
        """A grade that the scale does not have."""
        grade, scale = _whole(given), self.scale(dimension)
        if grade is not None and scale and not scale[0] <= grade <= scale[1]:
            message = f"{label(keys)} is {grade}: the scale goes from {scale[0]} to {scale[1]}."
            yield self.fault(keys, message, value=True)


def _ends(given: Any) -> tuple[int, int] | None:
    """A list of two whole numbers; None for anything else, which the schema has refused."""
    if not isinstance(given, list | tuple) or len(given) != 2:  # noqa: PLR2004 first and last
        return None
    low, high = map(_whole, given)
    return None if low is None or high is None else (low, high)


def _whole(value: Any) -> int | None:
    """A whole number, 3.0 as well, as JSON Schema has it; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value == int(value) else None


def _build(data: dict[str, Any], path: str) -> Rubric:
    """The rubric from checked data."""
    shows = data.get("shows", DEFAULT_SHOWS)
    order = tuple(what for what in SHOWN if what in shows)
    dimensions = tuple(_dimension(name, data | one) for name, one in data.get("dimensions", {"": {}}).items())
    names = [one.name for one in dimensions]
    examples = tuple(_example(one, order, names) for one in data.get("examples", []))
    return Rubric(path, order, dimensions, examples)


def _dimension(name: str, data: dict[str, Any]) -> Dimension:
    scale = _ends(data.get("scale", DEFAULT_SCALE)) or DEFAULT_SCALE
    anchors = {int(grade): text.strip() for grade, text in data["anchors"].items()}
    in_order = dict(sorted(anchors.items()))
    kind = data.get("kind", "quality")
    return Dimension(name, kind, scale, data["criteria"].strip(), in_order)


def _example(data: dict[str, Any], shows: tuple[str, ...], names: list[str]) -> Example:
    grade, reason = data["grade"], data["reason"]
    reply = {"reason": reason, "grade": _whole(grade)}
    if names != [""]:
        reply = {name: {"reason": reason[name], "grade": _whole(grade[name])} for name in names}
    return Example({what: data[what] for what in shows}, reply)
