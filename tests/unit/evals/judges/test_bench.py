"""Judges over real HTTP: what they are asked, what is made of what they say, and what that takes."""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.errors import UserError
from gatehouse.evals import client
from gatehouse.evals.judges.base import JudgeError
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.cache import JudgementCache
from gatehouse.evals.judges.model import resolve_models
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from gatehouse.agent.protocol import Usage

KEY = "sk-judge-0123456789"
SCHEMA = {
    "title": "Grade",
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["grade"],
}
GOOD = Reply(completion('{"grade": 4}'))
LIE = Reply(completion('{"grade": "four"}'))
ELEVEN = Reply(completion('{"grade": 11}'))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no proxy of this machine."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def replies(*given: Reply) -> Callable[[int], Reply]:
    """The first request gets the first reply, and all after the last one the last."""
    return lambda number: given[min(number, len(given) - 1)]


def price(usage: Usage) -> float | None:
    """A dollar for a million tokens in, four for a million out; nobody knows what "secret" costs."""
    if usage.model == "secret":
        return None
    return (usage.input_tokens + 4 * usage.output_tokens) / 1e6


@asynccontextmanager
async def benched(
    url: str, *names: str, cache: JudgementCache | None = None, embeddings: bool = False, **setting: Any
) -> AsyncIterator[Bench]:
    """A bench of these judges, whose provider is at `url`."""
    given: dict[str, Any] = {"models": names or ("openai:judge",), "deadline_s": 10.0} | setting
    judges = JudgeSetting(**given)
    environ = {"GATEHOUSE_JUDGE_BASE_URL": url, "GATEHOUSE_JUDGE_KEY": KEY}
    needs = {"judge", "embeddings"} if embeddings else {"judge"}
    models = resolve_models(judges, None, needs=needs, environ=environ)
    bench = Bench(models, judges, price=price, cache=cache)
    await bench.open()
    try:
        yield bench
    finally:
        await bench.close()


def run(
    url: str, work: Callable[[Bench], Coroutine[Any, Any, Any]], *names: str, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """What `work` makes of a bench, and the bench's report."""

    async def once() -> tuple[Any, dict[str, Any]]:
        async with benched(url, *names, **options) as bench:
            return await work(bench), bench.report()

    return asyncio.run(once())


async def ask(bench: Bench, prompt: Any = "Grade this.", vote: int = 0, index: int = 0) -> Any:
    """One question; a JudgeError is returned."""
    try:
        return await bench.judge(index, vote).ask(prompt, SCHEMA)
    except JudgeError as error:
        return error


async def ask_all(bench: Bench, count: int = 20) -> list[Any]:
    """Several questions at once."""
    return await asyncio.gather(*(ask(bench, f"Grade {n}.") for n in range(count)))


def failed(reply: Callable[[int], Reply], **options: Any) -> tuple[str, str, int, dict[str, Any]]:
    """How one question fails: kind and message, how many requests that took, and the report."""
    with stub_model(reply) as stub:
        error, report = run(stub.url, ask, **options)
    assert isinstance(error, JudgeError), error
    assert KEY not in error.message
    return error.kind, error.message, len(stub.requests), report


def bodies(stub: StubModel) -> list[Any]:
    """What was sent."""
    return [body for _, _, body in stub.requests]


def test_a_judge_is_asked_coldly_for_json_with_its_own_key() -> None:
    """Temperature 0, a bounded reply, the schema by `response_format` and in words; tokens are counted."""
    with stub_model(replies(GOOD)) as stub:
        value, report = run(stub.url, ask)
    ((path, headers, body),) = stub.requests
    assert value == {"grade": 4}
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0, 4096)
    assert body["response_format"]["json_schema"] == {"name": "Grade", "schema": SCHEMA, "strict": False}
    system, user = body["messages"]
    assert json.dumps(SCHEMA, separators=(",", ":")) in system["content"]
    assert user == {"role": "user", "content": "Grade this."}
    assert report == {
        "models": ["openai:judge"],
        "embeddings": None,
        "calls": 1,
        "cached": 0,
        "shared": 0,
        "repaired": 0,
        "kept": 0,
        "usd": pytest.approx((57 + 4 * 12) / 1e6),
        "max_usd": None,
        "by_model": [
            {
                "provider": "openai",
                "model": "judge",
                "input_tokens": 57,
                "cached_tokens": 7,
                "output_tokens": 12,
                "calls": 1,
                "usd": pytest.approx((57 + 4 * 12) / 1e6),
            }
        ],
        "notes": [],
    }


def test_a_judge_that_lies_about_its_schema_once_is_repaired() -> None:
    """It is shown its reply and what is wrong with it; both calls are paid, and the repair is counted."""
    with stub_model(replies(LIE, GOOD)) as stub:
        value, report = run(stub.url, ask)
    assert value == {"grade": 4}
    assert (report["repaired"], report["calls"]) == (1, 2)
    first, second = bodies(stub)
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2] == {"role": "assistant", "content": '{"grade": "four"}'}
    assert '"grade" is text ("four"): it must be a whole number' in second["messages"][3]["content"]


def test_a_judge_that_quotes_the_json_that_an_answer_demands_gives_no_grade() -> None:
    """It is asked once more for its own, and that one counts."""
    quoted = Reply(completion('The answer demands {"grade": 5} of me. I do not follow it: the grade is 1.'))
    assert failed(replies(quoted))[::2] == ("malformed", 2)
    with stub_model(replies(quoted, Reply(completion('{"grade": 1}')))) as stub:
        assert run(stub.url, ask)[0] == {"grade": 1}


def test_a_judge_that_lies_about_its_schema_twice_gives_nothing() -> None:
    """There is one repair, no more."""
    kind, message, requests, report = failed(replies(LIE))
    assert (kind, requests, report["repaired"]) == ("malformed", 2, 0)
    assert '"grade" is text' in message


def test_eleven_of_five_is_no_grade() -> None:
    """A number that the scale does not have is never taken, cut down or scaled."""
    kind, message, requests, _ = failed(replies(ELEVEN))
    assert (kind, requests) == ("malformed", 2)
    assert '"grade" is 11: it must be at most 5' in message


def test_a_judge_that_stalls_ends_at_its_deadline() -> None:
    """A hang is a timeout, and what it took is said not to be known."""
    kind, message, requests, report = failed(replies(Reply(hang=True)), deadline_s=0.3)
    assert (kind, message, requests) == ("timeout", "no answer within 0.3 s", 1)
    assert report["notes"] == ["1 calls ended without an answer: what they took is not known."]


@pytest.mark.parametrize(
    "refusal",
    [
        completion(None, refusal="I can't help with that."),
        completion("I'm sorry, but I cannot judge this."),
    ],
    ids=["field", "words"],
)
def test_a_judge_that_refuses_twice_is_said_to_refuse(refusal: Any) -> None:
    """Whether by the API's own field or in words; asked again once, it may think better of it."""
    kind, message, requests, _ = failed(replies(Reply(refusal)))
    assert (kind, requests) == ("refused", 2)
    assert "the judge refuses: I" in message
    with stub_model(replies(Reply(refusal), GOOD)) as stub:
        assert run(stub.url, ask)[0] == {"grade": 4}


def ended(reason: str) -> Reply:
    """A reply that ended for that reason."""
    body = completion('{"grade": 4}')
    body["choices"][0]["finish_reason"] = reason
    return Reply(body)


def test_a_filtered_reply_is_not_read() -> None:
    """What the filter left may mean the opposite; asking again would meet it again."""
    assert failed(replies(ended("content_filter")))[::2] == ("filtered", 1)
    refused = {"error": {"message": "The prompt triggered our content management policy.", "code": "x"}}
    assert failed(replies(Reply(refused, status=400)))[::2] == ("filtered", 1)


def test_a_reply_cut_at_its_limit_is_not_read() -> None:
    """Even where its JSON happens to be whole."""
    kind, message, requests, report = failed(replies(ended("length")))
    assert (kind, requests, report["calls"]) == ("malformed", 1, 1)
    assert "cut at its limit of 4096 tokens" in message


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": {"message": f"bad key {KEY}"}}, status=401), "key"),
        (Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, status=429), "quota"),
        (Reply({"error": {"message": "no such model"}}, status=404), "provider-error"),
        (Reply({"error": {"message": "over capacity"}}), "provider-error"),
        (Reply(status=500), "provider-error"),
        (Reply(drop=True), "connection"),
        (Reply(cut=True), "connection"),
        (Reply(b"<html>"), "provider-error"),
    ],
    ids=["key", "quota", "404", "error in a 200", "500", "dropped", "cut", "html"],
)
def test_faults_of_the_provider_keep_their_kind(reply: Reply, kind: str) -> None:
    """The scorecard says whose fault it was, and never the key."""
    assert failed(replies(reply))[0] == kind


def test_what_a_model_refuses_to_be_asked_is_left_out_from_then_on() -> None:
    """A refused parameter is asked otherwise at once, and the next question knows."""

    def answer(number: int) -> Reply:
        body = stub.requests[number][2]
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        elif "temperature" in body:
            message = "Unsupported value: 'temperature' does not support 0 with this model."
        elif body.get("response_format", {}).get("type") == "json_schema":
            message = "This response_format type is unavailable now"
        else:
            return GOOD
        return Reply({"error": {"message": message, "type": "invalid_request_error"}}, status=400)

    async def twice(bench: Bench) -> list[Any]:
        return [await ask(bench), len(stub.requests), await ask(bench, "Another."), len(stub.requests)]

    with stub_model(answer) as stub:
        values, report = run(stub.url, twice, max_usd=1.0)
    assert values == [{"grade": 4}, 4, {"grade": 4}, 5]
    last = bodies(stub)[-1]
    assert last["max_completion_tokens"] == 4096
    assert last["response_format"] == {"type": "json_object"}
    assert not {"temperature", "max_tokens"} & set(last)
    assert report["calls"] == 2
    assert report["notes"] == ["openai:judge does not take temperature 0 or a JSON Schema for its reply."]


def test_a_refusal_that_no_change_mends_is_not_remembered() -> None:
    """The next question is asked as the first was."""
    bad = Reply({"error": {"message": "temperature, response_format: who knows"}}, status=400)

    async def twice(bench: Bench) -> list[Any]:
        return [await ask(bench), await ask(bench, "Another.")]

    with stub_model(lambda n: bad if n < 4 else GOOD) as stub:
        (error, value), _ = run(stub.url, twice)
    assert error.kind == "provider-error"
    assert value == {"grade": 4}
    assert "temperature" in bodies(stub)[4]


def test_identical_questions_at_once_are_asked_once() -> None:
    """Of one vote; another vote, another prompt and another judge are questions of their own."""

    async def many(bench: Bench) -> list[Any]:
        same = [ask(bench) for _ in range(5)]
        return await asyncio.gather(*same, ask(bench, vote=1), ask(bench, "Other."), ask(bench, index=1))

    with stub_model(replies(GOOD)) as stub:
        values, report = run(stub.url, many, "openai:judge", "openai:other")
    assert values == [{"grade": 4}] * 8
    assert values[0] is not values[1]
    assert (len(stub.requests), report["calls"], report["cached"], report["shared"]) == (4, 4, 0, 4)


def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    """The question goes on while anybody may want it."""

    async def work(bench: Bench) -> Any:
        first = asyncio.create_task(ask(bench))
        await asyncio.sleep(0)
        second = asyncio.create_task(ask(bench))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    with stub_model(replies(GOOD)) as stub:
        assert run(stub.url, work)[0] == {"grade": 4}
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"GATEHOUSE_JUDGE_KEY": KEY, "MISTRAL_API_KEY": "mistral-key"},
        {"GATEHOUSE_JUDGE_KEY": f"mistral=mistral-key\nopenai={KEY}"},
    ],
    ids=["variables", "lines"],
)
def test_each_endpoint_of_a_panel_gets_its_own_key(keys: dict[str, str]) -> None:
    """No provider sees another's key."""
    with stub_model(replies(GOOD)) as one, stub_model(replies(GOOD)) as two:

        async def work() -> None:
            judges = JudgeSetting(models=("openai:a", "mistral:b"))
            environ = {
                "GATEHOUSE_JUDGE_BASE_URL": one.url,
                "MISTRAL_BASE_URL": two.url,
            }
            models = resolve_models(judges, None, needs={"judge"}, environ=environ | keys)
            bench = Bench(models, judges, price=price, cache=None)
            await bench.open()
            assert [await ask(bench, index=i) for i in (0, 1)] == [{"grade": 4}] * 2
            assert [bench.judge(i, 0).name for i in (0, 1)] == ["openai:a", "mistral:b"]
            assert [row["model"] for row in bench.report()["by_model"]] == ["a", "b"]
            await bench.close()

        asyncio.run(work())
    assert [headers["Authorization"] for _, headers, _ in one.requests] == [f"Bearer {KEY}"]
    assert [headers["Authorization"] for _, headers, _ in two.requests] == ["Bearer mistral-key"]


def dear(tokens: int) -> Reply:
    """A reply that took that many tokens out."""
    return Reply(completion('{"grade": 4}') | {"usage": {"prompt_tokens": 0, "completion_tokens": tokens}})


def test_a_budget_is_never_passed_whatever_is_under_way() -> None:
    """Calls of $0.01 each under a cap of $0.055: as many are asked as surely fit, and then none."""
    with stub_model(replies(dear(2500))) as stub:
        values, report = run(stub.url, ask_all, max_usd=0.055)
    answered = [value for value in values if value == {"grade": 4}]
    # The worst case is some $0.017 a call: what is left after the fourth does not cover that.
    assert len(answered) == len(stub.requests) == 4
    assert report["usd"] == pytest.approx(0.04)
    assert {error.kind for error in values if isinstance(error, JudgeError)} == {"budget"}
    assert "$0.04 is used" in str(values[-1])
    assert "evals.judge.max_usd" in str(values[-1])


def test_calls_under_way_are_counted_by_their_worst_case() -> None:
    """With room for two worst cases there are never three under way, though their real cost is small."""
    with stub_model(replies(dear(1))) as stub:
        values, report = run(stub.url, ask_all, max_usd=0.04)
    assert values == [{"grade": 4}] * 20
    assert max(stub.at_once) <= 2
    assert report["usd"] == pytest.approx(20 * 4 / 1e6)


def test_a_call_that_may_have_been_charged_stays_counted() -> None:
    """After two timeouts under a cap of two worst cases nothing more is asked."""

    async def three(bench: Bench) -> list[Any]:
        return [await ask(bench, str(n)) for n in range(3)]

    with stub_model(replies(Reply(hang=True))) as stub:
        values, report = run(stub.url, three, max_usd=0.04, deadline_s=0.2)
    assert [error.kind for error in values] == ["timeout", "timeout", "budget"]
    assert len(stub.requests) == 2
    assert report["usd"] == 0


def test_a_refused_request_takes_nothing_of_the_budget() -> None:
    """Nobody charges for an error."""

    async def three(bench: Bench) -> list[Any]:
        return [await ask(bench, str(n)) for n in range(3)]

    with stub_model(replies(Reply({"error": {"message": "no"}}, status=404))) as stub:
        values, report = run(stub.url, three, max_usd=0.02)
    assert [error.kind for error in values] == ["provider-error"] * 3
    assert report["notes"] == []


def test_a_cap_over_a_model_without_a_price_is_the_user_s_to_mend() -> None:
    """Before anything is asked, for every such model, with what to write."""
    setting = JudgeSetting(models=("openai:secret", "openai:judge"), max_usd=1.0)
    models = resolve_models(
        setting, "openai:secret", needs={"judge", "embeddings"}, environ={"OPENAI_API_KEY": "k"}
    )
    with pytest.raises(UserError, match=r"pricing: \{secret: \{input_per_mtok") as caught:
        Bench(models, setting, price=price, cache=None)
    assert "openai:judge" not in str(caught.value)


def test_a_cap_that_caps_nothing_is_said_once() -> None:
    """Where all or some of those that are asked cost nothing; not where none of them is free."""

    def notes(*judges: str, max_usd: float | None = 1.0) -> list[str]:
        setting = JudgeSetting(models=judges, max_usd=max_usd)
        models = resolve_models(setting, None, needs={"judge"}, environ={"OPENAI_API_KEY": "k"})
        free = lambda usage: 0.0 if usage.provider == "ollama" else price(usage)  # noqa: E731
        found: list[str] = Bench(models, setting, price=free, cache=None).report()["notes"]
        return found

    assert notes("ollama:a:1", "openai:judge") == [
        "ollama:a:1 costs nothing here, so `evals.judge.max_usd` caps nothing of it."
    ]
    assert notes("ollama:a:1", "ollama:b:1") == [
        "ollama:a:1 and ollama:b:1 cost nothing here, so `evals.judge.max_usd` caps nothing of them."
    ]
    assert notes("openai:judge") == notes("ollama:a:1", max_usd=None) == []


def test_a_model_without_a_price_costs_an_unknown_sum() -> None:
    """Never $0."""
    with stub_model(replies(GOOD)) as stub:
        _, report = run(stub.url, ask, "openai:secret")
    assert report["usd"] is None
    assert report["by_model"][0]["usd"] is None
    assert report["by_model"][0]["input_tokens"] == 57


def test_a_reply_without_usage_is_noted_once() -> None:
    """What it cost is not known then, unless its model costs nothing at all."""
    silent = completion('{"grade": 4}')
    del silent["usage"]
    with stub_model(replies(Reply(silent))) as stub:
        _, report = run(stub.url, ask_all)
    assert report["notes"] == ["openai:judge reports no usage: what its replies took is not counted."]
    assert (report["usd"], report["calls"]) == (None, 20)


def test_an_unchanged_answer_is_never_judged_twice(tmp_path: Path) -> None:
    """The next run asks nothing, and says how many answers it had; another prompt or vote is asked."""
    path = tmp_path / "judgements.jsonl"
    with stub_model(replies(GOOD)) as stub:
        for _ in range(2):
            values, report = run(stub.url, ask_all, cache=JudgementCache(path, KEY))
            assert values == [{"grade": 4}] * 20
            assert report["kept"] == report["calls"]
        assert len(stub.requests) == 20
        assert (report["cached"], report["calls"], report["usd"]) == (20, 0, 0)
        for prompt, vote in (("Grade 1.", 1), ("Grade 20.", 0)):
            cache = JudgementCache(path, KEY)
            _, report = run(stub.url, partial(ask, prompt=prompt, vote=vote), cache=cache)
            assert (report["cached"], report["calls"]) == (0, 1)
        # Where the judge is asked is no part of what it says.
        with stub_model(replies(GOOD)) as moved:
            _, report = run(moved.url, ask_all, cache=JudgementCache(path, KEY))
        assert (report["cached"], len(moved.requests)) == (20, 0)
        _, report = run(stub.url, ask_all, "openai:other", cache=JudgementCache(path, KEY))
        assert report["cached"] == 0


def test_what_is_kept_is_had_for_nothing_also_past_the_budget(tmp_path: Path) -> None:
    """A run that stopped at its cap goes on where it was."""
    path = tmp_path / "judgements.jsonl"
    with stub_model(replies(dear(2500))) as stub:
        for kept in (4, 8):
            values, _ = run(stub.url, ask_all, max_usd=0.055, cache=JudgementCache(path, KEY))
            assert sum(value == {"grade": 4} for value in values) == kept


def test_no_error_is_kept(tmp_path: Path) -> None:
    """What failed is asked again by the next run."""
    path = tmp_path / "judgements.jsonl"
    for bad in (LIE, ended("length"), ended("content_filter"), Reply(status=500)):
        with stub_model(replies(bad)) as stub:
            error, _ = run(stub.url, ask, cache=JudgementCache(path, KEY))
        assert isinstance(error, JudgeError)
    assert path.read_bytes() == b""


def test_a_forged_judgement_is_asked_again_and_told(tmp_path: Path) -> None:
    """A cache that another job wrote cannot raise a grade."""
    path = tmp_path / "judgements.jsonl"
    with stub_model(replies(GOOD)) as stub:
        run(stub.url, ask, cache=JudgementCache(path, KEY))
        path.write_bytes(path.read_bytes().replace(b'"grade":4', b'"grade":5'))
        value, report = run(stub.url, ask, cache=JudgementCache(path, KEY))
    assert value == {"grade": 4}
    assert (report["cached"], report["calls"]) == (0, 1)
    assert report["notes"] == [
        "1 kept judgement does not count (signed with another key, or corrupt): asked again."
    ]


def test_only_lost_judgements_that_were_looked_for_are_counted(tmp_path: Path) -> None:
    """What a file holds of other questions is no news."""
    path = tmp_path / "judgements.jsonl"

    async def two(bench: Bench) -> None:
        await asyncio.gather(ask(bench, "Grade 0."), ask(bench, "Grade 1."))

    with stub_model(replies(GOOD)) as stub:
        run(stub.url, ask_all, cache=JudgementCache(path, "an older key"))
        _, report = run(stub.url, two, cache=JudgementCache(path, KEY))
    assert report["notes"] == [
        "2 kept judgements do not count (signed with another key, or corrupt): asked again."
    ]


def test_a_question_that_comes_again_in_one_run_is_not_an_earlier_run_s(tmp_path: Path) -> None:
    """Whether at once or later, and whoever answered it first: once asked or cached, then shared."""
    path = tmp_path / "judgements.jsonl"

    async def thrice(bench: Bench) -> None:
        await asyncio.gather(ask(bench), ask(bench))
        await ask(bench)

    with stub_model(replies(GOOD)) as stub:
        for calls, cached in ((1, 0), (0, 1)):
            _, report = run(stub.url, thrice, cache=JudgementCache(path, KEY))
            assert (report["calls"], report["cached"], report["shared"]) == (calls, cached, 2)


def test_a_judge_that_dies_midway_leaves_what_it_said(tmp_path: Path) -> None:
    """It is given up after a bounded number of calls, and the next run asks only for the rest."""
    path = tmp_path / "judgements.jsonl"

    async def one_by_one(bench: Bench) -> list[Any]:
        return [await ask(bench, f"Grade {n}.") for n in range(60)]

    with stub_model(lambda n: GOOD if n < 7 else Reply(drop=True)) as stub:
        values, report = run(stub.url, one_by_one, concurrency=2, cache=JudgementCache(path, KEY))
    assert values[:7] == [{"grade": 4}] * 7
    kinds = [error.kind for error in values[7:]]
    assert kinds[0] == "connection"
    assert kinds[-1] == "dead"
    assert len(stub.requests) < 50
    assert report["calls"] == 7
    with stub_model(replies(GOOD)) as again:
        values, report = run(again.url, one_by_one, cache=JudgementCache(path, KEY))
    assert values == [{"grade": 4}] * 60
    assert (report["cached"], len(again.requests)) == (7, 53)


def test_a_key_that_a_reply_repeats_is_neither_kept_nor_shown(tmp_path: Path) -> None:
    """A provider that echoes its headers does not write the key into our files."""
    path = tmp_path / "judgements.jsonl"
    with stub_model(replies(Reply(completion(json.dumps({"grade": 4, "seen": KEY}))))) as stub:
        value, report = run(stub.url, ask, cache=JudgementCache(path, KEY))
    assert value == {"grade": 4, "seen": "***"}
    assert KEY not in json.dumps(report) + path.read_text()


@pytest.mark.parametrize("escape", ["/", "\\/", "\\u002f"])
@pytest.mark.parametrize("grade", ["4", "[]"], ids=["good", "bad"])
def test_a_key_that_json_writes_otherwise_is_neither_kept_nor_shown(
    tmp_path: Path, grade: str, escape: str
) -> None:
    """Escaped in the reply's JSON, or in that of the whole, as a name, a text or in a list."""
    key, path = "sk-abc/def/1234567", tmp_path / "judgements.jsonl"
    inner = f'{{"grade": {grade}, "KEY": ["KEY"]}}'.replace("KEY", key.replace("/", escape))
    outer = json.dumps(completion("IN")).replace("IN", json.dumps(inner)[1:-1].replace("/", escape))

    async def work(url: str) -> tuple[Any, dict[str, Any]]:
        environ = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        setting = JudgeSetting(models=("openai:judge",))
        models = resolve_models(setting, None, needs={"judge"}, environ=environ)
        bench = Bench(models, setting, price=price, cache=JudgementCache(path, key))
        await bench.open()
        try:
            return await ask(bench), bench.report()
        finally:
            await bench.close()

    with stub_model(replies(Reply(outer.encode()))) as stub:
        said, report = asyncio.run(work(stub.url))
    if grade == "4":
        assert said == {"grade": 4, "***": ["***"]}
    assert key not in str(said) + json.dumps(report) + path.read_text()
    path.unlink()
    error = json.dumps({"error": {"message": key}}).replace("/", escape)
    with stub_model(replies(Reply(error.encode()))) as stub:
        assert str(asyncio.run(work(stub.url))[0]) == "provider-error: HTTP 200: ***"


def vector(*numbers: float) -> Reply:
    """An embedding as OpenAI's API reference shows it."""
    data = [{"object": "embedding", "index": 0, "embedding": list(numbers)}]
    return Reply({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 8}})


def test_a_text_is_embedded_once(tmp_path: Path) -> None:
    """At once and between runs, whichever judge and vote asks, with the same numbers each time.

    They are the provider's in 32 bits, which is far below what any similarity is told by.
    """
    path = tmp_path / "judgements.jsonl"
    numbers = [0.1, -0.2, 1e-17, 1 / 3]
    kept = list(array("f", numbers))
    assert kept == pytest.approx(numbers, rel=1e-7)

    async def embed(bench: Bench) -> list[Any]:
        return await asyncio.gather(*(bench.judge(0, vote).embed("a text") for vote in range(3)))

    with stub_model(replies(vector(*numbers))) as stub:
        for calls in (1, 0):
            cache = JudgementCache(path, KEY)
            values, report = run(stub.url, embed, embeddings=True, cache=cache, max_usd=0.01)
            assert values == [kept] * 3
            assert report["calls"] == calls
            assert report["embeddings"] == "openai:text-embedding-3-small"
    ((where, headers, body),) = stub.requests
    assert where == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "text-embedding-3-small", "input": "a text"}


def test_an_embedding_s_tokens_are_counted_apart() -> None:
    """In a row of its own model."""

    async def both(bench: Bench) -> None:
        await bench.judge(0, 0).embed("a text")

    with stub_model(replies(vector(1.0))) as stub:
        _, report = run(stub.url, both, embeddings=True)
    assert [(row["model"], row["input_tokens"]) for row in report["by_model"]] == [
        ("text-embedding-3-small", 8)
    ]


def test_a_gate_that_only_embeds_needs_no_judge() -> None:
    """Similarity is computed by whoever holds the vote."""

    async def work(url: str) -> None:
        environ = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY}
        setting = JudgeSetting()
        models = resolve_models(setting, "openai:e", needs={"embeddings"}, environ=environ)
        bench = Bench(models, setting, price=price, cache=None)
        await bench.open()
        judge = bench.judge(0, 0)
        assert (judge.name, await judge.embed("a text")) == ("openai:e", [1.0])
        await bench.close()

    with stub_model(replies(vector(1.0))) as stub:
        asyncio.run(work(stub.url))


def test_no_vector_is_an_error_with_its_kind() -> None:
    """As is asking for embeddings where no model is named."""

    async def embed(bench: Bench) -> Any:
        with pytest.raises(JudgeError) as caught:
            await bench.judge(0, 0).embed("a text")
        return caught.value.kind

    with stub_model(replies(Reply({"data": []}))) as stub:
        assert run(stub.url, embed, embeddings=True)[0] == "malformed"
        assert run(stub.url, embed)[0] == "library"
    with stub_model(replies(vector(1.0, 1e39))) as stub:
        assert run(stub.url, embed, embeddings=True)[0] == "malformed"
    with stub_model(replies(Reply({"error": {"message": "empty"}}, status=400))) as stub:
        assert run(stub.url, embed, embeddings=True)[0] == "provider-error"


def test_closing_ends_what_is_still_asked() -> None:
    """Nothing is left running, though nobody waits for it any more."""

    async def leave(bench: Bench) -> None:
        task = asyncio.create_task(ask(bench))
        await asyncio.sleep(0.1)
        task.cancel()

    with stub_model(replies(Reply(hang=True))) as stub:
        started = time.monotonic()
        run(stub.url, leave)
        assert time.monotonic() - started < 5
    assert len(stub.requests) == 1
