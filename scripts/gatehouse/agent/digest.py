"""The digest of an agent: one name for everything that defines its behaviour.

In it: model, fallback model, prompt text, tools, guardrails with the output schema's content, retrieval with
the knowledge base where it is in the repository, the loop's budgets, the entry point's code, the dependency
lock files. Not in it: name, version, owner, evals, pricing, daily budgets; where prompt and schema lie; the
YAML's layout.
File contents count byte for byte, as they are in the working tree.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOCK_FILES = (
    *("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock*.toml", "requirements*.txt"),
    *("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "deno.lock"),
    *("go.sum", "Cargo.lock", "Gemfile.lock", "composer.lock", "mix.lock", "gradle.lockfile"),
)
"""Names, in the repository's root, of the files that pin the agent's dependencies."""


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8; raises ValueError for NaN and lone surrogates."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def sha256(data: bytes) -> str:
    """`sha256:` and the hex digest."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def combine(parts: Mapping[str, str]) -> str:
    """The digest of an agent from those of its parts."""
    return sha256(canonical(dict(parts)))


def files_digest(root: Path, names: Iterable[str]) -> str:
    """The digest of files under `root`: their names and contents; a name without a file is left out."""
    entries = ((name, _content(root, name)) for name in sorted(names))
    return sha256(canonical([entry for entry in entries if entry[1]]))


def _content(root: Path, name: str) -> str:
    place = root / name
    link = "link:" + str(place.readlink()) + "," if place.is_symlink() else ""
    if not place.is_file() or not place.resolve().is_relative_to(root.resolve()):
        return link
    with place.open("rb") as file:
        return link + hashlib.file_digest(file, "sha256").hexdigest()


def files_below(root: Path, place: str) -> list[str]:
    """The files at or below `place` (relative to `root`), as names relative to `root`.

    In git: every tracked file, and untracked `*.py` that is not ignored (code about to be added counts, what
    a run leaves behind does not); on a runner the tracked ones alone, for there an installation generates
    files in one job that another has not. Elsewhere, or with none tracked: every file but compiled ones.
    """
    tracked = _git_files(root, "--cached", "--recurse-submodules", "--", place)
    if tracked and on_runner():
        return sorted(tracked)
    if tracked:
        fresh = _git_files(root, "--others", "--exclude-standard", "--", place)
        return sorted({*tracked, *(name for name in fresh if name.endswith(".py"))})
    start = root / place
    found = [start] if start.is_file() else start.rglob("*")
    return sorted(
        str(file.relative_to(root))
        for file in found
        if not {"__pycache__", ".git"} & set(file.relative_to(root).parts)
        and (file.is_symlink() or file.is_file())
    )


def _git_files(root: Path, *arguments: str) -> list[str]:
    """Names that `git ls-files` prints, relative to `root`; none outside a repository or without git."""
    # A container's checkout often belongs to another user, and a repository may name a program as fsmonitor.
    safe = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "--literal-pathspecs"]
    command = ["git", "-C", str(root), *safe, "ls-files", "-z", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else []


def tracked_below(root: Path, place: str) -> list[str]:
    """The tracked files at or below `place`, relative to `root`; none outside a repository."""
    return _git_files(root, "--cached", "--", place)


def lock_files(root: Path) -> list[str]:
    """The names of the dependency lock files in `root`."""
    found = {file.name for pattern in LOCK_FILES for file in root.glob(pattern) if file.is_file()}
    tracked = set(_git_files(root, "--cached")) if on_runner() else set()
    return sorted(found & tracked if tracked else found)


def on_runner() -> bool:
    """Whether this is a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def code_files(root: Path, entrypoint: str) -> list[str]:
    """The files of the package that `module:function` names, in `root` or `root/src`; none elsewhere.

    Of a module outside any package: every Python file in and below its folder, since it may import them.
    """
    package = entrypoint.partition(":")[0].partition(".")[0]
    for base in (Path(), Path("src")):
        if (root / base / package).is_dir():
            return files_below(root, str(base / package))
        if (root / base / f"{package}.py").is_file():
            return [name for name in files_below(root, str(base)) if name.endswith(".py")]
    return []


def named_files(root: Path, code: Iterable[str], words: Iterable[str]) -> list[str]:
    """The files at and below the paths of `code`; without any, those that the words of a command lead to.

    A word that is a file stands for its folder, which it may load more from, or in the root for itself alone;
    a word that is a folder stands for what is in it. Nothing outside `root` counts.
    """
    places = list(code)
    for word in () if places else words:
        path = PurePosixPath(word)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in word:
            continue
        if (root / path).is_dir():
            places.append(str(path))
        elif (root / path).is_file():
            places.append(str(path.parent if path.parent.parts else path))
    return sorted({name for place in places for name in files_below(root, place)})
