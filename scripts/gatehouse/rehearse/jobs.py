"""The jobs of the release train's workflows, with the inputs that the repository's own files give them."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.rehearse.runner import tools, virtual_environment
from gatehouse.release.dist import artifact_name, load_build

if TYPE_CHECKING:
    from typing import Literal

    from gatehouse.rehearse.index import Indexes
    from gatehouse.rehearse.runner import Job, WorkflowRun
    from gatehouse.release.dist import Build

INSTALL = "if [ -f uv.lock ]; then uv sync --frozen; else python -m pip install -e . pytest; fi"
TEST = "if [ -f uv.lock ]; then uv run --frozen pytest; else python -m pytest; fi"
"""What the workflow `_build` does unless its caller says otherwise."""

SUITE = "gatehouse-ci/gatehouse/"
EVIDENCE = "gatehouse-evidence"
"""The artifact of the verdicts that a release goes by."""


def inputs_of(text: str) -> dict[str, str]:
    """What a workflow file gives our workflows and actions, by input; expressions are left out.

    Where it calls our `ci`, that says how to install and to test: the build beside it repeats neither.
    """
    try:
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 it makes strings only
        jobs = list(document["jobs"].values())
        uses = [use for job in jobs for use in (job, *job.get("steps", []))]
        ours = [use for use in uses if use.get("uses", "").startswith(SUITE)]
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        return {}  # no workflow, which GitHub says better
    if any("/ci.yml@" in use["uses"] for use in ours):
        ours = [use for use in ours if "/_build.yml@" not in use["uses"]]
    given: dict[str, str] = {}
    for use in ours:
        given |= {k: v for k, v in (use.get("with") or {}).items() if isinstance(v, str) and "${{" not in v}
    return given


def test(run: WorkflowRun, inputs: dict[str, str]) -> None:
    """The project's own tests, in an environment of their own; raises StepFailedError."""
    job = run.job("test", checkout="full")
    python = virtual_environment(job.temp / "python", seed=True)
    # The same, quicker.
    default = INSTALL.replace("python -m pip", "uv pip") if tools() else INSTALL
    place = f"cd {shlex.quote(inputs.get('path', '.'))}\n"
    job.shell("install", place + (inputs.get("install") or default), python)
    job.shell("test", place + (inputs.get("test") or TEST), python)


def build(run: WorkflowRun, inputs: dict[str, str], main: str) -> Build:
    """The one build of the run, handed on as an artifact; raises StepFailedError."""
    job = run.job("build", checkout="full")
    names = ("path", "tag-prefix", "candidate", "changelog")
    options = {name: inputs.get(name, "") for name in names}
    options |= {"agents": inputs.get("agent", ""), "main": main}
    job.must("build", _given("BUILD", options))
    made = load_build(job.workspace / "dist")
    job.hand_on(job.workspace / "dist", artifact_name(made.name))
    return made


def publish(run: WorkflowRun, made: Build, indexes: Indexes, index: Literal["pypi", "testpypi"]) -> None:
    """Publish by the trusted publisher of the workflow and its environment; raises StepFailedError.

    The job has no checkout and no token but the one that it may ask an identity with.
    """
    environment = {"testpypi": "staging", "pypi": "release"}[index]
    getattr(indexes, index).trust(made.name, run.machine.repository, run.workflow, environment)
    job = run.job(f"publish-{index}")
    job.fetch(artifact_name(made.name), job.workspace / "dist")
    options = {"dist": "dist", "digests": _digests(run)}
    if index == "pypi":
        job.fetch(EVIDENCE, job.workspace / "evidence")
        options["evidence"] = "evidence"
    identity = run.machine.github.oidc_environment(run.machine.repository, run.ref, run.workflow, environment)
    job.must(f"publish-{index}", _given(f"PUBLISH_{index}", options), secret=indexes.environment | identity)


def verify(run: WorkflowRun, made: Build, indexes: Indexes, inputs: dict[str, str]) -> None:
    """Install what is on TestPyPI, and try it; raises StepFailedError."""
    job = run.job("verify")
    job.fetch(artifact_name(made.name), job.workspace / "dist")
    python = str(getattr(sys, "_base_executable", sys.executable))
    options = {"dist": "dist", "digests": _digests(run), "index": "testpypi", "python": python}
    options["smoke"] = inputs.get("smoke", "")
    job.must("verify-install", _given("VERIFY_INSTALL", options), secret=indexes.environment)


def evidence(run: WorkflowRun, made: Build, inputs: dict[str, str]) -> dict[str, str]:
    """The verdict on every agent of the build, handed on as an artifact; raises StepFailedError."""
    job = run.job("evidence")
    job.fetch(artifact_name(made.name), job.workspace / "dist")
    options = {"dist": "dist", "out": "evidence", "tag-prefix": inputs.get("tag-prefix", "")}
    step = job.must("evidence", _given("EVIDENCE", options), secret=_token(run))
    job.hand_on(job.workspace / "evidence", EVIDENCE)
    return step.outputs


def github_release(run: WorkflowRun, made: Build) -> dict[str, str]:
    """The GitHub Release of the build; raises StepFailedError."""
    job = run.job("github-release")
    job.fetch(artifact_name(made.name), job.workspace / "dist")
    job.fetch(EVIDENCE, job.workspace / "evidence")
    options = {"dist": "dist", "digests": _digests(run), "evidence": "evidence"}
    return job.must("github-release", _given("GITHUB_RELEASE", options), secret=_token(run)).outputs


def with_token(
    run: WorkflowRun, name: str, command: str, inputs: dict[str, str], **options: str
) -> dict[str, str]:
    """A job `name` that works on the repository: the job's token, one command of ours, no checkout."""
    job: Job = run.job(name)
    options |= {key: inputs.get(key, "") for key in ("tag-prefix", "changelog")}
    return job.must(command, _given(command, options), secret=_token(run)).outputs


def _digests(run: WorkflowRun) -> str:
    """The output `digests` of the run's build: what its artifact has to hold, whoever replaces it."""
    return next(step.outputs["digests"] for step in run.steps if step.command == "build")


def _token(run: WorkflowRun) -> dict[str, str]:
    return {"GITHUB_TOKEN": run.machine.github.token}


def _given(command: str, options: dict[str, Any]) -> dict[str, str]:
    """Options as an action hands them on: by environment, an empty one for the default."""
    prefix = f"GATEHOUSE_{command.replace('-', '_').upper()}_"
    return {prefix + name.replace("-", "_").upper(): value for name, value in options.items()}
