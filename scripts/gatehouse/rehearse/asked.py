"""What a judge is asked: the schema that its reply must follow, and what is to be judged."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.rehearse.words import joined, sentences

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

NAMES = {
    "question": "question|query|user input|input",
    "answer": "answer|user answer|response|output|actual output|llm actual output|ai output|summary",
    "reference": "reference|reference answer|ground truth|expected|expected output",
    "contexts": "context|contexts|retrieved contexts|retrieval context|retrieval contexts|original text",
    "claims": "claims|statements|opinions|summary claims",
    "text": "text",
    "questions": "questions",
    "keyphrases": "keyphrases",
    "instructions": "prompt instructions",
}
PLAIN = {name: plain for plain, names in NAMES.items() for name in names.split("|")}
ENDS = ("json", "example json", "parameters", "test case", "evaluation steps", "rubric", "additional context")
HEADING = re.compile(r"([A-Z][A-Za-z ]*?) *(?:\([^)]*\))?:\s*(.*)")
LISTED = re.compile(r"^Based on these [\w ]+: (\[.*\])$", re.MULTILINE)


class Asked(NamedTuple):
    """A question to the judge: its data by plain names, its whole text, and how much convinces the model."""

    data: dict[str, Any]
    prompt: str
    bar: float

    def text(self, *names: str) -> str:
        """The first of these that is there, as one text."""
        return next((joined(self.data[name]) for name in names if name in self.data), "")

    def items(self, *names: str) -> list[str]:
        """The first of these that is there, as a list: a text is its sentences."""
        value: Any = next((self.data[name] for name in names if name in self.data), [])
        return [str(v) for v in value] if isinstance(value, list) else sentences(value)


def schema_of(request: Mapping[str, Any], known: Container[str]) -> dict[str, Any] | None:
    """The JSON Schema that the reply must follow; None where the request asks for none.

    One that is only shown by an example has to have a property that is `known`.
    """
    form, messages = request.get("response_format") or {}, request["messages"]
    if form.get("type") == "json_schema":
        return dict(form["json_schema"]["schema"])
    if request.get("tools"):
        forced = isinstance(request.get("tool_choice"), dict)
        return dict(request["tools"][0]["function"]["parameters"]) if forced else None
    prompt = "\n".join(map(content_of, messages))
    for start in re.finditer(r"(?:json_schema|JSON Schema)\b[^{]{0,120}(?=\{)", prompt):
        schema = _leading_json(prompt[start.end() :])
        if isinstance(schema, dict) and "properties" in schema:
            return schema
    # An agent's request has a system message; deepeval's own client sends its prompt alone.
    return _schema_of_example(prompt, known) if len(messages) == 1 and "JSON" in prompt else None


def _schema_of_example(prompt: str, known: Container[str]) -> dict[str, Any] | None:
    """The schema of a reply that a prompt only shows by an example, or names by its key."""
    shown = re.findall(r'^\s*"(\w+)":', prompt, re.MULTILINE)
    keys = [k for k in shown + re.findall(r"""["'](\w+)["'] key""", prompt) if k in known]
    if not keys:
        return None
    key = "verdicts" if "verdicts" in keys else keys[0]
    properties: dict[str, Any] = {"reason": {"type": "string"}}
    if key == "verdicts":
        word = {"enum": ["yes", "no", *(["borderline"] if "borderline" in prompt else [])]}
        item = {"properties": {"statement": {"type": "string"}, "verdict": word} | properties}
        properties = {key: {"type": "array", "items": item}}
    elif "score" in keys:
        properties["score"] = {"type": "number"}
    elif key != "reason":
        properties = {key: {"type": "array", "items": {"type": "string"}}}
    return {"type": "object", "properties": properties}


def data_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be judged, by plain names, of the last message of the user that holds any."""
    for message in reversed([m for m in request["messages"] if m["role"] == "user"]):
        text = content_of(message)
        start = re.search(r"<data-\w+>\s*(?=\{)|[\s\S]*\ninput: (?=\{)", text)
        given = _leading_json(text[start.end() if start else 0 :])
        found = given if isinstance(given, dict) else sections(text)
        if found:
            plain = {PLAIN.get(k.replace("_", " ").lower(), k): v for k, v in found.items()}
            return {k: v for k, v in plain.items() if v not in (None, [])}
    return {}


def sections(text: str) -> dict[str, Any]:
    """The values under headings such as `Actual Output:`, the last of each; a list in brackets is a list."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        heading = HEADING.fullmatch(line)
        label = heading[1].lower() if heading else ""
        if heading and (label in PLAIN or label in ENDS):
            name = PLAIN.get(label, "")
            found[name] = [heading[2]]
        elif line.startswith(("Focus on ", "---", "**")):
            name = ""
        elif name:
            found[name].append(line)
    listed = LISTED.search(text)
    if listed:
        found["claims"] = [listed[1]]
    return {k: _as_list("\n".join(v).strip()) for k, v in found.items() if k}


def content_of(message: Mapping[str, Any]) -> str:
    """A message's text, whether it is one or comes in parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(str(part.get("text", "")) for part in content)


def _leading_json(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except ValueError:
        return None


def _as_list(text: str) -> str | list[str]:
    """A list as Python or JSON writes it; anything else stays text."""
    if not text.startswith("["):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, list) else text
