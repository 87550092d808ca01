"""The example repository does what its story needs: the base and its two changes, in a fresh environment.

The gate is not used here: this file compares the answers by its own code, so that the gate can be held to it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatehouse.rehearse.model import StandInModel

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "refund-triage"
CASES = [json.loads(line) for line in (EXAMPLE / "evals/golden/refund-triage.jsonl").read_text().splitlines()]
CRITICAL = {case["id"] for case in CASES if case.get("critical")}

ANSWER_ALL = """
import json, sys
from refund_triage.agent import answer
for line in open("evals/golden/refund-triage.jsonl"):
    case = json.loads(line)
    print(json.dumps({"id": case["id"], **answer(case["input"])}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the example's requirements and nothing else."""
    venv = tmp_path_factory.mktemp("venv")
    interpreter = venv / "bin" / "python"
    requirements = EXAMPLE / "requirements.txt"
    tools = f"{ROOT / '.tools/uv/bin'}{os.pathsep}{os.environ['PATH']}"
    uv = shutil.which("uv", path=tools)
    if uv and subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0:
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, venv], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", interpreter, "-r", requirements], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return interpreter


def checkout(folder: Path, patch: str | None) -> Path:
    """The example as a repository of its own, with one change applied."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("outbox", "__pycache__", ".gatehouse"))
    subprocess.run(["git", "init", "-q", folder], check=True)
    if patch:
        subprocess.run(["git", "apply", f"changes/{patch}"], cwd=folder, check=True)
    return folder


def answers(python: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Every case's answer by id, from the example's own code in its own environment."""
    with StandInModel() as model:
        env = {"PATH": os.environ["PATH"], "OLLAMA_BASE_URL": model.url}
        done = subprocess.run(
            [python, "-c", ANSWER_ALL], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return {reply["id"]: reply for reply in map(json.loads, done.stdout.splitlines())}


def wrong(replies: dict[str, dict[str, Any]]) -> set[str]:
    """The ids of cases whose output is not the expected one."""
    return {case["id"] for case in CASES if replies[case["id"]]["output"] != case["expected"]}


def wrong_tools(replies: dict[str, dict[str, Any]]) -> set[str]:
    """The ids of cases whose tool calls are not the expected ones, by name and order."""
    expected = {c["id"]: [t if isinstance(t, str) else t["name"] for t in c["expected_tools"]] for c in CASES}
    return {
        id_ for id_, names in expected.items() if [t["name"] for t in replies[id_]["tool_calls"]] != names
    }


@pytest.fixture(scope="module")
def versions(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, dict[str, Any]]:
    """The answers of the base (None) and of every change."""
    folder = tmp_path_factory.mktemp("versions")
    patches = [None, *sorted(path.name for path in (EXAMPLE / "changes").glob("*.patch"))]
    return {patch: answers(python, checkout(folder / str(patch), patch)) for patch in patches}


def test_the_base_passes_with_some_cases_wrong(versions: dict[str | None, dict[str, Any]]) -> None:
    """The base is above its thresholds, has every critical case right and room to improve."""
    failed = wrong(versions[None])
    assert 2 <= len(failed) <= 4
    assert not failed & CRITICAL
    assert len(wrong_tools(versions[None])) <= 0.1 * len(CASES)


def test_one_change_mends_cases_and_breaks_none(versions: dict[str | None, dict[str, Any]]) -> None:
    """Partial refunds: tickets about one damaged item of several become right, nothing else changes."""
    base, head = wrong(versions[None]), wrong(versions["partial-refunds.patch"])
    partial = {case["id"] for case in CASES if "partial" in case["tags"]}
    assert base - head == partial
    assert not head - base
    assert wrong_tools(versions["partial-refunds.patch"]) == wrong_tools(versions[None])


def test_the_other_change_falls_far_below_the_threshold(versions: dict[str | None, dict[str, Any]]) -> None:
    """A warmer tone: orders are no longer looked up, so claims are believed, in critical cases too."""
    failed = wrong(versions["warmer-tone.patch"])
    assert len(failed) > 0.3 * len(CASES)
    assert failed & CRITICAL
    believed = failed - wrong(versions[None])
    assert all("$" in case["input"] for case in CASES if case["id"] in believed)
    assert not any(
        call["name"] == "read_orders"
        for id_ in believed
        for call in versions["warmer-tone.patch"][id_]["tool_calls"]
    )


def test_budgets_hold_and_usage_is_reported(versions: dict[str | None, dict[str, Any]]) -> None:
    """Every run stays within its agent file's loop and token budgets, and says what each model call took."""
    budgets = yaml.safe_load((EXAMPLE / "agents/refund-triage.v3.yaml").read_text())["agent"]["budgets"]
    for replies in versions.values():
        for reply in replies.values():
            assert 1 <= reply["iterations"] == len(reply["usage"]) <= budgets["max_iterations"]
            tokens = sum(u["input_tokens"] + u["output_tokens"] for u in reply["usage"])
            assert 0 < tokens <= budgets["max_tokens_per_run"]
            assert all(u["model"] == "llama3.1:70b" for u in reply["usage"])


def test_the_agent_file_steers_the_agent(python: Path, tmp_path: Path) -> None:
    """A smaller model, or a tool taken away in the agent file, changes the answers."""
    folder = checkout(tmp_path / "small", None)
    file = folder / "agents/refund-triage.v3.yaml"
    file.write_text(file.read_text().replace("llama3.1:70b", "llama3.1:8b"))
    small = answers(python, folder)
    assert len(wrong(small)) > 4
    assert len(wrong_tools(small)) > 4
    file.write_text(re.sub(r"    - read_orders.*\n", "", file.read_text()))
    assert not any(
        t["name"] == "read_orders" for r in answers(python, folder).values() for t in r["tool_calls"]
    )


def test_the_golden_set_is_a_fair_size() -> None:
    """At least 40 cases with ids of their own, a few of them critical, none of them named in the model."""
    assert 42 <= len(CASES) == len({case["id"] for case in CASES}) <= 48
    assert 4 <= len(CRITICAL) <= 6
    source = (ROOT / "scripts/gatehouse/rehearse/model.py").read_text()
    names = [case["id"] for case in CASES] + [path.stem for path in (EXAMPLE / "changes").glob("*.patch")]
    assert not [name for name in [*names, "LH-", "refund_triage", "kettle"] if name in source]


def test_changes_touch_only_what_they_may() -> None:
    """A change edits the prompt or the tools' code: never golden set, thresholds or requirements."""
    for patch in (EXAMPLE / "changes").glob("*.patch"):
        for path in re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE):
            assert path.startswith(("prompts/", "refund_triage/tools.py")), f"{patch.name}: {path}"


def test_a_change_is_a_commit(tmp_path: Path) -> None:
    """`git am` makes each patch a commit with its author's message."""
    for patch in (EXAMPLE / "changes").glob("*.patch"):
        folder = checkout(tmp_path / patch.stem, None)
        git: list[str | Path] = [
            "git",
            "-C",
            folder,
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.com",
            "-c",
            "commit.gpgsign=false",
        ]
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "base"], check=True)
        subprocess.run([*git, "am", "-q", f"changes/{patch.name}"], check=True)
        log = subprocess.run(
            [*git, "log", "-1", "--format=%s"], check=True, capture_output=True, text=True
        ).stdout
        assert f"Subject: [PATCH] {log.strip()}\n" in patch.read_text()


def test_its_own_tests_pass(python: Path, tmp_path: Path) -> None:
    """The example's unit tests pass in its own environment."""
    done = subprocess.run(
        [python, "-m", "unittest", "-q"],
        cwd=checkout(tmp_path / "example", None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Ran [1-9]", done.stderr)


def test_a_dependency_is_not_ours(python: Path) -> None:
    """The example really needs a package that our own environment does not lock."""
    names = {re.split(r"[=<>~]", line)[0] for line in (EXAMPLE / "requirements.txt").read_text().split()}
    locked = set(re.findall(r'^name = "(.+)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE))
    assert names - locked == {"inflection"}
    broken: list[str | Path] = [
        python,
        "-c",
        "import sys; sys.modules['inflection'] = None; import refund_triage.agent",
    ]
    done = subprocess.run(broken, cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert "inflection" in done.stderr
