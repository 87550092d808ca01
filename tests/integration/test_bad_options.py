"""Every option of every command with values that it cannot take: named, refused, and nothing done.

What is wrong with a number, a choice or a folder follows from the option's type. An option that takes any
text has a row of its own here, or is named with the test that breaks it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import click
import pytest

from gatehouse.cli import COMMANDS, gatehouse
from gatehouse.commands._numbers import Dollars, Seconds
from gatehouse.commands._shared import Thresholds
from gatehouse.errors import Exit
from tests.integration.test_bad_input import ROWS, assert_refused, project, written
from tests.integration.test_hostile_release import REFUSED
from tests.support.projects import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@cache
def options() -> dict[tuple[str, str], click.Option]:
    """Every option by command and name, but --help."""
    context = click.Context(gatehouse)
    found: dict[tuple[str, str], click.Option] = {}
    for name in COMMANDS:
        command = gatehouse.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                found[name, option.opts[0]] = option
    return found


def wrong(option: click.Option) -> list[str]:
    """Values that an option's type refuses; [] for one that takes any text."""
    match option.type:
        case click.IntRange(min=low, max=high):
            return ["x", "1.5", "nan", "1e3", f"{(low or 0) - 1}", f"{(high or 0) + 1}", "9" * 400]
        case Seconds(min=low, max=high):
            return ["x", "nan", "inf", "-inf", "0" if low else "-1", f"{(high or 0) + 1}", "1e400"]
        case Dollars():
            return ["x", "nan", "inf", "-0.01", "1e400", "$5", "0,05", "5 USD"]
        case Thresholds():
            return ["x", "=1", "a=", "a=b", "a=nan", "a=-inf", "a=1e400", "a=1,a=2", "a=1;b=2"]
        case click.Choice():
            return ["x", "A\nB", "--"]
        case click.Path(file_okay=False):
            return ["agents/echo.yaml"]
    return []


NEEDED = {"calibrate": ("--labels=labels.jsonl",)}
"""What a command is given besides."""


def needed(command: str) -> tuple[str, ...]:
    """What this command is given besides."""
    return NEEDED.get(command, ())


TYPED = [(*key, value) for key, option in options().items() for value in wrong(option)]


@pytest.mark.parametrize(("command", "option", "value"), TYPED)
def test_a_value_of_another_type(tmp_path: Path, command: str, option: str, value: str) -> None:
    """Exit 2 with the option's name, given by hand or by its environment variable; nothing is written."""
    project(tmp_path)
    before = written(tmp_path)
    assert_refused(call(tmp_path, command, *needed(command), f"{option}={value}"), (option,))
    variable = f"GATEHOUSE_{command}_{option[2:]}".upper().replace("-", "_")
    if value.strip():
        done = call(tmp_path, command, *needed(command), env={variable: value})
        assert_refused(done, (option,))
    assert written(tmp_path) == before


FLAGS = [key for key, option in options().items() if option.is_flag]


@pytest.mark.parametrize(("command", "option"), FLAGS)
def test_a_flag_with_a_value(tmp_path: Path, command: str, option: str) -> None:
    """A flag takes no value on the command line, and only words for yes and no as a variable."""
    assert_refused(call(project(tmp_path), command, f"{option}=perhaps"), (option,))
    variable = f"GATEHOUSE_{command}_{option[2:]}".upper().replace("-", "_")
    assert_refused(call(tmp_path, command, env={variable: "perhaps"}), (option,))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_no_command_knows(tmp_path: Path, command: str) -> None:
    """An unknown option, an argument too many, an option without its value: exit 2, nothing done."""
    project(tmp_path)
    before = written(tmp_path)
    assert_refused(call(tmp_path, command, "--no-such-option"), ("--no-such-option",))
    many = call(tmp_path, command, *needed(command), ".", ".", ".")
    assert_refused(many, ("unexpected extra argument",))
    taking = [name for (of, name), option in options().items() if of == command and not option.is_flag]
    for option in taking:
        assert_refused(call(tmp_path, command, option), (option,))
    assert written(tmp_path) == before


ANYTHING = {
    "--author": "compared with the login of a comment's author: test_hostile_gate",
    "--key": "test_hostile_gate",
    "--digests": "test_publish",
    "--smoke": "test_verify_install",
    "--skip-label": "a label that no pull request has: test_changelog_guard",
    "--paths": "a pattern that matches nothing: test_changelog_guard",
    "--labels": "test_calibrate",
    "--embeddings": "below: a provider that nobody knows",
    "--judge": "below: a provider that nobody knows",
    "--runs": "test_never_green: no runs where they were looked for",
    "--base": "test_gate_changes: a ref that is not there",
}
"""Options that take any text, and what has a wrong one."""

GOLDEN = {"--tag", "--case"}
"""Those of a part of a golden set: a word that no case has is refused where the set is read."""


def tried() -> Iterator[str]:
    """The options that the tables of bad input and of hostile releases break."""
    for _, args, _ in ROWS.values():
        yield from (arg for arg in args if arg.startswith("--"))
    for names in REFUSED.values():
        yield from names


def test_every_option_is_tried() -> None:
    """An option that is added is broken by its type or by a row of a table, or this test names it."""
    by_type = {name for _, name, _ in TYPED} | {name for _, name in FLAGS}
    rows = by_type | set(tried()) | set(ANYTHING) | GOLDEN
    assert {name for _, name in options()} - rows == set()


@pytest.mark.parametrize("option", sorted(GOLDEN))
@pytest.mark.parametrize("command", ["run", "score", "verdict", "eval-gate"])
def test_a_part_that_is_none(tmp_path: Path, command: str, option: str) -> None:
    """A tag or an id that no case has is refused by every stage."""
    assert_refused(call(project(tmp_path), command, f"{option}=nobody"), (option,))


@pytest.mark.parametrize("command", ["eval-gate", "score", "verdict"])
@pytest.mark.parametrize("option", ["--judge", "--embeddings"])
def test_models_that_nobody_knows(tmp_path: Path, command: str, option: str) -> None:
    """A judge without a provider, or of an unknown one, is refused before anything is asked."""
    for value in ("gpt", ":", "openai:", ":x", "opena:gpt-4o", "a b:c"):
        done = call(project(tmp_path), command, f"{option}={value}", "--threshold", "answer_relevancy=0.5")
        assert done.code == Exit.INVALID, (value, done)
        assert "Traceback" not in done.err


def test_a_variable_of_a_command_is_its_option(tmp_path: Path) -> None:
    """Every option that takes one can be given by a variable; the names have no two meanings."""
    names: dict[str, tuple[str, str]] = {}
    for (command, option), found in options().items():
        variable = f"GATEHOUSE_{command}_{found.name}".upper().replace("-", "_")
        assert names.setdefault(variable, (command, option)) == (command, option)
    assert len(names) == len(options())
