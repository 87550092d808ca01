"""The text of a GitHub Release."""

from __future__ import annotations

import pytest

from gatehouse.release.notes import LIMIT, MARKER, Row, release_notes, verdicts
from tests.support.markdown import page_of

ROW = Row("triage", "3", "sha256:" + "ab" * 32, "pass", "2 of 2 metrics pass", "https://example.com/runs/1")
HOSTILE = "a`|\n## b <img src=x onerror=y> [z](javascript:q) @everyone #1 </td>"


def test_changelog_and_generated_notes_are_carried_exactly() -> None:
    """Below the verdicts, what the maintainers wrote stands as they wrote it, then GitHub's own notes."""
    text = release_notes("### Added\n\n- `x` — é\u200d\n", "* A by @b\n", [ROW])
    assert text.startswith("### Agents\n")
    assert text.endswith(f" |\n\n### Added\n\n- `x` — é\u200d\n\n* A by @b\n\n{MARKER}\n")


@pytest.mark.parametrize(
    "left_open", ["<!--", "```", "~~~\n", "<pre>", "<details><summary>a", "- a\n\n  <!--"]
)
def test_nothing_that_is_left_open_hides_the_verdicts(left_open: str) -> None:
    """A comment or code block that the changelog never closes swallows nothing of the agents' table."""
    page = page_of(release_notes(f"- One.\n\n{left_open}", "generated", [ROW]))
    assert "2 of 2 metrics pass" in "".join(page.cells)


def test_nothing_to_say() -> None:
    """Without changelog, notes and agents the text is the marker alone."""
    assert release_notes("", "", []) == f"{MARKER}\n"


@pytest.mark.parametrize("field", ["name", "version", "digest", "state", "reason", "run_url"])
def test_hostile_rows_are_inert(field: str) -> None:
    """No text of a verdict becomes a cell, a heading, a link, an image or a mention."""
    fields = {name: getattr(ROW, name) for name in ROW.__slots__}
    page = page_of(verdicts([Row(**(fields | {field: HOSTILE}))]))
    assert page.rows == [5, 5]
    assert {tag.partition(" ")[0] for tag in page.tags} <= {
        "h3",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "a",
    }
    assert page.tags.count("h3") == 1
    assert sum(tag.startswith("a ") for tag in page.tags) == (field != "run_url")
    assert "everyone" not in "".join(page.prose)


def test_only_addresses_of_pages_are_linked() -> None:
    """An address that is none is left out; a plain one is linked."""
    assert "([run](https://example.com/runs/1))" in verdicts([ROW])
    assert "run](" not in verdicts([Row("a", "1", "b", "fail", "", "javascript:alert(1)")])
    assert "run](" not in verdicts([Row("a", "1", "b", "fail", "", "https://x.y/) [z](https://e")])


@pytest.mark.parametrize("length", [LIMIT - 300, LIMIT, LIMIT * 3])
def test_what_is_too_long_is_cut_and_says_so(length: int) -> None:
    """The text is never above GitHub's limit; cut, it says so, and the verdicts are whole and come first."""
    changelog = "```\n" + "- An entry.\n" * (length // 12)
    text = release_notes(changelog, "generated\n" * 100, [ROW])
    assert len(text) <= LIMIT
    assert text.startswith("> Cut to fit")
    assert text.index("### Agents") < text.index("```")
    assert "2 of 2 metrics pass" in text
    assert text.endswith(f"- An entry.\n\n{MARKER}\n") or "generated" in text


def test_one_long_line_is_cut_too() -> None:
    """A text without a line end is cut as well."""
    assert len(release_notes("x" * LIMIT * 2, "", [])) <= LIMIT
