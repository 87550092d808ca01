"""Writes the generated parts of the documentation: tables from actions and workflows, YAML from its files.

In any Markdown file of this repository,

    <!-- table from: actions/eval-gate/action.yml -->
    <!-- end of table -->

holds the inputs, secrets and outputs that the file declares, and a fenced block right below

    <!-- from: templates/agent-ci.yml -->

is that whole file. `part of:` instead of `from:` stands over an excerpt; it is not rewritten, only tested.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- table from: (?P<path>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
BLOCK = re.compile(
    r"(?P<head><!-- from: (?P<path>\S+) -->\n+(?P<fence>`{3,})(?P<language>\w+)\n).*?(?P<tail>^(?P=fence)$)",
    re.DOTALL | re.MULTILINE,
)


def documents(root: Path) -> list[Path]:
    """Every Markdown file in which such parts are looked for."""
    patterns = ("*.md", "docs/**/*.md", "actions/*/README.md", "templates/**/*.md", "examples/**/README.md")
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def cell(value: Any) -> str:
    """Text for one cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def default(item: dict[str, Any]) -> str:
    """The cell for a default: `required` where there must be a value, empty where there need not be one."""
    if item.get("required") and "default" not in item:
        return "required"
    value = item.get("default", "")
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{cell(value)}`" if value != "" else ""


def table(title: str, items: dict[str, dict[str, Any]], *, defaults: bool) -> str:
    """A Markdown table of inputs, secrets or outputs; empty where there are none."""
    if not items:
        return ""
    head = [title, "What it is", *(["Default"] if defaults else [])]
    lines = [head, ["---"] * len(head)]
    for name, item in items.items():
        row = [f"`{name}`", cell(item.get("description", ""))]
        lines.append([*row, default(item)] if defaults else row)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def interface(path: Path) -> str:
    """The tables for one action, or for a workflow that others call."""
    data = yaml.safe_load(path.read_text())
    if "runs" not in data:
        data = data[True]["workflow_call"]  # YAML reads the key `on` as True
    parts = [
        table("Input", data.get("inputs") or {}, defaults=True),
        table("Secret", data.get("secrets") or {}, defaults=True),
        table("Output", data.get("outputs") or {}, defaults=False),
    ]
    return "\n" + "\n".join(part for part in parts if part) + "\n"


def regenerated(text: str, root: Path) -> str:
    """The text of a Markdown file with its generated parts as they should be."""
    text = TABLE.sub(lambda match: match[1] + interface(root / match["path"]) + match[3], text)
    return BLOCK.sub(lambda match: match["head"] + (root / match["path"]).read_text() + match["tail"], text)


def main() -> int:
    """Rewrite every document that is out of date, and name it."""
    for path in documents(ROOT):
        text = path.read_text()
        new = regenerated(text, ROOT)
        if new != text:
            path.write_text(new)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
