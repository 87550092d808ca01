"""Stage two: every run scored by every metric, into `scores.jsonl`."""

from __future__ import annotations

import json
import math
from array import array
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.agent.protocol import MAX_SECONDS, MalformedError, RunInfo
from gatehouse.agent.schema import validator
from gatehouse.errors import UserError
from gatehouse.evals.metrics.fields import WithFields
from gatehouse.evals.metrics.own import UnscoredError, target_of
from gatehouse.evals.results import SCHEMA, UNREADABLE, StaleError, failure_of, read_json, write_json
from gatehouse.evals.run_files import writing
from gatehouse.evals.statistics import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case
    from gatehouse.evals.judges.bench import Bench
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.metrics.base import Metric, Score
    from gatehouse.evals.results import Subject

STATES = ("scored", "skipped", "fault", "unscored")
WITHHELD = "withheld with the answer"
"""The reason of each metric that may quote what another one found and must not be shown."""


def score_run(gate: Gate, case: Case, run: Run) -> tuple[str, float | None, str]:
    """The state, value and reason of one run under one metric that no judge is asked about.

    States: "scored"; "skipped" (the metric does not apply to this case); "fault" (the agent itself failed:
    the worst value); "unscored" (the infrastructure failed, or a metric of the user's own: no value).
    """
    if run.error is not None and run.error.by == "infrastructure":
        return "unscored", None, f"{run.error.kind}: {run.error.message}"
    assert gate.score is not None  # noqa: S101 the gates of a judge are asked for by judges.scoring
    if (score := _leak_in_error(gate, case, run)) is not None:
        return "scored", score.value, f"failed, and in its message: {score.reason}"
    if run.error is not None and not gate.metric.per_case:
        # A crash is quick: it must not improve a latency. A hang counts at its deadline.
        score = gate.score(case, run) if run.error.kind == "hang" else None
        return ("skipped", None, "") if score is None else ("scored", score.value, "")
    try:
        score = gate.score(case, run)
    except UnscoredError as error:
        return "unscored", None, str(error)
    if run.error is not None:
        value = None if score is None else gate.metric.worst
        return "fault", value, f"{run.error.kind}: {run.error.message}"
    if score is None:
        return "skipped", None, ""
    return "scored", score.value, score.reason


def _leak_in_error(gate: Gate, case: Case, run: Run) -> Score | None:
    """What a metric that withholds finds in the words with which a run failed; None for nothing."""
    if run.error is None or not gate.metric.withholds or gate.score is None:
        return None
    words = f"{run.error.kind}: {run.error.message}"
    score = gate.score(case, replace(run, error=None, output=words))
    return score if score is not None and must_hide(gate, "scored", score.value) else None


def must_hide(gate: Gate, state: str, value: float | None) -> bool:
    """Whether a score says that the run holds what must not be shown."""
    return gate.metric.withholds and state == "scored" and value != gate.metric.best


def write_scores(
    subject: Subject,
    gates: Sequence[Gate],
    repeats: int,
    runs: Iterable[Run],
    files: Sequence[Path],
    out: Path,
    bench: Bench | None = None,
) -> None:
    """Write `scores.jsonl` and `scores.json` under `out`, streaming; the old ones are gone first.

    `files` are where the runs are from: the verdict shows their texts. `bench` is asked where a gate is a
    judge's. Raises StaleError for runs that were made with other metrics of the user's own, and
    InfrastructureError where nothing can be written.
    """
    _refuse_other_metrics(gates, files)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "scores.json").unlink(missing_ok=True)
        path = out / "scores.jsonl"
        counts, first_fault, latencies = _write_lines(subject, gates, repeats, runs, path, bench)
    if counts["total"] == len(subject.golden) * repeats and not counts["infrastructure_faults"]:
        _refuse_unmet(subject, gates)
    write_json(
        out / "scores.json",
        {
            "schema": SCHEMA,
            **subject.header(),
            "repeats": repeats,
            "run_files": [str(file) for file in files],
            "runs": counts,
            "first_fault": first_fault[:2000],
            "failure": failure_of(files),
            "latency_s": {"p50": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95)}
            if latencies
            else None,
            "judge": bench.report() if bench and bench.models else None,
            "metrics": {
                gate.metric.name: {
                    "version": gate.metric.version,
                    "method": gate.method,
                    "voted_at": gate.voted_at,
                }
                for gate in gates
            },
        },
    )


def _refuse_unmet(subject: Subject, gates: Sequence[Gate]) -> None:
    """Raise UserError for `fields` that no case of the whole golden set has; every case was scored."""
    if subject.golden.part:
        return
    names = [
        (gate.metric.name, path)
        for gate in gates
        if isinstance(gate.score, WithFields)
        for path in gate.score.unmet()
    ]
    problems = [
        subject.agent.problem(
            *("evals", "metrics", name, "fields"),
            message=f'metric "{name}": no case expects a value at "{path}".',
            repair="Mend the path, or leave it out; the runs are kept, so score again.",
        )
        for name, path in names
    ]
    if problems:
        raise UserError(*problems, left="There is no verdict.")


def _refuse_other_metrics(gates: Sequence[Gate], files: Sequence[Path]) -> None:
    """Raise StaleError where the user's own metrics are not those that scored the runs of `files`."""
    asked = {gate.metric.name: gate.method for gate in gates if target_of(gate.metric)}
    for place in (file.with_name("run.json") for file in files if asked):
        try:
            scored = RunInfo.read(place).options.get("own_metrics")
        except (MalformedError, OSError) as error:
            raise StaleError(f"{place}: {error}. Run the agent again.") from None
        known = scored if isinstance(scored, dict) else {}
        if other := [name for name, method in asked.items() if known.get(name) != method]:
            raise StaleError(
                f"{place}: the runs were not scored by {', '.join(other)} as file and code have it now: "
                "its code, options or name are others. Run the agent again."
            )


def _write_lines(
    subject: Subject,
    gates: Sequence[Gate],
    repeats: int,
    runs: Iterable[Run],
    path: Path,
    bench: Bench | None,
) -> tuple[dict[str, int], str, list[float]]:
    """Write `scores.jsonl`; the runs counted by whose fault they ended in, the first fault, the latencies."""
    counts = {"total": 0, "agent_faults": 0, "infrastructure_faults": 0}
    first_fault = ""
    latencies = array("d")
    own, judged = [g for g in gates if g.score], [g for g in gates if g.judge]
    hidden = set[tuple[str, int]]()
    """Id and repeat of the runs that hold what must not be shown."""

    def taken() -> Iterator[tuple[Case, Run]]:
        """The runs, counted and scored by the metrics of no judge as they are read."""
        nonlocal first_fault
        for run in runs:
            counts["total"] += 1
            case = subject.golden[run.id]
            found = [(gate, *score_run(gate, case, run)) for gate in own]
            # The infrastructure's words are no leak of the agent's, but they may quote one.
            if any(
                must_hide(gate, state, value) or (state == "unscored" and _leak_in_error(gate, case, run))
                for gate, state, value, _ in found
            ):
                hidden.add((run.id, run.repeat))
            for line in found:
                write(line[0], run, *line[1:])
            if run.error is not None:
                counts[f"{run.error.by}_faults"] += 1
                why = f"{run.error.kind}: {run.error.message}"
                first_fault = first_fault or (WITHHELD if (run.id, run.repeat) in hidden else why)
            elif run.latency_s is not None:
                latencies.append(run.latency_s)
            yield case, run

    def write(gate: Gate, run: Run, state: str, value: float | None, reason: str, **more: Any) -> None:
        masked = gate.metric.withholds and state == "scored"
        if reason and not masked and (run.id, run.repeat) in hidden:
            reason = WITHHELD
        line = {
            "id": run.id,
            "case": run.case,
            "repeat": run.repeat,
            "metric": gate.metric.name,
            "value": value,
            "state": state,
            "reason": reason[:2000],
            **more,
        }
        lines.write(json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")

    # A reason may quote half of a surrogate pair, which has no bytes.
    partial = path.with_name("scores.jsonl.partial")
    partial.unlink(missing_ok=True)  # it may be a link
    with partial.open("x", encoding="utf-8", errors="replace") as lines:
        if bench and judged:
            from gatehouse.evals.judges.scoring import judge_runs  # noqa: PLC0415 asyncio costs 40 ms

            judge_runs(taken(), judged, bench, write, len(subject.golden) * repeats)
        else:
            deque(taken(), maxlen=0)
    partial.replace(path)
    return counts, first_fault, sorted(latencies)


@dataclass(slots=True)
class Tally:
    """The scores of one metric: for each case of the golden set a sum, and how many lines said what."""

    sums: array[float]
    scored: array[int]
    lines: array[int]
    unscored: bytearray
    faults: bytearray
    silent: bytearray
    """Cases of which a run does not report what the metric looks at."""
    reports: bool
    low: float
    high: float
    why_unscored: str = ""

    @classmethod
    def empty(cls, cases: int, metric: Metric) -> Tally:
        """No line yet of this metric for any of `cases`."""
        zeros = array("i", bytes(4 * cases))
        sums = array("d", bytes(8 * cases))
        unscored, faults, silent = (bytearray(cases) for _ in range(3))
        ends = (metric.low, metric.high) if metric.per_case else (0.0, math.inf)
        return cls(sums, zeros[:], zeros[:], unscored, faults, silent, bool(metric.reports), *ends)

    def add(self, slot: int, line: dict[str, Any]) -> None:
        """Take one line of `scores.jsonl` for the case at `slot`."""
        value, state = line["value"], line["state"]
        valued = value is not None and math.isfinite(value) and state in ("scored", "fault")
        if state not in STATES or not (valued or value is None):
            raise ValueError(f"state {state!r} with value {value!r}")
        if value is not None and not self.low - 1e-9 <= value <= self.high + 1e-9:
            raise ValueError(f"value {value!r} is not from {self.low:g} to {self.high:g}")
        self.lines[slot] += 1
        if state == "unscored":
            self.unscored[slot] = 1
            self.why_unscored = self.why_unscored or str(line["reason"])
        if state == "skipped" and self.reports:
            self.silent[slot] = 1
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
        subject.check(info["agent"], info["dataset"], info.get("commit"), out / "scores.json")
        missing = [g.metric.name for g in gates if _method(info, g.metric.name) != (g.method, g.voted_at)]
        if missing:
            raise StaleError(
                f"{out / 'scores.jsonl'} has no scores of {', '.join(missing)} as it is asked for now: "
                "options, rubric, judge, threshold or library are others. Score again: `gatehouse score`."
            )
        scores.tallies = {gate.metric.name: Tally.empty(len(subject.golden), gate.metric) for gate in gates}
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
        latency = info["latency_s"]
        if latency is not None and not all(0 <= latency[key] < MAX_SECONDS for key in ("p50", "p95")):
            raise ValueError('"latency_s" is not in seconds')
        _check_judge(info.get("judge"))
    except FileNotFoundError:
        raise StaleError(f"{out / 'scores.jsonl'}: missing. Score the runs again.") from None
    except UNREADABLE as error:
        raise StaleError(f"{out / 'scores.jsonl'}: malformed ({error}). Score the runs again.") from None
    return scores


def _check_judge(judge: Any) -> None:
    """Raise ValueError for what does not say what judging took as `eval.json`, which repeats it, has to."""
    whole: Any = validator("eval")
    fault = next(whole.evolve(schema=whole.schema["properties"]["judge"]).iter_errors(judge), None)
    if fault:
        raise ValueError(f'"judge" at {fault.json_path}: {fault.message[:200]}')


def _method(info: dict[str, Any], metric: str) -> tuple[Any, Any] | None:
    found = info["metrics"].get(metric)
    return found and (found.get("method"), found.get("voted_at"))


def _count(info: dict[str, Any], key: str) -> int:
    if not isinstance(info[key], int) or isinstance(info[key], bool) or info[key] < (key == "repeats"):
        raise ValueError(f'"{key}" is not a count')
    return int(info[key])
