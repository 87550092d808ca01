"""What a JSON Schema refuses, made from the schema itself: a wrong value for each rule of each key."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Where = tuple[str | int, ...]
VALUES: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 7,
    "number": 1.5,
    "string": "a word!",
    "array": ["a", 5],
    "object": {"a": "b"},
}
"""A value of each type of JSON."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A rule that is broken: `value` stands at `at`, or nothing does where `gone`."""

    at: Where
    rule: str
    value: Any = None
    gone: bool = False

    @property
    def key(self) -> str:
        """Where it is broken, list indices as []."""
        return ".".join("[]" if isinstance(step, int) else step for step in self.at)

    def put(self, data: Any) -> Any:
        """A copy of the document in which the rule is broken."""
        if not self.at:
            return self.value
        made = deepcopy(data)
        inner = made
        for step in self.at[:-1]:
            inner = inner[step]
        if self.gone:
            del inner[self.at[-1]]
        else:
            inner[self.at[-1]] = self.value
        return made


def keys_of(
    schema: dict[str, Any], data: Any, whole: dict[str, Any] | None = None, at: Where = ()
) -> Iterator[Where]:
    """The way to each key that the schema describes and the document holds, the document itself first."""
    yield at
    for step, inner in _inner(schema, data, whole or schema):
        yield from keys_of(inner, data[step], whole or schema, (*at, step))


def missing_of(
    schema: dict[str, Any], data: Any, whole: dict[str, Any] | None = None, at: Where = ()
) -> Iterator[str]:
    """The keys that the schema describes and this document does not hold: they would go untried."""
    whole = whole or schema
    described = _resolved(schema, whole)
    if isinstance(data, dict):
        yield from (
            ".".join(map(str, (*at, key))) for key in described.get("properties", {}) if key not in data
        )
    for step, inner in _inner(schema, data, whole):
        yield from missing_of(inner, data[step], whole, (*at, step))


def wrong(
    schema: dict[str, Any], data: Any, whole: dict[str, Any] | None = None, at: Where = ()
) -> Iterator[Wrong]:
    """Every rule of the schema, broken at each key of a document that follows it."""
    whole = whole or schema
    yield from _broken(_resolved(schema, whole), data, at)
    for step, inner in _inner(schema, data, whole):
        yield from wrong(inner, data[step], whole, (*at, step))


def _resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = whole["$defs"][name] if name else schema
    return found


def _inner(
    schema: dict[str, Any], data: Any, whole: dict[str, Any]
) -> Iterator[tuple[str | int, dict[str, Any]]]:
    """What is below in both; of a list one item for all, an object where there is one."""
    schema = _resolved(schema, whole)
    if isinstance(data, dict):
        other = schema.get("additionalProperties")
        for key in data:
            below = schema.get("properties", {}).get(key, other)
            if isinstance(below, dict):
                yield key, below
    elif isinstance(data, list) and data and isinstance(schema.get("items"), dict):
        yield next((i for i, item in enumerate(data) if isinstance(item, dict)), 0), schema["items"]


def _broken(schema: dict[str, Any], data: Any, at: Where) -> Iterator[Wrong]:
    kinds = schema.get("type", [])
    allowed = {kinds} if isinstance(kinds, str) else set(kinds)
    if "enum" in schema and not allowed:
        allowed = {"string"}
    if "number" in allowed:
        allowed.add("integer")
    for kind, value in VALUES.items() if allowed else ():
        if kind not in allowed and not (kind == "number" and value.is_integer()):
            yield Wrong(at, f"is {kind}", value)
    if "enum" in schema:
        yield Wrong(at, "is another word", 5 if isinstance(schema["enum"][0], int) else "something-else")
    if "pattern" in schema and isinstance(data, str):
        yield Wrong(at, "does not match", "\n ../:@")
    for limit, beyond in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1)):
        if limit in schema and isinstance(data, int | float):
            yield Wrong(at, f"is beyond the {limit}", schema[limit] + beyond)
    if isinstance(data, str) and schema.get("minLength"):
        yield Wrong(at, "is an empty text", "")
    if isinstance(data, list):
        if schema.get("minItems"):
            yield Wrong(at, "is an empty list", [])
        if schema.get("uniqueItems"):
            yield Wrong(at, "holds something twice", [data[0], data[0]])
    if isinstance(data, dict):
        if schema.get("minProperties"):
            yield Wrong(at, "is an empty object", {})
        if schema.get("additionalProperties") is False:
            yield Wrong((*at, "zzz-unknown"), "is an unknown key", 5)
        for key in schema.get("required", []):
            yield Wrong((*at, key), "is missing", gone=True)
