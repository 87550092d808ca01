"""An address as a target: each case posted to it as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.agent.mapping import DEFAULT, Seen, fill, parts_of
from gatehouse.agent.protocol import Fault, MalformedError, Run
from gatehouse.agent.providers import resolve_address
from gatehouse.evals.client import TRIES, Client, RefusedError, TransportError
from gatehouse.evals.worker import Answer
from gatehouse.evals.worker_pool import parse_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.entrypoint import Url
    from gatehouse.evals.run import Case

PROXY_KEY = 407
"""The status of a proxy that wants to know who asks, which no agent can mend."""


class Web:
    """An agent that answers over HTTP, wherever it runs and whatever it is written in.

    `concurrency` is how many requests are under way at most. Raises InfrastructureError where the key is
    missing that the address wants.
    """

    tries = TRIES

    def __init__(self, entry: Url, environ: Mapping[str, str], *, concurrency: int) -> None:
        self.entry = entry
        self.seen = Seen()
        self.client = Client(resolve_address(entry, environ), concurrency=concurrency)

    async def open(self) -> None:
        """Get ready; nothing is sent yet."""
        await self.client.open()

    async def close(self) -> None:
        """Close every connection."""
        await self.client.close()

    def notes(self) -> list[str]:
        """That it was asked more than it allows, if it was, and which path of `reply` leads nowhere."""
        limited = f"{self.client.limited} requests were over the agent's rate limit (429) and asked again."
        nowhere = [self.client.safe(note) for note in self.seen.notes(self.entry.reply)]
        return [limited] * (self.client.limited > 0) + nowhere

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One answer; raises DeadError when the address is given up.

        Latency is that of the try that was answered, without pauses before it, until the end of its reply.
        """
        values = {"input": case.input, "id": case.id, "repeat": repeat, "deadline_s": deadline_s}
        try:
            request = fill(self.entry.request or DEFAULT, values)
            body, seconds = await self.client.post("", request, deadline_s=deadline_s)
            answer = Answer(parts_of(body, self.entry.reply, self.entry.stream, self.seen), seconds)
        except MalformedError as error:
            answer = Answer(None, seconds, Fault("agent", "garbage", self.client.safe(f"{error}.")))
        except TransportError as error:
            if error.kind == "timeout":
                answer = Answer(None, deadline_s, Fault("agent", "hang", error.message))
            else:
                answer = Answer(None, None, Fault("infrastructure", error.kind, error.message))
        except RefusedError as error:
            answer = Answer(None, None, self._refusal(error))
        return parse_reply(case, repeat, answer)

    def _refusal(self, error: RefusedError) -> Fault:
        """Whose fault it is that another try would meet the same: what the agent answered is its own."""
        if error.kind == "provider-error" and error.status != PROXY_KEY:
            kind = "refused" if error.status else "garbage"
            return Fault("agent", kind, error.message)
        if error.kind == "connection" and self.entry.stream:
            return Fault("agent", "garbage", error.message)
        return Fault("infrastructure", error.kind, error.message)
