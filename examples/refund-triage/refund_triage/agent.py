"""The agent: one ticket in, one decision out."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from refund_triage import tools

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE if (PACKAGE / "agents").is_dir() else PACKAGE.parent
"""Where the agent file and what it names lie: in a wheel inside the package, in the repository beside it."""
AGENT = yaml.safe_load((ROOT / "agents/refund-triage.v3.yaml").read_text(encoding="utf-8"))["agent"]
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")


def answer(ticket: str) -> dict[str, Any]:
    """Decide on one ticket (its text, beginning with the day it was received)."""
    if AGENT["guardrails"]["pii_redaction"]:
        ticket = EMAIL.sub("[e-mail]", ticket)
    policy = best_policy(ticket)
    prompt = (ROOT / AGENT["system_prompt"]).read_text(encoding="utf-8")
    messages = [
        {"role": "system", "content": f"{prompt}\n# Background\n\n{policy}"},
        {"role": "user", "content": ticket},
    ]
    result: dict[str, Any] = {
        "output": None,
        "contexts": [policy],
        "tool_calls": [],
        "usage": [],
        "iterations": 0,
    }
    while result["iterations"] < AGENT["budgets"]["max_iterations"]:
        result["iterations"] += 1
        message, usage = chat(messages)
        result["usage"].append(usage)
        messages.append(message)
        if not message.get("tool_calls"):
            result["output"] = parsed(message["content"])
            break
        for call in message["tool_calls"]:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            result["tool_calls"].append({"name": name, "arguments": arguments})
            content = json.dumps(tools.run(name, arguments))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return result


def chat(messages: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One chat completion: the assistant's message, and the tokens it took."""
    model = AGENT["model"]
    body = {
        "model": model["name"],
        "temperature": model["temperature"],
        "max_tokens": model["max_tokens"],
        "messages": messages,
        "tools": [tools.definition(name) for name in AGENT["tools"]],
    }
    url = os.environ.get("OLLAMA_BASE_URL", "http://localhost:11434/v1") + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        reply = json.load(response)
    usage = reply["usage"]
    return reply["choices"][0]["message"], {
        "provider": model["provider"],
        "model": model["name"],
        "input_tokens": usage["prompt_tokens"],
        "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
        "output_tokens": usage["completion_tokens"],
    }


def best_policy(ticket: str) -> str:
    """The policy that shares the most words with the ticket."""
    words = set(re.findall(r"\w{4,}", ticket.lower()))
    folder = ROOT / AGENT["retrieval"]["knowledge_base"].partition("@")[0]
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))]
    return max(texts, key=lambda text: len(words & set(re.findall(r"\w{4,}", text.lower()))))


def parsed(content: str) -> Any:
    """The model's JSON; what is not JSON stays the text it is."""
    try:
        return json.loads(content)
    except ValueError:
        return content
