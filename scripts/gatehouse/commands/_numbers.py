"""Numbers that options take: click's own take "nan" for one."""

from __future__ import annotations

from typing import Any

import click


class Seconds(click.FloatRange):
    """A finite number of seconds in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a click error for anything else."""
        seconds = float(super().convert(value, param, ctx))
        if seconds != seconds:  # noqa: PLR0124 only NaN is not itself
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class Dollars(click.ParamType):
    """An amount of US dollars: finite and not negative."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The amount; a click error for anything else."""
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not 0 <= amount < float("inf"):
            self.fail(f"{value!r} is not an amount of US dollars, such as 0.05", param, ctx)
        return amount
