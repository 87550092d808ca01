"""The command line, without a model."""

# ruff: noqa: PT009

import io
import json
import unittest
from contextlib import redirect_stdout
from unittest import mock

from refund_triage import cli


def run(*arguments: str) -> tuple[int, str]:
    """The exit code of `refund-triage` with these arguments, and what it printed."""
    printed = io.StringIO()
    # From a checkout there is no installed version to show.
    with redirect_stdout(printed), mock.patch.object(cli, "version", return_value="1.2.3"):
        try:
            code = cli.main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, printed.getvalue()


class CommandLine(unittest.TestCase):
    """What `refund-triage` prints and how it ends."""

    def test_an_order_is_shown_without_a_model(self) -> None:
        """An order comes as JSON; one that nobody placed is an error with exit code 1."""
        code, printed = run("order", "LH-1001")
        self.assertEqual((code, json.loads(printed)["total_usd"]), (0, 64))
        code, printed = run("order", "LH-0000")
        self.assertEqual((code, json.loads(printed)), (1, {"error": "no order LH-0000"}))

    def test_version_and_help_are_shown(self) -> None:
        """`--version` and `--help` end with 0."""
        self.assertEqual(run("--version"), (0, "refund-triage 1.2.3\n"))
        code, printed = run("--help")
        self.assertEqual(code, 0)
        self.assertIn("decide", printed)


if __name__ == "__main__":
    unittest.main()
