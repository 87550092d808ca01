"""`gatehouse github-release`: a GitHub Release of the built files, published once all of them are there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.commands._publish import digests_option, dist_option, evidence_option
from gatehouse.commands._release import report, repository_at
from gatehouse.errors import Decision, Exit, InfrastructureError, Problem, UserError
from gatehouse.github.event import Event
from gatehouse.github.runner import annotate, say, set_outputs
from gatehouse.release import closing
from gatehouse.release.dist import BUILD, NOTES, SUMS, load_build
from gatehouse.release.evidence import FILE, GATES, passing
from gatehouse.release.notes import MARKER, Row, release_notes
from gatehouse.release.version import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.commands._release import Place
    from gatehouse.release.dist import Build

_TYPES = {".gz": "application/gzip", ".json": "application/json", ".whl": "application/zip"}

_IMMUTABLE = """\
A published release is not changed: who has its files trusts them, and GitHub forbids it where releases are
immutable. If these files are the right ones, release them as the next version."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that the release carries."""

    name: str
    content: bytes
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str) -> Asset:
        """The file at `path` under the name that GitHub keeps; raises UserError where it cannot be read."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(Problem(f"cannot be read: {error.strerror}", path=str(path))) from None
        return cls(closing.asset_name(name), content, hashlib.sha256(content).hexdigest())

    @property
    def content_type(self) -> str:
        """What GitHub hands it out as."""
        return _TYPES.get(Path(self.name).suffix, "text/plain")


@click.command("github-release")
@dist_option
@digests_option
@evidence_option
@click.option(
    "--notes",
    type=click.Choice(["changelog", "generated", "both"]),
    default="both",
    show_default=True,
    help="Text of the release: the changelog's section, GitHub's own notes, or both.",
)
def github_release(dist: Path, digests: str, evidence: Path, notes: str) -> None:
    """Publish a GitHub Release with the built files.

    A draft until every file is there with the digest of the build; published last. Needs no checkout: the
    folder says which tag it was built from. Exit code: 0 published, also before; 1 an agent has no passing
    verdict; 2 the build, or a release with other files; 3 GitHub failed.
    """
    event = Event.read()
    build = load_build(dist, digests)
    tag = _tag_of(build, event)
    decision = passing(build, evidence)
    if not decision.passed:
        report([decision], f"GitHub Release {tag}")
        click.get_current_context().exit(Exit.FAIL)
    wanted = _assets(build, dist, evidence)
    with repository_at(event) as place:
        _check_tag(place, build, tag)
        release = place.find(f"releases/tags/{quote(tag, safe='')}")
        if release:
            _compare_published(place, release, wanted, tag)
            done = f"{tag} is published already, with these files: {release['html_url']}"
        else:
            releases = list(place.every("releases"))
            body = _body(place, build, tag, dist, evidence, notes, releases)
            release = _draft(place, build, tag, body, releases)
            _fill(place, release, wanted)
            release = _publish(place, build, tag, release, releases)
            done = f"{tag} is published with {len(wanted)} files: {release['html_url']}"
    set_outputs({"url": release["html_url"], "tag": tag, "id": str(release["id"])})
    report([decision, Decision(passed=True, reason=done)], f"GitHub Release {tag}")


def _tag_of(build: Build, event: Event) -> str:
    """The tag that was built; raises UserError for a build of a branch, or of another repository."""
    problems = []
    if build.tag is None:
        repair = "Run the release workflow on a tag: tag-release makes it."
        problems.append(Problem(f"built from {build.ref}, which is no tag", path=BUILD, repair=repair))
    if build.repository not in ("", event.repository):
        problems.append(Problem(f"built in {build.repository}, this is {event.repository}", path=BUILD))
    if problems or build.tag is None:
        raise UserError(*problems, left="Nothing was published.")
    return build.tag


def _prefix(build: Build, tag: str) -> str:
    return tag.removesuffix(build.version)


def _assets(build: Build, dist: Path, evidence: Path) -> list[Asset]:
    """The built files, what says their digests, and each agent's verdict."""
    found = [Asset.of(dist / name, name) for name in (*(file.name for file in build.files), SUMS, BUILD)]
    for agent in build.agents:
        folder = evidence / agent.name
        found += [
            Asset.of(folder / gate, f"{agent.name}-{gate}") for gate in GATES if (folder / gate).exists()
        ]
    return found


def _check_tag(place: Place, build: Build, tag: str) -> None:
    """Raise UserError unless the tag is still at the commit that was built: publishing would make one."""
    ref = f"refs/tags/{tag}"
    commit = place.git.remote_refs(ref, f"{ref}^{{}}").get(ref)
    if commit != build.commit:
        what = f"is at {commit[:12]} now" if commit else "is gone"
        problem = Problem(f"{tag} {what}, the files were built from it at {build.commit[:12]}")
        raise UserError(problem, left="Nothing was published.")


def _compare_published(place: Place, release: Mapping[str, Any], wanted: list[Asset], tag: str) -> None:
    """Raise UserError unless the published release carries every file as it was built."""
    found = _listed(place, release)
    wrong = [
        f"{asset.name} {'is not there' if asset.name not in found else 'has other bytes'}"
        for asset in wanted
        if asset.name not in found or not _intact(place, found[asset.name], asset)
    ]
    if wrong:
        message = f"{tag} is published already, and not with these files: {'; '.join(wrong)}"
        problem = Problem(f"{message} ({release['html_url']})", repair=_IMMUTABLE)
        raise UserError(problem, left="Nothing was changed.")


def _body(
    place: Place,
    build: Build,
    tag: str,
    dist: Path,
    evidence: Path,
    notes: str,
    releases: list[dict[str, Any]],
) -> str:
    """The text of the release."""
    changelog = generated = ""
    if notes != "generated":
        changelog = _changelog(dist / NOTES)
    if notes != "changelog":
        before = closing.release_before(parse(build.version), releases, _prefix(build, tag))
        wish = {"tag_name": tag} | ({"previous_tag_name": before} if before else {})
        generated = str(place.post("releases/generate-notes", wish)["body"])
    return release_notes(changelog, generated, _rows(build, evidence))


def _changelog(path: Path) -> str:
    if not path.exists():
        annotate("warning", f"the changelog has no section of this version ({NOTES} is absent)")
        return ""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        raise UserError(
            Problem("not a text in UTF-8", path=str(path)), left="Nothing was published."
        ) from None


def _rows(build: Build, evidence: Path) -> list[Row]:
    """What the notes say of each agent; the evidence was judged before."""
    if not build.agents:
        return []
    told = {one["name"]: one for one in json.loads((evidence / FILE).read_bytes())["agents"]}
    return [
        Row(
            agent.name,
            str(agent.version),
            agent.digest,
            told[agent.name]["state"],
            told[agent.name]["reason"],
            told[agent.name]["run_url"],
        )
        for agent in build.agents
    ]


def _draft(
    place: Place, build: Build, tag: str, body: str, releases: list[dict[str, Any]]
) -> Mapping[str, Any]:
    """The one draft of ours, with its text as it has to be: found, or created."""
    wish = {"name": tag, "body": body, "prerelease": build.prerelease}
    ours = closing.our_drafts(releases, tag, MARKER)
    if any(r["draft"] and r["tag_name"] == tag and r not in ours for r in releases):
        annotate("notice", f"There is another draft of {tag}, which is not ours: it is left as it is.")
    for double in ours[1:]:
        _delete(place, f"releases/{double['id']}")
        say(f"Deleted a second draft of {tag}, which a lost reply had left.")
    if not ours:
        created: dict[str, Any] = place.post("releases", {"tag_name": tag, "draft": True, **wish})
        say(f"Created a draft of {tag}.")
        return created
    draft = ours[0]
    if any(draft[key] != value for key, value in wish.items()):
        draft = place.api.patch(f"/repos/{place.repository}/releases/{draft['id']}", wish)
    say(f"Going on with the draft of {tag}.")
    return draft


def _fill(place: Place, release: Mapping[str, Any], wanted: list[Asset]) -> None:
    """Bring the draft's files to what was built; raises InfrastructureError where GitHub has other bytes."""
    found = _listed(place, release)
    names = {asset.name for asset in wanted}
    for name, other in found.items():
        if name not in names:
            _delete(place, f"releases/assets/{other['id']}")
            say(f"Removed {name}, which is not of this build.")
    for asset in wanted:
        there = found.get(asset.name)
        if there and _intact(place, there, asset):
            continue
        if there:
            _delete(place, f"releases/assets/{there['id']}")
            say(f"Removed {asset.name}, which is broken.")
        place.api.upload(release["upload_url"], asset.name, asset.content, asset.content_type)
        say(f"Uploaded {asset.name}.")
    found = _listed(place, release)
    wrong = [a.name for a in wanted if a.name not in found or not _intact(place, found[a.name], a)]
    if wrong:
        raise InfrastructureError(
            f"GitHub has other bytes of {', '.join(wrong)} than were sent. The release is still a draft: "
            "run this again."
        )


def _publish(
    place: Place, build: Build, tag: str, release: Mapping[str, Any], releases: list[dict[str, Any]]
) -> Mapping[str, Any]:
    latest = closing.is_newest(parse(build.version), releases, _prefix(build, tag))
    wish = {"draft": False, "prerelease": build.prerelease, "make_latest": "true" if latest else "false"}
    published: dict[str, Any] = place.api.patch(f"/repos/{place.repository}/releases/{release['id']}", wish)
    return published


def _listed(place: Place, release: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The assets of a release by name, also those that were only half uploaded."""
    return {asset["name"]: asset for asset in place.every(f"releases/{release['id']}/assets")}


def _intact(place: Place, found: Mapping[str, Any], asset: Asset) -> bool:
    """Whether GitHub has the bytes of a file, by its digest, or by the bytes where it says none."""
    known = closing.is_intact(found, asset.sha256, len(asset.content))
    if known is None:
        path = f"/repos/{place.repository}/releases/assets/{found['id']}"
        content = place.api.download(path, accept="application/octet-stream")
        return hashlib.sha256(content).hexdigest() == asset.sha256
    return known


def _delete(place: Place, path: str) -> None:
    """Delete what may be gone already."""
    from gatehouse.github.api import ApiError  # noqa: PLC0415 beside the 60 ms of requests

    try:
        place.api.delete(f"/repos/{place.repository}/{path}")
    except ApiError as error:
        if error.status != 404:  # noqa: PLR2004 HTTP's "not found"
            raise
