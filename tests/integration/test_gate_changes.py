"""`gatehouse gate-changes` on real commits, as a pull request's run has them and from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema.validators import Draft202012Validator

from gatehouse.github import runner
from tests.contracts.schemas import schema, strict
from tests.support.projects import Done, call
from tests.support.repositories import git, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AGENT = """
agent:
  name: echo
  version: 1
  model: {provider: ollama, name: "tiny:1b"}
  system_prompt: prompt.md
  evals:
    dataset: [golden.jsonl, more.csv]
    metrics:
      exact_match: 0.9
      polite: {metric: "own.rules:polite", threshold: 0.5}
      helpfulness: 1.5
"""
RUBRIC = "rubric:\n  criteria: Is it of use?\n  scale: [1, 2]\n  anchors: {1: no, 2: yes it is}\n"
FILES = {
    ".gitignore": ".gatehouse/\n",
    "agents/echo.yaml": AGENT,
    "prompt.md": "Repeat.\n",
    "golden.jsonl": "".join(f'{{"id": "{i}", "input": "{i}", "expected": "{i}"}}\n' for i in "ab"),
    "more.csv": "id,input,expected\nc,3,3\n",
    "own/__init__.py": "",
    "own/rules.py": "def polite(case):\n    return 1.0\n",
    "evals/rubrics/helpfulness.yaml": RUBRIC.replace("yes it is", '"yes"').replace("1: no", '1: "no"'),
}


class Clone:
    """A repository with a base commit, and a merge commit of a pull request into it, as a runner has it."""

    def __init__(self, folder: Path, files: Mapping[str, str | bytes | None] = FILES) -> None:
        self.folder = folder / "repository"
        self.folder.mkdir(parents=True)
        git(self.folder, "init", "--quiet", "--initial-branch=develop")
        self.commit(files)
        self.base = git(self.folder, "rev-parse", "HEAD")
        self.environment: dict[str, str] = {}

    def commit(self, files: Mapping[str, str | bytes | None]) -> None:
        """Commit these files."""
        write(self.folder, files)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", "x")

    def merge(self, files: Mapping[str, str | bytes | None], event: str = "pull_request") -> None:
        """Check out the merge of a pull request with these files."""
        git(self.folder, "checkout", "--quiet", "-b", "feature")
        self.commit(files)
        head = git(self.folder, "rev-parse", "HEAD")
        git(self.folder, "checkout", "--quiet", "--detach", "develop")
        git(self.folder, "merge", "--quiet", "--no-ff", "--message", "merge", "feature")
        repository = {"full_name": "acme/echo"}
        pull = {
            "number": 1,
            "head": {"sha": head, "ref": "feature", "repo": repository},
            "base": {"sha": self.base, "ref": "develop", "repo": repository},
        }
        self.event(event, {"pull_request": pull})

    def event(self, name: str, payload: dict[str, Any]) -> None:
        """Be in a run that an event started."""
        file = self.folder.parent / "event.json"
        file.write_text(json.dumps(payload))
        self.environment = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": name,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REPOSITORY": "acme/echo",
            "GITHUB_SHA": git(self.folder, "rev-parse", "HEAD"),
            "GITHUB_RUN_ID": "1",
            "GITHUB_OUTPUT": str(self.folder.parent / "outputs"),
        }

    def shallow(self, depth: int) -> None:
        """Be a clone of that depth."""
        copy = self.folder.parent / "shallow"
        copy.mkdir()
        git(copy, "init", "--quiet")
        head = git(self.folder, "rev-parse", "HEAD")
        git(self.folder, "update-ref", "refs/heads/merge", head)
        git(copy, "fetch", "--quiet", f"--depth={depth}", f"file://{self.folder}", "merge")
        git(copy, "checkout", "--quiet", "FETCH_HEAD")
        self.folder = copy

    def call(self, *args: str) -> Done:
        """`gatehouse gate-changes`, in the event's run where there is one."""
        runner._annotated.clear()
        return call(self.folder, "gate-changes", *args, env=self.environment)

    def data(self) -> dict[str, Any]:
        """changes.json, which follows its schema."""
        found: dict[str, Any] = json.loads((self.folder / ".gatehouse/changes.json").read_bytes())
        assert list(Draft202012Validator(strict(schema("changes"))).iter_errors(found)) == []
        return found

    def outputs(self) -> dict[str, str]:
        """The outputs of the last call."""
        values, lines = {}, iter((self.folder.parent / "outputs").read_text().splitlines())
        for line in lines:
            name, _, end = line.partition("<<")
            values[name] = "\n".join(iter(lines.__next__, end))
        return values


def test_a_pull_request_is_compared_with_its_base(tmp_path: Path) -> None:
    """Everything that the gate is made of is compared, in a clone of depth 2, and the exit code is 0."""
    clone = Clone(tmp_path)
    clone.merge(
        {
            "agents/echo.yaml": AGENT.replace("0.9", "0.1"),
            "golden.jsonl": '{"id": "b", "input": "b", "expected": "x"}\n',
            "more.csv": "id,input,expected\nc,3,3\nd,4,4\n",
            "own/rules.py": "def polite(case):\n    return 0.9\n",
            "evals/rubrics/helpfulness.yaml": FILES["evals/rubrics/helpfulness.yaml"] + "# more\n",
            ".github/CODEOWNERS": "* @acme\n",
        }
    )
    clone.shallow(2)
    done = clone.call()
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "Changes of the gate itself against develop: 2 weaker, 3 changed, 2 stronger",
        "  ⚠️ echo: threshold lowered: exact_match, 0.9 → 0.1 in agents/echo.yaml",
        "  ⚠️ echo: 1 case dropped: a in golden.jsonl",
        "  echo: code of an own metric changed: polite in own/rules.py",
        "  echo: reference changed in 1 case: b in golden.jsonl",
        "  evals/rubrics/helpfulness.yaml: rubric changed",
        "  echo: 1 case added: d in more.csv",
        "  .github/CODEOWNERS: CODEOWNERS added",
    ]
    assert clone.outputs() == {"compared": "true", "weaker": "true", "changes": "7"}
    data = clone.data()
    assert (data["compared"], data["weaker"]) == (True, 2)
    assert data["base"] == {"commit": clone.base, "name": "develop"}


def test_nothing_is_executed(tmp_path: Path) -> None:
    """Neither the module of an own metric nor its package is imported, in no version of it."""
    proof = tmp_path / "executed"
    trap = f"open({str(proof)!r}, 'w')\ndef polite(case):\n    return 1.0\n"
    clone = Clone(tmp_path, FILES | {"own/rules.py": trap, "own/__init__.py": trap})
    clone.merge({"own/rules.py": trap + "# other\n", "sitecustomize.py": trap, "yaml.py": trap})
    done = clone.call()
    assert done.code == 0, done.err
    assert "code of an own metric changed" in done.out
    assert not proof.exists()


def test_a_gate_that_stays_is_no_news(tmp_path: Path) -> None:
    """A pull request that changes the prompt alone changes nothing of the gate."""
    clone = Clone(tmp_path)
    clone.merge({"prompt.md": "Repeat it.\n"})
    done = clone.call()
    assert (done.code, done.out) == (0, "The gate itself is as it is in develop.\n")
    assert clone.data()["changes"] == []
    assert clone.outputs()["weaker"] == "false"


@pytest.mark.parametrize("how", ["shallow", "head", "another merge", "target"])
def test_a_base_that_cannot_be_read_is_said(tmp_path: Path, how: str) -> None:
    """Without the base nothing is compared; a warning and the file say why, and the exit code is 0."""
    clone = Clone(tmp_path)
    clone.merge({"prompt.md": "x"}, "pull_request_target" if how == "target" else "pull_request")
    if how == "shallow":
        clone.shallow(1)
    elif how == "head":
        git(clone.folder, "checkout", "--quiet", "feature")
    elif how == "another merge":
        git(clone.folder, "commit", "--quiet", "--amend", "--message", "by somebody else")
    done = clone.call()
    assert done.code == 0, done.err
    assert done.out.startswith("::warning::The gate itself was not compared with its base: ")
    data = clone.data()
    assert (data["due"], data["compared"]) == (True, False)
    wanted = {"shallow": "fetch-depth: 2", "target": "pull_request_target"}
    assert wanted.get(how, "HEAD is not the merge of the pull request") in data["reason"]
    assert clone.outputs() == {"compared": "false", "weaker": "false", "changes": "0"}


def test_a_missing_object_is_said(tmp_path: Path) -> None:
    """A repository that lacks a file of the base is not compared, and an older file does not stand for it."""
    clone = Clone(tmp_path)
    clone.merge({"agents/echo.yaml": AGENT.replace("0.9", "0.1")})
    assert clone.call().code == 0
    blob = git(clone.folder, "rev-parse", "HEAD^1:agents/echo.yaml")
    (clone.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()
    done = clone.call()
    assert done.code == 0
    assert "::warning::The gate itself was not compared with its base: " in done.out
    assert clone.data()["compared"] is False


def test_a_merge_group_is_compared_with_what_it_is_put_on(tmp_path: Path) -> None:
    """The event of a merge queue names the base itself, which may be several commits away."""
    clone = Clone(tmp_path)
    clone.commit({"golden.jsonl": '{"id": "b", "input": "b", "expected": "b"}\n'})
    clone.commit({"prompt.md": "x"})
    group = {"base_sha": clone.base, "base_ref": "refs/heads/develop"}
    clone.event("merge_group", {"merge_group": group})
    assert "1 case dropped: a" in clone.call().out
    clone.event("merge_group", {"merge_group": group | {"base_sha": "0" * 40}})
    assert "lacks the base of the merge group" in clone.call().out


def test_a_push_has_no_base(tmp_path: Path) -> None:
    """On a push nothing is compared, which is no fault."""
    clone = Clone(tmp_path)
    clone.event("push", {})
    done = clone.call()
    assert (done.code, done.out) == (0, "Nothing to compare: this is no pull request's run.\n")
    assert clone.data()["due"] is False


def test_any_base_can_be_named(tmp_path: Path) -> None:
    """On a terminal --base names a commit; one that is not there, or no agent file, is exit code 2."""
    clone = Clone(tmp_path)
    clone.commit({"golden.jsonl": '{"id": "b", "input": "b", "expected": "b"}\n'})
    assert "1 case dropped: a" in clone.call("--base", "HEAD~1").out
    wrong = clone.call("--base", "--output=x")
    assert wrong.code == 2
    assert "there is no such commit in this clone" in wrong.err
    wrong = clone.call("--base", "HEAD~1", "--agent", "agnets/*.yaml")
    assert wrong.code == 2
    assert "no agent file of HEAD or of its base matches agnets/*.yaml" in wrong.err
    assert "agnets" in clone.data()["reason"]
    assert clone.call().code == 0
    assert clone.data()["due"] is False


def test_a_folder_of_a_larger_repository(tmp_path: Path) -> None:
    """Paths count from the folder that one works in; workflows and CODEOWNERS from the repository's root."""
    clone = Clone(tmp_path, {f"service/{path}": text for path, text in FILES.items()})
    clone.commit({"service/golden.jsonl": '{"id": "b", "input": "b", "expected": "b"}\n', "CODEOWNERS": "*"})
    clone.folder /= "service"
    out = clone.call("--base", "HEAD~1").out
    assert "1 case dropped: a in golden.jsonl" in out
    assert "CODEOWNERS: CODEOWNERS added" in out


@pytest.mark.parametrize(
    ("name", "what"), [("agents/echo.yaml", "agent file"), ("golden.jsonl", "golden set")]
)
def test_links_are_not_followed(tmp_path: Path, name: str, what: str) -> None:
    """What becomes a link is told as not compared, and what is one in both commits too, each time."""
    clone = Clone(tmp_path)
    (clone.folder / name).unlink()
    (clone.folder / name).symlink_to("/etc/passwd")
    clone.commit({})
    for which in ("pull request", "base"):
        [_, line] = clone.call("--base", "HEAD~1").out.splitlines()
        assert line.startswith(f"  ⚠️ echo: {what} not compared, because that of the {which} cannot be ")
        assert f"{name} is a symbolic link, which is not followed here" in line
        clone.commit({})


def test_a_broken_agent_file_of_the_base(tmp_path: Path) -> None:
    """A base of another format is told as not compared, with its fault."""
    clone = Clone(tmp_path, FILES | {"agents/echo.yaml": AGENT.replace("version", "verison")})
    clone.commit({"agents/echo.yaml": AGENT})
    [_, line] = clone.call("--base", "HEAD~1").out.splitlines()
    assert line.startswith("  ⚠️ echo: agent file not compared, because that of the base cannot be used: ")
    assert "verison" in line


def test_the_first_pull_request(tmp_path: Path) -> None:
    """The pull request that brings Gatehouse reads in one line that there is nothing to compare with yet."""
    clone = Clone(tmp_path, {"README.md": "x"})
    clone.merge(FILES)
    assert clone.call().out.splitlines()[1:] == [
        "  the base has no agent file: there is nothing to compare with yet"
    ]


def test_patterns_of_agent_files(tmp_path: Path) -> None:
    """Patterns count in both commits: an agent whose file is gone from HEAD is told as removed."""
    other = AGENT.replace("echo", "owl")
    clone = Clone(tmp_path, FILES | {"teams/a/b/owl.yml": other})
    clone.commit({"teams/a/b/owl.yml": None})
    out = clone.call("--base", "HEAD~1", "--agent", "teams/**/*.y*ml").out
    assert out.splitlines()[1:] == [
        "  ⚠️ echo: agent file no longer covered by a gate in agents/echo.yaml",
        "  ⚠️ owl: agent file removed in teams/a/b/owl.yml",
    ]


GATE = "on: pull_request\njobs:\n  a:\n    uses: o/gatehouse/.github/workflows/agent-ci.yml@v1\n"


def test_another_pattern_is_no_other_comparison(tmp_path: Path) -> None:
    """A new, easy agent file that the pull request's own pattern takes hides none of the base's agents."""
    clone = Clone(tmp_path, FILES | {".github/workflows/w.yml": GATE})
    clone.merge(
        {
            "easy/x.yaml": AGENT.replace("name: echo", "name: easy"),
            "agents/idle.yaml": AGENT.replace("name: echo", "name: idle"),
            "agents/echo.yaml": AGENT.replace("0.9", "0.1"),
            ".github/workflows/w.yml": GATE + "    with: {agent: easy/*.yaml}\n",
        }
    )
    told = clone.call("--agent", "easy/*.yaml").out
    assert "⚠️ echo: agent file no longer covered by a gate in agents/echo.yaml" in told
    assert "⚠️ echo: threshold lowered: exact_match, 0.9 → 0.1" in told
    assert "⚠️ .github/workflows/w.yml: workflow input added: a: agent: easy/*.yaml" in told
    assert "easy: agent file added" in told
    assert "idle" not in told  # nothing gates it
    assert "the base has no agent file" not in told
    assert clone.outputs()["weaker"] == "true"


def test_two_workflows_that_gate_an_agent_each(tmp_path: Path) -> None:
    """What another workflow of the commit gates is covered, and compared, in each one's run."""
    gates = {
        f".github/workflows/{name}.yml": GATE + f"    with: {{agent: agents/{name}.yaml}}\n"
        for name in ("echo", "owl")
    }
    owl = AGENT.replace("name: echo", "name: owl")
    clone = Clone(tmp_path, FILES | gates | {"agents/owl.yaml": owl})
    clone.merge({"agents/owl.yaml": owl.replace("0.9", "0.1")})
    assert clone.call("--agent", "agents/echo.yaml").out.splitlines()[1:] == [
        "  ⚠️ owl: threshold lowered: exact_match, 0.9 → 0.1 in agents/owl.yaml"
    ]


def test_a_local_action_anywhere(tmp_path: Path) -> None:
    """An action that uses Gatehouse is compared wherever it lies."""
    action = "runs:\n  using: composite\n  steps:\n    - uses: o/gatehouse@v1\n      with: {threshold: %s}\n"
    clone = Clone(tmp_path, FILES | {"ci/deep/gate/action.yml": action % "exact_match=0.9"})
    clone.merge({"ci/deep/gate/action.yml": action % "exact_match=0.1"})
    [_, line] = clone.call().out.splitlines()
    assert line.startswith("  ⚠️ ci/deep/gate/action.yml: workflow input changed: o/gatehouse: threshold")


def test_names_that_lead_outside(tmp_path: Path) -> None:
    """A commit made by hand whose paths lead out of the folder writes nothing there."""
    clone = Clone(tmp_path)
    (clone.folder / "agents/echo.yaml").write_text(AGENT.replace("prompt.md", "../../../escaped.md"))
    clone.commit({})
    out = clone.call("--base", "HEAD~1").out
    assert "leads out of the repository" in out
    assert not list(tmp_path.rglob("escaped.md"))


def test_edits_that_are_not_committed_are_named(tmp_path: Path) -> None:
    """On a terminal what is compared and edited, staged or new is named; in a run nothing is."""
    clone = Clone(tmp_path)
    clone.merge({"prompt.md": "x"})
    agent = clone.folder / "agents/echo.yaml"
    agent.write_text(agent.read_text().replace("0.9", "0.1"))
    write(clone.folder, {"golden.jsonl": None, "agents/new.yaml": "x", "own/rules.py": "x"})
    write(
        clone.folder,
        {"prompt.md": "y", "CODEOWNERS": "* @me", "unknown.jsonl": "x", "evals/labels/l.csv": "x"},
    )
    git(clone.folder, "add", "golden.jsonl")
    done = clone.call()
    assert (done.out, clone.data()["reason"]) == ("The gate itself is as it is in develop.\n", "")
    clone.environment = {}
    done = clone.call("--base", "HEAD~1")
    said = (
        "Edits that are not committed are left out: "
        "agents/echo.yaml, golden.jsonl, own/rules.py, CODEOWNERS, agents/new.yaml, evals/labels/l.csv"
    )
    assert done.code == 0
    assert done.out.splitlines() == [f"warning: {said}", "The gate itself is as it is in HEAD~1."]
    assert (clone.data()["compared"], clone.data()["reason"]) == (True, said)
    git(clone.folder, "checkout", "--quiet", "HEAD", ".")
    git(clone.folder, "clean", "--quiet", "--force", "-d", "agents", "evals", "CODEOWNERS")
    assert clone.call("--base", "HEAD~1").out == "The gate itself is as it is in HEAD~1.\n"


def test_edits_in_a_folder_of_a_larger_repository(tmp_path: Path) -> None:
    """What is edited is found by its path from the folder that one works in, and by nothing outside of it."""
    clone = Clone(tmp_path, {f"service/{path}": text for path, text in FILES.items()})
    write(clone.folder, {"agents/x.yaml": "x", "service/agents/x.yaml": "x", ".github/workflows/w.yml": "x"})
    clone.folder /= "service"
    left_out = "Edits that are not committed are left out: .github/workflows/w.yml, service/agents/x.yaml"
    assert clone.call("--base", "HEAD").out.startswith(f"warning: {left_out}\n")


def test_workflows_are_read_up_to_a_limit(tmp_path: Path) -> None:
    """Of workflows 4 MiB are read, and of one 1 MiB: any beyond that is told as not compared."""
    names = [f".github/workflows/{i}.yml" for i in range(6)]
    clone = Clone(tmp_path, FILES | dict.fromkeys(names[1:], "#" * 2**20) | {names[0]: "#" * (2**20 + 1)})
    lines = clone.call("--base", "HEAD").out.splitlines()[1:]
    told = "workflow file not compared: it is too large, no text, or a symbolic link, which is not followed"
    assert lines == [f"  ⚠️ {name}: {told}" for name in (names[0], names[5])]
