"""Hostile text of every class, and what has to be true of whatever a command made of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.github import runner
from tests.support.markdown import Page, page_of, render
from tests.support.projects import Done, call

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from pathlib import Path

TOUCH = 'touch${IFS}"$CANARY"'
"""Makes the file that CANARY names: without a space, so that it may also stand in the name of a ref."""

KINDS = {
    "shell": f"';\"$({TOUCH})`{TOUCH}`;{TOUCH}|{TOUCH}&&{TOUCH}\n{TOUCH}\n#",
    "option": f"--upload-pack={TOUCH};",
    "yaml": "x: &a [*a, !!python/object/apply:os.system ['exit 1']]\n- ${{ secrets.X }}\n? {{1}}\n...",
    "markdown": "<img src=https://evil.test/x onerror=y><script>z</script>[a](https://evil.test/) "
    "![b](https://evil.test/) @everyone #1 | `` ``` <!-- </details></code>\n\n# c\n\n```\n",
    "url": "https://me@evil.test:80/%2e%2e/a?x=1&per_page=9#b\\..;c",
    "ref": "../../HEAD@{1}^{/x}~1:x*[?..lock.lock",
    "dots": "..",
    "unicode": "\u00e9\u202ea\u200bb\u2066c\ufeff\U000e0041\u017f\u212a\u0661\U0001f600",
    "line-end": "a\u2028::error::pwned\u2029b\x85::error::pwned\x0b\x0cc",
    "bytes": "caf\udce9",
    "control": "a\x1b[2J\x1b]8;;https://evil.test\x07b\x08\x9b1mc",
    "command": "a\n::error::pwned\n##[error]pwned ##[add-mask]b\r::add-mask::pwned\n::set-env name=A::b\n",
    "length": "x" * 100_000,
}
"""Text by class. None holds NUL, which neither an argument, a variable nor the name of a ref can."""

IN_JSON = KINDS | {"nul": "a\0b", "surrogate": "\ud800"}
"""What a file in JSON may hold besides."""

LENGTHS = {
    "a megabyte": "x" * 2**20,
    "ten thousand lines": "a line\n" * 10_000,
    "combining marks": "e" + "\u0301" * 100_000,
    "one long word of backticks": "`" * 50_000,
    "a wide table": "|" * 20_000,
}

CLASSES: dict[str, dict[str, str]] = {
    "shell": {
        "substitution": f"$({TOUCH})`{TOUCH}`",
        "end of a quote": f"';{TOUCH};'\";{TOUCH};\"",
        "newline": f"a\n{TOUCH}\n",
        "option": "--output=/etc/passwd",
        "assignment": f"A=b PATH=. {TOUCH}",
        "history and globs": "!! !$ ~root/* {a,b} >out <in 2>&1 &",
    },
    "yaml": {
        "tag": "!!python/object/apply:os.system ['exit 1']",
        "anchor": "&a [*a]",
        "document": "---\n- x\n...\n%YAML 1.2",
        "expression": "${{ secrets.GITHUB_TOKEN }}",
        "key": "x: {y: 'z\", # c",
    },
    "markdown": {
        "table": "a | b || c\n| --- | --- |\n| d | e |",
        "setext": "a\n===\n\nb\n---",
        "heading": "x\n\n# c\n",
        "link": "[a](https://evil.test/) [b][c]\n\n[c]: https://evil.test/ 'x'",
        "image": "![b](https://evil.test/x.png)![c][d]",
        "fence": "```\nx\n````\ny\n`````\n~~~~~~\n",
        "inline code": "`a` ``b`` ```c",
        "our marker": f"<!-- gatehouse:scorecard key=gate head={'c' * 40} -->\nall green",
        "comment": "--> <!-- --- <!--> <?php ?> <![CDATA[x]]> <!DOCTYPE x>",
        "list": "- a\n  - b\n1. c\n* d\n- [x] e",
        "quote": "> a\n>> [!WARNING]\n> b",
        "emphasis": "**a** _b_ __c__ ~~d~~ *e* \\",
        "footnote": "x[^1]\n\n[^1]: note",
        "mathematics": "$x$ $$y$$ $`z`$ \\(w\\)",
        "emoji": ":tada: :+1:",
        "diagram": "```mermaid\ngraph TD\n```",
        "references": "&lt;b&gt; &#64;org &commat;org &num;1 &#x3c;img&#x3e; &amp;#60;",
        "indented": "    x\n\ty",
    },
    "html": {
        "script": "<script>document.title='pwned'</script>",
        "image": "<img src=x onerror=\"document.title='pwned'\">",
        "fold": "</summary></details></details><details open><summary>x",
        "code": "</code></pre></sub></td></tr></table><b>x</b>",
        "cell": "<td>x</td><tr><td rowspan=9 colspan=9>",
        "link": "<a href='https://evil.test/' onclick=x>y</a><https://evil.test/>",
        "style": "<style>*{display:none}</style><div style='position:fixed;inset:0'>z</div>",
        "foreign": "<svg onload=x><math><mi//xlink:href='data:x'><iframe srcdoc=y></iframe>",
        "form": "<form action=https://evil.test/><input autofocus onfocus=x><button>",
        "plaintext": "<plaintext><textarea><title></title><xmp><noscript>",
        "attribute": '" onmouseover="x" \' autofocus=\' >',
        "meta": "<base href=//evil.test/><meta http-equiv=refresh content='0;url=//evil.test/'>",
    },
    "mention": {
        "person": "@everyone",
        "team": "cc @acme/team, (@octocat) @a-b",
        "issue": "#1 acme/x#2 GH-3 x#4",
        "commit": "c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0ffee deadbee acme/x@deadbeef",
        "advisory": "CVE-2024-3094 GHSA-jfh8-c2jp-5v3q",
        "address": "https://evil.test www.evil.test a@evil.test mailto:a@evil.test xmpp:a@evil.test/b",
    },
    "url": {
        "javascript": "javascript:document.title='pwned'",
        "data": "data:text/html,<script>document.title='pwned'</script>",
        "file": "file:///etc/passwd vbscript:x",
        "relative": "//host.test/x ../../../etc/passwd",
        "user": "https://github.com@evil.test:80/%2e%2e/a?x=1#b\\..;c",
        "quote": 'https://evil.test/"><img src=x>',
    },
    "command": {
        "error": "a\n::error::pwned\n",
        "mask": "::add-mask::pwned",
        "stop": "::stop-commands::pwned\n::pwned::",
        "output": "::set-output name=state::pass\nstate=pass\nstate<<end\npass\nend",
        "environment": "::set-env name=A::b\n::add-path::/tmp",
        "old": "##[error]pwned ##[add-mask]b ##[group]c",
        "carriage return": "a\r::add-mask::pwned\r",
        "encoded": "a%0A::error::pwned%0D%0a%25%3A%2C",
        "property": "x,line=1,file=y::pwned",
        "indented": "  ::error::pwned\n\t::error::pwned",
        "group": "::group::x\n::endgroup::\n::debug::y\n::echo::on",
    },
    "terminal": {
        "colour": "a\x1b[31;1mred\x1b[0m",
        "screen": "\x1b[2J\x1b[1;1H\x1b[8mgone",
        "cursor": "pass\x1b[A\x1b[2K\x1b[1Gfail\b\b\b\r",
        "link": "\x1b]8;;https://evil.test\x07x\x1b]8;;\x1b\\",
        "clipboard": "\x1b]52;c;cHduZWQ=\x07",
        "title": "\x1b]0;pwned\x07\x1b]2;pwned",
        "C1": "\x9b31mx\x9d8;;https://evil.test\x9cy\x90q\x9c",
        "character set": "\x1b(0\x0e\x0f\x1bc\x1b#8",
        "bell": "\x07\x05\x7f",
    },
    "bidi": {
        "override": "user\u202enimda\u202c",
        "isolates": "a\u2066b\u2067c\u2068d\u2069",
        "marks": "\u200ea\u200fb\u061cc\u202ad\u202be",
        "zero width": "p\u200bas\u200cs\u200d\u2060\ufeff\u00ad\u180e",
        "tags": "x\U000e0001\U000e0041\U000e0042\U000e007f",
        "variation": "x\U000e0100\U000e01ef",
        "annotation": "a\ufff9b\ufffac\ufffb",
        "line ends": "a\u2028::error::pwned\u2029b\x85::error::pwned\x0b\x0cc",
        "only unseen": "\u200b\u2060\u202e",
    },
    "normalisation": {
        "NFC and NFD": "caf\u00e9 cafe\u0301",
        "compatible": "\ufb01 \u00b2 \u2460 \u212b \u0132 \u017f \u212a",
        "fullwidth": "\uff1cscript\uff1e \uff5c \uff20org \uff03\uff11 \uff1a\uff1aerror\uff1a\uff1ax",
        "homoglyph": "\u0440\u0430ss \u0391gent \u2215 \u2024\u2024 \u01c3",
        "digits": "\u0661\u0662 \uff11\uff12 \U0001d7d8",
        "case": "\u0130\u0131 \u00df \u1e9e",
        "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    },
    "control": {
        "nul": "a\0b",
        "all": "".join(map(chr, range(32))) + "".join(map(chr, range(127, 160))),
        "surrogates": "\ud800a\udfff",
        "escaped byte": "caf\udce9",
        "noncharacters": "\ufffe\uffff\U0001fffe\U0010ffff",
        "private": "\ue000\U000f0000",
    },
    "length": LENGTHS,
}
"""Texts by class and what each tries; they may stand wherever a file in JSON may hold a text."""

FILTERS = {
    "mention": r"(?<![\w/])@[a-z0-9]",
    "issue": r"(?<!&)#\d|\bGH-\d",
    "commit": r"\b[0-9a-f]{7,40}\b",
    "advisory": r"\b(?:CVE-\d|GHSA-)",
    "address": r"\b(?:https?|ftp|mailto|xmpp|javascript|data|file):|\bwww\.",
    "emoji": r":[\w+-]+:",
    "mathematics": r"\$[^\s\d]",
}
"""What GitHub looks for in the text of a rendered page outside of `code`, `pre` and `a`."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
"""What nobody sees, or what moves what one sees."""

ANNOTATION = re.compile(r"::(error|warning|notice)( [^:]*)?::(?!pwned)")


def run(place: Path, *args: str, env: Mapping[str, str], codes: tuple[int, ...] = (0, 1, 2)) -> Done:
    """`gatehouse ARGS` in `place`; it must obey nothing of what it was given, and end with one of `codes`.

    Whatever a payload starts makes the file `pwned` in `place`; there is no way to the network.
    """
    runner._annotated.clear()
    canary, dead = place / "pwned", "http://127.0.0.1:9"
    own = {"CANARY": str(canary), "GITHUB_ACTIONS": "true", "HTTPS_PROXY": dead, "https_proxy": dead}
    done = call(place, *args, env=own | dict(env))
    said = done.out + done.err
    assert "Traceback" not in said, said[-2000:]
    assert not canary.exists()
    assert done.code in codes, said[-2000:]
    harmless(said)
    return done


def harmless(said: str) -> None:
    """Assert that neither a terminal nor a runner obeys anything in what was printed but our annotations."""
    hidden = HIDDEN.findall(said)
    assert not hidden, hidden
    strange = [line[:200] for line in obeyed(said) if not ANNOTATION.match(line)]
    assert not strange, strange


def obeyed(said: str) -> Iterator[str]:
    """The lines that a runner takes for commands."""
    token = ""
    for line in said.splitlines():
        if token:
            token = "" if line.strip() == f"::{token}::" else token
        elif line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif line.lstrip().startswith("::") or "##[" in line:
            yield line


def inert(markdown: str) -> str:
    """Assert that nothing hostile is live in Markdown that GitHub shows; its text outside of code."""
    assert not HIDDEN.search(markdown), HIDDEN.findall(markdown)
    page = page_of(markdown)
    assert not {"img", "script"} & {tag.split(" ")[0] for tag in page.tags}, page.tags
    assert not [tag for tag in page.tags if tag.startswith("/") or tag == "unclosed"], page.tags
    leads = re.findall(r'(?:href|src)="([^"]*)"', render(markdown))
    assert not [address for address in leads if "evil" in address], leads
    prose = "".join(page.prose)
    assert "@everyone" not in prose
    assert "evil" not in prose
    return prose


def everything(keep: Container[str] = CLASSES) -> list[str]:
    """Every text of these classes."""
    return [text for name in CLASSES if name in keep for text in CLASSES[name].values()]


def shape(page: Page) -> list[str]:
    """The elements of a page, in order, but those that make a text literal."""
    return [tag for tag in page.tags if tag != "code"]


def acted_on(page: Page) -> list[str]:
    """What GitHub's own filters would act on in the page's text outside of code."""
    text = "\n".join(page.prose)
    return [name for name, pattern in FILTERS.items() if re.search(pattern, text, re.IGNORECASE)]


def commands_in(said: str) -> list[tuple[str, dict[str, str], str]]:
    """The workflow commands that a runner obeys in what was printed: name, properties, message.

    As the runner reads them (actions/runner, ActionCommand.cs); `stop-commands` and its end are left out.
    """
    return [_parsed(line.lstrip()) for line in obeyed(said)]


def _parsed(line: str) -> tuple[str, dict[str, str], str]:
    head, _, message = line.removeprefix("::").partition("::")
    name, _, listed = head.partition(" ")
    given = dict(pair.split("=", 1) for pair in listed.split(",") if pair)
    return name, {key: _unescaped(value) for key, value in given.items()}, _unescaped(message)


def _unescaped(value: str) -> str:
    codes = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}
    return re.sub("%(?:0D|0A|3A|2C|25)", lambda found: codes[found[0]], value)


def outputs_in(text: str) -> dict[str, str]:
    """The outputs that a runner reads from GITHUB_OUTPUT (actions/runner, FileCommandManager.cs)."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        name, block, end = line.partition("<<")
        if block and "=" not in name:
            value = []
            for inner in lines:
                if inner == end:
                    break
                value.append(inner)
            found[name] = "\n".join(value)
        elif line:
            name, _, found_value = line.partition("=")
            found[name] = found_value
    return found


def ref_of(text: str) -> str:
    """The nearest that git takes for a part of a ref's name (git-check-ref-format), at most 150 bytes."""
    clean = re.sub(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//", "", text).replace(".lock", "").replace("/", "")
    encoded = clean.encode(errors="surrogateescape")[:150]
    return encoded.decode(errors="ignore").strip("/.") or "x"


def table(
    fields: Iterable[str],
    but: Iterable[tuple[str, str]] = (),
    kinds: Iterable[str] = KINDS,
) -> list[Any]:
    """Each field with each class of text, but some."""
    left_out = set(but)
    return [
        pytest.param(field, kind, id=f"{field}-{kind}")
        for field in fields
        for kind in kinds
        if (field, kind) not in left_out
    ]
