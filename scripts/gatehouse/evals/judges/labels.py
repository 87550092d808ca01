"""Labels: texts that people have graded by hand, from CSV or JSON Lines, against which a judge is held."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import canonical, sha256
from gatehouse.agent.protocol import MalformedError, as_text, parse_tool_calls
from gatehouse.agent.source import RefusedError, check_file, decode, locate, parse_json
from gatehouse.errors import Problem, UserError
from gatehouse.evals.judges.base import LONG, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gatehouse.agent.protocol import ToolCall
    from gatehouse.evals.metrics.base import Metric

REQUIRED = ("metric", "input", "output", "grade")
LISTS = ("contexts", "tool_calls", "expected_tools", "tags")
TEXTS = ("metric", "rater", "id")
FIELDS = (*REQUIRED, "expected", *LISTS, "id", "rater")
"""The columns of a CSV file, or the keys of a line of JSON."""
MEANT = {
    **dict.fromkeys(("question", "query", "prompt"), "input"),
    **dict.fromkeys(("answer", "response", "completion"), "output"),
    **dict.fromkeys(("score", "rating", "label"), "grade"),
    **dict.fromkeys(("reference", "ground_truth"), "expected"),
}
"""What other tools call these columns."""
MAX_FILE = 32 * 2**20
"""Bytes of a file of labels."""
MAX_SHOWN = 20
"""Faults shown; of the others only the number."""
WORDS = {"pass": True, "true": True, "fail": False, "false": False}
"""Grades of what passes or fails; spreadsheets write TRUE and FALSE."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text with what people think of it, first on `line`.

    `ratings` are in the order of the raters' names; `grade` is what they come to together, None where they
    are split on whether it passes.
    """

    line: int
    sample: Sample
    ratings: tuple[float, ...]
    grade: float | None
    tags: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """A file of labels: its digest (`sha256:...`), and the texts of each metric in the file's order."""

    path: str
    digest: str
    texts: dict[str, list[Labelled]]


@dataclass(slots=True)
class _Rated:
    """A text while its rows are read: grades with their raters' names."""

    line: int
    sample: Sample
    id: str
    grades: dict[str, float] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: its fields as they were written, or why there are none."""

    line: int
    fields: dict[str, Any]
    fault: Problem | None = None


class _WrongError(ValueError):
    """A field of a row is wrong; the message says what, `repair` what to write."""

    def __init__(self, message: str, repair: str = "") -> None:
        super().__init__(message)
        self.repair = repair


def read_labels(
    path: str, root: Path, metrics: Mapping[str, Metric], known_as: Callable[[str], str] = str
) -> Labels:
    """The labels at `path`, relative to `root`, for `metrics`, the judged ones by name.

    `known_as` is a metric's own name for another spelling. Raises UserError with every bad row, the first 20
    in full.
    """
    data = read_bytes(root, path)
    texts: dict[str, dict[bytes, _Rated]] = {}
    problems: list[Problem] = []
    for row in _rows(path, data):
        try:
            if row.fault is None:
                _take(row, texts, metrics, known_as)
        except _WrongError as wrong:
            problems.append(Problem(str(wrong), path=path, line=row.line, repair=wrong.repair))
        if row.fault is not None:
            problems.append(row.fault)
    if not problems and not texts:
        repair = "Add a row for each text that somebody has graded."
        problems.append(Problem("there are no labels in it.", path=path, repair=repair))
    if problems:
        more = len(problems) - MAX_SHOWN
        raise UserError(
            *problems[:MAX_SHOWN], *([Problem(f"and {more} more.", path=path)] if more > 0 else [])
        )
    found = {
        name: [_labelled(rated, metrics[name]) for rated in rated_texts.values()]
        for name, rated_texts in texts.items()
    }
    own = locate(root, path).relative_to(root.resolve()).as_posix()  # found again from another folder too
    return Labels(own, sha256(data), found)


def scale_of(metric: Metric) -> list[float] | None:
    """Every grade of a metric, from its lowest; None for one whose value is any number of its range."""
    if metric.step is None:
        return None
    steps = round((metric.high - metric.low) / metric.step)
    return [float(metric.low + i * metric.step) for i in range(steps + 1)]


def snapped(value: float, grades: Sequence[float]) -> float:
    """The grade nearest to a mean; of two as near, the one of even place, so that none is favoured."""
    step = (grades[-1] - grades[0]) / (len(grades) - 1) if len(grades) > 1 else 1.0
    place = round(round((value - grades[0]) / step, 9))
    return grades[min(max(place, 0), len(grades) - 1)]


def together(ratings: Sequence[float], metric: Metric) -> float | None:
    """What several ratings of one text come to: the grade of more than half of them, else their mean.

    On a scale the mean is its nearest grade. None where they are split on a question of two answers.
    """
    (grade, count), *_ = Counter(ratings).most_common(1)
    if 2 * count > len(ratings):
        return grade
    grades = scale_of(metric)
    if _is_of_two(grades) and set(ratings) == {metric.low, metric.high}:
        return None
    mean = math.fsum(ratings) / len(ratings)
    return snapped(mean, grades) if grades else mean


def _is_of_two(grades: Sequence[float] | None) -> bool:
    """Whether people answer with pass or fail: also where the judge's value is any number."""
    return grades is None or len(grades) == 2  # noqa: PLR2004


def _labelled(rated: _Rated, metric: Metric) -> Labelled:
    ratings = tuple(rated.grades[rater] for rater in sorted(rated.grades))
    return Labelled(rated.line, rated.sample, ratings, together(ratings, metric), tuple(rated.tags), rated.id)


def read_bytes(root: Path, path: str) -> bytes:
    """The bytes of a file of labels; raises UserError where it is missing, outside of `root`, or too big."""
    try:
        place = locate(root, path)
        check_file(place, path)
        with place.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except RefusedError as e:
        raise UserError(e.problem(path)) from None
    except OSError as e:
        raise UserError(Problem(f"it cannot be read: {e.strerror}.", path=path)) from None
    if len(data) > MAX_FILE:
        raise UserError(Problem(f"it is larger than {MAX_FILE // 2**20} MiB.", path=path))
    return data


def _rows(path: str, data: bytes) -> Iterator[_Row]:
    """The rows that are not blank, by the file's suffix; raises UserError for a file that is neither."""
    try:
        text = decode(data, path)
    except RefusedError as e:
        repair = "Save it as UTF-8: a spreadsheet calls that CSV UTF-8."
        raise UserError(Problem(e.message, path, e.line, repair=repair)) from None
    match PurePath(path).suffix.lower():
        case ".jsonl" | ".ndjson":
            return _json_rows(path, text)
        case ".csv" | ".tsv":
            return _csv_rows(path, text)
        case suffix:
            what = f'"{suffix}" is no kind of labels' if suffix else "the file's name has no suffix"
            raise UserError(Problem(f"{what}.", path=path, repair="Labels are .csv or .jsonl."))


def _json_rows(path: str, text: str) -> Iterator[_Row]:
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            data = parse_json(source)
        except RefusedError as e:
            yield _Row(line, {}, Problem(e.message, path, line, e.column, source=e.source, repair=e.repair))
            continue
        if not isinstance(data, dict):
            repair = "Labels are JSON Lines: one {...} a line."
            yield _Row(line, {}, Problem("the line is no JSON object.", path, line, repair=repair))
        elif strange := [name for name in data if name not in FIELDS]:
            yield _Row(line, {}, _unknown(path, line, strange, "key", data))
        else:
            yield _Row(line, {name: value for name, value in data.items() if value is not None})


def _csv_rows(path: str, text: str) -> Iterator[_Row]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(MAX_FILE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        while True:
            line = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if any(map(str.strip, cells)):
                yield _csv_row(path, line, header, cells, delimiter)
    except csv.Error as e:
        repair = 'Text with commas, quotes or line ends stands in "quotes", a quote in it is written twice.'
        yield _Row(line, {}, Problem(f"not CSV from here on: {e}.", path, line, repair=repair))


def _check_header(path: str, header: Sequence[str]) -> None:
    problems = []
    if strange := [name for name in header if name not in FIELDS]:
        problems.append(_unknown(path, 1, strange, "column", header))
    if missing := [name for name in REQUIRED if name not in header]:
        message = f"the first row has no column{'s' * (len(missing) > 1)} {_and(missing)}."
        problems.append(Problem(message, path, 1, repair=f"It names the columns: {', '.join(FIELDS)}."))
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        problems.append(
            Problem(f"column {json.dumps(twice[0])} is there twice.", path, 1, repair="Keep one.")
        )
    if problems:
        raise UserError(*problems)


def _unknown(path: str, line: int, names: Sequence[str], what: str, present: Iterable[str]) -> Problem:
    """Names that are no field, the first 5, each with the one it may mean of those that are not `present`."""
    free = [field for field in FIELDS if field not in present]
    meant: dict[str, str] = {}
    for name in names[:5]:
        plain = name.lower().replace(" ", "_")
        near = [
            field for field in (MEANT.get(plain, ""), *get_close_matches(plain, free, 1)) if field in free
        ]
        if near:
            meant[name] = near[0]
            free.remove(near[0])
    several = len(names) > 1
    pairs = [f'"{field}"' + f" for {_quoted(name)}" * several for name, field in meant.items()]
    hints = [f"Did you mean {', '.join(pairs)}?"] if pairs else []
    if len(pairs) < len(names):
        hints.append("Remove the others." if pairs else "Remove them." if several else "Remove it.")
    message = f"unknown {what}{'s' * several} {', '.join(map(_quoted, names[:5]))}."
    return Problem(message, path, line, repair=f"{' '.join(hints)} Known: {', '.join(FIELDS)}.")


def _quoted(name: str) -> str:
    return json.dumps(name[:40], ensure_ascii=False)


def _and(names: Sequence[str]) -> str:
    """Names as all of them: `"a", "b" and "c"`."""
    *most, last = map(json.dumps, names)
    return f"{', '.join(most)} and {last}" if most else last


def _csv_row(path: str, line: int, header: Sequence[str], cells: Sequence[str], delimiter: str) -> _Row:
    if len(cells) != len(header):
        message = f"the row has {len(cells)} cells, the first row {len(header)}."
        return _Row(line, {}, Problem(message, path, line, repair="Put text with commas in it in quotes."))
    fields: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
    for name in fields.keys() & {"metric", "grade", "rater", "id"}:
        fields[name] = fields[name].strip()
    if delimiter == ";" and "grade" in fields:  # where a comma is free to be the decimal sign
        fields["grade"] = fields["grade"].replace(",", ".")
    tags = fields.get("tags", "").strip()
    if tags and not tags.startswith("["):
        fields["tags"] = [tag.strip() for tag in tags.split(";") if tag.strip()]
    for name in LISTS:
        if isinstance(fields.get(name), str):
            with suppress(RefusedError):  # text is no list, which is said of both formats alike
                fields[name] = parse_json(fields[name])
    return _Row(line, fields)


def _take(
    row: _Row,
    texts: dict[str, dict[bytes, _Rated]],
    metrics: Mapping[str, Metric],
    known_as: Callable[[str], str],
) -> None:
    """Add one row to the texts; raises _WrongError."""
    fields = row.fields
    if missing := [name for name in REQUIRED if name not in fields]:
        raise _WrongError(f"{_and(missing)} {'is' if len(missing) == 1 else 'are'} empty.")
    if wrong := [name for name in TEXTS if not isinstance(fields.get(name, ""), str)]:
        raise _WrongError(f"{_and(wrong)} {'is' if len(wrong) == 1 else 'are'} no text.", "Put it in quotes.")
    metric = _metric(fields["metric"], metrics, known_as)
    sample = _sample(fields)
    if lacks := sample.lacks(metric.requires):
        raise _WrongError(f"{metric.name} needs {_and(lacks)}, and the row has none.")
    if long := sample.too_long(metric.requires):
        raise _WrongError(f"{LONG[long[0]]}.", "Remove the row: the judge is not asked about such a text.")
    grade = _grade(fields["grade"], metric)
    rater = fields.get("rater", "")
    calls = [fields.get(name) for name in ("tool_calls", "expected_tools")]
    key = canonical([sample.input, sample.output, sample.expected, sample.contexts, *calls])
    name = fields.get("id", "")
    rated = texts.setdefault(metric.name, {}).setdefault(key, _Rated(row.line, sample, name))
    if rater in rated.grades:
        who = f"by {json.dumps(rater, ensure_ascii=False)}" if rater else "without a rater"
        raise _WrongError(
            f"the text of line {rated.line} again, also {who}.",
            'Remove one of the rows, or say in "rater" whose each is.',
        )
    rated.grades[rater] = grade
    rated.tags |= dict.fromkeys(_texts(fields, "tags") or [])


def _metric(name: str, metrics: Mapping[str, Metric], known_as: Callable[[str], str]) -> Metric:
    own = name if name in metrics else known_as(name)
    if own in metrics:
        return metrics[own]
    near = get_close_matches(name, metrics, 1)
    hint = f'Did you mean "{near[0]}"?' if near else f"Judged here: {', '.join(metrics)}."
    shown = json.dumps(name[:80], ensure_ascii=False)
    raise _WrongError(f"the agent is not held to a judged metric {shown}.", hint)


def _sample(fields: Mapping[str, Any]) -> Sample:
    contexts = _texts(fields, "contexts")
    return Sample(
        input=as_text(fields["input"]),
        output=as_text(fields["output"]),
        expected=as_text(fields["expected"]) if "expected" in fields else None,
        contexts=contexts,
        reference_contexts=contexts,
        tool_calls=_calls(fields, "tool_calls"),
        expected_tools=_calls(fields, "expected_tools"),
    )


def _texts(fields: Mapping[str, Any], name: str) -> list[str] | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, list) or not all(isinstance(one, str) for one in value)):
        raise _WrongError(f'"{name}" is no list of texts.', 'Write it as JSON: ["one", "two"].')
    return value


def _calls(fields: Mapping[str, Any], name: str) -> list[ToolCall] | None:
    try:
        return parse_tool_calls(fields.get(name))
    except MalformedError:
        repair = 'Write it as JSON: [{"name": "search", "arguments": {"city": "Oslo"}}], or ["search"].'
        raise _WrongError(f'"{name}" is no list of tool calls.', repair) from None


def _grade(value: Any, metric: Metric) -> float:
    """The grade as a number of the metric's scale; raises _WrongError."""
    grades = scale_of(metric)
    shown = json.dumps(value, ensure_ascii=False)[:40]
    if _is_of_two(grades):
        passes = value if isinstance(value, bool) else WORDS.get(str(value).lower())
        if passes is not None:
            return metric.best if passes else metric.worst
    number = _number(value)
    if grades is None and metric.direction == "lower":
        message = f"grade {shown}: less is better in {metric.name}, so that a number could mean either."
        raise _WrongError(message, "Write pass or fail.")
    if grades is None:
        if not metric.low <= number <= metric.high:
            repair = f"Write pass, fail, or a number from {metric.low:g} to {metric.high:g}."
            raise _WrongError(f"grade {shown} is not one of {metric.name}.", repair)
        return number
    near = min(grades, key=lambda grade: abs(grade - number)) if math.isfinite(number) else math.nan
    if not abs(near - number) < 1e-9:  # noqa: PLR2004 0.1 + 0.2
        raise _WrongError(
            f"grade {shown} is not one of {metric.name}.",
            f"Its grades: {', '.join(f'{grade:g}' for grade in grades)}.",
        )
    return near


def _number(value: Any) -> float:
    """A number or its text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
