"""What counts as a change of the gate, and which way it goes."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.agent.definition import Budgets, Evals, Guardrails, load_agent
from gatehouse.evals.changes import compare, pairs
from gatehouse.evals.changes.base import AgentView, Change, View
from gatehouse.evals.metrics import gates_of

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = '{"type": "object"}'
AGENT: dict[str, Any] = {
    "name": "echo",
    "version": 1,
    "model": {"provider": "ollama", "name": "tiny:1b"},
    "entrypoint": "agent:answer",
    "evals": {"dataset": "golden.jsonl", "metrics": {"exact_match": 0.9}},
}


def agent_view(folder: Path, agent: dict[str, Any], path: str = "echo.yaml") -> AgentView:
    """An agent file as it is compared, its golden set left out."""
    folder.mkdir(exist_ok=True)
    (folder / "schema.json").write_text(SCHEMA)
    (folder / "other.json").write_text('{"type": "string"}')
    (folder / path).write_text(yaml.safe_dump({"agent": agent}))
    loaded = load_agent(path, folder)
    return AgentView(path, loaded.name, loaded, {gate.metric.name: gate for gate in gates_of(loaded)})


def merged(agent: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The agent with other values, mappings merged."""
    found = dict(agent)
    for key, value in change.items():
        inner = found.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        found[key] = merged(inner, value) if both and inner else value
    return found


def of_agents(*agents: AgentView) -> View:
    """A commit that has these agent files and nothing else."""
    return View(list(agents), {}, {})


def told(changes: list[Change]) -> list[str]:
    """Each change in short: effect, what, name, values."""
    shown = []
    for change in changes:
        values = " -> ".join(filter(None, [change.before or "-", change.after]))
        shown.append(f"{change.effect}: {change.what}: {change.name}: {values}")
    return shown


def metric(**values: Any) -> dict[str, Any]:
    """An agent with other metrics."""
    return {"evals": {"metrics": values}}


def evals(**values: Any) -> dict[str, Any]:
    """An agent with other settings of `evals`."""
    return {"evals": values}


WEAKER: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "threshold": (
        {},
        metric(exact_match=0.5),
        "weaker: threshold lowered: exact_match: 0.9 -> 0.5",
        "stronger: threshold raised: exact_match: 0.5 -> 0.9",
    ),
    "ceiling": (
        metric(latency_p95=2),
        metric(latency_p95=20),
        "weaker: ceiling raised: latency_p95: 2 -> 20",
        "stronger: ceiling lowered: latency_p95: 20 -> 2",
    ),
    "cost": (
        metric(cost_per_run=0.005),
        metric(cost_per_run=0.5),
        "weaker: ceiling raised: cost_per_run: 0.005 -> 0.5",
        "stronger: ceiling lowered: cost_per_run: 0.5 -> 0.005",
    ),
    "metric": (
        metric(contains=0.7),
        {},
        "weaker: metric removed: contains: 0.7",
        "stronger: metric added: contains: - -> 0.7",
    ),
    "floor": (
        metric(exact_match={"threshold": 0.9, "floor": "interval"}),
        {},
        "weaker: floor of metric changed: exact_match: interval -> value",
        "stronger: floor of metric changed: exact_match: value -> interval",
    ),
    "safety": (
        {"budgets": {"max_iterations": 3}},
        {"budgets": {"max_iterations": 3}, **metric(max_iterations=0.8)},
        "weaker: threshold lowered: max_iterations: every case -> 0.8",
        "stronger: threshold raised: max_iterations: 0.8 -> every case",
    ),
    "kind": (
        metric(polite={"metric": "own:polite", "threshold": 0.5, "kind": "safety"}),
        metric(polite={"metric": "own:polite", "threshold": 0.5, "kind": "quality"}),
        "weaker: kind of metric changed: polite: safety -> quality",
        "stronger: kind of metric changed: polite: quality -> safety",
    ),
    "max_unscored": (
        {},
        evals(max_unscored=5),
        "weaker: limit raised: max_unscored: 0 -> 5",
        "stronger: limit lowered: max_unscored: 5 -> 0",
    ),
    "max_usd": (
        evals(max_usd=2),
        evals(max_usd=20),
        "weaker: limit raised: max_usd: 2 -> 20",
        "stronger: limit lowered: max_usd: 20 -> 2",
    ),
    "on_inconclusive": (
        evals(on_inconclusive="fail"),
        {},
        "weaker: setting changed: on_inconclusive: fail -> warn",
        "stronger: setting changed: on_inconclusive: warn -> fail",
    ),
    "unpinned_model": (
        {},
        evals(unpinned_model="allow"),
        "weaker: setting changed: unpinned_model: warn -> allow",
        "stronger: setting changed: unpinned_model: allow -> warn",
    ),
    "min_kappa": (
        evals(judge={"model": "ollama:j-2024-01-01", "min_kappa": 0.6}),
        evals(judge={"model": "ollama:j-2024-01-01", "min_kappa": 0.1}),
        "weaker: agreement asked of the judge lowered: min_kappa: 0.6 -> 0.1",
        "stronger: agreement asked of the judge raised: min_kappa: 0.1 -> 0.6",
    ),
    "min_kappa removed": (
        evals(judge={"model": "ollama:j-2024-01-01", "min_kappa": 0.6}),
        evals(judge={"model": "ollama:j-2024-01-01"}),
        "weaker: agreement asked of the judge removed: min_kappa: 0.6",
        "stronger: agreement asked of the judge added: min_kappa: - -> 0.6",
    ),
    "budget": (
        {"budgets": {"daily_usd": 50}},
        {"budgets": {"daily_usd": 500}},
        "weaker: budget raised: daily_usd: 50 -> 500",
        "stronger: budget lowered: daily_usd: 500 -> 50",
    ),
    "budget removed": (
        {"budgets": {"daily_usd": 50}},
        {},
        "weaker: budget removed: daily_usd: 50",
        "stronger: budget added: daily_usd: - -> 50",
    ),
    "requests": (
        {"budgets": {"requests_per_day": 1000}},
        {"budgets": {"requests_per_day": 10}},
        "weaker: budget lowered: requests_per_day: 1000 -> 10",
        "stronger: budget raised: requests_per_day: 10 -> 1000",
    ),
    "redaction": (
        {"guardrails": {"pii_redaction": True}},
        {"guardrails": {"pii_redaction": False}},
        "weaker: guardrail switched off: pii_redaction: -",
        "stronger: guardrail switched on: pii_redaction: -",
    ),
    "schema": (
        {"guardrails": {"output_schema": "schema.json"}},
        {},
        "weaker: guardrail removed: output_schema: -",
        "stronger: guardrail added: output_schema: -",
    ),
    "tool": (
        {"tools": ["a"]},
        {"tools": ["a", "drop_tables"]},
        "weaker: tool newly allowed: drop_tables: -",
        "stronger: tool no longer allowed: drop_tables: -",
    ),
    "approval": (
        {"tools": [{"name": "pay", "approval": True}]},
        {"tools": ["pay"]},
        "weaker: tool no longer needs approval: pay: -",
        "stronger: tool now needs approval: pay: -",
    ),
    "price": (
        {"pricing": {"input_per_mtok": 1, "output_per_mtok": 2, "cached_input_per_mtok": 1}},
        {"pricing": {"input_per_mtok": 1, "output_per_mtok": 0.1}},
        "weaker: price lowered: tiny:1b: output: 2 -> 0.1",
        "stronger: price raised: tiny:1b: output: 0.1 -> 2",
    ),
}


@pytest.mark.parametrize("row", WEAKER.values(), ids=WEAKER)
def test_which_way_a_setting_goes(tmp_path: Path, row: tuple[Any, ...]) -> None:
    """A change that lets more pass is weaker, and the same change the other way round is stronger."""
    before, after = (agent_view(tmp_path / str(i), merged(AGENT, row[i])) for i in (0, 1))
    there = told(compare(of_agents(before), of_agents(after)))
    back = told(compare(of_agents(after), of_agents(before)))
    assert row[2] in there
    assert row[3] in back
    # What the file implies besides goes the same way: a guardrail's metric with the guardrail.
    assert {line.partition(":")[0] for line in there} == {"weaker"}
    assert {line.partition(":")[0] for line in back} == {"stronger"}


CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "judge": (
        evals(judge="ollama:j-2024-01-01"),
        evals(judge="ollama:k-2024-01-01"),
        'changed: judge changed: evals.judge.models: ["ollama:j-2024-01-01"] -> ["ollama:k-2024-01-01"]',
    ),
    "votes": (
        evals(judge={"model": "ollama:j-2024-01-01", "votes": 5}),
        evals(judge={"model": "ollama:j-2024-01-01", "votes": 1}),
        "changed: judge changed: evals.judge.votes: 5 -> 1",
    ),
    "embeddings": (
        {},
        evals(embeddings="ollama:e"),
        "changed: model of embeddings added: evals.embeddings: - -> ollama:e",
    ),
    "dataset": (
        {},
        evals(dataset=["golden.jsonl", "b.csv"]),
        'changed: golden set\'s path changed: evals.dataset: ["golden.jsonl"] -> ["golden.jsonl","b.csv"]',
    ),
    "schema": (
        {"guardrails": {"output_schema": "schema.json"}},
        {"guardrails": {"output_schema": "other.json"}},
        "changed: guardrail changed: output_schema: -",
    ),
    "scope": (
        {"tools": [{"name": "a", "scope": "read"}]},
        {"tools": [{"name": "a", "scope": "write"}]},
        "changed: scope of tool changed: a: read -> write",
    ),
}


UNSURE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "target": (
        metric(polite={"metric": "own:polite", "threshold": 0.5}),
        metric(polite={"metric": "own:anything", "threshold": 0.5}),
        "weaker: metric of this name changed: polite: own:polite -> own:anything",
    ),
    "price over the table's": (
        {},
        {"pricing": {"input_per_mtok": 1, "output_per_mtok": 2}},
        "weaker: price added: tiny:1b: - -> [1,1,2]",
    ),
    "no tool declared any more": ({"tools": ["a"]}, {}, "weaker: tool no longer allowed: a: -"),
}


@pytest.mark.parametrize("row", UNSURE.values(), ids=UNSURE)
def test_what_cannot_be_compared_is_weaker(tmp_path: Path, row: tuple[Any, ...]) -> None:
    """Another metric under the name, a price instead of the table's, no list of tools: a person must look."""
    before, after = (agent_view(tmp_path / str(i), merged(AGENT, row[i])) for i in (0, 1))
    assert row[2] in told(compare(of_agents(before), of_agents(after)))


def test_what_the_gate_no_longer_covers_is_weaker(tmp_path: Path) -> None:
    """An agent that the base gates and no pattern of the commit names is told, and compared all the same."""
    before, after = agent_view(tmp_path, AGENT), agent_view(tmp_path, merged(AGENT, metric(exact_match=0.1)))
    after.covered = False
    assert told(compare(of_agents(before), of_agents(after))) == [
        "weaker: agent file no longer covered by a gate: : -",
        "weaker: threshold lowered: exact_match: 0.9 -> 0.1",
    ]


@pytest.mark.parametrize("row", CHANGED.values(), ids=CHANGED)
def test_what_may_be_either_is_shown_as_changed(tmp_path: Path, row: tuple[Any, ...]) -> None:
    """A change that nobody can tell the way of is neither weaker nor stronger, in either direction."""
    before, after = (agent_view(tmp_path / str(i), merged(AGENT, row[i])) for i in (0, 1))
    assert row[2] in told(compare(of_agents(before), of_agents(after)))
    back = compare(of_agents(after), of_agents(before))
    assert not [change for change in back if change.effect == "weaker"]


def test_no_setting_goes_uncompared() -> None:
    """Every key of the parts of an agent file that make its gate is one that the tables above change."""
    rows: list[dict[str, Any]] = [
        side for row in (*WEAKER.values(), *CHANGED.values()) for side in row[:2] if isinstance(side, dict)
    ]
    mappings = [(part, value) for side in rows for part, value in side.items() if isinstance(value, dict)]
    changed = {(part, key) for part, value in mappings for key in value}
    parts = {"evals": Evals, "guardrails": Guardrails, "budgets": Budgets}
    known = {(part, field.name) for part, kind in parts.items() for field in fields(kind)}
    # max_tokens_per_run goes the way of its siblings.
    assert known - changed == {("budgets", "max_tokens_per_run")}


def test_what_the_gate_judges_is_no_change_of_it(tmp_path: Path) -> None:
    """Another model, owner, entry point or version is what the gate is for."""
    other = {"owner": "me", "version": 2, "entrypoint": "agent:other", "retrieval": {"top_k": 2}}
    other["model"] = {"provider": "ollama", "name": "big:70b"}
    before, after = agent_view(tmp_path / "0", AGENT), agent_view(tmp_path / "1", merged(AGENT, other))
    assert compare(of_agents(before), of_agents(after)) == []


def test_spellings_that_mean_the_same_are_no_change(tmp_path: Path) -> None:
    """A default written out, a threshold as a mapping, a schema at another path: all no change."""
    one = merged(AGENT, {"guardrails": {"output_schema": "schema.json"}})
    two = merged(
        one, evals(max_unscored=0, on_inconclusive="warn", metrics={"exact_match": {"threshold": 0.9}})
    )
    (tmp_path / "1" / "moved").mkdir(parents=True)
    (tmp_path / "1" / "moved/schema.json").write_text(SCHEMA)
    two = merged(two, {"guardrails": {"output_schema": "moved/schema.json"}})
    views = agent_view(tmp_path / "0", one), agent_view(tmp_path / "1", two)
    assert compare(*map(of_agents, views)) == []


def test_agents_come_and_go(tmp_path: Path) -> None:
    """An agent file is removed, added, moved under its name, or renamed at its path."""
    echo = agent_view(tmp_path / "0", AGENT)
    moved = agent_view(tmp_path / "1", AGENT, "moved.yaml")
    renamed = agent_view(tmp_path / "2", AGENT | {"name": "parrot"})
    new = agent_view(tmp_path / "3", AGENT | {"name": "owl"}, "owl.yaml")
    [gone] = compare(of_agents(echo), of_agents())
    assert (gone.effect, gone.what, gone.where, gone.agent) == (
        "weaker",
        "agent file removed",
        "echo.yaml",
        "echo",
    )
    assert told(compare(of_agents(echo), of_agents(echo, new))) == ["stronger: agent file added: : -"]
    assert told(compare(of_agents(echo), of_agents(moved))) == [
        "changed: agent file moved: : echo.yaml -> moved.yaml"
    ]
    assert told(compare(of_agents(echo), of_agents(renamed))) == ["changed: agent renamed: : echo -> parrot"]


def test_agents_are_paired_by_name_before_path(tmp_path: Path) -> None:
    """Two files that swap their contents are moved, and neither agent is compared with the other."""
    views = [
        (agent_view(tmp_path / "0", AGENT, one), agent_view(tmp_path / "0", AGENT | {"name": "owl"}, two))
        for one, two in (("a.yaml", "b.yaml"), ("b.yaml", "a.yaml"))
    ]
    found = pairs(of_agents(*views[0]), of_agents(*views[1]))
    assert [(a and a.name, b and b.name) for a, b in found] == [("echo", "echo"), ("owl", "owl")]


def test_a_base_without_agents_is_one_line(tmp_path: Path) -> None:
    """The pull request that brings Gatehouse has nothing to compare with, and is told so in one line."""
    head = View(
        [agent_view(tmp_path, AGENT)],
        {"evals/rubrics/a.yaml": "1"},
        {"w.yml": "on: push\njobs: {a: {uses: gatehouse-ci/gatehouse/x@v1}}"},
    )
    assert told(compare(View([], {}, {}), head)) == [
        "changed: the base has no agent file: there is nothing to compare with yet: : -"
    ]


@pytest.mark.parametrize("which", ["base", "pull request"])
def test_an_agent_that_cannot_be_read_is_said_to_be(tmp_path: Path, which: str) -> None:
    """An agent file of either commit that does not load is not compared: weaker, with the reason."""
    good, bad = agent_view(tmp_path, AGENT), AgentView("echo.yaml", "echo", problem="line 3: no")
    views = (bad, good) if which == "base" else (good, bad)
    [line] = told(compare(*map(of_agents, views)))
    assert line == (
        f"weaker: agent file not compared, because that of the {which} cannot be used: : - -> line 3: no"
    )


def test_the_code_of_an_own_metric(tmp_path: Path) -> None:
    """The module of a metric is named by itself, what it may import beside it in one line."""
    before, after = agent_view(tmp_path, AGENT), agent_view(tmp_path, AGENT)
    before.code = {"polite": {"own.py": "1", "a.py": "1", "b.py": "1", "gone.py": "1"}}
    after.code = {"polite": {"own.py": "2", "a.py": "2", "b.py": "1"}}
    found = compare(of_agents(before), of_agents(after))
    assert told(found) == [
        "changed: code of an own metric changed: polite: -",
        "changed: code that an own metric may import changed: polite: - -> a.py, gone.py",
    ]
    assert found[0].where == "own.py"


def test_a_golden_set_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    """Where the cases of a commit are unknown, that is a weaker gate."""
    before, after = agent_view(tmp_path, AGENT), agent_view(tmp_path, AGENT)
    after.cases = "there is no file golden.jsonl."
    [line] = told(compare(of_agents(before), of_agents(after)))
    assert line == (
        "weaker: golden set not compared, because that of the pull request cannot be read: "
        ": - -> there is no file golden.jsonl."
    )


CALIBRATED = evals(judge={"model": "ollama:j-2024-01-01", "min_kappa": 0.6})


@pytest.mark.parametrize(("agent", "effect"), [(AGENT, "changed"), (merged(AGENT, CALIBRATED), "weaker")])
def test_files_of_the_gate(tmp_path: Path, agent: dict[str, Any], effect: str) -> None:
    """Rubrics, calibrations and labels are told by kind; a calibration is weaker where one is asked for."""
    agents = [agent_view(tmp_path, agent)]
    before = {"evals/rubrics/a.yaml": "1", "evals/calibration/a.json": "1"}
    after = {
        "evals/calibration/a.json": "2",
        "evals/calibration/b.json": "1",
        "evals/labels/a.csv": "1",
        "evals/rubrics/b.yaml": "1",
    }
    found = compare(View(agents, before, {}), View(agents, after, {}))
    assert {(change.effect, change.what, change.where) for change in found} == {
        ("weaker", "rubric removed", "evals/rubrics/a.yaml"),
        (effect, "calibration changed", "evals/calibration/a.json"),
        (effect, "calibration added", "evals/calibration/b.json"),
        ("changed", "labels added", "evals/labels/a.csv"),
        ("stronger", "rubric added", "evals/rubrics/b.yaml"),
    }


WHO = "who must review changed (CODEOWNERS)"
OWNERS: dict[str, tuple[dict[str, str], dict[str, str], list[tuple[str, str, str]]]] = {
    "added": ({}, {"docs/CODEOWNERS": "1"}, [("stronger", "CODEOWNERS added", "docs/CODEOWNERS")]),
    "over another": (
        {"CODEOWNERS": "1"},
        {"CODEOWNERS": "1", ".github/CODEOWNERS": "2"},
        [("weaker", WHO, ".github/CODEOWNERS")],
    ),
    "changed": ({"CODEOWNERS": "1"}, {"CODEOWNERS": "2"}, [("weaker", WHO, "CODEOWNERS")]),
    "removed": ({"CODEOWNERS": "1"}, {}, [("weaker", WHO, "CODEOWNERS")]),
    "one that is not read": ({"CODEOWNERS": "1"}, {"CODEOWNERS": "1", "docs/CODEOWNERS": "2"}, []),
    "moved": ({"CODEOWNERS": "1"}, {".github/CODEOWNERS": "1"}, []),
}


@pytest.mark.parametrize("row", OWNERS.values(), ids=OWNERS)
def test_who_must_review(tmp_path: Path, row: tuple[dict[str, str], dict[str, str], Any]) -> None:
    """Of CODEOWNERS the one file counts that GitHub reads: another one, or other words, is weaker."""
    agents = [agent_view(tmp_path, AGENT)]
    found = compare(*(View(agents, side, {}) for side in row[:2]))
    assert [(change.effect, change.what, change.where) for change in found] == row[2]
