"""The GitHub of tests and rehearsals publishes releases, and tells every effect before its reply."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gatehouse.errors import InfrastructureError
from gatehouse.rehearse.origin import run_git
from tests.integration import test_github_stand_in_git as shared
from tests.integration.test_github_stand_in_git import NAME, ROOT, ask, said

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

work, gh = shared.work, shared.gh
"""The same repository, in the same GitHub."""


def draft(gh: GitHub, tag: str = "v1.0.0", **more: Any) -> dict[str, Any]:
    """A new draft for `develop`."""
    wish = {"tag_name": tag, "target_commitish": "develop", "draft": True, **more}
    made: dict[str, Any] = ask(gh, "POST", f"{ROOT}/releases", json=wish).json()
    return made


def upload(gh: GitHub, release: dict[str, Any], name: str, content: bytes) -> requests.Response:
    """Send an asset to where the release says."""
    address = release["upload_url"].partition("{")[0]
    headers = {"Content-Type": "application/octet-stream"}
    return ask(gh, "POST", address, params={"name": name}, data=content, headers=headers)


def test_a_release_goes_from_draft_to_published(gh: GitHub) -> None:
    """A draft is in the list of those who may write only; published, it has its tag, and is found by it."""
    release = draft(gh, name="1.0.0", body="Notes")
    one = f"{ROOT}/releases/{release['id']}"
    assert (release["draft"], release["published_at"]) == (True, None)
    assert "v1.0.0" not in release["html_url"]
    assert [r["id"] for r in ask(gh, "GET", f"{ROOT}/releases").json()] == [release["id"]]
    reader = gh.token_of("reader")
    assert ask(gh, "GET", f"{ROOT}/releases", reader).json() == []
    assert ask(gh, "GET", one, reader).status_code == 404
    assert ask(gh, "GET", f"{ROOT}/releases/tags/v1.0.0").status_code == 404
    assert "refs/tags/v1.0.0" not in gh.git(NAME, "for-each-ref")
    content = b"\x00wheel\xff"
    asset = upload(gh, release, "a b.whl", content).json()
    assert (asset["name"], asset["size"]) == ("a.b.whl", len(content))
    assert asset["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    again = upload(gh, release, "a.b.whl", content)
    assert (again.status_code, again.json()["errors"][0]["code"]) == (422, "already_exists")
    assert ask(gh, "PATCH", one, json={"draft": False}).json()["published_at"]
    assert gh.git(NAME, "rev-parse", "v1.0.0") == gh.git(NAME, "rev-parse", "develop")
    found = ask(gh, "GET", f"{ROOT}/releases/tags/v1.0.0").json()
    assert (found["id"], found["body"]) == (release["id"], "Notes")
    assert requests.get(found["assets"][0]["browser_download_url"], timeout=10).content == content
    by_id = f"{ROOT}/releases/assets/{asset['id']}"
    assert ask(gh, "GET", by_id, headers={"Accept": "application/octet-stream"}).content == content
    assert ask(gh, "GET", f"{ROOT}/releases/latest").json()["id"] == release["id"]


def test_a_published_release_is_immutable(gh: GitHub, work: Path) -> None:
    """Assets and tag of a published release stay; its notes may change; its tag serves no other release."""
    release = draft(gh)
    one = f"{ROOT}/releases/{release['id']}"
    asset = upload(gh, release, "a.whl", b"wheel").json()
    ask(gh, "PATCH", one, json={"draft": False})
    assert ask(gh, "GET", one).json()["immutable"] is True
    late = upload(gh, release, "late.whl", b"wheel")
    assert said(late) == (422, "Cannot upload assets to an immutable release.")
    assert ask(gh, "DELETE", f"{ROOT}/releases/assets/{asset['id']}").status_code == 422
    assert ask(gh, "PATCH", one, json={"tag_name": "v2.0.0"}).status_code == 422
    assert ask(gh, "PATCH", one, json={"body": "Mended", "draft": False}).json()["body"] == "Mended"
    with pytest.raises(InfrastructureError, match="GH013"):
        run_git(work, "push", "origin", "+main:refs/tags/v1.0.0")
    assert ask(gh, "DELETE", one).status_code == 204
    run_git(work, "push", "--quiet", "origin", ":refs/tags/v1.0.0")
    reused = ask(gh, "POST", f"{ROOT}/releases", json={"tag_name": "v1.0.0"})
    assert said(reused) == (422, "Validation Failed; tag_name was used by an immutable release")


def test_mutable_releases(gh: GitHub) -> None:
    """Where releases are not immutable, two drafts may share a tag, but only one of them is published."""
    gh.settings(NAME).immutable_releases = False
    first, second = draft(gh), draft(gh)
    assert ask(gh, "PATCH", f"{ROOT}/releases/{first['id']}", json={"draft": False}).status_code == 200
    refused = ask(gh, "PATCH", f"{ROOT}/releases/{second['id']}", json={"draft": False, "body": "Lost"})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "already_exists")
    asset = upload(gh, first, "a.whl", b"wheel").json()
    assert ask(gh, "DELETE", f"{ROOT}/releases/assets/{asset['id']}").status_code == 204
    assert ask(gh, "GET", f"{ROOT}/releases/{first['id']}/assets").json() == []
    assert [(r["draft"], r["body"]) for r in gh.releases(NAME)] == [(False, None), (True, None)]
    assert requests.get(asset["browser_download_url"], timeout=10).status_code == 404


@pytest.mark.parametrize("fault", ["api", "uploads", "type", "empty"])
def test_uploads_go_to_their_own_server(gh: GitHub, fault: str) -> None:
    """An asset sent to the API's address, other calls sent to the uploads', or no type or bytes: refused."""
    release = draft(gh)
    place = f"{ROOT}/releases/{release['id']}/assets?name=a.whl"
    uploads = gh.server_url + "/api/uploads"
    kind = {"Content-Type": "application/octet-stream"}
    reply = {
        "api": lambda: ask(gh, "POST", place, data=b"x", headers=kind),
        "uploads": lambda: ask(gh, "GET", f"{uploads}{ROOT}/releases"),
        "type": lambda: ask(gh, "POST", uploads + place, data=b"x"),
        "empty": lambda: ask(gh, "POST", uploads + place, headers=kind),
    }[fault]()
    assert reply.status_code == (400 if fault == "empty" else 500)
    assert len(gh.violations) == (0 if fault == "empty" else 1)
    gh.violations.clear()


def test_generated_notes_name_the_merged_pull_requests(gh: GitHub) -> None:
    """Generated notes list what was merged since the tag before; asking for them is no effect."""
    gh.open_pull(NAME, "develop", "main", "Add a feature", login="ada")
    gh.merge_pull(NAME, 1)
    wish = {"tag_name": "v1.0.0", "target_commitish": "main", "previous_tag_name": "v0.1.0"}
    notes = ask(gh, "POST", f"{ROOT}/releases/generate-notes", json=wish).json()
    assert f"* Add a feature by @ada in {gh.server_url}/{NAME}/pull/1" in notes["body"]
    assert notes["body"].endswith(f"/{NAME}/compare/v0.1.0...v1.0.0")
    assert gh.effects == []


def test_effects_are_told_before_their_reply(gh: GitHub, work: Path) -> None:
    """Each write that took place is told once, in order, before its reply; reads and refusals are not."""
    seen: list[tuple[str, int]] = []
    gh.on_effect = lambda effect: seen.append((effect, len(gh.git(NAME, "for-each-ref").splitlines())))
    sha = run_git(work, "rev-parse", "main")
    wish = {"ref": "refs/heads/release/v1", "sha": sha}
    ask(gh, "POST", f"{ROOT}/git/refs", json=wish)
    ask(gh, "POST", f"{ROOT}/git/refs", json=wish)
    ask(gh, "GET", f"{ROOT}/git/ref/heads/main")
    run_git(work, "push", "--quiet", "origin", "develop:release/v1", "develop:refs/tags/v1")
    run_git(work, "push", "--quiet", "origin", "develop:release/v1")
    run_git(work, "push", "--quiet", "origin", ":release/v1")
    gh.protect(NAME, "main")
    with pytest.raises(InfrastructureError, match="GH006"):
        run_git(work, "push", "origin", "develop:main")
    release = draft(gh)
    upload(gh, release, "a.whl", b"x")
    assert gh.effects == [
        f"POST {ROOT}/git/refs",
        "push refs/heads/release/v1 refs/tags/v1",
        "push :refs/heads/release/v1",
        f"POST {ROOT}/releases",
        f"POST {ROOT}/releases/{release['id']}/assets?name=a.whl",
    ]
    assert [effect for effect, _ in seen] == gh.effects
    assert [refs for _, refs in seen][:3] == [4, 5, 4]


def test_the_nth_reply_is_lost(gh: GitHub, work: Path) -> None:
    """`lose` counts requests of the API and of git alike, and the lost one takes effect."""
    gh.lose(2)
    assert ask(gh, "GET", ROOT).status_code == 200
    wish = {"ref": "refs/heads/new", "sha": run_git(work, "rev-parse", "main")}
    with pytest.raises(requests.ConnectionError):
        ask(gh, "POST", f"{ROOT}/git/refs", json=wish)
    assert gh.git(NAME, "rev-parse", "new") == wish["sha"]
    assert ask(gh, "GET", ROOT).status_code == 200
    assert [status for *_, status in gh.calls] == [200, 0, 200]
    before = len(gh.calls)
    run_git(work, "push", "--quiet", "origin", "develop:counted")
    pushed = gh.calls[before:]
    assert {call[:2] for call in pushed} == {("GIT", "receive-pack")}
    gh.lose(len(pushed))
    with pytest.raises(InfrastructureError):
        run_git(work, "push", "--quiet", "origin", "develop:lost")
    assert gh.git(NAME, "rev-parse", "lost") == run_git(work, "rev-parse", "develop")
    assert gh.effects[-1] == "push refs/heads/lost"


@pytest.mark.parametrize(("length", "status"), [(65_536, 201), (65_537, 422)])
def test_a_pull_request_that_is_too_long_is_refused(gh: GitHub, length: int, status: int) -> None:
    """The text of a pull request has at most 65,536 characters, when it is opened and when it is changed."""
    pulls, wish = f"{ROOT}/pulls", {"head": "develop", "base": "main", "title": "A change"}
    made = ask(gh, "POST", pulls, json=wish | {"body": "é" * length})
    assert made.status_code == status
    if status == 422:
        assert said(made)[1].endswith("Body is too long (maximum is 65536 characters)")
        assert gh.pulls(NAME) == []
        assert ask(gh, "POST", pulls, json=wish).status_code == 201
    changed = ask(gh, "PATCH", f"{pulls}/1", json={"body": "x" * length, "title": "Changed"})
    assert changed.status_code == (200 if status == 201 else 422)
    assert gh.pull(NAME, 1)["title"] == ("Changed" if status == 201 else "A change")
