"""Metrics of ragas 0.4.3 (https://docs.ragas.io): its prompts and its arithmetic, asked through our judge.

A table says what each metric takes, so that naming one, listing them and reading a verdict import nothing;
the library itself is imported where a judge is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.evals.metrics.base import Metric, OptionError, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.judges.base import Judge, Sample
    from gatehouse.evals.metrics.base import JudgedScorer

VERSION = "0.4.3"


@dataclass(frozen=True, slots=True)
class _Option:
    """An option's values: whether one is right, and which are, in words."""

    right: Callable[[Any], bool]
    words: str


def _one_of(*values: str) -> _Option:
    return _Option(lambda value: value in values, f"{', '.join(values[:-1])} or {values[-1]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_weights(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 two weights
        return False
    return all(_is_number(one) and one >= 0 for one in value) and sum(value) > 0


@dataclass(frozen=True, slots=True)
class _Spec:
    """One metric of the library: its class, what its `ascore` takes, and what it asks.

    `fixed` goes to its constructor; `ratings` is what a reply's rating may be; `unsupported` introduces the
    statements that the judge denied, in a score's reason.
    """

    library: str
    takes: tuple[str, ...]
    summary: str
    calls: str
    models: tuple[str, ...] = ("judge",)
    direction: Literal["higher", "lower"] = "higher"
    options: Mapping[str, _Option] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ratings: tuple[int, ...] = ()
    unsupported: str = ""

    @property
    def requires(self) -> tuple[str, ...]:
        """What a sample must hold. For an SQL query contexts are the schema, which it can do without."""
        contexts = "retrieved_contexts" in self.takes or self.library == "SummaryScore"
        return ("expected",) * ("reference" in self.takes) + ("contexts",) * contexts


INPUT, OUTPUT, EXPECTED = "user_input", "response", "reference"
CONTEXTS, SOURCES = "retrieved_contexts", "reference_contexts"
BOTH = ("judge", "embeddings")

_SPECS = {
    "faithfulness": _Spec(
        "Faithfulness",
        (INPUT, OUTPUT, CONTEXTS),
        "The share of the answer's statements that the contexts support.",
        "2",
        unsupported="not in the contexts",
    ),
    "answer_relevancy": _Spec(
        "AnswerRelevancy",
        (INPUT, OUTPUT),
        "How near the question that the answer would answer is to the one asked; 0 for an evasive answer.",
        "1, and 2 embeddings",
        BOTH,
        fixed={"strictness": 1},  # three askings of one question at temperature 0 are one
    ),
    "context_precision": _Spec(
        "ContextPrecision",
        (INPUT, EXPECTED, CONTEXTS),
        "Whether the contexts that help to give the expected answer come first (average precision).",
        "1 a context",
    ),
    "context_precision_without_reference": _Spec(
        "ContextPrecisionWithoutReference",
        (INPUT, OUTPUT, CONTEXTS),
        "Whether the contexts that helped to give the agent's answer come first (average precision).",
        "1 a context",
    ),
    "context_recall": _Spec(
        "ContextRecall",
        (INPUT, CONTEXTS, EXPECTED),
        "The share of the expected answer's statements that the contexts hold.",
        "1",
        unsupported="not in the contexts",
    ),
    "context_entity_recall": _Spec(
        "ContextEntityRecall",
        (EXPECTED, CONTEXTS),
        "The share of the names in the expected answer that the contexts hold; 0 where it has none.",
        "2",
    ),
    "context_relevance": _Spec(
        "ContextRelevance",
        (INPUT, CONTEXTS),
        "Whether the contexts hold what the question needs: 0, 0.5 or 1, the mean of two prompts.",
        "2",
        ratings=(0, 1, 2),
    ),
    "response_groundedness": _Spec(
        "ResponseGroundedness",
        (OUTPUT, CONTEXTS),
        "Whether the contexts support the answer as a whole: 0, 0.5 or 1, the mean of two prompts.",
        "2",
        ratings=(0, 1, 2),
    ),
    "factual_correctness": _Spec(
        "FactualCorrectness",
        (OUTPUT, EXPECTED),
        "How far the claims of the answer and of the expected one support each other (F1, two decimals).",
        "4; 2 with mode: precision",
        options={
            "mode": _one_of("precision", "recall", "f1"),
            "beta": _Option(lambda value: _is_number(value) and value > 0, "a number above 0"),
            "atomicity": _one_of("low", "high"),
            "coverage": _one_of("low", "high"),
        },
        unsupported="claims without support",
    ),
    "noise_sensitivity": _Spec(
        "NoiseSensitivity",
        (INPUT, OUTPUT, EXPECTED, CONTEXTS),
        "The share of the answer's statements that are wrong and come from a context; lower is better.",
        "3 + 2 a context",
        direction="lower",
        options={"mode": _one_of("relevant", "irrelevant")},
    ),
    "answer_correctness": _Spec(
        "AnswerCorrectness",
        (INPUT, OUTPUT, EXPECTED),
        "Statements shared with the expected answer (F1) and likeness to it, weighed 3 to 1.",
        "3, and 2 embeddings",
        BOTH,
        options={
            "weights": _Option(_is_weights, "two numbers of 0 or more, for statements and for likeness")
        },
    ),
    "semantic_similarity": _Spec(
        "SemanticSimilarity",
        (EXPECTED, OUTPUT),
        "The cosine between the embeddings of the answer and of the expected one.",
        "2 embeddings",
        ("embeddings",),
    ),
    "answer_accuracy": _Spec(
        "AnswerAccuracy",
        (INPUT, OUTPUT, EXPECTED),
        "Whether the answer agrees with the expected one: 0, 0.5 or 1, the mean of two prompts.",
        "2",
        ratings=(0, 2, 4),
    ),
    "summary_score": _Spec(
        "SummaryScore",
        (SOURCES, OUTPUT),
        "The share of questions on the contexts that the answer, a summary, answers, and how short it is.",
        "3",
        options={
            "coeff": _Option(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
        },
    ),
    "sql_semantic_equivalence": _Spec(
        "SQLSemanticEquivalence",
        (OUTPUT, EXPECTED, SOURCES),
        "Whether the answer, an SQL query, gives what the expected one gives; contexts may hold the schema.",
        "1",
    ),
}


def _judged(spec: _Spec, options: Mapping[str, Any], _agent: Agent) -> JudgedScorer:
    """The function that scores a sample; raises OptionError."""
    for name, value in options.items():
        if name in spec.options and not spec.options[name].right(value):
            raise OptionError(f'"{name}" is {spec.options[name].words}.')
    arguments = {**spec.fixed, **options}

    async def score(sample: Sample, judge: Judge) -> Score:
        from gatehouse.evals.judges import ragas_library  # noqa: PLC0415 where a judge is asked

        wanted = sample.expected is None or sample.expected.strip()
        if OUTPUT in spec.takes and wanted and not sample.output.strip():  # ragas refuses to look at it
            return Score(1.0 if spec.direction == "lower" else 0.0, "the answer is empty")
        metric = ragas_library.Asked(judge, spec.library, spec.models, arguments, spec.ratings)
        score = await metric.score(_inputs(spec, sample))
        return score if score.reason else score._replace(reason=_reason(spec, metric.replies))

    return score


def _inputs(spec: _Spec, sample: Sample) -> dict[str, Any]:
    """What the metric is given, by the library's names."""
    values = {
        INPUT: sample.input,
        OUTPUT: sample.output,
        EXPECTED: sample.expected,
        CONTEXTS: sample.contexts,
        SOURCES: sample.reference_contexts or sample.contexts,
    }
    return {name: values[name] for name in spec.takes}


def _reason(spec: _Spec, replies: Sequence[Mapping[str, Any]]) -> str:
    """The statements that the judge denied, where the metric counts them."""
    if any(reply.get("noncommittal") for reply in replies):
        return "the answer is noncommittal"
    items = [one for reply in replies for part in reply.values() if isinstance(part, list) for one in part]
    denied = [
        one["statement"]
        for one in items
        if spec.unsupported and isinstance(one, dict) and not one.get("verdict", one.get("attributed"))
    ]
    return f"{spec.unsupported}: {' '.join('; '.join(denied).split())[:300]}" if denied else ""


METRICS = [
    Metric(
        name,
        "quality",
        spec.summary,
        direction=spec.direction,
        needs=", ".join(spec.requires),
        options=tuple(spec.options),
        version=f"ragas {VERSION}",
        judged=partial(_judged, spec),
        extra="ragas",
        requires=spec.requires,
        models=spec.models,
        calls=spec.calls,
    )
    for name, spec in _SPECS.items()
]

ALIASES = {
    "answer_relevance": "answer_relevancy",
    "response_relevancy": "answer_relevancy",
    "context_precision_with_reference": "context_precision",
    "context_utilization": "context_precision_without_reference",
    "answer_similarity": "semantic_similarity",
    "answer_semantic_similarity": "semantic_similarity",
}
ALIASES |= {f"ragas.{name}": name for name in _SPECS} | {f"ragas.{name}": to for name, to in ALIASES.items()}

_TURNS = "it judges a conversation of several turns, and a case is one."
_RUBRIC = "write the rubric as evals/rubrics/NAME.yaml and name the metric NAME."
_IMAGES = "it looks at images, and a case holds texts; for texts use"
REFUSED = {
    "agent_goal_accuracy": f"{_TURNS} Use answer_accuracy, or a rubric in evals/rubrics.",
    "agent_goal_accuracy_with_reference": f"{_TURNS} Use answer_accuracy, or a rubric in evals/rubrics.",
    "agent_goal_accuracy_without_reference": f"{_TURNS} Use a rubric in evals/rubrics.",
    "topic_adherence": f"{_TURNS} Use a rubric in evals/rubrics.",
    "tool_call_accuracy": f"{_TURNS} Use tool_calls with match: order.",
    "tool_call_f1": f"{_TURNS} Use tool_calls.",
    "multi_modal_faithfulness": f"{_IMAGES} faithfulness.",
    "multi_modal_relevance": f"{_IMAGES} context_relevance.",
    "aspect_critic": f"it takes a text of your own: {_RUBRIC}",
    "domain_specific_rubrics": f"it takes a rubric of your own: {_RUBRIC}",
    "instance_specific_rubrics": f"it takes a rubric for each case: {_RUBRIC}",
    "rubrics_score_with_reference": f"it takes a rubric of your own: {_RUBRIC}",
    "rubrics_score_without_reference": f"it takes a rubric of your own: {_RUBRIC}",
    "bleu_score": "it needs the package sacrebleu. Use semantic_similarity.",
    "chrf_score": "it needs the package sacrebleu. Use semantic_similarity.",
    "rouge_score": "it needs the package rouge-score. Use semantic_similarity.",
    "non_llm_string_similarity": "it needs the package rapidfuzz. Use semantic_similarity.",
    "data_compare_score": "it needs the package datacompy. Use exact_match, which compares JSON as JSON.",
    "string_present": "ours asks no library: use contains.",
    "quoted_spans_alignment": "it takes what is between two apostrophes (it's ... don't) for a quotation. "
    "Use faithfulness.",
    # Without its prefix this name is a metric of our own.
    "ragas.exact_match": "ours asks no library: use exact_match.",
}
"""Names of ragas that are no metric here: why, and what to use."""
REFUSED |= {f"ragas.{name}": why for name, why in REFUSED.items() if "." not in name}
