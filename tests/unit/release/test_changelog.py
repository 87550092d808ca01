"""The changelog: what is found in it, how a version is cut, and what comes back to develop."""

from __future__ import annotations

import gc
from datetime import date

import pytest
from packaging.version import Version

from gatehouse.errors import UserError
from gatehouse.release.changelog import back_merge, cut, entries, level, missing, section, unreleased

URL = "https://github.com/acme/triage"
DAY = date(2026, 11, 21)
TEXT = """\
# Changelog

Kept by hand. The heading `## [Unreleased]` holds what comes next.

## [Unreleased]

### Added

- Sort by urgency,
  which was asked for.

  - Even more.

### Fixed

- Empty messages ([#12]).

## [0.1.0] - 2026-01-05

### Added

- Sort what comes in.

[Unreleased]: https://github.com/acme/triage/compare/v0.1.0...HEAD
[0.1.0]: https://github.com/acme/triage/releases/tag/v0.1.0
[#12]: https://github.com/acme/triage/issues/12
"""
HIDDEN = [
    "```\n## [Unreleased]\n\n- shown\n```",
    "~~~~ markdown\n## Unreleased\n- shown\n~~~\n~~~~",
    "<!--\n## [Unreleased]\n\n- hidden\n-->",
    "    ## [Unreleased]\n    - indented",
    "> ## [Unreleased]\n> - quoted",
    "- ## [Unreleased]\n  - listed",
    "Everything in ## [Unreleased] is new.",
    "### Unreleased\n\n- deeper",
    "#Unreleased\n\n- no space",
    "\\## Unreleased",
    "<div>\n## [Unreleased]\n</div>",
    "## Unreleased features",
]
"""What is no heading of what is unreleased."""


def cut_of(text: str, version: str = "0.2.0", previous: str | None = "v0.1.0", prefix: str = "v") -> str:
    """The text with the version cut, on a fixed day."""
    return cut(text, Version(version), DAY, URL, previous, prefix)


def refused(text: str, version: str = "0.2.0") -> str:
    """What `cut` says of a changelog that it refuses."""
    with pytest.raises(UserError) as error:
        cut_of(text, version)
    assert error.value.left == "Nothing was changed."
    return str(error.value)


def test_a_cut_dates_what_was_unreleased() -> None:
    """Unreleased becomes the version, an empty one stands above, the links follow, and nothing else moves."""
    expected = TEXT.replace("\n## [Unreleased]\n", "\n## [Unreleased]\n\n## [0.2.0] - 2026-11-21\n").replace(
        f"[Unreleased]: {URL}/compare/v0.1.0...HEAD\n",
        f"[Unreleased]: {URL}/compare/v0.2.0...HEAD\n[0.2.0]: {URL}/compare/v0.1.0...v0.2.0\n",
    )
    assert cut_of(TEXT) == expected
    assert unreleased(expected) == ""
    assert section(expected, "0.2.0") == unreleased(TEXT)


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_newlines_stay(newline: str) -> None:
    """A changelog with another line end keeps it in every line, new ones included."""
    text = TEXT.replace("\n", newline)
    assert cut_of(text) == cut_of(TEXT).replace("\n", newline)
    assert section(cut_of(text), "0.2.0") == (unreleased(TEXT) or "").replace("\n", newline)


@pytest.mark.parametrize(
    "heading",
    [
        "## [Unreleased]",
        "## [UNRELEASED]",
        "## unreleased",
        "##  [unReleased]  ##",
        "# [Unreleased]",
        "   ## Unreleased",
        "## [Unreleased] - TBD",
        "## Unreleased (2.0)",
        "## [Unreleased] <!-- keep -->",
        "## \\[Unreleased]",
        "## [Unreleased][unreleased]",
        "[Unreleased]\n------------",
        "Unreleased\n==========",
    ],
)
def test_headings_of_any_kind(heading: str) -> None:
    """Whatever the case, level, brackets and style of the heading: it stays, the version takes its style."""
    after = cut_of(TEXT.replace("\n## [Unreleased]\n", f"\n{heading}\n"))
    prefix = heading[: len(heading) - len(heading.lstrip(" #"))]
    rest = heading.partition("\n")[1] + heading.partition("\n")[2]
    assert f"\n{heading}\n\n{prefix}[0.2.0] - 2026-11-21{rest}\n\n### Added\n" in after
    assert section(after, "0.2.0") == unreleased(TEXT)
    assert unreleased(after) == ""


@pytest.mark.parametrize("hidden", HIDDEN)
def test_only_real_headings_count(hidden: str) -> None:
    """Code, comments, quotations, lists and sentences hold no heading: the real one is cut, they stay."""
    text = TEXT.replace("Kept by hand.", f"{hidden}\n\nKept by hand.")
    assert cut_of(text) == cut_of(TEXT).replace("Kept by hand.", f"{hidden}\n\nKept by hand.")
    alone = f"# Changelog\n\n{hidden}\n"
    assert entries(alone) == []
    assert unreleased(alone) is None
    assert "no heading Unreleased" in refused(alone)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "### Added\n\n### Fixed\n",
        "<!-- - an example -->\n",
        "- \n- <!-- nothing -->\n*\n",
        "<!--\n### Added\n\n- x\n-->\n\n### Added\n",
        "[Unreleased]: https://x/compare\n",
        "***\n",
        "<!-- never closed\n- x\n",
    ],
)
def test_nothing_to_release_is_refused(body: str) -> None:
    """Without an entry there is nothing to cut; headings, comments and empty items are none."""
    said = refused(f"## [Unreleased]\n\n{body}")
    assert said.startswith("CHANGELOG.md:1: nothing stands under Unreleased\n    ## [Unreleased]\n    ~~")
    with pytest.raises(UserError, match="nothing stands under"):
        level(f"## [Unreleased]\n\n{body}")


@pytest.mark.parametrize(
    "body", ["- x", "1. x", "x", "* - x", "> x", "```\nx\n```", "<b>x</b>", "- ```\n  x\n  ```"]
)
def test_what_counts_as_an_entry(body: str) -> None:
    """Any block with words in it is an entry."""
    assert len(entries(f"# Unreleased\n\n{body}\n")) == 1


def test_every_fault_is_told_with_its_line() -> None:
    """Two Unreleased and a section of that version are all told at once, each with line and caret."""
    said = refused("## Unreleased\n\n- a\n\n## v0.2.0\n\n- b\n\n# [unreleased]\n- c\n")
    assert "CHANGELOG.md:5: there is a section of 0.2.0 already\n    ## v0.2.0\n    ~~~~~~~~^\n" in said
    assert "CHANGELOG.md:9: a second Unreleased\n    # [unreleased]\n" in said


def test_a_mention_is_shown_where_no_heading_is() -> None:
    """Where a line only mentions Unreleased, the error points at it."""
    said = refused("# Changelog\n\n### Unreleased\n\n- x\n")
    assert said.startswith("CHANGELOG.md:3: no heading Unreleased: this line is none\n    ### Unreleased\n")
    assert refused("").startswith("CHANGELOG.md:1: no heading Unreleased\n")


@pytest.mark.parametrize(
    "heading",
    [
        "## [1.2.0] - 2026-01-01",
        "## 1.2.0",
        "# v1.2.0 (2026-01-01)",
        "## [v1.2](https://x) - y",
        "## Version 1.2.0",
        "## [1.2.0] [YANKED]",
        "1.2.0\n---",
    ],
)
def test_a_version_is_found_by_any_heading(heading: str) -> None:
    """A section is found however its heading spells the version, and ends at the next one."""
    text = f"# Changelog\n\n## [1.10.0]\n- no\n\n{heading}\n\n- yes\n\n## 1.2.0rc1\n- no\n\n## 1.1.0\n- no\n"
    assert section(text, "1.2.0") == "- yes\n"
    assert section(text, Version("1.2")) == "- yes\n"
    assert section(text, "1.3.0") is None


def test_a_section_is_without_heading_and_links() -> None:
    """The last section does not take in the definitions below it; its own fences stay whole."""
    text = TEXT.replace("- Sort what comes in.", "- Sort\n\n```\n## [9.9.9]\n\n[a]: b\n```")
    assert section(text, "0.1.0") == "### Added\n\n- Sort\n\n```\n## [9.9.9]\n\n[a]: b\n```\n"


def test_links_are_added_where_there_are_none() -> None:
    """A file without definitions gets them at its end; one without brackets gets only the version's."""
    bare = "## [Unreleased]\n\n- a"
    assert cut_of(bare, previous=None) == (
        "## [Unreleased]\n\n## [0.2.0] - 2026-11-21\n\n- a\n\n"
        f"[Unreleased]: {URL}/compare/v0.2.0...HEAD\n[0.2.0]: {URL}/releases/tag/v0.2.0\n"
    )
    assert "[Unreleased]" not in cut_of("## Unreleased\n\n- a\n")
    assert f"\n\n[0.2.0]: {URL}/compare/v0.1.0...v0.2.0\n" in cut_of("## Unreleased\n\n- a\n")


def test_links_keep_their_place_and_style() -> None:
    """A definition keeps its label and what it compares with; an early one of the version goes."""
    text = (
        "## [unreleased]\n\n- a\n\n## [0.1.0]\n\n- b\n\n[0.2.0]: https://early\n[unreleased]:\n  "
        f"<{URL}/compare/v0.1.0...develop>\n[0.1.0]: https://x\n[#1]: https://y"
    )
    links = cut_of(text).rpartition("- b\n\n")[2]
    assert links == (
        f"[unreleased]: {URL}/compare/v0.2.0...develop\n[0.2.0]: {URL}/compare/v0.1.0...v0.2.0\n"
        "[0.1.0]: https://x\n[#1]: https://y"
    )
    no_unreleased = cut_of("## Unreleased\n- a\n\n## 0.1.0\n- b\n\n[#1]: https://y\n[0.1.0]: https://x\n")
    assert no_unreleased.endswith(
        f"[#1]: https://y\n[0.2.0]: {URL}/compare/v0.1.0...v0.2.0\n[0.1.0]: https://x\n"
    )


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("v0.1.0...develop", "develop"),
        ("v0.1.0...feature/x", "feature/x"),
        ("v0.1.0....x", "x"),
        *((f"v0.1.0...{end}", "HEAD") for end in ("", "/x", "x?y", "x#y", "?", "#")),
        *((end, "HEAD") for end in ("v0.1.0..x", "x")),
    ],
)
def test_what_a_link_compares_with_stays(end: str, kept: str) -> None:
    """A name after three dots is what Unreleased compares with; anything else, or none, becomes HEAD."""
    text = f"## [Unreleased]\n\n- a\n\n[Unreleased]: {URL}/compare/{end}\n"
    assert f"[Unreleased]: {URL}/compare/v0.2.0...{kept}\n" in cut_of(text)


def test_links_in_the_heading_stay_there() -> None:
    """Where the heading itself holds the address, both headings do afterwards, and no definition is added."""
    after = cut_of(f"## [Unreleased]({URL}/compare/v0.1.0...HEAD)\n\n- a\n")
    assert after == (
        f"## [Unreleased]({URL}/compare/v0.2.0...HEAD)\n\n"
        f"## [0.2.0]({URL}/compare/v0.1.0...v0.2.0) - 2026-11-21\n\n- a\n"
    )


def test_a_tag_prefix_is_quoted_in_links() -> None:
    """A monorepo's tags stand in the links with what an address has to quote."""
    after = cut_of(TEXT, previous="triage/v0.1.0", prefix="triage/v")
    assert f"[0.2.0]: {URL}/compare/triage%2Fv0.1.0...triage%2Fv0.2.0\n" in after


def test_bytes_that_are_no_text_stay() -> None:
    """A byte order mark, bytes that are not UTF-8, and odd separators come out as they went in."""
    odd = "\ufeff## Unreleased\n\n- a\u2028b \x0c \udcff\x00 \t\n\n## 0.1.0\n- c   \n"
    after = cut_of(odd)
    assert after.startswith(
        "\ufeff## Unreleased\n\n## [0.2.0] - 2026-11-21\n\n- a\u2028b \x0c \udcff\x00 \t\n\n"
    )
    assert after.partition("## 0.1.0")[2].startswith("\n- c   \n")


@pytest.mark.parametrize(
    ("body", "current", "expected"),
    [
        ("### Fixed\n- a\n### Security\n- b", "1.0.0", "patch"),
        ("### Fixed\n- a\n### Added\n- b", "1.0.0", "minor"),
        ("### changed\n- a", "1.0.0", "minor"),
        ("### Deprecated\n- a", "1.0.0", "minor"),
        ("- a", "1.0.0", "minor"),
        ("### Performance\n- a", "1.0.0", "minor"),
        ("### Fixed\n- a\n### Removed\n- b", "1.0.0", "major"),
        ("### Removed\n- b", "0.9.0", "minor"),
        ("### Removed\n- b", None, "minor"),
        ("### Fixed\n- **Breaking:** a", "1.0.0", "major"),
        ("### Fixed\n- a\n\n  Breaking change: b", "1.0.0", "major"),
        ("### Fixed\n- BREAKING: a", "1.0.0", "major"),
        ("### Breaking changes\n- a", "1.0.0", "major"),
        ("### Fixed\n- no longer\n  breaking anything", "1.0.0", "patch"),
        ("### Removed\n\n### Fixed\n- a", "1.0.0", "patch"),
        ("### Removed\n<!-- - x -->\n### Fixed\n- a", "1.0.0", "patch"),
        ("### Fixed\n- Groundbreaking", "1.0.0", "patch"),
        ("### Fixed\n- a <!-- \nBreaking: no\n-->", "1.0.0", "patch"),
    ],
)
def test_the_level_follows_the_categories(body: str, current: str | None, expected: str) -> None:
    """Removed and Breaking are major (minor below 1.0.0), Fixed and Security alone patch, all else minor."""
    found, reason = level(f"## Unreleased\n\n{body}\n", Version(current) if current else None)
    assert found == expected
    assert "line " in reason


NEW = TEXT.replace("  - Even more.\n", "  - Even more.\n- New on develop,\n  two lines.\n").replace(
    "### Fixed\n", "### Changed\n\n- Faster.\n\n### Fixed\n", 1
)
"""What develop may have become since TEXT was cut."""


def test_what_came_on_develop_stays_unreleased() -> None:
    """After a release, develop's newer entries stand under Unreleased and none of them under the version."""
    released = cut_of(TEXT)
    merged = back_merge(TEXT, released, NEW)
    assert merged == released.replace(
        "## [Unreleased]\n",
        "## [Unreleased]\n\n### Added\n\n- New on develop,\n  two lines.\n\n### Changed\n\n- Faster.\n",
        1,
    )
    assert section(merged, "0.2.0") == section(released, "0.2.0")


def test_without_news_develop_gets_what_was_released() -> None:
    """Where nothing came on develop, its changelog is the released one, byte for byte."""
    released = cut_of(TEXT).removesuffix("\n")
    assert back_merge(TEXT, released, TEXT) == released


def test_fixes_of_the_release_branch_stay_released() -> None:
    """An entry that the release branch added to the version is not taken for a new one, nor lost."""
    released = cut_of(TEXT).replace("- Empty messages", "- Late fix.\n- Empty messages")
    merged = back_merge(TEXT, released, NEW) or ""
    assert "Late fix" in (section(merged, "0.2.0") or "")
    assert [entry.said for entry in entries(merged)] == ["New on develop, two lines.", "Faster."]


def test_news_join_what_stands_under_unreleased() -> None:
    """Entries join their category where the released text has it already, and newlines become its own."""
    released = cut_of(TEXT).replace("## [Unreleased]\n", "## [Unreleased]\n\n### added\n\n- Early.\n", 1)
    crlf = back_merge(TEXT, released.replace("\n", "\r\n"), NEW) or ""
    expected = "### added\n\n- Early.\n- New on develop,\n  two lines.\n\n### Changed\n\n- Faster.\n"
    assert unreleased(crlf) == expected.replace("\n", "\r\n")
    assert "\n" not in crlf.replace("\r\n", "")


def test_new_link_definitions_come_along() -> None:
    """A link that a new entry needs is there afterwards."""
    link = "[#13]: https://github.com/acme/triage/issues/13\n"
    merged = back_merge(TEXT, cut_of(TEXT), NEW + link)
    assert merged is not None
    assert merged.endswith(link)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- Empty messages", "- Blank messages"),
        ("- Empty messages ([#12]).\n", ""),
        ("- Sort what comes in.", "- Sort all that comes in."),
        ("Kept by hand.", "Kept by everybody."),
        ("## [Unreleased]\n", "## [Next]\n"),
        ("## [Unreleased]\n", "## [Unreleased]\n\n- a\n\n## Unreleased\n"),
        ("### Fixed\n", "### Security\n"),
    ],
)
def test_what_cannot_be_told_is_left_to_a_person(old: str, new: str) -> None:
    """A cut entry that was reworded, moved or removed, and any other change on develop, give None."""
    assert back_merge(TEXT, cut_of(TEXT), NEW.replace(old, new, 1)) is None


def test_a_new_entry_under_unreleased_passes() -> None:
    """The guard passes with a new entry, and shows it."""
    decision = missing(TEXT, NEW)
    assert decision.passed
    assert decision.reason == (
        "CHANGELOG.md has a new entry under Unreleased: "
        'line 13, "New on develop, two lines."; line 18, "Faster.".'
    )
    assert missing(None, TEXT).passed
    assert missing(TEXT, TEXT.replace("- Empty", "- Empty messages.\n- Empty")).passed


@pytest.mark.parametrize(
    "after",
    [
        TEXT,
        TEXT.replace("### Fixed", "### Fixed\n\n<!-- - x -->\n-"),
        TEXT.replace("### Fixed", "### Fixed\n\n```\n```"),
        TEXT.replace("- Empty messages ([#12]).\n", ""),
        TEXT.replace("  which was asked for.", "    which was asked for."),
        TEXT.replace("- Empty", "* Empty"),
        TEXT.replace("Kept by hand.", "```\n## [Unreleased]\n- x\n```"),
        TEXT.replace("Kept by hand.", "Kept by hand, - x"),
    ],
)
def test_no_new_entry_fails(after: str) -> None:
    """Comments, empty items, layout and removals are no entry; the message shows the lines to add."""
    decision = missing(TEXT, after)
    assert not decision.passed
    assert "\n\n## [Unreleased]\n\n### Added\n\n- What a user sees" in decision.reason


def test_an_entry_under_a_version_is_sent_where_it_belongs() -> None:
    """An entry that is new under a version only fails, and the message says which lines to move where."""
    after = TEXT.replace("- Sort what comes in.", "- Sort what comes in.\n- Late one,\n  two lines.")
    decision = missing(TEXT, after)
    assert not decision.passed
    assert decision.reason == (
        'CHANGELOG.md:23: "Late one, two lines." stands under 0.1.0, which is cut already. '
        "Move lines 23 to 24 to ### Added under Unreleased (line 5)."
    )


def test_a_merge_after_a_cut_is_noticed() -> None:
    """When git merges an older branch's entry under the version cut meanwhile, the guard says so."""
    base = cut_of(TEXT)
    merged = base.replace("- Empty messages ([#12]).\n", "- Empty messages ([#12]).\n- From the branch.\n")
    assert "Move line 19 to ### Fixed under Unreleased (line 5)." in missing(base, merged).reason


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (TEXT, None, "CHANGELOG.md is deleted. It has to hold:\n\n## [Unreleased]"),
        (None, None, "CHANGELOG.md does not exist. It has to hold:\n\n## [Unreleased]"),
        (TEXT, "", "CHANGELOG.md has no heading Unreleased. Write:"),
        (TEXT, "# Unreleased\n- a\n# Unreleased\n- b", "has more than one Unreleased, in lines 1 and 3"),
    ],
)
def test_a_broken_changelog_fails(before: str | None, after: str | None, said: str) -> None:
    """Deleted, without Unreleased, or with two of them: each fails and says what to do."""
    decision = missing(before, after)
    assert not decision.passed
    assert said in decision.reason


def test_hostile_lines_are_shown_harmless() -> None:
    """What an entry holds reaches reasons without escape sequences, and long ones are cut."""
    evil = "\x1b[2J\u202e::error::" + "x" * 10_000
    for decision in (
        missing("", f"# Unreleased\n\n- {evil}\n"),
        missing("", f"# 1.0.0\n- {evil}\n# Unreleased\n"),
    ):
        assert "\x1b" not in decision.reason
        assert "\u202e" not in decision.reason
        assert len(decision.reason) < 400


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part",
    ["- x\n", "<!--", "> " * 9, "[" * 50 + "\n", "1." * 40 + "\n", "```\n", "## 1.0.0\n", "[a]: b\n", "- - "],
)
def test_a_long_changelog_takes_no_age(part: str) -> None:
    """A few hundred kilobytes of anything are read in seconds."""
    text = "## Unreleased\n\n- a\n\n" + part * (200_000 // len(part)) + "\n"
    section(text, "1.0.0")
    entries(text)


@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    "part",
    ["## [1.0.0]\n- a\n", "## [1.0.0]\n", "### A\n- x\n", "- x\n* x\n", "## 1." + "1." * 40 + "\n"],
    ids=["entries", "sections", "categories", "items", "numbers"],
)
def test_a_long_changelog_is_judged_in_seconds(part: str) -> None:
    """Nothing is computed anew for each of 9,000 sections: they are cut, merged and judged."""
    text = "## Unreleased\n\n- a\n\n" + part * (100_000 // len(part)) + "\n"
    after = text.replace("- a\n", "- a\n- b\n", 1)
    level(text)
    released = cut_of(text)
    assert back_merge(text, released, after) is not None
    assert not missing(text, text).passed
    assert missing(text, after).passed


@pytest.mark.timeout(40)
@pytest.mark.parametrize("space", [" \n", "  >\n", "  *\n"])
def test_a_long_entry_takes_no_age(space: str) -> None:
    """An entry of hundreds of thousands of lines that say nothing is searched for Breaking but once."""
    assert level(f"## Unreleased\n\n### Fixed\n\n- x\n{space * 200_000}  x\n")[0] == "patch"


@pytest.mark.timeout(40)
def test_a_long_address_takes_no_age() -> None:
    """An address of dots is read but once."""
    dots = "...a" * 80_000
    text = f"## [Unreleased]\n\n- a\n\n[Unreleased]: {URL}/compare/{dots}?\n"
    assert f"[Unreleased]: {URL}/compare/v0.2.0...HEAD\n" in cut_of(text)


def test_the_collector_is_left_as_it_was() -> None:
    """Reading a changelog pauses the garbage collector, and neither starts it nor leaves it stopped."""
    assert gc.isenabled()
    entries(TEXT)
    assert gc.isenabled()
    gc.disable()
    try:
        entries(TEXT)
        assert not gc.isenabled()
    finally:
        gc.enable()
