"""`gatehouse.github.escape`: hostile text, made harmless for terminals, Markdown and the runner."""

from __future__ import annotations

import html
import re
import time

import pytest

from gatehouse.github.escape import command, markdown_block, markdown_inline, plain

cmarkgfm = pytest.importorskip("cmarkgfm", reason="GitHub's own Markdown parser is in the dev group")

HOSTILE = [
    pytest.param("\x1b[31mred\x1b[0m", "red", id="CSI colour"),
    pytest.param("\x1b[2J\x1b[1;1Hgone", "gone", id="CSI clear screen"),
    pytest.param("\x9b31mred", "red", id="CSI as one C1 character"),
    pytest.param("a\x1b]0;title\x07b", "ab", id="OSC title, BEL"),
    pytest.param("a\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\b", "alinkb", id="OSC link, ST"),
    pytest.param("a\x1b]52;c;eA==\nb", "a52;c;eA==\nb", id="OSC without an end takes its beginning only"),
    pytest.param("a\x9d0;x\x9d1;y\x9cb", "a0;xb", id="OSC within an OSC"),
    pytest.param("a\x1bPq#0\x1b\\b", "ab", id="DCS"),
    pytest.param("a\x1bcb\x1b(0c", "abc", id="reset, character set"),
    pytest.param("a\x1b\x1b[31mb\x1b", "ab", id="escape before an escape, escape at the end"),
    pytest.param("\x00a\x07\x08b\x7f\x85\x9f", "ab", id="C0, DEL, C1"),
    pytest.param("a\tb\nc", "a\tb\nc", id="tab and newline stay"),
    pytest.param("safe\rEVIL\r\nx\u2028y\u2029z", "safe\nEVIL\nx\ny\nz", id="every line end is a newline"),
    pytest.param("a\u202eb\u202ac\u2066d\u2069e\u200ef\u200fg\u061ch", "abcdefgh", id="bidi controls"),
    pytest.param("a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg", "abcdefg", id="zero width, BOM, soft hyphen"),
    pytest.param("a\U000e0041\U000e007f\U000e0100b", "ab", id="tag characters"),
    pytest.param("a\ud800b\udfff", "a\ufffdb\ufffd", id="lone surrogates"),
    pytest.param("größe 数 🙂 é", "größe 数 🙂 é", id="other text stays"),
    pytest.param("@octocat and @org/team", "@octocat and @org/team", id="mentions"),
    pytest.param("#1 GH-1 owner/repo#1 owner/repo@deadbeef", None, id="references"),
    pytest.param("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef", None, id="commit"),
    pytest.param(
        "http://e.example www.e.example a@b.example mailto:a@b.example xmpp:a@b.c", None, id="addresses"
    ),
    pytest.param("<http://e.example> [a](http://e.example) ![i](http://e.example/i.png)", None, id="links"),
    pytest.param("<img src=x onerror=alert(1)><script>x</script></code></td><!-- -->", None, id="HTML"),
    pytest.param("&lt;b&gt; &#64;octocat &amp;commat;", None, id="references to characters"),
    pytest.param("`code` ``code`` ``` **b** _i_ ~~s~~", None, id="emphasis and code"),
    pytest.param("a | b || \\| \\", None, id="pipes and backslashes"),
    pytest.param("x[^1] - [ ] [x] :tada: $x$ $$y$$ $`z`$", None, id="footnote, task, emoji, mathematics"),
    pytest.param("# h\n- l\n> q\n\n---\n| a |\n|---|", "# h\n- l\n> q\n\n---\n| a |\n|---|", id="blocks"),
    pytest.param("[!WARNING] @[a] \u0000", "[!WARNING] @[a] ", id="alerts"),
    pytest.param("::error::x\n##[add-mask]x", "::error::x\n##[add-mask]x", id="workflow commands"),
]


def shown(rendered: str) -> str:
    """The text that a browser shows of HTML: without comments, which GitHub drops too."""
    return html.unescape(re.sub(r"<!--.*?-->|<[^>]*>", "", rendered, flags=re.DOTALL))


def elements(rendered: str) -> set[str]:
    """The names of all elements in HTML."""
    return set(re.findall(r"<([a-z0-9]+)", re.sub(r"<!--.*?-->", "", rendered, flags=re.DOTALL)))


def render(markdown: str) -> str:
    """HTML as GitHub's own parser makes it, raw HTML left as it is."""
    options = cmarkgfm.cmark.Options
    return str(
        cmarkgfm.github_flavored_markdown_to_html(
            markdown, options=options.CMARK_OPT_UNSAFE | options.CMARK_OPT_FOOTNOTES
        )
    )


@pytest.mark.parametrize(("text", "clean"), HOSTILE)
def test_plain_removes_what_acts_and_keeps_what_is_read(text: str, clean: str | None) -> None:
    """Terminal sequences and invisible characters go, every visible character stays."""
    assert plain(text) == (text if clean is None else clean)


@pytest.mark.parametrize(("text", "clean"), HOSTILE)
def test_inline_is_literal_in_a_table_cell(text: str, clean: str | None) -> None:
    """GitHub's parser makes of a hostile cell its text in `code`, and leaves the row's other cell alone."""
    cell = markdown_inline(text, 500)
    rendered = render(f"| a | b |\n|---|---|\n| {cell} | end |\n")
    expected = " ".join((text if clean is None else clean).split())
    row = rendered.partition("<tbody>")[2]
    assert shown(row).split("\n")[2:4] == [expected, "end"]
    assert elements(row) == {"tr", "td", "code"}
    assert row.count("<td>") == 2


@pytest.mark.parametrize(
    "around", ["{}\n", "- {}\n", "## {}\n", "<details><summary>{}</summary>\n\nx\n\n</details>\n"]
)
@pytest.mark.parametrize(("text", "clean"), HOSTILE)
def test_inline_is_literal_elsewhere(text: str, clean: str | None, around: str) -> None:
    """The same text is inert in a paragraph, a list, a heading, and where Markdown is not read at all."""
    rendered = render(around.format(markdown_inline(text, 500)))
    expected = " ".join((text if clean is None else clean).split())
    assert expected in shown(rendered)
    assert elements(rendered) <= {"p", "ul", "li", "h2", "details", "summary", "code"}


@pytest.mark.parametrize(("text", "clean"), HOSTILE)
def test_inline_holds_no_active_character(text: str, clean: str | None) -> None:
    """All punctuation is a numeric reference, and no text that GitHub links is whole outside `code`."""
    cell = markdown_inline(text, 500)
    inside = cell.removeprefix("<code>").removesuffix("</code>").replace("<!-- -->", "")
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|[^\x00-\x7f]|&#[0-9]+;)*", inside)
    assert "\n" not in cell


@pytest.mark.parametrize("address", ["a@b.example", "http://e.example", "www.e.example", "HTTPS://e.example"])
def test_inline_parts_addresses(address: str) -> None:
    """An address is no link even for a parser that looks for them in decoded text: a comment parts it."""
    decoded = html.unescape(markdown_inline(address, 500))
    assert address not in decoded
    assert address in decoded.replace("<!-- -->", "")


def test_inline_is_cut_by_what_is_seen() -> None:
    """The limit counts characters before they are escaped, the ellipsis included; nothing stays nothing."""
    assert shown(markdown_inline("@" * 50, 10)) == "@" * 9 + "…"
    assert shown(markdown_inline("@" * 10, 10)) == "@" * 10
    assert markdown_inline(" \n\x1b[0m\u200b", 10) == ""


@pytest.mark.parametrize("around", ["{}", "<details>\n\n{}\n</details>\n"])
@pytest.mark.parametrize(
    "text",
    [
        "```\n# out\n```",
        "````````\n<b>x</b>\n~~~\n",
        "`",
        "</code></pre><b>x</b>",
        "\n\n",
        "@octocat #1 http://e.example",
        "",
    ],
)
def test_block_cannot_be_left(text: str, around: str) -> None:
    """Whatever the text holds, it stays one code block."""
    rendered = render(around.format(markdown_block(text, 500)))
    assert elements(rendered) <= {"pre", "code", "details"}
    assert rendered.count("<pre>") == 1
    assert text.strip() in shown(rendered)


def test_block_is_cut_and_says_so() -> None:
    """Text above the limit loses its end, and the block says how much; its language is on the fence."""
    assert markdown_block("x" * 12, 10, "json") == "```json\nxxxxxxxxxx… (2 more characters)\n```\n"
    assert markdown_block("\x1b[31mx\n", 10) == "```\nx\n```\n"
    assert plain("x" * 3000, 1000).endswith("… (2,000 more characters)")


def runner_reads(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as the runner parses it (actions/runner, ActionCommand.TryParseV2)."""
    info, data = line.removeprefix("::").split("::", 1)
    name, _, listed = info.partition(" ")
    pairs = (pair.split("=", 1) for pair in listed.split(",") if pair)
    unescape = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}
    properties = {}
    for key, value in pairs:
        for mapped, token in unescape.items():
            value = value.replace(mapped, token)  # noqa: PLW2901 as the runner does
        properties[key] = value
    for mapped in ("%0D", "%0A", "%25"):
        data = data.replace(mapped, unescape[mapped])
    return name, properties, data


@pytest.mark.parametrize(
    "text", ["a\n::error::b", "100%", "%0A%25", "x,file=y::z", "a: b, c", "\n##[add-mask]x\n", "a=b"]
)
def test_command_is_one_line_that_the_runner_reads_back(text: str) -> None:
    """No message or property begins a second command or another property, and none is changed on its way."""
    line = command("error", text, file=text, line=3, endLine=0, title="")
    assert "\n" not in line
    assert runner_reads(line) == ("error", {"file": text, "line": "3"}, text)


def test_command_without_properties() -> None:
    """A command without properties has no space before its message; terminal sequences go."""
    assert command("notice", "\x1b[31mx\r\ny") == "::notice::x%0Ay"


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x1bP", "\x9d1", "`", "@", "www.", "\u202e"])
def test_time_is_linear(unit: str) -> None:
    """A megabyte of openings that nothing closes takes no quadratic time."""
    text = unit * (2**20 // len(unit))
    started = time.perf_counter()
    plain(text)
    markdown_inline(text, 500)
    markdown_block(text, 500)
    assert time.perf_counter() - started < 2
