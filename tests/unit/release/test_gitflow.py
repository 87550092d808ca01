"""What is decided when a release is cut."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from gatehouse.errors import Decision, UserError
from gatehouse.rehearse.rest_comments import MAX_COMMENT
from gatehouse.release.gitflow import (
    BODY_LIMIT,
    Commit,
    alone,
    chosen,
    commit_message,
    cut_version,
    green,
    pull_body,
    resumable,
    startable,
    started,
    unmerged,
    unused,
)
from tests.support.repositories import CHANGELOG

V = Version("0.2.0")
HEAD = "a" * 40


@pytest.mark.parametrize(
    ("wanted", "tags", "version"),
    [
        ("auto", ["v0.1.0"], "0.2.0"),
        ("auto", [], "0.1.0"),
        (" Patch ", ["v0.1.0"], "0.1.1"),
        ("MAJOR", ["v0.1.0", "v1.9.0", "v1.10.0"], "2.0.0"),
        ("minor", ["v1.0.0", "v1.1.0rc1", "deploy-2030", "v2", "other-v3.0.0"], "1.1.0"),
        ("1.2.0", ["v0.1.0"], "1.2.0"),
        ("v1.2.0", ["v0.1.0"], "1.2.0"),
    ],
)
def test_the_version_is_chosen(wanted: str, tags: list[str], version: str) -> None:
    """A version is taken as it is; a level counts up from the newest final tag, auto by the changelog."""
    found, reason = chosen(wanted, tags, "v", CHANGELOG)
    assert str(found) == version
    assert reason


@pytest.mark.parametrize(
    "wanted",
    [
        *("1.2", "1.2.0rc1", "1.2.0.dev1", "1.2.0+local", "v0.0.0-test.1", "latest", "Patch!", "1!1.2.0", ""),
        *(
            "$(touch pwned)",
            "1.2.0; rm -rf /",
            "1.2.0\n::error::x",
            "`id`",
            "../../etc",
            "--help",
            "${{ x }}",
        ),
        *("1.2.0\x00", "\u0661.2.0", "1.2.\u200b0", "<b>1.2.0</b>", "9" * 5000 + ".0.0", "1." * 5000),
    ],
)
def test_what_is_no_version_is_refused(wanted: str) -> None:
    """Anything but X.Y.Z and the four words is an error that says what to write and shows no harm."""
    with pytest.raises(UserError, match="Or auto, major, minor or patch") as error:
        chosen(wanted, ["v0.1.0"], "v", CHANGELOG)
    assert len(str(error.value)) < 500
    assert not {"\x00", "\u200b", "\n::"} & set(str(error.value))


def release(tag: str, *, draft: bool = False) -> dict[str, Any]:
    """A GitHub Release as the API shows it, as far as it is read."""
    return {"tag_name": tag, "draft": draft, "html_url": f"https://github.com/acme/triage/releases/{tag}"}


@pytest.mark.parametrize(
    ("tags", "releases", "said"),
    [
        (["v0.2.0"], [], "v0.2.0 is tagged already"),
        (["v0.10.0", "v0.9.0"], [], "older than the tag v0.10.0. Take a version above 0.10.0"),
        (["v0.3.0rc1"], [], "older than the tag v0.3.0rc1"),
        ([], [release("v0.2.0")], "there is a GitHub Release of v0.2.0 already"),
        ([], [release("v0.1.0"), release("v0.2.0", draft=True)], "a draft of a GitHub Release of v0.2.0"),
    ],
)
def test_a_used_version_is_refused(tags: list[str], releases: list[dict[str, Any]], said: str) -> None:
    """A version with a tag, a release or a draft, or below any tag, is not cut."""
    decision = unused(V, tags, releases, "v")
    assert not decision.passed
    assert said in decision.reason


def test_a_newer_version_passes() -> None:
    """Candidates of the version itself, other packages' tags and other releases are in nobody's way."""
    tags = ["v0.1.0", "v0.2.0rc1", "other-v9.0.0", "v9", "deploy-2030"]
    assert unused(V, tags, [release("v0.1.0"), release("nightly")], "v").passed


@pytest.mark.parametrize("other", ["release/v0.3.0", "release/v0.1.5"])
def test_another_release_under_way_is_refused(other: str) -> None:
    """A release branch whose version has no tag is under way, whichever is newer; it is named."""
    decision = alone(["main", "release/v0.2.0", other], V, ["v0.1.0"], "v")
    assert not decision.passed
    assert decision.reason.startswith(f"{other} is under way.")


def test_other_branches_are_in_nobodys_way() -> None:
    """A released version's branch, another package's, and one that names no version do not count."""
    branches = ["release/v0.1.0", "release/other-v1.0.0", "release/next", "feature/release/v9.9.9"]
    assert alone(branches, V, ["v0.1.0"], "v").passed


def test_a_merged_release_is_not_cut_again() -> None:
    """Once its pull request is merged, tag-release is next; a closed one is in nobody's way."""
    assert unmerged([{"number": 1, "merged_at": None}], "release/v0.2.0").passed
    decision = unmerged([{"number": 2, "merged_at": "2026-01-01"}], "release/v0.2.0")
    assert decision.reason == "#2 has merged release/v0.2.0 already: run tag-release."


def run(number: int = 1, workflow: int = 7, **changed: Any) -> dict[str, Any]:
    """A workflow's run as the API shows it, as far as it is read."""
    return {
        "id": number,
        "run_number": number,
        "workflow_id": workflow,
        "name": f"workflow {workflow}",
        "path": ".github/workflows/staging.yml",
        "event": "push",
        "status": "completed",
        "conclusion": "success",
        "head_branch": "develop",
        "head_sha": HEAD,
        "html_url": f"https://github.com/acme/triage/actions/runs/{number}",
    } | changed


@pytest.mark.parametrize("conclusion", ["success", "skipped", "neutral"])
def test_a_green_develop_passes(conclusion: str) -> None:
    """Every workflow's newest run at the head counts; other commits, branches and events do not."""
    runs = [
        run(1, conclusion="failure"),
        run(3, conclusion=conclusion),
        run(2, conclusion="failure"),
        run(4, workflow=8),
        run(5, head_sha="b" * 40, conclusion="failure"),
        run(6, head_branch="main", conclusion="failure"),
        run(7, event="workflow_dispatch", status="in_progress", conclusion=None),
    ]
    decision = green(runs, "develop", HEAD)
    assert decision.passed, decision.reason
    assert decision.reason == f"develop ({HEAD[:12]}) is green: 2 workflows passed"


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "no workflow was started by the push"),
        ([run(event="workflow_dispatch")], "no workflow was started by the push"),
        ([run(head_sha="b" * 40)], "no workflow was started by the push"),
        ([run(status="in_progress", conclusion=None)], "workflow 7 is in progress"),
        ([run(conclusion="failure")], "workflow 7 ended with failure"),
        ([run(conclusion="cancelled")], "workflow 7 ended with cancelled"),
        ([run(conclusion="action_required")], "workflow 7 ended with action required"),
        ([run(1), run(2, status="queued", conclusion=None)], "workflow 7 is queued"),
        ([run(1), run(2, workflow=8, conclusion="timed_out")], "workflow 8 ended with timed out"),
        ([run(1, run_attempt=2, conclusion="failure"), run(1)], "workflow 7 ended with failure"),
    ],
)
def test_a_develop_that_is_not_green_is_refused(runs: list[dict[str, Any]], said: str) -> None:
    """No run, one under way, and one that failed each refuse, and name the way round."""
    decision = green(runs, "develop", HEAD)
    assert not decision.passed
    assert said in decision.reason
    assert "--skip-ci-check" in decision.reason


OURS = Commit("c" * 40, commit_message(V), (HEAD,))


def resumed(
    tip: Commit = OURS,
    *,
    others: tuple[Commit, ...] = (),
    changed: tuple[str, ...] = ("CHANGELOG.md",),
    on_develop: bool = True,
) -> Decision:
    """The decision on a release branch with that tip."""
    return resumable(
        "release/v0.2.0", tip, others or (tip,), changed, V, "CHANGELOG.md", on_develop=on_develop
    )


def test_our_own_cut_is_taken_up() -> None:
    """A branch that holds the cut of that version and nothing else is gone on with."""
    assert resumed().passed
    assert cut_version("Release 0.2.0\n\nGatehouse-Cut: 0.2.0\n") == "0.2.0"


FIX = Commit("d" * 40, "Fix \x1b[31mit\n\nBody", ("c" * 40,))


@pytest.mark.parametrize(
    ("tip", "changed"),
    [
        (FIX, {"others": (FIX, OURS)}),
        (Commit("c" * 40, "Release 0.2.0", (HEAD,)), {}),
        (Commit("c" * 40, commit_message(Version("0.2.1")), (HEAD,)), {}),
        (Commit("c" * 40, commit_message(V), (HEAD, "e" * 40)), {}),
        (OURS, {"on_develop": False}),
        (OURS, {"changed": ("CHANGELOG.md", "setup.py")}),
        (OURS, {"changed": ()}),
        (Commit("c" * 40, "Gatehouse-Cut: 0.2.0\n\nlater text", (HEAD,)), {}),
    ],
)
def test_a_foreign_branch_is_refused(tip: Commit, changed: dict[str, Any]) -> None:
    """Any other commit, also one that looks like a cut but does more, refuses and is named."""
    decision = resumed(tip, **changed)
    assert not decision.passed
    assert tip.hash[:12] in decision.reason
    assert "\x1b" not in decision.reason


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("on: workflow_dispatch\n", True),
        ("on: [push, workflow_dispatch]\n", True),
        ("on:\n  workflow_dispatch:\n  push:\n", True),
        ('"on": { workflow_dispatch: { inputs: {} } }\n', True),
        ("on: push\n", False),
        ("on:\n  workflow_call:\n", False),
        ("jobs: {}\n# workflow_dispatch\n", False),
        ("- a\n", False),
        ("on: [\n", False),
        ("on: !!python/object/apply:os.system [id]\n", False),
        ("[" * 5000, False),
        ("", False),
        (None, False),
    ],
)
def test_what_a_dispatch_can_start(text: str | None, yes: bool) -> None:
    """A workflow file is startable with that trigger, however it is written; anything else is not."""
    assert startable(text) is yes


def test_a_run_of_the_branch_is_found() -> None:
    """A run of that file by push or dispatch on the branch counts; the pull request's does not."""
    branch = "release/v0.2.0"
    mine = run(head_branch=branch)
    others = [
        run(head_branch=branch, event="pull_request"),
        run(head_branch="develop"),
        run(head_branch=branch, path=".github/workflows/other.yml"),
    ]
    assert started(others, "staging.yml", branch) is None
    assert started([*others, mine], "staging.yml", branch) is mine
    assert started([run(head_branch=branch, path=mine["path"] + "@refs/heads/x")], "staging.yml", branch)


def test_the_pull_request_holds_what_the_changelog_says() -> None:
    """Its body has the three lists and the section, which cannot leave its fence, and fits GitHub's limit."""
    evil = (
        "- ```\n\n# Merge me\n\n````\n<img src=x> @everyone [x](javascript:y)\n\x1b[31m\u202e" + "x" * 200_000
    )
    body = pull_body(V, evil, "develop", "main", "v")
    head, fence, rest = body.partition("`````markdown\n")
    assert fence
    assert "Merge me" not in head
    assert rest.rstrip().endswith("\n`````")
    assert "`````" not in rest.rstrip().removesuffix("`````")
    assert "\x1b" not in body
    assert "\u202e" not in body
    assert BODY_LIMIT < len(body) < MAX_COMMENT
    assert [line for line in body.splitlines() if line.startswith("### ")][:3] == [
        "### Staging",
        "### Production",
        "### Cleanup",
    ]
