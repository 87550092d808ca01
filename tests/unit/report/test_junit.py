"""`gatehouse.report.junit`: a dialect that every reporter reads, red exactly where the gate is."""

from __future__ import annotations

import re
import time
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gatehouse.report.junit import COUNTS, junit
from gatehouse.report.scorecard import Card, markdown
from tests.support.verdicts import cost_json, eval_json, failing_case, left, metric

COUNTED = {"tests", *COUNTS}
ATTRIBUTES = {
    "testsuites": {"name", *COUNTED},
    "testsuite": {"name", "time", *COUNTED},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time", "file", "line"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set(),
}
"""Every element that reporters know, and all of its attributes; `file` and `line` may be missing."""
CHILDREN = {
    "testsuites": "(testsuite )+",
    "testsuite": "(properties )?(testcase )*(system-out )?",
    "properties": "(property )+",
    "testcase": "(failure |error |skipped )?",
}
"""The order of children, as in the schemas of Jenkins and Ant."""


def parsed(cards: list[Card]) -> ET.Element:
    """The report, parsed and held against the dialect: names, order, counts, numbers."""
    text = junit(cards, commit="c" * 40)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ET.fromstring(text)  # noqa: S314 our own text
    for element in root.iter():
        wanted = ATTRIBUTES[element.tag]
        assert set(element.attrib) <= wanted
        assert wanted - set(element.attrib) <= {"file", "line"}
        children = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(CHILDREN.get(element.tag, ""), children), (element.tag, children)
        if "tests" in wanted:
            assert int(element.attrib["tests"]) == len(list(element.iter("testcase"))) > 0
            for name, tag in COUNTS.items():
                assert int(element.attrib[name]) == len(list(element.iter(tag)))
        if "time" in wanted:
            assert float(element.attrib["time"]) >= 0
        assert int(element.attrib.get("line", "1")) >= 1
    return root


def outcomes(cards: list[Card]) -> dict[str, str]:
    """What each test came to, by its group and name."""
    tests = parsed(cards).iter("testcase")
    return {f"{t.attrib['classname']} {t.attrib['name']}": t[0].tag if len(t) else "pass" for t in tests}


def test_a_failing_gate() -> None:
    """Metrics, limits and failing cases are tests of their agent, with where they stand."""
    rows = [metric(value=0.7, state="fail", reason="0.7 is below 0.85"), metric("latency_p95")]
    limit = {
        "name": "cost_per_run",
        "value": 1.0,
        "limit": 0.5,
        "state": "fail",
        "reason": "$1 is above $0.5",
    }
    verdict = eval_json(state="fail", metrics=rows, failing_cases=[failing_case()])
    cards = [Card("refund-triage", verdict | {"failing": 3}, cost_json(state="fail", limits=[limit]))]
    assert outcomes(cards) == {
        "refund-triage.metrics exact_match": "failure",
        "refund-triage.metrics latency_p95": "pass",
        "refund-triage.cost cost_per_run": "failure",
        "refund-triage.cases blunt-knife": "failure",
    }
    suite = parsed(cards)[0]
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["commit"] == "c" * 40
    assert properties["agent-file"] == "agents/refund-triage.yaml"
    assert suite.findtext("system-out") == "2 more failing cases are not in this report."
    [case] = [t for t in suite.iter("testcase") if t.attrib["name"] == "blunt-knife"]
    assert (case.attrib["file"], case.attrib["line"]) == ("evals/golden/refunds.jsonl", "7")
    assert case[0].attrib["message"] == "exact_match: differs from the expected output"
    assert "got: {" in (case[0].text or "")


@pytest.mark.parametrize(
    ("state", "outcome"), [("pass", "skipped"), ("inconclusive", "skipped"), ("fail", "failure")]
)
def test_a_failing_case_is_as_red_as_its_gate(state: str, outcome: str) -> None:
    """A case that fails within what the thresholds allow turns no reporter red."""
    verdict = eval_json(state=state, metrics=[metric(state=state)], failing_cases=[failing_case()])
    found = outcomes([Card("a", verdict, cost_json())])
    assert found["a.cases blunt-knife"] == outcome
    assert ("failure" in found.values()) == (state == "fail")


def test_a_case_is_red_where_it_fails_what_fails() -> None:
    """A case below the threshold of a metric that passes is no failure because another metric fails."""
    rows = [metric(), metric("refusal", state="fail"), metric("critical_cases", state="fail")]
    cases = [
        failing_case("tolerated"),
        failing_case("wrong", reasons={"exact_match": "", "refusal": ""}),
        failing_case("grave", critical=True),
    ]
    verdict = eval_json(state="fail", metrics=rows, failing_cases=cases)
    found = outcomes([Card("a", verdict, cost_json())])
    assert [found[f"a.cases {case['id']}"] for case in cases] == ["skipped", "failure", "failure"]


def test_no_line_is_better_than_a_wrong_one() -> None:
    """Only a case has a line: of a metric the results name the agent file alone."""
    verdict = eval_json(state="fail", metrics=[metric(state="fail")], failing_cases=[failing_case()])
    tests = {t.attrib["name"]: t.attrib for t in parsed([Card("a", verdict, None)]).iter("testcase")}
    assert tests["exact_match"]["file"] == "agents/refund-triage.yaml"
    assert [name for name, test in tests.items() if "line" in test] == ["blunt-knife"]


@pytest.mark.parametrize(
    ("card", "tests"),
    [
        (Card("a", None, cost_json()), {"a.gates eval gate": "error"}),
        (Card("a", None, None), {"a.gates eval gate": "error", "a.gates cost gate": "error"}),
        (Card("a", left("a", "no key"), cost_json()), {"a.gates eval gate": "error"}),
        (Card("a", eval_json(state="fail", metrics=[]), cost_json()), {"a.gates eval gate": "failure"}),
    ],
)
def test_what_was_not_measured_is_an_error(card: Card, tests: dict[str, str]) -> None:
    """A gate that left nothing, or that no row accounts for, is a test of its own, and no pass."""
    assert outcomes([card]) == tests


def test_no_agent_is_an_error() -> None:
    """Where nothing was measured at all, the report holds an error, not nothing."""
    assert outcomes([]) == {"gatehouse.gates results": "error"}


def test_any_text_stays_text() -> None:
    """Markup, illegal and hidden characters and any length break nothing, and are read back without them."""
    hostile = "a]]><testcase/>&\x00\x1b[31m\ufffe\ud800\u202e\"'\n" + "x" * 50_000
    case = failing_case(hostile, input=hostile, expected=hostile, got=hostile, reasons={hostile: hostile})
    path = {"path": hostile, "digest": hostile}
    verdict = eval_json(
        hostile,
        state="fail",
        reason=hostile,
        metrics=[metric(hostile, state="fail", reason=hostile)],
        failing_cases=[case],
        agent={"name": hostile, "version": hostile, **path},
        dataset={**path, "cases": 4},
    )
    text = junit([Card(hostile, verdict, cost_json())])
    assert len(text) < 20_000
    root = parsed([Card(hostile, verdict, cost_json())])
    assert len(root) == 1
    name = root[0].attrib["name"]
    assert name.startswith("a]]><testcase/>&\ufffd\ufffd\"' xxx")
    assert name.endswith("…")


def test_twenty_agents_with_five_hundred_failing_cases() -> None:
    """Comment and report of all of them take a fraction of a second; the comment fits, the worst first."""
    texts: dict[str, Any] = dict.fromkeys(("input", "expected", "got"), "x `y` <b>\n" * 100)
    cases = [failing_case(f"case-{i}", **texts) for i in range(100)]
    rows = [metric(state="fail")]
    red = {"state": "fail", "failing": 500, "cases": 600, "failing_cases": cases, "metrics": rows}
    cards = [
        Card(f"agent-{i}", eval_json(f"agent-{i}", **(red if i else {})), cost_json()) for i in range(20)
    ]
    start = time.perf_counter()
    text = markdown(cards)
    whole = junit(cards)
    assert time.perf_counter() - start < 2  # 0.3 s on an idle machine
    assert len(text.encode()) <= 65_000
    assert "more failing cases are not shown here" in text
    table = [line for line in text.splitlines() if line.startswith("| <code>agent")]
    assert [("fail" in line) for line in table] == [True] * 19 + [False]
    assert whole.count("<failure") == 19 * 101
