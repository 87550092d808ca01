"""The one HTTP client, for agents and for models: retries, throttles, gives up when nobody answers."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from time import monotonic, perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from gatehouse.agent.providers import SHORTEST_KEY, Address
from gatehouse.evals.asked import tell
from gatehouse.evals.completion import RefusedError, parse_error
from gatehouse.evals.throttle import Breaker, DeadError, Throttle, pause_of
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.agent.providers import Endpoint

__all__ = ["Client", "DeadError", "RefusedError", "TransportError"]

MAX_REPLY = 8 * 2**20
"""Bytes of one reply."""
TRIES = 4
"""Requests for one call, at most; one that is refused for the rate (429) is not counted."""
FIRST_PAUSE_S = 0.5
LIMITED = 4
"""A 429 that does not say for how long pauses this many times longer: limits are by the minute, mostly."""
PATIENCE_S = 120.0
"""How long a rate limit is waited for while no call at all is answered: two windows of a minute.

Then the provider is given up at once, however many calls wait for it."""
CONNECT_S = 10.0
MESSAGE = 2000
FEWEST_FAILURES = 5
"""A provider is dead after two failed calls for each one that may be under way, and at least this many."""
FATAL = ("connection", "key", "quota")
"""Refusals after which the provider is as good as dead for the next call too.

Not so an agent of the user's own that breaks off or is late: that is what it is tested for."""
SUCCESS = range(200, 300)
TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503


class TransportError(Exception):
    """A fault that another try might not have met: "connection", "timeout" or "provider-error".

    `status` is that of the reply, 0 without one; `pause_s` is what it asked to wait, if it did.
    """

    def __init__(self, kind: str, message: str, status: int = 0, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.status, self.pause_s = kind, message, status, pause_s


@dataclass(slots=True)
class _Call:
    """One `post`: `number` says who came first, `clock` is its deadline; the rest is what it met so far.

    `connect_s` is for a connection alone: shorter than the deadline, or a host that is gone would seem slow.
    """

    number: int
    clock: asyncio.Timeout
    connect_s: float
    left_s: float | None = None
    tried: bool = False
    met: TransportError | None = None
    faults: int = 0
    refusals: int = 0
    began: float = field(default_factory=monotonic)

    def stop_clock(self) -> None:
        """What comes now is no time in which the provider works."""
        if (ends := self.clock.when()) is not None:
            self.left_s = ends - asyncio.get_running_loop().time()
            self.clock.reschedule(None)

    def start_clock(self) -> None:
        """Its turn again."""
        if self.left_s is not None:
            self.clock.reschedule(asyncio.get_running_loop().time() + self.left_s)
            self.left_s = None


class Client:
    """Calls of one endpoint, at most `concurrency` of them under way, fewer while it says that it is busy."""

    def __init__(self, endpoint: Endpoint | Address, *, concurrency: int) -> None:
        self.endpoint = endpoint
        self.on_trial = isinstance(endpoint, Address)
        self.throttle = Throttle(concurrency)
        self.breaker = Breaker(endpoint.name, max(FEWEST_FAILURES, 2 * concurrency))
        self.limited = 0
        """Requests that were refused for their rate."""
        self._limited_since: float | None = None
        """When the first refusal came for which no answer made up since."""
        self._numbers = count()
        self._waiting: list[tuple[int, asyncio.Future[int]]] = []
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.throttle.most),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The deadline is the call's; without compression no reply unpacks into more than was sent.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            headers={"Accept-Encoding": "identity", "User-Agent": "gatehouse", **self.endpoint.headers()},
            proxy=proxy_of(self.endpoint.base_url),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def post(
        self, path: str, request: Mapping[str, object], *, deadline_s: float | None = None
    ) -> tuple[bytes, float]:
        """The body of a success, and the seconds of the try that was answered, without pauses before it.

        `deadline_s` is for the answer, with all tries; its clock stands still while the call may not ask:
        others have the room, or the rate limit is reached. A caller's own `asyncio.timeout` counts that too.
        Raises TransportError when the tries are used up or the deadline passes, RefusedError for what another
        try would meet again, DeadError when the provider is given up. No message holds the key.
        """
        self.breaker.check()
        connect_s = CONNECT_S if deadline_s is None else min(CONNECT_S, deadline_s / 2)
        call = _Call(next(self._numbers), asyncio.timeout(deadline_s), connect_s)
        try:
            async with call.clock:
                answer = await self._answer(path, request, call)
        except asyncio.CancelledError:
            # As a rule the caller's deadline; one of another reason is forgotten with the next answer.
            if call.tried:
                self.breaker.failed("no answer until the caller's deadline")
            raise
        except TimeoutError:
            late = TransportError("timeout", f"no answer within {deadline_s:g} s")
            if call.met:  # what it waited for was another try
                late = TransportError(call.met.kind, f"{late.message}, after {call.met.message}")
            if call.met or not self.on_trial:
                self.breaker.failed(late.message)
            raise late from None
        except TransportError as error:
            self.breaker.failed(error.message)
            raise
        except RefusedError as error:
            if error.kind in FATAL and (error.status or not self.on_trial):
                self.breaker.failed(error.message)
            else:
                self._lives()  # whatever it thinks of this request
            raise
        self._lives()
        return answer

    def safe(self, message: str) -> str:
        """Without the key, which some providers repeat, and without anything that moves a cursor or hides."""
        message = plain(message)
        if self.endpoint.key and len(self.endpoint.key) >= SHORTEST_KEY:
            message = message.replace(self.endpoint.key, "***")
        return plain(message, MESSAGE)

    def _lives(self) -> None:
        """The provider answered."""
        self.breaker.succeeded()
        self._limited_since = None

    async def _answer(self, path: str, request: Mapping[str, object], call: _Call) -> tuple[bytes, float]:
        """Until something but a transport fault comes back, or the tries are used up."""
        while True:
            begun = await self._enter(call)
            try:
                self.breaker.check()  # it may have opened while this call waited
                started = perf_counter()
                body = await self._send(path, request, call.connect_s)
                self.throttle.succeeded()
                return body, perf_counter() - started
            except TransportError as error:
                if error.status in (TOO_MANY_REQUESTS, UNAVAILABLE):
                    self.throttle.refused(begun)
                pause = self._pause_after(error, call, monotonic())
            finally:
                self._leave()
            # Jitter: those who were refused together should not come back together.
            await asyncio.sleep(FIRST_PAUSE_S * pause * random.uniform(0.5, 1.0))  # noqa: S311 no secret

    def _pause_after(self, error: TransportError, call: _Call, now: float) -> int:
        """How many first pauses to wait before another try; raises the error when there is none."""
        limited = error.status == TOO_MANY_REQUESTS
        self.limited += limited
        if (error.pause_s or 0.0) > PATIENCE_S:
            raise error
        if limited or error.pause_s is not None:
            self._limited_since = self._limited_since or now
            # Of one refusal long ago, after which nobody asked, a call that is new knows nothing.
            if now - max(self._limited_since, call.began) > PATIENCE_S:
                self.breaker.open(f"{PATIENCE_S:g} s of being told to come later: {error.message}")
                raise error
        if error.pause_s is not None:
            self.throttle.hold(now + error.pause_s)
        if not limited:
            call.met = error
            call.faults += 1
            if call.faults == TRIES:
                raise error
            return 1 << (call.faults - 1)
        call.refusals += 1
        call.stop_clock()
        # Who was told for how long is held back by that.
        return 1 if error.pause_s is not None else LIMITED << min(call.refusals - 1, 3)

    async def _enter(self, call: _Call) -> int:
        """Wait until the provider wants to be asked again, and for room; returns the round."""
        while True:
            while pause := self.throttle.pause(monotonic()):
                call.tried = True
                call.stop_clock()
                await asyncio.sleep(pause)
            begun = await self._room(call)
            if not self.throttle.pause(monotonic()):
                call.tried = True
                call.start_clock()
                return begun
            self._leave()  # everybody was told to pause meanwhile

    async def _room(self, call: _Call) -> int:
        """Wait, behind those who came before, until fewer are under way."""
        if self.throttle.has_room():
            return self.throttle.begin()
        ticket: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (call.number, ticket))
        call.stop_clock()
        try:
            return await ticket
        except asyncio.CancelledError:
            if not ticket.cancelled():
                self._leave()  # it had just been let in
            raise

    def _leave(self) -> None:
        """Give the room back, to those who came first."""
        self.throttle.end()
        while self._waiting and self.throttle.has_room():
            _, ticket = heappop(self._waiting)
            if not ticket.done():
                ticket.set_result(self.throttle.begin())

    async def _send(self, path: str, request: Mapping[str, object], connect_s: float) -> bytes:
        """One try; raises TransportError where another may help, RefusedError where none will."""
        assert self._session is not None  # noqa: S101 opened before
        url = self.endpoint.base_url + path
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        tell(1)
        try:
            # A redirect would carry the key to another host.
            post = self._session.post(url, json=request, allow_redirects=False, timeout=timeout)
            async with post as response:
                status, body = response.status, await self._read(response)
                retry_after = response.headers.get("Retry-After")
                location = response.headers.get("Location", "")
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            # The timeout is ours for the connection; the call's deadline arrives as a cancellation.
            tell(-1)  # nothing was sent
            unreachable = self.endpoint.unreachable(_why_not_connected(error, connect_s))
            raise TransportError("connection", self.safe(unreachable)) from None
        except aiohttp.ClientError as error:
            raise TransportError("connection", self.safe(f"{type(error).__name__}: {error}")) from None
        if status in SUCCESS:
            return body
        refused = parse_error(status, body)
        redirect = f" It leads to {location}, where no request follows: it would take the key along."
        message = self.safe(refused.message + self._asked(refused) + redirect * bool(location))
        if status == TOO_MANY_REQUESTS:
            tell(-1)  # nobody bills that
        if refused.kind == "provider-error" and (status == TOO_MANY_REQUESTS or status >= 500):  # noqa: PLR2004
            raise TransportError(refused.kind, message, status, pause_of(retry_after, datetime.now(UTC)))
        raise RefusedError(refused.kind, message, status)

    def _asked(self, refused: RefusedError) -> str:
        """Where a refusal came from, or the key that it is about, behind what it says."""
        if refused.kind == "key":
            known = self.endpoint.key and self.endpoint.key_from
            return f" (the key that was sent is {known}'s)" if known else " (no key was sent)"
        if self.on_trial and refused.status < 500:  # noqa: PLR2004
            return f" ({self.endpoint.base_url.partition('?')[0]})"
        return ""

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
            if response.status in SUCCESS:  # what is left of an error still says which
                raise RefusedError("connection", self.safe(f"the reply broke off: {error}")) from None
        return bytes(body)


def _why_not_connected(error: aiohttp.ClientConnectorError | TimeoutError, connect_s: float) -> str:
    """In the system's own words, without addresses: a proxy's may hold a password."""
    if isinstance(error, TimeoutError):
        return f"no connection within {connect_s:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is refused: {error.certificate_error}"
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        why = (cause.reason or "no TLS").replace("_", " ").lower()
    elif cause.errno and not isinstance(cause, socket.gaierror):
        why = os.strerror(cause.errno)
    else:
        why = cause.strerror or "no connection"
    why = why[0].lower() + why[1:]
    return f"the proxy: {why}" if isinstance(error, aiohttp.ClientProxyConnectionError) else why


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for `url`.

    aiohttp's own way would ask for it at each request, and let ~/.netrc replace our key.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
