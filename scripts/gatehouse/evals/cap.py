"""What asking the agent may cost in one run: a cap that is never passed, calls under way counted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from math import fsum
from typing import IO, TYPE_CHECKING, Any

from gatehouse.agent.protocol import Usage
from gatehouse.errors import InfrastructureError, Problem, UserError, plain_number
from gatehouse.evals.asked import HEARER
from gatehouse.evals.chat import Chat, messages_of
from gatehouse.evals.run_files import SPENT, readable_runs, writing
from gatehouse.evals.throttle import DeadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.agent.protocol import Run
    from gatehouse.evals.run import Case, Target

    Price = Callable[[Usage], float | None]
    """US dollars of one usage; None where nobody knows a price."""

OPTION, KEY = "--max-usd", "evals.max_usd"
"""Where a cap comes from, in words."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """How answers are priced, in US dollars: one usage, and a whole run; None where nobody knows."""

    usage: Price
    run: Callable[[Run], float | None]


class Capped:
    """A target of which no question is asked whose worst case could pass `max_usd`.

    `bound` is what a request for a case can cost at most. A question is counted so before it is asked, with
    every further try that the target may make of it, and by what it reports once it is answered; one that
    reports nothing that can be priced, and one that ends in a fault, stays counted at its bound, as does a
    try that was followed by another. What was sent is written to `folder` before it is, so that a run that is
    resumed, also after a kill, knows what was spent before.
    """

    def __init__(
        self,
        target: Target,
        max_usd: float,
        bound: Callable[[Case], float],
        pricing: Pricing,
        folder: Path,
        case_of: Callable[[str], Case],
        *,
        named: str = KEY,
    ) -> None:
        self.target, self.max_usd, self.bound, self.pricing = target, max_usd, bound, pricing
        self.folder, self.case_of = folder, case_of
        self.cap = f"the cap of {_usd(max_usd)} ({named})"
        self.committed = 0.0
        self.tries = target.tries
        self._under_way = 0
        self._ended = asyncio.Event()
        self._over = ""
        self._passed = ""
        self._ledger: IO[bytes] | None = None

    async def open(self) -> None:
        """Find out what was spent before; raises what the target's own `open` raises."""
        with writing(self.folder):
            self._ledger = (self.folder / SPENT).open("a+b", buffering=0)
            before = _total(self._ledger)
            # Answers of a run that had no cap yet stand in no ledger.
            kept = fsum(self._cost_of_kept(run) for run in readable_runs(self.folder))
        self.committed = max(before, kept)
        self._write(self.committed - before)
        await self.target.open()

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """The target's answer; waits for calls under way where they may leave room for this one.

        Raises DeadError where there is none, and from then on for every case.
        """
        bound = self.bound(case)
        held = bound * self.tries
        await self._room(held)
        self._under_way += 1
        sent, run = 0, None

        def count(times: int) -> None:
            """Before it is sent."""
            nonlocal sent
            sent += times
            self._write(times * bound)

        hearer = HEARER.set(count)
        try:
            run = await self.target.ask(case, repeat, deadline_s)
            return run
        finally:
            HEARER.reset(hearer)
            self._under_way -= 1
            cost = self._cost(run, bound, sent)
            self.committed += cost - held
            self._write(cost - sent * bound)
            self._ended.set()
            self._ended = asyncio.Event()

    async def close(self) -> None:
        """Leave nothing behind but the ledger."""
        await self.target.close()
        if self._ledger:
            self._ledger.close()

    def notes(self) -> list[str]:
        """What the target has to say, and that the cap did not hold."""
        more = self.committed - self.max_usd
        passed = [f"{self.cap} was passed by {_usd(more)}."] if more > 1e-9 else []  # noqa: PLR2004 a float's last bits
        return self.target.notes() + [self._passed] * bool(self._passed) + passed

    async def _room(self, held: float) -> None:
        """Count a question in, when there is room for it."""
        while True:
            if self._passed or self._over:
                raise DeadError(self._passed or self._over)
            if self.committed + held <= self.max_usd:
                self.committed += held
                return
            if self._under_way:
                await self._ended.wait()
                continue
            tries = f" with {self.tries} tries" if self.tries > 1 else ""
            self._over = (
                f"{self.cap} would be passed: {_usd(self.committed)} spent, the next call may cost up to "
                f"{_usd(held)}{tries}. Raise the cap by {OPTION} or {KEY}: the next call needs at least "
                f"{_usd(self.committed + held)}"
            )

    def _write(self, usd: float) -> None:
        """Dollars that were spent, or were not after all, for a run that goes on where this one ends."""
        if usd and self._ledger:
            with writing(self.folder):
                self._ledger.write(f"{usd!r}\n".encode())

    def _cost(self, run: Run | None, bound: float, sent: int) -> float:
        """What a question that was asked `sent` times is counted at."""
        reported = None if run is None else self.pricing.run(run)
        if reported is not None and reported > bound * (1 + 1e-9):
            self._pass_by(reported, bound)
        if run is None or run.error is not None or reported is None:
            return max(bound * sent, reported or 0.0)
        return reported + bound * max(0, sent - 1)

    def _pass_by(self, reported: float, bound: float) -> None:
        self._passed = (
            f"{self.cap} cannot be held: an answer took {_usd(reported)}, {_usd(reported - bound)} more than "
            "its tokens could come to"
        )

    def _cost_of_kept(self, run: Run) -> float:
        cost = self.pricing.run(run)
        return self.bound(self.case_of(run.id)) if cost is None else cost


def bound_of(agent: Agent, target: Target, price: Price, *, named: str = KEY) -> Callable[[Case], float]:
    """What a request for a case can cost at most, in US dollars.

    Without code of its own an agent is sent no more tokens than its request has bytes, and answers with no
    more than `max_tokens`. With code of its own `budgets.max_tokens_per_run` says how many it may use: all at
    the dearest price that it may pay. Raises UserError where there is no such limit, or no price.
    """
    if isinstance(target, Chat):
        return _chat_bound(agent, target, price, named)
    tokens = agent.budgets.max_tokens_per_run
    if tokens is None:
        raise UserError(
            _problem(
                agent,
                named,
                "how many tokens one run of the agent may use is not known.",
                "Write budgets: {max_tokens_per_run: 4000}.",
            )
        )
    models = [(model.provider, model.name) for model in (agent.model, agent.fallback_model) if model]
    models += [(agent.model.provider, name) for name in agent.pricing]
    worst = []
    for provider, model in dict.fromkeys(models):
        ways = [Usage(provider, model, tokens, 0), Usage(provider, model, 0, tokens)]
        ways.append(Usage(provider, model, tokens, 0, tokens))  # a cache can be dearer than none
        worst += [_priced(agent, usage, price, named) for usage in ways]
    dearest = max(worst)
    return lambda _case: dearest


def _chat_bound(agent: Agent, chat: Chat, price: Price, named: str) -> Callable[[Case], float]:
    given = [chat.parameters.get(name) for name in ("max_tokens", "max_completion_tokens")]
    limits = [value for value in given if isinstance(value, int)]
    answers = chat.parameters.get("n") or 1
    if not limits or not isinstance(answers, int):
        raise UserError(
            _problem(
                agent,
                named,
                "how long an answer of the model may be is not known.",
                "Write model: {max_tokens: 300}.",
            )
        )
    output = max(limits) * answers
    _priced(agent, Usage(chat.provider, chat.model, 1000, 1000), price, named)

    def bound(case: Case) -> float:
        messages = chat.system + messages_of(case.input)
        if any(_is_more_than_text(message) for message in messages):
            message = f"case {case.id!r} holds more than text, whose tokens no length bounds."
            raise UserError(_problem(agent, named, message, ""), left="What was answered before is kept.")
        # No token is shorter than a byte; what a chat template adds is less than JSON's own quotes and names.
        request = json.dumps(chat.parameters | {"messages": messages}, ensure_ascii=False)
        sent = len(request.encode(errors="replace"))
        return price(Usage(chat.provider, chat.model, sent, output)) or 0.0

    return bound


def _is_more_than_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(not isinstance(part, dict) or part.get("type") != "text" for part in parts)


def _priced(agent: Agent, usage: Usage, price: Price, named: str) -> float:
    usd = price(usage)
    if usd is None:
        message = f"nobody knows the price of {usage.model}."
        repair = (
            f"Write pricing: {{{usage.model}: {{input_per_mtok: 1.0, output_per_mtok: 4.0}}}}, in US dollars."
        )
        raise UserError(_problem(agent, named, message, repair))
    return usd


def _problem(agent: Agent, named: str, message: str, repair: str) -> Problem:
    """Why a cap cannot be held, at its key in the agent file, or of the option."""
    message = f"{named} cannot be held: {message}"
    keys = ("evals", "max_usd") if named == KEY else ()
    return agent.problem(*keys, message=message, repair=repair, value=True)


def _total(ledger: IO[bytes]) -> float:
    """The dollars of all its lines; half of a last one, of a process that was killed, is cut off.

    A line is written before what it counts is asked: what half of one counted was not.
    """
    ledger.seek(0)
    lines, _, half = ledger.read().rpartition(b"\n")
    if half:
        ledger.truncate(len(lines) + 1)
    try:
        return fsum(map(float, lines.split()))
    except ValueError:
        raise InfrastructureError(
            f"{SPENT} is malformed: remove the folder of results and run anew."
        ) from None


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or not value else f"${plain_number(value, 3)}"
