"""Workflow files as far as the stand-in for GitHub reads them: their name, and what starts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.rehearse.protection import matches

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Workflow:
    """A workflow's name ("" for none) and its events, each with what the file says of it."""

    name: str
    on: dict[str, Any]


def load(text: str | None) -> Workflow | None:
    """A workflow of a file's text; None where there is none, or it is not one."""
    try:
        # Plain strings for all scalars: `on` would be true, and a default of 1.10 a number.
        document = yaml.load(text or "", Loader=yaml.BaseLoader)  # noqa: S506 it makes strings only
    except yaml.YAMLError:
        return None
    if not isinstance(document, dict) or "on" not in document:
        return None
    on = document["on"]
    if isinstance(on, str):
        on = {on: None}
    elif isinstance(on, list):
        on = dict.fromkeys(on)
    return Workflow(str(document.get("name", "")), {event: about or {} for event, about in on.items()})


def starts_on_push(workflow: Workflow, ref: str, changed: Callable[[], list[str]]) -> bool:
    """Whether a push to `ref` starts the workflow; `changed` lists the files that the push changed."""
    about = workflow.on.get("push")
    if about is None:
        return False
    kind = "branches" if ref.startswith("refs/heads/") else "tags"
    other = "tags" if kind == "branches" else "branches"
    name = ref.split("/", 2)[2]
    chosen, ignored = about.get(kind), about.get(f"{kind}-ignore")
    if chosen is None and ignored is None:
        if about.get(other) is not None or about.get(f"{other}-ignore") is not None:
            return False
    elif not picked(chosen or ["**"], name) or (ignored and picked(ignored, name)):
        return False
    if kind == "tags" or not ("paths" in about or "paths-ignore" in about):
        return True  # GitHub does not look at paths for tags
    paths, without = about.get("paths") or ["**"], about.get("paths-ignore") or []
    return any(picked(paths, file) and not picked(without, file) for file in changed())


def picked(patterns: list[str] | str, name: str) -> bool:
    """Whether the last pattern that matches takes the name in; `!` before one leaves it out."""
    taken = False
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if matches(pattern.removeprefix("!"), name):
            taken = not pattern.startswith("!")
    return taken
