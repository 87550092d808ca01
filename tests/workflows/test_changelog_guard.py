"""The guard of a pull request's changelog, from its template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.repositories import CHANGELOG, NAME
from tests.workflows.train import Train, template

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.rehearse.github import GitHub

FILE = "changelog-guard.yml"


def test_a_change_without_an_entry_is_stopped(
    gh: GitHub, train: Callable[[Mapping[str, str]], Train]
) -> None:
    """A changed module without an entry fails the check; with one, or with the label, it passes."""
    line = train({FILE: template(FILE)})
    line.commit("feature/x", {"acme_triage/urgency.py": '"""How urgent."""\n'})
    gh.open_pull(NAME, "feature/x", "develop")
    result = line.play(FILE, "pull_request", gh.pull_request_event(NAME, 1, "opened"))
    assert result.jobs == {"changelog-guard": "failure"}, result.log
    assert [text for level, text, _ in result.annotations if level == "error"] != []

    line.commit(
        "feature/x", {"CHANGELOG.md": CHANGELOG.replace("### Fixed\n\n", "### Fixed\n\n- Urgency.\n")}
    )
    result = line.play(FILE, "pull_request", gh.pull_request_event(NAME, 1))
    assert result.jobs == {"changelog-guard": "success"}, result.log

    line.commit("feature/y", {"acme_triage/urgency.py": '"""How urgent it is."""\n'})
    gh.open_pull(NAME, "feature/y", "develop")
    gh.label_pull(NAME, 2, "no-changelog")
    result = line.play(FILE, "pull_request", gh.pull_request_event(NAME, 2, "labeled"))
    assert result.jobs == {"changelog-guard": "success"}, result.log
