"""The judges of one gate: every question to a model is asked, counted, kept and capped here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from array import array
from base64 import b64decode, b64encode
from copy import deepcopy
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from gatehouse.agent.protocol import Usage
from gatehouse.agent.providers import SHORTEST_KEY
from gatehouse.evals.client import Client, DeadError, RefusedError, TransportError
from gatehouse.evals.judges import wire
from gatehouse.evals.judges.base import JudgeError
from gatehouse.evals.judges.spending import Spending
from gatehouse.evals.judges.wire import MAX_TOKENS, Manner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from gatehouse.agent.definition import JudgeSetting
    from gatehouse.evals.judges.base import Judge
    from gatehouse.evals.judges.cache import JudgementCache
    from gatehouse.evals.judges.model import JudgeModel, Models

T = TypeVar("T")

FLOAT = "f"
"""How an embedding is kept: in 32 bits a number, the most that models compute it with."""
FORMAT = 2
"""The version of what an entry of the cache means: a change to how is asked or read makes it a new one."""


class Bench:
    """Asks judges and the embeddings model, each endpoint by one client.

    `price` gives the US dollars of a usage, None where it is not known. Raises UserError where `max_usd` caps
    a model without a price. `close` closes the cache too.
    """

    def __init__(
        self,
        models: Models,
        setting: JudgeSetting,
        *,
        price: Callable[[Usage], float | None],
        cache: JudgementCache | None,
    ) -> None:
        self.models, self.setting, self.cache = models, setting, cache
        everyone = models.everyone
        self.spending = Spending(everyone, price, setting.max_usd)
        self.cached = self.shared = self.repaired = 0
        self._clients = {m.endpoint: Client(m.endpoint, concurrency=setting.concurrency) for m in everyone}
        self._manners: dict[str, Manner] = {}
        self._asked: dict[str, asyncio.Task[Any]] = {}
        self._known: set[str] = set()
        """Questions that were answered in this run, by whomever."""

    async def open(self) -> None:
        """Make the clients ready; nothing is sent yet."""
        for client in self._clients.values():
            await client.open()

    async def close(self) -> None:
        """Ask nothing more, and leave nothing open."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()
        if self.cache:
            self.cache.close()

    def judge(self, index: int, vote: int) -> Judge:
        """The judge at `index` of the panel, for its vote number `vote`, from 0.

        In a gate that needs no judge it only embeds, and goes by the embeddings model's name.
        """
        model = self.models.judges[index] if self.models.judges else self.models.embeddings
        return _Voter(self, model, vote)

    def report(self) -> dict[str, Any]:
        """What was asked and what it took; `usd` is None where a part of it has no price.

        `cached` are questions that an earlier run had answered, `shared` those that came again in this one,
        `kept` the answers that a later run will find and no earlier one left.
        """
        embeddings = self.models.embeddings
        return {
            "models": [judge.name for judge in self.models.judges],
            "embeddings": embeddings.name if embeddings else None,
            "calls": sum(spent.calls for spent in self.spending.by_model.values()),
            "cached": self.cached,
            "shared": self.shared,
            "repaired": self.repaired,
            "kept": self.cache.added if self.cache else 0,
            "usd": self.spending.usd,
            "max_usd": self.setting.max_usd,
            "by_model": self.spending.to_json(),
            "notes": list(self._notes()),
        }

    async def ask(
        self,
        model: JudgeModel,
        vote: int,
        prompt: str | Sequence[Mapping[str, Any]],
        schema: Mapping[str, Any],
    ) -> Any:
        """The judge's reply as a JSON value that follows `schema`; raises JudgeError."""
        messages = wire.messages_of(prompt, schema)
        key = _key("judge", model.name, messages, schema, [MAX_TOKENS, 0], vote)
        return deepcopy(await self._once(key, lambda: self._judgement(model, messages, schema)))

    async def embed(self, text: str) -> list[float]:
        """The embedding of a text; raises JudgeError."""
        model = self.models.embeddings
        if model is None:
            raise JudgeError("library", "no embeddings model is named: give --embeddings PROVIDER:MODEL")
        packed = await self._once(_key("embedding", model.name, text), lambda: self._embedding(model, text))
        return list(array(FLOAT, b64decode(packed)))

    async def _once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """From the cache, from whoever is asking the same just now, or by asking."""
        if task := self._asked.get(key):
            self.shared += 1
        else:
            entry = self.cache.get(key) if self.cache else None
            if isinstance(entry, dict) and "value" in entry:
                if key in self._known:
                    self.shared += 1
                else:
                    self.cached += 1
                self._known.add(key)
                return entry["value"]
            task = self._asked[key] = asyncio.create_task(self._kept(key, work))
            task.add_done_callback(lambda done: self._forget(key, done))
        # Whoever gives up waiting does not take the answer from the others.
        return await asyncio.shield(task)

    async def _kept(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        value = await work()
        if self.cache:
            self.cache.put(key, {"value": value})
            self._known.add(key)
        return value

    def _forget(self, key: str, task: asyncio.Task[Any]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    async def _judgement(
        self, model: JudgeModel, messages: list[dict[str, Any]], schema: Mapping[str, Any]
    ) -> Any:
        """Ask, and ask once more with the fault where the reply has one."""
        reply = await self._complete(model, messages, schema)
        value, fault = _value(model, reply, schema)
        if not fault:
            return value
        again = wire.repair_of(messages, reply.text or reply.refusal, fault)
        reply = await self._complete(model, again, schema)
        value, fault = _value(model, reply, schema)
        if fault:
            raise wire.fault_of(reply, fault)
        self.repaired += 1
        return value

    async def _complete(
        self, model: JudgeModel, messages: list[dict[str, Any]], schema: Mapping[str, Any]
    ) -> wire.Reply:
        """One completion, asked for in the manner that the model turns out to want."""
        manner = known = self._manners.get(model.name, Manner())
        while True:
            request = manner.request(model.model, messages, schema)
            try:
                reply = await self._send(model, "/chat/completions", request, MAX_TOKENS, wire.read_reply)
                break
            except JudgeError as error:
                other = manner.after(error.message)
                if other is None:
                    raise
                manner = other
        if manner is not known:  # kept only once it has worked: a refusal may have meant something else
            self._manners[model.name] = manner
        if bad := wire.ended_badly(reply):
            raise bad
        key = model.endpoint.key
        return replace(reply, text=_without(reply.text, key), refusal=_without(reply.refusal, key))

    async def _embedding(self, model: JudgeModel, text: str) -> str:
        """The vector, packed: as text it would be four times as long."""
        request = {"model": model.model, "input": text}
        vector = await self._send(model, "/embeddings", request, 0, wire.read_embedding)
        packed = array(FLOAT, vector)
        if not all(map(isfinite, packed)):
            raise JudgeError("malformed", "the reply is no embedding (a number is out of range)")
        return b64encode(packed.tobytes()).decode()

    async def _send(
        self,
        model: JudgeModel,
        path: str,
        request: dict[str, Any],
        output: int,
        read: Callable[[bytes, str, str], tuple[T, Usage | None]],
    ) -> T:
        """One call within the budget, what `read` makes of its reply, and its usage counted."""
        # No token is shorter than a byte; what a chat template adds is less than JSON's own quotes and names.
        most = len(json.dumps(request, ensure_ascii=False).encode(errors="replace"))
        worst = Usage(model.provider.name, model.model, most, output)
        client = self._clients[model.endpoint]
        async with self.spending.call(worst) as call:
            try:
                body, _ = await client.post(path, request, deadline_s=self.setting.deadline_s)
            except DeadError as error:
                self.spending.refused(call)
                raise JudgeError("dead", error.message) from None
            except RefusedError as error:
                if error.kind != "connection":  # else a part of an answer came
                    self.spending.refused(call)
                raise wire.refusal_of(error) from None
            except TransportError as error:
                if error.kind != "timeout":
                    self.spending.refused(call)
                raise JudgeError(error.kind, error.message) from None
            try:
                value, usage = read(body, model.provider.name, model.model)
            except JudgeError as error:
                raise JudgeError(error.kind, _without(error.message, model.endpoint.key)) from None
            self.spending.answered(call, model, usage)
            return value

    def _notes(self) -> Iterator[str]:
        yield from filter(None, (manner.note(name) for name, manner in self._manners.items()))
        for name in sorted(self.spending.silent):
            yield f"{name} reports no usage: what its replies took is not counted."
        if self.spending.unknown:
            yield f"{self.spending.unknown} calls ended without an answer: what they took is not known."
        if self.spending.max_usd is not None and (free := self.spending.free):
            them = (" and ".join(free), "cost", "them") if len(free) > 1 else (free[0], "costs", "it")
            yield "{} {} nothing here, so `evals.judge.max_usd` caps nothing of {}.".format(*them)
        if self.cache and (lost := self.cache.rejected):
            what = "kept judgements do" if lost > 1 else "kept judgement does"
            yield f"{lost} {what} not count (signed with another key, or corrupt): asked again."
        if self.cache and self.cache.fault:
            yield self.cache.fault


class _Voter:
    """One judge of the panel for one vote: what a metric sees of the bench."""

    def __init__(self, bench: Bench, model: JudgeModel | None, vote: int) -> None:
        self.bench, self.model, self.vote = bench, model, vote

    @property
    def name(self) -> str:
        """`PROVIDER:MODEL`."""
        return self.model.name if self.model else "nobody"

    async def ask(self, prompt: str | Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> Any:
        """The reply, asked for once in each vote."""
        if self.model is None:
            raise JudgeError("library", "a judge is asked where none was named")
        return await self.bench.ask(self.model, self.vote, prompt, schema)

    async def embed(self, text: str) -> list[float]:
        """The embedding, which is the same in every vote."""
        return await self.bench.embed(text)


def _key(*parts: Any) -> str:
    """What an answer depends on, as the hex of a SHA-256. Not the address: a model is its name."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _value(model: JudgeModel, reply: wire.Reply, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The value of a reply or what is wrong with it, without the key: in JSON it may have been escaped."""
    value, fault = wire.value_of(reply, schema)
    return _without(value, model.endpoint.key), _without(fault, model.endpoint.key)


def _without(said: Any, key: str | None) -> Any:
    """A JSON value without the key, should it hold it: what a provider says is kept, and shown."""
    if not key or len(key) < SHORTEST_KEY:
        return said
    if isinstance(said, str):
        return said.replace(key, "***")
    if isinstance(said, list):
        return [_without(one, key) for one in said]
    if isinstance(said, dict):
        return {_without(name, key): _without(one, key) for name, one in said.items()}
    return said
