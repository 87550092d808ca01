"""Whether the agents that a build carries have passing verdicts; a build without agents needs none.

A verdict is what the gates left of one agent: `eval.json` and, where costs were judged, `cost.json`. It
counts for exactly the digest that stands in `build.json`, from a run at a commit with exactly the built tree.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatehouse.agent.schema import faults
from gatehouse.errors import Decision, Exit, State
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from gatehouse.release.dist import Agent, Build

SCHEMA = 1
"""The version of `evidence.json` that this code writes, and the newest that it reads."""

FILE = "evidence.json"

GATES = ("eval.json", "cost.json")
"""The files of a verdict; the first must be there."""

FILE_LIMIT = 20 * 2**20
"""Bytes of one file that is read; an `eval.json` with a hundred failing cases has less than two million."""

ARTIFACT_LIMIT = 200 * 2**20
"""Bytes of an artifact that is downloaded."""

_REASON = 500
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates said of one agent; unscored where they said nothing that counts, with the reason.

    `files` are those that say it, by name; `run_url` is the page of the run that they are from.
    """

    state: State
    reason: str
    files: dict[str, bytes] = field(default_factory=dict)
    run_url: str = ""

    @property
    def decisive(self) -> bool:
        """Whether the agent was measured: then no older verdict is looked for."""
        return self.state is not State.UNSCORED

    def allows(self, agent: Agent) -> bool:
        """Whether the agent may be published with this verdict."""
        return self.exit_code(agent) is Exit.PASS

    def exit_code(self, agent: Agent) -> Exit:
        """What the gate's exit code was; an inconclusive verdict is what the agent's file says it is."""
        return self.state.exit_code(on_inconclusive=agent.on_inconclusive)


def verdict_of(agent: Agent, files: Mapping[str, bytes], run_url: str = "") -> Verdict:
    """The verdict on `agent` that the files of one gate hold, by name; other files are left out."""
    kept = {name: files[name] for name in GATES if name in files}
    if GATES[0] not in kept:
        return Verdict(State.UNSCORED, f"there is no {GATES[0]}")
    judged: dict[str, tuple[State, str]] = {}
    for name, content in kept.items():
        data, fault = _parse(content, name.removesuffix(".json"))
        fault = fault or _mismatch(data["agent"], agent) or _other_set(data["dataset"], agent)
        if fault:
            return Verdict(State.UNSCORED, f"{name} {fault}", run_url=run_url)
        judged[name] = State(data["state"]), " ".join(plain(data["reason"], _REASON).split())
    state = State.worst([state for state, _ in judged.values()])
    reason = next(reason for one, reason in judged.values() if one is state)
    return Verdict(state, reason, kept, run_url)


def _mismatch(theirs: dict[str, Any], agent: Agent) -> str:
    """How a verdict is not one on this agent; "" where it is."""
    if theirs["name"] != agent.name:
        return f"is of the agent {plain(theirs['name'], 80)}"
    if _bare(theirs["digest"]) != _bare(agent.digest):
        return f"is of another digest ({_bare(theirs['digest'])[:12]}, not {_bare(agent.digest)[:12]})"
    return ""


def _other_set(dataset: dict[str, Any] | None, agent: Agent) -> str:
    """How a verdict is on a part of the golden set, or on another; "" where it is on the whole."""
    if not dataset:
        return ""
    if selected := dataset.get("selected"):
        count = f"{dataset['cases']} of {dataset.get('of')} cases"
        if selected.get("files"):
            count = f"{len(dataset.get('paths', []))} of {selected['files']} files"
        return f"is of a part of the golden set ({count})"
    if dataset.get("instead_of"):
        return f"is of {plain(dataset['path'], 200)}, which is not the golden set of the agent file"
    if agent.golden and _bare(dataset["digest"]) != _bare(agent.golden):
        theirs, ours = _bare(dataset["digest"])[:12], _bare(agent.golden)[:12]
        return f"is of another golden set than the built files hold ({theirs}, not {ours})"
    return ""


def _bare(digest: str | None) -> str:
    return plain(digest or "none", 80).removeprefix("sha256:")


def _parse(content: bytes, schema: str) -> tuple[dict[str, Any], str]:
    """The object that a file holds, checked by its schema, and "" or what is wrong with the file."""
    if len(content) > FILE_LIMIT:
        return {}, f"is larger than {FILE_LIMIT:,} bytes"
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}, "is not JSON"
    fault = next(faults(data, schema), None)
    if fault:
        return {}, f"is malformed: {plain(fault.message, 300)}"
    if data["schema"] > SCHEMA:
        return {}, f"is of schema {data['schema']}, this Gatehouse reads up to {SCHEMA}"
    return data, ""


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def may_count(run: dict[str, Any], repository: str, tree_of: Callable[[str], str | None], tree: str) -> bool:
    """Whether the verdicts of a workflow run may be evidence for a build of `tree`.

    `run` is as GitHub's REST API shows it, `tree_of` the tree of a commit, None for one that is not there. At
    the built tree the workflow that ran is the reviewed one. Names prove nothing: who may push can give a tag
    the name of a release branch, and a branch a workflow of its own. A pull request's run never counts, nor
    one of a fork: who opens it may have changed the thresholds, the golden set, or the workflow itself.
    """
    head = (run.get("head_repository") or {}).get("full_name") or ""
    ours = head.casefold() == repository.casefold() and run.get("event") in ("push", "workflow_dispatch")
    return ours and tree_of(run["head_sha"]) == tree


def newest_first(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each run once, by the start of its last attempt: an old run, run again, has the newer verdict."""
    unique = {run["id"]: run for run in runs}.values()
    started = {run["id"]: run.get("run_started_at") or run["created_at"] for run in unique}
    return sorted(unique, key=lambda run: (started[run["id"]], run["id"]), reverse=True)


def unpack(artifact: bytes, agents: Iterable[Agent]) -> dict[str, dict[str, bytes]]:
    """The files of the verdicts in the zip of a `gatehouse-eval` artifact, by agent and file name.

    Only members of exactly these names are read, into memory and up to a limit; no path of the zip is
    followed. Raises ValueError for what is no usable zip.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as packed:
            return {agent.name: _members(packed, agent.name) for agent in agents}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, LookupError) as error:
        raise ValueError(f"no usable zip: {error}") from None


def _members(packed: zipfile.ZipFile, folder: str) -> dict[str, bytes]:
    found = {}
    for name in GATES:
        members = [one for one in packed.infolist() if one.filename == f"{folder}/{name}"]
        if len(members) > 1:
            raise LookupError(f"{folder}/{name} stands in it {len(members)} times")
        for member in members:
            with packed.open(member) as file:
                found[name] = file.read(FILE_LIMIT + 1)
    return found


def summed_up(agents: Sequence[Agent], verdicts: Sequence[Verdict]) -> tuple[str, str, Exit]:
    """State ("pass", "fail", "unscored", or "none" without agents), reason and exit code of all together."""
    if not agents:
        return "none", "the build carries no agents", Exit.PASS
    pairs = list(zip(agents, verdicts, strict=True))
    for code, state in ((Exit.FAIL, State.FAIL), (Exit.UNSCORED, State.UNSCORED)):
        found = [(agent, verdict) for agent, verdict in pairs if verdict.exit_code(agent) is code]
        if found:
            told = "; ".join(f"{agent.name}: {verdict.state}, {verdict.reason}" for agent, verdict in found)
            return state.value, told, code
    noun = "agent has" if len(pairs) == 1 else "agents have"
    return State.PASS.value, f"{len(pairs)} {noun} a passing verdict for exactly what was built", Exit.PASS


def evidence_json(build: Build, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What `evidence.json` holds: one verdict for each agent of the build, in its order."""
    state, reason, _ = summed_up(build.agents, verdicts)
    return {
        "schema": SCHEMA,
        "name": build.name,
        "version": build.version,
        "commit": build.commit,
        "state": state,
        "reason": reason,
        "agents": [
            {
                "name": agent.name,
                "digest": agent.digest,
                "state": verdict.state.value,
                "reason": verdict.reason,
                "run_url": verdict.run_url,
            }
            for agent, verdict in zip(build.agents, verdicts, strict=True)
        ],
    }


def passing(build: Build, folder: Path) -> Decision:
    """Whether `folder` proves that every agent of the build passed its gate.

    It holds what `gatehouse evidence` wrote: `evidence.json`, and the files of each verdict in AGENT/. They
    are judged again, so that a summary alone proves nothing. Without agents the folder may be missing.
    """
    if not build.agents:
        return Decision(passed=True, reason="the build carries no agents")
    names = ", ".join(agent.name for agent in build.agents)
    content = read_file(folder / FILE)
    if content is None:
        missing = f"there is no {folder / FILE}: without evidence for {names} nothing is published."
        return Decision(passed=False, reason=f"{missing} Run `gatehouse evidence` before.")
    data, fault = _parse(content, "evidence")
    fault = fault or _other_build(data, build)
    if fault:
        return Decision(passed=False, reason=f"{folder / FILE} {fault}")
    told = {one["name"]: one for one in data["agents"]}
    verdicts = [_proven(agent, folder / agent.name, told.get(agent.name)) for agent in build.agents]
    _, reason, code = summed_up(build.agents, verdicts)
    return Decision(passed=code is Exit.PASS, reason=reason)


def _other_build(data: dict[str, Any], build: Build) -> str:
    """How an `evidence.json` is of another build; "" where it is of this one."""
    for key, ours in (("name", build.name), ("version", build.version), ("commit", build.commit)):
        if data[key] != ours:
            return f"is of another build: its {key} is {plain(data[key], 80)}, not {plain(ours, 80)}"
    return ""


def _proven(agent: Agent, folder: Path, told: dict[str, Any] | None) -> Verdict:
    """The verdict that the files under `folder` hold, if `evidence.json` tells the same."""
    if told is None:
        return Verdict(State.UNSCORED, f"{FILE} does not name it")
    verdict = verdict_of(agent, read_verdict(folder))
    if verdict.decisive and (told["state"], _bare(told["digest"])) != (verdict.state, _bare(agent.digest)):
        return Verdict(State.UNSCORED, f"{FILE} and the files of its verdict contradict each other")
    return verdict


def read_verdict(folder: Path) -> dict[str, bytes]:
    """The files of a verdict that lie in `folder`, by name."""
    found = {name: read_file(folder / name) for name in GATES}
    return {name: content for name, content in found.items() if content is not None}


def read_file(path: Path) -> bytes | None:
    """The bytes of a file, of a large one just enough to see that it is; None where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except OSError:
        return None
