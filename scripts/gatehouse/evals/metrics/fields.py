"""Metrics of an answer's parts and numbers, and of how alike two texts are."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gatehouse.evals.metrics.base import Metric, OptionError, Score, Scorer
from gatehouse.evals.metrics.said import shown
from gatehouse.evals.metrics.text import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case

Path = tuple[str, ...]
MISSING = object()
"""Stands for a value that is not there."""
LONGEST = 100_000
"""Characters of a text that is compared: likeness takes time by the product of both lengths."""


def is_number(value: Any) -> bool:
    """Whether a value is a number to JSON: true is not 1."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounds(options: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """How far a number may be off: by the options `tolerance` (in its own unit) and `relative` (a share)."""
    found = []
    for name, what in (("tolerance", "in the number's own unit"), ("relative", "a share: 0.01 is 1 %")):
        value = options.get(name, 0)
        if not is_number(value) or not math.isfinite(value) or value < 0:
            raise OptionError(f'"{name}" is a number of 0 or more, {what}.')
        found.append(_exact(value))
    return found[0], found[1]


def _exact(value: float | Fraction) -> Fraction:
    """A finite number as it is written: 0.1 is a tenth, and no int loses a digit."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def near(value: float | Fraction, wanted: float | Fraction, bounds: tuple[Fraction, Fraction]) -> bool:
    """Whether a number is the wanted one, or off by no more than either bound; NaN and infinity never are."""
    if not all(isinstance(one, int | Fraction) or math.isfinite(one) for one in (value, wanted)):
        return False
    if value == wanted:
        return True
    exact = _exact(wanted)
    return abs(_exact(value) - exact) <= max(bounds[0], bounds[1] * abs(exact))


def pairs(expected: Any, given: Any, *, extra: bool) -> Iterator[tuple[Path, Any, Any]]:
    """Path, value of `expected` and value of `given`, for each value that holds no others.

    An empty object or list is such a value. What only `given` has is MISSING in `expected`: further items of
    a list, and further keys unless these are welcome (`extra`).
    """
    stack: list[tuple[Path, Any, Any]] = [((), expected, given)]  # no recursion: JSON may be deep
    while stack:
        path, wanted, value = stack.pop()
        if isinstance(wanted, dict) and wanted:
            inner = value if isinstance(value, dict) else {}
            more = [] if extra else [key for key in inner if key not in wanted]
            stack += [((*path, key), MISSING, inner[key]) for key in reversed(more)]
            stack += [((*path, key), wanted[key], inner.get(key, MISSING)) for key in reversed(wanted)]
        elif isinstance(wanted, list) and wanted:
            items = value if isinstance(value, list) else []
            for i in reversed(range(max(len(wanted), len(items)))):
                one, other = (side[i] if i < len(side) else MISSING for side in (wanted, items))
                stack.append(((*path, str(i)), one, other))
        else:
            yield path, wanted, value


def covering(names: list[Path], path: Path, *, below: bool = False) -> list[Path]:
    """The names (`*` is any key or place) that are the path or stand above it; with `below` also under it."""
    return [
        name
        for name in names
        if (below or len(name) <= len(path)) and all(a in ("*", b) for a, b in zip(name, path, strict=False))
    ]


def _names(options: Mapping[str, Any], option: str) -> list[Path]:
    names = options.get(option, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise OptionError(f'"{option}" is a list of dotted paths: order.total, items.*.price.')
    return [tuple(name.split(".")) for name in names]


def _json_fields(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    fields, ignore, bounds = _names(options, "fields"), _names(options, "ignore"), _bounds(options)
    met = set[Path]()
    extra = options.get("extra", True)
    if not isinstance(extra, bool):
        raise OptionError('"extra" is true (an output may have further keys) or false.')

    def score(case: Case, run: Run) -> Score | None:
        expected = as_json(case.expected)
        if not isinstance(expected, dict | list) or not expected:
            return None
        output = as_json(run.output)
        kind = type(expected)
        total, differing, first = 0, 0, ""
        for path, wanted, given in pairs(expected, output, extra=extra):
            # What only the output has, or is expected to be empty, stands above the fields it would have.
            empty = wanted is MISSING or wanted in ({}, [], None)
            chosen = covering(fields, path, below=empty)
            if wanted is not MISSING:
                met.update(chosen)
            if (fields and not chosen) or covering(ignore, path):
                continue
            total += 1
            if not _same(given, wanted, bounds):
                differing += 1
                first = first or f"{_dotted(path)} is {_told(given)}, expected {_told(wanted)}"
        if not total:
            return None
        if not isinstance(output, kind):
            return Score(0.0, f"is no JSON {'object' if kind is dict else 'list'}")
        if not differing:
            return Score(1.0)
        count = f"{differing} of {total} field{'s' * (total != 1)} differ{'s' * (differing == 1)}"
        return Score(1 - differing / total, f"{first}; {count}")

    return WithFields(score, lambda: [_dotted(path) for path in fields if path not in met])


@dataclass(frozen=True, slots=True)
class WithFields:
    """A scorer that knows, when every case was scored, which of its `fields` no case has."""

    score: Scorer
    unmet: Callable[[], list[str]]
    """A misspelt field would compare nothing, and nobody would notice beside one that is right."""

    def __call__(self, case: Case, run: Run) -> Score | None:
        """The score of one run."""
        return self.score(case, run)


def _same(value: Any, wanted: Any, bounds: tuple[Fraction, Fraction]) -> bool:
    """Whether two values are equal as JSON means it; of `wanted` none that holds others is asked about."""
    if is_number(value) and is_number(wanted):
        return near(value, wanted, bounds)
    return type(value) is type(wanted) and value is not MISSING and bool(value == wanted)


def _dotted(path: Path) -> str:
    return shown(".".join(path))


def _told(value: Any) -> str:
    if isinstance(value, dict | list) and value:
        return "an object" if isinstance(value, dict) else "a list"
    return "missing" if value is MISSING else shown(json.dumps(value, ensure_ascii=False))


_NUMBER = re.compile(
    r"(?<![\w.,:/-])((?i:minus|negative)[ \u00a0])?([-+]?)[$€£¥]?"
    r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?)"
    # Not the beginning of what reads as another number: 1.2.3, 5-10, 1_000, 7e9999, 0x1F, 5½, 5 1/2, 10².
    r"(?![0-9]|[.,:/_-][0-9]|[eE][-+]?[0-9]|(?<=\b0)[xXoObB][0-9A-Fa-f]"
    r"| ?[\u00bc-\u00be\u2150-\u215e]| [0-9]{1,3}[/\u2044][0-9]|[\u00b2\u00b3\u00b9\u2070-\u2079\u2044^])"
)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
"""Hyphens, the en dash and minus signs: before digits each is a sign, between them a range."""
_DIGITS = 400
"""Digits of a number that is read: more than any float has, fewer than what slows Python down."""


def numbers(text: str) -> list[Fraction]:
    """The different numbers in a text, in their order: `1,234.5`, `-3`, `minus 3`, `2e6`; units aside.

    Parts of names, dates, times, versions and ranges are none: LH-1001, 2026-05-20, 10:30, 1.2.3; nor is one
    alone in parentheses, which may be negative (as accounts write it) or a note.
    """
    found = {}
    text = text.translate(_DASHES)
    for match in _NUMBER.finditer(text):
        word, sign, digits = match.groups()
        alone = text[match.start() - 1 : match.start()] == "(" and text[match.end() : match.end() + 1] == ")"
        if len(digits) <= _DIGITS and not (alone and not sign and not word):
            number = Fraction(digits.replace(",", ""))
            found[-number if word or sign == "-" else number] = True
    return list(found)


def _one_number(value: Any) -> Fraction | float | None:
    """The number that a value is, or the one that its text holds; None where that is none, or several."""
    if is_number(value):
        return float(value) if isinstance(value, float) else Fraction(value)
    found = numbers(value) if isinstance(value, str) else []
    return found[0] if len(found) == 1 else None


def _numeric(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    bounds = _bounds(options)

    def score(case: Case, run: Run) -> Score | None:
        wanted = _one_number(case.expected)
        if wanted is None:
            return None
        value = _one_number(run.output)
        if value is None:
            found = numbers(run.output) if isinstance(run.output, str) else []
            listed = ", ".join(map(_plain, found[:4])) + (", …" if len(found) > 4 else "")  # noqa: PLR2004
            several = f"holds {len(found)} numbers ({listed}), expected one: {_plain(wanted)}"
            return Score(0.0, several if found else f"holds no number, expected {_plain(wanted)}")
        if near(value, wanted, bounds):
            return Score(1.0)
        return Score(0.0, f"is {_plain(value)}, expected {_plain(wanted)}{_within(options)}")

    return score


def _plain(number: float | Fraction) -> str:
    """A number in digits, in as few as say it."""
    if isinstance(number, Fraction) and number.denominator == 1 and abs(number) < 10**20:
        return str(number.numerator)
    try:
        return repr(float(number))
    except OverflowError:
        return "a number of more than 308 digits"


def _within(options: Mapping[str, Any]) -> str:
    limits = [f"{name} {options[name]}" for name in ("tolerance", "relative") if name in options]
    return f" ({', '.join(limits)})" if limits else ""


METHODS = {"ratio": "ratio", "token_sort": "token_sort_ratio", "token_set": "token_set_ratio"}
"""The option `method`, and rapidfuzz's own name for it."""


def _text_similarity(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    method = options.get("method", "ratio")
    if method not in METHODS:
        raise OptionError(f'"method" is {", ".join(METHODS)}.')
    compare: list[Callable[[str, str], float]] = []

    def score(case: Case, run: Run) -> Score | None:
        if not isinstance(case.expected, str) or not case.expected.strip():
            return None
        if not isinstance(run.output, str):
            return Score(0.0, "is no text")
        if len(run.output) > LONGEST:
            return Score(0.0, f"is longer than {LONGEST:,} characters")
        if not compare:
            from rapidfuzz import fuzz  # noqa: PLC0415 an extra: a file that names this metric must load without

            compare.append(getattr(fuzz, METHODS[method]))
        one, other = (" ".join(text.split()).casefold() for text in (run.output, case.expected[:LONGEST]))
        value = compare[0](one, other) / 100
        if value >= 1:
            return Score(1.0)
        at = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        beginning = max(0, at - 10)
        return Score(value, f'reads "{_cut(one, beginning)}" where "{_cut(other, beginning)}" is expected')

    return score


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + shown(text[start : start + 60], 40)


METRICS = [
    Metric(
        "json_fields",
        "quality",
        "The share of the expected object's or list's values that the output has, each at its place.",
        _json_fields,
        needs="expected, an object or a list",
        options=("fields", "ignore", "extra", "tolerance", "relative"),
    ),
    Metric(
        "numeric",
        "quality",
        "The one number in the output is the expected one, within `tolerance` or `relative`.",
        _numeric,
        needs="expected, a number or a text with one",
        options=("tolerance", "relative"),
    ),
    Metric(
        "text_similarity",
        "quality",
        "How alike the output and the expected text are, by their characters; case and white space aside.",
        _text_similarity,
        needs="expected, a text",
        options=("method",),
        extra="similarity",
        library="rapidfuzz",
    ),
]
