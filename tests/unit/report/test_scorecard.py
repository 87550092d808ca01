"""The scorecard's Markdown: golden files, hostile texts, GitHub's size limits.

The golden files are what GitHub gets, byte for byte. After a change that is meant, write them again with

    GATEHOUSE_UPDATE_GOLDENS=1 python -m pytest tests/unit/report

and read the difference: reviewers of every user will see it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gatehouse.errors import State
from gatehouse.report.scorecard import (
    COMMENT_LIMIT,
    SOURCE,
    Card,
    headline,
    markdown,
    next_step,
    reproduce,
    state_of,
    terminal,
)
from tests.support.markdown import page_of
from tests.support.verdicts import (
    calibration_json,
    cost_json,
    eval_json,
    failing_case,
    judge_json,
    left,
    metric,
)

GOLDEN = Path(__file__).parent / "golden"
HEAD = "c0ffee" + "0" * 34
RUN = "https://github.example/acme/refunds/actions/runs/7/attempts/1"
TOO_BIG = "x" * 3000
HOSTILE_LINES = (
    "a | b |\t| --- | --- |",
    "</code></pre></details></summary><img src=x onerror=alert(1)><script>alert(1)</script><!--",
    "@octocat #1 GH-1 acme/refunds#1 www.example.com https://example.com a@example.com :tada:",
    "::error file=a::owned",
    "````",
    "```",
    "~~~ `x` **bold** _it_ ~~s~~ [link](https://example.com) ![i](u) $`x`$ $$y$$",
    "# heading",
    "- [ ] task",
    "1. item",
    "> quote",
    "---",
    "    indented",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202etfel\u202c \u200bzero\x00 \r return",
    "&lt;b&gt; &#64; \\| \\` %0A%3A",
    "[^1] [^1]: note 0123456789abcdef0123456789abcdef01234567",
)
"""One of everything that Markdown, HTML, GitHub, a terminal or a runner could obey."""
HOSTILE = "\n".join(HOSTILE_LINES)


def card(eval_: dict[str, Any] | None = None, cost: dict[str, Any] | None = None) -> Card:
    """A card as the command makes it."""
    named = eval_ or cost
    assert named is not None
    return Card(named["agent"]["name"], eval_, cost)


def failed(name: str = "refund-triage", **changed: Any) -> dict[str, Any]:
    """An eval gate that fails, with a critical case."""
    rows = [
        metric(
            value=0.7,
            state="fail",
            interval=[0.5457, 0.8193],
            reason="0.7 is below 0.85 (12 of 40 cases fail)",
        ),
        metric("json_schema", kind="safety", value=1.0, interval=[0.9124, 1.0], threshold=None),
        metric(
            "critical_cases",
            kind="safety",
            value=0.75,
            n=4,
            interval=None,
            threshold=None,
            state="fail",
            reason="1 of 4 failed, and every one must pass: double-refund",
        ),
    ]
    cases = [
        failing_case("double-refund", critical=True, line=21),
        failing_case(
            "silent-kettle",
            reasons={"exact_match": "crash: the agent's process ended with exit code 1", "error_rate": ""},
            expected=None,
            got=None,
            tool_calls=None,
        ),
        failing_case(reasons={"tool_calls": "did not call read_orders; called nothing"}, tool_calls="none"),
    ]
    reason = "; ".join(f"{row['name']}: {row['reason']}" for row in rows if row["state"] == "fail")
    data = {"state": "fail", "reason": reason, "metrics": rows, "failing": 12, "failing_cases": cases}
    return eval_json(name, **(data | changed))


def hostile() -> Card:
    """A card in which every text is hostile."""
    case: dict[str, Any] = dict.fromkeys(("id", "input", "expected", "got", "tool_calls"), HOSTILE)
    verdict = eval_json(
        HOSTILE,
        state="fail",
        reason=HOSTILE,
        metrics=[
            metric(
                HOSTILE,
                state="fail",
                reason=HOSTILE,
                unit=HOSTILE,
                calibration=calibration_json(HOSTILE),
            ),
            metric(),
            metric(),
        ],
        judge=judge_json(HOSTILE, models=2, notes=[HOSTILE]),
        extras=[HOSTILE],
        failing_cases=[failing_case(**case | {"reasons": {HOSTILE: HOSTILE, "tool_calls": HOSTILE}})],
        warnings=[HOSTILE],
        dataset={"path": HOSTILE, "digest": HOSTILE, "cases": 40},
        agent={"name": HOSTILE, "version": HOSTILE, "digest": HOSTILE, "path": HOSTILE},
    )
    model = cost_json()["by_model"][0] | dict.fromkeys(("provider", "model", "source"), HOSTILE)
    return card(verdict, cost_json(state="fail", reason=HOSTILE, by_model=[model]))


def harmless() -> Card:
    """The same card with plain words."""
    case: dict[str, Any] = dict.fromkeys(("id", "input", "expected", "got", "tool_calls"), "word")
    verdict = eval_json(
        "word",
        state="fail",
        reason="word",
        metrics=[
            metric("word", state="fail", reason="word", unit="word", calibration=calibration_json("word")),
            metric(),
            metric(),
        ],
        judge=judge_json("word", models=2, notes=["word"]),
        extras=["word"],
        failing_cases=[failing_case(**case | {"reasons": {"word": "word", "tool_calls": "word"}})],
        warnings=["word"],
        agent={"name": "word", "version": "word", "digest": "word", "path": "word"},
    )
    model = cost_json()["by_model"][0] | dict.fromkeys(("provider", "model", "source"), "word")
    return card(verdict, cost_json(state="fail", reason="word", by_model=[model]))


def too_many_texts() -> Card:
    """A hundred failing cases with long texts."""
    texts = dict.fromkeys(("input", "expected", "got"), TOO_BIG)
    return card(
        failed(failing=120, failing_cases=[failing_case(f"c{i}", **texts) for i in range(100)]), cost_json()
    )


TOO_DEAR = "cost_per_run: $0.0745 is above $0.05 (largest $0.1)"
QUOTA = "quota: HTTP 429: you are out of credit"
LOW = "exact_match: 0.7 is below 0.85 (12 of 40 cases fail)"
CRITICAL = "critical_cases: 1 of 4 failed, and every one must pass: double-refund"
CHEAP = "cost_per_run: $0.0123 is at most $0.05 (largest $0.0456)"
JUDGE = judge_json()["by_model"][0]
UNTRUSTED = "not calibrated for this metric and judge"
TRUSTED = calibration_json(
    "calibrated: kappa 0.71 [0.58, 0.84], 120 labels",
    calibrated=True,
    kappa=0.71,
    labels=120,
    corrected=0.871,
    corrected_interval=[0.82, 0.92],
)
CARDS: dict[str, list[Card]] = {
    "pass": [card(eval_json(failing_cases=[failing_case()]), cost_json())],
    "fail-critical": [card(failed(), cost_json())],
    "fail-cost": [card(eval_json(), cost_json(state="fail", reason=TOO_DEAR))],
    "unscored-bad-file": [
        card(
            left("refund-triage", 'agents/refund-triage.yaml:14: unknown metric "answer_relevence".'),
            left("refund-triage", 'agents/refund-triage.yaml:14: unknown metric "answer_relevence".'),
        )
    ],
    "unscored-provider": [
        card(
            eval_json(
                state="unscored",
                reason=f"nothing was measured: all 40 runs ended in an error: {QUOTA}",
                metrics=[
                    metric(
                        value=None,
                        n=0,
                        interval=None,
                        state="unscored",
                        reason=f"40 of 40 cases could not be scored (0 may): {QUOTA}",
                    )
                ],
                latency_s=None,
            ),
            left("refund-triage", "cost_per_run: nothing was measured: no run was answered", 3),
        )
    ],
    "inconclusive": [
        card(
            eval_json(
                state="inconclusive",
                reason="exact_match: 0.85 lies within the interval: more cases would tell",
                metrics=[
                    metric(
                        state="inconclusive", reason="0.85 lies within the interval: more cases would tell"
                    )
                ],
                warnings=['agents/refund-triage.yaml:4: "gpt-4o" names no fixed model.\nPin it.'],
            ),
            cost_json(),
        )
    ],
    "several-agents": [
        card(eval_json("answers"), cost_json("answers")),
        card(failed("refund-triage"), cost_json()),
        Card("lost", None, None),
    ],
    "judged": [
        card(
            eval_json(
                metrics=[
                    metric("helpfulness", value=4.2, interval=[3.9, 4.5], threshold=4.0, calibration=TRUSTED),
                    metric("faithfulness", calibration=calibration_json(UNTRUSTED)),
                    metric("toxicity", calibration=calibration_json(UNTRUSTED)),
                ],
                judge=judge_json(
                    embeddings="ollama:nomic-embed-text",
                    by_model=[JUDGE, JUDGE | {"model": "nomic-embed-text", "output_tokens": 0, "usd": 0.0}],
                    notes=["ollama:llama3.1:70b reports no usage: its replies are not counted."],
                ),
                extras=["ragas"],
            ),
            cost_json(),
        )
    ],
    "no-agent": [],
    "hostile": [hostile()],
    "shrunk": [too_many_texts()],
}


@pytest.mark.parametrize("name", CARDS)
def test_golden(name: str) -> None:
    """The comment's Markdown is what the golden file holds."""
    text = markdown(CARDS[name], run_url=RUN, head=HEAD) + "\n"
    path = GOLDEN / f"{name}.md"
    if os.environ.get("GATEHOUSE_UPDATE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_is_used() -> None:
    """No golden file is left over."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_the_first_line_says_the_verdict_and_why(name: str) -> None:
    """Who reads one line knows the state and its reason; a terminal says the same first."""
    cards = CARDS[name]
    first = markdown(cards).partition("\n")[0]
    icon = {"pass": "✅", "fail": "❌", "unscored": "⚠️", "inconclusive": "🟡"}[state_of(cards)]
    assert first.startswith(f"### {icon} Gatehouse: ")
    assert terminal(cards).startswith(icon)
    (page,) = [page_of(first)]
    assert page.tags[0] == "h3"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pass", f"refund-triage passes: 2 of 2 metrics pass; {CHEAP}"),
        ("fail-critical", f"refund-triage fails: {LOW}; {CRITICAL}"),
        (
            "unscored-bad-file",
            'refund-triage was not measured: agents/refund-triage.yaml:14: unknown metric "answer_relevence"',
        ),
        ("several-agents", f"1 of 3 agents: refund-triage fails: {LOW}; {CRITICAL}"),
        ("no-agent", "Nothing was measured: no agent left any result."),
    ],
)
def test_headlines(name: str, line: str) -> None:
    """One sentence: who, the verdict, the reasons of the worst state, each once."""
    assert headline(CARDS[name]) == line


@pytest.mark.parametrize(
    ("eval_state", "cost_state", "state"),
    [
        ("pass", "pass", State.PASS),
        ("pass", "fail", State.FAIL),
        ("fail", "unscored", State.FAIL),
        ("inconclusive", "unscored", State.UNSCORED),
        ("pass", None, State.UNSCORED),
        (None, "pass", State.UNSCORED),
        (None, None, State.UNSCORED),
    ],
)
def test_a_gate_that_left_nothing_is_unscored(
    eval_state: str | None, cost_state: str | None, state: State
) -> None:
    """The worst of both gates counts, and a gate without a result has not passed."""
    made = Card(
        "a",
        (eval_state and eval_json(state=eval_state)) or None,
        (cost_state and cost_json(state=cost_state)) or None,
    )
    assert made.state is state
    assert ("left no result" in made.reason) == (None in (eval_state, cost_state))
    assert Card("a", eval_json(), None, gates=("eval",)).state is State.PASS


def test_a_gate_that_was_not_run_is_what_to_do_next() -> None:
    """Where only a gate is missing, the reader is told to run it, and not to mend anything."""
    assert next_step([Card("a", eval_json(), None)]) == "Run `gatehouse cost-gate`, and this again."
    unscored = [Card("a", eval_json(), None), Card("b", eval_json(state="unscored"), cost_json())]
    assert next_step(unscored).startswith("Mend what the first line names")
    assert "Reproduce" not in markdown(
        [Card("a", eval_json(agent={"path": "", "name": "a", "digest": None}), None)]
    )


def test_hostile_texts_change_no_structure() -> None:
    """In GitHub's own parser a card of hostile texts has the very elements of a card of plain words."""
    page, plain = (page_of(markdown([c], run_url=RUN, head=HEAD)) for c in (hostile(), harmless()))
    assert [tag for tag in page.tags if tag != "code"] == [tag for tag in plain.tags if tag != "code"]
    assert "unclosed" not in page.tags
    assert page.tags.count("table") == 1
    assert len(page.cells) == 4 * 5
    assert page.tags.count("a href") == 1


def test_hostile_texts_are_only_ever_code() -> None:
    """No mention, reference, address or emoji of a hostile text stands where GitHub would act on it."""
    prose = "".join(page_of(markdown([hostile()], head=HEAD)).prose)
    for word in ("octocat", "#1", "GH-1", "example.com", "tada", "alert", "owned", "@", "0123456789abcdef"):
        assert word not in prose
    assert "Reproduce it locally" in prose


def test_hostile_texts_hide_and_reverse_nothing() -> None:
    """Escapes of a terminal, bidi controls, zero-width and control characters are gone, in both forms."""
    for text in (markdown([hostile()]), terminal([hostile()])):
        assert not {"\x1b", "\u202e", "\u202c", "\u200b", "\x00", "\r", "\x07"} & set(text)
    assert not [line for line in terminal([hostile()]).splitlines() if line.startswith(("::", "##["))]


@pytest.mark.parametrize("name", [name for name in CARDS if name not in ("hostile", "shrunk")])
def test_every_row_of_a_table_is_whole(name: str) -> None:
    """Each table row has as many cells as its head, and every element that opens closes."""
    page = page_of(markdown(CARDS[name], run_url=RUN, head=HEAD))
    assert not [tag for tag in page.tags if tag == "unclosed" or tag.startswith("/")]
    assert set(page.rows) <= {3, 5}


def test_what_is_too_long_is_shrunk_and_says_so() -> None:
    """Failing cases go first, shortened, then left out, and the text says how many."""
    text = markdown([too_many_texts()], run_url=RUN, head=HEAD)
    assert len(text.encode()) <= COMMENT_LIMIT
    shown = text.count("differs from the expected output")
    assert 5 <= shown < 100
    assert f"{120 - shown} more failing cases are not shown here; the run's artifact holds them." in text
    assert "more characters)" in text
    assert "| exact_match |" in text
    assert "What to do next" in text


@pytest.mark.parametrize("limit", [60_000, 20_000, 8_000, 3_000])
def test_any_limit_holds(limit: int) -> None:
    """Whatever the limit, the text keeps it, in bytes, keeps the verdict, and leaves no fold open."""
    wide = [failing_case(f"é{i}", input="é" * 3000) for i in range(100)]
    cards = [card(failed(failing=100, failing_cases=wide), cost_json())]
    text = markdown(cards, head=HEAD, limit=limit)
    assert len(text.encode()) <= limit
    assert text.startswith("### ❌ Gatehouse: ")
    assert "unclosed" not in page_of(text).tags


def test_a_thousand_agents_are_cut_at_a_line() -> None:
    """Where not even the tables fit, whole lines go, the last of the text first, and it says so."""
    cards = [card(failed(f"agent-{i}"), cost_json(f"agent-{i}")) for i in range(1000)]
    text = markdown(cards)
    assert len(text.encode()) <= COMMENT_LIMIT
    assert text.endswith("was cut to GitHub's size limit; the run's artifact holds all of it.")
    assert "1000 of 1000 agents" in text
    assert "unclosed" not in page_of(text).tags


def test_how_to_reproduce_it() -> None:
    """The shell line names the agent file and the golden set, quoted where a shell needs it."""
    line = f"uvx --from git+{SOURCE} gatehouse eval-gate --agent agents/refund-triage.yaml"
    held = "--threshold exact_match=0.85,latency_p95=5"
    assert reproduce(eval_json()) == f"{line} --dataset evals/golden/refunds.jsonl {held}"
    assert reproduce(eval_json(repeats=3)).endswith(f" --repeats 3 {held}")
    assert reproduce(left("refund-triage", "x")) == line
    odd = eval_json(agent={"path": "a b;$(id).yaml"}, dataset={"path": "it's.jsonl"})
    assert reproduce(odd).endswith(f"--agent 'a b;$(id).yaml' --dataset 'it'\"'\"'s.jsonl' {held}")


def test_how_to_reproduce_a_judged_gate() -> None:
    """The shell line brings the libraries of the metrics, and names the judge that counted."""
    judge = judge_json(embeddings="ollama:nomic-embed-text")
    line = reproduce(eval_json(judge=judge, extras=["deepeval", "ragas"]))
    assert line.startswith(f"uvx --from 'gatehouse-ci[deepeval,ragas] @ git+{SOURCE}' gatehouse eval-gate ")
    assert " --judge ollama:llama3.1:70b --embeddings ollama:nomic-embed-text " in line


def test_judging_is_told_apart_from_the_agents_cost() -> None:
    """Comment and terminal say what judging took, and of each judged metric how far its judge is trusted."""
    for text in (markdown(CARDS["judged"]), terminal(CARDS["judged"])):
        assert "96 calls, 24 answered by earlier judgements, 91,356 tokens in, 901 out" in text
        assert "not part of the agent's cost" in text
        assert "helpfulness: calibrated: kappa 0.71" in text
        assert "the judge passes 92% of the cases, 87% [82%, 92%] corrected" in text
        assert "- faithfulness, toxicity: not calibrated" in text
        assert "reports no usage" in text


@pytest.mark.parametrize(
    ("row", "value", "words"),
    [
        ({}, 0.25, "0.25 is below 0.85"),
        ({}, 0.84999, "0.84999 is below 0.85"),
        ({"direction": "lower", "threshold": 0.5}, 0.75, "0.75 is above 0.5"),
        ({"threshold": None}, 0.75, "0.75, and it must hold in every case"),
        ({}, None, "fails"),
    ],
)
def test_a_failing_case_without_a_reason_shows_its_value(
    row: dict[str, Any], value: float | None, words: str
) -> None:
    """Where a metric gives no reason its value says why the case fails; an older file has none."""
    case = failing_case(reasons={"exact_match": ""}, values={"exact_match": value})
    if value is None:
        del case["values"]
    cards = [card(eval_json(metrics=[metric(**row)], failing_cases=[case]), cost_json())]
    assert f"- exact_match: {words}\n" in markdown(cards)
    assert f"✗ blunt-knife: exact_match: {words}\n" in terminal(cards)


def test_an_address_that_is_none_is_no_link() -> None:
    """Only an http address becomes a link."""
    assert "<a " not in markdown([card(eval_json(), cost_json())], run_url="javascript:alert(1)")


def test_terminal_shows_the_same() -> None:
    """In a terminal: verdict, metrics in columns, costs, the first failing cases, and what to do next."""
    text = terminal([card(failed(), cost_json())])
    assert text.splitlines()[2:8] == [
        "  metric          value, 95 % interval  threshold   state",
        "  exact_match     0.7 [0.546, 0.819]    ≥ 0.85      fail",
        "    0.7 is below 0.85 (12 of 40 cases fail)",
        "  json_schema     1 [0.912, 1]          every case  pass",
        "  critical_cases  0.75, n = 4           every case  fail",
        "    1 of 4 failed, and every one must pass: double-refund",
    ]
    assert "  ✗ double-refund (critical): exact_match: differs from the expected output" in text
    assert "  ... and 9 more failing cases" in text
    assert text.endswith("so that its reviewers see it.")
