"""Which Python runs the user's code, and what it sees."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from gatehouse.agent.interpreter import user_interpreter, worker_environment
from gatehouse.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def make(path: Path) -> str:
    """A virtual environment's python: a symlink."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(sys.executable)
    return str(path)


def test_the_nearest_environment_is_taken_and_its_symlink_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--python, then .venv, then the active environment, then PATH; never what a symlink leads to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    on_path = make(tmp_path / "bin" / "python")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert user_interpreter(None) == on_path
    better = make(tmp_path / "bin" / "python3")
    assert user_interpreter(None) == better
    active = make(tmp_path / "active" / "bin" / "python")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "active"))
    assert user_interpreter(None) == active
    nearest = make(tmp_path / ".venv" / "bin" / "python")
    assert user_interpreter(None) == nearest
    assert user_interpreter("bin/python") == on_path
    assert user_interpreter("python3") == better


def test_no_interpreter_is_the_user_s_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong --python and a PATH without any are messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no such program"):
        user_interpreter("./nowhere")
    with pytest.raises(UserError, match="No Python"):
        user_interpreter(None)


def test_tokens_and_the_runner_s_files_do_not_reach_the_agent() -> None:
    """The agent keeps its own variables and gets the model key under its provider's name."""
    hidden = ["GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "INPUT_TOKEN", "GITHUB_ENV"]
    hidden += ["GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"]
    hidden += ["GATEHOUSE_JUDGE_KEY", "GATEHOUSE_JUDGE_BASE_URL", "GATEHOUSE_ANY_KEY"]
    environ = dict.fromkeys(hidden, "x") | {
        "GATEHOUSE_MODEL_KEY": "k\n",
        "PYTHONPATH": "src",
        "GITHUB_SHA": "1",
    }
    kept = {"PYTHONPATH": "src", "GITHUB_SHA": "1"}
    assert worker_environment(environ) == kept
    assert worker_environment(environ, "OPENAI_API_KEY") == kept | {"OPENAI_API_KEY": "k"}
    assert worker_environment({"OPENAI_API_KEY": "own"}, "OPENAI_API_KEY") == {"OPENAI_API_KEY": "own"}
