"""`gatehouse changelog-guard` on real merge commits of pull requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gatehouse.github import runner
from gatehouse.rehearse.github import GitHub
from tests.support.projects import Done, call
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository, git

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CODE = {"acme_triage/urgency.py": '"""How urgent it is."""\n'}
ENTRY = {"CHANGELOG.md": CHANGELOG.replace("### Fixed\n", "### Fixed\n\n- Urgency counts.\n")}
MISPLACED = {"CHANGELOG.md": CHANGELOG.replace("- Sort what", "- Urgency counts.\n- Sort what")}


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[ReleaseRepository]:
    """A repository with a changelog on develop; annotations are counted from none, as in a process."""
    runner._annotated.clear()
    with GitHub(tmp_path / "github") as gh:
        yield ReleaseRepository(gh, tmp_path / "repository")


def guard(
    repo: ReleaseRepository,
    files: Mapping[str, str | bytes | None],
    *args: str,
    branch: str = "feature/urgency",
    labels: tuple[str, ...] = (),
    ref: str = "merge",
    depth: int = 2,
    **env: str,
) -> Done:
    """Open a pull request into develop that changes `files`, check out as the action's users do, and run."""
    repo.commit(branch, files)
    number = repo.gh.open_pull(NAME, branch, "develop")["number"]
    repo.gh.label_pull(NAME, number, *labels)
    sha = repo.gh.git(NAME, "rev-parse", f"refs/pull/{number}/merge")
    checkout = repo.folder / "checkout"
    checkout.mkdir()
    git(checkout, "init", "--quiet")
    address = repo.gh.clone_url(NAME)
    git(checkout, "fetch", "--quiet", f"--depth={depth}", address, f"refs/pull/{number}/{ref}")
    git(checkout, "checkout", "--quiet", "FETCH_HEAD")
    payload = repo.gh.pull_request_event(NAME, number)
    given = repo.environment(ref=f"refs/pull/{number}/merge", event="pull_request", payload=payload, sha=sha)
    return call(checkout, "changelog-guard", *args, env=given | env)


def test_a_change_without_an_entry_fails(repo: ReleaseRepository) -> None:
    """Code without an entry ends with 1; annotation and summary show the lines to add, and the label."""
    done = guard(repo, CODE)
    assert done.code == 1, done.err
    assert repo.outputs()["state"] == "fail"
    assert done.out.splitlines()[-1].startswith(
        "::error file=CHANGELOG.md,title=Changelog::CHANGELOG.md has no new"
    )
    for shown in (done.out.replace("%0A", "\n"), (repo.folder / "summary.md").read_text()):
        assert "under Unreleased, line 3, so that it reads:\n\n## [Unreleased]\n\n### Added\n\n- " in shown
        assert "label the pull request no-changelog" in shown


def test_an_entry_passes(repo: ReleaseRepository) -> None:
    """With an entry under Unreleased it ends with 0 and says which one."""
    done = guard(repo, CODE | ENTRY)
    assert done.code == 0, done.out
    assert repo.outputs() == {
        "state": "pass",
        "reason": 'CHANGELOG.md has a new entry under Unreleased: line 11, "Urgency counts.".',
    }


def test_a_misplaced_entry_fails(repo: ReleaseRepository) -> None:
    """An entry that is only under a version fails, and the message says which line to move where."""
    done = guard(repo, CODE | MISPLACED)
    assert done.code == 1
    assert "Move line 17 to ### Added under Unreleased (line 3)." in repo.outputs()["reason"]


def test_an_entry_that_git_merged_under_the_release_fails(repo: ReleaseRepository) -> None:
    """A pull request from before a release, whose entry the merge puts under that version, is told."""
    repo.commit("feature/urgency", CODE | ENTRY)
    cut = CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [0.2.0] - 2026-11-21\n")
    repo.commit("develop", {"CHANGELOG.md": cut}, "Back from 0.2.0")
    done = guard(repo, {"acme_triage/more.py": ""})
    assert done.code == 1, done.out
    assert "stands under 0.2.0, which is cut already" in repo.outputs()["reason"]


def test_a_deleted_changelog_fails(repo: ReleaseRepository) -> None:
    """Deleting the changelog fails even where nothing else is changed."""
    assert guard(repo, {"CHANGELOG.md": None}).code == 1
    assert "CHANGELOG.md is deleted" in repo.outputs()["reason"]


@pytest.mark.parametrize(
    "files",
    [
        {"docs/index.md": "x", "README.md": "x", "LICENSE": "x"},
        {
            "tests/test_x.py": "x",
            "acme_triage/tests/data.json": "{}",
            "acme_triage/test_y.py": "x",
            "conftest.py": "",
        },
        {".github/workflows/ci.yml": "on: push\n", ".gitignore": "x\n", "acme_triage/.config/x.toml": ""},
        {"CHANGELOG.md": CHANGELOG.replace("Sort by", "Sorted by")},
    ],
)
def test_what_users_do_not_see_needs_no_entry(repo: ReleaseRepository, files: dict[str, str]) -> None:
    """Documentation, tests, names with a dot in front, and the changelog's own text need none."""
    done = guard(repo, files)
    assert (done.code, repo.outputs()["state"]) == (0, "skip"), done.out
    assert repo.outputs()["reason"] == "nothing that users see is changed"


@pytest.mark.parametrize(
    "path",
    ["acme_triage/prompts/system.md", "docs_tool/x.py", "pyproject.toml", "agents/a.yaml", "attests/x.py"],
)
def test_what_users_see_needs_one(repo: ReleaseRepository, path: str) -> None:
    """Prompts, agents and everything else that only looks like documentation or tests does need one."""
    done = guard(repo, {path: "x\n"})
    assert done.code == 1, done.out
    assert f"Users see: {path}" in done.out


@pytest.mark.parametrize(
    ("paths", "state"),
    [
        ("acme_triage/**", "fail"),
        ("other/**", "skip"),
        ("**\n!acme_triage/**", "skip"),
        ("!other/*\n", "fail"),
    ],
)
def test_path_rules(repo: ReleaseRepository, paths: str, state: str) -> None:
    """The files that count are those of the patterns, less those with ! in front, one a line."""
    guard(repo, CODE, GATEHOUSE_CHANGELOG_GUARD_PATHS=paths)
    assert repo.outputs()["state"] == state


@pytest.mark.parametrize(
    "pattern", [":(attr:x)", ":!x", "../x", "$(touch pwned)", "--output=pwned", "x\x1b[2J", "[", "\\"]
)
def test_hostile_patterns(repo: ReleaseRepository, pattern: str) -> None:
    """A pattern is never an option or another kind of git's own; it matches nothing here, or is refused."""
    done = guard(repo, CODE, f"--paths={pattern}")
    assert done.code in (0, 2), done.out
    assert not list(repo.folder.rglob("pwned*"))
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("branch", ["release/v0.2.0", "back-merge/v0.1.0"])
def test_branches_of_the_release_need_none(repo: ReleaseRepository, branch: str) -> None:
    """What a release branch or a back-merge brings had its entries before."""
    assert guard(repo, CODE, branch=branch).code == 0
    assert repo.outputs()["state"] == "skip"


def test_a_forks_branch_is_no_release(repo: ReleaseRepository) -> None:
    """A fork may call its branch what it likes: it needs its entry."""
    done = guard(repo, CODE, branch="release/v0.2.0")
    payload = repo.gh.pull_request_event(NAME, 1)
    payload["pull_request"]["head"]["repo"] = None
    sha = repo.gh.git(NAME, "rev-parse", "refs/pull/1/merge")
    env = repo.environment(ref="refs/pull/1/merge", event="pull_request", payload=payload, sha=sha)
    done = call(repo.folder / "checkout", "changelog-guard", env=env)
    assert done.code == 1, done.out


def test_the_label_decides(repo: ReleaseRepository) -> None:
    """With the label nothing is asked, whatever its case."""
    assert guard(repo, CODE | {"CHANGELOG.md": None}, labels=("bug", "No-Changelog")).code == 0
    assert repo.outputs() == {"state": "skip", "reason": "the pull request has the label no-changelog"}


def test_another_label_can_be_named(repo: ReleaseRepository) -> None:
    """The label is the one that is named, and the usual one means nothing then."""
    assert guard(repo, CODE, "--skip-label", "internal", labels=("no-changelog",)).code == 1


@pytest.mark.parametrize(
    ("ref", "depth", "said"),
    [
        ("merge", 1, "the checkout lacks the base of the pull request"),
        ("head", 2, "is not the merge of the pull request into its base"),
    ],
)
def test_a_checkout_that_cannot_be_judged_is_an_error(
    repo: ReleaseRepository, ref: str, depth: int, said: str
) -> None:
    """A checkout without the base, or of the head alone, ends with 2 and names `fetch-depth: 2`."""
    done = guard(repo, CODE | ENTRY, ref=ref, depth=depth)
    assert done.code == 2
    assert said in done.err
    assert "fetch-depth: 2" in done.err


def test_another_merge_is_no_base(repo: ReleaseRepository) -> None:
    """A merge commit that is not the run's own is not judged: its first parent is another base."""
    done = guard(repo, CODE | ENTRY, GITHUB_SHA="f" * 40)
    assert done.code == 2
    assert "is not the merge of the pull request" in done.err


def test_other_events_ask_nothing(repo: ReleaseRepository) -> None:
    """On a push there is no pull request to ask."""
    done = call(repo.folder, "changelog-guard", env=repo.environment(event="push"))
    assert (done.code, repo.outputs()["state"]) == (0, "skip")


def test_a_hostile_entry_is_shown_harmless(repo: ReleaseRepository) -> None:
    """An entry with commands, escapes and Markdown reaches the log, the outputs and the summary as text."""
    evil = "- \x1b[2J\u202e::error::pwned ##[error]x %0A <img> ``` @all\n\n  ::add-mask::y\n- Sort what"
    done = guard(repo, CODE | {"CHANGELOG.md": CHANGELOG.replace("- Sort what", evil)}, "--paths", "**")
    assert done.code == 1, done.out
    obeyed = re.sub(r"::stop-commands::(\w+)\n.*?\n::\1::", "", done.out, flags=re.DOTALL)
    assert [line[:13] for line in obeyed.splitlines() if line.startswith("::")] == ["::error file="]
    assert not {"\x1b", "\u202e"} & set(done.out + (repo.folder / "summary.md").read_text())


def test_a_repository_without_a_changelog(repo: ReleaseRepository) -> None:
    """Where there is none yet, the message says what it has to hold."""
    done = guard(repo, CODE, "--changelog", "HISTORY.md")
    assert done.code == 1
    assert "HISTORY.md does not exist. It has to hold:" in repo.outputs()["reason"]
