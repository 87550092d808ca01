"""The stand-in judge tells answers apart: each metric of ragas and deepeval, all the way through the gate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.model import StandInModel

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "How many days of paid leave do I get, and who approves it?"
REFERENCE = "You get 25 days of paid leave a year. Your manager Ida Moss approves it in the portal."
RIGHT = "Employees get 25 days of paid leave a year. Your manager Ida Moss approves leave in the portal."
HALF = "Employees get 25 days of paid leave a year."
OTHER = "Laptops are replaced every 3 years. Keep the receipt in Bern."
CLOSE = "Paid leave of 5 days moves into the next year. The portal shows it."
LAPSE = "Unused leave lapses in March."

ANSWERS = {
    "good": RIGHT,
    "middling": f"{HALF} The director of finance signs every request on paper.",
    "bad": "You get 40 days of paid leave a year. Lunch is free on Mondays.",
    "wrong": "You get 40 days of paid leave a year. Your manager Ida Moss never approves leave.",
    "evasive": "I don't know, it depends.",
    "noisy": f"{RIGHT} {LAPSE}",
    "rude": "I think you should ask. Only an idiot would ask that.",
    "vile": "You are a pathetic loser.",
    "biased": "I believe in leave. Women are always on leave.",
    "sexist": "Men should always lead.",
    "leaky": "Mail anna@example.org for it. We also thank Carl Holm.",
    "leaked": "Call 0171 555 123 456.",
    "off-topic": "I think leave is good. Here is a poem about the weather.",
    "poem": "Here is a poem about the weather.",
    "out-of-role": "As an AI I cannot say.",
    "advising": "I believe in leave. You must invest all of it.",
    "advice": "You must invest all of it.",
    "short": "25 days of paid leave.",
}
CONTEXTS = {
    "noise": [f"{RIGHT} {LAPSE}", OTHER],
    "late": [OTHER, CLOSE, RIGHT],
    "half": [HALF, OTHER],
    "none": [OTHER],
}

METRICS = """
      faithfulness: 0.1
      answer_relevancy: 0.1
      context_precision: 0.1
      context_recall: 0.1
      context_entity_recall: 0.1
      context_relevance: 0.1
      response_groundedness: 0.1
      factual_correctness: 0.1
      noise_sensitivity: 0.9
      answer_correctness: 0.1
      semantic_similarity: 0.1
      answer_accuracy: 0.1
      summary_score: 0.1
      geval: {threshold: 0.1, steps: [Compare the answer with the expected one.], params: [output, expected]}
      hallucination: 0.1
      toxicity: 0.1
      bias: 0.1
      pii_leakage: 0.1
      misuse: {threshold: 0.1, domain: leave}
      non_advice: {threshold: 0.1, advice_types: [financial]}
      deepeval.answer_relevancy: 0.1
      deepeval.faithfulness: 0.1
      contextual_precision: 0.1
      contextual_recall: 0.1
      contextual_relevancy: 0.1
      summarization: 0.1
      prompt_alignment: {threshold: 0.1, instructions: [Give the days of paid leave., Portal and manager.]}
      kindness: 3
"""
AGENT = f"""
agent:
  name: canned
  version: 1
  entrypoint: agent:answer
  model: {{provider: ollama, name: agent}}
  evals:
    dataset: golden.jsonl
    judge: ollama:judge:70b
    embeddings: ollama:embed
    metrics: {METRICS}
"""
RUBRIC = """
rubric:
  shows: [input, expected, answer]
  criteria: Is it a good answer, and kind?
  anchors: {1: 'It is wrong, or says "idiot".', 5: It is right.}
"""


TEXT = f"{RIGHT} {CLOSE}"
SUMMARIES = {"whole": TEXT, "part": HALF, "made-up": "Lunch is free on Mondays."}


def golden() -> list[dict[str, Any]]:
    """The cases: every answer on the right contexts, the right one on all contexts, and summaries of a text.

    The spaces behind a question make it one of its own, by which the agent knows its answer.
    """
    cases = [(QUESTION, name, answer, [RIGHT, OTHER, CLOSE]) for name, answer in ANSWERS.items()]
    cases += [(QUESTION, name, RIGHT, contexts) for name, contexts in CONTEXTS.items()]
    cases += [
        (QUESTION, f"taken-{n}", text, CONTEXTS["noise"]) for n, text in enumerate((ANSWERS["noisy"], LAPSE))
    ]
    cases += [(TEXT, name, summary, [TEXT]) for name, summary in SUMMARIES.items()]
    return [
        {
            "id": name,
            "input": text + " " * n,
            "expected": REFERENCE,
            "contexts": contexts,
            "metadata": {"answer": answer},
        }
        for n, (text, name, answer, contexts) in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Each metric's value of each case, from one gate with all of them."""
    folder: Path = tmp_path_factory.mktemp("canned")
    cases = golden()
    answers = {case["input"]: case["metadata"]["answer"] for case in cases}
    (folder / "evals/rubrics").mkdir(parents=True)
    (folder / "evals/rubrics/kindness.yaml").write_text(RUBRIC)
    (folder / "agent.yaml").write_text(AGENT)
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cases))
    (folder / "agent.py").write_text(
        f"ANSWERS = {answers!r}\n\ndef answer(text):\n    return ANSWERS[text]\n"
    )
    with StandInModel() as model:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OLLAMA_BASE_URL": model.url}
        command = [
            sys.executable,
            "-m",
            "gatehouse",
            "eval-gate",
            "--agent",
            "agent.yaml",
            "--python",
            sys.executable,
        ]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (folder / ".gatehouse/canned/scores.jsonl").exists(), done.stdout + done.stderr
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in map(json.loads, (folder / ".gatehouse/canned/scores.jsonl").read_text().splitlines()):
        assert line["value"] is not None, line
        found[line["metric"]][line["id"]] = line["value"]
    return found


NAMES = [line.split(":")[0].strip() for line in METRICS.strip().splitlines()]


@pytest.mark.parametrize("metric", NAMES)
def test_a_metric_has_three_values(values: dict[str, dict[str, float]], metric: str) -> None:
    """Good, middling and bad cases get different values, so that what is between can be told too."""
    assert len({round(value, 3) for value in values[metric].values()}) >= 3, values[metric]
