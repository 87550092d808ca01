"""The fault harness itself, and what it finds of `gatehouse tag-release`."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.github import GitHub
from tests.integration.test_tag_release import Prepared, cut, dispatched
from tests.support.faults import World, play_faults
from tests.support.repositories import NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CAREFUL = """
import sys, urllib.request as web
def call(method, path):
    with web.urlopen(web.Request(sys.argv[1] + path, method=method)) as reply:
        return reply.read().decode()
try:
    for name in ("branch", "tag"):
        if name not in call("GET", "/").split():
            call("POST", "/" + name)
except OSError as error:
    print(error)
    sys.exit(3)
"""
"""A program that looks before it acts."""

CARELESS = CAREFUL.replace('if name not in call("GET", "/").split()', 'if call("GET", "/") is not None')
RUDE = CAREFUL.replace("except OSError as error", "except KeyError as error")


class Shelf:
    """A stand-in that keeps what is put on it, one thing as often as it is put there."""

    def __init__(self) -> None:
        self.things: list[str] = []
        self.effects: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self.on_effect: Callable[[str], None] | None = None
        self._lost = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may be killed
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def lose(self, n: int) -> None:
        """Lose the reply to the n-th request from now."""
        self._lost = len(self.calls) + n

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def do_GET(self) -> None:
                shelf.calls.append((self.command, self.path))
                if self.command == "POST":
                    shelf.things.append(self.path[1:])
                    shelf.effects.append(f"POST {self.path}")
                    if shelf.on_effect:
                        shelf.on_effect(shelf.effects[-1])
                if len(shelf.calls) != shelf._lost:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(" ".join(shelf.things).encode())

            do_POST = do_GET  # noqa: N815 a name that the base class calls

        return Handler


def shelf_world(program: str) -> Callable[[Path], Any]:
    """How to make a world of one shelf and a program that acts on it."""

    @contextmanager
    def make(folder: Path) -> Iterator[World]:
        shelf = Shelf()
        try:
            yield World([shelf.url], folder, [shelf], program=(sys.executable, "-c", program), extra=shelf)
        finally:
            shelf.close()

    return make


def things(world: World) -> list[str]:
    """What lies on the shelf."""
    found: list[str] = world.extra.things
    return found


def test_every_effect_and_request_is_disturbed(tmp_path: Path) -> None:
    """The harness finds effects and requests by itself, and a program that looks first passes."""
    played = play_faults(shelf_world(CAREFUL), things, tmp_path)
    assert played.effects == ["POST /branch", "POST /tag"]
    assert played.calls == [4]
    assert played.state == ["branch", "tag"]


def test_a_program_that_acts_twice_is_found(tmp_path: Path) -> None:
    """A program that does not look first ends elsewhere when it is run again."""
    with pytest.raises(AssertionError, match="a second run ends elsewhere"):
        play_faults(shelf_world(CARELESS), things, tmp_path)


def test_a_program_that_loses_its_way_is_found(tmp_path: Path) -> None:
    """A traceback in a disturbed run is a failure, as is an exit code of its own."""
    with pytest.raises(AssertionError, match="4 of 6 faults") as failed:
        play_faults(shelf_world(RUDE), things, tmp_path)
    assert str(failed.value).count("Traceback") == 4


def test_what_only_a_lost_reply_shows_is_found(tmp_path: Path) -> None:
    """A program that looks once, before everything, and is killed in between is told by its effect."""
    once = CAREFUL.replace("    for name in", '    if call("GET", "/"): sys.exit(0)\n    for name in')
    with pytest.raises(AssertionError, match=r"kill 1 \(POST /branch\): the second run ends elsewhere"):
        play_faults(shelf_world(once), things, tmp_path)


def tagged(world: World) -> dict[str, Any]:
    """The tag, and what was started on it."""
    repo: ReleaseRepository = world.extra
    return {
        "tagged": repo.head("refs/tags/v1.2.0") == repo.head("main"),
        "refs": sorted(repo.refs()),
        "started": dispatched(repo.gh),
        "runs": [(run["name"], run["head_branch"]) for run in repo.gh.runs(NAME)],
        "outputs": {name: value for name, value in repo.outputs().items() if name != "commit"},
    }


def test_tag_release_can_be_run_again_after_every_fault(tmp_path: Path) -> None:
    """However tag-release was disturbed, a second run leaves one tag at the merge and one run on it."""
    with GitHub(tmp_path / "github") as github:
        cut(ReleaseRepository(github, tmp_path / "repository"))

    @contextmanager
    def make(folder: Path) -> Iterator[World]:
        """A release pull request that was merged, and the command that tags it."""
        with GitHub(folder / "github") as gh:
            repo = Prepared(gh, folder / "repository", tmp_path / f"github/{NAME}.git")
            gh.open_pull(NAME, "release/v1.2.0", "main", "Release v1.2.0")
            repo.green("release/v1.2.0", "staging.yml")
            gh.merge_pull(NAME, 1)
            yield World(
                ["tag-release"], repo.folder, [gh], repo.environment(ref="refs/heads/main"), extra=repo
            )

    played = play_faults(make, tagged, tmp_path)
    assert [effect.rpartition("/")[2] for effect in played.effects] == ["refs", "dispatches"]
    assert played.state["started"] == [("release.yml", "v1.2.0")]
