"""Metrics of what the agent did: the tools it called."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from gatehouse.evals.metrics.base import Metric, OptionError, Score, Scorer
from gatehouse.evals.metrics.text import same_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run, ToolCall
    from gatehouse.evals.dataset import Case


def meets(call: ToolCall, expected: ToolCall) -> bool:
    """Whether a call is the expected one: its name, and every argument that the golden set names."""
    return call.name == expected.name and all(
        name in call.arguments and same_json(call.arguments[name], value)
        for name, value in expected.arguments.items()
    )


def compare_calls(made: Sequence[ToolCall], expected: Sequence[ToolCall], match: str) -> Score:
    """Score the calls that were made, 1 or 0, with the first difference in words.

    `match`: "set" (the expected ones and no others, in any order and number), "subset" (others may be made
    too), "order" (exactly these, in this order).
    """
    if match == "order":
        if len(made) == len(expected) and all(map(meets, made, expected)):
            return Score(1.0)
        return Score(0.0, f"called {_names(made)}, expected in this order {_names(expected)}")
    for wanted in expected:
        if not any(meets(call, wanted) for call in made):
            arguments = json.dumps(wanted.arguments, ensure_ascii=False) if wanted.arguments else ""
            return Score(0.0, f"did not call {wanted.name}{arguments}; called {_names(made)}")
    extra = [c for c in made if match == "set" and not any(meets(c, wanted) for wanted in expected)]
    return Score(0.0, f"called {_names(extra)}, which was not expected") if extra else Score(1.0)


def _names(calls: Sequence[ToolCall]) -> str:
    counted = Counter(call.name for call in calls)
    return ", ".join(name if n == 1 else f"{name} ({n} times)" for name, n in counted.items()) or "nothing"


def _tool_calls(options: Mapping[str, Any], _agent: Agent) -> Scorer:
    match = options.get("match", "set")
    if match not in ("set", "subset", "order"):
        raise OptionError('"match" is set, subset or order.')

    def score(case: Case, run: Run) -> Score | None:
        if case.expected_tools is None:
            return None
        if run.tool_calls is None:
            return Score(0.0, "the agent reports no tool_calls")
        return compare_calls(run.tool_calls, case.expected_tools, match)

    return score


METRICS = [
    Metric(
        "tool_calls",
        "quality",
        "The agent made the expected tool calls: names, and the arguments given.",
        _tool_calls,
        needs="expected_tools",
        options=("match",),
    ),
]
