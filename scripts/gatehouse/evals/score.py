"""Stage two: every run scored by every metric, into `scores.jsonl`."""

from __future__ import annotations

import json
import math
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.evals.results import StaleError, failure_of, read_json, write_json
from gatehouse.evals.run_files import writing
from gatehouse.evals.statistics import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.metrics.base import Score
    from gatehouse.evals.results import Subject

SCORES_SCHEMA = 1
STATES = ("scored", "skipped", "fault", "unscored")


def score_run(gate: Gate, case: Case, run: Run) -> tuple[str, float | None, str]:
    """The state, value and reason of one run under one metric.

    States: "scored"; "skipped" (the metric does not apply to this case); "fault" (the agent itself failed:
    the worst value); "unscored" (the infrastructure failed: no value).
    """
    if run.error is not None and run.error.by == "infrastructure":
        return "unscored", None, f"{run.error.kind}: {run.error.message}"
    score: Score | None
    if run.error is not None and not gate.metric.per_case:
        # A crash is quick: it must not improve a latency. A hang counts at its deadline.
        score = gate.score(case, run) if run.error.kind == "hang" else None
        return ("skipped", None, "") if score is None else ("scored", score.value, "")
    score = gate.score(case, run)
    if run.error is not None:
        value = None if score is None else gate.metric.worst
        return "fault", value, f"{run.error.kind}: {run.error.message}"
    if score is None:
        return "skipped", None, ""
    return "scored", score.value, score.reason


def write_scores(
    subject: Subject,
    gates: Sequence[Gate],
    repeats: int,
    runs: Iterable[Run],
    files: Sequence[Path],
    out: Path,
) -> None:
    """Write `scores.jsonl` and `scores.json` under `out`, streaming; the old ones are gone first.

    `files` are where the runs are from: the verdict shows their texts. Raises InfrastructureError where
    nothing can be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for stale in ("scores.json", "eval.json", "cost.json"):
            (out / stale).unlink(missing_ok=True)
        _write_scores(subject, gates, repeats, runs, files, out)


def _write_scores(
    subject: Subject,
    gates: Sequence[Gate],
    repeats: int,
    runs: Iterable[Run],
    files: Sequence[Path],
    out: Path,
) -> None:
    counts = {"total": 0, "agent_faults": 0, "infrastructure_faults": 0}
    first_fault = ""
    latencies = array("d")
    # A reason may quote half of a surrogate pair, which has no bytes.
    with (out / "scores.jsonl.partial").open("w", encoding="utf-8", errors="replace") as lines:
        for run in runs:
            counts["total"] += 1
            if run.error is not None:
                counts[f"{run.error.by}_faults"] += 1
                first_fault = first_fault or f"{run.error.kind}: {run.error.message}"
            elif run.latency_s is not None:
                latencies.append(run.latency_s)
            case = subject.golden[run.id]
            for gate in gates:
                state, value, reason = score_run(gate, case, run)
                line = {
                    "id": run.id,
                    "case": run.case,
                    "repeat": run.repeat,
                    "metric": gate.metric.name,
                    "value": value,
                    "state": state,
                    "reason": reason[:2000],
                }
                lines.write(
                    json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
                )
    os.replace(out / "scores.jsonl.partial", out / "scores.jsonl")  # noqa: PTH105 beside its twin above
    ordered = sorted(latencies)
    info = {
        "schema": SCORES_SCHEMA,
        "agent": {
            "name": subject.agent.name,
            "version": subject.agent.version,
            "digest": subject.agent.digest,
        },
        "dataset": {
            "path": subject.golden.path,
            "digest": subject.golden.digest,
            "cases": len(subject.golden),
        },
        "commit": subject.commit,
        "repeats": repeats,
        "run_files": [str(file) for file in files],
        "runs": counts,
        "first_fault": first_fault[:2000],
        "failure": failure_of(files),
        "latency_s": {"p50": quantile(ordered, 0.5), "p95": quantile(ordered, 0.95)} if ordered else None,
        "metrics": {gate.metric.name: {"version": gate.metric.version} for gate in gates},
    }
    write_json(out / "scores.json", info)


@dataclass(slots=True)
class Tally:
    """The scores of one metric: for each case of the golden set a sum, and how many lines said what."""

    sums: array[float]
    scored: array[int]
    lines: array[int]
    unscored: bytearray
    faults: bytearray
    why_unscored: str = ""

    @classmethod
    def empty(cls, cases: int) -> Tally:
        """No line yet for any of `cases`."""
        zeros = array("i", bytes(4 * cases))
        return cls(array("d", bytes(8 * cases)), zeros[:], zeros[:], bytearray(cases), bytearray(cases))

    def add(self, slot: int, line: dict[str, Any]) -> None:
        """Take one line of `scores.jsonl` for the case at `slot`."""
        value, state = line["value"], line["state"]
        valued = value is not None and math.isfinite(value) and state in ("scored", "fault")
        if state not in STATES or not (valued or value is None):
            raise ValueError(f"state {state!r} with value {value!r}")
        self.lines[slot] += 1
        if state == "unscored":
            self.unscored[slot] = 1
            self.why_unscored = self.why_unscored or str(line["reason"])
        if state == "fault":
            self.faults[slot] = 1
        if value is not None:
            self.sums[slot] += value
            self.scored[slot] += 1

    def close(self, repeats: int, why_not_run: str) -> None:
        """A case with fewer lines than repeats is unscored: it was not run; raises ValueError for more."""
        for slot, n in enumerate(self.lines):
            if n > repeats:
                raise ValueError("more scores of a case than repeats")
            if n < repeats and not self.unscored[slot]:
                self.unscored[slot] = 1
                self.why_unscored = self.why_unscored or f"not run: {why_not_run}"

    def value(self, slot: int) -> float | None:
        """The mean of a case's repeats; None where it is unscored or the metric does not apply."""
        return None if self.unscored[slot] or not self.scored[slot] else self.sums[slot] / self.scored[slot]


@dataclass(slots=True)
class Scores:
    """`scores.json` and the tallies of `scores.jsonl`, one for each gate, by metric name."""

    info: dict[str, Any]
    tallies: dict[str, Tally] = field(default_factory=dict)
    run_files: list[Path] = field(default_factory=list)


def read_scores(subject: Subject, gates: Sequence[Gate], out: Path) -> Scores:
    """The scores under `out`, which must be of `subject` and hold every gate's metric; raises StaleError."""
    info = read_json(out / "scores.json")
    scores = Scores(info)
    try:
        _check(subject, info, out / "scores.json")
        missing = [gate.metric.name for gate in gates if gate.metric.name not in info["metrics"]]
        if missing:
            raise StaleError(
                f"{out / 'scores.jsonl'} has no scores of {', '.join(missing)}. Score the runs again."
            )
        scores.tallies = {gate.metric.name: Tally.empty(len(subject.golden)) for gate in gates}
        with (out / "scores.jsonl").open(encoding="utf-8") as lines:
            for text in lines:
                line = json.loads(text)
                tally = scores.tallies.get(line["metric"])
                if tally is not None:
                    tally.add(subject.golden.index[line["id"]], line)
        why = str(info.get("failure") or "the run ended before it")
        for tally in scores.tallies.values():
            tally.close(_count(info, "repeats"), why)
        for key in ("total", "agent_faults", "infrastructure_faults"):
            _count(info["runs"], key)
        scores.run_files = [Path(file) for file in info["run_files"]]
    except FileNotFoundError:
        raise StaleError(f"{out / 'scores.jsonl'}: missing. Score the runs again.") from None
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise StaleError(f"{out / 'scores.jsonl'}: malformed ({error}). Score the runs again.") from None
    return scores


def _count(info: dict[str, Any], key: str) -> int:
    if not isinstance(info[key], int) or isinstance(info[key], bool) or info[key] < (key == "repeats"):
        raise ValueError(f'"{key}" is not a count')
    return int(info[key])


def _check(subject: Subject, info: dict[str, Any], path: Path) -> None:
    from gatehouse.agent.protocol import RunInfo  # noqa: PLC0415 for one check

    subject.check(RunInfo(agent=info["agent"], dataset=info["dataset"], commit=info.get("commit")), path)
