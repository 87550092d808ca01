"""Makes a fresh virtual environment of a real interpreter below the runner's tool folder of this job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def interpreter(wanted: str) -> str:
    """The interpreter of the wanted minor version, or the one that runs this where the machine lacks it."""
    known: dict[str, str] = json.loads(os.environ["STAND_INS_PYTHONS"])
    minor = re.match(r"\d+\.\d+", wanted)
    return known.get(minor[0] if minor else "", str(sys._base_executable))  # type: ignore[attr-defined]


def add_pip(python: Path) -> None:
    """Install the interpreter's own pip; unpacking its wheel is ten times as fast as running it."""
    ask = "import ensurepip, sysconfig; print(ensurepip.__path__[0]); print(sysconfig.get_path('purelib'))"
    lines = subprocess.run(
        [python, "-I", "-c", ask], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split("\n")
    wheels = list(Path(lines[0], "_bundled").glob("pip-*.whl"))
    if not wheels:
        subprocess.run([python, "-I", "-m", "ensurepip", "--upgrade", "--default-pip"], check=True)
        return
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(lines[1])
    for name in ("pip", "pip3"):
        script = python.with_name(name)
        script.write_text(f'#!/bin/sh\nexec "{python}" -m pip "$@"\n')
        script.chmod(0o755)


def main() -> None:
    """Make the environment, and tell the job of it."""
    folder = Path(tempfile.mkdtemp(prefix="python-", dir=Path(os.environ["RUNNER_TEMP"]).parent))
    python = folder / "bin" / "python"
    base = interpreter(os.environ["IN_VERSION"])
    subprocess.run([base, "-I", "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
    add_pip(python)
    tell = "import platform; print(platform.python_version())"
    version = subprocess.run([python, "-I", "-c", tell], check=True, stdout=subprocess.PIPE, text=True).stdout
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
        outputs.write(f"python-version={version.strip()}\npython-path={python}\n")
    if os.environ["IN_UPDATE"] == "true":
        with Path(os.environ["GITHUB_PATH"]).open("a") as path:
            path.write(f"{python.parent}\n")
        with Path(os.environ["GITHUB_ENV"]).open("a") as variables:
            variables.write(f"pythonLocation={folder}\n")


if __name__ == "__main__":
    main()
