"""Where each provider's OpenAI-compatible endpoint is, and which variable holds its key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatehouse.agent.interpreter import is_hidden, worker_environment
from gatehouse.errors import InfrastructureError, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.agent.entrypoint import Url

MODEL_KEY = "GATEHOUSE_MODEL_KEY"
"""One key, which wins over every provider's own variable, or lines NAME=KEY.

NAME is a provider, whose models alone get that key, or an environment variable of the agents.
"""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
SHORTEST_KEY = 8
"""Characters of a key that is looked for in texts, to hide it: a self-hosted model's may be any word."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: `base_url` is "" where every customer has their own, `path` is what a bare host gets.

    A self-hosted one costs nothing per token and needs no key, but sends one that is set. `embeddings` is the
    model that its users embed texts with as a rule, "" where there is none.
    """

    name: str
    base_url: str
    base_url_variable: str
    key_variable: str
    self_hosted: bool = False
    path: str = "/v1"
    key_header: str = "Authorization"
    embeddings: str = ""


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            "openai",
            "https://api.openai.com/v1",
            "OPENAI_BASE_URL",
            "OPENAI_API_KEY",
            embeddings="text-embedding-3-small",
        ),
        Provider("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        Provider(
            "ollama",
            "http://127.0.0.1:11434/v1",
            "OLLAMA_BASE_URL",
            "OLLAMA_API_KEY",
            self_hosted=True,
            embeddings="nomic-embed-text",
        ),
        Provider("vllm", "", "VLLM_BASE_URL", "VLLM_API_KEY", self_hosted=True),
        Provider(
            "azure",
            "",
            "AZURE_OPENAI_ENDPOINT",
            "AZURE_OPENAI_API_KEY",
            path="/openai/v1",
            key_header="api-key",
        ),
        Provider("bedrock", "", "BEDROCK_BASE_URL", "AWS_BEARER_TOKEN_BEDROCK", path="/openai/v1"),
        Provider("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_BASE_URL", "DEEPSEEK_API_KEY"),
        Provider(
            "fireworks",
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_BASE_URL",
            "FIREWORKS_API_KEY",
            path="/inference/v1",
        ),
        Provider(
            "google",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_BASE_URL",
            "GEMINI_API_KEY",
            path="/v1beta/openai",
            embeddings="gemini-embedding-001",
        ),
        Provider(
            "groq", "https://api.groq.com/openai/v1", "GROQ_BASE_URL", "GROQ_API_KEY", path="/openai/v1"
        ),
        Provider(
            "mistral",
            "https://api.mistral.ai/v1",
            "MISTRAL_BASE_URL",
            "MISTRAL_API_KEY",
            embeddings="mistral-embed",
        ),
        Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_BASE_URL",
            "OPENROUTER_API_KEY",
            path="/api/v1",
        ),
        Provider("together", "https://api.together.xyz/v1", "TOGETHER_BASE_URL", "TOGETHER_API_KEY"),
        Provider("xai", "https://api.x.ai/v1", "XAI_BASE_URL", "XAI_API_KEY"),
    )
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and as whom; `key` is None where none is needed.

    `whose` provider it is, which `sources` its address may come from, and where its key was found are words
    for messages.
    """

    provider: Provider
    base_url: str
    key: str | None = field(default=None, repr=False)
    whose: str = field(default="model's", compare=False)
    sources: str = field(default="", compare=False)
    key_from: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.provider.name

    def headers(self) -> dict[str, str]:
        """What a request carries to be let in."""
        if self.key is None:
            return {}
        header = self.provider.key_header
        return {header: f"Bearer {self.key}" if header == "Authorization" else self.key}

    def unreachable(self, why: str) -> str:
        """That nobody answers there, with what to do about it."""
        asked = "Is it running?" if self.provider.self_hosted or _is_loopback(self.base_url) else ""
        other = f"{self.sources[0].upper()}{self.sources[1:]} names another address." if self.sources else ""
        said = f"the {self.whose} provider {self.provider.name} cannot be reached at {self.base_url} ({why})."
        return " ".join(filter(None, (said, asked, other)))


@dataclass(frozen=True, slots=True)
class Address:
    """Where an agent of the user's own is asked, and as whom; `key` is None where none is needed.

    The key is sent in `header` as it is, or as `Authorization: Bearer` where that is None, beside `others`.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)
    header: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    key_from: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What people call it: without the query, which may hold a secret."""
        return f"the agent at {self.base_url.partition('?')[0]}"

    def headers(self) -> dict[str, str]:
        """What a request carries beside what every request does."""
        if self.key is None:
            return dict(self.others)
        own = {self.header: self.key} if self.header else {"Authorization": f"Bearer {self.key}"}
        return {**self.others, **own}

    def unreachable(self, why: str) -> str:
        """That nobody answers there, with what to do about it."""
        return f"{self.name} cannot be reached ({why}). Is it running?"


def resolve_address(entry: Url, environ: Mapping[str, str]) -> Address:
    """The address of an agent with its key.

    The key is that of the variable that the file names, else the one key that GATEHOUSE_MODEL_KEY holds;
    never of a variable that no agent sees, such as a job's own token. Raises InfrastructureError for a
    missing key: nothing would be measured; UserError where GATEHOUSE_MODEL_KEY has a line that is none.
    """
    accept = {"Accept": "text/event-stream"} if entry.stream == "events" else {}
    # In one spelling: a header in two would be sent twice.
    others = accept | {name.title(): value for name, value in entry.headers.items()}
    asked = Address(entry.url, others=others)
    if entry.secret is None:
        return asked
    named = with_keys(environ)
    seen = worker_environment(named) | {MODEL_KEY: named[MODEL_KEY]}
    variables = list(dict.fromkeys([entry.secret, MODEL_KEY]))
    key, variable = _first_of(seen, variables)
    if not key:
        ways = " or ".join(variables)
        if environ.get(MODEL_KEY, "").strip():  # its keys are others'
            ways = f"{entry.secret}, or write a line {entry.secret}=KEY in {MODEL_KEY}"
        raise InfrastructureError(f"No key for {asked.name}: set {ways}. Nothing was measured.")
    _check_key(key, asked.name)
    return Address(entry.url, key, entry.header, others, variable)


def find_provider(name: str) -> Provider:
    """The provider of that name; raises UserError with the nearest one."""
    if name in PROVIDERS:
        return PROVIDERS[name]
    near = get_close_matches(name, PROVIDERS, 1)
    repair = f'Did you mean "{near[0]}"?' if near else f"Known are: {', '.join(sorted(PROVIDERS))}."
    raise UserError(Problem(f'unknown model provider "{name}".', repair=repair))


def resolve(
    name: str,
    base_url: str | None,
    environ: Mapping[str, str],
    *,
    key_variable: str = MODEL_KEY,
    base_url_variable: str = "",
) -> Endpoint:
    """The endpoint of provider `name`: its URL from the agent file, else its variable, else its own.

    `key_variable` and `base_url_variable` win over the provider's own variables; "" stands for none. Raises
    UserError for a provider or URL that cannot be used, and InfrastructureError for a missing key: nothing
    would be measured.
    """
    provider = find_provider(name)
    url_variables = [v for v in (base_url_variable, provider.base_url_variable) if v]
    key_variables = [v for v in (key_variable, provider.key_variable) if v]
    # A judge's address never comes from the agent file: only what is not a judge's is told to write it there.
    agent = key_variable == MODEL_KEY
    if agent:
        environ = with_keys(environ, name)
    sources = " or ".join(["the agent file's model.base_url"] * agent + url_variables)
    url = base_url or _first(environ, url_variables) or provider.base_url
    if not url:
        raise UserError(Problem(f'provider "{name}" has no address of its own.', repair=f"Give {sources}."))
    url = _checked(url, provider, sources)
    found, variable = _first_of(environ, key_variables)
    key = found or None
    _check_key(found, name)
    if key is None and not provider.self_hosted and not _is_loopback(url):
        raise InfrastructureError(
            f"No key for {name}: set {' or '.join(key_variables)}. Nothing was measured."
        )
    return Endpoint(provider, url, key, "model's" if agent else "judge's", sources, variable)


def with_keys(environ: Mapping[str, str], provider: str = "") -> dict[str, str]:
    """The environment in which GATEHOUSE_MODEL_KEY is the one key for models of `provider`, "" for none.

    The variables that its lines name are set. Raises UserError for a line that is none.
    """
    keys = keys_by_name(environ.get(MODEL_KEY, ""), MODEL_KEY, variables=True)
    variables = {name: key for name, key in keys.items() if name and name not in PROVIDERS}
    return {**environ, **variables, MODEL_KEY: keys.get(provider) or keys.get("", "")}


def keys_by_name(text: str, held_by: str, *, variables: bool = False) -> dict[str, str]:
    """The keys in a text that holds one, or a line PROVIDER=KEY for each provider; "" stands for the one.

    With `variables` a name may also be that of an environment variable. One line alone is such a line only if
    it begins with such a name: keys may hold "=" too, and end with it. A name with nothing behind it has no
    key: its secret is missing. Raises UserError with the number of every line that is none, and nothing it
    says.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if (variables or len(lines) == 1) and not any(_is_named(line, variables=variables) for _, line in lines):
        return {"": text.strip()} if lines else {}
    what = "NAME" if variables else "PROVIDER"
    keys: dict[str, str] = {}
    problems = []
    for number, line in lines:
        name, equals, key = (part.strip() for part in line.partition("="))
        variable = variables and bool(_VARIABLE.fullmatch(name))
        message, repair = "", ""
        if not equals:
            message = f"is not {what}=KEY."
            repair = f"It holds one key in one line, or a line {what}=KEY for each {what.lower()}."
        elif not (name in PROVIDERS or variable):
            message = "begins with an unknown provider."
            repair = _near(name.casefold(), '"{}="') + " A variable's name is in capitals." * variables
        elif name in keys:
            message = f"gives a key of {name}, which has one already."
        elif variable and is_hidden(name):
            message = f"names {name}, which no agent gets."
        if message:
            problems.append(Problem(f"line {number} of {held_by} {message}", repair=repair))
        else:
            keys[name] = key
    if problems:
        raise UserError(*problems)
    return {name: key for name, key in keys.items() if key}


def _is_named(line: str, *, variables: bool) -> bool:
    """Whether a line is NAME=KEY, and not a key: base32 and base64 have no "_", and may end with "="."""
    name, equals, key = (part.strip() for part in line.partition("="))
    if name in PROVIDERS or not (variables and _VARIABLE.fullmatch(name)):
        return bool(equals) and name in PROVIDERS
    return bool(equals) and ("_" in name or bool(key.strip("=")))


def keys_in(text: str) -> Iterator[str]:
    """All that is a key in it, or may be one where its form is refused, for whoever has to hide it."""
    for line in map(str.strip, text.splitlines()):
        name, _, key = (part.strip() for part in line.partition("="))
        yield key
        if name not in PROVIDERS:
            yield line


def _near(name: str, shown: str) -> str:
    near = get_close_matches(name, PROVIDERS, 1)
    return (
        f"Did you mean {shown.format(near[0])}?"
        if near
        else f"Known providers are {', '.join(sorted(PROVIDERS))}."
    )


def _check_key(key: str, whose: str) -> None:
    if not (key.isascii() and key.isprintable()):
        raise InfrastructureError(
            f"The key of {whose} holds characters that no key has: was it copied with line ends?"
        )


def _first(environ: Mapping[str, str], variables: list[str]) -> str:
    """The first of these variables that says anything, without the line end it was pasted with."""
    return _first_of(environ, variables)[0]


def _first_of(environ: Mapping[str, str], variables: list[str]) -> tuple[str, str]:
    """The same, with the variable's name; two empty texts where none says anything."""
    said = ((environ.get(name, "").strip(), name) for name in variables)
    return next((one for one in said if one[0]), ("", ""))


def _checked(url: str, provider: Provider, sources: str) -> str:
    """The URL without a slash at its end; a bare host gets the provider's path."""
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and "@" not in parts.netloc  # a password in it would show in every message
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    shown = "" if "@" in url else f": {url[:200]!r}"  # what may hold a password is not shown
    # A query would be cut off by the path we add.
    if not usable or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise UserError(
            Problem(
                f"the base URL of {provider.name} cannot be used{shown}.",
                repair="It has the form https://HOST/PATH, without user, query or fragment, and comes from "
                f"{sources}.",
            )
        )
    return url.rstrip("/") if parts.path.rstrip("/") else url.rstrip("/") + provider.path


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
