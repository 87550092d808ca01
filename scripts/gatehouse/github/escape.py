"""Where hostile text is made harmless: for terminals and logs, for GitHub's Markdown, for workflow commands.

What a model, a title, a branch name or a file holds goes through one of these before anybody sees it.
Everything here is pure.
"""

from __future__ import annotations

import re

_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"  # OSC, DCS, SOS, PM, APC: without an end only their beginning
    r"(?:[^\x07\x1b\n\x90\x98\x9c-\x9f]*+(?:\x07|\x1b\\|\x9c))?"  # or it would hide our words that follow
    r"|\x1b[ -/]*[0-~]"  # every other escape
)
"""Terminal sequences, whole: ECMA-48 5.4 (CSI), 5.6 (strings), ECMA-35 (the rest). Each branch is linear."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi, zero width, BOM
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"  # tags and variation selectors: text that nobody sees
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\u2028\u2029]")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_ADDRESS = re.compile(r"&#64;|&#58;(?=&#47;)|www(?=&#46;)", re.IGNORECASE)
_SPLIT = "<!-- -->"


def plain(text: str, limit: int | None = None) -> str:
    r"""The text for a terminal or a log: nothing in it moves a cursor, hides, or reverses what is read.

    ANSI sequences, control, bidi, zero-width and tag characters are removed, every line end becomes `\n`
    (a lone `\r` would overwrite its line), a lone surrogate U+FFFD. Above `limit` characters it is cut and
    says how many more there are. It may still hold a line that the runner takes for a workflow command:
    print it with `runner.say`.
    """
    clean = text
    if not (text.isascii() and text.isprintable()):  # which most texts are, at a tenth of the time
        seen = _UNSEEN.sub("", _ANSI.sub("", _LINE_END.sub("\n", text)))
        clean = _SURROGATE.sub("\ufffd", seen)
    if limit is None or len(clean) <= limit:
        return clean
    return f"{clean[:limit]}… ({len(clean) - limit:,} more characters)"


def markdown_inline(text: str, limit: int) -> str:
    """The text as one table cell or part of a line of GitHub's Markdown: literal, in `<code>`, "" for none.

    Why a `<code>` element with every ASCII punctuation character as a numeric reference:
    - A reference never stands for structure (CommonMark 2.5), so no emphasis, link, image, HTML, pipe,
      footnote, mathematics or backtick run can begin, in a paragraph, a table cell or a heading.
    - What GitHub does after parsing (mentions, issue and commit references, emoji) looks at text, where
      references are characters again; but those filters leave `code` and `pre` alone.
    - A code span in backticks would do in Markdown, but not inside an HTML block such as `<summary>`, where
      Markdown is not read and the text would be live HTML. This form is inert in both.
    - The autolink extension looks for addresses in parsed text, `code` elements included: an empty HTML
      comment, which GitHub drops, parts what it would join (`a@b.c`, `http://`, `www.`).

    Runs of whitespace become one space; `limit` counts characters as they are seen.
    """
    line = " ".join(plain(text).split())
    if not line:
        return ""
    shown = line if len(line) <= limit else line[: max(0, limit - 1)] + "…"
    literal = _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", shown)
    return f"<code>{_ADDRESS.sub(lambda found: found[0] + _SPLIT, literal)}</code>"


def markdown_block(text: str, limit: int, language: str = "") -> str:
    """The text as a fenced code block, newline at the end; above `limit` characters it is cut and says so.

    The fence is longer than any run of backticks inside, so nothing inside can close it (GFM 4.5). It has to
    begin a line, and inside an HTML element to follow an empty one. `language` is the caller's own word.
    """
    shown = plain(text, limit)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown.removesuffix(chr(10))}\n{fence}\n"


def command(name: str, message: str, **properties: str | int) -> str:
    """A workflow command, `::error file=a.py,line=3::message`, on one line, without empty and 0 properties.

    The escapes are those that the runner undoes (actions/runner, ActionCommand.cs); `%` has to come first.
    """
    given = [f"{key}={_property(str(value))}" for key, value in properties.items() if value]
    return f"::{name}{' ' if given else ''}{','.join(given)}::{data(plain(message))}"


def data(text: str) -> str:
    """The part after the second `::` of a workflow command, escaped and otherwise as it is."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return data(plain(value)).replace(":", "%3A").replace(",", "%2C")
