"""Metrics of the output itself: exact match, contains, regex, JSON Schema."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import as_text
from gatehouse.errors import UserError
from gatehouse.evals.metrics.base import Metric, OptionError, Score, Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case


def as_json(value: Any) -> Any:
    """An output as JSON: text is parsed, what does not parse stays text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value.strip()


def same_json(a: Any, b: Any) -> bool:
    """Equality as JSON means it: 1 equals 1.0, but true is not 1, at any depth."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return bool(a == b)


def matches(output: Any, expected: Any) -> bool:
    """Exact match: text by its characters (outer white space aside), objects and lists as JSON."""
    if isinstance(output, str) and isinstance(expected, str) and output.strip() == expected.strip():
        return True
    left, right = as_json(output), as_json(expected)
    # Two texts that happen to be JSON scalars stay texts: "1.0" is not "1", "007" is not "7".
    if isinstance(output, str) and isinstance(expected, str) and not isinstance(right, dict | list):
        return False
    return same_json(left, right)


def _exact_match(_options: Mapping[str, Any], _agent: Agent) -> Scorer:
    def score(case: Case, run: Run) -> Score | None:
        if not case.has_expected:
            return None
        return (
            Score(1.0)
            if matches(run.output, case.expected)
            else Score(0.0, "differs from the expected output")
        )

    return score


def _texts(options: Mapping[str, Any]) -> list[str]:
    texts = options.get("text", [])
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
        raise OptionError('"text" is a text, or a list of them.')
    return texts


def _contains(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    texts = _texts(options)

    def score(case: Case, run: Run) -> Score | None:
        wanted = texts or ([as_text(case.expected)] if case.expected not in (None, "") else [])
        if not wanted:
            return None
        output = as_text(run.output).casefold()
        missing = [text for text in wanted if text.casefold() not in output]
        return (
            Score(0.0, "does not contain " + ", ".join(map(json.dumps, missing))) if missing else Score(1.0)
        )

    return score


def _not_contains(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    texts = _texts(options)
    if not texts:
        raise OptionError('needs the option "text": what no output may contain.')

    def score(_case: Case, run: Run) -> Score:
        output = as_text(run.output).casefold()
        found = [text for text in texts if text.casefold() in output]
        return Score(0.0, "contains " + ", ".join(map(json.dumps, found))) if found else Score(1.0)

    return score


def _regex(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    text = options.get("pattern")
    if not isinstance(text, str) or not text:
        raise OptionError(
            'needs the option "pattern": a Python regular expression that every output matches.'
        )
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise OptionError(f"the pattern does not compile: {error}") from None

    def score(_case: Case, run: Run) -> Score:
        return Score(1.0) if pattern.search(as_text(run.output)) else Score(0.0, "does not match the pattern")

    return score


def _json_schema(_options: Mapping[str, Any], agent: Agent) -> Scorer:
    if agent.output_schema is None:
        raise OptionError("needs guardrails.output_schema in the agent file.")
    # 65 ms of import that only an agent with a schema pays for.
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    schema = agent.output_schema
    # An empty registry: a $ref to the network is an error, never a download.
    validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())

    def score(_case: Case, run: Run) -> Score:
        try:
            error = next(iter(validator.iter_errors(as_json(run.output))), None)
        except RecursionError:
            return Score(0.0, "is nested too deeply for the output schema")
        except Unresolvable as fault:
            message = f'"output_schema" refers to {fault.ref}, which it does not hold.'
            repair = "Copy it under $defs: nothing is fetched."
            problem = agent.problem("guardrails", "output_schema", message=message, repair=repair, value=True)
            raise UserError(problem, left="Nothing was scored.") from None
        if error is None:
            return Score(1.0)
        where = "/".join(map(str, error.absolute_path))
        return Score(0.0, f"breaks the output schema{' at ' + where if where else ''}: {error.message[:300]}")

    return score


METRICS = [
    Metric(
        "exact_match",
        "quality",
        "The output equals the expected one, JSON compared as JSON.",
        _exact_match,
        needs="expected",
    ),
    Metric(
        "contains",
        "quality",
        "The output contains `text` (or the expected output), in any case.",
        _contains,
        needs="expected, or the option text",
        options=("text",),
    ),
    Metric(
        "not_contains",
        "safety",
        "The output contains none of `text`, in any case.",
        _not_contains,
        needs="the option text",
        options=("text",),
    ),
    Metric(
        "regex",
        "quality",
        "The output matches the regular expression `pattern`.",
        _regex,
        needs="the option pattern",
        options=("pattern",),
    ),
    Metric(
        "json_schema",
        "safety",
        "The output is JSON that follows guardrails.output_schema.",
        _json_schema,
        needs="guardrails.output_schema",
        implied=lambda agent: agent.output_schema is not None,
    ),
]
