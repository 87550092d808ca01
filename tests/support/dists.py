"""Built distributions in milliseconds: a small real wheel and sdist with their `build.json`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

from gatehouse.release.dist import NOTES, Build, File, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatehouse.release.dist import Agent

EPOCH = 1_700_000_000


def make_dist(
    folder: Path,
    *,
    name: str = "acme-triage",
    version: str = "1.2.0",
    agents: Sequence[Agent] = (),
    requires: Sequence[str] = (),
    code: str = "",
    notes: str | None = "### Added\n\n- A thing.\n",
    **changes: Any,
) -> Build:
    """A build of a package with a console script NAME, in `folder`; `code` is appended to its module.

    By default it is the tag's, on main; `changes` are fields of Build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_").replace(".", "_")
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A test\n"
    about += "Requires-Python: >=3.11\n" + "".join(f"Requires-Dist: {item}\n" for item in requires)
    source = f'import argparse\n\n__version__ = "{version}"\n\n\ndef main():\n'
    source += f'    parser = argparse.ArgumentParser(prog="{name}")\n'
    source += '    parser.add_argument("--version", action="version", version=__version__)\n'
    source += f"    parser.parse_args()\n\n\n{code}\n"
    info = f"{module}-{version}.dist-info"
    members = {
        f"{module}/__init__.py": source,
        f"{info}/METADATA": about,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
        f"{info}/top_level.txt": f"{module}\n",
    }
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    _write_wheel(wheel, members, f"{info}/RECORD")
    sdist = folder / f"{module}-{version}.tar.gz"
    top = f"{module}-{version}"
    _write_sdist(sdist, {f"{top}/PKG-INFO": about, f"{top}/{module}/__init__.py": source})
    if notes is not None:
        (folder / NOTES).write_text(notes, encoding="utf-8")
    fields: dict[str, Any] = {
        "name": name,
        "version": version,
        "prerelease": any(part in version for part in ("a", "b", "rc", "dev")),
        "tag": f"v{version}",
        "ref": f"refs/tags/v{version}",
        "commit": "c" * 40,
        "tree": "d" * 40,
        "repository": "acme/triage",
        "on_main": True,
        "epoch": EPOCH,
        "agents": tuple(agents),
    }
    files = (file_of(wheel, "wheel"), file_of(sdist, "sdist"))
    build = Build(**fields | changes, files=files)
    build.save(folder)
    return build


def file_of(path: Path, kind: Any) -> File:
    """The record of a built file."""
    return File(path.name, sha256_of(path), path.stat().st_size, kind)


def _write_wheel(path: Path, members: dict[str, str], record: str) -> None:
    lines = []
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in members.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{member},sha256={digest},{len(text.encode())}\n")
            wheel.writestr(zipfile.ZipInfo(member, (2023, 11, 14, 0, 0, 0)), text)
        wheel.writestr(zipfile.ZipInfo(record, (2023, 11, 14, 0, 0, 0)), "".join(lines) + f"{record},,\n")


def _write_sdist(path: Path, members: dict[str, str]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as sdist:
        for member, text in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.mtime = len(text.encode()), EPOCH
            sdist.addfile(info, io.BytesIO(text.encode()))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=EPOCH))
