"""A published package, installed as a stranger would: what it needs, how pip is called, what pip said.

The dependencies come from PyPI alone; then exactly the built wheel comes from the index that was published
to, by its hash and without dependencies. One call with both indexes would take a dependency of the same name
and a higher version from TestPyPI, where anybody may upload it.
"""

from __future__ import annotations

import configparser
import os
import re
import signal
import subprocess
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from gatehouse.errors import Problem, UserError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatehouse.release.dist import Build

INDEXES = {"testpypi": "https://test.pypi.org/simple/", "pypi": "https://pypi.org/simple/"}
"""The simple API of each index (PEP 503)."""

TITLES = {"testpypi": "TestPyPI", "pypi": "PyPI"}

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/homebrew/bin"
"""Where programs lie that are not of the job: nothing of setup-python, uv or an earlier step."""

_NETWORK = tuple(
    spelled
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for spelled in (name, name.lower())
)
_BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""The variables that name a file of certificates, as pip goes by them: the first that is set counts."""

# A Python of actions/setup-python may find its own library only by LD_LIBRARY_PATH.
_KEPT = (*_NETWORK, *_BUNDLES, "SSL_CERT_DIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")

TIMED_OUT = 124
"""The exit code of a command that was ended for its time, as `timeout` has it."""

_MEMBER_LIMIT = 2**20
"""Bytes of a file of metadata in a wheel."""

_OUTPUT_LIMIT = 2**20
"""Bytes of a command's output that are kept, the last ones."""

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two looks at an index."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """What a wheel says of itself: its requirements (PEP 508), its Pythons, its console scripts."""

    requires: tuple[str, ...]
    requires_python: str
    scripts: tuple[str, ...]


def read_wheel(path: Path) -> Wheel:
    """The metadata of a built wheel; raises UserError where an index or pip would not take it."""
    try:
        with zipfile.ZipFile(path) as wheel:
            metadata = _member(wheel, "METADATA")
            scripts = _console_scripts(_member(wheel, "entry_points.txt", default=b"").decode())
        raw, _ = parse_email(metadata)
    except (zipfile.BadZipFile, ValueError, LookupError, configparser.Error, OSError, RuntimeError) as error:
        raise UserError(Problem(f"not a wheel that pip installs: {error}", path=str(path))) from None
    requires, wrong = [], []
    for text in raw.get("requires_dist", []):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            wrong.append(f"it requires {plain(text, 200)!r}, which is no requirement (PEP 508)")
            continue
        if requirement.url:
            wrong.append(f"it requires {plain(text, 200)!r}: an index takes no direct references")
        requires.append(str(requirement))  # on one line, in canonical form: never an option of pip
    if wrong:
        raise UserError(*(Problem(message, path=str(path)) for message in wrong))
    return Wheel(tuple(requires), raw.get("requires_python", ""), scripts)


def _member(wheel: zipfile.ZipFile, name: str, default: bytes | None = None) -> bytes:
    found = [one for one in wheel.infolist() if re.fullmatch(rf"[^/]+\.dist-info/{name}", one.filename)]
    if not found and default is not None:
        return default
    if len(found) != 1 or found[0].file_size > _MEMBER_LIMIT:
        raise LookupError(f"{len(found)} files named {name}, or one that is too large")
    return wheel.read(found[0])


def _console_scripts(text: str) -> tuple[str, ...]:
    """The names of the scripts that need no extra (entry points specification of PyPA)."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
    parser.read_string(text)
    scripts = dict(parser["console_scripts"]) if parser.has_section("console_scripts") else {}
    # pip writes a script of this name into the environment's bin: a path is none.
    named = {name: target for name, target in scripts.items() if re.fullmatch(r"[\w.-]+", name)}
    return tuple(sorted(name for name, target in named.items() if "[" not in target))


def fits(wheel: Wheel, python: str, build: Build) -> Problem | None:
    """Why the package is not for a Python of version `python` ("3.12.1"); None where it is."""
    try:
        allowed = SpecifierSet(wheel.requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        shown = plain(wheel.requires_python, 80)
        return Problem(f"{build.name} {build.version} has an invalid Requires-Python: {shown!r}")
    if allowed:
        return None
    says = f"{build.name} {build.version} is for Python {plain(wheel.requires_python, 80)}"
    return Problem(f"{says}, and --python is {python}.", repair="Take that Python out of the matrix.")


def pinned(build: Build) -> str:
    """The one line of a requirements file that only the built files satisfy."""
    hashes = " ".join(f"--hash=sha256:{file.sha256}" for file in build.files)
    return f"{build.name}=={build.version} {hashes}\n"


def dependencies(wheel: Wheel) -> str:
    """The requirements file of what the wheel needs; pip leaves out what a marker or an extra excludes."""
    return "".join(f"{requirement}\n" for requirement in wheel.requires)


def pip_install(python: Path, requirements: Path, index: str, environ: Mapping[str, str]) -> list[str]:
    """The command line of pip for a requirements file and one index, without any setting of the machine's.

    Without -I a file in the working directory could stand in for a module; without --isolated PIP_FIND_LINKS
    or PIP_EXTRA_INDEX_URL could satisfy what the index lacks.
    """
    command = [str(python), "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
    bundle = next((environ[name] for name in _BUNDLES if environ.get(name)), "")
    command += ["--cert", bundle] if bundle else []
    command += ["install", "--no-cache-dir", "--retries", "1"]  # who waits for an index says why
    return [*command, "--index-url", index, "--requirement", str(requirements)]


EXACTLY = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--force-reinstall")
"""What `pip_install` needs besides for the package itself: these bytes and nothing else, even where a
dependency brought some version of it along. Only wheels: to build an sdist, pip would ask the same index for
the build's own requirements."""


def environment(environ: Mapping[str, str], home: Path, venv: Path | None = None) -> dict[str, str]:
    """A clean environment: no token, no PYTHONPATH, no setting of pip's; the way to the network is kept.

    `home` is an empty folder for HOME and temporary files; the programs of `venv` come first.
    """
    kept = {name: environ[name] for name in _KEPT if environ.get(name)}
    path = f"{venv / 'bin'}:{SYSTEM_PATH}" if venv else SYSTEM_PATH
    clean = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "PIP_CONFIG_FILE": os.devnull}
    return kept | clean | ({"VIRTUAL_ENV": str(venv)} if venv else {})


def is_version(said: str, version: str) -> bool:
    """Whether what an installed package says is this version, however a build tool has spelled it."""
    try:
        return Version(said.strip()) == Version(version)
    except InvalidVersion:
        return False


class Cause(StrEnum):
    """Why pip did not install what it was asked for."""

    OTHER_BYTES = "the index holds other bytes than were built"
    NETWORK = "the index or the network failed"
    ABSENT = "the index does not show it yet"
    PACKAGE = "it cannot be installed"


_OTHER_BYTES = re.compile(r"DO NOT MATCH THE HASHES")
_UNREACHABLE = re.compile(
    r"Could not fetch URL \S+: (?!404 Client Error)"
    r"|Max retries exceeded|HTTPS?ConnectionPool|Connection (?:broken|reset|aborted|refused)"
    r"|ReadTimeout|Read timed out|IncompleteRead|ProxyError|SSLError|HTTP error \d|\b5\d\d Server Error"
)
_ABSENT = re.compile(r"No matching distribution found|Could not find a version that satisfies")


def cause_of(log: str) -> Cause:
    """Why pip failed, by its log; what it prints says of a server in trouble only that nothing was found."""
    if _OTHER_BYTES.search(log):
        return Cause.OTHER_BYTES
    if _UNREACHABLE.search(log):
        return Cause.NETWORK
    return Cause.ABSENT if _ABSENT.search(log) else Cause.PACKAGE


def pause_before(attempt: int, left: float) -> float | None:
    """Seconds to wait before attempt 2, 3, ...: twice the last, 30 at most; None where the wait is over.

    `left` is what is left of the budget, in seconds.
    """
    if left <= 0:
        return None
    return min(_FIRST_PAUSE * 2.0 ** min(attempt - 2, 10), _LONGEST_PAUSE, left)


@dataclass(frozen=True, slots=True)
class Step:
    """One command that was run: its exit code, its time in seconds, the end of its output."""

    command: str
    code: int
    seconds: float
    output: str

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.code == 0


def run(title: str, command: Sequence[str], cwd: Path, environ: Mapping[str, str], limit: float) -> Step:
    """Run a command to its end, or for `limit` seconds; what it left running in its session is ended too.

    The output goes through a file: a process in the background may hold a pipe open for ever.
    """
    started = monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Step(title, 127, monotonic() - started, f"It could not be started: {error.strerror}")
        note = ""
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code, note = TIMED_OUT, f"\nEnded: it took more than {limit:g} s."
        finally:
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of the dead
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _OUTPUT_LIMIT))
        return Step(title, code, monotonic() - started, output.read().decode(errors="replace") + note)
