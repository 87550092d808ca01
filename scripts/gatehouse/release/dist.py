"""What was built, once: the files with their digests, and `build.json`, which every later stage goes by."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gatehouse.errors import Problem, UserError
from gatehouse.github.escape import plain

BUILD = "build.json"
SUMS = "SHA256SUMS"
NOTES = "notes.md"
"""The changelog's section of the version; absent where there is none."""

_SCHEMA = Path(__file__).parents[1] / "schemas" / "build.schema.json"
_LIMIT = 2**20
"""Bytes of a build.json; a longer one is not ours."""
_LEFT = "These are not the files that were built: nothing was done with them."


@dataclass(frozen=True, slots=True)
class File:
    """One built file: its name, SHA-256 in hexadecimal, and size in bytes."""

    name: str
    sha256: str
    size: int
    kind: Literal["wheel", "sdist"]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of the repository, as it was at the commit that was built."""

    name: str
    path: str
    version: str | float
    digest: str
    on_inconclusive: Literal["warn", "fail"]
    golden: str = ""
    """Digest of the golden set that the agent file names; "" where it names none, or a file is not there."""


@dataclass(frozen=True, slots=True)
class Build:
    """One build: which files, of which commit. `epoch` is the commit's time in seconds since 1970.

    `tag` is the tag of this version that was built, None for a branch; `repository` is OWNER/NAME, "" outside
    GitHub Actions; `on_main` says whether main contains the commit.
    """

    name: str
    version: str
    prerelease: bool
    tag: str | None
    ref: str
    commit: str
    tree: str
    repository: str
    on_main: bool
    epoch: int
    files: tuple[File, ...]
    agents: tuple[Agent, ...] = ()
    schema: int = 1

    def save(self, folder: Path) -> None:
        """Write `build.json` and `SHA256SUMS` (as `sha256sum --check` reads it) beside the files."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / BUILD).write_text(text, encoding="utf-8")
        sums = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        (folder / SUMS).write_text(sums, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_name(name: str) -> str:
    """The artifact that carries the build of a distribution between jobs."""
    return f"gatehouse-dist-{name}"


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 by name of everything in `folder`, `build.json` too; "" for what is no file."""
    return {
        path.name: sha256_of(path) if path.is_file() and not path.is_symlink() else ""
        for path in sorted(folder.iterdir())
    }


def load_build(folder: Path, digests: str = "") -> Build:
    """The build in `folder`, its files compared with their digests; raises UserError naming every fault.

    A wheel or sdist that `build.json` does not name is a fault too: a later stage takes what it finds.
    `digests` is the build job's output of that name, what `digests_of` found then, as JSON: any job of a run
    can replace an artifact with another that agrees with itself, and none the output of another. "" compares
    nothing.
    """
    if digests and (folder / BUILD).is_file():
        _require_unchanged(folder, digests)
    data = _read(folder / BUILD)
    build = Build(
        **{key: data[key] for key in Build.__dataclass_fields__ if key not in ("files", "agents")},
        files=tuple(_only(File, item) for item in data["files"]),
        agents=tuple(_only(Agent, item) for item in data["agents"]),
    )
    faults = [fault for file in build.files if (fault := _fault(folder, file))]
    known = {file.name for file in build.files}
    faults += [
        Problem(f"{BUILD} does not name this file", path=str(path))
        for path in sorted(folder.iterdir())
        if path.name.endswith((".whl", ".tar.gz")) and path.name not in known
    ]
    if faults:
        raise UserError(*faults, left=_LEFT)
    return build


def _require_unchanged(folder: Path, digests: str) -> None:
    try:
        wanted = json.loads(digests)
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        repair = "Hand on the output `digests` of the build, whole."
        raise UserError(Problem("--digests is no JSON object of SHA-256 by name", repair=repair))
    found = digests_of(folder)
    changed = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    if changed:
        raise UserError(
            Problem(
                f"the artifact was changed after the build: {plain(', '.join(changed), 500)}",
                path=str(folder),
                repair="Publish nothing of this run until it is known which job did it: the ones that verify "
                "execute the package and its dependencies.",
            ),
            left=_LEFT,
        )


def _fault(folder: Path, file: File) -> Problem | None:
    path = folder / file.name
    if not path.is_file() or path.is_symlink():
        return Problem("the built file is missing", path=str(path))
    if path.stat().st_size != file.size or (found := sha256_of(path)) != file.sha256:
        says = f"{file.size} bytes, SHA-256 {file.sha256}"
        is_ = f"{path.stat().st_size} bytes" if path.stat().st_size != file.size else f"SHA-256 {found}"
        return Problem(
            f"the file is not the one that was built: {BUILD} says {says}, it has {is_}", path=str(path)
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    """The content of a build.json, checked against its schema; raises UserError."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 65 ms that only a real read needs

    try:
        if path.stat().st_size > _LIMIT:
            raise UserError(Problem(f"larger than {_LIMIT:,} bytes: no build of ours", path=str(path)))
        data = json.loads(path.read_bytes())
    except OSError as error:
        repair = "Download the build's artifact there first, or name its folder by --dist."
        raise UserError(Problem(f"cannot be read: {error.strerror}", path=str(path), repair=repair)) from None
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(f"not JSON: {error}", path=str(path))) from None
    schema = json.loads(_SCHEMA.read_bytes())
    faults = [
        Problem(
            f"{'/'.join(map(str, fault.absolute_path)) or 'the whole'}: {fault.message[:200]}", path=str(path)
        )
        for fault in Draft202012Validator(schema).iter_errors(data)
    ]
    # JSON Schema's `$` also matches before a last line end.
    faults += (
        []
        if faults or not re.search("[\x00-\x1f\ud800-\udfff]", "".join(_strings(data)))
        else [Problem("holds control characters, or halves of characters", path=str(path))]
    )
    if faults:
        raise UserError(*faults)
    assert isinstance(data, dict)  # noqa: S101 the schema says so
    return data


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _only(kind: type[Any], item: dict[str, Any]) -> Any:
    """A record of the fields that we know: a newer writer may have added others."""
    return kind(**{key: item[key] for key in kind.__dataclass_fields__})
