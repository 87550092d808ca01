"""A command as a target: processes that read a request a line and write a reply a line, in JSON.

Each process has one request at a time, so what happens to it is that case's doing, unless it has answered
others before: what a case left behind (a late line, a thread that dies) may strike the next one. A case whose
process fails it is therefore asked once more where nothing came before it, and that is where it is judged.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import signal
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from shutil import which
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from gatehouse.agent.protocol import Fault, MalformedError, Run
from gatehouse.agent.source import RefusedError, parse_json
from gatehouse.errors import GatehouseError, InfrastructureError, Problem, UserError
from gatehouse.evals.asked import tell
from gatehouse.evals.worker import EXIT_S, LAST_WORDS_S, MAX_REPLY, Answer
from gatehouse.evals.worker_pool import (
    REPLY_KEYS,
    TAIL_BYTES,
    PrintLog,
    StartError,
    how_it_ended,
    last_lines,
    parse_reply,
)
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.evals.run import Case

HOPELESS_AFTER = 5
"""When this many cases failed their process and none was ever answered, it speaks no JSON lines at all."""
LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""Errors of a machine that has no room for another process."""
SHOWN = 200
"""Characters of a line that a message shows."""


class CommandPool:
    """At most `concurrency` processes of one command, started when a case needs one, kept from case to case.

    `words` are the program, relative to `cwd` where it is a path, and its arguments; `environ` is the whole
    environment. What it prints to standard error goes to `worker.log` in `out_dir`, at most a megabyte of it.
    """

    tries = 2

    def __init__(
        self, words: Sequence[str], *, concurrency: int, environ: Mapping[str, str], cwd: Path, out_dir: Path
    ) -> None:
        self.words, self.environ, self.cwd = words, environ, cwd
        self.log = PrintLog(out_dir / "worker.log")
        self.unasked = 0
        """Times that a process wrote what nobody had asked for."""
        self._recovered = 0
        self._room = asyncio.Semaphore(concurrency)
        self._program = ""
        self._idle: list[_Process] = []
        self._processes: set[_Process] = set()
        self.heard = False
        """Whether any process ever wrote to its standard output."""
        self._answered = False
        self._failures = 0
        self._failed: GatehouseError | None = None

    async def open(self) -> None:
        """Find the program; raises UserError where there is none."""
        self.log.clear()
        self._program = find_program(self.words[0], self.environ, self.cwd)

    async def ask(self, case: Case, repeat: int, deadline_s: float) -> Run:
        """One request; raises StartError for a command that answers nothing, UserError if it cannot run."""
        request = {"id": case.id, "input": case.input, "repeat": repeat, "deadline_s": deadline_s}
        line = json.dumps(request).encode() + b"\n"
        async with self._room:
            process = self._take() or await self._start()
            tell(1)
            answer = await process.ask(case.id, line, deadline_s)
            if answer.fault and answer.fault.kind != "hang" and process.answered:
                harmless = process.left_in_order
                process = await self._start()
                tell(1)
                answer = await process.ask(case.id, line, deadline_s)
                self._recovered += not (answer.fault or harmless)
            if answer.fault:
                self._count(answer.fault)
            else:
                self._answered = True
                self._idle.append(process)
        return parse_reply(case, repeat, _checked(answer))

    async def close(self) -> None:
        """Kill what runs, with everything it started, and wait for it."""
        for process in self._processes:
            process.kill(STOPPED)
        for process in self._processes:
            await process.gone.wait()
        self.log.close()

    def notes(self) -> list[str]:
        """What a summary should add."""
        recovered = (
            f"The command's process failed {self._recovered} cases that a fresh one answered when they were "
            "asked again."
        )
        unasked = (
            f"The command wrote to its standard output {self.unasked} times when nobody had asked, and was "
            "started anew each time: only one line for each request belongs there."
        )
        return [recovered] * (self._recovered > 0) + [unasked] * (self.unasked > 0)

    def _take(self) -> _Process | None:
        """A process that waits for a request and has nothing else to say."""
        while self._idle:
            process = self._idle.pop()
            if process.is_quiet():
                return process
        return None

    async def _start(self) -> _Process:
        if self._failed:
            raise self._failed
        self._processes = {process for process in self._processes if not process.gone.is_set()}
        try:
            _, process = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Process(self),
                *(self._program, *self.words[1:]),
                cwd=self.cwd,
                env=self.environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._failed = _cannot_start(self.words[0], error)
            raise self._failed from None
        self._processes.add(process)
        return process

    def _count(self, fault: Fault) -> None:
        """Give up where no case was ever answered: 2,000 would fail alike, and it is hardly their fault."""
        self._failures += 1
        if self._failed:
            raise self._failed
        if self._answered or self._failures < HOPELESS_AFTER:
            return
        # What the agent wrote stands in a message behind a colon or on lines of its own: it may be a secret.
        ours = fault.message.partition("\n")[0].partition(":")[0]
        self._failed = StartError(
            f"{plain(self.words[0], SHOWN)} answered none of the first {self._failures} cases, so no other "
            f"is asked. The last one: {fault.kind}, {ours}. A reply is one line of "
            "JSON on its standard output, flushed at once; anything else belongs on standard error. What it "
            f"printed is in {self.log.path}."
        )
        raise self._failed


class _Process(asyncio.SubprocessProtocol):
    """One process of the command; every method runs in the event loop."""

    def __init__(self, pool: CommandPool) -> None:
        self.pool = pool
        self.answered = 0
        self.gone = asyncio.Event()
        self._reply: asyncio.Future[bytes | Fault] | None = None
        self._buffer = bytearray()
        self._printed = b""
        self._why: Fault | None = None
        self._deaf = self._eof = self._exited = self._ending = False

    # What the pool calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        self._stdout = self._transport.get_pipe_transport(1)

    def is_quiet(self) -> bool:
        """Whether the next line that comes answers the next request: it lives, and its pipe is empty."""
        if self._why or self._deaf or self._eof or self._exited or self._stdout is None:
            return False
        waiting = select.poll()
        waiting.register(self._stdout.get_extra_info("pipe"), select.POLLIN)
        return not waiting.poll(0)

    @property
    def left_in_order(self) -> bool:
        """Whether it ended by itself without a fault between two requests."""
        return self._exited and self._why is None and self._transport.get_returncode() == 0

    async def ask(self, id_: str, request: bytes, deadline_s: float) -> Answer:
        """The reply to one request, or why there is none; then the process is gone or on its way."""
        self._reply = reply = asyncio.get_running_loop().create_future()
        started = perf_counter()
        got: bytes | Fault = Fault("agent", "hang", f"no answer within {deadline_s:g} s")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    self._send(request)
                    got = await reply
        except BaseException:
            self.kill(STOPPED)
            raise
        finally:
            self._reply = None
        if isinstance(got, Fault) and got.kind == "hang" and not self.pool.heard:
            told = "Nothing has come on its standard output yet: is each line flushed?"
            got = Fault("agent", "hang", f"{got.message}. {told}")
        answer = _answer_of(got, id_, min(perf_counter() - started, deadline_s))
        if answer.fault and isinstance(got, bytes):
            self.pool.log.write(got[:TAIL_BYTES] + b"\n")
        if answer.fault:
            self.kill(answer.fault)
        else:
            self.answered += 1
        return answer

    def _send(self, request: bytes) -> None:
        if self.gone.is_set():
            self._settle(self._fault())
        elif self._deaf:
            self._end_soon(DEAF)
        else:
            self._stdin.write(request)

    def kill(self, why: Fault) -> None:
        """End the process with everything it started."""
        if not self.gone.is_set():
            self._why = self._why or why
            self._sweep()

    def _sweep(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
        if not self._exited:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # should it have left its group

    # What the process does

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Replies on 1, prints on 2."""
        if fd == 2:  # noqa: PLR2004 standard error
            self._printed = (self._printed + data[-TAIL_BYTES:])[-TAIL_BYTES:]
            self.pool.log.write(data)
            return
        self.pool.heard = True
        if self._why:
            return
        self._buffer += data
        if self._reply is None or self._reply.done():
            self._blurted()
        elif b"\n" in data:
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer.clear()
            self._settle(TOO_LARGE if len(line) > MAX_REPLY else line)
            if rest:
                self._blurted()
        elif len(self._buffer) > MAX_REPLY:
            self._settle(TOO_LARGE)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The process closed a channel, or ended."""
        if fd == 0:
            self._deaf = True
            # It did not read all of the request, or perhaps none: it may have closed after its last answer.
            if exc or (self.answered and self._reply):
                self._end_soon(DEAF)
        elif fd == 1:
            self._eof = True
            self._end_soon(MUTE)
            self._end()

    def process_exited(self) -> None:
        """The process ended; what it had written may still be in the pipe."""
        self._exited = True
        self._sweep()  # what it started and left behind
        self._end()
        asyncio.get_running_loop().call_later(EXIT_S, self._end, True)

    def _end_soon(self, why: Fault) -> None:
        """Kill it unless it ends by itself at once, as a process does that has closed its channels."""

        def end() -> None:
            if not self._exited:
                self.kill(why)

        asyncio.get_running_loop().call_later(EXIT_S, end)

    def _end(self, now: bool = False) -> None:
        if not self._ending and self._exited and (self._eof or now):
            self._ending = True
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._report)

    def _report(self) -> None:
        self._settle(self._fault())
        self._transport.close()
        self.gone.set()

    def _fault(self) -> Fault:
        ended = how_it_ended(self._transport.get_returncode())
        return self._why or Fault("agent", "crash", f"{ended}\n{last_lines(self._printed, 5)}".rstrip())

    def _settle(self, reply: bytes | Fault) -> None:
        if self._reply and not self._reply.done():
            self._reply.set_result(reply)

    def _blurted(self) -> None:
        self.pool.unasked += 1
        self.kill(Fault("agent", "garbage", "it wrote to its standard output before it was asked"))


STOPPED = Fault("agent", "crash", "the run was stopped")
DEAF = Fault("agent", "crash", "the agent's process closed its standard input and did not read the request")
MUTE = Fault("agent", "crash", "the agent's process closed its standard output and did not answer")
TOO_LARGE = Fault("agent", "too large", f"the reply has more than {MAX_REPLY} bytes")


def _answer_of(got: bytes | Fault, id_: str, seconds: float) -> Answer:
    """What a line or its absence answers: the reply without its id, or a fault where it is none to `id_`."""
    try:
        return Answer(None, seconds, got) if isinstance(got, Fault) else Answer(parse_line(got, id_), seconds)
    except MalformedError as error:
        return Answer(None, seconds, Fault("agent", "garbage", str(error)))


def parse_line(line: bytes, id_: str) -> dict[str, Any]:
    """The reply in a line without its id; raises MalformedError for what answers no request with that id."""
    shown = plain(line[: 4 * SHOWN].decode(errors="replace"), SHOWN)
    data, why = None, ""
    try:
        data = parse_json(line.decode("utf-8-sig"))
    except RefusedError as error:
        why = "" if error.message.startswith("not JSON") else plain(error.message, SHOWN) + " In "
    except UnicodeDecodeError:
        pass
    if not isinstance(data, dict):
        raise MalformedError(f"it wrote a line that is no JSON object: {why}{shown}")
    if data.pop("id", None) != id_:
        raise MalformedError(f'the "id" of its reply is not that of the request: {shown}')
    return data


def _checked(answer: Answer) -> Answer:
    """The answer with a reply that has the protocol's keys and no other, or with the fault."""
    if answer.fault:
        return answer
    if unknown := sorted(answer.value.keys() - REPLY_KEYS):
        near = get_close_matches(unknown[0][:SHOWN], sorted(REPLY_KEYS), 1)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        message = f'the reply has a key that the protocol does not know: "{plain(unknown[0], SHOWN)}"{meant}'
    elif "output" not in answer.value and answer.value.get("error") is None:
        message = 'the reply has neither "output" nor "error"'
    else:
        return answer._replace(value={"output": None} | answer.value)
    return answer._replace(value=None, fault=Fault("agent", "garbage", message))


def find_program(word: str, environ: Mapping[str, str], cwd: Path) -> str:
    """The program that a command's first word names; a word with a slash is a path, as in a shell.

    Raises UserError where there is none.
    """
    shown = plain(word, SHOWN)
    path = os.path.join(cwd, word)  # noqa: PTH118 pathlib drops a leading "./"
    found = which(path) if "/" in word else which(word, path=environ.get("PATH", os.defpath))
    if found:
        return os.path.abspath(found)  # noqa: PTH100 resolve() follows the links of a virtual environment
    if "/" not in word:
        repair = "Install it, or give its path (a path has a slash: ./NAME)."
        raise UserError(Problem(f'entrypoint.command: no program "{shown}" is on PATH.', repair=repair))
    if Path(path).is_file():
        repair = f"`chmod +x {shown}` makes it one; or name what runs it first, such as `node {shown}`."
        raise UserError(Problem(f"entrypoint.command: {shown} is not executable.", repair=repair))
    repair = "A path is relative to the repository's root."
    raise UserError(Problem(f"entrypoint.command: there is no program {shown}.", repair=repair))


def _cannot_start(word: str, error: OSError | ValueError) -> GatehouseError:
    """What the error of a start means; ValueError is for a word with a null character."""
    number, why = (error.errno, error.strerror) if isinstance(error, OSError) else (None, str(error))
    message = f"entrypoint.command: {plain(word, SHOWN)} cannot be started: {why}."
    if number in LIMITS:
        return InfrastructureError(f"{message} Lower --concurrency.")
    repair = "A script needs a first line such as `#!/usr/bin/env node` whose program exists."
    return UserError(Problem(message, repair=repair))
