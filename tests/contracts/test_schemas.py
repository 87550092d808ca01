"""The published JSON Schemas against what the commands write, and against the documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from gatehouse.release.dist import Agent
from gatehouse.release.evidence import evidence_json, read_verdict, verdict_of
from tests.contracts.schemas import KEYS, LIST, LISTS, NAMES, WRITTEN_BY_USERS, schema, strict, with_tables
from tests.contracts.suite import ROOT
from tests.support.dists import make_dist
from tools.action_docs import documents

AGENT = """
agent:
  name: small
  version: 1
  model: {provider: ollama, name: "tiny:1b"}
  entrypoint: small:answer
  tools: [look_up]
  budgets: {max_iterations: 2}
  pricing: {input_per_mtok: 1, output_per_mtok: 2}
  evals:
    dataset: golden.jsonl
    max_unscored: 1
    metrics: {exact_match: 0.9, tool_calls: 0.5, latency_p95: 5, cost_per_run: 1, cost_per_resolved: 1}
"""
CODE = """
def answer(text):
    if text == "down":
        raise ConnectionError("nobody answers")
    if text == "odd":
        raise ValueError("odd")
    usage = [{"provider": "ollama", "model": "tiny:1b", "input_tokens": 10, "output_tokens": 2}]
    calls = [{"name": "look_up", "arguments": {"what": text}}]
    return {"output": "no" if text == "b" else text, "tool_calls": calls, "usage": usage, "iterations": 1}
"""
CASES = [
    {"id": "a", "input": "a", "expected": "a", "expected_tools": ["look_up"], "critical": True},
    {"id": "b", "input": "b", "expected": "b", "expected_tools": ["other"], "tags": ["hard"]},
    {"id": "c", "input": "odd", "expected": "c"},
    {"id": "d", "input": "down", "expected": "d"},
    {"id": "e", "input": "e"},
]
KEPT = {"calibration", "changes"}
"""Files that need a repository to be written; their own tests hold them against their schema."""
WRITTEN = {
    "run": "run.json",
    "runs": "runs.jsonl",
    "scores": "scores.jsonl",
    "eval": "eval.json",
    "cost": "cost.json",
    "build": "../../dist/build.json",
    "evidence": "../../evidence/evidence.json",
}
"""Schema and the file that it is of."""


def gatehouse(folder: Path, *arguments: str) -> int:
    """The exit code of a command in `folder`, as a user on a terminal has it."""
    hidden = ("GITHUB_", "GATEHOUSE_", "RUNNER_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    command = [sys.executable, "-I", "-m", "gatehouse", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a gate's results: a case that passes, one that fails, one with each kind of fault."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "agents").mkdir()
    (folder / "agents/small.yaml").write_text(AGENT)
    (folder / "small.py").write_text(CODE)
    (folder / "golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in CASES))
    assert gatehouse(folder, "eval-gate", "--python", sys.executable, "--repeats", "2") == 1
    assert gatehouse(folder, "cost-gate") == 0
    assert gatehouse(folder, "scorecard") == 0
    results = folder / ".gatehouse" / "small"
    digest = json.loads((results / "eval.json").read_bytes())["agent"]["digest"]
    agent = Agent("small", "agents/small.yaml", 1, digest, "warn")
    build = make_dist(folder / "dist", agents=[agent])
    verdict = verdict_of(agent, read_verdict(results), "https://github.com/acme/triage/actions/runs/1")
    (folder / "evidence").mkdir()
    (folder / "evidence/evidence.json").write_text(json.dumps(evidence_json(build, [verdict])))
    return results


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results of a gate that could not read its agent file."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "agents").mkdir()
    (folder / "agents/small.yaml").write_text(AGENT.replace("version: 1", "verison: 1"))
    assert gatehouse(folder, "eval-gate") == 2
    assert gatehouse(folder, "cost-gate", "--agent", "agents/small.yaml") == 2
    return folder / ".gatehouse" / "small"


def objects(file: Path) -> list[Any]:
    """The one object of a JSON file, or those of a JSON Lines file."""
    text = file.read_text()
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else [json.loads(text)]


def faults(name: str, file: Path) -> list[str]:
    """How a file breaks its schema, a key that the schema does not name included."""
    validator = Draft202012Validator(strict(schema(name)))
    found = [error for item in objects(file) for error in validator.iter_errors(item)]
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_a_schema(name: str) -> None:
    """Each published schema follows draft 2020-12 and says where it is published."""
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"].endswith(f"/gatehouse/main/scripts/gatehouse/schemas/{name}.schema.json")


def test_every_results_file_has_its_schema() -> None:
    """There is a schema for each file of results, and for each file that users write."""
    assert set(NAMES) == set(WRITTEN) | WRITTEN_BY_USERS | KEPT


@pytest.mark.parametrize("name", WRITTEN)
def test_results_follow_their_schema(name: str, results: Path) -> None:
    """What a gate writes follows the published schema and has no key beyond it."""
    assert objects(results / WRITTEN[name]) != []
    assert faults(name, results / WRITTEN[name]) == []


@pytest.mark.parametrize("name", ["eval", "cost"])
def test_a_verdict_that_is_none_follows_its_schema(name: str, left: Path) -> None:
    """What a gate leaves behind for a file that it cannot read follows the same schema."""
    assert objects(left / WRITTEN[name])[0]["exit_code"] == 2
    assert faults(name, left / WRITTEN[name]) == []


def test_the_results_show_every_case(results: Path) -> None:
    """The runs that the schemas are held against have every kind of outcome, so that every key is there."""
    assert {run["error"] and run["error"]["by"] for run in objects(results / "runs.jsonl")} == {
        None,
        "agent",
        "infrastructure",
    }
    states = {score["state"] for score in objects(results / "scores.jsonl")}
    assert states == {"scored", "skipped", "fault", "unscored"}
    assert objects(results / "eval.json")[0]["failing_cases"] != []
    assert {row["name"] for row in objects(results / "cost.json")[0]["limits"]} == {
        "cost_per_run",
        "cost_per_resolved",
    }


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in documents(ROOT)])
def test_tables_of_keys_are_up_to_date(path: str) -> None:
    """A document's table of keys is what the schema says; `python -m tests.contracts.schemas` mends it."""
    text = (ROOT / path).read_text()
    assert with_tables(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_documented(name: str) -> None:
    """Each schema's table of keys stands in a document."""
    shown = {match["path"] for path in documents(ROOT) for match in KEYS.finditer(path.read_text())}
    assert f"scripts/gatehouse/schemas/{name}.schema.json" in shown


def test_every_list_is_documented() -> None:
    """The metrics and the providers stand in a document."""
    shown = {found["name"] for path in documents(ROOT) for found in LIST.finditer(path.read_text())}
    assert shown == set(LISTS)


@pytest.mark.parametrize("file", ["scores.json", "../scorecard.json"])
def test_files_without_a_schema_are_documented(file: str, results: Path) -> None:
    """The table of a file that has no schema lists exactly the keys that the file has."""
    text = (ROOT / "docs/results.md").read_text().split(f"## {Path(file).name}\n")[1].split("\n## ")[0]
    listed = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {key.split(".")[0].removesuffix("[]") for key in listed} == set(objects(results / file)[0])
