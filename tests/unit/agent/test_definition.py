"""The agent file: what loads, and what every mistake in it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatehouse.agent import source
from gatehouse.agent.definition import Agent, MetricSetting, Price, Tool, is_pinned, load_agent
from gatehouse.agent.entrypoint import Function
from gatehouse.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SEED = """\
# agents/refund-triage.v3.yaml: one file, one agent, in git.
agent:
  name: refund-triage
  version: 3
  model:
    provider: ollama          # or openai, anthropic, vertex, ...
    name: llama3.1:70b
    temperature: 0.1
    max_tokens: 512
  system_prompt: prompts/refund-triage.v3.md
  tools:
    - read_orders             # scoped: read-only on orders table
    - send_email              # behind a human-approval gate
  guardrails:
    pii_redaction: true
    output_schema: schemas/triage_output.json
  retrieval:
    knowledge_base: kb/support-policies@2026-05-21
  budgets:
    max_iterations: 3
    max_tokens_per_run: 4000
    daily_usd: 50
"""

SMALL = """\
agent:
  name: small
  version: 1
  model:
    provider: openai
    name: gpt-4o-mini-2024-07-18
  system_prompt: prompt.md
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the files that the agent files below name."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/refund-triage.v3.md").write_text("You triage refunds.\n")
    (tmp_path / "prompt.md").write_text("Be brief.\n")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/triage_output.json").write_text('{"type": "object", "required": ["decision"]}')
    return tmp_path


def load(root: Path, text: str | bytes) -> Agent:
    """The agent of a file with this content."""
    (root / "agent.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_agent("agent.yaml", root)


def refused(root: Path, text: str | bytes) -> UserError:
    """The error of a file with this content."""
    with pytest.raises(UserError) as caught:
        load(root, text)
    return caught.value


def test_the_published_example_loads_as_it_stands(root: Path) -> None:
    """Every key of the example arrives with its type, and nothing is warned about."""
    agent = load(root, SEED)
    assert (agent.name, agent.version, agent.path) == ("refund-triage", "3", "agent.yaml")
    assert (agent.model.provider, agent.model.name) == ("ollama", "llama3.1:70b")
    assert (agent.model.temperature, agent.model.max_tokens) == (0.1, 512)
    assert agent.prompt_text == "You triage refunds.\n"
    assert agent.tools == [Tool("read_orders"), Tool("send_email")]
    assert agent.guardrails.pii_redaction
    assert agent.output_schema == {"type": "object", "required": ["decision"]}
    assert agent.retrieval is not None
    assert agent.retrieval.knowledge_base == "kb/support-policies@2026-05-21"
    assert (agent.budgets.max_iterations, agent.budgets.max_tokens_per_run, agent.budgets.daily_usd) == (
        3,
        4000,
        50,
    )
    assert agent.digest.startswith("sha256:")
    assert agent.warnings == []


def test_every_added_key_loads(root: Path) -> None:
    """Owner, entry point, evals, fallback model, pricing and the long forms arrive with their types."""
    (root / "support").mkdir()
    (root / "support/agent.py").write_text("def answer(case): ...\n")
    text = """\
agent:
  name: full
  version: "2026.1"
  owner: team-support
  entrypoint: support.agent:answer
  model: {provider: openai, name: gpt-4o-2024-08-06, base_url: "http://127.0.0.1:1/v1", parameters: {seed: 7}}
  fallback_model: {provider: ollama, name: "llama3.1:8b", max_tokens: 64.0}
  tools: [{name: refund, scope: read-only, approval: true}]
  retrieval: {top_k: 4, parameters: {chunker: v2}}
  budgets: {requests_per_day: 1000}
  evals:
    dataset: golden.jsonl
    max_unscored: 2
    on_inconclusive: fail
    metrics:
      exact_match: 0.85
      latency_p95: {threshold: 2, floor: interval, unit: s}
      contains: {}
  pricing:
    gpt-4o-2024-08-06: {input_per_mtok: 2.5, output_per_mtok: 10, cached_input_per_mtok: 1.25}
"""
    agent = load(root, text)
    assert (agent.owner, agent.entrypoint, agent.prompt_text) == (
        "team-support",
        Function("support.agent:answer"),
        None,
    )
    assert agent.model.parameters == {"seed": 7}
    assert agent.fallback_model is not None
    assert repr(agent.fallback_model.max_tokens) == "64"
    assert agent.tools == [Tool("refund", "read-only", approval=True)]
    assert agent.budgets.requests_per_day == 1000
    assert (agent.evals.max_unscored, agent.evals.on_inconclusive) == (2, "fail")
    assert agent.evals.metrics == {
        "exact_match": MetricSetting(0.85),
        "latency_p95": MetricSetting(2.0, "interval", {"unit": "s"}),
        "contains": MetricSetting(None),
    }
    assert agent.pricing == {"gpt-4o-2024-08-06": Price(2.5, 10, 1.25)}
    assert agent.warnings == []


def test_one_price_is_that_of_the_model(root: Path) -> None:
    """Pricing without a model's name belongs to the agent's own model."""
    agent = load(root, SMALL + "  pricing: {input_per_mtok: 0, output_per_mtok: 1}\n")
    assert agent.pricing == {"gpt-4o-mini-2024-07-18": Price(0, 1)}


def add(line: str) -> str:
    """The small file with a line more, which is line 8."""
    return SMALL + f"  {line}\n"


def swap(old: str, new: str) -> str:
    """The small file with something else in one place."""
    assert old in SMALL
    return SMALL.replace(old, new)


METRICS = "  evals:\n    metrics:\n      exact_match: "

BAD: dict[str, tuple[str | bytes, int, str]] = {
    # What is no YAML, or no document of ours: content, line, part of the message.
    "empty": ("", 1, "the file is empty"),
    "only a comment": ("# later\n", 1, "the file is empty"),
    "a list": ("- agent\n", 1, "the document is a list: it must be a mapping"),
    "text": ("agent\n", 1, "the document is text"),
    "syntax": (swap("version: 1", "version: [1"), 4, "not YAML"),
    "a tab": (swap("  version", "\tversion"), 3, "YAML indents with spaces"),
    "two documents": (SMALL + "---\n" + SMALL, 8, "One file holds one agent"),
    "a control character": (swap("small", "sm\x01all"), 2, "control character (0x01)"),
    "no UTF-8": (
        SMALL.encode() + b"  owner: caf\xe9\n",
        8,
        "byte 13 of line 8 of agent.yaml is not UTF-8 (0xe9)",
    ),
    "too large": (SMALL.encode() + b"#" * 10_000_000, 0, "larger than 1 MiB"),
    "an alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join(['*' + p] * 10)}]\n" for p, c in zip("abcdefg", "bcdefgh", strict=True)
        ),
        1,
        "more than 20000 values",
    ),
    "an alias of itself": ("agent: &a\n  tools: *a\n", 1, "more than 40 levels"),
    "deep nesting": ("agent: " + "[" * 900 + "]" * 900 + "\n", 1, "more than 40 levels"),
    "very deep nesting": ("agent: " + "[" * 100_000, 1, "more than 40 levels"),
    "an unknown alias": (swap("name: small", "name: *small"), 2, "undefined alias"),
    "a merge key": (add("<<: {owner: me}"), 8, "merge keys"),
    "a tag": (swap("name: small", "name: !!python/name:os.system small"), 2, "is not supported"),
    "a tagged mapping": (add("budgets: !!set {a}"), 8, "!!set is not supported"),
    "a duplicate key": (add("name: again"), 8, '"name" is given twice, first on line 2'),
    "a key that is no text": (add("on: push"), 8, "the key is not text: 'on'"),
    "a key that is a list": (add("? [a]\n  : b"), 8, "the key is not text: a list or mapping"),
    "NaN": (SMALL + METRICS + ".nan\n", 10, ".nan is not a finite number"),
    "infinity": (SMALL + METRICS + "-.inf\n", 10, "-.inf is not a finite number"),
    "a date": (swap("version: 1", "version: 2026-05-21"), 3, "YAML reads 2026-05-21 as a date"),
    "no such date": (swap("version: 1", "version: 2026-13-41"), 3, "as a date"),
    "no such number": (swap("version: 1", "version: !!int x"), 3, "'x' is not a int"),
    "digits without end": (swap("version: 1", "version: " + "1" * 5000), 3, "is not a int"),
    # What the schema refuses.
    "no agent": ("agents: {}\n", 1, 'Did you mean "agent"?'),
    "an empty agent": ("agent:\n", 1, '"agent" is empty: it must be a mapping'),
    "no name": (swap("  name: small\n", ""), 1, '"name" is missing in "agent"'),
    "no version": (swap("  version: 1\n", ""), 1, '"version" is missing in "agent"'),
    "no model": ("agent:\n  name: a\n  version: 1\n  system_prompt: prompt.md\n", 1, '"model" is missing'),
    "no provider": (swap("    provider: openai\n", ""), 4, '"provider" is missing in "model"'),
    "neither prompt nor entrypoint": (
        swap("  system_prompt: prompt.md\n", ""),
        1,
        '"system_prompt" is missing',
    ),
    "an unknown key": (
        add("ownr: me"),
        8,
        'unknown key "ownr" in "agent".\n      ownr: me\n      ~~~^\nDid you mean',
    ),
    "an unknown key without a near one": (add("zzz: me"), 8, "Known here: name, version, owner"),
    "an unknown key below": (swap("openai\n", "openai\n    naem: x\n"), 6, 'Did you mean "name"?'),
    "an empty value": (add("owner:"), 8, '"owner" is empty: it must be text'),
    "an empty text": (add("owner: ''"), 8, '"owner" is empty.'),
    "a number for text": (add("owner: 12"), 8, "Put it in quotes"),
    "a boolean for text": (swap("name: small", "name: on"), 2, "YAML reads on, off, yes, no"),
    "a fraction as version": (swap("version: 1", "version: 1.10"), 3, "Put it in quotes"),
    "text for a number": (
        swap("    provider", "    temperature: warm\n    provider"),
        5,
        '("warm"): it must be a number',
    ),
    "YAML 1.1's exponents": (
        swap("    provider", "    temperature: 1e-1\n    provider"),
        5,
        "a dot and a sign",
    ),
    "a boolean for a number": (SMALL + METRICS + "yes\n", 10, "a boolean (true)"),
    "a name with capitals": (swap("small", "Small"), 2, "it starts with a letter or digit"),
    "a name with a line end": (swap("name: small", 'name: "small\\n"'), 2, "Up to 64 of"),
    "a name of our own file": (swap("small", "scorecard.json"), 2, "is no file of the scorecard"),
    "a name with ..": (swap("small", "s..l"), 2, 'has no ".."'),
    "a name that ends in a dot": (swap("small", "small."), 2, "Up to 64 of"),
    "a long name": (swap("small", "s" * 65), 2, "Up to 64 of"),
    "too hot": (swap("    provider", "    temperature: 2.5\n    provider"), 5, "it must be at most 2"),
    "no tokens": (swap("    provider", "    max_tokens: 0\n    provider"), 5, "it must be at least 1"),
    "half a token": (
        swap("    provider", "    max_tokens: 1.5\n    provider"),
        5,
        "it must be a whole number",
    ),
    "a base URL without scheme": (
        swap("    provider", "    base_url: x.org\n    provider"),
        5,
        "starts with http://",
    ),
    "a provider with spaces": (swap("openai", "Open AI"), 5, "such as openai or ollama"),
    "an unsupported entrypoint": (
        add("entrypoint: http://x.org/run"),
        8,
        "write {command: ...} for a program",
    ),
    "a tool without a name": (add("tools: [{scope: all}]"), 8, '"name" is missing in item 1 of "tools"'),
    "a tool that is a number": (add("tools: [a, 1]"), 8, 'item 2 of "tools" is a number'),
    "a tool twice": (add("tools: [a, a]"), 8, '"tools" holds something twice'),
    "an unknown choice": (add("evals: {on_inconclusive: fial}"), 8, 'Did you mean "fail"?'),
    "an unknown policy": (add("evals: {unpinned_model: deny}"), 8, 'it must be "warn", "error" or "allow"'),
    "a negative count": (add("evals: {max_unscored: -1}"), 8, "at least 0"),
    "an unknown floor": (SMALL + METRICS + "{floor: mean}\n", 10, 'it must be "value" or "interval"'),
    "a threshold that is text": (SMALL + METRICS + "{threshold: 85%}\n", 10, '"threshold" is text'),
    "a metric without a value": (SMALL + METRICS + "\n", 10, '"exact_match" is empty'),
    "half a price": (add("pricing: {input_per_mtok: 1}"), 8, '"output_per_mtok" is missing'),
    "a negative price": (add("pricing: {m: {input_per_mtok: -1, output_per_mtok: 1}}"), 8, "at least 0"),
    "no price": (add("pricing: {}"), 8, '"pricing" is empty'),
    "a negative day": (add("budgets: {daily_usd: -1}"), 8, "at least 0"),
    # What the files it names refuse.
    "a missing prompt": (swap("prompt.md", "promt.md"), 7, 'Did you mean "prompt.md"?'),
    "a prompt that is a folder": (swap("prompt.md", "prompts"), 7, "prompts is a folder, not a file"),
    "a prompt that is a device": (swap("prompt.md", "pipe"), 7, "not a regular file"),
    "an absolute prompt": (swap("prompt.md", "/etc/hostname"), 7, "leads out of the repository"),
    "a prompt above": (swap("prompt.md", "prompts/../prompt.md"), 7, "leads out of the repository"),
    "a prompt behind a link": (swap("prompt.md", "out/secret"), 7, "out/secret leads out of the repository"),
    "a prompt with a null byte": (swap("prompt.md", '"a\\0b"'), 7, "is not a usable path"),
    "a prompt with a long name": (swap("prompt.md", "p" * 5000), 7, "cannot be read"),
    "a prompt that is too large": (swap("prompt.md", "large"), 7, "large is larger than 1 MiB"),
    "a prompt in another encoding": (swap("prompt.md", "latin1"), 7, "is not UTF-8 (0xe9)"),
    "a missing schema": (
        add("guardrails: {output_schema: schemas/triage_ouput.json}"),
        8,
        "schemas/triage_output.json",
    ),
    "a schema that is no JSON": (
        add("guardrails: {output_schema: prompt.md}"),
        8,
        "not JSON: expecting value at column 1",
    ),
    "a schema that is a list": (add("guardrails: {output_schema: list.json}"), 8, "it is not an object"),
    "a schema that is none": (add("guardrails: {output_schema: bad.json}"), 8, "at properties/a/type"),
    "a dataset outside": (
        add("evals: {dataset: ../golden.jsonl}"),
        8,
        '"dataset" leads out of the repository',
    ),
    "a knowledge base outside": (
        add("retrieval: {knowledge_base: /srv/kb@1}"),
        8,
        '"knowledge_base" leads out',
    ),
    "an unpinned model that is refused": (
        swap("gpt-4o-mini-2024-07-18", "gpt-4o-mini") + "  evals: {unpinned_model: error}\n",
        6,
        '"gpt-4o-mini" names no fixed model',
    ),
}


@pytest.mark.parametrize("loader", [source.LOADER, yaml.SafeLoader], ids=["libyaml", "pure"])
@pytest.mark.parametrize(("text", "line", "message"), BAD.values(), ids=BAD)
def test_every_mistake_is_named_with_its_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, line: int, message: str, loader: type
) -> None:
    """Each kind of mistake is a user error that says what and on which line, with either YAML parser."""
    monkeypatch.setattr(source, "LOADER", loader)
    outside = root.parent / f"{root.name}-outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "out").symlink_to(outside)
    os.mkfifo(root / "pipe")
    (root / "large").write_bytes(b"x" * (2**20 + 1))
    (root / "latin1").write_bytes(b"caf\xe9")
    (root / "list.json").write_text("[]")
    (root / "bad.json").write_text('{"properties": {"a": {"type": "strin"}}}')
    error = refused(root, text)
    assert message in str(error)
    assert (error.problems[0].path, error.problems[0].line) == ("agent.yaml", line)
    assert "Traceback" not in str(error)


def test_all_mistakes_are_told_at_once(root: Path) -> None:
    """Mistakes of syntax, schema and files stand in one error, in the order of their lines."""
    text = swap("small", "Small").replace("prompt.md", "nowhere.md").replace("gpt-4o-mini-2024-07-18", "m")
    text += "  ownr: me\n  ownr: you\n  evals: {unpinned_model: error, max_unscored: .nan}\n"
    assert [problem.line for problem in refused(root, text).problems] == [2, 6, 7, 8, 9, 10]


def test_a_mistake_is_shown_with_its_line_and_a_caret(root: Path) -> None:
    """The message shows the line, with the caret below the value that is wrong."""
    error = refused(root, swap("name: small", "name: Small  # loud"))
    assert str(error).splitlines()[:3] == [
        'agent.yaml:2: "name" is "Small".',
        "      name: Small  # loud",
        "            ~~~~^",
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("agnet.yaml", 'Did you mean "agent.yaml"?'),
        ("nowhere/agent.yaml", "there is no file nowhere/agent.yaml"),
        ("prompts", "is a folder"),
        ("../agent.yaml", "leads out of the repository"),
        ("/etc/hostname", "leads out of the repository"),
        ("a\0b", "is not a usable path"),
    ],
)
def test_a_file_that_is_not_there_is_named(root: Path, path: str, message: str) -> None:
    """A path that is no agent file is a user error that says why."""
    (root / "agent.yaml").write_text(SMALL)
    with pytest.raises(UserError) as caught:
        load_agent(path, root)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [b"\xef\xbb\xbf" + SMALL.encode(), SMALL.replace("\n", "\r\n").encode(), SMALL.encode() + b"\n...\n"],
    ids=["byte order mark", "CRLF", "document end"],
)
def test_harmless_bytes_change_nothing(root: Path, text: bytes) -> None:
    """A byte order mark, CRLF line ends and a document end are read as if they were not there."""
    assert load(root, text).digest == load(root, SMALL).digest


def test_aliases_are_followed(root: Path) -> None:
    """An anchor used twice is the same value twice."""
    text = swap("model:\n", "model: &m\n") + "  fallback_model: *m\n"
    agent = load(root, text)
    assert agent.fallback_model == agent.model


def test_paths_are_relative_to_the_working_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a root the working directory is it, also for an absolute path to the file."""
    load(root, SMALL)
    monkeypatch.chdir(root)
    assert load_agent("agent.yaml").root == root
    assert load_agent(str(root / "agent.yaml")).name == "small"


def test_another_check_can_point_into_the_file(root: Path) -> None:
    """A key path has its place in the file; one that is not there has its nearest parent's."""
    agent = load(root, SMALL + METRICS + "0.85\n")
    at_key = agent.problem("evals", "metrics", "exact_match", message="unknown.", repair="Do this.")
    assert (at_key.path, at_key.line, at_key.column, at_key.length) == ("agent.yaml", 10, 7, 11)
    assert (at_key.source, at_key.repair) == ("      exact_match: 0.85", "Do this.")
    at_value = agent.problem("evals", "metrics", "exact_match", message="too low.", value=True)
    assert (at_value.column, at_value.length) == (20, 4)
    assert agent.problem("evals", "metrics", "nothing", message="x").line == 9
    assert agent.problem("nothing", message="x").line == 1


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("claude-3.5-sonnet-20240620", True),
        ("claude-3.5-sonnet", False),
        ("gpt-4o-2024-08-06", True),
        ("gpt-4o", False),
        ("gpt-4-0613", True),
        ("mistral-large-2407", True),
        ("gemini-1.5-pro-002", True),
        ("gemini-2.5-pro-preview-05-06", True),
        ("claude-3-5-sonnet@20240620", True),
        ("llama3.1:70b", True),
        ("llama3.1", False),
        ("llama3.1:latest", False),
        ("claude-3-5-sonnet-latest", False),
        ("mistral-2407-latest", False),
        ("m@latest", False),
        ("m@sha256:abc", True),
        ("gpt-3.5-turbo-16k", False),
    ],
)
def test_a_pinned_model_names_its_weights(name: str, pinned: bool) -> None:
    """A date, a release number, a tag or a digest pins a model, `latest` never does."""
    assert is_pinned(name) is pinned


@pytest.mark.parametrize(("policy", "warnings"), [("", 2), ("warn", 2), ("allow", 0)])
def test_an_unpinned_model_is_a_warning(root: Path, policy: str, warnings: int) -> None:
    """A model that may change unseen is warned about at its line, and so is the fallback, unless allowed."""
    text = (
        swap("gpt-4o-mini-2024-07-18", "gpt-4o-mini") + "  fallback_model: {provider: openai, name: gpt-4o}\n"
    )
    agent = load(root, text + (f"  evals: {{unpinned_model: {policy}}}\n" if policy else ""))
    assert [problem.line for problem in agent.warnings] == [6, 8][:warnings]


def test_code_that_the_digest_cannot_cover_is_a_warning(root: Path) -> None:
    """An entry point outside the repository is warned about at its line."""
    agent = load(root, add("entrypoint: elsewhere.agent:answer"))
    assert [problem.line for problem in agent.warnings] == [8]


def test_the_schema_describes_every_key() -> None:
    """Every key has a description: editors show it, and messages use it as the repair."""
    from gatehouse.agent.schema import validator  # noqa: PLC0415

    def bare(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, inner in schema.get("properties", {}).items():
            found += [] if "description" in inner or "$ref" in inner else [f"{path}.{key}"]
            found += bare(inner, f"{path}.{key}")
        for inner in (
            schema.get("items"),
            schema.get("additionalProperties"),
            *schema.get("$defs", {}).values(),
        ):
            found += bare(inner, path + "[]") if isinstance(inner, dict) else []
        return found

    for name in ("agent", "golden"):
        schema = validator(name).schema
        assert isinstance(schema, dict)
        validator(name).check_schema(schema)
        assert bare(schema, name) == []
