"""`gatehouse.github.pulls`: whose run it was that this one follows."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.github.event import FollowedRun
from gatehouse.github.pulls import choose

RUN = FollowedRun(7, 1, "pull_request", "a" * 40, "feature", "mallory/agents")


def pull(
    number: int = 5, sha: str = "a" * 40, head: str | None = "mallory/agents", base: str = "octo/agents"
) -> Any:
    """A pull request as the API lists it; `head` None: its fork is gone."""
    repo = head and {"full_name": head}
    return {"number": number, "head": {"sha": sha, "repo": repo}, "base": {"repo": {"full_name": base}}}


@pytest.mark.parametrize(
    ("pulls", "numbers"),
    [
        ([], []),
        ([pull()], [5]),
        ([pull(sha="b" * 40)], []),
        ([pull(head="mallory/other")], []),
        ([pull(head=None)], []),
        ([pull(base="mallory/agents")], []),
        ([pull(4, sha="b" * 40), pull()], [5]),
        ([pull(), pull(6)], [5, 6]),
    ],
)
def test_only_what_the_run_was_for(pulls: list[Any], numbers: list[int]) -> None:
    """Commit, fork and repository have to be the run's: a branch of the same name is not enough."""
    assert choose(pulls, RUN, "octo/agents") == numbers
