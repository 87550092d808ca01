"""`gatehouse calibrate` as a process, against a judge over HTTP that grades as the test says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]

from tests.contracts.schemas import schema, strict
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "sk-a-judge-that-nobody-else-has"
AGENT = """
agent:
  name: helper
  version: 1
  model: {provider: ollama, name: "tiny:1b"}
  system_prompt: prompt.md
  pricing: {"judge-1": {input_per_mtok: 1, output_per_mtok: 2}}
  evals:
    dataset: evals/golden.jsonl
    judge: {model: "openai:judge-1", concurrency: 2}
    metrics: {helpfulness: 3}
"""
JUDGED = """
    judge: {model: "openai:judge-1", concurrency: 2}
"""
WITH_MINIMUM = """
    judge: {model: "openai:judge-1", min_kappa: 0.6}
"""
RUBRIC = """
rubric:
  criteria: Does the answer help?
  anchors: {1: Not at all., 5: Wholly.}
"""
PEOPLE = [1, 1, 2, 3, 4, 5, 5, 4, 2, 3]
JUDGE = [1, 2, 2, 3, 4, 5, 4, 4, 1, 3]
OUTPUT = re.compile(r"answer (\d+) wants (\w+)")


def label(number: int, grade: Any, judge: Any, **more: Any) -> dict[str, Any]:
    """A labelled text whose answer says which grade the judge is to give it."""
    text = f"answer {number} wants {judge}"
    return {"metric": "helpfulness", "input": f"question {number}", "output": text, "grade": grade} | more


LABELS = [
    label(i, people, judge, tags=["even" if i % 2 == 0 else "odd"])
    for i, (people, judge) in enumerate(zip(PEOPLE, JUDGE, strict=True))
]
THIRTY = [label(i, PEOPLE[i % 10], JUDGE[i % 10]) for i in range(30)]
"""As many labels as a minimum of kappa asks for."""


def graded(grade: Any) -> Reply:
    """A judge's reply with this grade, null for "none"."""
    value = None if grade == "none" else int(grade)
    return Reply(completion(json.dumps({"reason": f"It deserves {grade}.", "grade": value})))


def wanted(_number: int, grade: str) -> Reply:
    """The grade that the answer wants."""
    return graded(grade)


def judging(answer: Callable[[int, str], Reply]) -> Any:
    """A stub judge: `answer` gets the number of the text and the grade that it wants."""

    def reply(n: int) -> Reply:
        found = OUTPUT.search(str(stub[0].requests[n][2]["messages"][-1]["content"]))
        return answer(int(found[1]), found[2]) if found else Reply(completion("an answer of the agent"))

    stub: list[StubModel] = []

    class Held:
        def __enter__(self) -> StubModel:
            self.context = stub_model(reply)
            stub.append(self.context.__enter__())
            return stub[0]

        def __exit__(self, *error: object) -> None:
            self.context.__exit__(None, None, None)

    return Held()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with an agent, its rubric and ten labels."""
    for folder in ("agents", "evals/rubrics"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "agents/helper.yaml").write_text(AGENT)
    (tmp_path / "evals/rubrics/helpfulness.yaml").write_text(RUBRIC)
    (tmp_path / "prompt.md").write_text("Answer.")
    (tmp_path / "evals/golden.jsonl").write_text('{"id": "one", "input": "q"}\n{"id": "two", "input": "r"}\n')
    write_labels(tmp_path, LABELS)
    return tmp_path


def write_labels(folder: Path, labels: list[dict[str, Any]]) -> None:
    """Labels as JSON Lines."""
    (folder / "labels.jsonl").write_text("".join(json.dumps(one) + "\n" for one in labels))


def gatehouse(folder: Path, url: str, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """A command, by default calibrate, with the judge at `url`."""
    hidden = ("GITHUB_", "GATEHOUSE_", "RUNNER_", "OPENAI_", "OLLAMA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"GATEHOUSE_JUDGE_BASE_URL": url, "OLLAMA_BASE_URL": url} if url else {}
    environment |= {"GATEHOUSE_JUDGE_KEY": key} if key else {}
    environment["GITHUB_OUTPUT"] = str(folder / "outputs")
    (folder / "outputs").write_text("")
    command = arguments if arguments and not arguments[0].startswith("-") else ("calibrate", *arguments)
    if command[0] == "calibrate" and "--labels" not in command:
        command = (*command, "--labels", "labels.jsonl")
    return subprocess.run(
        [sys.executable, "-I", "-m", "gatehouse", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def outputs(folder: Path) -> dict[str, str]:
    """The outputs that the command handed on."""
    text = (folder / "outputs").read_text()
    return {found[1]: found[3] for found in re.finditer(r"(\S+)<<(\S+)\n(.*?)\n\2\n", text, re.DOTALL)}


def entry(folder: Path) -> dict[str, Any]:
    """The one entry of helpfulness' calibration file."""
    data = json.loads((folder / "evals/calibration/helpfulness.json").read_text())
    [found] = data["entries"].values()
    assert isinstance(found, dict)
    return found


def test_a_judge_is_compared_with_people(repository: Path) -> None:
    """The file has kappa as scikit-learn says, the confusion and the tags, and no text of anybody's."""
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == 0, done.stderr
    found = entry(repository)
    kappa = cohen_kappa_score(PEOPLE, JUDGE, weights="quadratic", labels=[1, 2, 3, 4, 5])
    assert found["kappa"]["value"] == pytest.approx(kappa, abs=1e-6)
    assert found["kappa"]["weights"] == "quadratic"
    assert (found["n"], found["judges"], found["agreement"]["value"]) == (10, ["openai:judge-1"], 0.7)
    assert found["confusion"]["counts"][0] == [1, 1, 0, 0, 0]
    assert {tag: part["n"] for tag, part in found["by_tag"].items()} == {"even": 5, "odd": 5}
    text = (repository / "evals/calibration/helpfulness.json").read_text()
    assert "question" not in text
    assert KEY not in text + done.stdout + done.stderr
    assert json.loads(outputs(repository)["kappa"]) == {"helpfulness": pytest.approx(kappa)}
    assert outputs(repository)["state"] == "pass"
    assert f"calibrated on few labels: kappa {kappa:.2f} [" in done.stdout
    assert "people \\ judge" in done.stdout
    assert "labels.jsonl:2: people 1, judge 2: It deserves 2." in done.stdout
    assert re.search(r"\b\d\d calls: \$0\.00", done.stdout)


def test_the_file_follows_its_schema(repository: Path) -> None:
    """What is written has every key of the published schema that it must have, and none beyond it."""
    with judging(wanted) as judge:
        gatehouse(repository, judge.url, "--repeat", "2")
    written = json.loads((repository / "evals/calibration/helpfulness.json").read_text())
    assert list(Draft202012Validator(strict(schema("calibration"))).iter_errors(written)) == []


def test_the_same_labels_cost_nothing_again(repository: Path) -> None:
    """A second calibration takes every answer from the cache, and changes no line of the file."""
    with judging(wanted) as judge:
        gatehouse(repository, judge.url)
        before = (repository / "evals/calibration/helpfulness.json").read_text()
        asked = len(judge.requests)
        done = gatehouse(repository, judge.url)
        assert len(judge.requests) == asked
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 calls, \d\d questions answered without a further call: ", done.stdout, re.MULTILINE)
    assert (repository / "evals/calibration/helpfulness.json").read_text() == before


def gated(folder: Path, grade: int, *arguments: str) -> dict[str, Any]:
    """The metric's row of a gate whose judge gives every answer this grade."""

    def reply(n: int) -> Reply:
        asked_by_judge = "examiner" in str(stub.requests[n][2]["messages"])
        return graded(grade) if asked_by_judge else Reply(completion("an answer"))

    with stub_model(reply) as stub:
        done = gatehouse(folder, stub.url, "eval-gate", *arguments)
    assert done.returncode == 0, done.stderr
    [row] = json.loads((folder / ".gatehouse/helper/eval.json").read_text())["metrics"]
    assert isinstance(row, dict)
    return row


def test_the_gate_finds_its_calibration(repository: Path) -> None:
    """After calibrate the gate's row has kappa and a corrected pass rate; with another judge it has neither.

    Then it says that the calibration is of another one, and not that there never was any.
    """
    with judging(wanted) as judge:
        gatehouse(repository, judge.url)
    other = "not calibrated as it is now: the calibration of 20"
    for model, calibrated in (("openai:judge-1", True), ("openai:judge-2", False)):
        found = gated(repository, 4, "--judge", model)["calibration"]
        assert found["calibrated"] is calibrated, found
        assert (found["corrected"] is not None) is calibrated
        assert found["reason"].startswith("calibrated on few labels" if calibrated else other)


def test_the_gate_says_why_it_corrects_nothing(repository: Path) -> None:
    """Where the judge fails what people pass and then passes all, no corrected rate is given, and why."""
    write_labels(repository, [label(i, 5, 1 if i < 5 else 5) for i in range(10)] + [label(10, 1, 1)])
    with judging(wanted) as judge:
        gatehouse(repository, judge.url)
    found = gated(repository, 5)["calibration"]
    assert (found["pass_rate"], found["corrected"], found["corrected_interval"]) == (1.0, None, None)
    assert "11 labels; no corrected pass rate: by the judge's errors" in found["reason"]


@pytest.mark.parametrize("labels", [LABELS, THIRTY], ids=["few", "enough"])
def test_a_minimum_asks_for_thirty_labels(repository: Path, labels: list[dict[str, Any]]) -> None:
    """The same kappa meets the minimum on 30 labels, and on 10 neither for calibrate nor for the gate."""
    (repository / "agents/helper.yaml").write_text(AGENT.replace(JUDGED, WITH_MINIMUM))
    write_labels(repository, labels)
    enough = labels is THIRTY
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == (0 if enough else 1), done.stderr
    assert (
        "10 labels are too few to show the minimum 0.6 (30 at least): kappa 0." in done.stdout
    ) is not enough
    row = gated(repository, 4)
    assert row["state"] == ("pass" if enough else "inconclusive")
    assert row["reason"].startswith("4 is at least" if enough else "10 labels are too few")


def test_a_minimum_asks_for_the_labels_that_were_measured(repository: Path) -> None:
    """A pass counts while the labels are there as they were: changed ones or none leave it inconclusive."""
    (repository / "agents/helper.yaml").write_text(AGENT.replace(JUDGED, WITH_MINIMUM))
    write_labels(repository, THIRTY)
    with judging(wanted) as judge:
        assert gatehouse(repository, judge.url).returncode == 0
    assert gated(repository, 4)["state"] == "pass"
    write_labels(repository, THIRTY[1:])
    row = gated(repository, 4)
    assert row["state"] == "inconclusive"
    assert "30 labels; the labels have changed since: run `gatehouse calibrate`" in row["reason"]
    (repository / "labels.jsonl").unlink()
    row = gated(repository, 4)
    assert row["state"] == "inconclusive"
    assert "30 labels; its labels labels.jsonl are not in the repository" in row["reason"]


def test_below_the_minimum_is_1(repository: Path) -> None:
    """A judge that disagrees with people fails the minimum; what was measured is written."""
    file = repository / "agents/helper.yaml"
    file.write_text(AGENT.replace(JUDGED, WITH_MINIMUM))
    write_labels(repository, THIRTY)
    with judging(lambda number, _: graded(5 - number % 5)) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == 1, done.stderr
    assert re.search(r"kappa \S+ \[\S+, \S+\] is below the minimum 0.6, 30 labels", done.stdout)
    assert outputs(repository)["state"] == "fail"
    assert entry(repository)["kappa"]["value"] < 0.6


def test_flips_are_measured_by_asking_again(repository: Path) -> None:
    """With --repeat each text is graded so often; one that gets another grade each time has flipped."""
    seen: dict[int, int] = {}

    def unsteady(number: int, grade: str) -> Reply:
        seen[number] = seen.get(number, 0) + 1
        return graded(1 + seen[number] % 2) if number == 0 else graded(grade)

    with judging(unsteady) as judge:
        done = gatehouse(repository, judge.url, "--repeat", "4")
    assert done.returncode == 0, done.stderr
    assert min(seen.values()) == max(seen.values()) == 4
    flips = entry(repository)["flips"]["openai:judge-1"]
    assert (flips["texts"], flips["any"]["value"]) == (10, 0.1)
    assert "openai:judge-1 flips on 10% [" in done.stdout


def test_undecided_is_no_disagreement(repository: Path) -> None:
    """A text that the judge will not grade is left out and counted."""
    write_labels(repository, [*LABELS, label(10, 5, "none")])
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == 0, done.stderr
    assert (entry(repository)["n"], entry(repository)["undecided"]) == (10, 1)
    assert "judge undecided 1" in done.stdout


def test_two_raters_are_compared_with_each_other(repository: Path) -> None:
    """A CSV with two raters shows how far people agree, from a spreadsheet with a BOM and semicolons."""
    with (repository / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["metric", "input", "output", "grade", "rater"])
        for one in LABELS:
            rows.writerow(["helpfulness", one["input"], one["output"], one["grade"], "ann"])
            rows.writerow(["helpfulness", one["input"], one["output"], min(5, one["grade"] + 1), "bob"])
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url, "--labels", "labels.csv")
    assert done.returncode == 0, done.stderr
    assert entry(repository)["n"] == 10
    assert entry(repository)["people"]["agreement"]["value"] == 0.2
    assert "people with each other: kappa" in done.stdout


def test_a_judge_that_fails_leaves_nothing_half_written(repository: Path) -> None:
    """One label that cannot be judged is 3 and no file; the next run asks for what is missing only."""

    def failing(number: int, grade: str) -> Reply:
        return Reply(completion("no JSON")) if number == 7 else graded(grade)

    with judging(failing) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == 3, done.stderr
    assert "1 of 10 labels could not be judged: malformed" in done.stdout
    assert outputs(repository) == {"state": "unscored", "kappa": "{}"}
    assert not (repository / "evals/calibration").exists()
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
        numbers = {OUTPUT.search(str(body["messages"][-1]))[1] for _, _, body in judge.requests}  # type: ignore[index]
    assert (done.returncode, numbers) == (0, {"7"})


def test_labels_to_mend_are_2_before_anything_is_asked(repository: Path) -> None:
    """Every bad row is said with its line, and the judge is not asked."""
    write_labels(repository, [label(0, 9, 1), LABELS[0], label(1, 1, 1, metric="helpfullness")])
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
        assert judge.requests == []
    assert done.returncode == 2
    assert "labels.jsonl:1: grade 9 is not one of helpfulness." in done.stderr
    assert 'labels.jsonl:3: the agent is not held to a judged metric "helpfullness".' in done.stderr


def test_a_malformed_calibration_file_is_2_before_anything_is_asked(repository: Path) -> None:
    """A file with a merge conflict in it is named and left alone."""
    file = repository / "evals/calibration/helpfulness.json"
    file.parent.mkdir()
    file.write_text("<<<<<<< HEAD\n")
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
        assert judge.requests == []
    assert done.returncode == 2
    assert "evals/calibration/helpfulness.json" in done.stderr
    assert file.read_text() == "<<<<<<< HEAD\n"


def test_without_a_key_it_is_3(repository: Path) -> None:
    """A missing key of a hosted judge is the infrastructure's fault, said before anything is asked."""
    done = gatehouse(repository, "", key="")
    assert done.returncode == 3
    assert "OPENAI_API_KEY" in done.stderr
    assert not (repository / "evals/calibration").exists()


def test_an_agent_without_a_judged_metric_is_2(repository: Path) -> None:
    """There is nothing to calibrate for an agent that no judge grades."""
    (repository / "agents/helper.yaml").write_text(AGENT.replace("helpfulness: 3", "exact_match: 0.5"))
    with judging(wanted) as judge:
        done = gatehouse(repository, judge.url)
    assert done.returncode == 2
    assert "no metric that a judge grades" in done.stderr
