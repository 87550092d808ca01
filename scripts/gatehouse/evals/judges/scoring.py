"""Every run judged by every judged metric: so many at once, each vote in its time, written as it comes."""

from __future__ import annotations

import asyncio
import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from gatehouse.errors import GatehouseError
from gatehouse.evals.judges.base import LONG, JudgeError, Sample, UndecidedError, sample_of
from gatehouse.evals.judges.votes import Vote, combine, wants_more, why_undecided
from gatehouse.evals.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case
    from gatehouse.evals.judges.bench import Bench
    from gatehouse.evals.metrics import Gate

T = TypeVar("T")
OF_THE_GOLDEN_SET = {"expected", "expected_tools"}
"""What a case may leave out on purpose: the metric does not apply to it."""
OF_THE_REPLY = {
    "contexts": "no contexts: neither the agent's reply nor the golden set has any",
    "tool_calls": "the agent reports no tool_calls",
}
"""What the agent should have reported: without it nobody can say whether the metric holds."""

CALLS = 20
"""Deadlines of a call that a vote may take: the client ends each call, this a library that never ends."""


class Write(Protocol):
    """Takes one line of `scores.jsonl`."""

    def __call__(
        self, gate: Gate, run: Run, state: str, value: float | None, reason: str, **more: object
    ) -> None:
        """Write it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging one sample by one metric came to, as in `scores.jsonl`, with the votes behind it."""

    state: str
    value: float | None
    reason: str
    votes: list[Vote] = field(default_factory=list)


def judge_runs(
    runs: Iterable[tuple[Case, Run]], gates: Sequence[Gate], bench: Bench, write: Write, total: int
) -> None:
    """Judge every run by every gate, and write each line once; raises what `runs` and `write` raise.

    `total` runs are expected: how far it is, is shown.
    """
    progress = Progress(sys.stderr, what="answers judged", bad="unscored")
    done = unscored = 0

    async def judge(court: Court, one: tuple[Case, Run]) -> None:
        nonlocal done, unscored
        case, run = one
        found = await asyncio.gather(*(court.judge_run(gate, case, run) for gate in gates))
        for gate, judged in zip(gates, found, strict=True):
            votes = [vote.value for vote in judged.votes]
            more = {"votes": votes} if len(votes) > 1 else {}
            write(gate, run, judged.state, judged.value, judged.reason, **more)
        done += 1
        unscored += any(judged.state == "unscored" for judged in found)
        progress.update(done, total, unscored)

    try:
        in_court(bench, runs, judge)
    finally:
        progress.update(done, total, unscored, last=True)


def in_court(bench: Bench, items: Iterable[T], work: Callable[[Court, T], Awaitable[None]]) -> None:
    """Do `work` on every item, on as many at once as the bench's setting allows.

    Raises what `items` and `work` raise; the bench is closed in any case.
    """
    asyncio.run(_in_court(bench, iter(items), work))


async def _in_court(bench: Bench, items: Iterator[T], work: Callable[[Court, T], Awaitable[None]]) -> None:
    court = Court(bench)

    async def take() -> None:
        for item in items:  # shared: as many in memory as are worked on at once
            await work(court, item)

    try:
        await bench.open()
        async with asyncio.TaskGroup() as group:
            for _ in range(bench.setting.concurrency):
                group.create_task(take())
    except* (GatehouseError, OSError) as errors:
        raise errors.exceptions[0] from None
    finally:
        await bench.close()


class Court:
    """Asks the judges of a bench, as many votes at once as its setting allows."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.setting = bench, bench.setting
        self._slots = asyncio.Semaphore(self.setting.concurrency)

    async def judge_run(self, gate: Gate, case: Case, run: Run) -> Judged:
        """One run: a failed one is not shown to a judge, nor one that lacks what the metric looks at."""
        if run.error is not None and run.error.by == "infrastructure":
            return Judged("unscored", None, f"{run.error.kind}: {run.error.message}")
        sample = sample_of(case, run)
        lacks = sample.lacks(gate.metric.requires)
        applies = OF_THE_GOLDEN_SET.isdisjoint(lacks)
        if run.error is not None:
            value = gate.metric.worst if applies else None
            return Judged("fault", value, f"{run.error.kind}: {run.error.message}")
        if not applies:
            return Judged("skipped", None, "")
        if lacks:
            return Judged("unscored", None, OF_THE_REPLY[lacks[0]])
        if long := sample.too_long(gate.metric.requires):
            return _not_shown(gate, run, long)
        return await self.judge(gate, sample)

    async def judge(self, gate: Gate, sample: Sample) -> Judged:
        """One sample: votes until they agree clear of the threshold, or until there are enough of them."""
        judges = len(self.setting.models) if "judge" in gate.metric.models else 1
        most = self.setting.votes if "judge" in gate.metric.models else 1
        votes: list[Vote] = []
        try:
            while True:
                votes += await self.votes(gate, sample, judges, len(votes) // judges)
                if not wants_more(
                    votes,
                    judges=judges,
                    most=most,
                    holds=gate.holds,
                    metric=gate.metric,
                    panel=self.setting.panel,
                ):
                    break
        except JudgeError as error:
            return Judged("unscored", None, str(error), votes)
        score = combine(votes, panel=self.setting.panel, metric=gate.metric)
        if score is None:
            return Judged("unscored", None, f"undecided: {why_undecided(votes)}", votes)
        return Judged("scored", score.value, score.reason, votes)

    async def votes(self, gate: Gate, sample: Sample, judges: int, vote: int) -> list[Vote]:
        """The vote of that number of each judge; raises the first JudgeError once all have ended."""
        found = await asyncio.gather(
            *(self._vote(gate, sample, index, vote) for index in range(judges)), return_exceptions=True
        )
        votes = [one for one in found if isinstance(one, Vote)]
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return votes

    async def _vote(self, gate: Gate, sample: Sample, index: int, vote: int) -> Vote:
        judge, metric = self.bench.judge(index, vote), gate.metric
        assert gate.judge is not None  # noqa: S101 a judge's gate
        async with self._slots:
            try:
                async with asyncio.timeout(CALLS * self.setting.deadline_s):
                    score = await gate.judge(sample, judge)
            except UndecidedError as undecided:
                return Vote(judge.name, None, str(undecided))
            except TimeoutError:
                raise JudgeError("timeout", f"no vote within {CALLS * self.setting.deadline_s:g} s") from None
        if not (math.isfinite(score.value) and metric.low - 1e-9 <= score.value <= metric.high + 1e-9):
            raise JudgeError("malformed", f"{score.value} is not from {metric.low:g} to {metric.high:g}")
        return Vote(judge.name, score.value, score.reason)


def _not_shown(gate: Gate, run: Run, long: Sequence[str]) -> Judged:
    """Texts that are too long to judge: the agent's own are its failure, the golden set's are not."""
    reported = {"output", "tool_calls"} | ({"contexts"} if run.contexts is not None else set())
    own = [what for what in long if what in reported]
    if own:
        return Judged("scored", gate.metric.worst, LONG[own[0]])
    return Judged("unscored", None, f"in the golden set {LONG[long[0]]}")
