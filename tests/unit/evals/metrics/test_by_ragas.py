"""The table of ragas' metrics against the library that is installed."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from inspect import isclass, signature
from typing import Any

import pytest

from gatehouse.evals.judges.base import JudgeError
from gatehouse.evals.judges.ragas_library import FLAGS, bounded, collections
from gatehouse.evals.metrics import budgets, text, tools
from gatehouse.evals.metrics.base import OptionError, Score
from gatehouse.evals.metrics.by_ragas import _SPECS, ALIASES, METRICS, REFUSED
from tests.contracts.suite import ROOT

BY_NAME = {metric.name: metric for metric in METRICS}
NO_METRICS = {"BaseMetric", "DistanceMeasure"}


def parameters(function: Any) -> dict[str, Any]:
    """A method's parameters by name, `self` and the open ones aside."""
    return {
        name: one.default
        for name, one in signature(function).parameters.items()
        if name != "self" and one.kind is not one.VAR_KEYWORD
    }


def own_name(library: str) -> str:
    """What the library calls a metric."""
    name = parameters(getattr(collections(), library).__init__).get("name")
    return name or re.sub(r"(?<!^)([A-Z])", r"_\1", library).lower()


def test_every_metric_of_the_library_is_here_or_refused() -> None:
    """No class of the collections is forgotten, and each goes by the library's own name."""
    names = {own_name(one) for one in set(collections().__all__) - NO_METRICS}
    assert len(names) > 30
    for name in names:
        assert (f"ragas.{name}" in ALIASES) != (f"ragas.{name}" in REFUSED), name
        assert name in BY_NAME or name in ALIASES or name in REFUSED or name == "exact_match", name


@pytest.mark.parametrize("name", BY_NAME)
def test_the_table_is_what_the_library_takes(name: str) -> None:
    """What is handed over, which models are asked, and the options are those of the installed class."""
    spec, metric = _SPECS[name], BY_NAME[name]
    library = getattr(collections(), spec.library)
    made_with = {
        key: value for one in reversed(library.__mro__) for key, value in parameters(one.__init__).items()
    }
    models = {"llm": "judge", "embeddings": "embeddings"}
    assert set(spec.takes) == set(parameters(library.ascore))
    assert {models[one] for one in made_with if one in models} == set(metric.models)
    assert {*spec.options, *spec.fixed} <= made_with.keys()
    assert ("reference" in spec.takes) == ("expected" in metric.requires)
    assert ("retrieved_contexts" in spec.takes) <= ("contexts" in metric.requires)
    assert (metric.low, metric.high) == made_with["allowed_values"] == (0.0, 1.0)
    assert ("lower is better" in library.__doc__) == (metric.direction == "lower")


@pytest.mark.parametrize("name", BY_NAME)
def test_a_number_in_a_reply_is_a_choice(name: str) -> None:
    """Every whole number that a metric's prompts ask for has its choices, and a judge has no others."""
    spec = _SPECS[name]
    if spec.models == ("embeddings",):
        return
    module = import_module(getattr(collections(), spec.library).__module__.removesuffix(".metric") + ".util")
    models = [one for one in vars(module).values() if isclass(one) and hasattr(one, "model_fields")]
    assert models
    numbers = {key for one in models for key, field in one.model_fields.items() if field.annotation is int}
    assert numbers <= {*FLAGS, "rating"}
    assert ("rating" in numbers) == bool(spec.ratings)


def test_the_version_is_the_one_pinned_and_installed() -> None:
    """A score says which ragas computed it: the one that our extra brings."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ragas"]
    [pin] = [one for one in pins if one.startswith("ragas==")]
    assert {metric.version for metric in METRICS} == {pin.replace("==", " "), f"ragas {version('ragas')}"}
    assert {metric.extra for metric in METRICS} == {"ragas"}


def test_names_are_clear() -> None:
    """An alias leads to a metric, nothing is both offered and refused, and none of our own names is taken."""
    ours = {metric.name for module in (text, tools, budgets) for metric in module.METRICS}
    assert set(ALIASES.values()) <= BY_NAME.keys()
    assert not (ALIASES.keys() | BY_NAME.keys()) & REFUSED.keys()
    assert not ours & (ALIASES.keys() | BY_NAME.keys() | REFUSED.keys())
    assert ALIASES["answer_relevance"] == ALIASES["ragas.answer_relevance"] == "answer_relevancy"
    for instead in re.findall(r"(?:[Uu]se|texts use) (\w+)", " ".join(REFUSED.values())):
        assert instead in BY_NAME.keys() | ours | {"a"}, instead


def test_importing_the_table_imports_no_library() -> None:
    """A metric can be named, listed and read of where the extra is not installed."""
    code = "import sys, gatehouse.evals.metrics.by_ragas; print({'ragas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("factual_correctness", {"mode": "F1"}, '"mode" is precision, recall or f1.'),
        ("factual_correctness", {"beta": 0}, '"beta" is a number above 0.'),
        ("factual_correctness", {"beta": True}, '"beta" is a number above 0.'),
        ("factual_correctness", {"atomicity": "middle"}, '"atomicity" is low or high.'),
        ("factual_correctness", {"coverage": ["low"]}, '"coverage" is low or high.'),
        ("noise_sensitivity", {"mode": 1}, '"mode" is relevant or irrelevant.'),
        ("answer_correctness", {"weights": [0, 0]}, '"weights" is two numbers of 0 or more'),
        ("answer_correctness", {"weights": [1, -1]}, '"weights" is two numbers of 0 or more'),
        ("answer_correctness", {"weights": [1, math.inf]}, '"weights" is two numbers of 0 or more'),
        ("answer_correctness", {"weights": 1}, '"weights" is two numbers of 0 or more'),
        ("summary_score", {"coeff": 1.5}, '"coeff" is a number from 0 to 1.'),
    ],
)
def test_a_wrong_option_is_an_error(name: str, options: dict[str, Any], message: str) -> None:
    """What an option may be is said, before anything is asked."""
    judged: Any = BY_NAME[name].judged
    with pytest.raises(OptionError) as caught:
        judged(options, None)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, 0.5), (0.99999999, 1.0), (1.0000001, 1.0), (1e-9, 0.0), (-1e-9, 0.0), (-0.5, 0.0)],
)
def test_a_value_is_from_0_to_1(value: float, shown: float) -> None:
    """What rounding and small additions take from a bound is given back; a negative cosine is 0."""
    assert bounded(value, "r") == Score(shown, "r")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.001, -1.001, 11])
def test_a_value_beyond_is_none(value: float) -> None:
    """NaN, or a number that the metric cannot have, leaves the sample without one."""
    with pytest.raises(JudgeError, match=r"^library: ragas (gives no number|computes)"):
        bounded(value, "")
