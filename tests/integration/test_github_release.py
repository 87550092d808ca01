"""`gatehouse github-release` against the GitHub stand-in, from a folder of built files alone."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.rehearse.github import GitHub
from gatehouse.release.dist import Agent, digests_of, sha256_of
from gatehouse.release.notes import MARKER
from tests.integration.test_tag_release import TAG, Done, Prepared, publish
from tests.support.dists import make_dist
from tests.support.faults import World, play_faults, run
from tests.support.repositories import NAME, ReleaseRepository
from tests.support.verdicts import eval_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

AGENT = Agent("refund-triage", "agents/refund-triage.yaml", "3", "sha256:" + "ab" * 32, "warn")
FILES = ["SHA256SUMS", "acme_triage-1.2.0-py3-none-any.whl", "acme_triage-1.2.0.tar.gz", "build.json"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with a merged and tagged release 1.2.0."""
    folder = tmp_path_factory.mktemp("source")
    with GitHub(folder / "github") as gh:
        repo = ReleaseRepository(gh, folder / "repository")
        repo.commit("main", {"late.py": "x\n"})
        gh.git(NAME, "tag", TAG, "main")
    return folder / f"github/{NAME}.git"


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub."""
    with GitHub(tmp_path / "github") as github:
        yield github


@pytest.fixture
def repo(gh: GitHub, tmp_path: Path, source: Path) -> Prepared:
    """Its repository, the release's tag on main, with a folder of built files beside it."""
    repo = Prepared(gh, tmp_path / "work", source)
    build(repo)
    return repo


def build(
    repo: ReleaseRepository, version: str = "1.2.0", agents: Sequence[Agent] = (), **changes: Any
) -> Any:
    """Built files of the tag's commit in `dist`, and what `gatehouse evidence` says of the agents."""
    commit = repo.head(f"refs/tags/v{version}") or "c" * 40
    made = make_dist(repo.folder / "dist", version=version, agents=agents, **({"commit": commit} | changes))
    rows = []
    for agent in agents:
        verdict = eval_json(agent.name)
        folder = repo.folder / "evidence" / agent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "eval.json").write_text(json.dumps(verdict))
        row = {"name": agent.name, "digest": agent.digest, "state": "pass"}
        rows.append(row | {"reason": "2 of 2 | metrics pass @all", "run_url": "https://example.com/runs/1"})
    (repo.folder / "evidence").mkdir(exist_ok=True)
    told = {"schema": 1, "name": made.name, "version": made.version, "commit": made.commit}
    told |= {"state": "pass" if agents else "none", "reason": "", "agents": rows}
    (repo.folder / "evidence/evidence.json").write_text(json.dumps(told))
    return made


def github_release(repo: ReleaseRepository, *args: str) -> Done:
    """Run the command as a job on the tag."""
    env = repo.environment(ref=f"refs/tags/{TAG}")
    ended = run(World(["github-release", *args], repo.folder, [repo.gh], env))
    return Done(ended.code, ended.output, repo.outputs())


def the_release(gh: GitHub) -> dict[str, Any]:
    """The only release."""
    (release,) = gh.releases(NAME)
    return release


def digests(release: dict[str, Any]) -> dict[str, str]:
    """The digests of a release's files."""
    return {asset["name"]: asset["digest"] for asset in release["assets"]}


def call(gh: GitHub, method: str, path: str, **options: Any) -> Any:
    """A call of the API as the job makes it."""
    url = path if path.startswith("http") else f"{gh.api_url}/repos/{NAME}/{path}"
    headers = {"Authorization": f"Bearer {gh.token}"} | options.pop("headers", {})
    reply = requests.request(method, url, headers=headers, timeout=10, **options)
    assert reply.ok, reply.text
    return reply.json() if reply.content else None


def test_the_built_files_are_published(gh: GitHub, repo: Prepared) -> None:
    """The release carries just the built files and its notes, published last; again changes nothing."""
    done = github_release(repo)
    assert done.code == 0, done.output
    release = the_release(gh)
    assert (release["tag_name"], release["draft"], release["prerelease"]) == (TAG, False, False)
    assert digests(release) == {name: f"sha256:{sha256_of(repo.folder / 'dist' / name)}" for name in FILES}
    assert release["body"].startswith("### Added\n\n- A thing.\n")
    assert "Full Changelog" in release["body"]
    assert done.outputs == {"url": release["html_url"], "tag": TAG, "id": str(release["id"])}
    assert gh.effects[-1].startswith("PATCH")
    assert len(gh.effects) == 1 + len(FILES) + 1
    before = gh.effects[:]
    again = github_release(repo)
    assert (again.code, again.outputs) == (0, done.outputs), again.output
    assert "is published already" in again.output
    assert gh.effects == before


@pytest.mark.parametrize(
    ("notes", "has", "lacks"),
    [("changelog", "A thing.", "Full Changelog"), ("generated", "Full Changelog", "A thing.")],
)
def test_notes_are_chosen(gh: GitHub, repo: Prepared, notes: str, has: str, lacks: str) -> None:
    """--notes takes the changelog's section or GitHub's own notes alone."""
    publish(gh, "v0.1.0")
    assert github_release(repo, "--notes", notes).code == 0
    body = next(r["body"] for r in gh.releases(NAME) if r["tag_name"] == TAG)
    assert has in body
    assert lacks not in body
    assert notes == "changelog" or "compare/v0.1.0...v1.2.0" in body


def test_verdicts_travel_with_the_release(gh: GitHub, repo: Prepared) -> None:
    """The verdicts on the build's agents are assets of the release and stand in its notes, escaped."""
    build(repo, agents=[AGENT])
    done = github_release(repo)
    assert done.code == 0, done.output
    release = the_release(gh)
    name = "refund-triage-eval.json"
    assert digests(release)[name] == f"sha256:{sha256_of(repo.folder / 'evidence/refund-triage/eval.json')}"
    assert (
        "| <code>refund&#45;triage</code> | <code>3</code> | ✅ <code>pass</code> ([run](" in release["body"]
    )
    assert "| metrics" not in release["body"]


def test_without_evidence_nothing_is_published(gh: GitHub, repo: Prepared) -> None:
    """An agent without a passing verdict for its digest keeps the release from coming to be."""
    build(repo, agents=[AGENT])
    (repo.folder / "evidence/refund-triage/eval.json").unlink()
    done = github_release(repo)
    assert done.code == 1, done.output
    assert gh.releases(NAME) == []
    assert gh.effects == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tag": None, "ref": "refs/heads/release/v1.2.0"}, "refs/heads/release/v1.2.0, which is no tag"),
        ({"repository": "mallory/triage"}, "built in mallory/triage, this is acme/triage"),
        ({"commit": "c" * 40}, "the files were built from it at cccccccccccc"),
        ({"tag": "v1.3.0"}, "v1.3.0 is gone"),
    ],
)
def test_another_build_is_refused(gh: GitHub, repo: Prepared, changes: dict[str, Any], says: str) -> None:
    """What was built from a branch, elsewhere, or from another commit than the tag's is not published."""
    build(repo, **changes)
    done = github_release(repo)
    assert done.code == 2, done.output
    assert says in done.output
    assert gh.effects == []


def test_files_that_are_not_the_built_ones_are_refused(gh: GitHub, repo: Prepared) -> None:
    """A file whose digest is not the build's ends it before anything is done; a changed record does too."""
    handed_on = json.dumps(digests_of(repo.folder / "dist"))
    build(repo, code="import os")
    done = github_release(repo, "--digests", handed_on)
    assert done.code == 2, done.output
    assert "the artifact was changed after the build" in done.output
    (repo.folder / "dist" / FILES[1]).write_bytes(b"other")
    done = github_release(repo)
    assert done.code == 2, done.output
    assert gh.effects == []


def draft(gh: GitHub, body: str = MARKER) -> dict[str, Any]:
    """A draft of the tag."""
    made: dict[str, Any] = call(gh, "POST", "releases", json={"tag_name": TAG, "draft": True, "body": body})
    return made


def upload(gh: GitHub, release: dict[str, Any], name: str, content: bytes) -> None:
    """Attach a file to a release."""
    url = release["upload_url"].partition("{")[0]
    call(gh, "POST", url, params={"name": name}, data=content, headers={"Content-Type": "text/plain"})


def test_a_broken_draft_is_mended(gh: GitHub, repo: Prepared) -> None:
    """A draft of ours is gone on with: wrong bytes are replaced, strange files removed, right ones kept."""
    begun = draft(gh)
    upload(gh, begun, FILES[1], b"half")
    upload(gh, begun, "leftover.whl", b"old")
    upload(gh, begun, FILES[2], (repo.folder / "dist" / FILES[2]).read_bytes())
    done = github_release(repo)
    assert done.code == 0, done.output
    release = the_release(gh)
    assert release["id"] == begun["id"]
    assert digests(release) == {name: f"sha256:{sha256_of(repo.folder / 'dist' / name)}" for name in FILES}
    assert f"Uploaded {FILES[1]}" in done.output
    assert f"Uploaded {FILES[2]}" not in done.output
    assert release["body"].startswith("### Added")


def test_two_drafts_become_one(gh: GitHub, repo: Prepared) -> None:
    """Of two drafts of ours one is published and the other deleted; a person's draft stays."""
    first, _, theirs = draft(gh), draft(gh), draft(gh, "my own words")
    done = github_release(repo)
    assert done.code == 0, done.output
    assert {r["id"]: r["draft"] for r in gh.releases(NAME)} == {first["id"]: False, theirs["id"]: True}
    assert "is not ours" in done.output


def test_a_draft_beyond_the_first_page_is_found(gh: GitHub, repo: Prepared) -> None:
    """The draft is found however many releases there are."""
    begun = draft(gh)
    for number in range(101):
        call(gh, "POST", "releases", json={"tag_name": f"v0.0.{number}", "draft": True})
    assert github_release(repo).code == 0
    assert [r["id"] for r in gh.releases(NAME) if r["tag_name"] == TAG] == [begun["id"]]


def test_other_files_of_a_published_release_stay(gh: GitHub, repo: Prepared) -> None:
    """A published release with other files is an error that says why nothing is changed."""
    release = draft(gh)
    upload(gh, release, FILES[1], b"other")
    call(gh, "PATCH", f"releases/{release['id']}", json={"draft": False})
    before = gh.effects[:]
    done = github_release(repo)
    assert done.code == 2, done.output
    assert f"{FILES[1]} has other bytes" in done.output
    assert "build.json is not there" in done.output
    assert "immutable" in done.output
    assert gh.effects == before


def test_an_immutable_release_is_made_in_one_go(gh: GitHub, repo: Prepared) -> None:
    """Where releases are immutable, every file is there before it is published."""
    gh.settings(NAME).immutable_releases = True
    assert github_release(repo).code == 0
    assert the_release(gh)["immutable"] is True
    assert sorted(digests(the_release(gh))) == sorted(FILES)
    assert github_release(repo).code == 0


def test_without_a_digest_the_bytes_are_compared(
    gh: GitHub, repo: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where GitHub says no digest, a file is downloaded and its bytes are compared."""
    kind = type(gh._rest.releases)
    show = kind._show_asset
    monkeypatch.setattr(kind, "_show_asset", lambda *args: show(*args) | {"digest": None})
    begun = draft(gh)
    wheel = (repo.folder / "dist" / FILES[1]).read_bytes()
    upload(gh, begun, FILES[1], wheel)
    upload(gh, begun, "SHA256SUMS", b"x" * (repo.folder / "dist/SHA256SUMS").stat().st_size)
    done = github_release(repo)
    assert done.code == 0, done.output
    assert f"Uploaded {FILES[1]}" not in done.output
    assert "Removed SHA256SUMS, which is broken" in done.output
    monkeypatch.undo()
    assert sorted(digests(the_release(gh))) == sorted(FILES)


def test_a_pre_release_is_marked(gh: GitHub, repo: Prepared) -> None:
    """A release candidate is published as a pre-release, by its version alone."""
    gh.git(NAME, "tag", "v1.3.0rc1", "main")
    build(repo, "1.3.0rc1")
    for old in ("acme_triage-1.2.0-py3-none-any.whl", "acme_triage-1.2.0.tar.gz"):
        (repo.folder / "dist" / old).unlink()
    done = github_release(repo)
    assert done.code == 0, done.output
    assert the_release(gh)["prerelease"] is True


def world_of(source: Path, agents: Sequence[Agent] = ()) -> Callable[[Path], AbstractContextManager[World]]:
    """How to make a world of a tag and its built files."""

    @contextmanager
    def make(folder: Path) -> Iterator[World]:
        with GitHub(folder / "github") as gh:
            repo = Prepared(gh, folder / "work", source)
            build(repo, agents=agents)
            env = repo.environment(ref=f"refs/tags/{TAG}")
            yield World(["github-release"], repo.folder, [gh], env, extra=repo)

    return make


def published(world: World) -> list[Any]:
    """Every release with its files."""
    repo: ReleaseRepository = world.extra
    return [
        (r["tag_name"], r["name"], r["draft"], r["prerelease"], r["body"].partition("**Full")[0], digests(r))
        for r in repo.gh.releases(NAME)
    ] + [sorted(repo.refs()), repo.outputs().get("tag")]


def test_it_can_be_run_again_after_every_fault(tmp_path: Path, source: Path) -> None:
    """However github-release was disturbed, a second run leaves one published release with all its files."""
    played = play_faults(world_of(source, [AGENT]), published, tmp_path)
    assert [effect.partition(" ")[0] for effect in played.effects] == ["POST"] * 6 + ["PATCH"]
    assert len(played.state) == 3
