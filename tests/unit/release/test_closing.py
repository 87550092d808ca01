"""The decisions after a release was merged, as pure functions."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from gatehouse.release import closing

NAME = "acme/triage"
V = Version("1.2.0")


def pull(branch: str = "release/v1.2.0", number: int = 1, **changed: Any) -> dict[str, Any]:
    """A merged release pull request as the API shows it."""
    shown: dict[str, Any] = {
        "number": number,
        "html_url": f"https://example.com/pull/{number}",
        "merged_at": "2026-11-21T12:00:00Z",
        "merge_commit_sha": "b" * 40,
        "head": {"ref": branch, "sha": "a" * 40, "repo": {"full_name": NAME}},
        "base": {"ref": "main"},
    }
    return shown | changed


def merged(version: str = "1.2.0", number: int = 1) -> closing.Merged:
    """A merged release pull request."""
    found = closing.merged_release(pull(f"release/v{version}", number), NAME, "main", "v")
    assert found
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        pull("feature/v1.2.0"),
        pull("release/v1.2"),
        pull("release/v1.2.0rc1"),
        pull(merged_at=None),
        pull(merge_commit_sha=None),
        pull(base={"ref": "develop"}),
        pull(head={"ref": "release/v1.2.0", "sha": "a" * 40, "repo": {"full_name": "mallory/triage"}}),
        pull(head={"ref": "release/v1.2.0", "sha": "a" * 40, "repo": None}),
    ],
)
def test_what_is_no_merged_release(wrong: dict[str, Any]) -> None:
    """Another branch or base, a fork's, and one that was closed unmerged are no merged release."""
    assert closing.merged_release(wrong, NAME, "main", "v") is None


@pytest.mark.parametrize(
    ("versions", "tags", "found"),
    [
        ([], [], None),
        (["1.2.0"], [], "1.2.0"),
        (["1.9.0", "1.10.0"], ["v1.8.0"], "1.10.0"),
        (["1.1.0", "1.2.0"], ["v1.2.0"], "1.2.0"),  # 1.1.0 was left behind
        (["1.1.0", "1.2.0"], ["v1.1.0"], "1.2.0"),
        (["1.2.0"], ["v2.0.0rc1"], "1.2.0"),
        (["1.2.0"], ["v1.2.0", "vacuous"], "1.2.0"),
    ],
)
def test_which_release_is_tagged(versions: list[str], tags: list[str], found: str | None) -> None:
    """The newest without a tag; where none waits, the newest, so that what is missing of it is done."""
    chosen = closing.to_tag([merged(version) for version in versions], tags, "v")
    assert (str(chosen.version) if chosen else None) == found


def run(**changed: Any) -> dict[str, Any]:
    """A green staging run as the API shows it."""
    shown: dict[str, Any] = {
        "event": "push",
        "head_sha": "a" * 40,
        "status": "completed",
        "conclusion": "success",
    }
    return shown | {"html_url": "https://example.com/runs/1", "head_branch": "v1.2.0"} | changed


@pytest.mark.parametrize(
    ("runs", "tree", "passes"),
    [
        ([run()], "t", True),
        ([run(conclusion="failure"), run()], "t", True),
        ([run(event="workflow_dispatch")], "t", True),
        ([], "t", False),
        ([run()], "other", False),
        ([run()], None, False),
        ([run(event="pull_request")], "t", False),
        ([run(event="pull_request_target")], "t", False),
        ([run(status="in_progress", conclusion=None)], "t", False),
        ([run(conclusion="cancelled")], "t", False),
        ([run(head_sha="f" * 40)], "t", False),
    ],
)
def test_what_counts_as_staged(runs: list[dict[str, Any]], tree: str | None, passes: bool) -> None:
    """Only a green run of the repository's own commits, for just these files."""
    decision = closing.staged(runs, {"a" * 40: "t"}, tree, "staging.yml")
    assert decision.passed is passes
    assert decision.reason


def test_other_files_are_the_reason_where_nothing_was_staged() -> None:
    """What main had of its own is said where that is why, and is in nobody's way once it was staged."""
    other = closing.other_files(merged(), "main")
    assert "main got other files than release/v1.2.0 held" in other
    assert "bbbbbbbbbbbb as release/v1.2.0" in other
    assert closing.staged([], {}, "t", "staging.yml", other).reason.endswith(other)
    assert other not in closing.staged([run()], {"a" * 40: "t"}, "t", "staging.yml", other).reason


@pytest.mark.parametrize(
    ("body", "there", "passes"),
    [("- x", True, True), ("\n \n", True, False), (None, True, False), (None, False, False)],
)
def test_the_changelogs_section(body: str | None, there: bool, passes: bool) -> None:
    """The changelog has to say something under the version."""
    assert closing.has_section(body, V, "CHANGELOG.md", there=there).passed is passes


@pytest.mark.parametrize(
    ("tip", "on_main", "same", "passes"),
    [
        ("a" * 40, False, False, True),
        ("e" * 40, True, False, True),
        ("e" * 40, False, True, True),
        ("e" * 40, False, False, False),
    ],
)
def test_when_the_release_branch_may_go(tip: str, on_main: bool, same: bool, passes: bool) -> None:
    """It goes where nothing on it is lost; else the reason shows what it holds."""
    decision = closing.removable(
        "release/v1.2.0", tip, merged(), on_main=on_main, same=same, extra=["A \x1b[31mfix"]
    )
    assert decision.passed is passes
    assert passes or "(A fix)" in decision.reason


@pytest.mark.parametrize(
    ("stderr", "rule", "workflow"),
    [
        ("remote: error: GH006: Protected branch update failed", True, False),
        ("remote: error: GH013: Repository rule violations found", True, False),
        ("! [rejected] develop -> develop (fetch first)", False, False),
        ("GH0061", False, False),
        (
            "refusing to allow a GitHub App to update workflow `x.yml` without `workflows` permission",
            False,
            True,
        ),
        ("refusing to allow an OAuth App to create workflow `x` without `workflow` scope", False, True),
    ],
)
def test_why_a_push_was_refused(stderr: str, rule: bool, workflow: bool) -> None:
    """A rule, a lack of permission, and a branch that moved are told apart."""
    assert closing.by_rule(stderr) is rule
    assert closing.lacks_workflow_permission(stderr) is workflow


def test_the_back_merges_text_is_inert() -> None:
    """No name of a branch or file becomes Markdown or a second command."""
    body = closing.back_merge_body(V, "dev$(id)`|", "v", ["<img src=x>\n# A heading", "@everyone"])
    assert "<img" not in body
    assert "\n# A heading" not in body
    assert "@everyone" not in body
    assert "git merge 'origin/dev$(id)`|'" in body


def test_many_conflicts_are_counted() -> None:
    """Of many files twenty are shown, and how many more there are."""
    body = closing.back_merge_body(V, "develop", "v", [f"f{n}" for n in range(25)])
    assert "- and 5 more" in body
    assert "f20" not in body
    assert "conflict" not in closing.back_merge_body(V, "develop", "v", []).lower()


def release(
    tag: str, *, draft: bool = False, prerelease: bool = False, body: str = "", number: int = 1
) -> dict[str, Any]:
    """A release as the API shows it."""
    return {"id": number, "tag_name": tag, "draft": draft, "prerelease": prerelease, "body": body}


def test_the_newest_release() -> None:
    """The newest is the highest final version that is published, by order of versions."""
    shown = [
        release("v1.9.0"),
        release("v1.10.0"),
        release("v2.0.0", draft=True),
        release("v3.0.0", prerelease=True),
    ]
    assert str(closing.newest_release(shown, "v")) == "1.10.0"
    assert closing.newest_release([], "v") is None
    assert closing.is_newest(Version("1.10.0"), shown, "v")
    assert closing.is_newest(Version("1.11.0"), shown, "v")
    assert not closing.is_newest(Version("1.9.1"), shown, "v")
    assert not closing.is_newest(Version("4.0.0rc1"), shown, "v")
    assert closing.release_before(Version("1.10.0"), shown, "v") == "v1.9.0"
    assert closing.release_before(Version("1.9.0"), shown, "v") == ""
    assert closing.ahead_of(Version("1.9.5"), ["v1.10.0", "v2.0.0rc1", "x"], "v") == "v1.10.0"
    assert closing.ahead_of(Version("1.10.0"), ["v1.10.0"], "v") == ""


def test_our_drafts() -> None:
    """Drafts of the tag with our marker, the first made first; no published release, no person's draft."""
    shown = [
        release("v1", draft=True, body="x MARK", number=9),
        release("v1", draft=True, body="x MARK", number=2),
        release("v1", draft=True, body="mine", number=3),
        release("v1", body="MARK", number=4),
        release("v2", draft=True, body="MARK", number=5),
        release("v1", draft=True, number=6) | {"body": None},
    ]
    assert [one["id"] for one in closing.our_drafts(shown, "v1", "MARK")] == [2, 9]


@pytest.mark.parametrize(
    ("changed", "intact"),
    [
        ({}, True),
        ({"digest": None}, None),
        ({"digest": "sha256:" + "b" * 64}, False),
        ({"digest": "md5:" + "a" * 64}, False),
        ({"size": 4}, False),
        ({"size": 4, "digest": None}, False),
        ({"state": "starter"}, False),
    ],
)
def test_whether_an_asset_is_intact(changed: dict[str, Any], intact: bool | None) -> None:
    """Size, state and digest decide; without a digest nothing is known."""
    asset = {"state": "uploaded", "size": 3, "digest": "sha256:" + "a" * 64} | changed
    assert closing.is_intact(asset, "a" * 64, 3) is intact


def test_names_of_assets() -> None:
    """What GitHub would replace in a name is replaced before, so that the file is found again."""
    assert closing.asset_name("acme_triage-1!2.0-py3-none-any.whl") == "acme_triage-1.2.0-py3-none-any.whl"
    assert closing.asset_name("acme_triage-1.2.0+x.tar.gz") == "acme_triage-1.2.0+x.tar.gz"
