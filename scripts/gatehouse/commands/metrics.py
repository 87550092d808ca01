"""`gatehouse metrics`: what can be measured."""

from __future__ import annotations

import click

from gatehouse.evals.metrics import registry


@click.command
def metrics() -> None:
    """List every metric with what it needs."""
    for metric in registry().values():
        sign = "at least" if metric.direction == "higher" else "at most"
        unit = f", in {metric.unit}" if metric.unit else ""
        click.echo(f"{metric.name}  ({metric.kind}, {sign} the threshold{unit})")
        click.echo(f"    {metric.summary}" + (f" Needs {metric.needs}." if metric.needs else ""))
        if metric.options:
            click.echo(f"    Options: {', '.join(metric.options)}.")
