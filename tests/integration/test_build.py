"""`gatehouse build` on real projects: versions from real tags, real backends, what is not fit to publish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import load_agent
from gatehouse.commands.build import agents_of
from gatehouse.evals.dataset import GoldenSet
from gatehouse.rehearse.origin import run_git
from gatehouse.release.checkout import read_checkout
from gatehouse.release.dist import BUILD, NOTES, SUMS, load_build, sha256_of
from tests.support.projects import Done, call, start, write_project

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
UV = f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools' / 'uv' / 'bin'}"
"""Where a build finds uv, or does without."""

BACKEND = """\
[build-system]
requires = ["setuptools>=80", "setuptools-scm>=10.3.4,<11"]
build-backend = "setuptools.build_meta"
"""
PYPROJECT = (
    BACKEND
    + """\
[project]
name = "acme-triage"
readme = "README.md"
requires-python = ">=3.11"
dynamic = ["version"]
[project.scripts]
acme-triage = "acme_triage.cli:main"
[tool.setuptools_scm]
local_scheme = "no-local-version"
version_file = "src/acme_triage/_version.py"
"""
)
CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-01

### Added

- Refunds.
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": "# Acme Triage\n",
    "CHANGELOG.md": CHANGELOG,
    ".gitignore": "_version.py\ndist/\n",
    "src/acme_triage/__init__.py": "",
    "src/acme_triage/cli.py": "def main():\n    print('triage')\n",
}


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files below `folder`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, message: str = "change") -> str:
    """Commit everything; the commit's hash."""
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return run_git(folder, "rev-parse", "HEAD")


def repository(folder: Path, files: Mapping[str, str] = FILES, tag: str | None = "v0.1.0") -> Path:
    """A repository on main with these files in one commit, tagged."""
    folder.mkdir(parents=True, exist_ok=True)
    run_git(folder, "init", "--quiet", "--initial-branch=main")
    write(folder, files)
    commit(folder, "first")
    if tag:
        run_git(folder, "tag", tag)
    return folder


def runner(folder: Path, ref: str, **more: str) -> dict[str, str]:
    """What a runner sets for a run on `ref`; the outputs go to the file `outputs` beside the repository."""
    event = folder.parent / f"{folder.name}-event.json"
    event.write_text("{}")
    return {
        "PATH": UV,
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": "acme/triage",
        "GITHUB_SHA": run_git(folder, "rev-parse", "HEAD"),
        "GITHUB_REF": ref,
        "GITHUB_RUN_ID": "4711",
        "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_RUN_NUMBER": "9",
        "GITHUB_OUTPUT": str(folder.parent / f"{folder.name}-outputs"),
        "GITHUB_STEP_SUMMARY": str(folder.parent / f"{folder.name}-summary"),
        **more,
    }


def gatehouse(folder: Path, *args: str, env: Mapping[str, str]) -> Done:
    """`gatehouse ARGS` in its own process, to its end; a backend may have to be fetched first."""
    with start(folder, *args, env=env) as process:
        out, err = process.communicate(timeout=150)
    return Done(process.returncode, out, err)


def built(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Done:
    """`gatehouse build ARGS` in its own process; it has to succeed."""
    done = gatehouse(folder, "build", *args, env={"PATH": UV, **(env or {})})
    assert done.code == 0, done.out + done.err
    return done


def refused(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> str:
    """What `gatehouse build ARGS` says when it builds nothing, for its user to mend."""
    done = call(folder, "build", *args, env={"PATH": UV, **(env or {})})
    assert done.code == 2, done.out + done.err
    assert "Traceback" not in done.err
    assert not (folder / "dist" / BUILD).exists()
    return done.err


def outputs(path: Path) -> dict[str, str]:
    """The outputs that a step wrote."""
    found, lines = {}, iter(path.read_text().splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        found[name] = "\n".join(iter(lines.__next__, end))
    return found


def digests(folder: Path) -> dict[str, str]:
    """The files of a build with their SHA-256."""
    return {file.name: file.sha256 for file in load_build(folder / "dist").files}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release: the tag v1.2.0 on main, its candidate's and a moving tag at the same commit; built."""
    folder = repository(tmp_path_factory.mktemp("tagged") / "acme")
    write_project(folder)
    (folder / "src" / "acme_triage" / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "src" / "acme_triage" / "tool.sh").chmod(0o755)
    commit(folder)
    run_git(folder, "tag", "v1.2.0")
    for tag in ("v1.2.0rc1", "v1", "deploy-2030"):  # annotated ones, which git prefers
        run_git(folder, "tag", "--annotate", "-m", tag, tag)
    write(folder, {".env": "TOKEN=x\n", "src/acme_triage/stray.py": "", "build/lib/old.py": ""})
    run_git(folder, "checkout", "--quiet", "v1.2.0")
    built(folder, env=runner(folder, "refs/tags/v1.2.0"))
    return folder


def test_a_tag_is_built_as_its_version(tagged: Path) -> None:
    """A build of a tag is that version, whatever other tags stand there, and build.json says all of it."""
    build = load_build(tagged / "dist")
    assert (build.name, build.version, build.prerelease) == ("acme-triage", "1.2.0", False)
    assert (build.tag, build.ref, build.repository) == ("v1.2.0", "refs/tags/v1.2.0", "acme/triage")
    assert build.commit == run_git(tagged, "rev-parse", "HEAD")
    assert build.tree == run_git(tagged, "rev-parse", "HEAD^{tree}")
    assert build.on_main
    assert build.epoch == int(run_git(tagged, "log", "-1", "--format=%ct"))
    assert [file.kind for file in build.files] == ["wheel", "sdist"]
    [agent] = build.agents
    assert (agent.name, agent.path, agent.on_inconclusive) == ("echo", "agents/echo.yaml", "warn")
    assert (tagged / "dist" / NOTES).read_text() == "### Added\n\n- Refunds.\n"


def test_the_outputs_are_enough_to_go_on(tagged: Path) -> None:
    """A step hands on version, files with digests, agents and the artifact; the summary shows them."""
    said = outputs(tagged.parent / "acme-outputs")
    handed_on = said.pop("digests")
    assert load_build(tagged / "dist", handed_on).version == "1.2.0"
    others = {name: sha256_of(tagged / "dist" / name) for name in (BUILD, NOTES, SUMS)}
    assert json.loads(handed_on) == digests(tagged) | others
    assert sorted(json.loads(said.pop("files"))) == sorted(digests(tagged))
    assert said == {
        "version": "1.2.0",
        "name": "acme-triage",
        "prerelease": "false",
        "tag": "v1.2.0",
        "agents": '["echo"]',
        "artifact": "gatehouse-dist-acme-triage",
    }
    assert all(digest in (tagged.parent / "acme-summary").read_text() for digest in digests(tagged).values())


def test_the_sums_are_what_sha256sum_reads(tagged: Path) -> None:
    """SHA256SUMS can be checked without Gatehouse."""
    lines = (tagged / "dist" / SUMS).read_text().splitlines()
    assert {line.split("  ")[1]: line.split("  ")[0] for line in lines} == digests(tagged)


def test_only_what_is_in_git_is_built(tagged: Path) -> None:
    """Untracked files enter neither file, and the build leaves nothing in the checkout but its folder."""
    [sdist], [wheel] = tagged.glob("dist/*.tar.gz"), tagged.glob("dist/*.whl")
    with tarfile.open(sdist) as archive, zipfile.ZipFile(wheel) as zipped:
        names = [*archive.getnames(), *zipped.namelist()]
    assert not [name for name in names if name.endswith((".env", "stray.py", "old.py"))]
    assert [name for name in names if name.endswith("_version.py")]
    left = run_git(tagged, "ls-files", "--others", "--directory").splitlines()
    assert left == [".env", "build/", "dist/", "src/acme_triage/stray.py"]


def test_the_same_commit_gives_the_same_bytes(tagged: Path, tmp_path: Path) -> None:
    """Another clone, branch, day, umask, time zone and environment: both files are byte for byte equal."""
    clone = tmp_path / "elsewhere" / "clone"
    run_git(tmp_path, "clone", "--quiet", str(tagged), str(clone))
    run_git(clone, "checkout", "--quiet", "-b", "somewhere", "v1.2.0")
    environment = os.environ | runner(clone, "refs/tags/v1.2.0")
    old = 1_000_000_000
    for path in clone.rglob("*"):
        if ".git" not in path.parts:
            path.chmod(0o700) if path.is_dir() else path.chmod(0o600)
            os.utime(path, (old, old))
    run_git(clone, "config", "core.fileMode", "false")
    environment |= {
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "1",
        "SETUPTOOLS_SCM_PRETEND_VERSION": "9.9.9",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatehouse", "build"],
        cwd=clone,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(clone) == digests(tagged)


def test_a_branch_at_a_tag_gives_the_tags_bytes(tagged: Path, tmp_path: Path) -> None:
    """A branch at a tagged commit has the tag's version, and so its bytes: an index takes no others."""
    run_git(tmp_path, "clone", "--quiet", str(tagged), "clone")
    clone = tmp_path / "clone"
    run_git(clone, "checkout", "--quiet", "-B", "develop", "v1.2.0")
    built(clone, env=runner(clone, "refs/heads/develop"))
    build = load_build(clone / "dist")
    assert (build.version, build.tag, build.ref) == ("1.2.0", None, "refs/heads/develop")
    assert digests(clone) == digests(tagged)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A first release branch, no tag yet and an earlier build in dist, built in a run; and its variables."""
    folder = repository(tmp_path_factory.mktemp("candidate") / "acme", tag=None)
    run_git(folder, "checkout", "--quiet", "-b", "release/v1.2.0")
    commit(folder)
    write(folder, {f"dist/{BUILD}": "{}", "dist/acme_triage-0.0.1.tar.gz": "old"})
    environment = runner(folder, "refs/heads/release/v1.2.0", GITHUB_TOKEN="ghs_secret")
    built(folder, env=environment)
    return folder, environment


def test_a_release_branch_is_built_as_its_candidate(candidate: tuple[Path, dict[str, str]]) -> None:
    """A release branch needs no tag: each attempt is a version of its own, with the notes of that to come."""
    build = load_build(candidate[0] / "dist")
    assert (build.version, build.prerelease, build.tag) == ("1.2.0.dev471102", True, None)
    assert not build.on_main
    assert (candidate[0] / "dist" / NOTES).read_text() == "### Added\n\n- Refunds.\n"


def test_an_earlier_build_is_replaced_whole(candidate: tuple[Path, dict[str, str]]) -> None:
    """Building again replaces the folder, leaves nothing of before or between, and makes the same bytes."""
    folder, environment = candidate
    before = digests(folder)
    assert "acme_triage-0.0.1.tar.gz" not in {path.name for path in (folder / "dist").iterdir()}
    built(folder, env=environment)
    assert digests(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".gatehouse")] == []


HOSTILE = "feature/$(touch${IFS}pwned)`id`;rm&<b>|'\"{{x}}%0A::error::é"


def test_a_hostile_branch_is_carried_exactly(tmp_path: Path) -> None:
    """On any other branch setuptools-scm counts from the package's own tags; the name is only data."""
    branch = HOSTILE.replace("::", "")  # git has no colon in a name
    folder = repository(tmp_path / "acme")
    run_git(folder, "tag", "deploy-2030")
    run_git(folder, "checkout", "--quiet", "-b", branch)
    commit(folder)
    run_git(folder, "tag", "release-2031")
    built(folder, env=runner(folder, f"refs/heads/{branch}"))
    build = load_build(folder / "dist")
    assert (build.version, build.ref) == ("0.1.1.dev1", f"refs/heads/{branch}")
    assert not list(tmp_path.rglob("pwned"))


def package_of_several(folder: Path) -> Path:
    """A repository whose package lies in packages/triage."""
    config = PYPROJECT.replace('version_file = "src/acme_triage/_version.py"', 'root = "../.."')
    inner = {f"packages/triage/{name}": text for name, text in FILES.items() if name != "CHANGELOG.md"}
    inner |= {"packages/triage/pyproject.toml": config, "CHANGELOG.md": CHANGELOG, "other.py": ""}
    return repository(folder, inner, tag="triage-v1.2.0")


def test_a_package_of_several(tmp_path: Path) -> None:
    """A package in a folder has tags of its own: those of its neighbours do not count."""
    folder = package_of_several(tmp_path / "acme")
    run_git(folder, "tag", "bar-v9.0.0")
    args = ("--path", "packages/triage", "--tag-prefix", "triage-v", "--out", "out/dist")
    built(folder, *args, env=runner(folder, "refs/tags/triage-v1.2.0"))
    build = load_build(folder / "out" / "dist")
    assert (build.version, build.tag, build.agents) == ("1.2.0", "triage-v1.2.0", ())
    assert (folder / "out" / "dist" / NOTES).is_file()


def test_agents_are_never_left_out_in_silence(tmp_path: Path) -> None:
    """Where only the root has agents, a package of several has to name its own, as for agent-ci."""
    folder = write_project(package_of_several(tmp_path / "acme"))
    commit(folder)
    place, package = ("--path", "packages/triage", "--tag-prefix", "triage-v"), folder / "packages/triage"
    for said in (refused(folder, *place), refused(package, "--tag-prefix", "triage-v")):
        assert "--path packages/triage has no agents" in said
        assert "agents/echo.yaml would be published without a verdict" in said
        assert "--agent 'agents/*.yaml', the input `agent`" in said
    assert 'Did you mean "agents/echo.yaml"?' in refused(folder, *place, "--agent", "agents/ecko.yaml")
    chosen = {"PATH": UV, "GATEHOUSE_BUILD_AGENTS": "agents/*.yaml\nagents/echo.yaml\n"}
    built(package, "--tag-prefix", "triage-v", env=chosen)
    [agent] = load_build(package / "dist").agents
    assert (agent.name, agent.path) == ("echo", "agents/echo.yaml")
    assert agent.digest == load_agent("agents/echo.yaml", folder).digest
    assert agent.golden == GoldenSet("golden.jsonl", folder).digest


def test_a_package_of_several_with_agents_of_its_own(tmp_path: Path) -> None:
    """The agents of the package's folder are taken by default, whatever else the repository has."""
    folder = write_project(package_of_several(tmp_path / "acme"))
    write_project(folder, name="own")
    (folder / "packages/triage/agents").mkdir()
    (folder / "agents/own.yaml").rename(folder / "packages/triage/agents/own.yaml")
    commit(folder)
    checkout = read_checkout(folder / "packages/triage", "", "", "triage-v")
    assert [agent.path for agent in agents_of(checkout, ())] == ["packages/triage/agents/own.yaml"]
    assert [agent.path for agent in agents_of(checkout, ("agents/*.yaml",))] == ["agents/echo.yaml"]


def test_hatch_vcs_takes_the_candidates_version(tmp_path: Path) -> None:
    """A project of hatchling and hatch-vcs is built as the release branch asks, too."""
    config = """\
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
[project]
name = "acme.triage"
readme = "README.md"
requires-python = ">=3.11"
dynamic = ["version"]
[tool.hatch.version]
source = "vcs"
"""
    folder = repository(tmp_path / "acme", FILES | {"pyproject.toml": config})
    run_git(folder, "checkout", "--quiet", "-b", "release/v1.2.0")
    built(folder, "--candidate", "rc", env=runner(folder, "refs/heads/release/v1.2.0"))
    assert load_build(folder / "dist").version == "1.2.0rc9"


def test_a_fixed_version_is_refused(tmp_path: Path) -> None:
    """A project that does not take its version from git cannot be a candidate, and is told why and how."""
    config = PYPROJECT.replace('dynamic = ["version"]', 'version = "1.0.0"').split("[tool.")[0]
    folder = repository(tmp_path / "acme", FILES | {"pyproject.toml": config})
    run_git(folder, "checkout", "--quiet", "-b", "release/v1.2.0")
    said = refused(folder)
    assert "1.0.0, and the branch release/v1.2.0 asks for 1.2.0.dev" in said
    assert 'dynamic = ["version"]' in said


def test_what_must_not_be_published_is_said_at_once(tmp_path: Path) -> None:
    """Secrets, strays, a dead entry point, a local version, thin metadata: each is named, nothing is kept."""
    config = PYPROJECT.replace("cli:main", "gone:main").replace('local_scheme = "no-local-version"\n', "")
    config = config.replace('requires-python = ">=3.11"\n', "").replace('readme = "README.md"\n', "")
    folder = repository(
        tmp_path / "acme",
        FILES
        | {
            "pyproject.toml": config,
            ".env": "TOKEN=hunter2\n",
            "deploy.pem": "-----BEGIN PRIVATE KEY-----\n",
            "MANIFEST.in": "include stray.txt\n",
            "setup.py": "import pathlib, setuptools\npathlib.Path('stray.txt').touch()\nsetuptools.setup()\n",
        },
    )
    commit(folder)
    said = refused(folder)
    for expected in (
        ".env looks like a secret",
        "deploy.pem looks like a secret (a private key)",
        "stray.txt is not in git",
        "acme-triage = acme_triage.gone:main",
        "no index takes a local version",
        "twine refuses it",
        'Write readme = "README.md" under [project]',
        "was not kept",
    ):
        assert expected in said
    assert "hunter2" not in said


def test_a_build_that_fails_shows_its_log(tmp_path: Path) -> None:
    """A backend's failure is the project's to mend: its log is shown, holds no key, and is not obeyed."""
    config = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    config += '[project]\nname = "acme"\nversion = "0.1.0"\n'
    backend = "import os\nprint('::error::injected', dict(os.environ))\nraise SystemExit('out of order')\n"
    folder = repository(tmp_path / "acme", {"pyproject.toml": config, "own.py": backend})
    keys = dict.fromkeys(("GITHUB_TOKEN", "PYPI_TOKEN", "TWINE_PASSWORD", "ACTIONS_ID_TOKEN"), "hunter2")
    done = gatehouse(folder, "build", env=runner(folder, "refs/tags/v0.1.0", **keys))
    assert done.code == 2
    assert "out of order" in done.err
    assert "Traceback (most recent call last)" not in done.out
    start, end = done.err.index("::stop-commands::"), done.err.index("::error::injected")
    assert start < end
    assert "::error::injected" not in done.out
    assert "GITHUB_SHA" in done.err
    assert "hunter2" not in done.err


def test_an_index_out_of_reach_is_no_fault_of_the_project(tmp_path: Path) -> None:
    """Where the backend cannot be fetched, nothing was measured: exit 3."""
    folder = repository(tmp_path / "acme")
    dead = "http://127.0.0.1:9/simple"
    nowhere = {"UV_DEFAULT_INDEX": dead, "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0", "UV_NO_CONFIG": "1"}
    nowhere |= {"PIP_INDEX_URL": dead, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1", "PIP_NO_INDEX": "0"}
    done = gatehouse(folder, "build", env={"PATH": UV, "PIP_FIND_LINKS": "", "UV_FIND_LINKS": "", **nowhere})
    assert done.code == 3, done.out + done.err


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tag v0.1.0 and a commit after it; read only."""
    folder = repository(tmp_path_factory.mktemp("origin") / "acme")
    commit(folder)
    return folder


def clone_of(origin: Path, folder: Path, *args: str) -> Path:
    """A clone, over git's own transport so that it can be shallow."""
    run_git(folder, "clone", "--quiet", *args, f"file://{origin}", "clone")
    return folder / "clone"


def test_a_shallow_clone_is_refused(origin: Path, tmp_path: Path) -> None:
    """Where history is missing nothing is built, and fetch-depth: 0 is named; on a tag as well."""
    clone = clone_of(origin, tmp_path, "--depth=1")
    assert "fetch-depth: 0" in refused(clone)
    run_git(clone, "tag", "v3.0.0")
    assert "shallow" in refused(clone, env=runner(clone, "refs/tags/v3.0.0"))


def test_a_clone_without_the_tags_is_refused(origin: Path, tmp_path: Path) -> None:
    """Where the origin has version tags and the clone none, that is said: it is never version 0.0.0."""
    said = refused(clone_of(origin, tmp_path, "--no-tags"))
    assert "that its origin has" in said
    assert "fetch-depth: 0" in said


def test_a_repository_without_tags_is_told_the_first_one(tmp_path: Path) -> None:
    """A package that was never released is told the tag to begin with."""
    folder = repository(tmp_path / "acme", tag=None)
    first = run_git(folder, "rev-parse", "HEAD")
    commit(folder)
    run_git(folder, "tag", "deploy-2030")
    assert f"git tag v0.0.0 {first[:12]}" in refused(folder)


def test_a_tag_out_of_reach_is_refused(tmp_path: Path) -> None:
    """After a squashed merge back the last tag is not in develop's history: that is said, with the mend."""
    folder = repository(tmp_path / "acme", tag=None)
    run_git(folder, "checkout", "--quiet", "-b", "other")
    commit(folder)
    run_git(folder, "tag", "v1.0.0")
    run_git(folder, "checkout", "--quiet", "main")
    assert "git merge v1.0.0" in refused(folder)


def test_uncommitted_changes_are_refused(tmp_path: Path) -> None:
    """What is in no commit cannot be built as one: the changed files are named."""
    folder = repository(tmp_path / "acme")
    write(folder, {"README.md": "# Other\n", "src/acme_triage/cli.py": ""})
    said = refused(folder)
    assert "README.md, src/acme_triage/cli.py" in said


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("refs/tags/v1.2", "names no version"),
        ("refs/tags/deploy-2030", "names no version"),
        ("refs/heads/release/next", "names no version to release"),
        ("refs/tags/v7.0.0", "the clone lacks"),
        ("refs/tags/" + "x" * 2000, "too long"),
        ("refs/tags/v0.0.1", "commit that is checked out"),
    ],
)
def test_odd_refs_are_refused(tmp_path: Path, ref: str, says: str) -> None:
    """A ref that names no version, does not exist, or is of another commit is never built."""
    folder = repository(tmp_path / "acme", tag="v0.0.1")
    commit(folder)
    for tag in ("v1.2", "deploy-2030"):
        run_git(folder, "tag", tag)
    assert says in refused(folder, env=runner(folder, ref))


def test_another_commit_than_the_runs_is_refused(tmp_path: Path) -> None:
    """What a step checked out beside the run's own commit is not built as the run's."""
    folder = repository(tmp_path / "acme")
    environment = runner(folder, "refs/heads/main")
    commit(folder)
    assert "Check out without `ref:`" in refused(folder, env=environment)


NAMES = [
    "$(touch pwned)",
    "a; rm -rf /",
    "../../etc",
    "<script>",
    "::error::x",
    "a\\nb",
    "\u202eevil",
    "x" * 300,
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_of_packages_are_refused(tmp_path: Path, name: str) -> None:
    """What is no name of a package is refused before anything is run."""
    config = PYPROJECT.replace('"acme-triage"', json.dumps(name).replace("\\\\n", "\\n"), 1)
    said = refused(repository(tmp_path / "acme", FILES | {"pyproject.toml": config}))
    assert "name" in said
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"dist/photo.jpg": "x"}, "it holds photo.jpg"),
        ({"dist/acme-1.0.tar.gz": "x"}, f"it has no {BUILD}"),
        ({"dist": "a file"}, "is not a folder"),
    ],
)
def test_a_foreign_folder_is_left_alone(tmp_path: Path, files: dict[str, str], says: str) -> None:
    """A folder that is no build of ours is neither replaced nor added to."""
    folder = repository(tmp_path / "acme")
    write(folder, files)
    assert says in refused(folder)
    assert all((folder / name).read_text() == text for name, text in files.items())


def test_a_committed_folder_is_refused(tmp_path: Path) -> None:
    """Built files are made, never checked in."""
    folder = repository(tmp_path / "acme", FILES | {".gitignore": "", f"dist/{SUMS}": ""})
    assert "git rm -r --cached dist" in refused(folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: (folder / "pyproject.toml").unlink(), "pyproject.toml: cannot be read"),
        (lambda folder: (folder / "pyproject.toml").write_text("[project"), "not TOML"),
        (lambda folder: shutil.rmtree(folder / ".git"), "no git repository"),
        (lambda folder: write(folder, {"agents/bad.yaml": "agent: 3\n"}), "agents/bad.yaml"),
    ],
)
def test_what_is_no_project_is_refused(tmp_path: Path, make: Any, says: str) -> None:
    """A folder without a package, without git, or with a broken agent file is told so."""
    folder = repository(tmp_path / "acme")
    make(folder)
    if says.startswith("agents"):
        commit(folder)
    assert says in refused(folder)
