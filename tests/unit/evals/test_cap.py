"""The cap on what asking may cost: never passed, by anything that a provider may bill."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Run, Usage
from gatehouse.agent.providers import resolve
from gatehouse.errors import InfrastructureError, UserError
from gatehouse.evals.asked import tell
from gatehouse.evals.cap import OPTION, Capped, Pricing, bound_of
from gatehouse.evals.chat import Chat
from gatehouse.evals.command_pool import CommandPool
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from gatehouse.evals.worker_pool import WorkerPool
from tests.support.projects import agent_of
from tests.support.running import cases_of, info_of
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gatehouse.evals.run import Case, Target

OUTPUT = 100
MODEL = {"provider": "openai", "name": "m-2026-01-01"}


def price(usage: Usage) -> float | None:
    """A cent for ten tokens out, a tenth of that for those in."""
    if usage.model == "secret":
        return None
    return usage.input_tokens * 1e-4 + usage.output_tokens * 1e-3


def price_of(run: Run) -> float | None:
    """What all of a run's usages come to."""
    prices = [price(usage) for usage in run.usage]
    return None if not prices or None in prices else sum(p or 0.0 for p in prices)


PRICING = Pricing(price, price_of)


@dataclass
class Meter:
    """A provider that bills each request at the most that it can come to; `status` is how the n-th ends."""

    status: Callable[[int], int] = lambda _n: 200
    reports: bool = True
    stub: StubModel | None = None
    billed: float = 0.0
    largest: float = 0.0
    seen: list[int] = field(default_factory=list)

    def reply(self, n: int) -> Reply:
        """The n-th request, billed, unless it came too soon."""
        assert self.stub
        status = self.status(n)
        self.seen.append(status)
        if status == 429:
            return Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
        body = {key: value for key, value in self.stub.requests[n][2].items() if key != "model"}
        sent = len(json.dumps(body, ensure_ascii=False).encode())
        cost = price(Usage("", "", sent, OUTPUT)) or 0.0
        with self.stub.lock:
            self.billed += cost
            self.largest = max(self.largest, cost)
        usage = {"prompt_tokens": sent, "completion_tokens": OUTPUT}
        if status != 200:
            return Reply({"error": {"message": "down"}}, status)
        return Reply(completion() | {"usage": usage if self.reports else None})


def ask(
    folder: Path, meter: Meter, cap: float, count: int, *, concurrency: int = 64, repeats: int = 1
) -> RunSummary:
    """Ask `count` cases of different lengths under a cap, into `folder/out`."""
    inputs = ["word " * (i % 30) for i in range(count)]
    with stub_model(meter.reply) as stub:
        meter.stub = stub
        endpoint = resolve("openai", stub.url, {})
        chat = Chat(endpoint, "m", "Be kind.", {"max_tokens": OUTPUT, "seed": 1}, concurrency=concurrency)
        cases = cases_of(inputs)
        bound = bound_of(agent_of(folder), chat, price)
        by_id = {case.id: case for case in cases}
        target = Capped(chat, cap, bound, PRICING, folder / "out", by_id.__getitem__)
        options = RunOptions(concurrency=concurrency)
        return run_cases(target, cases, folder / "out", info_of(count, repeats=repeats), options)


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(("concurrency", "repeats"), [(64, 1), (64, 4), (1, 1)])
def test_the_cap_is_never_passed(tmp_path: Path, reports: bool, concurrency: int, repeats: int) -> None:
    """Whatever is under way, what is billed stays below the cap, and comes close to it."""
    meter = Meter(reports=reports)
    count = 400 // repeats
    summary = ask(tmp_path, meter, 10.0, count, concurrency=concurrency, repeats=repeats)
    assert 10.0 - 5 * meter.largest < meter.billed <= 10.0
    assert summary.asked == len(meter.seen)
    assert summary.not_asked == 400 - summary.asked
    assert summary.stopped.startswith("the cap of $10.00 (evals.max_usd) would be passed: $9.")
    assert " spent, the next call may cost up to $0." in summary.stopped


@pytest.mark.parametrize("status", [500, 503, 400, 402])
def test_what_a_provider_broke_off_may_be_billed(tmp_path: Path, status: int) -> None:
    """A request that fails counts at its bound, and so does each further try."""
    meter = Meter(lambda n: status if n % 7 == 3 else 200)
    summary = ask(tmp_path, meter, 4.0, 200, concurrency=16)
    assert 4.0 - 6 * meter.largest < meter.billed <= 4.0
    assert "would be passed" in summary.stopped


def test_a_refusal_for_the_rate_is_not_billed(tmp_path: Path) -> None:
    """A request that came too soon costs nothing: the cap is used up by the others."""
    meter = Meter(lambda n: 429 if n % 3 == 1 else 200)
    ask(tmp_path, meter, 2.0, 200, concurrency=4)
    assert 2.0 - 5 * meter.largest < meter.billed <= 2.0
    assert 429 in meter.seen


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """What the kept answers cost counts; with a higher cap the rest is asked, without one too."""
    meter = Meter()
    first = ask(tmp_path, meter, 3.0, 60)
    assert first.stopped
    asked = len(meter.seen)
    again = ask(tmp_path, meter, 3.0, 60)
    assert (again.resumed, again.asked, len(meter.seen)) == (first.asked, 0, asked)
    assert again.stopped == first.stopped
    rest = ask(tmp_path, meter, 50.0, 60)
    assert (rest.resumed, rest.asked, rest.stopped) == (first.asked, 60 - first.asked, "")
    assert meter.billed == pytest.approx(sum(map(float, ledger(tmp_path))))
    # A run that is whole is run anew, and what the last one cost is past.
    anew = ask(tmp_path, meter, 3.0, 60)
    assert (anew.resumed, anew.asked > 0) == (0, True)


def ledger(folder: Path) -> list[str]:
    """The lines of what was spent."""
    return (folder / "out/spent.txt").read_text().splitlines()


@pytest.mark.parametrize(("torn", "kept"), [("", 2.5), ("1.5", 2.5), ("9", 2.5), ("9\n", 11.5)])
def test_what_was_spent_before_is_read_from_the_disk(tmp_path: Path, torn: str, kept: float) -> None:
    """Every whole line counts: half of a last one was never asked for."""
    meter = Meter()
    ask(tmp_path, meter, 0.0, 2)
    (tmp_path / "out/spent.txt").write_text(f"2.0\n0.75\n-0.25\n{torn}")
    summary = ask(tmp_path, meter, kept + 0.2, 2)
    assert f"${kept:,.2f} spent" in summary.stopped
    assert meter.billed == 0


def test_answers_from_before_there_was_a_cap_count(tmp_path: Path) -> None:
    """A run that began without a cap has no ledger: its answers are priced."""
    meter = Meter()
    ask(tmp_path, meter, 3.0, 60)
    (tmp_path / "out/spent.txt").unlink()
    asked = len(meter.seen)
    assert ask(tmp_path, meter, 3.0, 60).asked == 0
    assert len(meter.seen) == asked


def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    """What cannot be read lets nothing be asked."""
    meter = Meter()
    ask(tmp_path, meter, 0.0, 2)
    (tmp_path / "out/spent.txt").write_text("two dollars\n")
    with pytest.raises(InfrastructureError, match=r"spent\.txt is malformed"):
        ask(tmp_path, meter, 9.0, 2)


class Coded:
    """An agent with code of its own: each answer takes the tokens of `takes`, of which model it says."""

    tries = 1

    def __init__(self, takes: Sequence[tuple[str, int] | None]) -> None:
        self.takes = takes
        self.asked = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def notes(self) -> list[str]:
        """Nothing to say."""
        return []

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """The next answer."""
        self.asked += 1
        tell(1)
        take = self.takes[(self.asked - 1) % len(self.takes)]
        usage = [Usage("openai", take[0], 0, take[1])] if take else []
        return Run(case.id, case.digest, repeat, "x", usage=usage)


def ask_coded(folder: Path, coded: Coded, cap: float, count: int = 50) -> RunSummary:
    """Ask an agent whose runs may use a thousand tokens, a dollar at most."""
    agent = agent_of(folder, model=MODEL, budgets={"max_tokens_per_run": 1000})
    cases = cases_of(range(count))
    target = Capped(coded, cap, bound_of(agent, coded, price), PRICING, folder / "out", lambda _id: cases[0])
    options = RunOptions(concurrency=4)
    return run_cases(target, cases, folder / "out", info_of(count), options)


@pytest.mark.parametrize(
    ("takes", "asked"),
    [([("m", 1000)], 10), ([("m", 500)], 19), ([None], 10), ([("secret", 10)], 10)],
    ids=["as many as allowed", "half of it", "says nothing", "unpriced"],
)
def test_code_of_ones_own_is_counted_by_what_it_reports(tmp_path: Path, takes: Any, asked: int) -> None:
    """By its budget where it says nothing that can be priced."""
    coded = Coded(takes)
    summary = ask_coded(tmp_path, coded, 10.0)
    assert summary.asked == coded.asked == asked
    assert summary.stopped == (
        f"the cap of $10.00 (evals.max_usd) would be passed: ${10 if asked == 10 else 9.5:.2f} spent, "
        "the next call may cost up to $1.00. Raise the cap by --max-usd or evals.max_usd: the next call "
        f"needs at least ${11 if asked == 10 else 10.5:.2f}"
    )


def test_an_agent_that_takes_more_than_it_may_is_stopped(tmp_path: Path) -> None:
    """Its calls cannot be cut: the run ends at once, and it is said by how much the bound was passed."""
    coded = Coded([("m", 100), ("m", 100), ("m", 3500)])
    summary = ask_coded(tmp_path, coded, 10.0)
    assert coded.asked < 8
    assert summary.stopped == (
        "the cap of $10.00 (evals.max_usd) cannot be held: an answer took $3.50, $2.50 more than its tokens "
        "could come to"
    )
    assert summary.notes == [summary.stopped]


def test_a_cap_that_the_last_answer_passed_is_told(tmp_path: Path) -> None:
    """Where nothing is left to be stopped, a note says so."""
    summary = ask_coded(tmp_path, Coded([("m", 3500)]), 2.0, 1)
    assert summary.stopped == ""
    assert summary.notes[1] == "the cap of $2.00 (evals.max_usd) was passed by $1.50."


def test_what_costs_nothing_has_no_cap(tmp_path: Path) -> None:
    """Of a model of one's own every case is asked."""
    agent = agent_of(tmp_path, budgets={"max_tokens_per_run": 1000})
    coded = Coded([None])
    bound = bound_of(agent, coded, lambda _usage: 0.0)
    pricing = Pricing(lambda _usage: 0.0, lambda _run: 0.0)
    cases = cases_of(range(50))
    target = Capped(coded, 0.01, bound, pricing, tmp_path / "out", lambda _id: cases[0])
    assert run_cases(target, cases, tmp_path / "out", info_of(50), RunOptions()).asked == 50


def chat(parameters: dict[str, Any], model: str = "m") -> Chat:
    """A chat that asks nobody."""
    return Chat(resolve("openai", "http://127.0.0.1:1/v1", {}), model, "Be kind.", parameters, concurrency=1)


@pytest.mark.parametrize(
    ("parameters", "model", "words"),
    [
        ({}, "m", ("how long an answer of the model may be is not known", "max_tokens: 300")),
        ({"max_tokens": 5}, "secret", ("nobody knows the price of secret", "pricing: {secret: {input_per")),
    ],
)
def test_a_chat_that_nothing_holds(tmp_path: Path, parameters: Any, model: str, words: Sequence[str]) -> None:
    """Without a limit of its answers, or a price, the file's author is told what to write."""
    with pytest.raises(UserError) as error:
        bound_of(agent_of(tmp_path), chat(parameters, model), price)
    for word in ("evals.max_usd cannot be held", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ({"model": MODEL}, ("how many tokens one run of the agent may use", "max_tokens_per_run: 4000")),
        (
            {
                "model": MODEL,
                "fallback_model": MODEL | {"name": "secret"},
                "budgets": {"max_tokens_per_run": 9},
            },
            ("nobody knows the price of secret",),
        ),
    ],
)
def test_code_that_nothing_holds(tmp_path: Path, agent: Any, words: Sequence[str]) -> None:
    """Without a budget of tokens, or a price of each model, the file's author is told what to write."""
    with pytest.raises(UserError) as error:
        bound_of(agent_of(tmp_path, **agent), Coded([]), price, named=OPTION)
    for word in ("--max-usd cannot be held", *words):
        assert word in str(error.value)


def test_bounds(tmp_path: Path) -> None:
    """Bytes in, all answers out; for code the dearest model that it names, or that has a price."""
    [short, long, many] = cases_of(["a", "ä" * 100, [{"role": "user", "content": "a"}]])
    agent = agent_of(tmp_path)
    one, two = (bound_of(agent, chat({"max_tokens": OUTPUT, "n": n}), price) for n in (1, 2))
    assert one(long) - one(short) == pytest.approx(199e-4)
    assert one(many) == one(short)
    assert two(short) - one(short) == pytest.approx(OUTPUT * 1e-3)
    both = bound_of(agent, chat({"max_tokens": 5, "max_completion_tokens": OUTPUT}), price)
    assert both(short) > OUTPUT * 1e-3
    own = {"input_per_mtok": 1, "output_per_mtok": 1}
    budgets = {"max_tokens_per_run": 1000}
    dear = agent_of(tmp_path, model=MODEL, pricing={"m-2026-01-01": own, "dear": own}, budgets=budgets)
    by_name = bound_of(dear, Coded([]), lambda usage: 7.0 if usage.model == "dear" else 1.0)
    assert by_name(short) == 7.0


def test_what_no_length_bounds_is_not_asked(tmp_path: Path) -> None:
    """A picture's tokens do not follow from the bytes of its address."""
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://x"}},
    ]
    [case] = cases_of([[{"role": "user", "content": content}]])
    bound = bound_of(agent_of(tmp_path), chat({"max_tokens": 5}), price)
    with pytest.raises(UserError, match="case 'c0' holds more than text"):
        bound(case)


CRASHES = """\
import json, os, sys
for n, line in enumerate(sys.stdin):
    request = json.loads(line)
    with open("asked.txt", "a") as file:
        file.write("x")
    if n:  # the second of each process
        os._exit(1)
    usage = {"provider": "openai", "model": "m", "input_tokens": 0, "output_tokens": 1000}
    print(json.dumps({"id": request["id"], "output": "x", "usage": usage}), flush=True)
"""
SINKS = """\
import os
def answer(text):
    with open("asked.txt", "a") as file:
        file.write("x")
    if text == 3:
        os._exit(1)
    usage = {"provider": "openai", "model": "m", "input_tokens": 0, "output_tokens": 1000}
    return {"output": "x", "usage": usage}
"""


@pytest.mark.parametrize("kind", ["command", "function"])
def test_what_is_asked_again_after_a_crash_is_counted(tmp_path: Path, kind: str) -> None:
    """Processes that die, so that cases are asked again, spend no more than the cap."""
    agent = agent_of(tmp_path, model=MODEL, budgets={"max_tokens_per_run": 1000})
    (tmp_path / "agent.py").write_text(CRASHES if kind == "command" else SINKS)
    given: dict[str, Any] = {"environ": dict(os.environ), "cwd": tmp_path, "out_dir": tmp_path / "out"}
    target: Target
    if kind == "command":
        target = CommandPool([sys.executable, "agent.py"], concurrency=4, **given)
    else:
        target = WorkerPool("agent:answer", sys.executable, threads=4, **given)
    cases = cases_of(range(60))
    by_id = {case.id: case for case in cases}
    bound = bound_of(agent, target, price)
    capped = Capped(target, 40.0, bound, PRICING, tmp_path / "out", by_id.__getitem__)
    (tmp_path / "out").mkdir()
    done = run_cases(capped, cases, tmp_path / "out", info_of(60), RunOptions(concurrency=4))
    asked = len((tmp_path / "asked.txt").read_text())
    spent = asked * bound(cases[0])
    assert 30 <= spent <= 40
    assert "would be passed" in done.stopped
