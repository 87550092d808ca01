"""Git repositories as GitHub serves them: bare, over smart HTTP, with the refs of pull requests.

`refs/pull/N/head` and `refs/pull/N/merge` are what a workflow of a pull request checks out.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@example.com",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@example.com",
}
"""Variables under which git acts alike on every machine, whatever its user has configured."""


COMMITTER = {"GIT_COMMITTER_NAME": "GitHub", "GIT_COMMITTER_EMAIL": "noreply@github.com"}
"""Who commits what a merge on GitHub makes; a rebased commit is never the one that was pushed."""


@dataclass(frozen=True)
class GitRequest:
    """One request of a git client; `path` begins with `/OWNER/REPO.git/`, `user` is "" for nobody."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    user: str


class Reply(NamedTuple):
    """An HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes


class Origin:
    """Bare repositories in a folder, named OWNER/REPO."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the bare repository lies."""
        return self.folder / f"{name}.git"

    def create(self, name: str, source: Path | None, default_branch: str) -> None:
        """A bare repository: empty, or the branches and tags of `source`, or its files as first commit."""
        bare = self.path(name)
        bare.mkdir(parents=True)
        self.git(name, "init", "--quiet", "--bare", f"--initial-branch={default_branch}", ".")
        # As on GitHub, nobody pushes to the refs of pull requests.
        for key, value in (
            ("http.receivepack", "true"),
            ("receive.hideRefs", "refs/pull"),
            ("gc.auto", "0"),
        ):
            self.git(name, "config", key, value)
        if source and ((source / ".git").exists() or (source / "HEAD").exists()):
            everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            self.git(name, "fetch", "--quiet", str(source.resolve()), *everything)
        elif source:
            self.git(name, f"--work-tree={source.resolve()}", "add", "--all")
            self.git(name, f"--work-tree={source.resolve()}", "commit", "--quiet", "-m", "First commit")

    def git(self, name: str, *args: str) -> str:
        """What git prints in the repository; raises InfrastructureError with its error text."""
        return run_git(self.path(name), *args)

    def commit(self, name: str, ref: str) -> str | None:
        """The full hash that `ref` names, or None."""
        try:
            return self.git(name, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        except InfrastructureError:
            return None

    def value(self, name: str, ref: str) -> str | None:
        """The hash that `ref` itself holds, an annotated tag's own one too, or None."""
        return self.refs(name, ref).get(ref)

    def refs(self, name: str, *prefixes: str) -> dict[str, str]:
        """Every ref below the prefixes (all branches and tags for none) with what it holds, sorted."""
        listed = self.git(
            name,
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            *(prefixes or ("refs/heads", "refs/tags")),
        )
        return {ref: value for value, _, ref in (line.partition(" ") for line in listed.splitlines())}

    def is_ancestor(self, name: str, older: str, newer: str) -> bool:
        """Whether a commit is another one, or in its history."""
        try:
            self.git(name, "merge-base", "--is-ancestor", older, newer)
        except InfrastructureError:
            return False
        return True

    def file(self, name: str, commit: str, path: str) -> str | None:
        """The text of a file at a commit, or None."""
        try:
            return self.git(name, "show", f"{commit}:{path}")
        except InfrastructureError:
            return None

    def commit_tree(self, name: str, tree: str, parents: list[str], message: str, author: str) -> str:
        """Make a commit without a branch; `author` is NAME <EMAIL>."""
        options = [part for parent in parents for part in ("-p", parent)]
        who, _, address = author.rstrip(">").partition(" <")
        signed = {"GIT_AUTHOR_NAME": who, "GIT_AUTHOR_EMAIL": address, **COMMITTER}
        return run_git(self.path(name), "commit-tree", tree, *options, "-m", message, environment=signed)

    def rebase(self, name: str, base: str, head: str) -> str | None:
        """The commits of `head` that `base` lacks, made again on top of it; None where they conflict."""
        fork = self.git(name, "merge-base", base, head)
        return self._in_work_tree(name, head, "rebase", "--quiet", "--force-rebase", "--onto", base, fork)

    def take_head(self, name: str, number: int, head_repository: str, branch: str) -> str | None:
        """Set `refs/pull/NUMBER/head` to a branch, perhaps a fork's; the commit, or None where it is gone."""
        commit = self.commit(head_repository, f"refs/heads/{branch}")
        if commit:
            if head_repository != name:
                self.git(name, "fetch", "--quiet", str(self.path(head_repository).resolve()), commit)
            self.git(name, "update-ref", f"refs/pull/{number}/head", commit)
        return commit

    def take_merge(self, name: str, number: int, base: str, head: str) -> str | None:
        """Set `refs/pull/NUMBER/merge` to a merge of two commits; its hash, or None where they conflict."""
        message = f"Merge {head} into {base}"
        merge = self._in_work_tree(name, base, "merge", "--quiet", "--no-ff", "-m", message, head)
        ref = f"refs/pull/{number}/merge"
        self.git(name, "update-ref", *(("-d", ref) if merge is None else (ref, merge)))
        return merge

    def _in_work_tree(self, name: str, start: str, *command: str) -> str | None:
        """Where git stands after a command that began at `start`; None where it failed, as in a conflict."""
        with tempfile.TemporaryDirectory(prefix="work-", dir=self.folder) as scratch:
            tree = Path(scratch, "tree")
            # A work tree rather than `merge-tree --write-tree`, which git has only since 2.38.
            self.git(name, "worktree", "add", "--quiet", "--detach", str(tree), start)
            try:
                run_git(tree, *command, environment=COMMITTER)
                return run_git(tree, "rev-parse", "HEAD")
            except InfrastructureError:
                return None
            finally:
                self.git(name, "worktree", "remove", "--force", str(tree))

    def serve(self, request: GitRequest) -> Reply:
        """Answer a git client by git's own `http-backend`."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **NOBODY,
            "GIT_PROJECT_ROOT": str(self.folder.resolve()),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        }
        if request.user:
            environment["REMOTE_USER"] = request.user
        done = subprocess.run(
            ["git", "http-backend"], input=request.body, env=environment, capture_output=True, check=False
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0]) if head else 500
        return Reply(status, headers, body if head else done.stderr)


def run_git(folder: Path, *args: str, environment: Mapping[str, str] | None = None) -> str:
    """What git prints in `folder`, less the last newline; raises InfrastructureError with its error text.

    `environment` comes over NOBODY.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *args],
        cwd=folder,
        env={**kept, **NOBODY, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InfrastructureError(f"git {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
