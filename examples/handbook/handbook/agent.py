"""The agent: a question of an employee in, an answer from the handbook out."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"model": "qwen2.5:32b", "temperature": 0.1, "max_tokens": 300}
"""As in agents/handbook.yaml, which a test holds it to: the standard library reads no YAML."""
PASSAGES = 2


def answer(question: str) -> dict[str, Any]:
    """Answer one question; `contexts` are the passages that the model was given."""
    passages = retrieved(question)
    prompt = (ROOT / "prompts/handbook.md").read_text(encoding="utf-8")
    messages = [
        {"role": "system", "content": "\n\n".join([f"{prompt}\n# Passages", *passages])},
        {"role": "user", "content": question},
    ]
    text, usage = chat(messages)
    return {"output": text, "contexts": passages, "usage": [usage]}


def chat(messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """One chat completion: its text, and the tokens it took."""
    url = os.environ.get("OLLAMA_BASE_URL", "http://localhost:11434/v1") + "/chat/completions"
    body = json.dumps({**MODEL, "messages": messages}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        reply = json.load(response)
    usage = reply["usage"]
    return reply["choices"][0]["message"]["content"], {
        "provider": "ollama",
        "model": MODEL["model"],
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
    }


def retrieved(question: str) -> list[str]:
    """The sections of the handbook that share the most words with the question, the best first."""
    wanted = words(question)
    return sorted(sections(), key=lambda text: -len(wanted & words(text)))[:PASSAGES]


def sections() -> list[str]:
    """Every section of the handbook as one text, its heading first."""
    found = []
    for path in sorted((ROOT / "kb").glob("*.md")):
        for section in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            heading, _, text = section.partition("\n")
            found.append(f"### {heading}\n\n{' '.join(text.split())}")
    return found


def words(text: str) -> set[str]:
    """A text's longer words, cut so that `approve` and `approval` are one."""
    return {word[:5] for word in re.findall(r"\w{4,}", text.lower())}
