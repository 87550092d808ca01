"""`gatehouse verify-install`: the published package installed afresh, by its hash, and tried."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import click

from gatehouse.agent.interpreter import user_interpreter
from gatehouse.cli import Lines
from gatehouse.commands._publish import digests_option, dist_option
from gatehouse.errors import Exit, InfrastructureError, Problem, UserError
from gatehouse.github.escape import markdown_block, markdown_inline, plain
from gatehouse.github.runner import annotate, append_summary, say, set_outputs
from gatehouse.release.dist import load_build
from gatehouse.release.install import (
    EXACTLY,
    INDEXES,
    TIMED_OUT,
    TITLES,
    Cause,
    Step,
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.release.dist import Build
    from gatehouse.release.install import Wheel

_START_S, _INSTALL_S, _SMOKE_S = 120, 900, 300
"""Seconds for a short command of ours, for one call of pip, and for each smoke command."""

_SHOWN = 4000
"""Characters of a command's output in the job summary; the log has 20 times as many."""

_PYTHON = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:3])))"
_VERSION = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


@click.command("verify-install")
@dist_option
@digests_option
@click.option(
    "--index",
    type=click.Choice(["testpypi", "pypi"]),
    default="testpypi",
    show_default=True,
    help="Index that the package is installed from; its dependencies always come from PyPI.",
)
@click.option(
    "--python",
    default="python3",
    show_default=True,
    metavar="PATH",
    help="Python that the fresh virtual environment is made of.",
)
@click.option(
    "--smoke",
    cls=Lines,
    multiple=True,
    metavar="COMMAND",
    help="Command of bash that must end with 0 where the package is installed; repeatable.",
)
@click.option(
    "--wait",
    type=click.IntRange(0, 3600),
    default=150,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an index that does not show the package yet.",
)
def verify_install(
    dist: Path, digests: str, index: str, python: str, smoke: tuple[str, ...], wait: int
) -> None:
    """Install the published package afresh and try it.

    In a new virtual environment and an empty folder: the dependencies from PyPI, exactly the built wheel from
    the index, its hash checked; then its version, `--help` of each console script, and your own commands.
    Exit code: 0 all of it works, 1 the package does not, 2 an option to mend, 3 the index or the network.
    """
    build = load_build(dist, digests)
    wheels = [file.name for file in build.files if file.kind == "wheel"]
    if not wheels:
        raise UserError(Problem("the build has no wheel to install.", path=str(dist / "build.json")))
    wheel = read_wheel(dist / wheels[0])
    with tempfile.TemporaryDirectory(
        prefix="gatehouse-verify-", dir=os.environ.get("RUNNER_TEMP") or None, ignore_cleanup_errors=True
    ) as folder:
        trial = Trial(build, wheel, index, Path(folder).resolve(), wait)
        trial.make_environment(python)
        try:
            trial.install()
            if all(step.ok for step in trial.steps):
                trial.try_out(smoke)
        finally:
            _report(build, TITLES[index], trial.steps)
    failed = [step for step in trial.steps if not step.ok]
    for step in failed:
        annotate("error", f"{step.command}: {_last_line(step)}", title=f"{build.name} {build.version}")
    if not failed:
        say(f"{build.name} {build.version} installs from {TITLES[index]} and works.")
    click.get_current_context().exit(Exit.FAIL if failed else Exit.PASS)


@dataclass
class Trial:
    """One fresh environment under `folder`; `steps` are the commands that were run in it, in order.

    `wait` is how long, in seconds, an index may take to work and to show what it was sent.
    """

    build: Build
    wheel: Wheel
    index: str
    folder: Path
    wait: float
    steps: list[Step] = field(default_factory=list)

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.folder / "venv"

    def make_environment(self, python: str) -> None:
        """Make the virtual environment; raises UserError where the Python cannot, or is not the package's."""
        for name in ("home", "work"):
            (self.folder / name).mkdir()
        interpreter = user_interpreter(python)
        clean = environment(os.environ, self.folder / "home")
        # A shim of pyenv finds its Python by PATH.
        clean["PATH"] = f"{Path(interpreter).parent}:{clean['PATH']}"
        asked = run(python, [interpreter, "-I", "-c", _PYTHON], self.folder / "work", clean, _START_S)
        version = asked.output.strip()
        if not asked.ok or not re.fullmatch(r"\d+\.\d+\.\d+", version):
            repair = "Give a Python 3 with venv; Debian has it in the package python3-venv."
            why = f"--python {python}: it cannot make a virtual environment: {_last_line(asked)}"
            raise UserError(Problem(why, repair=repair))
        if problem := fits(self.wheel, version, self.build):
            raise UserError(problem)
        command = [interpreter, "-I", "-m", "venv", str(self.venv)]
        made = run(f"{python} -m venv", command, self.folder / "work", clean, _START_S)
        if not made.ok:
            raise InfrastructureError(f"The virtual environment could not be made: {_last_line(made)}")
        self.steps.append(made)

    def install(self) -> None:
        """The dependencies, the package, and pip's own check; ends at what fails, raises InfrastructureError.

        A dependency that PyPI does not have is the package's fault, a package that its index does not show is
        the index's.
        """
        build, retried = self.build, [Cause.NETWORK]
        if self.wheel.requires:
            self._pip(
                "pip install, dependencies from PyPI", dependencies(self.wheel), INDEXES["pypi"], (), retried
            )
        if all(step.ok for step in self.steps):
            title = f"pip install {build.name}=={build.version} from {TITLES[self.index]}"
            self._pip(title, pinned(build), INDEXES[self.index], EXACTLY, [*retried, Cause.ABSENT])
        if all(step.ok for step in self.steps):
            self._run("pip check", [self._python, "-I", "-m", "pip", "--isolated", "check"], _START_S)

    def try_out(self, smoke: Sequence[str]) -> None:
        """The installed version, `--help` of each console script, the user's commands; all are tried."""
        title = f"installed version is {self.build.version}"
        self._run(title, [self._python, "-I", "-c", _VERSION, self.build.name], _START_S)
        step = self.steps[-1]
        if step.ok and not is_version(step.output, self.build.version):
            self.steps[-1] = Step(title, 1, step.seconds, f"It is {step.output.strip()}.")
        for script in self.wheel.scripts:
            self._run(f"{script} --help", [str(self.venv / "bin" / script), "--help"], _SMOKE_S)
        for line in smoke:
            self._run(line, ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", line], _SMOKE_S)

    @property
    def _python(self) -> str:
        return str(self.venv / "bin" / "python")

    def _run(self, title: str, command: Sequence[str], limit: float) -> None:
        clean = environment(os.environ, self.folder / "home", self.venv)
        self.steps.append(run(title, command, self.folder / "work", clean, limit))

    def _pip(
        self, title: str, requirements: str, index: str, options: Sequence[str], retried: Sequence[Cause]
    ) -> None:
        """Install, again and again within the wait where the cause of a failure is one of `retried`."""
        file, log = self.folder / "requirements.txt", self.folder / "pip.log"
        file.write_text(requirements, encoding="utf-8")
        command = [*pip_install(Path(self._python), file, index, os.environ), *options, "--log", str(log)]
        attempt, deadline = 1, 0.0
        while True:
            log.unlink(missing_ok=True)
            self._run(title, command, _INSTALL_S)
            step = self.steps[-1]
            if step.ok:
                return
            said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else step.output
            cause = cause_of(said)
            if cause not in retried and step.code != TIMED_OUT:
                return
            attempt, deadline = attempt + 1, deadline or monotonic() + self.wait
            pause = pause_before(attempt, deadline - monotonic())
            if pause is None:
                raise InfrastructureError(
                    f"{title}: {cause}, and the wait for it (--wait) is over. {_last_line(step)}\n"
                    "Nothing was found wrong with the package: run this again when the index works."
                )
            self.steps.pop()
            say(f"{title}: {cause}. Attempt {attempt} follows in {pause:.0f} s.")
            sleep(pause)


def _last_line(step: Step) -> str:
    """The end of what a command said, for a message of one line."""
    lines = plain(step.output).strip().splitlines()
    return plain(lines[-1], 300) if lines else f"exit code {step.code}, without a word"


def _report(build: Build, title: str, steps: Sequence[Step]) -> None:
    """Each command with its output: in the log, in the job summary, and as an output without the texts."""
    lines = [f"### {markdown_inline(f'{build.name} {build.version}', 200)} installed from {title}\n"]
    for step in steps:
        mark = "✅" if step.ok else "❌"
        say(f"{mark} {step.command} (exit code {step.code}, {step.seconds:.1f} s)")
        if step.output.strip():
            say("\n".join(f"    {line}" for line in plain(step.output, 20 * _SHOWN).splitlines()))
        head = f"{mark} {markdown_inline(step.command, 200)} (exit code {step.code}, {step.seconds:.1f} s)"
        shown = markdown_block(step.output[-_SHOWN:].strip() or "(no output)", _SHOWN)
        # The empty line ends the HTML: only then is the fence one.
        lines.append(
            f"<details{'' if step.ok else ' open'}><summary>{head}</summary>\n\n{shown}\n</details>\n"
        )
    append_summary("\n".join(lines))
    report = [{"command": s.command, "code": s.code, "seconds": round(s.seconds, 1)} for s in steps]
    set_outputs({"version": build.version, "report": json.dumps(report)})
