"""What a judge is sent, and what is read from its reply."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.evals.judges.base import JudgeError
from gatehouse.evals.judges.wire import (
    Manner,
    Reply,
    messages_of,
    read_embedding,
    read_reply,
    value_of,
)

SCHEMA = {
    "title": "Grade: tone (1-5)",
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": 1, "maximum": 5}, "reason": {"type": "string"}},
    "required": ["grade"],
}


ALONE = "it is no JSON value with nothing around it"


def read(text: str, refusal: str = "") -> tuple[Any, str]:
    """What a reply of that text says."""
    return value_of(Reply(text, refusal, "stop"), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        '{"grade": 4}',
        ' \n{"grade": 4}\n',
        '```json\n{"grade": 4}\n```',
        '```\n{"grade": 4}```',
        '``` {"grade": 4} ```',
        '```{"grade": 4}```\n',
        '<think>{"grade": 1} or {"grade": 2}? No.</think>\n{"grade": 4}',
        ' <think>\n</think>```json\n{"grade": 4}\n```',
    ],
)
def test_a_reply_is_one_json_value_whatever_was_thought_before(text: str) -> None:
    """White space, thoughts before it and one code fence around it change nothing."""
    assert read(text) == ({"grade": 4}, "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is empty"),
        ("Four of five.", "it is no JSON value with nothing around it (Four of five.)"),
        ('{"grade": 11}', '"grade" is 11: it must be at most 5'),
        ('{"grade": "4"}', '"grade" is text'),
        ('{"reason": "good"}', '"grade" is missing'),
        ('[{"grade": 4}]', "it must be an object"),
        ('The answer demands {"grade": 5}. I do not follow it: the grade is 1.', ALONE),
        ('The answer says {"grade": 5}. I say {"grade": 1}.', ALONE),
        ('{"grade": 4} {"grade": 4}', ALONE),
        ('{"grade": 4} Done.', ALONE),
        ('It says:\n```json\n{"grade": 5}\n```', ALONE),
        ('```json\n{"grade": 5}\n```\nI say 1.', ALONE),
        ('```\n{"grade": 5}\n```\n```\n{"grade": 5}\n```', ALONE),
        ('```\n```json\n{"grade": 5}\n```\n```', ALONE),
        ('I see <think></think>{"grade": 4}', ALONE),
        ('<think>"</think>" ends it.</think>{"grade": 4}', ALONE),
        ('<think>{"grade": 4}', ALONE),
        ("```", ALONE),
        ("```" + "a" * 190_000, ALONE),
        ('{"seen": {"grade": 5}, "grade": 1,}', ALONE),
        ('{"grade": 1, "grade": 5}', 'it gives "grade" twice.'),
        ('{"grade": 1, "gr\\u0061de": 5}', 'it gives "grade" twice.'),
        ('{"grade": 1, "x": [{"a": 1, "a": 1}]}', 'it gives "a" twice.'),
        ('{"grade": NaN}', "NaN in it is no number"),
        ('{"grade": 4, "weight": 1e999}', "1e999 in it is no number"),
        ('{"grade": ' + "1" * 5000 + "}", "4300 digits"),
        ("[" * 100_000, ALONE),
        ('{"grade": 4, "x": ' + "[" * 200 + "]" * 200 + "}", "nested deeper"),
        ("x" * 300_000, "longer than"),
    ],
    ids=range(29),
)
def test_what_is_no_single_value_of_the_schema_is_a_fault(text: str, fault: str) -> None:
    """Nothing is guessed: JSON among words may be quoted, and of a name that comes twice none counts."""
    value, said = read(text)
    assert value is None
    assert fault in said
    assert len(said) < 300


def test_a_fault_shows_no_control_characters_of_the_reply() -> None:
    """A reply is a model's text: it moves no cursor in our messages."""
    assert "\x1b" not in read("\x1b[2Jno")[1]


def test_the_schema_is_told_once_in_the_system_s_message() -> None:
    """The user's message stays as it is, at the end; there is never a second system message."""
    system, user = messages_of("Judge this.\nOutput: ", SCHEMA)
    assert user == {"role": "user", "content": "Judge this.\nOutput: "}
    assert system["role"] == "system"
    assert '"maximum":5' in system["content"]
    given = [{"role": "system", "content": "You are strict."}, {"role": "user", "content": "Judge."}]
    own, last = messages_of(given, SCHEMA)
    assert own["content"].startswith("You are strict.\n\n")
    assert '"maximum":5' in own["content"]
    assert last == given[1]
    assert given[0]["content"] == "You are strict."


def test_a_request_asks_for_the_schema_by_a_name_that_providers_take() -> None:
    """Names are of letters, digits, - and _, 64 at most."""
    request = Manner().request("m", [], SCHEMA | {"title": "Grade: tone (1-5)" * 9})
    asked = request["response_format"]["json_schema"]
    assert asked["name"].startswith("Grade_tone_1-5_")
    assert len(asked["name"]) == 64
    assert asked["strict"] is False
    assert (request["temperature"], request["max_tokens"]) == (0, 4096)


@pytest.mark.parametrize(
    ("refusal", "changed"),
    [
        (
            "HTTP 400: Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            {"limit": "max_completion_tokens"},
        ),
        ("HTTP 400: Unsupported value: 'temperature' does not support 0", {"temperature": False}),
        ("HTTP 422: This response_format type is unavailable now", {"format": "json_object"}),
        (
            "HTTP 400: This model does not support response format `json_schema`.",
            {"format": "json_object"},
        ),
    ],
)
def test_what_a_model_refuses_is_asked_otherwise(refusal: str, changed: dict[str, Any]) -> None:
    """One thing at a time, and only what the refusal names."""
    other = Manner().after(refusal)
    assert other == Manner(**changed)
    assert other is not None
    assert other.after(refusal) != other


@pytest.mark.parametrize(
    "refusal",
    [
        "HTTP 400: the context is 8192 tokens, you asked for 9000 (4096 of max_tokens)",
        "HTTP 404: no model; temperature is fine",
        "HTTP 401: response_format",
    ],
)
def test_no_other_refusal_changes_how_is_asked(refusal: str) -> None:
    """The limit of tokens is never dropped: it bounds what a call can cost."""
    assert Manner().after(refusal) is None


def test_a_model_that_takes_no_format_is_asked_in_words_alone() -> None:
    """The format is given up in two steps, and then there is nothing left to give up."""
    manner: Manner | None = Manner()
    formats = []
    while manner:
        formats.append(manner.request("m", [], SCHEMA).get("response_format", {}).get("type"))
        manner = manner.after("HTTP 400: response_format is not supported")
    assert formats == ["json_schema", "json_object", None]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "provider-error"),
        (b'{"error": {"message": "no credit", "code": "insufficient_quota"}}', "quota"),
        (b'{"choices": []}', "provider-error"),
    ],
)
def test_a_200_that_is_no_completion_is_the_infrastructure_s(body: bytes, kind: str) -> None:
    """Some providers report errors with status 200."""
    with pytest.raises(JudgeError) as caught:
        read_reply(body, "openai", "m")
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"x",
        b'{"data": []}',
        b'{"data": [{"embedding": []}]}',
        b'{"data": [{"embedding": [NaN]}]}',
        b'{"data": [{"embedding": ["x"]}]}',
        b'{"data": {"embedding": 1}}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_what_is_no_vector_of_finite_numbers_is_no_embedding(body: bytes) -> None:
    """A NaN would spread through every similarity."""
    with pytest.raises(JudgeError, match="malformed: the reply is no embedding"):
        read_embedding(body, "openai", "m")
