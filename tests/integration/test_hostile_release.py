"""Every class of hostile text in every field of a release: never obeyed; refused, or carried exactly."""

from __future__ import annotations

import json
from contextlib import chdir
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from gatehouse.commands import _release
from gatehouse.commands import build as building
from gatehouse.errors import UserError
from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.origin import run_git
from gatehouse.release.checkout import changelog_of, read_checkout
from gatehouse.release.dist import Agent
from gatehouse.release.notes import MARKER
from tests.integration import test_build as builds
from tests.integration.test_tag_release import cut, publish
from tests.support.dists import make_dist
from tests.support.hostile import IN_JSON, KINDS, inert, ref_of, run, table
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
    "evidence --workflow": ("dots",),
}
"""What is tried elsewhere: here, or by the tests of the command."""

REFUSED = {
    "cut-release": ("--version", "--develop", "--main", "--tag-prefix", "--changelog", "--start"),
    "tag-release": ("--version", "--main", "--tag-prefix", "--changelog", *_WORKFLOWS),
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

OPTIONS = table(
    [f"{command} {option}" for command, options in REFUSED.items() for option in options],
    but=[(field, kind) for field, kinds in ELSEWHERE.items() for kind in kinds],
)


@pytest.mark.parametrize(("field", "kind"), OPTIONS)
def test_an_option_is_refused(bench: Bench, field: str, kind: str) -> None:
    """Hostile text in an option is neither obeyed nor acted on: the command says so and changes nothing."""
    command, option = field.split()
    done = bench.run(command, f"{option}={KINDS[kind]}{SUFFIX.get(option, '')}")
    assert done.code in (1, 2), done.out


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_changelog_of_another_name_is_none(bench: Bench, kind: str) -> None:
    """finish-release takes a changelog that is not there for none: the merge back is git's own."""
    gh, repo = bench.gh, bench.repo
    before = repo.refs()
    try:
        gh.git(NAME, "tag", TAG, "main")
        if not gh.releases(NAME):
            publish(gh, TAG)
        done = bench.run("finish-release", f"--changelog={KINDS[kind]}")
        assert done.code == (2 if kind == "length" else 0), done.out
        if done.code == 0:
            assert repo.show("develop", "CHANGELOG.md") == repo.show("main", "CHANGELOG.md")
    finally:
        for ref, commit in before.items():
            gh.git(NAME, "update-ref", ref, commit)
        gh.git(NAME, "tag", "-d", TAG)


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


@pytest.mark.parametrize(("command", "kind"), table(["cut-release", "tag-release"]))
def test_other_branches_and_tags_are_left_alone(
    bench: Bench, decided: Callable[..., Done], refs: Callable[..., None], command: str, kind: str
) -> None:
    """Whatever other branches and tags are called, a command decides as it does without them."""
    expected, name = decided(command), ref_of(KINDS[kind])
    refs(f"refs/heads/{name}", f"refs/heads/release/{name}", f"refs/heads/release/v9.9.9{name}")
    refs(f"refs/tags/{name}", f"refs/tags/v9.9.9{name}")
    assert bench.run(command, "--dry-run") == expected


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
            history = changelog_of(read_checkout(clone, "", "", "v"), "CHANGELOG.md")
        built = make_dist(tmp_path / "made", commit=repo.head(f"refs/tags/{TAG}"))
        building.deliver(built, tmp_path / "made", building.notes_of(history, Version("1.2.0")), job / "dist")
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


@pytest.mark.parametrize(("option", "kind"), table(["--main", "--changelog", "--tag-prefix", "--out"]))
def test_a_build_is_told_apart_from_its_options(
    project: Path, monkeypatch: pytest.MonkeyPatch, option: str, kind: str
) -> None:
    """A branch that is not there is a warning, a prefix without tags is refused, any folder can be one."""
    done = build(project, monkeypatch, f"{option}={KINDS[kind]}")
    refused = option == "--tag-prefix" or (option == "--out" and kind in ("dots", "length"))
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_takes_other_branches_and_tags_as_they_are(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
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


@pytest.mark.parametrize("command", ["cut-release", "build"])
def test_a_changelog_that_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """GitHub takes no bytes that are no UTF-8 as a text: file and line are told, and nothing is made."""
    content = CHANGELOG.replace("Sort by urgency.", KINDS["bytes"]).encode(errors="surrogateescape")
    with GitHub(tmp_path / "github") as gh:
        repo = ReleaseRepository(gh, tmp_path / "repository")
        if command == "build":
            clone = repo.clone()
            (clone / "CHANGELOG.md").write_bytes(content)
            run_git(clone, "commit", "--quiet", "--all", "--message", "An entry")
            done = build(clone, monkeypatch)
        else:
            repo.commit("develop", {"CHANGELOG.md": content})
            repo.green()
            done = Bench(gh, repo, tmp_path).run(command, codes=(2,))
    line = content[: content.index(b"\xe9")].count(b"\n") + 1
    assert f"CHANGELOG.md:{line}: not UTF-8: the byte 0xe9\n" in done.err


# What a build hands on.

AGENT = Agent("refund-triage", "agents/refund-triage.yaml", "3", "sha256:" + "ab" * 32, "warn")


@pytest.mark.parametrize(
    ("option", "kind"),
    table(["--workflow", "--tag-prefix", "--out"], but=[("--out", "dots")]),
)
def test_evidence_is_not_found_by_hostile_options(bench: Bench, option: str, kind: str) -> None:
    """No workflow, prefix or folder that an option names is taken for evidence; only --out is written to."""
    make_dist(bench.job / "with-agent", agents=[AGENT])
    given = f"{option}={KINDS[kind]}{SUFFIX.get(option, '')}"
    inside, around = set(bench.job.iterdir()), set(bench.job.parent.iterdir())
    done = bench.run("evidence", "--dist=with-agent", "--out=found", given, codes=(2, 3))
    assert (done.code == 2) is (option == "--workflow" and kind != "dots")
    assert option == "--out" or set(bench.job.iterdir()) - inside <= {bench.job / "found"}
    assert "../" in KINDS[kind] or set(bench.job.parent.iterdir()) == around


@pytest.mark.parametrize(("command", "kind"), table(["publish-pypi", "github-release"]))
def test_evidence_elsewhere_is_none(bench: Bench, command: str, kind: str) -> None:
    """Where --evidence leads nowhere, a build with agents is not published."""
    make_dist(bench.job / "with-agent", agents=[AGENT])
    done = bench.run(command, "--dist=with-agent", f"--evidence={KINDS[kind]}", codes=(1,))
    assert "there is no " in done.out + done.err


@pytest.mark.parametrize(
    ("field", "kind"),
    table(
        ["name", "version", "tag", "ref", "repository"],
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
