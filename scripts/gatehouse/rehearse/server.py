"""The HTTP side of the stand-in for GitHub: one request in, one reply out, faults in between."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gatehouse.rehearse.origin import Reply
from gatehouse.rehearse.state import Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.rehearse.spec import Call


def json_reply(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with a JSON body, or with none for None."""
    body = b"" if value is None else json.dumps(value).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)


def paged(body: Any, call: Call, address: str) -> tuple[Any, dict[str, str]]:
    """One page of a list or a Listing, and the Link header that leads to the others; else `body` itself."""
    if isinstance(body, Listing):
        items, headers = page(body.items, call, address)
        return {"total_count": len(body.items), body.key: items}, headers
    return page(body, call, address) if isinstance(body, list) else (body, {})


def page(items: list[Any], call: Call, address: str) -> tuple[list[Any], dict[str, str]]:
    """One page of a list, and the Link header that leads to the others."""
    if ("query", "per_page") not in call.operation.parameters:
        return items, {}
    size = min(max(call.query.get("per_page", 30), 1), 100)
    number, last = max(call.query.get("page", 1), 1), max(-(-len(items) // size), 1)
    places = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    if number >= last:
        del places["next"], places["last"]
    if number == 1:
        del places["prev"], places["first"]
    links = [f'<{address}?{urlencode(call.query | {"page": at})}>; rel="{to}"' for to, at in places.items()]
    return items[(number - 1) * size : number * size], {"Link": ", ".join(links)} if links else {}


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1 that answers by `answer`; what it fails at is told to `failed`."""

    daemon_threads = True
    block_on_close = False  # a client may keep its connection open
    request_queue_size = 128

    def __init__(
        self,
        answer: Callable[[str, str, dict[str, str], bytes], Reply | None],
        failed: Callable[[str], None],
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.failed = answer, failed
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up; anything else is a fault of the stand-in and must be seen."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.failed(f"the stand-in failed: {error!r}")
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement
    server: Server

    def log_message(self, *_: Any) -> None:
        """Nothing: `calls` lists the requests."""

    def _handle(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(self._length())
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.answer(self.command, self.path, headers, body)
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
