"""The lines of one agent's part that comment and terminal share, as plain text: nothing here is escaped."""

from __future__ import annotations

from typing import Any

from gatehouse.costs.budget import dollars
from gatehouse.errors import State
from gatehouse.evals.verdict import show

ICONS = {State.PASS: "✅", State.FAIL: "❌", State.UNSCORED: "⚠️", State.INCONCLUSIVE: "🟡"}


def metric_rows(verdict: dict[str, Any] | None) -> list[list[str]]:
    """For each metric: name, value with its interval, threshold, state, why.

    The number of cases stands beside the value where it is not that of the whole golden set.
    """
    rows = []
    for m in (verdict or {"metrics": []})["metrics"]:
        unit = m.get("unit", "")
        value = "not measured" if m["value"] is None else show(m["value"], unit, m["threshold"])
        if m["value"] is not None and m["interval"]:
            value += f" [{show(m['interval'][0])}, {show(m['interval'][1])}]"
        if m["value"] is not None and m["n"] != (verdict or {}).get("cases"):
            value += f", n = {m['n']}"
        sign = "≥" if m.get("direction", "higher") == "higher" else "≤"
        threshold = "every case" if m["threshold"] is None else f"{sign} {show(m['threshold'], unit)}"
        name = f"{m['name']} ({m['metric']})" if m.get("metric") else m["name"]
        rows.append([name, value, threshold, m["state"], "" if m["state"] == "pass" else m["reason"]])
    return rows


def cost_lines(verdict: dict[str, Any] | None, cost: dict[str, Any] | None) -> list[str]:
    """Cost and latency, in a line each."""
    lines = [f"Cost: {ICONS[State(cost['state'])]} {cost['reason']}"] if cost else []
    latency = (verdict or {}).get("latency_s")
    return lines + (
        [f"Latency: p50 {show(latency['p50'])} s, p95 {show(latency['p95'])} s"] if latency else []
    )


def warning_lines(verdict: dict[str, Any] | None, cost: dict[str, Any] | None) -> list[str]:
    """What a reader should know beside the verdicts: of the agent file, of the cost, of the judging."""
    judge = (verdict or {}).get("judge") or {}
    # Both gates read the same agent file.
    told = dict.fromkeys([*(verdict or {}).get("warnings", []), *(cost or {}).get("warnings", [])])
    return [*told, *judge.get("notes", [])]


def model_lines(cost: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Each model, and what it took."""
    date = ((cost or {}).get("prices") or {}).get("date")
    return [
        (
            f"{m['provider']} {m['model']}",
            f"{m['input_tokens']:,} tokens in, {m['output_tokens']:,} out, "
            + ("unpriced" if m["usd"] is None else f"{dollars(m['usd'])} ({_source(m['source'], date)})"),
        )
        for m in (cost or {}).get("by_model", [])
    ]


def _source(source: str, date: str | None) -> str:
    """Where a price is from; of the public table with its date."""
    return f"{source}, prices of {date}" if date and source == "genai-prices" else source


def reasons(verdict: dict[str, Any], case: dict[str, Any]) -> dict[str, str]:
    """Why a case fails, by metric: in words, else its value beside the threshold."""
    rows = {m["name"]: m for m in verdict["metrics"]}
    return {name: why or _value(rows.get(name), case, name) for name, why in case["reasons"].items()}


def _value(row: dict[str, Any] | None, case: dict[str, Any], name: str) -> str:
    value = case.get("values", {}).get(name)
    if row is None or value is None:
        return "fails"
    if row["threshold"] is None:
        return f"{show(value)}, and it must hold in every case"
    side = "below" if row["direction"] == "higher" else "above"
    return f"{show(value, beside=row['threshold'])} is {side} {show(row['threshold'])}"
