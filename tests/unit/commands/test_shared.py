"""What the commands share: options, agent files, names, and the failure left behind for the next stage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest

from gatehouse.commands._agents import agent_files, require_unique, rough_name
from gatehouse.commands._numbers import Dollars
from gatehouse.commands._shared import (
    Result,
    Thresholds,
    exit_code,
    finish,
    first_lines,
    folder_of,
    leave,
)
from gatehouse.errors import Exit, GatehouseError, InfrastructureError, Problem, State, UserError
from gatehouse.evals.metrics import registry
from tests.support.projects import call, write_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exact_match=0.85", {"exact_match": 0.85}),
        ("a=1,b=.5", {"a": 1.0, "b": 0.5}),
        (" a = 1 , b = 2 ,", {"a": 1.0, "b": 2.0}),
        ("a=1\nb=2\n", {"a": 1.0, "b": 2.0}),
        ("a=0", {"a": 0.0}),
    ],
)
def test_thresholds(text: str, expected: dict[str, float]) -> None:
    """Thresholds are name=number, separated by commas or lines."""
    assert Thresholds().convert(text, None, None) == expected
    assert Thresholds().convert(expected, None, None) == expected


@pytest.mark.parametrize(
    "text", ["a", "a=", "=1", "a=x", "a=nan", "a=inf", "a=-inf", "a=1,a=1", "a=1=2", "1"]
)
def test_what_is_no_threshold(text: str) -> None:
    """Every part that is no name=number, or names a metric twice, is told."""
    with pytest.raises(click.BadParameter, match="write name=number once for each metric"):
        Thresholds().convert(text, None, None)


@pytest.mark.parametrize(("value", "dollars"), [("0.05", 0.05), ("0", 0.0), (1.5, 1.5), ("1e-3", 0.001)])
def test_dollars(value: Any, dollars: float) -> None:
    """An amount may be nothing at all."""
    assert Dollars().convert(value, None, None) == dollars


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-1", "-0.01", "", "$5", "5 USD", "0,05"])
def test_what_is_no_amount(value: str) -> None:
    """Neither nan nor less than nothing is an amount."""
    with pytest.raises(click.BadParameter, match=r"is not an amount of US dollars, such as 0.05"):
        Dollars().convert(value, None, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_agent_files(folder: Path) -> None:
    """Patterns and names, each file once and in order; without any, what lies in `agents`."""
    (folder / "agents").mkdir()
    for name in ("agents/b.yaml", "agents/a.yml", "agents/c.json", "d.yaml", "agents/[x].yaml"):
        (folder / name).touch()
    assert agent_files(()) == ["agents/[x].yaml", "agents/a.yml", "agents/b.yaml"]
    assert agent_files(("agents/*.y*ml", "agents/b.yaml", "d.yaml")) == [
        "agents/[x].yaml",
        "agents/a.yml",
        "agents/b.yaml",
        "d.yaml",
    ]
    assert agent_files(("agents/[x].yaml",)) == ["agents/[x].yaml"]
    assert agent_files(("**/b.yaml",)) == ["agents/b.yaml"]


@pytest.mark.parametrize("pattern", ["no.yaml", "agents", "*.json", "/abs/*.yaml", "***", "", "a" * 5000])
def test_a_pattern_that_names_nothing(folder: Path, pattern: str) -> None:
    """Each name without a file is told, also one that no file could have."""
    (folder / "agents").mkdir()
    with pytest.raises(UserError) as caught:
        agent_files((pattern, "other.yaml"))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("agent: {name: triage, unknown: 1}", "triage"),
        ("agent: {name: ../../etc}", "my-agent.v2"),
        ("agent: {name: a..b}", "my-agent.v2"),
        ("agent: {name: scorecard.json}", "my-agent.v2"),
        ("agent: {name: [x]}", "my-agent.v2"),
        ("agent: [", "my-agent.v2"),
        ("agent: 5", "my-agent.v2"),
        ("", "my-agent.v2"),
        ("[" * 100_000, "my-agent.v2"),
        ("&a [*a]", "my-agent.v2"),
        (None, "my-agent.v2"),
    ],
)
def test_rough_name(folder: Path, content: str | None, name: str) -> None:
    """A broken file's agent is called what the file says where that is a name, else after the file."""
    if content is not None:
        (folder / "My Agent.v2.yaml").write_text(content)
    assert rough_name("My Agent.v2.yaml") == name


def test_names_are_unique(folder: Path) -> None:
    """Files that share a name are all told, for their results would lie in one folder."""
    for file in ("a", "b", "c"):
        (folder / f"{file}.yaml").write_text(f"agent: {{name: {'x' if file != 'b' else 'y'}}}")
    require_unique(["a.yaml", "b.yaml"])
    with pytest.raises(UserError, match=r"c.yaml and a.yaml are both named x"):
        require_unique(["a.yaml", "b.yaml", "c.yaml"])


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], Exit.PASS),
        ([0, 3], Exit.UNSCORED),
        ([3, 2], Exit.INVALID),
        ([3, 2, 1, 0], Exit.FAIL),
        ([], Exit.PASS),
    ],
)
def test_the_exit_code_of_several_agents(codes: list[int], expected: Exit) -> None:
    """A failed gate first, then a file to mend, then what was not measured."""
    assert exit_code([Result("a", State.PASS, "", Exit(code)) for code in codes]) == expected


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InfrastructureError("no network\nTraceback ..."), "no network"),
        (UserError("plain"), "plain"),
        (UserError(Problem("what", "f.yaml", 3, 1, source="x", repair="do")), "f.yaml:3: what"),
        (UserError(Problem("what", "f.yaml")), "f.yaml: what"),
        (UserError(*[Problem(f"p{i}") for i in range(5)]), "p0 p1 p2 (and 2 more)"),
    ],
)
def test_first_lines(error: GatehouseError, text: str) -> None:
    """A verdict file holds the error in a line: places, no carets, three problems at most."""
    assert first_lines(error) == text


@pytest.mark.parametrize("file", ["eval.json", "cost.json"])
def test_what_a_failed_stage_leaves(folder: Path, file: str) -> None:
    """The verdict file says of which agent it is, that nothing was measured, and why."""
    leave(folder_of("a", None), file, "a", "agents/a.yaml", UserError("broken"))
    left = json.loads((folder / ".gatehouse/a" / file).read_text())
    assert (left["state"], left["reason"], left["exit_code"]) == ("unscored", "broken", 2)
    assert left["agent"] == {"name": "a", "version": None, "digest": None, "path": "agents/a.yaml"}
    assert left["dataset"] is None
    assert left["commit"] is None


def test_a_reason_is_one_line_for_later_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model wrote reaches no output with line ends, escapes or characters that nobody sees."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(folder / "output"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    reason = "bad:\n::error::x\r\x1b[31mred\x00 \u202eevil\u200b \ud800.\u2028end"
    for count in (1, 2):
        (folder / "output").write_text("")
        results = [Result(f"a{i}", State.FAIL, reason, Exit.FAIL) for i in range(count)]
        with click.Context(click.Command("x")), pytest.raises(click.exceptions.Exit):
            finish(results)
        text = (folder / "output").read_text()
        clean = "bad: ::error::x red evil \ufffd. end"
        assert "\n" + (clean if count == 1 else f"a0: {clean}; a1: {clean}") + "\n" in text
        [agents] = [json.loads(line) for line in text.splitlines() if line.startswith("[")]
        assert [agent["reason"] for agent in agents] == [clean] * count


def test_metrics_lists_every_metric(folder: Path) -> None:
    """`gatehouse metrics` shows each metric with its kind, direction, needs and options."""
    out = call(folder, "metrics").out
    assert {line.split()[0] for line in out.splitlines() if not line.startswith(" ")} == set(registry())
    assert "latency_p95  (latency, at most the threshold, in s)\n" in out
    assert "    Options: match.\n" in out
    assert "Needs guardrails.output_schema." in out


def test_a_warning_stops_nothing(folder: Path) -> None:
    """A model that is not pinned is told with its line, and the gate goes on."""
    write_project(folder, model={"provider": "ollama", "name": "llama3"})
    done = call(folder, "eval-gate")
    assert done.code == Exit.PASS
    assert 'warning: agents/echo.yaml:7: "llama3" names no fixed model' in done.out


def test_agent_files_of_a_folder_above_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of the repository its root is named; what lies outside the repository is not."""
    for folder in ("agents", "repository/.git", "repository/docs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "agents/far.yaml").write_text("")
    monkeypatch.chdir(tmp_path / "repository/docs")
    with pytest.raises(UserError, match=r"agents/\*\.yaml\. Name yours with --agent"):
        agent_files(())
    (tmp_path / "repository/agents").mkdir()
    (tmp_path / "repository/agents/near.yml").write_text("")
    with pytest.raises(UserError, match=r"Agent files lie in \S+/agents: run it in \S+/repository\."):
        agent_files(())


def test_a_fault_of_an_option_is_said_once(tmp_path: Path) -> None:
    """However many agents it is for."""
    write_project(tmp_path)
    [file] = (tmp_path / "agents").iterdir()
    text = file.read_text()
    name = next(line for line in text.splitlines() if "name:" in line)
    for other in ("b", "c"):
        copy = text.replace(name, name.partition(":")[0] + f": {other}", 1)
        (tmp_path / f"agents/{other}.yaml").write_text(copy)
    done = call(tmp_path, "eval-gate", "--threshold", "exact_match=1.5")
    assert done.code == Exit.INVALID
    assert (done.err.count("1.5"), len(list((tmp_path / ".gatehouse").glob("*/eval.json")))) == (1, 3)
