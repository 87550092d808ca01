"""What changed between two versions of one agent file, as far as the gate goes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from gatehouse.evals.changes.base import Change, Effect, limit, names, other, show
from gatehouse.evals.changes.options import effect_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.agent.definition import Agent, Price
    from gatehouse.evals.changes.base import AgentView
    from gatehouse.evals.metrics import Gate

RANKS = {"on_inconclusive": ("warn", "fail"), "unpinned_model": ("allow", "warn", "error")}
"""Settings of `evals` with their values, the weakest first."""


def settings(base: AgentView, head: AgentView) -> Iterator[Change]:
    """Every change of what the file itself says; both have an agent."""
    if base.agent is None or head.agent is None:
        return
    for name in base.gates | head.gates:
        yield from _metric(name, base.gates.get(name), head.gates.get(name))
    yield from _code(base, head)
    for compare in (_evals, _judge, _budgets, _guardrails, _tools, _pricing):
        yield from compare(base.agent, head.agent)


def _metric(name: str, base: Gate | None, head: Gate | None) -> Iterator[Change]:
    if base is None or head is None:
        if base:
            yield Change(Effect.WEAKER, "metric removed", name, before=_held(base))
        if head:
            yield Change(Effect.STRONGER, "metric added", name, after=_held(head))
        return
    before, after = base.metric, head.metric
    target = (before.known_as or before.name, after.known_as or after.name)
    for change in other("metric of this name", name, *target):
        yield replace(change, effect=Effect.WEAKER)
    yield from _ranked("kind of metric", name, before.kind, after.kind, ("quality", "safety"))
    same = target[0] == target[1] and before.direction == after.direction
    yield from _threshold(name, base, head) if same else other("threshold", name, _held(base), _held(head))
    yield from _ranked("floor of metric", name, base.floor, head.floor, ("value", "interval"))
    for option in dict(base.options) | dict(head.options):
        old, new = base.options.get(option), head.options.get(option)
        effect = effect_of(target[0], option, old, new) if same else Effect.CHANGED
        for change in other("option", f"{name}.{option}", old, new):
            yield replace(change, effect=effect)


def _threshold(name: str, base: Gate, head: Gate) -> Iterator[Change]:
    """Without one, every case must hold, which is as much as the best value for the mean."""
    best = base.metric.best
    before, after = (best if gate.threshold is None else gate.threshold for gate in (base, head))
    if before == after:
        return
    ceiling = base.metric.direction == "lower"
    weaker = (after > before) == ceiling
    what = f"{'ceiling' if ceiling else 'threshold'} {'raised' if after > before else 'lowered'}"
    effect = Effect.WEAKER if weaker else Effect.STRONGER
    yield Change(effect, what, name, _held(base), _held(head))


def _held(gate: Gate) -> str:
    return "every case" if gate.threshold is None else show(gate.threshold)


def _ranked(what: str, name: str, before: str, after: str, ranks: tuple[str, ...]) -> Iterator[Change]:
    """A choice between values, of which the first is the weakest; a value that is not there is unknown."""
    if before == after:
        return
    effect = Effect.CHANGED
    if before in ranks and after in ranks:
        effect = Effect.WEAKER if ranks.index(after) < ranks.index(before) else Effect.STRONGER
    yield Change(effect, f"{what} changed", name, before, after)


def _code(base: AgentView, head: AgentView) -> Iterator[Change]:
    """The code of the user's own metrics; what else lies beside it they may import."""
    for name in base.code.keys() & head.code.keys():
        before, after = base.code[name], head.code[name]
        own = next(iter(after), "")
        if before.get(own) != after.get(own):
            yield Change(Effect.CHANGED, "code of an own metric changed", name, where=own)
        beside = sorted(f for f in before | after if f != own and before.get(f) != after.get(f))
        if beside:
            what = "code that an own metric may import changed"
            yield Change(Effect.CHANGED, what, name, after=names(beside))


def _evals(base: Agent, head: Agent) -> Iterator[Change]:
    before, after = base.evals, head.evals
    for name, ranks in RANKS.items():
        yield from _ranked("setting", name, getattr(before, name), getattr(after, name), ranks)
    yield from limit("limit", "max_unscored", before.max_unscored, after.max_unscored)
    yield from limit("limit", "max_usd", before.max_usd, after.max_usd)
    yield from other("model of embeddings", "evals.embeddings", before.embeddings, after.embeddings)
    yield from other("golden set's path", "evals.dataset", list(before.dataset), list(after.dataset))


def _judge(base: Agent, head: Agent) -> Iterator[Change]:
    before, after = base.evals.judge, head.evals.judge
    yield from limit(
        "agreement asked of the judge",
        "min_kappa",
        before.min_kappa,
        after.min_kappa,
        more_is_weaker=False,
    )
    for name in (field.name for field in fields(before) if field.name != "min_kappa"):
        yield from other("judge", f"evals.judge.{name}", getattr(before, name), getattr(after, name))


def _budgets(base: Agent, head: Agent) -> Iterator[Change]:
    for field in fields(base.budgets):
        before, after = getattr(base.budgets, field.name), getattr(head.budgets, field.name)
        # Fewer requests a day project a smaller bill.
        more = field.name != "requests_per_day"
        yield from limit("budget", field.name, before, after, more_is_weaker=more)


def _guardrails(base: Agent, head: Agent) -> Iterator[Change]:
    if base.guardrails.pii_redaction != head.guardrails.pii_redaction:
        off = base.guardrails.pii_redaction
        effect = Effect.WEAKER if off else Effect.STRONGER
        yield Change(effect, f"guardrail switched {'off' if off else 'on'}", "pii_redaction")
    before, after = base.output_schema, head.output_schema
    if before == after:
        return
    if before is None or after is None:
        effect, verb = (Effect.WEAKER, "removed") if after is None else (Effect.STRONGER, "added")
        yield Change(effect, f"guardrail {verb}", "output_schema")
        return
    where = head.guardrails.output_schema or ""
    yield Change(Effect.CHANGED, "guardrail changed", "output_schema", where=where)


def _tools(base: Agent, head: Agent) -> Iterator[Change]:
    before, after = ({tool.name: tool for tool in agent.tools} for agent in (base, head))
    for name in before | after:
        old, new = before.get(name), after.get(name)
        if new is None:
            # Where none is declared, none is forbidden.
            yield Change(Effect.STRONGER if after else Effect.WEAKER, "tool no longer allowed", name)
        elif old is None:
            yield Change(Effect.WEAKER if before else Effect.CHANGED, "tool newly allowed", name)
        else:
            if old.approval != new.approval:
                effect = Effect.WEAKER if old.approval else Effect.STRONGER
                verb = "no longer" if old.approval else "now"
                yield Change(effect, f"tool {verb} needs approval", name)
            yield from other("scope of tool", name, old.scope, new.scope)


def _pricing(base: Agent, head: Agent) -> Iterator[Change]:
    """The cost gate's measure: at lower prices more passes."""
    for name in base.pricing | head.pricing:
        before, after = base.pricing.get(name), head.pricing.get(name)
        if before and after:
            for what, old, new in zip(_PRICES, _prices(before), _prices(after), strict=True):
                yield from limit("price", f"{name}: {what}", old, new, more_is_weaker=False)
        else:
            prices = (price and list(_prices(price)) for price in (before, after))
            for change in other("price", name, *prices):  # it stands for one of the table, unknown here
                yield replace(change, effect=Effect.WEAKER)


_PRICES = ("input", "cached input", "output")


def _prices(price: Price) -> tuple[float, float, float]:
    cached = price.cached_input_per_mtok
    return price.input_per_mtok, price.input_per_mtok if cached is None else cached, price.output_per_mtok
