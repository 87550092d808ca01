"""`eval.json` and `cost.json` as the gates write them, every text of them for a test to choose."""

from __future__ import annotations

from typing import Any


def metric(name: str = "exact_match", **changed: Any) -> dict[str, Any]:
    """A row that passes."""
    row: dict[str, Any] = {
        "name": name,
        "kind": "quality",
        "value": 0.925,
        "n": 40,
        "interval": [0.8014, 0.9742],
        "threshold": 0.85,
        "state": "pass",
        "reason": "0.925 is at least 0.85",
        "direction": "higher",
        "unit": "",
        "unscored": 0,
        "skipped": 0,
        "base": None,
        "delta": None,
        "delta_interval": None,
    }
    return row | changed


def failing_case(case_id: str = "blunt-knife", **changed: Any) -> dict[str, Any]:
    """A case that an agent got wrong."""
    case: dict[str, Any] = {
        "id": case_id,
        "line": 7,
        "critical": False,
        "tags": ["plain"],
        "reasons": {"exact_match": "differs from the expected output"},
        "values": {"exact_match": 0.0},
        "input": "Order LH-1002, the bread knife.\n\nIt never cut properly.",
        "expected": '{"decision": "approve", "amount_usd": 38.5}',
        "got": '{"decision": "deny", "amount_usd": 0}',
        "tool_calls": 'read_orders({"order_id": "LH-1002"})',
    }
    return case | changed


def eval_json(name: str = "refund-triage", **changed: Any) -> dict[str, Any]:
    """An eval gate that passes."""
    failing = changed.get("failing_cases", [])
    data: dict[str, Any] = {
        "schema": 1,
        "agent": {
            "name": name,
            "version": "3",
            "digest": "sha256:" + "ab" * 32,
            "path": f"agents/{name}.yaml",
        },
        "dataset": {"path": "evals/golden/refunds.jsonl", "digest": "sha256:" + "cd" * 32, "cases": 40},
        "commit": "c" * 40,
        "state": "pass",
        "reason": "2 of 2 metrics pass",
        "metrics": [
            metric(),
            metric("latency_p95", value=1.25, interval=None, threshold=5.0, direction="lower", unit="s"),
        ],
        "repeats": 1,
        "cases": 40,
        "resolved": 37,
        "latency_s": {"p50": 0.75, "p95": 1.25},
        "runs": [f".gatehouse/{name}/runs.jsonl"],
        "failing": len(failing),
        "failing_cases": failing,
        "broken": [],
        "fixed": [],
        "warnings": [],
    }
    return data | changed


def judge_json(text: str = "ollama:llama3.1:70b", models: int = 1, **changed: Any) -> dict[str, Any]:
    """What judging by so many models took, with `text` wherever a text may stand."""
    tokens = {"input_tokens": 45678, "cached_tokens": 0, "output_tokens": 901, "calls": 96, "usd": 0.031}
    row = {"provider": text.partition(":")[0], "model": text.partition(":")[2] or text, **tokens}
    data: dict[str, Any] = {
        "models": [text] * models,
        "embeddings": None,
        "calls": 96 * models,
        "cached": 24,
        "repaired": 0,
        "usd": 0.031 * models,
        "max_usd": None,
        "by_model": [row] * models,
        "notes": [],
    }
    return data | changed


def calibration_json(reason: str, **changed: Any) -> dict[str, Any]:
    """What is known of the judge of a metric, by default nothing."""
    nothing: dict[str, Any] = {
        "calibrated": False,
        "reason": reason,
        "kappa": None,
        "labels": 0,
        "pass_rate": 0.925,
        "corrected": None,
        "corrected_interval": None,
        "enough": True,
    }
    return nothing | changed


def cost_json(name: str = "refund-triage", **changed: Any) -> dict[str, Any]:
    """A cost gate that passes."""
    data = {key: eval_json(name)[key] for key in ("schema", "agent", "dataset", "commit")} | {
        "state": "pass",
        "reason": "cost_per_run: $0.0123 is at most $0.05 (largest $0.0456)",
        "limits": [],
        "by_model": [
            {
                "provider": "ollama",
                "model": "llama3.1:70b",
                "input_tokens": 123456,
                "cached_tokens": 1000,
                "output_tokens": 7890,
                "usd": 0.492,
                "source": "agent file",
            }
        ],
    }
    return data | changed


def left(name: str, reason: str, code: int = 2) -> dict[str, Any]:
    """What a gate leaves that could not even begin."""
    return {
        "schema": 1,
        "agent": {"name": name, "version": None, "digest": None, "path": f"agents/{name}.yaml"},
        "dataset": None,
        "commit": "c" * 40,
        "state": "unscored",
        "reason": reason,
        "exit_code": code,
        "metrics": [],
        "failing": 0,
        "failing_cases": [],
        "limits": [],
        "by_model": [],
    }
