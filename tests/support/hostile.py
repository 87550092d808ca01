"""Hostile text of every class, and what has to be true of whatever a command made of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.github import runner
from tests.support.markdown import page_of, render
from tests.support.projects import Done, call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
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
