"""A golden set as JSON Lines: read a line at a time, twice, and never held."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from gatehouse.agent.source import RefusedError, parse_json
from gatehouse.errors import Problem, UserError
from gatehouse.evals.dataset_file import MAX_LINE, MAX_SOURCE, GoldenFile, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.schema import Keys

LINES = "A golden set is JSON Lines: one {...} a line."


class JsonLines(GoldenFile):
    """One `{...}` a line; blank lines are skipped."""

    _stamp = (0, 0)

    def rows(self) -> Iterator[Row]:
        """Every line that is not blank."""
        sha = hashlib.sha256()
        with self.place.open("rb") as file:
            self._stamp = _stamp(file)
            for line, offset, raw in _lines(file, sha):
                yield self._row(line, offset, raw)
        self.digest = "sha256:" + sha.hexdigest()

    def keep(self, row: Row) -> int:
        """The line stays where it is."""
        return row.offset

    def open(self) -> BinaryIO:
        """The file itself; raises UserError where it has changed since it was checked."""
        try:
            file = self.place.open("rb")
        except OSError as e:
            raise UserError(Problem(f"it can no longer be read: {e.strerror}.", path=self.path)) from None
        if _stamp(file) != self._stamp:
            file.close()
            raise changed(self.path)
        return file

    def _row(self, line: int, offset: int, raw: bytes | None) -> Row:
        if raw is None:
            long = Problem(f"the line is longer than {MAX_LINE // 2**20} MiB.", path=self.path, line=line)
            return Row(line, problems=(long,))
        try:
            text = text_of(raw)
            data = parse_json(text)
        except RefusedError as e:
            return Row(line, problems=(self.refused(e, line),))
        if not isinstance(data, dict):
            return Row(line, problems=(self._at(line, text, (), "the line is no JSON object.", LINES),))
        return Row(line, data, partial(self._at, line, text), offset)

    def _at(self, line: int, text: str, keys: Keys, message: str, repair: str) -> Problem:
        """A fault of one key; the caret stands at its first mention."""
        shown = f'"{keys[0]}"' if keys and f'"{keys[0]}"' in text else ""
        column = text.find(shown) + 1 if shown else 0
        source = text if len(text) <= MAX_SOURCE else ""
        return Problem(message, self.path, line, column if source else 0, max(1, len(shown)), source, repair)


def changed(path: str) -> UserError:
    """The error of a file that is another than the one that was checked."""
    return UserError(Problem("the file has changed since it was checked.", path=path, repair="Run again."))


def text_of(raw: bytes) -> str:
    """One line as text; raises RefusedError with the number of the first bad byte."""
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as e:
        at = e.start + len(raw) - len(e.object)  # the codec counts from behind a byte order mark
        message = f"byte {at + 1} of the line is not UTF-8 (0x{raw[at]:02x})."
        raise RefusedError(message, "Save the file as UTF-8.") from None


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _lines(file: BinaryIO, sha: Any) -> Iterator[tuple[int, int, bytes | None]]:
    """Number, offset and bytes of every line that is not blank; None for bytes that are too many."""
    number = offset = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        start, offset = offset, offset + len(raw)
        sha.update(raw)
        whole = len(raw) <= MAX_LINE
        while not raw.endswith(b"\n") and (rest := file.readline(2**16)):
            raw = rest
            offset += len(rest)
            sha.update(rest)
        if not whole:
            yield number, start, None
        elif raw.removeprefix(b"\xef\xbb\xbf").strip():
            yield number, start, raw
