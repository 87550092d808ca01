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

from gatehouse.agent.entrypoint import Command, Function, Url
from gatehouse.agent.protocol import RunInfo
from gatehouse.agent.providers import (
    MODEL_KEY,
    PROVIDERS,
    SHORTEST_KEY,
    find_provider,
    keys_in,
    resolve,
    with_keys,
)
from gatehouse.commands._agents import agent_option
from gatehouse.commands._judge import mask_keys
from gatehouse.commands._numbers import Dollars, Seconds
from gatehouse.commands._shared import (
    each_agent,
    exit_code,
    first_lines,
    golden_options,
    out_option,
    subject_of,
)
from gatehouse.errors import Exit, InfrastructureError, State, UserError
from gatehouse.evals.judges.model import JUDGE_KEY
from gatehouse.evals.results import MAX_REPEATS, Subject
from gatehouse.evals.run_files import RunFiles, drop_verdicts, locked, writing
from gatehouse.github.runner import annotate, in_actions, say, set_outputs

if TYPE_CHECKING:
    from gatehouse.agent.definition import Agent
    from gatehouse.agent.entrypoint import Entrypoint
    from gatehouse.evals.metrics import Gate
    from gatehouse.evals.run import RunOptions, Target
    from gatehouse.evals.selection import Chosen

F = TypeVar("F", bound=Callable[..., Any])


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
                "--max-usd",
                type=Dollars(),
                metavar="USD",
                help="US dollars that asking the agent may cost. Default: evals.max_usd of the agent file.",
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
    max_usd: float | None,
    python: str | None,
) -> None:
    """Ask the agent every case, into `folder`; raises a GatehouseError where that could not be done whole."""
    from gatehouse.evals.own_metrics import methods_of, own_gates  # noqa: PLC0415 asyncio costs 40 ms
    from gatehouse.evals.progress import Progress  # noqa: PLC0415 as above
    from gatehouse.evals.run import RunOptions, run_cases  # noqa: PLC0415

    agent, golden = subject.agent, subject.golden
    options, own = RunOptions(concurrency, case_deadline, run_deadline), own_gates(agent)
    info = RunInfo(
        **subject.header(),
        repeats=repeats,
        options={"case_deadline_s": case_deadline, **methods_of(own)},
    )
    keys = keys_of(os.environ, agent.entrypoint)
    mask_keys(os.environ.get(MODEL_KEY, ""))
    try:
        target = _capped(_target_for(agent, options, folder, python), subject, folder, max_usd)
        if own:
            target = _with_own_metrics(target, agent, own, options, folder, python)
        progress = Progress(sys.stderr)
        summary = run_cases(target, golden, folder, info, options, progress=progress, hide=keys)
        if summary.stopped:
            missing = f"{summary.not_asked} of {summary.total} answers are missing"
            if not summary.not_asked:
                missing = f"all {summary.total} questions were asked, in vain"
            raise InfrastructureError(f"{missing}: {summary.stopped}")
    except UserError as error:
        raise _located(agent, error) from None
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
        annotate("warning", f"{agent.name}: {note}", file=agent.path)


def _located(agent: Agent, error: UserError) -> UserError:
    """The error with the faults of the command at its place in the agent file."""
    keys, own = ("entrypoint", "command"), "entrypoint.command: "
    problems = [
        agent.problem(*keys, message=p.message.removeprefix(own), repair=p.repair, value=True)
        if p.message.startswith(own)
        else p
        for p in error.problems
    ]
    return UserError(*problems, left=error.left)


SHOWN_LOG = 4000
"""Characters of what the agent printed that a job's log shows when it cannot be run."""


def keys_of(environ: Mapping[str, str], entrypoint: Entrypoint | None = None) -> list[str]:
    """The keys of models and agents that the agent may have: artifacts and comments are masked by nobody.

    Longest first: one may begin another. What is shorter than a key would be found in any text.
    """
    names = [provider.key_variable for provider in PROVIDERS.values()]
    if isinstance(entrypoint, Url) and entrypoint.secret:
        names.append(entrypoint.secret)
    keys = {
        *(environ.get(name, "").strip() for name in names),
        *keys_in(f"{environ.get(JUDGE_KEY, '')}\n{environ.get(MODEL_KEY, '')}"),
    }
    return sorted((key for key in keys if len(key) >= SHORTEST_KEY), key=len, reverse=True)


def _target_for(agent: Agent, options: RunOptions, folder: Path, python: str | None) -> Target:
    """Whom to ask; raises InfrastructureError that says who can help, where a fork has no key to ask with."""
    try:
        target = _target(agent, options, folder, python)
        if in_fork():
            _require_key(agent)
    except InfrastructureError as error:
        if not in_fork():
            raise
        raise InfrastructureError(
            "not measured: needs a maintainer: a pull request from a fork gets no secrets, and a maintainer "
            f"can run the gate for it. {error}"
        ) from None
    return target


def in_fork() -> bool:
    """Whether this is a run of GitHub Actions for a pull request from a fork."""
    if not in_actions():
        return False
    from gatehouse.github.event import Event  # noqa: PLC0415 on a runner alone

    with suppress(UserError):
        return Event.read(os.environ).is_fork
    return False


def _require_key(agent: Agent) -> None:
    """Raise InfrastructureError where the agent's code will miss the key of its hosted model.

    It would fail of it, and that would read as its own fault. Where that model is, we may not know.
    """
    if isinstance(agent.entrypoint, Function | Command):
        with suppress(UserError):
            resolve(agent.model.provider, agent.model.base_url, os.environ)


def _capped(target: Target, subject: Subject, folder: Path, max_usd: float | None) -> Target:
    """The target, held to what asking it may cost; raises UserError where nothing could hold it."""
    agent = subject.agent
    most = agent.evals.max_usd if max_usd is None else max_usd
    if most is None:
        return target
    from gatehouse.costs.prices import cost_of_run, price  # noqa: PLC0415 only with a cap
    from gatehouse.evals import cap  # noqa: PLC0415 as above

    named = cap.KEY if max_usd is None else cap.OPTION
    pricing = cap.Pricing(lambda usage: price(usage, agent)[0], lambda run: cost_of_run(agent, run))
    bound = cap.bound_of(agent, target, pricing.usage, named=named)
    return cap.Capped(target, most, bound, pricing, folder, subject.golden.__getitem__, named=named)


def _with_own_metrics(
    target: Target, agent: Agent, gates: list[Gate], options: RunOptions, folder: Path, python: str | None
) -> Target:
    """The target, whose answers the user's own metrics score as they come."""
    from gatehouse.agent.interpreter import user_interpreter  # noqa: PLC0415 as in _target
    from gatehouse.evals.metrics.own import target_of, uncovered  # noqa: PLC0415 beside its one use
    from gatehouse.evals.own_metrics import WithOwnMetrics, pools_for  # noqa: PLC0415 asyncio

    for gate in gates:
        if warning := uncovered(agent, gate.metric.name, str(target_of(gate.metric))):
            annotate("warning", warning.message, file=warning.path, line=warning.line)
    pools = pools_for(
        gates,
        user_interpreter(python),
        threads=options.concurrency,
        environ=_environment(agent),
        cwd=Path.cwd(),
        out_dir=folder,
    )
    return WithOwnMetrics(target, gates, pools)


def _environment(agent: Agent) -> dict[str, str]:
    """What the user's code sees of ours."""
    from gatehouse.agent.interpreter import worker_environment  # noqa: PLC0415 as in _target

    provider = PROVIDERS.get(agent.model.provider)
    environ = with_keys(os.environ, agent.model.provider)
    return worker_environment(environ, provider.key_variable if provider else "MODEL_KEY")


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
    if isinstance(agent.entrypoint, Url):
        from gatehouse.evals.web import Web  # noqa: PLC0415 as above

        return Web(agent.entrypoint, os.environ, concurrency=options.concurrency)
    environ = _environment(agent)
    if isinstance(agent.entrypoint, Command):
        from gatehouse.evals.command_pool import CommandPool  # noqa: PLC0415 asyncio

        return CommandPool(
            agent.entrypoint.words,
            concurrency=options.concurrency,
            environ=environ,
            cwd=Path.cwd(),
            out_dir=folder,
        )
    from gatehouse.agent.interpreter import user_interpreter  # noqa: PLC0415
    from gatehouse.evals.worker_pool import WorkerPool  # noqa: PLC0415 asyncio

    return WorkerPool(
        agent.entrypoint.target,
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
@golden_options
@run_options
@out_option
def run(agents: tuple[str, ...], dataset: Chosen, out: Path | None, **options: Any) -> None:
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
