"""Which way the options of metrics go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.evals.changes import compare, options
from gatehouse.evals.metrics import registry
from tests.unit.evals.test_gate_changes import AGENT, agent_view, merged, metric, of_agents

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS: list[tuple[str, str, Any, Any, str]] = [
    # metric, option, the value that holds less and the one that holds more, None for none, and what it is
    # to go to the second; to the first is always weaker
    ("json_fields", "tolerance", 0.5, None, "stronger"),
    ("json_fields", "relative", 0.5, 0.1, "stronger"),
    ("numeric", "tolerance", 2, 1, "stronger"),
    ("json_fields", "fields", ["a"], ["a", "b"], "stronger"),
    ("json_fields", "ignore", ["a"], None, "stronger"),
    ("secret_leak", "allow", ["AKIA"], None, "stronger"),
    ("pii_leak", "allow", ["a.com", "b.com"], ["a.com"], "stronger"),
    ("pii_leak", "kinds", ["email"], ["iban", "email"], "stronger"),
    ("contains", "text", ["a"], ["a", "b"], "stronger"),
    ("not_contains", "text", "a", ["a", "b"], "stronger"),
    ("forbidden_tools", "tools", ["pay"], ["delete_*", "pay"], "stronger"),
    ("canary_leak", "text", ["abcdef1"], ["abcdef1", "abcdef2"], "stronger"),
    # Of these nobody can be sure by reading.
    ("contains", "text", ["a"], None, "weaker"),
    ("pii_leak", "region", "DE", "US", "weaker"),
    ("regex", "pattern", "a", "b", "weaker"),
    ("text_similarity", "method", None, "token_set", "weaker"),
    ("tool_calls", "match", "order", "subset", "weaker"),
    ("refusal", "phrases", ["a", "b"], ["a"], "weaker"),
    ("json_fields", "extra", True, False, "weaker"),
]


@pytest.mark.parametrize("row", OPTIONS)
def test_which_way_an_option_goes(tmp_path: Path, row: tuple[str, str, Any, Any, str]) -> None:
    """An option is stronger where it is sure to be stricter, and weaker in every other case."""
    name, option, *values, effect = row
    views = []
    for number, value in enumerate(values):
        given = {"metric": name, "threshold": 0.5} | ({} if value is None else {option: value})
        agent = merged(AGENT, metric(mine=given)) | {"tools": ["a"]}
        views.append(of_agents(agent_view(tmp_path / str(number), agent)))
    there, back = compare(*views), compare(*views[::-1])
    assert [(change.effect, change.name) for change in there] == [(effect, f"mine.{option}")]
    assert [change.effect for change in back] == ["weaker"]


def test_every_option_of_the_table_is_one() -> None:
    """The tables name metrics and options that there are."""
    known = {(metric.name, option) for metric in registry().values() for option in metric.options}
    assert known >= options.WANTED
    assert {option for _, option in known} >= options.NUMBERS | options.SPARED


def test_an_option_of_another_metric_says_nothing(tmp_path: Path) -> None:
    """Where a name is given to another metric, an option that both have says nothing."""
    views = []
    for name, tolerance in (("json_fields", 1), ("numeric", 2)):
        given = {"metric": name, "threshold": 0.5, "tolerance": tolerance}
        views.append(of_agents(agent_view(tmp_path / name, merged(AGENT, metric(mine=given)))))
    found = {change.what: change.effect for change in compare(*views)}
    assert found == {"metric of this name changed": "weaker", "option changed": "changed"}
