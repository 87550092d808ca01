"""Which agents a command is for: their files, by name or by pattern, and one name for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from gatehouse.agent.definition import AGENT_FILES
from gatehouse.cli import Lines
from gatehouse.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


def agents_named(text: str) -> Callable[[F], F]:
    """`--agent`: files or patterns, with its line in `--help`."""
    return click.option(
        "--agent",
        "agents",
        cls=Lines,
        multiple=True,
        metavar="FILE",
        envvar=None,
        help=text,
    )


agent_option = agents_named("Agent file, or a pattern of them; repeatable. Default: agents/*.yaml.")


def agent_files(patterns: tuple[str, ...]) -> list[str]:
    """The agent files that `patterns` name, sorted, each once; raises UserError for one that names none."""
    root, found, problems = Path(), set[str](), []
    for pattern in patterns or AGENT_FILES:
        names = set[str]()
        with suppress(OSError):  # a name that is too long names no file
            names = {pattern} if (root / pattern).is_file() else set[str]()
        if not names and any(c in pattern for c in "*?["):
            with suppress(
                ValueError, NotImplementedError
            ):  # an absolute or malformed pattern matches nothing
                names = {str(p) for p in root.glob(pattern) if p.is_file()}
        if not names and patterns:
            problems.append(_no_agent_file(pattern))
        wrong = [name for name in sorted(names) if Path(name).suffix not in (".yaml", ".yml", ".json")]
        problems += [f'--agent "{name}": not an agent file, which is YAML (.yaml, .yml).' for name in wrong]
        found |= names
    if problems:
        raise UserError(*problems)
    if not found:
        above = _agents_above()
        hint = f" Agent files lie in {above / 'agents'}: run it in {above}." if above else ""
        raise UserError(
            f"No agent file was found: nothing matches agents/*.yaml.{hint} Name yours with --agent."
        )
    return sorted(found)


def _agents_above() -> Path | None:
    """The nearest folder above this one that has agent files, within the repository."""
    with suppress(OSError):  # the folder may be gone
        for folder in (Path.cwd(), *Path.cwd().parents):
            if any(found for pattern in AGENT_FILES for found in folder.glob(pattern)):
                return folder
            if (folder / ".git").exists():
                break
    return None


def _no_agent_file(pattern: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 only for the error

    with suppress(OSError):  # a name that is too long names no folder
        if Path(pattern).is_dir():
            return f'--agent "{pattern}": a folder. Write a pattern: "{pattern.rstrip("/")}/*.yaml".'
    near = get_close_matches(pattern, [str(p) for glob in AGENT_FILES for p in Path().glob(glob)], 1)
    hint = f' Did you mean "{near[0]}"?' if near else f" Paths are relative to {Path.cwd()}."
    return f'--agent "{pattern}": no such file.{hint}'


def rough_name(path: str) -> str:
    """A name for an agent whose file may not load: what the file says where that much can be read."""
    import re  # noqa: PLC0415 beside its one use

    from gatehouse.agent.schema import is_agent_name  # noqa: PLC0415 as above
    from gatehouse.agent.source import decode, parse_yaml, read_file  # noqa: PLC0415 as above

    with suppress(ValueError, TypeError, KeyError):
        name = parse_yaml(decode(read_file(Path.cwd(), path), path), path).data["agent"]["name"]
        if is_agent_name(name):
            return str(name)
    return re.sub(r"[^a-z0-9._-]+", "-", Path(path).stem.lower()).strip("-.") or "agent"


def require_unique(files: list[str]) -> dict[str, str]:
    """The agent files by name; raises UserError where two share one, and so the folder of their results."""
    named: dict[str, str] = {}
    problems = []
    for path in files:
        name = rough_name(path)
        other = named.setdefault(name, path)
        if other != path:
            problems.append(f"{path} and {other} are both named {name}: name the one to gate with --agent.")
    if problems:
        raise UserError(*problems)
    return named
