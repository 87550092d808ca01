"""What a change of the gate is, and what of a commit is compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import canonical
from gatehouse.errors import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatehouse.agent.definition import Agent
    from gatehouse.evals.metrics import Gate

MAX_TEXT = 300
"""Characters kept of a value."""
MAX_NAMES = 10
"""Names kept of a list of them."""


class Effect(StrEnum):
    """What a change does to the gate: more passes or nobody can compare it, it may be either, less passes."""

    WEAKER = "weaker"
    CHANGED = "changed"
    STRONGER = "stronger"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two gates.

    `what` is in our own words; `name` (what it is of), `before` and `after` hold the users', "" for none.
    `where` is the file, `agent` whose gate it is, None where it is everybody's.
    """

    effect: Effect
    what: str
    name: str = ""
    before: str = ""
    after: str = ""
    where: str = ""
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case of a golden set as it is compared: the digest of each part that it has."""

    path: str
    parts: Mapping[str, str]
    critical: bool = False
    derived: bool = False
    """Whether its id comes from its input."""


@dataclass(slots=True)
class AgentView:
    """One agent file of a commit; `problem` says why it cannot be compared, and then there is no `agent`.

    `code` has for each metric of the user's own code its files with their digests, the module's own first;
    `cases` are those of the golden sets that are not the same in both commits, or why they cannot be read.
    """

    path: str
    name: str
    agent: Agent | None = None
    gates: dict[str, Gate] = field(default_factory=dict)
    problem: str = ""
    code: dict[str, dict[str, str]] = field(default_factory=dict)
    cases: dict[str, CaseView] | str = field(default_factory=dict)
    covered: bool = True
    """Whether this run, or another workflow of the same commit, gates it; so it is where the base did not."""


@dataclass(frozen=True, slots=True)
class View:
    """What of a commit makes its gate.

    `files` are the digests of rubrics, labels, calibrations and CODEOWNERS, by path; `workflows` the texts of
    workflows and local actions, None for one that cannot be read.
    """

    agents: list[AgentView]
    files: Mapping[str, str]
    workflows: Mapping[str, str | None]


def show(value: Any) -> str:
    """A value as people read it; "" for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, float | int) and not isinstance(value, bool):
        text = plain_number(value, 12)
    else:
        text = canonical(value).decode()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def names(given: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    every = list(given)
    more = f" and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else ""
    return ", ".join(show(name[:80]) for name in every[:MAX_NAMES]) + more


def limit(
    what: str, name: str, before: float | None, after: float | None, *, more_is_weaker: bool = True
) -> Iterator[Change]:
    """The change of a limit; without one everything passes."""
    if before == after:
        return
    if before is None or after is None:
        verb = "removed" if after is None else "added"
    else:
        verb = "raised" if after > before else "lowered"
    effect = way_of(before, after, more_is_weaker=more_is_weaker)
    yield Change(effect, f"{what} {verb}", name, show(before), show(after))


def way_of(before: float | None, after: float | None, *, more_is_weaker: bool = True) -> Effect:
    """What another limit does to the gate; without one everything passes."""
    if before is None or after is None:
        return Effect.WEAKER if after is None else Effect.STRONGER
    return Effect.WEAKER if (after > before) == more_is_weaker else Effect.STRONGER


def other(what: str, name: str, before: Any, after: Any) -> Iterator[Change]:
    """The change of a value of which nobody can say whether it makes the gate weaker."""
    before, after = (None if value in (None, (), []) else value for value in (before, after))
    if before != after:
        verb = "removed" if after is None else "added" if before is None else "changed"
        yield Change(Effect.CHANGED, f"{what} {verb}", name, show(before), show(after))
