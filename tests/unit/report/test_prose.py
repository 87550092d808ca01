"""Lines of our own words with foreign ones among them."""

from __future__ import annotations

import pytest

from gatehouse.report.prose import prose
from tests.support.markdown import page_of


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (
            "a was not measured: all 4 runs ended in an error: no route to http://[::1]:1/v1; cost: unknown",
            "a was not measured: all 4 runs ended in an error: ; cost: unknown",
        ),
        ("agents/a.yaml:14: unknown metric", ": unknown metric"),
        ("5 of 5 metrics pass", "5 of 5 metrics pass"),
        ("thanks @octocat, see #1", ""),
    ],
)
def test_only_foreign_clauses_are_code(text: str, ours: str) -> None:
    """A clause with an address, a mention or a reference is code, and the clauses around it stay prose."""
    page = page_of(f"### {prose(text, 600)}")
    assert "".join(page.prose).strip() == ours
    assert page.tags.count("code") == (ours != text)


@pytest.mark.parametrize(
    "text",
    [
        "[a]: b",
        "[a](b: c)",
        "[a: b](c)",
        "_a: b_; _c_",
        "$a: b$",
        "1. a: b",
        "- a; b",
        "+ a: b",
        "=: =",
        "a: 1. b; - c: # d",
        "a :tada: b",
        "x :; :y: z",
        "**a: b**",
        "`a: b`",
        "~~a; b~~",
        "<b: c>; </b>",
        "| a: b |",
        "&lt; &#64; b",
        "a: www.example.com; c0ffee0: GH-1",
        "\x1b[31: m; \u202eb",
    ],
)
def test_no_clause_and_no_seam_means_anything(text: str) -> None:
    """Wherever a line is cut into clauses, nothing in it becomes an element, as a line or in a cell."""
    for page in (page_of(prose(text, 600)), page_of(f"- {prose(text, 600)}")):
        assert set(page.tags) <= {"p", "ul", "li", "code"}
        assert not {"tada", "www", "c0ffee0", "GH-1"} & set("".join(page.prose).replace(":", " ").split())
    cell = page_of(f"| a |\n| --- |\n| {prose(text, 600)} |")
    assert cell.rows == [1, 1]


def test_a_long_line_is_cut() -> None:
    """The limit counts what is seen, over all clauses."""
    assert prose("a: " + "b" * 10, 6) == "a: bb…"
    assert prose("a: b@" + "c" * 10, 6) == "a: <code>b&#64;<!-- -->…</code>"
