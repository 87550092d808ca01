"""Chat completions over real HTTP: what is sent, what is kept, and where a run of them stops."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Run, RunInfo, ToolCall, Usage, read_runs
from gatehouse.agent.providers import PROVIDERS, Endpoint
from gatehouse.evals import client
from gatehouse.evals.chat import Chat, messages_of
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from tests.support.running import cases_of, info_of
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no proxy of this machine."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
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
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", []),
        (completion(None, refusal="I cannot."), "I cannot.", []),
        (completion(None), "", []),
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
    """Text, refusals and tool calls are the agent's answer, good or bad; a model that calls none says so."""
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


def test_a_hung_provider_is_a_timeout() -> None:
    """No answer within the deadline is the infrastructure's fault here."""
    with stub_model(replies(Reply(hang=True))) as stub:
        run = ask(stub.url, deadline_s=0.3)
    assert fault(run) == ("infrastructure", "timeout")


def run_chat(url: str, out: Path, count: int, options: RunOptions) -> RunSummary:
    """A run of `count` cases against the model at `url`."""
    target = Chat(Endpoint(PROVIDERS["openai"], url, KEY), "m", None, {}, concurrency=options.concurrency)
    return run_cases(target, cases_of(range(count)), out, info_of(count), options)


@pytest.mark.parametrize(
    "dead",
    [Reply({"error": {"message": "broken"}}, status=500), Reply(drop=True), Reply(hang=True)],
    ids=["500", "dropped", "hangs"],
)
def test_a_provider_that_dies_ends_the_run_and_what_was_answered_stays(tmp_path: Path, dead: Reply) -> None:
    """The run stops in time, says why, and is finished by the next one."""
    options = RunOptions(concurrency=2, case_deadline_s=0.5)
    with stub_model(lambda number: Reply() if number < 7 else dead) as stub:
        summary = run_chat(stub.url, tmp_path, 100, options)
    assert summary.stopped.startswith("openai was given up after 5 calls in a row without an answer: ")
    assert summary.asked < 7 + 7
    assert not RunInfo.read(tmp_path / "run.json").complete
    assert sum(run.error is None for run in read_runs(tmp_path / "runs.jsonl")) == 7
    with stub_model(replies(Reply())) as stub:
        summary = run_chat(stub.url, tmp_path, 100, options)
        assert len(stub.requests) == 93
    assert (summary.resumed, summary.asked, summary.stopped) == (7, 93, "")


def test_a_case_that_always_hangs_ends_no_run(tmp_path: Path) -> None:
    """Its own fault is written, the others are answered."""

    def reply(number: int) -> Reply:
        return Reply(hang=stub.requests[number][2]["messages"][0]["content"] == "3")

    with stub_model(reply) as stub:
        summary = run_chat(stub.url, tmp_path, 30, RunOptions(concurrency=2, case_deadline_s=0.5))
    assert (summary.asked, summary.infrastructure_faults, summary.stopped) == (30, 1, "")
    assert [run.id for run in read_runs(tmp_path / "runs.jsonl") if run.error] == ["c3"]


def test_a_rate_limit_fails_no_case_and_is_said(tmp_path: Path) -> None:
    """A storm of refusals is waited out, and a person learns that it was one."""
    busy = Reply({"error": {"message": "slow down"}}, status=429)
    with stub_model(replies(*[busy] * 20, Reply())) as stub:
        summary = run_chat(stub.url, tmp_path, 10, RunOptions(concurrency=4, case_deadline_s=5))
    assert (summary.asked, summary.infrastructure_faults, summary.stopped) == (10, 0, "")
    assert summary.notes == ["20 requests were over the provider's rate limit (429) and asked again."]


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
