"""Hostile text from all who have a say in a gate, through the real commands, to what each leaves behind."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from gatehouse.errors import Exit
from gatehouse.github.escape import plain
from gatehouse.rehearse.github import GitHub
from gatehouse.report.scorecard import Card, markdown
from tests.integration.test_hostile_fields import HEAD, RUN, assert_inert
from tests.support.agent_files import FULL, put, texts
from tests.support.hostile import CLASSES, HIDDEN, TOUCH, commands_in, everything, outputs_in, ref_of, run
from tests.support.projects import cases, read, write_golden, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUT, REPO = ".gatehouse/echo", "octo/agents"
GROUPS = [group for name, group in CLASSES.items() if name != "length"]
SHORT = [text for text in everything(set(CLASSES) - {"length"}) if text.strip()]
TEXTS = [text for text in SHORT if not re.search("[\ud800-\udfff]", text)]
"""What a golden set may hold: half of a surrogate pair is refused."""
WORDS = [
    re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", text)
    for text in ["".join(group.values()) for group in GROUPS] + SHORT[::6]
]
"""What a variable or an argument may hold: each class as one text, and some alone."""
AGENT = """
import json, sys
from pathlib import Path
TEXTS = json.loads(Path("texts.json").read_text())
def answer(case):
    text = TEXTS[case["n"]]
    print(text.encode(errors="replace").decode())
    print(text.encode(errors="replace").decode(), file=sys.stderr)
    if case["n"] % 2 == 0:
        raise ValueError(text)
    return {
        "output": text, "contexts": [text], "tool_calls": [{"name": text, "arguments": {text: text}}],
        "usage": {"provider": text, "model": text, "input_tokens": 1, "output_tokens": 1},
    }
"""


@pytest.fixture(scope="module")
def pull(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GitHub, Path]]:
    """A GitHub with a pull request from a branch with a hostile name, and a place for its jobs."""
    folder = tmp_path_factory.mktemp("pull")
    (folder / "files").mkdir()
    (folder / "files/README.md").write_text("x\n")
    with GitHub(folder / "github") as github:
        github.create_repository(REPO, folder / "files")
        branch = ref_of(f"x;$({TOUCH})`{TOUCH}`::error::pwned@everyone\u202e<img>")
        github.git(REPO, "update-ref", f"refs/heads/{branch}", commit_of(github, "<script>@everyone #1"))
        github.open_pull(REPO, branch, "main", "::error::pwned <img src=x>")
        yield github, folder


def commit_of(github: GitHub, message: str) -> str:
    """A new commit on main's tree."""
    return github.git(REPO, "commit-tree", "main^{tree}", "-p", "main", "-m", message)


def job(pull: tuple[GitHub, Path]) -> dict[str, str]:
    """The variables of a run on the pull request."""
    github, folder = pull
    (folder / "event.json").write_text(json.dumps({"pull_request": github.pull(REPO, 1)}))
    for name in ("output", "summary.md"):
        (folder / name).write_text("")
    return {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_REPOSITORY": REPO,
        "GITHUB_SHA": "d" * 40,
        "GITHUB_RUN_ID": "7",
        "GITHUB_SERVER_URL": github.server_url,
        "GITHUB_API_URL": github.api_url,
        "GITHUB_TOKEN": github.token,
        "no_proxy": "127.0.0.1",
    }


def identifier(text: str, number: int) -> str:
    """The text as a case's id, where it may be one: what is not printable is refused."""
    called = f"{number} {' '.join(text.split())}"[:200].rstrip()
    return called if called.isprintable() else str(number)


def golden(text: str, number: int) -> dict[str, Any]:
    """A case that holds the text wherever it can."""
    return {
        "id": identifier(text, number),
        "input": {"n": number, "text": text},
        "expected": f"not {text}",
        "contexts": [text],
        "expected_tools": [text],
        "tags": [text],
        "metadata": {text: text},
    }


def test_a_gate_carries_hostile_text_to_its_end(tmp_path: Path, pull: tuple[GitHub, Path]) -> None:
    """Golden set, answers, tools, models, errors and logs: measured, told, delivered, and never obeyed."""
    github, folder = pull
    metrics = {"exact_match": 1, "a\u202e|b": {"metric": "contains", "threshold": 1}, "tool_calls": 1}
    write_project(tmp_path, code=AGENT, evals={"dataset": "golden.jsonl", "metrics": metrics})
    write_golden(tmp_path, [golden(text, number) for number, text in enumerate(TEXTS)])
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    env = job(pull)
    assert run(tmp_path, "eval-gate", env=env).code == Exit.FAIL
    run(tmp_path, "cost-gate", env=env, codes=(0, 3))
    for _again in range(2):
        card = run(tmp_path, "scorecard", env=env, codes=(0,))
    assert {name for name, _, _ in commands_in(card.out)} <= {"error", "warning"}
    assert all(given["file"] == "golden.jsonl" for _, given, _ in commands_in(card.out))

    verdict = read(tmp_path / OUT / "eval.json")
    assert verdict["failing"] == len(TEXTS)
    assert {c["id"] for c in verdict["failing_cases"]} == {identifier(t, n) for n, t in enumerate(TEXTS)}
    runs = [json.loads(line) for line in (tmp_path / OUT / "runs.jsonl").read_bytes().split(b"\n") if line]
    answered = {line["id"]: line["output"] for line in runs if not line["error"]}
    wanted = {golden(text, n)["id"]: text for n, text in enumerate(TEXTS) if n % 2}
    assert answered == wanted

    [comment] = [c["body"] for c in github.comments(REPO, 1)]
    assert comment.partition("\n")[2].rstrip() == (tmp_path / ".gatehouse/scorecard.md").read_text().rstrip()
    assert_inert(comment.partition("\n")[2])
    assert not HIDDEN.search((folder / "summary.md").read_text())
    outputs = outputs_in((folder / "output").read_text())
    assert set(outputs) == {"state", "reason", "agents", "comment-url", "markdown", "junit"}
    report = (tmp_path / ".gatehouse/scorecard.xml").read_text()
    assert not HIDDEN.search(report)
    assert len(list(ET.fromstring(report).iter("testcase"))) > len(TEXTS)  # noqa: S314 ours
    assert not HIDDEN.search(outputs["reason"])


def test_an_agent_that_cannot_start_speaks_in_vain(tmp_path: Path, pull: tuple[GitHub, Path]) -> None:
    """What an agent prints before it fails is shown in the job's log, and nothing in it is obeyed."""
    everything_said = "\n".join(SHORT)
    code = (
        "import json, sys\nfrom pathlib import Path\nsaid = Path('said.json').read_text()\n"
        "said = json.loads(said).encode(errors='replace').decode()\n"
        "print(said)\nprint(said, file=sys.stderr)\nraise ImportError(said)\n"
    )
    write_project(tmp_path, code=code)
    (tmp_path / "said.json").write_text(json.dumps(everything_said))
    env = job(pull)
    assert run(tmp_path, "eval-gate", env=env, codes=(3,)).code == Exit.UNSCORED
    run(tmp_path, "scorecard", env=env, codes=(0,))
    assert_inert((tmp_path / ".gatehouse/scorecard.md").read_text())


AGENT_FIELDS = {".".join(map(str, at)): at for at in texts(FULL)}


@pytest.mark.parametrize("field", AGENT_FIELDS)
def test_an_agent_file_of_hostile_words(tmp_path: Path, field: str) -> None:
    """Every text of an agent file: refused with its line, or carried; nothing is written elsewhere."""
    write_project(tmp_path, cases(1))
    (tmp_path / "event.json").write_text("{}")
    env = {
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": REPO,
        "GITHUB_SHA": "d" * 40,
        "GITHUB_RUN_ID": "7",
    }
    (tmp_path / "nothing").mkdir()
    before = set(tmp_path.iterdir())
    for name, group in CLASSES.items():
        text = "".join(group.values()) if name != "length" else group["a megabyte"][:100_000]
        data = put(FULL, AGENT_FIELDS[field], text)
        written = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
        (tmp_path / "agents/echo.yaml").write_bytes(written.encode(errors="surrogateescape"))
        done = run(tmp_path, "eval-gate", "--runs", "nothing", env=env, codes=(2, 3))
        if done.code == Exit.INVALID:
            assert "agents/echo.yaml:" in done.err, done.err
        for verdict in map(read, tmp_path.glob(".gatehouse/*/eval.json")):
            card = Card(verdict["agent"]["name"], verdict, None, gates=("eval",))
            assert_inert_unscored(markdown([card], run_url=RUN))
        assert set(tmp_path.iterdir()) - before == {tmp_path / ".gatehouse"}
        for made in (tmp_path / ".gatehouse").iterdir():
            assert made.is_file() or {inner.name for inner in made.iterdir()} <= {"eval.json", "run.lock"}
            if made.is_dir():
                for inner in made.iterdir():
                    inner.unlink()
                made.rmdir()


def assert_inert_unscored(text: str) -> None:
    """Assert that a scorecard without a verdict is one inert headline, and what to do."""
    assert text.startswith("### ⚠️ Gatehouse: "), text[:300]
    assert_inert(text)


def usable(text: str) -> str:
    """The text as a file may be called on this system."""
    name = text.replace("/", "").replace("\0", "").encode(errors="replace")[:150].decode(errors="ignore")
    return name if name not in ("", ".", "..") else "dots"


@pytest.mark.parametrize("name", CLASSES)
def test_files_with_hostile_names(tmp_path: Path, name: str, pull: tuple[GitHub, Path]) -> None:
    """A golden set and an agent file of any name are gated as others, and shown as what they are called."""
    called = [usable(text) for text in CLASSES[name].values()]
    called = list(dict.fromkeys([called[0], called[-1], usable("".join(called))]))
    env = job(pull)
    for number, file in enumerate(called):
        place = tmp_path / str(number)
        write_project(place, [{"id": "c", "input": "a", "expected": "b"}])
        (place / "golden.jsonl").rename(place / f"{file}.jsonl")
        (place / "agents/echo.yaml").rename(place / f"agents/{file}.yaml")
        given = ("--agent", f"agents/{file}.yaml", "--dataset", f"{file}.jsonl")
        done = run(place, "eval-gate", *given, env=env)
        assert done.code == Exit.FAIL, done.err
        run(place, "scorecard", "--to", "annotations", env=env, codes=(0,))
        run(place, "plan", env=env, codes=(0,))
        verdict = read(place / OUT / "eval.json")
        assert verdict["dataset"]["path"] == f"{file}.jsonl"
        assert_inert((place / ".gatehouse/scorecard.md").read_text())
        assert plain(file).strip() in plain(verdict["dataset"]["path"])


VARIABLES = (
    "GITHUB_EVENT_NAME",
    "GITHUB_REPOSITORY",
    "GITHUB_SHA",
    "GITHUB_REF",
    "GITHUB_HEAD_REF",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_TOKEN",
)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_run_with_hostile_variables(tmp_path: Path, variable: str, pull: tuple[GitHub, Path]) -> None:
    """Whatever a runner is told of commit, branch and repository: delivered, or refused, and not obeyed."""
    github, folder = pull
    write_project(tmp_path, cases(1))
    run(tmp_path, "eval-gate", env=job(pull), codes=(0,))
    before = github.effects[:]
    for text in WORDS:
        run(tmp_path, "scorecard", "--to", "summary", env=job(pull) | {variable: text}, codes=(0, 2))
        assert not HIDDEN.search((folder / "summary.md").read_text())
    assert github.effects == before


@pytest.mark.parametrize("field", ["head.sha", "head.ref", "base.ref", "number", "head.repo.full_name"])
def test_an_event_with_hostile_words(tmp_path: Path, field: str, pull: tuple[GitHub, Path]) -> None:
    """A payload says what it likes: the scorecard is written, or the event refused, and GitHub left alone."""
    github, folder = pull
    write_project(tmp_path, cases(1))
    run(tmp_path, "eval-gate", env=job(pull), codes=(0,))
    before = github.effects[:]
    for text in WORDS:
        env = job(pull)
        payload = json.loads((folder / "event.json").read_text())
        inner = payload["pull_request"]
        *way, last = field.split(".")
        for step in way:
            inner = inner[step]
        inner[last] = text
        (folder / "event.json").write_text(json.dumps(payload))
        run(tmp_path, "scorecard", env=env, codes=(2,) if field in ("head.sha", "number") else (0,))
    assert field in ("head.ref", "base.ref") or github.effects == before
    assert HEAD not in str(github.effects)


@pytest.mark.parametrize("option", ["--key", "--author"])
def test_a_comment_with_hostile_options(tmp_path: Path, option: str, pull: tuple[GitHub, Path]) -> None:
    """A key that no marker can hold is refused; an author is only compared with."""
    write_project(tmp_path, cases(1))
    run(tmp_path, "eval-gate", env=job(pull), codes=(0,))
    for text in WORDS:
        codes = (2,) if option == "--key" else (0, 2, 3)
        run(tmp_path, "scorecard", f"{option}={text}", env=job(pull), codes=codes)
