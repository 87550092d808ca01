"""Commands that misbehave in every way, in real processes; what entry points share is tested once for all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Fault, Run, read_runs
from gatehouse.errors import InfrastructureError, UserError
from gatehouse.evals.command_pool import HOPELESS_AFTER, find_program
from gatehouse.evals.run import RunOptions, RunSummary, run_cases
from gatehouse.evals.worker_pool import StartError
from tests.support.entry_points import command_pool
from tests.support.running import cases_of, info_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOP = """
import json, os, signal, subprocess, sys, time
open("pids", "a").write(f"{os.getpid()} ")
def say(text, file=sys.stdout): print(text, file=file, flush=True)
def reply_to(r, **reply): return json.dumps({"id": r["id"], **(reply or {"output": r["input"]})})
def answer(r, **reply): say(reply_to(r, **reply))
for line in sys.stdin:
    r = json.loads(line)
    x = r["input"]
"""


def ask(
    folder: Path,
    body: str,
    inputs: Sequence[Any],
    concurrency: int = 1,
    *,
    deadline_s: float = 10.0,
    repeats: int = 1,
    run_deadline_s: float = 60.0,
) -> tuple[RunSummary, list[Run]]:
    """Ask a Python program that does `body` for each request `r` with input `x`; the runs in order."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    (folder / "agent.py").write_text(LOOP + lines)
    pool = command_pool((sys.executable, "agent.py"), folder, concurrency)
    options = RunOptions(concurrency, deadline_s, run_deadline_s)
    cases, info = cases_of(inputs), info_of(len(inputs), repeats=repeats)
    summary = run_cases(pool, cases, folder / "out", info, options)
    return summary, sorted(
        read_runs(folder / "out" / "runs.jsonl"), key=lambda run: (int(run.id[1:]), run.repeat)
    )


def pids(folder: Path) -> list[str]:
    """The processes that were started."""
    file = folder / "pids"
    return file.read_text().split() if file.exists() else []


def lives(pid: str) -> bool:
    """Whether a process runs."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, check=False).stdout
    return shown.strip(b" \nZ") != b""


def faults(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """By case: whose fault, and which."""
    return {run.id: (run.error.by, run.error.kind) for run in runs if run.error}


def test_a_request_says_all_that_the_protocol_has(tmp_path: Path) -> None:
    """Id, input, repeat and deadline; each repeat is asked."""
    _, runs = ask(tmp_path, "answer(r, output=r)", [{"a": [1]}], repeats=2)
    assert [run.output for run in runs] == [
        {"id": "c0", "input": {"a": [1]}, "repeat": repeat, "deadline_s": 10.0} for repeat in (0, 1)
    ]
    assert all(0 < (run.latency_s or 0) < 10 for run in runs)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_processes_are_kept_from_case_to_case(tmp_path: Path, concurrency: int) -> None:
    """Ten cases start no more processes than are asked at once."""
    _, runs = ask(tmp_path, "time.sleep(0.01); answer(r)", range(10), concurrency)
    assert [run.output for run in runs] == list(range(10))
    assert 1 <= len(pids(tmp_path)) <= concurrency


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("sys.exit(3)", "the agent's process ended with exit code 3\nabout to fail on guilty"),
        ("os.kill(0, signal.SIGSEGV)", "the agent's process was killed by SIGSEGV\nabout to fail on guilty"),
        ("sys.exit()", "the agent's process ended with exit code 0\nabout to fail on guilty"),
    ],
)
def test_a_crash_is_told_with_its_own_last_words(tmp_path: Path, end: str, told: str) -> None:
    """The message holds how the process ended and what it printed, not what others printed meanwhile."""
    body = f"""
if x == "guilty":
    time.sleep(0.1); say("about to fail on guilty", sys.stderr); {end}
say("noise", sys.stderr); time.sleep(0.02); answer(r)
"""
    _, runs = ask(tmp_path, body, ["a", "guilty", *"bcdefgh"], 2)
    assert runs[1].error == Fault("agent", "crash", told)
    assert faults(runs) == {"c1": ("agent", "crash")}


BREACHES = {
    "no JSON": ('say("thinking...")', "no JSON object: thinking..."),
    "no object": ('say("[1]")', "no JSON object: [1]"),
    "an empty line": ('say("")', "no JSON object"),
    "no UTF-8": ('sys.stdout.buffer.write(b"\\xff\\n"); sys.stdout.flush()', "no JSON object"),
    "too deep": ('say("[" * 100000)', "no JSON object: it is nested too deeply. In [[["),
    "another id": ('say(json.dumps({"id": "c0", "output": 1}))', '"id" of its reply is not that'),
    "a key twice": (
        """say(f'{{"id": "{r["id"]}", "output": "no", "output": "yes"}}')""",
        'no JSON object: key "output" is given twice in one object. In {"id": ',
    ),
    "no id": ('say(json.dumps({"output": 1}))', '"id" of its reply is not that'),
    "an unknown key": (
        "answer(r, output=1, tool_call=[])",
        'does not know: "tool_call"; did you mean "tool_calls"?',
    ),
    "no output": ("answer(r, iterations=1)", 'neither "output" nor "error"'),
    "wrong types": ("answer(r, output=1, iterations=-1)", '"iterations" is not a count'),
    "a wrong error": ("answer(r, error=5)", '"error" is neither a text nor an object'),
    "not a number": ("answer(r, output=float('nan'))", "no JSON object: NaN is not"),
    "an escape": ("say('\\x1b[2J\\u202eevil')", "no JSON object: evil"),
    "scores of its own": ("answer(r, output=1, own_scores={'m': {'value': 1}})", "does not know"),
}


@pytest.mark.parametrize(("body", "message"), BREACHES.values(), ids=BREACHES)
def test_what_breaks_the_protocol_is_garbage(tmp_path: Path, body: str, message: str) -> None:
    """It is the agent's fault in that case alone, with what is wrong, harmless for a terminal."""
    _, runs = ask(tmp_path, f"if x == 'guilty': {body}\nelse: answer(r)", ["a", "guilty", "b"])
    assert faults(runs) == {"c1": ("agent", "garbage")}
    assert runs[1].error
    assert message in runs[1].error.message
    assert "\x1b" not in runs[1].error.message
    assert [run.output for run in runs] == ["a", None, "b"]


def test_an_error_of_its_own_may_be_an_object(tmp_path: Path) -> None:
    """A command may say whose fault it was, or report an error beside an output."""
    body = """
answer(r, **[
    {"error": {"by": "infrastructure", "kind": "quota", "message": "none left"}},
    {"error": "gave up", "output": "half"},
][x])
"""
    _, runs = ask(tmp_path, body, [0, 1])
    assert [run.error for run in runs] == [
        Fault("infrastructure", "quota", "none left"),
        Fault("agent", "error", "gave up"),
    ]
    assert runs[1].output == "half"


UNASKED = {
    "at once": (
        """say(reply_to(r) + (x == 1) * '\\n{"id": "c2", "output": "stolen"}')""",
        "when nobody had asked",
    ),
    "in pieces": (
        """say(reply_to(r) + (x == 1) * '\\n{"id":')\nif x == 1: time.sleep(0.1); say('"c2"}')""",
        "when nobody had asked",
    ),
    "while the next is under way": (
        """answer(r)\nif x == 1: time.sleep(0.1); say('{"id": "c1", "output": "stolen"}')""",
        "a fresh one answered",
    ),
}


@pytest.mark.parametrize(("body", "note"), UNASKED.values(), ids=UNASKED)
def test_a_line_that_nobody_asked_for_answers_no_case(tmp_path: Path, body: str, note: str) -> None:
    """A second line is never the next case's answer, nor its fault; a note tells of it."""
    summary, runs = ask(tmp_path, body, [0, 1, 2, 3])
    assert [run.output for run in runs] == [0, 1, 2, 3]
    assert not any(run.error for run in runs)
    assert [note for told in summary.notes if note in told]
    assert len(pids(tmp_path)) == 2


def test_what_lies_in_the_pipe_is_seen_before_a_case_is_asked(tmp_path: Path) -> None:
    """A line that came while nobody looked makes its process no choice for the next case."""

    async def scene() -> Run:
        pool = command_pool((sys.executable, "agent.py"), tmp_path, 1)
        await pool.open()
        first, second = cases_of([0, 1])
        assert (await pool.ask(first, 0, 10)).output == 0
        time.sleep(0.3)  # noqa: ASYNC251 the event loop is to miss it
        run = await pool.ask(second, 0, 10)
        await pool.close()
        return run

    late = """    if x == 0: time.sleep(0.1); say('{"id": "c1", "output": "stolen"}')\n"""
    (tmp_path / "agent.py").write_text(f"{LOOP}    answer(r)\n{late}")
    assert asyncio.run(scene()).output == 1


def test_a_command_that_ends_after_each_answer_is_started_for_each(tmp_path: Path) -> None:
    """A script that answers one request and ends is no fault of any case, and needs no note."""
    summary, runs = ask(tmp_path, "answer(r); break", range(6), 2)
    assert [run.output for run in runs] == list(range(6))
    assert not any(run.error for run in runs)
    assert summary.notes == []


def test_a_late_death_is_not_the_next_case_s_fault(tmp_path: Path) -> None:
    """What one case left behind and kills the next one's process is told in a note; both are answered."""
    body = """
if x == 0:
    import threading
    threading.Timer(0.1, os._exit, [1]).start()
elif len(open("pids").read().split()) == 1: time.sleep(5)
answer(r)
"""
    summary, runs = ask(tmp_path, body, [0, 1, 2])
    assert [run.output for run in runs] == [0, 1, 2]
    assert "failed 1 cases that a fresh one answered" in summary.notes[0]


def test_what_fills_its_reply_or_its_log_has_an_end(tmp_path: Path) -> None:
    """A line without an end is the case's fault; of standard error a megabyte is kept."""
    body = """
while x == "line": sys.stdout.write("x" * 100_000)
if x == "log": sys.stderr.write("y" * 3_000_000); sys.stderr.flush()
answer(r)
"""
    _, runs = ask(tmp_path, body, ["line", "log", "a"], 2)
    assert faults(runs) == {"c0": ("agent", "too large")}
    log = (tmp_path / "out" / "worker.log").read_bytes()
    assert b"left out" in log[-100:]
    assert len(log) < 2**20 + 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.close(1); time.sleep(60)", "closed its standard output and did not answer"),
        ("answer(r) if x == 'a' else (os.close(1), time.sleep(60))", "closed its standard output"),
    ],
)
def test_a_process_that_shuts_us_out_is_not_waited_for(tmp_path: Path, body: str, told: str) -> None:
    """A closed channel is a crash at once, not a hang at the deadline."""
    started = time.monotonic()
    _, runs = ask(tmp_path, body, ["a", "b"], deadline_s=30)
    assert runs[1].error
    assert runs[1].error.kind == "crash"
    assert told in runs[1].error.message
    assert time.monotonic() - started < 15


def test_a_process_that_takes_no_more_requests_is_replaced(tmp_path: Path) -> None:
    """One that closes its standard input answers what it has read, and the next case gets another."""
    body = "os.close(0); time.sleep(0.05); answer(r); time.sleep(60)"
    summary, runs = ask(tmp_path, body, range(3))
    assert [run.output for run in runs] == [0, 1, 2]
    assert summary.notes == []
    assert len(pids(tmp_path)) == 3


def test_a_request_that_is_not_read_is_a_crash(tmp_path: Path) -> None:
    """A process that closes its input before it has read all of a request is not waited for."""
    (tmp_path / "agent.py").write_text("import os, time\nos.close(0)\ntime.sleep(60)\n")
    pool = command_pool((sys.executable, "agent.py"), tmp_path)
    run_cases(pool, cases_of(["x" * 500_000]), tmp_path / "out", info_of(1), RunOptions())
    [run] = read_runs(tmp_path / "out" / "runs.jsonl")
    assert run.error
    assert run.error.message == "the agent's process closed its standard input and did not read the request"


ENDS = {
    "it hangs": "time.sleep(60)",
    "it crashes": "os._exit(1)",
    "it is deaf": "os.close(0); time.sleep(60)",
    "it answers": "answer(r)",
    "it answers and ends": "answer(r); sys.exit()",
    "it ignores signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN); answer(r); time.sleep(60)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_nothing_survives_the_run(tmp_path: Path, end: str) -> None:
    """Processes that hang, die or do not end, their children and their children's children are gone."""
    apart = "exec >/dev/null 2>&1;" if "exit()" in end else ""  # else it holds the pipes of its parent
    body = f"""
child = subprocess.Popen(["sh", "-c", "{apart} sleep 61 & echo $! >> pids; wait"])
open("pids", "a").write(f"{{child.pid}} "); time.sleep(0.05)
{end}
"""
    ask(tmp_path, body, [1, 2], deadline_s=0.5)
    deadline = time.monotonic() + 5
    assert len(pids(tmp_path)) >= 3
    while alive := [pid for pid in pids(tmp_path) if lives(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def test_a_run_that_is_out_of_time_kills_what_is_under_way(tmp_path: Path) -> None:
    """At the run's deadline its processes end, and nothing is blamed or noted."""
    summary, runs = ask(
        tmp_path, "time.sleep(x); answer(r)", [0, 0, 60, 60], 2, deadline_s=50, run_deadline_s=1
    )
    assert len(runs) == summary.asked == 2
    assert summary.notes == []
    assert not [pid for pid in pids(tmp_path) if lives(pid)]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_process_that_stops_listening_after_an_answer_costs_no_case(
    tmp_path: Path, concurrency: int
) -> None:
    """It closes its standard input and lives on: a request on its way there is asked again in a fresh one."""
    body = "answer(r); time.sleep(0.02); os.close(0); time.sleep(60)"
    _, runs = ask(tmp_path, body, range(4), concurrency)
    assert ([run.output for run in runs], faults(runs)) == ([0, 1, 2, 3], {})


HOPELESS = {
    "it ends": (
        "import sys; sys.exit('no such module: sk-leaked')",
        "crash, the agent's process ended with exit code 1.",
    ),
    "it is no agent": (
        "print('Hello! Listening with sk-leaked')",
        "garbage, it wrote a line that is no JSON object.",
    ),
    "its keys are its own": (
        """import sys
for line in sys.stdin: print('{"sk-leaked": 1, "sk-leaked": 2}', flush=True)""",
        "garbage, it wrote a line that is no JSON object.",
    ),
    "it does not flush": (
        "import sys\nfor line in sys.stdin: print(line.replace('input', 'output'))",
        "hang, no answer within 0.5 s. Nothing has come on its standard output yet.",
    ),
}


@pytest.mark.parametrize(("source", "told"), HOPELESS.values(), ids=HOPELESS)
def test_a_command_that_answers_nothing_is_given_up(tmp_path: Path, source: str, told: str) -> None:
    """After a few cases the run stops: one message with what a reply is; what it said is in its log."""
    (tmp_path / "agent.py").write_text(f"open('pids', 'a').write('x ')\n{source}\n")
    pool = command_pool((sys.executable, "agent.py"), tmp_path, 2)
    options = RunOptions(2, 0.5 if "0.5 s" in told else 10)
    with pytest.raises(StartError) as raised:
        run_cases(pool, cases_of(range(2000)), tmp_path / "out", info_of(2000), options)
    message = str(raised.value)
    assert told in message
    assert f"answered none of the first {HOPELESS_AFTER} cases" in message
    assert "flushed at once" in message
    log = tmp_path / "out" / "worker.log"
    assert str(log) in message
    assert "sk-leaked" not in message
    assert "sk-leaked" not in source or "sk-leaked" in log.read_text()
    assert len(pids(tmp_path)) <= HOPELESS_AFTER + 2


def test_a_hang_of_one_that_has_answered_is_no_matter_of_flushing(tmp_path: Path) -> None:
    """Nothing is said of it."""
    _, runs = ask(tmp_path, "answer(r) if x == 1 else time.sleep(60)", [1, 2], deadline_s=0.5)
    assert runs[1].error == Fault("agent", "hang", "no answer within 0.5 s")


def test_a_command_that_answers_late_is_not_given_up(tmp_path: Path) -> None:
    """Its first cases may fail; once one is answered, however many fail after it, all are asked."""
    body = "answer(r) if x == 3 else os._exit(1)"
    summary, runs = ask(tmp_path, body, range(12))
    assert [run.output for run in runs if not run.error] == [3]
    assert (summary.asked, summary.agent_faults) == (12, 11)


def test_a_program_is_found_as_a_shell_would(tmp_path: Path) -> None:
    """A word with a slash is a path from the repository's root, any other a program on its PATH."""
    for folder in ("bin", "tools"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "desk").write_text("#!/bin/sh\n")
        (tmp_path / folder / "desk").chmod(0o755)
    environ = {"PATH": str(tmp_path / "bin")}
    assert find_program("desk", environ, tmp_path) == str(tmp_path / "bin/desk")
    assert find_program("tools/desk", environ, tmp_path) == str(tmp_path / "tools/desk")
    assert find_program("./tools/desk", environ, tmp_path) == str(tmp_path / "tools/desk")
    assert find_program(str(tmp_path / "bin/desk"), environ, tmp_path) == str(tmp_path / "bin/desk")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("parcel-desk", 'no program "parcel-desk" is on PATH'),
        ("./missing", "there is no program ./missing"),
        ("folder/", "there is no program folder/"),
        ("./plain", "`chmod \\+x ./plain`"),
        ("./no-shebang", "cannot be started: Exec format error"),
        ("./no-interpreter", "cannot be started: No such file"),
        ("a\0b", "no program"),
    ],
)
def test_a_program_that_cannot_run_is_the_user_s_to_mend(tmp_path: Path, word: str, message: str) -> None:
    """No case is asked; the message says what is wrong and what to do."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for name, source in (("no-shebang", b"\x01\x02\x03\x04"), ("no-interpreter", b"#!/no/such/program\n")):
        (tmp_path / name).write_bytes(source)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(UserError, match=message) as raised:
        run_cases(command_pool((word,), tmp_path), cases_of("ab"), tmp_path / "out", info_of(2), RunOptions())
    [problem] = raised.value.problems
    assert problem.repair


def test_too_many_processes_are_the_machine_s_limit(tmp_path: Path) -> None:
    """Where no further process can be had, the message names the option that mends it."""
    (tmp_path / "agent.py").write_text(LOOP + "    time.sleep(1); answer(r)\n")
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from gatehouse.evals.run import RunOptions, run_cases\n"
        "from tests.support.entry_points import command_pool\n"
        "from tests.support.running import cases_of, info_of\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))\n"
        "folder = Path(sys.argv[1])\n"
        "pool = command_pool((sys.executable, 'agent.py'), folder, 64)\n"
        "run_cases(pool, cases_of(range(64)), folder / 'out', info_of(64), RunOptions(64))\n"
    )
    root = __file__.rpartition("/tests/")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=root, capture_output=True, text=True, check=False
    )
    assert InfrastructureError.__name__ in done.stderr
    assert "Too many open files. Lower --concurrency." in done.stderr
    assert not [pid for pid in pids(tmp_path) if lives(pid)]


def test_words_reach_the_program_as_they_are(tmp_path: Path) -> None:
    """No shell reads them, and the environment is the one that was given."""
    (tmp_path / "agent.py").write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    output = [sys.argv[1:], os.environ.get('DESK'), os.getcwd()]\n"
        "    print(json.dumps({'id': json.loads(line)['id'], 'output': output}), flush=True)\n"
    )
    words = ("$HOME", "a b", "*", "; exit 1", "ü")
    pool = command_pool((sys.executable, "agent.py", *words), tmp_path, DESK="north")
    run_cases(pool, cases_of(["a"]), tmp_path / "out", info_of(1), RunOptions())
    [run] = read_runs(tmp_path / "out" / "runs.jsonl")
    assert run.output == [list(words), "north", str(tmp_path.resolve())]
    assert json.loads(json.dumps(run.output))
