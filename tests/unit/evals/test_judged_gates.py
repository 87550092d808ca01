"""Metrics that ask a judge join an agent's gates under whatever name its file and command line give them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.commands._judge import agent_with_judge, bench_for, missing_extras
from gatehouse.commands._shared import eval_gates
from gatehouse.errors import UserError
from gatehouse.evals.metrics import REFUSED, Gate, gates_of, registry
from gatehouse.evals.verdict import CRITICAL
from tests.support.projects import agent_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.agent.definition import Agent

RUBRIC = """\
rubric:
  criteria: Does the answer help?
  anchors: {1: It does not., 5: It does.}
"""


def judged_agent(folder: Path, metrics: dict[str, Any], **evals: Any) -> Agent:
    """An agent held to `metrics`, with a rubric `helpfulness` beside it."""
    path = folder / "evals/rubrics/helpfulness.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RUBRIC)
    return agent_of(folder, evals={"dataset": "golden.jsonl", "metrics": metrics} | evals)


def test_another_spelling_is_the_same_metric(tmp_path: Path) -> None:
    """`answer_relevance` is `answer_relevancy`, in the file and on the command line alike."""
    agent = judged_agent(tmp_path, {"answer_relevance": 0.7})
    assert {g.metric.name: g.threshold for g in gates_of(agent)} == {"answer_relevancy": 0.7}
    gates = gates_of(agent, {"answer_relevance": 0.8, "ragas.faithfulness": 0.9})
    assert {g.metric.name: g.threshold for g in gates} == {"answer_relevancy": 0.8, "faithfulness": 0.9}


def test_a_metric_under_two_spellings_is_refused(tmp_path: Path) -> None:
    """One metric given twice under different names has two thresholds, and neither is taken."""
    both = judged_agent(tmp_path, {"answer_relevance": 0.7, "answer_relevancy": 0.9})
    with pytest.raises(UserError, match='"answer_relevancy" and "answer_relevance" are one metric'):
        gates_of(both)
    with pytest.raises(UserError, match=r"--threshold: .*relevance. are one metric"):
        gates_of(judged_agent(tmp_path, {}), {"answer_relevance": 0.7, "answer_relevancy": 0.9})


def test_a_metric_goes_by_the_users_own_name(tmp_path: Path) -> None:
    """`metric:` says what a metric of the user's own name is; thresholds and results know it by that name."""
    own = {"metric": "contains", "text": "refund", "threshold": 0.9}
    gates = gates_of(judged_agent(tmp_path, {"says_refund": own}), {"says_refund": 0.5})
    assert [(g.metric.name, g.threshold, dict(g.options)) for g in gates] == [
        ("says_refund", 0.5, {"text": "refund"})
    ]


def test_a_rubric_is_a_metric_on_its_own_scale(tmp_path: Path) -> None:
    """A rubric's file name is a metric, whose threshold lies on the rubric's scale and not from 0 to 1."""
    agent = judged_agent(tmp_path, {"helpfulness": 4})
    (gate,) = gates_of(agent)
    assert (gate.metric.low, gate.metric.high, gate.metric.worst) == (1, 5, 1)
    assert gate.holds(4)
    assert not gate.holds(3.9)
    with pytest.raises(UserError, match='"helpfulness" takes a threshold from 1 to 5, not 11'):
        gates_of(agent, {"helpfulness": 11})


def test_a_rubric_must_not_hide_a_metric(tmp_path: Path) -> None:
    """A rubric named like a metric is an error: nobody could tell which of them was meant."""
    agent = judged_agent(tmp_path, {"toxicity": 0.1})
    (tmp_path / "evals/rubrics/toxicity.yaml").write_text(RUBRIC)
    with pytest.raises(UserError, match='"toxicity" is a metric and a rubric too'):
        gates_of(agent)


@pytest.mark.parametrize("name", ["task_completion", "deepeval.task_completion", "ragas.topic_adherence"])
def test_a_metric_that_cannot_be_fed_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """What needs traces or several turns is refused with the reason, not called unknown."""
    with pytest.raises(UserError, match=f'"{name}" cannot be used: '):
        gates_of(judged_agent(tmp_path, {name: 0.5}))
    assert name in REFUSED


def test_a_missing_judge_is_said_once_for_all_metrics(tmp_path: Path) -> None:
    """Metrics that ask a judge where none is named are one error, which says how to name one."""
    agent = judged_agent(tmp_path, {"faithfulness": 0.8, "helpfulness": 4, "exact_match": 0.5})
    with pytest.raises(UserError) as caught:
        eval_gates(agent, None)
    (problem,) = caught.value.problems
    assert problem.message == 'metrics "faithfulness", "helpfulness" need a judge.'
    assert "--judge PROVIDER:MODEL" in problem.repair


def test_missing_embeddings_are_said_before_anything_is_asked(tmp_path: Path) -> None:
    """Where the judge's provider has no usual embeddings model, the metrics that need one name the option."""
    agent = judged_agent(tmp_path, {"answer_relevancy": 0.8}, judge="anthropic:claude-sonnet-4-5-20250929")
    with pytest.raises(UserError, match="embeddings: PROVIDER:MODEL"):
        eval_gates(agent, None)
    (gate,) = eval_gates(agent_with_judge(agent, ("ollama:llama3.1:70b",), None), None)
    assert gate.embeddings == "ollama:nomic-embed-text"
    (gate,) = eval_gates(agent_with_judge(agent, (), "openai:text-embedding-3-large"), None)
    assert gate.embeddings == "openai:text-embedding-3-large"


@pytest.mark.parametrize("name", ["gpt-4o", "opnai:gpt-4o", "openai:", ":x", "openai:a b"])
def test_a_misnamed_judge_is_refused(tmp_path: Path, name: str) -> None:
    """A judge that is no PROVIDER:MODEL of a known provider is an error before anything is run."""
    agent = judged_agent(tmp_path, {"helpfulness": 4})
    with pytest.raises(UserError):
        eval_gates(agent_with_judge(agent, (name,), None), None)


@pytest.mark.parametrize(
    ("judge", "line"),
    [
        ("llama3.1:70b", 12),
        (["ollama:a:1", "llama3.1:70b"], 14),
        ({"model": "llama3.1:70b", "votes": 1}, 13),
        ({"model": ["llama3.1:70b"]}, 14),
    ],
    ids=["one", "panel", "settings", "panel with settings"],
)
def test_a_misnamed_judge_is_shown_where_it_stands(tmp_path: Path, judge: Any, line: int) -> None:
    """At its line of the agent file, and a judge on the command line by the option."""
    agent = judged_agent(tmp_path, {"helpfulness": 4}, judge=judge)
    with pytest.raises(UserError) as caught:
        eval_gates(agent, None)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("agents/echo.yaml", line)
    assert "llama3.1:70b" in problem.source
    assert 'Did you mean "ollama:llama3.1:70b"?' in problem.repair
    with pytest.raises(UserError, match='--judge: unknown model provider "gwen3"'):
        eval_gates(agent_with_judge(agent, ("gwen3:8b",), None), None)


def test_a_misnamed_embeddings_model_is_shown_where_it_stands(tmp_path: Path) -> None:
    """As a judge is; together with what is wrong with that."""
    agent = judged_agent(tmp_path, {"answer_relevancy": 0.8}, judge="gpt-4o", embeddings="bge:latest")
    with pytest.raises(UserError) as caught:
        eval_gates(agent, None)
    judge, embeddings = caught.value.problems
    assert (judge.line, embeddings.line) == (12, 13)
    assert 'A model of embeddings is PROVIDER:MODEL. Did you mean "ollama:bge:latest"?' in embeddings.repair
    with pytest.raises(UserError, match="--embeddings: 'e5' names no model"):
        eval_gates(agent_with_judge(agent, ("ollama:a:1",), "e5"), None)


def test_an_unpinned_judge_is_warned_about_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is asked, at its line; it joins the warnings that the verdict hands on."""
    agent = judged_agent(tmp_path, {"helpfulness": 4}, judge="openai:gpt-4o")
    for _ in range(2):
        eval_gates(agent, None)
    (warning,) = agent.warnings
    assert (warning.path, warning.line) == ("agents/echo.yaml", 12)
    assert warning.message.startswith('judge "openai:gpt-4o" names no fixed model')
    assert capsys.readouterr().out.count("names no fixed model") == 1
    native = judged_agent(tmp_path, {"exact_match": 1}, judge="openai:gpt-4o")
    eval_gates(native, None)
    assert native.warnings == []


@pytest.mark.parametrize(("policy", "judge"), [("allow", "openai:gpt-4o"), ("error", "ollama:llama3.1:70b")])
def test_a_judge_may_be_unpinned_or_is_not(tmp_path: Path, policy: str, judge: str) -> None:
    """The policy for the agent's model is the judge's: nothing is said, or nothing is run."""
    agent = judged_agent(tmp_path, {"helpfulness": 4}, judge=judge, unpinned_model=policy)
    assert eval_gates(agent, None)
    assert agent.warnings == []
    if policy == "error":
        with pytest.raises(UserError, match=r'--judge: judge "ollama:llama3\.1" names no fixed'):
            eval_gates(agent_with_judge(agent, ("ollama:llama3.1",), None), None)


def test_scores_depend_on_who_judged_by_what(tmp_path: Path) -> None:
    """Another judge, panel, embeddings model or rubric makes other scores; another threshold does not."""
    agent = judged_agent(tmp_path, {"helpfulness": 4}, judge="ollama:a:1")

    def method(changed: Agent) -> str:
        return eval_gates(changed, None)[0].method

    first = method(agent)
    assert method(judged_agent(tmp_path, {"helpfulness": 3}, judge="ollama:a:1")) == first
    assert method(agent_with_judge(agent, ("ollama:b:1",), None)) != first
    setting = JudgeSetting(("ollama:a:1",), panel="mean")
    assert method(replace(agent, evals=replace(agent.evals, judge=setting))) != first
    (tmp_path / "evals/rubrics/helpfulness.yaml").write_text(RUBRIC.replace("help?", "help at all?"))
    assert method(agent) != first


def test_a_native_score_does_not_depend_on_the_judge(tmp_path: Path) -> None:
    """Naming another judge leaves the scores of metrics that ask none as they are."""
    agent = judged_agent(tmp_path, {"exact_match": 1})
    assert gates_of(agent)[0].method == gates_of(agent_with_judge(agent, ("ollama:b:1",), None))[0].method


def test_every_judged_metric_says_what_it_takes() -> None:
    """Who is asked, how often, and by which extra: the lists and the installation depend on it."""
    judged = [metric for metric in registry().values() if metric.judged]
    assert {metric.extra for metric in judged} == {"ragas", "deepeval"}
    for metric in judged:
        assert metric.scorer is None
        assert metric.calls, metric.name
        assert set(metric.models) <= {"judge", "embeddings"}
        assert metric.low < metric.high


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The libraries behind the metrics are looked for without importing them, and the missing are told."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ragas" else object())
    gates = gates_of(judged_agent(tmp_path, {"faithfulness": 0.8, "toxicity": 0.1}))
    assert missing_extras(gates) == {"ragas": "ragas"}


def test_what_geval_looks_at_is_what_a_case_must_hold(tmp_path: Path) -> None:
    """A case without a reference is none for a geval that compares with one, and one for any other."""
    geval = {"metric": "geval", "steps": ["Is it so?"], "threshold": 0.5}
    agent = judged_agent(tmp_path, {"a": geval, "b": geval | {"params": ["output", "expected"]}})
    assert [gate.metric.requires for gate in gates_of(agent)] == [(), ("expected",)]


def test_a_rubric_that_is_not_there_is_asked_for_by_its_path(tmp_path: Path) -> None:
    """A name that is no metric's, nor nearly one, is taken for a rubric's, whose file is named."""
    with pytest.raises(UserError, match=r"would be evals/rubrics/completeness\.yaml, which is not there"):
        gates_of(judged_agent(tmp_path, {"completeness": 4}))
    with pytest.raises(UserError, match='"multi_modal_faithfulness" cannot be used'):
        gates_of(judged_agent(tmp_path, {"multimodal_faithfulness": 0.5}))


def test_an_option_that_the_command_line_cannot_give(tmp_path: Path) -> None:
    """A metric of the command line alone that needs an option says where options are given."""
    with pytest.raises(
        UserError, match=r"^--threshold: metric .geval.: needs .* under evals\.metrics\.geval"
    ):
        gates_of(judged_agent(tmp_path, {}), {"geval": 0.8})


def test_a_missing_library_is_said_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where a metric's library is missing, nothing is asked, and the message holds what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ragas" else object())
    agent = judged_agent(tmp_path, {"faithfulness": 0.8}, judge="ollama:llama3.1:70b")
    with pytest.raises(
        UserError, match=r"(?s)needs ragas, which is not installed\..*gatehouse-ci\[ragas\] @ git"
    ) as raised:
        bench_for(agent, eval_gates(agent, None), None)
    assert "faithfulness: 0.8" in raised.value.problems[0].source


def test_no_two_metrics_are_scored_alike(tmp_path: Path) -> None:
    """Scores of one metric never pass for those of another, also under the same name of the user's."""
    metrics = registry().values()
    methods = {Gate(metric, None, None).method for metric in metrics}
    assert len(methods) == len(metrics)
    gates = [gates_of(judged_agent(tmp_path, {"safe": {"metric": of}}))[0] for of in ("toxicity", "bias")]
    assert gates[0].method != gates[1].method


@pytest.mark.parametrize(
    "name", ["faithfulness", "answer_relevance", "helpfulness", "critical_cases", "bleu_score"]
)
def test_no_metric_wears_the_name_of_another(tmp_path: Path, name: str) -> None:
    """A name that is a metric's, a rubric's or the verdict's own is no name for anything else."""
    impostor = {"metric": "regex", "pattern": ".", "threshold": 0.1}
    with pytest.raises(UserError, match="is the name of another metric"):
        gates_of(judged_agent(tmp_path, {name: impostor}), {name: 0.85} if name != "critical_cases" else None)
    assert name != "critical_cases" or name == CRITICAL


def test_geval_is_shown_the_answer(tmp_path: Path) -> None:
    """G-Eval that would not see the answer is refused."""
    geval = {"metric": "geval", "steps": ["Is it so?"], "threshold": 0.5, "params": ["input"]}
    with pytest.raises(UserError, match='"params" lacks output'):
        gates_of(judged_agent(tmp_path, {"a": geval}))


def test_a_broken_calibration_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    """A calibration file that cannot be read, or a name that no file can have, is an error of its own."""
    agent = judged_agent(tmp_path, {"helpfulness": 4}, judge="ollama:llama3.1:70b")
    file = tmp_path / "evals/calibration/helpfulness.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with pytest.raises(UserError, match=r"evals/calibration/helpfulness\.json"):
        eval_gates(agent, None)
    named = {"a/b": {"metric": "helpfulness", "threshold": 4}}
    with pytest.raises(UserError, match="not usable for a file"):
        eval_gates(judged_agent(tmp_path, named, judge="ollama:llama3.1:70b"), None)
