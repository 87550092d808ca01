"""Markdown as GitHub renders it (by cmark-gfm, GitHub's own parser), and the elements that come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from html.parser import HTMLParser

import cmarkgfm  # type: ignore[import-untyped]
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]

EXTENSIONS = ["table", "strikethrough", "autolink", "tagfilter", "tasklist"]
VOID = {"br", "hr", "img", "input"}


@lru_cache(maxsize=2)
def render(markdown: str) -> str:
    """HTML, raw HTML of the source included: what must be inert has to be inert here."""
    html: str = cmarkgfm.markdown_to_html_with_extensions(
        markdown, options=Options.CMARK_OPT_UNSAFE, extensions=EXTENSIONS
    )
    return html


@dataclass
class Page(HTMLParser):
    """The elements of a rendered text, its text outside of code, its table cells, and how many a row has."""

    tags: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One more element."""
        self.tags.append(tag + "".join(f" {name}" for name, _ in attrs if name not in ("align", "lang")))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.cells.append("")
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        """Its end; an end without a start is an element of its own."""
        if tag in VOID:
            return
        if tag in self.open:
            while self.open.pop() != tag:
                self.tags.append("unclosed")
        else:
            self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Text, of a cell or in code or neither."""
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data
        if not {"code", "pre"} & set(self.open):
            self.prose.append(data)


@lru_cache(maxsize=2)
def page_of(markdown: str) -> Page:
    """The elements and texts of a Markdown text."""
    page = Page()
    page.feed(render(markdown))
    page.close()
    page.tags += ["unclosed"] * len(page.open)
    return page
