"""A network that does not do its part: each way once, against the model of an agent and against GitHub's API.

Nothing of it is a verdict: exit 3, the cause in the first words, no key in it, and no waiting without end.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from gatehouse.errors import Exit
from gatehouse.github import api
from tests.support.projects import call, cases, read, write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "sk-network-0123456789"
REFUSED = "http://127.0.0.1:9"
Answer = bytes | None
"""What a server sends back; None for nothing, and the connection stays open."""


def reply(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An HTTP reply."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def said(message: str) -> bytes:
    """A provider's error body."""
    return json.dumps({"error": {"message": message}}).encode()


WHOLE = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "a0"}, "finish_reason": "stop"}]}
).encode()

JSON = "Content-Type: application/json"
ANSWERS: dict[str, tuple[Answer, str]] = {
    "hang": (None, "timeout"),
    "reset": (b"", "connection"),
    "half of a reply": (reply("200 OK", WHOLE[:20], JSON, length=len(WHOLE)), "connection"),
    "half of a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "connection"),
    "no http": (b"SSH-2.0-OpenSSH_9.6\r\n", "connection"),
    "an endless head": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "connection"),
    "redirect": (reply("302 Found", b"", "Location: https://evil.test/"), "where no request follows"),
    "empty": (reply("200 OK", b"", JSON), "not a JSON object"),
    "a page": (reply("200 OK", b"<html>Sign in</html>", "Content-Type: text/html"), "not a JSON object"),
    "a list": (reply("200 OK", b"[]", JSON), "not a JSON object"),
    "latin-1": (reply("200 OK", b'{"a": "\xff"}', JSON), "not a JSON object"),
    "false gzip": (reply("200 OK", b"no gzip", JSON, "Content-Encoding: gzip"), "connection"),
    "an error with 200": (reply("200 OK", said("overloaded"), JSON), "overloaded"),
    "401": (reply("401 Unauthorized", said(f"wrong key {KEY}"), JSON), "key"),
    "402": (reply("402 Payment Required", said("no credit"), JSON), "402"),
    "403": (reply("403 Forbidden", said("not for you"), JSON), "403"),
    "404": (reply("404 Not Found", said("no such model"), JSON), "404"),
    "429 for good": (
        reply("429 Too Many", json.dumps({"error": {"code": "insufficient_quota"}}).encode(), JSON),
        "quota",
    ),
    "500": (reply("500 Oops", b"<html>", "Content-Type: text/html"), "500"),
    "503": (reply("503 Busy", b"", "Retry-After: 0"), "503"),
}
"""What a server does with every request, and a word of what is said of it."""


@contextmanager
def serving(answer: Answer, wrap: Callable[[socket.socket], socket.socket] | None = None) -> Iterator[int]:
    """A server that does that with every connection; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    over = threading.Event()
    kept: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            peer = wrap(connection) if wrap else connection
            peer.settimeout(5)
            peer.recv(65_536)
            if answer is None:
                kept.append(peer)
                return
            if answer:
                peer.sendall(answer)
            else:  # a reset, no orderly end
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in kept:
            connection.close()


def asked(folder: Path, address: str, **env: str) -> tuple[str, float]:
    """The reason of a gate whose model is there, and how long it took; it has to be exit 3."""
    model = {"provider": "openai", "name": "gpt-4o-mini-2024-07-18"}
    write_project(folder, cases(1), code=None, model=model)
    known = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": KEY}
    started = time.monotonic()
    done = call(folder, "eval-gate", "--case-deadline", "1", env=known | env)
    took = time.monotonic() - started
    assert done.code == Exit.UNSCORED, done
    assert "Traceback" not in done.err
    verdict = read(folder / ".gatehouse/echo/eval.json")
    assert verdict["state"] == "unscored"
    for text in (done.out, done.err, *(p.read_text() for p in folder.rglob(".gatehouse/*/*.json*"))):
        assert KEY not in text
    return str(verdict["reason"]), took


@pytest.mark.parametrize("way", ANSWERS)
def test_a_model_that_is_not_to_be_had(tmp_path: Path, way: str) -> None:
    """Whatever comes instead of an answer: the case is unscored within its time, and the cause is named."""
    answer, word = ANSWERS[way]
    with serving(answer) as port:
        reason, took = asked(tmp_path, f"http://127.0.0.1:{port}/v1")
    assert word in reason, reason
    assert took < 15


ADDRESSES = {
    "refused": (f"{REFUSED}/v1", "connection"),
    "no such host": ("http://no-such-host.invalid/v1", "connection"),
    "no port": ("http://127.0.0.1:99999/v1", ""),
    "no address": ("http://[::1/v1", ""),
    "no scheme": ("127.0.0.1:9/v1", ""),
    "another scheme": ("ftp://127.0.0.1/v1", ""),
    "spaces": ("http://127.0.0.1 :9/v1", ""),
}


@pytest.mark.parametrize("way", ADDRESSES)
def test_an_address_where_nobody_is(tmp_path: Path, way: str) -> None:
    """A host or port that is none: unscored, or refused as what it is."""
    address, word = ADDRESSES[way]
    write_project(
        tmp_path, cases(1), code=None, model={"provider": "openai", "name": "gpt-4o-mini-2024-07-18"}
    )
    env = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": KEY}
    done = call(tmp_path, "eval-gate", "--case-deadline", "1", env=env)
    assert done.code in (Exit.UNSCORED, Exit.INVALID), done
    assert "Traceback" not in done.err, done.err[-800:]
    assert word in read(tmp_path / ".gatehouse/echo/eval.json")["reason"]


@pytest.mark.parametrize("way", ["self-signed", "other host", "no tls"])
def test_a_certificate_that_is_none(tmp_path: Path, way: str) -> None:
    """A server that cannot prove who it is gets no key and no question."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1" if way == "self-signed" else "other.test").configure_cert(context)

    def wrap(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True)

    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    env = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")} if way == "other host" else {}
    with serving(reply("200 OK", WHOLE, JSON), None if way == "no tls" else wrap) as port:
        reason, _ = asked(tmp_path, f"https://127.0.0.1:{port}/v1", **env)
    assert "connection" in reason
    assert way == "no tls" or "certificate" in reason.lower(), reason


GITHUB = {
    "reset": b"",
    "half of a reply": reply("200 OK", b"[", JSON, length=100),
    "a page": reply("200 OK", b"<html>Sign in</html>", "Content-Type: text/html"),
    "an object": reply("200 OK", b"{}", JSON),
    "texts": reply("200 OK", b'["a", 5, null]', JSON),
    "nothing": reply("200 OK", b"", JSON),
    "redirect": reply("301 Moved", b"", "Location: https://evil.test/"),
    "401": reply("401 Unauthorized", b'{"message": "Bad credentials"}', JSON),
    "404": reply("404 Not Found", b'{"message": "Not Found"}', JSON),
    "422": reply("422 No", b'{"message": "Validation Failed"}', JSON),
    "500": reply("500 Oops", b"<html>", "Content-Type: text/html"),
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n",
}


@pytest.mark.parametrize("way", GITHUB)
def test_a_github_that_is_not_to_be_had(tmp_path: Path, monkeypatch: Any, way: str) -> None:
    """The comment is not delivered: exit 3 and why; the scorecard is written all the same."""
    patient = {"budget": 60.0, "sleep": lambda _seconds: None}
    monkeypatch.setattr(api.Api.__init__, "__kwdefaults__", patient)
    write_project(tmp_path, cases(1))
    side = {"sha": "c" * 40, "ref": "x", "repo": {"full_name": "acme/x"}}
    (tmp_path / "event.json").write_text(
        json.dumps({"pull_request": {"number": 1, "head": side, "base": side}})
    )
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": "acme/x",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_RUN_ID": "7",
        "GITHUB_TOKEN": "ghs_network0123456789",
    }
    with serving(GITHUB[way]) as port:
        done = call(
            tmp_path, "scorecard", "--to", "comment", env=env | {"GITHUB_API_URL": f"http://127.0.0.1:{port}"}
        )
    assert done.code == Exit.UNSCORED, done
    assert "Traceback" not in done.err, done.err[-1500:]
    assert "ghs_network" not in done.err + done.out
    assert (tmp_path / ".gatehouse/scorecard.md").exists()
