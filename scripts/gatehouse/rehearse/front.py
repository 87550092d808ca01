"""The door of the stand-in for GitHub: who asks, what is spoilt, what took effect outside."""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

from gatehouse.rehearse.faults import Faulty
from gatehouse.rehearse.oidc import Issuer
from gatehouse.rehearse.origin import GitRequest, Origin, Reply
from gatehouse.rehearse.rest import Rest
from gatehouse.rehearse.server import Server, json_reply, paged
from gatehouse.rehearse.spec import Spec, SpecError
from gatehouse.rehearse.state import NOWHERE, Access, Account, Kind, Move, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

API = "/api/v3"
"""Where the REST API lies below the server's address, as on a GitHub Enterprise Server."""

UPLOADS = "/api/uploads"
"""Where assets are sent to, likewise."""

OIDC = "/oidc/token"
"""Where a job asks for its identity token."""

WITHOUT_EFFECT = {"repos/generate-release-notes"}
"""Operations that write nothing, whatever their method."""

UNAUTHORIZED = {"WWW-Authenticate": 'Basic realm="GitHub"', "Content-Type": "text/plain"}
PLAIN = {"Content-Type": "text/plain"}


class _Done(NamedTuple):
    """A reply, and the outside effects that it tells of."""

    reply: Reply
    effects: tuple[str, ...] = ()


class Front(Faulty):
    """Requests in, replies out, while it is used as a context manager; `folder` holds the repositories.

    `token` acts as github-actions[bot] with write access, `read_only_token` as the same without. Among the
    `calls` those of git are ("GIT", "upload-pack" or "receive-pack", status); `effects` are such as "POST
    /repos/acme/triage/pulls" and "push refs/heads/main". `violations` says what broke GitHub's description;
    leaving the context raises SpecError unless it is empty.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.violations: list[str] = []
        self.token, self.read_only_token = new_token("ghs"), new_token("ghs")
        self._accounts = {
            self.token: Account("github-actions[bot]", 41898282, "Bot", "write"),
            self.read_only_token: Account("github-actions[bot]", 41898282, "Bot", "read"),
        }
        self._claims: dict[str, dict[str, str]] = {}
        self._issuer = Issuer()
        self._server = Server(self.answer, self.violations.append)
        self._storage = Server(self._answer_storage, self.violations.append)
        self.server_url = self._server.url
        self.api_url = self.server_url + API
        self._spec = Spec()
        self._origin = Origin(folder)
        self._rest = Rest(self._spec, self._origin, self.server_url, self.api_url, self._storage.url)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            for server in (self._server, self._storage)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for server, thread in zip((self._server, self._storage), self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
        if self.violations and kind is None:
            raise SpecError("GitHub's description was not kept:\n" + "\n".join(self.violations))

    def token_of(self, login: str, *, may_write: bool = False, is_admin: bool = False) -> str:
        """A person's token, or an App's for a login that ends in `[bot]`.

        Without write access they may comment, and edit only what is their own. Access once given stays.
        """
        access: Access = "admin" if is_admin else "write" if may_write else "own"
        for token, account in self._accounts.items():
            if account.login == login:
                if access == "admin" or (access == "write" and not account.may_write):
                    self._accounts[token] = replace(account, access=access)
                return token
        token = new_token("ghp")
        kind: Kind = "Bot" if login.endswith("[bot]") else "User"
        self._accounts[token] = Account(login, 1000 + len(self._accounts), kind, access)
        return token

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply | None:
        """The reply to one HTTP request; None where it has to be lost."""
        address = urlsplit(target)
        root = next((root for root in (API, UPLOADS) if address.path.startswith(root + "/")), "")
        if root:
            path = address.path.removeprefix(root)
            request = partial(self._answer_api, method, path, address.query, headers, body)
            return self._spoilt(method, path, partial(request, uploads=root == UPLOADS))
        if address.path == OIDC:
            return self._spoilt(method, OIDC, lambda: self._answer_oidc(address.query, headers))
        if service := git_service(address):
            return self._spoilt(
                "GIT", service, lambda: self._answer_git(method, service, address, headers, body)
            )
        return self._spoilt(method, address.path, lambda: self._file(address.path))

    def _spoilt(self, method: str, path: str, act: Callable[[], _Done]) -> Reply | None:
        """The reply of `act`, noted and with whatever fault was asked for; None where it is lost."""
        fault, lost = self._suffered(method, path)
        if fault and fault.status is not None:
            refusal = Refusal(fault.status, fault.message).body()
            done = _Done(json_reply(fault.status, refusal, fault.headers))
        else:
            done = act()
        self.calls.append((method, path, 0 if lost else done.reply.status))
        for effect in done.effects:
            self._took_effect(effect)
        return None if lost else done.reply

    def _answer_api(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes, *, uploads: bool
    ) -> _Done:
        try:
            asked = dict(parse_qsl(query, keep_blank_values=True))
            with self._lock:
                call = self._spec.request(method, path, asked, body, headers, uploads=uploads)
                try:
                    status, value, more = self._rest.answer(call, self._account(headers))
                    value, links = paged(value, call, self.api_url + path)
                except Refusal as refusal:
                    status, value, more, links = refusal.status, refusal.body(), {}, {}
            self._spec.reply(call.operation, status, value)
        except SpecError as e:
            self.violations.append(str(e))
            return _Done(json_reply(500, Refusal(500, str(e)).body()))
        wrote = method != "GET" and status < 300 and call.operation.id not in WITHOUT_EFFECT  # noqa: PLR2004
        what = f"{method} {path}?{query}" if uploads else f"{method} {path}"
        return _Done(json_reply(status, value, {**links, **more}), (what,) if wrote else ())

    def _account(self, headers: dict[str, str]) -> Account:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            raise Refusal(401, "Requires authentication")
        if token.strip() not in self._accounts:
            raise Refusal(401, "Bad credentials")
        return self._accounts[token.strip()]

    def _answer_git(
        self, method: str, service: str, address: SplitResult, headers: dict[str, str], body: bytes
    ) -> _Done:
        owner, _, rest = unquote(address.path).strip("/").partition("/")
        repository, _, rest = rest.partition("/")
        name = f"{owner}/{repository.removesuffix('.git')}"  # GitHub takes OWNER/REPO with and without .git
        writes = service == "receive-pack"
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        account = None
        if scheme.lower() == "basic":  # clients differ in case
            account = self._accounts.get(base64.b64decode(encoded).decode().partition(":")[2])
            if account is None:
                return _Done(Reply(401, UNAUTHORIZED, b"Invalid username or token.\n"))
        if writes and account is None:
            return _Done(Reply(401, UNAUTHORIZED, b"Authentication is needed to push.\n"))
        if writes and account and not account.may_write and account.login != owner:
            denied = f"Permission to {name} denied to {account.login}.\n"
            return _Done(Reply(403, PLAIN, denied.encode()))
        user = account.login if account else ""
        request = GitRequest(method, f"/{name}.git/{rest}", address.query, headers, body, user)
        if writes and method == "POST" and account and name in self._rest.repositories:
            return self._push(name, account, request)
        return _Done(self._origin.serve(request))

    def _push(self, name: str, account: Account, request: GitRequest) -> _Done:
        with self._lock:
            before = self._origin.refs(name)
            reply = self._origin.serve(request)
            after = self._origin.refs(name)
            moves = [
                Move(ref, before.get(ref, NOWHERE), after.get(ref, NOWHERE))
                for ref in sorted(before.keys() | after.keys())
                if before.get(ref) != after.get(ref)
            ]
            self._rest.world.moved(self._rest.repositories[name], account, moves)
        return _Done(reply, (f"push {' '.join(map(str, moves))}",) if moves else ())

    def _answer_oidc(self, query: str, headers: dict[str, str]) -> _Done:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        claims = self._claims.get(token.strip()) if scheme.lower() == "bearer" else None
        if claims is None:
            return _Done(json_reply(401, Refusal(401, "Bad credentials").body()))
        owner = f"https://github.com/{claims['repository_owner']}"
        audience = parse_qs(query).get("audience", [owner])[0]
        signed = self._issuer.sign({**claims, "aud": audience})
        return _Done(json_reply(200, {"count": len(signed), "value": signed}))

    def _answer_storage(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply | None:
        """Artifacts and assets on another server, which takes no token of GitHub's."""
        path = urlsplit(target).path
        if "authorization" in headers:
            said = "Authentication information is not given in the correct format."
            return self._spoilt(method, path, lambda: _Done(Reply(400, PLAIN, said.encode())))
        return self._spoilt(method, path, lambda: self._file(path))

    def _file(self, path: str) -> _Done:
        with self._lock:
            content = self._rest.stored(unquote(path))
        if content is None:
            return _Done(Reply(404, PLAIN, b"Not Found"))
        return _Done(Reply(200, {"Content-Type": "application/octet-stream"}, content))


def git_service(address: SplitResult) -> str:
    """Which service of git a request is for, "" for none."""
    wanted = parse_qs(address.query).get("service", [""])[0] if address.path.endswith("/info/refs") else ""
    service = wanted or address.path.rpartition("/")[2]
    known = ("git-upload-pack", "git-receive-pack")
    return service.removeprefix("git-") if service in known else ""


def new_token(kind: str) -> str:
    """A token that no other stand-in knows."""
    return f"{kind}_{secrets.token_hex(18)}"
