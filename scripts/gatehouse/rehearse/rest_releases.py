"""Releases: drafts that only the list shows, assets with digests, and what is published for good."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from gatehouse.rehearse import protection
from gatehouse.rehearse.state import (
    Account,
    Answer,
    Asset,
    Pull,
    Refusal,
    Release,
    Repository,
    World,
    invalid,
    now,
    require_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.rehearse.spec import Call


class Releases:
    """The API's part for releases and their assets."""

    def __init__(self, world: World, storage_url: str) -> None:
        self._world, self._storage_url = world, storage_url
        self.operations: dict[str, Callable[[Repository, Account, Call], Answer]] = {
            "repos/list-releases": self._list,
            "repos/create-release": self._create,
            "repos/generate-release-notes": self._generate_notes,
            "repos/get-latest-release": self._get_latest,
            "repos/get-release-by-tag": self._get_by_tag,
            "repos/get-release": lambda r, a, call: Answer(200, self.show(r, visible(r, a, call))),
            "repos/update-release": self._update,
            "repos/delete-release": self._delete,
            "repos/list-release-assets": self._list_assets,
            "repos/upload-release-asset": self._upload,
            "repos/get-release-asset": self._get_asset,
            "repos/delete-release-asset": self._delete_asset,
        }

    def show(self, repository: Repository, release: Release) -> dict[str, Any]:
        """A release as the API shows it."""
        address = self._world.address(repository, f"releases/{release.id}")
        uploads = address.replace(self._world.api_url, f"{self._world.server_url}/api/uploads")
        shown = f"untagged-{release.id:x}" if release.draft else release.tag_name
        given = {
            "id": release.id,
            "tag_name": release.tag_name,
            "target_commitish": release.target,
            "name": release.name,
            "body": release.body,
            "draft": release.draft,
            "prerelease": release.prerelease,
            "immutable": release.immutable,
            "author": release.author.show(),
            "created_at": release.created_at,
            "published_at": release.published_at,
            "url": address,
            "assets_url": f"{address}/assets",
            "upload_url": f"{uploads}/assets{{?name,label}}",
            "html_url": self._world.page(repository, f"releases/tag/{shown}"),
            "tarball_url": None
            if release.draft
            else self._world.address(repository, f"tarball/{release.tag_name}"),
            "zipball_url": None
            if release.draft
            else self._world.address(repository, f"zipball/{release.tag_name}"),
            "assets": [self._show_asset(repository, release, asset) for asset in release.assets],
        }
        return self._world.spec.fill("release", given)

    def content(self, repository: Repository, asset_id: int) -> bytes | None:
        """An asset's bytes, for a download that the API has led to."""
        every = (asset for release in repository.releases.values() for asset in release.assets)
        return next((asset.content for asset in every if asset.id == asset_id), None)

    def content_by_name(self, repository: Repository, tag: str, name: str) -> bytes | None:
        """The bytes of a published asset, for anyone."""
        public = [r for r in repository.releases.values() if r.tag_name == tag and not r.draft]
        return next((a.content for r in public for a in r.assets if a.name == name), None)

    def _show_asset(self, repository: Repository, release: Release, asset: Asset) -> dict[str, Any]:
        tag = f"untagged-{release.id:x}" if release.draft else release.tag_name
        place = f"releases/download/{quote(tag)}/{quote(asset.name)}"
        given = {
            "id": asset.id,
            "name": asset.name,
            "label": asset.label,
            "state": "uploaded",
            "content_type": asset.content_type,
            "size": len(asset.content),
            "digest": f"sha256:{hashlib.sha256(asset.content).hexdigest()}",
            "uploader": asset.uploader.show(),
            "created_at": asset.created_at,
            "updated_at": asset.created_at,
            "url": self._world.address(repository, f"releases/assets/{asset.id}"),
            "browser_download_url": self._world.page(repository, place),
        }
        return self._world.spec.fill("release-asset", given)

    def _list(self, repository: Repository, account: Account, call: Call) -> Answer:
        every = [r for r in repository.releases.values() if account.may_write or not r.draft]
        return Answer(200, [self.show(repository, release) for release in reversed(every)])

    def _create(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        wish = call.body
        release = Release(
            self._world.new_id(),
            account,
            wish["tag_name"],
            wish.get("target_commitish") or repository.default_branch,
            wish.get("name"),
            wish.get("body"),
            draft=True,
            prerelease=wish.get("prerelease", False),
            created_at=now(),
        )
        if wish.get("generate_release_notes"):
            notes = self._notes(repository, release.tag_name, release.target, "")
            release.name = release.name or notes["name"]
            release.body = "\n\n".join(filter(None, [release.body, notes["body"]]))
        if not wish.get("draft", False):
            self._publish(repository, account, release)
        repository.releases[release.id] = release
        return Answer(201, self.show(repository, release))

    def _update(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        release, wish = visible(repository, account, call), call.body
        if release.immutable and {"tag_name", "target_commitish", "draft"} & {
            key for key in wish if wish[key] != self.show(repository, release).get(key)
        }:
            raise invalid(
                "Release", "tag_name", "Cannot change the tag or the state of an immutable release."
            )
        # On a copy: where it cannot be published, nothing of it has changed.
        changed = replace(
            release,
            tag_name=wish.get("tag_name", release.tag_name),
            target=wish.get("target_commitish", release.target),
            name=wish.get("name", release.name),
            body=wish.get("body", release.body),
            prerelease=wish.get("prerelease", release.prerelease),
        )
        if release.draft and wish.get("draft") is False:
            self._publish(repository, account, changed)
        elif not release.draft and wish.get("draft"):
            changed.draft, changed.published_at = True, None
        repository.releases[release.id] = changed
        return Answer(200, self.show(repository, changed))

    def _publish(self, repository: Repository, account: Account, release: Release) -> None:
        """Make a draft public, its tag too where there is none; raises Refusal and changes nothing then."""
        tag, origin = release.tag_name, self._world.origin
        if tag in repository.immutable_tags:
            raise invalid("Release", "tag_name", "tag_name was used by an immutable release", code="custom")
        if any(other.tag_name == tag and not other.draft for other in repository.releases.values()):
            raise invalid("Release", "tag_name", code="already_exists")
        if origin.commit(repository.name, f"refs/tags/{tag}") is None:
            places = (f"refs/heads/{release.target}", release.target)
            commit = next(filter(None, (origin.commit(repository.name, place) for place in places)), None)
            if commit is None:
                raise invalid("Release", "target_commitish")
            self._world.move(repository, account, f"refs/tags/{tag}", commit)
        release.draft, release.published_at = False, now()
        release.immutable = repository.settings.immutable_releases
        if release.immutable:
            repository.immutable_tags.add(tag)
            self._rules("add", repository, tag)

    def _rules(self, what: Literal["add", "drop"], repository: Repository, tag: str) -> None:
        """Fix the tag of an immutable release, or let it go."""
        path, pattern = self._world.origin.path(repository.name), f"refs/tags/{tag}"
        address = self._world.page(repository, "").rstrip("/")
        if what == "add":
            rule = protection.Rule(pattern, ruleset=True, require_pull=False, frozen=True)
            protection.add(path, rule, address)
        else:
            protection.drop(path, pattern, address)

    def _delete(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        release = visible(repository, account, call)
        del repository.releases[release.id]
        if release.immutable:
            self._rules("drop", repository, release.tag_name)
        return Answer(204)

    def _get_by_tag(self, repository: Repository, account: Account, call: Call) -> Answer:
        for release in repository.releases.values():
            if release.tag_name == call.path["tag"] and not release.draft:
                return Answer(200, self.show(repository, release))
        raise Refusal(404, "Not Found")

    def _get_latest(self, repository: Repository, account: Account, call: Call) -> Answer:
        final = [r for r in repository.releases.values() if not r.draft and not r.prerelease]
        if not final:
            raise Refusal(404, "Not Found")
        return Answer(200, self.show(repository, final[-1]))

    def _list_assets(self, repository: Repository, account: Account, call: Call) -> Answer:
        release = visible(repository, account, call)
        return Answer(200, [self._show_asset(repository, release, asset) for asset in release.assets])

    def _upload(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        release = visible(repository, account, call)
        if release.immutable:
            raise Refusal(422, "Cannot upload assets to an immutable release.")
        if not call.body:
            raise Refusal(400, "Bad Content-Length")
        # GitHub replaces what it does not like in a name, in silence.
        name = re.sub(r"[^A-Za-z0-9._+@-]+", ".", call.query["name"])
        if any(asset.name == name for asset in release.assets):
            raise invalid("ReleaseAsset", "name", code="already_exists")
        content_type, label = call.headers["content-type"], call.query.get("label")
        asset = Asset(self._world.new_id(), name, call.body, content_type, label, account, now())
        release.assets.append(asset)
        return Answer(201, self._show_asset(repository, release, asset))

    def _get_asset(self, repository: Repository, account: Account, call: Call) -> Answer:
        release, asset = self._asset(repository, account, call)
        if "application/octet-stream" not in call.headers.get("accept", ""):
            return Answer(200, self._show_asset(repository, release, asset))
        where = f"{self._storage_url}/assets/{repository.name}/{asset.id}?sig=stand-in"
        return Answer(302, None, {"Location": where})

    def _delete_asset(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        release, asset = self._asset(repository, account, call)
        if release.immutable:
            raise Refusal(422, "Cannot delete asset from an immutable release.")
        release.assets.remove(asset)
        return Answer(204)

    def _asset(self, repository: Repository, account: Account, call: Call) -> tuple[Release, Asset]:
        for release in repository.releases.values():
            for asset in release.assets if account.may_write or not release.draft else []:
                if asset.id == call.path["asset_id"]:
                    return release, asset
        raise Refusal(404, "Not Found")

    def _generate_notes(self, repository: Repository, account: Account, call: Call) -> Answer:
        require_write(account)
        wish = call.body
        target = wish.get("target_commitish") or repository.default_branch
        previous = wish.get("previous_tag_name", "")
        return Answer(200, self._notes(repository, wish["tag_name"], target, previous))

    def _notes(self, repository: Repository, tag: str, target: str, previous: str) -> dict[str, str]:
        """Notes from the pull requests merged since the tag before."""
        origin, name = self._world.origin, repository.name
        places = (f"refs/tags/{tag}", f"refs/heads/{target}", target)
        head = next(filter(None, (origin.commit(name, place) for place in places)), None)
        if head is None:
            raise invalid("Release", "target_commitish")
        if not previous:
            final = [r for r in repository.releases.values() if not r.draft and r.tag_name != tag]
            previous = final[-1].tag_name if final else ""
        base = origin.commit(name, f"refs/tags/{previous}") if previous else None

        def new(pull: Pull) -> bool:
            if not pull.merged_at or not pull.merge_sha:
                return False
            known = base and origin.is_ancestor(name, pull.merge_sha, base)
            return origin.is_ancestor(name, pull.merge_sha, head) and not known

        lines = [
            f"* {pull.title} by @{pull.author.login} in {self._world.page(repository, f'pull/{pull.number}')}"
            for pull in repository.pulls.values()
            if new(pull)
        ]
        changed = "\n".join(["## What's Changed", *lines]) + "\n\n\n" if lines else ""
        link = f"compare/{previous}...{tag}" if previous else f"commits/{tag}"
        return {"name": tag, "body": f"{changed}**Full Changelog**: {self._world.page(repository, link)}"}


def visible(repository: Repository, account: Account, call: Call) -> Release:
    """The release that a request names, a draft for those who may write; raises Refusal (404)."""
    release = repository.releases.get(call.path["release_id"])
    if release is None or (release.draft and not account.may_write):
        raise Refusal(404, "Not Found")
    return release
