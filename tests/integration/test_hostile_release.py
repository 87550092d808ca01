"""Every class of hostile text in every field of a release: never obeyed; refused, or carried exactly."""

from __future__ import annotations

import io
import json
import os
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from packaging.version import Version

from gatehouse.commands import _release
from gatehouse.commands import build as building
from gatehouse.errors import Decision, UserError
from gatehouse.github import runner
from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.origin import run_git
from gatehouse.release import changelog, closing, gitflow
from gatehouse.release.checkout import read_checkout
from gatehouse.release.dist import Agent
from gatehouse.release.index import publishable
from gatehouse.release.notes import MARKER, Row, release_notes
from tests.integration import test_build as builds
from tests.integration.test_changelog_guard import CODE, guard
from tests.integration.test_tag_release import cut, publish
from tests.support.dists import make_dist
from tests.support.hostile import KINDS, harmless, inert, ref_of, run, table
from tests.support.markdown import page_of
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.projects import Done

BRANCH, TAG = "release/v1.2.0", "v1.2.0"
TODAY, URL = date(2026, 11, 21), "https://github.com/acme/triage"


@dataclass
class Bench:
    """A repository whose release 1.2.0 is merged and staged, and a folder in which jobs run."""

    gh: GitHub
    repo: ReleaseRepository
    job: Path

    def refs(self) -> str:
        """Every ref with its hash, as git lists them."""
        return self.gh.git(NAME, "for-each-ref")

    def run(self, *args: str, codes: tuple[int, ...] = (0, 1, 2), **env: str) -> Done:
        """Run a command; where it refuses, nothing outside may have been changed."""
        before, refs = self.gh.effects[:], self.refs()
        done = run(self.job, *args, env=self.repo.environment() | env, codes=codes)
        if done.code:
            assert self.gh.effects == before
            assert self.refs() == refs
        summary = self.repo.folder / "summary.md"
        if summary.exists():
            inert(summary.read_text())
            summary.unlink()
        return done


def bench_in(folder: Path, gh: GitHub) -> Bench:
    """A repository whose release 1.2.0 is merged and staged."""
    repo = cut(ReleaseRepository(gh, folder / "repository"))
    gh.merge_pull(NAME, 1)
    (folder / "job").mkdir()
    return Bench(gh, repo, folder / "job")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One for every hostile option: it is refused, and so stays as it is."""
    folder = tmp_path_factory.mktemp("bench")
    with GitHub(folder / "github") as gh:
        made = bench_in(folder, gh)
        make_dist(made.job / "dist")
        yield made


# Options.

_WORKFLOWS = ("--staging-workflow", "--release-workflow")
_TRIED = ("shell", "option", "ref")
ELSEWHERE = {
    "cut-release --version": _TRIED,
    "cut-release --develop": _TRIED,
    "cut-release --main": _TRIED,
    "cut-release --tag-prefix": _TRIED,
    "cut-release --start": _TRIED,
    "tag-release --main": _TRIED,
    "tag-release --tag-prefix": _TRIED,
    # Which would be asked of GitHub: below.
    "tag-release --staging-workflow": ("dots",),
    "tag-release --release-workflow": ("dots",),
    "evidence --workflow": ("dots", "length"),
}
"""What is tried elsewhere: here, or by the tests of the command."""

REFUSED = {
    "cut-release": ("--version", "--develop", "--main", "--tag-prefix", "--changelog", "--start"),
    "tag-release": (
        *("--version", "--main", "--tag-prefix", "--changelog"),
        *_WORKFLOWS,
    ),
    "finish-release": ("--version", "--develop", "--main", "--tag-prefix"),
    "github-release": ("--dist", "--notes"),
    "publish-testpypi": ("--dist", "--wait"),
    "publish-pypi": ("--dist",),
    "verify-install": ("--dist", "--python", "--index"),
    "evidence": ("--dist", "--workflow"),
    "build": ("--path", "--candidate"),
}
"""The options of each command in which no hostile text can be right."""

SUFFIX = {"--start": ".yml", "--staging-workflow": ".yml", "--release-workflow": ".yml", "--workflow": ".yml"}

_LINES = "U+2028 in a name is taken for the end of a line: a traceback"
_LONG, _RAW = "exit 3 after GitHub's 414", "click's own message reaches the runner as it is"
FAULTS = {
    ("cut-release --tag-prefix", "length"): _LONG,
    ("tag-release --main", "length"): _LONG,
    ("tag-release --staging-workflow", "length"): _LONG,
    ("tag-release --release-workflow", "length"): _LONG,
    ("tag-release --staging-workflow", "bytes"): "a traceback of urllib's quote",
    ("tag-release --release-workflow", "bytes"): "a traceback of urllib's quote",
    ("github-release --notes", "command"): _RAW,
    ("publish-testpypi --wait", "command"): _RAW,
    ("verify-install --index", "command"): _RAW,
    ("build --candidate", "command"): _RAW,
}
"""What is known to end otherwise than it has to."""


OPTIONS = table(
    [f"{command} {option}" for command, options in REFUSED.items() for option in options],
    FAULTS,
    [(field, kind) for field, kinds in ELSEWHERE.items() for kind in kinds],
)


@pytest.mark.parametrize(("field", "kind"), OPTIONS)
def test_an_option_is_refused(bench: Bench, field: str, kind: str) -> None:
    """Hostile text in an option is neither obeyed nor acted on: the command says so and changes nothing."""
    command, option = field.split()
    done = bench.run(command, f"{option}={KINDS[kind]}{SUFFIX.get(option, '')}")
    assert done.code in (1, 2), done.out


@pytest.mark.xfail(strict=True, reason="exit 3 after the push is refused, with the repair of another fault")
@pytest.mark.parametrize(
    "option", [f"--version=1.2.{'9' * 300}", f"--tag-prefix={'x' * 300}", "--tag-prefix=x.lock/"]
)
def test_a_branch_that_git_cannot_make_is_refused(tmp_path: Path, option: str) -> None:
    """A version or prefix that makes no name of a branch is refused before anything is pushed."""
    with GitHub(tmp_path / "github") as gh:
        repo = ReleaseRepository(gh, tmp_path / "repository")
        bench = Bench(gh, repo, tmp_path)
        args = [] if "version" in option else ["--version=1.2.0"]
        bench.run("cut-release", "--skip-ci-check", option, *args, codes=(2,))


@pytest.mark.xfail(strict=True, reason="the request leaves .../actions/workflows/")
@pytest.mark.parametrize("option", _WORKFLOWS)
@pytest.mark.parametrize("name", [".", ".."])
def test_no_request_leaves_its_path(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    """A workflow's name with which a request would be of something else is refused before it is asked for."""
    asked: list[str] = []
    monkeypatch.setattr(_release.Place, "find", lambda _self, path, **_query: asked.append(path))
    done = bench.run("tag-release", f"{option}={name}", codes=(2,))
    assert done.code == 2
    assert not [path for path in asked if {".", ".."} & set(path.split("/"))]


_NAME_TOO_LONG = "a traceback: File name too long"


@pytest.mark.parametrize(
    ("option", "kind"), table(["--changelog"], {("--changelog", "length"): _NAME_TOO_LONG})
)
def test_a_changelog_of_another_name_is_none(bench: Bench, option: str, kind: str) -> None:
    """finish-release takes a changelog that is not there for none: the merge back is git's own."""
    gh, repo = bench.gh, bench.repo
    before = repo.refs()
    try:
        gh.git(NAME, "tag", TAG, "main")
        if not gh.releases(NAME):
            publish(gh, TAG)
        done = bench.run("finish-release", f"{option}={KINDS[kind]}")
        assert done.code == 0, done.out
        assert repo.show("develop", "CHANGELOG.md") == repo.show("main", "CHANGELOG.md")
    finally:
        for ref, commit in before.items():
            gh.git(NAME, "update-ref", ref, commit)
        gh.git(NAME, "tag", "-d", TAG)


@pytest.fixture(scope="module")
def pull(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """The guard in the checkout of a pull request without an entry; `changes` are fields of its event."""
    folder = tmp_path_factory.mktemp("pull")
    with GitHub(folder / "github") as gh:
        repo = ReleaseRepository(gh, folder / "repository")
        assert guard(repo, CODE).code == 1
        sha = gh.git(NAME, "rev-parse", "refs/pull/1/merge")

        def judge(*args: str, **changes: Any) -> Done:
            payload = gh.pull_request_event(NAME, 1)
            payload["pull_request"] = merged(payload["pull_request"], changes)
            env = repo.environment(ref="refs/pull/1/merge", event="pull_request", payload=payload, sha=sha)
            done = run(folder / "repository/checkout", "changelog-guard", *args, env=env)
            inert((repo.folder / "summary.md").read_text())
            return done

        yield judge


def merged(one: Any, other: Any) -> Any:
    """A JSON object with another one laid over it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {key: merged(one.get(key), value) for key, value in other.items()}
    return other


@pytest.mark.parametrize(
    ("option", "kind"),
    table(
        ["--changelog", "--paths", "--skip-label"],
        {("--changelog", "length"): _NAME_TOO_LONG},
        but=[("--paths", "shell"), ("--paths", "option"), ("--paths", "control")],
    ),
)
def test_the_guard_reads_no_more_than_it_is_told(pull: Callable[..., Done], option: str, kind: str) -> None:
    """No changelog, pattern or label that a workflow names lets the guard pass or do anything else."""
    done = pull(f"{option}={KINDS[kind]}")
    assert done.code in ((0, 2) if option == "--paths" else (1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_asks_every_pull_request(pull: Callable[..., Done], kind: str) -> None:
    """What a pull request, its branch and its labels are called changes nothing but is no release branch."""
    text = KINDS[kind]
    fields = {"title": text, "body": text, "labels": [{"name": text}], "user": {"login": text}}
    assert pull(**fields, head={"ref": text}).code == 1
    assert pull(head={"ref": f"release/{text}"}).code == 0
    assert pull(head={"ref": f"release/{text}", "repo": {"full_name": text}}).code == 1


# Repositories.


@pytest.fixture(scope="module")
def decided(bench: Bench) -> Callable[..., Done]:
    """How a command ends in the bench's repository as it is."""
    return cache(lambda command: bench.run(command, "--dry-run"))


@pytest.fixture
def refs(bench: Bench) -> Iterator[Callable[..., None]]:
    """Makes refs in the bench's repository, which are deleted afterwards."""
    made: list[str] = []

    def make(*names: str) -> None:
        for name in names:
            bench.gh.git(NAME, "update-ref", name, "develop")
            made.append(name)

    yield make
    for name in made:
        bench.gh.git(NAME, "update-ref", "-d", name)


@pytest.mark.parametrize(
    ("command", "kind"), table(["cut-release", "tag-release"], {("cut-release", "line-end"): _LINES})
)
def test_other_branches_and_tags_are_left_alone(
    bench: Bench, decided: Callable[..., Done], refs: Callable[..., None], command: str, kind: str
) -> None:
    """Whatever other branches and tags are called, a command decides as it does without them."""
    expected, name = decided(command), ref_of(KINDS[kind])
    refs(f"refs/heads/{name}", f"refs/heads/release/{name}", f"refs/heads/release/v9.9.9{name}")
    refs(f"refs/tags/{name}", f"refs/tags/v9.9.9{name}")
    assert bench.run(command, "--dry-run") == expected


@pytest.mark.xfail(strict=True, reason="a traceback: ls-remote's pattern matches at the end of a name, too")
def test_refs_of_other_kinds_are_left_alone(
    bench: Bench, decided: Callable[..., Done], refs: Callable[..., None]
) -> None:
    """A ref that is neither branch nor tag, and only ends like one, is none."""
    expected = decided("cut-release")
    refs("refs/notes/refs/heads/release/v9.9.9")
    assert bench.run("cut-release", "--dry-run") == expected


def indented(text: str) -> str:
    """The text as one entry of a list."""
    return "- " + text.replace("\r", "\n").replace("\n", "\n  ") + "\n"


def test_a_release_carries_hostile_text_to_its_end(tmp_path: Path) -> None:
    """Titles, messages, branches and entries of every class go from develop to the release and back."""
    texts = {kind: text for kind, text in KINDS.items() if kind != "bytes"}
    entries = "".join(indented(text if kind != "length" else text[:50_000]) for kind, text in texts.items())
    with GitHub(tmp_path / "github") as gh:
        repo = ReleaseRepository(gh, tmp_path / "repository")
        repo.commit("develop", {"CHANGELOG.md": CHANGELOG.replace("- Sort by urgency.\n", entries)})
        for number, (kind, text) in enumerate(texts.items(), 1):
            name = ref_of(text if kind != "line-end" else kind)
            commit = gh.git(NAME, "commit-tree", "-p", "develop", "-m", f"{text[:1000]}.", "develop^{tree}")
            gh.git(NAME, "update-ref", f"refs/heads/release/{name}", commit)
            gh.open_pull(NAME, f"release/{name}", "develop", text)
            gh.merge_pull(NAME, number)
        repo.green()
        job = tmp_path / "job"
        job.mkdir()
        bench = Bench(gh, repo, job)
        others = set(repo.refs())

        assert bench.run("cut-release", "--version=1.2.0").code == 0
        released = repo.blob(BRANCH, "CHANGELOG.md")
        assert entries.encode() in released
        pull = gh.pulls(NAME)[-1]
        inert(pull["body"])

        repo.green(BRANCH, "staging.yml")
        gh.merge_pull(NAME, pull["number"])
        assert bench.run("tag-release").code == 0

        clone = repo.clone(TAG)
        with chdir(clone):
            notes = building.notes_of(read_checkout(clone, "", "", "v"), "CHANGELOG.md", Version("1.2.0"))
        built = make_dist(tmp_path / "made", commit=repo.head(f"refs/tags/{TAG}"))
        building.deliver(built, tmp_path / "made", notes, job / "dist")
        assert entries.encode() in (job / "dist/notes.md").read_bytes()

        assert bench.run("github-release").code == 0
        (release,) = gh.releases(NAME)
        assert entries in release["body"]
        assert f"\n{MARKER}\n" in release["body"]

        assert bench.run("finish-release").code == 0
        assert repo.blob("develop", "CHANGELOG.md") == released
        assert set(repo.refs()) == others | {f"refs/tags/{TAG}"}


# Building.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the tag v0.1.0."""
    return builds.repository(tmp_path_factory.mktemp("project") / "acme")


def build(project: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> Done:
    """`gatehouse build` up to where the project's own code would be run; it has to get there, or refuse."""

    def stop(*_args: Any) -> None:
        raise UserError("so far, so good")

    monkeypatch.setattr(building, "run_build", stop)
    before = sorted(project.rglob("*"))
    event = builds.runner(project, "refs/heads/main")
    done = run(project, "build", *args, env=event, codes=(2,))
    assert sorted(project.rglob("*")) == before
    return done


@pytest.mark.parametrize(
    ("option", "kind"),
    table(["--main", "--changelog", "--tag-prefix", "--out"], {("--out", "length"): _NAME_TOO_LONG}),
)
def test_a_build_is_told_apart_from_its_options(
    project: Path, monkeypatch: pytest.MonkeyPatch, option: str, kind: str
) -> None:
    """A branch that is not there is a warning, a prefix without tags is refused, any folder can be one."""
    done = build(project, monkeypatch, f"{option}={KINDS[kind]}")
    refused = option == "--tag-prefix" or (option, kind) == ("--out", "dots")
    assert ("so far, so good" in done.err) is not refused
    assert ("::warning::there is no branch" in done.out) is (option == "--main")


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_of_a_package_is_one_or_refused(tmp_path: Path, kind: str) -> None:
    """What is no name of a package is refused before anything is run."""
    text = KINDS[kind].encode(errors="replace").decode() + "\0"
    name = json.dumps(text, ensure_ascii=False)
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname = {name}\n")
    done = run(tmp_path, "build", env={}, codes=(2,))
    assert "is no name of a package" in done.err


@pytest.mark.parametrize(("field", "kind"), table(["refs"], {("refs", "line-end"): _LINES}))
def test_a_build_takes_other_branches_and_tags_as_they_are(
    project: Path, monkeypatch: pytest.MonkeyPatch, field: str, kind: str
) -> None:
    """Whatever else is called what: it changes neither the build nor its version."""
    name = ref_of(KINDS[kind])
    refs = [f"refs/heads/{name}", f"refs/remotes/origin/release/{name}", f"refs/tags/{name}"]
    refs += [f"refs/tags/v9.9.9{name}", f"refs/heads/release/v9.9.9{name}"]
    try:
        for ref in refs:
            run_git(project, "update-ref", ref, "HEAD")
        assert "so far, so good" in build(project, monkeypatch).err
    finally:
        for ref in refs:
            run_git(project, "update-ref", "-d", ref)


@pytest.mark.xfail(strict=True, reason="a traceback: surrogates not allowed")
def test_notes_that_are_no_text_are_carried(tmp_path: Path) -> None:
    """A changelog with bytes that are no UTF-8 is cut as it is, so a build hands it on as it is."""
    built = make_dist(tmp_path / "made")
    building.deliver(built, tmp_path / "made", f"- {KINDS['bytes']}\n", tmp_path / "dist")
    assert (tmp_path / "dist/notes.md").read_bytes() == b"- caf\xe9\n"


# What a build hands on.

AGENT = Agent("refund-triage", "agents/refund-triage.yaml", "3", "sha256:" + "ab" * 32, "warn")


@pytest.mark.parametrize(
    ("option", "kind"),
    table(["--workflow", "--tag-prefix", "--results", "--out"], but=[("--out", "dots")]),
)
def test_evidence_is_not_found_by_hostile_options(bench: Bench, option: str, kind: str) -> None:
    """No workflow, prefix or folder that an option names is taken for evidence; only --out is written to."""
    make_dist(bench.job / "with-agent", agents=[AGENT])
    given = f"{option}={KINDS[kind]}{SUFFIX.get(option, '')}"
    inside, around = set(bench.job.iterdir()), set(bench.job.parent.iterdir())
    done = bench.run("evidence", "--dist=with-agent", "--out=found", given, codes=(2, 3))
    assert (done.code == 2) is (option == "--workflow" and kind not in ("dots", "length"))
    assert option == "--out" or set(bench.job.iterdir()) - inside <= {bench.job / "found"}
    assert "../" in KINDS[kind] or set(bench.job.parent.iterdir()) == around


@pytest.mark.parametrize(("command", "kind"), table(["publish-pypi", "github-release"]))
def test_evidence_elsewhere_is_none(bench: Bench, command: str, kind: str) -> None:
    """Where --evidence leads nowhere, a build with agents is not published."""
    make_dist(bench.job / "with-agent", agents=[AGENT])
    done = bench.run(command, "--dist=with-agent", f"--evidence={KINDS[kind]}", codes=(1,))
    assert "there is no " in done.out + done.err


IN_JSON = KINDS | {"nul": "a\0b", "surrogate": "\ud800"}
"""What a file in JSON may hold besides."""


@pytest.mark.parametrize(
    ("field", "kind"),
    table(
        ["name", "version", "tag", "ref", "repository"],
        {("tag", "surrogate"): "a traceback: surrogates not allowed"},
        kinds=IN_JSON,
    ),
)
def test_a_build_that_says_hostile_things_is_refused(
    bench: Bench, tmp_path: Path, field: str, kind: str
) -> None:
    """A name or a version that is none stops every command that reads it, another field those that use it."""
    make_dist(tmp_path)
    data = json.loads((tmp_path / "build.json").read_text()) | {field: IN_JSON[kind]}
    data |= {"tag": None} if field == "ref" else {}
    (tmp_path / "build.json").write_text(json.dumps(data))
    commands = ["github-release", "publish-pypi", "publish-testpypi", "verify-install", "evidence"]
    users = {"ref": 2, "tag": 1, "repository": 1}.get(field, len(commands))
    for command in commands[:users]:
        bench.run(command, f"--dist={tmp_path}", codes=(1, 2))


# Changelogs.

PLACES = {
    "entry": ("- Sort by urgency.", "- {}"),
    "block": ("- Sort by urgency.", "- Sort by urgency.\n\n{}\n"),
    "category": ("### Added", "### Added\n\n- One.\n\n### {}"),
    "Unreleased": ("## [Unreleased]\n", "## [Unreleased] - {}\n"),
    "address of Unreleased": ("[Unreleased]: ", "[Unreleased]: <{}> "),
    "version": ("## [0.1.0] - 2026-01-05", "## [0.1.0] - {}"),
    "link definition": ("[0.1.0]: ", "[{}]: "),
}
"""Where a changelog takes text: what stands there, and what does instead."""

IN_CHANGELOG = KINDS | {
    "nul": "a\0b",
    "fence": "`" * 30_000,
    "comment": "<!--",
    "fold": "<details><summary>a",
}


_TOO_LONG = "a text of 90,000 characters, of which GitHub takes 65,536"


def laid_in(place: str, kind: str) -> str:
    """A changelog with hostile text at a place."""
    there, instead = PLACES[place]
    return CHANGELOG.replace(there, instead.replace("{}", IN_CHANGELOG[kind]), 1)


@pytest.mark.parametrize(
    ("place", "kind"),
    table(
        PLACES,
        {(place, "fence"): _TOO_LONG for place in ("entry", "block", "category")},
        kinds=IN_CHANGELOG,
    ),
)
def test_a_changelog_is_cut_or_refused(place: str, kind: str) -> None:
    """Every line stays as it is, what the pull request shows of it is dead, and the way back adds nothing."""
    text, version = laid_in(place, kind), Version("1.2.0")
    try:
        after = changelog.cut(text, version, TODAY, URL, "v0.1.0")
    except UserError as error:
        harmless_reasons(Decision(passed=False, reason=str(error)))
        return
    lines = iter(after.split("\n"))
    stays = [line for line in text.split("\n") if not line.startswith("[Unreleased]: ")]
    assert [line[:200] for line in stays if line not in lines] == []
    section = changelog.section(after, version) or ""
    body = gitflow.pull_body(version, section, "develop", "main", "v")
    inert(body)
    assert len(body) <= 65_536
    assert changelog.back_merge(text, after, text) in (None, after)
    harmless_reasons(
        Decision(passed=False, reason=changelog.level(text)[1]), changelog.missing(CHANGELOG, text)
    )


@pytest.mark.parametrize("kind", IN_CHANGELOG)
def test_a_workflow_file_is_read_or_taken_for_none(kind: str) -> None:
    """Whatever a workflow's file holds, whether it can be started is told."""
    text = IN_CHANGELOG[kind]
    assert gitflow.startable(text) is False
    assert gitflow.startable("[" * 1000 + text) is False


def harmless_reasons(*decisions: Decision) -> None:
    """Assert that reasons reach log, annotations and summary without being obeyed."""
    runner._annotated.clear()
    out, folder = io.StringIO(), TemporaryDirectory()
    with folder as place, redirect_stdout(out):
        summary = Path(place, "summary.md")
        with patch.dict(os.environ, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}):
            _release.report(decisions, "Title")
        shown = summary.read_text()
    harmless(out.getvalue())
    inert(shown)
    assert shown.count("\n- ") == len(decisions)


@pytest.mark.parametrize("kind", IN_JSON)
def test_what_git_and_github_call_things_is_only_shown(tmp_path: Path, kind: str) -> None:
    """Branches, titles, messages, files, workflows and addresses are text in every decision's reason."""
    text, commit, version = IN_JSON[kind], "c" * 40, Version("1.2.0")
    run = {"event": "push", "head_branch": text, "head_sha": commit, "workflow_id": 1, "name": text}
    run |= {"status": text, "conclusion": text, "html_url": text, "id": 1, "run_number": 1, "run_attempt": 1}
    run |= {"created_at": text, "run_started_at": text}
    merged = closing.Merged(1, version, text, commit, commit, text)
    odd = gitflow.Commit(commit, text, (commit,))
    harmless_reasons(
        gitflow.green([run], text, commit),
        gitflow.resumable(text, odd, [odd, odd], [text], version, text, on_develop=False),
        gitflow.unmerged([{"merged_at": "x", "number": 1}], text),
        gitflow.unused(version, [], [{"tag_name": TAG, "draft": True, "html_url": text}], "v"),
        closing.contained(merged, on_main=False, main=text),
        closing.same_tree(merged, "a", "b", text),
        closing.staged([run], {commit: "a"}, "a", text),
        closing.has_section(None, version, text, there=False),
        closing.removable(text, commit, None, on_main=False, same=False, extra=[text]),
        publishable(
            make_dist(tmp_path, tag=None), pre_release=False, evidence=Decision(passed=False, reason=text)
        ),
        changelog.missing(None, None, text),
    )
    inert(closing.back_merge_body(version, text, "v", [text]))
    inert(gitflow.pull_body(version, "- One.", text, text, text))


ROW = Row("triage", "3", "sha256:" + "ab" * 32, "pass", "2 of 2 metrics pass")


_SWALLOWED = "what is left open in the changelog swallows what comes after it"


@pytest.mark.parametrize(
    ("field", "kind"),
    table(
        ["notes"],
        {("notes", kind): _SWALLOWED for kind in ("markdown", "fence", "comment")},
        but=[("notes", "bytes")],  # which github-release refuses
        kinds=IN_CHANGELOG,
    ),
)
def test_verdicts_are_seen_whatever_the_changelog_holds(field: str, kind: str) -> None:
    """The section stands in a release's notes as it is, and cannot hide what the agents' verdicts are."""
    section = f"- One.\n{IN_CHANGELOG[kind]}"
    notes = release_notes(section, "**Full Changelog**", [ROW])
    assert section.strip("\r\n") in notes
    page = page_of(notes)
    assert "2 of 2 metrics pass" in "".join(page.cells)
