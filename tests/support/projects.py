"""Small agents' repositories for tests, and the program run in them: in this process, or in its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import yaml

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.agent.protocol import Fault, Run, RunInfo
from gatehouse.cli import main
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.results import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

COMMIT = "c" * 40
CRASH = Fault("agent", "crash", "the agent's process ended with exit code 1")
HANG = Fault("agent", "hang", "no answer within 60 s")
NO_ROUTE = Fault("infrastructure", "connection", "no connection within 10 s")
ECHO = "def answer(text):\n    return text\n"


def cases(count: int, **more: Any) -> list[dict[str, Any]]:
    """Cases c0, c1, ... whose answer is their input."""
    return [{"id": f"c{i}", "input": f"a{i}", "expected": f"a{i}"} | more for i in range(count)]


def write_project(
    folder: Path,
    golden: Sequence[Mapping[str, Any]] | None = None,
    code: str | None = ECHO,
    name: str = "echo",
    **agent: Any,
) -> Path:
    """An agent file (with the keys of `agent` over its own), its golden set and its code; returns `folder`.

    With `code` None the model answers by chat completion.
    """
    own = {"entrypoint": "agent:answer"} if code is not None else {"system_prompt": "prompt.md"}
    data = own | {
        "name": name,
        "version": 1,
        "model": {"provider": "ollama", "name": "llama3.1:8b"},
        "evals": {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.8}},
    }
    (folder / "agents").mkdir(parents=True, exist_ok=True)
    (folder / "agents" / f"{name}.yaml").write_text(yaml.safe_dump({"agent": data | agent}, sort_keys=False))
    (folder / "prompt.md").write_text("Repeat what the user says.\n")
    (folder / "agent.py").write_text(code or "")
    write_golden(folder, cases(5) if golden is None else golden)
    return folder


def write_golden(folder: Path, golden: Iterable[Mapping[str, Any]]) -> None:
    """The golden set, a case a line."""
    (folder / "golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in golden))


def agent_of(folder: Path, **agent: Any) -> Agent:
    """The loaded agent of a small repository in `folder`."""
    write_project(folder, **agent)
    return load_agent("agents/echo.yaml", folder)


def subject_of(folder: Path, commit: str | None = COMMIT, **project: Any) -> Subject:
    """The agent of a small repository in `folder`, with its golden set."""
    return Subject(agent_of(folder, **project), GoldenSet("golden.jsonl", folder), commit)


def run_of(subject: Subject, case_id: str, output: Any = None, **fields: Any) -> Run:
    """One run of a case, by default answered with its input in a second."""
    case = subject.golden[case_id]
    run = Run(case_id, case.digest, 0, case.input if output is None else output, latency_s=1.0)
    return replace(run, **fields)


def runs_of(subject: Subject, **changed: Mapping[str, Any]) -> list[Run]:
    """A right run for each case of the golden set; `changed` are other fields, by case id."""
    return [run_of(subject, case.id, **changed.get(case.id, {})) for case in subject.golden]


def write_runs(folder: Path, subject: Subject, runs: Iterable[Run], **info: Any) -> Path:
    """`runs.jsonl` and `run.json` of `subject` under `folder`; the path of the runs."""
    folder.mkdir(parents=True, exist_ok=True)
    agent, golden = subject.agent, subject.golden
    whole: dict[str, Any] = {
        "agent": {"name": agent.name, "version": agent.version, "digest": agent.digest, "path": agent.path},
        "dataset": {"path": golden.path, "digest": golden.digest, "cases": len(golden)},
        "commit": subject.commit,
        "complete": True,
    }
    RunInfo(**(whole | info)).write(folder / "run.json")
    (folder / "runs.jsonl").write_text("".join(run.to_line() for run in runs))
    return folder / "runs.jsonl"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """This process's, without what a runner, a key or a developer's own options would change."""
    foreign = ("GITHUB_", "GATEHOUSE_", "OPENAI_", "OLLAMA_", "VIRTUAL_ENV", "ACTIONS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | dict(env or {})


def call(folder: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """`gatehouse ARGS` in this process, in `folder`: quick, for tables of cases."""
    out, err = io.StringIO(), io.StringIO()
    environment = patch.dict(os.environ, _environment(env), clear=True)
    with chdir(folder), environment, redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
            code: Any = 0
        except SystemExit as end:
            code = end.code
    return Done(int(code), out.getvalue(), err.getvalue())


def start(folder: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`gatehouse ARGS` in a process of its own, isolated as the actions start it."""
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "gatehouse", *map(str, args)],
        cwd=folder,
        env=_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gatehouse(folder: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """`gatehouse ARGS` in a process of its own, to its end."""
    with start(folder, *args, env=env) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


def read(path: Path) -> dict[str, Any]:
    """A results file."""
    data = json.loads(path.read_text())
    assert isinstance(data, dict)
    return data
