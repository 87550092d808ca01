"""verify-install against package indexes with real pip: what comes from where, what each fault is called."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Exit
from gatehouse.rehearse.index import Indexes
from tests.support.dists import make_dist
from tests.support.projects import Done, call, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.release.dist import Build

WORDS = "import acme_words; print('words', acme_words.__version__)"
BYTES = "import acme_triage; assert not hasattr(acme_triage, 'OTHER')"


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexes]:
    """PyPI with acme-words 1.0, TestPyPI with an acme-words 9.9 that somebody else put there.

    acme-words 1.0 needs an acme-triage, of which PyPI has the version to be tried in other bytes.
    """
    folder = tmp_path_factory.mktemp("indexes")
    with Indexes(folder / "indexes") as made:
        for index, name, version, changes in (
            (made.pypi, "acme-words", "1.0", {"requires": ["acme-triage"]}),
            (made.testpypi, "acme-words", "9.9", {}),
            (made.pypi, "acme-triage", "1.2.0", {"code": "OTHER = True"}),
        ):
            build = make_dist(folder / version, name=name, version=version, **changes)
            index.add(*(folder / version / file.name for file in build.files))
        yield made


@dataclass
class Bench:
    """A folder with a build in `dist/`, and the command in it."""

    indexes: Indexes
    folder: Path

    def build(self, name: str, **changes: Any) -> Build:
        """A build in `dist/`."""
        return make_dist(self.folder / "dist", name=name, **changes)

    def publish(self, build: Build, index: str = "testpypi") -> None:
        """Put the built files on an index."""
        getattr(self.indexes, index).add(*(self.folder / "dist" / file.name for file in build.files))

    def verify(self, *args: str, **env: str) -> Done:
        """The command as an action calls it."""
        runner = {"GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(self.folder)}
        runner |= {name: str(self.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        # `call` would be quicker by 0.3 s, but would not show what reaches the environment.
        env = self.indexes.environment | runner | env
        command = ("verify-install", "--python", sys.executable, *args)
        with start(self.folder, *command, env=env) as process:
            out, err = process.communicate(timeout=170)  # a busy machine takes 15 s for an environment
        return Done(process.returncode, out, err)

    def output(self, name: str) -> str:
        """An output of the last call."""
        text = (self.folder / "GITHUB_OUTPUT").read_text()
        found = re.findall(rf"^{name}<<(\S+)\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE)
        assert found, text
        return str(found[-1][1])

    def summary(self) -> str:
        """The job summary."""
        return (self.folder / "GITHUB_STEP_SUMMARY").read_text()


@pytest.fixture
def bench(indexes: Indexes, tmp_path: Path) -> Bench:
    """An empty bench."""
    return Bench(indexes, tmp_path)


def test_a_published_package_is_installed_and_tried(bench: Bench, tmp_path: Path) -> None:
    """The package comes from TestPyPI once it is shown, its dependency from PyPI, and nothing else does."""
    build = bench.build("acme-triage", requires=["acme-words"])
    bench.publish(build)
    bench.indexes.testpypi.fail("GET", "/simple/acme-triage", times=1, status=404)  # not shown yet
    make_dist(tmp_path / "poison", name="acme-words", version="5.0")
    (tmp_path / "acme_words.py").write_text("__version__ = 'of the checkout'")
    smoke = [
        f'python -c "{WORDS}"',
        f'python -c "{BYTES}"',
        "ls -A; env",
        "acme-triage --version | tee made; cat made",
    ]
    done = bench.verify(
        *(option for line in smoke for option in ("--smoke", line)),
        TEST_PYPI_TOKEN="pypi-secret",
        GITHUB_TOKEN="ghs_secret",
        PYTHONPATH=str(tmp_path),
        PIP_FIND_LINKS=str(tmp_path / "poison"),
        PIP_EXTRA_INDEX_URL=bench.indexes.testpypi.simple_url,
    )
    assert done.code == Exit.PASS, done
    assert "words 1.0" in done.out
    assert "TestPyPI: the index does not show it yet. Attempt 2 follows in 2 s." in done.out
    assert "_secret" not in done.out + done.err
    assert "PYTHONPATH" not in done.out
    report = json.loads(bench.output("report"))
    assert [step["command"] for step in report][1:] == [
        "pip install, dependencies from PyPI",
        "pip install acme-triage==1.2.0 from TestPyPI",
        "pip check",
        "installed version is 1.2.0",
        "acme-triage --help",
        *smoke,
    ]
    assert {step["code"] for step in report} == {0}
    assert bench.output("version") == "1.2.0"
    assert "usage: acme-triage" in bench.summary()
    assert not list(tmp_path.glob("gatehouse-verify-*")), "the environment is left behind"


def test_a_package_that_does_not_work_is_reported_whole(bench: Bench) -> None:
    """Every command is tried and shown with its output, whatever that holds; the exit code is 1."""
    build = bench.build(
        "acme-broken", requires=["acme-words<0.5; extra == 'old'"], code="raise SystemExit(3)"
    )
    bench.publish(build, "pypi")
    hostile = "printf '```\\n<b>::error::x\\033[2J\\n'; false | cat"
    done = bench.verify("--index", "pypi", "--smoke", hostile, "--smoke", "true")
    assert done.code == Exit.FAIL, done
    codes = {step["command"]: step["code"] for step in json.loads(bench.output("report"))}
    assert codes["installed version is 1.2.0"] == 0
    assert codes["acme-broken --help"] == 3
    assert (codes[hostile], codes["true"]) == (1, 0)
    assert "\033" not in done.out + bench.summary()
    assert "\n````\n```\n<b>" in bench.summary()
    assert "::error title=acme-broken 1.2.0::acme-broken --help: exit code 3" in done.out
    assert not re.search(r"^::error::x", done.out.split("::stop-commands::")[0], re.MULTILINE)


def test_other_bytes_than_were_built_are_refused(bench: Bench) -> None:
    """A file of that name and version whose hash is not the build's is neither installed nor waited for."""
    other = bench.build("acme-other", code="# somebody else's")
    bench.publish(other)
    bench.build("acme-other")
    done = bench.verify("--wait", "60")
    assert done.code == Exit.FAIL, done
    assert "DO NOT MATCH THE HASHES" in done.out
    assert [step["code"] for step in json.loads(bench.output("report"))] == [0, 1]


def test_a_package_that_never_shows_is_the_indexs_fault(bench: Bench) -> None:
    """When the wait is over it says for what, and that nothing was found wrong with the package."""
    bench.build("acme-late")
    done = bench.verify("--wait", "1")
    assert done.code == Exit.UNSCORED, done
    assert "Attempt 2 follows in 1 s" in done.out
    assert "acme-late==1.2.0 from TestPyPI: the index does not show it yet" in done.err
    assert "Nothing was found wrong with the package" in done.err


def test_a_dependency_that_pypi_lacks_is_the_packages_fault(bench: Bench) -> None:
    """A dependency that only TestPyPI has, or nobody, fails the package: nobody could install it."""
    bench.publish(bench.build("acme-needy", requires=["acme-words>=9"]))
    done = bench.verify("--wait", "60")
    assert done.code == Exit.FAIL, done
    assert "No matching distribution found for acme-words>=9" in done.out


def test_an_index_in_trouble_is_no_fault_of_the_package(bench: Bench) -> None:
    """Where PyPI answers with 503, pip only says that it found nothing; it is told apart all the same."""
    bench.publish(bench.build("acme-unlucky", requires=["acme-words"]))
    bench.indexes.pypi.fail("GET", "/simple/acme-words", times=2, status=503)
    done = bench.verify("--wait", "0")
    assert done.code == Exit.UNSCORED, done
    assert "dependencies from PyPI: the index or the network failed" in done.err


@pytest.mark.parametrize(
    ("args", "changes", "message"),
    [
        (("--python", "no-such-python"), {}, "--python no-such-python: no such program"),
        (("--python", "true"), {}, "it cannot make a virtual environment"),
        (("--index", "npm"), {}, "'npm' is not one of 'testpypi', 'pypi'"),
        (("--wait", "-1"), {}, "-1 is not in the range"),
        (("--dist", "nothing"), {}, "nothing/build.json"),
        (("--digests", '{"build.json": "0"}'), {}, "the artifact was changed after the build"),
        ((), {"requires": ["six @ https://evil.test/six.whl"]}, "takes no direct references"),
        ((), {"requires": ["--index-url=https://evil.test"]}, "no requirement"),
    ],
)
def test_what_a_user_can_mend(
    tmp_path: Path, args: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    """A wrong option or file ends with 2 and its name, before anything is installed."""
    make_dist(tmp_path / "dist", **changes)
    done = call(tmp_path, "verify-install", *args)
    assert done.code == Exit.INVALID, done
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_python_that_the_package_refuses(tmp_path: Path) -> None:
    """A Python that Requires-Python excludes is named at once: pip would wait for a package never shown."""
    make_dist(tmp_path / "dist")
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho 3.10.2\n")
    fake.chmod(0o755)
    done = call(tmp_path, "verify-install", "--python", str(fake))
    assert done.code == Exit.INVALID, done
    assert "acme-triage 1.2.0 is for Python >=3.11, and --python is 3.10.2." in done.err
