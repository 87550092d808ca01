"""Metrics of rubrics: found by their files, asked of a real judge's endpoint, graded by its reply."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting, load_agent
from gatehouse.errors import UserError
from gatehouse.evals.judges.base import JudgeError, Sample, UndecidedError
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.model import resolve_models
from gatehouse.evals.metrics import gates_of
from gatehouse.evals.metrics.base import Metric, Score
from gatehouse.evals.metrics.by_rubric import rubric_metric, rubric_names
from tests.contracts.suite import ROOT
from tests.support.rubrics import SEVERAL
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from pathlib import Path

AGENT = """\
agent:
  name: support
  version: 1
  model: {provider: openai, name: gpt-4o-2024-08-06}
  entrypoint: support.answer:reply
  evals:
    judge: {model: "ollama:llama3.1:70b", votes: 3, panel: majority}
    metrics:
      helpfulness: 4
      support.tone: {threshold: 1, floor: interval}
      support.completeness: 3.5
"""
PASSED = {"tone": {"reason": "", "grade": 1}, "completeness": {"reason": "", "grade": 1}}
SAMPLE = Sample(input="How?", output="So.", contexts=["a passage"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a rubric of one dimension and one of two."""
    folder = tmp_path / "evals" / "rubrics"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "templates" / "rubric.yaml", folder / "helpfulness.yaml")
    (folder / "support.yaml").write_text(SEVERAL)
    return tmp_path


def metric(root: Path, name: str) -> Metric:
    """The metric of that name."""
    found = rubric_metric(name, root)
    assert found is not None
    return found


def asked(stub: StubModel, root: Path, names: list[str], sample: Sample = SAMPLE) -> list[Any]:
    """What each metric makes of one sample, or its error, one vote of one judge asked by all at once."""
    setting = JudgeSetting(("ollama:llama3.1:70b",))
    environ = {"GATEHOUSE_JUDGE_BASE_URL": stub.url}
    agent = load_agent("agent.yaml", root) if (root / "agent.yaml").exists() else None

    async def ask() -> list[Any]:
        models = resolve_models(setting, None, needs={"judge"}, environ=environ)
        bench = Bench(models, setting, price=lambda _: None, cache=None)
        await bench.open()
        try:
            scorers = []
            for name in names:
                judged = metric(root, name).judged
                assert judged is not None
                scorers.append(judged({}, agent))  # type: ignore[arg-type]  # no rubric looks at it
            judge = bench.judge(0, 0)
            return await asyncio.gather(*(score(sample, judge) for score in scorers), return_exceptions=True)
        finally:
            await bench.close()

    return asyncio.run(ask())


def replies(*values: Any) -> Any:
    """A stub that answers with each of these JSON values in turn, and goes on with the last."""
    return lambda number: Reply(completion(json.dumps(values[min(number, len(values) - 1)])))


def test_a_rubric_is_a_metric(root: Path) -> None:
    """Name, kind, scale, needs and version of a metric come from the rubric file."""
    one = metric(root, "helpfulness")
    assert (one.name, one.kind, one.direction, one.low, one.high, one.step) == (
        "helpfulness",
        "quality",
        "higher",
        1,
        5,
        1,
    )
    assert (one.requires, one.models, one.calls, one.extra, one.scorer) == ((), ("judge",), "1", "", None)
    assert one.needs == "a judge"
    assert one.summary.startswith("Does the answer get the customer further?")
    assert str(one.version).startswith("sha256:")


def test_several_dimensions_are_several_metrics(root: Path) -> None:
    """Each dimension has its own name and scale; what the file shows is required by all, with one version."""
    tone, complete = metric(root, "support.tone"), metric(root, "support.completeness")
    assert (tone.name, tone.low, tone.high) == ("support.tone", 0, 1)
    assert (complete.name, complete.low, complete.high) == ("support.completeness", 1, 5)
    assert (tone.requires, tone.needs) == (("contexts",), "a judge, contexts")
    assert tone.version == complete.version
    file = root / "evals/rubrics/support.yaml"
    file.write_text(SEVERAL.replace("scale: [0, 1]", "scale: [0, 1]\n      kind: safety"))
    assert [metric(root, f"support.{name}").kind for name in ("tone", "completeness")] == [
        "safety",
        "quality",
    ]


def test_the_version_is_of_what_matters(root: Path) -> None:
    """A comment and another layout leave a rubric what it is; another word does not."""
    file = root / "evals/rubrics/support.yaml"
    before = metric(root, "support.tone").version
    file.write_text(
        "# a comment\n" + SEVERAL.replace("[input, contexts, answer]", "[answer, contexts, input]")
    )
    assert metric(root, "support.tone").version == before
    file.write_text(SEVERAL.replace("everything", "all"))
    assert metric(root, "support.tone").version != before


def test_an_agent_file_names_them(root: Path) -> None:
    """An agent is held to each dimension by a threshold of its own."""
    (root / "agent.yaml").write_text(AGENT)
    gates = gates_of(load_agent("agent.yaml", root))
    assert [(gate.metric.name, gate.threshold, gate.floor) for gate in gates] == [
        ("helpfulness", 4, "value"),
        ("support.tone", 1, "interval"),
        ("support.completeness", 3.5, "value"),
    ]


def test_one_call_grades_every_dimension(root: Path) -> None:
    """Both dimensions of a file ask the same question, which is sent once; each takes its own grade."""
    reply = {"tone": {"reason": "rude", "grade": 0}, "completeness": {"reason": " whole ", "grade": 4.0}}
    with stub_model(replies(reply)) as stub:
        found = asked(stub, root, ["support.tone", "support.completeness"])
    assert found == [Score(0, "rude"), Score(4, "whole")]
    assert len(stub.requests) == 1


def test_the_judge_sees_what_the_rubric_shows(root: Path) -> None:
    """What a rubric shows is in the request, nothing else of the case, and the form of the reply."""
    with stub_model(replies({"reason": "so", "grade": 5})) as stub:
        assert asked(stub, root, ["helpfulness"]) == [Score(5, "so")]
    ((_, _, request),) = stub.requests
    schema = request["response_format"]["json_schema"]["schema"]
    user = request["messages"][-1]["content"]
    assert '{"input": "How?", "answer": "So."}' in user
    assert "a passage" not in json.dumps(request)
    assert request["temperature"] == 0
    assert schema["properties"]["grade"]["enum"] == [1, 2, 3, 4, 5, None]
    with stub_model(replies(PASSED)) as stub:
        asked(stub, root, ["support.tone"])
    assert '"contexts": ["a passage"]' in stub.requests[0][2]["messages"][-1]["content"]


def test_undecided_is_an_answer(root: Path) -> None:
    """A judge that cannot tell is undecided, with its reason, in the dimension that it says so of."""
    reply = {"tone": {"reason": "fine", "grade": 1}, "completeness": {"reason": "no passage", "grade": None}}
    with stub_model(replies(reply)) as stub:
        tone, complete = asked(stub, root, ["support.tone", "support.completeness"])
    assert tone == Score(1, "fine")
    assert isinstance(complete, UndecidedError)
    assert str(complete) == "no passage"


def test_a_grade_off_the_scale_is_no_grade(root: Path) -> None:
    """Eleven on a scale to five is asked again once; said twice, there is no value."""
    with stub_model(replies({"reason": "wow", "grade": 11}, {"reason": "good", "grade": 5})) as stub:
        assert asked(stub, root, ["helpfulness"]) == [Score(5, "good")]
    with stub_model(replies({"reason": "wow", "grade": 11})) as stub:
        (error,) = asked(stub, root, ["helpfulness"])
    assert isinstance(error, JudgeError)
    assert error.kind == "malformed"
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    "name",
    [
        "other",
        "helpfulnes",
        "Helpfulness",
        "",
        ".",
        "..",
        "../rubrics/helpfulness",
        "helpfulness/",
        "x" * 5000,
        "a\0b",
    ],
)
def test_what_is_no_rubric_is_none(root: Path, name: str) -> None:
    """A name without a file, in that spelling and in that folder, is no rubric's."""
    assert rubric_metric(name, root) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "support",
            "this rubric has several dimensions.\nIts metrics are support.tone, support.completeness.",
        ),
        ("support.tome", 'this rubric has no dimension "tome".\nDid you mean "support.tone"?'),
        ("support.tone.more", 'this rubric has no dimension "tone.more".\nDid you mean "support.tone"?'),
        ("helpfulness.tone", "this rubric has no dimensions.\nIts metric is helpfulness."),
    ],
)
def test_which_dimension_is_meant(root: Path, name: str, said: str) -> None:
    """A rubric without the dimension that is named says which ones it has."""
    with pytest.raises(UserError) as caught:
        rubric_metric(name, root)
    stem = name.partition(".")[0]
    assert str(caught.value) == f"evals/rubrics/{stem}.yaml: {said}\nNothing was run."


def test_a_broken_rubric_says_so(root: Path) -> None:
    """The faults of a rubric's file come with their places as soon as a metric is named after it."""
    (root / "evals/rubrics/broken.yaml").write_text("rubric: {criteria: x, anchor: {}}")
    with pytest.raises(UserError, match='Did you mean "anchors"'):
        rubric_metric("broken", root)
    assert rubric_names(root) == ["broken", "helpfulness", "support.tone", "support.completeness"]


def test_rubrics_outside_of_the_repository_are_none(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder that links out of the repository has no rubrics, and a file that does is refused."""
    other = tmp_path_factory.mktemp("other")
    (other / "evals").mkdir()
    (other / "evals" / "rubrics").symlink_to(root / "evals" / "rubrics")
    assert rubric_names(other) == []
    assert rubric_metric("helpfulness", other) is None
    assert rubric_names(tmp_path_factory.mktemp("empty")) == []
    (other / "own").mkdir()
    link = root / "evals/rubrics/linked.yaml"
    (other / "secret.yaml").write_text("password: x")
    link.symlink_to(other / "secret.yaml")
    with pytest.raises(UserError, match="leads out of the repository") as caught:
        rubric_metric("linked", root)
    assert "password" not in str(caught.value)
