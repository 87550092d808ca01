"""The engine: what is written, what is resumed, and where it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import Fault, Run, RunInfo, read_runs
from gatehouse.errors import InfrastructureError, UserError
from gatehouse.evals.run import Case, RunOptions, RunSummary, run_cases
from gatehouse.evals.run_files import RunFiles, locked
from gatehouse.evals.throttle import DeadError
from tests.support.running import cases_of, info_of, pool_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]


class Asked:
    """A target that answers with the input at once, or as `answer` says, and remembers what it was asked."""

    tries = 1

    def __init__(
        self, answer: Callable[[Case], dict[str, Any]] = lambda case: {"output": case.input}
    ) -> None:
        self.answer = answer
        self.asked: list[tuple[str, int]] = []
        self.at_once = self.most_at_once = 0
        self.closed = False

    async def open(self) -> None:
        """Nothing to do."""

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One answer, after another task had its turn."""
        self.asked.append((case.id, repeat))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        return Run(id=case.id, case=case.digest, repeat=repeat, latency_s=0.1, **self.answer(case))

    async def close(self) -> None:
        """Remember it."""
        self.closed = True

    def notes(self) -> list[str]:
        """One for the summary."""
        return ["a note"]


def run(
    target: Asked, out: Path, count: int = 6, options: RunOptions | None = None, **info: Any
) -> RunSummary:
    """Run `count` cases whose inputs are their numbers."""
    return run_cases(target, cases_of(range(count)), out, info_of(count, **info), options or RunOptions())


def written(out: Path) -> list[Run]:
    """The runs in the file, in order of case and repeat."""
    return sorted(read_runs(out / "runs.jsonl"), key=lambda run: (run.id, run.repeat))


def unfinish(out: Path) -> None:
    """As a run leaves it that could not be finished."""
    replace(RunInfo.read(out / "run.json"), complete=False, failure="no key").write(out / "run.json")


def failed(kind: str, by: Any = "infrastructure") -> dict[str, Any]:
    """What a target says of a case without an answer."""
    return {"output": None, "error": Fault(by, kind, f"{kind}!")}


def test_every_case_is_asked_as_often_as_wanted(tmp_path: Path) -> None:
    """Each case has a line for each repeat, and run.json says that this is all."""
    target = Asked()
    summary = run(target, tmp_path, options=RunOptions(concurrency=4), repeats=2)
    assert [(r.id, r.repeat, r.output) for r in written(tmp_path)] == [
        (f"c{i}", repeat, i) for i in range(6) for repeat in (0, 1)
    ]
    said = RunInfo.read(tmp_path / "run.json")
    assert said == replace(info_of(6, repeats=2, complete=True), notes=["a note"])
    assert (summary.total, summary.asked, summary.not_asked, summary.stopped) == (12, 12, 0, "")
    assert summary.notes == ["a note"]
    assert target.most_at_once == 4
    assert target.closed


def test_cases_are_read_as_they_are_needed(tmp_path: Path) -> None:
    """No more cases are held than are asked at once."""
    target = Asked()
    ahead: list[int] = []

    def cases() -> Iterator[Case]:
        for number, case in enumerate(cases_of(range(50))):
            ahead.append(number - len(target.asked))
            yield case

    class Streamed:
        def __iter__(self) -> Iterator[Case]:
            return cases()

    run_cases(target, Streamed(), tmp_path, info_of(50), RunOptions(concurrency=3))
    assert max(ahead) <= 0


@pytest.mark.parametrize(
    "tail",
    [
        '{"id":"c4","case":"d4","rep',
        '{"id":"unknown","case":"d4","repeat":0,"output":4}\n',
        '{"id":"c4","case":"other","repeat":0,"output":4}\n',
        '{"id":"c4","case":"d4","repeat":1,"output":4}\n',
        '{"id":"c0","case":"d0","repeat":0,"output":"twice"}\n',
        Run("c4", "d4", 0, None, error=Fault("infrastructure", "key", "m")).to_line(),
        "[]\n",
        "\x00\n",
        "[" * 100_000 + "\n",
    ],
    ids=[
        "torn",
        "unknown id",
        "other digest",
        "no such repeat",
        "duplicate",
        "unscored",
        "no run",
        "nul",
        "deep",
    ],
)
def test_an_unfinished_run_is_continued(tmp_path: Path, tail: str) -> None:
    """Finished cases are not asked again; a line that is torn, foreign or unscored is as if never written."""
    run(Asked(), tmp_path)
    unfinish(tmp_path)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "runs.jsonl").write_text("".join(lines[:4]) + tail)
    target = Asked()
    summary = run(target, tmp_path)
    assert sorted(target.asked) == [("c4", 0), ("c5", 0)]
    assert [r.output for r in written(tmp_path)] == [0, 1, 2, 3, 4, 5]
    assert (summary.resumed, summary.asked, summary.not_asked) == (4, 2, 0)
    said = RunInfo.read(tmp_path / "run.json")
    assert said == replace(info_of(6, complete=True), notes=["a note"])


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"name": "a", "version": "1", "digest": "sha256:other"}},
        {"dataset": {"path": "golden.jsonl", "digest": "sha256:other", "cases": 6}},
        {"repeats": 2},
        {"shard": "1/2"},
        {"commit": "abc"},
        {"options": {"temperature": 1}},
        {"complete": True},
        None,
    ],
    ids=["agent", "dataset", "repeats", "shard", "commit", "options", "complete", "no run.json"],
)
def test_anything_else_is_run_anew(tmp_path: Path, change: dict[str, Any] | None) -> None:
    """Results of another agent, golden set, commit or options, or of a complete run, are not continued."""
    run(Asked(), tmp_path)
    if change is None:
        (tmp_path / "run.json").unlink()
    else:
        info_of(6, **({"complete": False} | change)).write(tmp_path / "run.json")
    target = Asked()
    assert run(target, tmp_path).resumed == 0
    assert len(target.asked) == len(written(tmp_path)) == 6


def test_a_restart_that_is_killed_leaves_no_old_run_under_a_new_name(tmp_path: Path) -> None:
    """When run.json of the new run is written, the old runs are gone."""
    run(Asked(), tmp_path)

    class Killed(RunInfo):
        def write(self, path: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunFiles(tmp_path, Killed(**{k: getattr(info_of(6), k) for k in ("agent", "dataset")})).restart()
    assert not (tmp_path / "run.json").exists()
    assert not (tmp_path / "runs.jsonl").read_bytes()


def test_what_cannot_be_written_is_the_agent_s_garbage(tmp_path: Path) -> None:
    """An output that a later stage could not read fails its case, and the file stays readable."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    outputs = [float("nan"), "\ud800", deep, "fine"]
    summary = run(Asked(lambda case: {"output": outputs[case.input]}), tmp_path, 4)
    runs = written(tmp_path)
    assert [r.error and r.error.kind for r in runs] == ["garbage", "garbage", "garbage", None]
    assert summary.agent_faults == 3


def test_the_run_s_deadline_leaves_the_rest_unasked(tmp_path: Path) -> None:
    """When it passes, cases under way are dropped unwritten, and the run can be resumed."""
    (tmp_path / "agent.py").write_text("import time\ndef answer(x): time.sleep(60 * (x > 1)); return x\n")
    options = RunOptions(concurrency=2, run_deadline_s=1.0)
    summary = run_cases(pool_of(tmp_path), cases_of(range(6)), tmp_path / "out", info_of(6), options)
    assert [r.output for r in written(tmp_path / "out")] == [0, 1]
    assert (summary.asked, summary.not_asked) == (2, 4)
    assert summary.stopped == "the run's deadline of 1 s passed"
    assert not RunInfo.read(tmp_path / "out" / "run.json").complete


@pytest.mark.parametrize("kind", ["connection", "key", "quota"])
def test_a_dead_provider_ends_the_run_early(tmp_path: Path, kind: str) -> None:
    """Twenty first answers with one and the same fault are enough; what follows is not asked."""
    summary = run(Asked(lambda _: failed(kind)), tmp_path, 500, RunOptions(concurrency=4))
    assert 20 <= summary.asked < 25
    assert summary.stopped == f"the first 20 answers were all the same fault: {kind}!"
    assert not RunInfo.read(tmp_path / "run.json").complete


def test_a_target_that_is_given_up_ends_the_run(tmp_path: Path) -> None:
    """What it answered before is kept; the case that it did not answer counts as not asked."""

    def answer(case: Case) -> dict[str, Any]:
        if case.input >= 3:
            raise DeadError("the provider is dead")
        return {"output": case.input}

    target = Asked(answer)
    summary = run(target, tmp_path, 500, RunOptions(concurrency=4))
    assert (summary.asked, summary.not_asked, summary.stopped) == (3, 497, "the provider is dead")
    assert [r.output for r in written(tmp_path)] == [0, 1, 2]
    assert len(target.asked) < 10
    assert target.closed
    assert not RunInfo.read(tmp_path / "run.json").complete


@pytest.mark.parametrize(
    "answer",
    [
        lambda case: failed("key") if case.input != 3 else {"output": 1},
        lambda case: failed("key" if case.input % 2 else "quota"),
        lambda _: failed("timeout"),
        lambda _: failed("connection", by="agent"),
    ],
    ids=["one answer", "two kinds", "each its own deadline", "the agent's"],
)
def test_other_faults_end_no_run(tmp_path: Path, answer: Callable[[Case], dict[str, Any]]) -> None:
    """As long as another case might be answered, all are asked."""
    summary = run(Asked(answer), tmp_path, 40)
    assert (summary.asked, summary.stopped) == (40, "")


def test_a_golden_set_that_shrinks_is_not_complete(tmp_path: Path) -> None:
    """Fewer cases than run.json names: the run does not call itself complete."""
    summary = run_cases(Asked(), cases_of(range(3)), tmp_path, info_of(4), RunOptions())
    assert summary.stopped == "the golden set changed while it was run"
    assert not RunInfo.read(tmp_path / "run.json").complete


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second one is refused and touches nothing."""
    run(Asked(), tmp_path)
    before = (tmp_path / "runs.jsonl").read_bytes()
    with locked(tmp_path), pytest.raises(UserError, match="another run writes its results here"):
        run(Asked(), tmp_path)
    assert (tmp_path / "runs.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A full disk or a file in the way is a message, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot be written"):
        run(Asked(), tmp_path / "file" / "out")


def test_an_unfinished_run_says_so_from_its_start(tmp_path: Path) -> None:
    """While cases are asked, run.json says that more are to come, and each answer is already in the file."""
    seen: list[tuple[bool, int]] = []

    def look(case: Case) -> dict[str, Any]:
        seen.append((RunInfo.read(tmp_path / "run.json").complete, len(written(tmp_path))))
        return {"output": case.input}

    run(Asked(look), tmp_path, 3, RunOptions(concurrency=1))
    assert seen == [(False, 0), (False, 1), (False, 2)]


PROGRAM = """
import signal
import sys
from pathlib import Path
from gatehouse.evals.run import RunOptions, run_cases
from tests.support.running import cases_of, info_of, pool_of
folder = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
try:
    run_cases(pool_of(folder), cases_of(range(40)), folder / "out", info_of(40), RunOptions(concurrency=4))
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A run of 40 cases of 50 ms, four at once, in a process of its own; returns once it has written some."""
    (folder / "agent.py").write_text(
        "import os, time\n"
        "def answer(x):\n"
        "    open('pids', 'a').write(f'{os.getpid()} ')\n"
        "    open('asked', 'a').write(f'{x} ')\n"
        "    time.sleep(0.05)\n"
        "    return x\n"
    )
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 20
    runs = folder / "out" / "runs.jsonl"
    while not (runs.exists() and runs.read_bytes().count(b"\n") >= 8):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def wait_for_workers(folder: Path) -> None:
    """Return when no worker that answered in `folder` is left."""
    deadline = time.monotonic() + 5
    for pid in set((folder / "pids").read_text().split()):
        while subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, check=False).stdout.strip(
            b" \nZ"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(("sent", "code"), [("SIGKILL", -9), ("SIGINT", 130), ("SIGTERM", 130)])
def test_a_run_that_is_killed_is_finished_by_the_next(tmp_path: Path, sent: str, code: int) -> None:
    """Whatever ends it: its workers end too, its answers stay, and the next run asks only the others."""
    with start(tmp_path) as process:
        os.kill(process.pid, getattr(signal, sent))
        assert process.wait(10) == code
    wait_for_workers(tmp_path)
    kept = {json.loads(line)["id"] for line in (tmp_path / "out" / "runs.jsonl").read_bytes().splitlines()}
    assert 8 <= len(kept) < 40
    assert not RunInfo.read(tmp_path / "out" / "run.json").complete
    (tmp_path / "asked").unlink()
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, check=True)
    asked = {f"c{x}" for x in (tmp_path / "asked").read_text().split()}
    assert not asked & kept
    assert {r.id for r in written(tmp_path / "out")} == {f"c{i}" for i in range(40)}
    assert RunInfo.read(tmp_path / "out" / "run.json").complete
