"""Permissions, time limits and the seams between workflows: what act does not check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contracts.suite import (
    ACTIONS,
    ROOT,
    TEMPLATES,
    WORKFLOWS,
    declared,
    flat,
    load,
    own_actions,
    own_file,
    steps,
    strings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = [*WORKFLOWS, *TEMPLATES]
LEVELS = {"none": 0, "read": 1, "write": 2}
PUBLISHING = {"publish-testpypi": "staging", "publish-pypi": "release"}
"""The actions that upload, each with the environment of its jobs."""
LASTING = {*PUBLISHING, "cut-release", "tag-release", "github-release", "finish-release"}
"""The actions whose effects outside a run must not be cut off halfway."""


def grants(holder: dict[str, Any], default: dict[str, str]) -> dict[str, str]:
    """The permissions of a job or workflow; the default where it says none."""
    found = holder.get("permissions")
    return default if found is None else found


def calls(path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every job that calls one of our workflows: its name, itself, the called file."""
    for name, job in load(path)["jobs"].items():
        target = own_file(job.get("uses", ""))
        if target:
            yield name, job, target


@pytest.mark.parametrize("path", WORKFLOWS)
def test_the_name_says_the_kind(path: str) -> None:
    """A workflow is public (`workflow_call`, said first), behind a public one (`_`), or our own (`self-`)."""
    name = Path(path).name
    assert name.startswith(("_", "self-")) or "workflow_call" in load(path)[True]
    if not name.startswith(("_", "self-")):
        assert (ROOT / path).read_text().startswith("# Public: ")


@pytest.mark.parametrize("path", ALL)
def test_nothing_is_granted_on_top(path: str) -> None:
    """A workflow starts from no permission at all, and each job that runs steps names its own."""
    assert load(path)["permissions"] == {}
    assert [name for name, job in load(path)["jobs"].items() if "permissions" not in job] == []


@pytest.mark.parametrize("path", ALL)
def test_every_grant_says_why(path: str) -> None:
    """Each permission has its reason in a comment on its line."""
    granted = re.findall(r"^ +[a-z-]+: (?:read|write)\b.*$", (ROOT / path).read_text(), re.MULTILINE)
    assert [line for line in granted if not re.search(r" # \w+", line)] == []
    assert len(granted) == sum(len(job.get("permissions", {})) for job in load(path)["jobs"].values())


@pytest.mark.parametrize("path", ALL)
def test_no_job_with_a_secret_unpacks_a_cache(path: str) -> None:
    """A job that unpacks a cache holds no secret and may write nothing.

    Unpacking writes wherever the archive says, and a pull request's code can save one.
    """
    for name, job in load(path)["jobs"].items():
        used = [step.get("uses", "") for _, step in flat("", job.get("steps", []))]
        if any(re.match(r"actions/cache(/restore)?@", uses) for uses in used):
            assert "secrets." not in "\n".join(strings(job)), name
            assert set(grants(job, {}).values()) <= {"read"}, name


def test_no_action_but_the_one_job_form_keeps_a_cache() -> None:
    """An action cannot know who may have saved what it would unpack; the root action trusts its authors."""
    using = {
        path
        for path in ACTIONS
        for _, step in steps(path)
        if step.get("uses", "").startswith("actions/cache")
    }
    assert using == {"action.yml"}


@pytest.mark.parametrize("path", ALL)
def test_every_job_ends(path: str) -> None:
    """A job that runs steps has a time limit; one that calls a workflow cannot have one."""
    jobs = load(path)["jobs"]
    assert [name for name, job in jobs.items() if "uses" not in job and "timeout-minutes" not in job] == []


def test_the_eval_gate_ends_before_its_job() -> None:
    """A judge that is slow ends its step: a job at its limit is cancelled, and keeps and reports nothing."""
    job = load(".github/workflows/agent-ci.yml")["jobs"]["gate"]
    [step] = [step for step in job["steps"] if step.get("id") == "eval-gate"]
    assert step["timeout-minutes"] <= job["timeout-minutes"] - 10


@pytest.mark.parametrize("path", ALL)
def test_a_called_workflow_gets_what_it_asks_for(path: str) -> None:
    """No called job wants a permission that its caller has not: GitHub would start nothing at all."""
    for name, job, target in calls(path):
        given = grants(job, load(path)["permissions"])
        called = load(target)
        for inner_name, inner in called["jobs"].items():
            for scope, level in grants(inner, called["permissions"]).items():
                assert LEVELS[given.get(scope, "none")] >= LEVELS[level], (
                    f"{name}: {inner_name} wants {scope}: {level}"
                )


@pytest.mark.parametrize("path", ALL)
def test_a_called_workflow_knows_its_inputs(path: str) -> None:
    """A call hands over only inputs and secrets that exist, and all that are required."""
    for name, job, target in calls(path):
        interface = declared(target)
        for kind, given in (("inputs", job.get("with", {})), ("secrets", job.get("secrets", {}))):
            if given == "inherit":
                continue
            required = {n for n, item in interface[kind].items() if (item or {}).get("required")}
            assert set(given) <= set(interface[kind]), f"{name}: {kind}"
            assert required <= set(given), f"{name}: {kind}"


@pytest.mark.parametrize("path", ALL)
def test_jobs_read_what_other_jobs_write(path: str) -> None:
    """For `needs.JOB.outputs.NAME`, JOB is among the `needs` and has that output; also a workflow's own."""
    jobs = load(path)["jobs"]
    outputs = {name: set(job.get("outputs", {})) for name, job in jobs.items()}
    outputs |= {name: set(declared(target)["outputs"]) for name, _, target in calls(path)}
    for name, job in jobs.items():
        needs = job.get("needs", [])
        needs = {needs} if isinstance(needs, str) else set(needs)
        text = "\n".join(strings(job))
        assert set(re.findall(r"\bneeds\.([\w-]+)", text)) <= needs | {"*"}, name
        for other, output in re.findall(r"\bneeds\.([\w-]+)\.outputs\.([\w-]+)", text):
            assert output in outputs[other], f"{name}: needs.{other}.outputs.{output}"
    if "workflow_call" in (load(path)[True] if isinstance(load(path)[True], dict) else {}):
        for item in declared(path)["outputs"].values():
            for job_name, output in re.findall(r"\bjobs\.([\w-]+)\.outputs\.([\w-]+)", item["value"]):
                assert output in outputs[job_name], f"jobs.{job_name}.outputs.{output}"


def jobs_with(actions: set[str] | dict[str, str]) -> list[tuple[str, str]]:
    """The jobs of all files whose steps use one of our actions, as (file, job)."""
    return [
        (path, name)
        for path in ALL
        for name, job in load(path)["jobs"].items()
        if set(actions) & set(own_actions(job))
    ]


def last_effects(path: str) -> bool:
    """Whether a job of the file, or of a workflow that it calls, has effects that must not be cut off."""
    own = any(LASTING & set(own_actions(job)) for job in load(path)["jobs"].values())
    return own or any(last_effects(target) for _, _, target in calls(path))


def groups(path: str) -> list[dict[str, Any]]:
    """What a file says of concurrency, on top and in its jobs."""
    holders = [load(path), *load(path)["jobs"].values()]
    return [holder["concurrency"] for holder in holders if "concurrency" in holder]


@pytest.mark.parametrize(("path", "name"), jobs_with(PUBLISHING))
def test_publish_jobs_hold_nothing_but_the_publication(path: str, name: str) -> None:
    """A job that uploads stands in its environment, fetches what was built, uploads it, and does no more.

    Its one permission is `id-token: write`, and only in the caller's own file: an index does not accept the
    identity of a called workflow of another repository.
    """
    job = load(path)["jobs"][name]
    [action] = own_actions(job)
    assert job["environment"]["name"] == PUBLISHING[action]
    assert job["permissions"] == ({"id-token": "write"} if path in TEMPLATES else {})
    others = [step for step in job["steps"] if own_file(step.get("uses", "")) is None]
    assert [
        step for step in others if not step.get("uses", "").startswith("actions/download-artifact@")
    ] == []
    fetched = [step["with"]["name"] for step in others]
    assert fetched[0] == "${{ needs.build.outputs.artifact }}"
    assert fetched[1:] == (["gatehouse-evidence"] if action == "publish-pypi" else [])


TAKING = {*PUBLISHING, "verify-install", "github-release"}
"""The actions that take the built files in the run in which others execute them."""


@pytest.mark.parametrize(("path", "name"), jobs_with(TAKING))
def test_what_was_built_is_taken_by_the_digests_of_the_build_job(path: str, name: str) -> None:
    """Any job can replace an artifact; none can change the output of the build, which each step compares."""
    steps = load(path)["jobs"][name]["steps"]
    [given] = [step["with"] for step in steps if set(own_actions({"steps": [step]})) & TAKING]
    assert given["digests"] == "${{ needs.build.outputs.digests }}"


@pytest.mark.parametrize("path", [".github/workflows/staging.yml", "templates/oidc/staging.yml"])
def test_staging_builds_release_branches_only(path: str) -> None:
    """On another ref nothing is built: its version may be taken by other bytes; and the gate says why."""
    jobs = load(path)["jobs"]
    assert jobs["build"]["if"] == "${{ startsWith(github.ref, 'refs/heads/release/') }}"
    refusal = jobs["gate"]["steps"][0]
    assert refusal["if"] == "${{ !startsWith(github.ref, 'refs/heads/release/') }}"
    assert "::error" in refusal["run"]
    assert "exit 1" in refusal["run"]


@pytest.mark.parametrize(("path", "name"), jobs_with({"publish-pypi"}))
def test_pypi_comes_last_and_never_in_a_trial(path: str, name: str) -> None:
    """What goes to PyPI was built, judged and verified; a trial asks nobody, and no pre-release by itself."""
    job = load(path)["jobs"][name]
    assert set(job["needs"]) == {"build", "evidence", "verify"}
    meant = "(inputs.pre-release || needs.build.outputs.prerelease != 'true')"
    assert job["if"] == f"${{{{ !inputs.trial && {meant} }}}}"


@pytest.mark.parametrize("path", ALL)
def test_only_publish_jobs_can_prove_who_they_are(path: str) -> None:
    """No other job holds `id-token`, with which it could upload in the place of the publish job."""
    holders = {name for name, job in load(path)["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert holders == {name for file, name in jobs_with(PUBLISHING) if file == path and path in TEMPLATES}


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", "templates/oidc/ci.yml"])
def test_ci_builds_nothing_to_publish_but_on_develop(path: str) -> None:
    """In CI, the build that is published belongs to a push to develop, never to a pull request."""
    job = load(path)["jobs"]["build"]
    branch = r"('refs/heads/develop'|format\('refs/heads/\{0\}', inputs\.develop\))"
    assert re.search(rf"github\.event_name == 'push' && github\.ref == {branch} ?(&&|\}}\}})", job["if"])
    assert "||" not in job["if"]


@pytest.mark.parametrize("path", [path for path in ALL if last_effects(path)])
def test_what_publishes_or_cuts_is_never_cancelled(path: str) -> None:
    """No newer run cancels one with lasting effects; where pull requests' are, a push has its own group."""
    assert groups(path) != []
    for group in groups(path):
        if group["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}":
            assert "github.event.pull_request.number || github.sha" in group["group"]
        else:
            assert group["cancel-in-progress"] is False


@pytest.mark.parametrize("path", WORKFLOWS)
def test_groups_carry_the_name_of_their_workflow(path: str) -> None:
    """A called workflow's group begins with its own name; its caller's is another: none waits for itself."""
    own = [group["group"] for group in groups(path)]
    if "workflow_call" in load(path)[True]:
        assert [name for name in own if not name.startswith(f"gatehouse-{Path(path).stem}")] == []
    for _, _, target in calls(path):
        assert {group["group"] for group in groups(target)} & set(own) == set()


@pytest.mark.parametrize("path", TEMPLATES)
def test_no_template_waits_for_itself(path: str) -> None:
    """A template's group is not one of ours."""
    assert [group for group in groups(path) if group["group"].startswith("gatehouse-")] == []


GATES = [path for path in ALL if "always()" in load(path)["jobs"].get("gate", {}).get("if", "")]


@pytest.mark.parametrize("path", GATES)
def test_a_last_gate_lists_every_job(path: str) -> None:
    """The gate needs all other jobs and reads the result of each: none can fail or vanish unseen."""
    jobs = load(path)["jobs"]
    gate = jobs["gate"]
    assert set(gate["needs"]) == set(jobs) - {"gate"}
    assert gate["if"] == "${{ always() }}"
    text = "\n".join(strings(gate))
    read = set(re.findall(r"needs\.([\w-]+)\.result", text))
    assert read == set(gate["needs"]) or "join(needs.*.result, ' ')" in text
    assert text.count("success") >= len(gate["needs"])


def test_the_gates_that_a_branch_rule_can_require() -> None:
    """Our own CI, and the workflows of branches that may be protected, in both forms, have such a gate."""
    wanted = {"self-ci.yml", "ci.yml", "staging.yml"}
    assert {Path(path).name for path in GATES} == wanted
    assert "templates/oidc/staging.yml" in GATES
