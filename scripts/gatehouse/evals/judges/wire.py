"""What a judge is sent, and what its reply means. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent.protocol import Usage
from gatehouse.agent.schema import explain
from gatehouse.evals.completion import RefusedError, parse_completion
from gatehouse.evals.judges.base import JudgeError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TOKENS = 4096
"""Tokens of one reply, at most."""
MAX_TEXT = 200_000
"""Characters of a reply that is read for JSON; no reply within MAX_TOKENS is longer."""
MAX_DEPTH = 100
"""Levels of nesting in a reply: what is kept must be readable again."""
SHOWN = 200
"""Characters of a reply that a message shows."""

TOLD = (
    "Reply with one JSON value that follows this JSON Schema, and with nothing else: "
    "no words before or after it, no code fence.\n"
)
AGAIN = (
    "That reply cannot be used: {fault} Reply again, with nothing but one JSON value that follows the schema."
)

_BAD_REQUEST = re.compile(r"HTTP (?:400|422)\b")
_FORMAT = re.compile(
    r"response[_ ]?(?:format|(?:json_)?schema)|json_(?:schema|object)|structured output", re.IGNORECASE
)
_FILTER = re.compile(r"content[_ ](?:filter|management policy)", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\bI(?:['\u2019]m| am) (?:sorry|unable|not able)\b"
    r"|\bI (?:can(?:['\u2019]t|not)|won['\u2019]t|must decline)\b",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE, _LANGUAGE = "```", re.compile(r"\A[\w+-]*\s")
_OPENING = re.compile(r"[{\[]")
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How one model wants to be asked: what it refuses is left out or called by its other name."""

    temperature: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    format: Literal["json_schema", "json_object", ""] = "json_schema"

    def request(
        self, model: str, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The body of a request for a chat completion."""
        request: dict[str, Any] = {"model": model, "messages": list(messages), self.limit: MAX_TOKENS}
        if self.temperature:
            request["temperature"] = 0
        if self.format == "json_schema":
            name = _NAME.sub("_", str(schema.get("title") or "reply"))[:64]
            request["response_format"] = {
                "type": "json_schema",
                # Strict ones allow a part of JSON Schema only; what came is checked anyway.
                "json_schema": {"name": name, "schema": dict(schema), "strict": False},
            }
        elif self.format:
            request["response_format"] = {"type": self.format}
        return request

    def after(self, refusal: str) -> Manner | None:
        """How to ask instead after this refusal; None where it is about nothing that could be left out.

        The limit of tokens is renamed and never dropped: without it no call's cost has a bound.
        """
        if not _BAD_REQUEST.match(refusal):
            return None
        if self.limit == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, limit="max_completion_tokens")
        if self.temperature and "temperature" in refusal:
            return replace(self, temperature=False)
        if self.format and _FORMAT.search(refusal):
            return replace(self, format="json_object" if self.format == "json_schema" else "")
        return None

    def note(self, name: str) -> str:
        """What a person should know of it; "" where there is nothing."""
        lost = ["temperature 0"] if not self.temperature else []
        lost += ["a JSON Schema for its reply"] if self.format != "json_schema" else []
        return f"{name} does not take {' or '.join(lost)}." if lost else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion: its text and its refusal, "" for none, and why it ended."""

    text: str
    refusal: str
    finish: str


def messages_of(prompt: str | Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompt as messages, with the schema told in the system's.

    Some providers ignore `response_format`, so it is told in words, and once: here. Not in the user's
    message, whose end many prompts use (ragas' end in "Output:", deepeval's in "JSON:"), and in one system
    message with the prompt's own, since some models take only one.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
    told = TOLD + json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if messages and messages[0].get("role") == "system":
        messages[0]["content"] = f"{messages[0]['content']}\n\n{told}"
        return messages
    return [{"role": "system", "content": told}, *messages]


def repair_of(messages: Sequence[Mapping[str, Any]], text: str, fault: str) -> list[dict[str, Any]]:
    """The same question with the reply and what is wrong with it."""
    said = {"role": "assistant", "content": text[:MAX_TEXT] or "(no reply)"}
    return [*map(dict, messages), said, {"role": "user", "content": AGAIN.format(fault=fault)}]


def read_reply(body: bytes, provider: str, model: str) -> tuple[Reply, Usage | None]:
    """The reply of a chat completion and its usage, where it says; raises JudgeError for what is none."""
    try:
        parts = parse_completion(body, provider, model)
    except RefusedError as error:
        raise JudgeError(error.kind, plain(error.message, 2 * SHOWN)) from None
    choice = json.loads(body)["choices"][0]
    refusal = str(choice["message"].get("refusal") or "")
    text = "" if refusal or parts["output"] is None else parts["output"]
    reply = Reply(text, refusal, str(choice.get("finish_reason") or ""))
    return reply, parts["usage"][0] if parts["usage"] else None


def ended_badly(reply: Reply) -> JudgeError | None:
    """What another try would meet again: a reply that was cut or filtered."""
    if reply.finish == "length":
        return JudgeError("malformed", f"the judge's reply was cut at its limit of {MAX_TOKENS} tokens")
    if reply.finish == "content_filter":
        return JudgeError("filtered", "the provider's content filter held back the judge's reply")
    return None


def fault_of(reply: Reply, fault: str) -> JudgeError:
    """A reply that a repair did not mend either: a refusal, or not what was asked for."""
    said = reply.refusal or reply.text
    if reply.refusal or (_REFUSAL.search(said) and not _OPENING.search(said)):
        return JudgeError("refused", f"the judge refuses: {plain(said, SHOWN)}")
    return JudgeError("malformed", f"the judge's reply cannot be used, twice: {fault}")


def refusal_of(error: RefusedError) -> JudgeError:
    """A request that the provider refused; some say so where their filter met the prompt."""
    return JudgeError("filtered" if _FILTER.search(error.message) else error.kind, error.message)


def value_of(reply: Reply, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The JSON value that a reply is, where it follows `schema`, and ""; or None and what is wrong with it.

    Nothing stands around it but thoughts before it and one code fence. JSON among words is a fault, and so is
    a name that is given twice: the judge may quote what the answer that it judges demands.
    """
    if reply.refusal:
        return None, f"it is a refusal ({plain(reply.refusal, SHOWN)})."
    text = _THOUGHT.sub("", reply.text).strip()
    if not text:
        return None, "it is empty."
    if len(text) > MAX_TEXT:
        return None, f"it is longer than {MAX_TEXT} characters."
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        text = _LANGUAGE.sub("", text.removeprefix(_FENCE).removesuffix(_FENCE)).strip()
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite)
    except (json.JSONDecodeError, RecursionError):
        return None, f"it is no JSON value with nothing around it ({plain(text, SHOWN)})."
    except ValueError as error:
        return None, f"{plain(str(error), SHOWN)}."
    fault = _wrong(value, schema)
    return (None, fault) if fault else (value, "")


def read_embedding(body: bytes, provider: str, model: str) -> tuple[list[float], Usage | None]:
    """The vector of a reply to one text, and its usage; raises JudgeError for what is none."""
    try:
        reply = json.loads(body)
        if reply.get("error"):
            raise JudgeError("provider-error", plain(str(reply["error"]), SHOWN))
        vector = [float(x) for x in reply["data"][0]["embedding"]]
        if not vector or not all(map(isfinite, vector)):
            raise ValueError("no finite numbers")
        tokens = (reply.get("usage") or {}).get("prompt_tokens")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"the reply is no embedding ({type(error).__name__}: {error})"
        raise JudgeError("malformed", plain(what, SHOWN)) from None
    if not isinstance(tokens, int) or not 0 <= tokens < 2**53:
        return vector, None
    return vector, Usage(provider, model, tokens, 0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """With each name once: of two values, readers disagree on which one counts."""
    value: dict[str, Any] = {}
    for name, one in pairs:
        if name in value:
            raise ValueError(f'it gives "{name}" twice')
        value[name] = one
    return value


def _finite(digits: str) -> float:
    """A finite number; NaN, Infinity and 1e999 are none."""
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} in it is no number")
    return number


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [one for many in inner for one in many]
    return bool(level)


def _wrong(value: Any, schema: Mapping[str, Any]) -> str:
    """The worst that `schema` finds in the value, in words; "" for nothing."""
    if _too_deep(value):
        return f"it is nested deeper than {MAX_DEPTH} levels."
    from jsonschema import Draft202012Validator  # noqa: PLC0415 heavy, and only where a judge is asked
    from jsonschema.exceptions import best_match  # noqa: PLC0415 as above

    error = best_match(Draft202012Validator(schema).iter_errors(value))
    return plain(explain(error)[0].message, SHOWN) if error else ""
