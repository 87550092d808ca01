"""Publishing by real, unmodified twine, to indexes that stand in for PyPI and TestPyPI under their names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.index import Indexes
from gatehouse.release.dist import Agent, digests_of
from tests.support.dists import make_dist
from tests.support.projects import Done, gatehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.index import PackageIndex

REF = "refs/tags/v1.2.0"
COMMANDS = ("publish-testpypi", "publish-pypi")


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    """The issuer of id tokens."""
    with GitHub(tmp_path_factory.mktemp("github")) as github:
        github.create_repository("acme/triage")
        yield github


class Place:
    """A folder with a build, both indexes, and the command run in it."""

    def __init__(self, folder: Path, indexes: Indexes, github: GitHub) -> None:
        self.folder, self.dist, self.indexes, self.github = folder, folder / "dist", indexes, github
        self.home = folder / "home"
        self.home.mkdir()
        # What twine would read: it must not.
        (self.home / ".pypirc").write_text("[pypi]\nrepository = https://127.0.0.1:9/\nusername = x\n")
        (self.home / ".netrc").write_text("default login x password netrc-secret\n")
        self.build = make_dist(self.dist)

    def job(self, workflow: str = "release.yml", environment: str = "release") -> dict[str, str]:
        """The variables of a job with `id-token: write`."""
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": "acme/triage",
            "GITHUB_WORKFLOW_REF": f"acme/triage/.github/workflows/{workflow}@{REF}",
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            **self.github.oidc_environment("acme/triage", REF, workflow, environment),
        }

    def run(self, command: str, *args: str, **env: str) -> Done:
        """The command, by its own token unless variables of a job are given."""
        index = self.index(command)
        secret = {"publish-pypi": "PYPI_TOKEN", "publish-testpypi": "TEST_PYPI_TOKEN"}[command]
        env = {secret: index.token, "HOME": str(self.home), **self.indexes.environment, **env}
        return gatehouse(self.folder, command, *args, env=env)

    def index(self, command: str) -> PackageIndex:
        """The index that a command publishes to."""
        return self.indexes.pypi if command == "publish-pypi" else self.indexes.testpypi

    def built(self) -> dict[str, str]:
        """The digests of the build."""
        return {file.name: file.sha256 for file in self.build.files}


@pytest.fixture
def place(tmp_path: Path, github: GitHub) -> Iterator[Place]:
    """A build that may be published, and indexes that hold nothing."""
    with Indexes(tmp_path / "indexes", github) as indexes:
        indexes.pypi.reserve("acme-triage")
        yield Place(tmp_path, indexes, github)


def uploads(index: PackageIndex) -> list[tuple[str, str, int]]:
    """The uploads that were tried."""
    return [call for call in index.calls if call[:2] == ("POST", "/legacy/")]


def spoil_the_second(index: PackageIndex, **fault: Any) -> None:
    """Let the upload after the first one suffer a fault."""

    def spoil(_effect: str) -> None:
        index.on_effect = None
        index.fail("POST", "/legacy/", **fault)

    index.on_effect = spoil


@pytest.mark.parametrize("command", COMMANDS)
def test_by_token_and_again(place: Place, command: str) -> None:
    """Every file arrives with the digest that was built; a second run says so and uploads nothing."""
    index = place.index(command)
    done = place.run(command)
    assert done.code == 0, done.err
    assert index.files("acme-triage") == place.built()
    assert "does not hold acme-triage 1.2.0" in done.out
    tried = len(uploads(index))
    again = place.run(command)
    assert again.code == 0
    assert "already, with the digests that were built" in again.out
    assert len(uploads(index)) == tried == 2
    other = place.indexes.testpypi if index is place.indexes.pypi else place.indexes.pypi
    assert other.calls == []
    assert index.token not in done.out + done.err + again.out


def test_by_the_jobs_id_token(place: Place) -> None:
    """Without a token twine exchanges the job's id token; outputs and summary say what was done."""
    place.indexes.pypi.trust("acme-triage", "acme/triage", "release.yml", "release")
    job = place.job()
    done = place.run("publish-pypi", PYPI_TOKEN="", **job)
    assert done.code == 0, done.out + done.err
    assert place.indexes.pypi.files("acme-triage") == place.built()
    assert job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] not in done.out + done.err
    output = (place.folder / "output").read_text()
    assert "\nuploaded\n" in output
    assert "\nhttps://pypi.org/project/acme-triage/1.2.0/\n" in output
    assert "https://pypi.org/project/acme-triage/1.2.0/" in (place.folder / "summary").read_text()


def test_an_unknown_publisher_is_told_what_to_register(place: Place) -> None:
    """A job that is no trusted publisher is told what to register, and nothing is uploaded."""
    place.indexes.pypi.trust("acme-triage", "acme/triage", "other.yml", "release")
    done = place.run("publish-pypi", PYPI_TOKEN="", **place.job())
    assert done.code == 2
    assert "repository: acme/triage\n    workflow: release.yml" in done.err
    assert "no corresponding publisher (All lookup strategies exhausted)" in done.out, "it was wrapped"
    assert place.indexes.pypi.effects == []


def test_without_credentials_the_yaml_is_shown(place: Place) -> None:
    """Neither token nor id token: the error holds both ways as YAML, and nothing is uploaded."""
    done = place.run("publish-testpypi", TEST_PYPI_TOKEN="")
    assert done.code == 2
    assert "permissions:\n      id-token: write" in done.err
    assert "token: ${{ secrets.TEST_PYPI_TOKEN }}" in done.err
    assert uploads(place.indexes.testpypi) == []


def test_a_wrong_token_is_not_shown_and_not_repeated(place: Place) -> None:
    """A token that the index refuses ends it at once, with what to do, and is in no word of the output."""
    done = place.run("publish-testpypi", TEST_PYPI_TOKEN="pypi-wrong-one")
    assert done.code == 2
    assert "refuses the API token" in done.err
    assert "pypi-wrong-one" not in done.out + done.err
    assert len(uploads(place.indexes.testpypi)) == 1


def test_the_missing_file_is_completed(place: Place) -> None:
    """Where the index holds the wheel alone, the sdist alone is uploaded."""
    index = place.indexes.testpypi
    index.add(place.dist / place.build.files[0].name)
    done = place.run("publish-testpypi", GITHUB_OUTPUT=str(place.folder / "output"))
    assert done.code == 0, done.err
    assert index.files("acme-triage") == place.built()
    assert len(uploads(index)) == 1
    assert "\ncompleted\n" in (place.folder / "output").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_another_artifact_than_the_builds_is_not_published(place: Place, command: str) -> None:
    """What a job put in the artifact's place, record and all, is refused; the build itself is taken."""
    digests = json.dumps(digests_of(place.dist))
    make_dist(place.dist, code="import os")
    done = place.run(command, "--digests", digests)
    assert done.code == 2
    assert "the artifact was changed after the build: SHA256SUMS, acme_triage-1.2.0" in done.err
    assert place.index(command).calls == []
    make_dist(place.dist)
    assert place.run(command, "--digests", digests).code == 0
    assert place.index(command).files("acme-triage") == place.built()


@pytest.mark.parametrize("kinds", [("wheel",), ("sdist",), ("wheel", "sdist")])
def test_other_bytes_are_refused(place: Place, kinds: tuple[str, ...]) -> None:
    """Other bytes under any of the names: refused with both digests, and no file is uploaded beside them."""
    other = make_dist(place.folder / "other", code="x = 1")
    files = [file for file in other.files if file.kind in kinds]
    place.indexes.pypi.add(*(place.folder / "other" / file.name for file in files))
    done = place.run("publish-pypi")
    assert done.code == 1
    assert files[0].sha256 in done.err
    assert "never takes other bytes" in done.err
    for said in (
        "run the failed jobs again instead of all",
        "release a new version",
        "[build-system] requires",
    ):
        assert said in done.err.replace("\n", " ")
    assert uploads(place.indexes.pypi) == []


def test_other_bytes_that_are_not_shown_yet_are_refused_too(place: Place) -> None:
    """Within the indexing delay the index itself refuses the file: that is explained, and not repeated."""
    make_dist(place.folder / "other", code="x = 1")
    index = place.indexes.pypi
    index.delay = 3600
    index.add(*(place.folder / "other" / file.name for file in place.build.files))
    done = place.run("publish-pypi")
    assert done.code == 1
    assert "their names were used before" in done.err
    assert len(uploads(index)) == 1


def test_files_that_were_not_built_are_not_touched(place: Place) -> None:
    """A file changed after the build, or one that was added, ends it before the index is asked anything."""
    wheel = place.dist / place.build.files[0].name
    wheel.write_bytes(wheel.read_bytes() + b"x")
    (place.dist / "acme_triage-1.2.0-py2-none-any.whl").write_bytes(b"")
    done = place.run("publish-testpypi")
    assert done.code == 2
    assert "the file is not the one that was built" in done.err
    assert "does not name this file" in done.err
    assert place.indexes.testpypi.calls == []


def test_the_index_shows_the_files_late(place: Place) -> None:
    """The command ends when the index shows the files; where that takes too long it says what is left."""
    place.indexes.testpypi.delay = 3600
    late = place.run("publish-testpypi", "--wait", "1")
    assert late.code == 3
    assert "after 1 s it does not show" in late.err
    place.indexes.testpypi.delay = 0
    assert place.run("publish-testpypi").code == 0
    assert len(uploads(place.indexes.testpypi)) == 2


def test_a_busy_index(place: Place) -> None:
    """A 429 on the upload, and a 503 on the page before it, are waited out."""
    index = place.indexes.testpypi
    index.fail("GET", "/simple/", status=503)
    index.fail("POST", "/legacy/", status=429, message="Too many requests")
    done = place.run("publish-testpypi")
    assert done.code == 0, done.err
    assert index.files("acme-triage") == place.built()


def test_only_what_is_missing_goes_again(place: Place) -> None:
    """After the wheel was taken and the sdist was not, the next try is of the sdist alone."""
    index = place.indexes.testpypi
    spoil_the_second(index, status=429)
    done = place.run("publish-testpypi")
    assert done.code == 0, done.err
    assert [status for _, _, status in uploads(index)] == [200, 429, 200]


def test_a_lost_reply_is_no_failure(place: Place) -> None:
    """Where the index has every file, twine's failure is not repeated."""
    index = place.indexes.testpypi
    spoil_the_second(index, lose_reply=True)
    done = place.run("publish-testpypi")
    assert done.code == 0, done.err
    assert "reply was lost, but the files are there" in done.out
    assert len(uploads(index)) == 2


def test_twines_success_is_not_believed(place: Place) -> None:
    """A server that answers 200 and keeps nothing does not pass for an index."""
    index = place.indexes.testpypi
    index.fail("POST", "/legacy/", status=200, message="Welcome", times=2)
    done = place.run("publish-testpypi", "--wait", "1")
    assert done.code == 3
    assert "it does not show acme_triage" in done.err


def test_a_users_own_settings_of_twine_do_not_count(place: Place) -> None:
    """TWINE_* variables, ~/.pypirc, ~/.netrc and modules in the folder change nothing."""
    for name in ("twine", "requests"):
        (place.folder / f"{name}.py").write_text("raise SystemExit('a module of the folder was run')\n")
    stray = {
        "TWINE_REPOSITORY_URL": "https://127.0.0.1:9/",
        "TWINE_USERNAME": "x",
        "TWINE_SKIP_EXISTING": "1",
    }
    done = place.run("publish-testpypi", **stray)
    assert done.code == 0, done.err
    assert "netrc-secret" not in done.out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"on_main": False}, "not in the main branch"),
        ({"tag": None, "ref": "refs/heads/release/v1.2.0"}, "not from the tag"),
        ({"prerelease": True}, "is a pre-release"),
        ({"agents": (Agent("triage", "agents/t.yaml", "1", "sha256:" + "a" * 64, "warn"),)}, "triage"),
    ],
)
def test_what_pypi_does_not_get(place: Place, changes: dict[str, object], says: str) -> None:
    """A commit outside main, a build of no tag, a pre-release, unproven agents: PyPI is not even asked."""
    place.build = make_dist(place.dist, **changes)  # type: ignore[arg-type]
    done = place.run("publish-pypi")
    assert done.code == 1
    assert says in done.err
    assert place.indexes.pypi.calls == []
    assert place.run("publish-testpypi").code == 0


def test_a_pre_release_that_is_meant(place: Place) -> None:
    """With --pre-release, also from the variable that the action sets, a pre-release is published."""
    place.build = make_dist(place.dist, prerelease=True)
    assert place.run("publish-pypi", GATEHOUSE_PUBLISH_PYPI_PRE_RELEASE="false").code == 1
    assert place.run("publish-pypi", GATEHOUSE_PUBLISH_PYPI_PRE_RELEASE="true").code == 0


def test_attestations_need_their_package(place: Place) -> None:
    """Where pypi-attestations is not installed, asking for attestations is an error before any upload."""
    place.indexes.pypi.trust("acme-triage", "acme/triage", "release.yml", "release")
    done = place.run("publish-pypi", "--attestations", PYPI_TOKEN="", **place.job())
    assert done.code == 2
    assert "needs pypi-attestations, and it is not installed" in done.err
    assert place.indexes.pypi.effects == []
