"""How far a run is, on a terminal and in a log."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from gatehouse.evals.progress import Progress

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


def test_a_log_gets_few_lines() -> None:
    """The first and the last state, and one line in ten seconds between."""
    now = 0.0
    stream = io.StringIO()
    progress = Progress(stream, lambda: now)
    for done in range(1, 31):
        now += 0.5
        progress.update(done, 30, 0)
    progress.update(30, 30, 2, last=True)
    assert stream.getvalue().splitlines() == [
        "1 of 30 answers, 0 faults, 0 s",
        "21 of 30 answers, 0 faults, 10 s",
        "30 of 30 answers, 2 faults, 15 s",
    ]


def test_what_cannot_be_used_goes_by_its_name() -> None:
    """A judge that is over its budget is no fault."""
    stream = io.StringIO()
    Progress(stream, lambda: 0.0, what="answers judged", bad="unscored").update(3, 3, 2, last=True)
    assert stream.getvalue() == "3 of 3 answers judged, 2 unscored, 0 s\n"


def test_a_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state overwrites the one before, and the last one ends the line."""
    monkeypatch.delenv("CI", raising=False)
    now = 0.0
    stream = Terminal()
    progress = Progress(stream, lambda: now)
    for done in range(3):
        now += 1
        progress.update(done, 3, 0)
    progress.update(3, 3, 0, last=True)
    assert stream.getvalue().count("\r") == 4
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")


def test_a_runner_s_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CI is set, a terminal is a log: lines, and none of them overwritten."""
    monkeypatch.setenv("CI", "true")
    stream = Terminal()
    Progress(stream, lambda: 0.0).update(3, 3, 0, last=True)
    assert stream.getvalue() == "3 of 3 answers, 0 faults, 0 s\n"
