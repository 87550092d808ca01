"""The service: `python -m server [PORT]`."""

import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server.answers import answer

PORT = 8321
LONGEST = 10_000
"""Bytes of a request."""


class Handler(BaseHTTPRequestHandler):
    """`GET /health`, and a question posted to `/ask` or, for an answer word by word, to `/stream`."""

    def do_GET(self) -> None:
        """Whether the service is up."""
        self.reply(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        """One question: `{"question": TEXT}`."""
        length = int(self.headers.get("Content-Length") or 0)
        try:
            request = json.loads(self.rfile.read(min(length, LONGEST)))
            text, sources = answer(request["question"])
        except (ValueError, TypeError, KeyError, AttributeError):
            self.reply(422, {"error": 'Send {"question": "..."}.'})
            return
        rows = [{"table": "hours.json", "text": row} for row in sources]
        if self.path == "/ask":
            self.reply(200, {"answer": {"text": text}, "sources": rows})
        elif self.path == "/stream":
            self.stream(text, rows)
        else:
            self.reply(404, {"error": "There are /ask and /stream."})

    def reply(self, status: int, data: dict[str, Any]) -> None:
        """One JSON object."""
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, text: str, rows: list[dict[str, str]]) -> None:
        """Server-sent events: the answer word by word, then its sources."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events(text, rows):
            self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """No line for each request."""


def events(text: str, rows: list[dict[str, str]]) -> Iterator[str]:
    """The data of each event."""
    for word in re.findall(r"\S+\s*", text):
        yield json.dumps({"delta": word})
    yield json.dumps({"sources": rows})
    yield "[DONE]"


class Server(ThreadingHTTPServer):
    """A thread for each request; the gate sends many at once, and one beyond the queue waits a second."""

    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Serve on this machine alone until somebody ends it."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    with Server(("127.0.0.1", port), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
