"""The model's key: it reaches the agent, and nothing that is written or shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.model import StandInModel

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-a-secret-that-nobody-else-has"
AGENT = """
agent:
  name: leaky
  version: 1
  model: {provider: openai, name: gpt-4o-2024-08-06}
  entrypoint: leaky:answer
  evals: {dataset: golden.jsonl, metrics: {exact_match: 1}}
"""


def gate(
    folder: Path, agent: str, *arguments: str, key: str = KEY, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command, by default the eval gate, on an agent whose one case expects "yes"."""
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents/leaky.yaml").write_text(agent)
    (folder / "golden.jsonl").write_text('{"id": "one", "input": "q", "expected": "yes"}\n')
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "GATEHOUSE_", "OPENAI_"))}
    return subprocess.run(
        [sys.executable, "-I", "-m", "gatehouse", *(arguments or ("eval-gate",))],
        cwd=folder,
        env=kept | ({"GATEHOUSE_MODEL_KEY": key} if key else {}) | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import os\ndef answer(q): return os.environ['OPENAI_API_KEY']", 1),
        ("import os\ndef answer(q): return {'output': 'no', 'contexts': [os.environ['OPENAI_API_KEY']]}", 1),
        ("import os\ndef answer(q): raise ValueError('key ' + os.environ['OPENAI_API_KEY'])", 3),
        ("import os\nraise ValueError('key ' + os.environ['OPENAI_API_KEY'])", 3),
    ],
    ids=["output", "context", "exception", "import"],
)
def test_a_key_that_the_agent_gives_away_is_written_nowhere(tmp_path: Path, source: str, code: int) -> None:
    """Wherever the agent puts its key, no file that is handed on holds it, and no output shows it."""
    (tmp_path / "leaky.py").write_text(source)
    done = gate(tmp_path, AGENT)
    assert done.returncode == code, done.stderr
    assert KEY not in done.stdout + done.stderr
    handed_on = [p for p in (tmp_path / ".gatehouse").rglob("*") if p.is_file() and p.name != "worker.log"]
    assert {"run.json", "eval.json"} <= {p.name for p in handed_on}
    for file in handed_on:
        assert KEY not in file.read_text(), file
    assert "***" in done.stdout + done.stderr + (tmp_path / ".gatehouse/leaky/runs.jsonl").read_text()


def test_another_provider_s_key_is_hidden_too(tmp_path: Path) -> None:
    """An agent that has a key for its fallback model cannot publish that one either."""
    (tmp_path / "leaky.py").write_text("import os\ndef answer(q): return os.environ['ANTHROPIC_API_KEY']\n")
    done = gate(tmp_path, AGENT, environment={"ANTHROPIC_API_KEY": KEY + "-2"}, key="")
    assert done.returncode == 1
    for file in (tmp_path / ".gatehouse/leaky").glob("*.json*"):
        assert KEY not in file.read_text(), file


@pytest.mark.parametrize(
    "held", [KEY, f"openai=sk-of-the-judge\nanthropic={KEY}\n", f"anthropic={KEY}", f"half-a-key\n{KEY}"]
)
def test_every_key_of_the_judges_is_hidden(tmp_path: Path, held: str) -> None:
    """However many the variable holds, and in a form that is refused too: what the agent got is cut out."""
    (tmp_path / "leaky.py").write_text(f"def answer(q): return 'I found {KEY}'\n")
    done = gate(tmp_path, AGENT, environment={"GATEHOUSE_JUDGE_KEY": held}, key="")
    assert done.returncode == 1
    assert "I found ***" in (tmp_path / ".gatehouse/leaky/runs.jsonl").read_text()
    for file in (tmp_path / ".gatehouse/leaky").glob("*.json*"):
        assert KEY not in file.read_text(), file


def test_each_line_of_the_model_s_key_reaches_who_it_is_for_and_is_hidden(tmp_path: Path) -> None:
    """A provider's key under its own variable, any other under its name; neither is written anywhere."""
    (tmp_path / "leaky.py").write_text(
        "import os\ndef answer(q): return [os.environ[k] for k in ('OPENAI_API_KEY', 'SUPPORT_KEY')]\n"
    )
    done = gate(tmp_path, AGENT, key=f"openai={KEY}-1\nSUPPORT_KEY={KEY}-2")
    assert done.returncode == 1, done.stderr
    assert '"output":["***","***"]' in (tmp_path / ".gatehouse/leaky/runs.jsonl").read_text()
    for file in (tmp_path / ".gatehouse/leaky").glob("*.json*"):
        assert KEY not in file.read_text(), file
    done = gate(tmp_path, AGENT, key=f"openai={KEY}\nopnai={KEY}")
    assert (done.returncode, KEY in done.stderr) == (2, False)
    assert "line 2 of GATEHOUSE_MODEL_KEY begins with an unknown provider." in done.stderr


def test_the_runner_hides_each_line_s_key(tmp_path: Path) -> None:
    """Of a secret with several lines it knows the lines alone."""
    (tmp_path / "leaky.py").write_text("def answer(q): return 'yes'\n")
    keys = {"GITHUB_ACTIONS": "true"}
    done = gate(tmp_path, AGENT, "run", environment=keys, key=f"SUPPORT_KEY={KEY}\nA_KEY=another-{KEY}")
    assert f"::add-mask::{KEY}\n" in done.stdout
    assert f"::add-mask::another-{KEY}\n" in done.stdout


def test_a_key_that_begins_another_is_not_cut_out_of_it(tmp_path: Path) -> None:
    """The longer one is hidden whole."""
    (tmp_path / "leaky.py").write_text(f"def answer(q): return 'I found {KEY}-and-more'\n")
    gate(tmp_path, AGENT, environment={"ANTHROPIC_API_KEY": KEY + "-and-more"})
    assert 'I found ***"' in (tmp_path / ".gatehouse/leaky/runs.jsonl").read_text()


def test_a_short_value_is_no_key(tmp_path: Path) -> None:
    """A placeholder of a few letters does not take them out of every answer."""
    (tmp_path / "leaky.py").write_text("def answer(q): return 'yes'\n")
    assert gate(tmp_path, AGENT, key="e").returncode == 0


def test_a_provider_of_ones_own_gets_the_key(tmp_path: Path) -> None:
    """An agent whose provider is not in the table finds its key in MODEL_KEY."""
    (tmp_path / "leaky.py").write_text(
        f"import os\ndef answer(q): return 'yes' if os.environ['MODEL_KEY'] == {KEY!r} else 'no'\n"
    )
    assert gate(tmp_path, AGENT.replace("openai", "cohere")).returncode == 0


def test_a_lost_key_does_not_leave_yesterday_s_verdict(tmp_path: Path) -> None:
    """A gate that passed, then has no key, is unscored: neither it nor a later stage takes the old runs."""
    chat = AGENT.replace("  entrypoint: leaky:answer\n", "  system_prompt: prompt.md\n")
    (tmp_path / "prompt.md").write_text("Say yes.")
    with StandInModel() as model:
        base_url = {"OPENAI_BASE_URL": model.url}
        assert gate(tmp_path, chat, environment=base_url).returncode == 1  # it answers, not "yes"
    for command, code in (("eval-gate", 3), ("score", 3), ("verdict", 3), ("cost-gate", 3), ("scorecard", 0)):
        done = gate(tmp_path, chat, command, key="")
        assert done.returncode == code, (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    card = json.loads((tmp_path / ".gatehouse/scorecard.json").read_bytes())
    assert card["state"] == "unscored"
