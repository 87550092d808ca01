"""The stand-ins for PyPI and TestPyPI keep the rules of the real ones, towards unmodified programs."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.index import Indexes
from gatehouse.rehearse.tls import Authority, Proxy, Reply, Server
from tests.support.dists import make_dist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.index import PackageIndex

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
NAME = "acme_triage-1.2.0.tar.gz"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    """The issuer of id tokens."""
    with GitHub(tmp_path_factory.mktemp("github")) as github:
        for name in ("acme/triage", "mallory/triage"):
            github.create_repository(name)
        yield github


@pytest.fixture
def indexes(tmp_path: Path, github: GitHub) -> Iterator[Indexes]:
    """Both indexes, to which the project is their own."""
    with Indexes(tmp_path / "indexes", github) as indexes:
        indexes.pypi.reserve("acme-triage")
        yield indexes


def upload(
    index: PackageIndex, content: bytes = b"bytes", token: str | None = None, **changed: str
) -> requests.Response:
    """One upload as twine makes it, with other fields where they are given."""
    fields = {":action": "file_upload", "name": "acme-triage", "version": "1.2.0"}
    fields |= {"sha256_digest": hashlib.sha256(content).hexdigest(), **changed}
    name = fields.pop("filename", NAME)
    return requests.post(
        f"{index.url}/legacy/",
        data=fields,
        files={"content": (name, content)},
        auth=("__token__", token or index.token),
        timeout=10,
    )


def test_a_file_is_immutable(indexes: Indexes) -> None:
    """The same bytes again are accepted and change nothing; others under the name are refused."""
    index = indexes.pypi
    assert upload(index).status_code == 200
    assert upload(index).status_code == 200
    refused = upload(index, b"other")
    assert (refused.status_code, refused.reason[:19]) == (400, "File already exists")
    assert index.files("Acme.Triage") == {NAME: hashlib.sha256(b"bytes").hexdigest()}
    assert index.effects == [f"upload {NAME}"]


@pytest.mark.parametrize(
    ("changed", "status", "says"),
    [
        ({"sha256_digest": "0" * 64}, 400, "digest supplied does not match"),
        ({"version": "1.3.0"}, 400, "Start filename"),
        ({"name": "other"}, 400, "Start filename"),
        ({"filename": "acme_triage.exe"}, 400, "filename"),
        ({"filename": "acme_triage-1.2.0+x.tar.gz", "version": "1.2.0+x"}, 400, "local versions"),
        ({"token": "pypi-wrong"}, 403, "Invalid or non-existent"),
    ],
)
def test_what_an_index_refuses(indexes: Indexes, changed: dict[str, Any], status: int, says: str) -> None:
    """A wrong digest, name, version, local version or token is refused with words, and nothing is kept."""
    refused = upload(indexes.testpypi, **changed)
    assert refused.status_code == status
    assert says in refused.reason
    assert indexes.testpypi.effects == []


def test_a_new_file_is_shown_after_the_delay(indexes: Indexes) -> None:
    """No page and no JSON shows a file before the delay is over; then all do, by its hash."""
    index = indexes.pypi
    index.delay = 0.4
    started = time.monotonic()
    upload(index)
    pages = (
        f"{index.simple_url}acme-triage/",
        f"{index.url}/pypi/acme-triage/json",
        f"{index.url}/pypi/acme-triage/1.2.0/json",
    )
    assert {requests.get(page, headers=JSON, timeout=10).status_code for page in pages} == {404}
    while requests.get(pages[0], timeout=10).status_code == 404:
        time.sleep(0.02)
    assert time.monotonic() - started >= 0.4
    digest = hashlib.sha256(b"bytes").hexdigest()
    shown = requests.get(pages[0], headers=JSON, timeout=10)
    assert shown.headers["content-type"] == JSON["Accept"]
    assert shown.json()["files"][0]["hashes"] == {"sha256": digest}
    assert f"#sha256={digest}" in requests.get(pages[0], timeout=10).text
    assert requests.get(pages[2], timeout=10).json()["urls"][0]["digests"] == {"sha256": digest}
    address = requests.compat.urljoin(pages[0], shown.json()["files"][0]["url"])
    assert requests.get(address, timeout=10).content == b"bytes"


def mint(indexes: Indexes, id_token: str) -> requests.Response:
    """The exchange of an id token, at PyPI."""
    return requests.post(f"{indexes.pypi.url}/_/oidc/mint-token", json={"token": id_token}, timeout=10)


def id_token(
    github: GitHub,
    audience: str = "pypi",
    repository: str = "acme/triage",
    workflow: str = "release.yml",
    environment: str = "release",
    **claims: str,
) -> str:
    """What a job gets from GitHub."""
    job = github.oidc_environment(repository, "refs/tags/v1.2.0", workflow, environment, **claims)
    reply = requests.get(
        job["ACTIONS_ID_TOKEN_REQUEST_URL"],
        params={"audience": audience},
        headers={"Authorization": f"bearer {job['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
        timeout=10,
    )
    return str(reply.json()["value"])


def test_a_trusted_workflow_gets_a_token_for_its_project(indexes: Indexes, github: GitHub) -> None:
    """The minted token uploads the publisher's project, which need not exist yet, and no other one."""
    indexes.pypi.trust("acme-triage", "acme/triage", "release.yml", "release")
    audience = requests.get(f"{indexes.pypi.url}/_/oidc/audience", timeout=10).json()["audience"]
    token = mint(indexes, id_token(github, audience)).json()["token"]
    assert upload(indexes.pypi, token=token).status_code == 200
    other = upload(indexes.pypi, token=token, name="else", filename="else-1.2.0.tar.gz")
    assert other.status_code == 403
    assert upload(indexes.testpypi, token=token).status_code == 403


def test_who_gets_no_token(indexes: Indexes, github: GitHub) -> None:
    """Another workflow, environment, audience, signer or repository, a token used before: none is minted."""
    indexes.pypi.trust("acme-triage", "acme/triage", "release.yml", "release")
    good = id_token(github)
    head, payload, signature = good.split(".")
    called = "gatehouse-ci/gatehouse/.github/workflows/release.yml@refs/tags/v1"
    tried = {
        "workflow": id_token(github, workflow="ci.yml"),
        "environment": id_token(github, environment="staging"),
        "audience": id_token(github, "testpypi"),
        "repository": id_token(github, repository="mallory/triage"),
        "called workflow": id_token(github, job_workflow_ref=called),
        "signature": f"{head}.{payload}.{signature[:-8]}AAAAAAAA",
        "garbage": "x",
    }
    codes = {what: mint(indexes, token).json()["errors"][0]["code"] for what, token in tried.items()}
    publisher, token = "invalid-publisher", "invalid-token"
    assert codes == {
        "workflow": publisher,
        "environment": publisher,
        "repository": publisher,
        "called workflow": publisher,
        "audience": token,
        "signature": token,
        "garbage": token,
    }
    assert mint(indexes, good).status_code == 200
    assert mint(indexes, good).json()["errors"][0]["code"] == "invalid-reuse-token"


def test_faults_as_asked_for(indexes: Indexes) -> None:
    """An injected status has no effect, a lost reply has had its effect, and `on_effect` comes before it."""
    index = indexes.pypi
    index.fail("POST", "/legacy/", status=503)
    assert upload(index).status_code == 503
    assert index.effects == []
    told: list[int] = []
    index.on_effect = lambda _: told.append(len(index.calls))
    index.lose(2)
    assert requests.get(index.simple_url + "acme-triage/", timeout=10).status_code == 404
    with pytest.raises(requests.ConnectionError):
        upload(index)
    assert told == [2]
    assert [status for _, _, status in index.calls] == [503, 404, 0]
    assert upload(index).status_code == 200
    assert index.effects == [f"upload {NAME}"]


def test_programs_reach_the_stand_ins_by_the_real_names(indexes: Indexes, tmp_path: Path) -> None:
    """pip, unmodified, installs from pypi.org what was put on the stand-in; TestPyPI is another index."""
    build = make_dist(tmp_path / "dist")
    indexes.pypi.add(*(tmp_path / "dist" / file.name for file in build.files))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **indexes.environment}
    command = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
    ]

    def download(index_url: str) -> int:
        """The exit code of pip."""
        there = ["--no-cache-dir", "--index-url", index_url, "--dest", str(tmp_path / "got"), "acme-triage"]
        return subprocess.run(
            [*command, *there], env=environment, capture_output=True, check=False
        ).returncode

    assert download("https://pypi.org/simple/") == 0
    assert (tmp_path / "got" / build.files[0].name).exists()
    assert download("https://test.pypi.org/simple/") == 1
    assert ("GET", "/simple/acme-triage/", 404) in indexes.testpypi.calls


def test_other_projects_are_the_real_registrys(indexes: Indexes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that is not its own is asked for once at the real registry; an own one and uploads never."""
    asked: list[str] = []

    def real(_method: str, target: str, _headers: dict[str, str], _body: bytes) -> Reply:
        asked.append(target)
        return Reply(200, b"<html>six</html>", "text/html")

    registry = Server(real)
    monkeypatch.setattr(indexes.pypi._registry, "_url", registry.url)
    for _ in range(2):
        page = requests.get(f"{indexes.pypi.simple_url}Six/", timeout=10)
        assert page.text == "<html>six</html>"
    requests.get(f"{indexes.pypi.simple_url}acme-triage/", timeout=10)
    assert requests.get(f"{indexes.testpypi.simple_url}six/", timeout=10).status_code == 404
    registry.close()
    assert asked == ["/simple/six/"]
    assert requests.get(f"{indexes.pypi.simple_url}seven/", timeout=10).status_code == 502


@pytest.fixture
def far() -> Iterator[tuple[str, list[bytes]]]:
    """A host on the network: its address, and what its one client said first; it says hello at once."""
    heard: list[bytes] = []

    def greet() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 hello\r\n\r\n")
            connection.settimeout(0.2)
            with suppress(TimeoutError):
                heard.append(connection.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        thread.join(5)
        assert not thread.is_alive()


def through(proxy: Proxy, target: str) -> bytes:
    """What a host says to a client that is connected to it by the proxy, and the proxy before it."""
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 5) as client:
        client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        said = b""
        while data := client.recv(1000):
            said += data
        return said


def proxy_of(folder: Path, monkeypatch: pytest.MonkeyPatch, machine: str) -> Proxy:
    """A proxy on a machine whose own proxy is at `machine`."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    if machine:
        monkeypatch.setenv("https_proxy", machine)
    proxy = Proxy({"ours.example": lambda *_: None}, Authority(folder))
    monkeypatch.delenv("https_proxy", raising=False)
    return proxy


def test_other_hosts_are_tunnelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: tuple[str, list[bytes]]
) -> None:
    """A host that is not ours is connected through; one that cannot be reached is a 502."""
    proxy = proxy_of(tmp_path, monkeypatch, "")
    assert through(proxy, far[0]).endswith(b"200 hello\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    assert b" 502 " in through(proxy, dead)
    proxy.close()


def test_the_machines_own_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: tuple[str, list[bytes]]
) -> None:
    """Where the machine has a proxy, a host that is not ours is reached by it, whose answer is handed on."""
    proxy = proxy_of(tmp_path, monkeypatch, f"http://{far[0]}")
    assert through(proxy, "files.example:443") == b"HTTP/1.1 200 hello\r\n\r\n"
    assert far[1][0].startswith(b"CONNECT files.example:443 HTTP/1.1\r\n")
    proxy.close()


def test_a_body_that_does_not_come_is_not_waited_for(indexes: Indexes) -> None:
    """A request without its body is a 408 after a second, and counts as none."""
    port = int(indexes.pypi.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"POST /legacy/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort")
        assert b" 408 " in client.recv(1000)
    assert indexes.pypi.calls == []


def test_the_bundle_trusts_what_the_machine_trusts_too(indexes: Indexes) -> None:
    """Programs are given one file with the stand-in's authority and the machine's own."""
    bundle = indexes.environment["SSL_CERT_FILE"]
    context = ssl.create_default_context(cafile=bundle)
    names = [str(authority["subject"]) for authority in context.get_ca_certs()]
    assert len(names) > 10
    assert [name for name in names if "trustme" in name]


def test_the_processes_end_with_the_indexes(tmp_path: Path) -> None:
    """After the context no process of the indexes is left, and they can be closed twice."""
    with Indexes(tmp_path) as indexes:
        processes = [index._backend._process for index in (indexes.pypi, indexes.testpypi)]
        assert all(process and process.poll() is None for process in processes)
    assert all(process and process.poll() is not None for process in processes)
    indexes.pypi.close()
