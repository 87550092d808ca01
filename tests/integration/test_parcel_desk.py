"""The parcel-desk example: an agent in another language, through the same gates as any other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import load_agent
from gatehouse.agent.protocol import read_runs
from gatehouse.rehearse.model import StandInModel

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "parcel-desk"
AGENT = "agents/parcel-desk.yaml"
GOLDEN = "evals/golden/parcel-desk.jsonl"
CASES = [json.loads(line) for line in (EXAMPLE / GOLDEN).read_text().splitlines()]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the model that the agent asks."""
    with StandInModel() as model:
        yield model.url


def checkout(folder: Path) -> Path:
    """The example as a repository of its own."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".gatehouse"))
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    return folder


def gatehouse(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in the example, without any key."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OLLAMA_BASE_URL": url}
    command = [sys.executable, "-m", "gatehouse", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def result(folder: Path, name: str) -> Any:
    """A result file of the gate."""
    return json.loads((folder / ".gatehouse/parcel-desk" / name).read_text())


def edit(file: Path, old: str, new: str) -> None:
    """Replace what stands there once."""
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


def test_it_passes_both_gates(url: str, tmp_path: Path) -> None:
    """Every case is answered by the command, judged and priced, and nothing lies about afterwards."""
    folder = checkout(tmp_path / "desk")
    done = gatehouse(folder, url, "eval-gate", "--agent", AGENT)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = result(folder, "eval.json")
    assert {row["name"]: row["state"] for row in verdict["metrics"]} == dict.fromkeys(
        [
            *("exact_match", "tool_calls", "latency_p95", "error_rate", "critical_cases"),
            *("max_iterations", "max_tokens_per_run"),
        ],
        "pass",
    )
    runs = {run.id: run for run in read_runs(folder / ".gatehouse/parcel-desk/runs.jsonl")}
    assert runs.keys() == {case["id"] for case in CASES}
    assert all(run.usage and run.iterations == len(run.usage) for run in runs.values())
    assert all(0 < (run.latency_s or 0) < 30 for run in runs.values())
    cost = gatehouse(folder, url, "cost-gate")
    assert cost.returncode == 0, cost.stdout + cost.stderr
    assert result(folder, "cost.json")["by_model"]
    others = ["git", "ls-files", "--others", "--directory"]
    assert subprocess.run(others, cwd=folder, capture_output=True, check=True).stdout == b".gatehouse/\n"


def test_a_worse_desk_fails(url: str, tmp_path: Path) -> None:
    """A tool that finds nothing more, and a message that ends the process: red, each in its own words."""
    folder = checkout(tmp_path / "desk")
    edit(folder / "desk/parcels.mjs", "PARCELS[given.parcel] ??", "PARCELS[given.number] ??")
    crash = 'if (input.includes("pallet")) throw new Error("no pallets");\n  const reply'
    edit(folder / "desk/main.mjs", "const reply", crash)
    done = gatehouse(folder, url, "eval-gate", "--agent", AGENT)
    assert done.returncode == 1, done.stdout + done.stderr
    states = {row["name"]: row["state"] for row in result(folder, "eval.json")["metrics"]}
    assert states["exact_match"] == states["error_rate"] == "fail"
    runs = {run.id: run for run in read_runs(folder / ".gatehouse/parcel-desk/runs.jsonl")}
    assert [id_ for id_, run in runs.items() if run.error] == ["delivered-thanks"]
    error = runs["delivered-thanks"].error
    assert error
    assert (error.by, error.kind) == ("agent", "crash")
    assert "exit code 1" in error.message


def test_a_model_that_is_away_measures_nothing(tmp_path: Path) -> None:
    """The agent says that it could not reach its model: that is no wrong answer, and never green."""
    folder = checkout(tmp_path / "desk")
    done = gatehouse(folder, "http://127.0.0.1:1/v1", "eval-gate", "--agent", AGENT)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "127.0.0.1:1" in done.stdout + done.stderr


def test_a_desk_that_does_not_start_measures_nothing(url: str, tmp_path: Path) -> None:
    """A fault in the code is told once, with the words of Node, and not as the fault of each case."""
    folder = checkout(tmp_path / "desk")
    edit(folder / "desk/main.mjs", "./agent.mjs", "./agnet.mjs")
    done = gatehouse(folder, url, "eval-gate", "--agent", AGENT)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "answered none of the first 5 cases" in done.stderr
    assert "worker.log" in done.stderr
    assert "agnet.mjs" in (folder / ".gatehouse/parcel-desk/worker.log").read_text()


def test_its_digest_covers_its_code(tmp_path: Path) -> None:
    """A changed line of the desk, of its records or of the prompt is another agent; what judges it is not."""
    folder = checkout(tmp_path / "desk")
    digest = load_agent(AGENT, folder).digest
    (folder / GOLDEN).write_text((folder / GOLDEN).read_text().replace("wait", "ask"))
    (folder / "tests/desk.test.mjs").unlink()
    assert load_agent(AGENT, folder).digest == digest
    for name in ("desk/agent.mjs", "desk/parcels.json", "prompts/parcel-desk.md"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        before, digest = digest, load_agent(AGENT, folder).digest
        assert digest != before, name
    assert load_agent(AGENT, folder).warnings == []


def test_the_code_asks_the_model_of_the_agent_file() -> None:
    """Model, parameters, rounds and tools are in the code as they are in the file."""
    agent = load_agent(AGENT, EXAMPLE)
    code = (EXAMPLE / "desk/agent.mjs").read_text()
    model = f"temperature: {agent.model.temperature}, max_tokens: {agent.model.max_tokens}"
    assert f'{{ model: "{agent.model.name}", {model} }}' in code
    assert f"MAX_ITERATIONS = {agent.budgets.max_iterations};" in code
    tools = re.findall(r'^  tool\("(\w+)"', (EXAMPLE / "desk/parcels.mjs").read_text(), re.MULTILINE)
    assert tools == [tool.name for tool in agent.tools]


def test_its_own_tests_pass(tmp_path: Path) -> None:
    """The example's tests pass with Node alone."""
    folder = checkout(tmp_path / "desk")
    done = subprocess.run(["node", "--test"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"pass [1-9]", done.stdout)


def test_it_says_no_more_than_its_folder_holds() -> None:
    """The golden set names parcels on record, and the stand-in model knows none of its cases."""
    records = json.loads((EXAMPLE / "desk/parcels.json").read_text())
    named = {number.upper() for case in CASES for number in re.findall(r"(?i)LP-\d{4}", case["input"])}
    assert named - records.keys() == {"LP-7777"}
    assert named >= records.keys()
    source = (Path(__file__).parents[2] / "scripts/gatehouse/rehearse/model.py").read_text()
    assert not [case["id"] for case in CASES if case["id"] in source]
