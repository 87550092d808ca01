"""HTTPS to chosen hosts ends on this machine: a small server, an authority of its own, and a proxy to both.

A program that honours HTTPS_PROXY and a bundle of authorities reaches the stand-in under the real name.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOCAL = "127.0.0.1,localhost"
"""The hosts that no proxy is asked for."""

_BODY_TIMEOUT = 1.0
"""Seconds between two bytes of a request's body. A client behind a proxy repeats a request whose reply
was lost with a body that it has read already, and waits: a server has to end that."""

_CONNECT_TIMEOUT = 30
"""Seconds to reach a host that is not ours."""


class Reply(NamedTuple):
    """An HTTP reply; `reason` stands beside the status where a client shows it, "" for the usual one."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    reason: str = ""
    headers: Mapping[str, str] = MappingProxyType({})


Answer = Callable[[str, str, dict[str, str], bytes], Reply | None]
"""From method, target, headers (names in lower case) and body: the reply, None where it has to be lost."""


def json_reply(value: Any, content_type: str = "application/json", status: int = 200) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, json.dumps(value).encode(), content_type)


def refusal(status: int, why: str) -> Reply:
    """A refusal with the words also beside the status, where PyPI has them and twine shows them."""
    return Reply(status, why.encode(), reason=why)


class Server:
    """An HTTP server on a port of its own at 127.0.0.1, from its making to `close`."""

    def __init__(self, answer: Answer) -> None:
        self._serve(_Handler, answer)

    def _serve(self, handler: type[BaseHTTPRequestHandler], answer: Any) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.answer = answer
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server; a second time nothing happens."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Proxy(Server):
    """An HTTPS proxy: `hosts` are answered here, under certificates of `authority`; others are tunnelled.

    The tunnels take the proxy that this process had been told to use when the object was made.
    """

    def __init__(
        self,
        hosts: Mapping[str, Answer],
        authority: Authority,
    ) -> None:
        self._serve(_ProxyHandler, None)
        self._server.hosts = dict(hosts)
        self._server.context = authority.context(hosts)
        self._server.onward = outer_proxy()


class Authority:
    """An authority that signs for this object's lifetime only, and what has to be trusted because of it.

    `bundle` is a file that holds the authority and everything that this machine trusts already.
    """

    def __init__(self, folder: Path) -> None:
        import trustme  # noqa: PLC0415 only a rehearsal needs it

        self._ca = trustme.CA()
        self.bundle = folder / "authorities.pem"
        machine = machine_bundle()
        known = machine.read_bytes() if machine else b""
        self.bundle.write_bytes(known.rstrip() + b"\n" + self._ca.cert_pem.bytes())

    def context(self, hosts: Iterable[str]) -> ssl.SSLContext:
        """What a server needs to be taken for these hosts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*hosts).configure_cert(context)
        return context

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which requests, pip, uv, curl, git and Python's own ssl find the bundle."""
        names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
        return dict.fromkeys(names, str(self.bundle))


def machine_bundle() -> Path | None:
    """The file of authorities that this process trusts, None where none is found."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH  # noqa: PLC0415 heavy

    named = [os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    for candidate in (*named, DEFAULT_CA_BUNDLE_PATH):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def outer_proxy() -> str:
    """The address of the proxy that this process's HTTPS goes through, "" for none."""
    return getproxies().get("https", "")


def proxy_environment(url: str) -> dict[str, str]:
    """The variables by which a program's HTTPS goes through the proxy at `url`."""
    return {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": LOCAL, "no_proxy": LOCAL}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection open
    request_queue_size = 128
    answer: Any
    hosts: dict[str, Any]
    context: ssl.SSLContext
    onward: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up, or that does not trust us."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing: the stand-in lists its requests."""

    def _answer(self, headers: dict[str, str], body: bytes) -> Reply | None:
        reply: Reply | None = self.server.answer(self.command, self.path, headers, body)
        return reply

    def _handle(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            reply: Reply | None = refusal(408, "Request Timeout")
        else:
            reply = self._answer({name.lower(): value for name, value in self.headers.items()}, body)
        if reply is None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(reply.status, reply.reason or None)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 names that the base class calls

    def _body(self) -> bytes | None:
        """The request's body, None where it does not come."""
        self.connection.settimeout(_BODY_TIMEOUT)
        try:
            if self.headers.get("Transfer-Encoding"):
                return self._chunks()
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            return body if len(body) == size else None
        except TimeoutError:
            return None
        finally:
            self.connection.settimeout(None)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class _HostHandler(_Handler):
    """What follows a CONNECT to one of our hosts, inside the encryption."""

    def __init__(self, answer: Any, *args: Any) -> None:
        self._answer_of_host = answer
        super().__init__(*args)

    def _answer(self, headers: dict[str, str], body: bytes) -> Reply | None:
        reply: Reply | None = self._answer_of_host(self.command, self.path, headers, body)
        return reply


class _ProxyHandler(_Handler):
    def _answer(self, headers: dict[str, str], body: bytes) -> Reply | None:
        return Reply(405, b"This proxy takes CONNECT only.\n")

    def do_CONNECT(self) -> None:
        """Answer one of our hosts ourselves, connect the client with any other."""
        self.close_connection = True
        host, _, port = self.path.rpartition(":")
        answer = self.server.hosts.get(host)
        if answer is None:
            self._tunnel(host, int(port))
            return
        self._connected()
        with self.server.context.wrap_socket(self.connection, server_side=True) as encrypted:
            _HostHandler(answer, encrypted, self.client_address, self.server)

    def _connected(self) -> None:
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()

    def _tunnel(self, host: str, port: int) -> None:
        try:
            far = self._far(host, port)
        except OSError as error:
            self.send_error(502, f"{host} cannot be reached ({type(error).__name__})")
            return
        with far:
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()

    def _far(self, host: str, port: int) -> socket.socket:
        """A connection to the host, on which the client goes on, or to the proxy that leads there."""
        onward = urlsplit(self.server.onward)
        if not onward.hostname or proxy_bypass(host):
            far = socket.create_connection((host, port), _CONNECT_TIMEOUT)
            self._connected()
        else:
            far = socket.create_connection((onward.hostname, onward.port or 80), _CONNECT_TIMEOUT)
            # Its answer to this CONNECT is the answer to ours.
            far.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        far.settimeout(None)
        return far


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
