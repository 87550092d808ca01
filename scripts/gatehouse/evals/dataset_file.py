"""What the formats of golden sets have in common: rows with the places of their faults."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from gatehouse.agent.digest import canonical
from gatehouse.agent.source import RefusedError, decode
from gatehouse.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatehouse.agent.schema import Keys

MAX_LINE = 10 * 2**20
"""Bytes of one case; a longer one is refused."""
MAX_WHOLE = 64 * 2**20
"""Bytes of a file that is read whole; one of JSON Lines, which is not, may have any number."""
MAX_SOURCE = 10_000
"""Characters of a line that are worth keeping for one message."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case as it was written: `data` in JSON values, or the `problems` for which there are none.

    `line` counts from 1: where it begins. `at` makes a fault of it from keys, message and repair. `offset` is
    where its JSON stands in what the file's `open` gives; -1 where it has to be kept.
    """

    line: int
    data: Any = None
    at: Callable[[Keys, str, str], Problem] | None = None
    offset: int = -1
    problems: tuple[Problem, ...] = ()


class GoldenFile(ABC):
    """One file of a golden set at `place`, called `path` in messages."""

    yaml = False
    """Whether messages speak of YAML."""

    def __init__(self, path: str, place: Path) -> None:
        self.path, self.place = path, place
        self.digest = ""
        """`sha256:` of the file's bytes, once `rows` is exhausted."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Every case, in the file's order; raises RefusedError for a file that cannot be read at all."""

    @abstractmethod
    def keep(self, row: Row) -> int:
        """Where the case will stand in what `open` gives."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The checked cases, each a line of JSON; raises UserError once the file is another."""

    def refused(self, error: RefusedError, line: int = 0) -> Problem:
        """The fault that an error is; its lines count from `line`."""
        at = line + max(0, error.line - 1) if line else error.line
        source = error.source if len(error.source) <= MAX_SOURCE else ""
        column = error.column if source else 0
        return Problem(error.message, self.path, at, column, source=source, repair=error.repair)


class WholeFile(GoldenFile):
    """A file that is read whole, its cases then held as compact JSON."""

    def __init__(self, path: str, place: Path) -> None:
        super().__init__(path, place)
        self._kept = io.BytesIO()

    def text(self) -> str:
        """The file's text; raises RefusedError (too large, no UTF-8) or OSError."""
        with self.place.open("rb") as file:
            data = file.read(MAX_WHOLE + 1)
        if len(data) > MAX_WHOLE:
            limit = f"the file is larger than {MAX_WHOLE // 2**20} MiB."
            raise RefusedError(limit, "Write JSON Lines (.jsonl), which may be of any size.")
        self.digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            return decode(data, "the file")
        except RefusedError as e:
            raise RefusedError(
                e.message, "Save it as UTF-8: a spreadsheet calls that CSV UTF-8.", e.line
            ) from None

    def keep(self, row: Row) -> int:
        """Where the case stands among those that are held."""
        offset = self._kept.tell()
        self._kept.write(canonical(row.data) + b"\n")
        return offset

    def open(self) -> BinaryIO:
        """The cases that are held."""
        return io.BytesIO(self._kept.getvalue())  # which shares the bytes, and copies none
