"""What publishing to TestPyPI and to PyPI share: twine as a process, and the index asked before and after."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.errors import InfrastructureError, UserError
from gatehouse.github.escape import markdown_inline, plain
from gatehouse.github.runner import append_summary, say, set_outputs
from gatehouse.release.index import (
    CONFLICT,
    IndexClient,
    PublishRefusedError,
    require_no_conflict,
    standing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatehouse.release.dist import Build, File
    from gatehouse.release.index import Index

_UPLOAD_S = 600
"""Seconds for one call of twine, which has no time limit of its own."""

_PAUSES = (1.0, 5.0, 15.0)
"""Seconds before each further call; twine itself repeats a 5xx five times at once."""

_JOB = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
"""The variables by which a job with `id-token: write` asks GitHub for an id token."""

_LINES = 60
"""Lines of a program's output that are shown."""


_folder = partial(
    click.option, type=click.Path(file_okay=False, path_type=Path), show_default=True, metavar="FOLDER"
)
dist_option = _folder("--dist", default="dist", help="What `gatehouse build` made: build.json and its files.")
evidence_option = _folder(
    "--evidence",
    default="evidence",
    help="What `gatehouse evidence` wrote: the verdicts of the agents that the build carries.",
)
digests_option = click.option(
    "--digests",
    default="",
    metavar="JSON",
    help="The build's output `digests`: what --dist must hold. Without it, build.json is believed.",
)


def publish_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands: dist, digests, attestations, wait."""
    for option in (
        click.option(
            "--wait",
            type=click.IntRange(0, 3600),
            default=150,
            show_default=True,
            metavar="SECONDS",
            help="How long the index may take to show the files.",
        ),
        click.option(
            "--attestations",
            is_flag=True,
            help="Sign the files by the job's id token and upload that too (needs pypi-attestations).",
        ),
        digests_option,
        dist_option,
    ):
        function = option(function)
    return function


def publish(index: Index, build: Build, folder: Path, *, attestations: bool, wait: float) -> None:
    """Bring the index to hold every file of a build, whatever it holds of it already, and tell the outputs.

    Raises PublishRefusedError where it holds other bytes, UserError where the job may not upload or the files
    are not taken, InfrastructureError where the index fails or does not show the files within `wait` seconds.
    """
    client = IndexClient(index)
    before = standing(build, index, client.shown(build.name))
    require_no_conflict(before)
    say(before.reason)
    if before.missing:
        _upload(client, build, folder, before.missing, attestations=attestations)
        client.wait_until_shown(build, wait)
        say(f"{index.title} shows every file with the digest that was built: {index.page(build)}")
    state = {"absent": "uploaded", "partial": "completed"}.get(before.state, "present")
    set_outputs({"state": state, "version": build.version, "url": index.page(build)})
    what = markdown_inline(f"{build.name} {build.version}", 200)
    append_summary(f"{what} is on [{index.title}]({index.page(build)}) ({state}).")


# Uploading.


def _upload(
    client: IndexClient, build: Build, folder: Path, missing: Sequence[File], *, attestations: bool
) -> None:
    """Upload the missing files; after a failure the index says what it has, and only the rest goes again."""
    index = client.index
    credentials = Credentials.of(index, build, os.environ, attestations=attestations)
    options = [*_OPTIONS, *(["--attestations"] if attestations else [])]
    with _signed(folder, missing, credentials) if attestations else _as_built(folder, missing) as place:
        for pause in (*_PAUSES, None):
            files = [path for file in missing for path in _with_attestation(place / file.name)]
            code, output = _run("twine", ["upload", "-r", index.name, *options, *files], credentials)
            if code == 0:
                return
            seen = standing(build, index, client.shown(build.name))
            require_no_conflict(seen)
            if not seen.missing:
                say("The upload's reply was lost, but the files are there.")
                return
            _give_up_or_wait(index, build, output, pause)
            missing = seen.missing


_OPTIONS = ("--non-interactive", "--disable-progress-bar", "--config-file", os.devnull)


def _give_up_or_wait(index: Index, build: Build, output: str, pause: float | None) -> None:
    """Sleep before the next call of twine; raises the error that says why there is none."""
    why = failure_of(output)
    if why is Failure.TAKEN:
        raise PublishRefusedError(
            f"{index.title} refuses the files: their names were used before.\n{CONFLICT}"
        )
    if why is Failure.CREDENTIALS:
        raise UserError(refused_credentials(index, build, os.environ), left="Nothing was uploaded.")
    if why is Failure.REFUSED:
        raise UserError(
            f"{index.title} does not take the files: its words are above. Mend that, and build anew.",
            left="What was uploaded before stays.",
        )
    if pause is None:
        raise InfrastructureError(
            f"The upload to {index.title} failed {len(_PAUSES) + 1} times: twine's words are above. "
            "Run this again later: what is there already is not uploaded twice."
        )
    say(f"The upload failed in a way that passes; again in {pause:.0f} s.")
    time.sleep(pause)


_REFUSALS = re.compile(
    r"\b(InvalidConfiguration|InvalidDistribution|NonInteractive|UnsupportedConfiguration|RedirectDetected)\b"
)
"""twine's own errors that the same call would meet again."""


class Failure(StrEnum):
    """Why twine failed, as far as it decides what is done next."""

    PASSING = "passing"
    """The network, the server, a rate limit: the same call may succeed later."""
    CREDENTIALS = "credentials"
    TAKEN = "taken"
    """A file name that was used before, with other bytes or for a file that was deleted."""
    REFUSED = "refused"


def failure_of(output: str) -> Failure:
    """Why twine failed, from what it printed (without line wrapping)."""
    status = re.findall(r"HTTPError: (\d{3}) ", output)
    if status:
        code = int(status[-1])
        if code in (401, 403):
            return Failure.CREDENTIALS
        if code in (408, 425, 429) or code >= 500:  # noqa: PLR2004 server errors
            return Failure.PASSING
        return Failure.TAKEN if re.search(r"already (exists|been used)", output) else Failure.REFUSED
    if re.search(r"`invalid-(publisher|pending-publisher|token|payload)`", output):
        return Failure.CREDENTIALS
    return Failure.REFUSED if _REFUSALS.search(output) else Failure.PASSING


def without_tracebacks(output: str) -> str:
    """What a program printed, each Python traceback cut down to its last line."""
    kept, inside = [], False
    for line in output.splitlines():
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif not inside or not (line.startswith(" ") or not line.strip()):
            inside = False
            kept.append(line)
    chained = ("During handling of the above exception", "The above exception was the direct cause")
    lines = [line.rstrip() for line in kept if not line.startswith(chained)]
    return "\n".join(lines).strip()


# Credentials.


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the index lets us upload by: an API token, or, with `token` "", the id token of the job."""

    token: str
    variables: Mapping[str, str]

    @staticmethod
    def of(index: Index, build: Build, variables: Mapping[str, str], *, attestations: bool) -> Credentials:
        """The token of the environment, else the job's id token; raises UserError where there is neither."""
        token = variables.get(index.secret, "").strip()
        if token and not re.fullmatch(r"[!-~]+", token):
            raise UserError(
                f"{index.secret} holds spaces, line ends or other characters that no token has: set it anew.",
                left="Nothing was uploaded.",
            )
        by_job = variables.get("GITHUB_ACTIONS") == "true" and all(variables.get(name) for name in _JOB)
        if attestations and token:
            raise UserError(
                f"--attestations: {index.title} takes them from a trusted publisher only: give no token.",
                left="Nothing was uploaded.",
            )
        if not token and not by_job:
            raise UserError(no_credentials(index, build), left="Nothing was uploaded.")
        return Credentials(token, variables)

    def environment(self) -> dict[str, str]:
        """The variables for twine: the credentials that it needs, and nobody's own settings of twine."""
        own = {
            name: value
            for name, value in self.variables.items()
            if not name.startswith("TWINE_") and name not in ("PYPI_TOKEN", "TEST_PYPI_TOKEN", "GITHUB_TOKEN")
        }
        # A line that is wrapped hides what is looked for in it; a keyring may hold somebody else's token.
        own |= {"COLUMNS": "1000", "NO_COLOR": "1"}
        own |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
        if self.token:
            kept = {name: value for name, value in own.items() if name not in _JOB}
            return kept | {"TWINE_USERNAME": "__token__", "TWINE_PASSWORD": self.token}
        return own

    def mask(self, text: str) -> str:
        """The text without the secrets."""
        for secret in (self.token, self.variables.get(_JOB[1], "")):
            text = text.replace(secret, "***") if secret else text
        return text


def no_credentials(index: Index, build: Build) -> str:
    """What to do where a job has nothing to publish with."""
    return f"""\
The job has nothing to publish to {index.title} with: neither an id token nor an API token.
Without a secret: make this workflow a trusted publisher of {plain(build.name, 100)} at
{_publishing(index, build)}
(of a project that does not exist yet: {index.url}/manage/account/publishing/), and give the job
    environment: {index.environment}
    permissions:
      id-token: write
Or hand on an API token, a secret of the repository or the environment:
    with:
      token: ${{{{ secrets.{index.secret} }}}}
A run for a fork's pull request gets neither: publish from the repository itself."""


def refused_credentials(index: Index, build: Build, variables: Mapping[str, str]) -> str:
    """What to do where the index does not accept the credentials."""
    if variables.get(index.secret, "").strip():
        return (
            f"{index.title} refuses the API token: it is mistyped, revoked, of the other index, or of "
            f"another project than {plain(build.name, 100)}. Make one at {index.url}/manage/account/token/ "
            f"and set it as the secret {index.secret}."
        )
    repository = plain(variables.get("GITHUB_REPOSITORY", ""), 200) or "this repository"
    place = variables.get("GITHUB_WORKFLOW_REF", "").partition("@")[0]
    workflow = plain(place.rpartition("/")[2], 200) or "this workflow's file name"
    return f"""\
{index.title} knows no trusted publisher that is this job. Its settings at
{_publishing(index, build)} have to say:
    repository: {repository}
    workflow: {workflow}
    environment: the one that the job names ({index.environment}), or none where it names none
The workflow has to lie in the repository itself: a reusable one of another repository is no publisher."""


def _publishing(index: Index, build: Build) -> str:
    return f"{index.url}/manage/project/{plain(build.name, 100)}/settings/publishing/"


# Files and processes.


@contextmanager
def _as_built(folder: Path, _files: Sequence[File]) -> Iterator[Path]:
    yield folder


@contextmanager
def _signed(folder: Path, files: Sequence[File], credentials: Credentials) -> Iterator[Path]:
    """A copy of the files beside their attestations, made for this index alone."""
    if find_spec("pypi_attestations") is None:
        raise UserError(
            "--attestations needs pypi-attestations, and it is not installed. gatehouse-ci[attestations] "
            "brings it; or leave the option out.",
            left="Nothing was uploaded.",
        )
    with tempfile.TemporaryDirectory(prefix="gatehouse-signed-") as scratch:
        copies = [str(shutil.copy2(folder / file.name, scratch)) for file in files]
        code, _ = _run("pypi_attestations", ["sign", *copies], credentials)
        if code:
            raise InfrastructureError(
                "The files could not be signed: the words of pypi-attestations are above."
            )
        yield Path(scratch)


def _with_attestation(path: Path) -> list[str]:
    """The file, and its attestation where it has one, as twine takes them: not for options."""
    path = path.absolute()
    attestation = path.with_name(f"{path.name}.publish.attestation")
    return [str(path), *([str(attestation)] if attestation.exists() else [])]


def _run(module: str, args: Sequence[str], credentials: Credentials) -> tuple[int, str]:
    """Run a module as a program of our own interpreter; its exit code, and its output, which is shown too."""
    command = [sys.executable, "-I", "-m", module, *args]
    try:
        done = subprocess.run(
            command,
            env=credentials.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_UPLOAD_S,
            check=False,
        )
        code, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, said = -1, (error.stdout or b"") + f"\nNo end within {_UPLOAD_S} s.".encode()
    output = without_tracebacks(plain(credentials.mask(said.decode(errors="replace"))))
    lines = [line for line in output.splitlines() if line.strip()]
    if len(lines) > _LINES:
        lines = [f"({len(lines) - _LINES} lines before)", *lines[-_LINES:]]
    say("\n".join(f"    {line}" for line in lines))
    return code, output
