"""json_fields, numeric and text_similarity."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.commands._judge import bench_for
from gatehouse.errors import UserError
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.metrics.fields import numbers
from gatehouse.evals.score import write_scores
from tests.support.metrics import fault, scorer
from tests.support.projects import agent_of, call, run_of, subject_of

if TYPE_CHECKING:
    from pathlib import Path

ORDER = {
    "order": {"total": 42, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]},
    "paid": True,
    "note": None,
}
"""Seven values."""


@pytest.mark.parametrize(
    ("output", "value", "reason"),
    [
        (ORDER, 1, ""),
        (json.dumps(ORDER), 1, ""),
        (ORDER | {"more": 1}, 1, ""),
        (ORDER | {"paid": 1}, 6 / 7, "paid is 1, expected true; 1 of 7 fields differs"),
        ({**ORDER, "order": {**ORDER["order"], "total": 41}}, 6 / 7, "order.total is 41, expected 42; 1 of 7 fields differs"),  # type: ignore[dict-item]  # noqa: E501
        ({"order": 5}, 0, "order.total is missing, expected 42; 7 of 7 fields differ"),
        ({"order": ORDER["order"], "paid": {"x": 1}, "note": None}, 6 / 7, "paid is an object, expected true; 1 of 7 fields differs"),  # noqa: E501
        ([ORDER], 0, "is no JSON object"),
        ("done", 0, "is no JSON object"),
        (None, 0, "is no JSON object"),
    ],
)  # fmt: skip
def test_json_fields(tmp_path: Path, output: Any, value: float, reason: str) -> None:
    """The value is the share of expected values that are there; the reason names the first that is not."""
    score = scorer(tmp_path, "json_fields")(output, expected=ORDER)
    assert score is not None
    assert score.value == pytest.approx(value)
    assert score.reason == reason


@pytest.mark.parametrize(
    ("options", "output", "expected", "value"),
    [
        ({"fields": ["a"]}, {"a": {"b": 1}, "c": 0}, {"a": {"b": 1}, "c": 9}, 1),
        ({"fields": "l.*.n"}, {"l": [{"n": 1, "x": 0}]}, {"l": [{"n": 1, "x": 9}]}, 1),
        ({"fields": ["a.b"]}, {"a": {"b": 0}}, {"a": {"b": 1}}, 0),
        ({"fields": ["l.*.n"]}, {"l": [{"n": 1}, {"n": 2}]}, {"l": [{"n": 1}]}, 0.5),
        ({"fields": ["l.*.n"]}, {"l": [{"n": 1}]}, {"l": []}, 0),
        ({"fields": ["l.*.n"]}, {"l": []}, {"l": []}, 1),
        ({"fields": ["l.*.n"]}, {"l": [], "m": [1]}, {"l": [], "m": []}, 1),
        ({"ignore": ["id"]}, {"id": 5, "a": 1}, {"id": 6, "a": 1}, 1),
        ({"extra": False}, {"a": 1, "b": 2}, {"a": 1}, 0.5),
        ({"extra": False}, {"a": {"x": 1}}, {"a": {"x": 1}}, 1),
        ({}, {"a": [1, 2, 3]}, {"a": [1, 2]}, 2 / 3),
        ({}, {"a": [1]}, {"a": []}, 0),
        ({}, [1, 2], [2, 1], 0),
        ({}, {"a": "1"}, {"a": 1}, 0),
        ({}, {"a": 1.0}, {"a": 1}, 1),
        ({"tolerance": 0.1}, {"a": 1.1}, {"a": 1.0}, 1),
        ({"tolerance": 0.1}, {"a": 1.11}, {"a": 1.0}, 0),
        ({"relative": 0.01}, {"a": 101}, {"a": 100}, 1),
        ({"tolerance": 5}, {"a": float("nan")}, {"a": 1}, 0),
        ({"tolerance": 5}, {"a": float("inf")}, {"a": 1}, 0),
        ({}, {"a": 10**30 + 1}, {"a": 10**30}, 0),
        ({}, {"": {"": 1}}, {"": {"": 1}}, 1),
    ],
)
def test_the_options_of_json_fields(
    tmp_path: Path, options: dict[str, Any], output: Any, expected: Any, value: float
) -> None:
    """Paths choose fields; further keys are welcome, further items never; numbers may be near."""
    score = scorer(tmp_path, "json_fields", **options)(output, expected=expected)
    assert score is not None
    assert score.value == pytest.approx(value)
    assert (score.value == 1) == (score.reason == "")


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "text"), ({}, 5), ({}, {}), ({}, None), ({"fields": ["z"]}, {"a": 1})]
)
def test_json_fields_skips_what_has_no_fields(tmp_path: Path, options: dict[str, Any], expected: Any) -> None:
    """A case whose reference has none of the fields is skipped, not passed."""
    assert scorer(tmp_path, "json_fields", **options)({"a": 1}, expected=expected) is None


def test_a_field_that_no_case_has_is_an_error(tmp_path: Path) -> None:
    """A misspelt path beside a right one is told with its line, once every case is scored; never before."""
    golden = [
        {"id": "c0", "input": "x", "expected": {"a": 1}},
        {"id": "c1", "input": "x", "expected": {"b": 1}},
    ]
    for fields, wrong in ((["a", "b"], False), (["a", "prise"], True)):
        evals = {
            "dataset": "golden.jsonl",
            "metrics": {"json_fields": {"threshold": 0, "fields": fields, "extra": False}},
        }
        it = subject_of(tmp_path, golden=golden, evals=evals)
        runs = [run_of(it, case, output={"a": 1, "prise": 2}) for case in ("c0", "c1")]
        write_scores(it, gates_of(it.agent), 1, runs[:1], [], tmp_path / "out")  # not all: nobody can say
        if not wrong:
            write_scores(it, gates_of(it.agent), 1, runs, [], tmp_path / "out")
            continue
        with pytest.raises(
            UserError, match='metric "json_fields": no case expects a value at "prise"'
        ) as error:
            write_scores(it, gates_of(it.agent), 1, runs, [], tmp_path / "out")
        assert str(error.value).startswith("agents/echo.yaml:")
        assert not (tmp_path / "out/scores.json").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("42", [42]),
        ("It is $1,234.50.", ["1234.5"]),
        ("-$5", [-5]),
        ("\u22125 °C", [-5]),
        ("\u20135 °C, \uff0d6", [-5, -6]),
        ("minus 5, Negative 6, 8 minutes", [-5, -6, 8]),
        ("3\u20135", []),
        ("5\u00bd 5 \u00bd 5 1/2 10\u00b2 10^2 1_000 0x1F 7e9999", [2]),
        ("2x 5bar 0 below", [2, 5, 0]),
        ("64 USD, so 64", [64]),
        ("12 % of it", [12]),
        ("5km, the 3rd", [5, 3]),
        ("2e3", [2000]),
        ("**7**", [7]),
        ("(5) ($6) (7 days) (-8)", [7, -8]),
        ("no number", []),
        ("order LH-1001 of 2026-05-20 at 10:30, version 1.2.3, GPT-4, v2, 5-10, 1/2", []),
        ("3,5", []),
        ("1 234", [1, 234]),
        ("9" * 401, []),
        ("1e999", [Fraction(10) ** 999]),
    ],
)
def test_the_numbers_in_a_text(text: str, found: list[Any]) -> None:
    """Signs, thousands and units are read; parts of names, dates, times and versions are no numbers."""
    assert numbers(text) == [Fraction(number) for number in found]


@pytest.mark.parametrize(
    ("options", "output", "expected", "value", "reason"),
    [
        ({}, "The total is 42.", 42, 1, ""),
        ({}, 42.0, "42", 1, ""),
        ({}, "\u20135", -5, 1, ""),
        *(
            ({}, text, 5, 0, reason)
            for text, reason in (
                ("minus 5", "is -5, expected 5"),
                ("(5)", "holds no number, expected 5"),
                ("5\u00bd", "holds no number, expected 5"),
            )
        ),
        ({}, "about 41", 42, 0, "is 41, expected 42"),
        ({"tolerance": 0.5}, "41", 42, 0, "is 41, expected 42 (tolerance 0.5)"),
        ({"tolerance": 0.1}, 1.1, 1.0, 1, ""),
        ({"relative": 0.02}, "about 41.5", 42, 1, ""),
        ({"relative": 0.02}, -41.5, -42, 1, ""),
        ({}, "4 of 5", 4, 0, "holds 2 numbers (4, 5), expected one: 4"),
        ({}, "none", 4, 0, "holds no number, expected 4"),
        ({}, {"a": 4}, 4, 0, "holds no number, expected 4"),
        ({}, True, 1, 0, "holds no number, expected 1"),
        ({"tolerance": 9}, float("nan"), 1, 0, "is nan, expected 1 (tolerance 9)"),
        ({"tolerance": 9}, float("inf"), 1, 0, "is inf, expected 1 (tolerance 9)"),
        ({}, str(10**30 + 1), 10**30, 0, "is 1e+30, expected 1e+30"),
        ({}, 2**53 + 1, 2**53, 0, "is 9007199254740993, expected 9007199254740992"),
        ({}, "1e999", 5, 0, "is a number of more than 308 digits, expected 5"),
    ],
)
def test_numeric(
    tmp_path: Path, options: dict[str, Any], output: Any, expected: Any, value: float, reason: str
) -> None:
    """The one number of the output is the expected one, exactly or within what the options allow."""
    score = scorer(tmp_path, "numeric", **options)(output, expected=expected)
    assert score == (value, reason)


@pytest.mark.parametrize("expected", ["no number", "4 of 5", None, True, {"a": 1}])
def test_numeric_skips_what_expects_no_number(tmp_path: Path, expected: Any) -> None:
    """A case that expects no number, or several, is skipped."""
    assert scorer(tmp_path, "numeric")("4", expected=expected) is None


def test_text_similarity(tmp_path: Path) -> None:
    """Equal texts have 1, in any case and spacing; others less, and the reason shows where they part."""
    score = scorer(tmp_path, "text_similarity")
    assert score("The  kettle\nis broken", expected="the kettle is broken") == (1, "")
    near = score("The kettle is brown", expected="The kettle is broken")
    assert near is not None
    assert 0.8 < near.value < 1
    assert near.reason == 'reads "…tle is brown" where "…tle is broken" is expected'
    assert score("", expected="The kettle") == (0, 'reads "" where "the kettle" is expected')
    assert score({"a": 1}, expected="x") == (0, "is no text")
    assert score("x" * 100_001, expected="x") == (0, "is longer than 100,000 characters")
    assert score("x", expected=" ") is None


def test_the_methods_of_text_similarity(tmp_path: Path) -> None:
    """Words in another order, and further words, count only where the method says so."""
    values = {}
    for method in ("ratio", "token_sort", "token_set"):
        score = scorer(tmp_path / method, "text_similarity", method=method)
        found = [score("broken kettle", expected="kettle broken"), score("a b c", expected="b c")]
        values[method] = [one.value == 1 for one in found if one]
    assert values == {"ratio": [False, False], "token_sort": [True, False], "token_set": [True, True]}


def test_without_rapidfuzz_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the library is missing, the gate says what to install before anything is run; listing works."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rapidfuzz" else object())
    agent = agent_of(tmp_path, evals={"dataset": "golden.jsonl", "metrics": {"text_similarity": 0.8}})
    with pytest.raises(
        UserError, match=r"(?s)needs rapidfuzz, .*not installed\..*gatehouse-ci\[similarity\] @ git"
    ):
        bench_for(agent, gates_of(agent), None)
    done = call(tmp_path, "metrics", "--agent", "agents/echo.yaml")
    assert done.code == 0
    assert "Install gatehouse-ci[similarity]." in done.out


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("json_fields", {"fields": 5}, '"fields" is a list of dotted paths'),
        ("json_fields", {"ignore": [""]}, '"ignore" is a list of dotted paths'),
        ("json_fields", {"extra": "no"}, '"extra" is true'),
        (
            "json_fields",
            {"tolerance": -1},
            '"tolerance" is a number of 0 or more, in the number\'s own unit.',
        ),
        ("numeric", {"relative": "5%"}, '"relative" is a number of 0 or more, a share: 0.01 is 1 %.'),
        ("numeric", {"tolerance": True}, '"tolerance" is a number'),
        ("text_similarity", {"method": "cosine"}, '"method" is ratio, token_sort, token_set.'),
    ],
)
def test_wrong_options(tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    """A wrong option is an error at its metric in the agent file, before anything is run."""
    said = fault(tmp_path, name, **options)
    assert f'metric "{name}": {words}' in said
    assert said.startswith("agents/echo.yaml:")
