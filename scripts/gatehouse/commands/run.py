"""`gatehouse run`: the first stage of the eval gate, and the only one that executes the agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatehouse.agent.protocol import RunInfo
from gatehouse.agent.providers import MODEL_KEY, PROVIDERS, SHORTEST_KEY, find_provider, resolve
from gatehouse.commands._shared import (
    agent_option,
    dataset_option,
    each_agent,
    exit_code,
    first_lines,
    out_option,
    subject_of,
)
from gatehouse.errors import Exit, InfrastructureError, State, UserError
from gatehouse.evals.judges.model import JUDGE_KEY, keys_in
from gatehouse.evals.results import MAX_REPEATS, Subject
from gatehouse.evals.run_files import RunFiles, drop_verdicts, locked, writing
from gatehouse.github.runner import in_actions, say, set_outputs

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.evals.run import RunOptions, Target

F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A finite number of seconds in a range: click's own takes "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a click error for anything else."""
        seconds = float(super().convert(value, param, ctx))
        if seconds != seconds:  # noqa: PLR0124 only NaN is not itself
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def run_options(function: F) -> F:
    """The options of everything that executes the agent."""
    for option in reversed(
        (
            click.option(
                "--concurrency",
                type=click.IntRange(1, 1024),
                default=8,
                show_default=True,
                help="Cases in flight at once.",
            ),
            click.option(
                "--repeats",
                type=click.IntRange(1, MAX_REPEATS),
                default=1,
                show_default=True,
                help="Times that each case is asked.",
            ),
            click.option(
                "--case-deadline",
                type=Seconds(0.001, 86_400),
                default=60.0,
                show_default=True,
                help="Seconds for one case.",
            ),
            click.option(
                "--run-deadline",
                type=Seconds(0.001, 604_800),
                default=1800.0,
                show_default=True,
                help="Seconds for the whole run.",
            ),
            click.option(
                "--python",
                metavar="PATH",
                help="The agent's interpreter. Default: .venv/bin/python, else $VIRTUAL_ENV's, else python3.",
            ),
        )
    ):
        function = option(function)
    return function


def run_agent(
    subject: Subject,
    folder: Path,
    *,
    concurrency: int,
    repeats: int,
    case_deadline: float,
    run_deadline: float,
    python: str | None,
) -> None:
    """Ask the agent every case, into `folder`; raises a GatehouseError where that could not be done whole."""
    from gatehouse.evals.progress import Progress  # noqa: PLC0415 asyncio costs 40 ms
    from gatehouse.evals.run import RunOptions, run_cases  # noqa: PLC0415

    agent, golden = subject.agent, subject.golden
    options = RunOptions(concurrency, case_deadline, run_deadline)
    info = RunInfo(
        **subject.header(),
        repeats=repeats,
        options={"case_deadline_s": case_deadline},
    )
    keys = keys_of(os.environ)
    try:
        target = _target(agent, options, folder, python)
        progress = Progress(sys.stderr)
        summary = run_cases(target, golden, folder, info, options, progress=progress, hide=keys)
        if summary.stopped:
            raise InfrastructureError(
                f"{summary.not_asked} of {summary.total} answers are missing: {summary.stopped}"
            )
    except InfrastructureError as error:
        shown = str(error)
        for key in keys:
            shown = shown.replace(key, "***")
        log = folder / "worker.log"
        if in_actions() and log.exists():  # which does not leave the machine
            say(log.read_text("utf-8", "replace")[-SHOWN_LOG:])
        with locked(folder):
            _say_why(folder, info, first_lines(InfrastructureError(shown)))
        raise InfrastructureError(shown) from None
    resumed = f", {summary.resumed} kept from the run before" if summary.resumed else ""
    say(f"{agent.name}: {summary.asked} answers in {summary.seconds:.1f} s{resumed}.")
    for note in summary.notes:
        say(f"{agent.name}: {note}")


SHOWN_LOG = 4000
"""Characters of what the agent printed that a job's log shows when it cannot be run."""


def keys_of(environ: Mapping[str, str]) -> list[str]:
    """The keys of models that the agent may have: artifacts and comments are masked by nobody.

    Longest first: one may begin another. What is shorter than a key would be found in any text.
    """
    names = [MODEL_KEY, *(provider.key_variable for provider in PROVIDERS.values())]
    keys = {*(environ.get(name, "").strip() for name in names), *keys_in(environ.get(JUDGE_KEY, ""))}
    return sorted((key for key in keys if len(key) >= SHORTEST_KEY), key=len, reverse=True)


def _target(agent: Agent, options: RunOptions, folder: Path, python: str | None) -> Target:
    if agent.entrypoint is None:
        try:
            find_provider(agent.model.provider)
        except UserError as error:
            [unknown] = error.problems
            where = agent.problem(
                "model", "provider", message=unknown.message, repair=unknown.repair, value=True
            )
            raise UserError(where) from None
        from gatehouse.evals.chat import Chat  # noqa: PLC0415 150 ms of aiohttp

        model = agent.model
        endpoint = resolve(model.provider, model.base_url, os.environ)
        given = {"temperature": model.temperature, "max_tokens": model.max_tokens}
        parameters = {name: value for name, value in given.items() if value is not None} | model.parameters
        return Chat(endpoint, model.name, agent.prompt_text, parameters, concurrency=options.concurrency)
    from gatehouse.agent.interpreter import user_interpreter, worker_environment  # noqa: PLC0415
    from gatehouse.evals.worker_pool import WorkerPool  # noqa: PLC0415

    provider = PROVIDERS.get(agent.model.provider)
    environ = worker_environment(os.environ, provider.key_variable if provider else "MODEL_KEY")
    return WorkerPool(
        agent.entrypoint,
        user_interpreter(python),
        threads=options.concurrency,
        environ=environ,
        cwd=Path.cwd(),
        out_dir=folder,
    )


def _say_why(folder: Path, info: RunInfo, reason: str) -> None:
    """Leave in `run.json` why the run is incomplete: another job will have to say it.

    What lies there may be of an older run, where this one broke off before its first answer: only what could
    be resumed is kept, or an old result would pass for one of today.
    """
    with suppress(OSError):
        drop_verdicts(folder)
        if not RunFiles(folder, info).can_resume():
            (folder / "runs.jsonl").unlink(missing_ok=True)
        replace(info, failure=reason).write(folder / "run.json")


@click.command
@agent_option
@dataset_option
@run_options
@out_option
def run(agents: tuple[str, ...], dataset: str | None, out: Path | None, **options: Any) -> None:
    """Ask the agent every case of its golden set.

    Writes runs.jsonl and run.json; an unfinished run of the same agent, golden set and options is resumed.
    Exit code: 0 every case was asked, 2 a file or option to mend, 3 the run could not be made whole.
    """
    folders: list[Path] = []

    def work(agent: Agent, folder: Path, _only: bool) -> tuple[State, str]:
        folders.append(folder)
        with writing(folder):  # a verdict on older runs is none on these
            (folder / "eval.json").unlink(missing_ok=True)
        run_agent(subject_of(agent, dataset), folder, **options)
        return State.PASS, "run"

    results = each_agent(agents, out, "", work)
    complete = all(result.code is Exit.PASS for result in results)
    set_outputs({"out": str(folders[-1]) if folders else "", "complete": complete})
    click.get_current_context().exit(exit_code(results))
