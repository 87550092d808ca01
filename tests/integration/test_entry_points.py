"""One agent behind every kind of entry point, held to one table: what comes of it is the same.

Where a kind differs by design, the table says so: a connection that breaks is nobody's fault but the
infrastructure's, and so is whatever a model's provider does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Run, RunInfo, ToolCall, Usage, read_runs
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from tests.support import entry_points
from tests.support.agent_server import Reply, serve
from tests.support.projects import call
from tests.support.running import cases_of, info_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FULL = {
    "output": "done",
    "contexts": ["a passage", "ein Absatz: ü"],
    "tool_calls": [{"name": "refund", "arguments": {"usd": 5}, "approved": True}, {"name": "close"}],
    "usage": [
        {"provider": "p", "model": "m", "input_tokens": 30, "output_tokens": 4, "cached_tokens": 10},
        {"provider": "p", "model": "n", "input_tokens": 1, "output_tokens": 2},
    ],
    "iterations": 3,
}
UNICODE = 'line\nnext\r\n \u2028 \x00 \x1b[31m é 🦊 \u202e \ufeff </script> {"id": "c0"}'
FAULTS = {
    # what the case does: the fault of our own processes, of an address, of a model
    "crash": (("agent", "crash"), ("infrastructure", "connection"), ("infrastructure", "connection")),
    "garbage": (("agent", "garbage"), ("agent", "garbage"), ("infrastructure", "provider-error")),
    "flood": (("agent", "too large"), ("agent", "garbage"), ("infrastructure", "provider-error")),
    "error": (("agent", "error"), ("agent", "error"), ("infrastructure", "provider-error")),
    "hang": (("agent", "hang"), ("agent", "hang"), ("infrastructure", "timeout")),
}


def fault_of(kind: str, fault: str) -> tuple[str, str]:
    """Whose fault it is, and what it is called."""
    ours, url, chat = FAULTS[fault]
    return {"url": url, "chat": chat}.get(kind, ours)


def ask(
    kind: str, folder: Path, inputs: Sequence[Any], concurrency: int, deadline_s: float = 20.0
) -> tuple[RunSummary, list[Run]]:
    """Ask every input; the summary and the runs in their order."""
    (folder / "out").mkdir(exist_ok=True)
    options = RunOptions(concurrency, deadline_s)
    with entry_points.target_of(kind, folder, concurrency) as target:
        summary = run_cases(target, cases_of(inputs), folder / "out", info_of(len(inputs)), options)
    runs = {run.id: run for run in read_runs(folder / "out" / "runs.jsonl")}
    return summary, [runs[f"c{i}"] for i in range(len(inputs))]


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("kind", entry_points.KINDS)
def test_a_fault_is_its_own_case_s_and_the_others_are_answered(
    tmp_path: Path, kind: str, concurrency: int
) -> None:
    """Cases that crash, flood, write garbage or report an error fail alone, each with its own fault."""
    inputs: list[Any] = ["first"]
    for fault in FAULTS:
        if fault != "hang":
            inputs += [{"do": fault}, f"after {fault}", f"later than {fault}"]
    summary, runs = ask(kind, tmp_path, inputs, concurrency)
    judge(kind, inputs, runs)
    assert (summary.asked, summary.stopped, summary.notes) == (len(inputs), "", [])


@pytest.mark.parametrize("kind", entry_points.KINDS)
def test_a_hang_ends_at_its_deadline(tmp_path: Path, kind: str) -> None:
    """A case without an answer is given up at its deadline, and those beside and after it are answered."""
    inputs = ["first", {"do": "hang"}, "beside", "after"]
    started = time.monotonic()
    _, runs = ask(kind, tmp_path, inputs, 2, deadline_s=1.5)
    judge(kind, inputs, runs)
    assert 1.5 <= time.monotonic() - started < 10


def judge(kind: str, inputs: Sequence[Any], runs: Sequence[Run]) -> None:
    """Hold each run to the table: a text is its own answer, anything else has its fault."""
    for given, run in zip(inputs, runs, strict=True):
        if isinstance(given, str):
            assert (run.output, run.error) == (given, None)
            assert run.latency_s is not None
            assert 0 <= run.latency_s < 20  # a clock has its grain
        else:
            assert run.error, given
            assert (run.error.by, run.error.kind) == fault_of(kind, given["do"]), run.error
            assert run.output is None


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("kind", entry_points.KINDS)
def test_an_answer_arrives_as_it_was_given(tmp_path: Path, kind: str, concurrency: int) -> None:
    """Text in any script, a megabyte each way by all at once, and every part of a full reply."""
    large = [f"{i}" + "x" * 1_000_000 for i in range(3)]
    inputs = [UNICODE, "", *large, {"do": "full", "reply": FULL}]
    _, runs = ask(kind, tmp_path, inputs, concurrency)
    assert [run.output for run in runs[:-1]] == inputs[:-1]
    assert not any(run.error for run in runs)
    if kind == "chat":  # whose reply is the provider's, not the protocol's
        assert runs[0].usage == [Usage("vllm", "stub-1-2026-01-01", 57, 12, 7)]
        return
    full = runs[-1]
    assert (full.output, full.contexts, full.iterations) == (FULL["output"], FULL["contexts"], 3)
    assert full.tool_calls == [ToolCall("refund", {"usd": 5}, approved=True), ToolCall("close")]
    assert full.usage == [Usage("p", "m", 30, 4, 10), Usage("p", "n", 1, 2)]


@pytest.mark.parametrize("kind", ["sync", "python"])
def test_one_crash_among_two_thousand_convicts_one(tmp_path: Path, kind: str) -> None:
    """Only the guilty case has a fault; the others are answered, each with its own answer."""
    inputs: list[Any] = [*range(1234), {"do": "crash"}, *range(1235, 2000)]
    summary, runs = ask(kind, tmp_path, inputs, 16)
    assert [run.id for run in runs if run.error] == ["c1234"]
    assert all(run.output == i for i, run in enumerate(runs) if i != 1234)
    assert summary.stopped == ""


AGENT = """
agent:
  name: echo
  version: 1
  model: {{provider: ollama, name: "none:1"}}
  entrypoint: {entrypoint}
  evals: {{dataset: golden.jsonl, metrics: {{error_rate: 0}}}}
"""
SLOW = {
    "function": (
        "agent:answer",
        (
            "import os, time\nopen('pids', 'a').write(f'{os.getpid()} ')\n"
            "def answer(x):\n    open('asked', 'a').write(f'{x} ')\n    time.sleep(0.05)\n    return x\n"
        ),
    ),
    "command": (
        f"{{command: [{sys.executable}, agent.py]}}",
        # It does not end with its input, and leaves a child that would outlive it.
        (
            "import json, os, subprocess, sys, time\n"
            "child = subprocess.Popen(['sleep', '60'])\n"
            "open('pids', 'a').write(f'{os.getpid()} {child.pid} ')\n"
            "for line in sys.stdin:\n"
            "    r = json.loads(line)\n"
            "    open('asked', 'a').write(f\"{r['input']} \")\n"
            "    time.sleep(0.05)\n"
            "    print(json.dumps({'id': r['id'], 'output': r['input']}), flush=True)\n"
            "time.sleep(60)\n"
        ),
    ),
}


def gatehouse(folder: Path) -> subprocess.Popen[bytes]:
    """`gatehouse run` in `folder`, under way."""
    command = [sys.executable, "-m", "gatehouse", "run", "--agent", "agent.yaml", "--out", "out"]
    command += ["--python", sys.executable, "--concurrency", "3"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_until(true: Any) -> None:
    """Until `true()` is; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: str) -> bool:
    """Whether a process runs."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, check=False).stdout
    return shown.strip(b" \nZ") != b""


@pytest.mark.parametrize("kind", SLOW)
def test_a_run_that_is_ended_leaves_nothing_and_is_finished_by_the_next(tmp_path: Path, kind: str) -> None:
    """After SIGTERM no process of the agent is left, and the next run asks only what has no answer yet."""
    entrypoint, source = SLOW[kind]
    (tmp_path / "agent.yaml").write_text(AGENT.format(entrypoint=entrypoint))
    (tmp_path / "agent.py").write_text(source)
    golden = "".join(json.dumps({"id": f"c{i}", "input": i, "expected": i}) + "\n" for i in range(60))
    (tmp_path / "golden.jsonl").write_text(golden)
    runs, asked = tmp_path / "out/runs.jsonl", tmp_path / "asked"
    with gatehouse(tmp_path) as process:
        wait_until(lambda: runs.exists() and runs.read_bytes().count(b"\n") > 5)
        os.kill(process.pid, signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=pid: not lives(pid))
    kept = {run.output for run in read_runs(runs)}
    assert 5 < len(kept) < 60
    asked.unlink()
    with gatehouse(tmp_path) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert {int(word) for word in asked.read_text().split()} == set(range(60)) - kept
    assert {run.output for run in read_runs(runs)} == set(range(60))
    assert RunInfo.read(tmp_path / "out/run.json").complete


def project(folder: Path, entrypoint: str) -> None:
    """An agent behind that entry point, and one case."""
    (folder / "agents").mkdir()
    (folder / "agents/echo.yaml").write_text(AGENT.format(entrypoint=entrypoint))
    (folder / "golden.jsonl").write_text('{"id": "one", "input": "q", "expected": "yes"}\n')


def test_a_path_that_is_found_in_no_reply_is_a_warning_of_the_verdict(tmp_path: Path) -> None:
    """The gate passes, and says which part it never saw: in the log, in eval.json and in the scorecard."""
    told = "entrypoint.reply.contexts (docs) was found in 0 of 1 replies; the reply has the keys answer"
    with serve(Reply({"answer": "yes"})) as url:
        project(tmp_path, f"{{url: '{url}', reply: {{output: answer, contexts: docs}}}}")
        done = call(tmp_path, "eval-gate", env={"NO_PROXY": "127.0.0.1"})
    assert done.code == 0, done.err
    assert f"warning: agents/echo.yaml: echo: {told}" in done.out + done.err
    folder = tmp_path / ".gatehouse/echo"
    assert told in str(json.loads((folder / "eval.json").read_bytes())["warnings"])
    call(tmp_path, "scorecard")
    assert "was found in 0 of 1 replies" in (tmp_path / ".gatehouse/scorecard.md").read_text()


def test_a_program_that_is_missing_is_told_at_its_line(tmp_path: Path) -> None:
    """As every other mistake of the agent file."""
    project(tmp_path, "{command: no-such-desk --fast}")
    done = call(tmp_path, "eval-gate")
    assert done.code == 2
    assert 'agents/echo.yaml:6: no program "no-such-desk" is on PATH.' in done.err
    assert "    ~" in done.err


def test_a_run_that_was_asked_whole_in_vain_misses_no_answer(tmp_path: Path) -> None:
    """It does not say that nothing is missing."""
    with serve(Reply({"error": "no"}, status=401)) as url:
        project(tmp_path, f"{{url: '{url}'}}")
        lines = [json.dumps({"id": f"c{i}", "input": "q", "expected": "yes"}) for i in range(25)]
        (tmp_path / "golden.jsonl").write_text("\n".join(lines) + "\n")
        done = call(tmp_path, "run", "--concurrency", "32", env={"NO_PROXY": "127.0.0.1"})
    assert done.code == 3
    assert "all 25 questions were asked, in vain: the first 20 answers were all the same fault" in done.err
