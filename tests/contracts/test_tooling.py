"""The repository's own tools, where a fault in them would make a check silent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.contracts.suite import ACTIONS, ROOT, TEMPLATES, WORKFLOWS
from tools import bootstrap
from tools.lint_yaml import as_local, yaml_files
from tools.no_skips import skipped

SUITE = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason="no such tool here")
def test_is_skipped():
    pass

@pytest.mark.xfail(strict=True)
def test_is_known_to_fail():
    assert False

@pytest.mark.parametrize("nothing", [])
def test_has_no_cases(nothing):
    pass
"""


def test_skipped_tests_are_found(tmp_path: Path) -> None:
    """A skipped test and one without cases count as skipped, an expected failure does not."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    command += ["-p", "no:cacheprovider", "--junit-xml", str(tmp_path / "junit.xml"), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    found = skipped(str(tmp_path / "junit.xml"))
    assert [line.split(":")[0].split(".")[-1].split("[")[0] for line in found] == [
        "test_is_skipped",
        "test_has_no_cases",
    ]


def test_the_linters_see_every_file() -> None:
    """What the contract tests read is what the linters read, and it is not nothing."""
    assert yaml_files(ROOT) == sorted([*ACTIONS, *WORKFLOWS, *TEMPLATES])
    assert ".github/workflows/self-ci.yml" in WORKFLOWS


def test_own_calls_are_rewritten_for_actionlint() -> None:
    """Our own actions and workflows become `./path`; those of others stay."""
    sha = "a" * 40
    assert as_local("- uses: $/actions/setup") == "- uses: ./actions/setup"
    assert (
        as_local("uses: gatehouse-ci/gatehouse/.github/workflows/x.yml@v1")
        == "uses: ./.github/workflows/x.yml"
    )
    assert as_local("uses: gatehouse-ci/gatehouse@v1 # ours") == "uses: ./ # ours"
    assert as_local(f"uses: actions/checkout@{sha} # v7") == f"uses: actions/checkout@{sha} # v7"


def test_the_oldest_uv_is_the_same_in_both_places() -> None:
    """The bootstrap takes a uv from PATH exactly where pyproject.toml allows it."""
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["required-version"]
    assert required == ">=" + ".".join(map(str, bootstrap.OLDEST_UV))


def test_every_make_target_is_listed() -> None:
    """`make` without a target lists each target with what it does."""
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^  make ([a-z]+) +\S", listed.stdout, re.MULTILINE)) == targets
    assert set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split()) == targets


def test_the_hooks_stop_a_commit_that_is_not_in_house_style(tmp_path: Path) -> None:
    """What `make hooks` installs refuses a commit of an unformatted file, and lets the formatted one pass."""
    environ = os.environ | {"PRE_COMMIT_HOME": str(tmp_path / "store"), "GIT_CONFIG_GLOBAL": os.devnull}
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    (folder / ".gitignore").write_text(".venv\n")
    (folder / ".venv").symlink_to(sys.prefix)

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *identity, *words]
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)

    def commit(text: str) -> subprocess.CompletedProcess[str]:
        (folder / "module.py").write_text(text)
        git("add", "--all")
        return git("commit", "--message", "a change")

    git("init")
    install = [str(Path(sys.prefix) / "bin" / "pre-commit"), "install"]
    subprocess.run(install, cwd=folder, env=environ, check=True, capture_output=True)
    refused = commit('"""A module."""\n\nx = ( 1)\n')
    assert refused.returncode == 1
    assert "ruff format" in refused.stderr
    done = commit('"""A module."""\n\nx = 1\n')
    assert done.returncode == 0, done.stderr
