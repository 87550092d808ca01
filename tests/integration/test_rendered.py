"""The comment as people see it: GitHub's dialect rendered by its own parser, shown by a real browser."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from gatehouse.report.scorecard import Card, markdown
from tests.integration.test_hostile_fields import HEAD, RUN, cards, full
from tests.support.hostile import CLASSES
from tests.support.markdown import render
from tests.support.verdicts import cost_json, eval_json, failing_case
from tools.bootstrap import find_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STYLE = """
body { font: 14px/1.5 sans-serif; width: 860px; margin: 20px; }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
td, th { border: 1px solid #d1d9e0; padding: 6px 13px; }
pre, code { background: #f6f8fa; font: 12px monospace; }
pre { padding: 16px; overflow: auto; }
"""
"""What GitHub's own style sheet makes of tables and code (github-markdown-css)."""

PROBE = """
window.addEventListener("load", () => {
  const all = (what) => [...document.querySelectorAll(what)];
  all("details").forEach((fold) => { fold.open = true; });
  const right = (e) => e.getBoundingClientRect().right;
  const wide = all("#comment *").filter((e) => right(e) > 881 && !e.closest("pre, table"));
  const rows = all("table").map((t) => [...t.rows].map((r) => r.cells.length).join());
  const box = document.getElementById("comment").getBoundingClientRect();
  document.getElementById("found").textContent = JSON.stringify({
    title: document.title, rows, wide: wide.length, width: Math.round(box.width),
    names: [...new Set(all("#comment *").map((e) => e.localName))].sort(),
    links: all("#comment a").map((a) => a.href),
    fixed: all("#comment *").filter((e) => getComputedStyle(e).position !== "static").length,
    hidden: all("#comment *").filter((e) => getComputedStyle(e).display === "none").length,
  });
});
"""


class Site(BaseHTTPRequestHandler):
    """One page, and a note of everything else that is asked for."""

    page = ""
    asked: list[str] = []  # noqa: RUF012 one for the server, as handlers come and go

    def do_GET(self) -> None:
        """The page under its own name, nothing under any other."""
        self.asked.append(self.path)
        body = self.page.encode() if self.path == "/" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def shown(site: str, folder: Path, text: str, name: str = "") -> dict[str, object]:
    """What a browser makes of this comment, with a picture of it; every host leads to the page's server."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine: install one, such as Debian's chromium")
    Site.asked.clear()
    Site.page = (
        f"<!doctype html><title>untouched</title><style>{STYLE}</style><script>{PROBE}</script>"
        f'<div id="comment">{render(text)}</div><pre id="found"></pre>'
    )
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=920,6000", "--virtual-time-budget=1000"),
        "--disable-features=NetworkTimeServiceQuerying",
        f"--host-resolver-rules=MAP * {site.split('/')[2]}",
        f"--screenshot={folder / f'{name}comment.png'}",
    ]
    done = subprocess.run(
        [program, *flags, "--dump-dom", site],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"HOME": str(folder), "http_proxy": "", "https_proxy": ""},
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    result: dict[str, object] = json.loads(html.unescape(found[1]))
    return result


ELEMENTS = {
    *("a", "br", "code", "details", "h3", "h4", "li", "p", "pre", "strong", "sub", "summary"),
    *("table", "tbody", "td", "th", "thead", "tr", "ul"),
}


def test_a_hostile_comment_in_a_browser(site: str, tmp_path: Path) -> None:
    """No script ran, nothing was asked for, the tables are whole, and nothing lies over the text."""
    every = [text for name, group in CLASSES.items() if name != "length" for text in group.values()]
    cases = [
        failing_case(
            text,
            input=text,
            expected=text,
            got=text,
            reasons={text: text, "tool_calls": text},
            tool_calls=text,
        )
        for text in every
    ]
    wide = eval_json(state="fail", reason="\n".join(every), failing=len(cases), failing_cases=cases)
    several = [Card("hostile", wide, cost_json()), *(cards(full("".join(g.values())))[0] for g in groups())]
    found = shown(site, tmp_path, markdown(several, run_url=RUN, head=HEAD, limit=600_000))
    assert found["title"] == "untouched"
    assert set(found["names"]) <= ELEMENTS  # type: ignore[call-overload]
    assert found["links"] == [RUN]
    assert (found["wide"], found["fixed"], found["hidden"]) == (0, 0, 0)
    assert set(",".join(found["rows"]).split(",")) == {"3", "5"}  # type: ignore[arg-type]
    assert [path for path in Site.asked if path not in ("/", "/favicon.ico")] == []


def groups() -> list[dict[str, str]]:
    """The classes of short texts."""
    return [group for name, group in CLASSES.items() if name != "length"]


def test_the_probe_sees_what_is_live(site: str, tmp_path: Path) -> None:
    """Unescaped, such texts ask, run and link: the test above would tell of each."""
    live = "<img src=http://evil.test/x onerror=\"document.title='pwned'\">\n\nhttps://evil.test/"
    found = shown(site, tmp_path, live)
    assert found["title"] == "pwned"
    assert "img" in found["names"]  # type: ignore[operator]
    assert "https://evil.test/" in found["links"]  # type: ignore[operator]
    assert "/x" in Site.asked
