"""The agent file, rule by rule of its schema: each one broken is refused with its line and what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.agent.definition import load_agent
from gatehouse.agent.schema import validator
from gatehouse.errors import Exit, UserError
from tests.support.agent_files import COMMAND, FULL, URL, put, with_entrypoint
from tests.support.projects import call, write_project
from tests.support.wrong import Wrong, keys_of, missing_of, wrong

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Any = validator("agent").schema
FILES = {"function": FULL, "command": with_entrypoint(COMMAND), "url": with_entrypoint(URL)}
JUDGES = {"text": "ollama:llama3.1:70b", "list": ["ollama:llama3.1:70b"]}
FILES |= {
    f"judge is a {name}": put(FULL, ("agent", "evals", "judge"), judge) for name, judge in JUDGES.items()
}
FILES["one price"] = put(FULL, ("agent", "pricing"), FULL["agent"]["pricing"]["llama3.1:8b"])
FILES["tools by name"] = put(FULL, ("agent", "tools"), ["look"])
FILES["one golden set"] = put(FULL, ("agent", "evals", "dataset"), "golden.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with every file that the agent files name."""
    folder = write_project(tmp_path_factory.mktemp("place"))
    (folder / "schema.json").write_text('{"type": "object"}')
    return folder


def refused(place: Path, data: Any) -> UserError | None:
    """The error of this agent file, None where it loads."""
    (place / "agents/echo.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    try:
        load_agent("agents/echo.yaml", place)
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_right(place: Path, name: str) -> None:
    """What is broken below loads as long as it is whole."""
    assert refused(place, FILES[name]) is None


def test_every_key_of_the_schema_is_tried() -> None:
    """A key that is added to the schema is broken below, or named here as missing."""
    described = [set(missing_of(SCHEMA, data)) for data in FILES.values()]
    assert set.intersection(*described) <= {
        "agent.fallback_model.temperature",
        "agent.fallback_model.max_tokens",
        "agent.fallback_model.base_url",
        "agent.fallback_model.parameters",
        "agent.evals.metrics.mine.kind",
    }, "described once as the keys of the model, or those of a metric of the agent's own"
    whole = set().union(*(set(_names(data)) for data in FILES.values()))
    assert not set(_described(SCHEMA, ("agent",))) - whole


def _names(data: Any) -> list[str]:
    return [_joined(at) for at in keys_of(SCHEMA, data)]


def _joined(at: tuple[str | int, ...]) -> str:
    return ".".join("[]" if isinstance(step, int) else step for step in at)


def _described(schema: dict[str, Any], at: tuple[str, ...]) -> list[str]:
    below = schema["properties"][at[-1]].get("properties", {})
    return [".".join((*at, key)) for key in below]


ROWS: dict[str, list[tuple[str, Wrong]]] = {}
for _name, _data in FILES.items():
    for _row in wrong(SCHEMA, _data):
        ROWS.setdefault(f"{_row.key} {_row.rule}", []).append((_name, _row))


@pytest.mark.parametrize("rule", ROWS)
def test_every_rule_broken_is_told(place: Path, rule: str) -> None:
    """The error says which key, on which line, and what to do; all in a few lines and without a traceback."""
    name, row = ROWS[rule][0]
    error = refused(place, row.put(FILES[name]))
    assert error is not None
    assert error.code == Exit.INVALID
    told = [problem for problem in error.problems if problem.path == "agents/echo.yaml"]
    assert told == error.problems
    assert all(problem.line for problem in told)
    text = str(error)
    last = next((str(step) for step in reversed(row.at) if isinstance(step, str)), "document")
    assert last in text, text
    assert any(problem.repair for problem in told), text
    assert len(text) < 20_000


@pytest.mark.parametrize("command", ["eval-gate", "run", "score", "verdict", "cost-gate", "plan", "metrics"])
def test_every_command_that_reads_it_refuses_it(tmp_path: Path, command: str) -> None:
    """Each command ends with 2, names file and line, and leaves nothing behind that passes."""
    write_project(tmp_path)
    (tmp_path / "agents/echo.yaml").write_text(yaml.safe_dump(put(FULL, ("agent", "version"), 1.5)))
    args = () if command == "plan" else ("--agent", "agents/echo.yaml")
    done = call(tmp_path, command, *args)
    assert done.code == Exit.INVALID, done
    said = done.out if command == "metrics" else done.err
    assert '"version" is a number (1.5)' in said
    assert "agents/echo.yaml:" in said
    for path in tmp_path.rglob(".gatehouse/*/*.json"):
        assert json.loads(path.read_text())["state"] == "unscored"
