"""Chooses and lays out artifacts as actions/download-artifact does."""

from __future__ import annotations

import os
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path


def main() -> None:
    """Copy the artifacts that the inputs name; a missing name fails, a pattern without match does not."""
    name, pattern = os.environ["IN_NAME"], os.environ["IN_PATTERN"]
    run = os.environ["IN_RUN"] if os.environ["IN_TOKEN"] else ""  # as the real one: without a token, this run
    if os.environ["IN_IDS"]:
        sys.exit("::error::The stand-in downloads by name or pattern only")
    kept = Path(os.environ[f"STAND_INS_ARTIFACTS_OF_{run}" if run else "STAND_INS_ARTIFACTS"])
    target = Path(os.environ["GITHUB_WORKSPACE"], Path(os.environ["IN_PATH"]).expanduser())
    found = sorted(path.name for path in kept.iterdir())
    if name and name not in found:
        sys.exit(f"::error::Unable to download artifact(s): Artifact not found for name: {name}")
    chosen = [name] if name else [other for other in found if not pattern or fnmatchcase(other, pattern)]
    for artifact in chosen:
        flat = name or os.environ["IN_MERGE"] == "true"
        shutil.copytree(kept / artifact, target if flat else target / artifact, dirs_exist_ok=True)
    sys.stdout.write(f"Downloaded {len(chosen)} artifacts: {', '.join(chosen)}\n")
    if chosen:
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
            outputs.write(f"download-path={target}\n")


if __name__ == "__main__":
    main()
