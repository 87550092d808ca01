"""What is posted to an agent's address, and where the answer stands in its reply, by the agent file. Pure."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gatehouse.agent.protocol import MalformedError, as_text
from gatehouse.agent.source import RefusedError, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.agent.entrypoint import Url
    from gatehouse.agent.schema import Keys

NAMES = ("input", "id", "repeat", "deadline_s")
"""What a request may hold of a case, as `$input` and so on."""
DEFAULT = {name: f"${name}" for name in NAMES}
"""What is posted where the file has no `request`."""
MAY_LACK = ("contexts", "tool_calls", "usage", "iterations")
"""Parts that a reply may have or not; of a path that leads to none in any reply the run tells."""
PARTS = ("output", "contexts", "tool_calls", "usage", "iterations", "error")
MAX_PIECES = 50_000
"""Pieces of one stream: reading more of them would hold up the other cases."""
SHOWN_KEYS = 12
OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
"""Headers that say how a request is sent."""
CREDENTIALS = frozenset({"authorization", "proxy-authorization"})

_NAME = re.compile(r"\$(\$|[A-Za-z_]\w*(?:\.\w+)*)?")
_INDEX = re.compile(r"-?[0-9]{1,9}")
_LINE_END = re.compile(r"\r\n|\r|\n")


def faults(entry: Url) -> Iterator[tuple[Keys, str, str]]:
    """What is wrong with an address: the keys below `entrypoint`, the message and the repair of each fault.

    The entry may be of a file that its schema refuses too: raises TypeError or AttributeError for some.
    """
    if not _is_address(entry.url):
        yield ("url",), '"url" is no address.', "It has the form https://HOST:PORT/PATH."
    yield from _header_faults(entry)
    named = list(_named(entry.request, ()))
    unknown = [(keys, text) for keys, text, name in named if name not in NAMES]
    repair = f"Known are {', '.join(f'${name}' for name in NAMES)}; $$ is a dollar."
    for keys, text in unknown:
        yield ("request", *keys), f'"{text}" is nothing of a case.', repair
    if entry.request and not unknown and "input" not in [name for _, _, name in named]:
        yield ("request",), '"request" has no $input: every case would be asked the same.', ""
    for part, path in entry.reply.items():
        if "" in path.split(".") or path[0] == "$" or "[" in path:
            repair = "Write names and numbers with a dot between them, such as data.answers.0.text."
            yield ("reply", part), f'"{path}" is no path.', repair


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0) and url.isprintable()
    except ValueError:
        return False


def _header_faults(entry: Url) -> Iterator[tuple[Keys, str, str]]:
    secret = (entry.header or "Authorization").lower() if entry.secret else None
    if secret in OWN_HEADERS:
        yield ("auth", "header"), f'"{entry.header}" says how a request is sent: it carries no secret.', ""
    for name in entry.headers:
        if name.lower() in OWN_HEADERS:
            yield ("headers", name), f'"{name}" says how a request is sent, and is set with it.', "Remove it."
        elif name.lower() == secret:
            yield ("headers", name), f'"{name}" is the header of the secret.', "Remove it."
        elif name.lower() in CREDENTIALS:
            repair = "Name the environment variable that holds it as `auth.secret`."
            yield ("headers", name), f'"{name}" carries a secret, which has no place in a file.', repair


def _named(value: Any, keys: Keys) -> Iterator[tuple[Keys, str, str | None]]:
    """Each `$` of a template: where it stands, its text, and its name, None where none follows."""
    if isinstance(value, str):
        found = _NAME.finditer(value)
        yield from ((keys, one[0], one[1]) for one in found if one[1] != "$")
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _named(inner, (*keys, key))


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """The JSON to post, from a template without `faults`; `values` has one for each of NAMES.

    A text that is a name alone becomes its value; in a longer text a name becomes the value's text.
    """
    if isinstance(template, dict):
        return {key: fill(inner, values) for key, inner in template.items()}
    if isinstance(template, list):
        return [fill(inner, values) for inner in template]
    if not isinstance(template, str):
        return template
    if template[:1] == "$" and template[1:] in values:
        return values[template[1:]]
    return _NAME.sub(lambda found: "$" if found[1] == "$" else as_text(values[found[1]]), template)


class Seen:
    """In how many replies of a run each path of `reply` led somewhere, and what the last one had instead."""

    def __init__(self) -> None:
        self.replies = 0
        self.found: Counter[str] = Counter()
        self.instead: dict[str, str] = {}

    def notes(self, reply: Mapping[str, str]) -> Iterator[str]:
        """Of each path that led nowhere in every reply, that it did: it is mistaken, as a rule."""
        for part in MAY_LACK:
            if part in reply and self.replies and not self.found[part]:
                yield (
                    f"entrypoint.reply.{part} ({reply[part]}) was found in 0 of {self.replies} replies; "
                    f"{self.instead[part]}."
                )


def parts_of(
    body: bytes, reply: Mapping[str, str], stream: str | None, seen: Seen | None = None
) -> dict[str, Any]:
    """The parts of an answer, as the protocol has them; `output` is always among them.

    Of a stream, outputs that are texts are joined; of everything else the last that is not null counts. What
    its paths led to is counted in `seen`. Raises MalformedError for a reply that is none, or has no output
    and no error.
    """
    pieces = _pieces(body, stream)
    paths = reply or {part: part for part in PARTS}
    found = {part: [one for piece in pieces for one in find(piece, path)] for part, path in paths.items()}
    said = {part: [one for one in values if one is not None] for part, values in found.items()}
    outputs = said.pop("output")
    parts = {part: values[-1] for part, values in said.items() if values}
    error = parts.pop("error", None)
    if error:
        parts["error"] = _error(error)
    elif not found["output"]:
        raise MalformedError(_nowhere(pieces, paths["output"], mapped=bool(reply), stream=stream))
    if seen and not error:
        seen.replies += 1
        seen.found.update(part for part, values in found.items() if values)
        seen.instead |= {
            part: _reached(pieces, paths[part], stream)
            for part in MAY_LACK
            if part in reply and not found[part] and not seen.found[part]
        }
    whole = all(isinstance(one, str) for one in outputs)
    parts["output"] = "".join(outputs) if outputs and whole else outputs[-1] if outputs else None
    if isinstance(parts.get("contexts"), str):
        parts["contexts"] = [parts["contexts"]]
    if "usage" in parts:
        usage = parts["usage"]
        parts["usage"] = [_usage(one) for one in (usage if isinstance(usage, list) else [usage])]
    return parts


def _pieces(body: bytes, stream: str | None) -> list[Any]:
    """The JSON of a reply: one value, or one for each piece of a stream."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError(f"the reply is not UTF-8 (at byte {error.start + 1})") from None
    if stream is None:
        return [_json(text, "the reply")]
    texts = events(text) if stream == "events" else (line for line in text.split("\n") if line.strip())
    pieces = [
        _json(piece, f"piece {number} of the stream")
        for number, piece in enumerate(islice(texts, MAX_PIECES + 1), 1)
    ]
    if not pieces and text.lstrip()[:1] in ("{", "["):
        raise MalformedError(f"the reply is no event stream: it begins with {text[:200]!r}")
    if len(pieces) > MAX_PIECES:
        raise MalformedError(f"the stream has more than {MAX_PIECES} pieces")
    return pieces


def _json(text: str, what: str) -> Any:
    try:
        return parse_json(text)
    except RefusedError as error:
        begins = f"; it begins with {text[:200]!r}" if text else "; it is empty"
        raise MalformedError(f"{what} cannot be read: {error.message.rstrip('.')}{begins}") from None


def events(text: str) -> Iterator[str]:
    """The data of each server-sent event, until one that is `[DONE]`; those without data are left out.

    By https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6: also that an event at the end
    counts only with the empty line that ends it.
    """
    data: list[str] = []
    for line in _LINE_END.split(text)[:-1]:  # what has no line end is no line
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            event, data = "\n".join(data), []
            if event == "[DONE]":
                return
            if event.strip():
                yield event


def find(value: Any, path: str) -> list[Any]:
    """What the path leads to, as the only item of a list, which is empty where it leads nowhere.

    A part of a path is a key, the index of an item (from the end where negative), or `*`: a list of what the
    rest leads to in every item, one list also where it holds another `*`.
    """
    key, _, rest = path.partition(".")
    if key == "*":
        return _find_in_all(value, rest)
    if isinstance(value, dict) and key in value:
        inner = value[key]
    elif isinstance(value, list) and _INDEX.fullmatch(key) and -len(value) <= int(key) < len(value):
        inner = value[int(key)]
    else:
        return []
    return find(inner, rest) if rest else [inner]


def _find_in_all(value: Any, rest: str) -> list[Any]:
    if not isinstance(value, list):
        return []
    found = [one for item in value for one in (find(item, rest) if rest else [item])]
    if value and not found:
        return []
    return [[one for inner in found for one in inner] if "*" in rest.split(".") else found]


def _nowhere(pieces: list[Any], path: str, *, mapped: bool, stream: str | None) -> str:
    """That the output is not where it should be, with what is there instead."""
    if not pieces:
        return "the stream ended without any data"
    there = _reached(pieces, path, stream)
    repair = "correct `entrypoint.reply.output`" if mapped else "name its path as `entrypoint.reply.output`"
    return f'there is no "{path}" in the reply: {there}. Where the answer stands elsewhere, {repair}'


def _reached(pieces: list[Any], path: str, stream: str | None) -> str:
    """What the last piece has at the furthest place that the path leads to."""
    keys = path.split(".")
    while keys := keys[:-1]:
        if reached := find(pieces[-1], ".".join(keys)):
            value = reached[0][0] if "*" in keys and reached[0] else reached[0]
            return f"{'.'.join(keys)} {_described(value)}"
    return f"{'the last piece of the stream' if stream else 'the reply'} {_described(pieces[-1])}"


def _described(value: Any) -> str:
    if isinstance(value, dict):
        keys = [str(key)[:40] for key in islice(value, SHOWN_KEYS)]
        more = ", ..." if len(value) > SHOWN_KEYS else ""
        return f"has the keys {', '.join(keys)}{more}" if keys else "is an empty object"
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    return f"is {as_text(value)[:40]!r}"


def _error(error: Any) -> Any:
    """What the agent says went wrong, as the protocol has it, from whatever object."""
    if isinstance(error, dict) and not isinstance(error.get("message"), str):
        return as_text(error)
    return error


def _usage(usage: Any) -> Any:
    """Tokens as the protocol has them, also where they are spelled as OpenAI does."""
    if not isinstance(usage, dict) or "input_tokens" in usage or "prompt_tokens" not in usage:
        return usage
    details = usage.get("prompt_tokens_details")
    return {
        "provider": usage.get("provider"),
        "model": usage.get("model"),
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage.get("completion_tokens") or 0,
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
    }
