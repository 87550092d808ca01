"""Likeness in meaning, by a real embedding model behind a real endpoint."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.evals.judges.base import Sample
from gatehouse.evals.judges.bench import Bench
from gatehouse.evals.judges.model import resolve_models
from gatehouse.evals.metrics.by_ragas import METRICS
from tests.support.minilm import embed, minilm

EXPECTED = "You can return a chair within 30 days."
PARAPHRASE = "Chairs may be sent back for up to thirty days."
RELATED = "A chair costs 89 euros."
UNRELATED = "Volcanoes erupt when magma rises."

REFERENCE = {
    EXPECTED: [0.0291559, -0.02003399, 0.05515392, 0.04102966],
    PARAPHRASE: [0.02879136, 0.00973904, 0.04758888, 0.01792493],
    RELATED: [0.06286608, 0.03283725, -0.04517155, 0.03484348],
    UNRELATED: [-0.03424022, -0.01610695, 0.04010849, 0.06843741],
    "word " * 400: [-0.00812365, -0.09558597, -0.03867314, 0.04966196],
    "Straße naïve 日本語 😀": [0.05095063, 0.05864565, 0.05807415, -0.02411142],
}
"""The first numbers of all-MiniLM-L6-v2's embeddings by sentence-transformers 6.2.0, normalized."""


@pytest.mark.parametrize("text", REFERENCE)
def test_the_model_is_the_real_one(text: str) -> None:
    """Our arithmetic gives what sentence-transformers gives, also for a cut text and for other scripts."""
    assert embed(text)[:4] == pytest.approx(REFERENCE[text], abs=1e-6)


def test_likeness_follows_meaning() -> None:
    """A paraphrase is nearer than a sentence on the same thing, and that nearer than another subject.

    No judge is named: the embeddings model is all that the metric needs.
    """
    judged: Any = next(metric.judged for metric in METRICS if metric.name == "semantic_similarity")
    score = judged({}, None)
    setting = JudgeSetting()

    async def values(url: str) -> list[float]:
        environ = {"OLLAMA_BASE_URL": url}
        models = resolve_models(setting, "ollama:all-minilm", needs={"embeddings"}, environ=environ)
        bench = Bench(models, setting, price=lambda _usage: None, cache=None)
        await bench.open()
        try:
            samples = [Sample("How long?", one, EXPECTED) for one in (PARAPHRASE, RELATED, UNRELATED)]
            return [(await score(one, bench.judge(0, 0))).value for one in samples]
        finally:
            await bench.close()

    with minilm() as stub:
        found = asyncio.run(values(stub.url))
    assert {path for path, _, _ in stub.requests} == {"/v1/embeddings"}
    # The cosines that sentence-transformers gives.
    assert found == pytest.approx([0.8329555, 0.40976757, 0.00474615], abs=1e-5)
