"""The published JSON Schemas, and the table that a document shows of one.

In a document, between

    <!-- keys of: scripts/gatehouse/schemas/run.schema.json -->
    <!-- end of keys -->

stands what `table` makes of that schema, and between `list of: metrics` and `end of list` what `LISTS` makes
of the registry. `python -m tests.contracts.schemas` writes both there again.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from gatehouse.agent.providers import PROVIDERS
from gatehouse.evals.metrics import registry
from tests.contracts.suite import ROOT
from tools.action_docs import cell, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = ROOT / "scripts" / "gatehouse" / "schemas"
NAMES = sorted(path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json"))
WRITTEN_BY_USERS = {"agent", "golden", "rubric"}
KEYS = re.compile(r"(<!-- keys of: (?P<path>\S+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)

LIST = re.compile(r"(<!-- list of: (?P<name>\w+) -->\n).*?(<!-- end of list -->)", re.DOTALL)


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema `NAME.schema.json`."""
    loaded = json.loads((FOLDER / f"{name}.schema.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def strict(node: Any) -> Any:
    """The same schema, refusing every key that it does not name."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: strict(value) for key, value in node.items()}
    return inner | {"additionalProperties": False} if isinstance(node.get("properties"), dict) else inner


def type_of(node: dict[str, Any]) -> str:
    """The types of a value, in words."""
    if "enum" in node or "const" in node:
        values = node.get("enum", [node.get("const")])
        return "string" if isinstance(values[0], str) else "integer"
    given = node.get("type", "any")
    return " or ".join(given) if isinstance(given, list) else str(given)


def rows(whole: dict[str, Any], node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, type and description of every key at and below an object, depth first."""
    for name, child in node.get("properties", {}).items():
        path = f"{prefix}{name}"
        target = resolved(whole, child)
        needed = ", required" if name in node.get("required", []) and "$id" in whole else ""
        yield path, type_of(target) + needed, str((target | child)["description"])
        yield from below(whole, target, path)


def below(whole: dict[str, Any], node: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """The rows of the keys inside the value at `path`: an object's, a list's, or those under any name."""
    yield from rows(whole, node, path + ".")
    if isinstance(node.get("items"), dict):
        yield from below(whole, resolved(whole, node["items"]), path + "[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from below(whole, resolved(whole, node["additionalProperties"]), path + ".NAME")
    if "else" in node:
        yield from below(whole, resolved(whole, node["else"]), path)


def resolved(whole: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A node, or what its `$ref` within the same schema names."""
    if "$ref" not in node:
        return node
    found: Any = whole
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def table(name: str) -> str:
    """A Markdown table of every key of a schema; what must be there is said of the files that users write."""
    whole = schema(name)
    lines = ["| Key | Type | What it is |", "| --- | --- | --- |"]
    for path, kind, description in rows(whole, whole):
        shown = kind if name in WRITTEN_BY_USERS else kind.removesuffix(", required")
        lines.append(f"| `{path}` | {shown} | {cell(description)} |")
    return "\n" + "\n".join(lines) + "\n\n"


def metrics(extra: str = "") -> str:
    """A Markdown table of the metrics of one library, or of our own that no judge is asked about."""
    judged = ["Calls a case"] if extra else []
    head = ["Metric", "Kind", "What it is", "Threshold", "Needs", *judged, "Options"]
    lines = [head, ["---"] * len(head)]
    for metric in registry().values():
        if (metric.extra if metric.judged else "") != extra:
            continue
        side = "at least" if metric.direction == "higher" else "at most"
        share = "a share" if metric.aggregate == "mean" and metric.per_case else "a number"
        unit = {"$": "US dollars", "s": "seconds"}.get(metric.unit, share)
        if (metric.low, metric.high) != (0, 1):
            unit = f"from {metric.low:g} to {metric.high:g}"
        needs = ", ".join(filter(None, [metric.needs, *(m for m in metric.models if m != "judge")]))
        shown = [f"`{metric.name}`", metric.kind, cell(metric.summary), f"{side}, {unit}", cell(needs)]
        shown += [cell(metric.calls)] if extra else []
        lines.append([*shown, ", ".join(f"`{option}`" for option in metric.options)])
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n"


def providers() -> str:
    """A Markdown table of every provider of models."""
    lines = ["| Provider | Key | Address |", "| --- | --- | --- |"]
    for one in PROVIDERS.values():
        own = f"`{one.base_url_variable}`" + (f", else `{one.base_url}`" if one.base_url else "")
        kind = " (self-hosted)" if one.self_hosted else ""
        lines.append(f"| `{one.name}`{kind} | `{one.key_variable}` | {own} |")
    return "\n" + "\n".join(lines) + "\n\n"


LISTS = {
    "metrics": metrics,
    "ragas": lambda: metrics("ragas"),
    "deepeval": lambda: metrics("deepeval"),
    "providers": providers,
}


def with_tables(text: str) -> str:
    """The text of a document with its tables as they should be."""

    def block(found: re.Match[str]) -> str:
        name = found["path"].split("/")[-1].removesuffix(".schema.json")
        return found[1] + table(name) + found[3]

    text = LIST.sub(lambda found: found[1] + LISTS[found["name"]]() + found[3], text)
    return KEYS.sub(block, text)


if __name__ == "__main__":
    for document in documents(ROOT):
        old = document.read_text()
        if with_tables(old) != old:
            document.write_text(with_tables(old))
