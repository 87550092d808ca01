"""What a published JSON Schema refuses, in words that people act on.

`schemas/NAME.schema.json` is the one definition: editors complete from it, and the loaders check with it. Its
`description` becomes the repair, its `patternErrorMessage` and `errorMessage` (which editors show too) the
message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError

Keys = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""

TYPES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "empty",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a schema refuses; `at_value` says whether the value at `keys` or its key is to blame."""

    keys: Keys
    message: str
    repair: str = ""
    at_value: bool = True


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of `schemas/NAME.schema.json`."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 65 ms that only loading needs

    text = files("gatehouse").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def is_agent_name(name: Any) -> bool:
    """Whether an agent may have this name."""
    whole = validator("agent")
    keys = cast("dict[str, Any]", whole.schema)["properties"]["agent"]["properties"]
    return whole.evolve(schema=keys["name"]).is_valid(name)


def faults(data: Any, name: str, *, yaml: bool = False) -> Iterator[Fault]:
    """Everything that the schema `name` refuses in `data`; `yaml` words it for YAML instead of JSON."""
    for error in validator(name).iter_errors(data):
        yield from explain(error, yaml=yaml)


def explain(error: ValidationError | SchemaError, *, yaml: bool = False) -> list[Fault]:
    """One error of jsonschema as faults: one for each unknown key, otherwise one."""
    keys: Keys = tuple(error.absolute_path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    limit: Any = error.validator_value
    value: Any = error.instance
    what = label(keys)
    repair = str(schema.get("description", ""))
    match error.validator:
        case "additionalProperties":
            return [_unknown(keys, key, schema) for key in value if key not in schema.get("properties", {})]
        case "required":
            return [_missing(keys, key, schema) for key in limit if error.message.startswith(repr(key))]
        case "type":
            return [_wrong_type(keys, value, [limit] if isinstance(limit, str) else limit, repair, yaml=yaml)]
        case "enum":
            message = f"{what} is {_short(value)}: it must be {_either(json.dumps(v) for v in limit)}."
            return [Fault(keys, message, nearest(str(value), limit) or repair)]
        case "pattern":
            return [
                Fault(keys, f"{what} is {_short(value)}.", str(schema.get("patternErrorMessage", repair)))
            ]
        case "minimum":
            message = f"{what} is {_short(value)}: it must be at least {limit}."
        case "exclusiveMinimum":
            message = f"{what} is {_short(value)}: it must be more than {limit}."
        case "maximum":
            message = f"{what} is {_short(value)}: it must be at most {limit}."
        case "minLength" | "minProperties":
            message = f"{what} is empty."
        case "minItems" if not value:
            message = f"{what} is empty."
        case "maxLength":
            message = f"{what} is longer than {limit} characters."
        case "uniqueItems":
            message = f"{what} holds something twice."
        case _:
            message = str(schema.get("errorMessage") or f"{what}: {error.message[:200]}.")
    return [Fault(keys, message, repair)]


def label(keys: Keys) -> str:
    """How a message calls the value at `keys`."""
    if not keys:
        return "the document"
    if isinstance(keys[-1], int):
        return f"item {keys[-1] + 1} of {label(keys[:-1])}"
    return f'"{keys[-1]}"'


def nearest(name: str, known: Iterable[Any]) -> str:
    """`Did you mean "X"?`, or nothing when no known name is near."""
    near = get_close_matches(name, [str(k) for k in known], 1)
    return f'Did you mean "{near[0]}"?' if near else ""


def _unknown(keys: Keys, key: str, schema: dict[str, Any]) -> Fault:
    known = schema.get("properties", {})
    where = f" in {label(keys)}" if keys else ""
    repair = nearest(key, known) or f"Known here: {', '.join(known)}."
    return Fault((*keys, key), f"unknown key {_short(key)}{where}.", repair, at_value=False)


def _missing(keys: Keys, key: str, schema: dict[str, Any]) -> Fault:
    where = f" in {label(keys)}" if keys else ""
    about = schema.get("errorMessage") or schema.get("properties", {}).get(key, {}).get("description", "")
    return Fault(keys, f'"{key}" is missing{where}.', about, at_value=False)


def _wrong_type(keys: Keys, value: Any, wanted: list[str], about: str, *, yaml: bool) -> Fault:
    words = {**TYPES, "object": "a mapping"} if yaml else TYPES
    must = f"it must be {_either(words[w] for w in wanted)}"
    if value is None:
        return Fault(keys, f"{label(keys)} is empty: {must}.", about, at_value=False)
    if isinstance(value, dict | list):
        return Fault(
            keys,
            f"{label(keys)} is {words['object' if isinstance(value, dict) else 'array']}: {must}.",
            about,
        )
    kind = "a boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "a number"
    repair = about
    if "string" in wanted and not isinstance(value, str):
        repair = "Put it in quotes."
        if yaml and isinstance(value, bool):
            repair = "YAML reads on, off, yes, no, true and false as booleans: put it in quotes."
    elif yaml and isinstance(value, str) and {"number", "integer"} & set(wanted) and _is_number(value):
        repair = "Write the number without quotes; YAML wants a dot and a sign in exponents, as in 1.0e-3."
    return Fault(keys, f"{label(keys)} is {kind} ({_short(value)}): {must}.", repair)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _either(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 what fits on a line
