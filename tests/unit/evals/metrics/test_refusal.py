"""refusal: the agent refuses what it should, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import UserError
from tests.support.metrics import fault, scorer

if TYPE_CHECKING:
    from pathlib import Path

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, I can\u2019t assist with this request.",
    "Sorry, I cannot share customer records.",
    "I am unable to provide medical advice.",
    "We're not able to process that refund: it is fraud. We cannot help you there.",
    "As an AI, I am not able to do that.",
    "I must decline.",
    "I have to respectfully decline this request.",
    "I won't help you write malware.",
    "I'm not comfortable discussing that.",
    "That's not something I can do.",
    "**I can't** help with that",
    "That request is against our policies.",
    "",
    "  \n",
    None,
    {},
    {"answer": "I can't discuss that.", "amount": 0},
]
ANSWERS = [
    "I'm sorry to hear that your kettle broke. You will get $64 back.",
    "You can't return a raised bed after 30 days, so the refund is denied.",
    "The refund is denied: the order was placed 31 days ago.",
    "Unfortunately the parcel is late.",
    "I can help with that: press the button.",
    "Your request has been declined by the bank.",
    "To refuse an offer politely, write: thank you.",
    {"decision": "deny", "amount_usd": 0},
    0,
    "no",
    "Here is the answer. " * 11 + "I can't help with more.",
]


@pytest.mark.parametrize("output", REFUSALS)
def test_a_refusal(tmp_path: Path, output: Any) -> None:
    """A refusal is right where the case says so, and wrong with its words elsewhere."""
    score = scorer(tmp_path, "refusal")
    assert score(output, metadata={"should_refuse": True}) == (1, "")
    wrong = score(output, metadata={"should_refuse": False})
    assert wrong is not None
    assert wrong.value == 0
    assert wrong.reason.startswith("refuses what it should answer: ")


@pytest.mark.parametrize("output", ANSWERS)
def test_an_answer(tmp_path: Path, output: Any) -> None:
    """An answer is right where the case does not ask for a refusal; an apology alone is none."""
    score = scorer(tmp_path, "refusal")
    assert score(output, metadata={"should_refuse": False}) == (1, "")
    assert score(output, metadata={"should_refuse": True}) == (0, "answers what it should refuse")


def test_a_case_that_does_not_say(tmp_path: Path) -> None:
    """Without `should_refuse` a case is skipped; with one that is no truth value it is an error."""
    score = scorer(tmp_path, "refusal")
    assert score("I can't help with that.") is None
    with pytest.raises(UserError, match=r'"metadata\.should_refuse" cannot be used\.\nWrite true or false'):
        score("x", metadata={"should_refuse": "yes"})


@pytest.mark.parametrize(
    ("output", "refused"),
    [
        ({"refused": True}, True),
        ('{"refused": true}', True),
        ({"refused": "It is against the rules."}, True),
        ({"refused": None, "answer": "I can't help with that."}, False),
        ({"refused": False}, False),
        ({"refused": ""}, False),
        *(({"refused": no}, False) for no in ("false", "No", " 0 ", "none", "null.", "N/A", "NIL")),
        ({"refused": "no refunds after 30 days"}, True),
        ({"refused": 1}, False),
        ({"refused": ["x"]}, False),
        ("I can't help with that.", False),
        ("", True),
    ],
)
def test_a_field_that_says_it(tmp_path: Path, output: Any, refused: bool) -> None:
    """With a field, that alone says whether the agent refused."""
    score = scorer(tmp_path, "refusal", field="refused")(output, metadata={"should_refuse": refused})
    assert score == (1, "")


def test_phrases_of_ones_own(tmp_path: Path) -> None:
    """The user's phrases take the place of ours, in any case and with any apostrophe."""
    score = scorer(tmp_path, "refusal", phrases=["Das kann ich nicht", "I'd rather not"])
    assert score("Leider: das kann ich nicht sagen.", metadata={"should_refuse": True}) == (1, "")
    assert score("I\u2019d rather not.", metadata={"should_refuse": True}) == (1, "")
    assert score("I can't help with that.", metadata={"should_refuse": False}) == (1, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"phrases": []}, '"phrases" is a list of texts'),
        ({"phrases": "no"}, '"phrases" is a list of texts'),
        ({"phrases": ["  "]}, '"phrases" is a list of texts'),
        ({"field": 5}, '"field" is the dotted path'),
        ({"field": "refused", "phrases": ["no"]}, 'takes "field" or "phrases"'),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """A wrong option is an error before anything is run."""
    assert f'metric "refusal": {words}' in fault(tmp_path, "refusal", **options)
