"""What follows from what an index shows, and how it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Decision
from gatehouse.rehearse.index import Indexes
from gatehouse.rehearse.tls import Reply, Server
from gatehouse.release.index import (
    PYPI,
    IndexClient,
    IndexUnreachableError,
    PublishRefusedError,
    publishable,
    standing,
)
from tests.support.dists import make_dist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.index import PackageIndex
    from gatehouse.release.dist import Build

PROVEN = Decision(passed=True, reason="the build carries no agents")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build of a wheel and an sdist."""
    return make_dist(tmp_path_factory.mktemp("build"))


@pytest.mark.parametrize(
    ("shown", "state", "missing"),
    [
        ({}, "absent", ["wheel", "sdist"]),
        ({"other-1.0.tar.gz": "0" * 64}, "absent", ["wheel", "sdist"]),
        ({"wheel": "same"}, "partial", ["sdist"]),
        ({"sdist": "same"}, "partial", ["wheel"]),
        ({"wheel": "same", "sdist": "same"}, "present", []),
        ({"wheel": "other"}, "conflict", ["sdist"]),
        ({"wheel": "same", "sdist": "other"}, "conflict", []),
        ({"wheel": "other", "sdist": "other"}, "conflict", []),
    ],
)
def test_what_an_index_lacks(build: Build, shown: dict[str, str], state: str, missing: list[str]) -> None:
    """Absent, partial, present or in conflict: by name and digest of every file, and nothing else."""
    files: dict[str, Any] = {file.kind: file for file in build.files}
    pages = {
        files[kind].name if kind in files else kind: files[kind].sha256 if digest == "same" else "f" * 64
        for kind, digest in shown.items()
    }
    found = standing(build, PYPI, pages)
    assert found.state == state
    assert [file.kind for file in found.missing] == missing
    assert build.version in found.reason or state == "conflict"


@pytest.mark.parametrize(
    ("changes", "pre_release", "proven", "says"),
    [
        ({}, False, True, ""),
        ({"on_main": False}, False, True, "not in the main branch"),
        (
            {"tag": None, "ref": "refs/heads/release/v1.2.0"},
            False,
            True,
            "built from refs/heads/release/v1.2.0",
        ),
        ({"prerelease": True}, False, True, "is a pre-release"),
        ({"prerelease": True}, True, True, ""),
        ({}, False, False, "no passing verdict: there is none"),
        ({"on_main": False, "prerelease": True}, True, True, "not in the main branch"),
    ],
)
def test_what_pypi_may_get(
    build: Build, changes: dict[str, Any], pre_release: bool, proven: bool, says: str
) -> None:
    """Only a final version of the tag on main, or a pre-release that is meant, with proven agents."""
    evidence = PROVEN if proven else Decision(passed=False, reason="there is none")
    decision = publishable(replace(build, **changes), pre_release=pre_release, evidence=evidence)
    assert decision.passed is not bool(says)
    assert says in decision.reason


def test_every_refusal_is_told_at_once(build: Build) -> None:
    """A build with four faults is refused with four reasons."""
    wrong = replace(build, on_main=False, tag=None, prerelease=True)
    decision = publishable(wrong, pre_release=False, evidence=Decision(passed=False, reason="none"))
    assert len(decision.reason.splitlines()) == 5


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, build: Build) -> Iterator[PackageIndex]:
    """An index to which the project is its own."""
    with Indexes(tmp_path_factory.mktemp("indexes")) as indexes:
        indexes.pypi.reserve(build.name)
        yield indexes.pypi


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.slept.append(seconds)
        self.now += seconds


def client_of(index: PackageIndex, time: Time) -> IndexClient:
    """A client of the stand-in, in that time."""
    return IndexClient(replace(PYPI, url=index.url), sleep=time.sleep, clock=lambda: time.now)


def test_faults_that_pass_are_waited_for(index: PackageIndex) -> None:
    """A 503, a lost reply and a 429 are followed by another look, after the time that the index names."""
    index.fail("GET", "/simple/", status=503)
    index.fail("GET", "/simple/", lose_reply=True)
    index.fail("GET", "/simple/", status=429, headers={"Retry-After": "7"})
    time = Time()
    assert client_of(index, time).shown("acme-triage") == {}
    assert time.slept == [0.5, 1.0, 7.0]


def test_faults_that_stay_end_the_look(index: PackageIndex) -> None:
    """An index that answers 502 for a minute is an infrastructure error, not an empty index."""
    before = len(index.calls)
    index.fail("GET", "/simple/", status=502, message="Bad gateway", times=12)
    time = Time()
    with pytest.raises(IndexUnreachableError, match="502 Bad gateway"):
        client_of(index, time).shown("acme-triage")
    assert time.now == 60
    index._faults.clear()
    assert len(index.calls) - before < 12


def test_a_refusal_is_not_repeated(index: PackageIndex) -> None:
    """A 403 for a page that everybody may read is said at once."""
    index.fail("GET", "/simple/", status=403, message="Blocked by the company")
    time = Time()
    with pytest.raises(IndexUnreachableError, match="403 Blocked by the company"):
        client_of(index, time).shown("acme-triage")
    assert time.slept == []


def test_something_else_is_no_index(index: PackageIndex) -> None:
    """A page that is no list of files, such as a portal's, is not taken for an empty index."""
    index.fail("GET", "/simple/", status=200, message="<html>Log in</html>", times=20)
    time = Time()
    with pytest.raises(IndexUnreachableError, match="something else than a list of files"):
        client_of(index, time).shown("acme-triage")
    index._faults.clear()


def test_nobodys_credentials_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ~/.netrc holds for the index is not sent: the page is everybody's."""
    seen: list[dict[str, str]] = []

    def answer(_method: str, _target: str, headers: dict[str, str], _body: bytes) -> Reply:
        seen.append(headers)
        return Reply(404, b"")

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = Server(answer)
    assert IndexClient(replace(PYPI, url=server.url)).shown("acme-triage") == {}
    server.close()
    assert "authorization" not in seen[0]


def test_waiting_ends_when_the_files_are_shown(index: PackageIndex, build: Build, tmp_path: Path) -> None:
    """The wait asks again until every file is shown, gives up after its budget, and refuses other bytes."""
    time = Time()
    with pytest.raises(IndexUnreachableError, match=r"does not show acme_triage.*whl, acme_"):
        client_of(index, time).wait_until_shown(build, 20)
    assert time.now == 20
    make_dist(tmp_path)
    index.add(tmp_path / build.files[0].name)
    with pytest.raises(IndexUnreachableError, match=r"does not show acme_triage-1\.2\.0\.tar\.gz\."):
        client_of(index, Time()).wait_until_shown(build, 0)
    index.add(tmp_path / build.files[1].name)
    time = Time()
    client_of(index, time).wait_until_shown(build, 20)
    assert time.slept == []
    other = make_dist(tmp_path, code="x = 1")
    with pytest.raises(PublishRefusedError, match="never takes other bytes"):
        client_of(index, Time()).wait_until_shown(other, 20)
