"""PyPI and TestPyPI on this machine: two pypiserver processes, each behind a front with the real rules.

Programs reach them under the real names, unmodified, by the variables of `Indexes.environment`.
"""

from __future__ import annotations

import hashlib
import html
import math
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from gatehouse.rehearse.faults import Faulty
from gatehouse.rehearse.publishers import Issuer, Publisher, Tokens
from gatehouse.rehearse.pypiserver import PypiServer
from gatehouse.rehearse.tls import (
    Authority,
    Proxy,
    Reply,
    Server,
    json_reply,
    machine_bundle,
    outer_proxy,
    proxy_environment,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True)
class Stored:
    """A file of the index."""

    name: str
    version: str
    sha256: str
    link: str


class PackageIndex(Faulty):
    """One index. `token` may upload every project; `delay` is how many seconds a new file stays unseen.

    Its `effects` are the uploads that took place, "upload FILENAME".
    """

    def __init__(self, name: str, host: str, folder: Path, github: Issuer | None, real: str = "") -> None:
        super().__init__()
        self.name, self.host = name, host
        self.token = f"pypi-{secrets.token_urlsafe(32)}"
        self.delay = 0.0
        self._registry = Registry(real) if real else None
        self._tokens = Tokens(name, self.token, github)
        self._own: set[str] = set()
        self._uploaded: dict[str, float] = {}
        self._backend = PypiServer(folder)
        self._server: Server | None = None

    def start(self) -> None:
        """Serve, until `close`."""
        self._backend.start()
        self._server = Server(self.answer)

    def close(self) -> None:
        """End the server and its process."""
        if self._server:
            self._server.close()
            self._server = None
        self._backend.close()

    @property
    def url(self) -> str:
        """The address of the index on this machine, without encryption."""
        if not self._server:
            raise ValueError("the index is not started")
        return self._server.url

    @property
    def simple_url(self) -> str:
        """The address for `pip install --index-url`."""
        return f"{self.url}/simple/"

    def trust(self, project: str, repository: str, workflow: str, environment: str = "") -> None:
        """Let a workflow publish a project, which need not exist yet (PyPI: a pending publisher)."""
        self.reserve(project)
        self._tokens.publishers.append(
            Publisher(canonicalize_name(project), repository, workflow, environment)
        )

    def reserve(self, project: str) -> None:
        """Say that a project is ours, so that the real registry is never asked for it."""
        self._own.add(canonicalize_name(project))

    def add(self, *paths: Path) -> None:
        """Put files on the index, as if they had been uploaded before anybody looked."""
        for path in paths:
            content = path.read_bytes()
            project, version = named(path.name)
            reply = self._store(project, str(version), path.name, content)
            if reply.status != 200:  # noqa: PLR2004 HTTP's OK
                raise ValueError(f"{path.name}: {reply.reason or reply.body.decode()}")

    def files(self, project: str) -> dict[str, str]:
        """SHA-256 of every file of a project by name, whether it is shown yet or not."""
        return {file.name: file.sha256 for file in self._stored(canonicalize_name(project))}

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply | None:
        """The reply to one HTTP request; None where it has to be lost."""
        path = unquote(urlsplit(target).path)
        fault, lost = self._suffered(method, path)
        if fault and fault.status is not None:
            said = fault.message
            reply = Reply(fault.status, said.encode(), reason=said, headers=fault.headers)
        else:
            reply = self._answer(method, path, headers, body)
        self.calls.append((method, path, 0 if lost else reply.status))
        return None if lost else reply

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if method == "POST":
            if path == "/legacy/":
                return self._upload(headers, body)
            return self._tokens.mint(body) if path == "/_/oidc/mint-token" else Reply(405, b"")
        if path == "/_/oidc/audience":
            return json_reply({"audience": self.name})
        if found := re.fullmatch(r"/simple/([^/]+)/?", path):
            return self._simple(found[1], headers.get("accept", ""))
        if found := re.fullmatch(r"/pypi/([^/]+)/(?:([^/]+)/)?json", path):
            return self._metadata(found[1], found[2])
        if path.startswith("/packages/"):
            return self._backend.get(path)
        return Reply(404, b"404 Not Found")

    # What is shown.

    def _stored(self, project: str) -> list[Stored]:
        """Every file of a project, as the process behind lists it."""
        page = self._backend.get(f"/simple/{project}/").body.decode()
        links = re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})">([^<]+)<', page)
        return [
            Stored(file, str(named(file)[1]), digest, html.unescape(link)) for link, digest, file in links
        ]

    def _shown(self, project: str) -> list[Stored]:
        now = time.monotonic()
        return [
            file
            for file in self._stored(project)
            if now - self._uploaded.get(file.name, -math.inf) >= self.delay
        ]

    def _is_own(self, project: str) -> bool:
        return project in self._own or bool(self._stored(project))

    def _simple(self, name: str, accept: str) -> Reply:
        project = canonicalize_name(name)
        if self._registry and not self._is_own(project):
            return self._registry.get(f"/simple/{project}/", accept)
        files = self._shown(project)
        if not files:
            return Reply(404, b"404 Not Found")
        if SIMPLE_JSON in accept:
            shown = [
                {"filename": file.name, "url": file.link, "hashes": {"sha256": file.sha256}} for file in files
            ]
            versions = sorted({file.version for file in files})
            page = {"meta": {"api-version": "1.1"}, "name": project, "versions": versions, "files": shown}
            return json_reply(page, SIMPLE_JSON)
        links = "".join(f'<a href="{f.link}#sha256={f.sha256}">{f.name}</a><br>\n' for f in files)
        page_html = f"<!DOCTYPE html><html><head><title>{project}</title></head><body>\n{links}</body></html>"
        return Reply(200, page_html.encode(), "text/html; charset=utf-8")

    def _metadata(self, name: str, version: str | None) -> Reply:
        project = canonicalize_name(name)
        if self._registry and not self._is_own(project):
            return self._registry.get(
                f"/pypi/{name}/{f'{version}/' if version else ''}json", "application/json"
            )
        files = self._shown(project)
        latest = version or (files[-1].version if files else "")
        urls = [self._described(project, file) for file in files if file.version == latest]
        if not urls:
            return json_reply({"message": "Not Found"}, status=404)
        return json_reply({"info": {"name": project, "version": latest}, "urls": urls})

    def _described(self, project: str, file: Stored) -> dict[str, Any]:
        kind = "bdist_wheel" if file.name.endswith(".whl") else "sdist"
        url = urljoin(f"https://{self.host}/simple/{project}/", file.link)
        digests = {"sha256": file.sha256}
        return {"filename": file.name, "url": url, "digests": digests, "packagetype": kind, "yanked": False}

    # What is taken in.

    def _upload(self, headers: dict[str, str], body: bytes) -> Reply:
        form = parse_form(headers.get("content-type", ""), body)
        project = canonicalize_name(form.get("name", b"").decode())
        why_not = self._tokens.forbidden(headers.get("authorization", ""), project)
        if why_not:
            return refusal(403, why_not)
        name = form.get("content.filename", b"").decode()
        content = form.get("content", b"")
        if form.get("sha256_digest", b"").decode() != hashlib.sha256(content).hexdigest():
            return refusal(
                400, "The digest supplied does not match a digest calculated from the uploaded file."
            )
        return self._store(project, form.get("version", b"").decode(), name, content)

    def _store(self, project: str, version: str, name: str, content: bytes) -> Reply:
        """Take a file in, or refuse it, by the rules of PyPI."""
        try:
            its_project, its_version = named(name)
        except ValueError as error:
            return refusal(400, str(error))
        if its_project != project or str(its_version) != version:
            return refusal(400, f"Start filename for '{project}' with '{project.replace('-', '_')}'.")
        if its_version.local:
            return refusal(400, f"The use of local versions in <Version('{version}')> is not allowed.")
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            there = {file.name: file.sha256 for file in self._stored(project)}
            if there.get(name) == digest:
                return Reply(200, b"")  # the identical file again is accepted
            if name in there:
                return refusal(400, f"File already exists ('{name}', with sha256 hash '{there[name]}').")
            self._uploaded[name] = time.monotonic()
            stored = self._backend.post(name, content)
            if stored.status != 200:  # noqa: PLR2004 HTTP's OK
                return stored
        self._took_effect(f"upload {name}")
        return Reply(200, b"")


class Indexes:
    """Both indexes, serving while this is used as a context manager; `folder` holds their files.

    `github` signs the id tokens of trusted publishing. `pypi` hands on the pages of projects that are not
    its own from the real registry; `testpypi` knows its own only. Nothing that is uploaded leaves.
    """

    def __init__(self, folder: Path, github: Issuer | None = None) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pypi = PackageIndex("pypi", "pypi.org", folder / "pypi", github, "https://pypi.org")
        self.testpypi = PackageIndex("testpypi", "test.pypi.org", folder / "testpypi", github)
        self._proxy: Proxy | None = None

    def __enter__(self) -> Self:
        self._authority = Authority(self._folder)
        hosts = {prefix + index.host: index.answer for index in self._both for prefix in ("", "upload.")}
        try:
            for index in self._both:
                index.start()
            self._proxy = Proxy(hosts, self._authority)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._proxy:
            self._proxy.close()
            self._proxy = None
        for index in self._both:
            index.close()

    @property
    def _both(self) -> tuple[PackageIndex, PackageIndex]:
        return self.pypi, self.testpypi

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which the real names lead here, for twine, requests, pip and uv."""
        if not self._proxy:
            raise ValueError("the indexes are not started")
        return proxy_environment(self._proxy.url) | self._authority.environment


class Registry:
    """The pages of a real registry, each fetched once; uses the proxy and the authorities of this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pages: dict[tuple[str, str], Reply] = {}
        # Read now: the variables may lead to our own proxy later, which would ask itself.
        self._proxy, self._bundle = outer_proxy(), machine_bundle()

    def get(self, path: str, accept: str) -> Reply:
        """A page; 502 where the registry does not answer."""
        if (path, accept) in self._pages:
            return self._pages[path, accept]
        import requests  # noqa: PLC0415 heavy

        with requests.Session() as session:
            session.trust_env = False
            session.proxies = {"https": self._proxy} if self._proxy else {}
            session.verify = str(self._bundle) if self._bundle else True
            try:
                found = session.get(self._url + path, headers={"Accept": accept or "*/*"}, timeout=30)
            except (requests.RequestException, OSError) as error:
                return refusal(502, f"{self._url} cannot be reached ({type(error).__name__})")
        reply = Reply(found.status_code, found.content, found.headers.get("content-type", "text/html"))
        if found.status_code in (200, 404):
            self._pages[path, accept] = reply
        return reply


def named(filename: str) -> tuple[str, Version]:
    """The canonical project name and the version in a file's name; raises ValueError for no such name."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[:2]
        return parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise ValueError(str(error)) from None


def parse_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a multipart/form-data body; the name of a file as FIELD.filename."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    fields: dict[str, bytes] = {}
    for part in body.split(b"--" + boundary[1].encode())[1:-1] if boundary else []:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'\bname="([^"]*)"', head)
        filename = re.search(rb'\bfilename="([^"]*)"', head)
        if name:
            fields[name[1].decode()] = content.removesuffix(b"\r\n")
            if filename:
                fields[name[1].decode() + ".filename"] = filename[1]
    return fields
