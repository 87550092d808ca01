"""ragas through our judge: its own prompts over HTTP, its own numbers, and no error taken for one."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.evals.judges.base import JudgeError, Sample, UndecidedError
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.model import resolve_models
from gatehouse.evals.metrics.by_ragas import METRICS
from tests.contracts.suite import ROOT
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


BY_NAME = {metric.name: metric for metric in METRICS}
LIBRARY = "ragas.metrics.collections"

Q = "How long may a chair be returned, Ada?"
A, B, C, D = "Chairs: 30 days.", "Sofas: 20 days.", "Lamps: 9 days.", "Desks: 5 days."
"""Statements; a text supports those that it holds."""


def sample(output: str, expected: str, *contexts: str) -> Sample:
    """A sample whose contexts are also the golden set's."""
    return Sample(Q, output, expected, list(contexts) or [A], list(contexts) or [A])


# What a careful judge would reply, by the title of the schema that a prompt of ragas asks for.


def statements(text: str) -> list[str]:
    """A text's sentences."""
    return [part + "." for part in re.split(r"\.(?:\s+|$)", text) if part.strip()]


def judged(data: Mapping[str, Any], context: str, flag: str = "verdict") -> list[dict[str, Any]]:
    """Each statement with whether the context holds it."""
    texts = data["statements"] if "statements" in data else statements(data["answer"])
    return [{"statement": one, "reason": "r", flag: int(one in context)} for one in texts]


def share(part: str, whole: str) -> float:
    """How much of the statements of one text another holds."""
    known = [one in whole for one in statements(part)]
    return sum(known) / len(known)


def rated(found: float, best: int) -> dict[str, int]:
    """All, a part or nothing."""
    return {"rating": best if found == 1 else best // 2 if found else 0}


def classified(data: Mapping[str, Any]) -> dict[str, Any]:
    """The statements that answer and truth share, and those of one of them."""
    answer, truth = data["answer"], data["ground_truth"]
    found = {
        "TP": [one for one in answer if one in truth],
        "FP": [one for one in answer if one not in truth],
        "FN": [one for one in truth if one not in answer],
    }
    return {name: [{"statement": one, "reason": "r"} for one in texts] for name, texts in found.items()}


REPLIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "StatementGeneratorOutput": lambda d: {"statements": statements(d.get("answer") or d["text"])},
    "NLIStatementOutput": lambda d: {"statements": judged(d, d["context"])},
    "StatementFaithfulnessOutput": lambda d: {"statements": judged(d, d["context"])},
    "ClaimDecompositionOutput": lambda d: {"claims": statements(d["response"])},
    "AnswerRelevanceOutput": lambda d: {
        "question": d["response"],
        "noncommittal": int("know" in d["response"]),
    },
    "ContextPrecisionOutput": lambda d: {"reason": "r", "verdict": int(share(d["answer"], d["context"]) > 0)},
    "ContextRecallOutput": lambda d: {"classifications": judged(d, d["context"], "attributed")},
    "EntitiesList": lambda d: {"entities": re.findall(r"[A-Z]\w+", d["text"])},
    "ContextRelevanceOutput": lambda d: rated(
        len({"chair", "return"} & set(re.findall(r"\w+", d["context"]))) / 2, 2
    ),
    "ResponseGroundednessOutput": lambda d: rated(share(d["response"], d["context"]), 2),
    "AnswerAccuracyOutput": lambda d: rated(share(d["user_answer"], d["reference_answer"]), 4),
    "ClassificationWithReason": classified,
    "ExtractedKeyphrases": lambda d: {"keyphrases": re.findall(r"[A-Z]\w+", d["text"])},
    "QuestionsGenerated": lambda d: {"questions": [f"Of {one}?" for one in d["keyphrases"]]},
    "AnswersGenerated": lambda d: {
        "answers": [str(int(one[3:-1] in d["summary"])) for one in d["questions"]]
    },
    "SQLEquivalenceOutput": lambda d: {
        "response_explanation": "so",
        "reference_explanation": "thus",
        "equivalent": d["response"].lower() == d["reference"].lower(),
    },
}


def reply_to(prompt: str) -> dict[str, Any]:
    """The reply to a prompt of ragas: its schema's title, and the data after its last `input:`."""
    title = re.findall(r'"title": "(\w+)", "type": "object"\}', prompt)[-1]
    data = json.JSONDecoder().raw_decode(prompt.rpartition("\ninput: ")[2])[0]
    return REPLIES[title](data)


def vector(text: str) -> list[float]:
    """How often each letter occurs, capitals counted down: so a cosine may be negative."""
    counts = [float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return [
        n - text.count(letter.upper()) for n, letter in zip(counts, map(chr, range(97, 123)), strict=True)
    ]


@contextmanager
def served(change: Callable[[dict[str, Any]], Any] = lambda reply: reply) -> Iterator[StubModel]:
    """A model that answers ragas, each reply changed."""

    def reply(number: int) -> Reply:
        path, _, body = stub.requests[number]
        if path == "/v1/embeddings":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            data = [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(texts)]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return Reply({"object": "list", "data": data, "model": "letters", "usage": usage})
        prompt = next(m["content"] for m in body["messages"] if m["role"] == "user")
        return Reply(completion(json.dumps(change(reply_to(prompt)))))

    with stub_model(reply) as stub:
        yield stub


def scorer(name: str, options: Mapping[str, Any]) -> Any:
    """The metric's function; none of ragas looks at the agent."""
    judged: Any = BY_NAME[name].judged
    return judged(options, None)


def on_bench(url: str, name: str, samples: list[Sample], **options: Any) -> list[Any]:
    """What the metric says of each sample, by a bench over HTTP: a Score, or the JudgeError."""
    setting = JudgeSetting(models=("openai:judge-1",))
    environ = {"GATEHOUSE_JUDGE_KEY": "sk-judge-0123456789", "GATEHOUSE_JUDGE_BASE_URL": url}
    models = resolve_models(setting, "openai:letters", needs={"judge", "embeddings"}, environ=environ)
    score = scorer(name, options)

    async def scores() -> list[Any]:
        bench = Bench(models, setting, price=lambda _usage: None, cache=None)
        await bench.open()
        try:
            asked = (score(one, bench.judge(0, 0)) for one in samples)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await bench.close()

    return asyncio.run(scores())


def directly(url: str, library: str, samples: list[Sample], **options: Any) -> list[float]:
    """What ragas says by itself, as its documentation shows it, with openai's own clients."""
    from importlib import import_module  # noqa: PLC0415 5 s
    from inspect import signature  # noqa: PLC0415

    from openai import AsyncOpenAI, OpenAI  # noqa: PLC0415

    metric_class = getattr(import_module(LIBRARY), library)
    takes = signature(metric_class.__init__).parameters
    access: dict[str, Any] = {"base_url": url, "api_key": "sk-own"}

    async def values() -> list[float]:
        async with AsyncOpenAI(**access) as client:
            with OpenAI(**access) as plain:
                embedder = plain if "llm" not in takes else client  # SemanticSimilarity embeds synchronously
                factory = import_module("ragas.embeddings.base").embedding_factory
                models = {
                    "llm": import_module("ragas.llms.base").llm_factory("judge-1", client=client),
                    "embeddings": factory("openai", "letters", client=embedder, interface="modern"),
                }
                metric = metric_class(**{k: v for k, v in models.items() if k in takes}, **options)
                return [(await metric.ascore(**inputs(metric, one))).value for one in samples]

    def inputs(metric: Any, one: Sample) -> dict[str, Any]:
        given = {
            "user_input": one.input,
            "response": one.output,
            "reference": one.expected,
            "retrieved_contexts": one.contexts,
            "reference_contexts": one.reference_contexts,
        }
        return {name: given[name] for name in signature(metric.ascore).parameters}

    return asyncio.run(values())


ALL_HALF_NONE = [sample(f"{A} {B}", f"{A} {B}", A, B), sample(f"{A} {C}", A, A, B), sample(C, A, A, B)]
PRECISION = [1.0, 0.5, 0.0]
CASES: dict[str, tuple[str, dict[str, Any], list[Sample], list[float]]] = {
    "faithfulness": ("Faithfulness", {}, ALL_HALF_NONE, [1.0, 0.5, 0.0]),
    "answer_relevancy": (
        "AnswerRelevancy",
        {},
        [sample(Q, A), sample("How long?", A), sample("I do not know.", A)],
        [1.0, 3 / 7, 0.0],
    ),
    "context_precision": (
        "ContextPrecision",
        {},
        [sample("x", A, A, B), sample("x", A, B, A), sample("x", A, B, C)],
        PRECISION,
    ),
    "context_precision_without_reference": (
        "ContextPrecisionWithoutReference",
        {},
        [sample(A, "x", A, B), sample(A, "x", B, A), sample(A, "x", B, C)],
        PRECISION,
    ),
    "context_recall": (
        "ContextRecall",
        {},
        [sample("x", f"{A} {B}", A, B), sample("x", f"{A} {C}", A, B), sample("x", C, A, B)],
        [1.0, 0.5, 0.0],
    ),
    "context_entity_recall": (
        "ContextEntityRecall",
        {},
        [sample("x", f"{A} {B}", A, B), sample("x", f"{A} {C}", A, B), sample("x", C, A, B)],
        [1.0, 0.5, 0.0],
    ),
    "context_relevance": (
        "ContextRelevance",
        {},
        [sample("x", A, "a chair to return"), sample("x", A, "one chair"), sample("x", A, "a lamp")],
        [1.0, 0.5, 0.0],
    ),
    "response_groundedness": ("ResponseGroundedness", {}, ALL_HALF_NONE, [1.0, 0.5, 0.0]),
    "factual_correctness": (
        "FactualCorrectness",
        {},
        [sample(A, A), sample(f"{A} {B}", A), sample(C, A)],
        [1.0, 0.67, 0.0],
    ),
    "noise_sensitivity": (
        "NoiseSensitivity",
        {},
        # What a context says that also holds a statement of the expected answer, and is wrong.
        [sample(A, A, f"{A} {B}"), sample(f"{A} {B}", A, f"{A} {B}"), sample(B, A, f"{A} {B}")],
        [0.0, 0.5, 1.0],
    ),
    "answer_correctness": (
        "AnswerCorrectness",
        {},
        [sample(A, A), sample(f"{A} {B}", A), sample(C, A)],
        [1.0, 0.735, 0.185],
    ),
    "semantic_similarity": (
        "SemanticSimilarity",
        {},
        [sample("chairs", "chairs"), sample("chairs", "chars"), sample("aaa", "bbb")],
        [1.0, 0.913, 0.0],
    ),
    "answer_accuracy": (
        "AnswerAccuracy",
        {},
        [sample(A, A), sample(f"{A} {B}", A), sample(C, A)],
        [1.0, 0.75, 0.0],
    ),
    "summary_score": (
        "SummaryScore",
        {"coeff": 0.0},
        [sample("Chairs, Sofas", "x", A, B), sample("Chairs", "x", A, B), sample("none", "x", A, B)],
        [1.0, 0.5, 0.0],
    ),
    "sql_semantic_equivalence": (
        "SQLSemanticEquivalence",
        {},
        [sample("SELECT 1", "select 1"), sample("SELECT 2", "select 1")],
        [1.0, 0.0],
    ),
}
"""For each metric its class, options, samples, and the values that follow by its definition."""

OPTIONED = [
    ("factual_correctness", {"mode": "precision"}),
    ("factual_correctness", {"mode": "recall"}),
    ("factual_correctness", {"beta": 3, "atomicity": "high", "coverage": "high"}),
    ("noise_sensitivity", {"mode": "irrelevant"}),
    ("answer_correctness", {"weights": [1, 0]}),
    ("summary_score", {"coeff": 1}),
]


@pytest.fixture
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of its own: without us, ragas keeps a file there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


@pytest.mark.usefixtures("_home")
@pytest.mark.parametrize("name", BY_NAME)
def test_values_follow_from_the_replies_and_equal_the_library_s_own(name: str) -> None:
    """Each metric tells good answers from half good and bad ones, by the number that ragas alone computes."""
    library, options, samples, values = CASES[name]
    with served() as stub:
        scores = on_bench(stub.url, name, samples, **options)
        own = directly(stub.url, library, samples, **options)
    assert [score.value for score in scores] == pytest.approx(values, abs=1e-3)
    assert [score.value for score in scores] == pytest.approx(own, abs=1e-7)
    levels = 2 if name == "sql_semantic_equivalence" else 3
    assert len(set(values)) == levels
    assert min(values) < 0.5 < max(values)


@pytest.mark.usefixtures("_home")
@pytest.mark.parametrize(("name", "options"), OPTIONED)
def test_options_reach_the_library(name: str, options: dict[str, Any]) -> None:
    """An option gives the number that ragas alone gives with it, which is another than without."""
    library, usual, _, _ = CASES[name]
    samples = [sample(f"{A} {B} {C}", f"{A} {D}", f"{A} {D}", f"{B}")]
    with served() as stub:
        [score] = on_bench(stub.url, name, samples, **options)
        [plain] = on_bench(stub.url, name, samples, **usual)
        weighed = {k: [float(w) for w in v] if k == "weights" else v for k, v in options.items()}
        own = directly(stub.url, library, samples, **weighed)
    assert [score.value] == pytest.approx(own, abs=1e-7)
    assert score.value != plain.value


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("faithfulness", f"not in the contexts: {C}"),
        ("context_recall", f"not in the contexts: {C}"),
        ("factual_correctness", f"claims without support: {B}"),
        ("sql_semantic_equivalence", "Response: so\nReference: thus"),
    ],
)
def test_a_score_says_what_it_lacks(name: str, reason: str) -> None:
    """Where the judge denied statements, or the library explains its number, the reason says so."""
    _, _, samples, _ = CASES[name]
    with served() as stub:
        scores = on_bench(stub.url, name, samples)
    assert scores[1].reason == reason
    assert scores[0].reason in ("", reason)


class Instead:
    """A judge that answers in process, and fails at its `n`-th question or embedding, from 0."""

    name = "openai:judge-1"

    def __init__(self, fail_at: int | None, error: Exception | None = None) -> None:
        self.fail_at, self.error, self.asked = fail_at, error, 0

    async def ask(self, prompt: Any, _schema: Any) -> Any:
        """As the protocol says."""
        self.count()
        return reply_to(prompt)

    async def embed(self, text: str) -> list[float]:
        """As the protocol says."""
        self.count()
        return vector(text)

    def count(self) -> None:
        """One call more, which may be the one that fails."""
        self.asked += 1
        if self.error and self.asked - 1 == self.fail_at:
            raise self.error


def ask_instead(name: str, one: Sample, judge: Any) -> Any:
    """The score of a sample by that judge."""
    return asyncio.run(scorer(name, {})(one, judge))


@pytest.mark.parametrize("name", BY_NAME)
def test_no_error_of_the_judge_becomes_a_score(name: str) -> None:
    """Whichever question fails, that very error comes out, also where ragas would go on without the reply."""
    one = CASES[name][2][0]
    judge = Instead(None)
    ask_instead(name, one, judge)
    assert judge.asked > 0
    for number in range(judge.asked):
        error = JudgeError("quota", f"no credit at question {number}")
        failing = Instead(number, error)
        with pytest.raises(JudgeError) as caught:
            ask_instead(name, one, failing)
        assert caught.value is error
        assert failing.asked == number + 1, "it was asked further"


@pytest.mark.parametrize("name", ["faithfulness", "response_groundedness"])
def test_a_judge_that_will_not_say_is_heard(name: str) -> None:
    """That a judge is undecided comes out as it is, and not as an error of the library."""
    undecided = UndecidedError("the contexts contradict each other")
    with pytest.raises(UndecidedError) as caught:
        ask_instead(name, CASES[name][2][0], Instead(1, undecided))
    assert caught.value is undecided


@pytest.mark.parametrize("name", BY_NAME)
def test_the_calls_are_those_that_the_table_says(name: str) -> None:
    """A metric asks as often as `calls` says, for the contexts and options of the case."""
    one = CASES[name][2][0]
    judge = Instead(None)
    ask_instead(name, one, judge)
    assert one.contexts is not None
    said = BY_NAME[name].calls.partition(";")[0]
    counted = sum(
        int(number) * (len(one.contexts) if of_each else 1)
        for number, of_each in re.findall(r"(\d+)( a context)?", said)
    )
    assert judge.asked == counted


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("answer_accuracy", "rating", 11),
        ("context_relevance", "rating", 4),
        ("context_precision", "verdict", 2),
        ("answer_relevancy", "noncommittal", 7),
        ("summary_score", "answers", ["yes", "no"]),
        ("faithfulness", "statements", "none"),
    ],
)
def test_a_reply_out_of_its_choices_is_malformed(name: str, field: str, value: Any) -> None:
    """What ragas would drop or multiply with is asked for again, and then it is an error."""
    one = CASES[name][2][0]
    with served(lambda reply: reply | {field: value} if field in reply else reply) as stub:
        [score] = on_bench(stub.url, name, [one])
    assert isinstance(score, JudgeError), score
    assert score.kind == "malformed"


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("faithfulness", ["statements"]),
        ("noise_sensitivity", ["statements"]),
        ("answer_correctness", ["statements"]),
        ("answer_correctness", ["TP", "FP", "FN"]),
        ("context_recall", ["classifications"]),
        ("summary_score", ["keyphrases"]),
        ("summary_score", ["questions"]),
        ("summary_score", ["answers"]),
    ],
)
def test_a_reply_that_says_nothing_gives_no_number(name: str, lists: list[str]) -> None:
    """Where ragas divides by nothing, or takes no statements for a perfect match, the sample has no value."""
    one = CASES[name][2][0]
    with served(lambda reply: {key: [] if key in lists else value for key, value in reply.items()}) as stub:
        [score] = on_bench(stub.url, name, [one])
    assert isinstance(score, JudgeError), score
    assert score.kind == "library"
    assert score.message.startswith("ragas gives no number: ")


@pytest.mark.parametrize("name", BY_NAME)
def test_an_empty_answer_is_the_worst(name: str) -> None:
    """An agent that says nothing fails what looks at its answer, and no judge is asked; ragas would raise."""
    judge = Instead(None)
    score = ask_instead(name, sample("  ", A), judge)
    looks_at_answer = name not in (
        "context_precision",
        "context_recall",
        "context_entity_recall",
        "context_relevance",
    )
    if looks_at_answer:
        assert (score.value, score.reason) == (BY_NAME[name].worst, "the answer is empty")
    assert (judge.asked == 0) == looks_at_answer


def test_a_negative_cosine_counts_as_nothing() -> None:
    """Texts less alike than nothing are 0, which ragas says is the lowest, and the number is told."""
    score = ask_instead("semantic_similarity", sample("aaa", "AAAb"), Instead(None))
    assert score.value == 0.0
    assert score.reason == "ragas computes -0.949, which counts as 0"


@pytest.mark.parametrize("name", ["semantic_similarity", "answer_relevancy", "answer_correctness"])
def test_an_embedding_of_zeros_is_malformed(name: str) -> None:
    """A vector without a direction has no cosine: that is said, and nothing is printed."""
    with pytest.raises(JudgeError, match="all zeros") as caught:
        ask_instead(name, sample("12", "34"), Instead(None))
    assert caught.value.kind == "malformed"


def test_what_the_library_stumbles_over_is_told() -> None:
    """An error of ragas itself is the sample's reason, with its type and what it says."""
    with pytest.raises(JudgeError) as caught:
        ask_instead("faithfulness", Sample("", "x", None, [A]), Instead(None))
    assert caught.value.kind == "library"
    assert caught.value.message.startswith("ragas failed: ValueError: user_input is missing.")


QUIET = """
import json, os, sys, threading, time
seen = []
def hook(event, args):
    if event == "socket.connect" or (event == "open" and str(args[0]).endswith(".env")):
        seen.append([event, str(args[0])])
sys.addaudithook(hook)
from tests.integration.test_ragas import CASES, Instead, ask_instead
for name, case in CASES.items():
    ask_instead(name, case[2][1], Instead(None))
deadline = time.monotonic() + 5
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.05)
threads = [thread.name for thread in threading.enumerate()[1:]]
from ragas._analytics import do_not_track
found = {"seen": seen, "threads": threads, "own": os.environ.get("OWN"), "untracked": do_not_track()}
print(json.dumps(found))
"""


def test_it_is_quiet(tmp_path: Path) -> None:
    """No connection, no `.env`, no file under HOME or in the folder, no thread that stays, not a word."""
    home, folder = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    folder.mkdir()
    (folder / ".env").write_text("OWN=taken\n")
    environ = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"seen": [], "threads": [], "own": None, "untracked": True}
    assert done.stderr == ""
    assert list(home.rglob("*")) == []
    assert [path.name for path in folder.iterdir()] == [".env"]
