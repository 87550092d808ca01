"""What several commands read alike: golden sets, results, and the failure left behind for the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.agent.digest import tracked_below
from gatehouse.cli import Lines
from gatehouse.commands._agents import agent_files, agent_option, require_unique
from gatehouse.commands._judge import judge_options, with_models
from gatehouse.errors import Exit, GatehouseError, InfrastructureError, State, UserError
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.metrics import Gate, gates_of
from gatehouse.evals.results import OUT, SCHEMA, StaleError, Subject, find_runs, write_json
from gatehouse.evals.selection import Chosen, Selection, held_to
from gatehouse.github.escape import plain
from gatehouse.github.event import current_commit
from gatehouse.github.runner import annotate, in_actions, set_outputs, show_error

F = TypeVar("F", bound=Callable[..., Any])


def out_option(function: F) -> F:
    """`--out`: the folder of one agent's results."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Folder of the results. Default: .gatehouse/AGENT.",
    )(function)


def runs_option(function: F) -> F:
    """`--runs`: results of the run stage from elsewhere."""
    return click.option(
        "--runs",
        cls=Lines,
        multiple=True,
        metavar="PATH",
        help="runs.jsonl, or a folder that holds them; repeatable. "
        "Default: those under --out; eval-gate makes new ones.",
    )(function)


def dataset_option(function: F) -> F:
    """`--dataset`: other files of the golden set than the agent file's."""
    return click.option(
        "--dataset",
        cls=Lines,
        multiple=True,
        metavar="FILE",
        help="Golden set (JSONL, CSV, YAML or JSON); repeatable. Default: evals.dataset of the agent file.",
    )(function)


def golden_options(function: F) -> F:
    """`--dataset`, `--tag` and `--case`, handed on together: the golden set, or the part, to be asked."""

    @wraps(function)
    def gathered(
        *args: Any, dataset: tuple[str, ...], tag: tuple[str, ...], case: tuple[str, ...], **others: Any
    ) -> Any:
        return function(*args, dataset=Chosen(dataset, Selection(tag, case)), **others)

    said = "A verdict on a part is never a pass."
    helps = {
        "case": ("ID", f"Only the case with this id, and those of --tag; repeatable. {said}"),
        "tag": ("TAG", f"Only the cases with this tag, and those of --case; repeatable. {said}"),
    }
    options = gathered
    for name, (metavar, text) in helps.items():
        options = click.option(f"--{name}", cls=Lines, multiple=True, metavar=metavar, help=text)(options)
    return cast("F", dataset_option(options))


class Thresholds(click.ParamType):
    """`name=value,name=value`, as numbers by metric; all that is wrong with it is said at once."""

    name = "thresholds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        """The mapping; a click error that names every part that is not `name=number`."""
        if isinstance(value, dict):
            return value
        found: dict[str, float] = {}
        wrong: list[str] = []
        for part in filter(None, (p.strip() for p in str(value).replace("\n", ",").split(","))):
            name, _, number = (p.strip() for p in part.partition("="))
            try:
                threshold = float(number)
            except ValueError:
                threshold = float("nan")
            if not name or threshold != threshold or abs(threshold) == float("inf") or name in found:  # noqa: PLR0124
                wrong.append(part)
            found[name] = threshold
        if wrong:
            self.fail(
                f"{', '.join(map(repr, wrong))}: write name=number once for each metric, "
                "separated by commas: exact_match=0.85,latency_p95=2.5",
                param,
                ctx,
            )
        return found


def threshold_option(function: F) -> F:
    """`--threshold`: over those of the agent file."""
    return click.option(
        "--threshold",
        "threshold",
        type=Thresholds(),
        metavar="NAME=VALUE,...",
        help="Thresholds over those of the agent file.",
    )(function)


def gate_options(function: F) -> F:
    """What the stages of the eval gate take: agent, golden set, thresholds, judge, runs, folder."""
    options = (out_option, runs_option, judge_options, threshold_option, golden_options, agent_option)
    for option in options:
        function = option(function)
    return function


def folder_of(name: str, out: Path | None) -> Path:
    """The folder of an agent's results."""
    return out or OUT / name


def subject_of(agent: Agent, dataset: Chosen) -> Subject:
    """The agent with its golden set and the commit at hand; raises UserError."""
    dataset, instead_of = held_to(agent.evals.dataset, dataset, Path.cwd())
    if not dataset.paths:
        raise UserError(
            agent.problem(
                message="the agent file names no golden set.",
                repair="Write evals: {dataset: FILE}, or give --dataset FILE.",
            )
        )
    golden = GoldenSet(dataset.paths, selection=dataset.selection)
    return Subject(agent, golden, current_commit(Path.cwd()), instead_of)


def eval_gates(agent: Agent, threshold: dict[str, float] | None) -> list[Gate]:
    """What the eval gate holds the agent to; raises UserError where that is nothing."""
    held = gates_of(agent, threshold)
    costs = [gate.metric.name for gate in held if gate.metric.kind == "cost"]
    astray = [name for name in costs if name in (threshold or {})]
    if astray:
        option = " and ".join(f"--max-{name.removeprefix('cost_').replace('_', '-')}" for name in astray)
        raise UserError(f"--threshold: {', '.join(astray)} is judged by the cost gate: give it {option}.")
    gates = [gate for gate in held if gate.metric.kind != "cost"]
    if all(gate.implied for gate in gates):  # guardrails and budgets alone say nothing of the answers
        raise UserError(
            agent.problem(
                message="the agent file names no metric: nothing would be measured.",
                repair="Write evals: {metrics: {exact_match: 0.9}}, or give "
                "--threshold exact_match=0.9. `gatehouse metrics` lists every name.",
            )
        )
    return with_models(agent, gates)


def runs_for(agent: Agent, runs: tuple[str, ...], folder: Path, *, only: bool) -> list[Path]:
    """The run files of one agent: those under its folder, or of `runs` those that say they are its own.

    Where it is the `only` agent and none says so, all of `runs` are meant for it: the error then tells whose
    they are. Raises StaleError where there are none.
    """
    if not runs:
        return [folder / "runs.jsonl"]
    files = find_runs(runs)
    own = [file for file in files if _says_it_is_of(file, agent.name)]
    files = own or (files if only else [])
    if not files:
        shown = [path for path in runs if not Path(path).is_absolute()]  # a runner's own paths say nothing
        where = f" in {', '.join(shown)}" if shown else ""
        raise StaleError(
            f"No runs of {agent.name} were found{where}: it was not run, or its results were lost."
        )
    return files


def _says_it_is_of(file: Path, name: str) -> bool:
    from gatehouse.agent.protocol import MalformedError, RunInfo  # noqa: PLC0415 beside its one use

    try:
        return bool(RunInfo.read(file.with_name("run.json")).agent["name"] == name)
    except (MalformedError, OSError):
        return f"-{name}-" in f"-{file.parent.name}-"  # unreadable: whose it was, its folder says


EMPTY: dict[str, dict[str, Any]] = {
    "eval.json": {"metrics": [], "failing": 0, "failing_cases": []},
    "cost.json": {"limits": [], "by_model": []},
}
"""The verdict files, and what is in one of a gate that found nothing out."""


def no_verdict(file: str, name: str, path: str, reason: str, code: Exit) -> dict[str, Any]:
    """What stands in a verdict file where there is no verdict, so that the scorecard can say why."""
    return {
        "schema": SCHEMA,
        "agent": {"name": name, "version": None, "digest": None, "path": path},
        "dataset": None,
        "commit": current_commit(Path.cwd()),
        "state": State.UNSCORED,
        "reason": reason,
        "exit_code": code,
        **EMPTY[file],
    }


def leave(folder: Path, file: str, name: str, path: str, error: GatehouseError) -> None:
    """Write a verdict file that says why there is no verdict."""
    write_json(folder / file, no_verdict(file, name, path, first_lines(error), error.code))


def first_lines(error: GatehouseError) -> str:
    """An error in a line or two, without its carets: for a verdict file."""
    problems = error.problems if isinstance(error, UserError) else []
    if not problems:
        return str(error).partition("\n")[0]
    where = [
        f"{p.path}:{p.line}: {p.message}" if p.line else f"{p.path}: {p.message}" if p.path else p.message
        for p in problems[:3]
    ]
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""  # noqa: PLR2004
    return " ".join(where) + more


@dataclass(frozen=True, slots=True)
class Result:
    """What a gate came to for one agent."""

    name: str
    state: State
    reason: str
    code: Exit


Work = Callable[[Agent, Path, bool], tuple[State, str]]
"""The work of a stage on one agent: from the agent, its folder, and whether it is the only one."""


def each_agent(agents: tuple[str, ...], out: Path | None, file: str, work: Work) -> list[Result]:
    """Do `work` for each agent; what goes wrong with one is left in its `file`, and the others go on.

    Raises UserError where no agent is named, `--out` is one folder for several, or two agents share a name.
    """
    files = agent_files(agents)
    if out and len(files) > 1:
        raise UserError(f"--out is the folder of one agent, and there are {len(files)}: {', '.join(files)}.")
    names = require_unique(files)
    refuse_committed(out or OUT)
    for name, path in names.items() if file else ():
        # Until its verdict is there, an agent has none: not an old one, and not none at all, which would be
        # no news in the scorecard where the stage is killed on its way through several agents.
        leave(folder_of(name, out), file, name, path, InfrastructureError("the gate was broken off"))
    only, shown = len(files) == 1, set[str]()
    return [
        _one(name, path, folder_of(name, out), file, work, only=only, shown=shown)
        for name, path in names.items()
    ]


def _one(name: str, path: str, folder: Path, file: str, work: Work, *, only: bool, shown: set[str]) -> Result:
    try:
        agent = load_agent(path)
        for warning in agent.warnings:
            annotate("warning", warning.message, file=warning.path, line=warning.line)
        state, reason = work(agent, folder, only)
    except Exception as fault:  # noqa: BLE001 one agent's trouble, ours too, is not the others'
        error = fault if isinstance(fault, GatehouseError) else our_fault(fault)
        if str(error) not in shown:  # an option's fault is every agent's
            show_error(error)
            shown.add(str(error))
        if file:
            with suppress(InfrastructureError):  # where nothing can be written, that is what was just shown
                leave(folder, file, name, path, error)
        return Result(name, State.UNSCORED, first_lines(error), error.code)
    return Result(name, state, reason, state.exit_code(on_inconclusive=agent.evals.on_inconclusive))


def our_fault(fault: Exception) -> InfrastructureError:
    """A fault of Gatehouse as what it is for the gate: nothing was measured. Its traceback goes to stderr."""
    from traceback import print_exception  # noqa: PLC0415 only for the error

    print_exception(fault)
    return InfrastructureError(f"a fault of Gatehouse, please report it: {type(fault).__name__}: {fault}")


def refuse_committed(folder: Path) -> None:
    """Raise UserError where results are committed: a pull request would bring its own, or links for them."""
    if tracked := tracked_below(Path.cwd(), str(folder)):
        raise UserError(
            f"{folder} is committed ({tracked[0]}): results are made, never checked in. "
            f"Write `git rm -r --cached {folder}`, and add `{OUT}/` to .gitignore."
        )


def exit_code(results: list[Result]) -> Exit:
    """The exit code of several agents: a failed gate, then a file to mend, then what was not measured."""
    codes = {result.code for result in results}
    return next((code for code in (Exit.FAIL, Exit.INVALID, Exit.UNSCORED) if code in codes), Exit.PASS)


def finish(results: list[Result]) -> None:
    """Hand on the outputs that both gates share, and end with their exit code.

    A gate that failed, or passed without proof, also says so where the run's summary shows it.
    """
    # A reason may quote a model: one line, and nothing in it that a later step's log would obey.
    results = [replace(result, reason=" ".join(plain(result.reason).split())) for result in results]
    for result in results:
        if result.state in (State.FAIL, State.INCONCLUSIVE) and in_actions():
            annotate("error" if result.state is State.FAIL else "warning", f"{result.name}: {result.reason}")
    state = State.worst([r.state for r in results])
    worst = [r for r in results if r.state is state]
    set_outputs(
        {
            "state": state,
            "reason": worst[0].reason
            if len(worst) == 1
            else "; ".join(f"{r.name}: {r.reason}" for r in worst),
            "agents": json.dumps([{"name": r.name, "state": r.state, "reason": r.reason} for r in results]),
        }
    )
    click.get_current_context().exit(exit_code(results))
