"""The digest: what an agent's behaviour hangs on changes it, and nothing else does."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.agent.digest import code_files, files_below

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
agent:
  name: triage
  version: 1
  owner: me
  entrypoint: support.agent:answer
  model:
    {provider: openai, name: gpt-4o-2024-08-06, temperature: 0.1, max_tokens: 64, base_url: "http://a",
     parameters: {seed: 1}}
  fallback_model: {provider: ollama, name: "llama3.1:8b"}
  system_prompt: prompt.md
  tools: [read, {name: send, scope: all, approval: true}]
  guardrails: {pii_redaction: true, output_schema: out.json}
  retrieval: {knowledge_base: kb@1, top_k: 3, parameters: {chunker: a}}
  budgets: {max_iterations: 3, max_tokens_per_run: 100, daily_usd: 5, requests_per_day: 9}
  evals: {dataset: golden.jsonl, metrics: {exact_match: 0.8}}
  pricing: {input_per_mtok: 1, output_per_mtok: 2}
"""


def git(root: Path, *arguments: str) -> None:
    """Run git in `root` without the machine's own settings."""
    env = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, env=env)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A git repository with an agent, its code, its knowledge base and its lock file, all tracked."""
    for name, text in {
        "agent.yaml": FILE,
        "prompt.md": "Be brief.\n",
        "other.md": "Be long.\n",
        "same.md": "Be brief.\n",
        "out.json": '{"type": "object"}',
        "same.json": '{"type": "object"}',
        "kb/refunds.md": "30 days\n",
        "support/__init__.py": "",
        "support/agent.py": "def answer(case): ...\n",
        "support/data.txt": "a\n",
        "uv.lock": "version = 1\n",
        "unrelated/code.py": "x = 1\n",
        ".gitignore": "ignored.py\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    return tmp_path


def load(root: Path) -> Agent:
    """The agent of the repository."""
    return load_agent("agent.yaml", root)


IN = {
    "the provider": ("provider: openai", "provider: azure", "model"),
    "the model": ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13", "model"),
    "the temperature": ("temperature: 0.1", "temperature: 0.2", "model"),
    "the tokens of a reply": ("max_tokens: 64", "max_tokens: 65", "model"),
    "the address": ("http://a", "http://b", "model"),
    "the model's parameters": ("seed: 1", "seed: 2", "model"),
    "the fallback model": ("llama3.1:8b", "llama3.1:70b", "fallback_model"),
    "the prompt": ("prompt.md", "other.md", "prompt"),
    "a tool": ("[read,", "[write,", "tools"),
    "a tool's scope": ("scope: all", "scope: none", "tools"),
    "a tool's approval": ("approval: true", "approval: false", "tools"),
    "the redaction": ("pii_redaction: true", "pii_redaction: false", "guardrails"),
    "no output schema": (", output_schema: out.json", "", "guardrails"),
    "the knowledge base's version": ("kb@1", "kb@2", "retrieval"),
    "the passages": ("top_k: 3", "top_k: 4", "retrieval"),
    "the retrieval's parameters": ("chunker: a", "chunker: b", "retrieval"),
    "the iterations": ("max_iterations: 3", "max_iterations: 4", "budgets"),
    "the tokens of a run": ("max_tokens_per_run: 100", "max_tokens_per_run: 101", "budgets"),
    "the entry point": ("agent:answer", "agent:other", "code"),
}
OUT = {
    "the name": ("name: triage", "name: other"),
    "the version": ("version: 1\n", "version: 2\n"),
    "the owner": ("owner: me", "owner: you"),
    "a threshold": ("exact_match: 0.8", "exact_match: 0.9"),
    "the dataset": ("golden.jsonl", "silver.jsonl"),
    "a price": ("input_per_mtok: 1", "input_per_mtok: 3"),
    "the day's dollars": ("daily_usd: 5", "daily_usd: 6"),
    "the day's requests": ("requests_per_day: 9", "requests_per_day: 8"),
    "where the prompt lies": ("prompt.md", "same.md"),
    "where the schema lies": ("out.json", "same.json"),
    "a comment": ("owner: me", "owner: me  # and you"),
    "the order of keys": (
        "provider: openai, name: gpt-4o-2024-08-06",
        "name: gpt-4o-2024-08-06, provider: openai",
    ),
    "the line ends": ("\n", "\r\n"),
    "how a number is written": ("max_tokens: 64", "max_tokens: 64.0"),
    "how a tool is written": ("[read,", "[{name: read, approval: false},"),
}


@pytest.mark.parametrize(("old", "new", "part"), IN.values(), ids=IN)
def test_behaviour_changes_the_digest(root: Path, old: str, new: str, part: str) -> None:
    """A change of what defines behaviour changes the digest, and only its own part."""
    before = load(root)
    assert old in FILE
    (root / "agent.yaml").write_bytes(FILE.replace(old, new).encode())
    after = load(root)
    assert after.digest != before.digest
    assert [name for name in before.parts if after.parts.get(name) != before.parts[name]] == [part]


@pytest.mark.parametrize(("old", "new"), OUT.values(), ids=OUT)
def test_everything_else_leaves_the_digest(root: Path, old: str, new: str) -> None:
    """A change that touches no behaviour leaves the digest, so that evidence stays valid."""
    before = load(root).digest
    assert old in FILE
    (root / "agent.yaml").write_bytes(FILE.replace(old, new).encode())
    assert load(root).digest == before


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("prompt.md", "prompt"),
        ("out.json", "guardrails"),
        ("kb/refunds.md", "retrieval"),
        ("support/agent.py", "code"),
        ("support/data.txt", "code"),
        ("support/new.py", "code"),
        ("uv.lock", "dependencies"),
        ("requirements-dev.txt", "dependencies"),
        ("poetry.lock", "dependencies"),
        ("pdm.lock", "dependencies"),
        ("Pipfile.lock", "dependencies"),
        ("pylock.toml", "dependencies"),
    ],
)
def test_the_content_of_files_changes_the_digest(root: Path, name: str, part: str) -> None:
    """One more byte in a file of the working tree, committed or not, changes its part: also a line's end."""
    before = load(root)
    with (root / name).open("ab") as file:
        file.write(b" ")
    after = load(root)
    changed = {n for n in {*before.parts, *after.parts} if after.parts.get(n) != before.parts.get(n)}
    assert changed == {part}
    assert after.digest != before.digest


def test_a_removed_file_changes_the_digest(root: Path) -> None:
    """A tracked file that is gone from the working tree is gone from the code."""
    before = load(root).parts["code"]
    (root / "support/data.txt").unlink()
    assert load(root).parts["code"] != before


@pytest.mark.parametrize(
    "name",
    [
        "unrelated/code.py",
        "support/ignored.py",
        "support/cache.db",
        "support/__pycache__/agent.pyc",
        "notes.txt",
    ],
)
def test_what_a_run_leaves_behind_changes_nothing(root: Path, name: str) -> None:
    """Other files, ignored ones and untracked ones that are no Python leave the digest."""
    before = load(root).digest
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("left")
    assert load(root).digest == before


def test_the_digest_does_not_know_where_it_is(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A clone elsewhere has the same digest, also outside git."""
    here = load(root).digest
    there = tmp_path_factory.mktemp("clone")
    subprocess.run(["cp", "-R", f"{root}/.", str(there)], check=True)
    assert load(there).digest == here
    subprocess.run(["rm", "-rf", str(there / ".git")], check=True)
    (there / "support/__pycache__").mkdir()
    (there / "support/__pycache__/agent.pyc").write_text("compiled")
    assert load(there).digest == here


def test_files_are_named_from_the_root(root: Path) -> None:
    """A folder inside a repository is listed relative to itself, and untracked folders are listed whole."""
    assert files_below(root / "support", ".") == ["__init__.py", "agent.py", "data.txt"]
    (root / "fresh").mkdir()
    (root / "fresh/a.txt").write_text("a")
    assert files_below(root, "fresh") == ["fresh/a.txt"]


def test_the_code_is_the_package_of_the_entry_point(root: Path) -> None:
    """A package is its folder, in the root or in src; a lone module may import any Python file beside it."""
    package = ["support/__init__.py", "support/agent.py", "support/data.txt"]
    assert code_files(root, "support.agent:answer") == package
    (root / "src").mkdir()
    (root / "support").rename(root / "src/support")
    git(root, "add", "-A")
    assert code_files(root, "support.agent:answer") == [f"src/{name}" for name in package]
    (root / "lone.py").write_text("import unrelated.code\n")
    python = ["lone.py", "src/support/__init__.py", "src/support/agent.py", "unrelated/code.py"]
    assert code_files(root, "lone:answer") == python
    assert code_files(root, "elsewhere:answer") == []


def test_a_link_counts_with_what_it_points_at(root: Path) -> None:
    """A link to a file of the repository changes with that file; one that leads out is never read."""
    outside = root.parent / f"{root.name}-secret"
    outside.write_text("a")
    (root / "support/linked.py").symlink_to("../unrelated/code.py")
    (root / "support/out.py").symlink_to(outside)
    git(root, "add", ".")
    before = load(root).digest
    outside.write_text("b")
    assert load(root).digest == before
    (root / "unrelated/code.py").write_text("x = 2\n")
    assert load(root).digest != before


def test_code_in_a_submodule_counts(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A submodule inside the package changes the digest with its content."""
    library = tmp_path_factory.mktemp("library")
    (library / "tool.txt").write_text("a")
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a")
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "support/lib")
    before = load(root).digest
    (root / "support/lib/tool.txt").write_text("b")
    assert load(root).digest != before
