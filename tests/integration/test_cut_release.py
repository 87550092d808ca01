"""`gatehouse cut-release` against real git over HTTP and the GitHub stand-in."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.commands import _cut, cut_release
from gatehouse.rehearse.github import GitHub
from tests.support.projects import Done, call, start
from tests.support.repositories import CHANGELOG, ENTRIES, NAME, PERSON, WORKFLOWS, ReleaseRepository, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRANCH = "release/v0.2.0"
MESSAGE = "Release 0.2.0\n\nGatehouse-Cut: 0.2.0\n"
HOSTILE = [
    *("$(touch pwned)", "`touch pwned`", "1.2.0; touch pwned", "1.2.0\n::error::pwned", "--upload-pack=x"),
    *(
        "../../x",
        "refs/heads/main",
        "a b",
        "x..y",
        "-x",
        "@{-1}",
        "x~1",
        "x:y",
        "x\u202ey",
        "\u2028",
        "<b>",
        "x" * 400,
    ),
]
"""What a dispatch form may hold."""


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub."""
    with GitHub(tmp_path / "github") as github:
        yield github


@pytest.fixture
def repo(gh: GitHub, tmp_path: Path) -> ReleaseRepository:
    """A repository whose develop is green and has entries."""
    made = ReleaseRepository(gh, tmp_path / "repository")
    made.green()
    return made


def cut(repo: ReleaseRepository, *args: str, **env: str) -> Done:
    """Run the command as a job of the repository, in this process; it must not change the folder."""
    place = repo.folder / "job"
    place.mkdir(exist_ok=True)
    done = call(place, "cut-release", *args, env=repo.environment() | env)
    assert list(place.iterdir()) == []
    assert "Traceback" not in done.err
    return done


def state(repo: ReleaseRepository) -> dict[str, Any]:
    """What a cut leaves: the release branches, pull requests and dispatches, without hashes and times."""
    branches = {
        ref: repo.gh.git(repo.name, "log", "--format=%s %(trailers:only,unfold)", "-1", ref).strip()
        for ref in repo.refs()
        if ref.startswith("refs/heads/release/")
    }
    pulls = [(p["state"], p["title"], p["head"]["ref"], p["base"]["ref"]) for p in repo.gh.pulls(repo.name)]
    return {
        "branches": branches,
        "commits": {
            ref: repo.gh.git(repo.name, "rev-list", "--count", f"develop..{ref}") for ref in branches
        },
        "pulls": pulls,
        "started": sorted((d["workflow"], d["ref"]) for d in repo.gh.dispatches),
    }


CUT_STATE = {
    "branches": {f"refs/heads/{BRANCH}": "Release 0.2.0 Gatehouse-Cut: 0.2.0"},
    "commits": {f"refs/heads/{BRANCH}": "1"},
    "pulls": [("open", "Release v0.2.0", BRANCH, "main")],
    "started": [("agent-ci.yml", f"refs/heads/{BRANCH}"), ("staging.yml", f"refs/heads/{BRANCH}")],
}
UNTOUCHED: dict[str, Any] = {"branches": {}, "commits": {}, "pulls": [], "started": []}


def test_a_release_is_cut(repo: ReleaseRepository) -> None:
    """The branch has one commit more than develop, which dates the changelog; all else follows from it."""
    before = repo.refs()
    done = cut(repo)
    assert done.code == 0, done.err
    assert state(repo) == CUT_STATE
    commit = repo.head(BRANCH)
    today = datetime.now(UTC).date().isoformat()
    url = f"{repo.gh.server_url}/{NAME}"
    assert repo.show(BRANCH, "CHANGELOG.md") + "\n" == CHANGELOG.replace(
        "## [Unreleased]\n", f"## [Unreleased]\n\n## [0.2.0] - {today}\n"
    ).replace(
        "[Unreleased]: https://github.com/acme/triage/compare/v0.1.0...HEAD\n",
        f"[Unreleased]: {url}/compare/v0.2.0...HEAD\n[0.2.0]: {url}/compare/v0.1.0...v0.2.0\n",
    )
    assert repo.gh.git(NAME, "diff", "--name-only", "develop", BRANCH) == "CHANGELOG.md"
    assert repo.gh.git(NAME, "log", "-1", "--format=%B%an", BRANCH) == f"{MESSAGE}github-actions[bot]"
    assert {k: v for k, v in repo.refs().items() if k != f"refs/heads/{BRANCH}"} == before
    pull = repo.gh.pull(NAME, 1)
    assert ENTRIES.strip() in pull["body"]
    assert repo.outputs() == {
        "version": "0.2.0",
        "branch": BRANCH,
        "commit": commit,
        "pull-request": "1",
        "pull-request-url": pull["html_url"],
    }
    assert pull["html_url"] in (repo.folder / "summary.md").read_text()


def test_a_second_run_changes_nothing(repo: ReleaseRepository) -> None:
    """Run again, also after develop went on, it finds everything there and says so."""
    assert cut(repo).code == 0
    commit = repo.head(BRANCH)
    repo.commit("develop", {"news.txt": "1"})
    again = cut(repo)
    assert again.code == 0, again.err
    assert repo.head(BRANCH) == commit
    assert state(repo) == CUT_STATE
    for said in ("is cut already", "is open already", "staging.yml was started already"):
        assert said in again.out


def test_a_dry_run_shows_all_and_changes_nothing(repo: ReleaseRepository) -> None:
    """The changelog's difference, branch, pull request and what would start are shown; nothing is written."""
    before = repo.refs()
    done = cut(repo, "--dry-run")
    assert done.code == 0, done.err
    for shown in (
        f"Branch: {BRANCH}",
        "Release v0.2.0, into main",
        "staging.yml, agent-ci.yml",
        "+## [0.2.0] - ",
        "+[0.2.0]: ",
        "- [ ] Staging is green",
        "- Sort by urgency.",
    ):
        assert shown in done.out
    assert repo.refs() == before
    assert repo.gh.effects == []
    assert repo.outputs() == {"version": "0.2.0", "branch": BRANCH}


def test_a_dry_run_shows_also_what_is_refused(repo: ReleaseRepository) -> None:
    """A dry run that would be refused shows the same, names the reason and ends with 1."""
    repo.gh.add_run(NAME, "ci.yml", repo.head("develop"), "develop", conclusion="failure")
    done = cut(repo, "--dry-run")
    assert done.code == 1
    assert "ci ended with failure" in done.out
    assert "+## [0.2.0] - " in done.out


def test_an_app_starts_by_its_push(repo: ReleaseRepository) -> None:
    """With --push-starts the push itself starts the workflows, and nothing is dispatched."""
    env = repo.environment(token=repo.token)
    done = call(repo.folder, "cut-release", "--push-starts", env=env)
    assert done.code == 0, done.err
    assert repo.gh.dispatches == []
    runs = [(r["path"], r["event"]) for r in repo.gh.runs(NAME) if r["head_branch"] == BRANCH]
    assert runs == [(".github/workflows/agent-ci.yml", "push"), (".github/workflows/staging.yml", "push")]
    assert repo.gh.pull(NAME, 1)["user"]["login"] == PERSON


def test_a_run_by_the_push_is_not_doubled(repo: ReleaseRepository) -> None:
    """Where the token's push did start a workflow though nobody said so, it is not started again."""
    done = call(repo.folder, "cut-release", env=repo.environment(token=repo.token))
    assert done.code == 0, done.err
    assert repo.gh.dispatches == []


@pytest.mark.parametrize(
    ("files", "started", "said"),
    [
        ({".github/workflows/staging.yml": None}, ["agent-ci.yml"], ""),
        (
            {".github/workflows/staging.yml": "on: push\njobs: {}\n"},
            ["agent-ci.yml"],
            "staging.yml was not started: Workflow does not have 'workflow_dispatch' trigger",
        ),
    ],
)
def test_only_what_can_be_started_is(
    repo: ReleaseRepository, files: dict[str, str | None], started: list[str], said: str
) -> None:
    """A workflow that is not there is passed over, one without the trigger is told; the cut goes on."""
    repo.commit("develop", files)
    repo.green()
    done = cut(repo)
    assert done.code == 0, done.err
    assert [d["workflow"] for d in repo.gh.dispatches] == started
    assert said in done.out


def test_a_workflow_that_github_does_not_know_yet_is_told(repo: ReleaseRepository) -> None:
    """A workflow that is on develop but not on the default branch cannot be dispatched: that is a warning."""
    repo.commit("develop", {".github/workflows/new.yml": WORKFLOWS["staging.yml"]})
    repo.green()
    done = cut(repo, "--start", "new.yml", "--start", "staging.yml")
    assert done.code == 0, done.err
    assert (
        "new.yml was not started: GitHub knows a workflow once its file is on the default branch" in done.out
    )
    assert [d["workflow"] for d in repo.gh.dispatches] == ["staging.yml"]


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "in_progress", "none"])
def test_a_develop_that_is_not_green_is_refused(gh: GitHub, tmp_path: Path, conclusion: str) -> None:
    """A failed, running or missing workflow of develop's head refuses; --skip-ci-check cuts all the same."""
    repo = ReleaseRepository(gh, tmp_path / "repository")
    if conclusion != "none":
        status = conclusion if conclusion == "in_progress" else "completed"
        gh.add_run(NAME, "ci.yml", repo.head("develop"), "develop", "push", status, conclusion)
        repo.green("main")
    done = cut(repo)
    assert done.code == 1, done.out
    assert "--skip-ci-check" in done.out
    assert state(repo) == UNTOUCHED
    assert cut(repo, "--skip-ci-check").code == 0
    assert state(repo) == CUT_STATE


def refused(repo: ReleaseRepository, *args: str, code: int = 1) -> str:
    """What the command says when it refuses; nothing may have been changed."""
    before, effects = repo.refs(), list(repo.gh.effects)
    done = cut(repo, *args)
    assert done.code == code, done.out + done.err
    assert repo.refs() == before
    assert repo.gh.effects == effects
    return done.out + done.err


def test_a_tagged_version_is_refused(repo: ReleaseRepository) -> None:
    """A tag of the version, or any above it, refuses."""
    repo.push("main", "refs/tags/v0.2.0")
    assert "v0.2.0 is tagged already" in refused(repo, "--version", "0.2.0")
    assert "older than the tag v0.2.0" in refused(repo, "--version", "0.1.5")


def test_a_released_version_is_refused(repo: ReleaseRepository) -> None:
    """A GitHub Release of the version refuses, even a draft."""
    import requests  # noqa: PLC0415 beside its one use

    url = f"{repo.gh.api_url}/repos/{NAME}/releases"
    headers = {"Authorization": f"Bearer {repo.token}"}
    requests.post(url, json={"tag_name": "v0.2.0", "draft": True}, headers=headers, timeout=10)
    assert "a draft of a GitHub Release of v0.2.0" in refused(repo)


def test_another_release_under_way_is_refused(repo: ReleaseRepository) -> None:
    """While a release branch has no tag no other version is cut; with its tag it is in nobody's way."""
    repo.commit("release/v0.1.1", {"x": "1"})
    assert "release/v0.1.1 is under way" in refused(repo)
    repo.push("release/v0.1.1", "refs/tags/v0.1.1")
    assert cut(repo).code == 0


def test_a_hotfix_of_main_comes_to_develop_first(repo: ReleaseRepository) -> None:
    """A commit that only main has refuses the cut before anything is made, and is named with what to do."""
    repo.push("main", "refs/heads/hotfix")
    fix = repo.commit("hotfix", {"hotfix.txt": "quick"}, "A hotfix")
    repo.push("hotfix", "refs/heads/main")
    said = refused(repo)
    assert f'develop lacks what main has: {fix[:12]} "A hotfix"' in said
    assert "Merge main into develop first" in said


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_hotfix_that_came_to_develop_is_in_nobodys_way(repo: ReleaseRepository, method: str) -> None:
    """However main was merged into develop, by a squash too, the cut goes on; so it does with other files."""
    repo.push("main", "refs/heads/hotfix")
    repo.commit("hotfix", {"hotfix.txt": "quick"})
    repo.push("hotfix", "refs/heads/main")
    number = repo.gh.open_pull(NAME, "main", "develop", "Take the hotfix", login=PERSON)["number"]
    repo.merge_pull(number, method)
    repo.green()
    done = cut(repo)
    assert done.code == 0, done.out
    assert "develop has all that main has" in done.out


def test_what_conflicts_with_main_is_refused(repo: ReleaseRepository) -> None:
    """Where main and develop changed one line, the conflict is met before the cut."""
    repo.push("main", "refs/heads/hotfix")
    repo.commit("hotfix", {"acme_triage/urgency.py": "HOT = 1\n"}, "A conflict")
    repo.push("hotfix", "refs/heads/main")
    assert '"A conflict"' in refused(repo)


def test_a_push_of_before_is_not_trusted_to_have_started(repo: ReleaseRepository) -> None:
    """With --push-starts a branch that this run did not push is looked at, and what is missing is started."""
    repo.gh.fail("POST", "/dispatches", status=502, message="no")
    assert cut(repo).code == 3
    done = cut(repo, "--push-starts")
    assert done.code == 0, done.err
    assert state(repo) == CUT_STATE


def test_foreign_commits_are_refused_and_named(repo: ReleaseRepository) -> None:
    """A branch of that name with a commit of somebody else's is left as it is, and the commit is named."""
    assert cut(repo).code == 0
    fix = repo.commit(BRANCH, {"fix.txt": "1"}, "Fix \x1b[31mit ::error::x")
    said = refused(repo)
    assert f'{fix[:12]} "Fix it ::error::x"' in said
    assert repo.head(BRANCH) == fix


def test_a_branch_from_elsewhere_is_refused(repo: ReleaseRepository) -> None:
    """A branch made by hand, even one that stands right at develop, is not taken for ours."""
    repo.push("develop", f"refs/heads/{BRANCH}")
    assert "holds commits that are not this cut's" in refused(repo)


def test_a_cut_whose_develop_was_rewritten_is_refused(repo: ReleaseRepository) -> None:
    """A cut of a develop that is gone is not gone on with."""
    assert cut(repo).code == 0
    repo.gh.git(NAME, "update-ref", "refs/heads/develop", "main")
    repo.commit("develop", {"CHANGELOG.md": CHANGELOG})
    assert "not this cut's" in refused(repo, "--skip-ci-check")


def test_a_merged_release_is_not_cut_again(repo: ReleaseRepository) -> None:
    """After the merge, with the branch still there or deleted, tag-release is what comes next."""
    assert cut(repo).code == 0
    repo.merge_pull(1)
    assert "run tag-release" in refused(repo)
    repo.push("", f"refs/heads/{BRANCH}")
    assert "#1 has merged release/v0.2.0 already: run tag-release." in refused(repo)


def test_a_closed_pull_request_is_opened_anew(repo: ReleaseRepository) -> None:
    """Where a person closed the pull request, a new one is opened from the same branch."""
    assert cut(repo).code == 0
    repo.gh._rest.repositories[NAME].pulls[1].state = "closed"
    assert cut(repo).code == 0
    assert [p["state"] for p in repo.gh.pulls(NAME)] == ["closed", "open"]


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        (None, "CHANGELOG.md: does not exist on develop"),
        (
            "# Changelog\n\n## [Unreleased]\n\n<!-- - x -->\n",
            "CHANGELOG.md:3: nothing stands under Unreleased",
        ),
        ("# Changelog\n", "CHANGELOG.md:1: no heading Unreleased"),
        (CHANGELOG + "\n# Unreleased\n", "a second Unreleased"),
        (CHANGELOG.replace("[0.1.0] -", "[0.2.0] -"), "there is a section of 0.2.0 already"),
    ],
)
def test_a_changelog_to_mend_is_refused(repo: ReleaseRepository, changelog: str | None, said: str) -> None:
    """A changelog that cannot be cut is an error with file and line, and ends with 2."""
    repo.commit("develop", {"CHANGELOG.md": changelog})
    assert said in refused(repo, "--skip-ci-check", "--version", "0.2.0", code=2)


def test_a_changelog_that_is_a_link_is_refused(repo: ReleaseRepository) -> None:
    """A link would be written over: the file itself has to be named."""
    work = repo.clone(token=repo.token)
    (work / "docs").mkdir()
    (work / "CHANGELOG.md").rename(work / "docs/CHANGELOG.md")
    (work / "CHANGELOG.md").symlink_to("docs/CHANGELOG.md")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "-m", "Link")
    git(work, "push", "--quiet", "origin", "develop")
    assert "is a link" in refused(repo, "--skip-ci-check", code=2)
    assert cut(repo, "--skip-ci-check", "--changelog", "docs/CHANGELOG.md").code == 0
    assert repo.gh.git(NAME, "diff", "--name-only", "develop", BRANCH) == "docs/CHANGELOG.md"


@pytest.mark.parametrize(
    "option", ["--version", "--develop", "--main", "--tag-prefix", "--changelog", "--start"]
)
def test_hostile_options_are_refused(repo: ReleaseRepository, option: str) -> None:
    """Nothing that an option may hold is executed, taken for an option of git's, or written anywhere."""
    for value in HOSTILE:
        given = f"{value}.md" if option == "--changelog" and value != "../../x" else value
        said = refused(repo, f"{option}={given}", "--skip-ci-check", code=2)
        assert not list(repo.folder.parent.rglob("pwned*"))
        obeyed = re.sub(r"::stop-commands::(\w+)\n.*?\n::\1::", "", said, flags=re.DOTALL)
        assert not re.search("^::error::pwned", obeyed, re.MULTILINE)
        assert "\u202e" not in said


def test_a_hostile_changelog_is_carried_exactly(repo: ReleaseRepository) -> None:
    """Whatever the changelog holds, the branch has it byte for byte, and no text of ours obeys it."""
    evil = (
        "- $(touch pwned) `id` ${{ secrets.X }} \x1b[2J\u202e <img src=x onerror=y> @everyone #1\r\n"
        "::set-output name=x::y\r\n##[error]z\r\n- ````\r\n  ## [Unreleased]\r\n  ````\r\n"
    )
    repo.commit("develop", {"CHANGELOG.md": CHANGELOG.replace("- Sort by urgency.\n", evil)})
    repo.green()
    done = cut(repo, "--dry-run")
    assert done.code == 0, done.err
    done = cut(repo)
    assert done.code == 0, done.err
    assert evil.encode() in repo.blob(BRANCH, "CHANGELOG.md")
    body = repo.gh.pull(NAME, 1)["body"]
    fence = re.search("^(`+)markdown$", body, re.MULTILINE)
    assert fence
    assert len(fence[1]) > 4
    assert "\x1b" not in body + done.out
    assert not list(repo.folder.parent.rglob("pwned*"))


def test_a_monorepo_has_its_own_releases(repo: ReleaseRepository) -> None:
    """With a tag prefix, tags, branches and links are that package's; another one's are in nobody's way."""
    repo.commit("develop", {"pkg/CHANGELOG.md": CHANGELOG})
    repo.push("main", "refs/tags/pkg-v2.0.0")
    repo.push("develop", "refs/heads/release/v9.0.0")
    done = cut(repo, "--tag-prefix", "pkg-v", "--changelog", "pkg/CHANGELOG.md", "--skip-ci-check")
    assert done.code == 0, done.err
    assert "/compare/pkg-v2.0.0...pkg-v2.1.0" in repo.show("release/pkg-v2.1.0", "pkg/CHANGELOG.md")
    assert repo.gh.pull(NAME, 1)["title"] == "Release pkg-v2.1.0"


def test_the_setting_that_forbids_pull_requests_is_named(repo: ReleaseRepository) -> None:
    """Its 403 names the setting, what was done so far and to run it again; that then ends as always."""
    repo.gh.forbid_pulls_by_actions(NAME)
    done = cut(repo)
    assert done.code == 2
    said = done.out + done.err
    assert "Settings > Actions > General > Allow GitHub Actions to create and approve pull requests" in said
    assert f"Done so far: {BRANCH} is at {repo.head(BRANCH)[:12]}. Run this again" in said
    assert state(repo)["pulls"] == []
    repo.gh.settings(NAME).pulls_by_actions = True
    assert cut(repo).code == 0
    assert state(repo) == CUT_STATE


def test_a_token_that_may_not_push_is_told(repo: ReleaseRepository) -> None:
    """A read-only token ends with 3 and names the permission; the token is nowhere in what is said."""
    token = repo.gh.read_only_token
    done = call(repo.folder, "cut-release", env=repo.environment(token=token))
    assert done.code == 3
    assert "contents: write" in done.err
    assert token not in done.out + done.err
    assert "GITHUB_TOKEN is empty" in call(repo.folder, "cut-release", env=repo.environment(token="")).err
    assert state(repo) == UNTOUCHED


def test_a_protected_release_branch_is_cut(repo: ReleaseRepository) -> None:
    """Rules that forbid to move and delete release branches do not stop a cut."""
    repo.gh.protect(NAME, "release/*", False)
    assert cut(repo).code == 0
    assert state(repo) == CUT_STATE


def test_a_pull_request_opened_meanwhile_is_taken(
    repo: ReleaseRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody opened it between the look and the request, GitHub's refusal leads to theirs."""
    assert cut(repo).code == 0
    answers: list[list[dict[str, Any]]] = [[]]
    monkeypatch.setattr(cut_release, "pulls", lambda *args: answers.pop() if answers else _cut.pulls(*args))
    assert cut(repo).code == 0
    assert answers == []
    assert state(repo) == CUT_STATE


def test_a_branch_made_meanwhile_is_not_taken_over(
    repo: ReleaseRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that somebody made after our look, even one we could move forward, stays as it is."""
    commit = cut_release._commit

    def meanwhile(*args: Any) -> str:
        repo.push("develop", f"refs/heads/{BRANCH}")
        return commit(*args)

    monkeypatch.setattr(cut_release, "_commit", meanwhile)
    done = cut(repo)
    assert done.code == 2, done.out
    assert "holds commits that are not this cut's" in done.err
    assert repo.head(BRANCH) == repo.head("develop")
    assert repo.gh.pulls(NAME) == []


def together(repo: ReleaseRepository, *commands: list[str]) -> list[tuple[int, str]]:
    """Run cuts as processes at the same time; the exit code and the words of each."""
    processes = [start(repo.folder, "cut-release", *args, env=repo.environment()) for args in commands]
    ends = [process.communicate(timeout=60) for process in processes]
    return [(process.returncode, "".join(end)) for process, end in zip(processes, ends, strict=True)]


def test_two_cuts_of_one_version_leave_one(repo: ReleaseRepository) -> None:
    """Two cuts of one version at once end in one branch, one commit and one pull request."""
    ends = together(repo, [], [])
    assert [code for code, _ in ends] == [0, 0], ends
    found = state(repo)
    assert found | {"started": []} == CUT_STATE | {"started": []}
    assert set(found["started"]) == set(CUT_STATE["started"])


def test_two_cuts_of_two_versions_never_both_stay(repo: ReleaseRepository) -> None:
    """Of two cuts that saw nothing of each other before they pushed, at least one takes its branch back."""
    both = threading.Barrier(2)
    first = {f"push refs/heads/release/v0.{minor}.0" for minor in (2, 3)}

    def wait(effect: str) -> None:
        if effect in first:
            first.remove(effect)
            both.wait(20)  # neither is told that its push took place before the other's has

    repo.gh.on_effect = wait
    ends = together(repo, ["--version", "0.2.0"], ["--version", "0.3.0"])
    assert [effect[:24] for effect in repo.gh.effects].count("push refs/heads/release/") >= 2
    failed = [said for code, said in ends if code == 2]
    found = state(repo)
    assert len(failed) + len(found["branches"]) == 2, ends
    assert len(found["branches"]) == len(found["pulls"]) < 2
    for said in failed:
        assert "another release was cut at the same time: release/v0." in said
        assert "was pushed and is deleted again" in said
