"""Whether a judge is to be trusted: its agreement with people, kept in the repository.

`evals/calibration/METRIC.json` has an entry for each `Gate.method`, the digest of rubric, options and judges:
a changed rubric or judge finds no entry of its own, and so is not calibrated.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import sha256
from gatehouse.agent.protocol import replace_file
from gatehouse.agent.schema import faults
from gatehouse.agent.source import RefusedError, decode, locate, parse_json, read_file
from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.evals.agreement import (
    Agreement,
    Estimate,
    agreement,
    confusion,
    flips,
    rater_pairs,
)
from gatehouse.evals.judges.labels import read_bytes, scale_of, snapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gatehouse.evals.agreement import Flips, Pair, Weights
    from gatehouse.evals.judges.labels import Labelled, Labels
    from gatehouse.evals.metrics import Gate

    Holds = Callable[[float], bool]

FOLDER = "evals/calibration"
SCHEMA = 1
"""The version of the file that this code writes, and the newest that it reads."""
PASS_FAIL = (0.0, 1.0)
"""Fail and pass, the grades of a metric whose value is any number: both sides are held to its threshold."""
WIDTH = 100
"""Characters of the file's lines, where they can be parted."""
DIGITS = 6
"""Decimals of a statistic in the file: more would only make differences."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One way of judging held against people's labels.

    `pairs` (human, judge, count) are all that is measured: the judge's value is as the gate has it, and every
    statistic follows from them at any threshold. `grades` is the scale, None where any number is a value;
    `people` the agreement of people with each other, where a text has several raters; `flips` by judge.
    `undecided` texts the judge would not grade, on `split` ones the raters are; neither is in a pair.
    `doubt` says what is wrong with its labels as they are now, "" for nothing.
    """

    metric: str
    key: str
    judges: tuple[str, ...]
    embeddings: str | None
    version: int | str
    labels: str
    labels_digest: str
    date: str
    threshold: float
    direction: str
    grades: tuple[float, ...] | None
    pairs: tuple[tuple[float, float, int], ...]
    undecided: int = 0
    split: int = 0
    people: Agreement | None = None
    by_tag: Mapping[str, Agreement] | None = None
    flips: Mapping[str, Flips] | None = None
    doubt: str = ""

    @property
    def n(self) -> int:
        """Texts that both people and judge have graded."""
        return sum(count for _, _, count in self.pairs)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa at its own threshold; None where it is undefined."""
        found = self.agreement()
        return found.kappa.value if found and found.kappa else None

    def holds(self, value: float) -> bool:
        """Whether a value passes at its own threshold, as `Gate.holds` had it."""
        tolerance = 1e-9
        if self.direction == "higher":
            return value >= self.threshold - tolerance
        return value <= self.threshold + tolerance

    def spread(self) -> list[Pair]:
        """Each pair as often as it was counted."""
        return [(human, judge) for human, judge, count in self.pairs for _ in range(count)]

    def agreement(self, holds: Holds | None = None) -> Agreement | None:
        """The agreement at a threshold, by default its own; None without pairs."""
        return measure(self.spread(), self.grades, holds or self.holds)


def weights_of(grades: Sequence[float] | None) -> Weights:
    """How kappa counts a near miss: by its square on a scale of three grades or more."""
    return "quadratic" if grades and len(grades) > 2 else "none"  # noqa: PLR2004


def graded(pairs: Sequence[Pair], grades: Sequence[float] | None, holds: Holds) -> list[Pair]:
    """Pairs on a scale: each value's nearest grade, or pass and fail where there is none."""
    if grades:
        return [(snapped(human, grades), snapped(judge, grades)) for human, judge in pairs]
    return [(float(holds(human)), float(holds(judge))) for human, judge in pairs]


def measure(pairs: Sequence[Pair], grades: Sequence[float] | None, holds: Holds) -> Agreement | None:
    """The agreement of pairs on a metric's own scale; None without any."""
    if not pairs:
        return None
    return agreement(graded(pairs, grades, holds), grades or PASS_FAIL, weights_of(grades))


def calibrate(
    gate: Gate,
    labels: Labels,
    values: Sequence[float | None],
    repeated: Mapping[str, Sequence[Sequence[float | None]]],
    date: str,
) -> Calibration:
    """The calibration of a gate's judge from its value of each labelled text, None where it is undecided.

    A text on which the raters are split has no value that counts. `repeated` are each judge's grades of the
    same texts, for its flips.
    """
    metric, texts = gate.metric, labels.texts[gate.metric.name]
    scale = scale_of(metric)
    grades = tuple(scale) if scale else None
    both = [
        (text, text.grade, value)
        for text, value in zip(texts, values, strict=True)
        if text.grade is not None and value is not None
    ]
    tagged: dict[str, list[Pair]] = defaultdict(list)
    for text, human, judge in both:
        for tag in text.tags:
            tagged[tag].append((human, judge))
    counts = Counter((human, judge) for _, human, judge in both)
    by_tag = {tag: measure(tagged[tag], grades, gate.holds) for tag in sorted(tagged)}
    return Calibration(
        metric=metric.name,
        key=gate.method,
        judges=gate.judged_by.models,
        embeddings=gate.embeddings if "embeddings" in metric.models else None,
        version=metric.version,
        labels=labels.path,
        labels_digest=labels.digest,
        date=date,
        threshold=metric.best if gate.threshold is None else gate.threshold,
        direction=metric.direction,
        grades=grades,
        pairs=tuple((human, judge, counts[human, judge]) for human, judge in sorted(counts)),
        undecided=sum(text.grade is not None for text in texts) - len(both),
        split=sum(text.grade is None for text in texts),
        people=_people(texts, grades, gate.holds),
        by_tag={tag: found for tag, found in by_tag.items() if found},
        flips={
            judge: found
            for judge, votes in repeated.items()
            if (found := flips([_verdicts(given, grades, gate.holds) for given in votes]))
        },
    )


def _verdicts(given: Sequence[float | None], grades: Sequence[float] | None, holds: Holds) -> list[Any]:
    """Repeated grades of a text as they are compared: on a scale as they are, else whether they hold."""
    return [value if value is None or grades else holds(value) for value in given]


def _people(texts: Sequence[Labelled], grades: Sequence[float] | None, holds: Holds) -> Agreement | None:
    """The agreement of people with each other: without intervals where a text has more than one pair."""
    ratings = [text.ratings for text in texts if len(text.ratings) > 1]
    found = measure(rater_pairs(ratings), grades, holds)
    if found is None or max(map(len, ratings)) == 2:  # noqa: PLR2004 one pair a text: independent
        return found
    bare = [part and Estimate(part.value, None) for part in (found.kappa, found.share, found.bias)]
    return Agreement(len(ratings), bare[0], bare[1] or found.share, bare[2] or found.bias)


def path_of(metric: str) -> str:
    """The file of a metric's calibrations, relative to the repository's root; raises UserError."""
    if not re.fullmatch(r"[\w-][\w.-]{0,99}", metric):  # it comes from an agent file, and names a file here
        raise UserError(f"metric {metric[:100]!r} cannot be calibrated: its name is not usable for a file.")
    return f"{FOLDER}/{metric}.json"


def read_calibration(root: Path, metric: str, key: str) -> Calibration | None:
    """The calibration of this way of judging; None where there is none; raises UserError naming the file."""
    path = path_of(metric)
    entry = _entries(root, metric).get(key)
    if entry is None:
        return None
    calibration = _from_json(path, metric, key, entry)
    return replace(calibration, doubt=_doubt(root, calibration))


def _doubt(root: Path, calibration: Calibration) -> str:
    """Whether its labels are still those that it was measured on, where they are in the repository at all."""
    try:
        data = read_bytes(root, calibration.labels)
    except UserError:
        return f"its labels {calibration.labels[:200]} are not in the repository"
    changed = sha256(data) != calibration.labels_digest
    return "the labels have changed since: run `gatehouse calibrate`" if changed else ""


def last_day(root: Path, metric: str) -> str | None:
    """The day of the metric's latest calibration, whichever way of judging it is of; None without any."""
    return max((str(entry["date"]) for entry in _entries(root, metric).values()), default=None)


def write_calibration(root: Path, calibration: Calibration) -> str:
    """Put the calibration into its metric's file, the other entries kept, in one step; the file's path.

    Raises UserError where the file there is malformed, InfrastructureError where it cannot be written.
    """
    path = path_of(calibration.metric)
    entries = _entries(root, calibration.metric) | {calibration.key: to_json(calibration)}
    whole = {"schema": SCHEMA, "metric": calibration.metric, "entries": dict(sorted(entries.items()))}
    place = root / path  # within the repository, or its entries could not have been read
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, pretty(whole) + "\n")
    except OSError as e:
        raise InfrastructureError(f"{path}: it cannot be written: {e.strerror}.") from None
    return path


def _entries(root: Path, metric: str) -> dict[str, Any]:
    """Every entry of a metric's file, checked against its schema; none where there is no file."""
    path = path_of(metric)
    repair = "Take the file back from git, or remove it and calibrate again."
    try:
        if not locate(root, path).exists():
            return {}
        data = parse_json(decode(read_file(root, path), path))
    except RefusedError as e:
        raise UserError(Problem(e.message, path, e.line, repair=e.repair or repair)) from None
    if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
        message = f"it is of schema {data['schema']}, and this Gatehouse reads up to {SCHEMA}."
        raise UserError(Problem(message, path, repair="Use a newer Gatehouse."))
    found = [f"{'.'.join(map(str, fault.keys))}: {fault.message}" for fault in faults(data, "calibration")]
    if not found and data["metric"] != metric:
        found = [f'it is of metric "{data["metric"]}".']
    if found:
        raise UserError(*(Problem(message.removeprefix(": "), path, repair=repair) for message in found[:20]))
    return dict(data["entries"])


def _from_json(path: str, metric: str, key: str, entry: Mapping[str, Any]) -> Calibration:
    """A checked entry; raises UserError where its pairs are not what it says."""
    pairs = tuple((float(human), float(judge), int(count)) for human, judge, count in entry["pairs"])
    grades = tuple(map(float, entry["grades"])) if entry["grades"] else None
    wrong = ""
    if grades and list(grades) != sorted(set(grades)):
        wrong = '"grades" are not in order'
    elif grades and not {human for human, _, _ in pairs} <= {*grades}:
        wrong = "a grade of its pairs is not on its scale"
    elif sum(count for _, _, count in pairs) != entry["n"]:
        wrong = '"n" is not the number of its pairs'
    if wrong:
        repair = "Take the file back from git, or calibrate again."
        raise UserError(Problem(f"entry {key[:19]}: {wrong}.", path, repair=repair))
    return Calibration(
        metric=metric,
        key=key,
        judges=tuple(entry["judges"]),
        embeddings=entry["embeddings"],
        version=entry["version"],
        labels=entry["labels"]["path"],
        labels_digest=entry["labels"]["digest"],
        date=entry["date"],
        threshold=float(entry["threshold"]),
        direction=entry["direction"],
        grades=grades,
        pairs=pairs,
        undecided=entry["undecided"],
        split=entry["split"],
    )


def to_json(calibration: Calibration) -> dict[str, Any]:
    """The entry of a calibration: what was measured and, for people to read, what follows from it."""
    one, grades = calibration, calibration.grades
    scale = [_whole(grade) for grade in grades] if grades else None
    found = one.agreement()
    table = confusion(graded(one.spread(), grades, one.holds), grades or PASS_FAIL)
    return {
        "judges": list(one.judges),
        "embeddings": one.embeddings,
        "version": one.version,
        "labels": {"path": one.labels, "digest": one.labels_digest},
        "date": one.date,
        "n": one.n,
        "undecided": one.undecided,
        "split": one.split,
        "threshold": _whole(one.threshold),
        "direction": one.direction,
        "grades": scale,
        **_statistics(found, grades),
        "confusion": {"grades": scale or ["fail", "pass"], "counts": table},
        "people": one.people and _statistics(one.people, grades),
        "by_tag": {tag: _statistics(part, grades) for tag, part in (one.by_tag or {}).items()},
        "flips": {
            judge: {"texts": part.texts, "any": _estimate(part.any), "pairwise": _estimate(part.pairwise)}
            for judge, part in (one.flips or {}).items()
        },
        "pairs": [[_whole(human), _whole(judge), count] for human, judge, count in one.pairs],
    }


def _statistics(found: Agreement | None, grades: Sequence[float] | None) -> dict[str, Any]:
    if found is None:
        return {"kappa": None, "agreement": None, "bias": None}
    kappa = found.kappa and _estimate(found.kappa) | {"weights": weights_of(grades)}
    return {
        "n": found.n,
        "kappa": kappa,
        "agreement": _estimate(found.share),
        "bias": _estimate(found.bias),
    }


def _whole(value: float) -> float:
    """A number as it is written: 4 and not 4.0."""
    return int(value) if float(value).is_integer() else value


def _estimate(estimate: Estimate) -> dict[str, Any]:
    interval = estimate.interval and [round(end, DIGITS) for end in estimate.interval]
    return {"value": round(estimate.value, DIGITS), "interval": interval}


def pretty(value: Any, indent: str = "") -> str:
    """JSON with a line for each part that is short and flat, so that a changed number is a changed line."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or (len(plain) <= WIDTH and _is_flat(value)):
        return plain
    inner = indent + "  "
    if isinstance(value, dict):
        names = [json.dumps(name, ensure_ascii=False) for name in value]
        lines = [f"{name}: {pretty(item, inner)}" for name, item in zip(names, value.values(), strict=True)]
    else:
        lines = [pretty(item, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return start + "".join(f"\n{inner}{line}," for line in lines).removesuffix(",") + f"\n{indent}{end}"


def _is_flat(value: dict[str, Any] | list[Any]) -> bool:
    """Whether it holds nothing but plain values, and as an object lists of them."""
    if isinstance(value, dict):
        return not any(
            isinstance(item, dict) or (isinstance(item, list) and not _is_flat(item))
            for item in value.values()
        )
    return not any(isinstance(item, dict | list) for item in value)
