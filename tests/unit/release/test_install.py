"""How a published package is installed: what is asked of pip, and what its answers mean."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatehouse.errors import UserError
from gatehouse.release.install import (
    TIMED_OUT,
    Cause,
    Wheel,
    cause_of,
    dependencies,
    environment,
    fits,
    is_version,
    pause_before,
    pinned,
    pip_install,
    read_wheel,
    run,
)
from tests.support.dists import make_dist

if TYPE_CHECKING:
    from gatehouse.release.install import Step

FETCH, NOTHING = "Could not fetch URL https://x/simple/a/", "ERROR: No matching distribution found for a"
CLEAN = {"PATH": os.environ["PATH"]}


def wheel_with(path: Path, metadata: str, entry_points: str | None = None) -> Path:
    """A wheel of that metadata and nothing else."""
    file = path / "acme-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(
            "acme-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: acme\nVersion: 1\n{metadata}"
        )
        if entry_points is not None:
            made.writestr("acme-1.dist-info/entry_points.txt", entry_points)
    return file


def bash(folder: Path, script: str, limit: float = 20) -> Step:
    """One script of bash."""
    return run("script", ["bash", "-c", script], folder, CLEAN, limit)


def test_a_built_wheel_says_what_it_needs(tmp_path: Path) -> None:
    """Requirements, Pythons and console scripts are read from the wheel's own files."""
    build = make_dist(tmp_path, requires=["six>=1", 'colorama; sys_platform == "win32"'])
    wheel = read_wheel(tmp_path / build.files[0].name)
    assert wheel == Wheel(("six>=1", 'colorama; sys_platform == "win32"'), ">=3.11", ("acme-triage",))
    assert dependencies(wheel) == 'six>=1\ncolorama; sys_platform == "win32"\n'


def test_scripts_that_need_an_extra_are_left_out(tmp_path: Path) -> None:
    """A script of an extra cannot start without it; a name that is a path is none; case is kept."""
    scripts = "[console_scripts]\nAcme = acme:main\nmore = acme:more [web]\n../x = acme:x\n[other]\na = b\n"
    assert read_wheel(wheel_with(tmp_path, "", scripts)).scripts == ("Acme",)
    assert read_wheel(wheel_with(tmp_path, "")).scripts == ()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("Requires-Dist: --index-url http://evil.test\n", "which is no requirement"),
        ("Requires-Dist: six @ https://evil.test/six.whl\n", "an index takes no direct references"),
        ("Requires-Dist: six\n --index-url http://evil.test\n", "which is no requirement"),
        ("Requires-Dist: ../six\nRequires-Dist: -r six.txt\n", r"(?s)\.\./six.*-r six\.txt"),
    ],
)
def test_a_requirement_is_never_an_option_of_pip(tmp_path: Path, metadata: str, message: str) -> None:
    """What would lead pip to another index, a file or a URL is refused; every fault is named."""
    with pytest.raises(UserError, match=message):
        read_wheel(wheel_with(tmp_path, metadata))


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"<html>"])
def test_what_is_no_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no wheel is a user's error with the file's name."""
    file = tmp_path / "acme-1-py3-none-any.whl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"acme-1-py3-none-any\.whl: not a wheel"):
        read_wheel(file)


@pytest.mark.parametrize(
    ("requires", "python", "fine"),
    [(">=3.11", "3.11.7", True), ("", "3.8.0", True), (">=3.12", "3.11.7", False), ("<4", "3.14.0rc1", True)],
)
def test_a_python_that_the_package_is_not_for(tmp_path: Path, requires: str, python: str, fine: bool) -> None:
    """Requires-Python decides beforehand: no waiting for a package that pip would never take."""
    problem = fits(Wheel((), requires, ()), python, make_dist(tmp_path))
    assert (problem is None) is fine
    assert (
        problem is None
        or problem.message == f"acme-triage 1.2.0 is for Python {requires}, and --python is 3.11.7."
    )


@pytest.mark.parametrize(
    ("said", "fine"),
    [("1.2.0rc1\n", True), ("1.2.0-rc.1", True), ("1.2.0", False), ("1.2.0rc10", False), ("", False)],
)
def test_the_installed_version(said: str, fine: bool) -> None:
    """The version is compared as PEP 440 has it; what is none is another."""
    assert is_version(said, "1.2.0rc1") is fine


def test_exactly_the_built_files_satisfy_the_requirement(tmp_path: Path) -> None:
    """The requirement names the version and the hash of every built file."""
    build = make_dist(tmp_path)
    hashes = " ".join(f"--hash=sha256:{file.sha256}" for file in build.files)
    assert pinned(build) == f"acme-triage==1.2.0 {hashes}\n"


def test_pip_is_told_one_index_and_obeys_no_setting() -> None:
    """There is one index and no second one; of the certificates that are set, pip's own come first."""
    command = pip_install(Path("/v/bin/python"), Path("r.txt"), "https://test.pypi.org/simple/", {})
    assert command[:5] == ["/v/bin/python", "-I", "-m", "pip", "--isolated"]
    assert [option for option in command if "index" in option] == ["--index-url"]
    assert "--cert" not in command
    bundles = {"SSL_CERT_FILE": "/c", "PIP_CERT": "/a", "REQUESTS_CA_BUNDLE": ""}
    command = pip_install(Path("p"), Path("r.txt"), "https://pypi.org/simple/", bundles)
    assert command[command.index("--cert") + 1] == "/a"


def test_the_environment_is_clean() -> None:
    """Neither tokens nor Python's or pip's settings reach the package; proxies and certificates do."""
    dirty = {
        "PATH": "/job/bin",
        "HOME": "/root",
        "GITHUB_TOKEN": "ghs_1",
        "TEST_PYPI_TOKEN": "pypi-1",
        "PYTHONPATH": "/job",
        "PIP_EXTRA_INDEX_URL": "https://evil.test",
        "UV_INDEX_URL": "https://evil.test",
        "https_proxy": "http://proxy.test",
        "SSL_CERT_FILE": "/c",
        "LANG": "",
    }
    clean = environment(dirty, Path("/t/home"), Path("/t/venv"))
    assert set(clean) == {
        *("PATH", "HOME", "TMPDIR", "PIP_CONFIG_FILE", "VIRTUAL_ENV", "https_proxy", "SSL_CERT_FILE"),
    }
    assert clean["PATH"].startswith("/t/venv/bin:/usr/")
    assert "/job" not in clean["PATH"]
    assert clean["HOME"] == "/t/home"
    assert "VIRTUAL_ENV" not in environment(dirty, Path("/t/home"))


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", Cause.OTHER_BYTES),
        (f"{FETCH}: 404 Client Error: Not Found - skipping\n{NOTHING}", Cause.ABSENT),
        (f"{FETCH}: 503 Server Error: Busy - skipping\n{NOTHING}", Cause.NETWORK),
        ("HTTPSConnectionPool(host='x', port=443): Max retries exceeded", Cause.NETWORK),
        ("ERROR: HTTP error 404 while getting https://x/a.whl", Cause.NETWORK),
        ("error: subprocess-exited-with-error\nFailed to build 'a'", Cause.PACKAGE),
        ("ERROR: ResolutionImpossible: for help visit", Cause.PACKAGE),
    ],
)
def test_why_pip_failed(log: str, cause: Cause) -> None:
    """Other bytes, a server in trouble, a file that is not there yet, and the package's own fault differ."""
    assert cause_of(log) is cause


def test_the_wait_grows_and_ends_with_its_budget() -> None:
    """Pauses double up to half a minute, the last takes what is left, and then there is none."""
    pauses: list[float] = []
    left = 150.0
    while (pause := pause_before(len(pauses) + 2, left)) is not None:
        pauses.append(pause)
        left -= pause
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 30]
    assert sum(pauses) == 150
    assert pause_before(2, 0) is None
    assert pause_before(10_000, 1000) == 30


def test_a_command_ends_with_its_code_and_output(tmp_path: Path) -> None:
    """The exit code, both streams and the time are told; nothing is read from the terminal."""
    step = bash(tmp_path, "echo out; echo err >&2; cat; pwd; exit 7")
    assert (step.code, step.ok) == (7, False)
    assert step.output == f"out\nerr\n{tmp_path}\n"
    assert run("x", ["/no/such/program"], tmp_path, CLEAN, 5).code == 127


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """Above its time a command is ended with all that it started, and its output so far is kept."""
    step = bash(tmp_path, "echo begun; sleep 60 & sleep 60", limit=1.5)
    assert step.code == TIMED_OUT
    assert step.seconds < 10
    assert step.output == "begun\n\nEnded: it took more than 1.5 s."


def test_what_runs_on_in_the_background_is_ended(tmp_path: Path) -> None:
    """A process that a command leaves behind, output open, neither holds it up nor outlives it."""
    step = bash(tmp_path, "sleep 60 & echo $!")
    assert step.ok
    assert step.seconds < 10
    for _ in range(100):
        try:
            os.kill(int(step.output), 0)
        except ProcessLookupError:
            return
        status = Path(f"/proc/{int(step.output)}/status")
        if status.exists() and "zombie" in status.read_text():
            return  # ended; whoever adopted it has not asked yet
        time.sleep(0.05)
    pytest.fail("it still runs")


def test_only_the_end_of_a_long_output_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that prints without end does not fill the memory."""
    monkeypatch.setattr("gatehouse.release.install._OUTPUT_LIMIT", 10)
    step = run("x", [sys.executable, "-c", "print('a' * 100_000 + 'end')"], tmp_path, CLEAN, 20)
    assert step.output == "aaaaaaend\n"
