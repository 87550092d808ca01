"""`gatehouse evidence`: the verdict of every agent that a build carries, from the runs of its release."""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.errors import Exit, InfrastructureError, Problem, State, UserError
from gatehouse.github.escape import markdown_inline, plain
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, append_summary, in_actions, say, set_outputs
from gatehouse.release.dist import load_build
from gatehouse.release.evidence import (
    ARTIFACT_LIMIT,
    FILE,
    GATES,
    Verdict,
    evidence_json,
    may_count,
    newest_first,
    read_verdict,
    summed_up,
    unpack,
    verdict_of,
)
from gatehouse.release.version import branch_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.github.api import Api
    from gatehouse.release.dist import Build

ARTIFACT = "gatehouse-eval"
"""The artifact in which agent-ci hands on its verdicts, a folder for each agent."""

_LOOKED_AT = 100
"""Runs that are looked into, the newest ones."""

Found = dict[str, Verdict]
"""The verdict that counts, by agent; until there is one, the newest that does not count, which says why."""


@click.command
@click.option(
    "--dist",
    type=click.Path(file_okay=False, path_type=Path),
    default="dist",
    show_default=True,
    metavar="FOLDER",
    help="Folder of the built files with their build.json.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="evidence",
    show_default=True,
    metavar="FOLDER",
    help="Folder that the verdicts are written to.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Verdicts of this very run, looked at first: AGENT/eval.json. Default: none.",
)
@click.option(
    "--workflow",
    default="agent-ci.yml",
    show_default=True,
    metavar="FILE",
    help="Workflow whose runs hold the verdicts.",
)
@click.option(
    "--tag-prefix", default="v", show_default=True, metavar="TEXT", help="What stands before a tag's version."
)
def evidence(dist: Path, out: Path, results: Path | None, workflow: str, tag_prefix: str) -> None:
    """Find the verdict of every agent that a build carries.

    Looks for verdicts on exactly the built digests: in --results, then in the runs of the workflow on the
    release branch and at the built commit, newest first. Writes evidence.json and the verdicts' files. Exit
    code: 0 all passed, or no agents; 1 one failed; 2 an option to mend; 3 one has no verdict.
    """
    if not re.fullmatch(r"[\w.-]+\.ya?ml", workflow):
        repair = "Write the name of a file in .github/workflows, such as agent-ci.yml."
        raise UserError(Problem(f'--workflow "{plain(workflow, 80)}" is no workflow file.', repair=repair))
    build = load_build(dist)
    found: Found = {}
    if results:
        url = Event.read().run_url if in_actions() else ""
        _take(build, {a.name: read_verdict(results / a.name) for a in build.agents}, url, found)
    failure = None
    if _undecided(build, found):
        try:
            _search(build, workflow, branch_of(parse(parse(build.version).base_version), tag_prefix), found)
        except InfrastructureError as error:
            failure = error
    verdicts = [
        found.get(a.name) or Verdict(State.UNSCORED, "there is no verdict on it") for a in build.agents
    ]
    _write(build, verdicts, out)
    code = _tell(build, verdicts)
    if code is Exit.UNSCORED:
        raise failure or InfrastructureError(_how_to(build, workflow, tag_prefix, verdicts))
    click.get_current_context().exit(code)


def _take(build: Build, files: dict[str, dict[str, bytes]], url: str, found: Found) -> None:
    """Judge what was found for each agent that has no verdict that counts yet."""
    for agent in build.agents:
        if agent.name in _undecided(build, found) and files.get(agent.name):
            verdict = verdict_of(agent, files[agent.name], url)
            if verdict.decisive or agent.name not in found:
                found[agent.name] = verdict


def _undecided(build: Build, found: Found) -> list[str]:
    return [a.name for a in build.agents if a.name not in found or not found[a.name].decisive]


def _search(build: Build, workflow: str, branch: str, found: Found) -> None:
    """Look through the runs, newest first, until every agent has a verdict; raises InfrastructureError."""
    from gatehouse.github.api import Api, ApiError  # noqa: PLC0415 beside the 60 ms of requests

    event, token = Event.read(), os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise InfrastructureError("No verdicts: GITHUB_TOKEN is empty. Hand the job's token to the step.")
    with Api(event.api_url, token) as api:
        try:
            for run in _runs(api, event.repository, workflow, branch, build.commit):
                files = _verdicts(api, event.repository, run, build)
                _take(build, files, f"{event.server_url}/{event.repository}/actions/runs/{run['id']}", found)
                if not _undecided(build, found):
                    return
        except ApiError as error:
            if error.status in (403, 404):
                raise InfrastructureError(_REFUSED.format(error=error, workflow=workflow)) from None
            raise


_REFUSED = """\
{error}
To find verdicts, the job needs `permissions: actions: read`, and the repository the workflow {workflow}."""


def _runs(api: Api, repository: str, workflow: str, branch: str, commit: str) -> list[dict[str, Any]]:
    """The runs whose verdicts may count, newest first."""
    path = f"/repos/{repository}/actions/workflows/{quote(workflow)}/runs"
    listed = [
        run
        for query in ({"branch": branch}, {"head_sha": commit})
        for run in _items(api, path, "workflow_runs", query)
    ]
    return newest_first(run for run in listed if may_count(run, repository, branch, commit))[:_LOOKED_AT]


def _items(api: Api, path: str, key: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What a listing holds under `key`, up to the limit."""
    count = 0
    for page in api.pages(path, **query):
        yield from page[key]
        count += len(page[key])
        if count >= _LOOKED_AT:
            return


def _verdicts(api: Api, repository: str, run: dict[str, Any], build: Build) -> dict[str, dict[str, bytes]]:
    """The files of the verdicts that a run handed on; none where its artifact is gone or cannot be used."""
    path = f"/repos/{repository}/actions"
    listed = _items(api, f"{path}/runs/{run['id']}/artifacts", "artifacts", {"name": ARTIFACT})
    artifacts = [one for one in listed if one["name"] == ARTIFACT and not one["expired"]]
    if not artifacts:
        return {}
    newest = max(artifacts, key=lambda one: (one.get("created_at") or "", one["id"]))
    if newest["size_in_bytes"] > ARTIFACT_LIMIT:
        say(f"Run {run['id']}: its artifact has {newest['size_in_bytes']:,} bytes and is left out.")
        return {}
    content = api.download(f"{path}/artifacts/{newest['id']}/zip")
    if (newest.get("digest") or digest_of(content)) != digest_of(content):
        raise InfrastructureError(f"Run {run['id']}: its artifact did not arrive whole. Run this again.")
    try:
        return unpack(content, build.agents)
    except ValueError as error:
        say(f"Run {run['id']}: its artifact is left out: {error}")
        return {}


def digest_of(content: bytes) -> str:
    """The digest of an artifact as GitHub shows it."""
    return f"sha256:{sha256(content).hexdigest()}"


def _write(build: Build, verdicts: list[Verdict], out: Path) -> None:
    """`evidence.json`, and the files of each verdict in the folder of its agent; older ones go."""
    try:
        for agent, verdict in zip(build.agents, verdicts, strict=True):
            folder = out / agent.name
            folder.mkdir(parents=True, exist_ok=True)
            for name in GATES:
                (folder / name).unlink(missing_ok=True)
            for name, content in verdict.files.items():
                (folder / name).write_bytes(content)
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(evidence_json(build, verdicts), indent=1, ensure_ascii=False)
        (out / FILE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"The evidence cannot be written to {out}: {error}") from None


def _tell(build: Build, verdicts: list[Verdict]) -> Exit:
    """Show every verdict, and hand on the outputs; the exit code of all together."""
    state, reason, code = summed_up(build.agents, verdicts)
    rows = ["| Agent | Verdict | Why | Run |", "| --- | --- | --- | --- |"]
    for agent, verdict in zip(build.agents, verdicts, strict=True):
        say(f"{agent.name}: {verdict.state}: {verdict.reason} {verdict.run_url}".rstrip())
        link = f"[run]({verdict.run_url})" if verdict.run_url else ""
        name, why = markdown_inline(agent.name, 80), markdown_inline(verdict.reason, 300)
        rows.append(f"| {name} | {verdict.state} | {why} | {link} |")
    say(f"Evidence: {state}: {reason}")
    if build.agents:
        append_summary(f"### Evidence: {state}\n\n" + "\n".join(rows) + "\n")
    shown = evidence_json(build, verdicts)["agents"]
    set_outputs({"state": state, "reason": reason, "agents": json.dumps(shown)})
    if code is Exit.FAIL:
        annotate("error", f"{build.name} {build.version} must not be published: {reason}")
    return code


def _how_to(build: Build, workflow: str, tag_prefix: str, verdicts: list[Verdict]) -> str:
    """What is missing, and how to get it."""
    branch = branch_of(parse(parse(build.version).base_version), tag_prefix)
    lines = [
        f"{agent.name}: no verdict on {agent.digest}: {verdict.reason}."
        for agent, verdict in zip(build.agents, verdicts, strict=True)
        if not verdict.decisive
    ]
    event = Event.read()
    page = f"{event.server_url}/{event.repository}/actions/workflows/{workflow}"
    how = f'Start {workflow} on the branch {branch} ("Run workflow" at {page}), wait for it, run this again.'
    return "\n".join([*lines, how])
