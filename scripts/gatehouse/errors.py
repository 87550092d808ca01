"""User errors, verdict states and the one table of exit codes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum, StrEnum


class Exit(IntEnum):
    """What a command's exit code says."""

    PASS = 0
    """The gate passed, or the work was done."""
    FAIL = 1
    """The gate was measured and failed."""
    INVALID = 2
    """A file or an option is wrong; its author can mend it."""
    UNSCORED = 3
    """The infrastructure failed, or nothing was measured."""


class State(StrEnum):
    """A verdict, worst first: the state of several is the first of these that any of them has."""

    FAIL = "fail"
    UNSCORED = "unscored"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105 a verdict, no password

    @staticmethod
    def worst(states: list[State]) -> State:
        """The state of several together; of none, unscored: what was not measured never passes."""
        return min(states, key=list(State).index, default=State.UNSCORED)

    def exit_code(self, *, on_inconclusive: str = "warn") -> Exit:
        """The exit code of a gate that ends in this state; `on_inconclusive` is "warn" or "fail"."""
        if self is State.INCONCLUSIVE:
            return Exit.FAIL if on_inconclusive == "fail" else Exit.PASS
        return {State.FAIL: Exit.FAIL, State.UNSCORED: Exit.UNSCORED, State.PASS: Exit.PASS}[self]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided and why; the reason is always shown."""

    passed: bool
    reason: str


def plain_number(value: float, digits: int) -> str:
    """A number with that many digits that count, never as a power of ten: 0.0000123, not 1.23e-05."""
    text = f"{value:.{digits}g}"
    return format(Decimal(text), "f") if "e" in text else text


WINDOW = 120
"""Characters of a source line that an error shows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what a user wrote.

    `line` and `column` count from 1, `length` in characters; `source` is the text of that line.
    """

    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    length: int = 1
    source: str = ""
    repair: str = ""

    def __str__(self) -> str:
        """The message in house style: what, where (with a caret), the repair."""
        where = (
            f"{self.path}:{self.line}: " if self.path and self.line else f"{self.path}: " if self.path else ""
        )
        lines = [where + self.message]
        if self.source:
            # A window around the column: a line of 10 MB must not fill the terminal.
            start = max(0, self.column - WINDOW // 2) if len(self.source) > WINDOW else 0
            lines.append("    " + self.source[start : start + WINDOW].replace("\t", " ").rstrip())
            if self.column:
                width = max(1, min(self.length, WINDOW))
                lines.append("    " + " " * (self.column - 1 - start) + "~" * (width - 1) + "^")
        if self.repair:
            lines.append(self.repair)
        return "\n".join(lines)


class GatehouseError(Exception):
    """What a user can cause or meet: shown as a message, never as a traceback."""

    code: Exit = Exit.INVALID


class UserError(GatehouseError):
    """Faults in a file or an option, all at once (exit 2).

    `left` says what was done before the fault was found.
    """

    code = Exit.INVALID

    def __init__(self, *problems: Problem | str, left: str = "Nothing was run.") -> None:
        self.problems = [p if isinstance(p, Problem) else Problem(p) for p in problems]
        self.left = left
        super().__init__("\n".join([*map(str, self.problems), left]))


class InfrastructureError(GatehouseError):
    """Something outside the user's files failed: network, provider, key, index, API (exit 3)."""

    code = Exit.UNSCORED
