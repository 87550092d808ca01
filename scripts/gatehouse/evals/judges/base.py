"""What a judged metric works with: a sample to judge, a judge to ask, and how that can end badly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gatehouse.agent.protocol import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.agent.protocol import Run, ToolCall
    from gatehouse.evals.dataset import Case


MAX_SHOWN = 100_000
"""Characters of one text that a judge is shown; a longer one is never cut: its part is not it."""
TOO_LONG = f"longer than {MAX_SHOWN:,} characters, which no judge is shown"
LONG = {
    "input": f"the input is {TOO_LONG}",
    "output": f"the answer is {TOO_LONG}",
    "expected": f"the expected answer is {TOO_LONG}",
    "contexts": f"the contexts together are {TOO_LONG}",
    "tool_calls": f"the tool calls together are {TOO_LONG}",
    "expected_tools": f"the expected tool calls together are {TOO_LONG}",
}
"""What is said of each text that is too long."""


class JudgeError(Exception):
    """No value came of it: the sample is unscored, and `message` says why.

    `kind` is "connection", "timeout", "key", "quota", "provider-error", "malformed", "filtered", "refused",
    "budget", "dead" (a provider that is asked no more) or "library".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class UndecidedError(Exception):
    """The judge says that it cannot tell, and why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is judged, as texts: None where the case and the reply say nothing of it.

    `contexts` are those that the agent reports, else the golden set's; `reference_contexts` the golden set's.
    """

    input: str
    output: str
    expected: str | None = None
    contexts: list[str] | None = None
    reference_contexts: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    expected_tools: list[ToolCall] | None = None

    def lacks(self, required: Sequence[str]) -> list[str]:
        """What of `required` is not there; an empty list of contexts is none."""
        missing = {
            "expected": self.expected is None,
            "contexts": not self.contexts,
            "tool_calls": self.tool_calls is None,
            "expected_tools": self.expected_tools is None,
        }
        return [what for what in required if missing[what]]

    def too_long(self, required: Sequence[str]) -> list[str]:
        """What is too long to be shown to a judge, of input, output and what is `required`."""
        texts = {
            "input": [self.input],
            "output": [self.output],
            "expected": [self.expected or ""],
            "contexts": self.contexts or [],
            "tool_calls": _texts(self.tool_calls),
            "expected_tools": _texts(self.expected_tools),
        }
        looked_at = dict.fromkeys(("input", "output", *required))
        return [what for what in looked_at if sum(map(len, texts[what])) > MAX_SHOWN]


def _texts(calls: Sequence[ToolCall] | None) -> list[str]:
    return [call.name + as_text(call.arguments) for call in calls or []]


def sample_of(case: Case, run: Run) -> Sample:
    """The sample of one run."""
    return Sample(
        input=as_text(case.input),
        output=as_text(run.output),
        expected=as_text(case.expected) if case.has_expected else None,
        contexts=run.contexts if run.contexts is not None else case.contexts,
        reference_contexts=case.contexts,
        tool_calls=run.tool_calls,
        expected_tools=case.expected_tools,
    )


class Judge(Protocol):
    """One judge model, asked for one vote: the same question in another vote is asked anew."""

    @property
    def name(self) -> str:
        """`PROVIDER:MODEL`."""

    async def ask(self, prompt: str | Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> Any:
        """The reply as a JSON value that follows `schema`, a JSON Schema; raises JudgeError.

        `prompt` is the user's message, or a list of messages. The same question of the same vote is asked
        once, however many ask it at once.
        """

    async def embed(self, text: str) -> list[float]:
        """The embedding of a text by the gate's embeddings model; raises JudgeError."""
