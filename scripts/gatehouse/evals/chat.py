"""A model as a target: chat completions of any OpenAI-compatible endpoint, retried only for transport."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from gatehouse.agent.protocol import Fault, Run
from gatehouse.evals.completion import RefusedError, parse_completion, parse_error
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.providers import Endpoint
    from gatehouse.evals.run import Case

MAX_REPLY = 8 * 2**20
"""Bytes of one reply."""
TRIES = 4
"""Requests for one case, at most; only transport faults are tried again."""
FIRST_PAUSE_S = 0.5
CONNECT_S = 10.0
MESSAGE = 2000
TOO_MANY_REQUESTS = 429


class TransportError(Exception):
    """A fault that another try may not meet; `pause_s` is what the server asked to wait, if it did."""

    def __init__(self, kind: str, message: str, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.pause_s = kind, message, pause_s


class Chat:
    """The agent's own model and prompt, without any code of the user's.

    `parameters` go into each request as they are (temperature, max_tokens, ...); `concurrency` is how many
    connections are kept.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        system_prompt: str | None,
        parameters: Mapping[str, Any],
        *,
        concurrency: int,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self.parameters = dict(parameters)
        self.concurrency = concurrency
        self.url = endpoint.base_url + "/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The deadline is the case's; without compression no reply unpacks into more than was sent.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            headers={"Accept-Encoding": "identity", "User-Agent": "gatehouse", **self.endpoint.headers()},
            proxy=proxy_of(self.url),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    def notes(self) -> list[str]:
        """Nothing beside the answers."""
        return []

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One completion. Latency is that of the try that was answered, without pauses before it."""
        request = self.parameters | {"model": self.model, "messages": self.system + messages_of(case.input)}
        try:
            async with asyncio.timeout(deadline_s):
                reply, seconds = await self._try(request)
                return Run(
                    id=case.id,
                    case=case.digest,
                    repeat=repeat,
                    latency_s=seconds,
                    **parse_completion(reply, self.endpoint.provider.name, self.model),
                )
        except TimeoutError:
            kind, message = "timeout", f"no answer within {deadline_s:g} s"
        except (TransportError, RefusedError) as error:
            kind, message = error.kind, error.message
        fault = Fault("infrastructure", kind, self._safe(message))
        return Run(id=case.id, case=case.digest, repeat=repeat, output=None, error=fault)

    async def _try(self, request: dict[str, Any]) -> tuple[bytes, float]:
        """Until something but a transport fault comes back, or the tries are used up."""
        for attempt in range(TRIES):
            started = perf_counter()
            try:
                return await self._post(request), perf_counter() - started
            except TransportError as error:
                if attempt == TRIES - 1:
                    raise
                # Jitter: those who were refused together should not come back together.
                pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 no secret
                await asyncio.sleep(max(pause, error.pause_s or 0.0))
        raise AssertionError

    async def _post(self, request: dict[str, Any]) -> bytes:
        """One try; raises TransportError where another may help, RefusedError where none will."""
        assert self._session is not None  # noqa: S101 opened before
        try:
            # A redirect would carry the key to another host.
            async with self._session.post(self.url, json=request, allow_redirects=False) as response:
                status, body = response.status, await self._read(response)
                retry_after = response.headers.get("Retry-After")
        except aiohttp.ClientError as error:
            raise TransportError("connection", f"{type(error).__name__}: {error}") from None
        except TimeoutError as error:
            # Ours for the connection; the case's own deadline arrives as a cancellation.
            raise TransportError("connection", f"no connection within {CONNECT_S:g} s") from error
        if status == 200:  # noqa: PLR2004
            return body
        refused = parse_error(status, body)
        if refused.kind == "provider-error" and (status == TOO_MANY_REQUESTS or status >= 500):  # noqa: PLR2004
            raise TransportError(refused.kind, refused.message, pause_of(retry_after, datetime.now(UTC)))
        raise refused

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body; a part of an answer is never asked for again."""
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_REPLY:
                    response.close()
                    raise RefusedError("provider-error", f"the reply is longer than {MAX_REPLY} bytes")
        except aiohttp.ClientError as error:
            raise RefusedError("connection", f"the reply broke off: {error}") from None
        return bytes(body)

    def _safe(self, message: str) -> str:
        """Without the key, which some providers repeat, and without anything that moves a cursor."""
        if self.endpoint.key:
            message = message.replace(self.endpoint.key, "***")
        return plain(message, MESSAGE)


def messages_of(value: Any) -> list[dict[str, Any]]:
    """A case's input as messages: a list of messages as it is, a text as the user's, JSON as its text."""
    if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
        return value
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    from json import dumps  # noqa: PLC0415 two lines of use

    return [{"role": "user", "content": dumps(value, ensure_ascii=False)}]


def pause_of(retry_after: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for: a number, or an HTTP date (RFC 9110, 10.2.3); None for neither."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after)) if retry_after.strip().isdecimal() else _until(retry_after, now)
    except (ValueError, OverflowError):
        return None


def _until(date: str, now: datetime) -> float:
    moment = parsedate_to_datetime(date)
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp())


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for `url`.

    aiohttp's own way would ask for it at each request, and let ~/.netrc replace our key.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
