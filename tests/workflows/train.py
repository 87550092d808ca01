"""A package's repository with the templates as its workflows, and each of them played by act."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.agent.definition import load_agent
from gatehouse.evals.dataset import GoldenSet
from tests.support.act import ROOT, ActResult, run_act, runner_checkout
from tests.support.repositories import NAME, PYPROJECT, ReleaseRepository
from tests.support.verdicts import cost_json, eval_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub
    from gatehouse.rehearse.index import Indexes

PROJECT = "acme-triage"
ONE = {"python": "3.12", "os": "ubuntu-latest"}
"""The one job of each matrix that is played: the others differ in nothing but time."""

COMMANDS = {
    "install": "exit 0",
    "test": "python -m unittest",
}
"""What the package needs for its tests: nothing but the standard library."""

CHECKS = COMMANDS | {
    "lint": "python -m compileall -q acme_triage",
    "types": "exit 1",
    "coverage": "echo '<coverage/>' > coverage.xml",
}

TESTS = '''\
"""The package's own tests."""

import unittest

import acme_triage


class Triage(unittest.TestCase):
    """What the package promises."""

    def test_main(self) -> None:
        """It has a command."""
        self.assertTrue(callable(acme_triage.main))
'''


def template(name: str, **inputs: Mapping[str, str]) -> str:
    """A template's text; `inputs` are, by called workflow, what its user adds to a call without any."""
    text = (ROOT / "templates" / name).read_text()
    for called, given in inputs.items():
        lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in given.items())
        call = f"    uses: gatehouse-ci/gatehouse/.github/workflows/{called}.yml@v1\n"
        assert call in text, f"{name} does not call {called}"
        head, _, tail = text.partition(call)
        text = head + call + "    with:\n" + lines + tail.removeprefix("    with:\n")
    return text


AGENT = {
    "agents/triage.yaml": """\
agent:
  name: triage
  version: 1
  model: { provider: ollama, name: "llama3.1:8b" }
  system_prompt: prompts/triage.md
  evals: { dataset: evals/golden/triage.jsonl, metrics: { exact_match: 0.8 } }
""",
    "prompts/triage.md": "Sort.\n",
    "evals/golden/triage.jsonl": '{"id": "a", "input": "b", "expected": "c"}\n',
}
"""The files of an agent that lies beside the package."""

DESCRIBED = PYPROJECT.replace("\ndescription =", '\nreadme = "README.md"\ndescription =')


class Train:
    """The repository `acme/triage`, its workflows `templates` by file name, and the indexes."""

    def __init__(
        self, gh: GitHub, indexes: Indexes, suite: Path, folder: Path, templates: Mapping[str, str]
    ) -> None:
        self.gh, self.indexes, self.suite, self.folder = gh, indexes, suite, folder
        self.repository = ReleaseRepository(gh, folder / "repository")
        self.runs = 0
        self.commit("develop", {f".github/workflows/{name}": text for name, text in templates.items()})
        self.commit("develop", {"test_triage.py": TESTS, "pyproject.toml": DESCRIBED})

    def commit(self, branch: str, files: Mapping[str, str | bytes | None]) -> str:
        """Commit files to a branch and push it, as a person; the commit."""
        return self.repository.commit(branch, files)

    def push(self, workflow: str, ref: str, **options: Any) -> ActResult:
        """Play the workflow file `workflow` for a push of the branch, or of the whole ref."""
        return self.play(workflow, "push", self.gh.push_event(NAME, ref), **options)

    def dispatch(
        self, workflow: str, ref: str, inputs: dict[str, str] | None = None, **options: Any
    ) -> ActResult:
        """Play a workflow file by its button; `ref` is whole."""
        event = self.gh.dispatch_event(NAME, workflow, ref, inputs or {})
        return self.play(workflow, "workflow_dispatch", event, **options)

    def play(self, workflow: str, name: str, event: dict[str, Any], **options: Any) -> ActResult:
        """Play a workflow file for an event, its jobs with the identity that GitHub would give them."""
        self.runs += 1
        checkout = runner_checkout(self.gh, NAME, event, self.folder / f"checkout-{self.runs}")
        file = f".github/workflows/{workflow}"
        identity = self.identity(
            yaml.safe_load((checkout / file).read_text()), workflow, event.get("ref", "")
        )
        return run_act(
            checkout,
            name,
            event,
            self.gh,
            folder=self.folder / f"run-{self.runs}",
            suite=self.suite,
            env=self.indexes.environment | identity,
            workflow=file,
            matrix=ONE,
            timeout=300,
            secrets={"TEST_PYPI_TOKEN": self.indexes.testpypi.token, "PYPI_TOKEN": self.indexes.pypi.token},
            **options,
        )

    def identity(self, workflow: dict[str, Any], file: str, ref: str) -> dict[str, str]:
        """The variables of OIDC: only jobs that hold `id-token: write` have them, for their environment."""
        address, tokens = "", ""
        for name, job in workflow["jobs"].items():
            if job.get("permissions", {}).get("id-token") != "write":
                continue
            given = self.gh.oidc_environment(NAME, ref, file, job["environment"]["name"])
            address += f"github.job == '{name}' && '{given['ACTIONS_ID_TOKEN_REQUEST_URL']}' || "
            tokens += f"github.job == '{name}' && '{given['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}' || "
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"${{{{ {address}'' }}}}",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": f"${{{{ {tokens}'' }}}}",
        }

    def judge(self, branch: str) -> None:
        """Let agent-ci have passed the agent at the head of a branch, and kept its verdicts."""
        agent = load_agent("agents/triage.yaml", self.repository.clone(branch))
        said = {"name": agent.name, "version": agent.version, "digest": agent.digest, "path": agent.path}
        kept = self.folder / "verdicts" / agent.name
        kept.mkdir(parents=True)
        golden = GoldenSet(agent.evals.dataset, agent.root).header()
        (kept / "eval.json").write_text(json.dumps(eval_json(agent.name, agent=said, dataset=golden)))
        (kept / "cost.json").write_text(json.dumps(cost_json(agent.name, agent=said, dataset=golden)))
        run = self.gh.add_run(NAME, "agent-ci.yml", self.repository.head(branch), branch)
        self.gh.add_artifact(NAME, run, "gatehouse-eval", kept.parent)

    def release(self, version: str) -> None:
        """Cut, merge and tag a version as a person would do it by hand: main and the tag hold it then."""
        text = self.repository.show("develop", "CHANGELOG.md")
        dated = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{version}] - 2026-02-03\n", 1)
        self.commit(f"release/v{version}", {"CHANGELOG.md": dated})
        pull = self.gh.open_pull(NAME, f"release/v{version}", "main")
        self.repository.merge_pull(pull["number"])
        self.repository.push("main", f"refs/tags/v{version}")

    def finish_runs(self) -> None:
        """Let every run that GitHub started by itself have passed."""
        for run in self.gh.runs(NAME):
            if run["status"] != "completed":
                self.gh.finish_run(run["id"])

    def trust(self, workflow: str) -> None:
        """Let both indexes trust a workflow file of the repository, as the templates' first lines say."""
        self.indexes.testpypi.trust(PROJECT, NAME, workflow, "staging")
        self.indexes.pypi.trust(PROJECT, NAME, workflow, "release")


def built(result: ActResult) -> dict[str, Any]:
    """`build.json` of a run, with its files as {name: digest} under "digests"."""
    build: dict[str, Any] = json.loads(
        (result.artifacts / f"gatehouse-dist-{PROJECT}" / "build.json").read_bytes()
    )
    return build | {"digests": {file["name"]: file["sha256"] for file in build["files"]}}
