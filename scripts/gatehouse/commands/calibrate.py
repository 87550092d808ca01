"""`gatehouse calibrate`: how far a judge agrees with people's labels, kept in the repository."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.commands._agents import agent_files, agent_option
from gatehouse.commands._judge import agent_with_judge, bench_for, judge_options, with_models
from gatehouse.commands._shared import (
    threshold_option,
)
from gatehouse.costs.budget import dollars
from gatehouse.errors import State, UserError
from gatehouse.evals.metrics import Gate, gates_of, known_as
from gatehouse.github.runner import annotate, say, set_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.evals.judges.bench import Bench
    from gatehouse.evals.judges.labels import Labelled, Labels
    from gatehouse.evals.judges.scoring import Court, Judged

MAX_REPEATS = 20
"""Times that each judge may be asked for the same grade."""
SHOWN_APART = 5
"""Texts shown on which people and judge are furthest apart."""
SHOWN_REASON = 200
"""Characters shown of a judge's reason."""


@dataclass(slots=True)
class _Asked:
    """What came of one labelled text: the judge's value as a gate takes it, each judge's repeated grades."""

    gate: Gate
    text: Labelled
    judged: Judged | None = None
    repeated: dict[str, list[float | None]] = field(default_factory=dict)
    fault: str = ""


@click.command
@click.option(
    "--labels",
    required=True,
    metavar="FILE",
    help="Texts that people have graded: CSV or JSONL with metric, input, output, grade.",
)
@agent_option
@judge_options
@threshold_option
@click.option(
    "--repeat",
    type=click.IntRange(1, MAX_REPEATS),
    default=1,
    show_default=True,
    help="Times that each judge grades each text, for how often it contradicts itself.",
)
def calibrate(
    labels: str,
    agents: tuple[str, ...],
    judge: tuple[str, ...],
    embeddings: str | None,
    threshold: dict[str, float] | None,
    repeat: int,
) -> None:
    """Compare a judge with people's labels.

    Asks the judge of each labelled metric as the gate would, and writes evals/calibration/METRIC.json, which
    belongs into the repository. Exit code: 0 done, 1 evals.judge.min_kappa is not met, 2 a file or option to
    mend, 3 a label could not be judged; of that metric nothing is written.
    """
    from gatehouse.evals.judges.labels import read_labels  # noqa: PLC0415 quick --help

    agent = agent_with_judge(_agent(agents), judge, embeddings)
    gates = {gate.metric.name: gate for gate in gates_of(agent, threshold) if "judge" in gate.metric.models}
    if not gates:
        message = "the agent is held to no metric that a judge grades."
        repair = "Name one in evals.metrics, or give --threshold NAME=VALUE."
        raise UserError(agent.problem("evals", message=message, repair=repair))
    metrics = {name: gate.metric for name, gate in gates.items()}
    found = read_labels(labels, agent.root, metrics, known_as)
    held = with_models(agent, [gate for name, gate in gates.items() if name in found.texts])
    if unlabelled := [name for name in gates if name not in found.texts]:
        say(f"No labels of {', '.join(unlabelled)}: not calibrated.")
    bench = bench_for(agent, held, None)
    assert bench is not None  # noqa: S101 every one of these gates asks a judge
    asked = _ask(bench, held, found, repeat)
    states: list[State] = []
    kappas: dict[str, float | None] = {}
    for gate in held:
        own = [one for one in asked if one.gate is gate]
        state, kappa = _conclude(agent, gate, found, own)
        states.append(state)
        if state is not State.UNSCORED:
            kappas[gate.metric.name] = kappa
    say(_cost(bench.report()))
    state = State.worst(states)
    set_outputs({"state": state, "kappa": json.dumps(kappas)})
    click.get_current_context().exit(state.exit_code())


def _agent(agents: tuple[str, ...]) -> Agent:
    """The one agent; raises UserError where there are several: each has judges and thresholds of its own."""
    files = agent_files(agents)
    if len(files) > 1:
        raise UserError(f"Name the agent whose judge it is with --agent: there are {', '.join(files)}.")
    agent = load_agent(files[0])
    for warning in agent.warnings:
        annotate("warning", warning.message, file=warning.path, line=warning.line)
    return agent


def _ask(bench: Bench, gates: Sequence[Gate], labels: Labels, repeat: int) -> list[_Asked]:
    """Ask for every labelled text, so many at once as the judge's setting allows."""
    from gatehouse.evals.judges.scoring import in_court  # noqa: PLC0415 asyncio: 40 ms --help need not wait
    from gatehouse.evals.progress import Progress  # noqa: PLC0415 as above

    texts = [_Asked(gate, text) for gate in gates for text in labels.texts[gate.metric.name]]
    todo = [one for one in texts if one.text.grade is not None]
    progress = Progress(sys.stderr, what="labels judged", bad="unscored")
    done = 0

    async def ask(court: Court, one: _Asked) -> None:
        nonlocal done
        await _ask_one(court, one, repeat)
        done += 1
        faults = sum(bool(other.fault) for other in todo)
        progress.update(done, len(todo), faults, last=done == len(todo))

    in_court(bench, todo, ask)
    return texts


async def _ask_one(court: Court, one: _Asked, repeat: int) -> None:
    """The value of one text as a gate takes it, and for flips the votes 0 to `repeat` of each judge."""
    from gatehouse.evals.judges.base import JudgeError  # noqa: PLC0415 imported by now

    one.judged = await court.judge(one.gate, one.text.sample)
    if one.judged.value is None and not one.judged.reason.startswith("undecided"):
        one.fault = one.judged.reason
        return
    judges = len(court.setting.models)
    try:
        for vote in range(repeat if repeat > 1 else 0):
            for given in await court.votes(one.gate, one.text.sample, judges, vote):
                one.repeated.setdefault(given.judge, []).append(given.value)
    except JudgeError as error:
        one.fault = str(error)


def _conclude(
    agent: Agent, gate: Gate, labels: Labels, asked: Sequence[_Asked]
) -> tuple[State, float | None]:
    """Write and show the calibration of one metric: only where every one of its labels was judged."""
    from gatehouse.evals.judges.calibration import calibrate as measure  # noqa: PLC0415 imported by now
    from gatehouse.evals.judges.calibration import write_calibration  # noqa: PLC0415 as above
    from gatehouse.evals.judges.standing import status  # noqa: PLC0415 as above
    from gatehouse.report.calibration import lines_of  # noqa: PLC0415 as above

    name = gate.metric.name
    if faults := [one.fault for one in asked if one.fault]:
        say(f"\n{name}: {len(faults)} of {len(asked)} labels could not be judged: {faults[0]}")
        say(f"  Nothing was written for {name}. What was judged is kept: run again.")
        return State.UNSCORED, None
    values = [one.judged.value if one.judged else None for one in asked]
    judges = dict.fromkeys(judge for one in asked for judge in one.repeated)
    repeated = {judge: [one.repeated[judge] for one in asked if judge in one.repeated] for judge in judges}
    today = datetime.now(UTC).date().isoformat()
    calibration = measure(gate, labels, values, repeated, today)
    if not calibration.n:
        say(f"\n{name}: no text has both people's grade and the judge's. Nothing was written for {name}.")
        return State.UNSCORED, None
    path = write_calibration(agent.root, calibration)
    standing = status(calibration, gate.judged_by.min_kappa)
    say("\n".join(["", *lines_of(calibration, standing.reason), *_apart(gate, labels.path, asked)]))
    say(f"  Written to {path}.")
    return State.PASS if standing.passed else State.FAIL, calibration.kappa


def _apart(gate: Gate, path: str, asked: Sequence[_Asked]) -> list[str]:
    """The texts on which people and judge are furthest apart, each with the judge's reason."""
    apart: list[tuple[float, str]] = []
    for one in asked:
        people, judge = one.text.grade, one.judged.value if one.judged else None
        if people is None or judge is None or one.judged is None or people == judge:
            continue
        if gate.metric.step is not None or gate.holds(people) != gate.holds(judge):
            name = f" ({one.text.id})" if one.text.id else ""
            reason = " ".join(one.judged.reason.split())[:SHOWN_REASON]
            where = f"{path}:{one.text.line}{name}"
            apart.append((abs(judge - people), f"  {where}: people {people:g}, judge {judge:g}: {reason}"))
    apart.sort(key=lambda one: -one[0])
    return ["", "  furthest apart:", *(line for _, line in apart[:SHOWN_APART])] if apart else []


def _cost(report: dict[str, Any]) -> str:
    """What asking took, and what there is to say about it."""
    usd = "an amount that nobody knows" if report["usd"] is None else dollars(report["usd"])
    kept = f", {report['cached']} questions answered without a further call" if report["cached"] else ""
    return "\n".join([f"\n{report['calls']} calls{kept}: {usd}.", *report["notes"]])
