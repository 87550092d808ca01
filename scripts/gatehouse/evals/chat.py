"""A model as a target: chat completions of any OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import Fault, Run
from gatehouse.evals.client import TRIES, Client, RefusedError, TransportError
from gatehouse.evals.completion import parse_completion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.providers import Endpoint
    from gatehouse.evals.run import Case


class Chat:
    """The agent's own model and prompt, without any code of the user's.

    `parameters` go into each request as they are (temperature, max_tokens, ...); `concurrency` is how many
    requests are under way at most.
    """

    tries = TRIES

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        system_prompt: str | None,
        parameters: Mapping[str, Any],
        *,
        concurrency: int,
    ) -> None:
        self.provider = endpoint.provider.name
        self.model = model
        self.system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self.parameters = dict(parameters)
        self.client = Client(endpoint, concurrency=concurrency)

    async def open(self) -> None:
        """Get ready; nothing is sent yet."""
        await self.client.open()

    async def close(self) -> None:
        """Close every connection."""
        await self.client.close()

    def notes(self) -> list[str]:
        """That the provider was asked more than it allows, if it was."""
        if not self.client.limited:
            return []
        return [f"{self.client.limited} requests were over the provider's rate limit (429) and asked again."]

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One completion; raises DeadError when the provider is given up.

        Latency is that of the try that was answered, without pauses before it.
        """
        request = self.parameters | {"model": self.model, "messages": self.system + messages_of(case.input)}
        try:
            reply, seconds = await self.client.post("/chat/completions", request, deadline_s=deadline_s)
            said = parse_completion(reply, self.provider, self.model)
        except (TransportError, RefusedError) as error:
            fault = Fault("infrastructure", error.kind, self.client.safe(error.message))
            return Run(id=case.id, case=case.digest, repeat=repeat, output=None, error=fault)
        return Run(id=case.id, case=case.digest, repeat=repeat, latency_s=seconds, **said)


def messages_of(value: Any) -> list[dict[str, Any]]:
    """A case's input as messages: a list of messages as it is, a text as the user's, JSON as its text."""
    if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
        return value
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    from json import dumps  # noqa: PLC0415 two lines of use

    return [{"role": "user", "content": dumps(value, ensure_ascii=False)}]
