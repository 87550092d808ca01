"""Rubric files: what a good one holds, and what every mistake in one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from gatehouse.agent import source as sources
from gatehouse.errors import UserError
from gatehouse.evals.judges.question import question
from gatehouse.evals.judges.rubric import Dimension, Example, Rubric, load_rubric
from tests.contracts.suite import ROOT
from tests.support.rubrics import SEVERAL

if TYPE_CHECKING:
    from pathlib import Path

SMALL = "rubric: {criteria: Good?, anchors: {1: bad, 5: good}"
"""Without its last brace, for more keys."""


def loaded(root: Path, text: str) -> Rubric:
    """The rubric of a file with this text."""
    (root / "r.yaml").write_text(text)
    return load_rubric("r.yaml", root)


def refused(root: Path, text: str) -> str:
    """What is said of a file with this text."""
    with pytest.raises(UserError) as caught:
        loaded(root, text)
    return str(caught.value)


def test_the_template_loads() -> None:
    """The rubric that users copy has one dimension with both defaults and two examples from either end."""
    rubric = load_rubric("templates/rubric.yaml", ROOT)
    (dimension,) = rubric.dimensions
    assert (rubric.shows, dimension.name, dimension.kind) == (("input", "answer"), "", "quality")
    assert (dimension.scale, list(dimension.anchors)) == ((1, 5), [1, 3, 5])
    assert [example.reply["grade"] for example in rubric.examples] == [5, 1]


def test_a_rubric_of_several_dimensions(tmp_path: Path) -> None:
    """Each dimension has its own scale, anchors and criteria; an example is graded in each."""
    rubric = loaded(tmp_path, SEVERAL)
    assert rubric.shows == ("input", "contexts", "answer")
    assert [(one.name, one.scale, list(one.anchors)) for one in rubric.dimensions] == [
        ("tone", (0, 1), [0, 1]),
        ("completeness", (1, 5), [1, 3, 5]),
    ]
    (example,) = rubric.examples
    assert list(example.shown) == ["input", "contexts", "answer"]
    assert {name: reply["grade"] for name, reply in example.reply.items()} == {"tone": 1, "completeness": 3}


def test_defaults_and_what_is_inherited(tmp_path: Path) -> None:
    """Kind and scale of the rubric are those of each dimension that has none; without either the defaults."""
    assert loaded(tmp_path, SMALL + "}") == Rubric(
        "r.yaml", ("input", "answer"), (Dimension("", "quality", (1, 5), "Good?", {1: "bad", 5: "good"}),)
    )
    text = """
rubric:
  kind: safety
  scale: [0, 2]
  dimensions:
    a: {criteria: " A?\\n", anchors: {2: yes it is, 0: "no"}}
    b: {criteria: B?, anchors: {1: "no", 3: "yes"}, scale: [1, 3], kind: quality}
"""
    dimensions = loaded(tmp_path, text).dimensions
    assert list(dimensions[0].anchors) == [0, 2]
    assert dimensions == (
        Dimension("a", "safety", (0, 2), "A?", {0: "no", 2: "yes it is"}),
        Dimension("b", "quality", (1, 3), "B?", {1: "no", 3: "yes"}),
    )


def test_grades_may_be_quoted_and_written_as_json_has_them(tmp_path: Path) -> None:
    """A grade as a key is a number or a text, 5.0 is a whole number, and null is an example of undecided."""
    text = """
rubric:
  shows: [answer]
  scale: [1.0, 5]
  criteria: Good?
  anchors: {"1": "bad", 5: "good"}
  examples:
    - {answer: a, grade: 3.0, reason: so}
    - {answer: b, grade: null, reason: It is in a language that nobody knows.}
"""
    rubric = loaded(tmp_path, text)
    assert rubric.dimensions[0].anchors == {1: "bad", 5: "good"}
    assert rubric.dimensions[0].scale == (1, 5)
    assert [type(end) for end in rubric.dimensions[0].scale] == [int, int]
    assert rubric.examples[0] == Example({"answer": "a"}, {"reason": "so", "grade": 3})
    assert rubric.examples[1].reply["grade"] is None
    assert '"grade": 3}' in question(rubric, {})[0]["content"]


def test_every_fault_at_once(tmp_path: Path) -> None:
    """A file with many mistakes is refused with each of them, its place, and the nearest known name."""
    text = """\
rubric:
  knid: quality
  kind: saftey
  shows: [input, anwser]
  scale: [1, 5]
  criteria: " "
  anchors: {1: bad, good: x, 9: y}
  examples:
    - {input: a, answer: b, expected: q, grade: 11, reason: ""}
    - {answer: b, grade: [3]}
"""
    assert refused(tmp_path, text) == (
        """\
r.yaml:2: unknown key "knid" in "rubric".
      knid: quality
      ~~~^
Did you mean "kind"?
r.yaml:3: "kind" is "saftey": it must be "quality" or "safety".
      kind: saftey
            ~~~~~^
Did you mean "safety"?
r.yaml:4: "shows" lacks "answer", which is what the judge grades.
      shows: [input, anwser]
             ~~~~~~~~~~~~~~^
What the judge is shown, of input, answer, expected and contexts; [input, answer] when not given. What is """
        """shown is required: a case without it is not judged.
r.yaml:4: item 2 of "shows" is "anwser": it must be "input", "answer", "expected" or "contexts".
      shows: [input, anwser]
                     ~~~~~^
Did you mean "answer"?
r.yaml:6: "criteria" is " ".
      criteria: " "
                ~~^
Say in words what is graded.
r.yaml:7: "anchors" says nothing of grade 5.
      anchors: {1: bad, good: x, 9: y}
      ~~~~~~^
Both ends of the scale need an anchor: 1 and 5.
r.yaml:7: "good" is no grade of the scale from 1 to 5.
      anchors: {1: bad, good: x, 9: y}
                        ~~~^
Its keys are whole numbers from 1 to 5.
r.yaml:7: "9" is no grade of the scale from 1 to 5.
      anchors: {1: bad, good: x, 9: y}
                                 ^
Its keys are whole numbers from 1 to 5.
r.yaml:9: "grade" is 11: the scale goes from 1 to 5.
        - {input: a, answer: b, expected: q, grade: 11, reason: ""}
                                                    ~^
r.yaml:9: "reason" is "".
        - {input: a, answer: b, expected: q, grade: 11, reason: ""}
                                                                ~^
Say why it deserves this grade.
r.yaml:10: "reason" is missing in item 2 of "examples".
        - {answer: b, grade: [3]}
          ~~~~~~~~~~~~~~~~~~~~~~^
Why it deserves this grade; with dimensions, {NAME: reason}.
r.yaml:10: "grade" is a list: it must be a whole number, empty or a mapping.
        - {answer: b, grade: [3]}
                             ~~^
The grade, or null for an answer that cannot be graded; with dimensions, {NAME: grade}.
Nothing was run."""
    )


ONE = "{criteria: Good?, anchors: {1: bad, 5: good}}"
DIMENSIONS = f"rubric: {{dimensions: {{a: {ONE}, b: {ONE}}}"
EXAMPLE = ", examples: [{input: a, answer: b, "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rubric: {}", '"criteria" is missing in "rubric".'),
        ("rubric: {}", "A rubric has criteria and anchors, or several dimensions, each with its own."),
        ("rubrik: {criteria: x}", 'Did you mean "rubric"?'),
        ("- rubric", "the document is a list: it must be a mapping."),
        ("", "It starts with `rubric:`."),
        (SMALL + "}\n---\nrubric: {}", "One file holds one rubric"),
        (SMALL + ", scale: [5, 1]}", '"scale" goes from 5 to 1.'),
        (SMALL + ", scale: [3, 3]}", '"scale" goes from 3 to 3.'),
        (SMALL + ", scale: [1]}", '"scale" is not two grades.'),
        (SMALL + ", scale: [1, 2.5]}", 'item 2 of "scale" is a number (2.5): it must be a whole number.'),
        (SMALL + ", scale: [-1, 1]}", 'item 1 of "scale" is -1: it must be at least 0.'),
        (SMALL + ", scale: [0, 101]}", 'item 2 of "scale" is 101: it must be at most 100.'),
        (SMALL + ", scale: [false, true]}", 'item 1 of "scale" is a boolean (false)'),
        (SMALL + ", scale: [0, 1]}", '"5" is no grade of the scale from 0 to 1.'),
        (SMALL + ", shows: [answer, answer]}", '"shows" holds something twice.'),
        (SMALL + ", shows: []}", '"shows" lacks "answer"'),
        ("rubric: {criteria: 5, anchors: [a]}", '"criteria" is a number (5): it must be text.'),
        ("rubric: {criteria: a, anchors: {1: bad, 05: good}}", '"05" is no grade'),
        ("rubric: {criteria: a, anchors: {1: bad, 1: good, 5: c}}", '"1" is given twice, first on line 1.'),
        ('rubric: {criteria: a, anchors: {1: bad, "1": good, 5: c}}', '"1" is given twice, first on line 1.'),
        ("rubric: {criteria: a, anchors: {1: bad, 5.0: good}}", "the key is not text: '5.0'."),
        (SMALL + ", 1: x}", "the key is not text: '1'."),
        (DIMENSIONS + ", criteria: C?}", '"criteria" stands beside "dimensions".'),
        ("rubric: {dimensions: {}}", '"dimensions" is empty.'),
        (
            "rubric: {dimensions: {a.b: {criteria: x, anchors: {1: a, 5: b}}}}",
            '"a.b" is no name of a dimension.',
        ),
        ("rubric: {dimensions: {a: {criteria: x}}}", '"anchors" is missing in "a".'),
        ("rubric: {dimensions: {a: {criteria: x, anchor: {}}}}", 'Did you mean "anchors"?'),
        (SMALL + EXAMPLE + "grade: {a: 3}, reason: x}]}", "There is only one: write it plainly."),
        (
            SMALL + ", examples: [{answer: a, grade: 3, reason: x}]}",
            '"input" is missing in item 1 of "examples".',
        ),
        (
            SMALL + EXAMPLE + "contexts: [a], grade: 3, reason: x}]}",
            'Remove it, or add contexts to "shows".',
        ),
        (SMALL + EXAMPLE + "grade: 0, reason: x}]}", '"grade" is 0: the scale goes from 1 to 5.'),
        (DIMENSIONS + EXAMPLE + "grade: 3, reason: x}]}", "Write grade: {a: ..., b: ...}."),
        (
            DIMENSIONS + EXAMPLE + "grade: {a: 3, c: 3}, reason: {a: x, b: y}}]}",
            '"b" is missing in "grade".',
        ),
        (
            DIMENSIONS + EXAMPLE + "grade: {a: 3, b: 9}, reason: {a: x, bb: y}}]}",
            '"b" is 9: the scale goes from 1 to 5.',
        ),
        (
            DIMENSIONS + EXAMPLE + "grade: {a: 3, b: 3}, reason: {a: x, bb: y}}]}",
            'Did you mean "b"?',
        ),
        ("rubric: {criteria: !!python/object:os.system x, anchors: {1: a, 5: b}}", "is not supported."),
        ("rubric: [" + "[" * 60, "more than 40 levels"),
        ("rubric:\n  criteria: a\n\tb: c", "YAML indents with spaces; this line has a tab."),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is named with its place, and no mistake is a traceback."""
    message = refused(tmp_path, text)
    assert said in message
    assert message.startswith("r.yaml:")


def test_half_of_a_character_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where YAML takes an escape for half of a character, the text that cannot be sent is refused."""
    text = 'rubric: {criteria: "a\\ud800", anchors: {1: a, 5: b}}'
    assert "invalid Unicode character escape code" in refused(tmp_path, text)
    monkeypatch.setattr(sources, "LOADER", yaml.SafeLoader)
    assert '"criteria" holds half of a surrogate pair, which is no character.' in refused(tmp_path, text)
    assert loaded(tmp_path, SEVERAL).dimensions[0].name == "tone"


def test_a_rubric_lies_in_the_repository(tmp_path: Path) -> None:
    """A rubric is a file of the repository: a link out of it, a folder and a missing file are refused."""
    (tmp_path / "outside.yaml").write_text(SMALL + "}")
    root = tmp_path / "repository"
    (root / "folder.yaml").mkdir(parents=True)
    (root / "r.yaml").symlink_to(tmp_path / "outside.yaml")
    for name, said in (("r", "leads out"), ("folder", "is a folder"), ("none", "there is no file")):
        with pytest.raises(UserError, match=said):
            load_rubric(f"{name}.yaml", root)
    (root / "r.yaml").unlink()
    (root / "good.yaml").write_text(SMALL + "}")
    (root / "r.yaml").symlink_to("good.yaml")
    assert load_rubric("r.yaml", root).dimensions[0].criteria == "Good?"


def test_one_fault_is_said_once(tmp_path: Path) -> None:
    """A value that JSON does not have is refused for that, and not again for what became of it."""
    text = "rubric: {criteria: !!binary aGk=, anchors: {1: bad, 5: good}, scale: 2026-01-01}"
    assert refused(tmp_path, text).count("r.yaml:1:") == 2


@pytest.mark.parametrize("shows", ["[input]", "[answer, inptu]"])
def test_a_fault_has_no_followers(tmp_path: Path, shows: str) -> None:
    """What is wrong with "shows" is not said of every example again."""
    text = SMALL + f", shows: {shows}" + EXAMPLE + "grade: 3, reason: x}]}"
    assert refused(tmp_path, text).count("r.yaml:1:") == 1
