"""`gatehouse publish-testpypi`: the built files on TestPyPI, whatever it holds of them already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.commands._publish import publish, publish_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("publish-testpypi")
@publish_options
def publish_testpypi(dist: Path, digests: str, attestations: bool, wait: int) -> None:
    """Publish the built files to TestPyPI.

    By the API token in TEST_PYPI_TOKEN, else by the job's id token (trusted publishing). Only files that
    TestPyPI lacks are uploaded, so that it can be run again; it ends when the files are shown with the
    digests that were built. Exit code: 0 they are, 1 TestPyPI holds other bytes, 2 for its author to mend,
    3 the index failed.
    """
    # The libraries that publishing needs are no part of `--help`.
    from gatehouse.release.dist import load_build  # noqa: PLC0415
    from gatehouse.release.index import TESTPYPI  # noqa: PLC0415

    publish(TESTPYPI, load_build(dist, digests), dist, attestations=attestations, wait=wait)
