"""`gatehouse plan`: which agents a workflow has to run."""

from __future__ import annotations

import json

import click

from gatehouse.agent.definition import load_agent
from gatehouse.commands._agents import agent_files, agent_option, require_unique
from gatehouse.errors import UserError
from gatehouse.github.runner import say, set_outputs


@click.command
@agent_option
def plan(agents: tuple[str, ...]) -> None:
    """List the agents that a workflow has to run, as JSON.

    Prints [{"name": ..., "path": ...}, ...], and sets it as the output `agents`. Every agent file is loaded:
    all faults of all files are reported at once.
    """
    listed, problems = [], []
    files = agent_files(agents)
    require_unique(files)
    for path in files:
        try:
            listed.append({"name": load_agent(path).name, "path": path})
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    text = json.dumps(listed)
    say(text)
    set_outputs({"agents": text})
