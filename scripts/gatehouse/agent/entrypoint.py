"""What answers a case: a function, a command or an address, as the agent file names it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Literal

_SHELL = re.compile(r"\|\|?|&&?|\d?>.*|<|.*;|[A-Za-z_]\w*=.*")
"""A word of a command line that only a shell understands, but for the variable, which must come first."""
_BUILTINS = frozenset(
    {".", "alias", "cd", "eval", "exec", "export", "set", "source", "ulimit", "umask", "unset"}
)


@dataclass(frozen=True, slots=True)
class Function:
    """`module:function`, called in the user's interpreter."""

    target: str


@dataclass(frozen=True, slots=True)
class Command:
    """A program, its words as a shell would split them, that reads and writes JSON lines.

    `code` are paths of its files for the digest; empty where the words themselves name them.
    """

    words: tuple[str, ...]
    code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Url:
    """An address that each case is posted to.

    `secret` is the environment variable with its key, None where none is needed, sent in `header` as is,
    or as `Authorization: Bearer` where that is None. `request` is the JSON to post, with `$` names in it,
    `reply` the path of each part of the answer, {} where they stand under their own names. `stream` says how
    an answer in parts comes.
    """

    url: str
    secret: str | None = None
    header: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)
    reply: dict[str, str] = field(default_factory=dict)
    stream: Literal["events", "lines"] | None = None
    code: tuple[str, ...] = ()


Entrypoint = Function | Command | Url


def parse_entrypoint(data: str | dict[str, Any]) -> Entrypoint:
    """The entry point of a checked agent file; raises ValueError for a command that is none, or a shell's."""
    if isinstance(data, str):
        return Function(data)
    code = tuple(data.get("code", ()))
    if "command" in data:
        command = data["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        if not words or not words[0]:
            raise ValueError("it names no program")
        if isinstance(command, str) and (meant := _for_a_shell(words)):
            raise ValueError(
                f'no shell reads it, and "{meant}" is a shell\'s; write a script, or [sh, -c, "..."]'
            )
        return Command(tuple(words), code)
    auth = data.get("auth", {})
    given = {key: data[key] for key in ("headers", "request", "reply", "stream") if key in data}
    return Url(data["url"], auth.get("secret"), auth.get("header"), **given, code=code)


def _for_a_shell(words: list[str]) -> str:
    """The first word of a command line that only a shell understands; "" for none."""
    if words[0] in _BUILTINS:
        return words[0]
    found = (one for n, one in enumerate(words) if _SHELL.fullmatch(one) and (n == 0 or "=" not in one))
    return next(found, "")


def in_words(entrypoint: Entrypoint) -> str:
    """What people call it."""
    if isinstance(entrypoint, Function):
        return entrypoint.target
    return shlex.join(entrypoint.words) if isinstance(entrypoint, Command) else entrypoint.url
