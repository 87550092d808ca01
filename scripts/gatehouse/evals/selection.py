"""A part of a golden set, chosen by tag and by id: its name, and a digest that is never the whole's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import canonical, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3
"""Names of a kind that a message shows; of the others only the number."""
LONGEST = 60
"""Characters of a name that a message shows."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cases are taken: those with one of the `tags`, and those with one of the ids in `cases`.

    Without any it is the whole golden set. Both are sorted, each name once, so that equal parts are equal.
    """

    tags: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("tags", "cases"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    def __bool__(self) -> bool:
        return bool(self.tags or self.cases)

    def __str__(self) -> str:
        """As people read it: `--tag smoke --case a, b and 4 more`."""
        return " ".join(
            f"{option} {_shown(names)}"
            for option, names in (("--tag", self.tags), ("--case", self.cases))
            if names
        )

    def to_json(self) -> dict[str, list[str]]:
        """As it stands in the header of a results file."""
        return {"tags": list(self.tags), "cases": list(self.cases)}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The golden set that is asked for: its files (without any, those of the agent file), and the part."""

    paths: tuple[str, ...] = ()
    selection: Selection = Selection()


def chosen_in(dataset: Any) -> Chosen:
    """What the `dataset` of a results file is of; raises ValueError, KeyError or TypeError if malformed."""
    paths = dataset.get("paths") or [dataset["path"]]  # an older file names one path
    selected = dataset.get("selected") or {"tags": [], "cases": []}
    lists = {"paths": paths, "tags": selected["tags"], "cases": selected["cases"]}
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f'"{name}" is no list of texts')
    return Chosen(tuple(paths), Selection(tuple(selected["tags"]), tuple(selected["cases"])))


def joined(digests: Sequence[str], selection: Selection) -> str:
    """The digest of a golden set from those of its files; a part has another one than the whole."""
    whole = digests[0] if len(digests) == 1 else sha256(canonical(list(digests)))
    return sha256(canonical([whole, selection.to_json()])) if selection else whole


def told(selection: Selection, cases: int, of: int) -> str:
    """How much of the golden set a part is: `3 of 40 cases, selected by --case a, b, c`; "" for the whole."""
    return f"{cases} of {of} cases, selected by {selection}" if selection else ""


def _shown(names: Sequence[str]) -> str:
    short = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names[:SHOWN]]
    more = len(names) - SHOWN
    return ", ".join(short) + (f" and {more} more" if more > 0 else "")
