"""The files of a commit, read by git's plumbing: nothing is checked out, no link followed, no filter run."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gatehouse.agent.source import RefusedError
from gatehouse.errors import InfrastructureError
from gatehouse.github.escape import plain
from gatehouse.release.git import GitError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatehouse.release.git import Git

MAX_BLOB = 64 * 2**20
"""Bytes of a file that is read."""
MAX_TREE = 256 * 2**20
"""Bytes of all files that are read of one commit."""
MAX_FILES = 2_000
"""Files that are read of one commit."""
REGULAR = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit: its mode, the hash of its content, its size in bytes."""

    mode: str
    blob: str
    size: int


class Tree:
    """The files of `commit` by path, from the folder that `git` works in; `whole` from the repository's root.

    Raises InfrastructureError where git cannot list them all.
    """

    def __init__(self, git: Git, commit: str) -> None:
        self.git = git
        # What another ref says of the content, and what a partial clone lacks, is not asked for.
        git.environment |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
        self.whole: dict[str, Entry] = {}
        for line in git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit).split("\0")[:-1]:
            about, _, path = line.partition("\t")
            mode, kind, blob, size = about.split()
            if size == "BAD":
                raise InfrastructureError(f"this clone lacks a file of {commit[:12]}: {plain(path, 200)}")
            if kind == "blob":
                self.whole[path] = Entry(mode, blob, int(size))
        self.prefix = git("rev-parse", "--show-prefix")
        self.files = {path: entry for name, entry in self.whole.items() if (path := self.inside(name))}
        self._read = self._count = 0

    def inside(self, path: str) -> str:
        """A path from the root as one from the folder; "" for one that lies elsewhere."""
        return path.removeprefix(self.prefix) if path.startswith(self.prefix) else ""

    def edited(self) -> list[str]:
        """The paths from the root whose files, in the index or the work tree, are not those of HEAD."""
        asked = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all")
        call = ("--no-optional-locks", "-c", "core.fsmonitor=false", "status", *asked)
        try:
            return [line[3:] for line in self.git.run(*call).split("\0")[:-1]]
        except GitError:  # there is no work tree
            return []

    def matching(self, patterns: Iterable[str]) -> list[str]:
        """The paths that are or match one of `patterns`, sorted; `**` stands for any folders."""
        wanted = list(patterns)
        return sorted(p for p in self.files if any(p == one or matches(p, one) for one in wanted))

    def below(self, *folders: str) -> dict[str, str]:
        """The hash of the content of every file below the folders, by path."""
        return {path: entry.blob for path, entry in self.files.items() if path.startswith(folders)}

    def has_as(self, path: str, other: Tree) -> bool:
        """Whether the file is here, is no link, and is the same in the other commit."""
        entry = self.files.get(path)
        return entry is not None and entry.mode in REGULAR and entry == other.files.get(path)

    def content(self, entry: Entry, path: str) -> bytes:
        """The bytes of a file; raises RefusedError for a link and beyond the limits, GitError."""
        if entry.mode not in REGULAR:
            raise RefusedError(f"{path} is a symbolic link, which is not followed here.")
        self._read, self._count = self._read + entry.size, self._count + 1
        if entry.size > MAX_BLOB:
            raise RefusedError(f"{path} is larger than {MAX_BLOB >> 20} MiB.")
        if self._read > MAX_TREE or self._count > MAX_FILES:
            raise RefusedError(f"{path}: more than {MAX_TREE >> 20} MiB or {MAX_FILES} files in all.")
        return self.git.run("cat-file", "blob", entry.blob).encode(errors="surrogateescape")

    def text(self, path: str) -> str | None:
        """The text of a file, its path from the root; None for a link, no UTF-8, and beyond the limits."""
        try:
            return self.content(self.whole[path], path).decode("utf-8-sig")
        except (RefusedError, UnicodeDecodeError):
            return None

    def write(self, path: str, folder: Path) -> None:
        """Write a file, where there is one, under `folder`; raises RefusedError, GitError, OSError."""
        entry, parts = self.files.get(path), PurePosixPath(path).parts
        if entry is None:
            return
        if not parts or path.startswith("/") or ".." in parts:
            raise RefusedError(f"{path} leads out of the repository.")
        target = folder / path
        if not target.exists():
            data = self.content(entry, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def matches(path: str, pattern: str) -> bool:
    """Whether a glob pattern stands for a path: each part for one, `**` for any number of them."""
    wanted = [part for part in pattern.split("/") if part not in ("", ".")]

    def reached(at: set[int]) -> set[int]:
        """The same places in the pattern, and those behind a `**`, which may stand for nothing."""
        for i, part in enumerate(wanted):
            if part == "**" and i in at:
                at.add(i + 1)
        return at

    at = reached({0})
    for part in path.split("/"):
        here = [i for i in at if i < len(wanted)]
        at = {i for i in here if wanted[i] == "**"}
        at |= {i + 1 for i in here if wanted[i] != "**" and fnmatchcase(part, wanted[i])}
        at = reached(at)
    return len(wanted) in at
