"""Calls over real HTTP: what is asked again, when, how many at once, and when a provider is given up."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.providers import PROVIDERS, Endpoint
from gatehouse.evals import client
from gatehouse.evals.client import Client, DeadError, RefusedError, TransportError, proxy_of
from tests.support.stub_model import Reply, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

KEY = "sk-secret-0123456789"
BUSY = Reply({"error": {"message": "slow down"}}, status=429)
BROKEN = Reply({"error": {"message": "broken"}}, status=500)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no proxy of this machine."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def closed_port() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def use(url: str, work: Callable[[Client], Coroutine[Any, Any, Any]], concurrency: int = 2) -> Any:
    """What `work` makes of an open client."""

    async def opened() -> Any:
        asked = Client(Endpoint(PROVIDERS["openai"], url, KEY), concurrency=concurrency)
        await asked.open()
        try:
            async with asyncio.timeout(30):  # a room that is lost would be waited for for ever
                return await work(asked)
        finally:
            await asked.close()

    return asyncio.run(opened())


def post(url: str, count: int = 1, *, concurrency: int = 2, deadline_s: float | None = 10) -> list[Any]:
    """What came of each of `count` calls that start together: an answer or an exception."""

    async def all_at_once(asked: Client) -> list[Any]:
        calls = (asked.post("/chat/completions", {"n": n}, deadline_s=deadline_s) for n in range(count))
        return await asyncio.gather(*calls, return_exceptions=True)

    results: list[Any] = use(url, all_at_once, concurrency)
    return results


def replies(*given: Reply) -> Callable[[int], Reply]:
    """The first request gets the first reply, and all after the last one the last."""
    return lambda number: given[min(number, len(given) - 1)]


@pytest.mark.parametrize(
    "reply",
    [BROKEN, Reply(b"upstream", status=503), Reply(drop=True), Reply(BROKEN.body, status=500, cut=True)],
    ids=["500", "503", "dropped", "a cut 500"],
)
def test_a_transport_fault_is_tried_again_a_few_times(reply: Reply) -> None:
    """The next try's answer counts; when none comes, the fault does."""
    with stub_model(replies(reply, reply, Reply())) as stub:
        [(body, seconds)] = post(stub.url)
    assert b'"hello"' in body
    assert seconds > 0
    assert len(stub.requests) == 3
    with stub_model(replies(reply)) as stub:
        [fault] = post(stub.url)
    assert isinstance(fault, TransportError)
    assert fault.kind in ("provider-error", "connection")
    assert len(stub.requests) == client.TRIES


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": {"message": "bad key"}}, status=401), "key"),
        (Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, status=429), "quota"),
        (Reply({"error": {"message": "no such model"}}, status=404), "provider-error"),
        (Reply(b"x" * (8 * 2**20 + 1)), "provider-error"),
        (Reply(completion("x" * 10_000), cut=True), "connection"),
    ],
    ids=["key", "quota", "no such model", "huge", "cut"],
)
def test_what_would_come_again_is_not_asked_again(reply: Reply, kind: str) -> None:
    """Nor is the rest of an answer that broke off: its first part was paid for."""
    with stub_model(replies(reply)) as stub:
        [refused] = post(stub.url)
    assert isinstance(refused, RefusedError)
    assert refused.kind == kind
    assert len(stub.requests) == 1


def test_a_redirect_is_refused() -> None:
    """The key is not carried to another host."""
    with stub_model(replies(Reply())) as other:
        there = Reply({}, status=307, headers={"Location": other.url + "/chat/completions"})
        with stub_model(replies(there)) as stub:
            [refused] = post(stub.url)
    assert isinstance(refused, RefusedError)
    assert not other.requests


@pytest.mark.parametrize("status", [401, 500])
def test_no_message_holds_the_key(status: int) -> None:
    """Not as a provider repeats it, not with characters in it that nobody sees; it is cut and cleaned."""
    text = f"\x1b[31mkey {KEY} or {KEY[:5]}\u200b{KEY[5:]} is bad\r" + "x" * 9000
    with stub_model(replies(Reply({"error": {"message": text}}, status=status))) as stub:
        results = post(stub.url, 12)
    assert any(isinstance(error, DeadError) for error in results)
    for error in results:
        assert "key *** or *** is bad" in error.message
        assert KEY not in str(error) + error.message
        assert "\x1b" not in error.message
        assert len(error.message) < 2200


def test_a_rate_limit_is_waited_for_beyond_the_tries() -> None:
    """Many refusals in a row fail no call: a limit by the minute outlasts a few tries."""
    with stub_model(replies(*[BUSY] * 12, Reply())) as stub:
        results = post(stub.url, 6)
    assert [type(result) for result in results] == [tuple] * 6
    assert len(stub.requests) == 18


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["not told", "told"])
def test_a_rate_limit_s_time_is_not_the_answer_s(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """The deadline's clock stands still meanwhile, also for calls that wait behind the refused one."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.5)
    with stub_model(replies(Reply({}, 429, headers), Reply())) as stub:
        results = post(stub.url, 3, concurrency=1, deadline_s=0.8)
    assert [type(result) for result in results] == [tuple] * 3
    assert all(seconds < 0.8 for _, seconds in results)


def in_two_seconds() -> str:
    """As an HTTP date, whose parts of a second are cut off."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", [lambda: "1", in_two_seconds], ids=["seconds", "date"])
def test_retry_after_holds_for_every_call(status: int, header: Callable[[], str]) -> None:
    """What one call is told, calls that start meanwhile obey too."""
    replied: list[float] = []

    def reply(number: int) -> Reply:
        if number:
            return Reply()
        replied.append(time.monotonic())
        return Reply({}, status=status, headers={"Retry-After": header()})

    async def told_once(asked: Client) -> None:
        first = asyncio.create_task(asked.post("/x", {}))
        while not asked.throttle.pause(time.monotonic()):  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.01)
        await asyncio.gather(first, *(asked.post("/x", {}) for _ in range(3)))

    with stub_model(reply) as stub:
        use(stub.url, told_once, concurrency=4)
    assert len(stub.came) == 5
    assert min(stub.came[1:]) - replied[0] > 0.9


def test_a_retry_after_of_an_hour_is_not_waited_for() -> None:
    """That call fails with what the server said, and no other call is held back by it."""
    with stub_model(replies(Reply(BUSY.body, 429, {"Retry-After": "3600"}), Reply())) as stub:
        results = post(stub.url, 2, concurrency=1)
    assert isinstance(results[0], TransportError)
    assert results[0].message == "HTTP 429: slow down"
    assert isinstance(results[1], tuple)


def test_a_rate_limit_that_lets_nobody_through_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no call was answered for a while, the provider is given up, at once and for all."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.1)
    with stub_model(replies(BUSY)) as stub:
        results = post(stub.url, 8, deadline_s=None)
    assert {type(result) for result in results} == {TransportError, DeadError}
    for error in results:
        assert error.message.endswith("HTTP 429: slow down")
        if isinstance(error, DeadError):
            assert "openai was given up after 0.1 s of being told to come later: " in error.message


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("concurrency", [8, 32])
def test_a_provider_that_only_says_when_to_come_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, concurrency: int, status: int
) -> None:
    """Within a few patiences, however many calls wait: they have one patience together, not each its own."""
    monkeypatch.setattr(client, "PATIENCE_S", 1.2)
    with stub_model(replies(Reply(BUSY.body, status, {"Retry-After": "1"}))) as stub:
        results = post(stub.url, 200, concurrency=concurrency)
    assert {type(result) for result in results} <= {TransportError, DeadError}
    assert sum(isinstance(result, DeadError) for result in results) > 200 - 2 * concurrency
    assert (stub.came[-1] - stub.came[0]) / client.PATIENCE_S < 5


def test_a_limit_of_long_ago_takes_no_patience_from_a_new_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the refused call never got an answer: nobody asked since."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.3)

    async def work(asked: Client) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asked.post("/x", {})
        await asyncio.sleep(0.4)
        return await asked.post("/x", {})

    def reply(number: int) -> Reply:
        first = stub.came[number] - stub.came[0] < 0.2
        refused.append(first)
        return BUSY if first or refused.count(False) == 1 else Reply()

    refused: list[bool] = []
    with stub_model(reply) as stub:
        body, _ = use(stub.url, work)
    assert b"hello" in body


def test_a_rate_limit_is_waited_for_while_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the provider lives, patience begins anew with every answer."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)

    async def one_unlucky(asked: Client) -> int:
        unlucky = asyncio.create_task(asked.post("/unlucky", {}))
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            await asked.post("/x", {})
            await asyncio.sleep(0.02)
            assert not unlucky.done()
        with pytest.raises(TransportError, match="slow down"):
            await unlucky
        return asked.limited

    def reply(number: int) -> Reply:
        return BUSY if stub.requests[number][0].endswith("unlucky") else Reply()

    with stub_model(reply) as stub:
        limited = use(stub.url, one_unlucky)
    assert limited == sum(path.endswith("unlucky") for path, _, _ in stub.requests)


@pytest.mark.parametrize("status", [429, 503])
def test_fewer_are_under_way_after_a_refusal_and_more_again_after_successes(status: int) -> None:
    """Sixteen at once become eight, as the provider sees it, and sixteen again in time."""
    together = Barrier(16)

    def reply(number: int) -> Reply:
        if number < 16:
            together.wait(10)
            return Reply({}, status=status)
        if number >= 16 + 16 + 200:
            together.wait(10)  # breaks, unless all sixteen are under way
        else:
            time.sleep(0.01)
        return Reply()

    async def three_rounds(asked: Client) -> list[float]:
        limits = [asked.throttle.limit]
        for count in (16, 200, 16):
            await asyncio.gather(*(asked.post("/x", {}) for _ in range(count)))
            limits.append(asked.throttle.limit)
        return limits

    with stub_model(reply) as stub:
        limits = use(stub.url, three_rounds, concurrency=16)
    assert max(stub.at_once[:16]) == 16
    assert max(stub.at_once[16:32]) <= 10
    assert limits[1] < 10
    assert limits[2:] == [16, 16]
    assert max(stub.at_once[232:]) == 16


def test_who_came_first_is_asked_first() -> None:
    """Also one that was refused: it does not wait behind those who came later."""

    def reply(number: int) -> Reply:
        if number == 1:
            time.sleep(0.3)  # the refused call is back before this is answered
        return Reply({}, status=429) if number == 0 else Reply()

    with stub_model(reply) as stub:
        post(stub.url, 4, concurrency=1)
    assert [body["n"] for _, _, body in stub.requests] == [0, 1, 0, 2, 3]


def test_waiting_for_others_is_not_the_answer_s_time() -> None:
    """Five calls of 0.3 s, one at a time, are all within a deadline of 1 s each."""

    def slow(_: int) -> Reply:
        time.sleep(0.3)
        return Reply()

    with stub_model(slow) as stub:
        results = post(stub.url, 5, concurrency=1, deadline_s=1.0)
    assert [type(result) for result in results] == [tuple] * 5


def test_a_call_that_was_never_sent_says_nothing_of_the_provider() -> None:
    """Callers that give up while others have the room are not failures, and leave no room taken."""

    async def impatient(asked: Client) -> tuple[int, Any]:
        slow = asyncio.create_task(asked.post("/x", {}))
        await asyncio.sleep(0)  # it has the room
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asked.post("/x", {})
        failures = asked.breaker.in_a_row
        await slow
        return failures, await asked.post("/x", {}, deadline_s=10)

    def reply(number: int) -> Reply:
        time.sleep(0.5 * (number == 0))
        return Reply()

    with stub_model(reply) as stub:
        failures, (_, seconds) = use(stub.url, impatient, concurrency=1)
    assert failures == 0
    assert seconds > 0
    assert len(stub.requests) == 2


async def by_the_client(asked: Client) -> Any:
    """A call with a deadline that the client keeps."""
    return await asked.post("/x", {}, deadline_s=0.2)


async def by_the_caller(asked: Client) -> Any:
    """A call with a deadline of the caller's own."""
    async with asyncio.timeout(0.2):
        return await asked.post("/x", {})


async def patiently(asked: Client) -> Any:
    """A call without a deadline."""
    return await asked.post("/x", {})


@pytest.mark.parametrize(
    ("reply", "call", "last"),
    [
        (BROKEN, patiently, "HTTP 500: broken"),
        (Reply(drop=True), patiently, "ServerDisconnectedError: Server disconnected"),
        (Reply(hang=True), by_the_client, "no answer within 0.2 s"),
        (Reply(hang=True), by_the_caller, "no answer until the caller's deadline"),
        (Reply(completion("x" * 999), cut=True), patiently, "the reply broke off: "),
        (Reply({"error": "wrong key"}, status=401), patiently, "HTTP 401: wrong key"),
    ],
    ids=["500", "dropped", "hangs", "hangs, the caller's deadline", "cut", "key"],
)
def test_a_dead_provider_is_given_up(reply: Reply, call: Any, last: str) -> None:
    """Five calls in a row without an answer are enough here; what follows is not sent."""

    async def until_dead(asked: Client) -> tuple[int, DeadError]:
        for number in range(99):
            try:
                await call(asked)
            except DeadError as dead:
                return number, dead
            except (TransportError, RefusedError, TimeoutError):
                sent.append(len(stub.requests))
        raise AssertionError

    sent: list[int] = []
    with stub_model(replies(reply)) as stub:
        failed, dead = use(stub.url, until_dead)
        assert len(stub.requests) == sent[-1]
    assert failed == 5
    assert dead.message.startswith("openai was given up after 5 calls in a row without an answer: " + last)


def test_a_closed_port_is_given_up() -> None:
    """Nobody listens: calls that wait for room are told as soon as it is known."""
    results = post(closed_port(), 50, deadline_s=None)
    faults = [error for error in results if isinstance(error, TransportError)]
    assert 5 <= len(faults) <= 6
    assert {fault.kind for fault in faults} == {"connection"}
    assert "cannot be reached at http://127.0.0.1:" in faults[0].message
    assert "/v1 (connection refused). Is it running?" in faults[0].message
    assert sum(isinstance(error, DeadError) for error in results) == 50 - len(faults)


def test_a_proxy_that_is_not_there_is_told_from_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its address, which may hold a password."""
    monkeypatch.setenv("http_proxy", closed_port().replace("://", "://me:password@").removesuffix("/v1"))
    (fault,) = post("http://api.example/v1")
    assert "cannot be reached at http://api.example/v1 (the proxy: connection refused)." in fault.message
    assert "password" not in fault.message


def test_an_address_that_is_none_is_said_in_words() -> None:
    """A host without an address, and one that speaks no TLS."""
    (fault,) = post("http://nowhere.invalid/v1")
    assert re.search(r"cannot be reached at http://nowhere.invalid/v1 \([a-z]", fault.message)
    with stub_model(replies(Reply())) as stub:
        (fault,) = post(stub.url.replace("http:", "https:"))
    assert "wrong version number" in fault.message or "record layer failure" in fault.message


def test_a_word_that_is_a_key_stays_in_messages() -> None:
    """A self-hosted model is often given any word as its key: it is not cut out of everything."""
    endpoint = Endpoint(PROVIDERS["ollama"], "http://127.0.0.1:1/v1", "ollama")
    assert Client(endpoint, concurrency=1).safe("the provider ollama") == "the provider ollama"


@pytest.mark.parametrize(("cut", "dead"), [(31, 0), (99, 67)])
def test_calls_under_way_get_twice_their_number_of_failures(cut: int, dead: int) -> None:
    """At sixteen at once, one bad moment of all of them ends nothing, a second one does."""
    part = Reply(completion("x" * 999), cut=True)
    with stub_model(replies(*[part] * cut, Reply())) as stub:
        results = post(stub.url, 99, concurrency=16)
    assert sum(isinstance(result, DeadError) for result in results) in range(dead - 15, dead + 1)


@pytest.mark.parametrize("good", [Reply(), Reply({"error": {"message": "too long"}}, status=400)])
def test_one_answer_in_between_keeps_a_provider_alive(good: Reply) -> None:
    """Four failures, an answer, four failures, and so on: bad cases among good ones, also refused ones."""

    def reply(number: int) -> Reply:
        return good if stub.requests[number][2]["n"] % 5 == 4 else Reply(completion("x" * 999), cut=True)

    with stub_model(reply) as stub:
        results = post(stub.url, 40, concurrency=1)
    assert not [result for result in results if isinstance(result, DeadError)]
    assert len(stub.requests) == 40


def test_a_proxy_is_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is used, and NO_PROXY's hosts go past it."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,inside.example")
    assert proxy_of("https://api.example/v1") == "http://proxy:3128"
    assert proxy_of("https://inside.example/v1") is None
