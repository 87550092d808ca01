"""The script behind `actions/setup`, by the real uv, on a small project in the place of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.support.act import ROOT, find_uv

PROJECT = """
[project]
name = "small"
version = "1"
requires-python = ">=3.11"
dependencies = ["gatehouse"]
optional-dependencies = {one = ["one"], two = ["two"], three = ["three"]}
[tool.uv]
package = false
[tool.uv.sources]
"""


def make_wheel(folder: Path, name: str, main: str = "") -> str:
    """A wheel of one package that `python -m NAME` runs; its line for `tool.uv.sources`."""
    info, file = f"{name}-1.dist-info", f"{name}-1-py3-none-any.whl"
    members = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": main,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / file, "w") as wheel:
        for path, text in members.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"]))
    return f'{name} = {{path = "{file}"}}\n'


class Job:
    """A job with a temporary folder, whose steps set up the small project that stands in for Gatehouse."""

    def __init__(self, folder: Path) -> None:
        self.source, self.temp = folder / "source", folder / "temp"
        (self.source / "actions/setup").mkdir(parents=True)
        self.temp.mkdir()
        shutil.copy(ROOT / "actions/setup/install.sh", self.source / "actions/setup")
        wheels = [make_wheel(self.source, "gatehouse", "print('gatehouse 1.2.3')")]
        wheels += [make_wheel(self.source, name) for name in ("one", "two", "three")]
        (self.source / "pyproject.toml").write_text(PROJECT + "".join(wheels))
        self.path = f"{Path(find_uv()).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["uv", "lock", "--quiet", "--offline"], cwd=self.source, env=self.environment(), check=True
        )

    def environment(self, extra: str = "") -> dict[str, str]:
        """What a step knows."""
        return {
            "PATH": self.path,
            "HOME": str(self.temp),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_OUTPUT": str(self.temp / "output"),
            "GITHUB_PATH": str(self.temp / "path"),
            "GATEHOUSE_SOURCE": str(self.source),
            "UV_OFFLINE": "1",
            "EXTRA": extra,
        }

    def set_up(self, extra: str = "") -> set[str]:
        """One step of `actions/setup`; the packages that are then installed."""
        script = self.source / "actions/setup/install.sh"
        command = ["bash", str(script)]
        done = subprocess.run(
            command, env=self.environment(extra), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (self.temp / "output").read_text().endswith("version=1.2.3\n")
        [packages] = (self.temp / "gatehouse/venv/lib").glob("python3.*/site-packages")
        return {path.parent.name for path in packages.glob("*/__main__.py")}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job in which nothing is set up."""
    return Job(tmp_path)


def test_extras_are_added(job: Job) -> None:
    """Each step adds the extras that it names, in one line or several, and loses none of an earlier one."""
    assert job.set_up() == {"gatehouse"}
    assert job.set_up("one") == {"gatehouse", "one"}
    assert job.set_up("\n  two\n\tthree\n") == {"gatehouse", "one", "two", "three"}
    assert job.set_up() == {"gatehouse", "one", "two", "three"}


def test_what_is_there_is_not_installed_again(job: Job) -> None:
    """A step whose extras are all there asks uv for nothing, whatever order they are in."""
    job.set_up("one two")
    job.path = os.environ["PATH"].replace(str(Path(find_uv()).parent), "")
    (job.source / "uv.lock").unlink()
    assert job.set_up("two one") == {"gatehouse", "one", "two"}
    assert job.set_up("two") == {"gatehouse", "one", "two"}


def test_an_extra_is_no_pattern(job: Job) -> None:
    """What is named is handed to uv as it stands: a name that no extra has is an error, even `*`."""
    with pytest.raises(AssertionError, match=r"\*"):
        job.set_up("*")
