"""An agent behind an address, over real HTTP: what is sent, what is kept, and whose fault the rest is."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.entrypoint import Url
from gatehouse.agent.protocol import Run, RunInfo, ToolCall, Usage, read_runs
from gatehouse.errors import InfrastructureError
from gatehouse.evals import client
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from gatehouse.evals.throttle import DeadError
from gatehouse.evals.web import Web
from tests.support.agent_server import FAULTS, Asked, Reply, serve
from tests.support.running import cases_of, info_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "agent-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no proxy of this machine."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(
    url: str, *inputs: Any, environ: dict[str, str] | None = None, deadline_s: float = 10, **fields: Any
) -> list[Run]:
    """What became of each input, one after the other."""

    async def each() -> list[Run]:
        web = Web(Url(url, **fields), environ or {}, concurrency=2)
        await web.open()
        try:
            return [await web.ask(case, 0, deadline_s) for case in cases_of(inputs or ["hi"])]
        finally:
            await web.close()

    return asyncio.run(each())


def fault(run: Run) -> tuple[str, str]:
    """Whose fault and which."""
    assert run.error
    return run.error.by, run.error.kind


def message(run: Run) -> str:
    """What is said of the fault."""
    assert run.error
    return run.error.message


def recorded(reply: Reply) -> tuple[list[Asked], Callable[[Asked], Reply]]:
    """A list of what came, and the server that fills it."""
    came: list[Asked] = []

    def answer(asked: Asked) -> Reply:
        came.append(asked)
        return reply

    return came, answer


def in_turn(*replies: Reply) -> Callable[[Asked], Reply]:
    """The first request gets the first reply, and all after the last one the last."""
    numbers = count()
    return lambda _: replies[min(next(numbers), len(replies) - 1)]


def test_a_case_is_posted_as_the_protocol_has_it() -> None:
    """Without a mapping: the same request that a command gets, and the same reply."""
    usage = {"provider": "p", "model": "m", "input_tokens": 3, "output_tokens": 2}
    reply = {"output": "yes", "contexts": ["a"], "tool_calls": ["look"], "usage": usage, "iterations": 2}
    came, answer = recorded(Reply(reply))
    with serve(answer) as url:
        [run] = ask(url, {"q": "open?"}, deadline_s=7.5)
    assert came[0].body == {"input": {"q": "open?"}, "id": "c0", "repeat": 0, "deadline_s": 7.5}
    assert came[0].headers["content-type"] == "application/json"
    assert (run.id, run.case, run.output, run.error) == ("c0", "d0", "yes", None)
    assert (run.contexts, run.iterations) == (["a"], 2)
    assert run.tool_calls == [ToolCall("look")]
    assert run.usage == [Usage("p", "m", 3, 2)]
    assert run.latency_s is not None


def test_a_mapping_says_what_is_posted_and_where_the_answer_stands() -> None:
    """Any JSON service can be asked."""
    came, answer = recorded(Reply({"messages": [{"text": "?"}, {"text": "yes"}], "output": "no"}, status=201))
    with serve(answer) as url:
        [run] = ask(url, request={"question": "$input"}, reply={"output": "messages.-1.text"})
    assert came[0].body == {"question": "hi"}
    assert run.output == "yes"


@pytest.mark.parametrize(
    ("fields", "environ", "headers"),
    [
        ({}, {"GATEHOUSE_MODEL_KEY": KEY}, {"authorization": None}),
        ({"secret": "AGENT"}, {"AGENT": f"{KEY}\n"}, {"authorization": f"Bearer {KEY}"}),
        ({"secret": "AGENT", "header": "X-Key"}, {"AGENT": KEY}, {"x-key": KEY, "authorization": None}),
        ({"secret": "AGENT"}, {"AGENT": KEY, "GATEHOUSE_MODEL_KEY": "x"}, {"authorization": f"Bearer {KEY}"}),
        ({"secret": "AGENT"}, {"GATEHOUSE_MODEL_KEY": KEY}, {"authorization": f"Bearer {KEY}"}),
        (
            {"secret": "AGENT"},
            {"GATEHOUSE_MODEL_KEY": f"openai=x\nAGENT={KEY}\nOTHER=y"},
            {"authorization": f"Bearer {KEY}"},
        ),
        ({"secret": "AGENT"}, {"AGENT": KEY, "GATEHOUSE_MODEL_KEY": " "}, {"authorization": f"Bearer {KEY}"}),
        ({"headers": {"user-agent": "me", "x-team": "a"}}, {}, {"user-agent": "me", "x-team": "a"}),
        ({"stream": "events"}, {}, {"accept": "text/event-stream", "user-agent": "gatehouse"}),
    ],
)
def test_the_secret_goes_where_the_file_says(
    fields: dict[str, Any], environ: dict[str, str], headers: dict[str, str | None]
) -> None:
    """As a bearer or in a header of its own; our own variable wins, and an address without one gets none."""
    came, answer = recorded(Reply(b'data: {"output": 1}\n\n' if "stream" in fields else {"output": 1}))
    with serve(answer) as url:
        [run] = ask(url, environ=environ, **fields)
    assert run.error is None
    assert {name: came[0].headers.get(name) for name in headers} == headers


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "set GITHUB_TOKEN or GATEHOUSE_MODEL_KEY. Nothing was measured."),
        ({"GITHUB_TOKEN": KEY}, "set GITHUB_TOKEN or GATEHOUSE_MODEL_KEY. Nothing was measured."),
        (
            {"GATEHOUSE_MODEL_KEY": f"openai={KEY}\nOTHER={KEY}"},
            "set GITHUB_TOKEN, or write a line GITHUB_TOKEN=KEY in GATEHOUSE_MODEL_KEY. Nothing",
        ),
        ({"GATEHOUSE_MODEL_KEY": f"{KEY}\n{KEY}"}, "holds characters that no key has"),
    ],
    ids=["missing", "a job's own", "others' keys", "two lines"],
)
def test_a_key_that_cannot_be_had_measures_nothing(environ: dict[str, str], said: str) -> None:
    """Missing, not printable, or a token that is no agent's; the address's query stays out of the message."""
    with pytest.raises(InfrastructureError, match=re.escape(said)) as raised:
        Web(Url("https://agent.example/ask?code=1", secret="GITHUB_TOKEN"), environ, concurrency=1)
    assert "the agent at https://agent.example/ask:" in f"{raised.value}".replace(" holds", ":")
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("stream", "pieces"),
    [
        ("events", ['data: {"output": "Gr', 'üße"}\n\n', 'data: {"output": " 😀"}\n\n']),
        (
            "events",
            ['data: {"output": "Grüße"}\r', "\n\r", '\ndata: {"output":\r\ndata: " 😀"}\r\n\r', "\n"],
        ),
        ("events", [': a\n\ndata: {"output": "Grüße 😀"}\n\ndata: [DONE]\n\n', "data: no JSON\n\n"]),
        ("lines", ['{"output": "Grü', 'ße"}\n{"output"', ': " 😀"}']),
        ("lines", ['{"output": "Grüße 😀"}\r', '\n\r\n{"iterations": 1}\r\n']),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["pieces", "bytewise"])
def test_a_stream_is_one_answer_however_it_is_cut(stream: str, pieces: list[str], bytewise: bool) -> None:
    """In the middle of a character, of a line end, of an event: the outputs are joined."""
    data = "".join(pieces).encode()
    chunks = [data[n : n + 1] for n in range(len(data))] if bytewise else [piece.encode() for piece in pieces]
    with serve(Reply(chunks)) as url:
        [run] = ask(url, stream=stream)
    assert run.error is None
    assert run.output == "Grüße 😀"


def test_the_time_of_a_stream_is_until_its_end() -> None:
    """Not until its first piece."""
    with serve(Reply([b'data: {"output": "a"}\n\n'] * 100)) as url:
        [run] = ask(url, stream="events")
    assert run.output == "a" * 100
    assert run.latency_s
    assert run.latency_s >= 0.2


@pytest.mark.parametrize(
    ("reply", "stream", "blame", "said"),
    [
        (FAULTS["refuse"], None, ("agent", "refused"), "HTTP 422: no such input"),
        (
            Reply({"detail": "x"}, status=404),
            None,
            ("agent", "refused"),
            'HTTP 404: {"detail": "x"} (http://',
        ),
        (Reply(b"", status=400), None, ("agent", "refused"), "HTTP 400: (empty)"),
        (FAULTS["garbage"], None, ("agent", "garbage"), "begins with '<html>no JSON</html>'."),
        (FAULTS["flood"], None, ("agent", "garbage"), "the reply is longer than 8388608 bytes"),
        (FAULTS["error"], None, ("agent", "error"), "I cannot"),
        (Reply({"answer": 1}), None, ("agent", "garbage"), "name its path as `entrypoint.reply.output`."),
        (
            Reply({"output": 1, "iterations": "x"}),
            None,
            ("agent", "garbage"),
            'the protocol: "iterations"',
        ),
        (Reply([b'data: {"output": "a"}\n\n'] * 3, cut=True), "events", ("agent", "garbage"), "broke off"),
        (Reply([b"data: " + b"x" * 2**20] * 9), "events", ("agent", "garbage"), "longer than"),
        (Reply([b'{"output": 1}']), "events", ("agent", "garbage"), "no event stream: it begins with '{"),
        (FAULTS["fail"], None, ("infrastructure", "provider-error"), "HTTP 500: out of order"),
        (FAULTS["crash"], None, ("infrastructure", "connection"), "ServerDisconnectedError"),
        (Reply({"output": "x" * 999}, cut=True), None, ("infrastructure", "connection"), "broke off"),
        (
            Reply({"error": "who?"}, status=401),
            None,
            ("infrastructure", "key"),
            "HTTP 401: who? (no key was sent)",
        ),
        (Reply({"error": "no"}, status=403), None, ("infrastructure", "key"), "HTTP 403: no"),
        (Reply({"error": "pay"}, status=402), None, ("infrastructure", "quota"), "HTTP 402: pay"),
        (Reply(b"proxy", status=407), None, ("infrastructure", "provider-error"), "HTTP 407: proxy"),
    ],
)
def test_each_fault_has_its_author(
    reply: Reply, stream: str | None, blame: tuple[str, str], said: str
) -> None:
    """What the agent answers is its own; that nothing answers is the infrastructure's."""
    with serve(reply) as url:
        [run] = ask(url, stream=stream)
    assert fault(run) == blame
    assert said in message(run)
    assert run.output is None
    assert Run.from_json(json.loads(run.to_line())) == run


def test_a_refusal_names_its_address_or_its_key() -> None:
    """Without the address's query, which may hold a secret; of a key the variable that it is from."""
    refused = in_turn(Reply({"error": "no"}, status=401), Reply({"error": "where?"}, status=404))
    with serve(refused) as url:
        key, address = ask(f"{url}?token=t", 1, 2, secret="AGENT", environ={"AGENT": KEY})
    assert message(key) == "HTTP 401: no (the key that was sent is AGENT's)"
    assert message(address) == f"HTTP 404: where? ({url})"


def test_a_path_that_leads_nowhere_in_any_reply_is_told(tmp_path: Path) -> None:
    """What the run says of itself names the path, how often it was looked for, and what is there instead."""
    mapped = {"output": "data.answer", "contexts": "data.docs.*.nope", "usage": "usage", "error": "error"}
    replies = in_turn(
        Reply({"data": {"answer": 1, "docs": [{"text": "x"}]}}),
        Reply({"data": {"answer": 2, "docs": [{"text": "y"}]}, "usage": None}),
        Reply({"error": "none today"}),
    )
    with serve(replies) as url:
        web = Web(Url(url, reply=mapped), {}, concurrency=1)
        summary = run_cases(web, cases_of("abc"), tmp_path, info_of(3), RunOptions(1))
    told = "entrypoint.reply.contexts (data.docs.*.nope) was found in 0 of 2 replies; {} has the keys text."
    assert summary.notes == RunInfo.read(tmp_path / "run.json").notes == [told.format("data.docs.*")]


def test_a_hang_takes_as_long_as_it_may() -> None:
    """No answer, or a stream without an end, until the deadline: the agent's fault, and its whole time."""
    endless = Reply([b'data: {"output": "a"}\n\n'] * 2000)
    for reply, stream in ((FAULTS["hang"], None), (endless, "events")):
        with serve(reply) as url:
            [run] = ask(url, stream=stream, deadline_s=0.3)
        assert fault(run) == ("agent", "hang")
        assert message(run) == "no answer within 0.3 s"
        assert run.latency_s == 0.3


def test_a_deadline_that_passes_between_tries_is_no_hang() -> None:
    """The agent was out of order, not slow: also where a later try would hang."""
    with serve(in_turn(FAULTS["fail"], FAULTS["hang"])) as url:
        [run] = ask(url, deadline_s=0.5)
    assert fault(run) == ("infrastructure", "provider-error")
    assert message(run) == "no answer within 0.5 s, after HTTP 500: out of order"


def test_a_host_that_takes_no_connection_is_no_hang() -> None:
    """A full queue of connections is like a host that is gone: nobody is late."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        [run] = ask(f"http://127.0.0.1:{port}/", deadline_s=0.4)
        for one in waiting:
            one.close()
    assert fault(run) == ("infrastructure", "connection")
    assert "no connection within 0.2 s" in message(run)


def test_a_redirect_is_not_followed() -> None:
    """It would carry the key to another host: the address it leads to is said instead."""
    came, answer = recorded(Reply({"output": 1}))
    with serve(answer) as other, serve(Reply(b"", status=307, headers={"Location": other})) as url:
        [run] = ask(url, secret="AGENT", environ={"AGENT": KEY})
    assert came == []
    assert fault(run) == ("agent", "refused")
    assert f"It leads to {other}, where no request follows" in message(run)


def test_what_a_server_says_is_hostile() -> None:
    """No key that it repeats, and nothing that moves a cursor, is in a message."""
    for body in (f"{KEY}\x1b[2J\u202e", json.dumps({KEY: "\x1b[2J", "\u202e": KEY})):
        for status in (200, 400, 500):
            with serve(Reply(body.encode(), status=status)) as url:
                [run] = ask(url, secret="AGENT", environ={"AGENT": KEY})
            assert KEY not in message(run)
            assert message(run).isprintable()


def test_a_rate_limit_is_waited_for() -> None:
    """As long as the server asks, and that is no time of the agent's."""
    busy = Reply({"error": "busy"}, status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    with serve(in_turn(busy, Reply({"output": 1}))) as url:
        [run] = ask(url, deadline_s=0.5)
    assert time.monotonic() - began >= 1
    assert run.error is None
    assert run.latency_s is not None
    assert run.latency_s < 0.5


def test_a_server_may_be_started_again_between_cases() -> None:
    """A kept connection that is closed, and a port that is closed for a while, are tried again."""
    with serve() as url:
        port = int(url.rpartition(":")[2].partition("/")[0])

    async def across() -> list[Run]:
        web = Web(Url(url), {}, concurrency=1)
        await web.open()
        runs = []
        for case in cases_of(["a", "b", "c"]):
            asked = asyncio.create_task(web.ask(case, 0, 10))
            await asyncio.sleep(0.02)  # the port is closed
            with serve(port=port):
                runs.append(await asked)
        await web.close()
        return runs

    runs = asyncio.run(across())
    assert [(run.output, run.error) for run in runs] == [("a", None), ("b", None), ("c", None)]


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (FAULTS["hang"], None),
        (FAULTS["refuse"], None),
        (FAULTS["garbage"], None),
        (Reply([b"data: 1\n\n"], cut=True), "events"),
    ],
    ids=["hang", "refuse", "garbage", "cut"],
)
def test_an_agent_is_never_given_up_for_its_own_faults(reply: Reply, stream: str | None) -> None:
    """Each case is asked: that they all fail is a measurement."""
    with serve(reply) as url:
        runs = ask(url, *range(12), deadline_s=0.05, stream=stream)
    assert {run.error.by for run in runs if run.error} == {"agent"}
    assert len(runs) == 12


def test_an_agent_that_is_not_there_is_given_up() -> None:
    """After a few calls; the message names the address without its query."""
    with serve() as url:
        pass
    with pytest.raises(DeadError) as raised:
        ask(url + "?code=secret", *range(12))
    assert raised.value.message.startswith(
        f"the agent at {url} was given up after 5 calls in a row without an"
    )
    assert (
        f"the agent at {url} cannot be reached (connection refused). Is it running?" in raised.value.message
    )


def run_of(url: str, inputs: list[Any], folder: Path, concurrency: int) -> tuple[RunSummary, list[Run]]:
    """A whole run through the engine."""
    info: RunInfo = info_of(len(inputs))
    web = Web(Url(url), {}, concurrency=concurrency)
    summary = run_cases(web, cases_of(inputs), folder, info, RunOptions(concurrency, 5))
    return summary, list(read_runs(folder / "runs.jsonl"))


def test_five_hundred_cases_are_asked_at_sixteen_at_once(tmp_path: Path) -> None:
    """With the guilty ones convicted and nobody else: as fast as this server answers."""
    inputs: list[Any] = [{"do": "refuse"} if n % 100 == 50 else n for n in range(500)]
    with serve() as url:
        summary, runs = run_of(url, inputs, tmp_path / "out", 16)
    assert (summary.asked, summary.agent_faults, summary.infrastructure_faults) == (500, 5, 0)
    assert {run.id for run in runs if run.error} == {f"c{n}" for n in range(500) if n % 100 == 50}
    assert all(run.output == inputs[int(run.id[1:])] for run in runs if not run.error)
    assert summary.seconds < 5
