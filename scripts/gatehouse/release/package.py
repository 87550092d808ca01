"""Wheels and sdists: what is in them, what must not be, and sdists made the same on every machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from fnmatch import fnmatch
from importlib.metadata import PathDistribution
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from gatehouse.errors import Problem
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from email.message import Message
    from importlib.metadata import EntryPoint
    from pathlib import Path

SECRETS = (
    *(".env", ".env.*", ".pypirc", ".netrc", "_netrc", ".git-credentials", ".htpasswd"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
)
"""Names of files that hold passwords or private keys, whatever is in them."""
NOT_SECRETS = (".env.example", ".env.sample", ".env.template", ".env.dist", ".env.test")
"""Patterns for such files, which people do publish."""
KEY_FILES = ("*.pem", "*.key")
"""Names of files that hold certificates, which are public, or private keys: what is in them says which."""
_PRIVATE_KEY = b"PRIVATE KEY-----"

GENERATED = (
    *("PKG-INFO", "setup.cfg", "*.egg-info/*", ".git_archival.txt"),
    *("_version.*", "version.*", "__version__.*", "*/_version.*", "*/version.*", "*/__version__.*"),
)
"""What build backends write themselves, as paths in the sdist (`*` also matches `/`)."""
_CACHES = {"__pycache__", ".git", ".venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_MARKUP = 2**20
"""Bytes at the start of a key file in which its kind is looked for."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A built file. `digests` maps each member, in an sdist without its one top folder, to its SHA-256.

    `keys` are the members that hold a private key, `faults` what is wrong with the archive as such. The wheel
    has entry points; an sdist's are empty.
    """

    path: Path
    kind: Literal["wheel", "sdist"]
    digests: Mapping[str, str]
    keys: tuple[str, ...]
    metadata: Message
    entry_points: tuple[EntryPoint, ...] = ()
    faults: tuple[Problem, ...] = ()

    @property
    def version(self) -> Version | None:
        """The version that its metadata says; None for what is not PEP 440."""
        try:
            return Version(str(self.metadata["Version"]))
        except InvalidVersion:
            return None


def repack_sdist(path: Path, epoch: int) -> None:
    """Write an sdist again so that the same files give the same bytes: order, times, owners, modes, header.

    `epoch` is the time of everything in it, in seconds since 1970. A hard link becomes the file it names.
    """
    packed = io.BytesIO()
    with (
        tarfile.open(path) as source,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            content = source.extractfile(member) if member.isfile() or member.islnk() else None
            if content and member.islnk():
                data = content.read()
                member.type, member.linkname, member.size = tarfile.REGTYPE, "", len(data)
                content = io.BytesIO(data)
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.pax_headers = {}
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(member, content)
    whole = path.with_name(path.name + ".new")
    with whole.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=epoch) as zipped:
        zipped.write(packed.getvalue())
    os.replace(whole, path)  # noqa: PTH105 says that it replaces


def read_sdist(path: Path) -> Archive:
    """What an sdist holds; a member outside its one top folder, a device or a link that leaves is a fault."""
    top = path.name.removesuffix(".tar.gz")
    digests: dict[str, str] = {}
    keys, faults, metadata = list[str](), list[Problem](), b""
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            name = member.name.removeprefix(top).removeprefix("/")
            if why := _not_unpacked(member):
                shown = plain(member.name, 200)
                faults.append(Problem(f"no installer unpacks {shown}: {why}", path=path.name))
                continue
            if member.name != top and not member.name.startswith(f"{top}/"):
                faults.append(Problem(f"{plain(member.name, 200)} is outside {top}/", path=path.name))
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                digests |= {name: ""} if member.issym() else {}
                continue
            data = content.read()
            digests[name] = hashlib.sha256(data).hexdigest()
            keys += [name] if _is_private_key(name, data) else []
            metadata = data if name == "PKG-INFO" else metadata
    return Archive(path, "sdist", digests, tuple(keys), BytesParser().parsebytes(metadata), (), tuple(faults))


def _not_unpacked(member: tarfile.TarInfo) -> str:
    """Why installers refuse a member of an sdist (PEP 721); "" where they do not.

    The standard library's own filter is not in every patch release of Python 3.11.
    """
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return "it is neither a file, a folder nor a link"
    targets = [member.name]
    if member.issym():
        targets.append(os.path.join(os.path.dirname(member.name), member.linkname))  # noqa: PTH118, PTH120 pure text
    elif member.islnk():
        targets.append(member.linkname)
    if any(os.path.isabs(one) or os.path.normpath(one).split("/")[0] == ".." for one in targets):  # noqa: PTH117 as above
        return "it leads out of the archive"
    return ""


def read_wheel(path: Path) -> Archive:
    """What a wheel holds; one that only some platforms or interpreters can install is a fault."""
    digests: dict[str, str] = {}
    keys, faults = list[str](), list[Problem]()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                data = archive.read(member)
                digests[member.filename] = hashlib.sha256(data).hexdigest()
                keys += [member.filename] if _is_private_key(member.filename, data) else []
        folders = {name.split("/")[0] for name in digests if name.split("/")[0].endswith(".dist-info")}
        if len(folders) != 1:
            faults.append(Problem(f"it has {len(folders)} .dist-info folders, not one", path=path.name))
        folder = min(folders, default=".dist-info")
        read = f"{folder}/METADATA"
        metadata = BytesParser().parsebytes(archive.read(read) if read in digests else b"")
        points = tuple(PathDistribution(zipfile.Path(archive, f"{folder}/")).entry_points)
    faults += _platform_faults(path)
    return Archive(path, "wheel", digests, tuple(keys), metadata, points, tuple(faults))


def metadata_faults(archive: Archive, name: str) -> list[Problem]:
    """What is wrong with the metadata of a built file of the distribution `name`."""
    said, faults = str(archive.metadata["Name"] or ""), []
    if canonicalize_name(said) != canonicalize_name(name):
        faults.append(f'its name is "{plain(said, 100)}", not "{plain(name, 100)}" as in pyproject.toml')
    version = archive.version
    if version is None:
        faults.append(f'"{plain(str(archive.metadata["Version"]), 100)}" is not a version')
    elif version != _file_version(archive.path):
        faults.append(f"its version is {version}, which is not the one in the file's name")
    requires = archive.metadata["Requires-Python"]
    if requires is not None:
        try:
            SpecifierSet(str(requires))
        except InvalidSpecifier:
            faults.append(f'requires-python "{plain(str(requires), 100)}" is not a version specifier')
    return [Problem(fault, path=archive.path.name) for fault in faults]


def entry_point_faults(wheel: Archive) -> list[Problem]:
    """The commands of a wheel whose module is not in it: they would not start.

    Entry points of other groups may name a module of a dependency.
    """
    modules, faults = _modules(wheel.digests), []
    for point in wheel.entry_points:
        if point.group not in ("console_scripts", "gui_scripts"):
            continue
        try:
            module = point.module
        except AttributeError:
            module = ""
        if module not in modules:
            shown = plain(f"{point.name} = {point.value}", 200)
            faults.append(
                Problem(
                    f"the entry point {shown} ({plain(point.group, 100)}) names a module that is not in it",
                    path=wheel.path.name,
                    repair="Mend [project.scripts] or [project.entry-points], or package the module.",
                )
            )
    return faults


def secret_faults(archive: Archive) -> list[Problem]:
    """The members that look like secrets: what is published once cannot be taken back."""
    named = [name for name in archive.digests if _is_secret(name)]
    return [
        Problem(
            f"{plain(name, 200)} looks like a secret{' (a private key)' if name in archive.keys else ''}",
            path=archive.path.name,
            repair="Leave it out of the package. If it was ever pushed, revoke what is in it.",
        )
        for name in sorted({*named, *archive.keys})
    ]


def stray_faults(
    sdist: Archive, tracked: set[str], is_tracked_content: Callable[[str, str], bool], ignored: set[str]
) -> list[Problem]:
    """The members of an sdist that are neither in git nor known to be generated.

    `tracked` are the project's files in git, `ignored` the members that its .gitignore covers: its authors
    know that a build makes them. `is_tracked_content(base name, SHA-256)` tells a file from elsewhere in
    the repository, such as the licence above a package of several.
    """
    return [
        Problem(
            f"{plain(name, 200)} is not in git",
            path=sdist.path.name,
            repair="Commit it or leave it out of the sdist; "
            "where the build makes it, name it in .gitignore, which says so.",
        )
        for name in unknown_members(sdist.digests, tracked)
        if (name not in ignored or _is_cache(name))
        and not is_tracked_content(PurePosixPath(name).name, sdist.digests[name])
    ]


def unknown_members(names: Iterable[str], tracked: set[str]) -> list[str]:
    """The members that are not in git and that no build backend writes, sorted."""
    return sorted(
        name
        for name in names
        if name not in tracked and (_is_cache(name) or not any(fnmatch(name, known) for known in GENERATED))
    )


def _is_cache(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(_CACHES & set(path.parts)) or path.suffix == ".pyc" or path.name == ".DS_Store"


def _is_secret(name: str) -> bool:
    base = PurePosixPath(name).name.lower()
    return base not in NOT_SECRETS and any(fnmatch(base, pattern) for pattern in SECRETS)


def _is_private_key(name: str, data: bytes) -> bool:
    base = PurePosixPath(name).name.lower()
    return any(fnmatch(base, pattern) for pattern in KEY_FILES) and _PRIVATE_KEY in data[:_MARKUP]


def _platform_faults(path: Path) -> list[Problem]:
    try:
        tags = parse_wheel_filename(path.name)[3]
    except InvalidWheelFilename as error:
        return [Problem(str(error), path=path.name)]
    if all(tag.platform == "any" and tag.abi == "none" for tag in tags):
        return []
    repair = "Only pure Python is built here (py3-none-any); compiled code needs a wheel for each platform."
    return [Problem("the wheel is for one platform or interpreter only", path=path.name, repair=repair)]


def _file_version(path: Path) -> Version | None:
    """The version in a built file's name; None for a name that is not in the form of its kind."""
    try:
        parsed = parse_wheel_filename if path.suffix == ".whl" else parse_sdist_filename
        return parsed(path.name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def _modules(names: Iterable[str]) -> set[str]:
    """The modules in a wheel, by their dotted names; namespace packages too."""
    modules = set[str]()
    for name in names:
        inside = re.sub(r"^[^/]+\.data/(?:purelib|platlib)/", "", name)
        path = PurePosixPath(inside)
        if path.suffix == ".py":
            parts = path.with_suffix("").parts
            modules |= {".".join(parts[: end + 1]) for end in range(len(parts))}
    return modules
