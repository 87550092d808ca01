"""What a start loads, and which module may know which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from gatehouse.cli import COMMANDS
from tests.contracts.suite import ROOT
from tests.support.projects import write_project

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "scripts"
HEAVY = {
    "aiohttp",
    "deepeval",
    "detect_secrets",
    "genai_prices",
    "jsonschema",
    "numpy",
    "phonenumbers",
    "pydantic",
    "ragas",
    "rapidfuzz",
    "requests",
    "scipy",
    "stdnum",
}
"""Libraries that cost more than 50 ms: imported where they are used, not where they are named."""
START = {"gatehouse", "gatehouse.cli", "gatehouse.errors"}
SLOW_STANDARD = {"asyncio", "importlib.metadata", "ssl", "http.client", "multiprocessing", "unittest"}
TIERS = {
    "errors": 0,
    "agent": 1,
    "github": 1,
    "evals": 2,
    "costs": 2,
    "release": 2,
    "cli": 2,
    "rehearse": 3,
    "report": 3,
    "commands": 4,
    "__main__": 5,
}
"""A module imports its own folder and lower tiers."""


def loaded(program: str) -> set[str]:
    """The modules that a program loads over a bare interpreter with the same site packages."""
    code = "import sys, json\nbefore = set(sys.modules)\n" + program
    code += "\nprint(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def run(*args: str) -> str:
    """A program that calls the command line in its own process."""
    return f"from gatehouse.cli import main\ntry:\n    main({list(args)!r})\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize("program", ["import gatehouse.cli", run("--help")])
def test_a_start_loads_only_click(program: str) -> None:
    """`import gatehouse.cli` and `gatehouse --help` load click, the error types and nothing slow."""
    modules = loaded(program)
    assert "click" in modules
    assert {name for name in modules if name.split(".")[0] == "gatehouse"} <= START
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names <= {"gatehouse", "click"}
    assert sorted(modules & SLOW_STANDARD) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_loads_nothing_heavy(name: str) -> None:
    """`gatehouse NAME --help` imports no library that only the work itself needs."""
    modules = loaded(run(name, "--help"))
    assert f"gatehouse.commands.{name.replace('-', '_')}" in modules
    assert sorted(modules & HEAVY) == []


@pytest.mark.parametrize("stages", [["eval-gate"], ["run", "score", "verdict"]], ids=" ".join)
def test_a_gate_loads_only_what_its_metrics_use(tmp_path: Path, stages: list[str]) -> None:
    """A gate of a function by native metrics loads no HTTP client, no price table and no judge's library."""
    write_project(tmp_path)
    for stage in stages:
        own = ["--python", sys.executable] if stage in ("run", "eval-gate") else []
        modules = loaded(f"import os\nos.chdir({str(tmp_path)!r})\n{run(stage, *own)}")
        assert sorted(modules & (HEAVY - {"jsonschema"})) == []  # which checks the agent file
    verdict = json.loads((tmp_path / ".gatehouse" / "echo" / "eval.json").read_text())
    assert verdict["state"] == "pass"


def modules() -> dict[str, set[str]]:
    """Every module of the package with the modules of the package that it imports, wherever in the file."""
    paths = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
        for path in SOURCE.rglob("gatehouse/**/*.py")
    }
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {one if one in paths else str(node.module) for one in inner}
        graph[name] = {one for one in targets if one in paths and one != name}
    return graph


def test_arrows_run_down_only() -> None:
    """No module imports one of a higher tier, or of another folder of its own tier."""
    wrong = []
    for name, targets in modules().items():
        parts = name.split(".")
        for target in targets:
            other = target.split(".")
            if len(parts) == 1 or len(other) == 1 or parts[1] == other[1]:
                continue
            if TIERS[other[1]] >= TIERS[parts[1]]:
                wrong.append(f"{name} -> {target}")
    assert wrong == []


def test_no_circle_of_imports() -> None:
    """The modules can be put in an order in which each imports only those before it."""
    graph = modules()
    assert len(graph) > 5
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
