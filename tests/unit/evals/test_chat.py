"""Chat completions over real HTTP: what is sent, what is kept, what is asked again."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from gatehouse.agent.protocol import Run, ToolCall, Usage
from gatehouse.agent.providers import PROVIDERS, Endpoint
from gatehouse.evals import chat
from gatehouse.evals.chat import Chat, messages_of, pause_of, proxy_of
from tests.support.running import cases_of
from tests.support.stub_model import Reply, StubModel, completion, stub_model

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no proxy of this machine."""
    monkeypatch.setattr(chat, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(
    url: str, value: Any = "hi", *, deadline_s: float = 10, provider: str = "openai", **parameters: Any
) -> Run:
    """One case of the model at `url`."""

    async def once() -> Run:
        target = Chat(
            Endpoint(PROVIDERS[provider], url, KEY), "stub-1", "Be brief.", parameters, concurrency=2
        )
        await target.open()
        try:
            return await target.ask(cases_of([value])[0], 0, deadline_s)
        finally:
            await target.close()

    return asyncio.run(once())


def replies(*given: Reply) -> Any:
    """The first request gets the first reply, and all after the last one the last."""
    return lambda number: given[min(number, len(given) - 1)]


def fault(run: Run) -> tuple[str, str]:
    """Whose fault and which."""
    assert run.error
    assert run.output is None
    return run.error.by, run.error.kind


def test_a_request_carries_model_prompt_parameters_and_key() -> None:
    """The agent file's model and prompt are what the provider is asked with."""
    with stub_model(replies(Reply())) as stub:
        run = ask(stub.url, temperature=0.1, max_tokens=512)
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "stub-1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "temperature": 0.1,
        "max_tokens": 512,
    }
    assert (run.id, run.case, run.output, run.iterations) == ("c0", "d0", "hello", 1)
    assert run.usage == [Usage("openai", "stub-1-2026-01-01", 57, 12, 7)]
    assert run.latency_s is not None


def test_azure_gets_its_key_in_its_own_header() -> None:
    """A provider's key header is the table's."""
    with stub_model(replies(Reply())) as stub:
        ask(stub.url, provider="azure")
    assert stub.requests[0][1]["api-key"] == KEY
    assert "Authorization" not in stub.requests[0][1]


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("text", [{"role": "user", "content": "text"}]),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": "a"}]),
        ({"order": "ß"}, [{"role": "user", "content": '{"order": "ß"}'}]),
        ([1], [{"role": "user", "content": "[1]"}]),
        ([], [{"role": "user", "content": "[]"}]),
    ],
)
def test_an_input_becomes_messages(value: Any, messages: list[dict[str, Any]]) -> None:
    """A list of messages stays; a text is the user's; other JSON is sent as its text."""
    assert messages_of(value) == messages


@pytest.mark.parametrize(
    ("message", "output", "tool_calls"),
    [
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", None),
        (completion(None, refusal="I cannot."), "I cannot.", None),
        (completion(None), "", None),
        (
            completion(None, tool_calls=[{"function": {"name": "refund", "arguments": '{"order": 7}'}}]),
            None,
            [ToolCall("refund", {"order": 7})],
        ),
        (
            completion("x", tool_calls=[{"function": {"name": "refund", "arguments": "{oops"}}]),
            "x",
            [ToolCall("refund", {"arguments": "{oops"})],
        ),
    ],
    ids=["parts", "refusal", "filtered", "tool call", "broken arguments"],
)
def test_what_the_model_said_is_the_output(message: Any, output: Any, tool_calls: Any) -> None:
    """Text, refusals and tool calls are the agent's answer, good or bad."""
    with stub_model(replies(Reply(message))) as stub:
        run = ask(stub.url)
    assert (run.output, run.tool_calls, run.error) == (output, tool_calls, None)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": {"message": "bad key"}}, status=401), "key"),
        (Reply({"error": {"message": "not yours"}}, status=403), "key"),
        (Reply({"error": {"message": "pay"}}, status=402), "quota"),
        (Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, status=429), "quota"),
        (Reply({"error": {"message": "no such model"}}, status=404), "provider-error"),
        (Reply(b"<html>teapot", status=418), "provider-error"),
        (Reply({"error": {"message": "overloaded"}}), "provider-error"),
        (Reply({"error": {"message": "pay", "type": "insufficient_quota"}}), "quota"),
        (Reply({"error": "gone"}), "provider-error"),
        (Reply({"choices": []}), "provider-error"),
        (Reply({}), "provider-error"),
        (Reply([]), "provider-error"),
        (Reply(b"<html>"), "provider-error"),
        (Reply(b"[" * 100_000), "provider-error"),
        (Reply(b""), "provider-error"),
        (Reply(completion(5)), "provider-error"),
        (Reply(completion() | {"usage": {"prompt_tokens": -1}}), "provider-error"),
        (Reply(completion("x" * (8 * 2**20))), "provider-error"),
        (Reply(completion("x" * 10_000), cut=True), "connection"),
        (Reply({}, status=307, headers={"Location": "/v1/elsewhere"}), "provider-error"),
    ],
)
def test_what_is_no_answer_is_the_infrastructure_s_fault_and_not_asked_again(reply: Reply, kind: str) -> None:
    """A key, a quota or a reply that is no completion would not get better: one request, no output."""
    with stub_model(replies(reply)) as stub:
        run = ask(stub.url)
    assert fault(run) == ("infrastructure", kind)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply({"error": {"message": "broken"}}, status=500),
        Reply(b"upstream", status=503),
        Reply(drop=True),
    ],
    ids=["429", "500", "503", "dropped"],
)
def test_a_transport_fault_is_tried_again_a_few_times(reply: Reply) -> None:
    """The next try's answer counts; when none comes, the fault does."""
    with stub_model(replies(reply, reply, Reply())) as stub:
        assert ask(stub.url).output == "hello"
    assert len(stub.requests) == 3
    with stub_model(replies(reply)) as stub:
        assert fault(ask(stub.url))[1] in ("provider-error", "connection")
    assert len(stub.requests) == chat.TRIES


def test_retry_after_is_obeyed() -> None:
    """The next try waits as long as the server asks."""
    with stub_model(replies(Reply({}, status=429, headers={"Retry-After": "1"}), Reply())) as stub:
        started = time.monotonic()
        run = ask(stub.url)
    assert run.output == "hello"
    assert time.monotonic() - started >= 1
    assert (run.latency_s or 9) < 1


def test_retry_after_ends_at_the_deadline() -> None:
    """A server that asks for an hour does not get it."""
    with stub_model(replies(Reply({}, status=429, headers={"Retry-After": "3600"}))) as stub:
        assert fault(ask(stub.url, deadline_s=0.3)) == ("infrastructure", "timeout")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("soon", None),
        ("nan", None),
        ("-5", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    """RFC 9110's two forms; anything else asks for nothing."""
    pause = pause_of(header, datetime(2026, 1, 1, tzinfo=UTC))
    assert pause == seconds


def test_a_hung_provider_is_a_timeout() -> None:
    """No answer within the deadline is the infrastructure's fault here."""
    with stub_model(replies(Reply(hang=True))) as stub:
        run = ask(stub.url, deadline_s=0.3)
    assert fault(run) == ("infrastructure", "timeout")


def test_a_closed_port_is_a_connection_fault() -> None:
    """Nobody listens: said so, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert fault(ask(f"http://127.0.0.1:{port}/v1")) == ("infrastructure", "connection")


def test_a_message_never_holds_the_key_nor_moves_a_cursor() -> None:
    """What a provider writes into its error is cut, cleaned, and freed of the key."""
    text = f"\x1b[31mkey {KEY} is bad\r" + "x" * 9000
    with stub_model(replies(Reply({"error": {"message": text}}, status=401))) as stub:
        run = ask(stub.url)
    assert run.error
    assert "key *** is bad" in run.error.message
    assert KEY not in run.error.message
    assert "\x1b" not in run.error.message
    assert len(run.error.message) < 2100


def test_a_proxy_is_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is used, and NO_PROXY's hosts go past it."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,inside.example")
    assert proxy_of("https://api.example/v1") == "http://proxy:3128"
    assert proxy_of("https://inside.example/v1") is None


def test_as_many_as_asked_for_are_under_way() -> None:
    """Connections are kept and shared: four cases at once end in the time of one."""

    async def four(stub: StubModel) -> float:
        target = Chat(Endpoint(PROVIDERS["openai"], stub.url, KEY), "m", None, {}, concurrency=4)
        await target.open()
        started = time.monotonic()
        await asyncio.gather(*(target.ask(case, 0, 10) for case in cases_of("abcd")))
        await target.close()
        return time.monotonic() - started

    def slow(_: int) -> Reply:
        time.sleep(0.3)
        return Reply()

    with stub_model(slow) as stub:
        assert asyncio.run(four(stub)) < 0.9
