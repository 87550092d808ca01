"""Fetches a commit as actions/checkout does: by hash, shallow, the token in a header and removed again."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path


def git(folder: Path, *args: str) -> str:
    """Run git in `folder`; its error text goes to the log and a failure ends the step."""
    return subprocess.run(
        ["git", *args], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def wanted(repository: str, ref: str) -> tuple[str, str]:
    """What to fetch, and the ref to fetch it to."""
    if not ref and repository == os.environ["GITHUB_REPOSITORY"]:
        source, ref = os.environ["GITHUB_SHA"], os.environ["GITHUB_REF"]
    else:
        source = ref or "HEAD"
    if ref.startswith("refs/pull/"):
        return source, ref.replace("refs/pull/", "refs/remotes/pull/")
    if ref.startswith("refs/tags/"):
        return source, ref
    return source, "refs/remotes/origin/" + (ref.removeprefix("refs/heads/") or "HEAD")


def holds(folder: Path, target: str, source: str) -> bool:
    """Whether the ref `target` is there, and at the commit `source` where that is a hash."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{target}^{{commit}}"]
    found = subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()
    return bool(found) and (found == source or not re.fullmatch("[0-9a-f]{40}", source))


def main() -> None:
    """Check out into the workspace what the inputs say."""
    given = {key.removeprefix("IN_"): value for key, value in os.environ.items() if key.startswith("IN_")}
    workspace = Path(os.environ["GITHUB_WORKSPACE"])
    folder = workspace / given["PATH"]
    if not folder.resolve().is_relative_to(workspace.resolve()):
        raise SystemExit(f"Repository path '{folder}' is not under '{workspace}'")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        for item in folder.iterdir():  # as the real one: what lies there is removed
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        git(folder, "init", "--quiet", "--initial-branch=main")
    elif given["CLEAN"] == "true":
        git(folder, "clean", "-ffdx")
    server = os.environ["GITHUB_SERVER_URL"]
    git(folder, "config", "remote.origin.url", f"{server}/{given['REPOSITORY']}")
    basic = base64.b64encode(f"x-access-token:{given['TOKEN']}".encode()).decode()
    header = f"http.{server}/.extraheader"
    git(folder, "config", header, f"AUTHORIZATION: basic {basic}")
    source, target = wanted(given["REPOSITORY"], given["REF"])
    whole = given["FETCH_DEPTH"] == "0"
    if whole:
        git(folder, "fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
    # As the real one: with the whole history this is needed only where the ref has moved on, or is a merge.
    if not whole or not holds(folder, target, source):
        depth = [] if whole else [f"--depth={given['FETCH_DEPTH']}"]
        git(folder, "fetch", "--quiet", "--no-tags", *depth, "origin", f"+{source}:{target}")
    branch = re.sub("^refs/remotes/origin/", "", target)
    if branch not in (target, "HEAD") and not re.fullmatch("[0-9a-f]{40}", branch):
        git(folder, "checkout", "--quiet", "--force", "-B", branch, target)
    else:
        git(folder, "checkout", "--quiet", "--force", "--detach", target)
    if given["PERSIST"] != "true":
        git(folder, "config", "--unset-all", header)
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
        outputs.write(f"ref={given['REF']}\ncommit={git(folder, 'rev-parse', 'HEAD')}\n")


if __name__ == "__main__":
    main()
