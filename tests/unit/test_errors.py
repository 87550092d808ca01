"""The exit codes, the states and how a fault is shown."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gatehouse.errors import Exit, GatehouseError, InfrastructureError, Problem, State, UserError


def test_the_table_of_exit_codes_is_complete() -> None:
    """Every code has one number, and none is click's or the shell's own."""
    assert {code.name: int(code) for code in Exit} == {"PASS": 0, "FAIL": 1, "INVALID": 2, "UNSCORED": 3}


@pytest.mark.parametrize(
    ("state", "warn", "fail"),
    [
        (State.FAIL, Exit.FAIL, Exit.FAIL),
        (State.UNSCORED, Exit.UNSCORED, Exit.UNSCORED),
        (State.INCONCLUSIVE, Exit.PASS, Exit.FAIL),
        (State.PASS, Exit.PASS, Exit.PASS),
    ],
)
def test_every_state_has_its_exit_code(state: State, warn: Exit, fail: Exit) -> None:
    """Only the code of an inconclusive verdict depends on what the file asks for."""
    assert (state.exit_code(), state.exit_code(on_inconclusive="fail")) == (warn, fail)


def test_the_worst_state_wins() -> None:
    """Fail comes before unscored, unscored before inconclusive, and nothing measured is unscored."""
    order = [State.FAIL, State.UNSCORED, State.INCONCLUSIVE, State.PASS]
    assert all(State.worst([worse, better]) is worse for worse, better in pairwise(order))
    assert State.worst([State.PASS, State.FAIL, State.UNSCORED]) is State.FAIL
    assert State.worst([]) is State.UNSCORED


def test_each_error_has_its_code() -> None:
    """What an author can mend exits 2, what the infrastructure did exits 3."""
    assert (UserError("x").code, InfrastructureError("x").code) == (Exit.INVALID, Exit.UNSCORED)
    assert issubclass(UserError, GatehouseError)
    assert issubclass(InfrastructureError, GatehouseError)


def test_a_problem_shows_what_where_and_repair() -> None:
    """The caret ends below the last character of what is wrong."""
    problem = Problem("unknown metric.", "a.yaml", 14, 5, 6, "    answer: 0.8", "Did you mean this?")
    assert str(problem).splitlines() == [
        "a.yaml:14: unknown metric.",
        "        answer: 0.8",
        "        ~~~~~^",
        "Did you mean this?",
    ]


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("bad."), "bad."),
        (Problem("bad.", path="a.yaml"), "a.yaml: bad."),
        (Problem("bad.", line=3), "bad."),
    ],
)
def test_a_problem_says_only_what_it_knows(problem: Problem, text: str) -> None:
    """Without a line there is no number, without a path no place."""
    assert str(problem) == text


@pytest.mark.parametrize("column", [1, 61, 500, 10_000])
def test_a_long_line_is_shown_around_the_fault(column: int) -> None:
    """A line of any length takes 120 characters, and the caret still stands below the fault."""
    source = "-" * (column - 1) + "X" + "-" * 10_000
    _, shown, caret = str(Problem("bad.", "a", 1, column, 1, source)).splitlines()
    assert len(shown) <= 4 + 120
    assert shown[len(caret) - 1] == "X"


def test_a_tab_does_not_move_the_caret() -> None:
    """A tab before the fault takes one column in the shown line, as in the count."""
    _, shown, caret = str(Problem("bad.", "a", 1, 3, 1, "\t\tX")).splitlines()
    assert shown[len(caret) - 1] == "X"


def test_a_user_error_shows_every_problem_and_what_was_left() -> None:
    """All faults are in one message, plain texts among them, with what was done before."""
    error = UserError(Problem("one.", path="a"), "two.", left="Nothing was written.")
    assert str(error) == "a: one.\ntwo.\nNothing was written."
    assert [p.message for p in error.problems] == ["one.", "two."]
