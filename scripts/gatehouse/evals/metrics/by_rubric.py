"""Metrics of the user's own rubrics: `evals/rubrics/NAME.yaml`, one metric for each thing that it grades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.agent.schema import nearest
from gatehouse.agent.source import RefusedError, locate
from gatehouse.errors import Problem, UserError
from gatehouse.evals.judges.base import UndecidedError
from gatehouse.evals.judges.question import question, reply_schema, rubric_digest
from gatehouse.evals.judges.rubric import NAME, load_rubric
from gatehouse.evals.metrics.base import JudgedScorer, Metric, Score

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.judges.base import Judge, Sample
    from gatehouse.evals.judges.rubric import Dimension, Rubric

FOLDER = "evals/rubrics"
MAX_SUMMARY = 120


def rubric_metric(name: str, root: Path) -> Metric | None:
    """The metric of a rubric: `NAME`, or `NAME.DIMENSION` where it grades several things.

    None where `root` has no such file; raises UserError with every fault of the file, and where the name does
    not say which of its dimensions is meant.
    """
    stem, _, wanted = name.partition(".")
    if stem not in _stems(root):
        return None
    rubric = load_rubric(f"{FOLDER}/{stem}.yaml", root)
    by_name = {dimension.name: dimension for dimension in rubric.dimensions}
    if wanted not in by_name:
        raise UserError(_which(rubric, stem, wanted))
    return _metric(name, rubric, by_name[wanted])


def rubric_names(root: Path) -> list[str]:
    """The name of every metric that the rubrics make; of a broken file its own."""
    names = []
    for stem in _stems(root):
        try:
            rubric = load_rubric(f"{FOLDER}/{stem}.yaml", root)
        except UserError:
            names.append(stem)
        else:
            names += _names(rubric, stem)
    return names


def _stems(root: Path) -> list[str]:
    """The names of the rubric files; as they are listed, for on some systems `open` takes any case."""
    try:
        files = sorted(entry.name for entry in locate(root, FOLDER).iterdir())
    except (RefusedError, OSError):
        return []
    stems = [name.removesuffix(".yaml") for name in files if name.endswith(".yaml")]
    return [stem for stem in stems if NAME.fullmatch(stem)]


def _names(rubric: Rubric, stem: str) -> list[str]:
    return [f"{stem}.{one.name}" if one.name else stem for one in rubric.dimensions]


def _which(rubric: Rubric, stem: str, wanted: str) -> Problem:
    names = _names(rubric, stem)
    if names == [stem]:
        message, repair = "this rubric has no dimensions.", f"Its metric is {stem}."
    elif wanted:
        repair = nearest(f"{stem}.{wanted}", names) or f"Its metrics are {', '.join(names)}."
        message = f'this rubric has no dimension "{wanted[:80]}".'
    else:
        message, repair = "this rubric has several dimensions.", f"Its metrics are {', '.join(names)}."
    return Problem(message, path=rubric.path, repair=repair)


def _metric(name: str, rubric: Rubric, dimension: Dimension) -> Metric:
    requires = tuple(what for what in ("expected", "contexts") if what in rubric.shows)
    low, high = dimension.scale
    summary = " ".join(dimension.criteria.split())

    def judged(_options: Mapping[str, Any], _agent: Agent) -> JudgedScorer:
        return _scorer(rubric, dimension)

    return Metric(
        name,
        dimension.kind,
        summary if len(summary) <= MAX_SUMMARY else summary[: MAX_SUMMARY - 1] + "…",
        needs=", ".join(["a judge", *requires]),
        judged=judged,
        requires=requires,
        models=("judge",),
        calls="1",
        low=low,
        high=high,
        step=1,
        version=rubric_digest(rubric),
    )


def _scorer(rubric: Rubric, dimension: Dimension) -> JudgedScorer:
    schema = reply_schema(rubric)

    async def score(sample: Sample, judge: Judge) -> Score:
        reply = await judge.ask(question(rubric, _shown(rubric, sample)), schema)
        grade, reason = _graded(reply, dimension)
        if grade is None:
            raise UndecidedError(reason)
        return Score(float(grade), reason)

    return score


def _shown(rubric: Rubric, sample: Sample) -> dict[str, str | list[str]]:
    """What the rubric shows of a sample, in its order; the sample has what the metric requires."""
    whole: dict[str, str | list[str]] = {
        "input": sample.input,
        "answer": sample.output,
        "expected": sample.expected or "",
        "contexts": sample.contexts or [],
    }
    return {what: whole[what] for what in rubric.shows}


def _graded(reply: Any, dimension: Dimension) -> tuple[int | None, str]:
    """Grade and reason in a reply that follows the schema."""
    graded = reply[dimension.name] if dimension.name else reply
    grade = graded["grade"]
    return None if grade is None else int(grade), str(graded["reason"]).strip()
