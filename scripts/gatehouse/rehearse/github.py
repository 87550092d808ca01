"""A GitHub on this machine: the REST calls that Gatehouse makes, and git over HTTP beside them.

Every request and every reply is checked against GitHub's own OpenAPI description.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from gatehouse.rehearse.origin import GitRequest, Origin, Reply
from gatehouse.rehearse.rest import Account, Refusal, Rest
from gatehouse.rehearse.spec import Call, Spec, SpecError

if TYPE_CHECKING:
    from pathlib import Path

API = "/api/v3"
"""Where the REST API lies below the server's address, as on a GitHub Enterprise Server."""

UNAUTHORIZED = {"WWW-Authenticate": 'Basic realm="GitHub"', "Content-Type": "text/plain"}


@dataclass
class Fault:
    """A reply to spoil, `times` times."""

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None
    headers: dict[str, str]
    message: str
    lose_reply: bool
    delay: float


class GitHub:
    """The stand-in, serving while it is used as a context manager; `folder` holds its repositories.

    `token` acts as github-actions[bot] with write access, `read_only_token` as the same without. `calls` are
    the REST calls as (method, path, status), status 0 where the reply was lost. `violations` says what broke
    GitHub's description; leaving the context raises SpecError unless it is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.violations: list[str] = []
        self.token, self.read_only_token = new_token("ghs"), new_token("ghs")
        self._accounts = {
            self.token: Account("github-actions[bot]", 41898282, "Bot", "write"),
            self.read_only_token: Account("github-actions[bot]", 41898282, "Bot", "read"),
        }
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.github = self
        self.server_url = f"http://127.0.0.1:{self._server.server_port}"
        self.api_url = self.server_url + API
        self._spec = Spec()
        self._origin = Origin(folder)
        self._rest = Rest(self._spec, self._origin, self.server_url, self.api_url)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self.violations and kind is None:
            raise SpecError("GitHub's description was not kept:\n" + "\n".join(self.violations))

    def token_of(self, login: str, *, may_write: bool = False) -> str:
        """A person's token; without write access they may comment, and edit only what is their own."""
        for token, account in self._accounts.items():
            if account.login == login:
                return token
        token = new_token("ghp")
        self._accounts[token] = Account(
            login, 1000 + len(self._accounts), "User", "write" if may_write else "own"
        )
        return token

    def create_repository(
        self, name: str, from_folder: Path | None = None, *, default_branch: str = "main", fork_of: str = ""
    ) -> None:
        """Repository OWNER/REPO: empty, or the branches and tags of `from_folder`, or its files."""
        with self._lock:
            self._origin.create(name, self._origin.path(fork_of) if fork_of else from_folder, default_branch)
            self._rest.add_repository(name, default_branch, fork_of)

    def clone_url(self, name: str, token: str = "") -> str:
        """The address to clone from, with a token in it where one is given."""
        address = f"{self.server_url}/{name}.git"
        return address.replace("://", f"://x-access-token:{token}@") if token else address

    def git(self, name: str, *args: str) -> str:
        """What git prints in the bare repository; for looking, and for moving refs behind the API's back."""
        return self._origin.git(name, *args)

    def open_pull(
        self, name: str, head: str, base: str, title: str = "A change", *, login: str = "dev"
    ) -> dict[str, Any]:
        """A new pull request as the API shows it; `head` is BRANCH, or OWNER:BRANCH for a fork."""
        with self._lock:
            account = self._accounts[self.token_of(login)]
            wish = {"head": head, "base": base, "title": title}
            return self._rest.create_pull(self._rest.repositories[name], account, wish)

    def pull(self, name: str, number: int) -> dict[str, Any]:
        """A pull request as the API shows it."""
        with self._lock:
            return self._rest.show_pull(self._rest.repositories[name], number)

    def comments(self, name: str, number: int) -> list[dict[str, Any]]:
        """Every comment of an issue or pull request, oldest first, as the API shows them."""
        with self._lock:
            return self._rest.comments_of(self._rest.repositories[name], number)

    def comment(self, name: str, number: int, body: str, *, login: str) -> dict[str, Any]:
        """A comment written by a person, as the API shows it."""
        with self._lock:
            account = self._accounts[self.token_of(login)]
            return self._rest.create_comment(self._rest.repositories[name], account, number, body)

    def pull_request_event(self, name: str, number: int, action: str = "synchronize") -> dict[str, Any]:
        """The payload that starts a workflow on `pull_request`."""
        pull = self.pull(name, number)
        event = {"action": action, "number": number, "pull_request": pull, "repository": pull["base"]["repo"]}
        return event | {"sender": pull["user"]}

    def push_event(self, name: str, branch: str) -> dict[str, Any]:
        """The payload that starts a workflow on `push`."""
        with self._lock:
            after = self._origin.commit(name, f"refs/heads/{branch}") or ""
            before = self._origin.commit(name, f"refs/heads/{branch}~1") or "0" * 40
            repository = self._rest.show_repository(self._rest.repositories[name])
        event = {"ref": f"refs/heads/{branch}", "before": before, "after": after, "created": False}
        return event | {"deleted": False, "repository": repository, "sender": {"login": "dev"}}

    def fail(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        status: int | None = 500,
        headers: dict[str, str] | None = None,
        message: str = "Injected",
        lose_reply: bool = False,
        delay: float = 0,
    ) -> None:
        """Spoil the next `times` calls of `method` whose path matches the pattern `path` somewhere.

        With `lose_reply`, or `status` None, the call takes effect; the first drops the connection instead of
        answering. `delay` is in seconds.
        """
        kept = None if lose_reply else status
        fault = Fault(method, re.compile(path), times, kept, headers or {}, message, lose_reply, delay)
        self._faults.append(fault)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply | None:
        """The reply to one HTTP request; None where it has to be lost."""
        address = urlsplit(target)
        path = address.path
        if not path.startswith(API + "/"):
            return self._answer_git(method, address, headers, body)
        path = path.removeprefix(API)
        fault = self._next_fault(method, path)
        if fault:
            time.sleep(fault.delay)
        if fault and fault.status is not None:
            reply = json_reply(fault.status, Refusal(fault.status, fault.message).body(), fault.headers)
        else:
            with self._lock:
                reply = self._answer_api(method, path, address.query, headers, body)
        lost = fault is not None and fault.lose_reply
        self.calls.append((method, path, 0 if lost else reply.status))
        return None if lost else reply

    def _next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.method == method and fault.path.search(path):
                    fault.times -= 1
                    return fault
        return None

    def _answer_api(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> Reply:
        try:
            call = self._spec.request(method, path, dict(parse_qsl(query, keep_blank_values=True)), body)
            more: dict[str, str] = {}
            try:
                status, value = self._rest.answer(call, self._account(headers))
                if isinstance(value, list):
                    value, more = page(value, call, self.api_url + path)
            except Refusal as refusal:
                status, value = refusal.status, refusal.body()
            self._spec.reply(call.operation, status, value)
        except SpecError as e:
            self.violations.append(str(e))
            return json_reply(500, Refusal(500, str(e)).body())
        return json_reply(status, value, more)

    def _account(self, headers: dict[str, str]) -> Account:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            raise Refusal(401, "Requires authentication")
        if token.strip() not in self._accounts:
            raise Refusal(401, "Bad credentials")
        return self._accounts[token.strip()]

    def _answer_git(self, method: str, address: SplitResult, headers: dict[str, str], body: bytes) -> Reply:
        owner, _, rest = unquote(address.path).strip("/").partition("/")
        repository, _, rest = rest.partition("/")
        name = f"{owner}/{repository.removesuffix('.git')}"  # GitHub takes OWNER/REPO with and without .git
        writes = "git-receive-pack" in (rest, address.query.removeprefix("service="))
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        account = None
        if scheme.lower() == "basic":  # clients differ in case
            account = self._accounts.get(base64.b64decode(encoded).decode().partition(":")[2])
            if account is None:
                return Reply(401, UNAUTHORIZED, b"Invalid username or token.\n")
        if writes and account is None:
            return Reply(401, UNAUTHORIZED, b"Authentication is needed to push.\n")
        if writes and account and account.access != "write" and account.login != owner:
            denied = f"Permission to {name} denied to {account.login}.\n"
            return Reply(403, {"Content-Type": "text/plain"}, denied.encode())
        user = account.login if account else ""
        reply = self._origin.serve(
            GitRequest(method, f"/{name}.git/{rest}", address.query, headers, body, user)
        )
        if writes and method == "POST":
            with self._lock:
                self._rest.refresh_pulls(name)
        return reply


def new_token(kind: str) -> str:
    """A token that no other stand-in knows."""
    return f"{kind}_{secrets.token_hex(18)}"


def json_reply(status: int, value: Any, headers: dict[str, str] | None = None) -> Reply:
    """A reply with a JSON body, or with none for None."""
    body = b"" if value is None else json.dumps(value).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8"} | (headers or {}), body)


def page(items: list[Any], call: Call, address: str) -> tuple[list[Any], dict[str, str]]:
    """One page of a list, and the Link header that leads to the others."""
    size = min(max(call.query.get("per_page", 30), 1), 100)
    number, last = max(call.query.get("page", 1), 1), max(-(-len(items) // size), 1)
    places = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    if number >= last:
        del places["next"], places["last"]
    if number == 1:
        del places["prev"], places["first"]
    links = [f'<{address}?{urlencode(call.query | {"page": at})}>; rel="{to}"' for to, at in places.items()]
    return items[(number - 1) * size : number * size], {"Link": ", ".join(links)} if links else {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection open
    request_queue_size = 128
    github: GitHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up; anything else is a fault of the stand-in and must be seen."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.github.violations.append(f"the stand-in failed: {error!r}")
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing: `calls` lists the requests."""

    def _handle(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(self._length())
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.github.answer(self.command, self.path, headers, body)
        if reply is None:
            self.close_connection = True
            self.connection.shutdown(SHUT_RDWR)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle  # noqa: N815 names that the base class calls

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _chunks(self) -> bytes:
        # git sends a large push this way.
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
