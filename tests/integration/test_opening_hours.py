"""The opening-hours example: a service that its workflow starts is asked by both of its addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.agent.definition import load_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "opening-hours"
AGENTS = ("opening-hours", "opening-hours-stream")
PORT = "8321"
"""The example's; each test puts a free one in its place."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example as a repository of its own, on a port that is free."""
    folder = tmp_path / "opening-hours"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".gatehouse"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    for file in [*folder.glob("agents/*.yaml"), folder / ".github/workflows/agent-ci.yml"]:
        text = file.read_text()
        assert PORT in text
        file.write_text(text.replace(PORT, port).replace("-m server ", f"-m server {port} "))
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    return folder


@contextmanager
def service(folder: Path) -> Iterator[None]:
    """The service, started by what the workflow says, as its run job starts it."""
    job = yaml.safe_load((folder / ".github/workflows/agent-ci.yml").read_text())["jobs"]["agent-ci"]
    bin_folder = folder.parent / "bin"
    bin_folder.mkdir()
    (bin_folder / "python").symlink_to(sys.executable)
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin"}
    command = ["bash", "-euo", "pipefail", "-c", job["with"]["install"] + "\necho; echo $!"]
    install = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    try:
        yield
    finally:
        os.kill(int(install.stdout.split()[-1]), signal.SIGKILL)
    assert (folder / "server.log").read_text() == ""


def gate(folder: Path) -> tuple[int, list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The exit code, `eval.json` and the runs of each agent."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [sys.executable, "-m", "gatehouse", "eval-gate"]
    code = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False).returncode
    outs = sorted((folder / ".gatehouse").glob("opening-*"))
    verdicts = [json.loads((out / "eval.json").read_text()) for out in outs]
    runs = [list(map(json.loads, (out / "runs.jsonl").read_text().splitlines())) for out in outs]
    return code, verdicts, runs


def test_both_addresses_pass(folder: Path) -> None:
    """Each passes, in every case, and both say the same from the same rows."""
    with service(folder):
        code, verdicts, runs = gate(folder)
    assert code == 0, [verdict["reason"] for verdict in verdicts]
    for verdict in verdicts:
        assert verdict["state"] == "pass"
        assert {row["name"]: row["value"] for row in verdict["metrics"]}["contains"] == 1
        assert verdict["warnings"] == []
    whole, stream = ({run["id"]: (run["output"], run["contexts"]) for run in each} for each in runs)
    assert whole == stream
    assert whole["leeds-sunday"] == (
        "Our shop in Leeds, Sunday: 11:00 to 16:00.",
        ["Leeds, Sunday: 11:00 to 16:00"],
    )


def test_a_wrong_table_fails(folder: Path) -> None:
    """A change of the service is seen: in the verdict, and in the digest by `code`."""
    before = [load_agent(f"agents/{name}.yaml", folder).digest for name in AGENTS]
    table = folder / "server/hours.json"
    table.write_text(table.read_text().replace('"Christmas Day": null', '"Christmas Day": "9:00 to 12:00"'))
    with service(folder):
        code, verdicts, _ = gate(folder)
    assert code == 1
    for verdict, digest in zip(verdicts, before, strict=True):
        assert verdict["state"] == "fail"
        assert [case["id"] for case in verdict["failing_cases"]] == ["leeds-christmas"]
        assert verdict["agent"]["digest"] != digest


def test_a_service_that_is_not_started_measures_nothing(folder: Path) -> None:
    """Never green: the reason says which agent does not answer, and where."""
    (folder / "agents/opening-hours-stream.yaml").unlink()
    code, [verdict], _ = gate(folder)
    assert code == 3
    assert verdict["state"] == "unscored"
    assert "the agent at http://127.0.0.1:" in verdict["reason"]
    assert "Is it running?" in verdict["reason"]


def test_its_own_tests_pass(folder: Path) -> None:
    """With the standard library alone."""
    command = [sys.executable, "-S", "-m", "unittest", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Ran 4 tests" in done.stderr
