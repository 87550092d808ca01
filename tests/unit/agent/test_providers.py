"""Which endpoint and key a provider's name means."""

from __future__ import annotations

import pytest

from gatehouse.agent.providers import PROVIDERS, keys_by_name, keys_in, resolve, with_keys
from gatehouse.errors import InfrastructureError, UserError


def test_the_agent_file_s_url_wins_over_the_variable_and_that_over_the_default() -> None:
    """The nearest source of a base URL counts."""
    environ = {"OPENAI_BASE_URL": "https://proxy.example/v1", "OPENAI_API_KEY": "k"}
    assert resolve("openai", "https://mine.example/x/", environ).base_url == "https://mine.example/x"
    assert resolve("openai", None, environ).base_url == "https://proxy.example/v1"
    assert resolve("openai", None, {"OPENAI_API_KEY": "k"}).base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("name", "url", "base_url"),
    [
        ("ollama", "http://gpu:11434", "http://gpu:11434/v1"),
        ("vllm", "http://gpu:8000/", "http://gpu:8000/v1"),
        ("azure", "https://mine.openai.azure.com", "https://mine.openai.azure.com/openai/v1"),
        ("vllm", "http://gpu:8000/api", "http://gpu:8000/api"),
    ],
)
def test_a_bare_host_gets_the_provider_s_path(name: str, url: str, base_url: str) -> None:
    """Many tools' variables hold the host alone."""
    assert resolve(name, url, {"GATEHOUSE_MODEL_KEY": "k"}).base_url == base_url


def test_our_own_key_wins_and_is_never_shown() -> None:
    """GATEHOUSE_MODEL_KEY counts before the provider's variable, without the line end it was pasted with."""
    endpoint = resolve("openai", None, {"GATEHOUSE_MODEL_KEY": "ours\n", "OPENAI_API_KEY": "theirs"})
    assert endpoint.key == "ours"
    assert "ours" not in repr(endpoint)


LINES = "openai=sk-one\n\n SUPPORT_KEY = a=b== \nMISSING_KEY=\nOPENAI_ORG=o\n"


def test_lines_are_keys_of_providers_and_variables() -> None:
    """A provider's line is for its models alone, any other is that variable; no key is for everybody."""
    environ = {"GATEHOUSE_MODEL_KEY": LINES, "XAI_API_KEY": "theirs", "SUPPORT_KEY": "old"}
    assert resolve("openai", None, environ).key == "sk-one"
    assert resolve("xai", None, environ).key == "theirs"
    with pytest.raises(InfrastructureError, match="No key for groq"):
        resolve("groq", None, environ)
    variables = {"XAI_API_KEY": "theirs", "SUPPORT_KEY": "a=b==", "OPENAI_ORG": "o"}
    assert with_keys(environ, "openai") == variables | {"GATEHOUSE_MODEL_KEY": "sk-one"}
    assert with_keys(environ) == variables | {"GATEHOUSE_MODEL_KEY": ""}
    assert resolve("xai", None, {"GATEHOUSE_MODEL_KEY": "XAI_API_KEY=k"}).key == "k"
    assert {"sk-one", "a=b=="} <= set(keys_in(LINES))


@pytest.mark.parametrize(
    "key",
    ["sk-one", "JBSWY3DPEHPK3PXP====", "QUJD==", "x=y", "-----BEGIN KEY-----\nQUJD==\n-----END KEY-----"],
)
def test_one_key_is_everybody_s(key: str) -> None:
    """Also one that looks like a name, or has more lines than one."""
    assert keys_by_name(f" {key}\n", "K", variables=True) == {"": key}
    assert with_keys({"GATEHOUSE_MODEL_KEY": key}, "xai")["GATEHOUSE_MODEL_KEY"] == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openai=sk-one\nsk-two", "line 2 of GATEHOUSE_MODEL_KEY is not NAME=KEY."),
        ("A_KEY=sk-one\nopnai=sk-two", 'Did you mean "openai="\\? A variable\'s name is in capitals.'),
        ("A_KEY=sk-one\nA_KEY=sk-two", "gives a key of A_KEY, which has one already"),
        ("A_KEY=sk-one\nGITHUB_TOKEN=sk-two", "names GITHUB_TOKEN, which no agent gets"),
    ],
)
def test_a_line_that_is_none_is_told_by_its_number(text: str, said: str) -> None:
    """With nothing of what may be a key."""
    with pytest.raises(UserError, match=said) as raised:
        resolve("openai", None, {"GATEHOUSE_MODEL_KEY": text})
    assert "sk-" not in str(raised.value)


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": " "}, {"OPENAI_API_KEY": "two\nlines"}])
def test_a_missing_or_broken_key_is_the_infrastructure_s(environ: dict[str, str]) -> None:
    """Nothing would be measured, so nothing is asked."""
    with pytest.raises(InfrastructureError, match=r"No key for openai: set|holds characters"):
        resolve("openai", None, environ)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("ollama", None),
        ("vllm", "http://gpu:8000"),
        ("openai", "http://127.0.0.1:1"),
        ("openai", "http://localhost:1"),
    ],
)
def test_a_self_hosted_or_local_model_needs_no_key(name: str, url: str | None) -> None:
    """Where nobody charges, nobody asks for a key."""
    endpoint = resolve(name, url, {})
    assert endpoint.key is None
    assert endpoint.headers() == {}


@pytest.mark.parametrize(
    ("name", "url", "message"),
    [
        ("opnai", None, 'Did you mean "openai"'),
        ("zzzzzz", None, "Known are: anthropic"),
        ("azure", None, "AZURE_OPENAI_ENDPOINT"),
        ("vllm", None, "VLLM_BASE_URL"),
        ("openai", "api.openai.com/v1", "cannot be used"),
        ("openai", "file:///etc/passwd", "cannot be used"),
        ("openai", "https://user:pw@host/v1", "cannot be used"),
        ("openai", "https://:pw@host/v1", "cannot be used"),
        ("openai", "https://host/v1?x=1", "cannot be used"),
        ("openai", "https://host:99999/v1", "cannot be used"),
        ("openai", "https://ho st/v1", "cannot be used"),
    ],
)
def test_what_cannot_be_asked_is_the_user_s_to_mend(name: str, url: str | None, message: str) -> None:
    """An unknown provider, one without an address, a URL of the wrong form."""
    with pytest.raises(UserError, match=message):
        resolve(name, url, {"GATEHOUSE_MODEL_KEY": "k"})


def test_another_use_has_a_key_and_an_address_of_its_own() -> None:
    """Its variables win over the provider's, the agent's are not looked at, messages name the right ones."""
    environ = {
        "GATEHOUSE_MODEL_KEY": "agent's",
        "OPENAI_API_KEY": "theirs",
        "MY_KEY": "mine",
        "MY_URL": "http://h",
    }
    mine = resolve("openai", None, environ, key_variable="MY_KEY", base_url_variable="MY_URL")
    assert (mine.key, mine.base_url) == ("mine", "http://h/v1")
    theirs = resolve("openai", None, environ, key_variable="")
    assert (theirs.key, theirs.base_url) == ("theirs", "https://api.openai.com/v1")
    with pytest.raises(InfrastructureError, match="No key for xai: set XAI_API_KEY"):
        resolve("xai", None, environ, key_variable="")
    with pytest.raises(UserError, match="Give MY_URL or VLLM_BASE_URL"):
        resolve("vllm", None, {}, key_variable="MY_KEY", base_url_variable="MY_URL")
    with pytest.raises(UserError, match="comes from MY_URL or VLLM_BASE_URL"):
        resolve("vllm", None, {"MY_URL": "h"}, key_variable="MY_KEY", base_url_variable="MY_URL")
    with pytest.raises(UserError, match=r"Give the agent file's model\.base_url or VLLM_BASE_URL\."):
        resolve("vllm", None, {})


def test_where_nobody_answers_is_said_with_what_to_do() -> None:
    """Whose provider, where, what names another address; and of a server of the user's, if it runs."""
    judge = resolve("ollama", None, {}, key_variable="MY_KEY", base_url_variable="MY_URL")
    assert judge.unreachable("connection refused") == (
        "the judge's provider ollama cannot be reached at http://127.0.0.1:11434/v1 (connection refused). "
        "Is it running? MY_URL or OLLAMA_BASE_URL names another address."
    )
    agent = resolve("openai", None, {"OPENAI_API_KEY": "k"})
    assert agent.unreachable("no route") == (
        "the model's provider openai cannot be reached at https://api.openai.com/v1 (no route). "
        "The agent file's model.base_url or OPENAI_BASE_URL names another address."
    )


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS.keys())
def test_the_table_holds_together(provider: object) -> None:
    """Each default is encrypted or local, and ends in the path that a bare host would get."""
    p = PROVIDERS[provider.name]  # type: ignore[attr-defined] # parametrize has no type
    assert p.base_url == "" or p.base_url.endswith(p.path)
    assert p.base_url.startswith(("https://", "http://127.0.0.1:")) or not p.base_url
