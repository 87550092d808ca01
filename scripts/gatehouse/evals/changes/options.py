"""Options of metrics, and filters, of which one can tell by reading which way they go."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Literal

from gatehouse.evals.changes.base import Effect
from gatehouse.evals.metrics.fields import covers
from gatehouse.evals.metrics.tools import key_of

Lenient = Callable[[Any, Any], bool]
"""Whether the first of two values lets everything pass, or leaves it out, that the second one does."""


def effect_of(lenient: Lenient | None, before: Any, after: Any) -> Effect:
    """What a change from `before` to `after`, None where it is not given, does to the gate."""
    if lenient is None or (forward := lenient(after, before)) == lenient(before, after):
        return Effect.CHANGED
    return Effect.WEAKER if forward else Effect.STRONGER


def listed(value: Any) -> list[Any]:
    """The items of a list, of which one may stand for itself; [] for nothing."""
    return value if isinstance(value, list) else [] if value is None else [value]


def wanted(
    absent: Literal["all", "none", "other"], covered: Callable[[str, str], bool] = str.__eq__
) -> Lenient:
    """By a list of what is looked for: a shorter one is the more lenient, and none means all, or nothing.

    `covered(one, by)` says whether an item finds nothing that the item `by` does not.
    """

    def lenient(a: Any, b: Any) -> bool:
        first, second = listed(a), listed(b)
        if not first or not second:
            return {"all": not second, "none": not first, "other": False}[absent]
        return all(any(covered(one, by) for by in second) for one in first)

    return lenient


def spared(covered: Callable[[str, str], bool] = str.__eq__) -> Lenient:
    """By a list of what is let pass: a longer one is the more lenient."""
    inner = wanted("none", covered)
    return lambda a, b: inner(b, a)


def ranked(default: Any, *values: Any) -> Lenient:
    """By a choice between values, the most lenient first."""

    def lenient(a: Any, b: Any) -> bool:
        return values.index(default if a is None else a) <= values.index(default if b is None else b)

    return lenient


def _larger(a: float | None, b: float | None) -> bool:
    return (a or 0) >= (b or 0)


def _is_part(one: str, by: str) -> bool:
    """Whether a dotted path lies at or below another."""
    return covers([tuple(by.split("."))], tuple(one.split(".")))


def _is_tool(one: str, by: str) -> bool:
    """Whether a pattern of tools' names, in which only `*` is special, is of none that another is not of."""
    return fnmatchcase(key_of(one), key_of(by))


OPTIONS: dict[tuple[str, str], Lenient] = {
    ("json_fields", "tolerance"): _larger,
    ("json_fields", "relative"): _larger,
    ("json_fields", "fields"): wanted("all", _is_part),
    ("json_fields", "ignore"): spared(_is_part),
    ("json_fields", "extra"): ranked(True, True, False),
    ("numeric", "tolerance"): _larger,
    ("numeric", "relative"): _larger,
    ("contains", "text"): wanted("other"),
    ("not_contains", "text"): wanted("other"),
    ("pattern_match", "ignore_case"): ranked(False, True, False),
    ("tool_calls", "match"): ranked("set", "subset", "set", "order"),
    ("forbidden_tools", "tools"): wanted("other", _is_tool),
    ("tool_permission", "allowed"): lambda a, b: not a or (bool(b) and set(b) <= set(a)),
    ("tool_permission", "denied"): wanted("none"),
    ("canary_leak", "text"): wanted("none"),
    ("secret_leak", "allow"): spared(),
    ("pii_leak", "kinds"): wanted("all"),
    ("pii_leak", "allow"): spared(),
    ("pii_leak", "region"): wanted("none"),
}
"""Options by metric. Any other may go either way: a pattern, a method, the phrases of a refusal."""


PULL_REQUEST = ["opened", "synchronize", "reopened"]
"""The types of event of a pull request that start a workflow where none are named."""
FILTERS = {
    "branches": wanted("all"),
    "tags": wanted("all"),
    "paths": wanted("all"),
    "types": wanted("all"),
    "branches-ignore": spared(),
    "tags-ignore": spared(),
    "paths-ignore": spared(),
}


def of_trigger(event: str, before: Any, after: Any) -> Effect:
    """What other filters of a trigger do: where the gate does not run, everything passes."""
    sides = [side or {} for side in (before, after)]
    if not all(isinstance(side, dict) for side in sides):
        return Effect.CHANGED
    old, new = ({**side} for side in sides)
    if event.startswith("pull_request"):
        old, new = ({"types": PULL_REQUEST, **side} for side in (old, new))
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    items = [item for side in (old, new) for key in keys for item in listed(side.get(key))]
    # With branches alone no tag starts it, and the other way round; after a "!" the order counts.
    both = any(key.startswith("tags") for key in (*old, *new)) and old.keys() != new.keys() and sides[0]
    if both or any(not isinstance(item, str) or item.startswith("!") for item in items):
        return Effect.CHANGED
    found = {effect_of(FILTERS.get(key), old.get(key), new.get(key)) for key in keys}
    return found.pop() if len(found) == 1 else Effect.CHANGED
