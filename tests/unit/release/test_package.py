"""What is in built files, what must not be, and sdists that come out the same everywhere."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from gatehouse.errors import UserError
from gatehouse.release.checkout import Candidate, Run, Wanted, version_is_right, wanted_version
from gatehouse.release.package import (
    entry_point_faults,
    metadata_faults,
    read_sdist,
    read_wheel,
    repack_sdist,
    secret_faults,
    stray_faults,
    unknown_members,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METADATA = "Metadata-Version: 2.4\nName: Acme.Triage\nVersion: 1.2.0\nRequires-Python: >=3.11\n\nText.\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
EPOCH = 1_700_000_000


def sdist(folder: Path, members: Mapping[str, str], *, mode: int = 0o644, mtime: int = 0) -> Path:
    """An sdist acme_triage-1.2.0.tar.gz with these members below its top folder."""
    path = folder / "acme_triage-1.2.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {"PKG-INFO": METADATA, **members}.items():
            member = tarfile.TarInfo(f"acme_triage-1.2.0/{name}")
            member.size, member.mode, member.mtime = len(text.encode()), mode, mtime
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def wheel(folder: Path, members: Mapping[str, str], name: str = "acme_triage-1.2.0-py3-none-any.whl") -> Path:
    """A wheel with these members and its metadata."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {"acme_triage-1.2.0.dist-info/METADATA": METADATA, **members}.items():
            archive.writestr(member, text)
    return path


def said(faults: list[object]) -> str:
    """All faults as a user reads them."""
    return "\n".join(map(str, faults))


def test_repacking_forgets_the_machine(tmp_path: Path) -> None:
    """The same files give the same sdist, whatever their order, times, modes and owners were."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    one = sdist(first, {"a.py": "a", "b.py": "b"})
    two = sdist(second, {"b.py": "b", "a.py": "a"}, mode=0o600, mtime=5)
    assert one.read_bytes() != two.read_bytes()
    repack_sdist(one, EPOCH)
    repack_sdist(two, EPOCH)
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        assert {member.mtime for member in archive} == {EPOCH}
    assert list(first.iterdir()) == [one]


def test_repacking_keeps_what_counts(tmp_path: Path) -> None:
    """Contents, the executable bit and symlinks survive; a hard link becomes the file that it names."""
    path = tmp_path / "acme_triage-1.2.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, target in (
            ("z.sh", tarfile.REGTYPE, ""),
            ("a.link", tarfile.SYMTYPE, "z.sh"),
            ("a.hard", tarfile.LNKTYPE, "acme_triage-1.2.0/z.sh"),
        ):
            member = tarfile.TarInfo(f"acme_triage-1.2.0/{name}")
            member.type, member.linkname, member.mode = kind, target, 0o711
            member.size = 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"hello"))
    repack_sdist(path, EPOCH)
    with tarfile.open(path) as archive:
        members = {member.name.rpartition("/")[2]: member for member in archive}
        assert members["z.sh"].mode == 0o755
        assert members["a.link"].linkname == "z.sh"
        assert members["a.hard"].isreg()
        content = archive.extractfile(members["a.hard"])
        assert content is not None
        assert content.read() == b"hello"


@pytest.mark.parametrize("name", ["../evil.py", "/etc/passwd", "other-1.0/x.py"])
def test_members_that_leave_the_folder_are_faults(tmp_path: Path, name: str) -> None:
    """A member outside the sdist's one top folder is refused by name."""
    path = tmp_path / "acme_triage-1.2.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert name.strip("/") in said(list(read_sdist(path).faults))


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("a/.env", "x", True),
        (".ENV.production", "x", True),
        (".env.example", "x", False),
        (".pypirc", "x", True),
        (".netrc", "x", True),
        ("keys/id_rsa", "x", True),
        ("id_rsa.pub", "x", False),
        ("server.pem", KEY, True),
        ("cacert.pem", CERTIFICATE, False),
        ("both.pem", CERTIFICATE + KEY, True),
        ("deploy.KEY", KEY, True),
        ("docs/keys.md", KEY, False),
        ("environment.py", "x", False),
    ],
)
def test_secrets_are_refused(tmp_path: Path, name: str, text: str, refused: bool) -> None:
    """Passwords and private keys are found by name, or by content in key files; certificates are public."""
    for archive in (read_sdist(sdist(tmp_path, {name: text})), read_wheel(wheel(tmp_path, {name: text}))):
        faults = secret_faults(archive)
        assert [name in str(fault) for fault in faults] == ([True] if refused else [])


def test_files_that_git_does_not_know_are_stray(tmp_path: Path) -> None:
    """A member is in git, written by a backend, ignored on purpose, or a copy; else stray."""
    members = {
        "a.py": "a",
        "src/acme.egg-info/SOURCES.txt": "s",
        "src/acme/_version.py": "v",
        "src/acme/stubs.py": "ignored",
        "LICENSE": "MIT",
        "notes.txt": "n",
        "src/acme/__pycache__/a.pyc": "c",
    }
    archive = read_sdist(sdist(tmp_path, members))
    faults = stray_faults(
        archive,
        {"a.py"},
        lambda base, _digest: base == "LICENSE",
        {"src/acme/stubs.py", "src/acme/__pycache__/a.pyc"},
    )
    assert [str(fault).splitlines()[0].split(": ")[1] for fault in faults] == [
        "notes.txt is not in git",
        "src/acme/__pycache__/a.pyc is not in git",
    ]
    assert "PKG-INFO" not in unknown_members(archive.digests, set())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("Acme.Triage", "acme_triage"), ""),
        (("Acme.Triage", "other"), 'its name is "other"'),
        (("Version: 1.2.0", "Version: 1.2.1"), "not the one in the file's name"),
        (("Version: 1.2.0", "Version: one"), '"one" is not a version'),
        (("Requires-Python: >=3.11\n", ""), ""),
        (("Requires-Python: >=3.11", "Requires-Python: new"), "not a version specifier"),
    ],
)
def test_metadata(tmp_path: Path, changed: tuple[str, str], message: str) -> None:
    """Name and version are there and the file's own; the Python it needs is one, where it is said."""
    text = METADATA.replace(*changed)
    for archive in (
        read_wheel(wheel(tmp_path, {"acme_triage-1.2.0.dist-info/METADATA": text})),
        read_sdist(sdist(tmp_path, {"PKG-INFO": text})),
    ):
        faults = metadata_faults(archive, "acme-triage")
        assert (message in said(list(faults))) if message else faults == []


@pytest.mark.parametrize(
    ("point", "fault"),
    [
        ("acme.cli:main", False),
        ("acme", False),
        ("acme.sub.deep:main", False),
        ("acme.data:x", False),
        ("acme.missing:main", True),
        ("acme.cli.main", True),
        ("a b:c", True),
    ],
)
def test_entry_points_name_modules_of_the_wheel(tmp_path: Path, point: str, fault: bool) -> None:
    """A command whose module is not in the wheel is refused: it could not start."""
    members = {
        "acme/__init__.py": "",
        "acme/cli.py": "",
        "acme/sub/deep/__init__.py": "",
        "acme_triage-1.2.0.data/purelib/acme/data.py": "",
        "acme_triage-1.2.0.dist-info/entry_points.txt": f"[console_scripts]\nacme = {point}\n",
    }
    faults = entry_point_faults(read_wheel(wheel(tmp_path, members)))
    assert [point in str(found) for found in faults] == ([True] if fault else [])


@pytest.mark.parametrize(
    ("name", "pure"),
    [
        ("acme_triage-1.2.0-py3-none-any.whl", True),
        ("acme_triage-1.2.0-py2.py3-none-any.whl", True),
        ("acme_triage-1.2.0-cp311-cp311-manylinux_2_17_x86_64.whl", False),
        ("acme_triage-1.2.0-cp311-abi3-any.whl", False),
        ("acme_triage.whl", False),
    ],
)
def test_only_pure_wheels(tmp_path: Path, name: str, pure: bool) -> None:
    """A wheel for one platform or interpreter is refused: one machine cannot build for all."""
    assert bool(read_wheel(wheel(tmp_path, {}, name)).faults) != pure


RUN = Run(id=123, attempt=4, number=7)


@pytest.mark.parametrize(
    ("ref", "candidate", "run", "version", "pretend"),
    [
        ("refs/tags/v1.2.0", "dev", RUN, "1.2.0", False),
        ("refs/tags/v1.2.0rc1", "rc", RUN, "1.2.0rc1", False),
        ("refs/heads/release/v1.2.0", "dev", RUN, "1.2.0.dev12304", True),
        ("refs/heads/release/v1.2.0", "dev", Run(), f"1.2.0.dev{EPOCH}", True),
        ("refs/heads/release/v1.2.0", "rc", RUN, "1.2.0rc7", True),
        ("refs/heads/release/v1.2.0", "scm", RUN, None, False),
        ("refs/heads/develop", "rc", RUN, None, False),
        ("refs/pull/5/merge", "dev", RUN, None, False),
        ("HEAD", "dev", Run(), None, False),
    ],
)
def test_the_version_that_a_ref_asks_for(
    ref: str, candidate: Candidate, run: Run, version: str | None, pretend: bool
) -> None:
    """A tag is its version, a release branch a candidate of its own, and all else setuptools-scm's to say."""
    wanted = wanted_version(ref, "v", candidate, run, EPOCH)
    assert (str(wanted.version) if wanted.version else None, wanted.pretend) == (version, pretend)


@pytest.mark.parametrize(
    ("ref", "candidate"),
    [
        ("refs/tags/v1.2", "dev"),
        ("refs/tags/deploy-2030", "dev"),
        ("refs/tags/v1.2.0-rc.1", "dev"),
        ("refs/tags/bar-v1.2.0", "dev"),
        ("refs/heads/release/next", "dev"),
        ("refs/heads/release/v1.2.0rc1", "dev"),
        ("refs/heads/release/v1.2.0;touch${IFS}x", "dev"),
        ("refs/heads/release/v1.2.0", "rc"),
    ],
)
def test_a_ref_without_a_version_is_refused(ref: str, candidate: Candidate) -> None:
    """An odd tag or release branch, and a candidate without a run to number it, are the author's to mend."""
    with pytest.raises(UserError, match="Nothing was built"):
        wanted_version(ref, "v", candidate, Run(), EPOCH)


def test_candidates_sort_and_never_repeat() -> None:
    """A candidate sorts below the release candidate and the release, and no attempt has another's."""
    ref = "refs/heads/release/v1.2.0"
    versions = [
        wanted_version(ref, "v", "dev", Run(), EPOCH).version,
        wanted_version(ref, "v", "dev", Run(19_000_000_000, 1, 3), EPOCH).version,
        wanted_version(ref, "v", "dev", Run(19_000_000_000, 12, 3), EPOCH).version,
        wanted_version(ref, "v", "dev", Run(19_000_000_001, 1, 4), EPOCH).version,
        wanted_version(ref, "v", "rc", Run(1, 1, 4), EPOCH).version,
        wanted_version("refs/tags/v1.2.0", "v", "dev", Run(), EPOCH).version,
    ]
    assert versions == sorted({version for version in versions if version is not None})


TAG = Wanted(Version("1.2.0"), "the tag v1.2.0", tag="v1.2.0")
OWN = Wanted(None, "setuptools-scm counts")


@pytest.mark.parametrize(
    ("built", "wanted", "tags", "passed", "says"),
    [
        ("1.2.0", TAG, ("v1.2.0",), True, "the tag v1.2.0"),
        ("1.2.1.dev0", TAG, ("v1.2.0",), False, "asks for 1.2.0"),
        ("1.2.0+d20300101", TAG, ("v1.2.0",), False, "local_scheme"),
        (
            "0.9.0",
            Wanted(Version("1.2.0.dev1"), "the branch", pretend=True),
            (),
            False,
            "asks for 1.2.0.dev1",
        ),
        ("1.2.1.dev3", OWN, (), True, "counts"),
        ("1.2.0", OWN, ("v1.2.0",), True, "counts"),
        ("1.2.0", OWN, (), False, "tag v1.2.0 is not at this commit"),
        ("1.2.1.dev3+gabc", OWN, (), False, "no-local-version"),
    ],
)
def test_the_built_version_is_the_right_one(
    built: str, wanted: Wanted, tags: tuple[str, ...], passed: bool, says: str
) -> None:
    """A version that the ref does not ask for, a local one, and one fixed in a file are refused with why."""
    decision = version_is_right(Version(built), wanted, tags, "v")
    assert decision.passed == passed
    assert says in decision.reason
