"""`python -m unittest` runs these, so that no test runner need be installed; so does pytest."""

# ruff: noqa: PT009

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from refund_triage import tools


class Tools(unittest.TestCase):
    """The agent's tools, without a model."""

    def test_an_order_is_read_with_snake_case_keys(self) -> None:
        """The shop's camelCase export reaches the model in snake_case, nested keys too."""
        order = tools.read_orders("LH-1001")
        self.assertEqual(order["total_usd"], 64)
        self.assertEqual(order["items"], [{"name": "kettle", "price_usd": 64}])

    def test_an_unknown_order_is_an_error_for_the_model(self) -> None:
        """An order number nobody gave out comes back as an error, not as an exception."""
        self.assertEqual(tools.run("read_orders", {"order_id": "LH-0000"}), {"error": "no order LH-0000"})

    def test_a_wrong_argument_is_an_error_for_the_model(self) -> None:
        """A model that invents an argument is told so."""
        self.assertIn("error", tools.run("read_orders", {"number": "LH-1001"}))

    def test_an_email_waits_for_approval(self) -> None:
        """An e-mail is written to the queue and to nothing else."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(tools, "OUTBOX", Path(folder)):
            tools.run(
                "send_email", {"to": "leads@larkfield.example", "subject": "LH-1001", "body": "Please."}
            )
            queued = json.loads((Path(folder) / "pending.jsonl").read_text(encoding="utf-8"))
        self.assertIsNone(queued["approved_by"])

    def test_order_totals_add_up(self) -> None:
        """Every order's total is the sum of its items."""
        for order in json.loads(tools.ORDERS.read_text(encoding="utf-8")):
            self.assertAlmostEqual(order["totalUsd"], sum(item["priceUsd"] for item in order["items"]))


if __name__ == "__main__":
    unittest.main()
