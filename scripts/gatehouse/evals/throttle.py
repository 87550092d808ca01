"""How hard a provider may be pressed, and when it is given up: decisions, without I/O or a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class DeadError(Exception):
    """The provider is given up: nothing more is asked of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Throttle:
    """How many requests may be under way, and from when.

    Additive increase, multiplicative decrease (Chiu and Jain 1989): a refusal halves the limit, as many
    successes as the limit raise it by one, never above `most`. Refusals of requests that started before the
    last halving say nothing new, so each request carries the round in which it began.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self.round = 0
        self.resume_at = 0.0

    def has_room(self) -> bool:
        """Whether one more may begin."""
        return self.under_way < int(self.limit)

    def begin(self) -> int:
        """Count one in; returns its round."""
        self.under_way += 1
        return self.round

    def end(self) -> None:
        """Count one out, however it ended."""
        self.under_way -= 1

    def succeeded(self) -> None:
        """One was answered."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, begun: int) -> None:
        """One of round `begun` came too soon."""
        if begun == self.round:
            self.round += 1
            self.limit = max(1.0, self.limit / 2)

    def hold(self, until: float) -> None:
        """Nothing may begin before `until`, on the clock of `pause`."""
        self.resume_at = max(self.resume_at, until)

    def pause(self, now: float) -> float:
        """Seconds until anything may begin."""
        return max(0.0, self.resume_at - now)


class Breaker:
    """Opens when `failures` calls in a row, with no success in between, got nothing, or when told to.

    It stays open.
    """

    def __init__(self, who: str, failures: int) -> None:
        self.who = who
        self.failures = failures
        self.in_a_row = 0
        self.message = ""

    def succeeded(self) -> None:
        """A call was answered."""
        self.in_a_row = 0

    def failed(self, why: str) -> None:
        """A call got nothing; `why` is shown, so it holds no secret."""
        self.in_a_row += 1
        if self.in_a_row >= self.failures:
            self.open(f"{self.in_a_row} calls in a row without an answer: {why}")

    def open(self, after: str) -> None:
        """Give the provider up after that, in words without a secret; the first reason stays."""
        self.message = self.message or f"{self.who} was given up after {after}"

    def check(self) -> None:
        """Raise DeadError when open."""
        if self.message:
            raise DeadError(self.message)


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
