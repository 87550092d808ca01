"""Which judges are asked, where and as whom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gatehouse.agent.definition import JudgeSetting, load_agent
from gatehouse.agent.providers import keys_by_name, keys_in
from gatehouse.errors import InfrastructureError, UserError
from gatehouse.evals.judges.model import (
    embeddings_of,
    parse_model,
    resolve_models,
    self_preference,
    unpinned,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.evals.judges.model import Models

KEYS = {"OPENAI_API_KEY": "openai-key", "ANTHROPIC_API_KEY": "anthropic-key"}
BOTH = {"judge", "embeddings"}


def models(*names: str, embeddings: str | None = None, needs: set[str] = BOTH, **environ: str) -> Models:
    """The models of a panel."""
    return resolve_models(JudgeSetting(models=names), embeddings, needs=needs, environ=KEYS | environ)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ollama:llama3.1:70b", ("ollama", "llama3.1:70b")),
        (" openai:gpt-4o ", ("openai", "gpt-4o")),
        ("openrouter:openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
    ],
)
def test_a_judge_is_parted_at_its_first_colon(text: str, parts: tuple[str, str]) -> None:
    """Names of models hold colons and slashes themselves."""
    assert parse_model(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpt-4o", "'gpt-4o' names no model.\nA judge is PROVIDER:MODEL"),
        ("openai:", "names no model"),
        (":gpt-4o", "names no model"),
        ("openai:gpt 4", "names no model"),
        ("openai:gpt\x1b4", "names no model"),
        ("opnai:gpt-4o", 'A judge is PROVIDER:MODEL. Did you mean "openai:gpt-4o"?'),
        ("olama:llama3.1:70b", 'Did you mean "ollama:llama3.1:70b"?'),
        ("llama3.1:70b", 'A judge is PROVIDER:MODEL. Did you mean "ollama:llama3.1:70b"?'),
        ("qwen2.5:0.5b-instruct-q4_K_M", 'Did you mean "ollama:qwen2.5:0.5b-instruct-q4_K_M"?'),
        ("mixtral:8x7b", 'Did you mean "ollama:mixtral:8x7b"?'),
        ("codellama:latest", 'Did you mean "ollama:codellama:latest"?'),
        ("llama3.1:other", "A judge is PROVIDER:MODEL. Known providers are anthropic, azure, "),
        ("zzz:model", "A judge is PROVIDER:MODEL. Known providers are anthropic, azure, "),
        ("y" * 5000 + ":model", 'yyy...".'),
        ("x" * 5000, "xxx...' names no model"),
    ],
)
def test_what_names_no_model_is_the_user_s_to_mend(text: str, message: str) -> None:
    """With the form, or the nearest provider."""
    with pytest.raises(UserError) as caught:
        parse_model(text)
    assert message in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_judge_is_the_same_in_whatever_spelling() -> None:
    """White space around provider and model is no part of its name, in the agent file and elsewhere."""
    setting = JudgeSetting(models=(" ollama : j:70b ", "nothing"))
    assert setting.models == ("ollama:j:70b", "nothing")
    assert replace(setting, models=("openai: a",)).models == ("openai:a",)


def test_a_panel_names_nobody_twice(tmp_path: Path) -> None:
    """Or one judge alone would be its majority; each one is told."""
    with pytest.raises(UserError) as caught:
        JudgeSetting(models=("openai:a", "ollama:j:70b", "openai:b", "ollama: j:70b", "openai:a "))
    assert 'judge "openai:a" is named twice.' in str(caught.value)
    assert 'judge "ollama:j:70b" is named twice.' in str(caught.value)
    assert "openai:b" not in str(caught.value)
    (tmp_path / "a.yaml").write_text(
        "agent:\n  name: a\n  version: 1.0.0\n  model: {provider: openai, name: gpt-4o-2024-08-06}\n"
        '  system_prompt: a.yaml\n  evals: {judge: ["ollama:j:70b", "ollama: j:70b"]}\n'
    )
    with pytest.raises(UserError, match='judge "ollama:j:70b" is named twice'):
        load_agent("a.yaml", tmp_path)


def test_the_judge_s_own_key_and_address_are_for_the_first_judge_s_provider() -> None:
    """Another judge and the embeddings of that provider share them; another provider gets only its own."""
    found = models(
        "openai:a",
        "anthropic:b",
        "openai:c",
        GATEHOUSE_JUDGE_KEY="judge-key\n",
        GATEHOUSE_JUDGE_BASE_URL="https://proxy.example/v1",
        GATEHOUSE_MODEL_KEY="agent-key",
    )
    first, other, third = found.judges
    assert (first.name, first.endpoint.key) == ("openai:a", "judge-key")
    assert first.endpoint.base_url == "https://proxy.example/v1"
    assert third.endpoint == first.endpoint
    assert (other.endpoint.key, other.endpoint.base_url) == ("anthropic-key", "https://api.anthropic.com/v1")
    assert found.embeddings
    assert found.embeddings.name == "openai:text-embedding-3-small"
    assert found.embeddings.endpoint == first.endpoint
    assert "judge-key" not in repr(found)


def test_a_provider_s_own_variables_serve_where_the_judge_s_are_not_set() -> None:
    """The agent's key is never a judge's."""
    (judge,) = models("openai:a", OPENAI_BASE_URL="http://gpu:1", GATEHOUSE_MODEL_KEY="agent-key").judges
    assert (judge.endpoint.key, judge.endpoint.base_url) == ("openai-key", "http://gpu:1/v1")


def test_several_keys_are_each_their_provider_s() -> None:
    """A line for each, whatever order and line ends; who has none in it has their own variable's."""
    held = "\n anthropic = a-key== \r\nopenai=o-key\nxai=\n"
    panel = ("openai:a", "anthropic:b")
    found = models(*panel, embeddings="mistral:e", MISTRAL_API_KEY="m", GATEHOUSE_JUDGE_KEY=held)
    assert [judge.endpoint.key for judge in found.judges] == ["o-key", "a-key=="]
    assert found.embeddings
    assert found.embeddings.endpoint.key == "m"
    with pytest.raises(InfrastructureError, match="No key for xai"):
        models("xai:a", needs={"judge"}, GATEHOUSE_JUDGE_KEY=held)


@pytest.mark.parametrize(
    ("held", "keys"),
    [
        ("sk-abc", {"": "sk-abc"}),
        ("sk-abc\n", {"": "sk-abc"}),
        ("c2stYWJj==", {"": "c2stYWJj=="}),
        ("token=abc", {"": "token=abc"}),
        ("openai=sk=abc=", {"openai": "sk=abc="}),
        ("openai=", {}),
        ("", {}),
        ("\n\n", {}),
    ],
)
def test_one_line_is_a_key_unless_it_begins_with_a_provider(held: str, keys: dict[str, str]) -> None:
    """Keys may hold "=", and a secret that is missing leaves nothing behind it."""
    assert keys_by_name(held, "GATEHOUSE_JUDGE_KEY") == keys


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("openai=sk-one\nsk-two", ["line 2 of GATEHOUSE_JUDGE_KEY is not PROVIDER=KEY."]),
        ("sk-one\nsk-two", ["line 1 of", "line 2 of"]),
        ("openai=sk-one\n\nantropic=sk-two", ["line 3 of", 'Did you mean "anthropic="?']),
        (
            "OPENAI_API_KEY=sk-one\nc2st=sk-two",
            ['Did you mean "openai="?', "line 2 of", "Known providers are"],
        ),
        (
            "openai=sk-one\nopenai=sk-two",
            ["line 2 of GATEHOUSE_JUDGE_KEY gives a key of openai, which has one"],
        ),
    ],
)
def test_lines_that_are_none_are_told_by_their_numbers(held: str, said: list[str]) -> None:
    """All at once, and with nothing of what they say: what stands before "=" may be half a key."""
    with pytest.raises(UserError) as caught:
        models("openai:a", "anthropic:b", GATEHOUSE_JUDGE_KEY=held)
    assert all(words in str(caught.value) for words in said)
    for part in ("sk-one", "sk-two", "c2st", "antropic", "OPENAI_API_KEY"):
        assert part not in str(caught.value)


def test_every_key_is_known_to_whoever_hides_keys() -> None:
    """Also in a form that is refused, and without the names, which any text may hold."""
    assert set(keys_in("openai=sk-one\n anthropic = sk-two\nxai=\n")) - {""} == {"sk-one", "sk-two"}
    assert set(keys_in("sk-one\n")) - {""} == {"sk-one"}
    assert {"sk-two", "anthropc=sk-two", "c2st=="} <= set(keys_in("c2st==\nanthropc=sk-two"))


def test_a_name_that_says_no_weights_is_unpinned() -> None:
    """Neither a date nor a tag; a tag is not the provider's colon."""
    judges = ["openai:gpt-4o", "openai:gpt-4o-2024-08-06", "ollama:llama3.1", "ollama:llama3.1:70b"]
    assert unpinned(judges) == ["openai:gpt-4o", "ollama:llama3.1"]


def test_embeddings_are_the_first_judge_s_provider_s_usual_ones() -> None:
    """What is given wins; where nothing is usual there is none."""
    assert embeddings_of(JudgeSetting(models=("ollama:x", "openai:y")), None) == "ollama:nomic-embed-text"
    assert embeddings_of(JudgeSetting(models=("ollama:x",)), "openai:e") == "openai:e"
    assert embeddings_of(JudgeSetting(models=("anthropic:x",)), None) is None
    assert embeddings_of(JudgeSetting(), None) is None


def test_only_what_is_needed_is_resolved() -> None:
    """No key is wanted for a model that is not asked; the judge's key stays the judge's provider's."""
    assert models("xai:a", needs=set()).judges == []
    alone = models("ollama:a", embeddings="ollama:e", needs={"embeddings"}, GATEHOUSE_JUDGE_KEY="k")
    assert alone.judges == []
    assert alone.embeddings
    assert alone.embeddings.endpoint.key == "k"
    other = models("xai:a", embeddings="openai:e", needs={"embeddings"}, GATEHOUSE_JUDGE_KEY="k").embeddings
    assert other
    assert other.endpoint.key == "openai-key"
    none = models(embeddings="openai:e", needs={"embeddings"}, GATEHOUSE_JUDGE_KEY="k").embeddings
    assert none
    assert none.endpoint.key == "k"
    assert models("anthropic:a", needs={"judge"}).embeddings is None


def test_all_faults_are_told_at_once_before_anything_is_asked() -> None:
    """What the user can mend first."""
    with pytest.raises(UserError) as caught:
        models("opnai:a", "nothing", "xai:a", "azure:m", embeddings="zzz:e")
    said = str(caught.value)
    assert said.count('Did you mean "openai:a"?') == 1
    assert "'nothing' names no model" in said
    assert "Give AZURE_OPENAI_ENDPOINT." in said
    assert 'unknown model provider "zzz"' in said
    assert "No key" not in said
    with pytest.raises(InfrastructureError) as missing:
        models("xai:a", "xai:b", "groq:c", "openai:d", embeddings="openai:e")
    assert str(missing.value).splitlines() == [
        "No key for xai: set GATEHOUSE_JUDGE_KEY or XAI_API_KEY. Nothing was measured.",
        "No key for groq: set GATEHOUSE_JUDGE_KEY or GROQ_API_KEY. Nothing was measured.",
        "GATEHOUSE_JUDGE_KEY (the workflow's secret judge-key) holds a key for xai, or lines PROVIDER=KEY.",
    ]


def test_a_missing_judge_and_missing_embeddings_are_named_with_what_to_give() -> None:
    """Both at once; and why there are no usual embeddings."""
    with pytest.raises(UserError) as caught:
        models()
    assert "--judge PROVIDER:MODEL" in str(caught.value)
    assert "--embeddings PROVIDER:MODEL" in str(caught.value)
    with pytest.raises(UserError, match="anthropic has no usual one"):
        models("anthropic:a")


@pytest.mark.parametrize(
    ("judge", "warned"),
    [
        ("openai:gpt-4o-2024-08-06", True),
        ("openai:gpt-4o", True),
        ("openrouter:openai/GPT-4o", True),
        ("openai:gpt-4o-mini", False),
        ("anthropic:claude-sonnet-4-5-20250929", True),
        ("ollama:llama3.1:70b", False),
    ],
)
def test_a_judge_of_its_own_answers_is_warned_about(tmp_path: Path, judge: str, warned: bool) -> None:
    """The agent's model or fallback, whoever serves it and of whatever date."""
    (tmp_path / "a.yaml").write_text(
        "agent:\n  name: a\n  version: 1.0.0\n  model: {provider: openai, name: gpt-4o-2024-08-06}\n"
        "  fallback_model: {provider: anthropic, name: claude-sonnet-4-5}\n  system_prompt: p.md\n"
    )
    (tmp_path / "p.md").write_text("Be brief.\n")
    agent = load_agent("a.yaml", tmp_path)
    judged = replace(agent.evals, judge=JudgeSetting(models=("openai:o3", judge)))
    warning = self_preference(replace(agent, evals=judged))
    assert (warning is not None) == warned
    if warning:
        assert f'"{judge}"' in warning
        assert "o3" not in warning
