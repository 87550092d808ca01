"""What a run said and did, as text that a metric can search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case


def said(output: Any) -> str:
    r"""An output as the words in it: of JSON, text too, each key and value on a line of its own.

    JSON's own spelling would glue an escape ("\n") to the word behind it. Of a key that text has twice both
    values are there, and every number as it is written: a reader of the text sees them.
    """
    if isinstance(output, str):
        if output.lstrip()[:1] not in ("{", "["):
            return output
        text = output
        try:
            output = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return text
    return "\n".join(_leaves(output))


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON text with every pair that it has."""


def done(run: Run) -> Iterator[tuple[str, str]]:
    """The words of each tool call, its name and its arguments, and before them where they stand.

    A call goes by its number: its name may be what must not be shown.
    """
    for number, call in enumerate(run.tool_calls or (), 1):
        yield f"the name of call {number}", call.name
        yield f"the arguments of call {number}", said(call.arguments)


def _leaves(value: Any) -> Iterator[str]:
    """Keys and values in their order, however deep: a stack of our own, no recursion."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | _Pairs):
            for key, inner in reversed(item if isinstance(item, _Pairs) else item.items()):
                stack += [inner, str(key)]
        elif isinstance(item, list):
            stack += reversed(item)
        elif item is not None and not isinstance(item, bool):
            yield str(item)


def shown(text: str, length: int = 60) -> str:
    """The beginning of a text, for a reason."""
    return text if len(text) <= length else text[: length - 1] + "…"


def at(value: Any, path: str) -> Any:
    """The value at a dotted path of keys and places in lists; None where there is none."""
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 9:  # noqa: PLR2004
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def bad_metadata(case: Case, key: str, repair: str) -> UserError:
    """The error of a case whose `metadata.KEY` a metric cannot take."""
    message = f'case "{case.id}": "metadata.{key}" cannot be used.'
    return UserError(Problem(message, case.path, case.line, repair=repair), left="Nothing was scored.")
