"""Runs a user's function behind pipes, as a file in the user's own interpreter (3.8+, standard library only).

Started as `PYTHON worker.py MODULE:FUNCTION THREADS MAX_REPLY`. One JSON object a line, on the standard input
and output that the process was started with; the user's code never sees these two.

    in   {"id": n, "input": ...}         ask; {"cancel": n} at its deadline
    out  {"ready": true} or {"failed": reason}, once
         {"id": n, "value": ..., "seconds": s}                  what the function returned
         {"id": n, "fault": [by, kind, message], "seconds": s}  why it returned nothing usable
         {"alive": n, "busy": m or null}  after a cancel: m is the call that blocks the event loop
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import importlib.machinery
import inspect
import json
import os
import queue
import sys
import threading
import traceback
from time import perf_counter

TYPE_CHECKING = False  # typing's own would cost its import at every start
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import NoReturn

MESSAGE = 2000
"""Characters of a message that are kept."""

BLOCKED_AFTER_S = 0.5
"""An event loop that did not get to a cancellation in this time is blocked by the call it runs."""

CANCEL = b'{"cancel"'

HTTP_ERRORS = range(400, 600)
KEY_STATUS = (401, 403)
PROVIDER_STATUS = (402, 408, 429, *range(500, 600))
NETWORK_ERRORS = frozenset(
    {
        # By name, because the classes are the user's dependencies': openai, anthropic, httpx, requests,
        # urllib3, aiohttp, botocore and google.api_core.
        *("APIConnectionError", "APITimeoutError", "AuthenticationError", "InternalServerError"),
        *("OverloadedError", "PermissionDeniedError", "RateLimitError", "ServiceUnavailableError"),
        *("ConnectError", "ConnectTimeout", "PoolTimeout", "ReadError", "ReadTimeout", "WriteTimeout"),
        *("ConnectionTimeout", "MaxRetryError", "NewConnectionError", "ProxyError", "RemoteProtocolError"),
        *("ClientConnectorError", "EndpointConnectionError", "ServerDisconnectedError", "ServerTimeoutError"),
        *("DeadlineExceeded", "ResourceExhausted", "ServiceUnavailable", "ThrottlingException"),
        *("ConnectTimeoutError", "ConnectionError", "ReadTimeoutError", "RemoteDisconnected"),
        *("SSLError", "TooManyRequests", "gaierror"),
    }
)


def infrastructure_kind(error: BaseException) -> str | None:
    """Which fault of the infrastructure an exception tells of, or None where it is the agent's own.

    Looks at the exception, its causes and its contexts: an HTTP status on it, then the names of its classes.
    A false "infrastructure" leaves a case unscored, which never passes a gate; a false "agent" blames a
    change for its provider's outage.
    """
    for link in _chain(error):
        status = _status(link)
        if status in KEY_STATUS:
            return "key"
        if status in PROVIDER_STATUS:
            return "provider-error"
        if any(cls.__name__ in NETWORK_ERRORS for cls in type(link).__mro__):
            return "connection"
        if isinstance(getattr(link, "reason", None), OSError):  # urllib.error.URLError
            return "connection"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _status(error: BaseException) -> int | None:
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            try:
                value = getattr(owner, name, None)
            except Exception:  # noqa: BLE001 a property of the user's may raise anything
                value = None
            # SystemExit has a `code` too, and it is no HTTP status.
            if isinstance(value, int) and value in HTTP_ERRORS and not isinstance(error, SystemExit):
                return value
    return None


class Channel:
    """Our two pipes, moved to where neither the user's code nor its children find them."""

    def __init__(self, max_reply: int) -> None:
        """Take over descriptors 0 and 1; the user's code gets an empty input, and prints reach the log."""
        self.max_reply = max_reply
        self.reader, self.writer = os.dup(0), os.dup(1)  # dup: not inherited by what the user's code starts
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self.lock = threading.Lock()
        self.waiting: list[bytes] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """In a fork of the user's: it must neither hold our pipes open nor answer twice."""
        os.close(self.reader)
        os.close(self.writer)
        self.reader = self.writer = -1
        self.lock = threading.Lock()  # another thread may have held the old one

    @staticmethod
    def leave() -> NoReturn:
        """End at once: the user's code closed our pipe, or this is a fork of it."""
        os.write(2, b"gatehouse: the channel of this process is closed\n")
        os._exit(70)

    def requests(self) -> Iterator[list[bytes]]:
        """Lines from the parent, as many as are there at once, until it closes the pipe or dies."""
        rest = b""
        while True:
            try:
                chunk = os.read(self.reader, 1 << 18)
            except OSError:
                self.leave()
            if not chunk:
                return
            complete = (rest + chunk).split(b"\n")
            rest = complete.pop()
            yield complete

    def send(self, frame: dict[str, object] | bytes) -> None:
        """Write one frame whole, from any thread; whoever holds the lock also writes what others left."""
        self.waiting.append((frame if isinstance(frame, bytes) else json.dumps(frame).encode()) + b"\n")
        while self.waiting and self.lock.acquire(blocking=False):
            try:
                count = len(self.waiting)
                view = memoryview(b"".join(self.waiting[:count]))
                del self.waiting[:count]
                while view:
                    view = view[os.write(self.writer, view) :]
            except OSError:
                self.leave()
            finally:
                self.lock.release()

    def reply(self, number: int, value: object, started: float) -> None:
        """Send what the function returned, or why it cannot be sent."""
        seconds = perf_counter() - started
        try:
            body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            self.fail(number, "agent", "garbage", "the reply is not valid Unicode (lone surrogates)", started)
        except (TypeError, ValueError, RecursionError) as error:
            text = f"the function returned {type(value).__name__}, which is not JSON: {error}"
            self.fail(number, "agent", "garbage", text, started)
        else:
            if len(body) > self.max_reply:
                text = f"the reply has {len(body)} bytes; the limit is {self.max_reply}"
                self.fail(number, "agent", "too large", text, started)
            else:
                self.send(b'{"id":%d,"seconds":%.6f,"value":%b}' % (number, seconds, body))

    def fail(self, number: int, by: str, kind: str, message: str, started: float) -> None:
        """Send why there is no reply."""
        message = message[:MESSAGE].encode("utf-8", "backslashreplace").decode()
        self.send({"id": number, "fault": [by, kind, message], "seconds": perf_counter() - started})

    def raised(self, number: int, error: BaseException, started: float) -> None:
        """Send what the function raised; its traceback goes to the log."""
        traceback.print_exception(type(error), error, error.__traceback__)
        text = _text(error)
        if isinstance(error, SystemExit):
            self.fail(number, "agent", "exit", f"the function ended its process: {text}", started)
            return
        kind = infrastructure_kind(error)
        self.fail(number, "infrastructure" if kind else "agent", kind or "exception", text, started)


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:  # noqa: BLE001 the user's __str__ may raise anything
        return type(error).__name__


def load(target: str) -> Callable[[object], object]:
    """The function that `module:function` (or `module:object.method`) names."""
    module, _, path = target.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        if not hasattr(found, name):
            from difflib import get_close_matches  # noqa: PLC0415 only for the error

            near = get_close_matches(name, dir(found), 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise AttributeError(f'{module} has no "{name}"{hint}')
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{target} is a {type(found).__name__}, not a function")
    return found


class FromSource(importlib.machinery.SourceFileLoader):
    """Loads a module of the agent from its source alone, and leaves no bytecode.

    Python takes bytecode for current by the second and the size of the source: an edit within a second that
    keeps the size would run as what it was before.
    """

    def path_stats(self, path: str) -> NoReturn:
        """Nothing: then no bytecode is looked for."""
        raise OSError(path)


def load_from_source(root: str) -> None:
    """Have every module below `root` loaded by FromSource; installed dependencies keep their bytecode."""
    machinery = importlib.machinery
    loaders = [
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (FromSource, machinery.SOURCE_SUFFIXES),
    ]

    def hook(path: str) -> importlib.machinery.FileFinder:
        inside = path == root or path.startswith(root + os.sep)
        if not inside or "site-packages" in path or "dist-packages" in path:
            raise ImportError(path)
        return machinery.FileFinder(path, *loaders)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


def place_of(error: BaseException, root: str) -> str:
    """Where in the agent's own files an exception came from, " (file:line)", or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(root + os.sep) and "site-packages" not in f.filename]
    return f" ({os.path.relpath(own[-1].filename, root)}:{own[-1].lineno})" if own else ""


def is_async(function: Callable[[object], object]) -> bool:
    """Whether calling it gives a coroutine, also for an object with an async `__call__`."""
    call = getattr(function, "__call__", None)  # noqa: B004 not asked whether it can be called
    return any(inspect.iscoroutinefunction(item) for item in (function, call))


def serve_threads(function: Callable[[object], object], channel: Channel, threads: int) -> None:
    """Answer requests in threads until the parent closes the pipe."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def answer() -> None:
        while True:
            request = json.loads(requests.get())
            started = perf_counter()
            try:
                value = function(request["input"])
                if inspect.isawaitable(value):  # a plain function that hands on another one's coroutine
                    value = asyncio.run(_wait_for(value))
            except BaseException as error:  # noqa: BLE001 also SystemExit and KeyboardInterrupt
                channel.raised(request["id"], error, started)
            else:
                channel.reply(request["id"], value, started)

    for _ in range(threads):
        threading.Thread(target=answer, daemon=True).start()
    for lines in channel.requests():
        for line in lines:
            if line.startswith(CANCEL):  # a thread cannot be cancelled: say that the process lives
                channel.send({"alive": json.loads(line)["cancel"], "busy": None})
            else:
                requests.put(line)


async def _wait_for(value: Awaitable[object]) -> object:
    return await value


async def serve_loop(function: Callable[[object], Awaitable[object]], channel: Channel) -> None:
    """Answer requests as tasks of this event loop; a thread reads, so that a blocked loop can be told."""
    loop = asyncio.get_running_loop()
    tasks: dict[int, asyncio.Task[None]] = {}

    async def answer(number: int, value: object) -> None:
        started = perf_counter()
        try:
            result = await function(value)
        except asyncio.CancelledError:
            channel.fail(number, "agent", "cancelled", "the call was cancelled", started)
        except BaseException as error:  # noqa: BLE001 also SystemExit and KeyboardInterrupt
            channel.raised(number, error, started)
        else:
            channel.reply(number, result, started)
        finally:
            tasks.pop(number, None)

    def start(lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(CANCEL):
                continue
            request = json.loads(line)
            tasks[request["id"]] = loop.create_task(answer(request["id"], request["input"]))

    def cancel(number: int) -> None:
        reached = threading.Event()

        def in_loop() -> None:
            reached.set()
            if number in tasks:
                tasks[number].cancel()

        def report() -> None:
            current = None if reached.is_set() else asyncio.current_task(loop)
            busy = next((n for n, task in list(tasks.items()) if task is current), None) if current else None
            channel.send({"alive": number, "busy": busy})

        loop.call_soon_threadsafe(in_loop)
        timer = threading.Timer(BLOCKED_AFTER_S, report)
        timer.daemon = True
        timer.start()

    def read() -> None:
        for lines in channel.requests():
            loop.call_soon_threadsafe(start, lines)
            for line in lines:
                if line.startswith(CANCEL):
                    cancel(json.loads(line)["cancel"])
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    await loop.create_future()  # for ever: the reader ends the process


def main() -> None:
    """Load the function, say so, and answer until the parent closes the pipe; never run the user's atexit."""
    channel = Channel(int(sys.argv[3]))
    target, threads = sys.argv[1], int(sys.argv[2])
    faulthandler.enable(2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # os._exit flushes nothing
    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 pathlib costs 5 ms of every start
    if sys.path and os.path.realpath(sys.path[0]) == here:
        del sys.path[0]  # our own modules must not shadow the user's
    root = os.getcwd()  # noqa: PTH109
    sys.path.insert(0, root)
    load_from_source(root)
    sys.argv[:] = [target]
    try:
        function = load(target)
    except BaseException as error:  # noqa: BLE001 whatever the user's module does on import
        traceback.print_exc()
        text = (_text(error) + place_of(error, root))[:MESSAGE]
        channel.send({"failed": text.encode("utf-8", "backslashreplace").decode()})
        os._exit(3)
    channel.send({"ready": True})
    if is_async(function):
        asyncio.run(serve_loop(function, channel))  # type: ignore[arg-type] # is_async says so
    else:
        serve_threads(function, channel, threads)
    os._exit(0)


if __name__ == "__main__":  # multiprocessing's "spawn" imports the main module again in each child
    main()
