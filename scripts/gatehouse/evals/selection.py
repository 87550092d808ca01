"""A part of a golden set, chosen by tag and by id: its name, and a digest that is never the whole's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.agent.digest import canonical, sha256
from gatehouse.agent.source import RefusedError, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3
"""Names of a kind that a message shows; of the others only the number."""
LONGEST = 60
"""Characters of a name that a message shows."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cases are taken: those with one of the `tags`, and those with one of the ids in `cases`.

    Without any it is every case of the files. Both are sorted, each name once, so that equal parts are equal.
    """

    tags: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    files: int = 0
    """How many files the golden set of the agent file has, where only some of them are asked; else 0."""

    def __post_init__(self) -> None:
        for name in ("tags", "cases"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    def __bool__(self) -> bool:
        return bool(self.tags or self.cases or self.files)

    def __str__(self) -> str:
        """As people read it: `--tag smoke --case a, b and 4 more`."""
        return " ".join(
            f"{option} {first_few(names)}"
            for option, names in (("--tag", self.tags), ("--case", self.cases))
            if names
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in the header of a results file."""
        names = {"tags": list(self.tags), "cases": list(self.cases)}
        return names | ({"files": self.files} if self.files else {})


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
    if type(files := selected.get("files", 0)) is not int or files < 0:
        raise ValueError('"files" is no count')
    return Chosen(tuple(paths), Selection(tuple(selected["tags"]), tuple(selected["cases"]), files))


def held_to(own: Sequence[str], asked: Chosen, root: Path) -> tuple[Chosen, tuple[str, ...]]:
    """What is asked of the agent file's `own` files, in their order and spelling; and () or what it replaces.

    Some of them are a part of the golden set. Where another file is among those that are asked, it is another
    golden set: then `own` comes back too, as what it stands in place of.
    """
    places = [_place(root, path) for path in asked.paths]
    mine = {_place(root, path): path for path in own}
    if not places or len(set(places)) < len(places):  # what is named twice is refused as it was written
        return Chosen(asked.paths or tuple(own), replace(asked.selection, files=0)), ()
    if not mine.keys() >= set(places):
        return replace(asked, selection=replace(asked.selection, files=0)), tuple(own)
    paths = tuple(path for place, path in mine.items() if place in places)
    files = len(mine) if len(paths) < len(mine) else 0
    return Chosen(paths, replace(asked.selection, files=files)), ()


def _place(root: Path, path: str) -> Path:
    """Where a file lies; of one that is refused later, something that is no other's place."""
    try:
        return locate(root, path)
    except RefusedError:
        return Path(path)


def joined(digests: Sequence[str], selection: Selection) -> str:
    """The digest of a golden set from those of its files; a part has another one than the whole."""
    whole = digests[0] if len(digests) == 1 else sha256(canonical(list(digests)))
    return sha256(canonical([whole, selection.to_json()])) if selection else whole


def told(selection: Selection, cases: int, of: int, files: int = 1) -> str:
    """How much of the golden set a part is; "" for the whole.

    `3 of 40 cases, selected by --case a, b, c`, or `1 of 2 files of the golden set, selected by --dataset`.
    """
    some = selection.tags or selection.cases
    parts = [f"{cases} of {of} cases, selected by {selection}"] if some else []
    if selection.files:
        parts.append(f"{files} of {selection.files} files of the golden set, selected by --dataset")
    return ", in ".join(parts)


def first_few(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`, each name cut."""
    short = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names[:SHOWN]]
    more = len(names) - SHOWN
    return ", ".join(short) + (f" and {more} more" if more > 0 else "")
