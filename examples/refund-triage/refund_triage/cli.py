"""The `refund-triage` command."""

import argparse
import json
import sys
from importlib.metadata import version

from refund_triage import tools


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments; its exit code."""
    parser = argparse.ArgumentParser(prog="refund-triage", description="Decides on refund requests.")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers(dest="command")
    order = commands.add_parser("order", help="show what the shop has on record, as JSON; asks no model")
    order.add_argument("order_id", help="such as LH-1001")
    commands.add_parser("decide", help="decide on the ticket on standard input")
    given = parser.parse_args(arguments)
    if given.version:
        # Asked for here: in a checkout that is not installed, the rest works without one.
        print(f"refund-triage {version('acme-refund-triage')}")
        return 0
    if not given.command:
        parser.error("a command is missing: order or decide")
    if given.command == "order":
        return show(tools.read_orders(given.order_id))
    # It reads the agent file, which looking an order up does not need.
    from refund_triage.agent import answer  # noqa: PLC0415

    return show(answer(sys.stdin.read())["output"])


def show(result: object) -> int:
    """Print a result as JSON; 1 for one that says an error, else 0."""
    print(json.dumps(result, indent=2))
    return 1 if isinstance(result, dict) and "error" in result else 0
