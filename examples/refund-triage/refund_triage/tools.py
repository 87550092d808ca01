"""What the agent may do: look an order up, and queue an e-mail that a person approves."""

import json
import os
from pathlib import Path
from typing import Any

from inflection import underscore

ORDERS = Path(__file__).with_name("orders.json")
OUTBOX = Path(os.environ.get("REFUND_TRIAGE_OUTBOX", "outbox"))


def read_orders(order_id: str) -> dict[str, Any]:
    """The order's record as the shop exports it, keys in snake_case; read-only."""
    for order in json.loads(ORDERS.read_text(encoding="utf-8")):
        if order["orderId"] == order_id:
            return snake_case(order)
    return {"error": f"no order {order_id}"}


def send_email(to: str, subject: str, body: str) -> dict[str, str]:
    """Queue an e-mail; nothing leaves before a person has approved it."""
    OUTBOX.mkdir(exist_ok=True)
    mail = {"to": to, "subject": subject, "body": body, "approved_by": None}
    with (OUTBOX / "pending.jsonl").open("a", encoding="utf-8") as pending:
        pending.write(json.dumps(mail) + "\n")
    return {"status": "queued for approval"}


def snake_case(value: Any) -> Any:
    """The same JSON value with every key in snake_case: models read `total_usd` better than `totalUsd`."""
    if isinstance(value, dict):
        return {underscore(key): snake_case(item) for key, item in value.items()}
    if isinstance(value, list):
        return [snake_case(item) for item in value]
    return value


def run(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one tool call; a wrong name or argument goes back to the model as an error that it can mend."""
    try:
        return FUNCTIONS[name](**arguments)
    except (KeyError, TypeError) as error:
        return {"error": f"{name}: {error}"}


def definition(name: str) -> dict[str, Any]:
    """The tool as the chat completions API wants it."""
    description, properties = DESCRIPTIONS[name]
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


FUNCTIONS = {"read_orders": read_orders, "send_email": send_email}
DESCRIPTIONS = {
    "read_orders": (
        "Look one order up: status, delivery date, items and prices.",
        {"order_id": {"type": "string", "pattern": "^LH-[0-9]{4}$"}},
    ),
    "send_email": (
        "Queue an e-mail for approval.",
        {
            "to": {"type": "string", "format": "email"},
            "subject": {"type": "string"},
            "body": {"type": "string"},
        },
    ),
}
