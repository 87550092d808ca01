"""What each metric says of one run, and which metrics an agent is held to."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Run, ToolCall, Usage
from gatehouse.errors import UserError
from gatehouse.evals.dataset import Case, to_case
from gatehouse.evals.metrics import gates_of, registry
from gatehouse.evals.metrics.text import matches
from gatehouse.evals.metrics.tools import compare_calls
from gatehouse.evals.score import score_run
from tests.support.projects import CRASH, agent_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.metrics.base import Score


def run(output: Any = None, **fields: Any) -> Run:
    """A run that answered `output`."""
    return Run("c0", "d0", 0, output, **fields)


def case(**fields: Any) -> Case:
    """The case of a golden set's line."""
    return to_case({"id": "c0", "input": "question"} | fields, 1)


def gate_of(folder: Path, name: str, setting: Any = 1.0, **agent: Any) -> Gate:
    """The gate of one metric as an agent file sets it."""
    agent = {"evals": {"dataset": "golden.jsonl", "metrics": {name: setting}}} | agent
    return next(gate for gate in gates_of(agent_of(folder, **agent)) if gate.metric.name == name)


def value(gate: Gate, case: Case, run: Run) -> float | None:
    """The metric's value, None where it does not apply."""
    score = score_of(gate, case, run)
    return None if score is None else score.value


def score_of(gate: Gate, case: Case, run: Run) -> Score | None:
    """What a metric that asks no judge says of one run."""
    assert gate.score is not None
    return gate.score(case, run)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("yes", "yes"),
        ("  yes\n", "yes"),
        ({"a": 1}, {"a": 1}),
        ({"a": 1, "b": [1, {"c": None}]}, {"b": [1.0, {"c": None}], "a": 1.0}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1}\n', '{ "a":1.0 }'),
        ({"a": 1}, '{"a": 1}'),
        (1, 1.0),
        ("1", 1),
        ("true", True),
        (None, None),
        ("007", "007"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_exact_match_holds(output: Any, expected: Any) -> None:
    """Text is compared by its characters, white space around them aside; JSON as JSON, even as text."""
    assert matches(output, expected)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Yes", "yes"),
        ("y es", "yes"),
        (True, 1),
        (1, True),
        ({"a": [True]}, {"a": [1]}),
        ({"a": 0}, {"a": False}),
        ("007", "7"),
        ("7", "007"),
        ("1.0", "1"),
        (7, "007"),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2, 3]),
        ("{'a': 1}", {"a": 1}),
        ('{"a": 1', {"a": 1}),
        ("", None),
        (None, ""),
        ({"a": "1"}, {"a": 1}),
        ("[" * 5000, {"a": 1}),
    ],
)
def test_exact_match_does_not_hold(output: Any, expected: Any) -> None:
    """True is not 1, 007 is not 7, order in lists counts, and output that does not parse is only text."""
    assert not matches(output, expected)


def test_exact_match_without_a_reference_does_not_apply(tmp_path: Path) -> None:
    """A case without `expected` is skipped; one that expects null on purpose is not."""
    gate = gate_of(tmp_path, "exact_match")
    assert value(gate, case(), run("x")) is None
    assert value(gate, case(expected=None), run("x")) == 0.0
    assert value(gate, case(expected=None), run(None)) == 1.0


@pytest.mark.parametrize(
    ("name", "setting", "expected", "output", "wanted"),
    [
        ("contains", {"threshold": 1}, "Refund", "your REFUND is on its way", 1.0),
        ("contains", {"threshold": 1}, "refund", "no", 0.0),
        ("contains", {"threshold": 1, "text": "due"}, "refund", "it is DUE", 1.0),
        ("contains", {"threshold": 1, "text": ["due", "soon"]}, None, "it is due", 0.0),
        ("contains", {"threshold": 1, "text": "1001"}, None, {"order": 1001}, 1.0),
        ("contains", {"threshold": 1}, None, "x", None),
        ("not_contains", {"text": "card number"}, None, "Your Card Number is", 0.0),
        ("not_contains", {"text": "Card"}, None, "card", 0.0),
        ("not_contains", {"text": ["a", "b"]}, None, "xyz", 1.0),
        ("not_contains", {"text": "é"}, None, {"name": "Zoé"}, 0.0),
        ("regex", {"threshold": 1, "pattern": "^LH-[0-9]{4}$"}, None, "LH-1001", 1.0),
        ("regex", {"threshold": 1, "pattern": "^LH-[0-9]{4}$"}, None, "order LH-1001", 0.0),
        ("regex", {"threshold": 1, "pattern": '"n": 1'}, None, {"n": 1}, 1.0),
    ],
)
def test_text_metrics(
    tmp_path: Path, name: str, setting: Any, expected: Any, output: Any, wanted: float | None
) -> None:
    """Contains looks for all of its texts in any case, not_contains for any, regex searches the output."""
    gate = gate_of(tmp_path, name, setting)
    assert value(gate, case(**({} if expected is None else {"expected": expected})), run(output)) == wanted


SCHEMA = {
    "type": "object",
    "required": ["decision"],
    "properties": {"decision": {"enum": ["approve", "deny"]}},
    "additionalProperties": False,
}


def schema_gate(folder: Path, schema: Any) -> Gate:
    """The gate that an output schema implies."""
    folder.mkdir(exist_ok=True)
    (folder / "schema.json").write_text(json.dumps(schema))
    gates = gates_of(agent_of(folder, guardrails={"output_schema": "schema.json"}))
    return next(gate for gate in gates if gate.metric.name == "json_schema")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"decision": "deny"}, ""),
        ('{"decision": "deny"}', ""),
        ({"decision": "maybe"}, "at decision: 'maybe' is not one of"),
        ("I would deny it.", "is not of type 'object'"),
        ({}, "'decision' is a required property"),
    ],
)
def test_json_schema(tmp_path: Path, output: Any, reason: str) -> None:
    """The output, parsed where it is text, follows the output schema; else the reason says where not."""
    gate = schema_gate(tmp_path, SCHEMA)
    score = score_of(gate, case(), run(output))
    assert score is not None
    assert (score.value == 1.0) == (reason == "")
    assert reason in score.reason
    assert gate.implied
    assert gate.threshold is None


def test_json_schema_by_its_draft(tmp_path: Path) -> None:
    """A schema is read by the draft that it names, by 2020-12 when it names none or one that nobody knows."""
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": True}
    assert value(schema_gate(tmp_path / "old", old), case(), run(5)) == 0.0
    pair = {"prefixItems": [{"const": 1}], "items": False}
    for number, named in enumerate(({}, {"$schema": "https://example.com/unknown"})):
        gate = schema_gate(tmp_path / str(number), pair | named)
        assert [value(gate, case(), run(output)) for output in ([1], [2], [1, 2])] == [1.0, 0.0, 0.0]


def test_a_schema_on_the_network_is_never_fetched(tmp_path: Path) -> None:
    """A $ref to an address is the author's to mend: the message names it, and nothing connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        gate = schema_gate(tmp_path, {"$ref": address})
        with pytest.raises(
            UserError, match=r"agents/echo.yaml:\d+: .*refers to http://127(.|\n)*nothing is fetched"
        ):
            score_of(gate, case(), run({}))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_schema_that_refers_to_nothing(tmp_path: Path) -> None:
    """A $ref that leads nowhere only shows when an output meets it: still a message, no traceback."""
    gate = schema_gate(tmp_path, {"$ref": "#/$defs/missing"})
    with pytest.raises(UserError, match=r'"output_schema" refers to .*missing, which it does not hold'):
        score_of(gate, case(), run("text"))


def test_output_nested_beyond_reason_breaks_the_schema(tmp_path: Path) -> None:
    """A model that answers with a thousand brackets fails the case, not the gate."""
    gate = schema_gate(tmp_path, {"items": {"$ref": "#"}})
    assert value(gate, case(), run("[" * 900 + "]" * 900)) == 0.0


READ, SEND = ToolCall("read", {"id": 1, "deep": {"a": [1]}}), ToolCall("send", {"to": "x"})
ANY_READ, ANY_SEND = ToolCall("read"), ToolCall("send")


@pytest.mark.parametrize(
    ("made", "expected", "as_set", "as_subset", "in_order"),
    [
        ([READ, SEND], [ANY_READ, ANY_SEND], 1, 1, 1),
        ([SEND, READ], [ANY_READ, ANY_SEND], 1, 1, 0),
        ([READ, READ, SEND], [ANY_READ, ANY_SEND], 1, 1, 0),
        ([READ, SEND], [ANY_READ], 0, 1, 0),
        ([READ], [ANY_READ, ANY_SEND], 0, 0, 0),
        ([], [], 1, 1, 1),
        ([READ], [], 0, 1, 0),
        ([], [ANY_READ], 0, 0, 0),
        ([READ], [ToolCall("read", {"id": 1})], 1, 1, 1),
        ([READ], [ToolCall("read", {"id": 1.0, "deep": {"a": [1]}})], 1, 1, 1),
        ([READ], [ToolCall("read", {"id": 2})], 0, 0, 0),
        ([READ], [ToolCall("read", {"id": True})], 0, 0, 0),
        ([READ], [ToolCall("read", {"other": None})], 0, 0, 0),
        ([READ, ToolCall("read", {"id": 2})], [ToolCall("read", {"id": 1})], 0, 1, 0),
    ],
)
def test_tool_calls(
    made: list[ToolCall], expected: list[ToolCall], as_set: int, as_subset: int, in_order: int
) -> None:
    """Names and the named arguments count: as a set without others, as a subset with others, or in order."""
    found = [compare_calls(made, expected, match).value for match in ("set", "subset", "order")]
    assert found == [as_set, as_subset, in_order]


def test_tool_calls_say_the_difference(tmp_path: Path) -> None:
    """The reason names what was called and what was not; an agent that reports no calls fails."""
    expected = [ToolCall("read", {"id": 2}), ANY_SEND]
    assert (
        compare_calls([READ, READ], expected, "set").reason
        == 'did not call read{"id": 2}; called read (2 times)'
    )
    assert compare_calls([READ, SEND], [ANY_READ], "set").reason == "called send, which was not expected"
    assert compare_calls([], [ANY_READ], "order").reason == "called nothing, expected in this order read"
    gate = gate_of(tmp_path, "tool_calls")
    assert value(gate, case(), run("x", tool_calls=[READ])) is None
    score = score_of(gate, case(expected_tools=["read"]), run("x"))
    assert score is not None
    assert score == (0.0, "the agent reports no tool_calls")


@pytest.mark.parametrize(("iterations", "wanted"), [(3, 1.0), (4, 0.0), (None, None)])
def test_max_iterations(tmp_path: Path, iterations: int | None, wanted: float | None) -> None:
    """Exactly the budget is within it; an agent that does not report its loops is not measured."""
    gate = next(g for g in gates_of(agent_of(tmp_path, budgets={"max_iterations": 3})) if g.implied)
    assert gate.metric.name == "max_iterations"
    assert value(gate, case(), run("x", iterations=iterations)) == wanted


@pytest.mark.parametrize(("tokens", "wanted"), [([60, 40], 1.0), ([60, 41], 0.0), ([], None)])
def test_max_tokens_per_run(tmp_path: Path, tokens: list[int], wanted: float | None) -> None:
    """All models' tokens of a run, in and out, count against the budget."""
    gate = next(g for g in gates_of(agent_of(tmp_path, budgets={"max_tokens_per_run": 110})) if g.implied)
    usage = [Usage("p", "m", input_tokens=n, output_tokens=5) for n in tokens]
    assert value(gate, case(), run("x", usage=usage)) == wanted


def test_latency_and_error_rate(tmp_path: Path) -> None:
    """Latency is the run's seconds, and the error rate counts the runs that the agent itself failed."""
    gate = gate_of(tmp_path, "latency_p95", 2.5)
    assert value(gate, case(), run("x", latency_s=1.5)) == 1.5
    assert value(gate, case(), run("x")) is None
    gate = gate_of(tmp_path, "error_rate", 0.1)
    assert score_run(gate, case(), run("x"))[:2] == ("scored", 0.0)
    assert score_run(gate, case(), run(error=CRASH))[:2] == ("fault", 1.0)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("exact_mach", 0.9, 'unknown metric "exact_mach".'),
        ("exact_match", {"threshold": 0.9, "case": True}, 'metric "exact_match" has no option "case".'),
        ("exact_match", {}, 'metric "exact_match" has no threshold.'),
        ("exact_match", 85, 'metric "exact_match" takes a threshold from 0 to 1, not 85.'),
        ("exact_match", -0.1, 'metric "exact_match" takes a threshold from 0 to 1, not -0.1.'),
        ("latency_p95", -1, 'metric "latency_p95" takes a threshold of 0 or more, not -1.'),
        ("regex", 1.0, 'metric "regex": needs the option "pattern"'),
        ("regex", {"threshold": 1, "pattern": "("}, 'metric "regex": the pattern does not compile'),
        ("contains", {"threshold": 1, "text": 5}, 'metric "contains": "text" is a text, or a list of them.'),
        ("contains", {"threshold": 1, "text": ""}, 'metric "contains": "text" is a text, or a list of them.'),
        ("not_contains", {}, 'metric "not_contains": needs the option "text"'),
        (
            "tool_calls",
            {"threshold": 1, "match": "all"},
            'metric "tool_calls": "match" is set, subset or order.',
        ),
        ("json_schema", {}, 'metric "json_schema": needs guardrails.output_schema'),
        ("max_iterations", {}, 'metric "max_iterations": needs budgets.max_iterations'),
    ],
)
def test_a_wrong_metric_is_shown_where_it_stands(
    tmp_path: Path, name: str, setting: Any, message: str
) -> None:
    """Unknown names, wrong options and impossible thresholds are shown at their line of the agent file."""
    agent = agent_of(tmp_path, evals={"dataset": "golden.jsonl", "metrics": {name: setting}})
    with pytest.raises(UserError) as caught:
        gates_of(agent)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert problem.path == "agents/echo.yaml"
    assert name in problem.source or "case" in problem.source
    line = (tmp_path / "agents/echo.yaml").read_text().splitlines()[problem.line - 1]
    assert problem.source == line
    assert line[problem.column - 1 :].startswith((name, "case"))


def test_every_fault_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    """All wrong metrics of file and command line are told together, each with the nearest known name."""
    agent = agent_of(tmp_path, evals={"metrics": {"latency_p59": 1, "regex": 2}})
    with pytest.raises(UserError) as caught:
        gates_of(agent, {"exact_mtch": 0.5, "contains": 7.0})
    text = str(caught.value)
    assert 'Did you mean "latency_p95"? `gatehouse metrics` lists every name.' in text
    assert 'metric "regex": needs' in text
    assert 'metric "regex" takes a threshold from 0 to 1, not 2.' in text
    assert '--threshold: unknown metric "exact_mtch". Did you mean "exact_match"?' in text
    assert '--threshold: metric "contains" takes a threshold from 0 to 1, not 7.' in text


def test_thresholds_of_the_command_line_win(tmp_path: Path) -> None:
    """A threshold given by hand replaces the file's, keeps its options, and may name a further metric."""
    agent = agent_of(tmp_path, evals={"metrics": {"contains": {"threshold": 0.9, "text": "x"}}})
    gates = {g.metric.name: g for g in gates_of(agent, {"contains": 0.5, "exact_match": 0.7})}
    assert {name: gate.threshold for name, gate in gates.items()} == {"contains": 0.5, "exact_match": 0.7}
    assert value(gates["contains"], case(expected="y"), run("x")) == 1.0


def test_a_named_metric_is_not_implied_again(tmp_path: Path) -> None:
    """A budget's own metric joins by itself, once, and gives way to the setting in the file."""
    budgets = {"max_iterations": 3, "max_tokens_per_run": 10}
    evals = {"metrics": {"exact_match": 1, "max_iterations": 0.9}}
    gates = gates_of(agent_of(tmp_path, budgets=budgets, evals=evals))
    names = [(g.metric.name, g.threshold, g.implied) for g in gates]
    assert names == [
        ("exact_match", 1.0, False),
        ("max_iterations", 0.9, False),
        ("max_tokens_per_run", None, True),
    ]


def test_the_registry_is_whole() -> None:
    """Names are unique and spelled alike, and each metric has one sentence that says what it measures."""
    metrics = registry()
    assert len(metrics) >= 12
    for name, metric in metrics.items():
        assert name == metric.name
        assert name.removeprefix("deepeval.").replace("_", "").isalnum()
        assert metric.summary.endswith(".")
        assert metric.worst == (metric.low if metric.direction == "higher" else metric.high)
