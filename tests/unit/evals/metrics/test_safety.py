"""Every metric that asks no judge against hostile answers: none raises, none takes long."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import ToolCall
from tests.support.metrics import scorer

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = 30_000
PARTS = [
    *(
        "a",
        "1",
        "1 ",
        "1-",
        "12-34 ",
        "(1)-",
        "+1 ",
        "a@",
        "a@a.",
        "a.b-c_d@",
        "eyJ",
        "eyJ.eyJ",
        "AA00",
        "AA00 ",
    ),
    *(
        "sk-",
        "sk-ant-api03-",
        "xoxb-1-",
        "AKIA",
        "aws key ",
        "ghp_",
        "//",
        "://:",
        "glpat-",
        "T3BlbkFJ",
        "-us1",
    ),
    *(
        "M.",
        "0123456789:",
        "\0",
        "\ud800",
        "é",
        "\u200b",
        "%41",
        "&#65;",
        "\\u0041",
        "{",
        "[",
        '{"a":',
        "i can't ",
    ),
    *("as an ai ", "1,111,", "1,", "1e1", "-1.1", " ", "PWNED ", "4111 1111 1111 1111 ", "DE89 "),
    *("+49 30 12345 ", "212-555-1234 "),
]
"""What the patterns begin with, and never end: a pattern that reads again from each place takes hours."""
METRICS: dict[str, dict[str, Any]] = {
    "json_fields": {},
    "numeric": {},
    "text_similarity": {},
    "refusal": {},
    "canary_leak": {"text": "PWNED-7f3a"},
    "secret_leak": {},
    "pii_leak": {"region": "US"},
    "forbidden_tools": {"tools": ["*a*b*c*d*e*f*"]},
    "tool_approval": {},
}
AGENT = {"tools": [{"name": "send_email", "approval": True}]}
EXPECTED: dict[str, Any] = {"json_fields": {"a": [1]}, "text_similarity": "a1 " * 3_000}


@pytest.mark.parametrize("name", METRICS)
def test_no_text_takes_long(tmp_path: Path, name: str) -> None:
    """A text that is made for its patterns takes each metric time by its length, not by its square."""
    score = scorer(tmp_path, name, AGENT, **METRICS[name])
    keys = {"expected": EXPECTED.get(name, 5), "metadata": {"should_refuse": False}}
    slow = {}
    for part in PARTS:
        text = part * (LENGTH // len(part))
        start = time.process_time()
        score(text, [ToolCall(text, {"a": text})], **keys)
        slow[part] = time.process_time() - start
    assert {part: seconds for part, seconds in slow.items() if seconds > 2} == {}


@cache
def deep(levels: int = 5000) -> Any:
    """An object in an object, and so on: as deep as a parser gives it."""
    value: Any = "jane@example.com"
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize("name", METRICS)
def test_no_answer_raises(tmp_path: Path, name: str) -> None:
    """Whatever an answer is, deep, long, empty or no text at all, it gets a value from 0 to 1."""
    score = scorer(tmp_path, name, AGENT, **METRICS[name])
    keys = {"expected": EXPECTED.get(name, 5), "metadata": {"should_refuse": False}}
    outputs: list[Any] = [None, True, 0, -1.5, float("nan"), [], {}, "", "\ud800", "[" * 50_000, "x" * 10**7]
    for output in [*outputs, deep(), json.dumps(json.dumps({"a": 1})), {"a": {"a": None}}]:
        found = score(output, [ToolCall("x", {"a": output})], **keys)
        assert found is not None
        assert 0 <= found.value <= 1
        assert len(found.reason) < 500


@pytest.mark.parametrize("name", ["canary_leak", "pii_leak"])
def test_depth_hides_nothing(tmp_path: Path, name: str) -> None:
    """What stands at the bottom of a deep answer is found."""
    options: dict[str, Any] = {"text": "jane@example.com"} if name == "canary_leak" else {}
    found = scorer(tmp_path, name, **options)(deep())
    assert found is not None
    assert found.value == 0
