"""What is built from the tarball that a runner fetches: the version it says, and the files in the wheel."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
from build.util import project_wheel_metadata

from tests.contracts.suite import ROOT, repository_files

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *args: str) -> bytes:
    """Run git in a throwaway repository, untouched by the machine's own settings."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one commit with the files as they are now."""
    folder = tmp_path_factory.mktemp("clone")
    for name in repository_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def tarball(clone: Path, ref: str, folder: Path) -> Path:
    """What a runner has of an action: the files of `git archive`, without .git."""
    with tarfile.open(fileobj=io.BytesIO(git(clone, "archive", "--format=tar", ref))) as archive:
        archive.extractall(folder, filter="data")
    assert not (folder / ".git").exists()
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the tarball of the tag v9.8.7, on which users' moving tag v9 stands too."""
    git(clone, "tag", "v9.8.7")
    git(clone, "tag", "--annotate", "--message", "moving", "v9")
    source = tarball(clone, "v9.8.7", tmp_path_factory.mktemp("tarball"))
    git(clone, "tag", "--delete", "v9.8.7", "v9")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_a_tagged_tarball_knows_its_version(wheel: Path) -> None:
    """Without .git, the version is the tag that git wrote into .git_archival.txt."""
    assert wheel.name == "gatehouse_ci-9.8.7-py3-none-any.whl"


def test_an_untagged_tarball_still_builds(clone: Path, tmp_path: Path) -> None:
    """Where no tag is in reach, the tarball installs as a development version below every release."""
    assert project_wheel_metadata(tarball(clone, "HEAD", tmp_path))["Version"] == "0.0.0.dev0"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of `scripts/gatehouse` is in the wheel, data included, and no other file is."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        name.removeprefix("scripts/") for name in repository_files() if name.startswith("scripts/gatehouse/")
    }
    assert {"gatehouse/py.typed", "gatehouse/cli.py"} <= source
    assert names == source


def test_the_wheel_says_how_to_use_it(wheel: Path) -> None:
    """The wheel installs the one command, and carries its licence and README."""
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        assert b"gatehouse = gatehouse.cli:main" in archive.read(f"{info}/entry_points.txt")
        assert f"{info}/licenses/LICENSE" in archive.namelist()
        assert archive.read(f"{info}/METADATA").decode().endswith((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist built from a clone at the tag v9.8.7."""
    out = tmp_path_factory.mktemp("sdist")
    git(clone, "tag", "v9.8.7")
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(out), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    git(clone, "tag", "--delete", "v9.8.7")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.tar.gz")
    return built


def test_the_sdist_holds_what_git_tracks_and_nothing_else(sdist: Path) -> None:
    """An sdist is the repository at its tag, with what a build backend adds, and no other file."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = {name for name in names if name and not name.startswith("scripts/gatehouse_ci.egg-info")}
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    assert files - folders == {*repository_files(), "PKG-INFO", "setup.cfg"}


def test_the_wheel_of_the_sdist_is_the_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """Whoever builds from the sdist gets the package that the tarball gives, byte for byte."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
        kept = [name for name in other.namelist() if not name.endswith(("/RECORD", "/METADATA"))]
        assert {name: one.read(name) for name in kept} == {name: other.read(name) for name in kept}
        assert sorted(one.namelist()) == sorted(other.namelist())
