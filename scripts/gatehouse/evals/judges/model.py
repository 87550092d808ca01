"""Which models judge and embed, where they are asked, and as whom: settled before anything is run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gatehouse.agent.definition import is_pinned
from gatehouse.agent.providers import PROVIDERS, Endpoint, Provider, find_provider, keys_by_name, resolve
from gatehouse.errors import InfrastructureError, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatehouse.agent.definition import Agent, JudgeSetting

JUDGE_KEY = "GATEHOUSE_JUDGE_KEY"
"""The key of the first judge's provider, or lines PROVIDER=KEY; wins over the providers' own variables."""
JUDGE_BASE_URL = "GATEHOUSE_JUDGE_BASE_URL"
"""That provider's address. No agent file gives one: a pull request could send the key to its author."""

_TAG = re.compile(
    r"(?:latest|instruct|chat|text|code|mini|medium|(?:\d+x)?e?\d+(?:\.\d+)?[bm])(?:-[\w.]+)*", re.IGNORECASE
)
"""A tag of Ollama's: latest, 70b, 8x7b, 0.5b-instruct-q4_K_M."""
_DATE = re.compile(r"[-@](?:latest|\d{8}|\d{4}-\d{2}-\d{2}|\d{4})$")
"""What pins a name to a day: gpt-4o-2024-08-06, claude-sonnet-4-5-20250929, mistral-large-2411."""
_KNOWN = f"Known providers are {', '.join(sorted(PROVIDERS))}."


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """One model that judges or embeds."""

    provider: Provider
    model: str
    endpoint: Endpoint

    @property
    def name(self) -> str:
        """`PROVIDER:MODEL`."""
        return f"{self.provider.name}:{self.model}"


@dataclass(frozen=True, slots=True)
class Models:
    """Who is asked in one gate: a panel in its order, and the embeddings model, where a metric needs one."""

    judges: list[JudgeModel] = field(default_factory=list)
    embeddings: JudgeModel | None = None

    @property
    def everyone(self) -> list[JudgeModel]:
        """All of them."""
        return [*self.judges, *([self.embeddings] if self.embeddings else [])]

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self.everyone)


def parse_model(text: str, what: str = "A judge") -> tuple[str, str]:
    """Provider and model of `PROVIDER:MODEL`, parted at the first colon (`ollama:llama3.1:70b`).

    Raises UserError for another form, and for an unknown provider with what was probably meant.
    """
    provider, colon, model = (part.strip() for part in text.partition(":"))
    form = f"{what} is PROVIDER:MODEL"
    if not (provider and colon and model and model.isprintable()) or " " in model:
        repair = f"{form}, as in openai:gpt-4o-2024-08-06 or ollama:llama3.1:70b."
        raise UserError(Problem(f"{_short(text)!r} names no model.", repair=repair))
    if provider not in PROVIDERS:
        meant = _meant(provider, model)
        repair = f'{form}. Did you mean "{meant}"?' if meant else f"{form}. {_KNOWN}"
        raise UserError(Problem(f'unknown model provider "{_short(provider)}".', repair=repair))
    return provider, model


def embeddings_of(setting: JudgeSetting, embeddings: str | None) -> str | None:
    """The embeddings model by name: what was given, else the first judge's provider's usual one.

    None where neither is known; raises UserError for a judge that names no model.
    """
    if embeddings or not setting.models:
        return embeddings or None
    provider = find_provider(parse_model(setting.models[0])[0])
    return f"{provider.name}:{provider.embeddings}" if provider.embeddings else None


def resolve_models(
    setting: JudgeSetting, embeddings: str | None, *, needs: set[str], environ: Mapping[str, str]
) -> Models:
    """Who judges and embeds, with address and key; `needs` holds "judge", "embeddings", or both.

    Raises UserError with everything that the user can mend, and without such faults InfrastructureError with
    every key that is missing.
    """
    found = _Found(environ)
    if "judge" in needs and not setting.models:
        repair = "Give --judge PROVIDER:MODEL, or write `evals.judge` in the agent file."
        found.problems.append(Problem("a metric needs a judge, and none is named.", repair=repair))
    given = list(setting.models) if "judge" in needs else []
    judges = [model for model in map(found.model, given) if model]
    embedder = None
    if "embeddings" in needs:
        embedder = _embedder(found, setting, embeddings)
    found.settle()
    return Models(judges, embedder)


def unpinned(models: Iterable[str]) -> list[str]:
    """Those of these judges, PROVIDER:MODEL, whose names do not say which weights they are."""
    return [model for model in models if not is_pinned(parse_model(model)[1])]


def self_preference(agent: Agent) -> str | None:
    """A warning where a judge is the agent's own model, by whatever provider and of whatever date; else None.

    Models rate their own answers higher than people do: Panickssery et al., arXiv 2404.13076.
    """
    own = {_bare(model.name) for model in (agent.model, agent.fallback_model) if model}
    same = [f'"{judge}"' for judge in agent.evals.judge.models if _bare(parse_model(judge)[1]) in own]
    if not same:
        return None
    return (
        f"{' and '.join(same)} judges answers of its own model, and models prefer their own. "
        "Name another judge, or calibrate this one by people's labels."
    )


class _Found:
    """Models one after the other; what is wrong with them is kept until all were looked at."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.first: str | None = None
        self.providers: set[str] = set()
        self.problems: list[Problem] = []
        self.missing: list[str] = []

    def model(self, text: str) -> JudgeModel | None:
        """The model of that name; the first one's provider is the one that a key without a name is for."""
        try:
            name, model = parse_model(text)
            self.first = self.first or name
            self.providers.add(name)
            endpoint = resolve(
                name,
                None,
                {**self.environ, JUDGE_KEY: self.key(name)},
                key_variable=JUDGE_KEY,
                base_url_variable=JUDGE_BASE_URL if name == self.first else "",
            )
        except UserError as error:
            self.problems += error.problems
        except InfrastructureError as error:
            self.missing.append(str(error))
        else:
            return JudgeModel(endpoint.provider, model, endpoint)
        return None

    def key(self, provider: str) -> str:
        """The judge's key for that provider, "" where there is none."""
        try:
            keys = keys_by_name(self.environ.get(JUDGE_KEY, ""), JUDGE_KEY)
        except UserError as error:
            self.problems += error.problems
            return ""
        return keys.get(provider) or (keys.get("", "") if provider == self.first else "")

    def settle(self) -> None:
        """Raise what was found, each fault once."""
        if self.problems:
            raise UserError(*dict.fromkeys(self.problems))
        if self.missing and len(self.providers) > 1:
            self.missing.append(
                f"{JUDGE_KEY} (the workflow's secret judge-key) holds a key for {self.first}, or lines "
                "PROVIDER=KEY."
            )
        if self.missing:
            raise InfrastructureError("\n".join(dict.fromkeys(self.missing)))


def _embedder(found: _Found, setting: JudgeSetting, embeddings: str | None) -> JudgeModel | None:
    if found.first is None and setting.models:  # no metric asks a judge, but the key is still for the first
        found.first = setting.models[0].partition(":")[0].strip()
    try:
        name = embeddings_of(setting, embeddings)
    except UserError as error:
        found.problems += error.problems
        return None
    if name is None:
        whose = f" {setting.models[0].partition(':')[0]} has no usual one." if setting.models else ""
        message = f"a metric needs an embeddings model, and none is named.{whose}"
        repair = "Give --embeddings PROVIDER:MODEL, or write `evals.embeddings` in the agent file."
        found.problems.append(Problem(message, repair=repair))
        return None
    return found.model(name)


def _meant(provider: str, model: str) -> str:
    """What was probably meant by `PROVIDER:MODEL` of an unknown provider, as a whole; "" for no idea."""
    if _TAG.fullmatch(model):
        return f"ollama:{provider}:{model}"
    near = get_close_matches(provider.casefold(), PROVIDERS, 1)
    # No provider's name has a digit: what has one is a model, however alike it looks.
    return f"{near[0]}:{model}" if near and not re.search(r"\d", provider) else ""


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 what fits on a line


def _bare(model: str) -> str:
    """A model's name without the route to it (`openai/gpt-4o`) and its date."""
    return _DATE.sub("", model.rpartition("/")[2].casefold())
