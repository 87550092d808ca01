"""What an agent's answer to one case looks like, on the wire and in `runs.jsonl`.

A reply is `{output, contexts, tool_calls, usage, iterations, error}`; a `Run` is the reply with the case it
answers and what the runner measured. How the two processes speak, `worker.py` says. Everything read back from
a file is checked: runs come from a job that executed untrusted code.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN_SCHEMA = 1
"""The version of `runs.jsonl` and `run.json` that this code writes; it reads this and every older one."""

MAX_SECONDS = 1e9
"""Seconds that a run can claim; NaN and larger numbers are refused with it."""

MAX_LINE = 16 * 2**20
"""Bytes of one line of a results file; a longer one is refused unread."""


MAX_NOTES, MAX_NOTE = 20, 2000
"""Notes of a run, and the characters of one, that are read."""


class MalformedError(ValueError):
    """A line or file that does not follow its schema."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a case has no usable output: the agent's own doing, or the infrastructure's."""

    by: Literal["agent", "infrastructure"]
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model in one run; `cached_tokens` are part of `input_tokens`."""

    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call that the agent made, in order; `approved` by a person, None where it does not say."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    approved: bool | None = None


@dataclass(frozen=True, slots=True)
class OwnScore:
    """What one of the agent's own metrics said of an answer: 0 to 1, None where the metric itself failed."""

    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One case answered once. `case` is the case's digest, `repeat` counts from 0, `latency_s` is seconds."""

    id: str
    case: str
    repeat: int
    output: Any
    contexts: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    usage: list[Usage] = field(default_factory=list)
    iterations: int | None = None
    latency_s: float | None = None
    error: Fault | None = None
    own_scores: dict[str, OwnScore] = field(default_factory=dict)

    def to_line(self) -> str:
        """One line of `runs.jsonl`, newline included."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Any) -> Run:
        """A run from one parsed line; raises MalformedError that names the key."""
        if not isinstance(data, dict):
            raise MalformedError("not an object")
        error = data.get("error")
        return cls(
            id=_typed(data, "id", str),
            case=_typed(data, "case", str),
            repeat=_count(data, "repeat"),
            output=data.get("output"),
            contexts=_list(data, "contexts", str),
            tool_calls=parse_tool_calls(data.get("tool_calls")),
            usage=parse_usage(data.get("usage")),
            iterations=None if data.get("iterations") is None else _count(data, "iterations"),
            latency_s=_seconds(data.get("latency_s")),
            error=None if error is None else _fault(error),
            own_scores=_own_scores(data.get("own_scores")),
        )


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`run.json`: of what `runs.jsonl` beside it is the result.

    `agent` is {name, version, digest}, `dataset` {path, digest, cases}, `shard` "i/n" or null, `commit` the
    commit the run was made at (null outside a repository), `options` whatever else a resumed run must share,
    `failure` why an incomplete run ended, `notes` what a person should know of a complete one.
    """

    agent: dict[str, Any]
    dataset: dict[str, Any]
    repeats: int = 1
    shard: str | None = None
    complete: bool = False
    commit: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    schema: int = RUN_SCHEMA

    @classmethod
    def from_json(cls, data: Any) -> RunInfo:
        """`run.json` parsed; raises MalformedError that names the key."""
        if not isinstance(data, dict):
            raise MalformedError("not an object")
        if _count(data, "schema") > RUN_SCHEMA:
            raise MalformedError(f"schema {data['schema']} is newer than this Gatehouse reads ({RUN_SCHEMA})")
        agent, dataset = _typed(data, "agent", dict), _typed(data, "dataset", dict)
        for owner, key in ((agent, "name"), (agent, "digest"), (dataset, "path"), (dataset, "digest")):
            _typed(owner, key, str)
        _count(dataset, "cases")
        for key in ("shard", "commit", "failure"):
            if data.get(key) is not None:
                _typed(data, key, str)
        return cls(
            agent=agent,
            dataset=dataset,
            repeats=_count(data, "repeats"),
            shard=data.get("shard"),
            complete=_typed(data, "complete", bool),
            commit=data.get("commit"),
            options=dict(data["options"]) if isinstance(data.get("options"), dict) else {},
            failure=data.get("failure"),
            notes=[note[:MAX_NOTE] for note in _list(data, "notes", str) or []][:MAX_NOTES],
            schema=data["schema"],
        )

    @classmethod
    def read(cls, path: Path) -> RunInfo:
        """`run.json` from disk; raises MalformedError, also for a file that is not JSON, or OSError."""
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except MalformedError:
            raise
        except (ValueError, RecursionError) as e:
            raise MalformedError(f"not JSON: {e}") from None

    def write(self, path: Path) -> None:
        """Replace `path` in one step: a reader never sees half of it."""
        replace_file(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def as_text(value: Any) -> str:
    """An input or output as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def replace_file(path: Path, text: str) -> None:
    """Replace `path` in one step; half of a surrogate pair, which has no bytes, becomes "?".

    The new file has a name that nobody can have prepared: a link that waits under a known name would lead
    what is written to somewhere else.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    with open(handle, "wb") as file:  # noqa: PTH123 a descriptor
        file.write(text.encode(errors="replace"))
    os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101 as a plain open would have made it
    os.replace(partial, path)  # noqa: PTH105


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_runs(path: Path) -> Iterator[Run]:
    """Every line of a `runs.jsonl`, one at a time; raises MalformedError with the line's number."""
    with path.open("rb") as lines:
        number = 0
        while raw := lines.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise MalformedError(f"{path}:{number}: longer than {MAX_LINE // 2**20} MiB")
            try:
                yield Run.from_json(json.loads(raw))
            except (ValueError, RecursionError) as e:
                raise MalformedError(f"{path}:{number}: {e}") from None


def parse_tool_calls(value: Any) -> list[ToolCall] | None:
    """Tool calls as `{name, arguments}` objects, or plain names; raises MalformedError."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise MalformedError('"tool_calls" is not a list')
    calls = []
    for item in value:
        call = {"name": item} if isinstance(item, str) else item
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise MalformedError('"tool_calls" holds something that is not {"name": ..., "arguments": {...}}')
        arguments = _arguments(call.get("arguments") or {})
        if not isinstance(arguments, dict):
            raise MalformedError(f'"tool_calls": arguments of "{call["name"]}" are not an object')
        approved = call.get("approved")
        if approved is not None and not isinstance(approved, bool):
            raise MalformedError(f'"tool_calls": "approved" of "{call["name"]}" is neither true nor false')
        calls.append(ToolCall(call["name"], arguments, approved))
    return calls


def _arguments(value: Any) -> Any:
    """Arguments as providers have them, an object or its JSON text, as an object."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def parse_usage(value: Any) -> list[Usage]:
    """Usage as a list of objects, or one object; raises MalformedError."""
    usage = []
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(item, dict):
            raise MalformedError('"usage" holds something that is not an object')
        usage.append(
            Usage(
                provider=str(item.get("provider") or ""),
                model=str(item.get("model") or ""),
                input_tokens=_count(item, "input_tokens"),
                output_tokens=_count(item, "output_tokens"),
                cached_tokens=_count({"cached_tokens": item.get("cached_tokens") or 0}, "cached_tokens"),
            )
        )
    return usage


def _fault(value: Any) -> Fault:
    if not isinstance(value, dict) or value.get("by") not in ("agent", "infrastructure"):
        raise MalformedError(
            '"error" is not {"by": "agent" or "infrastructure", "kind": ..., "message": ...}'
        )
    return Fault(value["by"], _typed(value, "kind", str), _typed(value, "message", str))


def _own_scores(value: Any) -> dict[str, OwnScore]:
    """Scores by metric; raises MalformedError."""
    scores: dict[str, OwnScore] = {}
    if value is not None and not isinstance(value, dict):
        raise MalformedError('"own_scores" is not an object')
    for name, score in (value or {}).items():
        number = score.get("value") if isinstance(score, dict) else True
        outside = number is not None and (
            isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1
        )
        if outside or not isinstance(score.get("reason"), str):
            raise MalformedError(f'"own_scores": "{name}" is no value from 0 to 1 with a reason')
        scores[str(name)] = OwnScore(None if number is None else float(number), score["reason"])
    return scores


def _typed(data: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(data.get(key), kind):
        raise MalformedError(f'"{key}" is missing or not a {kind.__name__}')
    return data[key]


def _count(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if isinstance(value, float) and value.is_integer():  # JavaScript's numbers, and numpy's
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise MalformedError(f'"{key}" is not a count')
    return value


def _list(data: dict[str, Any], key: str, kind: type) -> list[Any] | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise MalformedError(f'"{key}" is not a list of {kind.__name__}')
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_SECONDS:
        raise MalformedError('"latency_s" is not a number of seconds')
    return float(value)
