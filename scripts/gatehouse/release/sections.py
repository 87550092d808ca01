"""A changelog's sections, blocks and lines, as a Markdown parser finds them.

What stands in a code block, an HTML comment, a quotation or a sentence is no heading.
"""

from __future__ import annotations

import gc
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.version import Version

from gatehouse.errors import Problem
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from markdown_it.token import Token

UNRELEASED = "unreleased"
"""The name of the section of what is not released yet."""

UNRELEASED_TITLE = re.compile(
    r"(?:\[(unreleased)\](\([^()]*\)|\[[^\[\]]*\])?|(unreleased))(?:\s*[-\u2013\u2014:(].*)?",
    re.IGNORECASE,
)
"""Unreleased, [Unreleased], [Unreleased](address), and a remark after it; group 2 is the address."""

VERSION_TITLE = re.compile(
    r"(?:version\s+|release\s+)?\[?v?([0-9]+(?:\.[0-9a-z]+)+(?:[+-][0-9a-z.]+)?)", re.IGNORECASE
)
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line with its end, as CommonMark 2.1 has it: a form feed or U+2028 ends none."""

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_CONTAINERS = ("inline", "bullet_list_open", "ordered_list_open")


@dataclass(frozen=True, slots=True)
class Entry:
    """A list item (or another block) of a section: what it says, and its lines as they are.

    `category` is the heading above it, "" for none; `line` counts from 1; `said` has no markup of the block,
    no comments, and single spaces.
    """

    category: str
    said: str
    text: str
    line: int

    @property
    def key(self) -> tuple[str, str]:
        """What makes two entries the same one."""
        return self.category.casefold(), self.said


@dataclass(slots=True)
class Block:
    """A block at the top level, from line `start` (from 0) to before `end`; a list is one for each item."""

    kind: str
    start: int
    end: int
    said: str = ""
    level: int = 0
    label: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The heading of a version, or of what is unreleased, and where its body ends; `name` is canonical."""

    name: str
    heading: Block
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """The lines with their ends, and what the parser found in them."""

    lines: list[str]
    blocks: list[Block]
    sections: list[Section] = field(default_factory=list)

    @property
    def newline(self) -> str:
        """The first line end, for lines that are added."""
        found = re.search(r"\r\n|\r|\n", self.lines[0]) if self.lines else None
        return found[0] if found else "\n"

    def named(self, name: str) -> list[Section]:
        """The sections of that name."""
        return [section for section in self.sections if section.name == name]

    def within(self, section: Section) -> list[Block]:
        """The blocks of a section's body."""
        first, end = (
            bisect_left(self.blocks, line, key=lambda block: block.start)
            for line in (section.heading.end, section.end)
        )
        return self.blocks[first:end]

    def definitions(self) -> dict[str, Block]:
        """The link definitions by label in lower case; of two with one label the first counts."""
        found = [block for block in self.blocks if block.kind == "definition"]
        return {block.label.casefold(): block for block in reversed(found)}

    def body(self, section: Section) -> str:
        """The text of a section without heading, link definitions and blank edges; newlines as they are."""
        left_out = {
            at for b in self.within(section) if b.kind == "definition" for at in range(b.start, b.end)
        }
        kept = [at for at in range(section.heading.end, section.end) if at not in left_out]
        return "".join(trimmed([self.lines[at] for at in kept]))

    def entries(self, section: Section) -> list[Entry]:
        """The entries of a section, in order."""
        category, found = "", []
        for block in self.within(section):
            if block.kind == "heading":
                category = block.said
            elif block.said:
                text = "".join(trimmed(self.lines[block.start : block.end]))
                found.append(Entry(category, block.said, text, block.start + 1))
        return found

    def problem(self, message: str, path: str, at: int, repair: str = "") -> Problem:
        """A fault in line `at` (from 0), with a caret under what is written there."""
        source = self.lines[at].rstrip("\r\n") if at < len(self.lines) else ""
        start = len(source) - len(source.lstrip())
        length = max(1, len(source.strip()))
        return Problem(message, path, at + 1, start + 1, length, plain(source), repair)


def parse(text: str) -> Document:
    """The sections of a changelog, its blocks and lines; any text is one."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 40 ms that only a changelog needs

    # For the blocks alone: what stands inside a paragraph makes no heading.
    parser = MarkdownIt("commonmark", {"inline_definitions": True})
    parser.core.ruler.enableOnly(["normalize", "block"])
    readable = re.sub("[\ud800-\udfff]", "\ufffd", text.removeprefix("\ufeff"))
    lines = LINE.findall(text)
    collects = gc.isenabled()
    gc.disable()  # The tokens hold no cycles: to look for some in a long text takes as long as to read it.
    try:
        document = Document(lines, _blocks(parser.parse(readable)))
    finally:
        if collects:
            gc.enable()
    # From below: a section ends at the next heading that is as high, or that begins another section.
    ends = {1: len(lines), 2: len(lines)}
    for block in reversed(document.blocks):
        if block.kind != "heading" or block.level not in ends:
            continue  # deeper ones are categories
        if name := _name(block):
            document.sections.append(Section(name, block, ends[block.level]))
        ends |= {level: block.start for level in ends if level >= block.level or name}
    document.sections.reverse()
    return document


def _blocks(tokens: list[Token]) -> list[Block]:
    """The blocks at the top level; lists item by item."""
    found: list[Block] = []
    said: list[list[str]] = []
    for token in tokens:
        item = token.type == "list_item_open" and token.level == 1
        if token.map and (item or (token.level == 0 and token.type not in _CONTAINERS)):
            block = Block(token.type.removesuffix("_open"), token.map[0], token.map[1])
            block.label, block.url = token.meta.get("label", ""), token.meta.get("url", "")
            block.level = int(token.tag[1]) if block.kind == "heading" else 0
            found.append(block)
            said.append([])
        # A list's own token lies on level 0: what is deeper belongs to the block that was opened last.
        if token.content and found and token.type in ("inline", "fence", "code_block", "html_block"):
            said[-1] += uncommented(token.content).split()
    for block, words in zip(found, said, strict=True):
        block.said = " ".join(words)
        if block.kind == "heading":  # a formatter's \\[Unreleased\\]
            block.said = re.sub(r"\\([\[\]])", r"\1", block.said)
    return found


def _name(block: Block) -> str:
    """The canonical version of a heading, "unreleased", or "" for any other."""
    if UNRELEASED_TITLE.fullmatch(block.said):
        return UNRELEASED
    found = VERSION_TITLE.match(block.said)
    try:
        return canonical(found[1]) if found else ""
    except ValueError:  # packaging's own, and that of a number too long to read
        return ""


def canonical(version: Version | str) -> str:
    """The version with three numbers at least, as sections are named; raises ValueError for what is none."""
    read = Version(str(version))
    given = read.base_version
    return given + ".0" * (3 - len(read.release)) + str(read).removeprefix(given)


def uncommented(text: str) -> str:
    """The text without HTML comments; one that is never closed ends with the text."""
    return _COMMENT.sub(" ", text)


def trimmed(lines: list[str]) -> list[str]:
    """The lines without blank ones at the edges."""
    full = [at for at, line in enumerate(lines) if line.strip()]
    return lines[full[0] : full[-1] + 1] if full else []
