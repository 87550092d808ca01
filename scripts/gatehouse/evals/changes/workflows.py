"""What changed in the workflow files that use Gatehouse: read as data, every scalar as text."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.agent.source import LOADER, MAX_DEPTH, MAX_NODES
from gatehouse.evals.changes.base import Change, Effect, names, other, show
from gatehouse.evals.changes.inputs import inputs
from gatehouse.evals.changes.options import of_trigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.evals.changes.inputs import Pairs

OURS = re.compile(r"[\w.-]+/gatehouse(?:/|@)|\$/", re.IGNORECASE)
"""What `uses:` says of Gatehouse, or of a copy of it."""
TEXT: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Takes every scalar for text: `on` is no boolean here, as it is none for GitHub."""
NAMED = ("if", "continue-on-error", "uses", "with")
"""Keys of a job or a step that are compared one by one."""
ACCESS = ("permissions", "secrets")
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
        data = self.parsed[path]
        if isinstance(data, str):
            text = self.texts[path]
            return text is None or "gatehouse" in text.lower()
        return any(OURS.match(uses) for uses in _uses(data))

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
    for job in _jobs(data).values():
        for holder in (job, *_steps(job)):
            if isinstance(holder.get("uses"), str):
                yield holder["uses"]


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
    yield from _otherwise("", before, after, ("on", "jobs", "runs", "name", *ACCESS))
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
            effect = of_trigger(event, before[event], after[event])
            yield Change(effect, TRIGGER[effect], event, show(before[event]), show(after[event]))


TRIGGER = {
    Effect.WEAKER: "trigger narrowed",
    Effect.CHANGED: "trigger changed",
    Effect.STRONGER: "trigger widened",
}


def _events(on: Any) -> dict[str, Any]:
    if isinstance(on, dict):
        return {name: config or None for name, config in on.items()}
    return dict.fromkeys(on if isinstance(on, list) else [on] if on else [])


def _job(
    name: str, base: dict[str, Any] | None, head: dict[str, Any] | None, agents: Pairs
) -> Iterator[Change]:
    if base is None or head is None:
        gates = [uses for job in (base, head) if job for uses in _uses({"jobs": {name: job}})]
        ours = any(OURS.match(uses) for uses in gates)
        if head is None:
            yield Change(Effect.WEAKER if ours else Effect.CHANGED, "job removed", name)
        else:
            yield Change(Effect.STRONGER if ours else Effect.CHANGED, "job added", name)
        return
    yield from _used(name, base, head, agents)
    for key in ACCESS:
        yield from other(f"{key} of a job", name, base.get(key), head.get(key))
    yield from _otherwise(name, base, head, (*NAMED, *ACCESS, "steps", "name"))
    yield from _all_steps(name, _steps(base), _steps(head), agents)


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
            yield from _otherwise(name, old, new, (*NAMED, "name", "id"))
    rest = [[step for step in steps if not _is_ours(step)] for steps in (base, head)]
    if rest[0] != rest[1]:
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
    if OURS.match(used[0]) and not OURS.match(used[1]):
        yield Change(Effect.WEAKER, "Gatehouse no longer used", name, *map(show, used))
    else:
        yield from other("what is used", name, base.get("uses"), head.get("uses"))
    yield from inputs(name, base.get("with") or {}, head.get("with") or {}, agents)
    old, new = base.get("if"), head.get("if")
    if old is None and new is not None:  # a job or step that is skipped counts as passed
        yield Change(Effect.WEAKER, "condition added", name, after=show(new))
    else:
        yield from other("condition", name, old, new)
    lenient = [holder.get("continue-on-error") or "false" for holder in (base, head)]
    if lenient[0] != lenient[1]:
        effect = Effect.STRONGER if lenient[1] == "false" else Effect.WEAKER
        yield Change(effect, "continue-on-error changed", name, *map(show, lenient))


def _otherwise(
    name: str, base: Mapping[str, Any], head: Mapping[str, Any], apart: tuple[str, ...]
) -> Iterator[Change]:
    """The keys that are compared in no other way, in one line."""
    keys = [key for key in {**base, **head} if key not in apart and base.get(key) != head.get(key)]
    if keys:
        yield Change(Effect.CHANGED, "changed otherwise", name, after=names(keys))
