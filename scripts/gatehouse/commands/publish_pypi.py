"""`gatehouse publish-pypi`: the built files on PyPI, if what was recorded of them allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.commands._publish import evidence_option, publish, publish_options
from gatehouse.github.runner import say

if TYPE_CHECKING:
    from pathlib import Path


@click.command("publish-pypi")
@publish_options
@click.option("--pre-release", is_flag=True, help="Publish a pre-release too, such as 1.2.0rc1.")
@evidence_option
def publish_pypi(
    dist: Path, digests: str, attestations: bool, wait: int, pre_release: bool, evidence: Path
) -> None:
    """Publish the built files to PyPI.

    Refused, by build.json alone: a commit that main does not hold, a build that is not its tag's, a
    pre-release without --pre-release, and agents without a passing verdict for their very digests. By the
    API token in PYPI_TOKEN, else by the job's id token (trusted publishing). Only files that PyPI lacks are
    uploaded, so that it can be run again; it ends when the files are shown with the digests that were built.
    Exit code: 0 they are, 1 refused, or PyPI holds other bytes, 2 for its author to mend, 3 the index failed.
    """
    # The libraries that publishing needs are no part of `--help`.
    from gatehouse.release.dist import load_build  # noqa: PLC0415
    from gatehouse.release.evidence import passing  # noqa: PLC0415
    from gatehouse.release.index import PYPI, PublishRefusedError, publishable  # noqa: PLC0415

    build = load_build(dist, digests)
    decision = publishable(build, pre_release=pre_release, evidence=passing(build, evidence))
    if not decision.passed:
        raise PublishRefusedError(decision.reason)
    say(decision.reason)
    publish(PYPI, build, dist, attestations=attestations, wait=wait)
