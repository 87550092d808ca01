"""A chat endpoint that answers as a test tells it to, over real HTTP."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def completion(content: Any = "hello", **message: Any) -> dict[str, Any]:
    """A reply as OpenAI's API reference shows it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "stub-1-2026-01-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content} | message,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 57,
            "completion_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 7},
        },
    }


@dataclass
class Reply:
    """What one request gets: `body` as JSON where it is no bytes; `cut` ends it before its end."""

    body: Any = field(default_factory=completion)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    drop: bool = False


@dataclass
class StubModel:
    """`reply(n)` says what the n-th request gets, from 0; `requests` came, with their headers.

    `came` says when, in monotonic seconds, and `at_once` how many were being answered then, itself included.
    """

    reply: Callable[[int], Reply]
    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    at_once: list[int] = field(default_factory=list)
    under_way: int = 0
    ended: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)


@contextmanager
def stub_model(reply: Callable[[int], Reply]) -> Iterator[StubModel]:
    """Serve on a free port of 127.0.0.1; `url` ends in /v1."""
    stub = StubModel(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each reply waits 40 ms for the acknowledgement of its head

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub.lock:
                number = len(stub.requests)
                stub.requests.append((self.path, dict(self.headers), body))
                stub.came.append(monotonic())
                stub.under_way += 1
                stub.at_once.append(stub.under_way)
            reply = stub.reply(number)
            # Counted out before the last byte: with it, the client may send the next one.
            with stub.lock:
                stub.under_way -= 1
            self.answer(reply)

        def do_GET(self) -> None:
            with stub.lock:
                stub.requests.append((self.path, dict(self.headers), None))
            self.answer(Reply())

        def answer(self, reply: Reply) -> None:
            if reply.hang:
                stub.ended.wait(20)
            if reply.hang or reply.drop:
                self.close_connection = True
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if reply.cut else data)
            self.close_connection = reply.cut

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            """A client that went away is expected."""

    with Server(("127.0.0.1", 0), Handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stub
        finally:
            stub.ended.set()
            server.shutdown()
            thread.join()
