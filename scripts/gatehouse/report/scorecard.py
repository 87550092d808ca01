"""The scorecard: one set of verdicts, as the comment's Markdown and as text for a terminal.

Whatever comes from a model, a title or a file is escaped here, where it enters the text.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatehouse.errors import State
from gatehouse.github.escape import markdown_block, markdown_inline, plain
from gatehouse.report import judging
from gatehouse.report.prose import one_line, prose
from gatehouse.report.rows import ICONS, cost_lines, metric_rows, model_lines, reasons, warning_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMENT_LIMIT = 65_000
"""Characters of a comment: GitHub refuses more than 65,536, and the marker needs a line of its own."""
SUMMARY_LIMIT = 900_000
"""Bytes of a job summary: GitHub refuses a step's summary above 1 MiB."""
WORDS = {
    State.PASS: "passes",
    State.FAIL: "fails",
    State.UNSCORED: "was not measured",
    State.INCONCLUSIVE: "passes, but is not proven",
}
NOTHING = "nothing was measured: "
SOURCE = "https://github.com/gatehouse-ci/gatehouse@v1"
"""Where a reader gets the command from."""
REST = (
    "What the command does not name, such as votes, limits or metrics without a threshold, is as the agent "
    "file has it at this commit."
)
TOO_DEAR = "Make the agent cheaper, or raise its budget in this pull request, so that its reviewers see it."
NEXT = {
    State.PASS: "Nothing: the change may go on.",
    State.FAIL: (
        "Read the failing cases and mend the prompt, the tools or the model setting. Where the golden "
        "set itself is wrong, change it in this pull request, so that its reviewers see it."
    ),
    State.UNSCORED: (
        "Mend what the first line names, then run the gate again: nothing is known of this change yet."
    ),
    State.INCONCLUSIVE: "A person decides. The table says what would settle it.",
}
NEEDS_A_MAINTAINER = "not measured: needs a maintainer"
"""What a run of a fork's pull request says that has no key."""
MAINTAINER = (
    "A maintainer reads the change, its workflows and dependencies too. Who trusts it checks it out "
    "(`gh pr checkout NUMBER`), pushes it to a branch of this repository, where the keys are, and opens a "
    "pull request of that branch."
)

GATES = ("eval", "cost")


@dataclass(frozen=True, slots=True)
class Card:
    """One agent's part: what `eval.json` and `cost.json` say; None where a gate left nothing behind.

    `gates` are those that are due: before the cost gate has run, its absence says nothing.
    """

    name: str
    eval: dict[str, Any] | None
    cost: dict[str, Any] | None
    gates: tuple[str, ...] = GATES
    state: State = field(init=False)
    reason: str = field(init=False)

    def __post_init__(self) -> None:
        verdicts = [_verdict(getattr(self, gate), f"{gate} gate") for gate in self.gates]
        state = State.worst([s for s, _ in verdicts])
        # Two gates that could not even start say the same thing; once is enough.
        reasons = dict.fromkeys(reason.removesuffix(".") for s, reason in verdicts if s is state)
        object.__setattr__(self, "state", state)
        object.__setattr__(self, "reason", "; ".join(reasons))


def _verdict(gate: dict[str, Any] | None, name: str) -> tuple[State, str]:
    if gate is None:
        return State.UNSCORED, f"the {name} left no result"
    return State(gate["state"]), str(gate["reason"])


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of the least important is shown: `cases` failing ones, `characters` of each text."""

    cases: int = 100
    characters: int = 1500
    extras: bool = True


SHRINKING = [
    Detail(),
    Detail(50, 1000),
    Detail(50, 400),
    Detail(20, 400),
    Detail(20, 200, extras=False),
    Detail(5, 200, extras=False),
    Detail(1, 200, extras=False),
    Detail(0, 0, extras=False),
]
"""Tried in this order until the text fits: the least important goes first."""


def ordered(cards: list[Card]) -> list[Card]:
    """The agents, the worst first, those of one state as they came."""
    return sorted(cards, key=lambda card: list(State).index(card.state))


def state_of(cards: list[Card]) -> State:
    """The state of all agents together: the worst."""
    return State.worst([card.state for card in cards])


def next_step(cards: list[Card]) -> str:
    """What the reader does now."""
    failing = [
        gate for card in cards for gate in card.gates if _verdict(getattr(card, gate), gate)[0] is State.FAIL
    ]
    state, verdicts = state_of(cards), [card.eval for card in cards if card.eval]
    steps = [NEXT[State.FAIL]] * ("eval" in failing) + [TOO_DEAR] * ("cost" in failing)
    if state is State.UNSCORED and any(NEEDS_A_MAINTAINER in card.reason for card in cards):
        steps = [MAINTAINER]
    missing = {gate for card in cards for gate in card.gates if getattr(card, gate) is None}
    if missing and all(None in (card.eval, card.cost) for card in cards if card.state is state):
        steps = steps or [
            f"Run {' and '.join(f'`gatehouse {gate}-gate`' for gate in sorted(missing))}, and this again."
        ]
    steps = steps or [NEXT[state]]
    held = [verdict for verdict in verdicts if verdict["state"] == state]
    if state is State.INCONCLUSIVE and held and all(map(judging.only_the_judge, held)):
        steps = ["A person decides."]
    if state in (State.FAIL, State.INCONCLUSIVE):
        steps += judging.steps(held, state)
    return " ".join(steps)


def headline(cards: list[Card]) -> str:
    """The verdict and why, as one line of plain text."""
    state = state_of(cards)
    if not cards:
        return "Nothing was measured: no agent left any result."
    if len(cards) == 1:
        return f"{cards[0].name} {WORDS[state]}: {_because(cards[0])}"
    worst = [card for card in cards if card.state is state]
    if state is State.PASS:
        return f"all {len(cards)} agents pass"
    return f"{len(worst)} of {len(cards)} agents: {worst[0].name} {WORDS[state]}: {_because(worst[0])}"


def _because(card: Card) -> str:
    """The reason after "was not measured", which it does not say again."""
    _, needs, who = card.reason.partition(NEEDS_A_MAINTAINER)
    said = needs.removeprefix("not measured: ") + who
    return said if needs and card.state is State.UNSCORED else card.reason.removeprefix(NOTHING)


def markdown(
    cards: list[Card],
    *,
    run_url: str = "",
    head: str = "",
    note: str = "",
    changes: str = "",
    limit: int = COMMENT_LIMIT,
) -> str:
    """The scorecard in GitHub's Markdown, at most `limit` UTF-8 bytes (never fewer characters than bytes).

    `note` is plain text that stands above all results, `changes` a section of Markdown below them.
    """
    text, cards = "", ordered(cards)
    for detail in SHRINKING:
        if _texts(cards, detail) > limit and detail is not SHRINKING[-1]:
            continue
        sections = _sections(cards, note, changes, detail)
        text = "\n\n".join([*sections, _footer(cards, run_url, head)])
        if len(text.encode()) <= limit:
            return text
    # Only the number of agents can make it that long: their verdicts go first, whole lines at a time.
    notice = "\n\nThis scorecard was cut to GitHub's size limit; the run's artifact holds all of it."
    kept = text.encode()[: limit - len(notice.encode())].decode(errors="ignore")
    return kept.rpartition("\n")[0] + notice


def _texts(cards: list[Card], detail: Detail) -> int:
    """Characters of the failing cases' texts alone: where these are too many, nothing needs be tried."""
    shown = [case for c in cards if c.eval for case in c.eval.get("failing_cases", [])[: detail.cases]]
    texts = [case[key] or "" for case in shown for key in ("input", "expected", "got")]
    return sum(min(len(text), detail.characters) for text in texts)


def _sections(cards: list[Card], note: str, changes: str, detail: Detail) -> list[str]:
    state = state_of(cards)
    sections = [f"### {ICONS[state]} Gatehouse: {prose(headline(cards), 600)}"]
    sections += [f"> {prose(note, 600)}"] if note else []
    if len(cards) > 1:
        rows = [
            [markdown_inline(c.name, 100), f"{ICONS[c.state]} {c.state}", prose(c.reason, 200)] for c in cards
        ]
        sections.append(_table(["Agent", "State", "Why"], rows))
    for card in cards:
        sections += _card(card, detail, titled=len(cards) > 1)
    sections += [changes] if changes else []
    return [*sections, f"**What to do next.** {next_step(cards)}"]


def _card(card: Card, detail: Detail, *, titled: bool) -> list[str]:
    sections = [f"#### {ICONS[card.state]} {prose(card.name, 100)}"] if titled else []
    if card.eval and card.eval["metrics"]:
        rows = [
            [
                prose(name, 400),
                _whole(value),
                _whole(threshold),
                f"{ICONS[State(state)]}&nbsp;{state}",
                prose(why, 400),
            ]
            for name, value, threshold, state, why in metric_rows(card.eval)
        ]
        sections.append(_table(["Metric", "Value, 95 % interval", "Threshold", "State", "Why"], rows))
    lines = [prose(line, 600) + "  " for line in cost_lines(card.eval, card.cost)]
    models = model_lines(card.cost) if detail.extras else []
    lines += [f"- {markdown_inline(model, 200)}: {prose(spent, 200)}" for model, spent in models]
    sections += ["\n".join(lines)] if lines else []
    judged = _judged(card.eval, detail) if card.eval else []
    sections += ["\n".join(judged)] if judged else []
    if warnings := warning_lines(card.eval, card.cost):
        sections.append("\n".join(f"- ⚠️ {prose(one_line(w), 400)}" for w in warnings[:10]))
    if card.eval and card.eval.get("failing"):
        sections.append(_failing(card.eval, detail))
    if card.eval and card.eval["agent"]["path"] and detail.extras:
        sections.append(_reproduce(card.eval))
    return sections


def _whole(cell: str) -> str:
    """A cell that is not broken into lines."""
    return prose(cell, 400).replace(" ", "&nbsp;")


def _judged(verdict: dict[str, Any], detail: Detail) -> list[str]:
    lines = []
    if verdict.get("judge"):
        role, names = judging.asked(verdict)
        lines.append(f"{role} {markdown_inline(names, 300)}: {prose(judging.took(verdict), 300)}")
        lines += [
            f"- {markdown_inline(model, 200)}: {prose(spent, 200)}"
            for model, spent in judging.took_each(verdict)
            if detail.extras
        ]
    return lines + [
        f"- {', '.join(prose(name, 100) for name in names)}: {prose(line, 600)}"
        for names, line in judging.trust(verdict)
    ]


def _failing(verdict: dict[str, Any], detail: Detail) -> str:
    total, cases = verdict["failing"], verdict["failing_cases"][: detail.cases]
    parts = [
        f"<details><summary>{total:d} failing case{'s' * (total != 1)} of {verdict['cases']:d}</summary>"
    ]
    for case in cases:
        where = f"{case.get('path') or verdict['dataset']['path']}:{case['line']}"
        critical = " **critical**" if case["critical"] else ""
        parts.append(f"**{prose(case['id'], 200)}**{critical} · {prose(where, 300)}")
        parts.append(
            "\n".join(
                f"- {prose(name, 100)}: {prose(why, detail.characters)}"
                for name, why in reasons(verdict, case).items()
            )
        )
        for key, title in (
            ("input", "Input"),
            ("expected", "Expected"),
            ("got", "Got"),
            ("tool_calls", "Tool calls"),
        ):
            if case[key] is not None and (key != "tool_calls" or "tool_calls" in case["reasons"]):
                parts.append(f"{title}:\n{markdown_block(case[key], detail.characters).rstrip()}")
    if total > len(cases):
        parts.append(
            f"{total - len(cases)} more failing cases are not shown here; the run's artifact holds them."
        )
    return "\n\n".join([*parts, "</details>"])


def reproduce(verdict: dict[str, Any]) -> str:
    """The shell line that runs the same gate on the reader's machine."""
    agent, dataset = shlex.quote(plain(verdict["agent"]["path"])), verdict.get("dataset")
    extras = ",".join(verdict.get("extras") or [])
    source = shlex.quote(plain(f"gatehouse-ci[{extras}] @ git+{SOURCE}")) if extras else f"git+{SOURCE}"
    line = f"uvx --from {source} gatehouse eval-gate --agent {agent}"
    line += _golden(dataset) if dataset else ""
    line += f" --repeats {verdict['repeats']:d}" if verdict.get("repeats", 1) > 1 else ""
    judge = verdict.get("judge") or {"models": []}
    line += "".join(f" --judge {shlex.quote(plain(name))}" for name in judge["models"])
    line += f" --embeddings {shlex.quote(plain(judge['embeddings']))}" if judge.get("embeddings") else ""
    # The workflow may have thresholds of its own: these are the ones that counted.
    held = [f"{m['name']}={m['threshold']:.15g}" for m in verdict["metrics"] if m["threshold"] is not None]
    return line + (f" --threshold {shlex.quote(plain(','.join(held)))}" if held else "")


def _golden(dataset: dict[str, Any]) -> str:
    """The options for the files of a golden set, and for what was selected of them."""
    selected = dataset.get("selected") or {}
    given = {"dataset": dataset.get("paths") or [dataset["path"]]}
    given |= {"tag": selected.get("tags", []), "case": selected.get("cases", [])}
    return "".join(f" --{name} {shlex.quote(plain(one))}" for name, all_ in given.items() for one in all_)


def _reproduce(verdict: dict[str, Any]) -> str:
    block = markdown_block(reproduce(verdict), 2000, "sh").rstrip()
    return f"<details><summary>Reproduce it locally</summary>\n\n{block}\n\n{REST}\n\n</details>"


def _footer(cards: list[Card], run_url: str, head: str) -> str:
    digests = [
        f"{card.name} {str(card.eval['agent']['digest']).removeprefix('sha256:')[:12]}"
        for card in cards
        if card.eval and card.eval["agent"].get("digest")
    ]
    parts = [f"commit {head[:12]}"] if head else []
    parts += [f"agent {', '.join(digests)}"] if digests else []
    text = " · ".join(prose(part, 1000) for part in parts)
    is_address = run_url.startswith(("https://", "http://")) and not set('"<>') & set(run_url)
    link = f' · <a href="{run_url}">run</a>' if is_address and run_url == plain(run_url) else ""
    return f"<sub>{text}{link}</sub>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def terminal(cards: list[Card], cases: int = 5, changes: Sequence[str] = ()) -> str:
    """The scorecard as plain text, with the first failing cases of each agent, then the lines `changes`."""
    cards = ordered(cards)
    lines = [f"{ICONS[state_of(cards)]} {plain(one_line(headline(cards)), 600)}"]
    for card in cards:
        lines += ["", f"{ICONS[card.state]} {plain(one_line(card.name), 100)}"] if len(cards) > 1 else []
        lines += _columns(metric_rows(card.eval))
        lines += ["", *("  " + plain(one_line(line), 600) for line in cost_lines(card.eval, card.cost))]
        models = model_lines(card.cost)
        lines += [f"  - {plain(one_line(f'{model}: {spent}'), 200)}" for model, spent in models]
        if card.eval:
            lines += [f"  {line}" for line in _judged_plainly(card.eval)]
            lines += _cases(card.eval, cases)
    lines += ["", *(plain(one_line(line), 600) for line in changes)] if changes else []
    half = state_of(cards) is State.PASS and any(card.gates != GATES for card in cards)
    return "\n".join([*lines, *([] if half else ["", f"Next: {next_step(cards)}"])])


def _columns(rows: list[list[str]]) -> list[str]:
    """The metrics in columns, and why below each that is not a pass."""
    if not rows:
        return []
    head = ["metric", "value, 95 % interval", "threshold", "state"]
    cells = [head, *([plain(one_line(cell), 100) for cell in row[:4]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [""]
    for row, why in zip(cells, ["", *(row[4] for row in rows)], strict=True):
        lines.append("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
        lines += [f"    {plain(one_line(why), 160)}"] if why else []
    return lines


def _judged_plainly(verdict: dict[str, Any]) -> list[str]:
    lines = []
    judge = verdict.get("judge")
    if judge:
        role, names = judging.asked(verdict)
        lines.append(f"{role} {names}: {judging.took(verdict)}")
        lines += [f"- {model}: {spent}" for model, spent in judging.took_each(verdict)]
    lines += [f"- {', '.join(names)}: {line}" for names, line in judging.trust(verdict)]
    lines += [f"⚠️ {note}" for note in judge.get("notes", [])] if judge else []
    return [plain(one_line(line), 2000) for line in lines]


def _cases(verdict: dict[str, Any], most: int) -> list[str]:
    """The first failing cases, and how many more there are."""
    lines, shown = [], (verdict.get("failing_cases") or [])[:most]
    for case in shown:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons(verdict, case).items())
        critical = " (critical)" if case["critical"] else ""
        lines.append(f"  ✗ {plain(one_line(case['id']), 60)}{critical}: {plain(one_line(why), 160)}")
        lines += [
            f"      {key} {plain(one_line(case[key]), 120)}"
            for key in ("expected", "got")
            if case[key] is not None
        ]
    more = (verdict.get("failing") or 0) - len(shown)
    return lines + ([f"  ... and {more} more failing cases"] if more > 0 else [])
