"""`gatehouse scorecard` against the GitHub stand-in: where the verdict goes when it cannot be a comment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from gatehouse.errors import Exit
from gatehouse.rehearse.github import GitHub
from tests.support.projects import Done, call, read
from tests.support.verdicts import cost_json, eval_json, failing_case, left, metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO, FORK = "octo/agents", "mallory/agents"
MERGE = "c" * 40
"""The commit that the verdicts of tests/support name."""
ISSUE_COMMENTS = r"/issues/1/comments$"
FORBIDDEN = "Resource not accessible by integration"


class Stage:
    """A GitHub with pull request 1, from a branch or a fork, and a folder with an agent's verdicts."""

    def __init__(self, github: GitHub, folder: Path) -> None:
        self.github, self.folder = github, folder / "work"
        self.results = self.folder / ".gatehouse"
        self.summary = folder / "summary.md"
        self.token = github.token
        self.folder.mkdir()
        self.leave("refund-triage")

    def leave(self, name: str, verdict: Any = None, cost: Any = None) -> None:
        """Put an agent's verdict files in their place."""
        (self.results / name).mkdir(parents=True, exist_ok=True)
        for file, data in (("eval", verdict or eval_json(name)), ("cost", cost or cost_json(name))):
            (self.results / name / f"{file}.json").write_text(json.dumps(data))

    def push(self, repository: str = REPO, branch: str = "feature") -> str:
        """A new commit on a branch; its hash."""
        known = self.github.git(repository, "for-each-ref", f"refs/heads/{branch}")
        parent = self.github.git(repository, "rev-parse", branch if known else "main")
        commit = self.github.git(
            repository, "commit-tree", f"{parent}^{{tree}}", "-p", parent, "-m", f"after {parent}"
        )
        self.github.git(repository, "update-ref", f"refs/heads/{branch}", commit)
        self.github._rest.refresh_pulls(repository)
        return commit

    def scorecard(self, name: str, event: dict[str, Any], *args: str) -> Done:
        """The command in a run for this event."""
        payload = self.folder.parent / "event.json"
        payload.write_text(json.dumps(event))
        env = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": name,
            "GITHUB_EVENT_PATH": str(payload),
            "GITHUB_REPOSITORY": REPO,
            "GITHUB_SHA": MERGE if name != "workflow_run" else "e" * 40,
            "GITHUB_RUN_ID": "9",
            "GITHUB_API_URL": self.github.api_url,
            "GITHUB_SERVER_URL": self.github.server_url,
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.folder.parent / "outputs"),
            "GITHUB_TOKEN": self.token,
        }
        self.summary.unlink(missing_ok=True)
        return call(self.folder, "scorecard", *args, env=env)

    def commented(self, *args: str) -> Done:
        """The command as the comment job of a pull request's run has it."""
        return self.scorecard(
            "pull_request", self.github.pull_request_event(REPO, 1), "--to", "comment", *args
        )

    def followed(self, **changed: Any) -> Done:
        """The command as the template for forks has it, after a run for the pull request's head."""
        run = {
            "id": 4242,
            "run_attempt": 2,
            "event": "pull_request",
            "head_sha": self.github.pull(REPO, 1)["head"]["sha"],
            "head_branch": "feature",
            "head_repository": {"full_name": FORK},
        }
        return self.scorecard("workflow_run", {"workflow_run": run | changed}, "--to", "comment")

    def bodies(self) -> list[str]:
        """What was commented."""
        return [str(comment["body"]) for comment in self.github.comments(REPO, 1)]

    def shown(self) -> str:
        """The job summary."""
        return self.summary.read_text() if self.summary.exists() else ""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A pull request of a branch of the repository."""
    with GitHub(tmp_path / "github") as github:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "README.md").write_text("x\n")
        github.create_repository(REPO, tmp_path / "files")
        made = Stage(github, tmp_path)
        made.push()
        github.open_pull(REPO, "feature", "main")
        yield made


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Stage]:
    """A pull request of a fork."""
    with GitHub(tmp_path / "github") as github:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "README.md").write_text("x\n")
        github.create_repository(REPO, tmp_path / "files")
        github.create_repository(FORK, fork_of=REPO)
        made = Stage(github, tmp_path)
        made.push(FORK)
        github.open_pull(REPO, "mallory:feature", "main", login="mallory")
        yield made


@pytest.mark.parametrize(
    ("status", "headers", "message", "told"),
    [
        (403, {}, FORBIDDEN, "pull-requests: write"),
        (403, {}, "Must have admin rights to Repository.", "check its permissions"),
        (403, {}, "Unable to create comment because issue is locked.", "issue is locked"),
        (403, {"Retry-After": "3600"}, "You have exceeded a secondary rate limit.", "would be in 3600 s"),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999"}, "API rate limit", "Gave up"),
        (429, {"Retry-After": "3600"}, "Too many requests", "would be in 3600 s"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_comment_is_delivered_in_the_summary(
    method: str, status: int, headers: dict[str, str], message: str, told: str, stage: Stage
) -> None:
    """What GitHub forbids or puts off leaves the scorecard in the summary, and a warning with the repair."""
    stage.github.fail(method, ISSUE_COMMENTS, times=99, status=status, headers=headers, message=message)
    done = stage.commented()
    assert done.code == Exit.PASS, done
    assert "The scorecard stands in the job summary instead." in done.out
    assert message in done.out
    assert told in done.out
    assert stage.shown().startswith("### ✅ Gatehouse: refund-triage passes")
    assert stage.bodies() == []


def test_a_read_only_token_is_told_of_dependabot_and_forks(stage: Stage) -> None:
    """A token that may not write, as Dependabot's run has, names both; the summary has it once."""
    stage.token = stage.github.read_only_token
    done = stage.scorecard("pull_request", stage.github.pull_request_event(REPO, 1))
    assert done.code == Exit.PASS
    assert "Dependabot" in done.out
    assert "templates/agent-ci-comment.yml" in done.out
    assert stage.shown().count("### ✅ Gatehouse") == 1


def test_a_short_wait_is_waited_out(stage: Stage) -> None:
    """A rate limit that is over at once, and a lost reply, still end in one comment and no summary."""
    stage.github.fail("POST", ISSUE_COMMENTS, status=403, headers={"Retry-After": "0"}, message="Slow down")
    stage.github.fail("POST", ISSUE_COMMENTS, lose_reply=True)
    assert stage.commented().code == Exit.PASS
    assert len(stage.bodies()) == 1
    assert stage.shown() == ""


@pytest.mark.parametrize(("status", "told"), [(500, "did not settle"), (404, "answered 404")])
def test_another_failure_is_not_delivered(status: int, told: str, stage: Stage) -> None:
    """A server that breaks, or does not find the pull request, is exit 3: somebody has to look."""
    stage.github.fail("POST", ISSUE_COMMENTS, times=99, status=status)
    done = stage.commented()
    assert done.code == Exit.UNSCORED
    assert told in done.err
    assert read(stage.results / "scorecard.json")["state"] == "pass"


def test_a_second_workflow_has_its_own_comment(stage: Stage) -> None:
    """With a key of its own a second workflow edits its own comment; without one, both edit the same."""
    assert stage.commented().code == stage.commented("--key", "nightly").code == Exit.PASS
    assert len(stage.bodies()) == 2
    stage.leave("refund-triage", eval_json(state="fail", reason="worse"))
    stage.commented("--key", "nightly")
    assert ["### ✅" in body for body in stage.bodies()] == [True, False]


@pytest.mark.parametrize("key", ["Nightly", "a b", "-", "a--b", "x" * 61, "a key=b head=c --> x"])
def test_a_key_that_no_marker_holds_is_refused(key: str, stage: Stage) -> None:
    """The key is one kebab-case word: anything else is the caller's to mend, before anything is written."""
    done = stage.commented("--key", key)
    assert done.code == Exit.INVALID
    assert "joined by hyphens" in done.err
    assert stage.bodies() == []


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("push", {"ref": "refs/heads/develop", "after": MERGE}),
        ("merge_group", {"merge_group": {"head_sha": MERGE, "head_ref": "refs/heads/gh-readonly-queue/x"}}),
        ("workflow_dispatch", {"inputs": {}}),
    ],
)
@pytest.mark.parametrize("to", [(), ("--to", "comment")])
def test_without_a_pull_request_there_is_the_summary(
    to: tuple[str, ...], name: str, event: dict[str, Any], stage: Stage
) -> None:
    """A push, a merge queue's group and a run by hand have nobody to write to: summary, and exit 0."""
    assert stage.scorecard(name, event, *to).code == Exit.PASS
    assert "### ✅ Gatehouse: refund-triage passes" in stage.shown()
    assert [path for method, path, _ in stage.github.calls if method != "GET"] == []


def test_junit_lies_beside_the_scorecard(stage: Stage) -> None:
    """The report for reporters of tests is written, and its path is an output."""
    metrics, cases = [metric(state="fail")], [failing_case()]
    stage.leave(
        "refund-triage", eval_json(state="fail", reason="worse", metrics=metrics, failing_cases=cases)
    )
    stage.commented()
    suites = ET.parse(stage.results / "scorecard.xml").getroot()  # noqa: S314 our own text
    assert int(suites.attrib["failures"]) == 2
    assert ".gatehouse/scorecard.xml" in (stage.folder.parent / "outputs").read_text()


def test_warnings_of_the_cost_gate_are_shown(stage: Stage) -> None:
    """What the cost gate warns of stands with the eval gate's warnings, once each."""
    warning = "daily_usd: $40 of $50 a day"
    stage.leave("refund-triage", eval_json(warnings=["odd"]), cost_json(warnings=["odd", warning]))
    stage.commented()
    [body] = stage.bodies()
    assert body.count("- ⚠️ odd") == 1
    assert "- ⚠️ daily_usd: &#36;40 of &#36;50 a day" in body


CHANGES = {
    "schema": 1,
    "commit": MERGE,
    "base": {"commit": "b" * 40, "name": "develop"},
    "due": True,
    "compared": True,
    "reason": "",
    "weaker": 1,
    "changes": [
        {
            "effect": "weaker",
            "what": "threshold lowered",
            "name": "exact_match",
            "before": "0.9",
            "after": "0.5",
            "where": "agents/refund-triage.yaml",
            "agent": "refund-triage",
        }
    ],
}


def test_changes_of_the_gate_stand_apart_from_the_verdict(stage: Stage) -> None:
    """What changed of the gate is shown below the agents and above what to do; the verdict stays as it is."""
    (stage.results / "changes.json").write_text(json.dumps(CHANGES))
    done = stage.commented()
    [body] = stage.bodies()
    assert body.splitlines()[1].startswith("### ✅ Gatehouse")
    places = [body.index(part) for part in ("| exact", "Changes of the gate itself", "What to do next")]
    assert places == sorted(places)
    assert "threshold lowered" in done.out
    assert read(stage.results / "scorecard.json")["changes"] == CHANGES


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps(CHANGES | {"changes": [{"effect": "x"}]}),
        json.dumps(CHANGES | {"base": 3}),
        json.dumps(CHANGES | {"commit": "d" * 40}),
        " " * 17 * 2**20,
    ],
)
def test_changes_that_cannot_be_read_are_said_to_be(text: str, stage: Stage) -> None:
    """A malformed, huge or stale changes.json is a line that says so: no crash, and no silence."""
    (stage.results / "changes.json").write_text(text)
    assert stage.commented().code == Exit.PASS
    [body] = stage.bodies()
    assert "What changes in the gate itself is not known" in body
    assert body.splitlines()[1].startswith("### ✅ Gatehouse")


def test_a_forks_run_is_commented_on(fork: Stage) -> None:
    """The results of a fork's run stand on its pull request, said to be its own, with a link to its run."""
    done = fork.followed()
    assert done.code == Exit.PASS, done
    [body] = fork.bodies()
    head = fork.github.pull(REPO, 1)["head"]["sha"]
    assert body.splitlines()[0] == f"<!-- gatehouse:scorecard key=gate head={head} -->"
    assert body.splitlines()[1].startswith("### ✅ Gatehouse: refund-triage passes")
    assert "> These are the results of a fork's own run: its code and its workflow are the author's." in body
    assert f'<a href="{fork.github.server_url}/{REPO}/actions/runs/4242/attempts/2">run</a>' in body
    assert f"commit {head[:12]}" in body
    assert fork.followed().code == Exit.PASS
    assert len(fork.bodies()) == 1


def test_a_fork_without_a_key_needs_a_maintainer(fork: Stage) -> None:
    """Where the fork's run had no key, the comment says who can measure it, and how."""
    why = "No case was answered: not measured: needs a maintainer: a fork gets no secrets."
    fork.leave("refund-triage", left("refund-triage", why, 3), left("refund-triage", why, 3))
    assert fork.followed().code == Exit.PASS
    [body] = fork.bodies()
    assert body.splitlines()[1].startswith(
        "### ⚠️ Gatehouse: refund-triage was not measured: needs a maintainer"
    )
    assert "`gh pr checkout NUMBER`" in body
    assert "Mend what the first line names" not in body


def test_a_run_that_left_nothing_is_told_about(fork: Stage) -> None:
    """A fork's run without an artifact is no silence: the comment says that nothing was measured; exit 3."""
    for file in fork.results.rglob("*.json"):
        file.unlink()
    (fork.results / "refund-triage").rmdir()
    fork.results.rmdir()
    assert fork.followed().code == Exit.UNSCORED
    assert "Nothing was measured" in fork.bodies()[0]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"head_sha": "b" * 40}, "no open pull request has commit bbbbbbbbbbbb of mallory:feature"),
        ({"head_branch": "other"}, "no open pull request has"),
        ({"head_branch": "x&state=all#"}, "no open pull request has"),
        ({"head_repository": {"full_name": "mallory/else"}}, "no open pull request has"),
        ({"head_repository": {"full_name": REPO}}, "whose own comment job writes"),
        ({"head_repository": None}, "the fork of this run was deleted"),
    ],
)
def test_a_run_of_no_pull_request_writes_none(changed: dict[str, Any], why: str, fork: Stage) -> None:
    """Another commit, branch or repository than the pull request's, or a branch of ours: summary only."""
    done = fork.followed(**changed)
    assert done.code == Exit.PASS, done
    assert why in done.out
    assert fork.bodies() == []
    assert "Gatehouse: refund-triage passes" in fork.shown()


def test_a_push_has_no_comment_by_another_run(fork: Stage) -> None:
    """A run that no pull request started is not commented on; its results have to be of its commit."""
    done = fork.followed(event="push")
    assert "the run was started by push" in done.out
    assert "is of another commit" in fork.shown()
    assert fork.bodies() == []


def test_two_pull_requests_of_one_commit_are_not_guessed(fork: Stage) -> None:
    """A branch of two open pull requests is not assigned to one of them."""
    fork.github.git(REPO, "branch", "develop", "main")
    fork.github.open_pull(REPO, "mallory:feature", "develop", login="mallory")
    done = fork.followed()
    assert (done.code, "#1, #2 all have it" in done.out or "#2, #1 all have it" in done.out) == (
        Exit.PASS,
        True,
    )
    assert fork.bodies() == []


def test_a_newer_commit_is_not_commented_on(fork: Stage) -> None:
    """Results of a commit that the fork has pushed over since are written nowhere but in the summary."""
    old = fork.github.pull(REPO, 1)["head"]["sha"]
    fork.push(FORK)
    assert fork.followed(head_sha=old).code == Exit.PASS
    assert fork.bodies() == []


def forged(name: str, text: str) -> tuple[str, str]:
    """A file of the artifact and its content."""
    return f"refund-triage/{name}", text


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        (*forged("eval.json", "{"), "Run the stage before again"),
        (*forged("eval.json", "[" * 100_000), "eval.json"),
        (*forged("eval.json", "[]"), "not an object"),
        (*forged("eval.json", " " * 17 * 2**20), "larger than 16 MiB"),
        (*forged("eval.json", json.dumps(eval_json("other"))), "it is of agent"),
        (*forged("eval.json", json.dumps(eval_json() | {"metrics": 1})), "is malformed"),
        (*forged("eval.json", json.dumps(eval_json() | {"state": "great"})), "is malformed"),
        (*forged("eval.json", json.dumps(eval_json() | {"commit": None})), "names no commit"),
        (*forged("cost.json", json.dumps(cost_json() | {"commit": "d" * 40})), "is of another commit"),
        (*forged("eval.json", '{"schema": 1, "latency_s": {"p50": 1e999, "p95": NaN}}'), "eval.json"),
    ],
)
def test_a_forged_artifact_is_no_pass(file: str, text: str, why: str, fork: Stage) -> None:
    """Garbage, a huge file, another agent's verdict: the comment says that it does not count."""
    (fork.results / file).write_text(text)
    done = fork.followed()
    assert done.code == Exit.PASS, done
    [body] = fork.bodies()
    assert body.splitlines()[1].startswith("### ⚠️ Gatehouse: refund-triage was not measured")
    assert why in done.out, done.out
    assert ("of another commit" in done.out) == ("of another commit" in why)


def test_a_forged_artifact_of_many_agents_is_not_read(fork: Stage) -> None:
    """More agents than any repository has are not read one by one."""
    for number in range(201):
        (fork.results / f"agent-{number}").mkdir()
    fork.followed()
    assert "more than 200 agents" in fork.bodies()[0]


def test_a_forged_artifact_leads_nowhere(fork: Stage) -> None:
    """Links in the place of results are neither read nor written through."""
    secret = fork.folder.parent / "secret.json"
    secret.write_text(json.dumps(eval_json("refund-triage", reason="TOP SECRET")))
    (fork.results / "refund-triage/eval.json").unlink()
    (fork.results / "refund-triage/eval.json").symlink_to(secret)
    elsewhere = fork.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "eval.json").write_text(json.dumps(eval_json("other", reason="TOP SECRET")))
    (fork.results / "other").symlink_to(elsewhere)
    precious = fork.folder.parent / "precious"
    precious.write_text("kept")
    for name in ("scorecard.md", "scorecard.xml", "scorecard.json", "changes.json"):
        (fork.results / name).symlink_to(precious)
    fork.followed()
    assert precious.read_text() == "kept"
    [body] = fork.bodies()
    assert "SECRET" not in body
    assert "<code>other</code>" not in body
    assert "the eval gate left no result" in body


def test_a_forks_texts_are_inert(fork: Stage) -> None:
    """What a fork writes into its results mentions nobody and breaks nothing."""
    hostile = "@octocat </details><img src=x> ::error::x\n### ✅ Gatehouse: all pass"
    verdict = eval_json(
        state="fail", reason=hostile, warnings=[hostile], failing_cases=[failing_case(hostile)]
    )
    fork.leave("refund-triage", verdict)
    done = fork.followed()
    [body] = fork.bodies()
    assert "@octocat" not in body.replace("<code>", "")
    assert "<img" not in body
    assert body.count("\n### ") == 1
    assert not [line for line in done.out.splitlines() if line.startswith("::error::x")]
