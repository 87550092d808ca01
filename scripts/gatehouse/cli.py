"""The one click group; a command's module is imported when it is used, so that `--help` stays quick."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from gatehouse.errors import Exit, GatehouseError

COMMANDS = {
    "plan": "List the agents that a workflow has to run, as JSON.",
    "run": "Ask the agent every case of its golden set.",
    "score": "Score the runs with every metric.",
    "verdict": "Judge the scores: one threshold per metric.",
    "eval-gate": "Run, score and verdict in one step.",
    "cost-gate": "Price the runs and hold them against their budget.",
    "gate-changes": "Name what changed of the gate itself.",
    "scorecard": "Deliver the verdict: comment, job summary, annotations.",
    "calibrate": "Compare a judge with people's labels.",
    "changelog-guard": "Ask a pull request for its changelog entry.",
    "cut-release": "Cut a release branch from develop and open its pull request.",
    "build": "Build wheel and sdist once, with their digests.",
    "evidence": "Find the verdict of every agent that a build carries.",
    "publish-testpypi": "Publish the built files to TestPyPI.",
    "verify-install": "Install the published package afresh and try it.",
    "publish-pypi": "Publish the built files to PyPI.",
    "tag-release": "Tag the merged release and start its workflow.",
    "github-release": "Publish a GitHub Release with the built files.",
    "finish-release": "Merge a release back to develop and remove its branch.",
    "metrics": "List every metric with what it needs.",
    "rehearse": "Play a release on this machine, from a pull request to PyPI.",
}
"""Every command with its line in `--help`; the module is `commands/NAME.py`, with underscores."""


_EXTRAS = {
    "build": "release",
    "markdown_it": "release",
    "packaging": "release",
    "cryptography": "rehearse",
    "pypiserver": "rehearse",
    "rapidfuzz": "similarity",
    "trustme": "rehearse",
}
"""Modules that only some commands need, and the extra that brings each."""


class Lines(click.Option):
    """An option that may be repeated; its environment variable holds one value a line.

    click would split the variable on spaces, which are legal in paths.
    """

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The lines of the variable that are not blank; None where it is unset or empty."""
        value = self.resolve_envvar_value(ctx)
        return (
            None if value is None else [line.strip() for line in value.splitlines() if line.strip()] or None
        )


class LazyGroup(click.Group):
    """Knows its commands by name and loads one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of a pull request's way through them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"gatehouse.commands.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As click's own, with the nearest name for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 only for the error

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f' Did you mean "{near[0]}"?' if near else " `gatehouse --help` lists every command."
            ctx.fail(f'No such command "{args[0]}".{hint}')
        return super().resolve_command(ctx, args)


def version() -> str:
    """Our own version, as the distribution says it."""
    from importlib.metadata import version as installed  # noqa: PLC0415 28 ms that only --version needs

    return installed("gatehouse-ci")


def print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """The callback of `--version`."""
    if value:
        click.echo(f"gatehouse {version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "GATEHOUSE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version.",
)
def gatehouse() -> None:
    """Release gates for AI agents: each stage reads what the stage before wrote under `.gatehouse/AGENT`."""


def main(args: list[str] | None = None) -> None:
    """The `gatehouse` program: user errors become messages and exit codes, never tracebacks."""
    if sys.platform not in ("linux", "darwin"):
        click.echo("Gatehouse runs on Linux and macOS; this is " + sys.platform + ".", err=True)
        sys.exit(Exit.INVALID)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with it closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our characters still gets the message
    try:
        code = gatehouse.main(args, prog_name="gatehouse", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else Exit.PASS)
    except GatehouseError as error:
        from gatehouse.github.runner import show_error  # noqa: PLC0415 only for the error

        show_error(error)
        sys.exit(error.code)
    except click.ClickException as error:
        from gatehouse.github.runner import say  # noqa: PLC0415 only for the error

        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip("\n"), sys.stderr)
        sys.exit(Exit.INVALID)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if not extra:
            raise
        click.echo(f"This needs more than a gate does: install gatehouse-ci[{extra}].", err=True)
        sys.exit(Exit.INVALID)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except Exception:  # noqa: BLE001 a fault of ours: never 1, which would say that the agent was measured
        from traceback import print_exc  # noqa: PLC0415 only for the error

        print_exc()
        click.echo("This is a fault of Gatehouse, please report it. Nothing was measured.", err=True)
        sys.exit(Exit.UNSCORED)
