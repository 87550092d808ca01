"""Every fault that can befall a command outside, one at a time, and whether a second run makes good.

`play_faults` is given how to make a world (the stand-ins, and the command that acts on them) and how to
describe its end state. It plays the command undisturbed and learns from the stand-ins what it did outside.
Then, in a fresh world each time, it kills the command after each effect, and loses the reply to each request,
and runs it again: it has to end as the undisturbed one. Nobody lists the effects, so a new one is covered.
"""

from __future__ import annotations

import difflib
import os
import pprint
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

TIMEOUT = 120
"""Seconds that one run of a command may take."""

BYTECODE = Path(tempfile.gettempdir(), f"gatehouse-faults-bytecode-{os.getuid()}")
"""Compiled modules: hundreds of starts share them, wherever the machine would not write any."""


class StandIn(Protocol):
    """What a stand-in tells of the outside effects and requests that it has seen (see rehearse/)."""

    effects: list[str]
    on_effect: Callable[[str], None] | None

    @property
    def calls(self) -> Sequence[Any]:
        """Every request, in order."""

    def lose(self, n: int) -> None:
        """Lose the reply to the n-th request from now, counted from 1."""


@dataclass(frozen=True)
class World:
    """A command and what it acts on; `env` comes over a bare environment, `argv` follows `program`."""

    argv: Sequence[str]
    cwd: Path
    stand_ins: Sequence[StandIn]
    env: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = (sys.executable, "-m", "gatehouse")
    extra: Any = None
    """Whatever `describe` needs besides."""


@dataclass(frozen=True)
class Ended:
    """How one run of a command ended; a negative code is the signal that killed it."""

    code: int
    output: str


@dataclass(frozen=True)
class Played:
    """What the undisturbed run did outside: its effects in order, and the requests to each stand-in."""

    effects: list[str]
    calls: list[int]
    state: Any
    output: str


@dataclass(frozen=True)
class Fault:
    """Kill after effect `number` of all, or lose the reply to request `number` of stand-in `stand_in`."""

    kind: str
    number: int
    stand_in: int = 0

    def __str__(self) -> str:
        where = f" to stand-in {self.stand_in}" if self.kind == "lose" else ""
        return f"{self.kind} {self.number}{where}"


def play_faults(
    make: Callable[[Path], AbstractContextManager[World]],
    describe: Callable[[World], Any],
    folder: Path,
    *,
    prepared: Path | None = None,
    code: int = 0,
    at_once: int = 4,
) -> Played:
    """Play every fault; raises AssertionError with all that did not end as the undisturbed run.

    `make` is given an empty folder of its own, or a copy of `prepared`, and yields a world whose preparation
    is done. `describe` returns plain values without times, hashes and other chance. `code` is how the command
    has to end when nothing disturbs it, and when it is run again. `at_once` worlds are played at a time.
    """
    played = _undisturbed(make, describe, _copy(folder / "undisturbed", prepared), code)
    faults = [Fault("kill", number) for number in range(1, len(played.effects) + 1)]
    faults += [
        Fault("lose", number, stand_in)
        for stand_in, count in enumerate(played.calls)
        for number in range(1, count + 1)
    ]

    def one(fault: Fault) -> str:
        place = _copy(folder / str(fault).replace(" ", "-"), prepared)
        try:
            with make(place) as world:
                _play(world, fault, describe, played, code)
        except AssertionError as error:
            return f"{fault}{_named(fault, played)}: {error}"
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        failures = list(filter(None, pool.map(one, faults)))
    assert not failures, f"{len(failures)} of {len(faults)} faults\n\n" + "\n\n".join(failures)
    return played


def run(world: World, *, on_start: Callable[[subprocess.Popen[str]], None] | None = None) -> Ended:
    """Run the world's command once, in a process group of its own; raises AssertionError for a traceback."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            [*world.program, *world.argv],
            cwd=world.cwd,
            env=_environment(world),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        try:
            if on_start:
                on_start(process)
            code = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {TIMEOUT} s") from None
        finally:
            kill(process)
            process.wait()
        output.seek(0)
        text = output.read()
    assert "Traceback" not in text, text
    return Ended(code, text)


def kill(process: subprocess.Popen[str]) -> None:
    """End a command with everything that it started, without a chance to clean up."""
    with suppress(ProcessLookupError, PermissionError):  # gone already (macOS says so with EPERM)
        os.killpg(process.pid, signal.SIGKILL)


def _undisturbed(
    make: Callable[[Path], AbstractContextManager[World]],
    describe: Callable[[World], Any],
    place: Path,
    code: int,
) -> Played:
    with make(place) as world:
        seen = _watch(world)
        before = _counts(world)
        ended = run(world)
        assert ended.code == code, f"undisturbed: exit code {ended.code}\n{ended.output}"
        calls = [after - start for after, start in zip(_counts(world), before, strict=True)]
        effects = list(seen)
        assert effects, f"no outside effect: there is nothing to disturb\n{ended.output}"
        state = deepcopy(describe(world))  # it may be the stand-in's own memory
        again = run(world)
        assert again.code == code, f"a second run: exit code {again.code}\n{again.output}"
        _compare(state, describe(world), "a second run", again.output)
    return Played(effects, calls, state, ended.output)


def _play(world: World, fault: Fault, describe: Callable[[World], Any], played: Played, code: int) -> None:
    if fault.kind == "kill":
        first = _killed(world, fault.number)
    else:
        before = _counts(world)[fault.stand_in]
        world.stand_ins[fault.stand_in].lose(fault.number)
        first = run(world)
        assert _counts(world)[fault.stand_in] - before >= fault.number, "it was never asked that often"
        assert first.code in {code, 0, 2, 3}, f"the disturbed run: exit code {first.code}\n{first.output}"
    again = run(world)
    story = f"{first.output}\n-- again: exit code {again.code}\n{again.output}"
    assert again.code == code, f"the second run: exit code {again.code}\n{story}"
    _compare(played.state, describe(world), "the second run", story)


def _killed(world: World, number: int) -> Ended:
    """Run the command and kill it the moment its effect `number` has taken place, before it is told so."""
    started = threading.Event()
    running: list[subprocess.Popen[str]] = []

    def now() -> None:
        if len(seen) == number and started.wait(TIMEOUT):
            kill(running[0])

    seen = _watch(world, now)

    def start(process: subprocess.Popen[str]) -> None:
        running.append(process)
        started.set()

    ended = run(world, on_start=start)
    assert ended.code == -signal.SIGKILL, f"not killed: exit code {ended.code}\n{ended.output}"
    _watch(world)
    return ended


def _watch(world: World, then: Callable[[], object] = lambda: None) -> list[str]:
    """The effects from now on, of all stand-ins in their order; after each, `then` is called."""
    seen: list[str] = []
    lock = threading.Lock()

    def note(effect: str) -> None:
        with lock:
            seen.append(effect)
            then()

    for stand_in in world.stand_ins:
        stand_in.on_effect = note
    return seen


def _counts(world: World) -> list[int]:
    return [len(stand_in.calls) for stand_in in world.stand_ins]


def _compare(wanted: Any, found: Any, when: str, output: str) -> None:
    if wanted != found:
        one, other = (pprint.pformat(state, width=110).splitlines() for state in (wanted, found))
        lines = difflib.unified_diff(one, other, "undisturbed", when, lineterm="", n=1)
        difference = "\n".join(lines)
        raise AssertionError(f"{when} ends elsewhere:\n{difference}\n{output}")


def _named(fault: Fault, played: Played) -> str:
    return f" ({played.effects[fault.number - 1]})" if fault.kind == "kill" else ""


def _copy(place: Path, prepared: Path | None) -> Path:
    if prepared:
        shutil.copytree(prepared, place, symlinks=True)
    else:
        place.mkdir(parents=True)
    return place


def _environment(world: World) -> dict[str, str]:
    """A bare environment: nothing of this machine's GitHub, git or pip, and no way to the network."""
    home = world.cwd.parent / "home"
    home.mkdir(exist_ok=True)
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPYCACHEPREFIX": str(BYTECODE),
        "HTTPS_PROXY": nowhere,
        "https_proxy": nowhere,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **world.env,
    }
