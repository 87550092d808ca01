"""ragas, loaded quietly and asked through our own judge, and what its numbers come to."""

from __future__ import annotations

import os
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from gatehouse.errors import InfrastructureError
from gatehouse.evals.judges.base import JudgeError
from gatehouse.evals.metrics.base import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.evals.judges.base import Judge

EPSILON = 1e-6
"""A value nearer than this to 0 or 1 is that: ragas adds 1e-8 to denominators, and cosines are rounded."""

BINARY = (0, 1)
FLAGS = {
    "verdict": BINARY,
    "attributed": BINARY,
    "noncommittal": BINARY,
    "answers": ("0", "1"),
}
"""What a field of a reply may hold. ragas says it in its prompts, but its schemas take any number, or any
text, and what it does not expect it counts as a no, drops, or multiplies with."""

MAY_BE_EMPTY = ("claims", "entities")
"""Lists of a reply in which nothing is an answer. Where all others are empty ragas divides by zero or, in
answer_correctness, "assumes a perfect match"."""


class Asked:
    """One metric of ragas for one sample, of the class of that name; `replies` are the judge's so far."""

    def __init__(
        self,
        judge: Judge,
        library: str,
        models: Sequence[str],
        arguments: Mapping[str, Any],
        ratings: Sequence[int] = (),
    ) -> None:
        self.llm, self.embeddings = RagasLlm(judge, ratings), RagasEmbeddings(judge)
        self.replies = self.llm.replies
        named = {"judge": ("llm", self.llm), "embeddings": ("embeddings", self.embeddings)}
        self.metric = getattr(collections(), library)(**dict(named[one] for one in models), **arguments)
        self.asks_at_once = tuple(models) == ("embeddings",)

    async def score(self, inputs: Mapping[str, Any]) -> Score:
        """What it computes of the inputs, by the names of its `ascore`; raises JudgeError."""
        try:
            if self.asks_at_once:  # for embeddings, without awaiting them
                await self.embeddings.aembed_texts([text or " " for text in inputs.values()])
            result = await self.metric.ascore(**inputs)
        except JudgeError:
            raise
        except Exception as error:  # noqa: BLE001 whatever the library stumbles over, the sample has no value
            raise self.llm.fault or _failure(error) from None
        if self.llm.fault:
            raise self.llm.fault
        return bounded(result.value, result.reason or "")


class RagasLlm:
    """The judge as ragas asks it. Some metrics go on after an error, so the first is kept in `fault`."""

    def __init__(self, judge: Judge, ratings: Sequence[int]) -> None:
        self.judge, self.choices = judge, FLAGS | ({"rating": tuple(ratings)} if ratings else {})
        self.fault: Exception | None = None
        self.replies: list[Any] = []

    def generate(self, prompt: str, response_model: Any) -> Any:
        """For the library's synchronous methods, which nobody calls."""
        raise NotImplementedError("a judge is asked asynchronously")

    async def agenerate(self, prompt: str, response_model: Any) -> Any:
        """The reply as `response_model`; raises JudgeError, also for every further question after one."""
        if self.fault:
            raise self.fault
        try:
            reply = await self.judge.ask(
                prompt, _with_choices(response_model.model_json_schema(), self.choices)
            )
            made = _made(response_model, reply)
        except Exception as fault:
            self.fault = fault
            raise
        self.replies.append(made.model_dump())
        return made


class RagasEmbeddings:
    """The judge's embeddings as ragas asks for them; without awaiting, only for those that are `known`."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.known: dict[str, list[float]] = {}

    def embed_text(self, text: str, **_: Any) -> list[float]:
        """The embedding of a text that was asked for before."""
        return self.known[text]

    async def aembed_text(self, text: str, **_: Any) -> list[float]:
        """Raises JudgeError, also for a vector of zeros, whose cosine is no number."""
        vector = await self.judge.embed(text)
        if not any(vector):
            raise JudgeError("malformed", "the embedding is all zeros")
        self.known[text] = vector
        return vector

    async def aembed_texts(self, texts: list[str], **_: Any) -> list[list[float]]:
        """One after the other: what the first finds wrong is not asked again."""
        return [await self.aembed_text(text) for text in texts]


def _with_choices(schema: dict[str, Any], choices: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The schema of a reply, its fields that are choices marked so."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, values in choices.items():
            if name in part.get("properties", {}):
                definition = part["properties"][name]
                definition.get("items", definition)["enum"] = list(values)
    return schema


def _made(model: Any, reply: Any) -> Any:
    """A reply as the library's model; raises JudgeError where it does not fit, or says nothing."""
    from pydantic import ValidationError  # noqa: PLC0415 60 ms, and ragas brings it

    try:
        made = model.model_validate(reply)
    except ValidationError as error:
        fault = error.errors()[0]
        where = "/".join(map(str, fault["loc"]))
        raise JudgeError("malformed", f"the reply{' at ' + where if where else ''}: {fault['msg']}") from None
    lists = {name: value for name, value in made.model_dump().items() if isinstance(value, list)}
    if lists and not any(lists.values()) and not lists.keys() & set(MAY_BE_EMPTY):
        raise JudgeError("library", f"ragas gives no number: the judge found no {' or '.join(lists)}")
    return made


def _failure(error: Exception) -> JudgeError:
    said = " ".join(str(error).split())[:300]
    return JudgeError("library", f"ragas failed: {type(error).__name__}{': ' + said if said else ''}")


def bounded(value: Any, reason: str) -> Score:
    """What the library computed, from 0 to 1; raises JudgeError for what is no such number.

    A negative cosine is as unlike as texts can be, so it counts as 0.
    """
    value = float(value)
    if not isfinite(value):
        raise JudgeError("library", f"ragas gives no number: {value}")
    if -1 - EPSILON <= value < 0:
        return Score(0.0, reason or f"ragas computes {value:.3f}, which counts as 0")
    if value > 1 + EPSILON or value < 0:
        raise JudgeError("library", f"ragas computes {value:g}, which is not from 0 to 1")
    return Score(next((bound for bound in (0.0, 1.0) if abs(value - bound) < EPSILON), value), reason)


@cache
def collections() -> Any:
    """`ragas.metrics.collections` (5 s), which takes our classes for its own; it reports to nobody.

    Importing ragas starts a thread that would send what was evaluated: shutdown ends it, and the variable,
    which is read at the first event, keeps all else back. Raises InfrastructureError.
    """
    from importlib import import_module  # noqa: PLC0415 only where a metric of ragas is used

    os.environ["RAGAS_DO_NOT_TRACK"] = "true"
    try:
        telemetry = import_module("ragas._analytics")._analytics_batcher  # noqa: SLF001 the only handle on it
        telemetry.shutdown()
        import_module("ragas.llms.base").InstructorBaseRagasLLM.register(RagasLlm)
        import_module("ragas.embeddings.base").BaseRagasEmbedding.register(RagasEmbeddings)
        return import_module("ragas.metrics.collections")
    except Exception as error:  # noqa: BLE001 whatever it is, nothing can be measured
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise InfrastructureError(f"ragas cannot be loaded: {why}.") from None
