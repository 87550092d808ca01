"""One name for one thing: action, command, module, README."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from gatehouse.cli import COMMANDS
from tests.contracts.suite import NAMES, ROOT

NOT_COMMANDS = {"setup"}
"""Actions that prepare the others."""


@pytest.mark.parametrize("name", NAMES)
def test_every_action_has_its_readme(name: str) -> None:
    """Beside every action.yml stands a README that begins with the action's name."""
    readme = ROOT / "actions" / name / "README.md"
    assert readme.is_file()
    assert readme.read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_COMMANDS))
def test_every_action_has_its_command(name: str) -> None:
    """An action is the command of the same name, and its steps call that command."""
    assert name in COMMANDS
    assert f"gatehouse {name}" in (ROOT / "actions" / name / "action.yml").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name: str) -> None:
    """`gatehouse NAME` is the click command of the same name in `commands/NAME.py`."""
    module = name.replace("-", "_")
    command = getattr(import_module(f"gatehouse.commands.{module}"), module)
    assert isinstance(command, click.Command)
    assert command.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_two_help_texts_agree(name: str) -> None:
    """The line in `gatehouse --help` is the first line of `gatehouse NAME --help`."""
    module = name.replace("-", "_")
    command = getattr(import_module(f"gatehouse.commands.{module}"), module)
    assert (command.help or "").splitlines()[0] == COMMANDS[name]


def test_no_command_module_is_left_over() -> None:
    """Every module in `commands/` that holds a click command of its own name is in the list of commands."""
    folder = ROOT / "scripts" / "gatehouse" / "commands"
    modules = [path.stem for path in folder.glob("[!_]*.py")]
    found = {
        name
        for name in modules
        if isinstance(getattr(import_module(f"gatehouse.commands.{name}"), name, None), click.Command)
    }
    assert found == {name.replace("-", "_") for name in COMMANDS}
