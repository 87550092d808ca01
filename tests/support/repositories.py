"""A Python package's repository in the GitHub stand-in, on its way from develop to a release."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

NAME = "acme/triage"
PERSON = "maintainer"
"""Who pushes in tests; somebody else than the job's own token."""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=80", "setuptools-scm>=10.3.4,<11"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-triage"
description = "Sorts what comes in"
requires-python = ">=3.11"
dynamic = ["version"]

[project.scripts]
acme-triage = "acme_triage:main"

[tool.setuptools]
packages = ["acme_triage"]

[tool.setuptools_scm]
local_scheme = "no-local-version"
tag.strict = true
"""

PACKAGE = '''\
"""Sorts what comes in."""

from importlib.metadata import version


def main() -> None:
    """Say the version."""
    print("acme-triage", version("acme-triage"))
'''

FIRST_CHANGELOG = """\
# Changelog

## [Unreleased]

## [0.1.0] - 2026-01-05

### Added

- Sort what comes in.

[Unreleased]: https://github.com/acme/triage/compare/v0.1.0...HEAD
[0.1.0]: https://github.com/acme/triage/releases/tag/v0.1.0
"""

ENTRIES = """\
### Added

- Sort by urgency.

### Fixed

- Empty messages are sorted too.

"""
"""What develop has under Unreleased."""

CHANGELOG = FIRST_CHANGELOG.replace("## [Unreleased]\n\n", f"## [Unreleased]\n\n{ENTRIES}")
"""The changelog on develop."""

_TRIGGERS = {
    "ci": "push: { branches: [develop, main] }\n  pull_request:",
    "agent-ci": "push: { branches: [develop, 'release/**'] }\n  pull_request:",
    "staging": "push: { branches: ['release/**'] }",
    "release": "push: { tags: ['v*'] }",
    "cut-release": "",
    "tag-release": "",
    "finish-release": "",
}
WORKFLOWS = {
    f"{name}.yml": f"name: {name}\non:\n  workflow_dispatch:\n"
    + (f"  {trigger}\n" if trigger else "")
    + "jobs:\n  work:\n    runs-on: ubuntu-latest\n    steps:\n      - run: 'true'\n"
    for name, trigger in _TRIGGERS.items()
}
"""Every workflow of the release train by file name, as a stub that starts on what the real one starts on."""


class ReleaseRepository:
    """`name` in the stand-in `gh`: main with the tag v0.1.0, develop one commit ahead with two new entries.

    `folder` holds the clones. What is committed and pushed here is a person's doing.
    """

    def __init__(self, gh: GitHub, folder: Path, name: str = NAME) -> None:
        self.gh, self.name, self.folder = gh, name, folder
        self._clones = 0
        folder.mkdir(parents=True, exist_ok=True)
        seed = folder / "seed"
        seed.mkdir()
        git(seed, "init", "--quiet", "--initial-branch=main")
        files = {"pyproject.toml": PYPROJECT, "acme_triage/__init__.py": PACKAGE, ".gitignore": "dist/\n"}
        files |= {"README.md": "# acme-triage\n", "CHANGELOG.md": FIRST_CHANGELOG}
        files |= {f".github/workflows/{file}": text for file, text in WORKFLOWS.items()}
        write(seed, files)
        _commit(seed, "Sort what comes in")
        git(seed, "tag", "v0.1.0")
        git(seed, "switch", "--quiet", "--create", "develop")
        write(seed, {"CHANGELOG.md": CHANGELOG, "acme_triage/urgency.py": '"""Urgency."""\n'})
        _commit(seed, "Sort by urgency")
        gh.create_repository(name, seed)
        self.token = gh.token_of(PERSON, may_write=True)
        self._work = self.clone("develop", token=self.token)

    def clone(self, ref: str = "develop", *, token: str = "", depth: int = 0) -> Path:
        """A fresh clone with every branch and tag, `ref` checked out; without `token` it may only read."""
        self._clones += 1
        place = self.folder / f"clone-{self._clones}"
        only = [f"--depth={depth}"] if depth else []
        address = self.gh.clone_url(self.name, token)
        git(self.folder, "clone", "--quiet", *only, "--branch", ref, address, str(place))
        return place

    def commit(self, branch: str, files: Mapping[str, str | bytes | None], message: str = "A change") -> str:
        """Commit `files` (None deletes one) to `branch` and push it; the commit.

        A branch that does not exist yet begins at develop.
        """
        git(self._work, "fetch", "--quiet", "--prune", "origin")
        start = f"origin/{branch}" if self.head(branch) else "origin/develop"
        git(self._work, "switch", "--quiet", "--force-create", "work", start)
        write(self._work, files)
        _commit(self._work, message)
        git(self._work, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return git(self._work, "rev-parse", "HEAD")

    def push(self, source: str, ref: str) -> None:
        """Push a commit, branch or tag of the remote to the full name `ref`; "" for `source` deletes it."""
        git(
            self._work,
            "fetch",
            "--quiet",
            "--prune",
            "--tags",
            "origin",
            "+refs/heads/*:refs/remotes/origin/*",
        )
        commit = self.gh.git(self.name, "rev-parse", f"{source}^{{commit}}") if source else ""
        git(self._work, "push", "--quiet", "origin", f"{commit}:{ref}")

    def merge_pull(self, number: int, method: str = "merge") -> str:
        """Merge a pull request by "merge", "squash" or "rebase"; the commit that its base is at then."""
        return self.gh.merge_pull(self.name, number, method, login=PERSON)

    def head(self, ref: str) -> str:
        """The commit of a branch, or of a full ref name; "" where there is none."""
        full = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        return self.gh.git(self.name, "for-each-ref", "--format=%(objectname)", full)

    def refs(self) -> dict[str, str]:
        """Every branch and tag with its hash."""
        shown = self.gh.git(
            self.name, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"
        )
        return dict(line.split(" ") for line in shown.split("\n"))

    def show(self, ref: str, path: str) -> str:
        """A file's text at a ref, as the stand-in holds it."""
        return self.gh.git(self.name, "show", f"{ref}:{path}")

    def blob(self, branch: str, path: str) -> bytes:
        """A file's bytes at a branch, as a clone gets them."""
        git(self._work, "fetch", "--quiet", "origin", f"refs/heads/{branch}")
        command = ["git", "cat-file", "blob", f"FETCH_HEAD:{path}"]
        return subprocess.run(command, cwd=self._work, capture_output=True, check=True).stdout

    def green(self, branch: str = "develop", *workflows: str) -> None:
        """Let every run at the branch's head have passed, those workflows' (ci.yml by default) too."""
        head, ran = self.head(branch), set()
        for run in self.gh.runs(self.name):
            if run["head_sha"] == head:
                ran.add(run["path"].rpartition("/")[2])
                self.gh.finish_run(run["id"])
        for workflow in workflows or ("ci.yml",):
            if workflow not in ran:
                self.gh.add_run(self.name, workflow, head, branch)

    def environment(
        self,
        *,
        ref: str = "refs/heads/develop",
        event: str = "workflow_dispatch",
        payload: Mapping[str, Any] | None = None,
        token: str | None = None,
        sha: str = "",
    ) -> dict[str, str]:
        """The variables of a run in this repository; `token` is the job's own unless given."""
        files = {name: self.folder / name for name in ("event.json", "outputs", "summary.md")}
        files["event.json"].write_text(json.dumps(payload or {"repository": {"full_name": self.name}}))
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(files["event.json"]),
            "GITHUB_OUTPUT": str(files["outputs"]),
            "GITHUB_STEP_SUMMARY": str(files["summary.md"]),
            "GITHUB_REPOSITORY": self.name,
            "GITHUB_SHA": sha or self.head(ref),
            "GITHUB_REF": ref,
            "GITHUB_RUN_ID": "4711",
            "GITHUB_RUN_NUMBER": "7",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_SERVER_URL": self.gh.server_url,
            "GITHUB_API_URL": self.gh.api_url,
            "GITHUB_TOKEN": self.gh.token if token is None else token,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def outputs(self) -> dict[str, str]:
        """What the commands so far wrote as outputs; of one that was written twice the last."""
        values: dict[str, str] = {}
        path = self.folder / "outputs"
        lines = iter(path.read_text().splitlines() if path.exists() else [])
        for line in lines:
            name, _, end = line.partition("<<")
            values[name] = "\n".join(iter(lines.__next__, end))
        return values


def write(folder: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write files into a folder, newlines as they are; None deletes one."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)


def git(folder: Path, *args: str) -> str:
    """What git prints, less the last newline, under nobody's configuration; fails where git does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for who in ("AUTHOR", "COMMITTER"):
        own |= {f"GIT_{who}_NAME": PERSON, f"GIT_{who}_EMAIL": f"{PERSON}@acme.example"}
    done = subprocess.run(
        ["git", *args], cwd=folder, env=kept | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr or done.stdout}"
    return done.stdout.removesuffix("\n")


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
