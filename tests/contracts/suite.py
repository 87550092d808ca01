"""The suite's own files as the contract tests read them."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OWN = "gatehouse-ci/gatehouse"


@cache
def repository_files() -> tuple[str, ...]:
    """Every file that git tracks or would track, as paths from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}))


def globbed(*patterns: str) -> list[str]:
    """The paths from the root that match, sorted."""
    return sorted({str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)})


ACTIONS = globbed("action.yml", "actions/*/action.yml")
WORKFLOWS = globbed(".github/workflows/*.yml")
TEMPLATES = globbed("templates/**/*.yml", "examples/*/.github/workflows/*.yml")
NAMES = [Path(path).parent.name for path in ACTIONS if path != "action.yml"]
"""The names of the actions in `actions/`."""


@cache
def load(path: str) -> dict[Any, Any]:
    """One YAML file of ours; note that YAML reads a workflow's key `on` as True."""
    data = yaml.safe_load((ROOT / path).read_text())
    assert isinstance(data, dict), path
    return data


def steps(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step of an action or a workflow with the name of its place; steps inside `parallel:` too."""
    data = load(path)
    if "runs" in data:
        yield from flat("action", data["runs"]["steps"])
    for name, job in data.get("jobs", {}).items():
        yield from flat(name, job.get("steps", []))


def flat(place: str, listed: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The steps in order, those of a `parallel:` block in its place."""
    for number, step in enumerate(listed, 1):
        if "parallel" in step:
            yield from flat(f"{place} step {number}", step["parallel"])
        else:
            yield f"{place} step {number}", step


def strings(value: Any) -> Iterator[str]:
    """Every string inside a YAML value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def own_file(uses: str) -> str | None:
    """The path of what `uses:` names where that is ours, by `$/path` or by its public name; else None."""
    match = re.fullmatch(rf"(?:\$/(?P<near>.*)|{OWN}(?P<far>/[^@]*)?@\S+)", uses)
    if not match:
        return None
    path = (match["near"] if match["near"] is not None else match["far"] or "").strip("/")
    return path if path.endswith(".yml") else f"{path}/action.yml".lstrip("/")


def own_actions(job: dict[str, Any]) -> list[str]:
    """The names of our actions in `actions/` that a job's steps use."""
    used = [own_file(step.get("uses", "")) for _, step in flat("", job.get("steps", []))]
    return [Path(path).parent.name for path in used if path and path.startswith("actions/")]


def declared(path: str) -> dict[str, dict[str, Any]]:
    """What an action or a called workflow declares: its inputs, outputs and secrets by name."""
    data = load(path)
    if "runs" not in data:
        data = (data[True] or {}).get("workflow_call") or {}
    return {kind: data.get(kind) or {} for kind in ("inputs", "outputs", "secrets")}
