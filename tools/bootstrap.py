"""Makes a fresh checkout runnable from Python, git and make: `tools/bootstrap.py run|dev|go|langcheck ...`.

run        .venv with the package and what a rehearsal needs
dev        .venv with the development tools too
go         act and actionlint, in .tools/bin
langcheck  GitHub's own validator of workflows, in .tools/langcheck.mjs
browser    a Chromium or Chrome; only in CI, as root of a Debian, it is installed where there is none

Otherwise only `.venv`, `.tools` and `node_modules` are written; what is up to date is left alone. Runs on the
standard library of any Python 3 that is still in use: an old one is told so, not met with a syntax error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
OLDEST_UV = (0, 8)
OLDEST_PYTHON = (3, 11)


class MissingError(Exception):
    """Something could not be installed; the message says what to do."""


def digest(*paths: str) -> str:
    """One SHA-256 over these files of the repository."""
    return hashlib.sha256(b"\0".join((ROOT / path).read_bytes() for path in paths)).hexdigest()


def is_current(stamp: Path, value: str) -> bool:
    """Whether this was made from the same inputs before."""
    return stamp.is_file() and stamp.read_text() == value


def attempt(*command: str, env: dict[str, str] | None = None) -> str | None:
    """None where the command succeeds, else the end of what it printed."""
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return (
        None
        if done.returncode == 0
        else (done.stdout + done.stderr)[-2000:].strip() or f"exit {done.returncode}"
    )


def uv_version(program: str) -> tuple[int, ...]:
    """The version of this uv; (0,) where it does not run."""
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    found = re.match(r"uv (\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else (0,)


def uv() -> str:
    """A uv that is new enough: the one on PATH, ours, or ours installed now."""
    ours = str(TOOLS / "uv" / "bin" / "uv")
    for program in (shutil.which("uv"), ours):
        if program and uv_version(program) >= OLDEST_UV:
            return program
    install_uv(TOOLS / "uv")
    if uv_version(ours) < OLDEST_UV:
        raise MissingError(
            f"uv was installed as {ours} but does not run there. Install uv and run this again."
        )
    return ours


def install_uv(folder: Path) -> None:
    """Install the pinned uv as FOLDER/bin/uv, by this Python's pip or else by a virtual environment's."""
    print("Installing uv into .tools/uv ...", flush=True)
    # The hashes decide what is accepted, so a mirror or a folder of wheels in pip's settings is welcome;
    # settings that would lead the files elsewhere are not.
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")
    env = {name: value for name, value in os.environ.items() if name not in elsewhere}
    pinned = ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    pinned += ["-r", str(ROOT / "tools" / "uv-requirements.txt")]
    shutil.rmtree(folder, ignore_errors=True)
    # A target folder is no system installation: a pip that PEP 668 keeps off the system allows it.
    by_pip = attempt(sys.executable, "-m", "pip", "install", "--target", str(folder), *pinned, env=env)
    if by_pip is None:
        return
    shutil.rmtree(folder, ignore_errors=True)
    by_venv = attempt(sys.executable, "-m", "venv", str(folder))
    if by_venv is None:
        by_venv = attempt(str(folder / "bin" / "python"), "-m", "pip", "install", *pinned, env=env)
    if by_venv is not None:
        shutil.rmtree(folder, ignore_errors=True)
        raise MissingError(
            f"uv is missing and could not be installed.\n\nBy pip:\n{by_pip}\n\nBy venv:\n{by_venv}\n\n"
            "Check the network, or give this Python pip (Debian: apt install python3-venv), or install uv "
            "yourself (https://docs.astral.sh/uv/); then run this again."
        )


def make_venv(*, dev: bool) -> None:
    """Bring `.venv` to the lock file. A run-only install removes nothing, so that the two can alternate."""
    value = digest("pyproject.toml", "uv.lock")
    stamps = [VENV / ".gatehouse-dev"] if dev else [VENV / ".gatehouse-dev", VENV / ".gatehouse-run"]
    python = VENV / "bin" / "python"
    if python.exists() and any(is_current(stamp, value) for stamp in stamps):
        return
    command = [
        uv(),
        "sync",
        "--quiet",
        "--frozen",
        *([] if dev else ["--no-dev", "--inexact", "--extra", "rehearse"]),
    ]
    if not python.exists() and sys.version_info >= OLDEST_PYTHON:
        command += ["--python", sys.executable]
    print(f"Installing into .venv ({'with' if dev else 'without'} development tools) ...", flush=True)
    # Bytecode: a rehearsal starts dozens of processes, and some machines forbid Python to write it later.
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(VENV), "UV_COMPILE_BYTECODE": "1"}
    if Path("/etc/ssl/certs").is_dir():
        env.setdefault(
            "UV_SYSTEM_CERTS", "1"
        )  # a company's own certificate authority is known there, not to uv
    env.pop("VIRTUAL_ENV", None)
    if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0:
        raise MissingError(
            "uv could not make .venv (its message is above). Gatehouse needs Python 3.11 or newer; "
            f"this is {sys.version.split()[0]}. `make PYTHON=/path/to/python3 ...` names another."
        )
    stamps[-1].write_text(value)


def install_go_tools() -> None:
    """Build the tools of tools/go-tools.txt into .tools/bin; those on PATH serve where Go is missing."""
    stamp, value = TOOLS / "go-tools.stamp", digest("tools/go-tools.txt")
    if is_current(stamp, value):
        return
    packages = (ROOT / "tools" / "go-tools.txt").read_text().split()
    go = shutil.which("go")
    if go is None:
        lacking = [
            name
            for name in (package.split("@")[0].split("/")[-1] for package in packages)
            if not shutil.which(name)
        ]
        if lacking:
            raise MissingError(
                f"Go is not installed, so these are missing: {', '.join(lacking)}. See https://go.dev/dl/."
            )
        return
    print(f"Building {' and '.join(packages)} into .tools/bin (a minute, once) ...", flush=True)
    env = {**os.environ, "GOBIN": str(TOOLS / "bin")}
    for package in packages:
        failed = attempt(go, "install", package, env=env)
        if failed:
            raise MissingError(f"`go install {package}` failed:\n{failed}")
    stamp.write_text(value)


def npm_error(output: str) -> str:
    """The last line in which npm says what went wrong; where there is none, the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("npm error", "npm ERR!"))]
    return ([line for line in said if "complete log" not in line] or lines)[-1]


def install_langcheck() -> None:
    """Bundle GitHub's language service, pinned by package-lock.json, into one file."""
    sources = [f"tools/langcheck/{name}" for name in ("package.json", "package-lock.json", "check.mjs")]
    stamp, value = TOOLS / "langcheck.stamp", digest(*sources)
    if is_current(stamp, value) and (TOOLS / "langcheck.mjs").is_file():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("Node.js with npm is not installed, so GitHub's language service is missing.")
    print("Bundling GitHub's language service into .tools ...", flush=True)
    folder = str(ROOT / "tools" / "langcheck")
    for command in (["ci", "--ignore-scripts"], ["run", "--silent", "build"]):
        failed = attempt(npm, "--prefix", folder, *command)
        if failed:
            raise MissingError(
                "The installation of GitHub's language service failed, "
                f"`npm {' '.join(command)}` in {folder}:\n  {npm_error(failed)}\n"
                "Behind a proxy that opens TLS, npm needs the proxy's certificate: "
                "NODE_EXTRA_CA_CERTS=/path/to/ca.pem. Then run this again."
            )
    stamp.write_text(value)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSER = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def find_browser() -> str | None:
    """The program of a Chromium or Chrome on this machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or (MAC_BROWSER if os.access(MAC_BROWSER, os.X_OK) else None)


def install_browser() -> None:
    """See that there is a browser: no package of Python or Node.js holds one that runs everywhere."""
    if find_browser():
        return
    if not (os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get")):
        raise MissingError("There is no Chromium or Chrome, in which the tests look at the comment.")
    print("Installing Debian's chromium ...", flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        failed = attempt(
            "apt-get", "--quiet", *command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if failed:
            raise MissingError(f"`apt-get {' '.join(command)}` failed:\n{failed}")


STEPS = {
    "run": lambda: make_venv(dev=False),
    "dev": lambda: make_venv(dev=True),
    "go": install_go_tools,
    "langcheck": install_langcheck,
    "browser": install_browser,
}
OPTIONAL = ("go", "langcheck", "browser")
"""What a contributor can do without; where CI is set, nothing is."""


def main(steps: list[str]) -> int:
    """Do each step in turn; the exit code is 1 when one that is needed failed."""
    TOOLS.mkdir(exist_ok=True)
    for step in steps:
        try:
            STEPS[step]()
        except MissingError as error:
            needed = step not in OPTIONAL or bool(os.environ.get("CI"))
            print(f"\n{'ERROR' if needed else 'WARNING'}: {error}\n", file=sys.stderr)
            if needed:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
