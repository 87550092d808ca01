"""What a run cost, in US dollars: from the agent file, from genai-prices, or honestly unknown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from gatehouse.agent.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run, Usage

FILE, SELF_HOSTED, TABLE, UNPRICED = "agent file", "self-hosted", "genai-prices", "unpriced"
"""Where a price comes from; an unknown one is never $0."""


@dataclass(frozen=True, slots=True)
class Table:
    """genai-prices as installed: its name with the version, and the day (ISO) of its newest price in force.

    The library says of no day on which its prices were looked up; what it has is from when on a changed price
    holds. `date` is None where it has none.
    """

    table: str
    date: str | None


@cache
def price_table() -> Table:
    """The public table of prices that this installation has."""
    from datetime import UTC, datetime  # noqa: PLC0415 beside its one use

    import genai_prices  # noqa: PLC0415 as in `price`
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 as above

    models = (model for provider in get_snapshot().providers for model in provider.models)
    prices = (price for model in models if isinstance(model.prices, list) for price in model.prices)
    starts = (getattr(price.constraint, "start_date", None) for price in prices)
    past = [day for day in starts if day is not None and day <= datetime.now(UTC).date()]
    return Table(f"{TABLE} {genai_prices.__version__}", max(past).isoformat() if past else None)


def price(usage: Usage, agent: Agent) -> tuple[float | None, str]:
    """Dollars of one usage and where the price comes from; None where nobody knows it.

    The file's `pricing` wins, then a self-hosted provider costs nothing, then genai-prices is asked.
    """
    own = agent.pricing.get(usage.model)
    if own is not None:
        cached = own.input_per_mtok if own.cached_input_per_mtok is None else own.cached_input_per_mtok
        cached_tokens = min(usage.cached_tokens, usage.input_tokens)
        dollars = (usage.input_tokens - cached_tokens) * own.input_per_mtok + cached_tokens * cached
        return (dollars + usage.output_tokens * own.output_per_mtok) / 1e6, FILE
    provider = PROVIDERS.get(usage.provider)
    if provider is not None and provider.self_hosted:
        return 0.0, SELF_HOSTED
    # 135 ms of import that only a hosted model without its own price pays for.
    from genai_prices import Usage as Priced  # noqa: PLC0415
    from genai_prices import calc_price  # noqa: PLC0415

    tokens = Priced(
        input_tokens=usage.input_tokens,
        cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
        output_tokens=usage.output_tokens,
    )
    try:
        return float(calc_price(tokens, usage.model, provider_id=usage.provider).total_price), TABLE
    except (LookupError, ValueError):
        return None, UNPRICED


@dataclass(slots=True)
class ModelCost:
    """Everything one model took; `usd` is None from the first usage on that nobody could price."""

    provider: str
    model: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0
    source: str = ""

    def add(self, usage: Usage, usd: float | None, source: str) -> None:
        """Count one usage in."""
        self.input_tokens += usage.input_tokens
        self.cached_tokens += usage.cached_tokens
        self.output_tokens += usage.output_tokens
        self.usd = None if usd is None or self.usd is None else self.usd + usd
        self.source = source


@dataclass(slots=True)
class Costs:
    """The costs of a set of runs, in dollars; a run that broke off without saying is not among them."""

    runs: int = 0
    total: float = 0.0
    largest: float = 0.0
    without_usage: int = 0
    unpriced: int = 0
    faults: int = 0
    by_model: dict[tuple[str, str], ModelCost] = field(default_factory=dict)

    @property
    def is_by_table(self) -> bool:
        """Whether any price is from the public table."""
        return any(model.source == TABLE for model in self.by_model.values())

    def to_json(self) -> list[dict[str, Any]]:
        """`by_model` as it stands in `cost.json`, the dearest first."""
        models = sorted(self.by_model.values(), key=lambda m: (m.usd is not None, -(m.usd or 0), m.model))
        return [{name: getattr(model, name) for name in ModelCost.__slots__} for model in models]


def cost_of(agent: Agent, reported: Usage) -> tuple[Usage, float | None, str]:
    """One usage with its provider and model, its dollars, and where the price comes from.

    Without provider or model it is the agent's own model's.
    """
    usage = replace(
        reported,
        provider=reported.provider or agent.model.provider,
        model=reported.model or agent.model.name,
    )
    # Without code of its own an agent asks this one model; providers report it by a dated name.
    own = agent.entrypoint is None and agent.model.name in agent.pricing and usage.model not in agent.pricing
    return (usage, *price(replace(usage, model=agent.model.name) if own else usage, agent))


def is_free(agent: Agent) -> bool:
    """Whether the agent's model is the user's own machine, and its file says no price."""
    provider = PROVIDERS.get(agent.model.provider)
    return provider is not None and provider.self_hosted and not agent.pricing


def cost_of_run(agent: Agent, run: Run) -> float | None:
    """Dollars of one run; None where it does not say, or nobody knows."""
    spent = 0.0
    for reported in run.usage:
        usd = cost_of(agent, reported)[1]
        if usd is None:
            return None
        spent += usd
    return spent if run.usage or is_free(agent) else None


def add_up(agent: Agent, runs: Iterable[Run]) -> Costs:
    """The costs of `runs`."""
    costs, free = Costs(), is_free(agent)
    own = agent.model.provider, agent.model.name
    for run in runs:
        if run.error is not None and (run.error.by == "infrastructure" or not run.usage):
            costs.faults += 1  # a run that broke off reports nothing: its cost is not $0, it is not known
            continue
        costs.runs += 1
        spent, known = 0.0, bool(run.usage) or free
        for reported in run.usage:
            usage, usd, source = cost_of(agent, reported)
            key = usage.provider, usage.model
            costs.by_model.setdefault(key, ModelCost(*key)).add(usage, usd, source)
            known = known and usd is not None
            spent += usd or 0.0
        if not run.usage and free:
            costs.by_model.setdefault(own, ModelCost(*own, source=SELF_HOSTED))
        elif not run.usage:
            costs.without_usage += 1
        elif not known:
            costs.unpriced += 1
        costs.total += spent
        costs.largest = max(costs.largest, spent)
    return costs
