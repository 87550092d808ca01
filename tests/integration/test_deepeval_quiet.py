"""The real deepeval in a gate, seen from outside: nothing comes of it but scores."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

QUIET = """
import asyncio, json, os, sys, threading

seen = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        seen.append(f"{event} {args[1:]}")
sys.addaudithook(watch)

from gatehouse.evals.metrics import by_deepeval
from gatehouse.evals.judges.base import Sample

class Judge:
    name = "test:judge"
    async def ask(self, prompt, schema):
        if "opinions" in schema["properties"]:
            return {"opinions": ["a"]}
        return {"verdicts": [{"verdict": "no", "reason": "kind"}]}

metrics = {metric.name: metric for metric in by_deepeval.METRICS}
async def main():
    sample = Sample("What?", "Fine.", tool_calls=[])
    for _ in range(60):
        score = await metrics["toxicity"].judged({}, None)(sample, Judge())
    await metrics["tool_permission"].judged({"allowed": ["a"]}, None)(sample, Judge())
    return score
score = asyncio.run(main())
from deepeval.telemetry import telemetry_opt_out
from deepeval.tracing import trace_manager
print(json.dumps({
    "value": score.value,
    "seen": seen,
    "threads": [thread.name for thread in threading.enumerate()],
    "opted_out": telemetry_opt_out(),
    "traces": len(trace_manager.traces),
    "sender": [name for name in ("posthog", "sentry_sdk") if name in sys.modules],
    "leaked": [name for name in ("OPENAI_API_KEY", "CONFIDENT_API_KEY", "FROM_DOTENV") if name in os.environ],
}))
"""


def test_deepeval_is_quiet(tmp_path: Path) -> None:
    """Nothing is sent, written, printed or traced, whatever environment and checkout ask deepeval for."""
    home, checkout, temporary = (tmp_path / name for name in ("home", "checkout", "tmp"))
    for folder in (home, checkout / ".deepeval", temporary):
        folder.mkdir(parents=True)
    (checkout / ".env").write_text("FROM_DOTENV=1\nOPENAI_API_KEY=stolen\nDEEPEVAL_EVAL_MODE=system_one\n")
    (checkout / ".deepeval" / ".deepeval").write_text(
        json.dumps({"OPENAI_API_KEY": "stolen", "api_key": "x"})
    )
    before = sorted(path for path in tmp_path.rglob("*"))
    environ = {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": "/usr/bin:/bin",
        "CONFIDENT_API_KEY": "confident_us_x",
        "CONFIDENT_TRACE_INTERNAL": "1",
        "DEEPEVAL_EVAL_MODE": "system_one",
        "DEEPEVAL_RETRY_CAP_SECONDS": "not a number",
        "DEEPEVAL_UPDATE_WARNING_OPT_IN": "1",
        "DEEPEVAL_VERBOSE_MODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error::DeprecationWarning:deepeval", "-c", QUIET],
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "value": 1.0,
        "seen": [],
        "threads": ["MainThread"],
        "opted_out": True,
        "traces": 0,
        "sender": [],
        "leaked": [],
    }
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_an_environment_that_deepeval_cannot_read_is_named(tmp_path: Path) -> None:
    """A variable that keeps deepeval from loading ends the gate with its name, and never its value."""
    script = (
        "import gatehouse.evals.metrics\n"
        "from gatehouse.evals.judges.deepeval_library import _library\n"
        "_library()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "OPENAI_COST_PER_INPUT_TOKEN": "secret-value"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "InfrastructureError: deepeval cannot be loaded: the environment variable OPENAI" in done.stderr
    assert "secret-value" not in done.stderr
