"""From scores to `eval.json`: every metric judged, the failing cases picked out for people to read."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import MalformedError, RunInfo, as_text
from gatehouse.evals.results import SCHEMA, runs_of
from gatehouse.evals.score import must_hide
from gatehouse.evals.verdict import Trust, idle_in_part, judge, judge_critical, of_part, overall, trusted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatehouse.agent.protocol import Run, ToolCall
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.results import Subject
    from gatehouse.evals.score import Scores, Tally
    from gatehouse.evals.verdict import MetricVerdict

SHOWN_CASES = 100
"""Failing cases that `eval.json` carries with their texts; the rest are counted."""
SHOWN_CHARACTERS = 4000
"""Characters of each text of a failing case in `eval.json`."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """A case that fails at least one per-case metric; sorts as it should be read: the gravest first."""

    id: str
    critical: bool
    values: dict[str, float]
    """Of each metric that it fails, over its repeats."""

    @property
    def gravity(self) -> tuple[bool, int]:
        return not self.critical, -len(self.values)


def assess(
    subject: Subject, gates: Sequence[Gate], scores: Scores, runs: Sequence[Path], out: Path
) -> dict[str, Any]:
    """`eval.json` of one agent; raises StaleError where the files under `out` do not belong together."""
    golden, tallies = subject.golden, scores.tallies
    per_case = [(gate, tallies[gate.metric.name]) for gate in gates if gate.metric.per_case]
    failing: list[_Failing] = []
    critical, critical_failed, critical_unscored, resolved = 0, [], [], 0
    for slot, case in enumerate(golden):
        values = [(gate, tally.value(slot)) for gate, tally in per_case]
        failed = {
            gate.metric.name: value for gate, value in values if value is not None and not gate.holds(value)
        }
        unscored = any(tally.unscored[slot] for tally in tallies.values())
        measured = any(value is not None for gate, value in values if gate.metric.of_answer)
        critical += case.critical
        if failed:
            failing.append(_Failing(case.id, case.critical, failed))
            critical_failed += [case.id] * case.critical
        elif unscored or not measured:
            critical_unscored += [case.id] * case.critical
        elif not any(tally.faults[slot] for tally in tallies.values()):
            resolved += 1
    rows = [_row(subject, gate, tallies[gate.metric.name]) for gate in gates]
    row = judge_critical(critical, critical_failed, critical_unscored)
    counts = scores.info["runs"]
    shown, decisive = _without_idle(gates, rows) if golden.part else (rows, rows)
    last = [row] if row else []
    verdict = overall(
        [*decisive, *last],
        int(counts["total"]),
        int(counts["agent_faults"]) + int(counts["infrastructure_faults"]),
        str(scores.info.get("first_fault", "")),
    )
    verdict = replace(verdict, metrics=[*shown, *last], **of_part(verdict.state, verdict.reason, golden.part))
    failing.sort(key=lambda f: f.gravity)
    return {
        "schema": SCHEMA,
        **subject.header(),
        **verdict.to_json(),
        "repeats": scores.info["repeats"],
        "cases": len(golden),
        "resolved": resolved,
        "latency_s": scores.info.get("latency_s"),
        "runs": [str(path) for path in runs],
        "failing": len(failing),
        "failing_cases": _details(subject, failing[:SHOWN_CASES], gates, runs, out),
        "broken": [],
        "fixed": [],
        "judge": scores.info.get("judge"),
        "extras": sorted({gate.metric.extra for gate in gates if gate.metric.extra}),
        "warnings": [
            *map(str, subject.agent.warnings),
            *subject.warnings(),
            *_notes(runs),
            *_left_out(gates, rows),
        ],
    }


def _without_idle(
    gates: Sequence[Gate], rows: Sequence[MetricVerdict]
) -> tuple[Sequence[MetricVerdict], Sequence[MetricVerdict]]:
    """The rows of a part as they are shown, and those that decide: not what has nothing to measure in it.

    Where nothing looked at any answer, that is no verdict: then every row decides.
    """
    idle = [idle_in_part(gate, row) for gate, row in zip(gates, rows, strict=True)]
    looked = (
        row.value is not None and gate.metric.per_case and gate.metric.of_answer
        for gate, row in zip(gates, rows, strict=True)
    )
    if not any(looked):
        return rows, rows
    shown = [other or row for row, other in zip(rows, idle, strict=True)]
    return shown, [row for row, other in zip(rows, idle, strict=True) if other is None]


def _notes(runs: Sequence[Path]) -> list[str]:
    """What the runs say of themselves, each note once."""
    notes: list[str] = []
    for path in runs:
        with suppress(OSError, MalformedError):
            notes += RunInfo.read(path.with_name("run.json")).notes
    return list(dict.fromkeys(notes))


def _left_out(gates: Sequence[Gate], rows: Sequence[MetricVerdict]) -> list[str]:
    """Cases that a judged metric does not apply to, for each such metric: nobody looked at them."""
    return [
        f"{row.name}: {row.skipped} of {row.n + row.skipped + row.unscored} cases lack what it needs "
        f"({gate.metric.needs}), and were not judged by it."
        for gate, row in zip(gates, rows, strict=True)
        if gate.metric.judged and row.skipped and row.n
    ]


def _trust(subject: Subject, gate: Gate, values: Sequence[float]) -> Trust:
    """What the repository's labels say of the judge of one metric."""
    from gatehouse.evals.judges.calibration import last_day, read_calibration  # noqa: PLC0415 only where a judge was asked
    from gatehouse.evals.judges.standing import corrected_rate, status  # noqa: PLC0415 as above

    found = read_calibration(subject.agent.root, gate.metric.name, gate.method)
    before = None if found else last_day(subject.agent.root, gate.metric.name)
    standing = status(found, gate.judged_by.min_kappa, gate.holds, before)
    passes = [gate.holds(value) for value in values]
    rate = corrected_rate(found, gate.holds, passes) if found and passes else ""
    corrected, interval, why = (None, None, rate) if isinstance(rate, str) else (*rate, "")
    return Trust(
        calibrated=standing.calibrated,
        reason=f"{standing.reason}; {why}" if why else standing.reason,
        kappa=standing.kappa.value if standing.kappa else None,
        labels=found.n if found else 0,
        pass_rate=sum(passes) / len(passes) if passes else None,
        corrected=corrected,
        corrected_interval=interval,
        enough=standing.passed,
    )


def _row(subject: Subject, gate: Gate, tally: Tally) -> MetricVerdict:
    """One metric judged; a case without a value that is not unscored has nothing that it could measure."""
    cases = len(subject.golden)
    values = [value for value in map(tally.value, range(cases)) if value is not None]
    unscored = sum(tally.unscored)
    row = judge(
        gate,
        values,
        unscored=unscored,
        skipped=cases - unscored - len(values),
        max_unscored=subject.agent.evals.max_unscored,
        why_unscored=tally.why_unscored,
        silent=sum(tally.silent),
    )
    return trusted(row, _trust(subject, gate, values)) if "judge" in gate.metric.models else row


def _details(
    subject: Subject, failing: Sequence[_Failing], gates: Sequence[Gate], runs: Sequence[Path], out: Path
) -> list[dict[str, Any]]:
    """The texts of the failing cases: the first repeat that failed, and every metric's reason."""
    by_name = {gate.metric.name: gate for gate in gates}
    reasons: dict[str, dict[str, str]] = {f.id: {} for f in failing}
    repeat: dict[str, int] = {}
    withheld: dict[str, str] = {}
    with (out / "scores.jsonl").open(encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            gate = by_name.get(line["metric"])
            if line["id"] not in reasons or gate is None or line["value"] is None or not gate.metric.per_case:
                continue
            if must_hide(gate, line["state"], line["value"]):
                withheld[line["id"]] = gate.metric.name
            if not gate.holds(line["value"]):
                reasons[line["id"]].setdefault(line["metric"], line["reason"])
                repeat.setdefault(line["id"], line["repeat"])
    outputs: dict[str, Run] = {}
    if failing:
        for run in runs_of(subject, runs)[1]:
            if run.id in reasons and run.repeat == repeat.get(run.id, 0):
                outputs[run.id] = run
    details = [_detail(subject, f, reasons[f.id], outputs.get(f.id)) for f in failing]
    for detail in details:
        if name := withheld.get(detail["id"]):
            why = f"withheld: {name} found in it what must not be shown; the run's runs.jsonl has it"
            detail |= {key: why for key in ("got", "tool_calls") if detail[key] is not None}
    return details


def _detail(subject: Subject, failing: _Failing, reasons: dict[str, str], run: Run | None) -> dict[str, Any]:
    """One failing case with its texts, each cut."""
    case = subject.golden[failing.id]
    calls = run.tool_calls if run else None
    return {
        "id": case.id,
        "line": case.line,
        "path": case.path,
        "critical": case.critical,
        "tags": list(case.tags),
        "reasons": {name: reasons.get(name, "") for name in failing.values},
        "values": failing.values,
        "input": _cut(case.input),
        "expected": None if case.expected is None else _cut(case.expected),
        "got": None if run is None or run.error is not None else _cut(run.output),
        "tool_calls": None if calls is None else _cut("\n".join(map(_call, calls)) or "none"),
    }


def _call(call: ToolCall) -> str:
    return f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"


def _cut(value: Any) -> str:
    text = as_text(value)
    more = len(text) - SHOWN_CHARACTERS
    return text if more <= 0 else f"{text[:SHOWN_CHARACTERS]}… ({more} more characters)"
