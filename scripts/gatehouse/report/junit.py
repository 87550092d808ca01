"""The scorecard as JUnit XML: what GitHub's reporters of tests read.

The dialect is the one that they share: `testsuites`, a `testsuite` for each agent, and in it a `testcase`
for each metric, each limit of the cost and each failing case, with `classname`, `name`, `time`, `file` and
`line`. mikepenz/action-junit-report annotates at `file` and `line`, dorny/test-reporter groups by
`classname`, and EnricoMi/publish-unit-test-result-action adds up the counts of the suites.

The report is red exactly where the gate is: a case is a failure where it fails a metric that fails, or is
critical. One that fails within what the thresholds allow is skipped, with its reason, as is what passes
without proof; what was not measured is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from gatehouse.errors import State
from gatehouse.evals.verdict import CRITICAL
from gatehouse.github.escape import plain
from gatehouse.report.prose import one_line
from gatehouse.report.rows import metric_rows, reasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.report.scorecard import Card

ELEMENTS = {State.FAIL: "failure", State.UNSCORED: "error", State.INCONCLUSIVE: "skipped"}
"""What a state is in JUnit; a pass has no element."""
COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}
NAME, MESSAGE, TEXT = 200, 500, 500
"""Characters of a name, of a message, and of each text of a failing case."""
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold, not even as a reference (Char, section 2.2)."""


def junit(cards: Sequence[Card], *, commit: str = "") -> str:
    """The XML document; without any agent it holds one error, so that no reporter is green."""
    root = ET.Element("testsuites", name="Gatehouse")
    for card in cards:
        _suite(root, card, commit)
    if not cards:
        suite = ET.SubElement(root, "testsuite", name="gatehouse", time="0")
        _test(suite, "gatehouse.gates", "results", State.UNSCORED, "no agent left any result")
        _count(suite)
    _count(root)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, card: Card, commit: str) -> None:
    name = _line(card.name, NAME)
    suite = ET.SubElement(root, "testsuite", name=name, time="0")
    about = {"state": str(card.state), "reason": card.reason, "commit": commit, **_subject(card)}
    properties = ET.SubElement(suite, "properties")
    for key, value in filter(all, about.items()):
        ET.SubElement(properties, "property", name=key, value=_line(value, MESSAGE))
    agent_file = about.get("agent-file", "")
    for group, test, state, why in _verdicts(card):
        _test(suite, f"{name}.{group}", test, state, why, file=agent_file)
    verdict = card.eval or {}
    for case in verdict.get("failing_cases", []):
        _case(suite, f"{name}.cases", verdict, case)
    more = (verdict.get("failing") or 0) - len(verdict.get("failing_cases", []))
    if more > 0:
        ET.SubElement(suite, "system-out").text = f"{more} more failing cases are not in this report."
    _count(suite)


def _subject(card: Card) -> dict[str, str]:
    """What the verdict is of, where it says so."""
    agent = (card.eval or card.cost or {"agent": {}})["agent"]
    known = {key: agent.get(key) for key in ("version", "digest")} | {"agent-file": agent.get("path")}
    dataset = (card.eval or {}).get("dataset") or {}
    known["dataset"] = dataset.get("path")
    return {key: str(value) for key, value in known.items() if value is not None}


def _verdicts(card: Card) -> Iterator[tuple[str, str, State, str]]:
    """Group, name, state and reason of each row; of a gate too, where none of its rows says its state."""
    rows = {
        "eval": [("metrics", name, state, why) for name, _, _, state, why in metric_rows(card.eval)],
        "cost": [("cost", m["name"], m["state"], m["reason"]) for m in (card.cost or {}).get("limits", [])],
    }
    for gate in card.gates:
        yield from ((group, name, State(state), why) for group, name, state, why in rows[gate])
        found: dict[str, Any] | None = getattr(card, gate)
        state = State(found["state"]) if found else State.UNSCORED
        if state is not State.PASS and state not in [row[2] for row in rows[gate]]:
            yield "gates", f"{gate} gate", state, found["reason"] if found else "left no result"


def _case(suite: ET.Element, group: str, verdict: dict[str, Any], case: dict[str, Any]) -> None:
    told = reasons(verdict, case)
    message = "; ".join(f"{name}: {why}" for name, why in told.items())
    states = {m["name"]: m["state"] for m in verdict["metrics"]}
    failing = [name for name in told if states.get(name, State.FAIL) == State.FAIL]
    failed = bool(failing) or (case["critical"] and states.get(CRITICAL) == State.FAIL)
    texts = [
        f"{key}: {_clean(case[key], TEXT)}"
        for key in ("input", "expected", "got")
        if case.get(key) is not None
    ]
    _test(
        suite,
        group,
        case["id"],
        State.FAIL if failed else State.INCONCLUSIVE,
        message if failed else f"fails, within what the thresholds allow: {message}",
        file=str(case.get("path") or verdict["dataset"]["path"]),
        line=int(case["line"]),
        text="\n\n".join(texts),
    )


def _test(
    suite: ET.Element,
    group: str,
    name: str,
    state: State,
    why: str,
    *,
    file: str = "",
    line: int | None = None,
    text: str = "",
) -> None:
    test = ET.SubElement(suite, "testcase", classname=group, name=_line(name, NAME) or "-", time="0")
    if file:
        test.set("file", _line(file, MESSAGE))
    if line is not None:
        test.set("line", str(line))
    if element := ELEMENTS.get(state):
        told = ET.SubElement(test, element, message=_line(why, MESSAGE) or str(state), type=str(state))
        told.text = text or None


def _count(element: ET.Element) -> None:
    """The counts that a suite, or the whole, says of the tests below it."""
    element.set("tests", str(sum(1 for _ in element.iter("testcase"))))
    for attribute, tag in COUNTS.items():
        element.set(attribute, str(sum(1 for _ in element.iter(tag))))


def _clean(text: Any, limit: int) -> str:
    whole = str(text)
    head = whole[: 4 * limit]
    if not (
        head.isascii() and head.replace("\n", "").isprintable()
    ):  # most are: thousands of texts in no time
        head = _ILLEGAL.sub("\ufffd", plain(head))
    return head if len(head) <= limit and len(whole) <= 4 * limit else head[: limit - 1] + "…"


def _line(text: Any, limit: int) -> str:
    return one_line(_clean(text, limit))
