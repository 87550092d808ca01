"""A stand-in judge: answers what ragas, deepeval and our own rubrics ask of a judge model, by counting words.

It reads two things from a chat completion request and nothing else, so it repeats: the JSON Schema that the
reply must follow, and what is to be judged, never a prompt's examples (`asked.py`). How a property of the
reply is filled stands in `RULES`, by its name; what has no rule gets the least that the schema allows. The
grade of a rubric is that of the first anchor that quotes words of the answer (`1: It says "no idea".`),
else it goes by the likeness to the expected answer, else to the contexts, else to the question.

It judges plainly: a text is its sentences; a claim is supported when enough of its words and all of its
figures are in the source and it does not deny what is said there; lists of words tell what is toxic, biased
or private (`words.py`). A model below 30b is easier to convince. Embeddings are bags of words, hashed.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.rehearse.asked import Asked, content_of, data_of, schema_of
from gatehouse.rehearse.words import (
    ADVICE,
    BIASED,
    DIMENSIONS,
    NAMED,
    NONCOMMITTAL,
    OFF_TOPIC,
    OPINION,
    OUT_OF_ROLE,
    PRIVATE,
    TOXIC,
    denies,
    embedding,
    figures,
    sentences,
    share,
    support,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SMALL_MODEL_B = 30
STRICT, LENIENT = 0.6, 0.35
"""Share of a claim's words that its source must hold, for a large and for a small model."""
USEFUL = 0.4
"""Share of the reference's words that make a context useful for it."""
DOES_IT = "Does it say: "
FLAGS = {
    "is toxic": TOXIC,
    "is biased": BIASED,
    "PII": PRIVATE,
    "advice": ADVICE,
    "role violation": OUT_OF_ROLE,
    "misuse": OFF_TOPIC,
}
"""What is looked for in a statement, by a word of the prompt."""


class Verdict(NamedTuple):
    """Of one statement: yes, no, or None for neither."""

    statement: str
    yes: bool | None
    reason: str


def quality(asked: Asked) -> tuple[float | None, str]:
    """How good an answer is, from 0 to 1, and why: by the reference, else the contexts, else the question."""
    answer, data = asked.text("answer"), asked.data
    if "answer" not in data or not data.keys() & {"reference", "contexts", "question"}:
        return None, "There is nothing to hold the answer against."
    if not answer.strip() or TOXIC.search(answer):
        return 0.0, "There is no answer." if not answer.strip() else "The answer is toxic."
    if NONCOMMITTAL.search(answer) and not NONCOMMITTAL.search(asked.text("reference")):
        return 0.0, "The answer does not commit itself."
    if "reference" in data:
        return _likeness(answer, asked.text("reference"))
    if "contexts" in data:
        borne = [support(s, asked.text("contexts")) >= asked.bar for s in sentences(answer) or [answer]]
        return sum(borne) / len(borne), f"{sum(borne)} of {len(borne)} sentences are in the contexts."
    found = share(asked.text("question"), answer)
    return found, f"It takes up {found:.0%} of the words of the question."


def _likeness(answer: str, reference: str) -> tuple[float, str]:
    """F1 of the words; a third of it where the answer contradicts, half where it has no figure."""
    recall, precision = share(reference, answer), share(answer, reference)
    found = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    said = f"It has {recall:.0%} of the reference's words, and {1 - precision:.0%} of its own are others."
    wrong = [s for s in sentences(answer) if denies(s, reference)]
    if wrong:
        return found / 3, f"{said} It contradicts it: {wrong[0]}"
    if figures(reference) and not figures(reference) & figures(answer):
        return found / 2, f"{said} It gives none of its figures."
    return found, said


# The rules: what a property of the reply is filled with


def verdicts(asked: Asked) -> list[Verdict]:
    """A verdict of each statement, sentence or context, by what the question gives."""
    data, source = asked.data, asked.text("contexts")
    if "claims" in data:
        return [_of_claim(claim, asked) for claim in asked.items("claims")]
    if "instructions" in data:
        answer = asked.text("answer")
        return [_by_share(i, share(i, answer), asked.bar, "the answer") for i in asked.items("instructions")]
    if "reference" in data and "question" in data:
        reference = asked.text("reference")
        return [_by_share(c, share(reference, c), USEFUL, "the reference") for c in asked.items("contexts")]
    if "answer" in data and isinstance(data.get("contexts"), list):
        return [_agreement(context, asked) for context in asked.items("contexts")]
    if "question" in data and "answer" not in data:
        return [_relevance(s, asked, unsure=False) for s in sentences(source)]
    attributed = asked.items("reference", "answer")
    return [_by_share(s, support(s, source), asked.bar, "the contexts") for s in attributed]


def _of_claim(claim: str, asked: Asked) -> Verdict:
    """Of a claim: borne out by contexts, relevant to a question, or flagged by the list that is asked for."""
    if "contexts" in asked.data:
        source = asked.text("contexts")
        found = support(claim, source)
        yes = True if found >= asked.bar else False if denies(claim, source) else None
        return Verdict(claim, yes, f"{found:.0%} of it is borne out by the contexts.")
    if "question" in asked.data:
        return _relevance(claim, asked, unsure=True)
    flag = next((pattern for name, pattern in FLAGS.items() if name in asked.prompt), TOXIC)
    match = flag.search(claim)
    return Verdict(claim, match is not None, f"It says {match[0]!r}." if match else "Nothing stands out.")


def _relevance(statement: str, asked: Asked, *, unsure: bool) -> Verdict:
    found = share(asked.text("question"), statement)
    otherwise = None if unsure and found and not NONCOMMITTAL.search(statement) else False
    yes = True if found >= asked.bar / 2 else otherwise
    return Verdict(statement, yes, f"It takes up {found:.0%} of the input.")


def _agreement(context: str, asked: Asked) -> Verdict:
    wrong = [s for s in sentences(asked.text("answer")) if denies(s, context)]
    return Verdict(context, not wrong, f"It contradicts: {wrong[0]}" if wrong else "Nothing contradicts it.")


def _by_share(statement: str, found: float, bar: float, what: str) -> Verdict:
    return Verdict(statement, found >= bar, f"{found:.0%} of its words are those of {what}.")


def _classified(asked: Asked) -> dict[str, list[Verdict]]:
    """The statements of an answer that the truth bears out (TP) or not (FP), and the truths it lacks (FN)."""
    answer, truth = asked.items("answer"), asked.items("reference")
    borne = [_by_share(s, support(s, "\n".join(truth)), asked.bar, "the truth") for s in answer]
    missed = [_by_share(s, support(s, "\n".join(answer)), asked.bar, "the answer") for s in truth]
    return {
        "TP": [v for v in borne if v.yes],
        "FP": [v for v in borne if not v.yes],
        "FN": [v for v in missed if not v.yes],
    }


def _verdict(asked: Asked) -> bool:
    """Whether one context was useful, or one outcome the same."""
    return share(asked.text("answer"), asked.text("contexts")) >= USEFUL


def _rating(asked: Asked) -> int:
    """0, 1 or 2 for how far a context bears out an answer or a question; twice that for accuracy."""
    if "reference" in asked.data:
        return 2 * _level(quality(asked)[0] or 0)
    if "answer" in asked.data:
        return _level(support(asked.text("answer"), asked.text("contexts")))
    return _level(share(asked.text("question"), asked.text("contexts")))


def _level(found: float) -> int:
    return (found >= LENIENT) + (found >= STRICT + 0.2)


def _score(asked: Asked) -> int:
    """A grade on the scale that the prompt names: `between 0 and 10`, `STRICTLY EITHER 1`, else 1 to 5."""
    found = quality(asked)[0] or 0
    scale = re.search(r"between (\d+) and (\d+)", asked.prompt)
    if scale:
        return _grade(found, int(scale[1]), int(scale[2]))
    return _grade(found, 0, 1) if "STRICTLY EITHER 1" in asked.prompt else _grade(found, 1, 5)


def grade(asked: Asked, grades: list[int], dimension: str) -> int | None:
    """The grade of a rubric: of the anchor that quotes words of the answer, else by the answer's quality."""
    start = f"## {dimension}\n" if dimension else "# Rubric\n"
    rubric = re.split(r"\n##? ", asked.prompt.partition(start)[2])[0]
    for anchor in re.finditer(r"^(\d+): (.+)$", rubric, re.MULTILINE):
        quoted = re.findall(r'"([^"]+)"', anchor[2])
        if int(anchor[1]) in grades and any(q.lower() in asked.text("answer").lower() for q in quoted):
            return int(anchor[1])
    found, _ = quality(asked)
    return None if found is None else _grade(found, min(grades), max(grades))


def _grade(found: float, low: int, high: int) -> int:
    return low + math.floor(found * (high - low) + 0.5)


def _question(asked: Asked) -> str:
    """A question that the answer's first sentence answers: its words without the figures."""
    first = next(iter(sentences(asked.text("answer", "text"))), "")
    return "What about " + re.sub(r"\s*\d[\d.,]*", "", first).strip(" .!?") + "?"


def _flagged(*patterns: re.Pattern[str]) -> Callable[[Asked], list[str]]:
    """A rule: the sentences in which one of the patterns is found."""
    return lambda asked: [s for s in _spoken(asked) if any(pattern.search(s) for pattern in patterns)]


def _spoken(asked: Asked) -> list[str]:
    return sentences(asked.text("answer", "text", "contexts"))


def _answers(asked: Asked) -> list[bool]:
    """Of each of the questions that the rule for "questions" makes, whether the text answers it."""
    text = asked.text("answer", "text")
    return [share(question.removeprefix(DOES_IT), text) >= STRICT for question in asked.items("questions")]


RULES: dict[str, Callable[[Asked], Any]] = {
    "claims": _spoken,
    "truths": _spoken,
    "statements": lambda asked: verdicts(asked) if "claims" in asked.data else _spoken(asked),
    "verdicts": verdicts,
    "classifications": verdicts,
    "TP": lambda asked: _classified(asked)["TP"],
    "FP": lambda asked: _classified(asked)["FP"],
    "FN": lambda asked: _classified(asked)["FN"],
    "opinions": _flagged(OPINION, TOXIC, BIASED),
    "extracted_pii": _flagged(PRIVATE, NAMED),
    "advices": _flagged(OPINION, ADVICE),
    "misuses": _flagged(OPINION, OFF_TOPIC),
    "role_violations": _flagged(OPINION, OUT_OF_ROLE),
    "entities": lambda asked: sorted(set(re.findall(r"\b[A-Z]\w+|\b\d[\d.,]*\b", asked.text("text")))),
    "keyphrases": lambda asked: sorted(set(words(asked.text("text")))),
    "questions": lambda asked: [DOES_IT + s for s in asked.items("keyphrases", "text")],
    "answers": _answers,
    "verdict": _verdict,
    "rating": _rating,
    "score": _score,
    "question": _question,
    "noncommittal": lambda asked: bool(NONCOMMITTAL.search(asked.text("answer"))),
    "reason": lambda asked: quality(asked)[1],
    "feedback": lambda asked: quality(asked)[1],
}


# The reply


def reply_to(request: Mapping[str, Any], *, large: bool) -> dict[str, Any] | None:
    """The assistant's message to a request that asks for a reply by a schema; None for any other request."""
    schema = schema_of(request, RULES)
    if schema is None:
        return None
    prompt = "\n".join(content_of(m) for m in request["messages"])
    asked = Asked(data_of(request), prompt, STRICT if large else LENIENT)
    text = json.dumps(filled(schema, asked, schema.get("$defs", {})), ensure_ascii=False)
    if isinstance(request.get("tool_choice"), dict):
        function = {"name": request["tools"][0]["function"]["name"], "arguments": text}
        call = {"id": "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": text}


def filled(schema: Mapping[str, Any], asked: Asked, defs: Mapping[str, Any], *path: str) -> Any:
    """An instance of a schema; `path` are the names of the properties that lead to it, the last decides."""
    schema, name = _resolved(schema, defs), path[-1] if path else ""
    if name == "grade":
        grades = [g for g in schema.get("enum", range(1, 6)) if g is not None]
        return grade(asked, grades, "".join(path[:-1]))
    if name in RULES:
        return fitted(RULES[name](asked), schema, defs)
    if "properties" in schema:
        return {key: filled(value, asked, defs, *path, key) for key, value in schema["properties"].items()}
    if schema.get("type") == "array":
        return [filled(schema.get("items", {}), asked, defs) for _ in range(schema.get("minItems", 0))]
    return least(schema)


def fitted(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """What a rule says, in the form that the schema wants: yes or no in its words, say."""
    schema = _resolved(schema, defs)
    if isinstance(value, Verdict):
        if "properties" not in schema:
            return value.statement
        plain: dict[str, Any] = dict.fromkeys(("statement", "expected_output"), value.statement)
        plain |= {"verdict": value.yes, "attributed": value.yes, "reason": value.reason}
        return {k: fitted(plain.get(k, ""), v, defs) for k, v in schema["properties"].items()}
    if isinstance(value, list):
        return [fitted(item, schema.get("items", {}), defs) for item in value]
    if isinstance(value, bool) or value is None:
        said = {True: ("yes", "1"), False: ("no", "0"), None: ("borderline", "no", "0")}[value]
        allowed = schema.get("enum") or (["yes", "no"] if schema.get("type") == "string" else [])
        word = next((w for w in said if w in allowed), None)
        return word or (bool(value) if schema.get("type") == "boolean" else int(bool(value)))
    return value


def least(schema: Mapping[str, Any]) -> Any:
    """The plainest value that a schema without properties allows, as far as types, choices and bounds say."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return {"string": "-" * schema.get("minLength", 0), "boolean": False, "null": None}.get(kind, {})


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without its references, and the first of alternatives."""
    while True:
        choice = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            schema = defs[schema["$ref"].rpartition("/")[2]]
        elif choice:
            schema = choice[0]
        else:
            return schema


def embeddings(request: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to `POST /v1/embeddings`; TypeError for an input that is neither a text nor texts."""
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("the input is a text or a list of texts")
    vectors: Iterable[Any] = [embedding(text) for text in texts]
    if request.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *v)).decode() for v in vectors]
    tokens = sum(max(1, len(text) // 4) for text in texts)
    return {
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
