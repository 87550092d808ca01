"""Every class of hostile text in every field of the verdicts, in every place where they are shown.

The fields are the texts of the published schemas. What a harmless word makes of a scorecard, an annotation or
a terminal's lines, any other text has to make of them too.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from gatehouse.commands.scorecard import _annotate
from gatehouse.errors import State
from gatehouse.evals.results import UNREADABLE, read_json, write_json
from gatehouse.github import runner
from gatehouse.github.escape import plain
from gatehouse.report.changes import lines as changes_lines
from gatehouse.report.changes import section
from gatehouse.report.junit import junit
from gatehouse.report.scorecard import COMMENT_LIMIT, Card, markdown, reproduce, terminal
from tests.contracts.suite import ROOT
from tests.support.hostile import (
    CLASSES,
    HIDDEN,
    LENGTHS,
    TOUCH,
    acted_on,
    commands_in,
    everything,
    harmless,
    inert,
    shape,
)
from tests.support.markdown import Page, page_of
from tests.support.verdicts import calibration_json, cost_json, eval_json, failing_case, judge_json, metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN, HEAD = "https://github.example/acme/x/actions/runs/7/attempts/1", "abcdef" + "g" * 34
Where = tuple[str | int, ...]
KEY = "a word"
"""What stands where a text may, in the verdicts that all others are compared with."""
WORDS = {"state", "kind", "direction"}
"""Texts that are one of a few words: another one is refused."""


def verdicts() -> dict[str, Any]:
    """An eval.json and a cost.json with every key, and every text a harmless word."""
    model = judge_json()["by_model"][0] | {"provider": KEY, "model": KEY}
    case = failing_case(KEY, **dict.fromkeys(("input", "expected", "got", "tool_calls"), KEY))
    case |= {"tags": [KEY], "reasons": {KEY: KEY, "tool_calls": KEY}}
    row = metric(KEY, state="fail", reason=KEY, unit=KEY, metric=KEY, calibration=calibration_json(KEY))
    evaluated = eval_json(
        KEY,
        state="fail",
        reason=KEY,
        commit=KEY,
        metrics=[row, metric()],
        judge=judge_json(KEY, models=2, embeddings=KEY, notes=[KEY], by_model=[model, model.copy()]),
        extras=[KEY],
        failing_cases=[deepcopy(case) | {"path": KEY}, case],
        warnings=[KEY],
        broken=[KEY],
        fixed=[KEY],
        runs=[KEY],
        dataset={
            "path": KEY,
            "paths": [KEY],
            "instead_of": [KEY],
            "digest": KEY,
            "cases": 40,
            "of": 50,
            "selected": {"tags": [KEY], "cases": [KEY]},
        },
        agent=dict.fromkeys(("name", "version", "digest", "path"), KEY),
    )
    spent = cost_json()["by_model"][0] | dict.fromkeys(("provider", "model", "source"), KEY)
    limit = {"name": KEY, "value": 0.1, "limit": 0.05, "state": "fail", "reason": KEY}
    same = {key: evaluated[key] for key in ("agent", "dataset", "commit")}
    return {
        "eval": evaluated,
        "cost": cost_json(state="fail", reason=KEY, by_model=[spent], limits=[limit])
        | {"prices": {"date": KEY, "table": KEY}, "warnings": ["another word"]}
        | deepcopy(same),
    }


def texts(data: Any, at: Where = ()) -> Iterator[Where]:
    """Where in a document a text stands; a key that a user chose counts as one, with `*` before it."""
    if isinstance(data, dict):
        for key, value in data.items():
            if at and at[-1] in ("reasons", "values") and key == KEY:
                yield (*at, "*", key)
            yield from texts(value, (*at, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*at, index))
    elif isinstance(data, str) and at[-1] not in WORDS:
        yield at


def put(data: Any, at: Where, text: str) -> None:
    """Let the text stand there."""
    *way, last = at
    if "*" in way:
        inner = data
        for step in way[:-1]:
            inner = inner[step]
        inner[text] = inner.pop(last)
        return
    for step in way:
        data = data[step]
    data[last] = text


def called(at: Where) -> str:
    """A field's name: its path, list indices as []."""
    return ".".join("[]" if isinstance(step, int) else step for step in at)


FIELDS = {called(at): at for at in texts(verdicts())}


def cards(data: dict[str, Any]) -> list[Card]:
    """The hostile agent's card, and an honest one beside it."""
    name = data["eval"]["agent"]["name"]
    return [Card(name, data["eval"], data["cost"]), Card("honest", eval_json("honest"), cost_json("honest"))]


@cache
def with_words() -> tuple[Page, int]:
    """The page and the terminal's number of lines where every text is a harmless word."""
    made = cards(verdicts())
    return page_of(markdown(made, run_url=RUN, head=HEAD)), terminal(made).count("\n")


def _described(schema: dict[str, Any], at: str) -> Iterator[str]:
    """The names of all fields of a schema that hold a text."""
    kinds = schema.get("type", [])
    if "string" in ([kinds] if isinstance(kinds, str) else kinds) and "enum" not in schema:
        yield at
    for key, inner in schema.get("properties", {}).items():
        yield from _described(inner, f"{at}.{key}")
    if isinstance(schema.get("items"), dict):
        yield from _described(schema["items"], f"{at}.[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _described(schema["additionalProperties"], f"{at}.{KEY}")


@pytest.mark.parametrize("gate", ["eval", "cost"])
def test_every_text_of_the_schemas_is_tried(gate: str) -> None:
    """A field that is added to a schema is a field of these tests, or this one names it."""
    schema = json.loads((ROOT / f"scripts/gatehouse/schemas/{gate}.schema.json").read_text())
    missing = set(_described(schema, gate)) - set(FIELDS)
    assert not missing


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("field", FIELDS)
def test_no_text_is_more_than_text(field: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Comment, terminal and annotations say what they say of a harmless word, and nothing in a text acts."""
    usual, lines = with_words()
    for text in CLASSES[name].values():
        data = deepcopy(verdicts())
        put(data, FIELDS[field], text)
        shown = cards(data)
        page = assert_inert(markdown(shown, run_url=RUN, head=HEAD))
        unseen = not plain(text).strip()
        if name != "length" and not unseen:
            assert shape(page) == shape(usual), text
            assert page.rows == usual.rows, text
        said = terminal(shown)
        assert said.count("\n") <= lines, text
        assert_terminal(said, capsys)
        assert_annotations(shown, capsys)
        assert_report(shown, same=not unseen)


def assert_inert(text: str) -> Page:
    """Assert that GitHub shows this comment whole, and does nothing with what it quotes."""
    assert len(text.encode(errors="replace")) <= COMMENT_LIMIT
    inert(text)
    page = page_of(text)
    assert not acted_on(page), page.prose
    assert set(page.rows) <= {3, 5}
    assert page.tags.count("a href") == 1
    assert page.tags.count("h3") == 1
    return page


def assert_terminal(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that neither a terminal nor a runner obeys anything in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        runner.say(said)
    printed = capsys.readouterr().out
    harmless(printed)
    assert commands_in(printed) == []


def assert_annotations(shown: list[Card], capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a runner obeys our annotations alone, with the properties that we gave them."""
    runner._annotated.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        _annotate(shown)
    printed = capsys.readouterr().out
    harmless(printed)
    verdict = shown[0].eval or {}
    cases = verdict["failing_cases"]
    files = [cases[0]["path"], verdict["dataset"]["path"]]
    wanted = [
        ("error", {"file": plain(file), "line": "7", "title": plain(f"{shown[0].name}: {case['id']}")})
        for file, case in zip(files, cases, strict=True)
    ]
    obeyed = [(name, given) for name, given, _message in commands_in(printed)]
    assert [(name, _given(given)) for name, given in obeyed] == [(name, _given(w)) for name, w in wanted]


def _given(properties: dict[str, str]) -> dict[str, str]:
    """The properties that are not empty, which is the same as none."""
    return {key: value for key, value in properties.items() if value}


@cache
def report_with_words() -> list[tuple[str, list[str]]]:
    """The elements of the JUnit report where every text is a harmless word."""
    return elements(junit(cards(verdicts())))


def elements(report: str) -> list[tuple[str, list[str]]]:
    """The elements of a report in XML and the names of their attributes, in order."""
    return [(element.tag, list(element.attrib)) for element in ET.fromstring(report).iter()]  # noqa: S314 ours


def assert_report(shown: list[Card], *, same: bool = True) -> None:
    """Assert that the JUnit report is XML of the usual elements, and hides nothing."""
    report = junit(shown, commit=HEAD)
    assert not HIDDEN.search(report)
    found = elements(report)
    assert {name for name, _ in found} <= {name for name, _ in report_with_words()}
    if same:
        assert [tag for tag, _ in found if tag != "property"] == [
            tag for tag, _ in report_with_words() if tag != "property"
        ]


@pytest.mark.parametrize("field", FIELDS)
def test_results_keep_a_text_exactly(field: str, tmp_path: Path) -> None:
    """What a verdict file says is read back to the letter; half of a surrogate pair becomes "?"."""
    for text in everything():
        data = verdicts()
        put(data, FIELDS[field], text)
        for gate in ("eval", "cost"):
            write_json(tmp_path / f"{gate}.json", data[gate])
            expected = json.dumps(data[gate], ensure_ascii=False).encode(errors="replace")
            assert read_json(tmp_path / f"{gate}.json") == json.loads(expected)


CHANGE = dict.fromkeys(("what", "name", "before", "after", "where", "agent"), KEY)
CHANGES: dict[str, Any] = {
    "schema": 1,
    "commit": KEY,
    "base": {"commit": KEY, "name": KEY},
    "due": True,
    "compared": True,
    "reason": KEY,
    "weaker": 1,
    "changes": [CHANGE | {"effect": effect} for effect in ("stronger", "changed", "weaker")],
}
"""A changes.json with every key."""
OF_CHANGES = {called(at): at for at in texts(CHANGES) if at[-1] != "effect"}


@pytest.mark.parametrize("compared", [True, False])
@pytest.mark.parametrize("field", OF_CHANGES)
def test_what_a_change_of_the_gate_is_called(
    field: str, compared: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changed of the gate is told in the words of a pull request's files: nothing in them acts."""
    whole = page_of(section(CHANGES | {"compared": compared}))
    for text in everything():
        data = deepcopy(CHANGES) | {"compared": compared}
        put(data, OF_CHANGES[field], text)
        shown = section(data)
        inert(shown)
        page = page_of(shown)
        assert not acted_on(page), page.prose
        if plain(text).strip() and text not in LENGTHS.values():
            assert shape(page) == shape(whole), text
        said = changes_lines(data)
        assert not [line for line in said if "\n" in line]
        assert_terminal("\n".join(said), capsys)


@pytest.mark.parametrize("name", CLASSES)
def test_an_unknown_state_is_refused(name: str) -> None:
    """A state is one of four words: a card with another one is malformed, and shows nothing."""
    for text in CLASSES[name].values():
        for gate in ("eval", "cost"):
            data = verdicts()
            data[gate]["state"] = text
            with pytest.raises(UNREADABLE):
                markdown(cards(data))
        data = verdicts()
        data["eval"]["metrics"][0]["state"] = text
        with pytest.raises(UNREADABLE):
            markdown(cards(data))


@pytest.mark.parametrize("name", CLASSES)
def test_the_shell_line_hands_on_what_it_names(name: str, tmp_path: Path) -> None:
    """The line to reproduce a gate, in a real shell, is one command with each text as one argument."""
    (tmp_path / "uvx").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    (tmp_path / "uvx").chmod(0o755)
    for text in CLASSES[name].values():
        if name == "length":
            text = text[:10_000]  # noqa: PLW2901 a single argument takes 128 KiB
        data = eval_json(judge=judge_json(text), extras=[text])
        data["agent"]["path"] = data["dataset"]["path"] = text
        line = reproduce(data)
        done = subprocess.run(
            ["sh", "-c", line.replace("\0", "")],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CANARY": str(tmp_path / "pwned")},
            capture_output=True,
            check=True,
        )
        said = done.stdout.decode().split("\0")[:-1]
        assert said == shlex.split(line)[1:]
        assert said.count(plain(text)) == 3
        assert not done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["uvx"], TOUCH


def test_all_texts_at_once_fit() -> None:
    """A scorecard of many agents that hold everything hostile keeps limit, tables and folds."""
    several = [Card("", eval_json(text), cost_json(text)) for text in everything()]
    several += [cards(full(text))[0] for text in everything(set(CLASSES) - {"length"})]
    text = markdown(several, run_url=RUN, head=HEAD)
    assert len(text.encode(errors="replace")) <= COMMENT_LIMIT
    assert not HIDDEN.search(text)
    page = page_of(text)
    assert not [tag for tag in page.tags if tag.startswith("/") or tag == "unclosed"]
    assert set(page.rows) <= {3, 5}
    assert text.startswith("### ❌ Gatehouse: ")
    assert State.FAIL in terminal(several)


def full(text: str) -> dict[str, Any]:
    """Verdicts that hold the text in every field."""
    data = verdicts()
    for at in sorted(FIELDS.values(), key=lambda at: "*" in at):
        put(data, at, text)
    return data


@pytest.mark.parametrize("name", CLASSES)
def test_a_text_in_every_field_at_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts do not act together either: one that opens something finds none that goes on with it."""
    for text in CLASSES[name].values():
        shown = cards(full(text))
        assert_inert(markdown(shown, run_url=RUN, head=HEAD))
        assert_terminal(terminal(shown), capsys)
        assert_annotations(shown, capsys)
        assert_report(shown, same=False)


def test_an_address_of_the_run_is_no_markup() -> None:
    """The address of the run is of the runner's own making; still it is no more than an address."""
    for text in everything():
        shown = markdown(cards(verdicts()), run_url=text, head=text)
        assert not re.search(r"<a (?!href=\"[^\"<>]*\">run</a>)", shown)
        page = page_of(shown)
        assert set(page.tags) <= set(with_words()[0].tags) | {"code"}
