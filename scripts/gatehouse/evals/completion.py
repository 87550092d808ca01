"""What an OpenAI-compatible endpoint said: a completion as parts of a run, an error as a fault. Pure."""

from __future__ import annotations

import json
from typing import Any

from gatehouse.agent.protocol import ToolCall, Usage

MAX_TEXT = 300
"""Characters of a body that is no JSON."""


class RefusedError(Exception):
    """A fault that another try would meet again, by rule the provider's; `status` is the reply's, or 0."""

    def __init__(self, kind: str, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status


def parse_completion(body: bytes, provider: str, model: str) -> dict[str, Any]:
    """`output`, `tool_calls`, `usage` and `iterations` of a Run; raises RefusedError for what is none.

    A refusal is the output, and so is an answer that was cut at its token limit: both are the agent's.
    """
    reply = _object(body)
    if reply is None:
        raise RefusedError("provider-error", f"the reply is not a JSON object: {_text(body)}")
    if reply.get("error"):
        raise RefusedError(*_error(200, reply["error"]))
    try:
        message = reply["choices"][0]["message"]
        return {
            "output": _output(message),
            "tool_calls": [_tool_call(call) for call in message.get("tool_calls") or []],
            "usage": _usage(reply.get("usage"), provider, str(reply.get("model") or model)),
            "iterations": 1,
        }
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        what = f"the reply is no chat completion ({type(error).__name__}: {error})"
        raise RefusedError("provider-error", f"{what}: {_text(body)}") from None


def parse_error(status: int, body: bytes) -> RefusedError:
    """The fault that a status other than 200 means: "key", "quota" or "provider-error"."""
    reply = _object(body) or {}
    error = reply.get("error") or reply.get("message") or _text(body)
    return RefusedError(*_error(status, error), status)


def _error(status: int, error: Any) -> tuple[str, str]:
    fields = error if isinstance(error, dict) else {"message": error}
    message = f"HTTP {status}: {fields.get('message') or error}"
    code = f"{fields.get('code')} {fields.get('type')}"
    if status == 402 or "insufficient_quota" in code or "billing" in code:  # noqa: PLR2004
        return "quota", message
    if status in (401, 403) or "invalid_api_key" in code or "authentication_error" in code:
        return "key", message
    return "provider-error", message


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(body: bytes) -> str:
    return body[:MAX_TEXT].decode(errors="replace") or "(empty)"


def _output(message: dict[str, Any]) -> str | None:
    """The text, also of a list of parts; None beside tool calls."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("content is not a text")
    if content:
        return content
    if message.get("refusal"):
        return str(message["refusal"])
    if content is None and not message.get("tool_calls"):
        return ""  # a content filter, or every token spent on reasoning
    return content


def _tool_call(call: dict[str, Any]) -> ToolCall:
    """Arguments that are no JSON object are the model's mistake: kept as a text under "arguments"."""
    function = call["function"]
    arguments = function.get("arguments") or "{}"
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        parsed = None
    name = function["name"]
    if not isinstance(name, str):
        raise TypeError("the name of a tool call is not a text")
    return ToolCall(name, parsed if isinstance(parsed, dict) else {"arguments": str(arguments)})


def _usage(usage: Any, provider: str, model: str) -> list[Usage]:
    if not isinstance(usage, dict):
        return []
    details = usage.get("prompt_tokens_details") or {}
    return [
        Usage(
            provider=provider,
            model=model,
            input_tokens=_tokens(usage.get("prompt_tokens")),
            output_tokens=_tokens(usage.get("completion_tokens")),
            cached_tokens=_tokens(details.get("cached_tokens")),
        )
    ]


def _tokens(value: Any) -> int:
    """A count; raises ValueError for what is none. Some servers leave it out or send null."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError("a token count is not a number")
    return value
