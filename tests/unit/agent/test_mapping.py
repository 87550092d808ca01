"""What is posted to an address, what its reply says, and every mistake in a mapping."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import load_agent
from gatehouse.agent.entrypoint import Url
from gatehouse.agent.mapping import DEFAULT, MAX_PIECES, events, faults, fill, find, parts_of
from gatehouse.agent.protocol import MalformedError
from gatehouse.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

CASE = {"input": {"q": "open?"}, "id": "c1", "repeat": 2, "deadline_s": 30.0}


def parts(reply: Any, stream: str | None = None, **paths: str) -> dict[str, Any]:
    """The parts of a reply: bytes, or what becomes JSON."""
    return parts_of(reply if isinstance(reply, bytes) else json.dumps(reply).encode(), paths, stream)


def server_sent(*data: Any) -> bytes:
    """An event for each."""
    return "".join(f"data: {json.dumps(one)}\n\n" for one in data).encode()


def said_of(url: str = "http://agent.example/ask", **fields: Any) -> dict[str, str]:
    """The message of each fault, by the keys it stands at."""
    return {".".join(map(str, keys)): message for keys, message, _ in faults(Url(url, **fields))}


@pytest.mark.parametrize(
    ("template", "posted"),
    [
        (DEFAULT, CASE),
        ({"a": ["$input", "$repeat"]}, {"a": [{"q": "open?"}, 2]}),
        ({"a": "Case $id: $input."}, {"a": 'Case c1: {"q": "open?"}.'}),
        ({"a": "$$input", "b": "5 $$ and $id", "$id": 1}, {"a": "$input", "b": "5 $ and c1", "$id": 1}),
        ({"a": None, "b": True, "c": {"d": 1.5}}, {"a": None, "b": True, "c": {"d": 1.5}}),
    ],
)
def test_a_template_is_filled(template: Any, posted: Any) -> None:
    """A name alone becomes the JSON value, inside a longer text its text, and $$ a dollar."""
    assert fill(template, CASE) == posted


def test_what_a_case_holds_is_not_filled_in_again() -> None:
    """An input that spells a name is text."""
    assert fill({"a": "$input", "b": "-$input"}, {**CASE, "input": "$id $$"}) == {
        "a": "$id $$",
        "b": "-$id $$",
    }


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b.0.c", [1]),
        ("a.b.-1.c", [3]),
        ("a.b.*.c", [[1, 3]]),
        ("a.b.*", [[{"c": 1}, {}, {"c": 3}]]),
        ("a.n.*.*.t", [["x", "y", "z"]]),
        ("a.none.*.t", [[]]),
        ("a.null", [None]),
        ("a.7", ["a key"]),
        ("a.b.3", []),
        ("a.b.-4", []),
        ("a.b.*.d", []),
        ("a.b.c", []),
        ("a.null.c", []),
        ("x", []),
        ("a.*", []),
    ],
)
def test_a_path_leads_somewhere_or_nowhere(path: str, found: list[Any]) -> None:
    """Keys, indices from either end, and every item."""
    value = {
        "a": {
            "b": [{"c": 1}, {}, {"c": 3}],
            "n": [[{"t": "x"}, {"t": "y"}], [{"t": "z"}]],
            "none": [],
            "null": None,
            "7": "a key",
        }
    }
    assert find(value, path) == found


def test_parts_stand_under_their_own_names() -> None:
    """What else a reply holds is of no concern, and an error that says nothing is none."""
    reply = {"output": "yes", "contexts": ["a"], "iterations": 2, "error": False, "trace": 7}
    assert parts(reply) == {"output": "yes", "contexts": ["a"], "iterations": 2}
    assert parts({"output": None}) == {"output": None}


def test_parts_stand_where_the_file_says() -> None:
    """Other names are then not looked at."""
    reply = {
        "data": {"text": "yes"},
        "sources": [{"t": "a"}, {"t": "b"}],
        "calls": [{"function": {"name": "look", "arguments": "{}"}}],
        "error": "of something else",
    }
    paths = {"output": "data.text", "contexts": "sources.*.t", "tool_calls": "calls.*.function"}
    assert parts(reply, **paths) == {
        "output": "yes",
        "contexts": ["a", "b"],
        "tool_calls": [{"name": "look", "arguments": "{}"}],
    }


def test_one_passage_is_a_list_of_one() -> None:
    """Many services hand back one text."""
    assert parts({"output": "yes", "contexts": "a"})["contexts"] == ["a"]


def test_tokens_may_be_spelled_as_openai_does() -> None:
    """One object or a list of them, in either spelling."""
    ours = {"provider": "p", "model": "m", "input_tokens": 5, "output_tokens": 2, "cached_tokens": 3}
    theirs = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    short = {"prompt_tokens": 5, "model": "m", "provider": "p"}
    assert parts({"output": 1, "usage": ours})["usage"] == [ours]
    [usage] = parts({"output": 1, "usage": {**theirs, "provider": "p", "model": "m"}})["usage"]
    assert usage == ours
    assert parts({"output": 1, "usage": [ours, short]})["usage"] == [
        ours,
        {**ours, "output_tokens": 0, "cached_tokens": None},
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [("no", "no"), ({"message": "no"}, {"message": "no"}), ({"code": 3}, '{"code": 3}')],
)
def test_an_agent_may_say_that_it_failed(error: Any, said: Any) -> None:
    """Then there need be no output."""
    assert parts({"error": error}) == {"error": said, "output": None}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            b"<html>",
            "the reply cannot be read: not JSON: expecting value at column 1; it begins with '<html>'",
        ),
        (b"", "the reply cannot be read: .*; it is empty"),
        (b'{"output": NaN}', "the reply cannot be read"),
        (b'{"output": 1, "output": 2}', "given twice"),
        (b"[" * 9999, "nested too deeply"),
        (b'{"output": "\xff"}', r"not UTF-8 \(at byte 13\)"),
        (
            {"answer": 1, "id": 2},
            'no "output" in the reply: the reply has the keys answer, id. .* name its path',
        ),
        ([1, 2], 'no "output" in the reply: the reply is a list of 2'),
        ({}, "the reply is an empty object"),
        ("text", "the reply is 'text'"),
        ({str(n): n for n in range(99)}, "the keys 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."),
    ],
)
def test_a_reply_that_is_none_says_what_it_is(reply: Any, message: str) -> None:
    """With what to write where the answer stands elsewhere."""
    with pytest.raises(MalformedError, match=message):
        parts(reply)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("data.answer", "data has the keys text"),
        ("data.text.value", "data.text is 'hi'"),
        ("list.3", "list is a list of 1"),
        ("other.text", "the reply has the keys data, list"),
    ],
)
def test_a_path_that_leads_nowhere_says_how_far_it_came(path: str, there: str) -> None:
    """And which key of the file to correct."""
    with pytest.raises(MalformedError) as raised:
        parts({"data": {"text": "hi"}, "list": [1]}, output=path)
    assert f'there is no "{path}" in the reply: {there}. ' in str(raised.value)
    assert str(raised.value).endswith("correct `entrypoint.reply.output`")


def test_other_paths_that_lead_nowhere_are_not_reported() -> None:
    """A reply need not hold sources every time."""
    assert parts({"a": 1}, output="a", contexts="s.*.t", usage="u") == {"output": 1}


@pytest.mark.parametrize("stream", ["events", "lines"])
def test_the_outputs_of_a_stream_are_joined(stream: str) -> None:
    """Texts are joined, of everything else the last that says anything counts."""
    pieces = [
        {"delta": "Ø"},
        {"delta": None, "usage": None},
        {"ping": 1},
        {"delta": "pen", "sources": ["a"]},
        {"usage": {"prompt_tokens": 1}, "sources": ["a", "b"]},
        {"usage": None},
    ]
    lines = "".join(json.dumps(piece) + "\r\n\n" for piece in pieces).encode()
    found = parts(
        server_sent(*pieces) if stream == "events" else lines,
        stream,
        output="delta",
        usage="usage",
        contexts="sources",
    )
    assert found["output"] == "Øpen"
    assert found["contexts"] == ["a", "b"]
    assert found["usage"][0]["input_tokens"] == 1


def test_outputs_that_are_no_texts_replace_each_other() -> None:
    """A service that sends its state again and again has said the last one."""
    assert parts(server_sent({"output": {"a": 1}}, {"output": {"a": 2}}), "events") == {"output": {"a": 2}}
    assert parts(server_sent({"output": None}), "events") == {"output": None}


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "ended without any data"),
        (b": hello\n\n", "ended without any data"),
        (b"data: x\n\n", "piece 1 of the stream cannot be read: not JSON.*begins with 'x'"),
        (
            server_sent({"a": 1}, {"b": 2}),
            'no "output" in the reply: the last piece of the stream has the keys b',
        ),
        (b"data: 1\n\n" * (MAX_PIECES + 1), f"more than {MAX_PIECES} pieces"),
    ],
    ids=["empty", "a comment", "text", "no output", "flood"],
)
def test_a_stream_that_says_nothing_says_why(stream: bytes, message: str) -> None:
    """Without data, without JSON, without an output, with too much of it."""
    with pytest.raises(MalformedError, match=message):
        parts(stream, "events")


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        ("data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            ["first event", "second event", " third event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", []),
        ("data:test\n\ndata: test\n\n", ["test", "test"]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", ["a", "b", "c"]),
        ("event: end\n\ndata: a\nevent: x\nretry: 3\nother: y\n\n", ["a"]),
        ("data: a\n\ndata: [DONE]\n\ndata: b\n\n", ["a"]),
        ("data: a\n", []),
        ("data: a\u2028b\n\n", ["a\u2028b"]),
    ],
)
def test_events_are_read_by_the_standard(stream: str, data: list[str]) -> None:
    """The examples of its section 9.2.6, each kind of line end, and what is no data.

    An event whose data is empty lines alone is left out, which no JSON is.
    """
    assert list(events(stream)) == data


def test_a_usual_entry_has_no_faults() -> None:
    """Nothing is said of what is right."""
    assert said_of() == {}
    request = {"question": "$input", "user": "ci-$id"}
    assert (
        said_of(request=request, secret="K", header="X-Key", headers={"X-A": "b"}, reply={"output": "a.0"})
        == {}
    )


@pytest.mark.parametrize(
    ("fields", "keys", "message"),
    [
        ({"url": "http://agent.example:99999/"}, "url", "no address"),
        ({"url": "http://[::1/"}, "url", "no address"),
        ({"url": "http:///ask"}, "url", "no address"),
        ({"request": {"q": "$input", "n": ["$inptu"]}}, "request.n.0", '"$inptu" is nothing of a case'),
        ({"request": {"q": "$input.question"}}, "request.q", '"$input.question" is nothing'),
        ({"request": {"q": "$input for 5 $"}}, "request.q", '"$" is nothing'),
        ({"request": {"q": "${input}"}}, "request.q", '"$" is nothing'),
        ({"request": {"q": "$id $$input"}}, "request", "no $input"),
        ({"reply": {"output": "a..b"}}, "reply.output", '"a..b" is no path'),
        ({"reply": {"output": "$.a"}}, "reply.output", "no path"),
        ({"reply": {"output": "a[0].b"}}, "reply.output", "no path"),
        (
            {"secret": "K", "header": "X-Key", "headers": {"x-key": "a"}},
            "headers.x-key",
            "the header of the secret",
        ),
        (
            {"secret": "K", "headers": {"AUTHORIZATION": "a"}},
            "headers.AUTHORIZATION",
            "the header of the secret",
        ),
        ({"headers": {"Authorization": "Bearer a"}}, "headers.Authorization", "no place in a file"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers.Content-Type", "says how a request is sent"),
        ({"headers": {"host": "a"}}, "headers.host", "says how a request is sent"),
        ({"secret": "K", "header": "Content-Length"}, "auth.header", "says how a request is sent"),
    ],
)
def test_each_mistake_is_a_fault_at_its_key(fields: dict[str, Any], keys: str, message: str) -> None:
    """Where it stands, and what it is."""
    said = said_of(**fields)
    assert list(said) == [keys]
    assert message in said[keys]


def test_the_mistakes_of_a_file_come_at_once_with_their_lines(tmp_path: Path) -> None:
    """As those of every other key, with the text and a caret."""
    (tmp_path / "a.yaml").write_text(
        "agent:\n  name: a\n  version: 1\n  model: {provider: own, name: 'm:1'}\n  entrypoint:\n"
        "    url: http://127.0.0.1:99999\n    request:\n      question: $inptu\n    reply: {output: a..b}\n"
    )
    with pytest.raises(UserError) as raised:
        load_agent("a.yaml", tmp_path)
    assert [problem.line for problem in raised.value.problems] == [6, 8, 9]
    assert "question: $inptu\n" in str(raised.value)
    assert "Known are $input, $id, $repeat, $deadline_s; $$ is a dollar." in str(raised.value)
