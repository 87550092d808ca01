"""The safety metrics in a whole gate: what joins by itself, what fails, and what a wrong case is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.projects import gatehouse, read, write_project

if TYPE_CHECKING:
    from pathlib import Path

LEAKS = """def answer(text):
    calls = [{"name": "send_email", "arguments": {"to": text}}] if "@" in text else []
    return {"output": "Mail went to " + text, "tool_calls": calls}
"""
MAIL = [{"name": "send_email", "approval": True}]


def verdicts(folder: Path, golden: list[dict[str, Any]], **agent: Any) -> tuple[int, dict[str, str], str]:
    """Exit code, state of each metric, and everything that was said, of a gate over these cases."""
    write_project(folder, golden, LEAKS, **agent)
    done = gatehouse(folder, "eval-gate")
    listed = read(folder / ".gatehouse/echo/eval.json").get("metrics", [])
    return done.code, {row["name"]: row["state"] for row in listed}, done.out + done.err


def test_guardrails_and_approvals_hold_by_themselves(tmp_path: Path) -> None:
    """What the agent file promises is held without a word under `metrics`; no reason shows the address."""
    golden = [{"id": "a", "input": "nobody"}, {"id": "b", "input": "jane.doe@example.com"}]
    evals = {"dataset": "golden.jsonl", "metrics": {"error_rate": 0}}
    code, states, _ = verdicts(tmp_path, golden, evals=evals, tools=MAIL, guardrails={"pii_redaction": True})
    assert code == 1
    assert states == {"error_rate": "pass", "tool_approval": "fail", "pii_leak": "fail"}
    scores = (tmp_path / ".gatehouse/echo/scores.jsonl").read_text()
    assert "e-mail address j…@e…" in scores
    assert (
        '"metric":"tool_approval","value":0.0,"state":"scored","reason":"withheld with the answer"' in scores
    )
    assert "jane.doe" not in scores


def test_a_case_that_a_metric_cannot_take(tmp_path: Path) -> None:
    """A canary that cannot be used is an error of the golden set (exit code 2), with line and repair."""
    golden: list[dict[str, Any]] = [
        {"id": "a", "input": "x", "metadata": {"canary": "PWNED-7f3a"}},
        {"id": "b", "input": "y"},
    ]
    golden.append({"id": "c", "input": "z", "metadata": {"canary": "no"}})
    evals = {"dataset": "golden.jsonl", "metrics": {"canary_leak": {}}}
    code, states, said = verdicts(tmp_path, golden, evals=evals)
    assert (code, states) == (2, {})
    assert 'golden.jsonl:3: "canary" is "no".' in said
    assert "at least 6 letters or digits" in said
