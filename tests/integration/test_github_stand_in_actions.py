"""The GitHub of tests and rehearsals starts runs, keeps artifacts, asks reviewers, and names a job."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.rehearse.oidc import IdTokenError, Issuer
from gatehouse.rehearse.origin import run_git
from tests.integration import test_github_stand_in_git as shared
from tests.integration.test_github_stand_in_git import NAME, ROOT, ask, commit, said

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

work, gh = shared.work, shared.gh
"""The same repository, in the same GitHub."""


def test_a_dispatch_starts_a_run(gh: GitHub, work: Path) -> None:
    """A dispatch is recorded with its inputs and defaults, and its run is queued until it is finished."""
    path = f"{ROOT}/actions/workflows/staging.yml/dispatches"
    wish: dict[str, Any] = {"ref": "develop", "inputs": {"version": "1.0.0"}}
    assert ask(gh, "POST", path, json=wish).status_code == 204
    [dispatch] = gh.dispatches
    head = run_git(work, "rev-parse", "develop")
    assert (dispatch["ref"], dispatch["sha"]) == ("refs/heads/develop", head)
    assert dispatch["inputs"] == {"version": "1.0.0", "kind": "dev"}
    run = f"{ROOT}/actions/runs/{dispatch['run_id']}"
    queued = ask(gh, "GET", run).json()
    assert (queued["status"], queued["conclusion"], queued["event"]) == ("queued", None, "workflow_dispatch")
    assert (queued["name"], queued["path"]) == ("Staging", ".github/workflows/staging.yml")
    gh.finish_run(dispatch["run_id"], "failure")
    assert ask(gh, "GET", run).json()["conclusion"] == "failure"
    told = ask(gh, "POST", path, json=wish | {"return_run_details": True})
    assert (told.status_code, told.json()["workflow_run_id"]) == (200, gh.dispatches[1]["run_id"])


@pytest.mark.parametrize(
    ("workflow", "ref", "inputs", "status", "words"),
    [
        ("absent.yml", "main", {}, 404, "Not Found"),
        ("staging.yml", "absent", {}, 422, "No ref found for: absent"),
        ("release.yml", "main", {}, 422, "Workflow does not have 'workflow_dispatch' trigger"),
        ("staging.yml", "main", {"versoin": "1"}, 422, 'Unexpected inputs provided: ["versoin"]'),
        ("staging.yml", "main", {}, 422, "Required input 'version' not provided"),
        (
            "staging.yml",
            "main",
            {"version": "1", "kind": "final"},
            422,
            "Provided value 'final' for input 'kind' not in the list of allowed values",
        ),
    ],
)
def test_dispatches_are_refused_as_on_github(
    gh: GitHub, workflow: str, ref: str, inputs: dict[str, str], status: int, words: str
) -> None:
    """An unknown workflow is 404; an unknown ref, a file without the trigger and wrong inputs are 422."""
    path = f"{ROOT}/actions/workflows/{workflow}/dispatches"
    assert said(ask(gh, "POST", path, json={"ref": ref, "inputs": inputs})) == (status, words)
    assert gh.dispatches == []
    assert gh.runs(NAME) == []


def test_a_workflow_must_stand_on_the_default_branch(gh: GitHub, work: Path) -> None:
    """A workflow that only another branch has is unknown, and one missing at the ref cannot start there."""
    commit(work, ".github/workflows/new.yml", "on: workflow_dispatch\n")
    run_git(work, "rm", "--quiet", ".github/workflows/staging.yml")
    run_git(work, "commit", "--quiet", "-m", "Gone")
    run_git(work, "push", "--quiet", "origin", "develop")
    place = f"{ROOT}/actions/workflows"
    assert ask(gh, "POST", f"{place}/new.yml/dispatches", json={"ref": "develop"}).status_code == 404
    gone = ask(gh, "POST", f"{place}/staging.yml/dispatches", json={"ref": "develop"})
    assert said(gone) == (422, "Workflow does not have 'workflow_dispatch' trigger")


def test_pushes_start_runs_as_on_github(gh: GitHub, work: Path) -> None:
    """A person's push starts the workflows whose filters match it; the job's own token starts none."""
    run_git(work, "push", "--quiet", "origin", "develop:release/v1", "develop:refs/tags/v1")
    assert gh.runs(NAME) == []
    run_git(work, "push", "--quiet", "dev", "develop:release/v2", "develop:refs/tags/v2", ":release/v1")
    started = {(run["path"].rpartition("/")[2], run["head_branch"]) for run in gh.runs(NAME)}
    assert started == {
        ("staging.yml", "release/v2"),
        ("ci.yml", "release/v2"),
        ("release.yml", "v2"),
        ("ci.yml", "v2"),
    }
    assert {run["status"] for run in gh.runs(NAME)} == {"queued"}
    run_git(work, "push", "--quiet", "dev", *(f"develop:refs/tags/v3.{n}" for n in range(4)))
    assert len(gh.runs(NAME)) == 4


def test_runs_are_found(gh: GitHub, work: Path) -> None:
    """Runs are listed newest first by workflow, commit, branch, event, status and time, in pages."""
    one, two = run_git(work, "rev-parse", "main"), run_git(work, "rev-parse", "develop")
    first = gh.add_run(NAME, "ci.yml", one, "main")
    second = gh.add_run(NAME, "ci.yml", two, "develop", conclusion="failure")
    third = gh.add_run(NAME, "staging.yml", two, "develop", "workflow_dispatch", status="in_progress")
    every = f"{ROOT}/actions/runs"
    of_ci = f"{ROOT}/actions/workflows/ci.yml/runs"
    day = ask(gh, "GET", f"{every}/{first}").json()["created_at"]
    cases: list[tuple[str, dict[str, str], list[int]]] = [
        (every, {}, [third, second, first]),
        (of_ci, {}, [second, first]),
        (of_ci, {"head_sha": two}, [second]),
        (every, {"branch": "main"}, [first]),
        (every, {"event": "workflow_dispatch"}, [third]),
        (every, {"status": "success"}, [first]),
        (every, {"status": "completed"}, [second, first]),
        (every, {"status": "in_progress"}, [third]),
        (every, {"created": f">={day[:10]}"}, [third, second, first]),
        (every, {"created": f"<{day[:10]}"}, []),
        (every, {"created": f"2020-01-01..{day[:10]}"}, [third, second, first]),
    ]
    for path, query, wanted in cases:
        found = ask(gh, "GET", path, params=query).json()
        assert (query, [run["id"] for run in found["workflow_runs"]]) == (query, wanted)
        assert found["total_count"] == len(wanted)
    paged = ask(gh, "GET", every, params={"per_page": "2"})
    assert paged.json()["total_count"] == 3
    following = ask(gh, "GET", paged.links["next"]["url"]).json()
    assert [run["id"] for run in following["workflow_runs"]] == [first]
    workflow = ask(gh, "GET", f"{ROOT}/actions/workflows/ci.yml").json()["id"]
    by_id = ask(gh, "GET", f"{ROOT}/actions/workflows/{workflow}/runs").json()
    assert by_id["total_count"] == 2


def test_artifacts_are_downloaded_without_the_token(gh: GitHub, work: Path, tmp_path: Path) -> None:
    """An artifact has a digest; its download leads to another server, which refuses GitHub's token."""
    run = gh.add_run(NAME, "ci.yml", run_git(work, "rev-parse", "main"), "main")
    (tmp_path / "out/eval").mkdir(parents=True)
    (tmp_path / "out/eval/eval.json").write_text("{}")
    gh.add_artifact(NAME, run, "gatehouse-eval", tmp_path / "out")
    found = ask(gh, "GET", f"{ROOT}/actions/runs/{run}/artifacts", params={"name": "gatehouse-eval"}).json()
    assert found["total_count"] == 1
    [artifact] = found["artifacts"]
    redirect = ask(gh, "GET", artifact["archive_download_url"], allow_redirects=False)
    where = redirect.headers["Location"]
    assert redirect.status_code == 302
    assert not where.startswith(gh.server_url)
    content = requests.get(where, timeout=10).content
    assert artifact["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["eval/eval.json"]
    assert ask(gh, "GET", where).status_code == 400
    assert ask(gh, "GET", f"{ROOT}/actions/artifacts/1/zip").status_code == 404


def test_a_reviewer_approves(gh: GitHub, work: Path) -> None:
    """A run waits for an environment until one of its reviewers, and nobody else, approves or rejects it."""
    gh.create_environment(NAME, "release", reviewers=("owner",), branches=("v*",))
    shown = ask(gh, "GET", f"{ROOT}/environments/release").json()
    assert [rule["type"] for rule in shown["protection_rules"]] == ["required_reviewers", "branch_policy"]
    assert shown["protection_rules"][0]["reviewers"][0]["reviewer"]["login"] == "owner"
    assert ask(gh, "GET", f"{ROOT}/environments/staging").status_code == 404
    head = run_git(work, "rev-parse", "main")
    for state in ("approved", "rejected"):
        run = gh.add_run(NAME, "release.yml", head, "v1", status="queued")
        gh.await_approval(run, "release")
        path = f"{ROOT}/actions/runs/{run}/pending_deployments"
        assert len(ask(gh, "GET", path).json()) == 1
        wish = {"environment_ids": [shown["id"]], "state": state, "comment": ""}
        assert ask(gh, "POST", path, json=wish).status_code == 422
        assert gh.approval(run, "release") == "waiting"
        assert ask(gh, "POST", path, gh.token_of("owner", may_write=True), json=wish).status_code == 200
        assert gh.approval(run, "release") == state
    assert ask(gh, "GET", f"{ROOT}/actions/runs/{run}").json()["conclusion"] == "failure"
    gh.create_environment(NAME, "staging")
    gh.await_approval(run, "staging")
    assert gh.approval(run, "staging") == "approved"
    assert ask(gh, "GET", f"{ROOT}/environments").json()["total_count"] == 2


def test_identity_tokens(gh: GitHub) -> None:
    """A job's token carries GitHub's claims for the asked audience; a forged one is not verified."""
    variables = gh.oidc_environment(NAME, "refs/tags/v0.1.0", "release.yml", "release", run_id="77")
    address = variables["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=pypi"
    bearer = {"Authorization": f"bearer {variables['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    token = requests.get(address, headers=bearer, timeout=10).json()["value"]
    claims = gh.verify_id_token(token)
    assert claims["iss"] == "https://token.actions.githubusercontent.com"
    assert (claims["aud"], claims["run_id"]) == ("pypi", "77")
    assert claims["sub"] == f"repo:{NAME}:environment:release"
    place = f"{NAME}/.github/workflows/release.yml@refs/tags/v0.1.0"
    assert (claims["workflow_ref"], claims["job_workflow_ref"]) == (place, place)
    assert claims["sha"] == gh.git(NAME, "rev-parse", "v0.1.0")
    assert requests.get(address, headers={"Authorization": "bearer x"}, timeout=10).status_code == 401
    head, payload, signature = token.split(".")
    expired = gh._issuer.sign(claims | {"exp": claims["nbf"]})
    other = Issuer().sign(claims)
    for forged in (f"{head}.{payload[:-4]}AAAA.{signature}", f"{head}.{payload}.", other, expired, "x", ""):
        with pytest.raises(IdTokenError):
            gh.verify_id_token(forged)
