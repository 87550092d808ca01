"""Branch protection and rulesets: what they refuse, in GitHub's words; as a program, git's `update` hook.

git runs this file by itself for every ref that a push would move, so it imports the standard library only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

RULES = "gatehouse-rules.json"
"""The rules, in the bare repository."""

NOWHERE = "0" * 40
"""The hash that stands for no commit."""


@dataclass(frozen=True)
class Rule:
    """What is refused for refs that match `pattern` ("refs/heads/release/*").

    `ruleset`: it is GitHub's newer kind of rule, which speaks otherwise. `require_pull`: changes come by pull
    requests only. These need `approvals` and passed `checks`. `frozen`: a ref once made is never moved.
    `bypass` are logins for whom none of it holds.
    """

    pattern: str
    ruleset: bool = False
    require_pull: bool = True
    approvals: int = 0
    checks: tuple[str, ...] = ()
    allow_force: bool = False
    allow_delete: bool = False
    frozen: bool = False
    bypass: tuple[str, ...] = ()

    def refuses(self, login: str, ref: str, old: str, new: str, *, forced: bool) -> str:
        """Why a push may not move `ref`, "" where it may."""
        if not matches(self.pattern, ref) or login in self.bypass or old == NOWHERE:
            return ""
        if new == NOWHERE:
            return "" if self.allow_delete else f"Cannot delete this {self._kind(ref)}"
        if self.frozen:
            return "Cannot update this protected ref."
        if forced and not self.allow_force:
            return "Cannot force-push to this branch"
        return "Changes must be made through a pull request." if self.require_pull else ""

    def told(self, ref: str, reason: str, address: str) -> str:
        """What git shows of a refusal; `address` is the repository's."""
        if not self.ruleset:
            return f"error: GH006: Protected branch update failed for {ref}.\n\n- {reason}"
        rules = f"{address}/rules?ref={quote(ref, safe='')}"
        head = f"error: GH013: Repository rule violations found for {ref}.\nReview all repository rules at "
        return f"{head}{rules}\n\n- {reason}\n"

    def _kind(self, ref: str) -> str:
        return "branch" if ref.startswith("refs/heads/") else "protected ref."


def matches(pattern: str, name: str) -> bool:
    """Whether a name follows GitHub's pattern: `*` stops at a slash, `**` does not, `?` is one character."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern)
    known = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return bool(re.fullmatch("".join(known.get(part, re.escape(part)) for part in parts), name))


def read(repository: Path) -> list[Rule]:
    """The rules of a bare repository."""
    file = repository / RULES
    rules: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.exists() else []
    return [
        Rule(**(rule | {"checks": tuple(rule["checks"]), "bypass": tuple(rule["bypass"])})) for rule in rules
    ]


def write(repository: Path, rules: list[Rule], address: str) -> None:
    """Keep the rules in a bare repository, with the hook that enforces them; `address` is its page."""
    (repository / RULES).write_text(json.dumps([asdict(rule) for rule in rules]), "utf-8")
    hook = repository / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    quoted = ["'" + part.replace("'", "'\\''") + "'" for part in (sys.executable, __file__, address)]
    hook.write_text('#!/bin/sh\nexec {} -I -S {} {} "$@"\n'.format(*quoted), "utf-8")
    hook.chmod(0o755)  # git ignores a hook that cannot be run, without a word


def add(repository: Path, rule: Rule, address: str) -> None:
    """One rule more."""
    write(repository, [*read(repository), rule], address)


def drop(repository: Path, pattern: str, address: str) -> None:
    """Take back the rules of exactly this pattern."""
    write(repository, [rule for rule in read(repository) if rule.pattern != pattern], address)


def main() -> int:
    """Judge one ref, as git's `update` hook: address, ref, old and new hash as arguments."""
    address, ref, old, new = sys.argv[1:]
    forced = False
    if NOWHERE not in (old, new):
        forced = subprocess.run(["git", "merge-base", "--is-ancestor", old, new], check=False).returncode != 0
    for rule in read(Path(os.environ.get("GIT_DIR", "."))):
        if reason := rule.refuses(os.environ.get("REMOTE_USER", ""), ref, old, new, forced=forced):
            print(rule.told(ref, reason, address), file=sys.stderr)  # noqa: T201 git hands it to the client
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
