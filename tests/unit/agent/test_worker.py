"""The worker as a file in another interpreter, and its table of exceptions."""

from __future__ import annotations

import ast
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from gatehouse.agent import worker
from gatehouse.agent.interpreter import OLDEST

SCRIPT = Path(worker.__file__)


def talk(folder: Path, target: str, *lines: dict[str, Any], wait_for: int) -> list[dict[str, Any]]:
    """What a worker in `folder` answers, its first frame included, until `wait_for` frames were read."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), target, "2", "1000"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        process.stdin.flush()
        return [json.loads(process.stdout.readline()) for _ in range(wait_for)]


class ApiError(Exception):
    """As API clients raise them: a status, or a response that has one."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class RateLimitError(Exception):
    """A name from the table."""


class ResetError(ConnectionResetError):
    """A subclass of a class from the table."""


class TouchyError(Exception):
    """An exception whose properties raise."""

    @property
    def status_code(self) -> int:
        """Nothing good."""
        raise RuntimeError


def caused(error: Exception, cause: Exception) -> Exception:
    """`error`, raised from `cause`."""
    error.__cause__ = cause
    return error


def raised_during(error: Exception, context: Exception) -> Exception:
    """`error`, raised while `context` was handled."""
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiError(status_code=401), "key"),
        (ApiError(status=403), "key"),
        (ApiError(code=402), "provider-error"),
        (ApiError(status_code=408), "provider-error"),
        (ApiError(status_code=429), "provider-error"),
        (ApiError(status_code=500), "provider-error"),
        (ApiError(status_code=599), "provider-error"),
        (ApiError(response=ApiError(status_code=503)), "provider-error"),
        (ApiError(status_code=404), None),
        (ApiError(status_code=600), None),
        (ApiError(code="500"), None),
        (SystemExit(500), None),
        (RateLimitError(), "connection"),
        (ResetError(), "connection"),
        (socket.gaierror(-2, "unknown"), "connection"),
        (ssl.SSLCertVerificationError("bad"), "connection"),
        (urllib.error.URLError(OSError("refused")), "connection"),
        (urllib.error.URLError("unknown url type"), None),
        (caused(ValueError("no answer"), ConnectionRefusedError()), "connection"),
        (raised_during(ValueError("no answer"), ApiError(status_code=502)), "provider-error"),
        (ValueError("wrong"), None),
        (KeyError("x"), None),
        (TimeoutError(), None),
        (FileNotFoundError("prompt.md"), None),
        (TouchyError(), None),
    ],
)
def test_the_outside_world_s_errors_are_the_infrastructure_s(error: BaseException, kind: str | None) -> None:
    """Errors of the network or the provider leave a case unscored; any other is the agent's."""
    assert worker.infrastructure_kind(error) == kind


def test_a_cause_that_was_put_aside_does_not_count() -> None:
    """`raise X from None` says that the earlier exception is not the reason."""
    error = raised_during(ValueError("wrong"), ConnectionError())
    error.__suppress_context__ = True
    assert worker.infrastructure_kind(error) is None


def test_exceptions_in_a_circle_end() -> None:
    """A chain of causes that returns to itself is walked once."""
    first, second = ValueError(), ValueError()
    assert worker.infrastructure_kind(caused(first, caused(second, first))) is None


def test_the_worker_is_written_for_the_oldest_interpreter() -> None:
    """The file parses as the oldest Python that we promise, and imports only the standard library."""
    tree = ast.parse(SCRIPT.read_text(), feature_version=OLDEST)
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= sys.stdlib_module_names


def test_our_own_folder_is_not_on_the_user_s_path(tmp_path: Path) -> None:
    """A user's module named as one of ours is found, and ours are not."""
    (tmp_path / "protocol.py").write_text("def answer(x): return 'mine'\n")
    assert talk(tmp_path, "protocol:answer", {"id": 1, "input": 0}, wait_for=2)[1]["value"] == "mine"
    assert "No module named 'providers'" in talk(tmp_path, "providers:resolve", wait_for=1)[0]["failed"]


def test_children_of_multiprocessing_do_not_become_workers(tmp_path: Path) -> None:
    """The main module can be imported again, as multiprocessing's spawn does in each child."""
    (tmp_path / "agent.py").write_text(
        "import multiprocessing\n"
        "def double(x): return 2 * x\n"
        "def answer(x):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return pool.map(double, [x])\n"
    )
    assert talk(tmp_path, "agent:answer", {"id": 1, "input": 4}, wait_for=2)[1]["value"] == [8]


def test_methods_of_objects_and_coroutines_of_plain_functions_are_answered(tmp_path: Path) -> None:
    """`module:object.method` is found, and what a plain function returns is awaited where it can be."""
    (tmp_path / "agent.py").write_text(
        "async def later(x): return x + 1\n"
        "class Agent:\n"
        "    def answer(self, x): return later(x)\n"
        "    async def __call__(self, x): return x + 2\n"
        "agent = Agent()\n"
    )
    assert talk(tmp_path, "agent:agent.answer", {"id": 1, "input": 1}, wait_for=2)[1]["value"] == 2
    assert talk(tmp_path, "agent:agent", {"id": 1, "input": 1}, wait_for=2)[1]["value"] == 3


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nothing:answer", "ModuleNotFoundError: No module named 'nothing'"),
        ("agent:missing", 'AttributeError: agent has no "missing"'),
        ("agent:NUMBER", "TypeError: agent:NUMBER is a int, not a function"),
        ("broken:answer", "SystemExit: 4 (broken.py:1)"),
    ],
)
def test_a_function_that_cannot_be_loaded_says_why(tmp_path: Path, target: str, reason: str) -> None:
    """The first frame tells why no case can be asked."""
    (tmp_path / "agent.py").write_text("NUMBER = 7\n")
    (tmp_path / "broken.py").write_text("raise SystemExit(4)\n")
    assert talk(tmp_path, target, wait_for=1) == [{"failed": reason}]
