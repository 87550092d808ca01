"""Bad input: each row breaks one rule, and the command says what is wrong, where, and what to do.

Exit 2 for what its author can mend, no traceback, and nothing half-done: where an agent could be named, its
verdict file says the same, and nothing else is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatehouse.errors import Exit
from tests.support.projects import Done, call, cases, gatehouse, read, write_golden, write_project

Break = Callable[[Path], object]
AGENT = "agents/echo.yaml"
GATE = ("eval-gate",)


def nothing(_folder: Path) -> None:
    """The repository as it is."""


def agent(text: str | bytes) -> Break:
    """The agent file holds this text."""
    return lambda folder: (folder / AGENT).write_bytes(text if isinstance(text, bytes) else text.encode())


def more(text: str) -> Break:
    """The agent file goes on with this text."""
    return lambda folder: (folder / AGENT).write_text((folder / AGENT).read_text() + text)


def keys(**changed: Any) -> Break:
    """The agent file with these keys changed, None for those that go."""

    def change(folder: Path) -> None:
        data = yaml.safe_load((folder / AGENT).read_text())["agent"] | changed
        kept = {key: value for key, value in data.items() if value is not None}
        (folder / AGENT).write_text(yaml.safe_dump({"agent": kept}, sort_keys=False))

    return change


def metrics(**metrics: Any) -> Break:
    """The agent file with these metrics."""
    return keys(evals={"dataset": "golden.jsonl", "metrics": metrics})


def golden(*lines: str | bytes) -> Break:
    """The golden set holds these lines."""
    data = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    return lambda folder: (folder / "golden.jsonl").write_bytes(data)


def schema(text: str) -> Break:
    """An output schema that holds this text."""

    def change(folder: Path) -> None:
        (folder / "schema.json").write_text(text)
        keys(guardrails={"output_schema": "schema.json"})(folder)

    return change


def twin(folder: Path) -> None:
    """A second agent file with the first one's name."""
    (folder / "agents/twin.yml").write_text((folder / AGENT).read_text())


def second(folder: Path) -> None:
    """A second agent."""
    write_project(folder, name="second")


def directory(path: str) -> Break:
    """A folder where a file should be."""

    def change(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).mkdir()

    return change


def case(**fields: Any) -> str:
    """One line of a golden set."""
    return json.dumps({"id": "c0", "input": "a"} | fields)


ROWS: dict[str, tuple[Break, tuple[str, ...], tuple[str, ...]]] = {
    # The agent file.
    "no yaml": (agent("agent: [\n"), GATE, (f"{AGENT}:", "not YAML")),
    "empty": (agent(""), GATE, (f"{AGENT}:1: the file is empty.", "It starts with `agent:`.")),
    "a list": (agent("- agent\n"), GATE, (f"{AGENT}:1:",)),
    "not utf-8": (agent(b"agent: \xff\n"), GATE, (f"{AGENT}:1: byte 8 of line 1", "Save the file as UTF-8.")),
    "nested beyond reason": (agent("[" * 100_000), GATE, (f"{AGENT}:1: the file holds more than 40 levels",)),
    "key twice": (more("  name: other\n"), GATE, (f'{AGENT}:12: "name" is given twice, first on line 3.',)),
    "unknown key": (keys(modle="x"), GATE, (f"{AGENT}:", '"modle"', 'Did you mean "model"?')),
    "no model": (keys(model=None), GATE, (f"{AGENT}:1:", '"model"')),
    "name": (keys(name="../x"), GATE, (f"{AGENT}:", "name", "a-z")),
    "entrypoint": (keys(entrypoint="agent.py"), GATE, (f"{AGENT}:", "module:function")),
    "no prompt": (keys(entrypoint=None), GATE, (f"{AGENT}:", "needs a system_prompt")),
    "prompt is missing": (
        keys(system_prompt="promt.md"),
        GATE,
        (f"{AGENT}:", "there is no file promt.md", 'Did you mean "prompt.md"?'),
    ),
    "prompt leads out": (keys(system_prompt="../prompt.md"), GATE, (f"{AGENT}:", "out of the repository")),
    "schema is no json": (schema("{"), GATE, (f"{AGENT}:", "output_schema", "not JSON")),
    "schema is no schema": (schema('{"type": 5}'), GATE, (f"{AGENT}:", "is no JSON Schema")),
    "unknown provider": (
        keys(entrypoint=None, system_prompt="prompt.md", model={"provider": "opena", "name": "m-1"}),
        GATE,
        ('unknown model provider "opena"', 'Did you mean "openai"?'),
    ),
    "negative price": (
        keys(pricing={"input_per_mtok": -1, "output_per_mtok": 1}),
        ("cost-gate", "--agent", AGENT),
        (f"{AGENT}:", "input_per_mtok"),
    ),
    # Its metrics.
    "budgets but no metric": (
        keys(evals={"dataset": "golden.jsonl"}, budgets={"max_iterations": 3}),
        GATE,
        (f"{AGENT}:", "names no metric"),
    ),
    "no metric": (metrics(), GATE, (f"{AGENT}:", "names no metric", "gatehouse metrics")),
    "unknown metric": (
        metrics(exact_mach=0.9),
        GATE,
        (f'{AGENT}:11: unknown metric "exact_mach".', "exact_mach: 0.9", "~^", 'Did you mean "exact_match"?'),
    ),
    "no threshold": (metrics(exact_match={}), GATE, (f"{AGENT}:11:", "has no threshold", "exact_match: 0.9")),
    "threshold above 1": (metrics(exact_match=85), GATE, (f"{AGENT}:11:", "from 0 to 1, not 85")),
    "negative seconds": (metrics(latency_p50=-1), GATE, (f"{AGENT}:11:", "of 0 or more, not -1")),
    "unknown option": (
        metrics(exact_match={"threshold": 0.9, "strict": True}),
        GATE,
        (f"{AGENT}:13:", 'has no option "strict"', "Its options: threshold, floor, metric."),
    ),
    "pattern": (metrics(regex={"threshold": 1, "pattern": "("}), GATE, ("the pattern does not compile",)),
    "several at once": (
        metrics(exact_mach=1, regex=0.5, latency_p59=2),
        GATE,
        ('"exact_mach"', 'metric "regex": needs the option "pattern"', 'Did you mean "latency_p95"?'),
    ),
    # The golden set.
    "no golden set": (
        keys(evals={"metrics": {"exact_match": 1}}),
        GATE,
        (f"{AGENT}:", "names no golden set", "--dataset FILE"),
    ),
    "golden set is missing": (
        keys(evals={"dataset": "goldn.jsonl", "metrics": {"exact_match": 1}}),
        GATE,
        ("there is no file goldn.jsonl", 'Did you mean "golden.jsonl"?'),
    ),
    "golden set is a folder": (directory("golden.jsonl"), GATE, ("golden.jsonl is a folder, not a file.",)),
    "no json line": (golden(case(), "{oops"), GATE, ("golden.jsonl:2: not JSON",)),
    "no object": (golden("5"), GATE, ("golden.jsonl:1: the line is no JSON object", "one {...} a line")),
    "id twice": (golden(case(), case()), GATE, ('golden.jsonl:2: id "c0" is given twice, first on line 1',)),
    "nan": (golden(case(expected=float("nan"))), GATE, ("golden.jsonl:1: NaN is not a number in JSON",)),
    "case not utf-8": (
        golden(b'{"input": "\xff"}'),
        GATE,
        ("golden.jsonl:1: byte 12 of the line is not UTF-8",),
    ),
    "unknown field": (golden(case(expcted="a")), GATE, ("golden.jsonl:1:", 'Did you mean "expected"?')),
    "no input": (golden('{"id": "c0"}'), GATE, ("golden.jsonl:1:", "input")),
    # Options.
    "no such agent": (
        nothing,
        (*GATE, "--agent", "agents/eco.yaml"),
        ('--agent "agents/eco.yaml": no such file.',),
    ),
    "agent is misspelt": (
        nothing,
        ("eval-gate", "--agent", "agents/ehco.yaml"),
        ('--agent "agents/ehco.yaml": no such file.', 'Did you mean "agents/echo.yaml"?'),
    ),
    "agent is prose": (
        nothing,
        ("eval-gate", "--agent", "golden.jsonl"),
        ('--agent "golden.jsonl": not an agent file, which is YAML (.yaml, .yml).',),
    ),
    "a cost for the eval gate": (
        nothing,
        (*GATE, "--threshold", "cost_per_run=0.01"),
        ("--threshold: cost_per_run is judged by the cost gate: give it --max-per-run.",),
    ),
    "agent is a folder": (
        nothing,
        (*GATE, "--agent", "agents"),
        ('--agent "agents": a folder. Write a pattern: "agents/*.yaml".',),
    ),
    "agent's name is too long": (nothing, (*GATE, "--agent", "a" * 5000), ("no such file.",)),
    "pattern of no agent": (nothing, (*GATE, "--agent", "agents/*.json"), ("no such file.",)),
    "agent outside": (nothing, (*GATE, "--agent", "/etc/hostname"), ("/etc/hostname",)),
    "no agent anywhere": (
        lambda folder: (folder / AGENT).unlink(),
        GATE,
        ("nothing matches agents/*.yaml", "Name yours with --agent."),
    ),
    "two of one name": (twin, GATE, (f"agents/twin.yml and {AGENT} are both named echo",)),
    "two of one name, planned": (twin, ("plan",), ("are both named echo",)),
    "one folder for two": (
        second,
        (*GATE, "--out", "o"),
        ("--out is the folder of one agent, and there are 2",),
    ),
    "out is a file": (nothing, (*GATE, "--out", AGENT), ("--out", AGENT, "is a file")),
    "other golden set": (nothing, (*GATE, "--dataset", "no.jsonl"), ("there is no file no.jsonl",)),
    "golden set outside": (nothing, (*GATE, "--dataset", "/etc/hostname"), ("/etc/hostname",)),
    "threshold nan": (
        nothing,
        (*GATE, "--threshold", "exact_match=nan"),
        ("'exact_match=nan'", "name=number"),
    ),
    "threshold inf": (
        nothing,
        (*GATE, "--threshold", "latency_p50=inf"),
        ("'latency_p50=inf'", "name=number"),
    ),
    "threshold of nothing": (
        nothing,
        (*GATE, "--threshold", "exact_match="),
        ("'exact_match='", "name=number"),
    ),
    "threshold without a name": (nothing, (*GATE, "--threshold", "=0.5"), ("'=0.5'", "name=number")),
    "threshold without =": (nothing, (*GATE, "--threshold", "0.85"), ("'0.85'", "name=number")),
    "threshold twice": (
        nothing,
        (*GATE, "--threshold", "exact_match=1,exact_match=0"),
        ("'exact_match=0'", "once for each metric"),
    ),
    "several thresholds": (nothing, (*GATE, "--threshold", "a=b,c=0.5,d"), ("'a=b', 'd'",)),
    "threshold of nobody": (
        nothing,
        (*GATE, "--threshold", "exact_mtch=0.5"),
        ('--threshold: unknown metric "exact_mtch".', 'Did you mean "exact_match"?'),
    ),
    "threshold in percent": (nothing, (*GATE, "--threshold", "exact_match=85"), ("from 0 to 1, not 85",)),
    "no concurrency": (nothing, (*GATE, "--concurrency", "0"), ("--concurrency",)),
    "no repeats": (nothing, (*GATE, "--repeats", "0"), ("--repeats",)),
    "no time": (nothing, (*GATE, "--case-deadline", "0"), ("--case-deadline",)),
    "seconds nan": (
        nothing,
        (*GATE, "--run-deadline", "nan"),
        ("--run-deadline", "'nan' is not a number of seconds"),
    ),
    "no such python": (
        nothing,
        (*GATE, "--python", "/no/python"),
        ("--python /no/python: no such program.",),
    ),
    "dollars nan": (
        nothing,
        ("cost-gate", "--max-per-run", "nan"),
        ("--max-per-run", "'nan' is not an amount"),
    ),
    "dollars below 0": (
        nothing,
        ("cost-gate", "--max-per-run", "-1"),
        ("'-1' is not an amount of US dollars",),
    ),
    "no dollars": (nothing, ("cost-gate", "--max-per-run", ""), ("'' is not an amount of US dollars",)),
    "euros": (nothing, ("cost-gate", "--max-per-resolved", "5€"), ("--max-per-resolved", "'5€'")),
    "endless dollars": (nothing, ("cost-gate", "--max-per-run", "inf"), ("'inf' is not an amount",)),
    "delivered nowhere": (
        nothing,
        ("scorecard", "--to", "slack"),
        ("--to 'slack'", "summary, annotations, comment"),
    ),
    "unknown option of ours": (nothing, (*GATE, "--treshold", "a=1"), ("--treshold", "--threshold")),
    "unknown command": (nothing, ("evalgate",), ('No such command "evalgate".', 'Did you mean "eval-gate"?')),
    "value is missing": (nothing, (*GATE, "--threshold"), ("--threshold", "requires an argument")),
    "broken file, planned": (agent("agent: 5\n"), ("plan",), (f"{AGENT}:1:",)),
}


def project(folder: Path) -> Path:
    """A small repository whose gates pass."""
    return write_project(folder, cases(3))


def written(folder: Path) -> set[str]:
    """Every file under `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_refused(done: Done, words: tuple[str, ...], code: Exit = Exit.INVALID) -> None:
    """Exit 2, every one of the words, no traceback, and no message twice."""
    assert done.code == code, done
    assert "Traceback" not in done.err + done.out
    for word in words:
        assert word in done.err
    lines = [line for line in done.err.splitlines() if words[0] in line]
    assert len(lines) <= 1, done.err


@pytest.mark.parametrize("row", ROWS)
def test_bad_input(tmp_path: Path, row: str) -> None:
    """What, where and what to do, all at once; only the verdict file is left, and says the same."""
    breaks, args, words = ROWS[row]
    breaks(project(tmp_path))
    before = written(tmp_path)
    done = call(tmp_path, *args)
    assert_refused(done, words)
    left = written(tmp_path) - before
    assert {Path(name).name for name in left} <= {"eval.json", "cost.json"}
    for name in left:
        verdict = read(tmp_path / name)
        assert (verdict["state"], verdict["exit_code"]) == ("unscored", Exit.INVALID)
        assert words[0] in verdict["reason"]


@pytest.mark.parametrize(
    "args", [("eval-gate",), ("run",), ("score",), ("verdict",), ("cost-gate", "--agent", AGENT)]
)
@pytest.mark.parametrize("row", ["unknown key", "golden set is missing", "id twice"])
def test_every_stage_reads_the_same_files(tmp_path: Path, row: str, args: tuple[str, ...]) -> None:
    """A broken agent file or golden set is refused by every stage with the same words."""
    breaks, _, words = ROWS[row]
    breaks(project(tmp_path))
    assert_refused(call(tmp_path, *args), words)


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The whole message as a user sees it: place, line with a caret, repair, what was done."""
    metrics(exact_mach=0.9)(project(tmp_path))
    done = gatehouse(tmp_path, "eval-gate")
    assert done.code == Exit.INVALID
    assert done.out == ""
    assert done.err == (
        'agents/echo.yaml:11: unknown metric "exact_mach".\n'
        "          exact_mach: 0.9\n"
        "          ~~~~~~~~~^\n"
        'Did you mean "exact_match"? `gatehouse metrics` lists every name.\n'
        "Nothing was run.\n"
    )


def test_one_bad_agent_does_not_stop_the_others(tmp_path: Path) -> None:
    """Of two agents the good one is gated, the other's fault is left for the scorecard, and the exit is 2."""
    second(project(tmp_path))
    metrics(exact_mach=0.9)(tmp_path)
    done = call(tmp_path, "eval-gate")
    assert done.code == Exit.INVALID
    assert read(tmp_path / ".gatehouse/second/eval.json")["state"] == "pass"
    assert read(tmp_path / ".gatehouse/echo/eval.json")["state"] == "unscored"
    card = call(tmp_path, "scorecard").out
    assert card.startswith(
        '⚠️ 2 of 2 agents: echo was not measured: agents/echo.yaml:11: unknown metric "exact_mach"'
    )


def test_a_failed_agent_outweighs_a_bad_file(tmp_path: Path) -> None:
    """Where one agent fails and another's file is broken, the exit code says that one failed."""
    second(project(tmp_path))
    metrics(exact_mach=0.9)(tmp_path)
    write_golden(tmp_path, cases(3, expected="other"))
    assert call(tmp_path, "eval-gate").code == Exit.FAIL


@pytest.mark.parametrize("args", [("eval-gate",), ("run",), ("score", "--runs", "runs"), ("verdict",)])
@pytest.mark.parametrize("out", [(), ("--out", "file/out")])
def test_results_that_cannot_be_written(tmp_path: Path, args: tuple[str, ...], out: tuple[str, ...]) -> None:
    """Where the folder of results cannot be made, every stage says which one, and ends with exit 3."""
    project(tmp_path)
    call(tmp_path, "run", "--out", "runs")
    (tmp_path / "file").touch()
    (tmp_path / ".gatehouse").touch()
    done = call(tmp_path, *args, *out)
    assert_refused(done, ("The results cannot be written to",), Exit.UNSCORED)
    assert ("file/out" if out else ".gatehouse") in done.err


def test_an_empty_variable_is_no_option(tmp_path: Path) -> None:
    """An action hands on empty inputs as empty variables: they are as if not given."""
    env = {f"GATEHOUSE_EVAL_GATE_{name}": "" for name in ("THRESHOLD", "OUT", "RUNS", "AGENTS", "DATASET")}
    assert call(project(tmp_path), "eval-gate", env=env).code == Exit.PASS
    env = {"GATEHOUSE_EVAL_GATE_THRESHOLD": "exact_match=2"}
    assert call(tmp_path, "eval-gate", env=env).code == Exit.INVALID
