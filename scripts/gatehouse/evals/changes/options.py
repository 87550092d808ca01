"""Options of metrics of which one can tell that they became stricter; any other counts as weaker."""

from __future__ import annotations

from typing import Any

from gatehouse.evals.changes.base import Effect

NUMBERS = {"tolerance", "relative"}
"""Options by which less passes where they are smaller, 0 where they are not given."""
SPARED = {"allow", "ignore"}
"""Lists of what is let pass, or not looked at."""
WANTED = {
    ("json_fields", "fields"),
    ("pii_leak", "kinds"),
    ("contains", "text"),
    ("not_contains", "text"),
    ("canary_leak", "text"),
    ("forbidden_tools", "tools"),
    ("tool_permission", "denied"),
}
"""Lists of what is looked for, by metric."""


def listed(value: Any) -> list[Any]:
    """The items of a list, of which one may stand for itself; [] for nothing."""
    return value if isinstance(value, list) else [] if value is None else [value]


def within(some: Any, more: Any) -> bool:
    """Whether every item of a list of texts is in another."""
    texts = all(isinstance(item, str) for item in (*listed(some), *listed(more)))
    return texts and set(listed(some)) <= set(listed(more))


def effect_of(metric: str, option: str, before: Any, after: Any) -> Effect:
    """What another value, None where it is not given, does: weaker where it is not sure to be stricter."""
    if option in NUMBERS:
        stricter = (after or 0) < (before or 0)
    elif option in SPARED:
        stricter = within(after, before)
    else:  # without a list it may be everything that is looked for, or what each case says
        stricter = (metric, option) in WANTED and bool(listed(before)) and within(before, after)
    return Effect.STRONGER if stricter else Effect.WEAKER
