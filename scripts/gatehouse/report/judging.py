"""What the scorecard says of judges: what they took, how far they are trusted, what to do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.costs.budget import dollars
from gatehouse.errors import State
from gatehouse.evals.verdict import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Sequence

BLAME = (
    "Where the judge is wrong and not the answer, mend its rubric or name another judge: read its reasons, "
    "and hold it against people's labels with `gatehouse calibrate`."
)
UNKNOWN = (
    "The agent file's `min_kappa` asks for a judge that is known to agree with people: hold it against their "
    "labels with `gatehouse calibrate`, and commit what that writes."
)
TOO_LOW = (
    "People grade otherwise than this judge: read where (`gatehouse calibrate` shows it), mend its rubric or "
    "name another judge, and calibrate again."
)


def asked(verdict: dict[str, Any]) -> tuple[str, str]:
    """As what and by which names models were asked."""
    judge = verdict["judge"]
    names = [*judge["models"], *([judge["embeddings"]] if judge.get("embeddings") else [])]
    return "Judge" if judge["models"] else "Embeddings", ", ".join(names)


def took(verdict: dict[str, Any]) -> str:
    """What all that was asked took together."""
    judge = verdict["judge"]
    kept = f", {judge['cached']:,} answered by earlier judgements" if judge["cached"] else ""
    tokens = {key: sum(m[key] for m in judge["by_model"]) for key in ("input_tokens", "output_tokens")}
    return _spent(judge | tokens, kept) + ", not part of the agent's cost"


def took_each(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """Each model that was asked and what it took, where they are several."""
    models = verdict["judge"]["by_model"]
    return [(f"{m['provider']} {m['model']}", _spent(m)) for m in models] if len(models) > 1 else []


def _spent(spent: dict[str, Any], kept: str = "") -> str:
    usd = "unpriced" if spent["usd"] is None else dollars(spent["usd"])
    calls = f"{spent['calls']:,} call{'s' * (spent['calls'] != 1)}"
    return f"{calls}{kept}, {spent['input_tokens']:,} tokens in, {spent['output_tokens']:,} out, {usd}"


def trust(verdict: dict[str, Any]) -> list[tuple[list[str], str]]:
    """How far the judges are known to agree with people, and the metrics of which that is said."""
    said: dict[str, list[str]] = {}
    for m in verdict["metrics"]:
        if known := m.get("calibration"):
            line = known["reason"]
            if known.get("corrected") is not None and known.get("corrected_interval"):
                low, high = (f"{end:.0%}" for end in known["corrected_interval"])
                line += (
                    f"; the judge passes {known['pass_rate']:.0%} of the cases, "
                    f"{known['corrected']:.0%} [{low}, {high}] corrected for its own errors"
                )
            said.setdefault(line, []).append(m["name"])
    return [(names, line) for line, names in said.items()]


def steps(verdicts: Sequence[dict[str, Any]], state: State) -> list[str]:
    """What to do about the judges where their grades stand behind the verdicts' state: fail, inconclusive."""
    said = []
    for verdict in verdicts:
        judged = {m["name"]: m["calibration"] for m in verdict["metrics"] if m.get("calibration")}
        behind = {m["name"] for m in verdict["metrics"] if m["state"] == state}
        if CRITICAL in behind:
            behind |= {n for case in verdict["failing_cases"] if case["critical"] for n in case["reasons"]}
        said += [_step(judged[name], state) for name in judged if name in behind]
    return list(dict.fromkeys(said))


def _step(known: dict[str, Any], state: State) -> str:
    if state is State.FAIL or known.get("enough", True):
        return BLAME
    return TOO_LOW if known["calibrated"] else UNKNOWN


def only_the_judge(verdict: dict[str, Any]) -> bool:
    """Whether nothing but the trust in a judge keeps this gate from passing."""
    rows = [m for m in verdict["metrics"] if m["state"] != State.PASS]
    return bool(rows) and all(not (m.get("calibration") or {}).get("enough", True) for m in rows)
