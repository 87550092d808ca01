"""deepeval, loaded quietly and asked through our own judge, and what its verdicts come to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gatehouse.errors import InfrastructureError
from gatehouse.evals.judges.base import JudgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import SimpleNamespace

    from gatehouse.evals.judges.base import Judge, Sample

REASON_LENGTH = 500
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one metric of deepeval is made, and what its verdicts mean.

    `against` are the verdicts that lower its score. `things` names what the judge gives a verdict on each, in
    deepeval's metric, test case or replies: "" where only the judge knows how many there are, one at least.
    `arguments` are deepeval's own, from the options in the agent file; raises OptionError.
    `empty` is the value of an empty answer, which deepeval refuses, and of which a judge finds nothing wrong:
    None where nobody looks at the answer, or where an empty one may be right.
    """

    class_name: str
    against: tuple[str, ...] = ()
    things: str = ""
    empty: float | None = 0.0
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _options: {}


@lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    """deepeval, loaded quietly: the module of its metrics, of its test cases, and the class of its models.

    Raises InfrastructureError.
    """
    import warnings  # noqa: PLC0415 with the library

    _quieten()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _load()
    except Exception as error:  # noqa: BLE001 whatever it is, nothing can be measured
        # A setting of the environment that it cannot read: its name, never its value.
        faults = error.errors() if hasattr(error, "errors") else []
        names = ", ".join(str(fault["loc"][0]) for fault in faults if fault.get("loc"))
        why = f"the environment variable {names}" if names else str(error)[:REASON_LENGTH]
        raise InfrastructureError(f"deepeval cannot be loaded: {why}.") from None


def _quieten() -> None:
    """Keep deepeval from files, settings and servers that are none of ours, before it is imported.

    Its own variables go: one of them may switch its traces on or another judge in. Its `.env` and `.deepeval`
    would be those of the pull request's checkout.
    """
    import atexit  # noqa: PLC0415 with the library
    import os  # noqa: PLC0415 with the library
    import shutil  # noqa: PLC0415 with the library
    import tempfile  # noqa: PLC0415 with the library

    folder = tempfile.mkdtemp(prefix="gatehouse-deepeval-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith(("DEEPEVAL_", "CONFIDENT_"))]:
        del os.environ[name]
    os.environ |= {
        "DEEPEVAL_CACHE_FOLDER": folder,
        "DEEPEVAL_DISABLE_DOTENV": "1",
        "DEEPEVAL_HOME": folder,
        "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    }


def _load() -> SimpleNamespace:
    from types import SimpleNamespace  # noqa: PLC0415 with the library

    from deepeval import metrics, test_case  # noqa: PLC0415 about 1 s
    from deepeval.metrics import indicator  # noqa: PLC0415 about 1 s
    from deepeval.models import DeepEvalBaseLLM  # noqa: PLC0415 about 1 s

    # Opted out of telemetry, it counts all the same, and starts a thread that would send the counts.
    vars(indicator)["record_metric"] = lambda *_args, **_more: None

    class Model(DeepEvalBaseLLM):  # type: ignore[no-untyped-call] # its base class says no types
        """Our judge as a model of deepeval. The first fault is kept, whatever the library makes of it."""

        def __init__(self, judge: Judge) -> None:
            self.judge = judge
            self.fault: Exception | None = None
            self.things = ""
            self.counts: dict[str, int] = {}
            """How many opinions, claims, questions, ... there are, as far as they are known."""

        def load_model(self, *_args: Any, **_more: Any) -> Any:
            return self

        def get_model_name(self, *_args: Any, **_more: Any) -> str:
            return "judge"

        def generate(self, *_args: Any, **_more: Any) -> Any:
            raise NotImplementedError

        async def a_generate(self, *_args: Any, **_more: Any) -> Any:
            raise NotImplementedError

        async def a_generate_with_schema(self, *args: Any, schema: Any = None, **_more: Any) -> Any:
            if self.fault is not None:  # what else it asks at once need not be asked any more
                raise self.fault
            form = _form(schema.model_json_schema(), self.things, self.counts)
            try:
                reply = await self.judge.ask(args[0], form)
            except Exception as error:
                self.fault = self.fault or error
                raise
            self.counts |= {name: len(value) for name, value in reply.items() if isinstance(value, list)}
            return schema.model_validate(reply)

    return SimpleNamespace(metrics=metrics, test_case=test_case, Model=Model)


def _form(form: dict[str, Any], things: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """What deepeval's prompt demands and its JSON Schema does not: so the judge is made to mend it.

    deepeval counts the verdicts that come back, and takes none at all for a pass.
    """
    fields = form["properties"]
    for name, asked in (("verdicts", things), ("answers", "questions"), ("questions", "")):
        if name in fields:
            count = counts.get(asked)
            fields[name] |= {"minItems": 1} if count is None else {"minItems": count, "maxItems": count}
    if "score" in fields:  # geval's
        fields["score"] |= {"minimum": 0, "maximum": 10}
    return form


def _make(recipe: Recipe, arguments: dict[str, Any], model: Any) -> Any:
    """One metric of deepeval, which holds the state of one sample.

    Its reason is not asked for, where that is one more call: the verdicts say as much. Jev, its other kind of
    judge, is never asked.
    """
    import inspect  # noqa: PLC0415 with the library
    import warnings  # noqa: PLC0415 with the library

    library = _library()
    made = getattr(library.metrics, recipe.class_name)
    common = {"model": model, "eval_mode": "llm", "include_reason": not recipe.against}
    taken = inspect.signature(made.__init__).parameters
    enums = {
        "GEval": library.test_case.SingleTurnParams,
        "ToolCorrectnessMetric": library.test_case.ToolCallParams,
    }
    if recipe.class_name in enums:
        params = [enums[recipe.class_name](name) for name in arguments["evaluation_params"]]
        arguments = arguments | {"evaluation_params": params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a score was turned round in this version
        return made(**{name: value for name, value in common.items() if name in taken}, **arguments)


def _test_case(sample: Sample) -> Any:
    """The sample as deepeval has it; its `context` is what is true, the golden set's where that has any."""
    kinds = _library().test_case

    def calls(made: Sequence[Any] | None) -> list[Any] | None:
        if made is None:
            return None
        return [kinds.ToolCall(name=call.name, input_parameters=call.arguments) for call in made]

    case = kinds.LLMTestCase(
        input=sample.input,
        actual_output=sample.output or " ",
        expected_output=sample.expected,
        context=sample.reference_contexts or sample.contexts,
        retrieval_context=sample.contexts,
        tools_called=calls(sample.tool_calls),
        expected_tools=calls(sample.expected_tools),
    )
    case.multimodal = False  # an answer that writes deepeval's mark of an image is text, and opens no file
    return case


async def measure(
    recipe: Recipe, arguments: dict[str, Any], sample: Sample, judge: Judge
) -> tuple[float, str]:
    """The value of one sample by one vote, and why it is not better; raises JudgeError."""
    shown = arguments.get("evaluation_params", ["actual_output"])
    if recipe.empty is not None and "actual_output" in shown and not sample.output.strip():
        return recipe.empty, "the answer is empty" if recipe.empty == 0 else ""
    model = _library().Model(judge)
    try:
        case = _test_case(sample)
        metric = _make(recipe, arguments, model)
        model.things = recipe.things
        given = {recipe.things: recipe.things, "questions": "assessment_questions"}
        for name, attribute in given.items():
            known = getattr(metric, attribute, None) or getattr(case, attribute, None)
            model.counts |= {name: len(known)} if known else {}
        value = await metric.a_measure(case, _show_indicator=False)
    except Exception as error:  # noqa: BLE001 whatever it is, there is no score
        message = f"deepeval: {type(error).__name__}: {error}"[:REASON_LENGTH]
        raise (model.fault or JudgeError("library", message)) from None
    if model.fault is not None:
        raise model.fault
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise JudgeError("library", f"deepeval gives {value!r} for a score")
    if not 0 <= value <= 1:  # which NaN is not either
        raise JudgeError("library", f"deepeval gives {value:g}, which is not from 0 to 1")
    return float(value), _reason(metric, recipe)[:REASON_LENGTH] if value < 1 else ""


def _verdicts(metric: Any) -> list[list[Any]]:
    """What the judge decided, in the lists it was asked for."""
    if hasattr(metric, "verdicts_list"):
        return [each.verdicts for each in metric.verdicts_list]
    return [metric.alignment_verdicts if hasattr(metric, "alignment_verdicts") else metric.verdicts]


def _reason(metric: Any, recipe: Recipe) -> str:
    """Why the score is not better: what the verdicts against it say, or deepeval where that costs no call."""
    if not recipe.against:
        reason = " ".join((metric.reason or "").split())
        # tool_correctness adds that it was not given what nobody gives it.
        return reason.removeprefix("[ Tool Calling Reason: ").partition(" Tool Selection Reason: ")[0]
    strict = ("borderline",) if getattr(metric, "penalize_ambiguous_claims", False) else ()
    verdicts = [verdict for each in _verdicts(metric) for verdict in each]
    against = [verdict for verdict in verdicts if verdict.verdict in recipe.against + strict]
    why = [verdict.reason or getattr(verdict, "statement", "") for verdict in against]
    said = [f"{len(against)} of {len(verdicts)}: " + "; ".join(filter(None, why))] if against else []
    for found in getattr(metric, "coverage_verdicts", []):
        original, summary = (text.strip().lower() for text in (found.original_verdict, found.summary_verdict))
        if original == "yes" != summary:
            said.append(f"the summary does not answer: {found.question}")
    return ". ".join(said)
