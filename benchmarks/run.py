"""How long `gatehouse run` takes beside the limit N x latency / concurrency, in CPU a case, and in memory.

    make bench
    npm install --prefix /tmp/peer promptfoo node@22
    PATH=/tmp/peer/node_modules/.bin:$PATH make bench ARGS="--promptfoo promptfoo"

Each figure is of the whole process, interpreter start included, the median of `--rounds`. CPU a case is the
difference between a long and a short run, both processes together, so that starting does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import stages

LATENCY_S = 0.05
WARM_UP = 20

FUNCTIONS = {
    "chat": "",
    "sync": "import time\ndef answer(x):\n    time.sleep(0.05)\n    return 'A' + x.split()[1]\n",
    "async": (
        "import asyncio\nasync def answer(x):\n    await asyncio.sleep(0.05)\n    return 'A' + x.split()[1]\n"
    ),
}
"""What is asked: the stub by HTTP, or a function that waits as long as the stub."""


@dataclass(frozen=True)
class Measured:
    """One run of the command: seconds by the clock and of CPU, and its largest process in MB."""

    seconds: float
    cpu_s: float
    peak_mb: float


def prepare(folder: Path, target: str, url: str, cases: int) -> None:
    """An agent file and a golden set of `cases` questions in `folder`."""
    agent = {
        "name": "benchmark",
        "version": "1",
        "model": {"provider": "openai", "name": "stub-1", "base_url": url},
    }
    agent["system_prompt"] = "prompt.md"
    (folder / "prompt.md").write_text("Answer with the letter A and the number of the question.\n")
    if FUNCTIONS[target]:
        (folder / "benchmark_agent.py").write_text(FUNCTIONS[target])
        agent["entrypoint"] = "benchmark_agent:answer"
    (folder / "agent.yaml").write_text(json.dumps({"agent": agent}))
    with (folder / "golden.jsonl").open("w") as lines:
        lines.writelines(
            json.dumps({"id": f"c{i}", "input": f"Question {i}", "expected": f"A{i}"}) + "\n"
            for i in range(cases)
        )


def measure(folder: Path, concurrency: int, cases: int) -> Measured:
    """Run the command once in `folder`, and check that every case was answered right."""
    shutil.rmtree(folder / ".gatehouse", ignore_errors=True)
    command = [
        sys.executable,
        "-I",
        "-m",
        "gatehouse",
        "run",
        "--agent",
        "agent.yaml",
        "--dataset",
        "golden.jsonl",
    ]
    command += ["--python", sys.executable, "--concurrency", str(concurrency)]
    started = perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise SystemExit(said)
    # Line by line: what this process holds when it starts the next one counts as that one's memory.
    with next((folder / ".gatehouse").rglob("runs.jsonl")).open() as runs:
        right = sum(run["output"] == f"A{run['id'][1:]}" for run in map(json.loads, runs))
    assert right == cases, f"{right} of {cases} right"
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / per_mb)


def compare(target: str, url: str, cases: int, concurrency: int, rounds: int) -> None:
    """Print one row: time, its ratio to the limit, CPU a case, memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, target, url, WARM_UP)
        start = median(measure(folder, concurrency, WARM_UP).cpu_s for _ in range(rounds))
        prepare(folder, target, url, cases)
        results = [measure(folder, concurrency, cases) for _ in range(rounds)]
    seconds = median(r.seconds for r in results)
    limit = cases * LATENCY_S / concurrency
    cpu_ms = (median(r.cpu_s for r in results) - start) / (cases - WARM_UP) * 1000
    peak = max(r.peak_mb for r in results)
    print(
        f"{target:6} {cases:6} at {concurrency:3}: {seconds:6.2f} s = {seconds / limit:4.2f} x the limit of "
        f"{limit:5.2f} s, {cpu_ms:5.3f} ms CPU a case, peak {peak:3.0f} MB",
        flush=True,
    )


def beside_promptfoo(promptfoo: str, url: str, cases: int, concurrency: int, rounds: int) -> None:
    """Print the times of the same questions, asked and compared by promptfoo and by our gate, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, "chat", url, cases)
        tests = [
            {"vars": {"q": f"Question {i}"}, "assert": [{"type": "equals", "value": f"A{i}"}]}
            for i in range(cases)
        ]
        provider = {"id": "openai:chat:stub-1", "config": {"apiBaseUrl": url, "apiKey": "benchmark"}}
        config = {"prompts": ["{{q}}"], "providers": [provider], "tests": tests}
        (folder / "promptfoo.json").write_text(json.dumps(config))
        options = ["--no-cache", "--no-table", "--no-progress-bar", "--no-write", "-o", "theirs.json"]
        theirs_command = [promptfoo, "eval", "-c", "promptfoo.json", "-j", str(concurrency), *options]
        ours_command = [sys.executable, "-I", "-m", "gatehouse", "eval-gate", "--agent", "agent.yaml"]
        ours_command += ["--dataset", "golden.jsonl", "--threshold", "exact_match=1"]
        ours_command += ["--concurrency", str(concurrency)]
        quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
        environment = os.environ | quiet | {"PROMPTFOO_CONFIG_DIR": str(folder / "config")}
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(clock(theirs_command, folder, environment))
            passed = json.loads((folder / "theirs.json").read_text())["results"]["stats"]["successes"]
            assert passed == cases, f"promptfoo: {passed} of {cases} passed"
            shutil.rmtree(folder / ".gatehouse", ignore_errors=True)
            ours.append(clock(ours_command, folder, environment))
    print(
        f"promptfoo {cases:5} at {concurrency:3}: {median(theirs):6.2f} s, eval-gate {median(ours):6.2f} s, "
        f"ratio {median(theirs) / median(ours):.2f}",
        flush=True,
    )


def clock(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that a command takes; it has to succeed."""
    started = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-2000:]
    return perf_counter() - started


def built_stub(folder: str) -> str:
    """The stub model, built from its source beside this file."""
    stub = str(Path(folder) / "stub")
    subprocess.run(["go", "build", "-o", stub, str(Path(__file__).with_name("stub_model.go"))], check=True)
    return stub


def main() -> None:
    """Every target at the sizes that its goal names, and a peer where one is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--promptfoo", help="the peer's program: measured beside us, in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", choices=FUNCTIONS, action="append", help="default: all")
    parser.add_argument(
        "--stages", action="store_true", help="what comes after a run, and one crash, instead"
    )
    options = parser.parse_args()
    if options.stages:
        stages.after_a_run(options.rounds)
        stages.scorecards(options.rounds)
        stages.one_crash(options.rounds)
        return
    os.environ["OPENAI_API_KEY"] = "benchmark"
    os.environ["NO_PROXY"] = "127.0.0.1"
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [built_stub(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as stub,
    ):
        assert stub.stdin
        assert stub.stdout
        url = stub.stdout.readline().strip()
        for target in options.target or FUNCTIONS:
            compare(target, url, 500, 16, options.rounds)
            compare(target, url, 2_000, 64, options.rounds)
            compare(target, url, 20_000, 64, 1)
            compare(target, url, 20_000, 256, options.rounds)
            compare(target, url, 100_000, 256, 1)
        if options.promptfoo:
            program = shutil.which(options.promptfoo) or parser.error(f"no program {options.promptfoo}")
            beside_promptfoo(program, url, 500, 16, options.rounds)
            beside_promptfoo(program, url, 2_000, 64, options.rounds)
        stub.stdin.close()


if __name__ == "__main__":
    main()
