"""The section of the scorecard on changes of the gate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from gatehouse.evals.changes.base import Change, Effect
from gatehouse.report.changes import LIMIT, lines, section
from tests.support.hostile import IN_JSON, LENGTHS
from tests.support.markdown import page_of

LOWERED = Change(Effect.WEAKER, "threshold lowered", "exact_match", "0.9", "0.1", "agents/a.yaml", "a")
INERT = {"h4", "p", "ul", "li", "code", "details", "summary", "strong"}


def data(*changes: Change, **values: Any) -> dict[str, Any]:
    """A changes.json."""
    found = {
        "schema": 1,
        "commit": "a" * 40,
        "base": {"commit": "b" * 40, "name": "develop"},
        "due": True,
        "compared": True,
        "reason": "",
        "weaker": sum(change.effect is Effect.WEAKER for change in changes),
        "changes": [asdict(change) for change in changes],
    }
    return found | values


def test_nothing_changed_is_nothing_said() -> None:
    """A gate that is as it was takes no room in the scorecard."""
    assert section(data()) == ""
    assert lines(data()) == []


def test_a_push_says_nothing() -> None:
    """Where there is no base to compare with, nothing is said."""
    pushed = data(compared=False, due=False, base=None, reason="this is no pull request's run")
    assert section(pushed) == ""
    assert lines(pushed) == []


def test_a_comparison_that_failed_is_loud() -> None:
    """Where there should have been a comparison, its absence is said with the reason."""
    failed = data(compared=False, base=None, reason="the checkout lacks the base")
    assert section(failed).startswith("⚠️ **The gate itself was not compared with its base**")
    assert "the checkout lacks the base" in section(failed)
    [line] = lines(failed)
    assert line.startswith("⚠️ The gate itself was not compared with its base")
    assert line.endswith("the checkout lacks the base")


def test_what_makes_the_gate_weaker_comes_first() -> None:
    """Weaker changes are marked and stand first, stronger ones last, in a fold."""
    changed = Change(Effect.CHANGED, "rubric changed", where="evals/rubrics/a.yaml")
    stronger = Change(Effect.STRONGER, "1 case added", "c", where="golden.jsonl", agent="a")
    text = section(data(LOWERED, changed, stronger))
    assert text.splitlines()[0] == "#### Changes of the gate itself: 1 weaker, 1 changed, 1 stronger"
    page = page_of(text)
    assert "".join(page.prose).count("⚠️") == 1
    order = [
        text.index(word) for word in ("threshold lowered", "rubric changed", "<details>", "1 case added")
    ]
    assert order == sorted(order)
    assert lines(data(LOWERED, changed, stronger)) == [
        "Changes of the gate itself against develop: 1 weaker, 1 changed, 1 stronger",
        "  ⚠️ a: threshold lowered: exact_match, 0.9 → 0.1 in agents/a.yaml",
        "  evals/rubrics/a.yaml: rubric changed",
        "  a: 1 case added: c in golden.jsonl",
    ]


def test_one_value_alone() -> None:
    """What is gone is told as what it was, what is new as what it is."""
    gone = Change(Effect.WEAKER, "metric removed", "contains", before="0.7")
    new = Change(Effect.STRONGER, "metric added", "regex", after="1")
    assert lines(data(gone, new))[1:] == [
        "  ⚠️ metric removed: contains (was 0.7)",
        "  metric added: regex: 1",
    ]


def test_it_never_crowds_out_the_verdict() -> None:
    """However many and long the changes are, the section stays short and says what is left out."""
    many = [
        Change(effect, "x" * 500, "*" * 9_999, "_" * 9_999, "`" * 9_999, "/" * 9_999, "agent")
        for effect in Effect
        for _ in range(500)
    ]
    text = section(data(*many))
    assert len(text) <= LIMIT
    assert "500 weaker, 500 changed, 500 stronger" in text
    assert page_of(text).tags.count("unclosed") == 0
    many = [Change(Effect.WEAKER, "case dropped", str(i)) for i in range(500)]
    assert "and 470 more. The run's artifact holds them all" in section(data(*many))
    assert lines(data(*many))[-1] == "  and 470 more"


@pytest.mark.parametrize("text", [*IN_JSON.values(), *LENGTHS.values()], ids=[*IN_JSON, *LENGTHS])
def test_hostile_text_is_inert(text: str) -> None:
    """Whatever stands in any field: no element but ours, no mention, no link, one line a change."""
    hostile = Change(Effect.WEAKER, text, text, text, text, text, text)
    page = page_of(section(data(hostile, base={"commit": text, "name": text})))
    assert set(page.tags) <= INERT
    assert page.tags.count("li") == 1
    assert "@" not in "".join(page.prose)
    assert "http" not in "".join(page.prose)
    failed = page_of(section(data(compared=False, reason=text)))
    assert set(failed.tags) <= INERT
    told = [*lines(data(hostile)), *lines(data(compared=False, reason=text))]
    assert len(told) == 3
    assert not any("\n" in line or "\x1b" in line or "\u202e" in line for line in told)
    assert max(map(len, told)) < 2_000


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"compared": True},
        data(base=None, changes=[asdict(LOWERED)]),
        data(changes=[{}]),
        data(changes=["x"]),
        data(changes=[asdict(LOWERED) | {"effect": "green"}]),
        data(changes=None),
    ],
)
def test_what_is_no_such_file_is_refused(broken: dict[str, Any]) -> None:
    """A malformed file raises what readers of results expect, and is never an empty section."""
    for show in (section, lines):
        with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
            show(broken)
