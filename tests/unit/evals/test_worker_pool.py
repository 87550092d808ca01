"""Users' functions that misbehave in every way, in real processes."""

from __future__ import annotations

import os
import py_compile
import sys
import time
from pathlib import Path

import pytest

from gatehouse.agent.protocol import Fault
from gatehouse.errors import UserError
from gatehouse.evals.run import RunOptions, run_cases
from gatehouse.evals.worker import Answer
from gatehouse.evals.worker_pool import StartError, WorkerPool, parse_reply
from tests.support.running import ask_function, cases_of, info_of, pool_of

FAULTS = [
    ("raise ValueError('no such order')", "exception", "ValueError: no such order"),
    ("import sys; sys.exit(7)", "exit", "SystemExit: 7"),
    ("import os; os._exit(7)", "crash", "exit code 7"),
    ("import ctypes; ctypes.string_at(0)", "crash", "killed by SIGSEGV"),
    ("import os; os.closerange(3, 200)", "crash", "exit code"),
    ("return float('nan')", "garbage", "not JSON"),
    ("return object()", "garbage", "returned object"),
    ("return '\\ud800'", "garbage", "surrogates"),
    ("return {'output': 'x', 'iterations': -1}", "garbage", '"iterations" is not a count'),
    ("return {'output': 'x', 'contexts': 'text'}", "garbage", '"contexts" is not a list'),
    ("return {'output': 'x', 'error': 5}", "garbage", '"error" is neither'),
    ("return {'output': None, 'error': 'gave up'}", "error", "gave up"),
    (
        "import functools; return functools.reduce(lambda a, _: [a], range(300), 1)",
        "garbage",
        "nested deeper",
    ),
    ("return 'x' * 50_000_000", "too large", "the reply has 50000002 bytes"),
]
"""What the guilty case does, and the fault it gets."""

HARMLESS = [
    "print('noise'); print('{\"id\": 1, \"value\": 0}')",
    "import os; os.write(1, b'\\x00garbage\\n' * 100)",
    "import sys; sys.stderr.write('flood' * 1_000_000)",
    "import subprocess; subprocess.Popen(['sleep', '60'])",
    "import os\n    if os.fork() == 0: return 'from the fork'",
    "import os, time\n    if os.fork() == 0: time.sleep(60)",
    "import sys; sys.stdin.read()",
    "import threading; threading.Thread(target=lambda: 1 / 0).start()",
]
"""What a case may do without harm to any."""


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(("body", "fault", "message"), FAULTS)
def test_a_fault_is_its_own_case_s_and_the_others_are_answered(
    tmp_path: Path, body: str, fault: str, message: str, kind: str
) -> None:
    """Whatever one case does to its process, it alone fails, with its reason."""
    source = f"{kind} answer(x):\n    if x != 'guilty': return x\n    {body}\n"
    inputs = ["a", "b", "c", "guilty", "d", "e", "f", "g", "h"]
    summary, runs = ask_function(tmp_path, source, inputs)
    guilty = runs.pop("c3")
    assert guilty.error is not None
    assert (guilty.error.by, guilty.error.kind) == ("agent", fault)
    assert message in guilty.error.message
    assert [run.output for _, run in sorted(runs.items())] == [x for x in inputs if x != "guilty"]
    assert (summary.agent_faults, summary.not_asked, summary.notes) == (1, 0, [])


@pytest.mark.parametrize("body", HARMLESS)
def test_what_is_only_noise_changes_no_answer(tmp_path: Path, body: str) -> None:
    """Prints, children and forks neither reach the channel nor hold a run up."""
    started = time.monotonic()
    source = f"def answer(x):\n    {body}\n    return x\n"
    _, runs = ask_function(tmp_path, source, ["a", "b", "c"])
    assert [runs[f"c{i}"].output for i in range(3)] == ["a", "b", "c"]
    assert time.monotonic() - started < 20


def test_prints_are_kept_up_to_a_megabyte(tmp_path: Path) -> None:
    """What the agent prints lies in worker.log, whose size has an end."""
    source = "def answer(x):\n    print('line', x)\n    print('x' * 3_000_000)\n    return x\n"
    ask_function(tmp_path, source, ["first"])
    log = (tmp_path / "out" / "worker.log").read_bytes()
    assert log.startswith(b"line first\n")
    assert b"left out" in log[-100:]
    assert len(log) < 2**20 + 200


def test_the_last_words_of_a_crash_are_told(tmp_path: Path) -> None:
    """What a case printed before it ended its process is in its message, flushed or not."""
    source = "import os\ndef answer(x):\n    print('order 7 is void')\n    os._exit(1)\n"
    _, runs = ask_function(tmp_path, source, ["a"])
    assert runs["c0"].error == Fault(
        "agent", "crash", "the agent's process ended with exit code 1\norder 7 is void"
    )


def test_a_crash_among_many_convicts_only_the_guilty(tmp_path: Path) -> None:
    """Of sixteen cases that were under way when their process died, the two that did it are found."""
    source = (
        "import os, time\n"
        "def answer(x):\n"
        "    time.sleep(0.05)\n"
        "    if x in (3, 12): os._exit(9)\n"
        "    return x\n"
    )
    _, runs = ask_function(tmp_path, source, list(range(16)), concurrency=16)
    assert {id_ for id_, run in runs.items() if run.error} == {"c3", "c12"}


def test_a_crash_that_does_not_come_again_is_told(tmp_path: Path) -> None:
    """Cases that answer when asked again are not blamed, but the summary says that a process died."""
    source = (
        "import os, pathlib, time\n"
        "def answer(x):\n"
        "    time.sleep(0.05 if x == 1 else 0.5)\n"
        "    if x == 1 and not pathlib.Path('died').exists():\n"
        "        pathlib.Path('died').touch(); os._exit(9)\n"
        "    return x\n"
    )
    summary, runs = ask_function(tmp_path, source, [0, 1, 2, 3])
    assert not any(run.error for run in runs.values())
    assert "died 1 times" in summary.notes[0]


HANGS = {
    "thread": "import time\ndef answer(x):\n    if x == 1: time.sleep(60)\n    return x\n",
    "task": "import asyncio\nasync def answer(x):\n    if x == 1: await asyncio.sleep(60)\n    return x\n",
    "blocked loop": "import time\nasync def answer(x):\n    if x == 1: time.sleep(60)\n    return x\n",
    "ignored cancellation": (
        "import asyncio\n"
        "async def answer(x):\n"
        "    while x == 1:\n"
        "        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\n"
        "    return x\n"
    ),
    "held interpreter": (
        "import ctypes\ndef answer(x):\n    if x == 1: ctypes.PyDLL(None).sleep(60)\n    return x\n"
    ),
}


@pytest.mark.parametrize("source", HANGS.values(), ids=HANGS.keys())
def test_a_hang_ends_at_its_deadline_and_the_others_are_answered(tmp_path: Path, source: str) -> None:
    """A case without an answer fails with its deadline as latency, however it hangs."""
    started = time.monotonic()
    summary, runs = ask_function(tmp_path, source, list(range(8)), concurrency=3, deadline_s=0.5)
    hung = runs.pop("c1")
    assert hung.error == Fault("agent", "hang", "no answer within 0.5 s")
    assert hung.latency_s == 0.5
    assert [run.output for _, run in sorted(runs.items())] == [0, 2, 3, 4, 5, 6, 7]
    assert summary.notes == []
    assert time.monotonic() - started < 20


def test_hung_threads_do_not_use_up_the_worker(tmp_path: Path) -> None:
    """When as many cases hang as run at once, a fresh worker answers the others."""
    source = "import time\ndef answer(x):\n    if x < 3: time.sleep(60)\n    return x\n"
    _, runs = ask_function(tmp_path, source, list(range(6)), concurrency=3, deadline_s=0.5)
    assert [run.output for _, run in sorted(runs.items())] == [None, None, None, 3, 4, 5]


@pytest.mark.parametrize("end", ["time.sleep(60)", "os._exit(1)", "os.closerange(3, 200)"])
def test_nothing_survives_the_run(tmp_path: Path, end: str) -> None:
    """Workers that hang, die or shut us out, and what they started are gone when the run ends."""
    source = (
        "import os, subprocess, time\n"
        "def answer(x):\n"
        "    child = subprocess.Popen(['sleep', '61'])\n"
        "    open('pids', 'a').write(f'{os.getpid()} {child.pid} ')\n"
        f"    {end}\n"
    )
    ask_function(tmp_path, source, [1, 2], deadline_s=0.3)
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert len(pids) >= 3
    deadline = time.monotonic() + 5
    while alive := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " not in stat.read_text()  # an orphan may wait for its reaper


def test_errors_of_the_outside_world_are_the_infrastructure_s(tmp_path: Path) -> None:
    """An agent whose model cannot be reached is unscored, not wrong."""
    source = (
        "import urllib.request\ndef answer(x): return urllib.request.urlopen('http://127.0.0.1:1/').read()\n"
    )
    summary, runs = ask_function(tmp_path, source, ["a"])
    assert runs["c0"].error is not None
    assert (runs["c0"].error.by, runs["c0"].error.kind) == ("infrastructure", "connection")
    assert summary.infrastructure_faults == 1


def test_a_large_input_is_echoed_by_many_at_once(tmp_path: Path) -> None:
    """Neither side blocks when both write more than a pipe holds."""
    inputs = [str(i) * 300_000 for i in range(9)]
    _, runs = ask_function(tmp_path, "def answer(x): return x\n", inputs, concurrency=9)
    assert [runs[f"c{i}"].output for i in range(9)] == inputs


def test_a_full_reply_is_taken_apart(tmp_path: Path) -> None:
    """A dict with the protocol's keys alone is a reply; with any other key it is the output."""
    source = (
        "def answer(x):\n"
        "    reply = {'output': x, 'contexts': ['k'], 'tool_calls': [{'name': 't', 'arguments': {'a': 1}}],\n"
        "             'usage': {'provider': 'p', 'model': 'm', 'input_tokens': 3, 'output_tokens': 2},\n"
        "             'iterations': 2}\n"
        "    return reply if x == 'full' else {'output': 1, 'label': 2}\n"
    )
    _, runs = ask_function(tmp_path, source, ["full", "own"])
    full = runs["c0"]
    assert (full.output, full.contexts, full.iterations) == ("full", ["k"], 2)
    assert full.tool_calls is not None
    assert (full.tool_calls[0].name, full.tool_calls[0].arguments) == ("t", {"a": 1})
    assert (full.usage[0].model, full.usage[0].input_tokens) == ("m", 3)
    assert 0 <= (full.latency_s or -1) < 1
    assert runs["c1"].output == {"output": 1, "label": 2}


@pytest.mark.parametrize(
    ("reply", "by", "kind"),
    [
        (
            {"output": 1, "error": {"by": "infrastructure", "kind": "quota", "message": "m"}},
            "infrastructure",
            "quota",
        ),
        ({"output": 1, "error": {"message": "m"}}, "agent", "error"),
        ({"output": 1, "error": {"by": "nobody", "message": "m"}}, "agent", "garbage"),
        ({"output": 1, "usage": [{"input_tokens": -3}]}, "agent", "garbage"),
        ({"output": 1, "tool_calls": [{"name": 5}]}, "agent", "garbage"),
    ],
)
def test_a_reported_fault_and_a_broken_reply(reply: object, by: str, kind: str) -> None:
    """A function may report a fault itself; a reply of wrong types is the agent's garbage."""
    error = parse_reply(cases_of(["x"])[0], 0, Answer(reply, 0.1)).error
    assert error is not None
    assert (error.by, error.kind) == (by, kind)


def test_a_function_that_cannot_be_loaded_stops_the_run_at_once(tmp_path: Path) -> None:
    """No case is asked; one message names the fault, its line, the interpreter and where the rest is."""
    (tmp_path / "agent.py").write_text("\nimport missing_dependency\ndef answer(x): return x\n")
    with pytest.raises(StartError) as raised:
        run_cases(pool_of(tmp_path), cases_of(["a"]), tmp_path / "out", info_of(1), RunOptions())
    message = str(raised.value)
    assert "agent:answer cannot be loaded" in message
    assert "No module named 'missing_dependency' (agent.py:2)." in message
    assert f"Python is {sys.executable}" in message
    assert "Traceback" not in message
    assert "Traceback" in (tmp_path / "out" / "worker.log").read_text()
    assert not (tmp_path / "out" / "runs.jsonl").read_text()


def test_a_misspelt_function_is_told_with_the_nearest(tmp_path: Path) -> None:
    """A function that the module does not have is named beside the one it has."""
    (tmp_path / "agent.py").write_text("def answer(x): return x\n")
    pool = pool_of(tmp_path, "agent:anwser")
    with pytest.raises(StartError, match='agent has no "anwser"; did you mean "answer"'):
        run_cases(pool, cases_of(["a"]), tmp_path / "out", info_of(1), RunOptions())


def test_bytecode_of_installed_dependencies_is_used(tmp_path: Path) -> None:
    """What lies in site-packages, also of an environment within the repository, is compiled once."""
    packages = tmp_path / ".venv/lib/python3/site-packages"
    packages.mkdir(parents=True)
    (packages / "dependency.py").write_text("word = 'yes'\n")
    source = f"import sys\nsys.dont_write_bytecode = False\nsys.path.append({str(packages)!r})\n"
    _, runs = ask_function(
        tmp_path, f"{source}from dependency import word\ndef answer(x): return word\n", ["a"]
    )
    assert runs["c0"].output == "yes"
    assert list((packages / "__pycache__").iterdir())
    assert not (tmp_path / "__pycache__").exists()


def test_stale_bytecode_of_the_agent_is_never_run(tmp_path: Path) -> None:
    """An edit that keeps size and time is run as it is now, and nothing is left beside the agent's files."""
    (tmp_path / "helper.py").write_text("def word(): return 'old'\n")
    py_compile.compile(str(tmp_path / "helper.py"))  # what the user's own python leaves
    before = (tmp_path / "helper.py").stat()
    (tmp_path / "helper.py").write_text("def word(): return 'new'\n")
    os.utime(tmp_path / "helper.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    left = sorted((tmp_path / "__pycache__").iterdir())
    _, runs = ask_function(tmp_path, "from helper import word\ndef answer(x): return word()\n", ["a"])
    assert runs["c0"].output == "new"
    assert sorted((tmp_path / "__pycache__").iterdir()) == left


def test_a_worker_that_does_not_come_back_stops_the_run(tmp_path: Path) -> None:
    """When the function no longer loads after a crash, the run ends instead of failing every case."""
    (tmp_path / "agent.py").write_text(
        "import os, pathlib\n"
        "if pathlib.Path('died').exists(): raise RuntimeError('no more')\n"
        "def answer(x):\n"
        "    pathlib.Path('died').touch(); os._exit(1)\n"
    )
    with pytest.raises(StartError, match="RuntimeError: no more"):
        run_cases(pool_of(tmp_path), cases_of("abcdefgh"), tmp_path / "out", info_of(8), RunOptions())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho 2 7\nexit 1\n", "not a working Python"),
        ('#!/bin/sh\n[ "$1" = -c ] && echo 3 6\n', "is Python 3.6; an agent needs 3.8 or later"),
        ("#!/no/such/program\n", "cannot be started"),
    ],
)
def test_an_interpreter_that_cannot_serve_is_named(tmp_path: Path, script: str, message: str) -> None:
    """A program that is no Python, or too old a one, is the user's to mend."""
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    (tmp_path / "out").mkdir()
    pool = WorkerPool("a:b", str(python), threads=1, environ={}, cwd=tmp_path, out_dir=tmp_path / "out")
    with pytest.raises(UserError, match=message):
        run_cases(pool, cases_of(["a"]), tmp_path / "out", info_of(1), RunOptions())


def test_a_virtual_environment_s_python_is_the_one_that_runs(tmp_path: Path) -> None:
    """The interpreter is started by its own name, so that it finds its own packages."""
    link = tmp_path / "venv" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
    (tmp_path / "agent.py").write_text("import sys\ndef answer(x): return sys.prefix\n")
    (tmp_path / "out").mkdir()
    pool = WorkerPool(
        "agent:answer", str(link), threads=1, environ={}, cwd=tmp_path, out_dir=tmp_path / "out"
    )
    run_cases(pool, cases_of(["a"]), tmp_path / "out", info_of(1), RunOptions())
    assert f'"output":"{tmp_path / "venv"}"' in (tmp_path / "out" / "runs.jsonl").read_text()
