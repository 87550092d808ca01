"""What changed of the gate itself, for the scorecard and for a terminal: apart from the verdict.

It says what `changes.json` says, all of which is hostile: it is escaped here, where it enters the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.evals.changes.base import Change, Effect
from gatehouse.github.escape import markdown_inline, plain
from gatehouse.report.prose import one_line, prose

if TYPE_CHECKING:
    from collections.abc import Callable

    Quote = Callable[[str, int], str]

LIMIT = 8_000
"""Characters of the section: it must not crowd out the verdict."""
SHARES = {Effect.WEAKER: 4_000, Effect.CHANGED: 2_000, Effect.STRONGER: 1_200}
"""Characters for the changes of each kind, whole lines at a time."""
TEXTS = ("what", "name", "before", "after", "where")
MOST = 30
"""Lines for the changes of each kind."""
WHOLE = "The run's artifact holds them all (`changes.json`)."
NOT_SEEN = "a threshold lowered or a case dropped here would go unseen"


def section(data: dict[str, Any]) -> str:
    """The section in GitHub's Markdown, at most `LIMIT` characters; "" where there is nothing to say.

    Raises ValueError, LookupError or TypeError for what is no such file.
    """
    if not data["compared"]:
        reason = prose(str(data["reason"]), 400).removesuffix(".")
        loud = f"⚠️ **The gate itself was not compared with its base**, so {NOT_SEEN}: {reason}."
        return loud if data["due"] else ""
    found = _changes(data)
    if not found:
        return ""
    name = markdown_inline(str(data["base"]["name"]), 100)
    base = f"{name} ({markdown_inline(str(data['base']['commit'])[:12], 12)})"
    parts = [
        f"#### Changes of the gate itself: {_counts(found)}",
        f"Against {base}. The verdict above is by the gate as it is here, with these changes.",
    ]
    for effect, share in SHARES.items():
        shown = _block([change for change in found if change.effect is effect], share)
        if effect is Effect.STRONGER and shown:
            title = f"{_count(found, effect)} that make{_s(found, effect)} it stronger"
            shown = f"<details><summary>{title}</summary>\n\n{shown}\n\n</details>"
        parts += [shown] if shown else []
    return "\n\n".join(parts)


def lines(data: dict[str, Any]) -> list[str]:
    """The same for a terminal; [] where there is nothing to say."""
    if not data["compared"]:
        loud = f"The gate itself was not compared with its base, so {NOT_SEEN}: {data['reason']}"
        return [f"⚠️ {plain(one_line(loud), 600)}"] if data["due"] else []
    found = _changes(data)
    if not found:
        return []
    base = plain(one_line(str(data["base"]["name"])), 100)
    told = [f"Changes of the gate itself against {base}: {_counts(found)}"]
    for effect in SHARES:
        some = [change for change in found if change.effect is effect]
        told += [f"  {_mark(change)}{_line(change, _literal, _literal)}" for change in some[:MOST]]
        told += [f"  and {len(some) - MOST} more" for _ in some[MOST : MOST + 1]]
    return told


def _changes(data: dict[str, Any]) -> list[Change]:
    """The changes, each a text in every field; raises as `section` does."""
    found = []
    for one in data["changes"]:
        texts = {name: str(one[name]) for name in TEXTS}
        agent = None if one["agent"] is None else str(one["agent"])
        found.append(Change(Effect(one["effect"]), **texts, agent=agent))
    return found


def _counts(found: list[Change]) -> str:
    """How many there are of each kind."""
    words = {Effect.WEAKER: "weaker", Effect.CHANGED: "changed", Effect.STRONGER: "stronger"}
    counted = ((sum(change.effect is effect for change in found), word) for effect, word in words.items())
    return ", ".join(f"{n} {word}" for n, word in counted if n)


def _count(found: list[Change], effect: Effect) -> str:
    n = sum(change.effect is effect for change in found)
    return f"{n} change{'s' * (n != 1)}"


def _s(found: list[Change], effect: Effect) -> str:
    return "s" * (sum(change.effect is effect for change in found) == 1)


def _block(some: list[Change], share: int) -> str:
    """The list of some changes, as many as fit, and how many are left out."""
    shown: list[str] = []
    for change in some[:MOST]:
        line = f"- {_mark(change)}{_line(change, markdown_inline, prose)}"
        if sum(map(len, shown)) + len(line) > share:
            break
        shown.append(line)
    if len(shown) < len(some):
        shown.append(f"- and {len(some) - len(shown)} more. {WHOLE}")
    return "\n".join(shown)


def _mark(change: Change) -> str:
    return "⚠️ " if change.effect is Effect.WEAKER else ""


def _literal(text: str, limit: int) -> str:
    return plain(one_line(text), limit)


def _line(change: Change, quote: Quote, words: Quote) -> str:
    """One change: whose, what, of what, from what to what, where."""
    scope = change.agent or change.where
    told = f"{quote(scope, 100)}: {words(change.what, 160)}" if scope else words(change.what, 160)
    told += f": {quote(change.name, 200)}" if change.name else ""
    before, after = (quote(text, 100) if text else "" for text in (change.before, change.after))
    if before and after:
        told += f", {before} → {after}"
    else:
        told += f" (was {before})" if before else f": {after}" if after else ""
    shown = change.where if change.agent else ""
    return told + (f" in {quote(shown, 150)}" if shown else "")
