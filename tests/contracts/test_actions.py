"""What the YAML of actions and workflows hands to the commands, and to each other."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import click
import pytest

from gatehouse.agent.providers import MODEL_KEY
from gatehouse.cli import COMMANDS, gatehouse
from gatehouse.commands._judge import CACHE
from gatehouse.evals.judges.model import JUDGE_BASE_URL, JUDGE_KEY
from tests.contracts.suite import (
    ACTIONS,
    ROOT,
    TEMPLATES,
    WORKFLOWS,
    declared,
    load,
    own_file,
    steps,
    strings,
)

EVERYTHING = [*ACTIONS, *WORKFLOWS, *TEMPLATES]
NO_OPTIONS = {MODEL_KEY, JUDGE_KEY, JUDGE_BASE_URL, CACHE}
"""Variables that a command reads and that are none of its options: secrets, and what only a runner knows."""


def variables(name: str) -> dict[str, list[str]]:
    """The variables that `gatehouse NAME` reads, as click names them, with the flags of each option."""
    module = name.replace("-", "_")
    command: click.Command = getattr(import_module(f"gatehouse.commands.{module}"), module)
    top = click.Context(gatehouse, info_name="gatehouse", auto_envvar_prefix="GATEHOUSE")
    prefix = click.Context(command, info_name=name, parent=top).auto_envvar_prefix
    return {
        f"{prefix}_{str(option.name).upper()}": option.opts
        for option in command.params
        if isinstance(option, click.Option)
    }


def commands_of(step: dict[str, Any]) -> list[str]:
    """The commands that a step's script calls."""
    called = re.findall(r"\bgatehouse(?:\"|')?\s+([a-z][a-z-]*)", step.get("run", ""))
    return [name for name in called if name in COMMANDS]


@pytest.mark.parametrize("path", EVERYTHING)
def test_every_variable_is_an_option(path: str) -> None:
    """A GATEHOUSE_* variable is an option of a command that its step calls; an input goes to its namesake."""
    wrong = []
    for place, step in steps(path):
        options: dict[str, list[str]] = {}
        for name in commands_of(step):
            options |= variables(name)
        for key, value in step.get("env", {}).items():
            if not key.startswith("GATEHOUSE_") or key in NO_OPTIONS or f"${key}" in step["run"]:
                continue
            given = re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", str(value))
            if key not in options or (given and f"--{given[1]}" not in options[key]):
                wrong.append(f"{place}: {key}: {value}")
    assert wrong == []


@pytest.mark.parametrize("path", EVERYTHING)
def test_commands_get_their_values_by_environment(path: str) -> None:
    """No script holds an expression: what a user or a branch name says is never part of a program."""
    assert not [f"{place}: {step['run']}" for place, step in steps(path) if "${{" in step.get("run", "")]


@pytest.mark.parametrize("path", EVERYTHING)
def test_the_judges_key_reaches_what_judges(path: str) -> None:
    """A judge's key is handed to the step that asks the judge, or on the way there, and to no other step."""
    # To compare it hands it to nobody.
    compared = r"(?<!contains\(format\('\{0\}\n', )"
    key = re.compile(compared + r"(?:inputs|secrets)\.judge[-_]key(?! [!=]=)", re.IGNORECASE)
    way = {"action.yml", "actions/eval-gate/action.yml"}
    astray = [
        place
        for place, step in steps(path)
        if any(map(key.search, strings(step)))
        and own_file(step.get("uses", "")) not in way
        and commands_of(step) != ["eval-gate"]
    ]
    assert astray == []
    jobs = load(path).get("jobs", {}).values()
    above = [
        load(path).get("env"),
        *(job.get(where) for job in jobs for where in ("env", "container", "services")),
    ]
    assert not any(map(key.search, strings(above)))


@pytest.mark.parametrize("path", ACTIONS)
def test_every_input_is_declared_and_used(path: str) -> None:
    """An action reads exactly the inputs that it declares."""
    text = "\n".join(strings([load(path)["runs"], load(path).get("outputs", {})]))
    used = set(re.findall(r"\binputs\.([\w-]+)", text)) | set(re.findall(r"\binputs\['([^']+)'\]", text))
    assert used == set(declared(path)["inputs"])


@pytest.mark.parametrize("path", ACTIONS)
def test_names_and_descriptions(path: str) -> None:
    """Inputs and outputs are in kebab-case and each is described."""
    for kind in ("inputs", "outputs"):
        for name, item in declared(path)[kind].items():
            assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name), name
            assert item.get("description"), name


@pytest.mark.parametrize("path", EVERYTHING)
def test_scripts_are_short(path: str) -> None:
    """No program inside YAML: a script has at most five lines."""
    assert not [place for place, step in steps(path) if len(step.get("run", "").strip().splitlines()) > 5]


@pytest.mark.parametrize("path", EVERYTHING)
def test_third_party_actions_are_pinned(path: str) -> None:
    """Every `uses:` is our own by `$/` (in templates by name), or a full SHA with a version comment."""
    own = r"gatehouse-ci/gatehouse(/[\w./-]+)?@v1" if path in TEMPLATES else r"\$/[\w./-]*"
    pinned = r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*"
    lines = re.findall(r"^\s*(?:- )?uses:\s*(.+?)\s*$", (ROOT / path).read_text(), re.MULTILINE)
    assert [line for line in lines if not re.fullmatch(f"{pinned}|{own}(?: # .*)?", line)] == []
    assert len(lines) == sum("uses" in step for _, step in steps(path)) + sum(
        "uses" in job for job in load(path).get("jobs", {}).values()
    ), "a `uses:` is written in a way that this test does not see"


def test_one_version_of_each_third_party_action() -> None:
    """All files pin the same commit of an action, under the same version."""
    pins: dict[str, set[str]] = {}
    for path in EVERYTHING:
        for name, pin in re.findall(r"uses:\s*([\w./-]+)@([0-9a-f]{40} # \S+)", (ROOT / path).read_text()):
            pins.setdefault(name, set()).add(pin)
    assert pins
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", EVERYTHING)
def test_steps_use_our_actions_as_declared(path: str) -> None:
    """A step hands one of our actions only inputs that it has, all it requires, and reads outputs it has."""
    outputs = {}
    for place, step in steps(path):
        target = own_file(step.get("uses", ""))
        if target is None:
            continue
        interface = declared(target)
        outputs[step.get("id")] = set(interface["outputs"])
        required = {
            n for n, item in interface["inputs"].items() if item.get("required") and "default" not in item
        }
        assert set(step.get("with", {})) <= set(interface["inputs"]), place
        assert required <= set(step.get("with", {})), place
    read = re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", "\n".join(strings(load(path))))
    assert [(step, name) for step, name in read if step in outputs and name not in outputs[step]] == []
