"""Judgements between runs: kept by whoever may write them, believed only where they are right."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.evals.judges.cache import JudgementCache

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-judge-0123456789"
WRITER = """
import sys
from hashlib import sha256
from pathlib import Path
from gatehouse.evals.judges.cache import JudgementCache
cache = JudgementCache(Path(sys.argv[1]), "sk-judge-0123456789")
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    name = sys.argv[2] + str(n)
    key = sha256(name.encode()).hexdigest()
    cache.put(key, {"value": name * 2000})
    assert cache.get(key) == {"value": name * 2000}
"""


def key(name: str) -> str:
    """A key as the bench makes it."""
    return hashlib.sha256(name.encode()).hexdigest()


def put(path: Path, secret: str | None = SECRET, **entries: Any) -> None:
    """Write entries by a process that ends after it."""
    cache = JudgementCache(path, secret)
    for name, entry in entries.items():
        cache.put(key(name), entry)
    cache.close()


def got(path: Path, *names: str, secret: str | None = SECRET, trusted: bool = False) -> list[Any]:
    """What another process finds."""
    cache = JudgementCache(path, secret, trusted=trusted)
    try:
        return [cache.get(key(name)) for name in names]
    finally:
        cache.close()


def test_what_is_put_is_found_by_the_next_run(tmp_path: Path) -> None:
    """Any JSON value, by its key; the last one of a key counts."""
    path = tmp_path / "deep" / "judgements.jsonl"
    put(path, a={"value": [1, "ü\ud800"]}, b={"value": 1})
    put(path, b={"value": 2})
    assert got(path, "a", "b", "c") == [{"value": [1, "ü?"]}, {"value": 2}, None]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_entry_is_found_by_the_process_that_put_it(tmp_path: Path) -> None:
    """Also without a secret, when nothing older is believed."""
    for secret in (SECRET, None):
        cache = JudgementCache(tmp_path / str(secret), secret)
        cache.put(key("a"), {"value": 1})
        cache.put(key("b"), {"value": 2})
        assert [cache.get(key(name)) for name in "ab"] == [{"value": 1}, {"value": 2}]
        cache.close()


def start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that puts `count` entries of many kilobytes once it is told to."""
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    return writer


def go(writer: subprocess.Popen[str]) -> None:
    """Tell it to."""
    assert writer.stdin
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_several_processes_write_one_file_at_once(tmp_path: Path) -> None:
    """No entry is lost and none is mixed with another's."""
    path = tmp_path / "judgements.jsonl"
    writers = [start(path, name, 200) for name in "abc"]
    for writer in writers:
        go(writer)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    names = [f"{name}{n}" for name in "abc" for n in range(200)]
    assert got(path, *names) == [{"value": name * 2000} for name in names]


def test_a_killed_process_costs_at_most_its_last_entry(tmp_path: Path) -> None:
    """What stands before is read, and what is put after it too."""
    path = tmp_path / "judgements.jsonl"
    writer = start(path, "a", 1_000_000)
    go(writer)
    while not path.exists() or path.stat().st_size < 100_000:
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    whole = path.read_bytes().count(b"\n")
    put(path, later={"value": 1})
    names = [f"a{n}" for n in range(whole)]
    assert got(path, *names, "later") == [*({"value": name * 2000} for name in names), {"value": 1}]


def test_half_a_line_at_the_end_is_passed_over(tmp_path: Path) -> None:
    """The next entry begins a line of its own."""
    path = tmp_path / "judgements.jsonl"
    put(path, a={"value": 1}, b={"value": 2})
    os.truncate(path, path.stat().st_size - 5)
    assert got(path, "a", "b") == [{"value": 1}, None]
    cache = JudgementCache(path, SECRET)
    cache.put(key("c"), {"value": 3})
    assert cache.get(key("c")) == {"value": 3}
    cache.close()
    assert got(path, "a", "b", "c") == [{"value": 1}, None, {"value": 3}]


def test_a_corrupt_entry_does_not_count_wherever_it_is_corrupt(tmp_path: Path) -> None:
    """Any one byte of a line changed makes the entry as if it were not there; its neighbours stay."""
    path = tmp_path / "judgements.jsonl"
    for secret in (SECRET, None):
        path.unlink(missing_ok=True)
        put(path, secret, a={"value": 1}, b={"value": "two"}, c={"value": 3})
        good = path.read_bytes()
        first = good.index(b"\n") + 1
        last = good.index(b"\n", first)
        for at in range(first, last):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            found = got(path, "a", "b", "c", secret=secret, trusted=True)
            assert found == [{"value": 1}, None, {"value": 3}], at


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n\n\n", b"\x00" * 1000, b'{"key": 1}\n', b'{"key":"' + b"g" * 64 + b'"' + b"x" * 200 + b"}\n"],
    ids=range(5),
)
def test_another_program_s_lines_are_passed_over(tmp_path: Path, garbage: bytes) -> None:
    """Also without a newline at their end."""
    path = tmp_path / "judgements.jsonl"
    path.write_bytes(garbage)
    put(path, a={"value": 1})
    with path.open("ab") as file:
        file.write(garbage)
    put(path, b={"value": 2})
    assert got(path, "a", "b") == [{"value": 1}, {"value": 2}]


def test_an_entry_longer_than_the_bound_is_neither_kept_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of any length costs no more memory than the bound."""
    path = tmp_path / "judgements.jsonl"
    put(path, a={"value": "x" * 5000})
    monkeypatch.setattr("gatehouse.evals.judges.cache.MAX_LINE", 1000)
    put(path, b={"value": "x" * 5000}, c={"value": 3})
    assert got(path, "a", "b", "c") == [None, None, {"value": 3}]


BOUND = "gatehouse.evals.judges.cache.MAX_FILE"


def test_a_file_that_is_too_long_is_cut_to_its_newest_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is opened: whole lines, readable by nobody else, and nothing else is left behind."""
    path = tmp_path / "judgements.jsonl"
    put(path, SECRET, **{f"n{n}": {"value": n} for n in range(100)})
    whole = path.read_bytes()
    monkeypatch.setattr(BOUND, len(whole))
    assert got(path, "n0", "n99") == [{"value": 0}, {"value": 99}]
    monkeypatch.setattr(BOUND, 4000)
    (tmp_path / "judgements.jsonl.new").write_text("of a process that was killed")
    assert got(path, "n0", "n99") == [None, {"value": 99}]
    half = path.read_bytes()
    assert whole.endswith(b"\n" + half)
    assert 1800 < len(half) <= 2000
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_cut_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then no more than its newest part is read."""
    path = tmp_path / "judgements.jsonl"
    put(path, SECRET, **{f"n{n}": {"value": n} for n in range(100)})
    (tmp_path / "judgements.jsonl.new").mkdir()
    monkeypatch.setattr(BOUND, 2000)
    put(path, later={"value": 1})
    assert got(path, "n0", "n99", "later") == [None, {"value": 99}, {"value": 1}]


@pytest.mark.parametrize("secret", [SECRET, None])
def test_who_holds_a_file_that_is_cut_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    """It reads on in the old one, and writes to the new one, where the next process finds it."""
    path = tmp_path / "judgements.jsonl"
    first = JudgementCache(path, secret)
    for n in range(100):
        first.put(key(f"n{n}"), {"value": n})
    monkeypatch.setattr(BOUND, 4000)
    second = JudgementCache(path, secret)
    monkeypatch.undo()
    assert first.get(key("n0")) == {"value": 0}
    for cache, name in ((first, "a"), (second, "b"), (first, "c")):
        cache.put(key(name), {"value": name})
    assert [first.get(key(name)) for name in ("n0", "n99", "a", "c")] == [
        None,
        {"value": 99},
        {"value": "a"},
        {"value": "c"},
    ]
    assert second.get(key("b")) == {"value": "b"}
    assert (first.rejected, second.rejected, first.fault, second.fault) == (0, 0, "", "")
    first.close()
    second.close()
    found = got(path, "n99", "a", "b", "c", secret=secret, trusted=True)
    assert found == [{"value": 99}, {"value": "a"}, {"value": "b"}, {"value": "c"}]


def test_a_file_is_cut_while_others_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost is the oldest alone, however often that happens: no writer's entries have a gap."""
    path = tmp_path / "judgements.jsonl"
    writers = [start(path, name, 300) for name in "ab"]
    for writer in writers:
        go(writer)
    monkeypatch.setattr(BOUND, 400_000)
    cuts = 0
    while any(writer.poll() is None for writer in writers):
        before = path.stat().st_ino
        JudgementCache(path, SECRET).close()
        cuts += path.stat().st_ino != before
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert cuts
    assert path.stat().st_size < 1_000_000
    kept = {name: [n for n in range(300) if got(path, f"{name}{n}") != [None]] for name in "ab"}
    assert 299 in kept["a"] + kept["b"]
    for numbers in kept.values():
        assert numbers == list(range(300))[300 - len(numbers) :]


def test_a_file_is_not_cut_while_another_process_is_writing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written under the lock is in the newest half."""
    path = tmp_path / "judgements.jsonl"
    put(path, SECRET, **{f"n{n}": {"value": n} for n in range(100)})
    last = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(path.read_bytes().removesuffix(last))
    monkeypatch.setattr(BOUND, 4000)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cutter = Thread(target=lambda: JudgementCache(path, SECRET).close())
        cutter.start()
        cutter.join(0.3)
        file.write(last)
    cutter.join()
    assert path.stat().st_size < 4000
    assert got(path, "n98", "n99") == [{"value": 98}, {"value": 99}]


def test_a_file_that_is_deleted_is_written_on(tmp_path: Path) -> None:
    """This process finds what it puts."""
    path = tmp_path / "judgements.jsonl"
    cache = JudgementCache(path, SECRET)
    path.unlink()
    cache.put(key("a"), {"value": 1})
    assert cache.get(key("a")) == {"value": 1}
    assert cache.fault == ""
    cache.close()


def test_what_was_added_is_counted(tmp_path: Path) -> None:
    """Only what is in the file: whoever saves it elsewhere knows whether there is anything new."""
    path = tmp_path / "judgements.jsonl"
    cache = JudgementCache(path, SECRET)
    assert cache.added == 0
    for name in "ab":
        cache.put(key(name), {"value": name})
    cache.put(key("long"), {"value": "x" * 5 * 2**20})
    cache.get(key("a"))
    assert cache.added == 2
    cache.close()
    cache.put(key("c"), {"value": 1})
    assert cache.added == 2


def test_a_forged_entry_is_recomputed(tmp_path: Path) -> None:
    """Whoever lacks the secret can write nothing that counts: not signed otherwise, not by swapping."""
    path = tmp_path / "judgements.jsonl"
    put(path, "sk-another", a={"value": "forged"})
    put(path, None, b={"value": "forged"})
    put(path, SECRET, c={"value": "bad"}, d={"value": "good"})
    bad, good = path.read_bytes().splitlines(keepends=True)[-2:]
    with path.open("ab") as file:
        file.write(good.replace(key("d").encode(), key("c").encode()))
        file.write(bad[:80] + good[80:])
    cache = JudgementCache(path, SECRET)
    assert [cache.get(key(name)) for name in "abc"] == [None, None, None]
    assert cache.rejected == 3
    cache.put(key("a"), {"value": "ours"})
    assert cache.get(key("a")) == {"value": "ours"}
    cache.close()
    assert got(path, "a", "d") == [{"value": "ours"}, {"value": "good"}]
    assert SECRET.encode() not in path.read_bytes()


def test_without_a_secret_older_entries_count_only_in_a_trusted_file(tmp_path: Path) -> None:
    """A checksum stops corruption, not forgery: the caller says whether anybody else could write the file."""
    path = tmp_path / "judgements.jsonl"
    put(path, None, a={"value": 1})
    assert got(path, "a", secret=None) == [None]
    assert got(path, "a", secret=None, trusted=True) == [{"value": 1}]
    assert got(path, "a", secret=SECRET, trusted=True) == [None]


def test_a_file_that_cannot_be_used_ends_the_cache_and_not_the_gate(tmp_path: Path) -> None:
    """A link (it could lead anywhere), a pipe, a folder: nothing is read or written, and it is said."""
    (tmp_path / "target").write_text("mine\n")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "target/below"):
        cache = JudgementCache(tmp_path / name, SECRET)
        assert "are not used" in cache.fault
        cache.put(key("a"), {"value": 1})
        assert cache.get(key("a")) is None
        cache.close()
    assert (tmp_path / "target").read_text() == "mine\n"


def test_a_full_disk_ends_the_cache_and_not_the_gate() -> None:
    """/dev/full is no file, so the limit of a file's size stands in for the disk's."""
    program = (
        "import resource, signal, sys, tempfile, hashlib\n"
        "from pathlib import Path\n"
        "from gatehouse.evals.judges.cache import JudgementCache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = Path(tempfile.mkdtemp()) / 'judgements.jsonl'\n"
        "cache = JudgementCache(path, 'secret')\n"
        "names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]\n"
        "cache.put(names[0], {'value': 0})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10,) * 2)\n"
        "cache.put(names[1], {'value': 1})\n"
        "assert 'are not used' in cache.fault, cache.fault\n"
        "cache.put(names[2], {'value': 2})\n"
        "again = JudgementCache(path, 'secret')\n"
        "assert [again.get(name) for name in names] == [{'value': 0}, None, None]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_hundred_thousand_entries_are_opened_quickly_and_in_little_memory(tmp_path: Path) -> None:
    """Only keys and offsets are held: 20 MB for 60 MB of texts, in well under five seconds."""
    path = tmp_path / "judgements.jsonl"
    head, middle = '{"key":"', '","mac":"' + "0" * 64 + '","entry":{"value":"' + "x" * 400 + '"}}\n'
    with path.open("w") as file:
        file.writelines(f"{head}{n:064x}{middle}" for n in range(100_000))
    put(path, a={"value": 1})
    started = time.perf_counter()
    cache = JudgementCache(path, SECRET)
    assert cache.get(key("a")) == {"value": 1}
    assert time.perf_counter() - started < 5
    cache.close()
    tracemalloc.start()
    cache = JudgementCache(path, SECRET)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cache.close()
    assert held < 30e6
