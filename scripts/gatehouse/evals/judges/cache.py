"""What judges once said, kept by content between runs: an unchanged answer is not judged twice.

One file of JSON Lines, only ever appended to: a process that is killed leaves at most half a line at its end,
which the next one passes over, and several processes may write it at once. One that has grown too long is
replaced, as a whole, by a file of its newest half.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_LINE = 4 * 2**20
"""Bytes of one entry; a longer one is neither kept nor read."""
MAX_FILE = 64 * 2**20
"""Bytes of the file: a longer one is cut to its newest half when it is opened, and no more is read."""
DIGEST = 64
"""Hex digits of a key and of a code."""
_HEAD, _MAC, _ENTRY = b'{"key":"', b'","mac":"', b'","entry":'
_MAC_AT = len(_HEAD) + DIGEST + len(_MAC)
_ENTRY_AT = _MAC_AT + DIGEST + len(_ENTRY)
_DOMAIN = b"gatehouse judgements 1"
"""What sets this use of the secret apart from every other."""


class JudgementCache:
    """Entries, JSON values, by key, the hex of a SHA-256 of everything that they depend on.

    A file that another job handed on may be forged: whoever runs a pull request's code on the same cache can
    write what they like. So each entry carries an HMAC-SHA256 over key and entry, by a key derived from
    `secret`, the judge's API key, which such a job does not have. (Where it has it, because agent and judge
    share one key, the file is as good as unsigned: hand over None.)

    The rule: with a secret, an entry counts if its code is right. Without one (a judge that needs no key, a
    developer's machine, whose entries outlive every key) the code is a mere checksum, so entries from before
    this process count only if the caller says that the file is `trusted`: that nobody else could write it.

    What does not count (torn, corrupt, forged, another program's) is as if it were not there, and is counted
    in `rejected`. A file that cannot be used at all costs nobody their results: the cache is then empty,
    forgets what it is given, and `fault` says why.
    """

    def __init__(self, path: Path, secret: str | None, *, trusted: bool = False) -> None:
        self.path = path
        self.rejected = self.added = 0
        self.fault = ""
        self._key = hmac.digest(secret.encode(), _DOMAIN, "sha256") if secret else None
        self._believed = bool(self._key) or trusted
        self._at: dict[bytes, int] = {}
        """Where in the file the last entry of each key stands: no texts, some 150 bytes an entry."""
        self._file: IO[bytes] | None = None
        with self._keeping_on():
            _shorten(path)
            self._file = _open(path)
            if self._believed:
                self._at.update(_index(self._file))

    def close(self) -> None:
        """Close the file; what was put is in it."""
        if self._file:
            with suppress(OSError):
                self._file.close()
        self._file = None

    def get(self, key: str) -> Any:
        """The entry of that key; None where there is none that counts."""
        at = self._at.get(bytes.fromhex(key))
        if at is None or self._file is None:
            return None
        line = b""
        with self._keeping_on():
            self._file.seek(at)
            line = self._file.readline(MAX_LINE + 1)
        entry = line[_ENTRY_AT:-2]
        code = line[_MAC_AT : _MAC_AT + DIGEST]
        if hmac.compare_digest(code, self._code(key.encode(), entry)) and line == _line(key, code, entry):
            try:
                return json.loads(entry)
            except (ValueError, RecursionError):  # signed by a version that wrote something else
                pass
        self.rejected += 1
        del self._at[bytes.fromhex(key)]
        return None

    def put(self, key: str, entry: Any) -> None:
        """Keep an entry for this process and all later ones."""
        data = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        line = _line(key, self._code(key.encode(), data), data)
        if self._file is None or len(line) > MAX_LINE:
            return
        with self._keeping_on():
            file = self._locked(self._file)
            try:
                end = file.seek(0, os.SEEK_END)
                torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
                file.write(b"\n" * torn + line)
                file.flush()
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            self._at[bytes.fromhex(key)] = end + torn
            self.added += 1

    def _locked(self, file: IO[bytes]) -> IO[bytes]:
        """The file under its lock: entries of several processes do not mix, and ours stands where we think.

        It is the one that now stands at the path: another process may have replaced ours by a shorter one.
        """
        fcntl.flock(file, fcntl.LOCK_EX)
        while not _stands(file, self.path):
            file.close()
            file = self._file = _open(self.path)
            fcntl.flock(file, fcntl.LOCK_EX)
            self._at = {key: at for key, at in _index(file) if self._believed or key in self._at}
        return file

    def _code(self, key: bytes, entry: bytes) -> bytes:
        """The HMAC of an entry in hex; without a secret a SHA-256, against mere corruption."""
        said = key + b":" + entry
        made = (
            hmac.digest(self._key, said, "sha256") if self._key else hashlib.sha256(_DOMAIN + said).digest()
        )
        return made.hex().encode()

    @contextmanager
    def _keeping_on(self) -> Iterator[None]:
        """A disk that is full or a file that is not ours ends the cache, not the gate."""
        try:
            yield
        except OSError as error:
            self.fault = f"The judgements in {self.path} are not used: {error.strerror or error}."
            self.close()


def _open(path: Path) -> IO[bytes]:
    """The file for reading and appending; raises OSError for what is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not through a link, and not waiting at a pipe: what was handed on may be either.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no file")
    return os.fdopen(descriptor, "r+b")


def _stands(file: IO[bytes], path: Path) -> bool:
    """Whether this is still the file at the path; one that was deleted is nobody's but ours."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return True


def _shorten(path: Path) -> None:
    """Put the newest half of a file that is too long in its place; where that fails it stays as it is.

    It is locked until then, so nothing is written that would be lost; whoever waits for the lock sees after
    it that the file is another one.
    """
    with _open(path) as file:
        if file.seek(0, os.SEEK_END) <= MAX_FILE:
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        if not _stands(file, path):
            return
        file.seek(-MAX_FILE // 2, os.SEEK_END)
        file.readline(MAX_LINE + 1)  # what is left of a line that begins before
        new = path.with_name(path.name + ".new")
        with suppress(OSError):
            try:
                new.unlink(missing_ok=True)  # of a process that was killed
                with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as half:
                    shutil.copyfileobj(file, half)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)


def _index(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Key and offset of every line that looks like an entry; whether it is one, is seen when it is read."""
    at = max(0, file.seek(0, os.SEEK_END) - MAX_FILE)
    file.seek(at)
    while line := file.readline(MAX_LINE + 1):
        key = line[len(_HEAD) : len(_HEAD) + DIGEST]
        if line.startswith(_HEAD) and line.endswith(b"}\n") and len(line) > _ENTRY_AT:
            with suppress(ValueError):
                yield bytes.fromhex(key.decode("ascii")), at
        at += len(line)


def _line(key: str, code: bytes, entry: bytes) -> bytes:
    return _HEAD + key.encode() + _MAC + code + _ENTRY + entry + b"}\n"
