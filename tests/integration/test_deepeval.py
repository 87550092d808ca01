"""The real deepeval: its own prompts and arithmetic, asked over HTTP of a model that answers each by form."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.agent.protocol import ToolCall
from gatehouse.agent.providers import Endpoint, find_provider
from gatehouse.evals.judges import deepeval_library
from gatehouse.evals.judges.base import JudgeError, Sample
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.model import JudgeModel, Models
from gatehouse.evals.metrics import by_deepeval
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatehouse.evals.metrics.base import Score

METRICS = {metric.name: metric for metric in by_deepeval.METRICS}
LISTS = "opinions extracted_pii misuses advices role_violations statements claims truths answers questions"


def answered(prompt: str) -> dict[str, Any]:
    """What the model says: a word such as no1 or yes2 that it is shown is a thing to judge, and a verdict."""
    if grade := re.search(r"\bgrade(\d+)\b", prompt):
        return {"reason": "as it says", "score": int(grade[1])}
    words = list(dict.fromkeys(re.findall(r"\b(?:yes|no|borderline)\d\b", prompt)))
    if re.search("""['"]verdicts['"]""", prompt):
        verdicts = [{"verdict": word[:-1], "reason": f"{word} it is", "statement": word} for word in words]
        return {"verdicts": verdicts}
    name = next(name for name in LISTS.split() if re.search(f"""['"]{name}['"]""", prompt))
    if name == "questions":
        return {"questions": ["Is one?", "Is two?"]}
    if name == "answers":
        text = prompt.rpartition("Text:")[2] or prompt
        return {
            "answers": [
                "no" if "only-one" in text and asked == "Is two?" else "yes"
                for asked in ("Is one?", "Is two?")
            ]
        }
    return {name: words or ["a fact"]}


@contextmanager
def answering(reply: Callable[[str], Any] = answered) -> Iterator[StubModel]:
    """A model that answers the user's message by `reply`, over HTTP."""

    def each(number: int) -> Reply:
        return Reply(completion(json.dumps(reply(model.requests[number][2]["messages"][-1]["content"]))))

    with stub_model(each) as model:
        yield model


def sample(output: str = "fine", **changed: Any) -> Sample:
    """A sample that holds everything."""
    usual: dict[str, Any] = {
        "expected": "right",
        "contexts": ["known"],
        "tool_calls": [],
        "expected_tools": [],
    }
    return Sample(**({"input": "What?", "output": output} | usual | changed))


def calls(*names: str, **arguments: Any) -> list[ToolCall]:
    """Tool calls of those names."""
    return [ToolCall(name, arguments) for name in names]


@dataclass
class Trial:
    """A metric by our name with its options, and what deepeval calls it; samples and their values."""

    name: str
    made: str
    samples: Sequence[Sample]
    values: Sequence[float]
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


GOOD_BAD = [sample("no1 no2"), sample("no1 yes2 no3"), sample("yes1 yes2")]
BAD_GOOD = [sample("yes1 yes2"), sample("yes1 no2 yes3"), sample("no1")]
THIRDS = [1, 2 / 3, 0]
PERMITTED = [sample(tool_calls=calls(*names)) for names in ("a", "ab", "b")]
CALLED = [sample(tool_calls=calls(*names), expected_tools=calls("a", "b")) for names in ("ab", "a", "c")]

TRIALS = [
    Trial(
        "geval",
        "GEval",
        [sample("grade10"), sample("grade7"), sample("grade0")],
        [1, 0.7, 0],
        {"steps": ["Is it right?", "Is it kind?"], "params": ["output", "expected"]},
        {"name": "any", "evaluation_steps": ["Is it right?", "Is it kind?"]},
    ),
    Trial(
        "hallucination",
        "HallucinationMetric",
        [sample(contexts=words.split()) for words in ("yes1 yes2", "yes1 no2 yes3", "no1")],
        THIRDS,
    ),
    Trial("toxicity", "ToxicityMetric", GOOD_BAD, THIRDS),
    Trial("bias", "BiasMetric", GOOD_BAD, THIRDS),
    Trial("pii_leakage", "PIILeakageMetric", GOOD_BAD, THIRDS),
    Trial("misuse", "MisuseMetric", GOOD_BAD, THIRDS, {"domain": "Banking"}, {"domain": "Banking"}),
    Trial(
        "non_advice",
        "NonAdviceMetric",
        GOOD_BAD,
        THIRDS,
        {"advice_types": ["medical"]},
        {"advice_types": ["medical"]},
    ),
    Trial("role_violation", "RoleViolationMetric", GOOD_BAD, [1, 0, 0], {"role": "clerk"}, {"role": "clerk"}),
    Trial(
        "tool_permission",
        "ToolPermissionMetric",
        PERMITTED,
        [1, 0.5, 0],
        {"allowed": ["a"]},
        {"allowed_tools": ["a"]},
    ),
    Trial("deepeval.answer_relevancy", "AnswerRelevancyMetric", BAD_GOOD, THIRDS),
    Trial("deepeval.faithfulness", "FaithfulnessMetric", [*BAD_GOOD, sample("borderline1")], [*THIRDS, 1]),
    Trial(
        "deepeval.faithfulness",
        "FaithfulnessMetric",
        [sample("yes1"), sample("borderline1 yes2"), sample("no1")],
        [1, 0.5, 0],
        {"strict": True},
        {"penalize_ambiguous_claims": True},
    ),
    Trial(
        "contextual_precision",
        "ContextualPrecisionMetric",
        [sample(contexts=words.split()) for words in ("yes1 no2", "no1 yes2", "no1 no2")],
        [1, 0.5, 0],
    ),
    Trial(
        "contextual_recall",
        "ContextualRecallMetric",
        [sample(expected=words) for words in ("yes1 yes2", "yes1 no2 yes3", "no1")],
        THIRDS,
    ),
    Trial(
        "contextual_relevancy",
        "ContextualRelevancyMetric",
        [sample(contexts=contexts) for contexts in (["yes1", "yes2"], ["yes1 no2", "yes3"], ["no1"])],
        THIRDS,
    ),
    Trial(
        "summarization",
        "SummarizationMetric",
        [sample("yes1 yes2"), sample("yes1 borderline2 yes3"), sample("yes1 only-one"), sample("no1")],
        [1, 2 / 3, 0.5, 0],
    ),
    Trial(
        "summarization",
        "SummarizationMetric",
        [sample("yes1 yes2"), sample("yes1 only-one"), sample("no1")],
        [1, 0.5, 0],
        {"questions": ["Is one?", "Is two?"]},
        {"assessment_questions": ["Is one?", "Is two?"]},
    ),
    Trial(
        "prompt_alignment",
        "PromptAlignmentMetric",
        [sample("ok")],
        [0.5],
        {"instructions": ["yes1", "no2"]},
        {"prompt_instructions": ["yes1", "no2"]},
    ),
    Trial(
        "prompt_alignment",
        "PromptAlignmentMetric",
        [sample("yes1"), sample("no1")],
        [1, 0],
        {"instructions": ["Be short."]},
        {"prompt_instructions": ["Be short."]},
    ),
    Trial(
        "argument_correctness",
        "ArgumentCorrectnessMetric",
        [
            sample(tool_calls=[]),
            sample(tool_calls=[*calls("a", x="yes1"), *calls("b", x="no2")]),
            sample(tool_calls=calls("a", x="no1")),
        ],
        [1, 0.5, 0],
    ),
    Trial("tool_correctness", "ToolCorrectnessMetric", CALLED, [1, 0.5, 0]),
    Trial(
        "tool_correctness",
        "ToolCorrectnessMetric",
        [
            sample(tool_calls=made, expected_tools=[*calls("a", x=1, y=2), *calls("b")])
            for made in ([*calls("a", x=1, y=2), *calls("b")], [*calls("b"), *calls("a", x=1, y=3)], [])
        ],
        [1, 0.5, 0],
        {"arguments": True, "order": True},
        {"evaluation_params": ["input_parameters"], "should_consider_ordering": True},
    ),
    Trial(
        "deepeval.exact_match",
        "ExactMatchMetric",
        [sample(" right"), sample("wrong"), sample("")],
        [1, 0, 0],
    ),
    Trial(
        "pattern_match",
        "PatternMatchMetric",
        [sample("AB"), sample("abc")],
        [1, 0],
        {"pattern": "a.", "ignore_case": True},
        {"pattern": "a.", "ignore_case": True},
    ),
]
TWO_VALUED = {"role_violation", "deepeval.exact_match", "pattern_match"}


def bench_at(url: str) -> Bench:
    """The bench of one judge, without a cache."""
    provider = find_provider("openai")
    judge = JudgeModel(provider, "judge-1", Endpoint(provider, url, "key-of-the-judge"))
    setting = JudgeSetting(models=("openai:judge-1",))
    return Bench(Models([judge], None), setting, price=lambda _usage: None, cache=None)


def judged(
    name: str, options: Mapping[str, Any], samples: Sequence[Sample], url: str
) -> list[Score | JudgeError]:
    """What our gate says of each sample, or why it says nothing."""

    async def all_of_them() -> list[Score | JudgeError]:
        bench = bench_at(url)
        await bench.open()
        scorer = METRICS[name].judged(options, None)  # type: ignore[misc, arg-type]
        found: list[Score | JudgeError] = []
        for one in samples:
            try:
                found.append(await scorer(one, bench.judge(0, 0)))
            except JudgeError as error:
                found.append(error)
        await bench.close()
        return found

    return asyncio.run(all_of_them())


def measured_by_deepeval(trial: Trial, url: str) -> list[float]:
    """What deepeval gives by itself, with its own client of a local model."""
    deepeval_library._library()
    import httpx  # noqa: PLC0415 deepeval brings it
    from deepeval import metrics  # noqa: PLC0415 once it is quiet
    from deepeval.models import LocalModel  # noqa: PLC0415 as above
    from deepeval.test_case import LLMTestCase, SingleTurnParams, ToolCallParams  # noqa: PLC0415 as above
    from deepeval.test_case import ToolCall as Called  # noqa: PLC0415 as above

    def made(client: httpx.AsyncClient) -> Any:
        model = LocalModel("judge-1", api_key="key-of-the-judge", base_url=url)
        model.kwargs["http_client"] = client  # its own it would leave open
        more: dict[str, Any] = {"model": model, "include_reason": False}
        if trial.made == "GEval":
            shown = [SingleTurnParams.ACTUAL_OUTPUT, SingleTurnParams.EXPECTED_OUTPUT]
            more = {"model": model, "evaluation_params": shown}
        if "evaluation_params" in trial.arguments:
            shown_of_calls = [ToolCallParams(name) for name in trial.arguments["evaluation_params"]]
            return metrics.ToolCorrectnessMetric(
                model=model, evaluation_params=shown_of_calls, should_consider_ordering=True
            )
        if trial.made in ("ToolPermissionMetric", "ExactMatchMetric", "PatternMatchMetric"):
            more = {}
        return getattr(metrics, trial.made)(**more, **trial.arguments)

    def called(calls: Sequence[ToolCall] | None) -> list[Called]:
        return [Called(name=call.name, input_parameters=dict(call.arguments)) for call in calls or []]

    def case(one: Sample) -> LLMTestCase:
        return LLMTestCase(
            input=one.input,
            actual_output=one.output or " ",
            expected_output=one.expected,
            context=one.contexts,
            retrieval_context=[*one.contexts] if one.contexts is not None else None,
            tools_called=called(one.tool_calls),
            expected_tools=called(one.expected_tools),
        )

    async def all_of_them() -> list[float]:
        async with httpx.AsyncClient() as client:
            return [await made(client).a_measure(case(one), _show_indicator=False) for one in trial.samples]

    return asyncio.run(all_of_them())


def numbers_of(calls_in_words: str, contexts: int) -> set[int]:
    """How many calls those words allow."""
    if calls_in_words.endswith("a context"):
        return {int(calls_in_words.partition(" ")[0]) * contexts}
    return {int(number) for number in calls_in_words.split(" or ")}


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
@pytest.mark.filterwarnings("ignore:.*now scores in the same direction:DeprecationWarning")
def test_a_gate_gives_the_number_that_deepeval_gives_by_itself(trial: Trial) -> None:
    """On the same samples it asks the same; its number is deepeval's, and the one that the replies mean."""
    with answering() as model:
        scores = judged(trial.name, trial.options, trial.samples, model.url)
        asked = len(model.requests)
        directly = measured_by_deepeval(trial, model.url)
        prompts = [request[2]["messages"][-1]["content"] for request in model.requests]
    assert sorted(prompts[:asked]) == sorted(prompts[asked:])
    assert [score.value for score in scores] == directly  # type: ignore[union-attr]
    assert directly == pytest.approx(list(trial.values))


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_a_metric_takes_the_calls_that_it_says(trial: Trial) -> None:
    """`calls` is what each sample takes, with the reason why it is not better."""
    for one in trial.samples:
        with answering() as model:
            [score] = judged(trial.name, trial.options, [one], model.url)
            allowed = numbers_of(METRICS[trial.name].calls, len(one.contexts or []))
            assert len(model.requests) in allowed
        assert not isinstance(score, JudgeError)
        assert bool(score.reason) == (score.value < 1)


def test_every_metric_has_been_seen_to_tell_good_from_bad() -> None:
    """Each metric is tried with three values at least, two where it has only two, and with the worst."""
    for name in METRICS:
        values = {value for trial in TRIALS if trial.name == name for value in trial.values}
        assert len(values) >= (2 if name in TWO_VALUED else 3), name
        assert min(values) == 0, name


def test_a_reason_is_what_the_verdicts_say() -> None:
    """The reason counts and quotes the verdicts against the answer, and those alone."""
    with answering() as model:
        [score] = judged("contextual_relevancy", {}, [sample(contexts=["yes1 no2", "no3"])], model.url)
    assert score == (1 / 3, "2 of 3: no2 it is; no3 it is")


@pytest.mark.parametrize(
    ("name", "first", "options"),
    [
        ("toxicity", {"opinions": ["a", "b"]}, {}),
        ("role_violation", {"role_violations": ["a"]}, {"role": "clerk"}),
    ],
)
def test_verdicts_that_are_left_out_are_no_pass(name: str, first: Any, options: Mapping[str, Any]) -> None:
    """A judge who leaves verdicts out is told so once; then there is no score, where deepeval's is 1."""

    def reply(prompt: str) -> Any:
        return first if "verdicts" not in prompt else {"verdicts": []}

    with answering(reply) as model:
        [error] = judged(name, options, [sample("Anything.")], model.url)
        assert len(model.requests) == 3
    assert isinstance(error, JudgeError)
    assert error.kind == "malformed"


def test_verdicts_that_are_left_out_are_asked_for_again() -> None:
    """A judge who mends its reply when told is believed."""
    verdict = {"verdict": "no", "reason": "Kind."}
    replies = iter([{"opinions": ["a", "b"]}, {"verdicts": [verdict]}, {"verdicts": [verdict, verdict]}])
    with answering(lambda _prompt: next(replies)) as model:
        [score] = judged("bias", {}, [sample("Anything.")], model.url)
        assert "too short" in model.requests[-1][2]["messages"][-1]["content"]
    assert score == (1.0, "")


def test_a_grade_outside_of_the_scale_is_none() -> None:
    """A judge who gives 11 of 10, twice, gives nothing."""
    with answering(lambda _prompt: {"score": 11, "reason": "Great."}) as model:
        [error] = judged("geval", {"steps": ["Is it right?"]}, [sample()], model.url)
    assert isinstance(error, JudgeError)
    assert error.kind == "malformed"


def test_an_answer_cannot_pass_for_an_image() -> None:
    """The mark of an image in an answer or a context is text: no file is opened, and no judge refused."""
    mark = "[DEEPEVAL:IMAGE:/etc/passwd] no1"
    with answering() as model:
        [score] = judged("toxicity", {}, [sample(mark, contexts=[mark])], model.url)
        assert "[DEEPEVAL:IMAGE:/etc/passwd] no1" in model.requests[0][2]["messages"][-1]["content"]
    assert score == (1.0, "")


def test_hallucination_is_held_against_the_golden_set() -> None:
    """Where the golden set says what is true, that counts, and not what the agent happened to retrieve."""
    one = sample(contexts=["yes1"], reference_contexts=["no1"])
    with answering() as model:
        [score] = judged("hallucination", {}, [one], model.url)
    assert score == (0.0, "1 of 1: no1 it is")
