"""Cut GitHub's OpenAPI description down to the operations that Gatehouse calls.

Source: the npm package `@octokit/openapi`, version 23.0.2, MIT licence (GitHub, Inc.), made from
github/rest-api-description. It is 385 MB installed, so it is fetched once, by hand, when OPERATIONS changes:

    npm pack @octokit/openapi@23.0.2 && tar -xf octokit-openapi-23.0.2.tgz
    python tools/cut_openapi.py package/generated/api.github.com.json

writes `scripts/gatehouse/rehearse/github_openapi.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "scripts/gatehouse/rehearse/github_openapi.json"

OPERATIONS = """
GET /repos/{owner}/{repo}
GET /repos/{owner}/{repo}/pulls
POST /repos/{owner}/{repo}/pulls
GET /repos/{owner}/{repo}/pulls/{pull_number}
PATCH /repos/{owner}/{repo}/pulls/{pull_number}
PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge
GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls
GET /repos/{owner}/{repo}/issues/{issue_number}/comments
POST /repos/{owner}/{repo}/issues/{issue_number}/comments
GET /repos/{owner}/{repo}/issues/comments/{comment_id}
PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}
DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}
GET /repos/{owner}/{repo}/labels
GET /repos/{owner}/{repo}/issues/{issue_number}/labels
POST /repos/{owner}/{repo}/issues/{issue_number}/labels
GET /repos/{owner}/{repo}/git/commits/{commit_sha}
GET /repos/{owner}/{repo}/git/ref/{ref}
GET /repos/{owner}/{repo}/git/matching-refs/{ref}
POST /repos/{owner}/{repo}/git/refs
PATCH /repos/{owner}/{repo}/git/refs/{ref}
DELETE /repos/{owner}/{repo}/git/refs/{ref}
GET /repos/{owner}/{repo}/branches
GET /repos/{owner}/{repo}/branches/{branch}
GET /repos/{owner}/{repo}/branches/{branch}/protection
POST /repos/{owner}/{repo}/statuses/{sha}
GET /repos/{owner}/{repo}/commits/{ref}/status
GET /repos/{owner}/{repo}/commits/{ref}/statuses
GET /repos/{owner}/{repo}/actions/workflows/{workflow_id}
POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches
GET /repos/{owner}/{repo}/actions/workflows/{workflow_id}/runs
GET /repos/{owner}/{repo}/actions/runs
GET /repos/{owner}/{repo}/actions/runs/{run_id}
GET /repos/{owner}/{repo}/actions/runs/{run_id}/artifacts
GET /repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}
GET /repos/{owner}/{repo}/actions/runs/{run_id}/pending_deployments
POST /repos/{owner}/{repo}/actions/runs/{run_id}/pending_deployments
GET /repos/{owner}/{repo}/environments
GET /repos/{owner}/{repo}/environments/{environment_name}
GET /repos/{owner}/{repo}/releases
POST /repos/{owner}/{repo}/releases
POST /repos/{owner}/{repo}/releases/generate-notes
GET /repos/{owner}/{repo}/releases/latest
GET /repos/{owner}/{repo}/releases/tags/{tag}
GET /repos/{owner}/{repo}/releases/{release_id}
PATCH /repos/{owner}/{repo}/releases/{release_id}
DELETE /repos/{owner}/{repo}/releases/{release_id}
GET /repos/{owner}/{repo}/releases/{release_id}/assets
POST /repos/{owner}/{repo}/releases/{release_id}/assets
GET /repos/{owner}/{repo}/releases/assets/{asset_id}
DELETE /repos/{owner}/{repo}/releases/assets/{asset_id}
"""

PROSE = {"description", "summary", "example", "examples", "externalDocs", "title"}
"""Keys for readers: they take three quarters of the file and check nothing."""


def cut(source: dict[str, Any]) -> dict[str, Any]:
    """The description with OPERATIONS and what they refer to, without prose and vendor extensions."""
    result: dict[str, Any] = {key: source[key] for key in ("openapi", "info", "servers")}
    result |= {"paths": {}, "components": {}}
    for line in OPERATIONS.split("\n"):
        if line:
            method, path = line.lower().split()
            result["paths"].setdefault(path, {})[method] = without_prose(source["paths"][path][method])
    todo = references(result["paths"])
    while todo:
        _, _, kind, name = todo.pop().split("/")
        group = result["components"].setdefault(kind, {})
        if name not in group:
            group[name] = without_prose(source["components"][kind][name])
            todo |= references(group[name])
    return result


def without_prose(node: Any, *, names: bool = False) -> Any:
    """A copy without PROSE and `x-` keys; `names` says that the keys are property names, which all stay."""
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_prose(value, names=not names and key in ("properties", "headers"))
        for key, value in node.items()
        if names or not (key in PROSE or key.startswith("x-"))
    }


def references(node: Any) -> set[str]:
    """Every `$ref` below a node."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(references, node.values()))


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 the program and its file
        sys.exit(__doc__)
    description = cut(json.loads(Path(sys.argv[1]).read_bytes()))
    text = json.dumps(description, separators=(",", ":"), sort_keys=True) + "\n"
    TARGET.write_text(text, encoding="utf-8")
    print(f"{len(text)} bytes, {sum(map(len, description['paths'].values()))} operations")
