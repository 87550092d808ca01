"""The agent file: loaded, checked against its schema and the repository, and given its digest."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from gatehouse.agent import digest as digests
from gatehouse.agent import mapping
from gatehouse.agent.entrypoint import Command, Function, Url, in_words, parse_entrypoint
from gatehouse.agent.schema import Keys, explain, faults
from gatehouse.agent.source import RefusedError, Source, decode, locate, parse_json, parse_yaml, read_file
from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.entrypoint import Entrypoint

AGENT_FILES = ("agents/*.yaml", "agents/*.yml")
"""Where agent files are looked for when none is named."""
PINNED = re.compile(r"(?<!\d)20\d\d-?\d\d-?\d\d(?!\d)|-\d{4}(?!\d)|-\d\d-\d\d(?!\d)|-\d{3}$|@sha256:|[:@].")
"""A date (20240620, 2024-06-20, -0613, -05-06), a release number at the end (-002), a tag or a digest."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model and how it is asked; `parameters` go into the request as they are."""

    provider: str
    name: str
    temperature: float | None = None
    max_tokens: int | None = None
    base_url: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the agent may call."""

    name: str
    scope: str | None = None
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Guardrails:
    """What holds for every output; `output_schema` is a path."""

    pii_redaction: bool = False
    output_schema: str | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Where the agent looks things up; `knowledge_base` is PATH@VERSION."""

    knowledge_base: str | None = None
    top_k: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budgets:
    """What one run (iterations, tokens) and one day (US dollars, requests) may use."""

    max_iterations: int | None = None
    max_tokens_per_run: int | None = None
    daily_usd: float | None = None
    requests_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class MetricSetting:
    """A metric that the agent is judged by; without a threshold it is measured only.

    `metric` is what it is where its key in the file is a name of the user's own; `module:function` is one of
    the user's own code, which is of `kind`.
    """

    threshold: float | None = None
    floor: Literal["value", "interval"] = "value"
    options: dict[str, Any] = field(default_factory=dict)
    metric: str | None = None
    kind: Literal["quality", "safety"] | None = None


@dataclass(frozen=True, slots=True)
class JudgeSetting:
    """Who judges, `PROVIDER:MODEL` each, and what that may take: votes, calls at once, seconds, US dollars.

    `min_kappa` is the agreement with people that a calibration has to show. Raises UserError where a judge is
    named twice, in whatever spelling: one judge alone would be a majority.
    """

    models: tuple[str, ...] = ()
    panel: Literal["majority", "mean"] = "majority"
    votes: int = 3
    concurrency: int = 8
    deadline_s: float = 120.0
    max_usd: float | None = None
    min_kappa: float | None = None

    def __post_init__(self) -> None:
        models = tuple(":".join(map(str.strip, name.split(":", 1))) for name in self.models)
        object.__setattr__(self, "models", models)
        twice = [name for name in dict.fromkeys(models) if models.count(name) > 1]
        if twice:
            repair = "Name each once; `evals.judge.votes` lets one vote more often."
            raise UserError(*(Problem(f'judge "{name}" is named twice.', repair=repair) for name in twice))


@dataclass(frozen=True, slots=True)
class Evals:
    """How the agent is judged; `max_usd` is what asking it may cost, in US dollars."""

    dataset: tuple[str, ...] = ()
    max_unscored: int = 0
    on_inconclusive: Literal["warn", "fail"] = "warn"
    unpinned_model: Literal["warn", "error", "allow"] = "warn"
    max_usd: float | None = None
    judge: JudgeSetting = field(default_factory=JudgeSetting)
    embeddings: str | None = None
    metrics: dict[str, MetricSetting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; cached input costs as other input when not given."""

    input_per_mtok: float
    output_per_mtok: float
    cached_input_per_mtok: float | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent file.

    `system_prompt` is a path, `prompt_text` its content (None without);
    `output_schema` is the content of `guardrails.output_schema`; `pricing` maps model names to prices;
    `parts` are the digests of each part of its behaviour; `warnings` are faults that stop nothing.
    """

    name: str
    version: str
    model: Model
    source: Source = field(repr=False)
    path: str
    root: Path
    owner: str | None = None
    fallback_model: Model | None = None
    system_prompt: str | None = None
    prompt_text: str | None = None
    entrypoint: Entrypoint | None = None
    tools: list[Tool] = field(default_factory=list)
    guardrails: Guardrails = field(default_factory=Guardrails)
    output_schema: dict[str, Any] | None = None
    retrieval: Retrieval | None = None
    budgets: Budgets = field(default_factory=Budgets)
    evals: Evals = field(default_factory=Evals)
    pricing: dict[str, Price] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """What the agent is known by in results: equal digests, equal behaviour."""
        return digests.combine(self.parts)

    def problem(self, *keys: str | int, message: str, repair: str = "", value: bool = False) -> Problem:
        """A fault at the key path `keys` below `agent:`, with `value` at its value; for others to raise."""
        return self.source.problem(("agent", *keys), message, repair, value=value)


def load_agent(path: str, root: Path | None = None) -> Agent:
    """The agent file at `path`, relative to `root` (default: the working directory), as are the paths in it.

    Raises UserError with every fault of the file and of the files it names.
    """
    root = root or Path.cwd()
    try:
        source = parse_yaml(decode(read_file(root, path), path), path)
    except RefusedError as e:
        raise UserError(e.problem(path)) from None
    problems = [*source.bad.values(), *_schema_problems(source)]
    agent = source.data.get("agent") if isinstance(source.data, dict) else None
    named = _Named(source, root, agent if isinstance(agent, dict) else {})
    told = {(problem.line, problem.column) for problem in problems}  # by the schema, which says it better
    problems += [problem for problem in named.problems if (problem.line, problem.column) not in told]
    if isinstance(agent, dict) and _policy(agent) == "error":
        problems += _unpinned(agent, source)
    if not isinstance(agent, dict) or problems:
        raise UserError(*sorted(problems, key=lambda p: (p.line, p.column)))
    return _build(agent, source, path, root, named)


def is_pinned(name: str) -> bool:
    """Whether a model's name says which weights: has a date, version, tag or digest and is no `latest`."""
    return not re.search(r"[-:@]latest$", name) and PINNED.search(name) is not None


def _policy(agent: dict[str, Any]) -> Any:
    evals = agent.get("evals")
    return evals.get("unpinned_model", "warn") if isinstance(evals, dict) else "warn"


def _unpinned(agent: dict[str, Any], source: Source) -> Iterator[Problem]:
    for key in ("model", "fallback_model"):
        model = agent.get(key)
        name = model.get("name") if isinstance(model, dict) else None
        if isinstance(name, str) and name and not is_pinned(name):
            message = f'"{name}" names no fixed model: it has no date, version, tag or digest.'
            repair = "The provider may change it unseen: pin it, or set `evals.unpinned_model: allow`."
            yield source.problem(("agent", key, "name"), message, repair, value=True)


def _schema_problems(source: Source) -> Iterator[Problem]:
    for fault in faults(source.data, "agent", yaml=True):
        if fault.keys not in source.bad:
            yield source.problem(fault.keys, fault.message, fault.repair, value=fault.at_value)


class _Named:
    """The files that an agent file names: read, with a fault at the key for each that cannot be used."""

    def __init__(self, source: Source, root: Path, agent: dict[str, Any]) -> None:
        self.source, self.root, self.agent = source, root, agent
        self.problems: list[Problem] = []
        self.prompt = self.read("system_prompt")
        self.prompt_text = self.text(self.prompt, "system_prompt")
        self.schema = self.read("guardrails", "output_schema")
        self.output_schema = self.json_schema()
        self.knowledge_base: list[str] = []
        self.paths("evals", "dataset")
        self.paths("entrypoint", "code")
        self.entrypoint = self.parse_entrypoint()
        base = self.path("retrieval", "knowledge_base", version=True)
        if base and os.path.exists(root / base):  # noqa: PTH110 a reference too long for a path is none
            self.knowledge_base = digests.files_below(root, base)

    def fault(self, keys: Keys, message: str, repair: str = "") -> None:
        """Note a fault at the value of `keys`."""
        self.problems.append(self.source.problem(("agent", *keys), message, repair, value=True))

    def at(self, *keys: str | int) -> Any:
        """The value at `keys`; None where there is none."""
        value: Any = self.agent
        for key in keys:
            if isinstance(value, list) and isinstance(key, int):
                value = value[key]
            else:
                value = value.get(key) if isinstance(value, dict) else None
        return value

    def paths(self, *keys: str) -> None:
        """Check the path, or every path of the list, at `keys`."""
        value = self.at(*keys)
        if not isinstance(value, list):
            self.path(*keys)
            return
        for i in range(len(value)):
            self.path(*keys, i)

    def parse_entrypoint(self) -> Entrypoint | None:
        """The entry point, where it is no mistake that the schema names."""
        entrypoint = None
        try:
            entrypoint = parse_entrypoint(self.at("entrypoint"))
            for keys, message, repair in mapping.faults(entrypoint) if isinstance(entrypoint, Url) else ():
                self.fault(("entrypoint", *keys), message, repair)
        except ValueError as e:
            self.fault(
                ("entrypoint", "command"), f'"command" cannot be read: {str(e)[:1].lower()}{str(e)[1:]}.'
            )
        except (TypeError, KeyError, AttributeError):
            pass
        return entrypoint

    def path(self, *keys: str | int, version: bool = False) -> str | None:
        """The path at `keys`, less its `@VERSION`; None when there is none, or it leaves the repository."""
        value = self.at(*keys)
        what = next(key for key in reversed(keys) if isinstance(key, str))
        if not isinstance(value, str) or not value or (version and "://" in value):
            return None
        name = (value.rpartition("@")[0] or value) if version else value
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            self.fault(
                keys, f'"{what}" leads out of the repository.', "Give a path from the repository's root."
            )
            return None
        try:
            locate(self.root, name)
        except RefusedError as e:
            self.fault(keys, f'"{what}": {e.message}', e.repair)
            return None
        return name

    def read(self, *keys: str) -> bytes | None:
        """The bytes of the file named at `keys`."""
        name = self.path(*keys)
        try:
            return None if name is None else read_file(self.root, name)
        except RefusedError as e:
            self.fault(keys, f'"{keys[-1]}": {e.message}', e.repair)
            return None

    def text(self, data: bytes | None, *keys: str) -> str | None:
        """Those bytes as text."""
        try:
            return None if data is None else decode(data, str(keys[-1]))
        except RefusedError as e:
            self.fault(keys, f'"{keys[-1]}": {e.message}', e.repair)
            return None

    def json_schema(self) -> dict[str, Any] | None:
        """The output schema, itself checked against JSON Schema's own."""
        keys = ("guardrails", "output_schema")
        text = self.text(self.schema, *keys)
        if text is None:
            return None
        try:
            schema = parse_json(text)
        except RefusedError as e:
            where = f" (line {e.line})" if e.line else ""
            self.fault(keys, f'"output_schema"{where}: {e.message}', e.repair)
            return None
        if not isinstance(schema, dict):
            self.fault(keys, '"output_schema" is no JSON Schema: it is not an object.')
            return None
        from jsonschema import SchemaError  # noqa: PLC0415 heavy, and only where a schema is named
        from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415 as above

        try:
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
        except SchemaError as e:
            at = "/".join(map(str, e.absolute_path)) or "its top"
            self.fault(keys, f'"output_schema" is no JSON Schema: at {at}, {explain(e)[0].message}')
        return schema


def _build(agent: dict[str, Any], source: Source, path: str, root: Path, named: _Named) -> Agent:
    """The agent from checked data."""
    model = _model(agent["model"])
    retrieval = Retrieval(**_whole(agent["retrieval"], "top_k")) if "retrieval" in agent else None
    limits = ("max_iterations", "max_tokens_per_run", "requests_per_day")
    budgets = Budgets(**_whole(agent.get("budgets", {}), *limits))
    loaded = Agent(
        name=agent["name"],
        version=str(agent["version"]),
        model=model,
        source=source,
        path=path,
        root=root,
        owner=agent.get("owner"),
        fallback_model=_model(agent["fallback_model"]) if "fallback_model" in agent else None,
        system_prompt=agent.get("system_prompt"),
        prompt_text=named.prompt_text,
        entrypoint=named.entrypoint,
        tools=[
            Tool(**({"name": tool} if isinstance(tool, str) else tool)) for tool in agent.get("tools", [])
        ],
        guardrails=Guardrails(**agent.get("guardrails", {})),
        output_schema=named.output_schema,
        retrieval=retrieval,
        budgets=budgets,
        evals=_evals(agent.get("evals", {})),
        pricing=_pricing(agent.get("pricing", {}), model.name),
    )
    code = _code(root, loaded.entrypoint)
    loaded.parts.update(_parts(loaded, named, code))
    if _policy(agent) == "warn":
        loaded.warnings.extend(_unpinned(agent, source))
    if loaded.entrypoint and not code:
        called = in_words(loaded.entrypoint)
        message = f'the code of "{called}" is neither in the repository\'s root nor in its src.'
        repair = "The digest cannot cover it: changes to this code go unseen."
        if not isinstance(loaded.entrypoint, Function):
            message = f'no file of the repository is known to be the code of "{called}".'
            repair += " Name its files and folders as `entrypoint.code`."
        loaded.warnings.append(loaded.problem("entrypoint", message=message, repair=repair, value=True))
    return loaded


def _code(root: Path, entrypoint: Entrypoint | None) -> list[str]:
    """The files of the entry point's code; none where they are not known."""
    if entrypoint is None:
        return []
    if isinstance(entrypoint, Function):
        return digests.code_files(root, entrypoint.target)
    words = entrypoint.words if isinstance(entrypoint, Command) else ()
    return digests.named_files(root, entrypoint.code, words)


def _model(data: dict[str, Any]) -> Model:
    return Model(**_whole(data, "max_tokens"))


def _whole(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    """`data` with the numbers at `keys` as int: JSON Schema takes 3.0 for a whole number."""
    return {key: int(value) if key in keys else value for key, value in data.items()}


def _evals(data: dict[str, Any]) -> Evals:
    metrics = {}
    for name, given in data.get("metrics", {}).items():
        options = dict(given) if isinstance(given, dict) else {"threshold": given}
        threshold = options.pop("threshold", None)
        named = {key: options.pop(key) for key in ("floor", "metric", "kind") if key in options}
        metrics[name] = MetricSetting(
            None if threshold is None else float(threshold), options=options, **named
        )
    dataset = data.get("dataset", ())
    dataset = (dataset,) if isinstance(dataset, str) else tuple(dataset)
    judge = _judge(data.get("judge", []))
    return Evals(**{**_whole(data, "max_unscored"), "dataset": dataset, "metrics": metrics, "judge": judge})


def _judge(data: Any) -> JudgeSetting:
    """From a model, a list of them, or a mapping with `model`."""
    given = dict(data) if isinstance(data, dict) else {"model": data}
    models = given.pop("model")
    return JudgeSetting(
        (models,) if isinstance(models, str) else tuple(models), **_whole(given, "votes", "concurrency")
    )


def _pricing(data: dict[str, Any], model: str) -> dict[str, Price]:
    by_model = data if all(isinstance(value, dict) for value in data.values()) else {model: data}
    return {name: Price(**price) for name, price in by_model.items()}


def _plain(part: Any) -> dict[str, Any]:
    """A dataclass as JSON without what was not given, so that a default written out changes no digest."""
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: value for name, value in values.items() if value not in (None, False, {}, ())}


def _parts(agent: Agent, named: _Named, code: list[str]) -> dict[str, str]:
    """The digest of each part of the agent's behaviour; a part that it does not have is left out."""
    budgets = Budgets(agent.budgets.max_iterations, agent.budgets.max_tokens_per_run)
    schema = digests.sha256(named.schema) if named.schema is not None else None
    parts: dict[str, Any] = {
        "model": _plain(agent.model),
        "fallback_model": agent.fallback_model and _plain(agent.fallback_model),
        "prompt": named.prompt and digests.sha256(named.prompt),
        "tools": [_plain(tool) for tool in agent.tools],
        "guardrails": _plain(Guardrails(agent.guardrails.pii_redaction, schema)),
        "retrieval": agent.retrieval and [_plain(agent.retrieval), _files(agent.root, named.knowledge_base)],
        "budgets": _plain(budgets),
        "code": agent.entrypoint and [_called(agent.entrypoint), _files(agent.root, code)],
        "dependencies": _files(agent.root, digests.lock_files(agent.root)),
    }
    return {name: digests.sha256(digests.canonical(part)) for name, part in parts.items() if part}


def _called(entrypoint: Entrypoint) -> Any:
    """How the code is called, as JSON; not which files it is of, whose contents are in the digest anyhow."""
    if isinstance(entrypoint, Function):
        return entrypoint.target
    if isinstance(entrypoint, Command):
        return {"command": list(entrypoint.words)}
    return _plain(replace(entrypoint, secret=None, code=()))


def _files(root: Path, names: list[str]) -> str | None:
    return digests.files_digest(root, names) if names else None
