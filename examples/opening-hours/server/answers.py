"""A customer's question in, an answer from the table of opening hours out."""

import json
from pathlib import Path

HOURS: dict[str, dict[str, str | None]] = json.loads(
    (Path(__file__).parent / "hours.json").read_text(encoding="utf-8")
)
"""What each shop's hours are on each day; null where it is closed."""


def answer(question: str) -> tuple[str, list[str]]:
    """The answer, and the rows of the table that it comes from."""
    asked = question.lower()
    shops = [shop for shop in HOURS if shop.lower() in asked]
    if len(shops) != 1:
        return f"Which shop do you mean: {' or '.join(HOURS)}?", []
    [shop] = shops
    days = [day for day in HOURS[shop] if day.lower() in asked] or list(HOURS[shop])
    said = [f"{day}: {HOURS[shop][day] or 'closed'}" for day in days]
    return f"Our shop in {shop}, {'; '.join(said)}.", [f"{shop}, {one}" for one in said]
