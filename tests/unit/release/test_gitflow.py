"""What is decided when a release is cut."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from gatehouse.errors import Decision, UserError
from gatehouse.github.escape import plain
from gatehouse.rehearse.rest_pulls import MAX_BODY
from gatehouse.release.gitflow import (
    BODY_LIMIT,
    Commit,
    alone,
    chosen,
    commit_message,
    cut_version,
    green,
    has_all,
    is_under_way,
    pull_body,
    resumable,
    startable,
    started,
    unmerged,
    unused,
)
from tests.support.repositories import CHANGELOG

V = Version("0.2.0")
NOTICE = "Cut to fit GitHub's limit of 65,536 characters: the changelog has the rest.\n\n"
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
    passed = "2 workflows" if conclusion == "success" else "1 workflow"
    assert decision.reason == f"develop ({HEAD[:12]}) is green: {passed} passed"


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "no workflow was started by the push"),
        ([run(event="workflow_dispatch")], "no workflow was started by the push"),
        ([run(head_sha="b" * 40)], "no workflow was started by the push"),
        ([run(status="in_progress", conclusion=None)], "workflow 7 is in progress"),
        ([run(conclusion="skipped"), run(2, workflow=8, conclusion="neutral")], "no workflow passed at"),
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


def test_a_develop_without_mains_hotfix_is_refused() -> None:
    """What main has and develop lacks is named, and to be merged first."""
    assert has_all([], "develop", "main").passed
    decision = has_all([Commit("e" * 40, "A \x1b[31mhotfix", (HEAD,))] * 11, "develop", "main")
    assert not decision.passed
    assert decision.reason.startswith('develop lacks what main has: eeeeeeeeeeee "A hotfix", eeee')
    assert " and more. " in decision.reason
    assert "Merge main into develop first" in decision.reason


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


BRANCH = "release/v0.2.0"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, True),
        ({"event": "workflow_dispatch"}, True),
        ({"path": ".github/workflows/staging.yml@refs/heads/x"}, True),
        ({"conclusion": "failure"}, True),
        ({"status": "queued", "conclusion": None}, True),
        ({"conclusion": "startup_failure"}, False),
        ({"event": "pull_request"}, False),
        ({"head_branch": "develop"}, False),
        ({"head_sha": "b" * 40}, False),
        ({"path": ".github/workflows/other.yml"}, False),
    ],
)
def test_what_counts_as_started(changed: dict[str, Any], found: bool) -> None:
    """A run of that file at that commit of the branch counts unless it never began; a pull request's not."""
    one = run(**{"head_branch": BRANCH} | changed)
    assert started([one], "staging.yml", BRANCH, HEAD) is (one if found else None)


def test_a_run_that_did_not_fail_is_found_first() -> None:
    """Where a workflow was started again after it failed, the better run is what is told."""
    failed, passed = run(2, head_branch=BRANCH, conclusion="failure"), run(1, head_branch=BRANCH)
    assert started([failed, passed], "staging.yml", BRANCH, HEAD) is passed


@pytest.mark.parametrize(
    ("changed", "passes", "said"),
    [
        ({}, True, "staging.yml was started already on v1 and ended with success: https://"),
        ({"status": "in_progress", "conclusion": None}, True, "and is in progress: https://"),
        ({"event": "workflow_dispatch"}, True, "such as a trial, start another by hand."),
        ({"conclusion": "cancelled"}, False, "Re-run it there: it is not started a second time."),
        ({"conclusion": "timed_out"}, False, "ended with timed out"),
    ],
)
def test_what_is_told_of_a_run_before(changed: dict[str, Any], passes: bool, said: str) -> None:
    """Its address and state, a warning where it failed, and that a person's own run looks the same."""
    decision = is_under_way(run(**changed), "staging.yml", "v1")
    assert decision.passed is passes
    assert said in decision.reason
    assert ("trial" in decision.reason) is (changed.get("event") == "workflow_dispatch")


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
    assert BODY_LIMIT - 100 < len(body) <= MAX_BODY
    assert [line for line in body.splitlines() if line.startswith("### ")][:3] == [
        "### Staging",
        "### Production",
        "### Cleanup",
    ]


@pytest.mark.parametrize(
    "section",
    [
        *("- x\n" * 30_000, "`" * 30_000, "`" * 200_000, "a" * 60_000 + "`" * 5_000),
        *("a" * (BODY_LIMIT - 900), "a" * BODY_LIMIT, "`a" * 40_000, "\x1b[2J" * 20_000, "\u202e" * 90_000),
    ],
    ids=["lines", "fence", "long-fence", "late-fence", "near", "limit", "backticks", "sequences", "unseen"],
)
def test_a_pull_request_is_never_too_long(section: str) -> None:
    """Whatever the changelog holds, the text fits the limit; only the changelog is cut, and it says so."""
    body, short = (pull_body(V, text, "develop", "main", "v") for text in (section, "- x"))
    head = short.partition("```")[0]
    assert len(body) <= MAX_BODY
    assert body.startswith(head)
    fence, _, rest = body.removeprefix(head).removeprefix(NOTICE).partition("markdown\n")
    assert set(fence) == {"`"}
    shown = rest.removesuffix(f"\n{fence}\n")
    assert fence not in shown
    whole = plain(section)
    if body.removeprefix(head).startswith(NOTICE):
        kept, _, left = shown.rpartition("… (")
        assert whole.startswith(kept)
        assert left == f"{len(whole) - len(kept):,} more characters)"
        assert len(body) > MAX_BODY - 10
    else:
        assert shown == whole
        assert len(whole) < BODY_LIMIT
