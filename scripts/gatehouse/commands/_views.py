"""What of a commit makes its gate, loaded from its tree into a folder of our own; nothing is executed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gatehouse.agent.definition import AGENT_FILES, load_agent
from gatehouse.agent.schema import is_agent_name
from gatehouse.agent.source import RefusedError, decode, parse_yaml, read_file
from gatehouse.commands._shared import first_lines
from gatehouse.commands._trees import matches
from gatehouse.errors import GatehouseError
from gatehouse.evals.changes import KINDS, OWNERS, pairs
from gatehouse.evals.changes.base import AgentView, CaseView, View
from gatehouse.evals.changes.golden import view as case_view
from gatehouse.evals.changes.workflows import agent_patterns
from gatehouse.evals.dataset import GoldenSet
from gatehouse.evals.metrics import gates_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatehouse.agent.definition import Agent
    from gatehouse.commands._trees import Tree

FOLDERS = tuple(KINDS)
WORKFLOW = re.compile(r"(\.github/workflows/[^/]+|(.+/)?action)\.ya?ml")
"""Workflows, and local actions wherever they lie."""
MAX_WORKFLOW = 2**20
MAX_WORKFLOWS = 2**22
"""Bytes of one workflow or local action that is read, and of them all."""


def load_views(base: Tree, head: Tree, patterns: tuple[str, ...], folder: Path) -> tuple[View, View]:
    """Both views, their files under `folder`; raises GitError and OSError.

    The agents are those of this run and those that the base's own workflows gate: a pull request that has
    another pattern cannot make it another comparison.
    """
    texts = _workflows(base), _workflows(head)
    run, gated = patterns or AGENT_FILES, agent_patterns(texts[0]) or AGENT_FILES
    asked = (*run, *gated, *AGENT_FILES)
    views = _view(base, asked, folder / "base", texts[0]), _view(head, asked, folder / "head", texts[1])
    still = (*run, *agent_patterns(texts[1]))
    for agent in views[1].agents:
        new = agent.path not in base.files
        agent.covered = _is_one(agent.path, still) or not (new or _is_one(agent.path, gated))
    for before, after in pairs(*views):
        if before and after:
            _load_cases(before, after, base, head)
    return views


def _is_one(path: str, patterns: Iterable[str]) -> bool:
    return any(path == pattern or matches(path, pattern) for pattern in patterns)


def _view(tree: Tree, patterns: tuple[str, ...], folder: Path, workflows: dict[str, str | None]) -> View:
    folder.mkdir()
    for path in tree.below("evals/rubrics/"):
        with suppress(RefusedError):  # what needs it then says that it is not there
            tree.write(path, folder)
    agents = [_agent(tree, path, folder) for path in tree.matching(patterns)]
    owners = {path: tree.whole[path].blob for path in OWNERS if path in tree.whole}
    return View(agents, tree.below(*FOLDERS) | owners, workflows)


def _workflows(tree: Tree) -> dict[str, str | None]:
    """The texts of the workflows and local actions; None for one beyond the limits."""
    texts, read = dict[str, str | None](), 0
    for path, entry in tree.whole.items():
        if WORKFLOW.fullmatch(path):
            fits = entry.size <= MAX_WORKFLOW and read + entry.size <= MAX_WORKFLOWS
            read += entry.size * fits
            texts[path] = tree.text(path) if fits else None
    return texts


def uncommitted(tree: Tree, view: View, patterns: tuple[str, ...]) -> list[str]:
    """The files of HEAD's view that are edited, or new, and not committed."""
    named = {path for one in view.agents for files in one.code.values() for path in files}
    for agent in (one.agent for one in view.agents if one.agent):
        named |= {*agent.evals.dataset, agent.guardrails.output_schema or ""}

    def is_compared(path: str) -> bool:
        inner = tree.inside(path)
        if path in OWNERS or WORKFLOW.fullmatch(path):
            return True
        wanted = any(matches(inner, pattern) for pattern in patterns or AGENT_FILES)
        return inner != "" and (wanted or inner in named or inner.startswith(FOLDERS))

    return [path for path in tree.edited() if is_compared(path)]


def _agent(tree: Tree, path: str, folder: Path) -> AgentView:
    """One agent file, with what it names; what is wrong with it is its problem."""
    view = AgentView(path, PurePosixPath(path).stem)
    try:
        tree.write(path, folder)
        data = parse_yaml(decode(read_file(folder, path), path), path).data
        said = data.get("agent") if isinstance(data, dict) else None
        said = said if isinstance(said, dict) else {}
        view.name = said["name"] if is_agent_name(said.get("name")) else view.name
        for name in _named(said):
            tree.write(name, folder)
        agent = load_agent(path, folder)
        view.gates = {gate.metric.name: gate for gate in gates_of(agent)}
    except RefusedError as error:
        view.problem = f"{path}:{error.line}: {error.message}" if error.line else error.message
    except GatehouseError as error:
        view.problem = first_lines(error)
    else:
        view.agent, view.code = agent, _code(tree, agent)
    return view


def _named(agent: dict[str, Any]) -> list[str]:
    """The files that loading an agent reads."""
    guardrails = agent.get("guardrails")
    schema = guardrails.get("output_schema") if isinstance(guardrails, dict) else None
    return [name for name in (agent.get("system_prompt"), schema) if isinstance(name, str)]


def _code(tree: Tree, agent: Agent) -> dict[str, dict[str, str]]:
    """For each metric of the user's own code the hashes of its files, the module's own first."""
    found = {}
    for name, setting in agent.evals.metrics.items():
        module, colon, _ = (setting.metric or "").partition(":")
        if colon:
            found[name] = _files_of(tree, module.replace(".", "/"))
    return found


def _files_of(tree: Tree, module: str) -> dict[str, str]:
    """The files of a module in the root or in src: its own first, then its package or what lies beside it."""
    for source in ("", "src/"):
        own = [p for p in (f"{source}{module}.py", f"{source}{module}/__init__.py") if p in tree.files]
        package = f"{source}{module.partition('/')[0]}/"
        beside = tree.below(package) if "/" in module or not own else {}
        if own and not beside:
            beside = {path: blob for path, blob in tree.below(source).items() if path.endswith(".py")}
        if own or beside:
            return {path: tree.files[path].blob for path in own} | beside
    return {}


def _load_cases(before: AgentView, after: AgentView, base: Tree, head: Tree) -> None:
    """Read the golden sets of a pair, but for the files that are the same in both."""
    if not (before.agent and after.agent):
        return
    sets = before.agent.evals.dataset, after.agent.evals.dataset
    same = {path for path in set(sets[0]) & set(sets[1]) if base.has_as(path, head)}
    before.cases = _cases(base, before.agent.root, [path for path in sets[0] if path not in same])
    after.cases = _cases(head, after.agent.root, [path for path in sets[1] if path not in same])


def _cases(tree: Tree, folder: Path, paths: list[str]) -> dict[str, CaseView] | str:
    """The cases of some files, by id, or why they cannot be read."""
    if not paths:
        return {}
    try:
        for path in paths:
            tree.write(path, folder)
        return {case.id: case_view(case) for case in GoldenSet(paths, folder)}
    except RefusedError as error:
        return error.message
    except GatehouseError as error:
        return first_lines(error)
