"""What judging took, by model, and the cap that it never passes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import Usage
from gatehouse.errors import Problem, UserError, plain_number
from gatehouse.evals.judges.base import JudgeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from gatehouse.evals.judges.model import JudgeModel

    Price = Callable[[Usage], float | None]
    """US dollars of one usage; None where nobody knows a price."""


@dataclass(slots=True)
class Spent:
    """What one model took; `usd` is None from the first call on that nobody can price."""

    provider: str
    model: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    usd: float | None = 0.0


class Call:
    """One call under way: what it may cost at most, and in the end what it did cost, if that is known."""

    def __init__(self, worst: float) -> None:
        self.worst = worst
        self.cost: float | None = None
        self.answered = False


class Spending:
    """Counts tokens and dollars, and lets no call begin whose worst case would pass `max_usd`.

    A call under way is counted by its worst case. One that ends without saying what it took (cut off, past
    its deadline, no usage in the reply) stays counted so: the provider may have charged it. Raises UserError
    for a cap over a model without a price.
    """

    def __init__(self, models: Sequence[JudgeModel], price: Price, max_usd: float | None) -> None:
        self.price, self.max_usd = price, max_usd
        self.by_model = {model.name: Spent(model.provider.name, model.model) for model in models}
        self.unknown = 0
        """Calls that ended without an answer after they were sent."""
        self.silent: set[str] = set()
        """Models that reported no usage."""
        self.free = [m.name for m in models if price(_probe(m)) == 0]
        """Models that cost nothing: no cap holds them."""
        self._committed = 0.0
        self._under_way = 0
        self._ended = asyncio.Event()
        self._over = ""
        if max_usd is not None and (unpriced := [m for m in models if _unpriced(m, price)]):
            raise UserError(*map(_no_price, unpriced))

    @property
    def usd(self) -> float | None:
        """Dollars of everything answered; None where a part of it has no price."""
        parts = [spent.usd for spent in self.by_model.values()]
        return None if None in parts else sum(part or 0.0 for part in parts)

    @asynccontextmanager
    async def call(self, worst: Usage) -> AsyncIterator[Call]:
        """Room for one call; waits for those under way where they may leave some.

        Raises JudgeError "budget" where there is none, and from then on for every call.
        """
        call = Call(0.0 if self.max_usd is None else self.price(worst) or 0.0)
        await self._room(call)
        self._committed += call.worst
        self._under_way += 1
        try:
            yield call
        finally:
            self._under_way -= 1
            if call.cost is not None:
                self._committed += call.cost - call.worst
            elif not call.answered:
                self.unknown += 1
            self._ended.set()
            self._ended = asyncio.Event()

    def answered(self, call: Call, model: JudgeModel, usage: Usage | None) -> None:
        """Count a reply with the usage that it reports, by the name that was asked for."""
        call.answered = True
        spent = self.by_model[model.name]
        spent.calls += 1
        if usage is None:
            self.silent.add(model.name)
            free = self.price(_probe(model)) == 0
            spent.usd = spent.usd if free else None
            call.cost = 0.0 if free else None
            return
        usd = self.price(replace(usage, provider=model.provider.name, model=model.model))
        spent.input_tokens += usage.input_tokens
        spent.cached_tokens += usage.cached_tokens
        spent.output_tokens += usage.output_tokens
        spent.usd = None if usd is None or spent.usd is None else spent.usd + usd
        call.cost = usd

    def refused(self, call: Call) -> None:
        """Nothing was done, so nothing is charged."""
        call.cost = 0.0

    def to_json(self) -> list[dict[str, Any]]:
        """A row for each model that answered."""
        return [
            {name: getattr(spent, name) for name in Spent.__slots__}
            for spent in self.by_model.values()
            if spent.calls
        ]

    async def _room(self, call: Call) -> None:
        while self.max_usd is not None:
            if self._over:
                raise JudgeError("budget", self._over)
            if self._committed + call.worst <= self.max_usd:
                return
            if not self._under_way:
                self._over = (
                    f"a further call could pass the judges' budget of ${plain_number(self.max_usd, 3)}: "
                    f"${plain_number(self._committed, 3)} is used, and it may cost "
                    f"${plain_number(call.worst, 2)}. Raise `evals.judge.max_usd`, or judge less."
                )
                continue
            await self._ended.wait()


def _probe(model: JudgeModel) -> Usage:
    return Usage(model.provider.name, model.model, 1000, 1000)


def _unpriced(model: JudgeModel, price: Price) -> bool:
    return price(_probe(model)) is None


def _no_price(model: JudgeModel) -> Problem:
    return Problem(
        f"`evals.judge.max_usd` caps what {model.name} may cost, but its price is not known.",
        repair=f"Write it in the agent file: pricing: {{{model.model}: "
        "{input_per_mtok: 1.0, output_per_mtok: 4.0}}, in US dollars.",
    )
