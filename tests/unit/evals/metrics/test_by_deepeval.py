"""deepeval's metrics as a table, its options, and what becomes of a judge's errors and odd replies."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.evals.judges import deepeval_library
from gatehouse.evals.judges.base import JudgeError, Sample
from gatehouse.evals.metrics import by_deepeval
from gatehouse.evals.metrics.base import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.evals.metrics.base import Score

ROOT = Path(__file__).parents[4]
METRICS = {metric.name: metric for metric in by_deepeval.METRICS}
OPTIONS: dict[str, dict[str, Any]] = {
    "geval": {"steps": ["Is it right?"]},
    "misuse": {"domain": "banking"},
    "non_advice": {"advice_types": ["medical"]},
    "role_violation": {"role": "clerk"},
    "tool_permission": {"allowed": ["search"]},
    "prompt_alignment": {"instructions": ["Be short."]},
    "pattern_match": {"pattern": "a+"},
}
"""What those metrics cannot do without."""
REQUIRES = {
    "expected_output": "expected",
    "context": "contexts",
    "retrieval_context": "contexts",
    "tools_called": "tool_calls",
    "expected_tools": "expected_tools",
}


def name_of(class_name: str) -> str:
    """Our name of a class: PIILeakageMetric is pii_leakage, MCPUseMetric mcp_use, ArenaGEval arena_geval."""
    words = re.findall("GEval|PII|MCP|DAG|[A-Z][a-z]+", class_name.removesuffix("Metric"))
    return "_".join(words).lower()


def classes() -> dict[str, Any]:
    """Every metric that deepeval exports, by our name of it."""
    metrics = deepeval_library._library().metrics
    bases = (metrics.BaseMetric, metrics.BaseConversationalMetric, metrics.BaseArenaMetric)
    exported = {name: getattr(metrics, name) for name in metrics.__all__}
    return {
        name_of(name): one
        for name, one in exported.items()
        if inspect.isclass(one) and issubclass(one, bases) and one not in bases
    }


def sample(output: str = "fine", **changed: Any) -> Sample:
    """A sample that holds everything."""
    usual: dict[str, Any] = {
        "expected": "right",
        "contexts": ["known"],
        "tool_calls": [],
        "expected_tools": [],
    }
    return Sample(**({"input": "What?", "output": output} | usual | changed))


def test_every_metric_of_deepeval_is_there_or_refused() -> None:
    """Whatever deepeval exports can be named, or is refused with a reason; nothing else is in the tables."""
    plain = {name.removeprefix("deepeval.") for name in METRICS}
    refused = {name for name in by_deepeval.REFUSED if not name.startswith("deepeval.")}
    assert plain | refused == set(classes())
    assert not plain & refused
    assert {f"deepeval.{name}" for name in refused} == set(by_deepeval.REFUSED) - refused


def test_every_metric_goes_by_deepevals_name_too() -> None:
    """`deepeval.NAME` names every metric; the plain name is left to ragas and our own where they have it."""
    for name in METRICS:
        plain = name.removeprefix("deepeval.")
        assert by_deepeval.ALIASES.get(f"deepeval.{plain}", f"deepeval.{plain}") == name
    prefixed = {name for name in METRICS if name.startswith("deepeval.")}
    assert prefixed == {"deepeval.answer_relevancy", "deepeval.faithfulness", "deepeval.exact_match"}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_requires_what_deepeval_does(name: str) -> None:
    """What a sample must hold is what deepeval demands of a test case; geval's is in its options."""
    if name == "geval":
        assert METRICS[name].requires == ()
        return
    made = classes()[name.removeprefix("deepeval.")]
    demanded = {param.value for param in made._required_params}
    assert set(METRICS[name].requires) == {REQUIRES[what] for what in demanded if what in REQUIRES}


def test_only_metrics_that_need_no_trace_are_offered() -> None:
    """Deepeval marks what reads a trace, some of it only once it is made: none of that is in the table."""
    for metric in by_deepeval.METRICS:
        made = classes()[metric.name.removeprefix("deepeval.")]
        source = inspect.getsource(made.__init__)
        assert "self.requires_trace = True" not in source


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_is(name: str) -> None:
    """Each is a floor from 0 to 1, of this version, and names a judge where it asks one."""
    metric = METRICS[name]
    assert (metric.low, metric.high, metric.direction, metric.extra) == (0, 1, "higher", "deepeval")
    assert metric.version == "deepeval 4.3.1"
    assert metric.models == (() if metric.calls == "0" else ("judge",))


def test_the_version_is_the_one_that_is_installed() -> None:
    """The version in every score's method is the pin of the extra, which decides what a score means."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["deepeval"] == [f"deepeval=={by_deepeval.VERSION}"]


def test_the_table_needs_no_library() -> None:
    """Naming a metric and checking its options imports neither deepeval nor anything of it."""
    script = (
        "import sys; from gatehouse.evals.metrics import by_deepeval as table\n"
        "[m.judged({}, None) for m in table.METRICS if m.name in ('toxicity', 'bias')]\n"
        "print([name for name in ('deepeval', 'pydantic', 'openai') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("geval", {}, 'needs the option "steps"'),
        ("geval", {"steps": []}, 'needs the option "steps"'),
        ("geval", {"steps": "one"}, 'needs the option "steps"'),
        ("geval", {"steps": [" "]}, 'needs the option "steps"'),
        ("geval", {"criteria": "Be right."}, "invent the steps anew"),
        ("geval", {"steps": ["a"], "params": ["answer"]}, '"params" is a list of input, output'),
        ("geval", {"steps": ["a"], "params": []}, '"params" is a list of input, output'),
        ("geval", {"steps": ["a"], "params": [["input"]]}, '"params" is a list of input, output'),
        ("misuse", {}, 'needs the option "domain"'),
        ("non_advice", {"advice_types": "medical"}, 'needs the option "advice_types": a list'),
        ("role_violation", {"role": ""}, 'needs the option "role"'),
        ("tool_permission", {}, 'needs the option "allowed", "denied" or both'),
        ("tool_permission", {"denied": "rm"}, 'needs the option "denied": a list'),
        ("prompt_alignment", {}, 'needs the option "instructions"'),
        ("summarization", {"questions": []}, 'needs the option "questions"'),
        ("tool_correctness", {"order": "yes"}, '"order" is true or false'),
        ("deepeval.faithfulness", {"strict": 1}, '"strict" is true or false'),
        ("pattern_match", {"pattern": "("}, "does not compile"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_asked(
    name: str, options: Mapping[str, Any], message: str
) -> None:
    """Options are checked where the gate is made, with what to write."""
    with pytest.raises(OptionError, match=message):
        METRICS[name].judged(options, None)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("name", METRICS)
def test_every_option_can_be_given(name: str) -> None:
    """An option that is needed is among those that the file may hold."""
    assert set(OPTIONS.get(name, {})) <= set(METRICS[name].options)
    assert METRICS[name].judged(OPTIONS.get(name, {}), None)  # type: ignore[misc, arg-type]


class Scripted:
    """A judge that says what a test wrote, one reply after the other, and raises what is an error."""

    name = "test:scripted"

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []

    async def ask(self, prompt: Any, schema: Mapping[str, Any]) -> Any:
        """The next reply."""
        self.prompts.append(prompt)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def embed(self, text: str) -> list[float]:
        """No metric of deepeval asks for one."""
        raise AssertionError(text)


def scored(name: str, judge: Scripted, one: Sample, **options: Any) -> Score:
    """One sample by a scripted judge."""
    scorer = METRICS[name].judged(options, None)  # type: ignore[misc, arg-type]
    score: Score = asyncio.run(scorer(one, judge))  # type: ignore[arg-type]
    return score


@pytest.mark.parametrize(("verdict", "value"), [("yes", 0.0), ("no", 1.0)])
def test_a_toxic_answer_has_the_low_score(verdict: str, value: float) -> None:
    """A judge who finds the one opinion toxic makes it 0, the worst of a metric with a floor."""
    judge = Scripted(
        {"opinions": ["You are a fool."]}, {"verdicts": [{"verdict": verdict, "reason": "It is."}]}
    )
    score = scored("toxicity", judge, sample("You are a fool."))
    assert "states whether the given opinion is toxic" in judge.prompts[1]
    assert score == (value, "" if value else "1 of 1: It is.")
    assert (METRICS["toxicity"].direction, METRICS["toxicity"].worst) == ("higher", 0)


@pytest.mark.parametrize("grade", [math.nan, math.inf, 11, -1])
def test_what_is_no_value_is_no_score(grade: float) -> None:
    """Whatever number comes out of the library, one that is not from 0 to 1 becomes no score."""
    with pytest.raises(JudgeError, match="deepeval gives") as caught:
        scored("geval", Scripted({"score": grade, "reason": ""}), sample(), steps=["Is it right?"])
    assert caught.value.kind == "library"


@pytest.mark.parametrize("message", ["no more money", "this model's maximum context length is 8192 tokens"])
def test_the_judges_error_comes_through_as_it_is(message: str) -> None:
    """The library renames some errors; the gate says what the judge said first, whatever else was asked."""
    errors = JudgeError("quota", message), JudgeError("dead", "another")
    with pytest.raises(JudgeError) as caught:
        scored("contextual_relevancy", Scripted(*errors), sample(contexts=["a", "b"]))
    assert caught.value is errors[0]


def test_an_error_of_the_library_is_the_reason_why_nothing_was_scored() -> None:
    """What deepeval refuses, here a sample without what geval is to be shown, is unscored with its words."""
    options = {"steps": ["Is it right?"], "params": ["output", "expected"]}
    with pytest.raises(JudgeError, match="'expected_output' cannot be None") as caught:
        scored("geval", Scripted(), sample(expected=None), **options)
    assert caught.value.kind == "library"


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [("geval", {"steps": ["Is it?"]}, 0), ("deepeval.answer_relevancy", {}, 0), ("toxicity", {}, 1)],
)
@pytest.mark.parametrize("output", ["", " \n"])
def test_an_empty_answer_is_worth_nothing_and_harms_nobody(
    name: str, options: Mapping[str, Any], value: float, output: str
) -> None:
    """Nobody is asked of an empty answer, all of whose statements deepeval would find relevant."""
    assert scored(name, Scripted(), sample(output), **options).value == value
