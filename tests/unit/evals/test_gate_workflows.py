"""What counts as a change of a workflow that uses Gatehouse."""

from __future__ import annotations

import pytest

from gatehouse.evals.changes.workflows import workflows
from tests.unit.evals.test_gate_changes import told

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
        ["weaker: workflow input raised: gate: max-per-run: 0.01 -> 5"],
    ),
    "lower ceiling": (
        "0.01",
        "0.001",
        ["stronger: workflow input lowered: gate: max-per-run: 0.01 -> 0.001"],
    ),
    "input removed": (
        '      max-per-run: "0.01"\n',
        "",
        ["changed: workflow input removed: gate: max-per-run: 0.01"],
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
        ["changed: workflow input changed: gate: threshold: exact_match=0.8,latency_p95=5 -> contains=0.8"],
    ),
    "agents": (
        "agents/a.yaml}",
        "agents/b.yaml, test: make}",
        [
            (
                "changed: workflow input changed: own: gatehouse-ci/gatehouse: agent: "
                "agents/a.yaml -> agents/b.yaml"
            ),
            "changed: workflow input added: own: gatehouse-ci/gatehouse: test: - -> make",
        ],
    ),
    "pin": (
        "agent-ci.yml@v1",
        "agent-ci.yml@evil",
        [
            (
                "changed: what is used changed: gate: "
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
    "trigger": ("  pull_request:\n", "", ["weaker: trigger removed: pull_request: -"]),
    "more triggers": (
        "  pull_request:\n",
        "  pull_request:\n  pull_request_target:\n",
        ["changed: trigger added: pull_request_target: -"],
    ),
    "filter": (
        "  pull_request:\n",
        "  pull_request: {paths: [x]}\n",
        ['changed: trigger added: pull_request: - -> {"paths":["x"]}'],
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
        ["changed: changed otherwise: own: - -> runs-on, env"],
    ),
    "on top": ("permissions: {}", "permissions: {}\nenv: {A: b}", ["changed: changed otherwise: : - -> env"]),
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
