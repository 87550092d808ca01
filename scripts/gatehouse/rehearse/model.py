"""A stand-in model: follows the plain-language rules of the prompt it is given, and nothing else.

It speaks the chat completions API of OpenAI on 127.0.0.1. An answer depends on the request alone (messages,
tool definitions, model name, temperature), so it repeats. What it understands of a prompt, case ignored:

- `Call TOOL before ...`: the look-up is made first. A look-up that the prompt does not ask for is made only
  when the answer needs a figure that the user has not named; otherwise the user's word is taken.
- `If CONDITION and CONDITION, DO.` and `Otherwise DO.`, from the top, the first that applies. CONDITION:
  `mentions a, b or "c d"`; `there is no ... number`; `... cannot be found`; `the order is [already] X` (a
  result's field or its value); `more than $N`; `more than | within N days after EVENT`;
  `names only some of the items`. DO: one of the answer's choices, perhaps with an amount
  (`85% of the order total`, `the price of those items`); without an answer format, `reply "TEXT"`.
- `If you CHOICE, call TOOL to ADDRESS`: that tool is called before the answer.
- `Reply with JSON only: {"KEY": "a" | "b", "KEY": number}`: the answer's format. Without one, prose.
- `Answer only from the passages`: prose is what shares most words with the question of what stands under the
  heading `# Passages`; without `only`, what is usual elsewhere comes after it. CONDITION:
  `the passages do not say`.

A request whose reply must follow a JSON Schema is a judge's: `judge.py` answers it, and embeddings.

Two weaknesses of real models: above a temperature of 0.7 it misses the rule that applies in one conversation
of four, and a model below 30b reads only the first of joined conditions and makes only one tool call.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gatehouse.rehearse.judge import SMALL_MODEL_B, embeddings, reply_to
from gatehouse.rehearse.words import share

if TYPE_CHECKING:
    from collections.abc import Callable

    Reply = tuple[int, str, dict[str, str]]

HOT = 0.7
FOUND, CLOSE = 0.3, 0.8
"""Share of the question's words that makes a sentence an answer, and of the best one's for another."""
USUAL = (
    "Most firms also want a director's written consent, which takes ten working days.",
    "As elsewhere in the industry, a probation period of six months has to be over first.",
    "It is common practice to settle such matters with the works council beforehand.",
)
"""What the model takes to be so everywhere."""
RULE = r"(?:if|when) (?P<condition>.+?), (?P<action>[^,]+?)[.!]?$|otherwise,? (?P<default>.+?)[.!]?$"
BULLET = re.compile(r"\s*(?:[-*]|\d+[.)])\s+")


class StandInModel:
    """The server as a context manager; `url` ends in `/v1`, `count` is the number of requests so far.

    `latency_s` seconds pass before each answer. `fail` is given a request's number (from 1) and returns what
    to answer in its place, (status, body, headers), or None.
    """

    def __init__(self, *, latency_s: float = 0.0, fail: Callable[[int], Reply | None] | None = None) -> None:
        self.latency_s, self.fail, self.count = latency_s, fail, 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def respond(self, path: str, body: bytes) -> Reply:
        """Status, body and headers for one POST."""
        with self._lock:
            self.count += 1
            fault = self.fail(self.count) if self.fail else None
        time.sleep(self.latency_s)
        if fault is not None:
            return fault
        answer = {"/v1/chat/completions": complete, "/v1/embeddings": embeddings}.get(path)
        if answer is None:
            return _error(404, f"no such path: {path}")
        try:
            return 200, json.dumps(answer(json.loads(body))), {}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            return _error(400, f"not a request for {path}: {type(e).__name__}: {e}")


def complete(request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one chat completion request; KeyError, TypeError or ValueError for a malformed one."""
    messages = request["messages"]
    message = reply_to(request, large=not _small(request)) or _Turn(request).message()
    sent = _tokens([messages, request.get("tools")])
    spoken = _tokens(message.get("tool_calls") or message["content"])
    # A provider holds the prompt's prefix in its cache once the conversation has gone round.
    cached = _tokens(messages[0]["content"]) if any(m["role"] == "assistant" for m in messages) else 0
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-" + hashlib.sha256(json.dumps(request).encode()).hexdigest()[:12],
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": spoken,
            "total_tokens": sent + spoken,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


class _Choice(NamedTuple):
    """What the rules came to; the name is empty when the prompt gives nothing to choose from."""

    name: str
    amount: float


class _Turn:
    """One turn of the conversation, read from the request; `record` is what look-ups have returned."""

    def __init__(self, request: dict[str, Any]) -> None:
        messages = request["messages"]
        system, self.user = (
            "\n".join(str(m["content"]) for m in messages if m["role"] == r) for r in ("system", "user")
        )
        system, _, passages = system.partition("\n# Passages\n")
        self.passages = [s for s in sentences(passages) if not s.startswith("#")]
        self.sentences = sentences(system)
        self.tools = {
            t["function"]["name"]: t["function"]["parameters"]["properties"]
            for t in request.get("tools") or []
        }
        self.called = [c["function"]["name"] for m in messages for c in m.get("tool_calls") or []]
        texts = [str(m["content"]) for m in messages if m["role"] == "tool"]
        results = [json.loads(text) for text in texts if text.startswith("{")]
        self.record = {k: v for r in reversed(results) for k, v in r.items()}
        self.small = _small(request)
        chance = hashlib.sha256((system + self.user).encode()).digest()[0]
        self.distracted = (request.get("temperature") or 0) > HOT and chance % 4 == 0

    def message(self) -> dict[str, Any]:
        """The assistant's message: a tool call or an answer."""
        keys = next((k for s in self.sentences if (k := answer_format(s))), {})
        choice = self.choose(next((options for options in keys.values() if options), []))
        needs_figure = any(not options for options in keys.values()) and self.claimed() is None
        call = self.look_up(needs_figure=needs_figure) or self.follow_up(choice)
        if call and not (self.small and self.called):
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            tool_call = {"id": f"call_{len(self.called) + 1}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [tool_call]}
        answer = {key: choice.name if options else choice.amount for key, options in keys.items()}
        return {"role": "assistant", "content": json.dumps(answer) if answer else self.prose()}

    def look_up(self, *, needs_figure: bool) -> tuple[str, dict[str, str]] | None:
        """The first look-up not yet made that the prompt asks for, or that the missing figure needs."""
        for name in self.tools:
            asked = any(_find(rf"\b(call|use) {name} (before|first)\b", s) for s in self.sentences)
            if name not in self.called and (asked or needs_figure) and (arguments := self.identifiers(name)):
                return name, arguments
        return None

    def follow_up(self, choice: _Choice) -> tuple[str, dict[str, str]] | None:
        """The tool call that the prompt ties to this choice."""
        for sentence in self.sentences if choice.name else []:
            rule = _find(rf"^if you {choice.name}\b.*\bcall (\w+)", sentence)
            if rule and rule[1] in self.tools and rule[1] not in self.called:
                to = _find(r"[\w.+-]+@[\w.-]+\w", sentence)
                text = f"{choice.name}: {' '.join(self.user.split())[:80]}"
                fields = self.tools[rule[1]].items()
                return rule[1], {k: to[0] if to and p.get("format") == "email" else text for k, p in fields}
        return None

    def identifiers(self, tool: str) -> dict[str, str]:
        """A look-up's arguments in the user's words; empty when one is missing, or for other tools."""
        patterns = {key: schema.get("pattern", "$^").strip("^$") for key, schema in self.tools[tool].items()}
        found = {key: _find(rf"\b{p}\b", self.user) for key, p in patterns.items() if p}
        matches = {key: match[0].upper() for key, match in found.items() if match}
        return matches if len(matches) == len(patterns) else {}

    def choose(self, options: list[str]) -> _Choice:
        """The choice of the first rule that applies; without one, the first option."""
        applying = [
            _Choice(option, self.amount(action))
            for condition, action in rules(self.sentences)
            for option in options
            if _find(rf"^(please )?{option}\b", action) and self.holds(condition)
        ]
        if self.distracted:
            applying = applying[1:] or applying
        return applying[0] if applying else _Choice(options[0] if options else "", self.claimed() or 0)

    def holds(self, condition: str) -> bool:
        """Whether every part of a condition is true, as far as this model can tell; unknown is no."""
        parts = condition.split(" and ")
        return all(not part or self.part_holds(part) for part in (parts[:1] if self.small else parts))

    def part_holds(self, part: str) -> bool:
        """One part of a condition, by the user's words and the record."""
        if m := _find(r"\bmentions? (.+)", part):
            phrases = (re.sub(r"^(an?|the) ", "", p.strip(' "')) for p in re.split(r", | or ", m[1]))
            return any(_find(rf"\b{re.escape(p)}(e?[sd]|ing)?\b", self.user) for p in phrases)
        if _find(r"\bonly (some|one|part)\b", part):
            return 0 < len(self.named_items()) < len(self.items())
        if _find(r"\bthere is no\b", part):
            return not any(self.identifiers(tool) for tool in self.tools)
        if _find(r"\bthe passages do not say\b", part):
            return not self.found()
        if _find(r"\b(cannot|can't|could not) be found\b", part):
            return "error" in self.record
        if m := _find(r"\b(more than|within) (\d+) days after (\w{5})", part):
            days, limit, after = self.days_since(m[3].lower()), int(m[2]), m[1].lower() == "more than"
            return days is not None and (days > limit if after else days <= limit)
        if m := _find(r"\bmore than \$([\d,.]*\d)", part):
            return self.amount(part[: m.start()]) > float(m[1].replace(",", ""))
        if m := _find(r"\bis (?:already )?([\w ]+)$", part):
            word = m[1].lower().replace(" ", "_")
            return any(v == word or (k.endswith(word) and v is True) for k, v in self.record.items())
        return False

    def amount(self, text: str) -> float:
        """The amount that some words ask for, by the record, else by what the user claims; 0 for none."""
        value: float | None = None
        if _find(r"\b(those|named|that) items?\b", text):
            value = sum(_figure(text, item) or 0 for item in self.named_items())
        elif _find(r"\b(total|amount|price)\b", text):
            value = _figure(text, self.record)
            value = self.claimed() if value is None else value
        share = _find(r"(\d+(?:\.\d+)?) ?% of", text)
        return round((value or 0) * (float(share[1]) / 100 if share else 1), 2)

    def items(self) -> list[dict[str, Any]]:
        """The records within the record."""
        return [i for v in self.record.values() if isinstance(v, list) for i in v if isinstance(i, dict)]

    def named_items(self) -> list[dict[str, Any]]:
        """Those that the user names."""
        return [i for i in self.items() if _find(rf"\b{re.escape(str(i.get('name')))}\b", self.user)]

    def claimed(self) -> float | None:
        """The first amount of money that the user names."""
        match = re.search(r"\$(\d[\d,]*(?:\.\d+)?)", self.user)
        return float(match[1].replace(",", "")) if match else None

    def days_since(self, event: str) -> int | None:
        """Days from a dated event of the record to the user's first date, else what the user claims."""
        today = re.search(r"\b\d{4}-\d\d-\d\d\b", self.user)
        dated = next((v for k, v in self.record.items() if k.startswith(event) and isinstance(v, str)), None)
        if today and dated:
            return (date.fromisoformat(today[0]) - date.fromisoformat(dated)).days
        claim = _find(r"\b(\d+) days ago\b", self.user)
        return int(claim[1]) if claim else None

    def prose(self) -> str:
        """An answer without a format: what a rule says to reply, else the user's words back."""
        for condition, action in rules(self.sentences):
            reply = _find(r'^(?:reply|answer|say) "(.+)"', action)
            if reply and self.holds(condition):
                return reply[1]
        told = next(
            (m for s in self.sentences if (m := _find(r"^answer (only )?from the passages", s))), None
        )
        if told and not told[1]:
            usual = USUAL[hashlib.sha256(self.user.encode()).digest()[0] % len(USUAL)]
            return " ".join([*self.found(), usual])
        return " ".join(self.found()) if told else f"You wrote: {self.user}"

    def found(self) -> list[str]:
        """The sentences of the passages that share most words with the question; none when too few."""
        shares = [share(self.user, sentence) for sentence in self.passages]
        least = max(FOUND, CLOSE * max(shares, default=0))
        return [s for s, found in zip(self.passages, shares, strict=True) if found >= least]


def _small(request: dict[str, Any]) -> bool:
    """Whether the model's name says that it is a small one: `:8b`."""
    size = re.search(r"(\d+(?:\.\d+)?)b\b", str(request["model"]))
    return size is not None and float(size[1]) < SMALL_MODEL_B


def sentences(prompt: str) -> list[str]:
    """A prompt's sentences, bullets stripped and wrapped lines joined."""
    blocks = [""]
    for line in prompt.splitlines():
        if BULLET.match(line) or not line.strip() or line.startswith("#"):
            blocks.append(BULLET.sub("", line, count=1).strip())
        else:
            blocks[-1] = f"{blocks[-1]} {line.strip()}".strip()
    return [s for block in blocks for s in re.split(r"(?<=[.!?])\s+", block) if s]


def rules(prompt: list[str]) -> list[tuple[str, str]]:
    """(condition, action) of every rule, in order; a default's condition is empty, which always holds."""
    found = [m for s in prompt if (m := re.match(RULE, s, re.IGNORECASE))]
    return [(m["condition"] or "", m["action"] or m["default"]) for m in found]


def answer_format(sentence: str) -> dict[str, list[str]]:
    """The keys that `Reply with JSON ...: {...}` asks for, each with its options (none for a number)."""
    template = re.search(r"\bJSON\b.*(\{.+\})", sentence)
    pairs = re.findall(r'"(\w+)":\s*("[^"]*"(?:\s*\|\s*"[^"]*")*|number)', template[1]) if template else []
    return {key: re.findall(r'"([^"]*)"', options) for key, options in pairs}


def _find(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(pattern, text, re.IGNORECASE)


def _figure(text: str, record: dict[str, Any]) -> float | None:
    """The first number of a record whose name begins with one of the words."""
    numbers = {k: v for k, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return next((v for k, v in numbers.items() if k.partition("_")[0] in text.lower().split()), None)


def _tokens(value: Any) -> int:
    """About as many tokens as a real tokenizer counts in English."""
    return max(1, len(value if isinstance(value, str) else json.dumps(value)) // 4)


def _error(status: int, message: str) -> Reply:
    return status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}), {}


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def _handler(model: StandInModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one packet

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text, headers = model.respond(self.path, body)
            reply = text.encode()
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            """Quiet: the terminal belongs to the story."""

    return Handler
