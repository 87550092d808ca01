"""What the Actions runner is told: outputs, job summary, masks, annotations. Outside Actions: plain lines."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from gatehouse.errors import GatehouseError, InfrastructureError, Problem, UserError
from gatehouse.github.escape import command, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUMMARY_LIMIT = 2**20
"""Bytes of one step's job summary; the runner refuses a larger one whole."""

ANNOTATIONS = 10
"""Annotations of one level that GitHub keeps of one step."""

_MESSAGE_LIMIT = 4000
"""Characters of an annotation; the runner cuts at 4,096."""

_annotated: Counter[str] = Counter()
"""Annotations of this process by level: a step is one process of ours."""


def in_actions() -> bool:
    """Whether a GitHub Actions runner reads what we print."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def set_outputs(values: Mapping[str, str | bool | float]) -> None:
    """Hand outputs to later steps; true and false in lower case. Nothing happens outside Actions.

    Each value stands between random delimiters, so that no value can end its own or begin another output.
    """
    for name in values:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise ValueError(f"not the name of an output: {name!r}")
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        return
    lines = []
    for name, value in values.items():
        end = f"end-{secrets.token_hex(16)}"
        text = str(value).lower() if isinstance(value, bool) else str(value)
        lines.append(f"{name}<<{end}\n{text}\n{end}\n")
    _append(path, "".join(lines).encode(errors="replace"))


def append_summary(markdown: str) -> None:
    """Add to the job summary of this step; nothing happens outside Actions.

    What would exceed the limit is cut at a line. The notice comes first: at the end it could stand inside
    a fold or a code block that the cut left open.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    text = (markdown if markdown.endswith("\n") else markdown + "\n").encode(errors="replace")
    room = SUMMARY_LIMIT - (Path(path).stat().st_size if Path(path).exists() else 0)
    if len(text) > room:
        notice = f"> Cut to fit GitHub's limit of {SUMMARY_LIMIT:,} bytes for a step's summary.\n\n".encode()
        kept = text[: max(0, room - len(notice))]
        text = (notice + kept[: kept.rfind(b"\n") + 1]) if len(notice) <= room else b""
    _append(path, text)


def annotate(
    level: Literal["error", "warning", "notice"],
    message: str,
    *,
    file: str = "",
    line: int = 0,
    title: str = "",
) -> None:
    """Show a message at a line of a file, in Actions as an annotation, elsewhere as a line of text.

    `file` is relative to the repository, lines count from 1, 0 and "" mean none. GitHub keeps ten of a level:
    the tenth says that any more are in the log only, and there they are.
    """
    _annotated[level] += 1
    if not in_actions() or _annotated[level] > ANNOTATIONS:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        say(f"{level}: {where}{title}{': ' if title else ''}{message}")
        return
    shown = plain(message, _MESSAGE_LIMIT)
    if _annotated[level] == ANNOTATIONS:
        shown += f"\nGitHub shows {ANNOTATIONS} annotations of a kind: any more of these are in the log only."
    properties: dict[str, str | int] = {"file": file, "line": line, "title": title}
    _print(command(level, shown, **properties), sys.stdout)


def show_error(error: GatehouseError) -> None:
    """Print an error to stderr; in Actions also annotate each of its problems on stdout, ten at most."""
    say(str(error), sys.stderr)
    if not in_actions():
        return
    problems = error.problems if isinstance(error, UserError) else [Problem(str(error))]
    for problem in problems[: max(0, ANNOTATIONS - _annotated["error"])]:
        message = f"{problem.message}\n{problem.repair}" if problem.repair else problem.message
        annotate("error", message, file=problem.path, line=problem.line)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print text of any origin (default: stdout) so that neither terminal nor runner obeys what is in it."""
    stream = stream or sys.stdout
    text = plain(text)
    # The runner reads `::name::` at the start of a line and `##[name]` anywhere, on stdout and on stderr.
    if "::" in text or "##[" in text:
        with stop_commands(stream):
            _print(text, stream)
    else:
        _print(text, stream)


@contextmanager
def stop_commands(stream: TextIO | None = None) -> Iterator[None]:
    """While this is open, the runner takes nothing printed to `stream` (default: stdout) for a command."""
    stream = stream or sys.stdout
    if not in_actions():
        yield
        return
    token = secrets.token_hex(16)  # what is printed meanwhile must not be able to end it
    _print(f"::stop-commands::{token}", stream)
    try:
        yield
    finally:
        # On a line of its own even if what came before had no newline: else commands would stay off.
        _print(f"\n::{token}::", stream)


def _print(text: str, stream: TextIO) -> None:
    emit(f"{text}\n", stream)


def emit(text: str, stream: TextIO) -> None:
    """Write to a stream at once; when nobody reads it any more (`gatehouse ... | head`) what is said is lost.

    A gate goes on to its verdict all the same: ending here would have the exit code of one that failed.
    """
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _append(path: str, content: bytes) -> None:
    """Raises InfrastructureError where the runner's file cannot be written."""
    try:
        with Path(path).open("ab") as file:
            file.write(content)
    except OSError as error:
        raise InfrastructureError(
            f"What the runner has to be told cannot be written to {path}: {error.strerror}. "
            "A runner names that file in GITHUB_OUTPUT or GITHUB_STEP_SUMMARY."
        ) from None
