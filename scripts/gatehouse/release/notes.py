"""The text of a GitHub Release: the agents' verdicts, the changelog's section, generated notes. All pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatehouse.github.escape import markdown_inline

LIMIT = 125_000
"""Characters of a release's text; GitHub refuses a longer one."""

MARKER = "<!-- gatehouse: github-release -->"
"""Says of a draft that it is ours to edit, and to delete where it is there twice."""

_CUT = "> Cut to fit GitHub's limit of {limit:,} characters.\n\n"
_SIGNS = {"pass": "✅", "inconclusive": "⚠️"}


@dataclass(frozen=True, slots=True)
class Row:
    """The verdict on one agent; `run_url` is the page of the run that reached it, "" where unknown."""

    name: str
    version: str
    digest: str
    state: str
    reason: str
    run_url: str = ""


def release_notes(changelog: str, generated: str, rows: list[Row]) -> str:
    """The text, at most LIMIT characters; the changelog and generated notes stand in it as they are.

    The verdicts come first: below, what the changelog leaves open (a comment, a code block) would swallow
    them. What is too long is cut at a line.
    """
    parts = [verdicts(rows), changelog.strip("\r\n"), generated.strip("\r\n")]
    whole = "\n\n".join(filter(None, parts))
    end = f"\n\n{MARKER}\n"
    if len(whole) + len(end) <= LIMIT:
        return (whole + end).lstrip("\n")
    notice = _CUT.format(limit=LIMIT)
    kept = whole[: LIMIT - len(notice) - len(end)]
    return notice + (kept[: kept.rfind("\n")] if "\n" in kept else kept) + end


def verdicts(rows: list[Row]) -> str:
    """The table of the agents' verdicts, "" without agents; every text in it is escaped."""
    if not rows:
        return ""
    lines = [
        "### Agents",
        "",
        "| Agent | Version | Verdict | Why | Digest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        shown = f"{_SIGNS.get(row.state, '❌')} {markdown_inline(row.state, 20)}"
        if re.fullmatch(r"https?://[A-Za-z0-9._:/-]+", row.run_url):
            shown += f" ([run]({row.run_url}))"
        name, version = markdown_inline(row.name, 100), markdown_inline(row.version, 50)
        digest = markdown_inline(row.digest.removeprefix("sha256:")[:12], 12)
        lines.append(f"| {name} | {version} | {shown} | {markdown_inline(row.reason, 300)} | {digest} |")
    return "\n".join(lines)
