"""A pull request that changes what it is judged by, from the template that a user copies."""

from __future__ import annotations

import json
from html import unescape
from typing import TYPE_CHECKING

from gatehouse.rehearse.model import StandInModel
from tests.workflows.test_agent_ci import GOOD, Repository, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub


def test_a_pull_request_that_lowers_its_gate_is_named(gh: GitHub, suite: Path, tmp_path: Path) -> None:
    """What makes a gate weaker is named in the comment; the gate passes, and the user's own check fails."""
    repository = Repository(gh, suite, tmp_path, "../tests/workflows/examples/gate-changes.yml")
    repository.apply(GOOD)
    agent = repository.work / "agents/refund-triage.v3.yaml"
    agent.write_text(agent.read_text().replace("exact_match: 0.85", "exact_match: 0.1"))
    golden = repository.work / "evals/golden/refund-triage.jsonl"
    first, *rest = golden.read_text().splitlines(keepends=True)
    golden.write_text("".join(rest))
    workflow = repository.work / ".github/workflows/agent-ci.yml"
    uses = "agent-ci.yml@v1\n"
    workflow.write_text(
        workflow.read_text().replace(uses, f'{uses}    with:\n      threshold: "tool_calls=0.1"\n')
    )
    repository.commit("A gate that is easier to pass")
    with StandInModel() as model:
        result = repository.play(model)
    checks = {name: end for name, end in result.jobs.items() if end != "success"}
    assert checks == {"gate-changes": "failure"}, result.log
    assert "The gate itself is weaker, or was not compared: see the scorecard." in result.log
    [comment] = repository.comments()
    assert first_line(comment).startswith("### ✅ Gatehouse: refund-triage passes")
    shown = unescape(comment["body"]).replace("<code>", "").replace("</code>", "")
    assert "#### Changes of the gate itself: 3 weaker" in shown
    assert "- ⚠️ refund-triage: threshold lowered: exact_match, 0.85 → 0.1 in " in shown
    assert f"- ⚠️ refund-triage: 1 case dropped: {json.loads(first)['id']} in " in shown
    added = "workflow input added: agent-ci: threshold: tool_calls=0.1"
    assert f"- ⚠️ .github/workflows/agent-ci.yml: {added}" in shown
    changes = json.loads((result.artifacts / "gatehouse-eval/changes.json").read_bytes())
    assert (changes["compared"], changes["weaker"], len(changes["changes"])) == (True, 3, 3)
