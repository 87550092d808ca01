"""`gatehouse.github.runner`: outputs, summary, annotations, untrusted text in the log."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.github import runner

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def fresh_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new step: outside Actions, nothing annotated yet."""
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    runner._annotated.clear()


@pytest.fixture
def in_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a runner."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


def read_outputs(text: str) -> dict[str, str]:
    """Outputs as the runner reads them from the file: NAME<<END, lines, END."""
    found, lines = {}, text.split("\n")
    while lines[0]:
        name, end = lines.pop(0).split("<<")
        value: list[str] = []
        while (line := lines.pop(0)) != end:
            value.append(line)
        found[name] = "\n".join(value)
    assert lines == [""]
    return found


@pytest.mark.parametrize(
    "value", ["x", "", "a\nb\n", "EOF\nother=1", "x\nother<<E\n1\nE", "\n\n", "größe 🙂"]
)
def test_outputs_come_back_as_they_were(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No value ends its own output or begins another; a second call adds to the first."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "out"))
    runner.set_outputs({"value": value, "passed": True})
    runner.set_outputs({"cost-usd": 0.5})
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert read_outputs(text) == {"value": value, "passed": "true", "cost-usd": "0.5"}


def test_delimiters_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value has delimiters of its own, made anew each time."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "out"))
    for _ in range(3):
        runner.set_outputs({"a": "1", "b": "2"})
    ends = re.findall("<<(.*)", (tmp_path / "out").read_text())
    assert len(set(ends)) == 6
    assert all(len(end) >= 32 for end in ends)


@pytest.mark.parametrize("name", ["", "a b", "a<<b", "a\nb", "a=b", "1a"])
def test_output_names_are_checked(name: str) -> None:
    """A name that could begin another output is refused, outside Actions too."""
    with pytest.raises(ValueError, match="not the name of an output"):
        runner.set_outputs({name: "x"})


def test_lone_surrogates_do_not_stop_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that has no UTF-8 form is written all the same."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    runner.set_outputs({"a": "x\ud800"})
    runner.append_summary("x\ud800")
    assert read_outputs((tmp_path / "out").read_text()) == {"a": "x?"}
    assert (tmp_path / "summary").read_text() == "x?\n"


def test_nothing_is_written_outside_actions(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the runner's variables outputs and summary do nothing."""
    runner.set_outputs({"a": "1"})
    runner.append_summary("x")
    assert capsys.readouterr() == ("", "")


def test_summary_keeps_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that would exceed 1 MiB of bytes is cut at a line, and its first line says so."""
    path = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    runner.append_summary("first")
    runner.append_summary("é line\n" * 200_000)
    text = path.read_text(encoding="utf-8")
    assert 2**20 - 20 < path.stat().st_size <= 2**20
    assert text.startswith("first\n> Cut to fit GitHub's limit of 1,048,576 bytes")
    assert text.endswith("é line\n")
    runner.append_summary("no room\n" * 10)
    assert path.stat().st_size <= 2**20


def test_a_summary_that_just_fits_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At exactly the limit nothing is cut."""
    path = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    runner.append_summary("x" * (2**20 - 1))
    assert path.read_text() == "x" * (2**20 - 1) + "\n"


def test_annotations_are_plain_lines_outside_actions(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside Actions an annotation is a line that names file and line."""
    runner.annotate("error", "wrong", file="a.py", line=3, title="T")
    runner.annotate("notice", "hm")
    assert capsys.readouterr().out == "error: a.py:3: T: wrong\nnotice: hm\n"


@pytest.mark.usefixtures("in_actions")
def test_ten_annotations_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """The tenth of a kind says where the rest is, which stays in the log; other kinds count apart."""
    for number in range(12):
        runner.annotate("error", f"e{number}", file="a.py", line=number + 1)
    runner.annotate("warning", "w")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "::error file=a.py,line=1::e0"
    assert sum(line.startswith("::error") for line in lines) == 10
    assert lines[9].startswith("::error file=a.py,line=10::e9%0AGitHub shows 10")
    assert lines[10:12] == ["error: a.py:11: e10", "error: a.py:12: e11"]
    assert lines[12] == "::warning::w"


def test_an_error_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside Actions an error is its message on stderr, without what a terminal would obey."""
    runner.show_error(UserError(Problem("\x1b[2Jbad", path="a.yaml", line=2, repair="Mend it.")))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a.yaml:2: bad\nMend it.\nNothing was run.\n"


@pytest.mark.usefixtures("in_actions")
def test_an_error_is_annotated_in_actions(capsys: pytest.CaptureFixture[str]) -> None:
    """In Actions each problem is annotated at its line, the first ten; stderr holds all of them."""
    problems = [Problem(f"p{n}", path="a.yaml", line=n + 1, repair="Mend it.") for n in range(12)]
    runner.show_error(UserError(*problems))
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "::error file=a.yaml,line=1::p0%0AMend it."
    assert len(out.splitlines()) == 10
    assert "a.yaml:12: p11" in err


@pytest.mark.usefixtures("in_actions")
def test_an_error_without_problems_is_one_annotation(capsys: pytest.CaptureFixture[str]) -> None:
    """An infrastructure error is annotated whole, without a place."""
    runner.show_error(InfrastructureError("GitHub is away\nTry later."))
    assert capsys.readouterr().out == "::error::GitHub is away%0ATry later.\n"


def obeyed(log: str) -> list[str]:
    """The commands in a log that the runner obeys (actions/runner, ActionCommandManager)."""
    token, found = None, []
    for line in log.splitlines():
        match = re.match(r"\s*::([\w-]+)[^:]*::(.*)", line) or re.search(r"##\[([\w-]+)[^\]]*\](.*)", line)
        if token is None and match:
            found.append(match[1])
            token = match[2] if match[1] == "stop-commands" else None
        elif match and match[1] == token:
            token = None
    assert token is None
    return [name for name in found if name != "stop-commands"]


@pytest.mark.usefixtures("in_actions")
@pytest.mark.parametrize(
    "text", ["::error::x", "a\n  ::add-mask::x", "x ##[add-mask]y", "::stop-commands::x", "x\r::error::y"]
)
def test_untrusted_text_commands_nothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What `say` prints is never obeyed on either stream, and later commands are."""
    runner.say(text)
    runner.say(text, sys.stderr)
    runner.annotate("error", "ours")
    out, err = capsys.readouterr()
    assert obeyed(out) == ["error"]
    assert obeyed(err) == []
    assert "::error::ours" in out


@pytest.mark.usefixtures("in_actions")
def test_commands_come_back_after_an_unfinished_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Text without a newline, or an exception, does not leave commands off; no token is used twice."""
    with pytest.raises(ZeroDivisionError), runner.stop_commands():
        sys.stdout.write(f"::error::x{1 / 0}")
    with runner.stop_commands():
        sys.stdout.write("::error::y")
    out = capsys.readouterr().out
    assert obeyed(out) == []
    assert len(set(re.findall("stop-commands::(.{32})", out))) == 2


def test_ordinary_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside Actions, and for text that commands nothing, nothing is printed around it."""
    runner.say("a::b")
    with runner.stop_commands():
        runner.say("c")
    assert capsys.readouterr().out == "a::b\nc\n"
