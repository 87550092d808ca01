"""Git in one folder, isolated from its user's settings; a token reaches it by environment, never by argv."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from typing import TYPE_CHECKING

from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BOT = "github-actions[bot]"
_BOT_EMAIL = "41898282+github-actions[bot]@users.noreply.github.com"
"""GitHub's own account and address for what a workflow commits."""

_TIMEOUT = 300
"""Seconds for one call; a fetch of a large history is the longest."""


class GitError(InfrastructureError):
    """A call of git that failed; `stderr` is all that it said."""

    def __init__(self, args: tuple[str, ...], stderr: str) -> None:
        self.stderr = stderr
        super().__init__(f"`git {plain(' '.join(args), 200)}` failed: {plain(stderr, 2000).strip()}")


class PushRefusedError(GitError):
    """The server, a rule of a branch, or a lease refused the push; nothing of it was taken."""


class Git:
    """Git in `folder`. With `token`, requests to `server_url` carry it instead of what a checkout left.

    Hooks and settings of the user are left out: a hook or an alias must not change what a release does.
    """

    def __init__(self, folder: Path, *, token: str = "", server_url: str = "") -> None:
        self.folder = folder
        self._token = token
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "SSL" in name
        }
        settings = [("core.hooksPath", os.devnull), ("safe.directory", "*"), ("commit.gpgSign", "false")]
        settings += [("tag.gpgSign", "false"), ("gc.auto", "0"), ("core.quotePath", "false")]
        if token:
            header = f"http.{server_url.rstrip('/')}/.extraheader"
            basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            # The empty value drops a header that actions/checkout left: two of them are refused.
            settings += [(header, ""), (header, f"AUTHORIZATION: basic {basic}")]
        self.environment = kept | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": _BOT,
            "GIT_AUTHOR_EMAIL": _BOT_EMAIL,
            "GIT_COMMITTER_NAME": _BOT,
            "GIT_COMMITTER_EMAIL": _BOT_EMAIL,
            "LC_ALL": "C",  # its messages are read
            "GIT_CONFIG_COUNT": str(len(settings)),
            **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(settings)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(settings)},
        }

    def __call__(self, *args: str) -> str:
        """What git prints, less the last newline; raises GitError."""
        return self.run(*args).removesuffix("\n")

    def run(self, *args: str) -> str:
        """What git prints, as it is; raises GitError."""
        try:
            done = subprocess.run(
                ["git", *args],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except OSError as error:
            raise InfrastructureError(f"git could not be started: {error}") from None
        except subprocess.TimeoutExpired:
            raise GitError(args, f"no end after {_TIMEOUT} s") from None
        if done.returncode:
            # Why a ref was refused stands on stdout, what the server said about it on stderr.
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise GitError(args, said.replace(self._token, "***") if self._token else said)
        return done.stdout.decode(errors="surrogateescape")

    def lines(self, *args: str) -> list[str]:
        """The lines that git prints; U+2028 and the like, which a ref's name may hold, end none."""
        return self.run(*args).split("\n")[:-1]

    def commit(self, ref: str) -> str | None:
        """The full hash of the commit that `ref` names; None where there is none."""
        return self._parsed(f"{ref}^{{commit}}")

    def tree(self, ref: str) -> str | None:
        """The full hash of the tree of the commit that `ref` names; None where there is none."""
        return self._parsed(f"{ref}^{{tree}}")

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether the commit `ancestor` is `descendant` or in its history; both must exist."""
        return self("rev-list", "--max-count=1", "--end-of-options", ancestor, f"^{descendant}") == ""

    def show(self, ref: str, path: str) -> str | None:
        """The text of the file `path` at the commit `ref`, newlines as they are; None where there is none."""
        try:
            return self.run("cat-file", "blob", f"{ref}:{path}")
        except GitError:
            return None

    def text(self, ref: str, path: str, left: str) -> str | None:
        """As `show`; raises UserError, with what is `left`, where the file is no UTF-8.

        GitHub takes nothing else for the text of a pull request or a release.
        """
        text = self.show(ref, path)
        for number, line in enumerate((text or "").split("\n"), 1):
            if found := re.search("[\udc80-\udcff]", line):
                message = f"not UTF-8: the byte 0x{ord(found[0]) - 0xDC00:02x}"
                raise UserError(Problem(message, path, number, repair="Save the file in UTF-8."), left=left)
        return text

    def tags(self) -> list[str]:
        """The names of all tags of this clone."""
        return self.lines("tag", "--list")

    def is_shallow(self) -> bool:
        """Whether this clone lacks a part of its history."""
        return self("rev-parse", "--is-shallow-repository") == "true"

    def remote_refs(self, *patterns: str) -> dict[str, str]:
        """The refs of `origin` that match (all for none) with their hashes; raises GitError.

        A pattern is a ref's full name, or how it begins with `*` after it. A tag object's own hash is
        replaced by that of the commit it points to.
        """
        refs = {}
        for line in self.lines("ls-remote", "origin", *patterns):
            commit, _, name = line.partition("\t")
            # git also lists what only ends like it: refs/notes/refs/heads/x.
            if not patterns or any(_matches(name, pattern) for pattern in patterns):
                refs[name] = commit
        peeled = {name.removesuffix("^{}"): commit for name, commit in refs.items() if name.endswith("^{}")}
        return {name: commit for name, commit in refs.items() if not name.endswith("^{}")} | peeled

    def push(self, *refspecs: str, lease: Mapping[str, str] | None = None) -> None:
        """Push to `origin`, all refs or none; raises PushRefusedError where a rule or a lease says no.

        `lease` maps a ref to the hash that it must have on the server, "" for a ref that must not exist yet.
        """
        leases = [f"--force-with-lease={ref}:{expected}" for ref, expected in (lease or {}).items()]
        try:
            self("push", "--porcelain", "--atomic", "--no-verify", *leases, "origin", *refspecs)
        except GitError as error:
            if re.search(r"rejected|stale info|\bGH0\d\d\b|pre-receive hook declined|denied", error.stderr):
                raise PushRefusedError(("push", *refspecs), error.stderr) from None
            raise

    def _parsed(self, name: str) -> str | None:
        try:
            return self("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        except GitError:
            return None


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
