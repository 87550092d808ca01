"""What runs cost: prices of the file, of nobody, of the public table, and those that nobody knows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Run, Usage
from gatehouse.costs.prices import (
    FILE,
    SELF_HOSTED,
    TABLE,
    UNPRICED,
    add_up,
    cost_of_run,
    price,
    price_table,
)
from tests.support.projects import CRASH, NO_ROUTE, agent_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.agent.definition import Agent

MILLION = 1_000_000
OPENAI = {"provider": "openai", "name": "gpt-4o-mini-2024-07-18"}
PRICES = {"input_per_mtok": 2.0, "output_per_mtok": 10.0, "cached_input_per_mtok": 0.5}


def agent(folder: Path, model: dict[str, Any] | None = None, **more: Any) -> Agent:
    """An agent with this model, by default a self-hosted one."""
    return agent_of(folder, **({"model": model} if model else {}), **more)


def run(*usage: Usage, **fields: Any) -> Run:
    """A run that took this."""
    return Run("c0", "d", 0, "x", usage=list(usage), **fields)


def usage(
    model: str = "", provider: str = "", sent: int = MILLION, got: int = MILLION, cached: int = 0
) -> Usage:
    """A million tokens each way, unless said; without a model the agent's own."""
    return Usage(provider, model, sent, got, cached)


@pytest.mark.parametrize(
    ("cached", "prices", "dollars"),
    [
        (0, PRICES, 12.0),
        (MILLION // 2, PRICES, 11.25),
        (MILLION, PRICES, 10.5),
        (5 * MILLION, PRICES, 10.5),
        (MILLION // 2, {"input_per_mtok": 2.0, "output_per_mtok": 10.0}, 12.0),
        (MILLION, {**PRICES, "cached_input_per_mtok": 0}, 10.0),
        (0, {"input_per_mtok": 0, "output_per_mtok": 0}, 0.0),
    ],
)
def test_prices_of_the_agent_file(tmp_path: Path, cached: int, prices: Any, dollars: float) -> None:
    """The file's prices win, also over a self-hosted provider's; cached input is part of the input."""
    it = agent(tmp_path, pricing=prices)
    usd, source = price(usage("llama3.1:8b", "ollama", cached=cached), it)
    assert usd == pytest.approx(dollars)
    assert source == FILE


def test_prices_by_model(tmp_path: Path) -> None:
    """Several models have a price each, and one that the file does not name is priced as without a file."""
    it = agent(tmp_path, pricing={"a": PRICES, "b": {"input_per_mtok": 1, "output_per_mtok": 1}})
    assert price(usage("a", "x"), it) == (12.0, FILE)
    assert price(usage("b", "x"), it) == (2.0, FILE)
    assert price(usage("c", "ollama"), it) == (0.0, SELF_HOSTED)
    assert price(usage("c", "x"), it) == (None, UNPRICED)


def test_the_public_table(tmp_path: Path) -> None:
    """A hosted model has its published price, the cached part of its input its own."""
    it = agent(tmp_path, OPENAI)
    assert price(usage("gpt-4o-mini", "openai"), it)[1] == TABLE
    assert price(usage("gpt-4o-mini", "openai"), it)[0] == pytest.approx(0.75)
    assert price(usage("gpt-4o-mini-2024-07-18", "openai", cached=MILLION // 2), it)[0] == pytest.approx(
        0.7125
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-2024-08-06"),
        ("anthropic", "claude-3-5-haiku-20241022"),
        ("deepseek", "deepseek-chat"),
    ],
)
def test_what_was_read_from_a_cache_is_priced_as_such(tmp_path: Path, provider: str, model: str) -> None:
    """Real models: cached input is less than input, and no part of it is counted twice."""
    it = agent(tmp_path, OPENAI)
    whole, cached, half = (price(usage(model, provider, 1000, 0, part), it)[0] for part in (0, 1000, 500))
    assert whole is not None
    assert cached is not None
    assert 0 < cached < whole
    assert half == pytest.approx((whole + cached) / 2)


def test_the_public_table_has_a_version_and_a_date() -> None:
    """Which prices were taken is told: the table's version, and the past day of its newest price."""
    table = price_table()
    assert re.fullmatch(r"genai-prices \d+\.\d+\.\d+", table.table)
    assert table.date is not None
    assert "2025-01-01" < table.date <= datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize(
    ("model", "pricing", "reported", "dollars"),
    [
        (OPENAI, None, [usage()], 0.75),
        (OPENAI, None, [usage(), usage("gpt-4o-mini", "openai")], 1.5),
        (OPENAI, None, [usage(), usage("secret", "openai")], None),
        (OPENAI, None, [], None),
        (OPENAI, PRICES, [usage()], 12.0),
        (None, None, [], 0.0),
        (None, None, [usage()], 0.0),
        (None, PRICES, [], None),
    ],
)
def test_the_cost_of_a_run(
    tmp_path: Path, model: Any, pricing: Any, reported: list[Usage], dollars: float | None
) -> None:
    """All that a run took; not known where it says nothing, unless nothing could cost anything."""
    more = {"pricing": pricing} if pricing else {}
    found = cost_of_run(agent(tmp_path, model, **more), run(*reported))
    assert found == (None if dollars is None else pytest.approx(dollars))


@pytest.mark.parametrize(
    ("model", "provider"), [("no-such-model", "openai"), ("gpt-4o-mini", "nobody"), ("", "openai")]
)
def test_an_unknown_price_is_never_zero(tmp_path: Path, model: str, provider: str) -> None:
    """A model or provider that nobody knows is unpriced."""
    assert price(usage(model, provider), agent(tmp_path)) == (None, UNPRICED)


def test_self_hosted_costs_nothing_and_says_so(tmp_path: Path) -> None:
    """A self-hosted model is free, also where its runs report no usage, and named as self-hosted."""
    for runs in ([run(usage())], [run()]):
        costs = add_up(agent(tmp_path), runs)
        assert (costs.runs, costs.total, costs.unpriced, costs.without_usage) == (1, 0.0, 0, 0)
        (row,) = costs.to_json()
        assert (row["provider"], row["model"]) == ("ollama", "llama3.1:8b")
        assert (row["usd"], row["source"]) == (0.0, SELF_HOSTED)


def test_sums_by_run_and_model(tmp_path: Path) -> None:
    """Every usage counts: for its run, for the dearest run, and for its model; the dearest model first."""
    it = agent(tmp_path, pricing={"a": PRICES, "b": {"input_per_mtok": 1, "output_per_mtok": 1}})
    costs = add_up(
        it, [run(usage("b", "x"), usage("a", "x")), run(usage("b", "x", cached=7)), run(usage("b", "y"))]
    )
    assert (costs.runs, costs.total, costs.largest) == pytest.approx((3, 18.0, 14.0))
    rows = [
        (r["provider"], r["model"], r["usd"], r["input_tokens"], r["cached_tokens"]) for r in costs.to_json()
    ]
    assert rows == [
        ("x", "a", 12.0, MILLION, 0),
        ("x", "b", 4.0, 2 * MILLION, 7),
        ("y", "b", 2.0, MILLION, 0),
    ]


def test_unpriced_runs_are_counted_apart(tmp_path: Path) -> None:
    """A run with one unknown model among known ones is unpriced; what is known of it still counts."""
    it = agent(tmp_path, OPENAI, pricing={"a": PRICES})
    costs = add_up(it, [run(usage("a"), usage("secret")), run(usage("a"))])
    assert (costs.runs, costs.unpriced, costs.total) == pytest.approx((2, 1, 24.0))
    assert [(row["model"], row["usd"]) for row in costs.to_json()] == [("secret", None), ("a", 24.0)]


def test_runs_without_usage(tmp_path: Path) -> None:
    """A run that reports nothing has no known cost, unless it is free."""
    assert add_up(agent(tmp_path, OPENAI), [run(), run(usage())]).without_usage == 1
    assert add_up(agent(tmp_path, pricing=PRICES), [run()]).without_usage == 1


def test_runs_that_broke_off(tmp_path: Path) -> None:
    """A fault that reports no tokens is no cheap run: it is not among them; one that does is paid for."""
    it = agent(tmp_path, pricing=PRICES)
    runs = [run(usage()), run(error=CRASH), run(usage(), error=CRASH), run(usage(), error=NO_ROUTE)]
    costs = add_up(it, runs)
    assert (costs.runs, costs.faults, costs.total) == pytest.approx((2, 2, 24.0))


def test_a_model_reported_by_its_dated_name(tmp_path: Path) -> None:
    """A chat agent asks one model: the file's price for it holds whatever the reply calls it."""
    chat = agent(tmp_path, {"provider": "vllm", "name": "llama3.1:8b"}, code=None, pricing=PRICES)
    costs = add_up(chat, [run(usage("/models/llama-3.1-8b", "vllm"))])
    assert costs.to_json()[0]["source"] == FILE
    assert costs.total == pytest.approx(12.0)
    assert costs.to_json()[0]["model"] == "/models/llama-3.1-8b"
    code = agent(tmp_path, {"provider": "vllm", "name": "llama3.1:8b"}, pricing=PRICES)
    assert add_up(code, [run(usage("/models/llama-3.1-8b", "vllm"))]).total == 0.0
