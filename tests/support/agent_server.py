"""An agent behind an address, over real HTTP: it answers as a test tells it to, or as a case's input does."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Asked:
    """One request: its body as JSON, and its headers by their names in lower case.

    One that was sent twice has both values, with a comma between them.
    """

    body: Any
    headers: dict[str, str]


@dataclass
class Reply:
    """What one request gets: `body` as JSON where it is no bytes.

    A list of bytes is streamed, each piece by itself. `cut` ends it before its end, `hang` never begins it,
    `drop` closes the connection instead.
    """

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    drop: bool = False


FAULTS = {
    "hang": Reply(None, hang=True),
    "crash": Reply(None, drop=True),
    "garbage": Reply(b"<html>no JSON</html>"),
    "flood": Reply({"output": "x" * (9 * 2**20)}),
    "refuse": Reply({"error": {"message": "no such input"}}, status=422),
    "fail": Reply({"error": "out of order"}, status=500),
    "error": Reply({"output": None, "error": "I cannot"}),
}
"""What an input of {"do": NAME} gets; any other input is repeated as the output."""


def by_input(asked: Asked) -> Reply:
    """An echo, with the fault that the case asks for."""
    value = asked.body["input"]
    do = value.get("do") if isinstance(value, dict) else None
    return FAULTS[do] if do in FAULTS else Reply({"output": value})


@contextmanager
def serve(answer: Callable[[Asked], Reply] | Reply = by_input, *, port: int = 0) -> Iterator[str]:
    """Serve on 127.0.0.1, on a free port where none is given; the address of the agent."""
    ended = Event()
    handler = partial(_Handler, answer if callable(answer) else lambda _: answer, ended)
    with _Server(("127.0.0.1", port), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/ask"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that went away is expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each reply waits 40 ms for the acknowledgement of its head

    def __init__(self, answer: Callable[[Asked], Reply], ended: Event, *args: Any) -> None:
        self.reply_to, self.ended = answer, ended
        super().__init__(*args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names = {name.lower() for name in self.headers}
        headers = {name: ", ".join(self.headers.get_all(name, [])) for name in names}
        reply = self.reply_to(Asked(body, headers))
        if reply.hang:
            self.ended.wait(20)
        if self.ended.is_set() or reply.hang or reply.drop:
            self.close_connection = True
        elif isinstance(reply.body, list):
            self.stream(reply)
        else:
            self.answer(reply)

    def answer(self, reply: Reply) -> None:
        """Answer in one piece."""
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.head(reply, "Content-Length", str(len(data)))
        self.wfile.write(data[: len(data) // 2] if reply.cut else data)

    def stream(self, reply: Reply) -> None:
        """Answer piece by piece; one that is cut lacks the last chunk, which is empty."""
        self.head(reply, "Transfer-Encoding", "chunked")
        for piece in reply.body:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            sleep(0.002)  # or the pieces would arrive as one
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    def head(self, reply: Reply, *length: str) -> None:
        """Everything before the body."""
        self.close_connection = reply.cut
        self.send_response(reply.status)
        for name, value in [*reply.headers.items(), length]:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""
