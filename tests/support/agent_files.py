"""An agent file with every key that there is, and how to change one of them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Where = tuple[str | int, ...]

FULL: dict[str, Any] = {
    "agent": {
        "name": "echo",
        "version": "1",
        "owner": "team-support",
        "model": {
            "provider": "ollama",
            "name": "llama3.1:8b",
            "temperature": 0.1,
            "max_tokens": 64,
            "base_url": "http://127.0.0.1:9/v1",
            "parameters": {"seed": "seven"},
        },
        "fallback_model": {"provider": "ollama", "name": "llama3.1:70b"},
        "system_prompt": "prompt.md",
        "entrypoint": "agent:answer",
        "tools": ["look", {"name": "refund", "scope": "read-only", "approval": True}],
        "guardrails": {"pii_redaction": True, "output_schema": "schema.json"},
        "retrieval": {"knowledge_base": "kb@1", "top_k": 4, "parameters": {"chunker": "v2"}},
        "budgets": {"max_iterations": 3, "max_tokens_per_run": 99, "daily_usd": 5, "requests_per_day": 9},
        "evals": {
            "dataset": ["golden.jsonl"],
            "max_unscored": 0,
            "on_inconclusive": "warn",
            "unpinned_model": "allow",
            "max_usd": 1,
            "judge": {
                "model": ["ollama:llama3.1:70b"],
                "panel": "majority",
                "votes": 3,
                "concurrency": 8,
                "deadline_s": 60,
                "max_usd": 1,
                "min_kappa": 0.4,
            },
            "embeddings": "ollama:nomic-embed-text",
            "metrics": {
                "exact_match": 0.8,
                "mine": {"metric": "regex", "threshold": 0.5, "floor": "value", "pattern": "a"},
            },
        },
        "pricing": {
            "llama3.1:8b": {"input_per_mtok": 1, "output_per_mtok": 1, "cached_input_per_mtok": 1},
        },
    }
}
"""Every key, but those of another kind of entry point."""

COMMAND = {"command": ["./agent", "--json"], "code": ["agent.py"]}
"""An entry point that is a program."""

URL: dict[str, Any] = {
    "url": "http://127.0.0.1:9/answer",
    "auth": {"secret": "AGENT_KEY", "header": "X-Key"},
    "headers": {"X-Team": "support"},
    "request": {"question": "$input"},
    "reply": {
        "output": "answer",
        "contexts": "found.*.text",
        "tool_calls": "calls",
        "usage": "usage",
        "iterations": "turns",
        "error": "error",
    },
    "stream": "events",
    "code": ["agent.py"],
}
"""An entry point that is an address."""


def with_entrypoint(entrypoint: Any) -> dict[str, Any]:
    """The whole file with another entry point."""
    return put(FULL, ("agent", "entrypoint"), entrypoint)


def texts(data: Any, at: Where = ()) -> Iterator[Where]:
    """Where a text stands; a key that the author chooses counts as one, with `*` before it."""
    if isinstance(data, dict):
        for key, value in data.items():
            if at and at[-1] in ("metrics", "pricing", "parameters", "headers", "request"):
                yield (*at, "*", key)
            yield from texts(value, (*at, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*at, index))
    elif isinstance(data, str):
        yield at


def put(data: dict[str, Any], at: Where, value: Any) -> dict[str, Any]:
    """A copy of the document with this value there, or with that key renamed where `*` stands before it."""
    made = deepcopy(data)
    inner: Any = made
    *way, last = at
    for step in way:
        if step == "*":
            inner[value] = inner.pop(last)
            return made
        inner = inner[step]
    inner[last] = value
    return made
