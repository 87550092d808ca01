"""Permissions, time limits and the seams between workflows: what act does not check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contracts.suite import ROOT, TEMPLATES, WORKFLOWS, declared, load, own_file, strings

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = [*WORKFLOWS, *TEMPLATES]
LEVELS = {"none": 0, "read": 1, "write": 2}


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
def test_every_job_ends(path: str) -> None:
    """A job that runs steps has a time limit; one that calls a workflow cannot have one."""
    jobs = load(path)["jobs"]
    assert [name for name, job in jobs.items() if "uses" not in job and "timeout-minutes" not in job] == []


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


def test_our_last_gate_lists_every_job() -> None:
    """self-ci's gate needs all other jobs and expects a success of each: none can fail or vanish unseen."""
    jobs = load(".github/workflows/self-ci.yml")["jobs"]
    gate = jobs["gate"]
    assert set(gate["needs"]) == set(jobs) - {"gate"}
    assert gate["if"] == "${{ always() }}"
    assert gate["steps"][0]["run"].count("success") == len(gate["needs"])
