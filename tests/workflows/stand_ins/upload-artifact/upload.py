"""Finds and lays out files as actions/upload-artifact does."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

FORBIDDEN = '":<>|*?\r\n'
"""Characters that the service refuses in a file's path; in a name also / and \\."""


def pattern(text: str) -> re.Pattern[str]:
    """A glob that matches itself and everything below, `**` any number of folders."""
    expression = ""
    for part in Path(text).parts:
        if part == "**":
            expression += "(/[^/]+)*"
            continue
        segment = re.sub(r"\\\*", "[^/]*", re.escape(part.strip("/"))).replace(r"\?", "[^/]")
        expression += f"/{segment}" if segment else ""
    return re.compile(expression + "(/.*)?")


def search_path(text: str) -> Path:
    """The part of a pattern before its first wildcard."""
    parts = Path(text).parts
    literal = [i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)]
    return Path(*parts[: literal[0]]) if literal else Path(text)


def below(path: Path, *, hidden: bool) -> list[Path]:
    """The files below a path, or the path itself; what begins with a dot only with `hidden`."""
    # The real one looks at the last name only: `.gatehouse/agent` is searched, `.gatehouse` is not.
    if not path.exists() or (path.name.startswith(".") and not hidden):
        return []
    if path.is_dir():
        return [file for child in sorted(path.iterdir()) for file in below(child, hidden=hidden)]
    return [path]


def find(lines: list[str], workspace: Path, *, hidden: bool) -> tuple[list[Path], Path]:
    """The files that the lines of `path` name, and the folder that becomes the artifact's root."""
    lines = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    include = [os.path.normpath(workspace / line) for line in lines if not line.startswith("!")]
    exclude = [os.path.normpath(workspace / line[1:].strip()) for line in lines if line.startswith("!")]
    searched = list(dict.fromkeys(map(search_path, include)))
    searched = [path for path in searched if not any(other in path.parents for other in searched)]
    files = [
        file
        for path in searched
        for file in below(path, hidden=hidden)
        if any(pattern(text).fullmatch(str(file)) for text in include)
        and not any(pattern(text).fullmatch(str(file)) for text in exclude)
    ]
    if len(searched) > 1:
        return files, Path(os.path.commonpath(searched))
    return files, searched[0].parent if files == searched else searched[0]


def say(text: str) -> None:
    """Write a line to the step's log."""
    sys.stdout.write(text.replace("\n", " ") + "\n")


def main() -> None:
    """Copy the files to the run's folder of artifacts."""
    name = os.environ["IN_NAME"]
    lines, workspace = os.environ["IN_PATH"].split("\n"), Path(os.environ["GITHUB_WORKSPACE"])
    files, root = find(lines, workspace, hidden=os.environ["IN_HIDDEN"] == "true")
    if not files:
        level = {"warn": "::warning::", "error": "::error::"}.get(os.environ["IN_NONE"], "")
        say(f"{level}No files were found with the provided path: {os.environ['IN_PATH']}")
        sys.exit(os.environ["IN_NONE"] == "error")
    for path, bad in [(name, FORBIDDEN + "/\\"), *((str(file), FORBIDDEN) for file in files)]:
        if set(path) & set(bad):
            sys.exit(f"::error::The artifact's name or path is not valid: {path!r}")
    target = Path(os.environ["STAND_INS_ARTIFACTS"], name)
    if target.exists():
        if os.environ["IN_OVERWRITE"] != "true":
            sys.exit(f"::error::Conflict: an artifact with the name {name} already exists")
        shutil.rmtree(target)
    digest = hashlib.sha256()
    for file in files:
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)  # contents only: the real one keeps no modes
        digest.update(file.read_bytes())
    say(f"Uploaded {len(files)} files as {name}")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
        number = len(list(target.parent.iterdir()))
        outputs.write(f"artifact-id={number}\nartifact-digest={digest.hexdigest()}\n")
        outputs.write(f"artifact-url={os.environ['GITHUB_SERVER_URL']}/artifacts/{number}\n")


if __name__ == "__main__":
    main()
