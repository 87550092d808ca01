"""The stand-in judge reads what ragas, deepeval and rubrics ask, and judges by counting words."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import jsonschema
import pytest
import requests

from gatehouse.evals.judges.question import question, reply_schema
from gatehouse.evals.judges.rubric import Dimension, Example, Rubric
from gatehouse.rehearse.model import StandInModel, complete
from gatehouse.rehearse.words import embedding

QUESTION = "How many days of paid leave do I get, and who approves it?"
REFERENCE = "You get 25 days of paid leave a year. Your manager approves it in the portal."
CONTEXTS = [
    "Employees get 25 days of paid leave a year. Your manager approves leave in the portal.",
    "Laptops are replaced every three years. Keep the receipt.",
    "Unused leave of up to 5 days moves into the next year.",
]
GOOD = "You get 25 days of paid leave a year. Your manager approves leave in the portal."
MIDDLING = "You get 25 days of paid leave a year. The director of finance signs every request on paper."
BAD = "You get 40 days of paid leave a year. Lunch is free on Mondays."
EVASIVE = "I don't know, it depends."


def asked(prompt: str | list[dict[str, str]], **request: Any) -> Any:
    """The message that answers a prompt."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return complete({"model": "m:70b", "messages": messages} | request)["choices"][0]["message"]


def by_schema(prompt: str | list[dict[str, str]], schema: dict[str, Any], **request: Any) -> Any:
    """The reply to a prompt whose answer must follow a schema; it does."""
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    reply = json.loads(asked(prompt, response_format=form, **request)["content"])
    jsonschema.validate(reply, schema)
    return reply


def object_of(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": [*properties]}


STRINGS = {"type": "array", "items": {"type": "string"}}
NLI = object_of(
    statements={
        "type": "array",
        "items": object_of(
            statement={"type": "string"}, reason={"type": "string"}, verdict={"type": "integer"}
        ),
    }
)


def test_a_prompts_examples_are_not_its_data() -> None:
    """Of a prompt with examples in the same form, the last input is what is judged."""
    prompt = (
        'Example 1\nInput: {"answer": "An example."}\nOutput: {}\n\n'
        'Now\ninput: {"question": "Q", "answer": "Mine. And mine."}\nOutput: '
    )
    assert by_schema(prompt, object_of(statements=STRINGS)) == {"statements": ["Mine.", "And mine."]}
    prompt = 'Text:\nAn example.\n\nJSON:\n{"claims": []}\n\nText:\nMine. And mine.\n\nJSON:\n'
    assert by_schema(prompt, object_of(claims=STRINGS)) == {"claims": ["Mine.", "And mine."]}


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("Your manager approves the leave.", 1),
        ("The leave is approved by your manager.", 1),
        ("You get 25 days of paid leave.", 1),
        ("You get 40 days of paid leave.", 0),
        ("Your manager approves leave in the portal within 40 days.", 0),
        ("Your manager does not approve leave in the portal.", 0),
        ("The director signs every request.", 0),
    ],
)
def test_a_claim_is_held_against_the_words_figures_and_denials_of_its_source(claim: str, holds: int) -> None:
    """Enough of its words in any form, each of its figures, and no denial: else it is not supported."""
    data = json.dumps({"context": "\n".join(CONTEXTS), "statements": [claim]})
    [verdict] = by_schema(f"Judge.\ninput: {data}\nOutput: ", NLI)["statements"]
    assert (verdict["statement"], verdict["verdict"]) == (claim, holds)


def test_a_small_model_is_easier_to_convince() -> None:
    """Two judges can differ, so that a panel has something to settle."""
    data = json.dumps({"context": CONTEXTS[0], "statements": ["Your manager approves trips to the sea."]})
    both = [
        by_schema(f"\ninput: {data}", NLI, model=model)["statements"][0]["verdict"]
        for model in ("m:70b", "m:8b")
    ]
    assert both == [0, 1]


@pytest.mark.parametrize("way", ["response_format", "tool", "system", "example"])
def test_a_schema_comes_in_any_of_four_ways(way: str) -> None:
    """By `response_format`, as a forced tool, told in a message, or only shown in the prompt."""
    schema, prompt = (
        object_of(claims=STRINGS),
        'Return JSON.\n{\n  "claims": []\n}\n\nAI Output:\nOne. Two.\n\nJSON:\n',
    )
    user = {"role": "user", "content": prompt}
    system = {
        "role": "system",
        "content": f"Follow this JSON Schema, and nothing else.\n{json.dumps(schema)}",
    }
    tool = {"type": "function", "function": {"name": "reply", "parameters": schema}}
    choice = {"type": "function", "function": {"name": "reply"}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    messages = {"response_format": [user], "tool": [user], "system": [system, user], "example": [user]}[way]
    ways: dict[str, dict[str, Any]] = {
        "response_format": {"response_format": form},
        "tool": {"tools": [tool], "tool_choice": choice},
    }
    more = ways.get(way, {})
    message = asked(messages, **more)
    text = message["tool_calls"][0]["function"]["arguments"] if way == "tool" else message["content"]
    assert json.loads(text) == {"claims": ["One.", "Two."]}


def test_an_agents_request_is_none_of_a_judge() -> None:
    """Tools that may be called, and JSON in a prompt of rules, leave the rules in charge."""
    parameters = object_of(claims=STRINGS)
    tool = {"type": "function", "function": {"name": "reply", "parameters": parameters}}
    rules = 'Reply with JSON only: {"verdict": "yes" | "no"}. If the user mentions rain, no. Otherwise yes.'
    messages = [{"role": "system", "content": rules}, {"role": "user", "content": 'Rain?\n"reason": 1'}]
    assert json.loads(asked(messages, tools=[tool], tool_choice="auto")["content"]) == {"verdict": "no"}


def test_an_unknown_schema_gets_the_least_that_it_allows() -> None:
    """What has no rule is filled by type, choice, bound and reference."""
    inner = object_of(kind={"enum": ["b", "a"]}, size={"type": "integer", "minimum": 3})
    schema = object_of(
        one={"$ref": "#/$defs/Inner"},
        many={"type": "array", "items": {"$ref": "#/$defs/Inner"}, "minItems": 2},
        some={"anyOf": [{"type": "string"}, {"type": "null"}]},
        flag={"type": "boolean"},
        fixed={"const": 7},
    ) | {"$defs": {"Inner": inner}}
    reply = by_schema("Anything.", schema)
    one = {"kind": "b", "size": 3}
    assert reply == {"one": one, "many": [one, one], "some": "", "flag": False, "fixed": 7}


HELPFUL = Dimension("", "quality", (1, 5), "Does it help?", {1: 'It says "no idea".', 5: "It helps."})
TONE = Dimension("tone", "quality", (0, 2), "Is it kind?", {0: 'It says "whatever".', 2: "It is kind."})


def grades(rubric: Rubric, **shown: Any) -> Any:
    """The judge's reply to a rubric."""
    return by_schema(question(rubric, shown), reply_schema(rubric))


def test_a_rubric_is_graded_on_its_scale() -> None:
    """The nearer to the expected answer, the better; the words that an anchor quotes earn its grade."""
    example = Example({"input": "Q", "answer": "no idea"}, {"reason": "r", "grade": 1})
    rubric = Rubric("r.yaml", ("input", "expected", "answer"), (HELPFUL,), (example,))
    given = [
        grades(rubric, input=QUESTION, expected=REFERENCE, answer=answer)["grade"]
        for answer in (GOOD, MIDDLING, BAD, EVASIVE, "", "25 days, no idea about the rest of it")
    ]
    assert given == [5, 3, 2, 1, 1, 1]


def test_each_dimension_has_a_grade_of_its_own() -> None:
    """A quote in its anchors decides one dimension alone; without anything to compare it is undecided."""
    helpful = Dimension("help", "quality", (1, 5), "Does it help?", HELPFUL.anchors)
    rubric = Rubric("r.yaml", ("answer",), (helpful, TONE))
    reply = grades(rubric, answer="Whatever. Ask your manager.")
    assert {name: one["grade"] for name, one in reply.items()} == {"help": None, "tone": 0}
    assert all(one["reason"] for one in reply.values())


@pytest.fixture(scope="module")
def url() -> Any:
    """The address of a stand-in model."""
    with StandInModel() as model:
        yield model.url


def test_embeddings_are_of_length_one_and_near_for_like_texts(url: str) -> None:
    """A list of texts gives a vector each, by the model that was asked, with the tokens it took."""
    body = {"model": "e", "input": [REFERENCE, GOOD, CONTEXTS[1], "and the of"]}
    reply = requests.post(f"{url}/embeddings", json=body, timeout=10).json()
    vectors = [item["embedding"] for item in reply["data"]]
    assert [math.hypot(*v) for v in vectors] == pytest.approx([1, 1, 1, 1])
    like, unlike = (sum(a * b for a, b in zip(vectors[0], v, strict=True)) for v in vectors[1:3])
    assert like > 0.9
    assert unlike < 0.2
    assert reply["model"] == "e"
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 30


def test_embeddings_come_as_base64_where_asked(url: str) -> None:
    """OpenAI's own client asks for base64, of 32-bit floats; one text alone is a list of one."""
    body = {"model": "e", "input": GOOD, "encoding_format": "base64"}
    [item] = requests.post(f"{url}/embeddings", json=body, timeout=10).json()["data"]
    packed = base64.b64decode(item["embedding"])
    assert struct.unpack(f"<{len(packed) // 4}f", packed) == pytest.approx(embedding(GOOD))


@pytest.mark.parametrize("body", [{"model": "e", "input": [1, 2]}, {"model": "e"}, []])
def test_a_request_that_is_none_is_refused(url: str, body: Any) -> None:
    """Tokens in place of texts, no input, no object: 400 with the reason."""
    reply = requests.post(f"{url}/embeddings", json=body, timeout=10)
    assert reply.status_code == 400
    assert "not a request for /v1/embeddings" in reply.json()["error"]["message"]


def test_every_reply_says_what_it_took(url: str) -> None:
    """A judgement reports the tokens of its prompt and of its reply."""
    body: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": 'x\ninput: {"answer": "A."}'}],
    }
    body["response_format"] = {"type": "json_schema", "json_schema": {"schema": object_of(claims=STRINGS)}}
    reply = requests.post(f"{url}/chat/completions", json=body, timeout=10).json()
    assert reply["usage"]["prompt_tokens"] > 0 < reply["usage"]["completion_tokens"]
    assert reply["choices"][0]["finish_reason"] == "stop"
