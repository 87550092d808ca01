"""The one table of exit codes."""

from __future__ import annotations

import pytest

from gatehouse.errors import Exit, GatehouseError, InfrastructureError, State, UserError


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("on_inconclusive", ["warn", "fail"])
def test_every_state_has_its_code(state: State, on_inconclusive: str) -> None:
    """Every state ends in one of the table's codes, and only a pass or a warned inconclusive one in 0."""
    code = state.exit_code(on_inconclusive=on_inconclusive)
    assert code in Exit
    green = state is State.PASS or (state is State.INCONCLUSIVE and on_inconclusive == "warn")
    assert (code is Exit.PASS) == green


def test_every_error_has_a_code_that_is_red() -> None:
    """What a user or the infrastructure got wrong never ends in 0, nor in the code of a measured failure."""
    assert {UserError: UserError.code, InfrastructureError: InfrastructureError.code} == {
        UserError: Exit.INVALID,
        InfrastructureError: Exit.UNSCORED,
    }
    assert GatehouseError.code not in (Exit.PASS, Exit.FAIL)


def test_the_worst_state_wins() -> None:
    """Of several states the first in order of precedence counts; nothing measured is unscored."""
    order = [State.FAIL, State.UNSCORED, State.INCONCLUSIVE, State.PASS]
    for index, state in enumerate(order):
        assert State.worst(list(reversed(order[index:]))) is state
    assert State.worst([]) is State.UNSCORED
