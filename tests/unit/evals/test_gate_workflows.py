"""What counts as a change of a workflow that uses Gatehouse."""

from __future__ import annotations

from time import process_time
from typing import TYPE_CHECKING

import pytest

from gatehouse.agent.definition import AGENT_FILES
from gatehouse.evals.changes import compare
from gatehouse.evals.changes.base import View
from gatehouse.evals.changes.workflows import agent_patterns, workflows
from tests.unit.evals.test_gate_changes import AGENT, agent_view, merged, metric, told

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
on:
  pull_request:
  push:
    branches: [develop]
permissions: {}
jobs:
  gate:
    permissions:
      contents: read
    uses: gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1
    with:
      max-per-run: "0.01"
      threshold: exact_match=0.8,latency_p95=5
    secrets:
      model-key: ${{ secrets.MODEL_KEY }}
  own:
    runs-on: ubuntu-latest
    steps:
      - run: make
      - uses: gatehouse-ci/gatehouse@v1
        with: {agent: agents/a.yaml}
"""
WORKFLOWS: dict[str, tuple[str, str, list[str]]] = {
    "ceiling": (
        'max-per-run: "0.01"',
        "max-per-run: 5",
        ["weaker: workflow input changed: gate: max-per-run: 0.01 -> 5"],
    ),
    "lower ceiling": (
        "0.01",
        "0.001",
        ["stronger: workflow input changed: gate: max-per-run: 0.01 -> 0.001"],
    ),
    "input removed": (
        '      max-per-run: "0.01"\n',
        "",
        ["weaker: workflow input removed: gate: max-per-run: 0.01"],
    ),
    "threshold": (
        "exact_match=0.8",
        "exact_match=0.1",
        [
            (
                "weaker: workflow input changed: gate: threshold: "
                "exact_match=0.8,latency_p95=5 -> exact_match=0.1,latency_p95=5"
            )
        ],
    ),
    "stronger threshold": (
        "latency_p95=5",
        "latency_p95=1",
        [
            (
                "stronger: workflow input changed: gate: threshold: "
                "exact_match=0.8,latency_p95=5 -> exact_match=0.8,latency_p95=1"
            )
        ],
    ),
    "other threshold": (
        "exact_match=0.8,latency_p95=5",
        "contains=0.8",
        ["weaker: workflow input changed: gate: threshold: exact_match=0.8,latency_p95=5 -> contains=0.8"],
    ),
    "agents": (
        "agents/a.yaml}",
        "agents/b.yaml, test: make}",
        [
            (
                "weaker: workflow input changed: own: gatehouse-ci/gatehouse: agent: "
                "agents/a.yaml -> agents/b.yaml"
            ),
            "stronger: workflow input added: own: gatehouse-ci/gatehouse: test: - -> make",
        ],
    ),
    "pin": (
        "agent-ci.yml@v1",
        "agent-ci.yml@evil",
        [
            (
                "weaker: what is used changed: gate: "
                "gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1"
                " -> gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@evil"
            )
        ],
    ),
    "elsewhere": (
        "gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1",
        "evil/green/.github/workflows/agent-ci.yml@v1",
        [
            (
                "weaker: Gatehouse no longer used: gate: "
                "gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1"
                " -> evil/green/.github/workflows/agent-ci.yml@v1"
            )
        ],
    ),
    "another owner": (
        "uses: gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1",
        "uses: evil/gatehouse/.github/workflows/agent-ci.yml@v1",
        [
            (
                "weaker: Gatehouse no longer used: gate: "
                "gatehouse-ci/gatehouse/.github/workflows/agent-ci.yml@v1"
                " -> evil/gatehouse/.github/workflows/agent-ci.yml@v1"
            )
        ],
    ),
    "dataset": (
        "{agent: agents/a.yaml}",
        "{agent: agents/a.yaml, dataset: easy.jsonl}",
        ["weaker: workflow input added: own: gatehouse-ci/gatehouse: dataset: - -> easy.jsonl"],
    ),
    "no judging": (
        "{agent: agents/a.yaml}",
        "{agent: agents/a.yaml, concurrency: 2}",
        ["changed: workflow input added: own: gatehouse-ci/gatehouse: concurrency: - -> 2"],
    ),
    "expression": (
        "exact_match=0.8,latency_p95=5",
        "${{ vars.LOW }}",
        [
            (
                "weaker: workflow input changed: gate: threshold: "
                "exact_match=0.8,latency_p95=5 -> ${{ vars.LOW }}"
            )
        ],
    ),
    "step's environment": (
        "        with: {agent: agents/a.yaml}\n",
        "        with: {agent: agents/a.yaml}\n        env: {GATEHOUSE_EVAL_GATE_DATASET: x, A: b}\n",
        [
            ("weaker: environment changed: own: gatehouse-ci/gatehouse: - -> GATEHOUSE_EVAL_GATE_DATASET"),
            "changed: environment changed: own: gatehouse-ci/gatehouse: - -> A",
        ],
    ),
    "job's environment": (
        "    runs-on: ubuntu-latest\n",
        "    runs-on: ubuntu-latest\n    env: {PYTHONPATH: x}\n",
        ["weaker: environment changed: own: - -> PYTHONPATH"],
    ),
    "workflow's environment": (
        "permissions: {}\n",
        "permissions: {}\nenv: {GATEHOUSE_EVAL_GATE_DATASET: x}\n",
        ["weaker: environment changed: : - -> GATEHOUSE_EVAL_GATE_DATASET"],
    ),
    "written environment": (
        "run: make",
        "run: echo GATEHOUSE_EVAL_GATE_DATASET=x >> $GITHUB_ENV",
        [
            "weaker: scripts that may call Gatehouse changed: own: -",
            "changed: other steps changed: own: -",
        ],
    ),
    "matrix": (
        "    runs-on: ubuntu-latest\n",
        "    runs-on: ubuntu-latest\n    strategy: {matrix: {a: []}}\n",
        ["weaker: changed otherwise: own: - -> strategy"],
    ),
    "needs": (
        "    permissions:\n      contents: read\n",
        "    permissions:\n      contents: read\n    needs: own\n",
        ["weaker: changed otherwise: gate: - -> needs"],
    ),
    "trigger": ("  pull_request:\n", "", ["weaker: trigger removed: pull_request: -"]),
    "more triggers": (
        "  pull_request:\n",
        "  pull_request:\n  pull_request_target:\n",
        ["changed: trigger added: pull_request_target: -"],
    ),
    "filter": (
        "  pull_request:\n",
        "  pull_request: {paths: [x]}\n",
        ['weaker: trigger changed: pull_request: - -> {"paths":["x"]}'],
    ),
    "condition": ("    with:\n", "    if: false\n    with:\n", ["weaker: condition added: gate: - -> false"]),
    "lenient": (
        "    runs-on: ubuntu-latest\n",
        "    runs-on: ubuntu-latest\n    continue-on-error: true\n",
        ["weaker: continue-on-error changed: own: false -> true"],
    ),
    "permissions": (
        "      contents: read\n",
        "      contents: write\n",
        ['changed: permissions of a job changed: gate: {"contents":"read"} -> {"contents":"write"}'],
    ),
    "secrets": (
        "secrets.MODEL_KEY",
        "secrets.OTHER",
        [
            (
                'changed: secrets of a job changed: gate: {"model-key":"${{ secrets.MODEL_KEY }}"}'
                ' -> {"model-key":"${{ secrets.OTHER }}"}'
            )
        ],
    ),
    "step": (
        "      - uses: gatehouse-ci/gatehouse@v1\n        with: {agent: agents/a.yaml}\n",
        "",
        ["weaker: step removed: own: gatehouse-ci/gatehouse: -"],
    ),
    "other step": ("run: make", "run: make green", ["changed: other steps changed: own: -"]),
    "otherwise": (
        "    runs-on: ubuntu-latest\n",
        "    runs-on: mine\n    env: {A: b}\n",
        ["changed: environment changed: own: - -> A", "changed: changed otherwise: own: - -> runs-on"],
    ),
    "on top": ("permissions: {}", "permissions: {}\nenv: {A: b}", ["changed: environment changed: : - -> A"]),
    "job": (
        "  own:\n    runs-on: ubuntu-latest\n    steps:\n      - run: make\n",
        "  another:\n    steps:\n",
        ["weaker: job removed: own: -", "stronger: job added: another: -"],
    ),
    "layout": (
        '"0.01"',
        "0.01 # dollars\n      ",
        [],
    ),
    "broken": (
        "permissions: {}",
        "permissions: [}",
        ["weaker: workflow file not compared: : - -> it is no YAML from line 6 on"],
    ),
    "bomb": (
        "permissions: {}",
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]"
        ),
        [
            (
                "weaker: workflow file not compared: : - -> "
                "it holds more than 20000 values, or more than 40 levels"
            )
        ],
    ),
}


@pytest.mark.parametrize("row", WORKFLOWS.values(), ids=WORKFLOWS)
def test_workflows(row: tuple[str, str, list[str]]) -> None:
    """A change of a workflow that uses Gatehouse is told by its job and key."""
    assert row[0] in WORKFLOW
    after = WORKFLOW.replace(row[0], row[1])
    found = list(workflows({"w.yml": WORKFLOW}, {"w.yml": after}))
    assert told(found) == row[2]
    assert {change.where for change in found} <= {"w.yml"}


def test_only_workflows_that_use_gatehouse_count() -> None:
    """Another workflow may change; one that uses a local one with Gatehouse in it counts too."""
    caller = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/w.yml\n"
    local = "on: push\njobs:\n  a:\n    steps:\n      - uses: ./.github/actions/gate\n"
    files = {
        ".github/workflows/w.yml": WORKFLOW,
        ".github/workflows/caller.yml": caller,
        ".github/workflows/local.yml": local,
        ".github/actions/gate/action.yml": "runs:\n  steps:\n    - uses: gatehouse-ci/gatehouse@v1\n",
        ".github/workflows/other.yml": "on: push\njobs:\n  a:\n    uses: x/y@v1\n",
    }
    after = {path: text.replace("on: push", "on: release") for path, text in files.items()}
    found = list(workflows(files, after))
    assert {change.where for change in found} == {
        ".github/workflows/caller.yml",
        ".github/workflows/local.yml",
    }
    gone = list(workflows(files, {}))
    assert {change.what for change in gone} == {"workflow file removed"}
    assert len(gone) == 4


def test_a_workflow_that_cannot_be_read_is_said_to_be() -> None:
    """A link, or a file that is too large, may hide anything: it is not compared, which is weaker."""
    [change] = workflows({"w.yml": WORKFLOW}, {"w.yml": None})
    assert (change.effect, change.what) == ("weaker", "workflow file not compared")


def gate(**given: str) -> str:
    """A workflow that calls Gatehouse with these inputs."""
    inputs = "".join(f'      {key.replace("_", "-")}: "{value}"\n' for key, value in given.items())
    return f"on: push\njobs:\n  a:\n    uses: o/gatehouse/x@v1\n    with:\n      runner: x\n{inputs}"


HELD = metric(exact_match=0.9, latency_p95=2, cost_per_run=0.01) | {"budgets": {"max_iterations": 3}}
HELD["evals"]["max_usd"] = 2
INPUTS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "below the file": ({}, {"threshold": "exact_match=0.1"}, "weaker"),
    "above the file": ({}, {"threshold": "exact_match=0.95"}, "stronger"),
    "as the file": ({}, {"threshold": "exact_match=0.9"}, "changed"),
    "above the file's ceiling": ({}, {"threshold": "exact_match=0.95,latency_p95=20"}, "weaker"),
    "a metric more": ({}, {"threshold": "contains=0.1"}, "stronger"),
    "every case no longer": ({}, {"threshold": "max_iterations=0.5"}, "weaker"),
    "stricter than the file, removed": ({"threshold": "exact_match=0.95"}, {}, "weaker"),
    "laxer than the file, removed": ({"threshold": "exact_match=0.1"}, {}, "stronger"),
    "a metric of its own, removed": ({"threshold": "contains=0.1"}, {}, "weaker"),
    "another metric": ({"threshold": "exact_match=0.95"}, {"threshold": "latency_p95=1"}, "weaker"),
    "no number": ({}, {"threshold": "exact_match=${{ vars.LOW }}"}, "weaker"),
    "nan": ({}, {"threshold": "exact_match=nan"}, "weaker"),
    "cost over the file's": ({}, {"max_per_run": "5"}, "weaker"),
    "cost under the file's": ({}, {"max_per_run": "0.001"}, "stronger"),
    "cost of nothing": ({"max_per_resolved": "1"}, {}, "weaker"),
    "cost where none was": ({}, {"max_per_resolved": "1"}, "stronger"),
    "spending over the file's": ({}, {"max_usd": "50"}, "weaker"),
    "spending under the file's": ({}, {"max_usd": "0.5"}, "stronger"),
    "tests": ({"test": "make test"}, {}, "weaker"),
    "other tests": ({"test": "make test"}, {"test": "true"}, "weaker"),
    "more tests": ({}, {"test": "make test"}, "stronger"),
    "fewer agents": ({"agent": "*.yaml"}, {"agent": "echo.yaml"}, "weaker"),
    "more agents": ({"agent": "echo.yaml"}, {"agent": "*.yaml"}, "stronger"),
    "one of the default agents": ({}, {"agent": "agents/a.yaml"}, "weaker"),
    "the default agents again": ({"agent": "agents/a.yaml"}, {}, "stronger"),
    "a folder is no part of a pattern": ({"agent": "a/b/c.yaml"}, {"agent": "a/*"}, "weaker"),
    "agents by an expression": ({"agent": "a.yaml"}, {"agent": "${{ vars.A }}"}, "weaker"),
    "another judge": ({}, {"judge": "ollama:j"}, "weaker"),
    "not known": ({}, {"anything": "x"}, "weaker"),
    "how it runs": ({}, {"concurrency": "2"}, "changed"),
}


@pytest.mark.parametrize("row", INPUTS.values(), ids=INPUTS)
def test_inputs_count_by_what_holds_with_the_file(
    tmp_path: Path, row: tuple[dict[str, str], dict[str, str], str]
) -> None:
    """An input is weaker or stronger by what the agent is held to with it, and without it by its file."""
    view = agent_view(tmp_path, merged(AGENT, HELD))
    both = [View([view], {}, {"w.yml": gate(**side)}) for side in row[:2]]
    found = compare(*both)
    assert [change.effect for change in found] == [row[2]]
    assert found[0].what.startswith("workflow input ")


def test_an_input_is_compared_with_the_file_of_its_own_side(tmp_path: Path) -> None:
    """A threshold that moves from the workflow into the file, as it is, makes nothing weaker."""
    before = agent_view(tmp_path / "0", merged(AGENT, metric(exact_match=0.5)))
    after = agent_view(tmp_path / "1", AGENT)
    texts = gate(threshold="exact_match=0.9"), gate()
    views = (View([view], {}, {"w.yml": text}) for view, text in zip((before, after), texts, strict=True))
    assert told(compare(*views)) == [
        "changed: workflow input removed: a: threshold: exact_match=0.9",
        "stronger: threshold raised: exact_match: 0.5 -> 0.9",
    ]


TRIGGERS = {
    "paths": ("", "{paths: [x]}", "weaker", "weaker"),
    "paths-ignore": ("{paths-ignore: [x]}", "{paths-ignore: [x, y]}", "weaker", "weaker"),
    "branches": ("{branches: [a, b]}", "{branches: a}", "weaker", "stronger"),
    "types": ("{types: [opened, labeled]}", "{types: [opened]}", "weaker", "stronger"),
    "other branches": ("{branches: [a]}", "{branches: [b]}", "weaker", "weaker"),
    "except": ("{paths: [a]}", "{paths: [a, '!a']}", "weaker", "weaker"),
    "text": ("", "x", "weaker", "weaker"),
}


@pytest.mark.parametrize("row", TRIGGERS.values(), ids=TRIGGERS)
def test_filters_of_a_trigger(row: tuple[str, str, str, str]) -> None:
    """A filter that names more is stronger, any other change of one weaker, and back again."""
    before, after = (WORKFLOW.replace("pull_request:", f"pull_request: {side}") for side in row[:2])
    [change] = workflows({"w.yml": before}, {"w.yml": after})
    [back] = workflows({"w.yml": after}, {"w.yml": before})
    assert (change.effect, back.effect) == row[2:]


CALL = "on: push\njobs:\n  a:\n    steps:\n      - run: {}\n      - run: make\n"


@pytest.mark.parametrize(
    "script",
    ["gatehouse eval-gate --threshold x=0.9", "python -m gatehouse eval-gate", "uvx gatehouse-ci eval-gate"],
)
def test_a_gate_in_a_script(script: str) -> None:
    """A file that calls Gatehouse in `run:` alone is a gate's too, and another call is weaker."""
    base = {"w.yml": CALL.format(script)}
    found = told(list(workflows(base, {"w.yml": CALL.format("gatehouse eval-gate --threshold x=0")})))
    assert found[0] == "weaker: scripts that may call Gatehouse changed: a: -"
    assert told(list(workflows(base, {"w.yml": CALL.format("true")})))[0] == found[0]
    [change] = workflows(base, {"w.yml": base["w.yml"].replace("make", "make all")})
    assert change.effect == "changed"
    [change] = workflows(base, {"w.yml": base["w.yml"].replace("    steps", "    needs: b\n    steps")})
    assert change.effect == "weaker"


def test_an_environment_beside_a_script() -> None:
    """A variable for the step that calls Gatehouse by a script is not compared either."""
    base = CALL.format("gatehouse eval-gate")
    after = base.replace("eval-gate\n", "eval-gate\n        env: {GATEHOUSE_EVAL_GATE_DATASET: x}\n")
    assert "weaker: environment changed: a: - -> GATEHOUSE_EVAL_GATE_DATASET" in told(
        list(workflows({"w.yml": base}, {"w.yml": after}))
    )


def test_what_others_use_is_no_gate() -> None:
    """Another version of what is not Gatehouse, and other keys of a job without it, are not weaker."""
    other = "  lint:\n    uses: x/y/.github/workflows/l.yml@v1\n"
    base = WORKFLOW + other
    after = base.replace("l.yml@v1\n", "l.yml@v2\n    strategy: {matrix: {a: [1]}}\n")
    assert told(list(workflows({"w.yml": base}, {"w.yml": after}))) == [
        (
            "changed: what is used changed: lint: "
            "x/y/.github/workflows/l.yml@v1 -> x/y/.github/workflows/l.yml@v2"
        ),
        "changed: changed otherwise: lint: - -> strategy",
    ]


def test_which_agents_a_commit_gates() -> None:
    """The patterns that its workflows write out, and the default ones for a gate that names none."""
    named = gate(agent="agents/b.yaml").replace("o/gatehouse/x", "./.github/workflows/v.yml")
    files = {"w.yml": WORKFLOW, "v.yml": gate(agent="${{ inputs.agent }}"), "u.yml": gate(runner="x")}
    assert sorted(agent_patterns(files)) == ["agents/*.yaml", "agents/*.yml", "agents/a.yaml"]
    assert agent_patterns({"n.yml": "# gatehouse\n" + named}) == ["agents/b.yaml"]
    assert agent_patterns({"o.yml": "on: push\njobs: {a: {with: {agent: x}}}", "p.yml": None}) == []


def test_the_default_agents_are_those_of_the_commands() -> None:
    """What a workflow without the input gates is what a command without --agent does."""
    assert AGENT_FILES == ("agents/*.yaml", "agents/*.yml")


MIB = 2**20
HOSTILE = {
    "nesting": "[" * MIB,
    "balanced": "[" * (MIB // 2) + "]" * (MIB // 2),
    "indents": "".join(" " * i + "a:\n" for i in range(1400)),
    "flow": "a: [" + "[]," * (MIB // 3) + "]",
    "mapping": "".join(f"k{i}: 1\n" for i in range(90_000)),
    "aliases": "a: &a x\nb: [" + "*a," * (MIB // 3) + "]",
    "anchors": "b: [" + "".join(f"&a{i} x," for i in range(100_000)) + "]",
    "merges": "a: &a {b: c}\n" + "d: {<<: *a}\n" * (MIB // 12),
    "one key": "d: {}\n" * (MIB // 6),
    "tags": "".join(f"%TAG !a{i}! x\n" for i in range(66_000)),
    "complex keys": "? [a]\n: b\n" * (MIB // 10),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_workflow_takes_no_time(text: str) -> None:
    """A file of 1 MiB that is made to be slow is refused within a second's work, by how much it holds."""
    begun = process_time()
    [change] = workflows({"w.yml": WORKFLOW}, {"w.yml": f"{text}\n# gatehouse"})
    assert process_time() - begun < 1
    assert change.what == "workflow file not compared"
    assert change.after.startswith("it holds more than ")


def test_many_steps_and_many_files_take_no_time() -> None:
    """Thousands of steps that use one action, and a thousand files each of which uses the next."""
    step = "\n      - uses: o/gatehouse@v1"
    many = f"on: push\njobs:\n  a:\n    steps:{step * 6000}\n"
    chain = {
        f".github/workflows/{i}.yml": f"jobs: {{a: {{uses: ./.github/workflows/{i + 1}.yml}}}}"
        for i in range(1000)
    }
    begun = process_time()
    assert len(list(workflows({"w.yml": many}, {"w.yml": many.removesuffix(step + "\n")}))) == 1
    ours = {".github/workflows/1000.yml": WORKFLOW}
    assert len(list(workflows(chain | ours, {}))) == 1001
    assert process_time() - begun < 8
