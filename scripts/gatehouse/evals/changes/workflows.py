"""What changed in the workflow files that use Gatehouse: read as data, every scalar as text."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.agent.definition import AGENT_FILES
from gatehouse.agent.source import LOADER, MAX_DEPTH, MAX_NODES
from gatehouse.evals.changes.base import Change, Effect, names, other, show
from gatehouse.evals.changes.inputs import inputs, patterns_of
from gatehouse.evals.changes.options import listed, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.evals.changes.inputs import Pairs

OURS = re.compile(r"[\w.-]+/gatehouse(?:/|@)|\$/", re.IGNORECASE)
"""What `uses:` says of Gatehouse, or of a copy of it."""
TEXT: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Takes every scalar for text: `on` is no boolean here, as it is none for GitHub."""
TAKES_AGENTS = re.compile(r"/(agent-ci\.ya?ml|gatehouse|run|eval-gate|cost-gate)@", re.IGNORECASE)
"""Of these, what gates agent files."""
IN_RUN = re.compile("gatehouse|GITHUB_(ENV|PATH)", re.IGNORECASE)
"""What a script says that calls Gatehouse, or sets what it is called with."""
IN_ENV = re.compile("GATEHOUSE_|PYTHON|LD_|DYLD_|(BASH_ENV|PATH)$")
"""Variables that Gatehouse, or what starts it, reads."""
NAMED = ("if", "continue-on-error", "uses", "with", "env")
"""Keys of a job or a step that are compared one by one."""
ACCESS = ("permissions", "secrets")
HARMLESS = {
    "author",
    "branding",
    "concurrency",
    "description",
    "environment",
    "run-name",
    "runs-on",
    "services",
    "timeout-minutes",
}
"""Keys that let nothing pass; any other may have a gate skipped, or call it another way."""
FILTERS = ("branches", "tags", "paths", "types")
MAX_PATTERNS = 200
MAX_TAGS = 100


def workflows(
    base: Mapping[str, str | None], head: Mapping[str, str | None], agents: Pairs = ()
) -> Iterator[Change]:
    """Every change of the workflows and local actions that use Gatehouse, before or after.

    `agents` are those that both commits have: an input says something over theirs.
    """
    before, after = _Files(base), _Files(head)
    for path in sorted(before.using() | after.using()):
        for change in _file(path, before, after, agents):
            yield replace(change, where=path)


def agent_patterns(texts: Mapping[str, str | None]) -> list[str]:
    """The patterns of the agent files that the workflows of a commit gate, as far as they are written out."""
    files, found = _Files(texts), dict[str, None]()
    for path in sorted(files.using()):
        data = files.parsed[path]
        for holder in () if isinstance(data, str) else _holders(data):
            given = holder.get("with")
            named = patterns_of(given.get("agent")) if isinstance(given, dict) else []
            uses = str(holder.get("uses") or "")
            takes = OURS.match(uses) and TAKES_AGENTS.search(uses)
            found |= dict.fromkeys(named or (AGENT_FILES if takes else ()))
    return [pattern for pattern in found if "${{" not in pattern][:MAX_PATTERNS]


class _Files:
    """The workflows and local actions of one commit; a file that cannot be read has its reason as text."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = texts
        self.parsed: dict[str, dict[str, Any] | str] = {}
        for path, text in texts.items():
            try:
                self.parsed[path] = _parse(text)
            except (ValueError, yaml.YAMLError) as error:
                self.parsed[path] = _why(error)

    def using(self) -> set[str]:
        """The files that use Gatehouse, themselves or by another; one that cannot be read may do so."""
        users = defaultdict(list)
        for path in self.parsed:
            for target in self.targets(path):
                users[target].append(path)
        todo = [path for path in self.parsed if self.names_it(path)]
        found = set(todo)
        while todo:
            more = set(users[todo.pop()]) - found
            found |= more
            todo += more
        return found

    def names_it(self, path: str) -> bool:
        """Whether the file names Gatehouse."""
        data, text = self.parsed[path], self.texts[path]
        if text is None or "gatehouse" in text.lower():  # in a script too, and be it in a comment
            return True
        return not isinstance(data, str) and any(OURS.match(uses) for uses in _uses(data))

    def targets(self, path: str) -> set[str]:
        """The files of the same repository that the file uses."""
        data = self.parsed[path]
        local = [] if isinstance(data, str) else [uses for uses in _uses(data) if uses.startswith("./")]
        places = [posixpath.normpath(uses) for uses in local]
        return {f"{place}{end}" for place in places for end in ("", "/action.yml", "/action.yaml")}


def _why(error: Exception) -> str:
    """Why a file cannot be read, in a line."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"it is no YAML from line {mark.line + 1} on" if mark else str(error).partition("\n")[0]


def _parse(text: str | None) -> dict[str, Any]:
    """The file as mappings, lists and texts; raises ValueError and YAMLError."""
    if text is None:
        raise ValueError("it is too large, no text, or a symbolic link, which is not followed")
    too_much = ValueError(f"it holds more than {MAX_NODES} values, or more than {MAX_DEPTH} levels")
    if text.count("%TAG") > MAX_TAGS:  # libyaml compares each with all others
        raise ValueError(f"it holds more than {MAX_TAGS} %TAG directives")
    level = 0
    # libyaml's composer recurses: too deep, and the process dies; and it takes 2 s for a million values.
    for number, event in enumerate(yaml.parse(text, LOADER)):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if number > 3 * MAX_NODES or level > MAX_DEPTH:  # a value's key, its beginning and its end
            raise too_much
    data = yaml.load(text, TEXT)  # noqa: S506 it makes texts, lists and mappings only
    todo, seen = [(data, 0)], 0
    while todo:  # an alias counts wherever it stands: ten lines of them can stand for a billion values
        value, depth = todo.pop()
        seen += 1
        if seen > MAX_NODES or depth > MAX_DEPTH:
            raise too_much
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        todo += [(item, depth + 1) for item in inner]
    if not isinstance(data, dict):
        raise ValueError("it is no mapping")  # noqa: TRY004 as the other reasons
    return data


def _uses(data: dict[str, Any]) -> Iterator[str]:
    """What the jobs and steps of a file use."""
    for holder in _holders(data):
        if isinstance(holder.get("uses"), str):
            yield holder["uses"]


def _holders(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The jobs and steps of a file."""
    for job in _jobs(data).values():
        yield job
        yield from _steps(job)


def _jobs(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow by name; an action is one job."""
    jobs = {"": data["runs"]} if "runs" in data else data.get("jobs")
    return {n: job for n, job in jobs.items() if isinstance(job, dict)} if isinstance(jobs, dict) else {}


def _steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    steps = job.get("steps")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _file(path: str, base: _Files, head: _Files, agents: Pairs) -> Iterator[Change]:
    if path not in head.parsed:
        yield Change(Effect.WEAKER, "workflow file removed")
        return
    if path not in base.parsed:
        yield Change(Effect.STRONGER, "workflow file added")
        return
    before, after = base.parsed[path], head.parsed[path]
    if isinstance(before, str) or isinstance(after, str):
        if base.texts[path] != head.texts[path] or base.texts[path] is None:
            reason = before if isinstance(before, str) else after if isinstance(after, str) else ""
            yield Change(Effect.WEAKER, "workflow file not compared", after=reason)
        return
    yield from _triggers(before.get("on"), after.get("on"))
    for key in ACCESS:
        yield from other(key, "", before.get(key), after.get(key))
    yield from _environment("", before, after)
    yield from _otherwise("", before, after, ("on", "jobs", "runs", "name", "env", *ACCESS))
    old, new = _jobs(before), _jobs(after)
    for name in old | new:
        yield from _job(name, old.get(name), new.get(name), agents)


def _triggers(base: Any, head: Any) -> Iterator[Change]:
    """`on:` in all of its spellings."""
    before, after = _events(base), _events(head)
    for event in before | after:
        if event not in after:
            yield Change(Effect.WEAKER, "trigger removed", event)
        elif event not in before:
            yield Change(Effect.CHANGED, "trigger added", event)
        elif before[event] != after[event]:
            effect = _filtered(event, before[event], after[event])
            verb = "widened" if effect is Effect.STRONGER else "changed"
            yield Change(effect, f"trigger {verb}", event, show(before[event]), show(after[event]))


def _filtered(event: str, base: Any, head: Any) -> Effect:
    """What other filters of a trigger do: where the gate does not run, everything passes."""
    if event == "workflow_dispatch":
        return Effect.CHANGED
    before, after = (side or {} for side in (base, head))
    if not (isinstance(before, dict) and isinstance(after, dict) and after.keys() == before.keys()):
        return Effect.WEAKER
    keys = [key for key in before if before[key] != after[key]]
    wider = all(key in FILTERS and within(before[key], after[key]) for key in keys)
    excepts = any(str(item).startswith("!") for key in keys for item in listed(after[key]))
    return Effect.STRONGER if wider and not excepts else Effect.WEAKER


def _events(on: Any) -> dict[str, Any]:
    if isinstance(on, dict):
        return {name: config or None for name, config in on.items()}
    return dict.fromkeys(on if isinstance(on, list) else [on] if on else [])


def _job(
    name: str, base: dict[str, Any] | None, head: dict[str, Any] | None, agents: Pairs
) -> Iterator[Change]:
    ours = any(_gates(job) for job in (base, head) if job)
    if head is None:
        yield Change(Effect.WEAKER if ours else Effect.CHANGED, "job removed", name)
        return
    if base is None:
        yield Change(Effect.STRONGER if ours else Effect.CHANGED, "job added", name)
        return
    yield from _used(name, base, head, agents)
    for key in ACCESS:
        yield from other(f"{key} of a job", name, base.get(key), head.get(key))
    yield from _environment(name, base, head)
    yield from _otherwise(name, base, head, (*NAMED, *ACCESS, "steps", "name"), ours=ours)
    yield from _all_steps(name, _steps(base), _steps(head), agents)


def _gates(job: dict[str, Any]) -> bool:
    """Whether a job uses Gatehouse, or may by what it uses of the same repository."""
    return any(map(_may_gate, _uses({"jobs": {"": job}}))) or bool(_calls(_steps(job)))


def _may_gate(uses: str) -> bool:
    return uses.startswith("./") or OURS.match(uses) is not None


def _calls(steps: list[dict[str, Any]]) -> list[str]:
    """The scripts that may call Gatehouse."""
    scripts = [step["run"] for step in steps if isinstance(step.get("run"), str)]
    some = {text for text in set(scripts) if IN_RUN.search(text)}
    return [text for text in scripts if text in some]


def _environment(name: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[Change]:
    """Other variables: those that Gatehouse reads are not compared."""
    before, after = base.get("env") or {}, head.get("env") or {}
    if before == after:
        return
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield Change(Effect.WEAKER, "environment not compared", name)
        return
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    for effect, read in ((Effect.WEAKER, True), (Effect.CHANGED, False)):
        some = [key for key in keys if (IN_ENV.match(key) is not None) == read]
        if some:
            yield Change(effect, "environment changed", name, after=names(some))


def _all_steps(
    job: str, base: list[dict[str, Any]], head: list[dict[str, Any]], agents: Pairs
) -> Iterator[Change]:
    """The steps that use Gatehouse one by one, by what they use; the others together."""
    before, after = _by_action(base), _by_action(head)
    for key in before | after:
        name, old, new = f"{job}: {key[0]}".removeprefix(": "), before.get(key), after.get(key)
        if new is None:
            yield Change(Effect.WEAKER, "step removed", name)
        elif old is None:
            yield Change(Effect.STRONGER, "step added", name)
        else:
            yield from _used(name, old, new, agents)
            yield from _environment(name, old, new)
            yield from _otherwise(name, old, new, (*NAMED, "name", "id"))
    rest = [[step for step in steps if not _is_ours(step)] for steps in (base, head)]
    if rest[0] == rest[1]:
        return
    calling = [[step for step in steps if _calls([step])] for steps in rest]
    if calling[0] != calling[1]:
        yield Change(Effect.WEAKER, "scripts that may call Gatehouse changed", job)
    for old, new in zip(*rest, strict=False):
        yield from (one for one in _environment(job, old, new) if one.effect is Effect.WEAKER)
    yield Change(Effect.CHANGED, "other steps changed", job)


def _by_action(steps: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Our steps by the action, without its version, and how often it was used before."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    used = Counter[str]()
    for step in filter(_is_ours, steps):
        action = step["uses"].partition("@")[0]
        found[action, used[action]] = step
        used[action] += 1
    return found


def _is_ours(step: dict[str, Any]) -> bool:
    return isinstance(step.get("uses"), str) and OURS.match(step["uses"]) is not None


def _used(name: str, base: dict[str, Any], head: dict[str, Any], agents: Pairs) -> Iterator[Change]:
    """What a job or a step uses, with which inputs, and when it counts."""
    used = [str(holder.get("uses") or "") for holder in (base, head)]
    if used[0] != used[1]:
        same = _repository(used[0]) == _repository(used[1])
        gone = OURS.match(used[0]) and not same
        effect = Effect.WEAKER if _may_gate(used[0]) else Effect.CHANGED
        yield Change(
            effect, "Gatehouse no longer used" if gone else "what is used changed", name, *map(show, used)
        )
    yield from inputs(name, base.get("with") or {}, head.get("with") or {}, agents)
    old, new = base.get("if"), head.get("if")
    if old != new:  # a job or step that is skipped counts as passed
        verb = "added" if old is None else "removed" if new is None else "changed"
        yield Change(Effect.WEAKER, f"condition {verb}", name, show(old), show(new))
    lenient = [holder.get("continue-on-error") or "false" for holder in (base, head)]
    if lenient[0] != lenient[1]:
        effect = Effect.STRONGER if lenient[1] == "false" else Effect.WEAKER
        yield Change(effect, "continue-on-error changed", name, *map(show, lenient))


def _repository(uses: str) -> str:
    """Whose a used action or workflow is, such as `gatehouse-ci/gatehouse`."""
    return "/".join(uses.partition("@")[0].lower().split("/")[:2])


def _otherwise(
    name: str,
    base: Mapping[str, Any],
    head: Mapping[str, Any],
    apart: tuple[str, ...],
    *,
    ours: bool = True,
) -> Iterator[Change]:
    """The keys that are compared in no other way, in one line each for those that may matter or not."""
    keys = [key for key in {**base, **head} if key not in apart and base.get(key) != head.get(key)]
    for effect, harmless in ((Effect.WEAKER, False), (Effect.CHANGED, True)):
        some = [key for key in keys if (key in HARMLESS or not ours) == harmless]
        if some:
            yield Change(effect, "changed otherwise", name, after=names(some))
