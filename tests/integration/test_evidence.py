"""evidence against the GitHub stand-in: whose verdicts are found, and which of them counts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema.validators import Draft202012Validator

from gatehouse.errors import Exit
from gatehouse.rehearse.github import GitHub
from gatehouse.release.dist import Agent, load_build
from gatehouse.release.evidence import passing
from tests.contracts.schemas import schema, strict
from tests.support.dists import make_dist
from tests.support.projects import call, gatehouse, read
from tests.support.repositories import NAME, ReleaseRepository
from tests.support.verdicts import cost_json, eval_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.projects import Done

DIGEST = "sha256:" + "ab" * 32
TRIAGE = Agent("refund-triage", "agents/refund-triage.yaml", "3", DIGEST, "warn")
OTHER = {"name": "refund-triage", "version": "2", "digest": "sha256:" + "00" * 32, "path": "a.yaml"}
BRANCH, ELSEWHERE = "release/v1.2.0", "develop"


@dataclass
class Scene:
    """A repository with runs, and a folder with a build of its commit `head`.

    `tip` is another commit with the same files, as the release branch's is beside the merge.
    """

    gh: GitHub
    repository: ReleaseRepository
    folder: Path
    head: str
    tree: str
    tip: str
    artifacts: int = 0

    def build(self, *agents: Agent, **changes: Any) -> None:
        """A build of `head` in `dist/`, in place of an older one."""
        shutil.rmtree(self.folder / "dist", ignore_errors=True)
        make_dist(self.folder / "dist", agents=agents, **{"commit": self.head, "tree": self.tree} | changes)

    def run(
        self,
        *verdicts: dict[str, Any],
        branch: str = BRANCH,
        event: str = "push",
        artifact: str = "gatehouse-eval",
        commit: str = "",
    ) -> int:
        """A run of agent-ci that handed on these eval.json and cost.json; its id."""
        self.artifacts += 1
        folder = self.folder / f"artifact-{self.artifacts}"
        lay(folder, *verdicts)
        run = self.gh.add_run(NAME, "agent-ci.yml", commit or self.tip, branch, event=event)
        if verdicts:
            self.gh.add_artifact(NAME, run, artifact, folder)
        return run

    def forged(self, ref: str) -> int:
        """What somebody with plain push rights does: a workflow of their own under the name `ref`; its run.

        It hands on a passing verdict that nobody reached.
        """
        workflow = "on: {push: , workflow_dispatch: }\njobs: {fake: {runs-on: x, steps: []}}\n"
        self.repository.commit("mallory", {".github/workflows/agent-ci.yml": workflow})
        self.repository.push("mallory", ref)
        runs = [run["id"] for run in self.gh.runs(NAME) if run["head_branch"] == ref.split("/", 2)[2]]
        lay(self.folder / "forged", eval_json())
        self.gh.add_artifact(NAME, runs[-1], "gatehouse-eval", self.folder / "forged")
        self.gh.finish_run(runs[-1])
        return int(runs[-1])

    def environment(self) -> dict[str, str]:
        """What the runner sets."""
        (self.folder / "event.json").write_text("{}")
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_SHA": self.head,
            "GITHUB_RUN_ID": "77",
            "GITHUB_API_URL": self.gh.api_url,
            "GITHUB_SERVER_URL": self.gh.server_url,
            "GITHUB_TOKEN": self.gh.read_only_token,
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
        }

    def look(self, *args: str, **env: str) -> Done:
        """`gatehouse evidence` in a job of the repository."""
        return call(self.folder, "evidence", *args, env=self.environment() | env)

    def found(self) -> dict[str, Any]:
        """The row of the one agent in evidence.json."""
        (row,) = read(self.folder / "evidence/evidence.json")["agents"]
        assert isinstance(row, dict)
        return row

    def passes(self) -> bool:
        """Whether the evidence lets the build be published."""
        return passing(load_build(self.folder / "dist"), self.folder / "evidence").passed

    def page(self, run: int) -> str:
        """The page of a run."""
        return f"{self.gh.server_url}/{NAME}/actions/runs/{run}"


def lay(folder: Path, *verdicts: dict[str, Any]) -> None:
    """Verdicts as agent-ci lays them: a folder for each agent."""
    for data in verdicts:
        place = folder / data["agent"]["name"]
        place.mkdir(parents=True, exist_ok=True)
        (place / ("cost.json" if "limits" in data else "eval.json")).write_text(json.dumps(data))


def obeyed(out: str) -> list[str]:
    """The lines that a runner takes for commands, as it reads them."""
    token, found = "", []
    for line in out.splitlines():
        if token:
            token = "" if line == f"::{token}::" else token
        elif line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif line.startswith("::") or "##[" in line:
            found.append(line)
    return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A repository without runs, whose build carries one agent."""
    with GitHub(tmp_path / "github") as gh:
        repository = ReleaseRepository(gh, tmp_path / "repository")
        head, tree = gh.git(NAME, "rev-parse", "develop", "develop^{tree}").split()
        tip = gh.git(NAME, "commit-tree", tree, "-p", head, "-m", "The same files")
        made = Scene(gh, repository, tmp_path, head, tree, tip)
        made.build(TRIAGE)
        yield made


def test_a_verdict_of_the_release_branch_is_evidence(scene: Scene) -> None:
    """A passing verdict on exactly the built digest is found, written by its schema, and lets publish."""
    run = scene.run(eval_json(), cost_json())
    done = gatehouse(scene.folder, "evidence", env=scene.environment())
    assert done.code == Exit.PASS, done
    assert scene.found() == {
        "name": "refund-triage",
        "digest": DIGEST,
        "state": "pass",
        "reason": "2 of 2 metrics pass",
        "run_url": scene.page(run),
    }
    told = read(scene.folder / "evidence/evidence.json")
    assert (told["name"], told["version"], told["commit"]) == ("acme-triage", "1.2.0", scene.head)
    assert told["state"] == "pass"
    Draft202012Validator(strict(schema("evidence"))).validate(told)
    assert read(scene.folder / "evidence/refund-triage/eval.json") == eval_json()
    assert read(scene.folder / "evidence/refund-triage/cost.json") == cost_json()
    assert scene.passes()
    assert scene.page(run) in (scene.folder / "summary.md").read_text()
    assert "\npass\n" in (scene.folder / "output").read_text()


@pytest.mark.parametrize("branch", [BRANCH, "v1.2.0", ELSEWHERE, "main"])
@pytest.mark.parametrize("at", ["head", "tip", "v0.1.0"])
def test_exactly_the_built_files_count(scene: Scene, branch: str, at: str) -> None:
    """A run counts at every commit with the built tree, under whatever name, and at no other commit."""
    commit = {"head": scene.head, "tip": scene.tip}.get(at) or scene.gh.git(NAME, "rev-parse", at)
    scene.run(eval_json(), branch=branch, commit=commit)
    assert scene.look().code == (Exit.UNSCORED if at == "v0.1.0" else Exit.PASS)


@pytest.mark.parametrize("version", ["1.2.0", "1.2.0.dev7101", "1.2.0rc1"])
def test_the_release_branchs_verdict_is_found_with_few_requests(scene: Scene, version: str) -> None:
    """Behind many younger runs of other branches, it takes one question about its commit."""
    scene.build(TRIAGE, version=version, tag=None, ref="refs/heads/release/v1.2.0")
    scene.run(eval_json())
    for number in range(3):
        commit = scene.gh.git(NAME, "commit-tree", f"{scene.head}^{{tree}}", "-m", f"Other {number}")
        scene.run(branch=ELSEWHERE, commit=commit)
    assert scene.look().code == Exit.PASS
    assert len([path for _, path, _ in scene.gh.calls if "/git/commits/" in path]) == 1


def test_a_commit_is_asked_about_once(scene: Scene) -> None:
    """Many runs at one commit are one question about it."""
    other = scene.gh.git(NAME, "rev-parse", "v0.1.0")
    for _ in range(3):
        scene.run(eval_json(), branch=ELSEWHERE, commit=other)
        scene.run(eval_json(), commit=other)
    assert scene.look().code == Exit.UNSCORED
    assert [path for _, path, _ in scene.gh.calls if "/git/commits/" in path] == [
        f"/repos/{NAME}/git/commits/{other}"
    ]


@pytest.mark.parametrize("ref", ["refs/tags/release/v1.2.0", "refs/heads/release/v1.2.0", "refs/tags/v1.2.0"])
def test_a_forged_run_is_no_evidence(scene: Scene, ref: str) -> None:
    """A tag or branch of a telling name with a workflow of its own proves nothing, nor hides a failure."""
    run = scene.forged(ref)
    assert scene.gh.runs(NAME)[-1]["event"] == "push"
    done = scene.look()
    assert done.code == Exit.UNSCORED, done
    assert not scene.passes()
    assert not [path for _, path, _ in scene.gh.calls if f"/runs/{run}/artifacts" in path]
    scene.run(eval_json(state="fail"))
    assert scene.look().code == Exit.FAIL


def test_a_run_at_a_commit_that_is_gone_is_left_out(scene: Scene) -> None:
    """What GitHub no longer shows proves nothing; the log says which commit, and the permission it needs."""
    scene.run(eval_json(), commit="e" * 40)
    done = scene.look()
    assert done.code == Exit.UNSCORED
    assert f"Runs at {'e' * 40} are left out" in done.out
    assert "contents: read" in done.out


@pytest.mark.parametrize(
    ("older", "newer", "state", "code"),
    [
        ("pass", "fail", "fail", Exit.FAIL),
        ("fail", "pass", "pass", Exit.PASS),
        ("pass", "unscored", "pass", Exit.PASS),
        ("fail", "unscored", "fail", Exit.FAIL),
        ("fail", "inconclusive", "inconclusive", Exit.PASS),
        ("unscored", "unscored", "unscored", Exit.UNSCORED),
    ],
)
def test_the_newest_verdict_that_measured_counts(
    scene: Scene, older: str, newer: str, state: str, code: Exit
) -> None:
    """A newer failure beats an older pass and the other way round; what measured nothing beats nothing."""
    scene.run(eval_json(state=older))
    scene.run(eval_json(state=newer))
    assert scene.look().code == code
    assert scene.found()["state"] == state
    assert scene.passes() is (code == Exit.PASS)


def test_of_verdicts_that_do_not_count_the_newest_is_told(scene: Scene) -> None:
    """Where nothing counts, the reason and the page are those of the newest run, which people look at."""
    scene.run(eval_json(state="unscored", reason="no key"))
    run = scene.run(eval_json(agent=OTHER))
    assert scene.look().code == Exit.UNSCORED
    assert "another digest" in scene.found()["reason"]
    assert scene.found()["run_url"] == scene.page(run)


def test_the_newest_counts_wherever_it_was_reached(scene: Scene) -> None:
    """Runs at the built commit and on the release branch are one row in time."""
    scene.run(eval_json())
    scene.run(eval_json(state="fail"), branch=ELSEWHERE, commit=scene.head)
    assert scene.look().code == Exit.FAIL


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target", "workflow_run"])
def test_a_pull_requests_run_never_counts(scene: Scene, event: str) -> None:
    """Who opens a pull request may have changed what is measured: such a verdict is not even fetched."""
    scene.run(eval_json(), event=event, commit=scene.head)
    assert scene.look().code == Exit.UNSCORED
    assert not [path for _, path, _ in scene.gh.calls if path.endswith("/zip")]


def test_another_digest_is_no_evidence(scene: Scene) -> None:
    """A verdict on an earlier version of the agent does not count; the message says so and what to do."""
    scene.run(eval_json(agent=OTHER))
    done = scene.look()
    assert done.code == Exit.UNSCORED
    assert "of another digest (000000000000, not abababababab)" in done.err
    assert f"{scene.gh.server_url}/{NAME}/actions/workflows/agent-ci.yml" in done.err
    assert scene.found()["state"] == "unscored"
    assert not scene.passes()


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        ({}, "tag", "v1.2.0"),
        ({"tag": None, "ref": f"refs/heads/{BRANCH}", "version": "1.2.0.dev1"}, "branch", BRANCH),
    ],
)
def test_a_missing_verdict_is_made_then_and_there(
    scene: Scene, changes: dict[str, Any], kind: str, name: str
) -> None:
    """The message names the tag or branch to start agent-ci on, and the run of that is then evidence."""
    scene.build(TRIAGE, **changes)
    done = scene.look()
    assert done.code == Exit.UNSCORED
    assert (
        f"Start agent-ci on the {kind} {name} (Actions, agent-ci, Run workflow, Use workflow from: {kind})"
        in done.err
    )
    assert "then run the failed job again" in done.err
    scene.run(eval_json(), branch=name, event="workflow_dispatch", commit=scene.head)
    assert scene.look().code == Exit.PASS


def test_runs_without_usable_verdicts_are_passed_over(scene: Scene) -> None:
    """A run without an artifact, with another, or with a broken one hides no older verdict."""
    run = scene.run(eval_json())
    scene.run()
    scene.run(eval_json(state="fail"), artifact="gatehouse-run-refund-triage-0")
    broken = scene.run()
    repository, it = scene.gh._run(broken)
    scene.gh._rest.actions.add_artifact(repository, it, "gatehouse-eval", b"no zip")
    done = scene.look()
    assert done.code == Exit.PASS, done
    assert f"Run {broken}: its artifact is left out: no usable zip" in done.out
    assert scene.found()["run_url"] == scene.page(run)


def test_an_artifact_that_is_not_whole_ends_the_search(scene: Scene) -> None:
    """Bytes that are not those that GitHub lists are no verdict, and must not uncover an older one."""
    scene.run(eval_json())
    scene.run(eval_json(state="fail"))
    scene.gh.fail("GET", r"/artifacts/\d+/zip$", status=200)
    done = scene.look()
    assert done.code == Exit.UNSCORED
    assert "did not arrive whole" in done.err


def test_an_artifact_that_is_too_large_is_not_fetched(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run handed on is downloaded up to a limit only."""
    monkeypatch.setattr("gatehouse.commands.evidence.ARTIFACT_LIMIT", 100)
    scene.run(eval_json())
    assert scene.look().code == Exit.UNSCORED
    assert not [path for _, path, _ in scene.gh.calls if path.endswith("/zip")]


def test_every_agent_finds_its_own(scene: Scene) -> None:
    """Several agents may have their verdicts from several runs; one without leaves the whole unscored."""
    support = replace(TRIAGE, name="support", digest="sha256:" + "ef" * 32)
    scene.build(TRIAGE, support)
    of_support = {**eval_json()["agent"], "name": "support", "digest": support.digest}
    scene.run(eval_json("support", agent=of_support))
    assert scene.look().code == Exit.UNSCORED
    scene.run(eval_json())
    assert scene.look().code == Exit.PASS
    assert scene.passes()


def test_a_build_without_agents_asks_nobody(scene: Scene) -> None:
    """A package without agents passes with the state none, needing neither token nor network."""
    scene.build()
    done = scene.look(GITHUB_TOKEN="", GITHUB_API_URL="http://127.0.0.1:1")
    assert done.code == Exit.PASS, done
    assert read(scene.folder / "evidence/evidence.json")["state"] == "none"
    assert not (scene.folder / "summary.md").exists()


def test_older_evidence_does_not_stay(scene: Scene) -> None:
    """Files of an earlier call are gone where this one found nothing."""
    lay(scene.folder / "evidence", eval_json(), cost_json())
    assert scene.look().code == Exit.UNSCORED
    assert not list((scene.folder / "evidence/refund-triage").iterdir())


def test_what_a_verdict_says_is_only_shown(scene: Scene) -> None:
    """A reason is neither obeyed by the runner nor by a terminal, and live Markdown nowhere."""
    scene.run(eval_json(state="fail", reason="\x1b[2J\n::error::gotcha\n| <img src=x> @everyone"))
    done = gatehouse(scene.folder, "evidence", env=scene.environment())
    assert done.code == Exit.FAIL
    assert "\x1b" not in done.out
    (error,) = obeyed(done.out)
    assert error.startswith("::error::acme-triage 1.2.0 must not be published: refund-triage: fail, ::error")
    summary = (scene.folder / "summary.md").read_text()
    assert "<img" not in summary
    assert "@everyone" not in summary


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "The token is missing"), (403, "actions: read"), (404, "the workflow agent-ci.yml")],
)
def test_githubs_trouble_is_no_verdict(scene: Scene, status: int, message: str) -> None:
    """Where GitHub refuses there is no verdict, which is exit 3, said with its repair."""
    scene.gh.fail("GET", "/workflows/agent-ci.yml/runs", times=99, status=status)
    done = scene.look()
    assert done.code == Exit.UNSCORED, done
    assert message in done.err
    assert read(scene.folder / "evidence/evidence.json")["state"] == "unscored"


def test_a_missing_token_is_said(scene: Scene) -> None:
    """Without a token nothing can be looked up: exit 3."""
    done = scene.look(GITHUB_TOKEN="")
    assert done.code == Exit.UNSCORED
    assert "GITHUB_TOKEN is empty" in done.err


@pytest.mark.parametrize("workflow", ["../x.yml", "agent-ci", "a b.yml", "a.yml?x=1"])
def test_a_workflow_is_a_file_name(scene: Scene, workflow: str) -> None:
    """What is no file's name never becomes a part of an address."""
    done = scene.look("--workflow", workflow)
    assert done.code == Exit.INVALID
    assert "is no workflow file" in done.err
