"""The handbook example: judges tell a good prompt from a bad one where the figures of the answers do not."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from gatehouse.rehearse.model import StandInModel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "handbook"
CASES = [json.loads(line) for line in (EXAMPLE / "evals/golden/handbook.jsonl").read_text().splitlines()]
PATCH = EXAMPLE / "changes/fuller-answers.patch"


class Gate(NamedTuple):
    """One gate: its exit code, `eval.json`, the answers, and the folder it ran in."""

    code: int
    verdict: dict[str, Any]
    answers: dict[str, str]
    folder: Path

    def states(self) -> dict[str, str]:
        """The state of each metric."""
        return {row["name"]: row["state"] for row in self.verdict["metrics"]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the model that answers and judges."""
    with StandInModel() as model:
        yield model.url


def checkout(folder: Path, patch: Path | None = None) -> Path:
    """The example as a repository of its own, with a change applied."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".gatehouse"))
    subprocess.run(["git", "init", "-q", folder], check=True)
    if patch:
        subprocess.run(["git", "apply", patch], cwd=folder, check=True)
    return folder


def gatehouse(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in the example, without any key."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OLLAMA_BASE_URL": url}
    command = [sys.executable, "-m", "gatehouse", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def gate(folder: Path, url: str) -> Gate:
    """Run the gate in the example."""
    done = gatehouse(folder, url, "eval-gate", "--agent", "agents/handbook.yaml", "--python", sys.executable)
    out = folder / ".gatehouse/handbook"
    assert (out / "eval.json").exists(), done.stdout + done.stderr
    runs = map(json.loads, (out / "runs.jsonl").read_text().splitlines())
    return Gate(
        done.returncode,
        json.loads((out / "eval.json").read_text()),
        {run["id"]: run["output"] for run in runs},
        folder,
    )


@pytest.fixture(scope="module")
def good(url: str, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """The gate on the example as it is."""
    return gate(checkout(tmp_path_factory.mktemp("good") / "handbook"), url)


@pytest.fixture(scope="module")
def bad(url: str, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """The gate on the example with its change."""
    return gate(checkout(tmp_path_factory.mktemp("bad") / "handbook", PATCH), url)


def test_the_example_passes_with_room_above(good: Gate) -> None:
    """Every metric passes, none by a hair, and not every answer is perfect."""
    assert good.code == 0, good.verdict["reason"]
    assert set(good.states().values()) == {"pass"}
    values = {row["name"]: row for row in good.verdict["metrics"]}
    assert values["faithfulness"]["value"] - values["faithfulness"]["threshold"] > 0.1
    assert values["answer_relevancy"]["value"] - values["answer_relevancy"]["threshold"] > 0.1
    assert 4.5 < values["helpfulness"]["value"] < 5
    assert good.verdict["resolved"] < len(CASES)


def test_the_change_fails_by_what_it_makes_up(bad: Gate) -> None:
    """Made up sentences fail faithfulness and helpfulness; the answers stay polite and to the question."""
    assert bad.code == 1
    states = bad.states()
    assert {name for name, state in states.items() if state == "fail"} == {
        "faithfulness",
        "helpfulness",
        "critical_cases",
    }
    assert states["answer_relevancy"] == states["toxicity"] == "pass"
    [lost] = [case for case in bad.verdict["failing_cases"] if case["critical"]]
    assert lost["reasons"]["faithfulness"].startswith("not in the contexts: Most firms")


def test_no_string_comparison_sees_the_change(good: Gate, bad: Gate) -> None:
    """Each answer of the good version is still there word for word in the bad one's, figures and all."""
    assert all(answer and answer in bad.answers[id_] for id_, answer in good.answers.items())
    assert all(answer != bad.answers[id_] for id_, answer in good.answers.items())


def test_people_and_judge_agree_well_enough(good: Gate, url: str) -> None:
    """`calibrate` finds that the judge mostly grades as people do, and the gate then says so."""
    labels = "evals/labels/helpfulness.csv"
    done = gatehouse(good.folder, url, "calibrate", "--agent", "agents/handbook.yaml", "--labels", labels)
    assert done.returncode == 0, done.stderr
    kappa = re.search(r"kappa (\S+) \[(\S+), \S+\], 36 labels", done.stdout)
    assert kappa, done.stdout
    assert 0.5 < float(kappa[2]) < float(kappa[1]) < 1
    again = gate(good.folder, url)
    [row] = [row for row in again.verdict["metrics"] if row["name"] == "helpfulness"]
    assert row["calibration"]["calibrated"] is True
    assert row["calibration"]["kappa"] == pytest.approx(float(kappa[1]), abs=0.005)


def test_the_labels_are_of_other_questions() -> None:
    """No labelled question is one of the golden set, and the handbook says each right answer."""
    with (EXAMPLE / "evals/labels/helpfulness.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    assert {case["input"] for case in CASES}.isdisjoint(label["input"] for label in labels)
    handbook = "".join(path.read_text() for path in (EXAMPLE / "kb").glob("*.md"))
    words = re.compile(r"\b(?:\d+|\w{4,5})")  # figures, and words cut: `approve` and `approval` are one
    asked = {label["input"]: label["expected"] for label in labels}
    assert (len(labels), len(asked)) == (36, 16)
    assert {*words.findall(" ".join(asked.values()).lower())} <= {*words.findall(handbook.lower())}


def test_a_question_beyond_the_handbook_is_not_answered(url: str, tmp_path: Path) -> None:
    """Where the passages say nothing of it, the agent names whom to ask."""
    ask = "import sys; from handbook.agent import answer; print(answer(sys.argv[1])['output'])"
    command = [sys.executable, "-c", ask, "Is there a company car?"]
    env = {"OLLAMA_BASE_URL": url}
    folder = checkout(tmp_path / "handbook")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "The handbook does not say; please ask people@larkfield.example.\n"


def test_its_own_tests_pass(tmp_path: Path) -> None:
    """The example's unit tests pass, with the standard library alone."""
    command = [sys.executable, "-S", "-m", "unittest", "-q"]
    folder = checkout(tmp_path / "handbook")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Ran [1-9]", done.stderr)


def test_the_change_is_a_commit(tmp_path: Path) -> None:
    """`git am` makes the patch a commit that touches the prompt and nothing that judges."""
    folder = checkout(tmp_path / "handbook")
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    for command in (["add", "-A"], ["commit", "-qm", "base"], ["am", "-q", "changes/fuller-answers.patch"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    show = [*git, "show", "--format=%s", "--name-only"]
    shown = subprocess.run(show, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\n\n")
    assert f"Subject: [PATCH] {shown[0]}\n" in PATCH.read_text()
    assert shown[1].split() == ["prompts/handbook.md"]


def test_the_stand_in_knows_nothing_of_the_example() -> None:
    """No id and no figure of the golden set is named in the model that answers or judges."""
    modules = ("model", "judge", "words", "asked")
    source = "".join((ROOT / f"scripts/gatehouse/rehearse/{name}.py").read_text() for name in modules)
    names = [case["id"] for case in CASES] + ["handbook", "Larkfield", "fuller"]
    assert [name for name in names if re.search(rf"\b{re.escape(name)}\b", source)] == []
