"""A line that is mostly our own words, for GitHub's Markdown: readable where that is safe, else literal."""

from __future__ import annotations

import re

from gatehouse.github.escape import markdown_inline, plain

_WORDS = re.compile(r"(?:[✅❌⚠️🟡\w\s.,;%$()\[\]≥≤+='\"…/-]|:(?=\s|$))*")
_REFERENCE = re.compile(r"\b[0-9a-f]{7,}\b|\bgh-\d|\b(?:cve|ghsa)-|\bwww\.", re.IGNORECASE)
# An underscore within a word is no emphasis, and a bracket no link unless another follows it.
_INLINE = re.compile(r"(?<!\w)_|_(?!\w)|\](?=[(\[])|\$")
_START = re.compile(_INLINE.pattern + r"|^[^\w\s]|^\d+(?=[.)]\s)")
_SEPARATOR = re.compile("([:;] )")


def one_line(text: str) -> str:
    """The text with every run of whitespace as one space."""
    return " ".join(text.split())


def prose(text: str, limit: int) -> str:
    """The text as a line of Markdown; `limit` counts characters as they are seen.

    Our reasons are clauses, "what: why; what: why", some with foreign words (a model's, a path with an @).
    A clause stands as prose where nothing in it could be a mention, a link, a reference or an emoji, and
    otherwise literal, as `markdown_inline` has it. Neither `: ` nor `; ` can make one of what they part.
    """
    line = one_line(plain(text))
    shown = line if len(line) <= limit else line[: max(0, limit - 1)] + "…"
    first, *rest = _SEPARATOR.split(shown)
    return _clause(first, _START) + "".join(_clause(part, _INLINE) for part in rest)


def _clause(text: str, markup: re.Pattern[str]) -> str:
    if text != plain(text) or not _WORDS.fullmatch(text) or _REFERENCE.search(text):
        return markdown_inline(text, len(text))
    return markup.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), text)
