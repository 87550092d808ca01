"""A package index: what it holds of a version, what follows from that, and how one waits until it shows it.

Read by the simple API in JSON (PEP 691), which is what installers go by. Uploads are twine's.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Literal

from packaging.utils import canonicalize_name

from gatehouse.errors import Decision, Exit, GatehouseError, InfrastructureError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

    from gatehouse.release.dist import Build, File

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"

_TIMEOUT = (10, 30)
"""Seconds to connect, and between two bytes of a reply."""

_READ_BUDGET = 60.0
"""Seconds that one look at an index may take, with everything that fails in between."""

_OK, _NOT_FOUND, _TOO_MANY = 200, 404, 429


class PublishRefusedError(GatehouseError):
    """What was built must not be published (exit 1): it was measured, and nothing was uploaded for it."""

    code = Exit.FAIL


class IndexUnreachableError(InfrastructureError):
    """The index gave no usable answer within the time it had."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its names for twine and for users, its address, its secret and environment by default."""

    name: Literal["pypi", "testpypi"]
    title: str
    url: str
    secret: str
    environment: str

    def page(self, build: Build) -> str:
        """The page of the version in a browser."""
        return f"{self.url}/project/{canonicalize_name(build.name)}/{build.version}/"


TESTPYPI = Index("testpypi", "TestPyPI", "https://test.pypi.org", "TEST_PYPI_TOKEN", "staging")
PYPI = Index("pypi", "PyPI", "https://pypi.org", "PYPI_TOKEN", "release")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a build stands on an index, the files that it still lacks, and that in words."""

    state: Literal["absent", "partial", "present", "conflict"]
    missing: tuple[File, ...]
    reason: str


def standing(build: Build, index: Index, shown: Mapping[str, str]) -> Standing:
    """How a build stands on an index that shows these files of its project, SHA-256 by name."""
    what = f"{build.name} {build.version}"
    other = [file for file in build.files if shown.get(file.name, file.sha256) != file.sha256]
    missing = tuple(file for file in build.files if file.name not in shown)
    if other:
        told = "\n".join(f"    {file.name}: {shown[file.name]}, built was {file.sha256}" for file in other)
        return Standing("conflict", missing, f"{index.title} holds other bytes under these names:\n{told}")
    if not missing:
        return Standing(
            "present", (), f"{index.title} holds {what} already, with the digests that were built."
        )
    names = ", ".join(file.name for file in missing)
    if len(missing) == len(build.files):
        return Standing("absent", missing, f"{index.title} does not hold {what}: uploading {names}.")
    return Standing("partial", missing, f"{index.title} holds a part of {what}: uploading {names}.")


def publishable(build: Build, *, pre_release: bool, evidence: Decision) -> Decision:
    """Whether PyPI may get a build, from what was recorded when it was built; the reason names every fault.

    `pre_release` says that pre-releases are wanted; `evidence` is what the verdicts of its agents say.
    """
    faults = []
    if not build.on_main:
        faults.append(
            f"Commit {build.commit[:12]} is not in the main branch: merge the release's pull request, and "
            "publish what is built from the tag there."
        )
    if build.tag is None:
        faults.append(
            f"It was built from {plain(build.ref, 200)}, not from the tag of version {build.version}."
        )
    if build.prerelease and not pre_release:
        faults.append(
            f"{build.version} is a pre-release: where that is meant, give --pre-release "
            "(the action's input pre-release: true)."
        )
    if not evidence.passed:
        faults.append(f"Its agents have no passing verdict: {evidence.reason}")
    what = f"{build.name} {build.version}"
    if faults:
        return Decision(passed=False, reason=f"{what} is not published.\n" + "\n".join(faults))
    return Decision(
        passed=True, reason=f"{what} may be published: main holds {build.commit[:12]}; {evidence.reason}."
    )


def pauses() -> Iterator[float]:
    """Seconds between one look and the next: growing, then steady."""
    return chain((0.5, 1.0, 2.0, 4.0, 8.0), repeat(15.0))


@dataclass
class IndexClient:
    """Reads an index. `sleep` and `clock` are the time's, in seconds."""

    index: Index
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def shown(self, project: str) -> dict[str, str]:
        """SHA-256 of each file that the index shows of a project, by name; empty where it knows none.

        Faults of the network and of the server are met with patience; raises IndexUnreachableError after it.
        """
        files, fault = self._look_until(lambda _files: True, project, _READ_BUDGET)
        if files is None:
            raise IndexUnreachableError(
                f"{self.index.title} gives no usable answer: {fault}. Run this again later."
            )
        return files

    def wait_until_shown(self, build: Build, budget: float) -> None:
        """Wait, at most `budget` seconds, until the index shows every file with the digest that was built.

        Raises PublishRefusedError for other bytes, IndexUnreachableError where it shows too little.
        """

        def whole(files: Mapping[str, str]) -> bool:
            seen = standing(build, self.index, files)
            require_no_conflict(seen)
            return not seen.missing

        files, fault = self._look_until(whole, build.name, budget)
        if missing := standing(build, self.index, files or {}).missing:
            names = ", ".join(file.name for file in missing)
            raise IndexUnreachableError(
                f"{self.index.title} took the files, but after {budget:.0f} s it does not show {names}"
                f"{': ' if fault else ''}{fault}.\n"
                "Run this again: what is there already is not uploaded twice."
            )

    def _look_until(
        self, enough: Callable[[Mapping[str, str]], bool], project: str, budget: float
    ) -> tuple[dict[str, str] | None, str]:
        """What was shown last, None for never, and what was wrong with the last look; `budget` is seconds."""
        deadline, shown, fault = self.clock() + budget, None, ""
        for pause in pauses():
            files, fault, wait = self._look(project)
            shown = shown if files is None else files
            left = deadline - self.clock()
            if (files is not None and enough(files)) or left <= 0:
                break
            self.sleep(min(max(pause, wait), left))
        return shown, fault

    def _look(self, project: str) -> tuple[dict[str, str] | None, str, float]:
        """The files that are shown; or None, what was wrong, and the seconds that the index asks for.

        Raises IndexUnreachableError for a refusal, which patience does not mend.
        """
        import requests  # noqa: PLC0415 heavy

        url = f"{self.index.url}/simple/{canonicalize_name(project)}/"
        try:
            with requests.Session() as session:
                # Nobody's ~/.netrc: the page is everybody's.
                session.auth = _unsigned
                headers = {"Accept": SIMPLE_JSON, "User-Agent": "gatehouse"}
                reply = session.get(url, headers=headers, timeout=_TIMEOUT)
        except (requests.RequestException, OSError) as error:
            return None, f"{type(error).__name__} at {url}", 0.0
        if reply.status_code == _NOT_FOUND:
            return {}, "", 0.0
        if reply.status_code == _OK:
            files = files_of(reply)
            return (
                files,
                "" if files is not None else f"{url} answers with something else than a list of files",
                0.0,
            )
        said = f"{url} answers {reply.status_code} {plain(reply.reason or '', 200)}".rstrip()
        if reply.status_code == _TOO_MANY or reply.status_code >= 500:  # noqa: PLR2004 server errors
            after = reply.headers.get("retry-after", "")
            return None, said, float(after) if re.fullmatch(r"[0-9]{1,6}", after) else 0.0
        raise IndexUnreachableError(f"{said}. Is a proxy between this machine and {self.index.title}?")


def require_no_conflict(seen: Standing) -> None:
    """Raise PublishRefusedError where an index holds other bytes."""
    if seen.state == "conflict":
        raise PublishRefusedError(f"{seen.reason}\n{CONFLICT}")


CONFLICT = """\
An index never takes other bytes under a name that was used, not even after a deletion. A second build gives
other bytes where its backend or a plugin of it has moved on since: run the failed jobs again instead of all
jobs, so that what was built first is published; where that is too late, release a new version. Exact versions
in [build-system] requires ("setuptools==80.9.0") keep the bytes the same."""


def files_of(reply: Any) -> dict[str, str] | None:
    """SHA-256 by file name from a reply of the simple API; None for what is no such reply."""
    try:
        return {str(file["filename"]): str(file["hashes"]["sha256"]) for file in reply.json()["files"]}
    except (ValueError, KeyError, TypeError):
        return None


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
