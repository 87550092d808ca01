"""`gatehouse evidence`: the verdict of every agent that a build carries, from the runs of its release."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.commands._publish import dist_option
from gatehouse.commands._release import prefix_option, workflow_files
from gatehouse.errors import Exit, InfrastructureError, State
from gatehouse.github.escape import markdown_inline
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, append_summary, say, set_outputs
from gatehouse.release.dist import load_build
from gatehouse.release.evidence import (
    ARTIFACT_LIMIT,
    FILE,
    GATES,
    Verdict,
    evidence_json,
    may_count,
    newest_first,
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
@dist_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="evidence",
    show_default=True,
    metavar="FOLDER",
    help="Folder that the verdicts are written to.",
)
@click.option(
    "--workflow",
    default="agent-ci.yml",
    show_default=True,
    metavar="FILE",
    help="Workflow whose runs hold the verdicts.",
)
@prefix_option
def evidence(dist: Path, out: Path, workflow: str, tag_prefix: str) -> None:
    """Find the verdict of every agent that a build carries.

    Looks for verdicts on exactly the built digests in the runs of the workflow at commits with exactly the
    built files, newest first. Writes evidence.json and the verdicts' files. Exit code: 0 all passed, or no
    agents; 1 one failed; 2 an option to mend; 3 one has no verdict.
    """
    workflow_files(workflow=(workflow,))
    build = load_build(dist)
    found: Found = {}
    failure = None
    if build.agents:
        try:
            _search(build, workflow, tag_prefix, found)
        except InfrastructureError as error:
            failure = error
    none = Verdict(State.UNSCORED, f"no run of {workflow} at exactly the built files left one")
    verdicts = [found.get(agent.name, none) for agent in build.agents]
    _write(build, verdicts, out)
    code = _tell(build, verdicts)
    if code is Exit.UNSCORED:
        raise failure or InfrastructureError(_how_to(build, workflow, verdicts))
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


def _search(build: Build, workflow: str, tag_prefix: str, found: Found) -> None:
    """Look through the runs, newest first, until every agent has a verdict; raises InfrastructureError."""
    from gatehouse.github.api import Api, ApiError  # noqa: PLC0415 beside the 60 ms of requests

    event, token = Event.read(), os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise InfrastructureError("No verdicts: GITHUB_TOKEN is empty. Hand the job's token to the step.")
    with Api(event.api_url, token) as api:
        try:
            for run in _runs(api, event.repository, workflow, build, tag_prefix):
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
To find verdicts, the job needs `permissions:` with `actions: read` and `contents: read`, and the repository
the workflow {workflow}."""


def _runs(
    api: Api, repository: str, workflow: str, build: Build, tag_prefix: str
) -> Iterator[dict[str, Any]]:
    """The runs whose verdicts may count: those of the release by its names, then the rest; newest first.

    The names save requests and prove nothing: every run has to be at a commit with the built tree.
    """
    path = f"/repos/{repository}/actions/workflows/{quote(workflow)}/runs"
    names = [branch_of(parse(parse(build.version).base_version), tag_prefix), *filter(None, [build.tag])]
    hints = [{"head_sha": build.commit}, *({"branch": name} for name in names)]
    seen = set[int]()
    trees: dict[str, str | None] = {}

    def tree_of(commit: str) -> str | None:
        if commit not in trees:
            trees[commit] = _tree(api, repository, commit)
        return trees[commit]

    for queries in (hints, [{"event": "push"}, {"event": "workflow_dispatch"}]):
        listed = newest_first(run for query in queries for run in _items(api, path, "workflow_runs", query))
        for run in listed[:_LOOKED_AT]:
            if run["id"] not in seen and may_count(run, repository, tree_of, build.tree):
                seen.add(run["id"])
                yield run


def _tree(api: Api, repository: str, commit: str) -> str | None:
    """The tree of a commit; None for one that GitHub does not show."""
    from gatehouse.github.api import ApiError  # noqa: PLC0415 as above

    try:
        return str(api.get(f"/repos/{repository}/git/commits/{quote(commit)}")["tree"]["sha"])
    except ApiError as error:
        if error.status != 404:  # noqa: PLR2004 HTTP's "not found"
            raise
        say(f"Runs at {commit} are left out: it is gone, or the job lacks `permissions: contents: read`.")
        return None


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


def _how_to(build: Build, workflow: str, verdicts: list[Verdict]) -> str:
    """What is missing, and how to get it."""
    lines = [
        f"{agent.name}: no verdict on {agent.digest}: {verdict.reason}."
        for agent, verdict in zip(build.agents, verdicts, strict=True)
        if not verdict.decisive
    ]
    event, name = Event.read(), workflow.rpartition(".")[0]
    kind, ref = ("tag", build.tag) if build.tag else ("branch", build.ref.removeprefix("refs/heads/"))
    page = f"{event.server_url}/{event.repository}/actions/workflows/{workflow}"
    how = f"Start {name} on the {kind} {ref} (Actions, {name}, Run workflow, Use workflow from: {kind}), "
    return "\n".join([*lines, f"{how}wait for it, then run the failed job again. The workflow: {page}"])
