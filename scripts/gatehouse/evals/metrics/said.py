"""What a run said and did, as text that a metric can search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.errors import Problem, UserError
from gatehouse.evals.metrics.text import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.protocol import Run
    from gatehouse.evals.dataset import Case


def said(output: Any) -> str:
    r"""An output as the words in it: of JSON, text too, each key and value on a line of its own.

    JSON's own spelling would glue an escape ("\n") to the word behind it.
    """
    if isinstance(output, str):
        if output.lstrip()[:1] not in ("{", "["):
            return output
        output = as_json(output)
        if isinstance(output, str):
            return output
    return "\n".join(_leaves(output))


def done(run: Run) -> Iterator[tuple[str, str]]:
    """Of each tool call its name and the words in its arguments."""
    for call in run.tool_calls or ():
        yield call.name, said(call.arguments)


def _leaves(value: Any) -> Iterator[str]:
    """Keys and values in their order, however deep: a stack of our own, no recursion."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for key, inner in reversed(item.items()):
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
