"""What the scorecard says of judges: who was asked, what each took, and what to do about them."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.errors import State
from gatehouse.report import judging
from gatehouse.report.scorecard import NEXT, Card, markdown, next_step, terminal
from tests.support.verdicts import calibration_json, cost_json, eval_json, failing_case, judge_json, metric

UNKNOWN = calibration_json("not calibrated")
UNPROVEN = calibration_json("not calibrated", enough=False)
BELOW = calibration_json("kappa 0.4 is below the minimum 0.6", calibrated=True, kappa=0.4, enough=False)
WITHIN = "0.85 lies within the interval: more cases would tell"
PERSON, TABLE = "A person decides.", "The table says what would settle it."


def verdict(state: str, *rows: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """An eval gate in that state with these metrics."""
    return eval_json(state=state, metrics=list(rows), **changed)


def step(*verdicts: dict[str, Any], **cost: Any) -> str:
    """What the reader is told to do."""
    return next_step([Card("a", found, cost_json(**cost)) for found in verdicts])


def test_who_fails_by_a_judge_is_told_to_doubt_it() -> None:
    """A failed judged metric names the judge beside the agent, once however many metrics it fails."""
    rows = [metric(name, state="fail", calibration=UNKNOWN) for name in ("faithfulness", "toxicity")]
    assert step(verdict("fail", *rows)) == f"{NEXT[State.FAIL]} {judging.BLAME}"
    unproven = metric(state="fail", calibration=UNPROVEN)
    assert step(verdict("fail", unproven)) == f"{NEXT[State.FAIL]} {judging.BLAME}"


def test_who_fails_by_figures_is_told_nothing_of_judges() -> None:
    """A judge that passes what another metric fails, or that is not asked at all, is not to blame."""
    good = metric("faithfulness", calibration=UNKNOWN)
    assert step(verdict("fail", metric(state="fail"), good)) == NEXT[State.FAIL]
    assert "judge" not in step(verdict("pass", good), state="fail")
    assert "judge" not in step(verdict("pass", good))


@pytest.mark.parametrize(("name", "told"), [("faithfulness", True), ("exact_match", False)])
def test_a_critical_case_that_a_judge_fails(name: str, told: bool) -> None:
    """Where only the critical cases fail, the metrics that fail those say whether a judge stands behind."""
    rows = [metric(), metric("faithfulness", calibration=UNKNOWN), metric("critical_cases", state="fail")]
    cases = [
        failing_case(critical=True, reasons={name: ""}),
        failing_case("b", reasons={"faithfulness": ""}),
    ]
    assert (judging.BLAME in step(verdict("fail", *rows, failing_cases=cases))) is told


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([metric(state="inconclusive", reason=WITHIN)], [PERSON, TABLE]),
        ([metric(state="inconclusive", calibration=UNKNOWN)], [PERSON, TABLE, judging.BLAME]),
        ([metric(state="inconclusive", calibration=UNPROVEN)], [PERSON, judging.UNKNOWN]),
        ([metric(), metric("b", state="inconclusive", calibration=BELOW)], [PERSON, judging.TOO_LOW]),
        (
            [metric(state="inconclusive"), metric("b", state="inconclusive", calibration=UNPROVEN)],
            [PERSON, TABLE, judging.UNKNOWN],
        ),
    ],
)
def test_what_settles_an_inconclusive_verdict(rows: list[dict[str, Any]], words: list[str]) -> None:
    """The table is named where it says what would settle it, and labels where only a judge is doubted."""
    found = verdict("inconclusive", *rows)
    assert step(found) == " ".join(words)
    assert step(verdict("pass", metric()), found) == " ".join(words)
    assert " ".join(words) in markdown([Card("a", found, cost_json())])


def test_one_bullet_for_metrics_of_which_the_same_is_said() -> None:
    """Metrics share a bullet where every word of it is the same, in the order of the table."""
    other = calibration_json("calibrated", calibrated=True, corrected=0.9, corrected_interval=[0.8, 1.0])
    rows = [metric(f"m{i}", calibration=other if i == 1 else UNKNOWN) for i in range(30)]
    found = verdict("pass", *rows, judge=judge_json())
    names = ", ".join(f"m{i}" for i in range(30) if i != 1)
    for text in (markdown([Card("a", found, None)]), terminal([Card("a", found, None)])):
        assert text.count("not calibrated") == 1
        assert f"- {names}: not calibrated\n" in text
        assert "- m1: calibrated; the judge passes 92% of the cases, 90% [80%, 100%] corrected" in text


def test_each_of_several_models_has_its_own_figures() -> None:
    """A judge and embeddings are told apart, each with calls, tokens and dollars; one alone is one line."""
    one, spent = judge_json(), judge_json()["by_model"][0]
    more = {"provider": "openai", "model": "tiny", "calls": 1, "output_tokens": 0, "usd": None}
    both = one | {"embeddings": "openai:tiny", "usd": None, "by_model": [spent, spent | more]}
    text = terminal([Card("a", eval_json(judge=both), cost_json())])
    assert "  Judge ollama:llama3.1:70b, openai:tiny: 96 calls, 24 answered" in text
    assert "  - ollama llama3.1:70b: 96 calls, 45,678 tokens in, 901 out, $0.031\n" in text
    assert "  - openai tiny: 1 call, 45,678 tokens in, 0 out, unpriced\n" in text
    assert "</code>: 1 call, 45,678 tokens in, 0 out, unpriced\n" in markdown(
        [Card("a", eval_json(judge=both), None)]
    )
    assert judging.took_each(eval_json(judge=one)) == []


def test_embeddings_alone_are_no_judge() -> None:
    """Where only embeddings were asked, no judge is named."""
    alone = judge_json(models=0, embeddings="openai:tiny")
    assert "\nEmbeddings <code>openai&#58;tiny</code>: 0 calls" in markdown(
        [Card("a", eval_json(judge=alone), None)]
    )
