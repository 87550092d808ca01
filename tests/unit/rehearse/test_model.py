"""The stand-in model follows what the prompt says, and only that."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests

from gatehouse.rehearse.model import StandInModel, complete, sentences

FORMAT = 'Reply with JSON only: {"decision": "approve" | "deny" | "escalate", "amount_usd": number}.'
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "read_invoices",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string", "pattern": "^INV-[0-9]+$"}},
        },
    },
}
MAIL = {
    "type": "function",
    "function": {
        "name": "mail",
        "parameters": {
            "properties": {"to": {"type": "string", "format": "email"}, "text": {"type": "string"}}
        },
    },
}
RECORD = {
    "shipped_on": "2026-01-01",
    "status": "open",
    "prepaid": True,
    "disputed": False,
    "total_usd": 80,
    "lines": [{"name": "ink", "price_usd": 30}, {"name": "paper", "price_usd": 50}],
}


def ask(prompt: str, user: str, *, record: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """The model's message; with a `record`, after it has looked that record up."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": user},
    ]
    if record is not None:
        call = {"id": "call_1", "type": "function", "function": {"name": "read_invoices", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": json.dumps(record)})
    reply = complete({"model": "m:70b", "temperature": 0, "messages": messages} | request)
    message: dict[str, Any] = reply["choices"][0]["message"]
    return message


def decided(prompt: str, user: str, **more: Any) -> tuple[str, float]:
    """Decision and amount of a JSON answer."""
    answer = json.loads(ask(f"{prompt} {FORMAT}", user, **more)["content"])
    return answer["decision"], answer["amount_usd"]


def called(message: dict[str, Any]) -> tuple[str, dict[str, str]] | None:
    """Name and arguments of a message's tool call."""
    if not message.get("tool_calls"):
        return None
    function = message["tool_calls"][0]["function"]
    return function["name"], json.loads(function["arguments"])


@pytest.mark.parametrize(
    ("rule", "user", "applies"),
    [
        ('If the customer mentions a refund, fraud or "no reply", deny.', "I got no reply", True),
        ('If the customer mentions a refund, fraud or "no reply", deny.', "Two refunds please", True),
        ('If the customer mentions a refund, fraud or "no reply", deny.', "I await your reply", False),
        ("If the customer mentions a spark, deny.", "it sparkles", False),
        ("If the invoice is open, deny.", "INV-7", True),
        ("If the invoice is already prepaid, deny.", "INV-7", True),
        ("If the invoice is closed, deny.", "INV-7", False),
        ("If the invoice is disputed, deny.", "INV-7", False),
        ("If the customer names only some of the items, deny.", "the ink", True),
        ("If the customer names only some of the items, deny.", "the ink and the paper", False),
        ("If the customer names only some of the items, deny.", "the inkwell", False),
        ("If the total is more than $79, deny.", "INV-7", True),
        ("If the total is more than $80, deny.", "INV-7", False),
        ("If it comes more than 9 days after shipping, deny.", "On 2026-01-11: INV-7", True),
        ("If it comes more than 10 days after shipping, deny.", "On 2026-01-11: INV-7", False),
        ("If it comes within 10 days after shipping, deny.", "On 2026-01-11: INV-7", True),
        ("If it comes within 9 days after shipping, deny.", "On 2026-01-11: INV-7", False),
        ("If the invoice is open and the customer mentions fraud, deny.", "INV-7", False),
        ("If the invoice cannot be found, deny.", "INV-7", False),
        ("If there is no invoice number, deny.", "INV-7", False),
        ("If there is no invoice number, deny.", "the last one", True),
        ("If the moon is full, deny.", "INV-7", False),
    ],
)
def test_a_rule_applies_when_its_condition_holds(rule: str, user: str, applies: bool) -> None:
    """A condition is judged by the user's words and the record; what the model cannot tell does not hold."""
    decision, _ = decided(f"{rule} Otherwise approve.", user, record=RECORD, tools=[LOOK_UP])
    assert decision == ("deny" if applies else "approve")


def test_the_first_rule_that_applies_decides() -> None:
    """Of two rules that both apply, the upper one is followed."""
    first, second = "If the customer mentions ink, deny.", "If the customer mentions ink, escalate."
    assert decided(f"- {first}\n- {second}", "ink, $5")[0] == "deny"
    assert decided(f"- {second}\n- {first}", "ink, $5")[0] == "escalate"


@pytest.mark.parametrize(
    ("action", "amount"),
    [("approve the total", 80), ("approve 85% of the total", 68), ("approve the price of those items", 30)],
)
def test_amounts_come_from_the_record(action: str, amount: float) -> None:
    """An amount is the record's figure, also when the user claims another one."""
    assert decided(f"Otherwise {action}.", "the ink, $999", record=RECORD) == ("approve", amount)


def test_a_record_that_is_missing_is_noticed() -> None:
    """A look-up that comes back with an error is a record that cannot be found."""
    rules = "If the invoice cannot be found, escalate. Otherwise approve."
    assert decided(rules, "INV-7, $5", record={"error": "no such invoice"})[0] == "escalate"


def test_later_results_do_not_change_the_record() -> None:
    """What a second tool reports under the same key does not replace what the look-up said."""
    messages = [
        {"role": "system", "content": f"If the invoice is open, deny. Otherwise approve. {FORMAT}"},
        {"role": "user", "content": "INV-7, $5"},
        {"role": "tool", "content": json.dumps(RECORD)},
        {"role": "tool", "content": '{"status": "sent"}'},
        {"role": "tool", "content": "done"},
    ]
    reply = complete({"model": "m", "messages": messages})
    assert json.loads(reply["choices"][0]["message"]["content"])["decision"] == "deny"


def test_without_a_record_the_user_is_believed() -> None:
    """A model that was not told to look anything up takes the figure that the user names."""
    assert decided("Otherwise approve the total.", "INV-7, $1,999.50", tools=[LOOK_UP]) == ("approve", 1999.5)


def test_a_look_up_is_made_only_when_asked_for_or_needed() -> None:
    """The prompt's instruction, or a missing figure, makes the call; a tool's mere presence does not."""
    look_up = ("read_invoices", {"number": "INV-7"})
    asked = f"Call read_invoices before you decide. {FORMAT}"
    assert called(ask(asked, "inv-7, $5", tools=[LOOK_UP])) == look_up
    assert called(ask(FORMAT, "INV-7, $5", tools=[LOOK_UP])) is None
    assert called(ask(FORMAT, "INV-7, how much?", tools=[LOOK_UP])) == look_up
    assert called(ask(asked, "INV-7, $5")) is None
    assert called(ask(asked, "INV-7, $5", tools=[LOOK_UP], record=RECORD)) is None


def test_a_choice_can_ask_for_a_second_call() -> None:
    """What the prompt ties to a choice is called before the answer, with the address the prompt names."""
    prompt = f"If you escalate, call mail to desk@shop.example with a summary. Otherwise escalate. {FORMAT}"
    name, arguments = called(ask(prompt, "INV-7, $5", tools=[MAIL])) or ("", {})
    assert (name, arguments["to"]) == ("mail", "desk@shop.example")
    assert "INV-7" in arguments["text"]


def test_a_small_model_loses_steps() -> None:
    """Below 30b the second part of a condition, and the second call, are lost."""
    joined = "If the invoice is open and the customer mentions fraud, deny. Otherwise approve."
    assert decided(joined, "INV-7, $5", record=RECORD)[0] == "approve"
    assert decided(joined, "INV-7, $5", record=RECORD, model="m:8b")[0] == "deny"
    tied = f"If you deny, call mail to a@b.example. Otherwise deny. {FORMAT}"
    assert called(ask(tied, "INV-7, $5", tools=[MAIL], record=RECORD))
    assert not called(ask(tied, "INV-7, $5", tools=[MAIL], record=RECORD, model="m:8b"))


def test_a_high_temperature_varies_and_repeats() -> None:
    """Above 0.7 some conversations get another answer, always the same ones."""
    users = [f"ink {n}, $5" for n in range(40)]
    rules = "If the customer mentions ink, deny. Otherwise approve."
    cold = {decided(rules, user, temperature=0.7) for user in users}
    hot = [decided(rules, user, temperature=0.9) for user in users]
    assert cold == {("deny", 0)}
    assert 0 < sum(d != "deny" for d, _ in hot) < 20
    assert hot == [decided(rules, user, temperature=0.9) for user in users]


def test_without_a_format_it_answers_in_prose() -> None:
    """An agent without JSON gets the reply its rules name, or its own words back."""
    prompt = 'If the user mentions opening hours, reply "Nine to five".'
    assert ask(prompt, "What are your opening hours?")["content"] == "Nine to five"
    assert ask(prompt, "Hello")["content"] == "You wrote: Hello"


def test_sentences_ignore_bullets_and_wrapping() -> None:
    """A bullet wrapped over two lines is one sentence; a heading is not part of it."""
    assert sentences("# Rules\n\n1. If a, b.\n   If c,\n   d.\n* E") == [
        "# Rules",
        "If a, b.",
        "If c, d.",
        "E",
    ]


def test_it_speaks_http_and_counts_tokens() -> None:
    """The server answers like an OpenAI-compatible endpoint, usage included."""
    with StandInModel() as model:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        reply = requests.post(f"{model.url}/chat/completions", json=body, timeout=5)
        assert reply.status_code == 200
        assert reply.json()["choices"][0] == {
            "index": 0,
            "message": {"role": "assistant", "content": "You wrote: Hello"},
            "finish_reason": "stop",
        }
        usage = reply.json()["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2
        for path, sent, status in [
            ("/chat/completions", "[]", 400),
            ("/chat/completions", "{", 400),
            ("/x", "", 404),
        ]:
            assert requests.post(model.url + path, data=sent, timeout=5).status_code == status
        assert model.count == 4


def test_a_fault_takes_the_place_of_one_answer() -> None:
    """`fail` decides by the request's number, headers included; the next request is answered."""
    with StandInModel(fail=lambda n: (429, "slow down", {"Retry-After": "0"}) if n == 1 else None) as model:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        first = requests.post(f"{model.url}/chat/completions", json=body, timeout=5)
        second = requests.post(f"{model.url}/chat/completions", json=body, timeout=5)
    assert (first.status_code, first.text, first.headers["Retry-After"]) == (429, "slow down", "0")
    assert second.status_code == 200


def test_it_stops_with_a_connection_open() -> None:
    """Leaving the context does not wait for a client that keeps its connection."""
    with requests.Session() as session:
        with StandInModel() as model:
            body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
            session.post(f"{model.url}/chat/completions", json=body, timeout=5)
        assert not any(t.name.endswith("(serve_forever)") and t.is_alive() for t in threading.enumerate())
