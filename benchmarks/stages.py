"""How long the stages after a run take, and what one crash costs a run: each beside its goal.

    make bench ARGS=--stages

Figures are of whole processes, interpreter start included, the median of `--rounds`. The runs are made up:
20,000 answers of 200 characters, and agents half of whose cases fail.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from time import perf_counter

SIX = {
    "exact_match": 0.1,
    "contains": 0.1,
    "regex": {"threshold": 0.1, "pattern": "[A-Z]"},
    "tool_calls": 0.1,
    "error_rate": 0.9,
    "latency_p95": 60,
}
ANSWER = "The parcel left our warehouse on Monday and should be with you within three working days. " * 2
CRASH = """\
import os, time
def answer(x):
    time.sleep(0.05)
    if x == "Question 1000" and {crash}:
        os._exit(1)
    return "A" + x.split()[1]
"""


def gatehouse(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Seconds and peak memory in MB of one command in `folder`."""
    command = [sys.executable, "-I", "-m", "gatehouse", *words]
    started = perf_counter()
    with Popen(command, cwd=folder, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout
        assert process.stderr
        said = process.stdout.read()
        wrong = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in codes, (said + wrong).decode()[-3000:]
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def prepare(folder: Path, name: str, cases: int, metrics: dict[str, object], code: str = "") -> None:
    """An agent file in `folder`, its function, and a golden set of `cases` that half of its answers meet."""
    (folder / "agents").mkdir(parents=True, exist_ok=True)
    agent = {
        "name": name,
        "version": 1,
        "model": {"provider": "ollama", "name": "llama3.1:8b"},
        "entrypoint": f"{name.replace('-', '_')}:answer",
        "evals": {"dataset": f"{name}.jsonl", "metrics": metrics},
    }
    (folder / "agents" / f"{name}.yaml").write_text(json.dumps({"agent": agent}))
    (folder / f"{name.replace('-', '_')}.py").write_text(code or f"def answer(x):\n    return {ANSWER!r}\n")
    with (folder / f"{name}.jsonl").open("w") as lines:
        for i in range(cases):
            case = {"id": f"c{i}", "input": f"Question {i}", "expected": f"A{i}" if i % 2 else ANSWER}
            lines.write(json.dumps(case | {"expected_tools": ["find_order"]}) + "\n")


def after_a_run(rounds: int) -> None:
    """20,000 stored runs through score with six metrics, verdict and cost-gate."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, "stored", 20_000, SIX)
        gatehouse(folder, "run", "--python", sys.executable, "--concurrency", "64")
        for stage, goal in (("score", "goal 2 s"), ("verdict", ""), ("cost-gate", "")):
            codes = (0,) if stage == "score" else (0, 1, 3)
            taken = [gatehouse(folder, stage, codes=codes) for _ in range(rounds)]
            show(f"{stage} of 20,000 runs, six metrics", taken, goal)


def scorecards(rounds: int) -> None:
    """The scorecard of 20 agents with 500 failing cases each."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for i in range(20):
            prepare(folder, f"agent-{i}", 1_000, {"exact_match": 0.9})
        gatehouse(folder, "eval-gate", "--python", sys.executable, "--concurrency", "64", codes=(1,))
        gatehouse(folder, "cost-gate", codes=(0, 3))
        failing = [json.loads(p.read_text())["failing"] for p in folder.glob(".gatehouse/*/eval.json")]
        assert failing == [500] * 20, failing
        taken = [gatehouse(folder, "scorecard") for _ in range(rounds)]
        show("scorecard of 20 agents with 500 failing cases each", taken, "goal 1 s")


def one_crash(rounds: int) -> None:
    """2,000 cases of a function at 64, one of which kills its process, beside the same without it."""
    with tempfile.TemporaryDirectory() as place:
        whole, crashed = [], []
        for _ in range(rounds):
            for into, crash in ((whole, False), (crashed, True)):
                folder = Path(place) / f"crash-{crash}"
                shutil.rmtree(folder, ignore_errors=True)
                prepare(folder, "worker", 2_000, {"contains": 0.5}, CRASH.format(crash=crash))
                into.append(gatehouse(folder, "run", "--python", sys.executable, "--concurrency", "64"))
                lines = (folder / ".gatehouse" / "worker" / "runs.jsonl").read_text().splitlines()
                guilty = [run["id"] for run in map(json.loads, lines) if run["error"]]
                assert guilty == ["c1000"] * crash, guilty
        show("run of 2,000 at 64", whole, "")
        more = median(seconds for seconds, _ in crashed) - median(seconds for seconds, _ in whole)
        show("the same with one crash", crashed, f"{more:+.2f} s, goal 1 s")


def show(what: str, taken: list[tuple[float, float]], goal: str) -> None:
    """One row: the median time, the largest memory."""
    seconds = median(seconds for seconds, _ in taken)
    peak = max(peak for _, peak in taken)
    print(f"{what:52}: {seconds:5.2f} s, peak {peak:3.0f} MB  {goal}".rstrip(), flush=True)
