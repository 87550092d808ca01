"""Every class of hostile text in a changelog and around it: carried exactly, never obeyed, hiding nothing."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from packaging.version import Version

from gatehouse.commands import _release
from gatehouse.errors import Decision, UserError
from gatehouse.github import runner
from gatehouse.rehearse.github import GitHub
from gatehouse.release import changelog, closing, gitflow
from gatehouse.release.index import publishable
from gatehouse.release.notes import Row, release_notes
from tests.integration.test_changelog_guard import CODE, guard
from tests.support.dists import make_dist
from tests.support.hostile import IN_JSON, KINDS, harmless, inert, run, table
from tests.support.markdown import page_of
from tests.support.repositories import CHANGELOG, NAME, ReleaseRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.projects import Done

TAG = "v1.2.0"
TODAY, URL = date(2026, 11, 21), "https://github.com/acme/triage"

# The guard.


@pytest.fixture(scope="module")
def pull(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """The guard in the checkout of a pull request without an entry; `changes` are fields of its event."""
    folder = tmp_path_factory.mktemp("pull")
    with GitHub(folder / "github") as gh:
        repo = ReleaseRepository(gh, folder / "repository")
        assert guard(repo, CODE).code == 1
        sha = gh.git(NAME, "rev-parse", "refs/pull/1/merge")

        def judge(*args: str, **changes: Any) -> Done:
            payload = gh.pull_request_event(NAME, 1)
            payload["pull_request"] = merged(payload["pull_request"], changes)
            env = repo.environment(ref="refs/pull/1/merge", event="pull_request", payload=payload, sha=sha)
            done = run(folder / "repository/checkout", "changelog-guard", *args, env=env)
            inert((repo.folder / "summary.md").read_text())
            return done

        yield judge


def merged(one: Any, other: Any) -> Any:
    """A JSON object with another one laid over it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {key: merged(one.get(key), value) for key, value in other.items()}
    return other


@pytest.mark.parametrize(
    ("option", "kind"),
    table(
        ["--changelog", "--paths", "--skip-label"],
        but=[("--paths", "shell"), ("--paths", "option"), ("--paths", "control")],
    ),
)
def test_the_guard_reads_no_more_than_it_is_told(pull: Callable[..., Done], option: str, kind: str) -> None:
    """No changelog, pattern or label that a workflow names lets the guard pass or do anything else."""
    done = pull(f"{option}={KINDS[kind]}")
    assert done.code in ((0, 2) if option == "--paths" else (1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_asks_every_pull_request(pull: Callable[..., Done], kind: str) -> None:
    """What a pull request, its branch and its labels are called changes nothing but is no release branch."""
    text = KINDS[kind]
    fields = {"title": text, "body": text, "labels": [{"name": text}], "user": {"login": text}}
    assert pull(**fields, head={"ref": text}).code == 1
    assert pull(head={"ref": f"release/{text}"}).code == 0
    assert pull(head={"ref": f"release/{text}", "repo": {"full_name": text}}).code == 1


# Changelogs.

PLACES = {
    "entry": ("- Sort by urgency.", "- {}"),
    "block": ("- Sort by urgency.", "- Sort by urgency.\n\n{}\n"),
    "category": ("### Added", "### Added\n\n- One.\n\n### {}"),
    "Unreleased": ("## [Unreleased]\n", "## [Unreleased] - {}\n"),
    "address of Unreleased": ("[Unreleased]: ", "[Unreleased]: <{}> "),
    "version": ("## [0.1.0] - 2026-01-05", "## [0.1.0] - {}"),
    "link definition": ("[0.1.0]: ", "[{}]: "),
}
"""Where a changelog takes text: what stands there, and what does instead."""

IN_CHANGELOG = KINDS | {
    "nul": "a\0b",
    "fence": "`" * 30_000,
    "comment": "<!--",
    "fold": "<details><summary>a",
}


def laid_in(place: str, kind: str) -> str:
    """A changelog with hostile text at a place."""
    there, instead = PLACES[place]
    return CHANGELOG.replace(there, instead.replace("{}", IN_CHANGELOG[kind]), 1)


@pytest.mark.parametrize(
    ("place", "kind"),
    table(
        PLACES,
        kinds=IN_CHANGELOG,
    ),
)
def test_a_changelog_is_cut_or_refused(place: str, kind: str) -> None:
    """Every line stays as it is, what the pull request shows of it is dead, and the way back adds nothing."""
    text, version = laid_in(place, kind), Version("1.2.0")
    try:
        after = changelog.cut(text, version, TODAY, URL, "v0.1.0")
    except UserError as error:
        harmless_reasons(Decision(passed=False, reason=str(error)))
        return
    lines = iter(after.split("\n"))
    stays = [line for line in text.split("\n") if not line.startswith("[Unreleased]: ")]
    assert [line[:200] for line in stays if line not in lines] == []
    section = changelog.section(after, version) or ""
    body = gitflow.pull_body(version, section, "develop", "main", "v")
    inert(body)
    assert len(body) <= 65_536
    assert changelog.back_merge(text, after, text) in (None, after)
    harmless_reasons(
        Decision(passed=False, reason=changelog.level(text)[1]), changelog.missing(CHANGELOG, text)
    )


@pytest.mark.parametrize("kind", IN_CHANGELOG)
def test_a_workflow_file_is_read_or_taken_for_none(kind: str) -> None:
    """Whatever a workflow's file holds, whether it can be started is told."""
    text = IN_CHANGELOG[kind]
    assert gitflow.startable(text) is False
    assert gitflow.startable("[" * 1000 + text) is False


def harmless_reasons(*decisions: Decision) -> None:
    """Assert that reasons reach log, annotations and summary without being obeyed."""
    runner._annotated.clear()
    out, folder = io.StringIO(), TemporaryDirectory()
    with folder as place, redirect_stdout(out):
        summary = Path(place, "summary.md")
        with patch.dict(os.environ, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}):
            _release.report(decisions, "Title")
        shown = summary.read_text()
    harmless(out.getvalue())
    inert(shown)
    assert shown.count("\n- ") == len(decisions)


@pytest.mark.parametrize("kind", IN_JSON)
def test_what_git_and_github_call_things_is_only_shown(tmp_path: Path, kind: str) -> None:
    """Branches, titles, messages, files, workflows and addresses are text in every decision's reason."""
    text, commit, version = IN_JSON[kind], "c" * 40, Version("1.2.0")
    run = {"event": "push", "head_branch": text, "head_sha": commit, "workflow_id": 1, "name": text}
    run |= {"status": text, "conclusion": text, "html_url": text, "id": 1, "run_number": 1, "run_attempt": 1}
    run |= {"created_at": text, "run_started_at": text}
    merged = closing.Merged(1, version, text, commit, commit, text)
    odd = gitflow.Commit(commit, text, (commit,))
    harmless_reasons(
        gitflow.green([run], text, commit),
        gitflow.resumable(text, odd, [odd, odd], [text], version, text, on_develop=False),
        gitflow.unmerged([{"merged_at": "x", "number": 1}], text),
        gitflow.unused(version, [], [{"tag_name": TAG, "draft": True, "html_url": text}], "v"),
        closing.contained(merged, on_main=False, main=text),
        closing.staged([], {}, "a", text, closing.other_files(merged, text)),
        closing.staged([run], {commit: "a"}, "a", text),
        closing.has_section(None, version, text, there=False),
        closing.removable(text, commit, None, on_main=False, same=False, extra=[text]),
        publishable(
            make_dist(tmp_path, tag=None), pre_release=False, evidence=Decision(passed=False, reason=text)
        ),
        changelog.missing(None, None, text),
    )
    inert(closing.back_merge_body(version, text, "v", [text]))
    inert(gitflow.pull_body(version, "- One.", text, text, text))


ROW = Row("triage", "3", "sha256:" + "ab" * 32, "pass", "2 of 2 metrics pass")


@pytest.mark.parametrize(
    ("field", "kind"),
    table(
        ["notes"],
        but=[("notes", "bytes")],  # which github-release refuses
        kinds=IN_CHANGELOG,
    ),
)
def test_verdicts_are_seen_whatever_the_changelog_holds(field: str, kind: str) -> None:
    """The section stands in a release's notes as it is, and cannot hide what the agents' verdicts are."""
    section = f"- One.\n{IN_CHANGELOG[kind]}"
    notes = release_notes(section, "**Full Changelog**", [ROW])
    assert section.strip("\r\n") in notes
    page = page_of(notes)
    assert "2 of 2 metrics pass" in "".join(page.cells)
