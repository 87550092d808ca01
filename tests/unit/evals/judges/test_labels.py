"""People's labels: what is read from CSV and JSON Lines, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import ToolCall
from gatehouse.errors import UserError
from gatehouse.evals.judges.labels import Labels, read_labels, snapped, together
from gatehouse.evals.metrics.base import Metric
from tests.contracts.suite import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HELPFULNESS = Metric("helpfulness", "quality", "", low=1, high=5, step=1)
FAITHFULNESS = Metric("faithfulness", "quality", "", requires=("contexts",))
HALLUCINATION = Metric("hallucination", "quality", "", direction="lower")
CORRECTNESS = Metric("correctness", "quality", "", requires=("expected",))
TOOLS = Metric("tool_correctness", "quality", "", requires=("tool_calls", "expected_tools"))
METRICS = {m.name: m for m in (HELPFULNESS, FAITHFULNESS, HALLUCINATION, CORRECTNESS, TOOLS)}


def read(folder: Path, content: str | bytes, name: str = "labels.csv") -> Labels:
    """The labels of a file with this content."""
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return read_labels(name, folder, METRICS, {"groundedness": "faithfulness"}.get)  # type: ignore[arg-type]


def refused(folder: Path, content: str | bytes, name: str = "labels.csv") -> list[str]:
    """What is said of a file that is refused, each fault with its line and repair."""
    with pytest.raises(UserError) as caught:
        read(folder, content, name)
    return [str(problem) for problem in caught.value.problems]


def jsonl(*rows: Any) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(**changed: Any) -> dict[str, Any]:
    """A good row, with some fields changed."""
    return {"metric": "helpfulness", "input": "q", "output": "a", "grade": 4} | changed


def test_every_field_is_read_alike_from_both_formats(tmp_path: Path) -> None:
    """One row with every field is the same label in CSV, with its lists as JSON, and in JSON Lines."""
    csv = (
        "metric,input,output,grade,expected,contexts,tags,id,rater\n"
        'correctness,"what, why",an answer,0.5,the answer,"[""one"", ""two""]",hard; new ,c1,ann\n'
    )
    given = {
        "metric": "correctness",
        "input": "what, why",
        "output": "an answer",
        "grade": 0.5,
        "expected": "the answer",
        "contexts": ["one", "two"],
        "tags": ["hard", "new"],
        "id": "c1",
        "rater": "ann",
    }
    one = read(tmp_path, csv).texts["correctness"]
    two = read(tmp_path, jsonl(given), "labels.jsonl").texts["correctness"]
    assert [one[0].line, two[0].line] == [2, 1]
    assert one[0].sample == two[0].sample
    assert (one[0].grade, one[0].ratings, one[0].tags, one[0].id) == (0.5, (0.5,), ("hard", "new"), "c1")
    assert (two[0].grade, two[0].ratings, two[0].tags, two[0].id) == (0.5, (0.5,), ("hard", "new"), "c1")
    assert one[0].sample.contexts == ["one", "two"]
    assert one[0].sample.reference_contexts == ["one", "two"]


def test_tool_calls_are_read_alike_from_both_formats(tmp_path: Path) -> None:
    """Calls that were made and calls that were expected, objects or names; other calls are another text."""
    csv = (
        "metric,input,output,grade,tool_calls,expected_tools\n"
        'tool_correctness,q,a,pass,"[{""name"": ""find"", ""arguments"": {""id"": 1}}]","[""find""]"\n'
        'tool_correctness,q,a,fail,[],"[""find""]"\n'
    )
    given = row(metric="tool_correctness", grade="pass", expected_tools=["find"])
    called = given | {"tool_calls": [{"name": "find", "arguments": {"id": 1}}]}
    silent = given | {"tool_calls": [], "grade": "fail"}
    one = read(tmp_path, csv).texts["tool_correctness"]
    two = read(tmp_path, jsonl(called, silent), "labels.jsonl").texts["tool_correctness"]
    assert [text.sample for text in one] == [text.sample for text in two]
    assert one[0].sample.tool_calls == [ToolCall("find", {"id": 1})]
    assert one[0].sample.expected_tools == [ToolCall("find")]
    assert (one[1].sample.tool_calls, one[1].grade) == ([], 0.0)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "question,answer,score,reference",
            '"input" for "question", "output" for "answer", "grade" for "score", "expected" for "reference"?',
        ),
        (
            "Question;Response;Rating",
            '"input" for "Question", "output" for "Response", "grade" for "Rating"?',
        ),
        (
            "metric,prompt,completion,label",
            '"input" for "prompt", "output" for "completion", "grade" for "label"?',
        ),
        (
            "metric,input,ouput,ground truth,x",
            '"output" for "ouput", "expected" for "ground truth"? Remove the others.',
        ),
        ("metric,input,output,answer,grade", 'unknown column "answer".\nRemove it.'),
        ("metric,question,prompt,output,grade", '"input" for "question"? Remove the others.'),
        ("metric,input,output,grade,x,y", 'unknown columns "x", "y".\nRemove them.'),
    ],
)
def test_wrong_columns_are_each_told_the_right_one(tmp_path: Path, header: str, said: str) -> None:
    """Names of other tools and typing errors are each told the field they mean, never one that is there."""
    assert said in "\n".join(refused(tmp_path, header + "\n"))


def test_the_documents_example_is_read(tmp_path: Path) -> None:
    """The table of labels in the how-to is one: two texts, one of them by two raters."""
    lines = (ROOT / "docs/how-to/calibrate.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    metric,input,output"))
    shown = "\n".join(line.strip() for line in lines[start : lines.index("", start)])
    first, second = read(tmp_path, shown).texts["helpfulness"]
    assert (first.ratings, first.tags) == ((5.0, 4.0), ("delivery",))
    assert (second.grade, second.tags) == (2.0, ("refund", "hard"))


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfmetric,input,output,grade\r\nhelpfulness,q,a,4\r\n",
        b"metric;input;output;grade\r\nhelpfulness;q;a;4,0\r\n;;;\r\n",
        b'"metric"\t"input"\t"output"\t"grade"\nhelpfulness\tq\ta\t4\n',
        b"metric,input,output,grade,expected,tags\nhelpfulness,q,a, 4 ,,",
    ],
    ids=["BOM and CRLF", "semicolons and a decimal comma", "tabs", "empty cells and no last line end"],
)
def test_what_spreadsheets_write(tmp_path: Path, content: bytes) -> None:
    """The ways in which spreadsheets write CSV are read."""
    [text] = read(tmp_path, content).texts["helpfulness"]
    assert (text.line, text.sample.input, text.sample.output, text.grade) == (2, "q", "a", 4.0)
    assert (text.sample.expected, text.tags) == (None, ())


def test_text_of_several_lines_keeps_the_line_numbers(tmp_path: Path) -> None:
    """A row is named by its first line, also after a cell of several lines."""
    content = 'metric,input,output,grade\nhelpfulness,q,"a\nb\nc",4\nhelpfulness,q2,a,9\n'
    [fault] = refused(tmp_path, content)
    assert fault.startswith("labels.csv:5: grade")


def test_every_bad_row_is_said_at_once(tmp_path: Path) -> None:
    """Each fault has its line and its repair, and all are said together."""
    faults = refused(
        tmp_path,
        jsonl(
            row(grade=7),
            row(metric="helpfullness"),
            {"metric": "helpfulness", "input": "q", "output": "b"},
            row(metric="faithfulness", grade="pass"),
            row(contexts="not a list"),
            {"metric": "helpfulness", "input": "q", "output": "a", "gradee": 4},
            row(output="ok"),
        )
        + "{\n[]\n",
        "labels.jsonl",
    )
    assert [fault.split(":")[1] for fault in faults] == ["1", "2", "3", "4", "5", "6", "8", "9"]
    for fault, said in zip(
        faults,
        [
            "grade 7 is not one of helpfulness.\nIts grades: 1, 2, 3, 4, 5.",
            'Did you mean "helpfulness"?',
            '"grade" is empty.',
            'faithfulness needs "contexts", and the row has none.',
            '"contexts" is no list of texts.',
            'unknown key "gradee".\nDid you mean "grade"?',
            "not JSON",
            "the line is no JSON object.",
        ],
        strict=True,
    ):
        assert said in fault


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": ["x"], "input": 1, "output": 2, "grade": "5"}, '"metric" is no text.\nPut it in quotes.'),
        ({"metric": 5, "rater": {"ann": 1}, "id": 7}, '"metric", "rater" and "id" are no text.'),
        ({"grade": ["5"]}, 'grade ["5"] is not one of helpfulness.'),
        ({"grade": True}, "grade true is not one of helpfulness."),
        ({"contexts": [1]}, '"contexts" is no list of texts.'),
        ({"tags": {"a": 1}}, '"tags" is no list of texts.'),
        ({"tool_calls": [5]}, '"tool_calls" is no list of tool calls.'),
        ({"output": "x" * 100_001}, "the answer is longer than 100,000 characters, which no judge is shown."),
    ],
)
def test_a_field_of_another_kind_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    """Whatever JSON stands in a field, and however much of it, it is told by its line."""
    [fault] = refused(tmp_path, jsonl(row(**changed)), "labels.jsonl")
    assert fault.startswith(f"labels.jsonl:1: {said}")


def test_inputs_and_outputs_may_be_any_json(tmp_path: Path) -> None:
    """As in the golden set: what is no text is graded as its JSON."""
    labels = read(tmp_path, jsonl(row(input={"q": 1}, output=[1])), "labels.jsonl")
    [[text]] = labels.texts.values()
    assert (text.sample.input, text.sample.output) == ('{"q": 1}', "[1]")


def test_the_path_is_the_repositorys(tmp_path: Path) -> None:
    """A file named by its whole path is known by the one that holds wherever the repository lies."""
    (tmp_path / "evals").mkdir()
    read(tmp_path, jsonl(row()), "evals/labels.jsonl")
    whole = str(tmp_path / "evals/labels.jsonl")
    assert read_labels(whole, tmp_path, METRICS).path == "evals/labels.jsonl"


def test_the_first_twenty_faults_are_shown(tmp_path: Path) -> None:
    """Of many faults twenty are said, and how many more there are."""
    faults = refused(tmp_path, jsonl(*(row(grade=0, input=str(i)) for i in range(25))), "labels.jsonl")
    assert len(faults) == 21
    assert faults[-1] == "labels.jsonl: and 5 more."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", 'no columns "metric", "input", "output" and "grade".'),
        ("metric,input,output\n", 'no column "grade".'),
        ("metric,input,output,grade\n", "there are no labels in it."),
        ("metric,input,ouput,grade\nx,x,x,1\n", 'unknown column "ouput".\nDid you mean "output"?'),
        ("metric,input,output,grade,grade\n", 'column "grade" is there twice.'),
        ("metric,input,output,grade\nhelpfulness,q,a, b,4\n", "the row has 5 cells, the first row 4."),
        ('metric,input,output,grade\nhelpfulness,"q,a,4\n', "not CSV from here on"),
        ("metric,input,output,grade\nhelpfulness,q,,4\n", '"output" is empty.'),
        ("metric,input,output,grade\nhelpfulness,q,a,\n", '"grade" is empty.'),
        ("metric,input,output,grade\nhelpfulness,q,a,3.5\n", 'grade "3.5" is not one of helpfulness.'),
        ("metric,input,output,grade\nhelpfulness,q,a,nan\n", "Its grades: 1, 2, 3, 4, 5."),
        ("metric,input,output,grade\nhelpfulness,q,a,pass\n", "Its grades: 1, 2, 3, 4, 5."),
        ("metric,input,output,grade,contexts\nfaithfulness,q,a,1.1,[]\n", 'needs "contexts"'),
        ('metric,input,output,grade,contexts\nfaithfulness,q,a,2,"[""c""]"\n', "a number from 0 to 1"),
        ("metric,input,output,grade\nhallucination,q,a,0\n", "Write pass or fail."),
        (
            "metric,input,output,grade\ntool_correctness,q,a,1\n",
            'needs "tool_calls" and "expected_tools", and',
        ),
        ("metric,input,output,grade,tool_calls\nhelpfulness,q,a,4,search\n", '"tool_calls" is no list of'),
        ("metric,input,output,grade,contexts\nhelpfulness,q,a,4,some text\n", '"contexts" is no list'),
        ("metric,input,output,grade\nhelpfulness,caf\xe9,a,4\n".encode("latin-1"), "CSV UTF-8"),
        ("metric,input,output,grade\n".encode("utf-16"), "CSV UTF-8"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    """What cannot be a label is refused with what to write."""
    assert said in "\n".join(refused(tmp_path, content))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A spreadsheet as such, a missing file and one outside of the repository are refused by name."""
    assert 'labels.xlsx: ".xlsx" is no kind of labels.' in refused(tmp_path, "PK", "labels.xlsx")[0]
    (tmp_path / "inside").mkdir()
    for name in ("lables.csv", "../labels.xlsx"):
        with pytest.raises(UserError):
            read_labels(name, tmp_path / "inside", METRICS)


@pytest.mark.parametrize(
    ("metric", "grade", "value"),
    [
        ("faithfulness", "pass", 1.0),
        ("faithfulness", "TRUE", 1.0),
        ("faithfulness", False, 0.0),
        ("faithfulness", 1, 1.0),
        ("faithfulness", "0.25", 0.25),
        ("groundedness", "fail", 0.0),
        ("hallucination", "pass", 0.0),
        ("hallucination", True, 0.0),
        ("hallucination", "Fail", 1.0),
        ("helpfulness", "5", 5.0),
        ("helpfulness", 3.0, 3.0),
    ],
)
def test_grades(tmp_path: Path, metric: str, grade: Any, value: float) -> None:
    """Pass and fail are the good and the bad end of the metric's scale, also where less is better."""
    labels = read(tmp_path, jsonl(row(metric=metric, grade=grade, contexts=["c"])), "labels.jsonl")
    [[text]] = labels.texts.values()
    assert text.grade == value


def test_the_same_text_twice_by_one_rater_is_refused(tmp_path: Path) -> None:
    """A text graded twice by the same person, or without names, is refused; the first line is named."""
    [fault] = refused(tmp_path, jsonl(row(), row(grade=5)), "labels.jsonl")
    assert fault.startswith("labels.jsonl:2: the text of line 1 again, also without a rater.")
    [fault] = refused(tmp_path, jsonl(row(rater="ann"), row(rater="ann", tags=["x"])), "labels.jsonl")
    assert 'also by "ann"' in fault


def test_raters_of_one_text_come_together(tmp_path: Path) -> None:
    """Several raters' grades of a text are one label, in the order of their names, with all its tags."""
    content = jsonl(row(rater="zoe", grade=5, tags=["x"]), row(rater="ann", grade=3, tags=["y"]))
    [text] = read(tmp_path, content, "labels.jsonl").texts["helpfulness"]
    assert (text.ratings, text.grade, text.tags) == ((3.0, 5.0), 4.0, ("x", "y"))


@pytest.mark.parametrize(
    ("ratings", "metric", "grade"),
    [
        ((2, 2, 5), HELPFULNESS, 2),
        ((2, 3), HELPFULNESS, 3),  # the mean 2.5 is as near to 2: the grade of even place
        ((3, 4), HELPFULNESS, 3),
        ((1, 5), HELPFULNESS, 3),
        ((1, 1, 0), FAITHFULNESS, 1),
        ((1, 0), FAITHFULNESS, None),
        ((0.5, 0.8), FAITHFULNESS, 0.65),
        ((1, 5), Metric("yes_no", "quality", "", low=1, high=5, step=4), None),
    ],
)
def test_together(ratings: tuple[float, ...], metric: Metric, grade: float | None) -> None:
    """The majority's grade, else the mean's nearest; people split on pass or fail come to nothing."""
    assert together(ratings, metric) == (grade if grade is None else pytest.approx(grade))


def test_snapped_favours_no_side() -> None:
    """Halves go up as often as down, so that a mean of grades stays where it is; nothing leaves the scale."""
    grades = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [snapped(value, grades) for value in (1.5, 2.5, 3.5, 4.5)] == [1.0, 3.0, 3.0, 5.0]
    assert [snapped(value, grades) for value in (3.4, 0.2, 9)] == [3.0, 1.0, 5.0]
