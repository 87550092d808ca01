"""The files that a user copies beside the workflow: they load as they are."""

from __future__ import annotations

import re
import shutil
from datetime import date
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.version import Version

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.metrics import gates_of, registry
from gatehouse.release import changelog
from tests.contracts.suite import ROOT, TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

PLACES = {
    "agent.yaml": "agents/support.yaml",
    "prompt.md": "prompts/support.md",
    "golden.jsonl": "evals/golden/support.jsonl",
}
"""Where each is copied to, as the agent file's first lines say."""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A repository into which the templates were copied."""
    for name, place in PLACES.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "templates" / name, tmp_path / place)
    return tmp_path


def loaded(copied: Path) -> Agent:
    """The agent file of the templates."""
    return load_agent(PLACES["agent.yaml"], copied)


def test_the_agent_file_loads(copied: Path) -> None:
    """The agent file loads without a warning, with the prompt beside it."""
    agent = loaded(copied)
    assert agent.warnings == []
    assert agent.prompt_text == (ROOT / "templates" / "prompt.md").read_text()


def test_the_agent_file_says_where_to_copy() -> None:
    """The first lines of the agent file name the place of each file."""
    head = (ROOT / "templates" / "agent.yaml").read_text().split("agent:\n")[0]
    assert [place for place in PLACES.values() if place not in head] == []


def test_the_golden_set_fits_the_metrics(copied: Path) -> None:
    """Each case has what the agent file's metrics need, and at least one is critical."""
    agent = loaded(copied)
    golden = GoldenSet(agent.evals.dataset[0], copied)
    assert {gate.metric.name for gate in gates_of(agent)} >= set(agent.evals.metrics)
    assert [case.id for case in golden if not case.has_expected] == []
    assert any(case.critical for case in golden)


def test_the_metrics_of_the_docs_load(copied: Path) -> None:
    """Each metric that docs/metrics.md shows with its options is one that an agent file may hold."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    lines = "\n".join(line for line in text.splitlines() if line.startswith("  - "))
    shown = re.findall(r"`([\w.]+: \{.*?\})`", lines)
    named = {
        name: setting.get("metric", name) for line in shown for name, setting in yaml.safe_load(line).items()
    }
    assert set(named.values()) == {m.name for m in registry().values() if m.options}
    file = copied / PLACES["agent.yaml"]
    whole = yaml.safe_load(file.read_text())
    for line in shown:
        whole["agent"]["evals"]["metrics"] = yaml.safe_load(line)
        file.write_text(yaml.safe_dump(whole))
        assert [gate.metric.name for gate in gates_of(loaded(copied)) if not gate.implied] == [
            line.partition(":")[0]
        ]


def test_the_changelog_can_be_cut() -> None:
    """The changelog that a new project begins with has an entry, and becomes that of its first release."""
    text = (ROOT / "templates" / "CHANGELOG.md").read_text()
    assert changelog.level(text)[0] == "minor"
    released = changelog.cut(text, Version("0.1.0"), date(2026, 1, 5), "https://github.com/acme/triage", None)
    assert changelog.section(released, "0.1.0") == changelog.unreleased(text)
    assert changelog.entries(released) == []


OWN = [path for path in TEMPLATES if path.startswith("templates/")]


@pytest.mark.parametrize("path", OWN)
def test_every_workflow_template_is_run(path: str) -> None:
    """A test of `tests/workflows` names each template that it runs by act."""
    tests = "".join(file.read_text() for file in (ROOT / "tests" / "workflows").glob("test_*.py"))
    assert f'"{path.removeprefix("templates/")}"' in tests


@pytest.mark.parametrize("path", OWN)
def test_every_workflow_template_says_where_to_copy(path: str) -> None:
    """The first line names the place in the user's repository; both forms go to the same one."""
    name = path.rpartition("/")[2].replace("-one-job", "")
    assert (ROOT / path).read_text().startswith(f"# Copy to .github/workflows/{name}")
