"""How hard a provider is pressed, and when it is given up: the rules, without any I/O."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatehouse.evals.throttle import Breaker, DeadError, Throttle, pause_of


def filled(throttle: Throttle) -> list[int]:
    """Begin as many as there is room for; their rounds."""
    rounds = []
    while throttle.has_room():
        rounds.append(throttle.begin())
    return rounds


def test_refusals_of_one_round_halve_the_limit_once() -> None:
    """Eight that were under way together say one thing, not eight; those sent since then say another."""
    throttle = Throttle(8)
    first = filled(throttle)
    assert len(first) == 8
    for begun in first:
        throttle.end()
        throttle.refused(begun)
    second = filled(throttle)
    assert len(second) == 4
    throttle.refused(first[0])
    assert throttle.limit == 4
    throttle.refused(second[0])
    throttle.refused(second[1])
    assert throttle.limit == 2


def test_the_limit_never_leaves_one_to_most() -> None:
    """One request can always be made, and never more than were asked for."""
    throttle = Throttle(3)
    for _ in range(10):
        throttle.refused(throttle.round)
    assert len(filled(throttle)) == 1
    throttle.end()
    for _ in range(100):
        throttle.succeeded()
    assert throttle.limit == 3
    assert len(filled(throttle)) == 3


def test_as_many_successes_as_the_limit_raise_it_by_one() -> None:
    """Growth is additive: a round of successes makes room for one more, not for twice as many."""
    throttle = Throttle(64)
    for _ in range(3):
        throttle.refused(throttle.round)
    for _ in range(8):
        throttle.succeeded()
    assert 8.9 < throttle.limit <= 9


def test_the_longest_hold_counts() -> None:
    """A server that asks for less afterwards does not shorten it, and no hold is no pause."""
    throttle = Throttle(2)
    assert throttle.pause(100.0) == 0
    throttle.hold(130.0)
    throttle.hold(110.0)
    assert throttle.pause(100.0) == 30
    assert throttle.pause(131.0) == 0


def test_the_breaker_opens_at_failures_in_a_row_alone() -> None:
    """A success in between begins the count anew; the last failure is in the message; it stays open."""
    breaker = Breaker("openai", 3)
    for why in ("a", "b"):
        breaker.failed(why)
    breaker.succeeded()
    for why in ("c", "d"):
        breaker.failed(why)
        breaker.check()
    breaker.failed("HTTP 500: broken")
    breaker.succeeded()
    with pytest.raises(DeadError) as dead:
        breaker.check()
    words = "openai was given up after 3 calls in a row without an answer: HTTP 500: broken"
    assert dead.value.message == words


def test_the_breaker_opens_when_it_is_told_to() -> None:
    """At once, with that reason, which stays."""
    breaker = Breaker("openai", 1)
    breaker.open("9 s of silence")
    breaker.failed("late")
    breaker.succeeded()
    with pytest.raises(DeadError) as dead:
        breaker.check()
    assert dead.value.message == "openai was given up after 9 s of silence"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("soon", None),
        ("nan", None),
        ("-5", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    """RFC 9110's two forms; anything else asks for nothing."""
    pause = pause_of(header, datetime(2026, 1, 1, tzinfo=UTC))
    assert pause == seconds
