"""What a gate spends and what a day would cost, from the command line."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema.validators import Draft202012Validator

from gatehouse.errors import Exit
from tests.contracts.schemas import schema, strict
from tests.support.projects import call, cases, read, start, write_project
from tests.support.stub_model import Reply, StubModel, completion, stub_model

if TYPE_CHECKING:
    from pathlib import Path

OUT = ".gatehouse/echo"
PRICES = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}
OUTPUT = 100
MODEL = {"provider": "openai", "name": "m-2026-01-01", "max_tokens": OUTPUT}


def project(folder: Path, count: int = 200, max_usd: float | None = None, **agent: Any) -> Path:
    """An agent without code whose model costs something."""
    evals = {"dataset": "golden.jsonl", "metrics": {"contains": 0}} | (
        {"max_usd": max_usd} if max_usd else {}
    )
    whole: dict[str, Any] = {"model": MODEL, "pricing": PRICES, "evals": evals}
    whole = {"code": None} | whole | agent
    return write_project(folder, cases(count), **{key: v for key, v in whole.items() if v or key == "code"})


def dearest(stub: StubModel, number: int, slow_s: float = 0.0) -> Reply:
    """A reply that took all that it could."""
    time.sleep(slow_s)
    body = {key: value for key, value in stub.requests[number][2].items() if key != "model"}
    usage = {"prompt_tokens": len(json.dumps(body).encode()), "completion_tokens": OUTPUT}
    return Reply(completion() | {"usage": usage})


def billed(stub: StubModel) -> float:
    """What every request that came would cost, whatever became of its answer."""
    bodies = [{k: v for k, v in body.items() if k != "model"} for _, _, body in stub.requests]
    sent = sum(len(json.dumps(body).encode()) for body in bodies)
    return (sent * PRICES["input_per_mtok"] + len(bodies) * OUTPUT * PRICES["output_per_mtok"]) / 1e6


@pytest.mark.parametrize("by", ["file", "option"])
def test_a_gate_stops_before_its_cap(tmp_path: Path, by: str) -> None:
    """What was answered by then is measured, the rest is unscored, and it is said why."""
    project(tmp_path, max_usd=5.0 if by == "file" else None)
    option = ("--max-usd", "5") if by == "option" else ()
    with stub_model(lambda n: dearest(stub, n)) as stub:
        done = call(tmp_path, "eval-gate", "--concurrency", "64", *option, env={"OPENAI_BASE_URL": stub.url})
        assert 4.0 < billed(stub) <= 5.0
    assert done.code == Exit.UNSCORED
    named = "evals.max_usd" if by == "file" else "--max-usd"
    assert f"the cap of $5.00 ({named}) would be passed: $4." in done.err
    verdict = read(tmp_path / OUT / "eval.json")
    assert verdict["state"] == "unscored"
    assert "the cap of $5.00" in verdict["reason"]
    assert "would be passed" in read(tmp_path / OUT / "run.json")["failure"]


def test_killed_and_resumed_it_is_one_run(tmp_path: Path) -> None:
    """What was under way when the process was killed was billed, and counts when the run goes on."""
    project(tmp_path, max_usd=12.0)
    with stub_model(lambda n: dearest(stub, n, 0.05)) as stub:
        env = {"OPENAI_BASE_URL": stub.url}
        for _ in range(3):
            before = len(stub.requests)
            with start(tmp_path, "run", "--concurrency", "8", "--repeats", "2", env=env) as process:
                while len(stub.requests) < before + 9 and process.poll() is None:
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
        done = call(tmp_path, "run", "--concurrency", "64", "--repeats", "2", env=env)
        assert 11.0 < billed(stub) <= 12.0
    assert done.code == Exit.UNSCORED
    assert "would be passed" in done.err


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ({"model": {"provider": "openai", "name": "m-2026-01-01"}}, ("agents/echo.yaml:", "max_tokens: 300")),
        ({"pricing": None}, ("agents/echo.yaml:", "nobody knows the price of m-2026-01-01")),
        ({"code": "def answer(x): return x\n"}, ("agents/echo.yaml:", "budgets: {max_tokens_per_run: 4000}")),
    ],
)
def test_a_cap_that_cannot_be_held(tmp_path: Path, agent: Any, words: tuple[str, ...]) -> None:
    """Exit 2 before anything is asked, with what to write."""
    project(tmp_path, max_usd=5.0, **agent)
    with stub_model(lambda n: dearest(stub, n)) as stub:
        done = call(tmp_path, "eval-gate", env={"OPENAI_BASE_URL": stub.url})
        assert not stub.requests
    assert done.code == Exit.INVALID
    for word in ("evals.max_usd cannot be held", *words):
        assert word in done.err


REPORTS = (
    "def answer(x):\n"
    "    return {'output': x, 'usage': {'input_tokens': 1000, 'output_tokens': 100, 'cached_tokens': 800}}\n"
)
BUDGET = {"daily_usd": 1.0, "requests_per_day": 5000}


@pytest.mark.parametrize(
    ("budgets", "code", "reason", "warned"),
    [
        (BUDGET | {"daily_usd": 0.7}, Exit.FAIL, "$0.75 a day at 5,000 requests, 107 % of $0.7", False),
        (BUDGET, Exit.PASS, "$0.75 a day at 5,000 requests, 75 % of $1.00", True),
        (BUDGET | {"daily_usd": 50}, Exit.PASS, "$0.75 a day at 5,000 requests, 1 % of $50.00", False),
        ({"daily_usd": 1}, Exit.PASS, "$1.00 a day is enough for 6,666 requests of $0.00015", False),
    ],
)
def test_a_day(tmp_path: Path, budgets: Any, code: Exit, reason: str, warned: bool) -> None:
    """What a day is projected to cost is a limit of its own; near it is a warning, which is kept."""
    model = {"provider": "openai", "name": "gpt-4o-mini-2024-07-18"}
    write_project(tmp_path, code=REPORTS, model=model, budgets=budgets)
    for command, expected in (("eval-gate", Exit.PASS), ("cost-gate", code)):
        done = call(tmp_path, command)
        assert done.code == expected, done
    cost = read(tmp_path / OUT / "cost.json")
    assert list(Draft202012Validator(strict(schema("cost"))).iter_errors(cost)) == []
    [day] = [row for row in cost["limits"] if row["name"] == "daily_usd"]
    assert day["reason"].startswith(reason)
    assert cost["warnings"] == ([f"daily_usd: {day['reason']}"] if warned else [])
    assert (f"warning: agents/echo.yaml: echo: daily_usd: {day['reason']}" in done.err + done.out) is warned
    # Whose prices, and of when.
    assert cost["prices"]["table"].startswith("genai-prices ")
    assert cost["by_model"][0]["source"] == "genai-prices"


def test_no_table_where_none_was_asked(tmp_path: Path) -> None:
    """Prices of the file, or none, have no table."""
    write_project(tmp_path)
    assert call(tmp_path, "eval-gate").code == Exit.PASS
    assert call(tmp_path, "cost-gate").code == Exit.PASS
    assert read(tmp_path / OUT / "cost.json")["prices"] is None


def in_actions(folder: Path, *, fork: bool) -> dict[str, str]:
    """The environment of a job for a pull request."""
    repo = {"full_name": "them/fork" if fork else "us/here"}
    pull = {
        "number": 7,
        "head": {"sha": "a" * 40, "ref": "feature/x", "repo": repo},
        "base": {"sha": "b" * 40, "ref": "develop", "repo": {"full_name": "us/here"}},
    }
    (folder / "event.json").write_text(json.dumps({"pull_request": pull}))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "us/here",
        "GITHUB_SHA": "c" * 40,
        "GITHUB_RUN_ID": "1",
    }


CODE = "import os\ndef answer(x):\n    os.environ['OPENAI_API_KEY']\n    return x\n"
URL = {"url": "https://agent.example/ask", "auth": {"secret": "AGENT_KEY"}}


@pytest.mark.parametrize("kind", ["chat", "function", "url"])
@pytest.mark.parametrize("fork", [True, False])
def test_a_fork_without_a_key_needs_a_maintainer(tmp_path: Path, kind: str, fork: bool) -> None:
    """A pull request from a fork has no secrets: that is nobody's failure, and says who can help."""
    more: dict[str, Any] = {"entrypoint": URL} if kind == "url" else {}
    project(tmp_path, code=None if kind == "chat" else CODE, pricing=PRICES, **more)
    done = call(tmp_path, "eval-gate", env=in_actions(tmp_path, fork=fork))
    if fork:
        assert done.code == Exit.UNSCORED, done
        for text in (done.err, read(tmp_path / OUT / "run.json")["failure"]):
            assert "not measured: needs a maintainer: a pull request from a fork gets no secrets" in text
        assert read(tmp_path / OUT / "eval.json")["reason"].startswith("not measured: needs a maintainer")
    else:
        assert "maintainer" not in done.err + done.out


@pytest.mark.parametrize("model", [{"provider": "ollama", "name": "llama3.1:8b"}, MODEL])
def test_a_fork_that_needs_no_key_is_measured(tmp_path: Path, model: Any) -> None:
    """A model that asks for no key, and a key that is there, are no reason to stop."""
    write_project(tmp_path, model=model)
    env = in_actions(tmp_path, fork=True) | ({"OPENAI_API_KEY": "sk-there-it-is"} if model is MODEL else {})
    assert call(tmp_path, "eval-gate", env=env).code == Exit.PASS


def test_the_key_of_an_address_is_written_nowhere(tmp_path: Path) -> None:
    """What an agent answers may hold the secret that it was asked with: it is hidden, whatever its name."""
    key = "a-secret-of-our-own"
    project(tmp_path, 1, code=CODE, entrypoint=URL | {"url": "http://127.0.0.1:1"})
    with stub_model(lambda _n: Reply({"output": f"you sent {key}"})) as stub:
        project(tmp_path, 1, code=CODE, entrypoint=URL | {"url": stub.url})
        done = call(tmp_path, "run", env={"AGENT_KEY": key})
        assert f"Bearer {key}" in stub.requests[0][1].values()
    assert done.code == Exit.PASS, done
    assert '"output":"you sent ***"' in (tmp_path / OUT / "runs.jsonl").read_text()


def test_an_address_has_a_cap_too(tmp_path: Path) -> None:
    """By its budget of tokens for each try, less what it reports to have taken."""
    evals = {"dataset": "golden.jsonl", "metrics": {"contains": 0}, "max_usd": 5}
    took = {"input_tokens": 100, "output_tokens": 40}  # five cents of ten
    with stub_model(lambda n: Reply({"error": "down"}, 503) if n == 5 else Reply(body)) as stub:
        body = {"output": "x", "usage": took}
        project(
            tmp_path,
            code=CODE,
            entrypoint={"url": stub.url},
            evals=evals,
            budgets={"max_tokens_per_run": 100},
        )
        done = call(tmp_path, "run", "--concurrency", "4")
        # 4.60 are left to be used when a further question could take 40 cents; the broken one counts in full.
        assert 90 <= len(stub.requests) <= 97
    assert done.code == Exit.UNSCORED
    assert "the next call may cost up to $0.4 with 4 tries" in done.err
