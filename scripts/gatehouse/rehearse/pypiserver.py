"""A pypiserver process, which keeps the files of one index; what it lacks of PyPI's rules is in `index`."""

from __future__ import annotations

import http.client
import secrets
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse.tls import Reply

if TYPE_CHECKING:
    from pathlib import Path

_START = 20.0
"""Seconds for the process to answer."""
_TRIES = 3
"""Ports that are tried: another process may take a free one before ours does."""
_OK = 200

_PROGRAM = """\
import os, sys, threading
def follow():
    sys.stdin.read()  # ends with whoever started us, however that ended
    os._exit(0)
threading.Thread(target=follow, daemon=True).start()
from pypiserver.__main__ import main
main()
"""


class PypiServer:
    """The process, which ends with this one; `folder` holds its files, `folder`.log its words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        """Start it and wait until it answers; raises InfrastructureError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            health = f"/health-{secrets.token_hex(8)}"  # a path of its own: another server has none such
            self._port = free_port()
            self._process = self._launch(health)
            if self._answers(health):
                return
            self.close()
        log = self._folder.with_suffix(".log").read_text(errors="replace")
        raise InfrastructureError(f"The package index does not start (pypiserver):\n{log[-2000:]}")

    def close(self) -> None:
        """End the process; where there is none nothing happens."""
        if self._process:
            self._process.kill()
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Reply:
        """What it answers to a GET."""
        return self._ask("GET", path)

    def post(self, name: str, content: bytes) -> Reply:
        """What it answers to the upload of a file."""
        boundary = secrets.token_hex(16)
        parts = [
            b'Content-Disposition: form-data; name=":action"\r\n\r\nfile_upload',
            f'Content-Disposition: form-data; name="content"; filename="{name}"\r\n'.encode()
            + b"Content-Type: application/octet-stream\r\n\r\n"
            + content,
        ]
        mark = f"--{boundary}".encode()
        body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
        return self._ask("POST", "/", body, f"multipart/form-data; boundary={boundary}")

    def _launch(self, health: str) -> subprocess.Popen[bytes]:
        options = [
            "--disable-fallback",
            "--hash-algo",
            "sha256",
            "--health-endpoint",
            health,
            "-a",
            ".",
            "-P",
            ".",
        ]
        place = ["-i", "127.0.0.1", "-p", str(self._port), str(self._folder.absolute())]
        with self._folder.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", "-c", _PROGRAM, "run", *options, *place],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _answers(self, health: str) -> bool:
        deadline = time.monotonic() + _START
        while self._process and self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self._ask("GET", health).status == _OK:
                    return True
            except OSError:
                time.sleep(0.02)
        return False

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
            reply = connection.getresponse()
            kind = reply.getheader("Content-Type") or "text/html"
            return Reply(reply.status, reply.read(), kind)
        finally:
            connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
