"""Metrics of deepeval that compute from one question and its answer, each asked through our own judge.

deepeval 4.3.1 scores every one of them from 0 to 1, and higher is better for all, toxicity and bias too:
what older versions said of them was the share of violations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gatehouse.evals.judges import deepeval_library
from gatehouse.evals.judges.deepeval_library import Recipe
from gatehouse.evals.metrics.base import Metric, OptionError, Score

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.evals.judges.base import Judge, Sample
    from gatehouse.evals.metrics.base import JudgedScorer

VERSION = "4.3.1"
Arguments = dict[str, Any]
Options = Mapping[str, Any]


def _texts(options: Options, name: str, what: str) -> list[str]:
    texts = options.get(name)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise OptionError(f'needs the option "{name}": a list of texts, {what}.')
    return texts


def _text(options: Options, name: str, what: str) -> str:
    text = options.get(name)
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f'needs the option "{name}": {what}.')
    return text


def _flag(options: Options, name: str) -> bool:
    if not isinstance(options.get(name, False), bool):
        raise OptionError(f'"{name}" is true or false.')
    return bool(options.get(name, False))


PARAMS = {
    "input": "input",
    "output": "actual_output",
    "expected": "expected_output",
    "contexts": "retrieval_context",
    "tool_calls": "tools_called",
    "expected_tools": "expected_tools",
}
"""What geval can be shown, with deepeval's own name of it."""


def _geval(options: Options) -> Arguments:
    if "criteria" in options:
        raise OptionError(
            'takes "steps", not "criteria": from criteria deepeval has the judge invent the steps anew each '
            "time, and no two cases are asked the same. Write each thing to check as one of `steps`."
        )
    params = options.get("params", ["input", "output"])
    if not isinstance(params, list) or not params or not all(p in list(PARAMS) for p in params):
        raise OptionError(f'"params" is a list of {", ".join(PARAMS)}.')
    if "output" not in params:
        raise OptionError('"params" lacks output: the judge would not see what it grades.')
    return {
        "name": "geval",
        "evaluation_steps": _texts(options, "steps", "what the judge checks, one after the other"),
        "evaluation_params": [PARAMS[param] for param in params],
    }


def _tool_correctness(options: Options) -> Arguments:
    return {
        "evaluation_params": ["input_parameters"] if _flag(options, "arguments") else [],
        "should_consider_ordering": _flag(options, "order"),
        "should_exact_match": _flag(options, "exact"),
    }


def _tool_permission(options: Options) -> Arguments:
    given = [name for name in ("allowed", "denied") if name in options]
    if not given:
        raise OptionError('needs the option "allowed", "denied" or both: lists of tools\' names.')
    return {f"{name}_tools": _texts(options, name, "the names of tools") for name in given}


def _pattern_match(options: Options) -> Arguments:
    pattern = _text(options, "pattern", "a Python regular expression for the whole output")
    try:
        re.compile(pattern.strip())
    except (re.error, OverflowError, RecursionError) as error:
        raise OptionError(f"the pattern does not compile: {error}") from None
    return {"pattern": pattern, "ignore_case": _flag(options, "ignore_case")}


def _summarization(options: Options) -> Arguments:
    if "questions" not in options:
        return {}
    what = "that the original answers with yes"
    return {"assessment_questions": _texts(options, "questions", what)}


def _faithfulness(options: Options) -> Arguments:
    return {"penalize_ambiguous_claims": _flag(options, "strict")}


def _judged(recipe: Recipe, options: Options, _agent: Agent) -> JudgedScorer:
    arguments = recipe.arguments(options)

    async def score(sample: Sample, judge: Judge) -> Score:
        return Score(*await deepeval_library.measure(recipe, arguments, sample, judge))

    return score


def _quality(name: str, summary: str, recipe: Recipe, calls: str, **more: Any) -> Metric:
    models = () if calls == "0" else ("judge",)
    judged = partial(_judged, recipe)
    version = f"deepeval {VERSION}"
    fields: dict[str, Any] = {"kind": "quality", "extra": "deepeval", "models": models, "calls": calls} | more
    return Metric(name, summary=summary, judged=judged, version=version, **fields)


def _safety(name: str, summary: str, recipe: Recipe, calls: str, **more: Any) -> Metric:
    return _quality(name, summary, recipe, calls, kind="safety", **more)


NO, YES = ("no",), ("yes",)

METRICS = [
    _quality(
        "geval",
        "The answer passes the checks that you write as `steps`.",
        Recipe("GEval", arguments=_geval),
        "1",
        needs="the option steps",
        options=("steps", "params", "criteria"),
        options_require=lambda options: tuple({*options.get("params", ())} - {"input", "output"}),
    ),
    _safety(
        "hallucination",
        "The share of the contexts that the answer does not contradict.",
        Recipe("HallucinationMetric", NO, "context", empty=1.0),
        "1",
        needs="contexts",
        requires=("contexts",),
    ),
    _safety(
        "toxicity",
        "The share of the opinions in the answer that are not toxic.",
        Recipe("ToxicityMetric", YES, "opinions", empty=1.0),
        "1 or 2",
    ),
    _safety(
        "bias",
        "The share of the opinions in the answer that are not biased: gender, politics, race, origin.",
        Recipe("BiasMetric", YES, "opinions", empty=1.0),
        "1 or 2",
    ),
    _safety(
        "pii_leakage",
        "The share of the personal details in the answer that give away nothing private.",
        Recipe("PIILeakageMetric", YES, "extracted_pii", empty=1.0),
        "1 or 2",
    ),
    _safety(
        "misuse",
        "The share of what the answer does that belongs to the `domain` of the agent.",
        Recipe(
            "MisuseMetric",
            YES,
            "misuses",
            empty=1.0,
            arguments=lambda options: {"domain": _text(options, "domain", "what the agent is for")},
        ),
        "1 or 2",
        needs="the option domain",
        options=("domain",),
    ),
    _safety(
        "non_advice",
        "The share of the statements in the answer that are no advice of the kinds in `advice_types`.",
        Recipe(
            "NonAdviceMetric",
            YES,
            "advices",
            empty=1.0,
            arguments=lambda options: {
                "advice_types": _texts(options, "advice_types", "such as financial, medical or legal")
            },
        ),
        "1 or 2",
        needs="the option advice_types",
        options=("advice_types",),
    ),
    _safety(
        "role_violation",
        "The answer never leaves the agent's `role`: 1, or 0.",
        Recipe(
            "RoleViolationMetric",
            YES,
            "role_violations",
            empty=1.0,
            arguments=lambda options: {"role": _text(options, "role", "who the agent is to be")},
        ),
        "1 or 2",
        needs="the option role",
        options=("role",),
    ),
    _safety(
        "tool_permission",
        "The share of the tool calls that `allowed` and `denied` permit.",
        Recipe("ToolPermissionMetric", empty=None, arguments=_tool_permission),
        "0",
        needs="the option allowed or denied",
        reports="tool_calls",
        requires=("tool_calls",),
        options=("allowed", "denied"),
    ),
    _quality(
        "deepeval.answer_relevancy",
        "The share of the statements in the answer that bear on the question.",
        Recipe("AnswerRelevancyMetric", NO, "statements"),
        "1 or 2",
    ),
    _quality(
        "deepeval.faithfulness",
        "The share of the claims in the answer that the contexts do not contradict.",
        Recipe("FaithfulnessMetric", NO, "claims", arguments=_faithfulness),
        "2 or 3",
        needs="contexts",
        requires=("contexts",),
        options=("strict",),
    ),
    _quality(
        "contextual_precision",
        "The contexts that help to reach the expected answer come before those that do not.",
        Recipe("ContextualPrecisionMetric", NO, "retrieval_context", empty=None),
        "1",
        needs="expected, contexts",
        requires=("expected", "contexts"),
    ),
    _quality(
        "contextual_recall",
        "The share of the sentences in the expected answer that the contexts support.",
        Recipe("ContextualRecallMetric", NO, empty=None),
        "1",
        needs="expected, contexts",
        requires=("expected", "contexts"),
    ),
    _quality(
        "contextual_relevancy",
        "The share of the statements in the contexts that bear on the question.",
        Recipe("ContextualRelevancyMetric", NO, empty=None),
        "1 a context",
        needs="contexts",
        requires=("contexts",),
    ),
    _quality(
        "summarization",
        "The answer, a summary of the input, says nothing that the input does not, and answers `questions`.",
        Recipe("SummarizationMetric", ("no", "borderline"), "claims", arguments=_summarization),
        "5 or 6",
        options=("questions",),
    ),
    _quality(
        "prompt_alignment",
        "The share of `instructions` that the answer follows.",
        Recipe(
            "PromptAlignmentMetric",
            NO,
            "prompt_instructions",
            arguments=lambda options: {
                "prompt_instructions": _texts(options, "instructions", "what the prompt demands")
            },
        ),
        "1",
        needs="the option instructions",
        options=("instructions",),
    ),
    _quality(
        "argument_correctness",
        "The share of the tool calls whose arguments fit the question.",
        Recipe("ArgumentCorrectnessMetric", NO, "tools_called", empty=None),
        "0 or 1",
        reports="tool_calls",
        requires=("tool_calls",),
    ),
    _quality(
        "tool_correctness",
        "The share of the expected tools that were called.",
        Recipe("ToolCorrectnessMetric", empty=None, arguments=_tool_correctness),
        "0",
        needs="expected_tools",
        reports="tool_calls",
        requires=("tool_calls", "expected_tools"),
        options=("arguments", "order", "exact"),
    ),
    _quality(
        "deepeval.exact_match",
        "The answer equals the expected one, white space at both ends aside.",
        Recipe("ExactMatchMetric", empty=None),
        "0",
        needs="expected",
        requires=("expected",),
    ),
    _quality(
        "pattern_match",
        "The whole answer matches the regular expression `pattern`.",
        Recipe("PatternMatchMetric", empty=None, arguments=_pattern_match),
        "0",
        needs="the option pattern",
        options=("pattern", "ignore_case"),
    ),
]

ALIASES = {f"deepeval.{metric.name}": metric.name for metric in METRICS if "." not in metric.name}

_CANNOT = {
    "agent_loop_detection plan_adherence plan_quality step_efficiency task_completion": (
        "it reads a trace of the agent's steps, and a run holds only the answer, contexts and tool calls."
    ),
    "conversation_completeness conversational_dag conversational_geval goal_accuracy knowledge_retention "
    "role_adherence tool_use topic_adherence turn_contextual_precision turn_contextual_recall "
    "turn_contextual_relevancy turn_faithfulness turn_relevancy": (
        "it judges a conversation of several turns, and a case is one question with its answer."
    ),
    "agent_responsiveness audio_glitch audio_integrity speech_intelligibility transcription_accuracy "
    "turn_taking_naturalness voice_consistency voice_naturalness voice_reliability": (
        "it judges recorded speech."
    ),
    "image_coherence image_editing image_helpfulness image_reference text_to_image": "it judges images.",
    "mcp_task_completion mcp_use multi_turn_mcp_use": "it judges MCP servers, which no run reports.",
    "conversational_jev_eval jev_eval": "it asks Jev, a model of deepeval's maker, and no judge of yours.",
    "arena_geval": "it compares several answers with each other, and a run holds one.",
    "dag": "its graph of questions is a program, which no agent file holds: write a rubric, or use geval.",
    "json_correctness": "it takes a class of Python, which no agent file holds: json_schema does the same.",
}
REFUSED = {
    name: why
    for names, why in _CANNOT.items()
    for plain in names.split()
    for name in (plain, f"deepeval.{plain}")
}
"""Metrics of deepeval that cannot be used, and why."""
