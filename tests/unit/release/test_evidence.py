"""What counts as a verdict on an agent that is about to be published, and what does not."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Exit, State
from gatehouse.release import evidence
from gatehouse.release.dist import Agent
from gatehouse.release.evidence import (
    Verdict,
    evidence_json,
    may_count,
    newest_first,
    passing,
    summed_up,
    unpack,
    verdict_of,
)
from tests.support.dists import make_dist
from tests.support.verdicts import cost_json, eval_json

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.release.dist import Build

DIGEST = "sha256:" + "ab" * 32
TRIAGE = Agent("refund-triage", "agents/refund-triage.yaml", "3", DIGEST, "warn")
STRICT = replace(TRIAGE, on_inconclusive="fail")
OTHER = {"name": "refund-triage", "version": "3", "digest": "sha256:" + "00" * 32, "path": "a.yaml"}
REPOSITORY, TREE = "acme/triage", "d" * 40
TREES = {"a" * 40: TREE, "b" * 40: "e" * 40}
"""The tree of each commit that there is."""
RUN = {
    "id": 1,
    "event": "push",
    "head_branch": "release/v1.2.0",
    "head_sha": "a" * 40,
    "head_repository": {"full_name": REPOSITORY},
    "created_at": "2026-11-01T10:00:00Z",
    "run_started_at": "2026-11-01T10:00:00Z",
}


def packed(**data: Any) -> dict[str, bytes]:
    """The files of a verdict by name, `eval` being `eval.json`."""
    return {f"{name}.json": json.dumps(content).encode() for name, content in data.items()}


def leave(folder: Path, build: Build, files: dict[str, bytes], **changes: Any) -> None:
    """Write evidence as the command does; `changes` are keys of evidence.json."""
    verdicts = [verdict_of(agent, files) for agent in build.agents]
    for agent in build.agents:
        (folder / agent.name).mkdir(parents=True)
        for name, content in files.items():
            (folder / agent.name / name).write_bytes(content)
    (folder / "evidence.json").write_text(json.dumps(evidence_json(build, verdicts) | changes))


@pytest.mark.parametrize(
    ("files", "state", "reason"),
    [
        (packed(eval=eval_json()), "pass", "2 of 2 metrics pass"),
        (packed(eval=eval_json(), cost=cost_json()), "pass", "2 of 2 metrics pass"),
        (packed(eval=eval_json(state="fail", reason="too low")), "fail", "too low"),
        (packed(eval=eval_json(), cost=cost_json(state="fail", reason="too dear")), "fail", "too dear"),
        (packed(eval=eval_json(state="inconclusive")), "inconclusive", "2 of 2"),
        (
            packed(eval=eval_json(), cost=cost_json(state="unscored", reason="unpriced")),
            "unscored",
            "unprice",
        ),
        (packed(cost=cost_json()), "unscored", "there is no eval.json"),
        ({}, "unscored", "there is no eval.json"),
        (packed(eval=eval_json(agent=OTHER)), "unscored", r"of another digest \(000000000000, not abab"),
        (packed(eval=eval_json(), cost=cost_json(agent=OTHER)), "unscored", "cost.json is of another digest"),
        (packed(eval=eval_json("other")), "unscored", "is of the agent other"),
        (packed(eval=eval_json(schema=2)), "unscored", "of schema 2"),
        (packed(eval=eval_json(state="green")), "unscored", 'malformed: "state" is "green"'),
        (packed(eval=[]), "unscored", "malformed"),
        ({"eval.json": b"{"}, "unscored", "not JSON"),
        ({"eval.json": b'{"schema": NaN}'}, "unscored", "not JSON"),
        ({"eval.json": b"[" * 100_000}, "unscored", "not JSON"),
        ({"eval.json": b"\xff"}, "unscored", "not JSON"),
    ],
)
def test_what_a_verdict_says(files: dict[str, bytes], state: str, reason: str) -> None:
    """The worst of both gates counts, and only for exactly this digest; what cannot be read is unscored."""
    verdict = verdict_of(TRIAGE, files)
    assert verdict.state == state
    assert re.search(reason, verdict.reason)
    assert verdict.decisive is (state != "unscored")


def test_a_file_above_the_limit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large to be a verdict is not read as one."""
    monkeypatch.setattr(evidence, "FILE_LIMIT", 100)
    assert "larger than 100 bytes" in verdict_of(TRIAGE, packed(eval=eval_json())).reason


def test_a_digest_with_and_without_its_prefix_is_the_same() -> None:
    """`sha256:` before a digest makes no other digest."""
    bare = replace(TRIAGE, digest=DIGEST.removeprefix("sha256:"))
    assert verdict_of(bare, packed(eval=eval_json())).state is State.PASS


def test_a_reason_moves_no_cursor_and_is_short() -> None:
    """What a verdict says in words is made plain and cut before it is shown or kept."""
    reason = verdict_of(TRIAGE, packed(eval=eval_json(reason="\x1b[2Jx" * 1000))).reason
    assert "\x1b" not in reason
    assert len(reason) < 600


@pytest.mark.parametrize(
    ("states", "agent", "state", "code"),
    [
        (["pass"], TRIAGE, "pass", Exit.PASS),
        (["inconclusive"], TRIAGE, "pass", Exit.PASS),
        (["inconclusive"], STRICT, "fail", Exit.FAIL),
        (["pass", "unscored"], TRIAGE, "unscored", Exit.UNSCORED),
        (["unscored", "fail"], TRIAGE, "fail", Exit.FAIL),
        ([], TRIAGE, "none", Exit.PASS),
    ],
)
def test_all_agents_together(states: list[str], agent: Agent, state: str, code: Exit) -> None:
    """One failed agent fails all, one without a verdict leaves them unscored, none at all is no fault."""
    verdicts = [Verdict(State(one), "why") for one in states]
    told = summed_up([agent] * len(states), verdicts)
    assert (told[0], told[2]) == (state, code)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"event": "workflow_dispatch"}, True),
        ({"head_branch": "main"}, True),
        ({"head_repository": {"full_name": "Acme/Triage"}}, True),
        ({"head_sha": "b" * 40}, False),
        ({"head_sha": "f" * 40}, False),
        ({"event": "pull_request"}, False),
        ({"event": "pull_request_target"}, False),
        ({"event": "workflow_run"}, False),
        ({"head_repository": {"full_name": "mallory/triage"}}, False),
        ({"head_repository": None}, False),
    ],
)
def test_which_runs_may_count(changes: dict[str, Any], counts: bool) -> None:
    """Only pushes and dispatches of our own repository at exactly the built tree, whatever the branch."""
    assert may_count(RUN | changes, REPOSITORY, TREES.get, TREE) is counts


def test_the_newest_run_is_the_one_that_started_last() -> None:
    """An old run that was run again comes before a run that was made after it; each comes once."""
    again = RUN | {"id": 1, "run_started_at": "2026-11-03T10:00:00Z"}
    later = RUN | {"id": 2, "created_at": "2026-11-02T10:00:00Z", "run_started_at": "2026-11-02T10:00:00Z"}
    assert [run["id"] for run in newest_first([later, again, later])] == [1, 2]


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    """A zip of these members, in this order."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            made.writestr(name, data)
    return content.getvalue()


def test_only_verdicts_are_taken_out_of_an_artifact() -> None:
    """Members of any other name are not read, also such as lead out of a folder; nothing is written."""
    names = ["../refund-triage/eval.json", "/refund-triage/eval.json", "refund-triage/../eval.json"]
    members = [(name, b"no") for name in [*names, "refund-triage/scores.jsonl", "scorecard.md"]]
    found = unpack(zipped([*members, ("refund-triage/eval.json", b"yes")]), [TRIAGE])
    assert found == {"refund-triage": {"eval.json": b"yes"}}


def test_a_zip_bomb_is_read_to_the_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member is read to the limit, whatever it would become."""
    monkeypatch.setattr(evidence, "FILE_LIMIT", 1000)
    bomb = zipped([("refund-triage/eval.json", b"0" * 10_000_000)])
    assert len(unpack(bomb, [TRIAGE])["refund-triage"]["eval.json"]) == 1001


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_verdict_twice_is_none() -> None:
    """Of two members of one name, which one counts would be the reader's choice."""
    twice = zipped([("refund-triage/eval.json", b"pass"), ("refund-triage/eval.json", b"fail")])
    with pytest.raises(ValueError, match="stands in it 2 times"):
        unpack(twice, [TRIAGE])


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", zipped([("a", b"b" * 99)])[:-30], b"<html>"])
def test_what_is_no_zip_is_said_to_be_none(content: bytes) -> None:
    """A broken artifact raises ValueError, never anything else."""
    with pytest.raises(ValueError, match="no usable zip"):
        unpack(content, [TRIAGE])


def test_a_broken_member_is_said_to_be_none() -> None:
    """A member whose bytes do not fit their checksum or cannot be inflated makes the artifact unusable."""
    content = bytearray(zipped([("refund-triage/eval.json", json.dumps(eval_json()).encode())]))
    content[60:80] = b"\xff" * 20
    with pytest.raises(ValueError, match="no usable zip"):
        unpack(bytes(content), [TRIAGE])


def test_a_build_without_agents_needs_no_evidence(tmp_path: Path) -> None:
    """A package without agents passes, whether or not there is a folder."""
    decision = passing(make_dist(tmp_path / "dist"), tmp_path / "nothing")
    assert decision.passed
    assert decision.reason == "the build carries no agents"


@pytest.mark.parametrize(
    ("agent", "files", "passed"),
    [
        (TRIAGE, packed(eval=eval_json()), True),
        (TRIAGE, packed(eval=eval_json(), cost=cost_json()), True),
        (TRIAGE, packed(eval=eval_json(state="inconclusive")), True),
        (STRICT, packed(eval=eval_json(state="inconclusive")), False),
        (TRIAGE, packed(eval=eval_json(), cost=cost_json(state="inconclusive")), True),
        (STRICT, packed(eval=eval_json(), cost=cost_json(state="inconclusive")), False),
        (TRIAGE, packed(eval=eval_json(), cost=cost_json(state="fail")), False),
        (TRIAGE, packed(eval=eval_json(), cost=cost_json(state="unscored")), False),
        (TRIAGE, packed(eval=eval_json(state="fail")), False),
        (TRIAGE, packed(eval=eval_json(state="unscored")), False),
        (TRIAGE, packed(eval=eval_json(agent=OTHER)), False),
    ],
)
def test_publishing_goes_by_the_verdicts(
    tmp_path: Path, agent: Agent, files: dict[str, bytes], passed: bool
) -> None:
    """A build passes with a verdict that its agent's own gate lets through, on exactly its digest."""
    build = make_dist(tmp_path / "dist", agents=[agent])
    leave(tmp_path / "evidence", build, files)
    assert passing(build, tmp_path / "evidence").passed is passed


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """Without evidence the reason names the agents and the command that makes it."""
    decision = passing(make_dist(tmp_path / "dist", agents=[TRIAGE]), tmp_path / "evidence")
    assert not decision.passed
    assert "refund-triage" in decision.reason
    assert "gatehouse evidence" in decision.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"commit": "a" * 40}, "of another build: its commit is aaaa"),
        ({"version": "1.1.0"}, "of another build: its version is 1.1.0, not 1.2.0"),
        ({"name": "other"}, "of another build: its name"),
        ({"agents": []}, "evidence.json does not name it"),
        ({"schema": 2}, "of schema 2"),
        ({"state": "great"}, "malformed"),
    ],
)
def test_evidence_of_something_else_does_not_count(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    """Evidence is of one build, and names each of its agents."""
    build = make_dist(tmp_path / "dist", agents=[TRIAGE])
    leave(tmp_path / "evidence", build, packed(eval=eval_json()), **changes)
    decision = passing(build, tmp_path / "evidence")
    assert not decision.passed
    assert reason in decision.reason


def test_a_summary_alone_proves_nothing(tmp_path: Path) -> None:
    """Where the verdict's own file is gone, or says something else, `evidence.json` does not count."""
    build = make_dist(tmp_path / "dist", agents=[TRIAGE])
    leave(tmp_path / "evidence", build, packed(eval=eval_json(state="fail")))
    file = tmp_path / "evidence/refund-triage/eval.json"
    file.write_text(json.dumps(eval_json()))
    assert "contradict" in passing(build, tmp_path / "evidence").reason
    file.unlink()
    assert "there is no eval.json" in passing(build, tmp_path / "evidence").reason


def test_every_agent_needs_its_own(tmp_path: Path) -> None:
    """One agent's verdict is not another's, and the reason names the one without."""
    second = replace(TRIAGE, name="support", digest="sha256:" + "ef" * 32)
    build = make_dist(tmp_path / "dist", agents=[TRIAGE, second])
    leave(tmp_path / "evidence", build, packed(eval=eval_json()))
    decision = passing(build, tmp_path / "evidence")
    assert not decision.passed
    assert decision.reason.startswith("support: unscored, eval.json is of the agent refund-triage")
