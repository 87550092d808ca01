"""`gatehouse build`: wheel and sdist, made once, with all that later stages have to know of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from gatehouse.agent.definition import AGENT_FILES, load_agent
from gatehouse.agent.digest import tracked_below
from gatehouse.agent.interpreter import worker_environment
from gatehouse.commands._agents import agent_files, agents_named, require_unique
from gatehouse.commands._release import file_paths
from gatehouse.errors import InfrastructureError, Problem, UserError
from gatehouse.evals.results import digest_of
from gatehouse.github.escape import markdown_inline, plain
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, append_summary, in_actions, say, set_outputs
from gatehouse.release.checkout import (
    NOTHING,
    Candidate,
    Run,
    changelog_of,
    export,
    ignored_files,
    is_on_main,
    read_checkout,
    refused,
    require_tag_in_reach,
    tracked_files,
    untracked_files,
    version_is_right,
    wanted_version,
)
from gatehouse.release.dist import (
    BUILD,
    NOTES,
    SUMS,
    Agent,
    Build,
    File,
    artifact_name,
    digests_of,
    sha256_of,
)
from gatehouse.release.package import (
    entry_point_faults,
    metadata_faults,
    read_sdist,
    read_wheel,
    repack_sdist,
    secret_faults,
    stray_faults,
    unknown_members,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

    from gatehouse.release.checkout import Checkout, Wanted
    from gatehouse.release.package import Archive

_OURS = (BUILD, SUMS, NOTES)
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?"
"""The name of a distribution (PEP 508), as long as build.json takes it."""
_HIDDEN = ("PYTHON", "GIT_", "SETUPTOOLS_SCM_", "VCS_VERSIONING_", "TWINE_")
_HIDDEN_NAMES = {"TEST_PYPI_TOKEN", "PYPI_TOKEN", "VIRTUAL_ENV"}
"""What a build must not see: what would change version or interpreter, and the keys of later stages."""
_NETWORK = re.compile(
    r"(?i)failed to fetch|error sending request|dns error|name resolution"
    r"|connection (refused|reset|timed out)|max retries exceeded|operation timed out"
    r"|could not connect|tls handshake"
)
_LOG = 8000
"""Characters of a failed build's log that are shown, from its end."""


class Project(NamedTuple):
    """What pyproject.toml says: the distribution's name, and whether hatch-vcs tells its version."""

    name: str
    hatch: bool


@click.command
@click.option("--path", default=".", metavar="FOLDER", help="Folder of the package. Default: this one.")
@agents_named(
    "Agent file from the repository's root, or a pattern of them; repeatable. "
    "Default: agents/*.yaml below --path."
)
@click.option(
    "--tag-prefix", default="v", metavar="TEXT", help="What stands before the version in tags. Default: v."
)
@click.option("--main", default="main", metavar="BRANCH", help="Branch of what is released. Default: main.")
@click.option(
    "--candidate",
    type=click.Choice(get_args(Candidate)),
    default="dev",
    help="Version on a release branch: X.Y.Z.devN, X.Y.ZrcN, or setuptools-scm's own. Default: dev.",
)
@click.option(
    "--changelog", default="CHANGELOG.md", metavar="FILE", help="Changelog, for the release's notes."
)
@click.option("--out", default="dist", metavar="FOLDER", help="Folder of the built files. Default: dist.")
def build(
    path: str,
    agents: tuple[str, ...],
    tag_prefix: str,
    main: str,
    candidate: Candidate,
    changelog: str,
    out: str,
) -> None:
    """Build wheel and sdist once, with their digests.

    Builds the files of the commit that is checked out, and nothing else, in a temporary folder; checks them,
    and writes them to --out with build.json, SHA256SUMS and notes.md. Exit code: 0 built, 2 something to
    mend, 3 what the build needs could not be fetched.
    """
    folder = Path(out)
    file_paths(out=out)
    _require_tools()
    _require_free(folder)
    project = read_project(Path(path))
    run, ref, sha, repository = _run_of()
    checkout = read_checkout(Path(path), ref, sha, tag_prefix)
    wanted = wanted_version(checkout.ref, tag_prefix, candidate, run, checkout.epoch)
    if wanted.version is None:
        require_tag_in_reach(checkout, tag_prefix)
    carried = agents_of(checkout, agents)
    on_main = _on_main(checkout, main)
    history = changelog_of(checkout, changelog)
    _say_untracked(checkout, folder)
    with TemporaryDirectory(prefix="gatehouse-build-", dir=os.environ.get("RUNNER_TEMP")) as temporary:
        tree, made = Path(temporary, "tree"), Path(temporary, "made")
        export(checkout, tree, wanted.tag, tag_prefix)
        wheel, sdist = run_build(tree / checkout.project, made, project, wanted, checkout.epoch)
        repack_sdist(sdist, checkout.epoch)
        archives = read_wheel(wheel), read_sdist(sdist)
        version = check(archives, tree, checkout, project, wanted, tag_prefix)
        built = Build(
            name=str(archives[0].metadata["Name"]),
            version=str(version),
            prerelease=version.is_prerelease,
            tag=wanted.tag,
            ref=checkout.ref,
            commit=checkout.commit,
            tree=checkout.tree,
            repository=repository,
            on_main=on_main,
            epoch=checkout.epoch,
            files=tuple(
                File(one.path.name, sha256_of(one.path), one.path.stat().st_size, one.kind)
                for one in archives
            ),
            agents=carried,
        )
        deliver(built, made, notes_of(history, version), folder)
    _report(built, folder, wanted)


def read_project(path: Path) -> Project:
    """The project in `path`; raises UserError where its pyproject.toml gives no usable name."""
    file = path / "pyproject.toml"
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        repair = "Name the package's folder by --path."
        raise refused(f"cannot be read: {error.strerror}", repair, str(file)) from None
    except ValueError as error:
        raise refused(f"not TOML: {error}", "", str(file)) from None
    project, system = data.get("project"), data.get("build-system")
    name = project.get("name") if isinstance(project, dict) else None
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        shown = (
            f'"{plain(str(name), 80)}" is no name of a package' if name else "it gives the package no name"
        )
        raise refused(shown, 'Write [project] with name = "your-package".', str(file))
    requires = system.get("requires") if isinstance(system, dict) else None
    return Project(name, "hatch-vcs" in str(requires))


def agents_of(checkout: Checkout, patterns: tuple[str, ...]) -> tuple[Agent, ...]:
    """The agents that the build carries, as agent-ci knows them; raises UserError.

    `patterns` are agent files from the repository's root; without any, those below the package's folder.
    """
    with chdir(checkout.top):
        files = agent_files(patterns) if patterns else _agents_below(checkout.project)
        require_unique(files)
        agents, problems = [], []
        for file in files:
            try:
                agent = load_agent(file)
            except UserError as error:
                problems += error.problems
                continue
            strict: Any = agent.evals.on_inconclusive
            golden = digest_of(agent.evals.dataset, Path.cwd())
            agents.append(Agent(agent.name, file, agent.version, agent.digest, strict, golden))
    if problems:
        raise UserError(*problems, left=NOTHING)
    return tuple(agents)


def _agents_below(project: str) -> list[str]:
    """The agent files of the package's folder; raises UserError where only the repository's root has any."""
    found, elsewhere = (
        sorted({str(file) for pattern in AGENT_FILES for file in place.glob(pattern) if file.is_file()})
        for place in (Path(project), Path())
    )
    if elsewhere and not found:
        names = plain(", ".join(elsewhere), 200)
        raise refused(
            f"--path {project} has no agents, and {names} would be published without a verdict",
            "Name the package's agents as for agent-ci: --agent 'agents/*.yaml', the input `agent`.",
        )
    return found


def run_build(project: Path, made: Path, named: Project, wanted: Wanted, epoch: int) -> tuple[Path, Path]:
    """The wheel and the sdist of the folder `project`, in `made`: the sdist first, the wheel from it."""
    installer = ["--installer", "uv"] if shutil.which("uv") else []
    done = subprocess.run(
        [sys.executable, "-I", "-m", "build", *installer, "--outdir", str(made), str(project)],
        env=build_environment(os.environ, named, wanted, epoch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        umask=0o022,  # a wheel keeps the modes of its files
        check=False,
    )
    if done.returncode:
        log = plain(done.stdout.decode(errors="replace"))
        say(log[-_LOG:], sys.stderr)
        if _NETWORK.search(log):
            raise InfrastructureError("What the build needs could not be fetched; the log above says what.")
        raise refused(
            "the build failed", "Its log is above; `python -m build` does the same on your machine."
        )
    wheels, sdists = sorted(made.glob("*.whl")), sorted(made.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise refused(f"the build made {len(wheels)} wheels and {len(sdists)} sdists, not one of each")
    return wheels[0], sdists[0]


def build_environment(environ: Any, project: Project, wanted: Wanted, epoch: int) -> dict[str, str]:
    """What the build sees: no token, and nothing of the caller's that changes what comes out."""
    kept = {
        name: value
        for name, value in worker_environment(environ).items()
        if not name.startswith(_HIDDEN) and name not in _HIDDEN_NAMES
    }
    kept |= {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "TZ": "UTC", "NO_COLOR": "1"}
    if wanted.pretend:
        variable = "SETUPTOOLS_SCM_PRETEND_VERSION"
        key = re.sub(r"[-_.]+", "_", project.name).upper()
        kept[f"{variable}_FOR_{key}"] = str(wanted.version)
        if project.hatch:  # hatch-vcs does not hand the name on: it heeds the variable for everything only
            kept[variable] = str(wanted.version)
    return kept


def check(
    archives: tuple[Archive, Archive],
    tree: Path,
    checkout: Checkout,
    project: Project,
    wanted: Wanted,
    prefix: str,
) -> Version:
    """The version of the built files; raises UserError with every reason not to publish them."""
    wheel, sdist = archives
    problems = [fault for archive in archives for fault in archive.faults]
    problems += [fault for archive in archives for fault in metadata_faults(archive, project.name)]
    problems += entry_point_faults(wheel)
    problems += [fault for archive in archives for fault in secret_faults(archive)]
    problems += _strays(sdist, tree, checkout)
    version = wheel.version
    if version is not None:
        right = version_is_right(version, wanted, checkout.tags_here, prefix)
        problems += [] if right.passed else [Problem(right.reason, path=wheel.path.name)]
    if version != sdist.version:
        problems.append(Problem(f"the wheel is {version} and the sdist is {sdist.version}"))
    files = [str(archive.path) for archive in archives]
    problems += _checked("twine", "check", "--strict", *files, cwd=tree)
    problems += _checked("check_wheel_contents", files[0], cwd=tree / checkout.project)
    if problems or version is None:
        raise UserError(*problems, left="What was built is not fit to be published and was not kept.")
    return version


def notes_of(text: str | None, version: Version) -> str | None:
    """The changelog's section of the version, for a candidate that of the version to come; None for none."""
    from gatehouse.release.changelog import section  # noqa: PLC0415 with a parser that only a build needs

    return None if text is None else section(text, version) or section(text, version.base_version)


def deliver(built: Build, made: Path, notes: str | None, out: Path) -> None:
    """Make the folder `out` appear whole, in place of an earlier one of ours."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=".gatehouse-", dir=out.parent))
    except OSError as error:
        raise InfrastructureError(f"{out} could not be written: {error}") from None
    try:
        for file in built.files:
            shutil.copyfile(made / file.name, fresh / file.name)
        built.save(fresh)
        if notes is not None:
            (fresh / NOTES).write_text(notes.strip("\n") + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        with TemporaryDirectory(prefix=".gatehouse-", dir=out.parent) as old:
            if out.exists():
                os.replace(out, Path(old, "dist"))  # noqa: PTH105 a rename, so that no one sees half of it
            os.replace(fresh, out)  # noqa: PTH105 as above
    except OSError as error:
        raise InfrastructureError(f"{out} could not be written: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _require_tools() -> None:
    missing = [name for name in ("build", "twine", "check_wheel_contents") if find_spec(name) is None]
    if missing:
        repair = 'Install Gatehouse with them: pip install "gatehouse-ci[release]".'
        raise refused(f"{', '.join(missing)} is not installed", repair)


def _require_free(out: Path) -> None:
    """Raise UserError unless `out` is absent, empty, or holds a build of ours that was never committed."""
    shown, repair = plain(str(out), 200), "Remove it, or name another folder by --out."
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise refused(f"--out {shown} is not a folder", repair)
    if tracked := tracked_below(Path.cwd(), str(out)):
        repair = f"Write `git rm -r --cached {shown}`, and add `{shown}/` to .gitignore."
        raise refused(f"--out {shown} is committed ({plain(tracked[0], 200)})", repair)
    names = [entry.name for entry in out.iterdir()] if out.is_dir() else []
    foreign = [name for name in names if name not in _OURS and not name.endswith((".whl", ".tar.gz"))]
    if names and (foreign or BUILD not in names):
        what = f"holds {plain(min(foreign), 100)}" if foreign else f"has no {BUILD}"
        raise refused(f"--out {shown} is no build of Gatehouse: it {what}", repair)


def _run_of() -> tuple[Run, str, str, str]:
    """The run's numbers, and the ref, commit and repository that a runner says; nothing outside of one."""
    if not in_actions():
        return Run(), "", "", ""
    event = Event.read()
    number = os.environ.get("GITHUB_RUN_NUMBER", "")
    run = Run(event.run_id, event.run_attempt, int(number) if re.fullmatch("[0-9]{1,18}", number) else 0)
    return run, event.ref, event.sha, event.repository


def _on_main(checkout: Checkout, main: str) -> bool:
    found = is_on_main(checkout, main)
    if found is None:
        annotate(
            "warning",
            f"there is no branch {plain(main, 100)} here: build.json says that the commit is not on it",
        )
    return bool(found)


def _say_untracked(checkout: Checkout, out: Path) -> None:
    """Say which files a developer may believe to be in the package."""
    names = untracked_files(checkout.top, checkout.project)
    names = [name for name in names if not (checkout.top / name).is_relative_to(out.resolve())]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004
        annotate("notice", f"not in git, so not in the build: {', '.join(names[:5])}{more}")


def _strays(sdist: Archive, tree: Path, checkout: Checkout) -> Iterable[Problem]:
    everything = tracked_files(checkout.top)
    below = "" if checkout.project == "." else f"{checkout.project}/"
    tracked = {name.removeprefix(below) for name in everything if name.startswith(below)}
    unknown = unknown_members(sdist.digests, tracked)
    ignored = ignored_files(tree, [below + name for name in unknown]) if unknown else set[str]()

    def is_tracked_content(base: str, digest: str) -> bool:
        same = (checkout.top / name for name in everything if name.rpartition("/")[2] == base)
        return any(file.is_file() and sha256_of(file) == digest for file in same)

    return stray_faults(sdist, tracked, is_tracked_content, {name.removeprefix(below) for name in ignored})


def _checked(module: str, *args: str, cwd: Path) -> list[Problem]:
    """What a checker has to say against a built file: nothing, or one problem."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-I", "-m", module, *args],
        cwd=cwd,
        env=environ | {"NO_COLOR": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return []
    said = plain((done.stdout + done.stderr).decode(errors="replace"), _LOG)
    said = "\n".join(line.rstrip() for line in said.splitlines()).strip()  # tables are padded to their width
    repair = 'Write readme = "README.md" under [project].' if "`long_description` missing" in said else ""
    said = said.replace(str(Path(args[-1]).parent) + "/", "")
    return [Problem(f"{module.replace('_', '-')} refuses it:\n{said}", repair=repair)]


def _report(built: Build, out: Path, wanted: Wanted) -> None:
    say(f"Built {built.name} {built.version} ({wanted.reason}) in {out}:")
    for file in built.files:
        say(f"  {file.sha256}  {file.name}")
    rows = "".join(
        f"| {markdown_inline(file.name, 200)} | {file.size:,} | `{file.sha256}` |\n" for file in built.files
    )
    title = f"{markdown_inline(built.name, 200)} {markdown_inline(built.version, 100)}"
    append_summary(f"### Built {title}\n\n| File | Bytes | SHA-256 |\n| --- | ---: | --- |\n{rows}")
    set_outputs(
        {
            "version": built.version,
            "name": built.name,
            "prerelease": built.prerelease,
            "tag": built.tag or "",
            "files": json.dumps([file.name for file in built.files]),
            "digests": json.dumps(digests_of(out)),
            "agents": json.dumps([agent.name for agent in built.agents]),
            "artifact": artifact_name(built.name),
        }
    )
