"""Keeps and finds entries as the service behind actions/cache does, in a folder that outlives a run.

An entry belongs to the ref of the run that saved it, and to the paths as the workflow wrote them. It is a
folder `SCOPE/NUMBER` with its key, its paths, and a copy of each; the highest number is the newest.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One entry of one scope."""

    folder: Path
    key: str
    version: list[str]


def lines(name: str) -> list[str]:
    """The lines of an input that are not blank."""
    return [line.strip() for line in os.environ.get(name, "").splitlines() if line.strip()]


def scopes() -> list[str]:
    """The refs whose entries this run may read: its own, its pull request's base, the default branch."""
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text())
    base = os.environ.get("GITHUB_BASE_REF") or ""
    branches = [base, event.get("repository", {}).get("default_branch", "")]
    return list(
        dict.fromkeys([os.environ["GITHUB_REF"], *(f"refs/heads/{name}" for name in branches if name)])
    )


def entries(scope: str, version: list[str]) -> list[Entry]:
    """The entries of a scope with the same paths, the newest first."""
    folder = place(scope)
    found = [(int(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    listed = [
        Entry(path, *json.loads((path / "entry.json").read_text())) for _, path in sorted(found, reverse=True)
    ]
    return [entry for entry in listed if entry.version == version]


def place(scope: str) -> Path:
    """The folder of a scope."""
    return Path(os.environ["STAND_INS_CACHE"], scope.replace("/", "-"))


def version_of(paths: list[str]) -> list[str]:
    """What tells entries of one key apart: the paths. A runner's temporary folder has one name everywhere."""
    return [path.replace(os.environ["RUNNER_TEMP"], "/home/runner/work/_temp") for path in paths]


def find(wanted: list[str], version: list[str]) -> Entry | None:
    """In each scope the first key that is there, else the newest that begins with it; then the next scope."""
    for scope in scopes():
        held = entries(scope, version)
        for key in wanted:
            exact = [entry for entry in held if entry.key == key]
            matching = exact or [entry for entry in held if entry.key.startswith(key)]
            if matching:
                return matching[0]
    return None


def restore(paths: list[str], key: str) -> dict[str, str]:
    """Put back what is found; the outputs."""
    found = find([key, *lines("IN_RESTORE_KEYS")], version_of(paths))
    if found is None:
        say(f"Cache not found for input keys: {', '.join([key, *lines('IN_RESTORE_KEYS')])}")
        return {}
    for number, path in enumerate(paths):
        source, target = found.folder / str(number), Path(os.environ["GITHUB_WORKSPACE"], path)
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True)
    say(f"Cache restored from key: {found.key}")
    return {"cache-hit": str(found.key == key).lower(), "cache-matched-key": found.key}


def save(paths: list[str], key: str) -> None:
    """Keep what is there of the paths; a key of this ref that is taken stays as it is."""
    there = {number: Path(os.environ["GITHUB_WORKSPACE"], path) for number, path in enumerate(paths)}
    there = {number: path for number, path in there.items() if path.is_dir()}
    if not there:
        say("::warning::Path Validation Error: no path exists, hence no cache is being saved.")
        return
    scope, version = os.environ["GITHUB_REF"], version_of(paths)
    if key in [entry.key for entry in entries(scope, version)]:
        say(f"::warning::Failed to save: Unable to reserve cache with key {key}, it already exists.")
        return
    place(scope).mkdir(parents=True, exist_ok=True)
    folder = place(scope) / str(len(list(place(scope).iterdir())) + 1)
    folder.mkdir()
    (folder / "entry.json").write_text(json.dumps([key, version]))
    for number, path in there.items():
        shutil.copytree(path, folder / str(number))
    say(f"Cache saved with key: {key}")


def say(text: str) -> None:
    """Write a line to the step's log."""
    sys.stdout.write(text + "\n")


def main() -> None:
    """Restore or save; neither ever fails its step."""
    paths, key = lines("IN_PATH"), os.environ["IN_KEY"]
    if sys.argv[1] == "save":
        save(paths, key)
        return
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
        outputs.writelines(f"{name}={value}\n" for name, value in restore(paths, key).items())


if __name__ == "__main__":
    main()
