"""The user's own Python: which one it is, whether it can serve, and what it sees of our environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (3, 8)

HIDDEN = ("ACTIONS_", "INPUT_", "GATEHOUSE_")
HIDDEN_NAMES = frozenset(
    {
        *("GITHUB_TOKEN", "GH_TOKEN", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE"),
        "GITHUB_STEP_SUMMARY",
    }
)


def worker_environment(environ: Mapping[str, str], key_variable: str | None = None) -> dict[str, str]:
    """What the user's code sees of our environment: no token, no file of the runner, no option of ours.

    A `GATEHOUSE_MODEL_KEY` reaches it as `key_variable`, the name that its provider's library reads.
    """
    kept = {k: v for k, v in environ.items() if not is_hidden(k)}
    if key_variable and (key := environ.get("GATEHOUSE_MODEL_KEY")):
        kept[key_variable] = key.strip()
    return kept


def is_hidden(name: str) -> bool:
    """Whether that variable is the runner's or Gatehouse's own, which no agent sees."""
    return name.startswith(HIDDEN) or name in HIDDEN_NAMES


def user_interpreter(explicit: str | None) -> str:
    """The Python that the user's code runs in; raises UserError where there is none.

    Never follows the symlink of a virtual environment's `python`: that would leave the environment.
    """
    if explicit:
        found = which(os.path.expanduser(explicit))  # noqa: PTH111 pathlib drops a leading "./"
        if not found:
            raise UserError(
                Problem(f"--python {explicit}: no such program.", repair="Give the path of a Python.")
            )
        return os.path.abspath(found)  # noqa: PTH100 as above, and resolve() follows symlinks
    environments = (Path(".venv"), Path(os.environ.get("VIRTUAL_ENV") or ".venv"))
    for python in (folder / "bin" / "python" for folder in environments):
        if os.access(python, os.X_OK):
            return str(python.absolute())
    if found := which("python3") or which("python"):
        return os.path.abspath(found)  # noqa: PTH100
    raise UserError(Problem("No Python was found on PATH.", repair="Install one, or give --python PATH."))


def check_version(python: str) -> UserError | None:
    """Why an interpreter cannot run a worker at all; asked only after a start failed."""
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    try:
        said = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=10, check=True
        ).stdout
        version = tuple(map(int, said.split(maxsplit=1)))
        if len(version) != 2:  # noqa: PLR2004 it ran, and did not say what it was asked for
            raise ValueError(said)
    except (OSError, ValueError, subprocess.SubprocessError):
        return UserError(
            Problem(f"{python} is not a working Python.", repair="Give another one by --python PATH.")
        )
    if version >= OLDEST:
        return None
    return UserError(
        Problem(
            f"{python} is Python {version[0]}.{version[1]}; an agent needs {OLDEST[0]}.{OLDEST[1]} or later.",
            repair="Give another one by --python PATH.",
        )
    )
