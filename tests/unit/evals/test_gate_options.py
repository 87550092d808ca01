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
    # metric, option, value before and after, None for none, and which way that goes
    ("json_fields", "tolerance", None, 0.5, "weaker"),
    ("json_fields", "tolerance", 0.1, 0.5, "weaker"),
    ("json_fields", "relative", None, 0.5, "weaker"),
    ("json_fields", "fields", None, ["a"], "weaker"),
    ("json_fields", "fields", ["a", "b"], ["a"], "weaker"),
    ("json_fields", "fields", ["a"], ["a.b"], "weaker"),
    ("json_fields", "fields", ["a"], "b", "changed"),
    ("json_fields", "ignore", None, ["a"], "weaker"),
    ("json_fields", "ignore", ["a.b"], ["a"], "weaker"),
    ("json_fields", "extra", False, None, "weaker"),
    ("json_fields", "extra", True, False, "stronger"),
    ("numeric", "tolerance", 1, 2, "weaker"),
    ("numeric", "relative", 0.1, 0.01, "stronger"),
    ("text_similarity", "method", None, "token_set", "changed"),
    ("contains", "text", ["a", "b"], ["a"], "weaker"),
    ("contains", "text", None, ["a"], "changed"),
    ("not_contains", "text", ["a", "b"], "a", "weaker"),
    ("regex", "pattern", "a", "b", "changed"),
    ("tool_calls", "match", None, "subset", "weaker"),
    ("tool_calls", "match", "order", "set", "weaker"),
    ("forbidden_tools", "tools", ["delete_*"], ["delete_user"], "weaker"),
    ("forbidden_tools", "tools", ["delete_*", "pay"], ["delete_*"], "weaker"),
    ("forbidden_tools", "tools", ["sendMail"], ["send_mail", "pay"], "stronger"),
    ("forbidden_tools", "tools", ["pay"], ["delete_*"], "changed"),
    ("canary_leak", "text", ["abcdef1", "abcdef2"], ["abcdef1"], "weaker"),
    ("canary_leak", "text", "abcdef1", None, "weaker"),
    ("canary_leak", "text", ["abcdef1"], ["abcdef2"], "changed"),
    ("secret_leak", "allow", None, ["AKIA"], "weaker"),
    ("pii_leak", "allow", ["a.com"], ["a.com", "b.com"], "weaker"),
    ("pii_leak", "kinds", None, ["iban"], "weaker"),
    ("pii_leak", "kinds", ["iban", "email"], ["email"], "weaker"),
    ("pii_leak", "region", "DE", None, "weaker"),
    ("pii_leak", "region", "DE", "US", "changed"),
    ("refusal", "phrases", ["a", "b"], ["a"], "changed"),
]
BACK = {"weaker": "stronger", "stronger": "weaker", "changed": "changed"}


@pytest.mark.parametrize("row", OPTIONS)
def test_which_way_an_option_goes(tmp_path: Path, row: tuple[str, str, Any, Any, str]) -> None:
    """An option by which more passes, or less is looked at, is weaker, back it is stronger; else changed."""
    name, option, *values, effect = row
    views = []
    for number, value in enumerate(values):
        given = {"metric": name, "threshold": 0.5} | ({} if value is None else {option: value})
        agent = merged(AGENT, metric(mine=given)) | {"tools": ["a"]}
        views.append(of_agents(agent_view(tmp_path / str(number), agent)))
    there, back = compare(*views), compare(*views[::-1])
    assert [(change.effect, change.name) for change in there] == [(effect, f"mine.{option}")]
    assert [change.effect for change in back] == [BACK[effect]]


def test_every_option_of_the_table_is_one() -> None:
    """The table names metrics and options that there are."""
    known = {(metric.name, option) for metric in registry().values() for option in metric.options}
    assert options.OPTIONS.keys() <= known


def test_an_option_of_another_metric_may_go_either_way(tmp_path: Path) -> None:
    """Where a name is given to another metric, an option that both have says nothing."""
    views = []
    for name, tolerance in (("json_fields", 1), ("numeric", 2)):
        given = {"metric": name, "threshold": 0.5, "tolerance": tolerance}
        views.append(of_agents(agent_view(tmp_path / name, merged(AGENT, metric(mine=given)))))
    assert {change.effect for change in compare(*views)} == {"changed"}
