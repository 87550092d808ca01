"""A judge's calibration: what is measured, the file that keeps it, and what it says to a gate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.definition import JudgeSetting
from gatehouse.agent.digest import sha256
from gatehouse.errors import UserError
from gatehouse.evals.judges import calibration
from gatehouse.evals.judges.base import Sample
from gatehouse.evals.judges.calibration import Calibration, last_day, read_calibration, write_calibration
from gatehouse.evals.judges.labels import Labelled, Labels
from gatehouse.evals.judges.standing import corrected_rate, status
from gatehouse.evals.metrics import Gate
from gatehouse.evals.metrics.base import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RUBRIC = Metric("helpfulness", "quality", "", low=1, high=5, step=1, models=("judge",), version="sha256:r")
NUMBER = Metric("faithfulness", "quality", "", models=("judge",), version="ragas 0.4.3")


def gate_of(metric: Metric = RUBRIC, threshold: float | None = 4.0, **changed: Any) -> Gate:
    """A gate that is judged by one model."""
    return Gate(metric, None, threshold, judged_by=JudgeSetting(("openai:gpt-4.1",)), **changed)


def labels_of(metric: Metric, *ratings: Sequence[float], tags: Sequence[str] = ()) -> Labels:
    """Texts with these ratings; a text's grade is the first of them."""
    texts = [
        Labelled(i + 1, Sample(f"q{i}", "a"), tuple(given), given[0] if given else None, tuple(tags))
        for i, given in enumerate(ratings)
    ]
    return Labels("labels.csv", "sha256:l", {metric.name: texts})


def calibrated(
    pairs: Sequence[tuple[float, float | None]], gate: Gate | None = None, **more: Any
) -> Calibration:
    """The calibration of (human, judge) pairs."""
    gate = gate or gate_of()
    labels = labels_of(gate.metric, *([human] for human, _ in pairs), tags=more.pop("tags", ()))
    return calibration.calibrate(
        gate, labels, [judge for _, judge in pairs], more.pop("repeated", {}), "2026-11-21"
    )


PAIRS = [(1.0, 1.0)] * 5 + [(2.0, 3.0)] * 4 + [(4.0, 4.0)] * 8 + [(5.0, 4.0)] * 3
"""Twenty texts on the rubric's scale: kappa is computed by hand below."""


def test_what_a_calibration_measures() -> None:
    """Pairs are counted in order; kappa on the rubric's whole scale counts a near miss by its square."""
    found = calibrated([*PAIRS, (3.0, None)], tags=["hard"])
    assert found.pairs == ((1.0, 1.0, 5), (2.0, 3.0, 4), (4.0, 4.0, 8), (5.0, 4.0, 3))
    assert (found.n, found.undecided, found.split) == (20, 1, 0)
    # Mean squared distance 7/20; expected by chance from the marginals: humans 5/4/0/8/3, judges 5/0/4/11/0.
    humans, judges = {1: 5, 2: 4, 4: 8, 5: 3}, {1: 5, 3: 4, 4: 11}
    chance = sum(n * m * (i - j) ** 2 for i, n in humans.items() for j, m in judges.items()) / 400
    assert found.kappa == pytest.approx(1 - (7 / 20) / chance)
    agreement = found.agreement()
    assert agreement is not None
    assert agreement.share.value == pytest.approx(13 / 20)
    assert agreement.bias.value == pytest.approx((4 - 3) / 20)
    assert found.by_tag is not None
    assert found.by_tag["hard"].n == 20


def test_a_mean_of_judges_counts_as_its_nearest_grade() -> None:
    """A panel's 3.7 agrees with people's 4, and its pair keeps the 3.7 that the gate would hold against 4."""
    found = calibrated([(4.0, 3.7), (4.0, 3.7), (2.0, 2.0)])
    assert found.pairs == ((2.0, 2.0, 1), (4.0, 3.7, 2))
    assert found.kappa == pytest.approx(1.0)
    rate = corrected_rate(found, gate_of().holds, [True] * 2 + [False] * 8)
    assert not isinstance(rate, str)
    assert rate[0] == pytest.approx(0.2 + 2 / 3)  # two texts that people pass and the judge, at 3.7, does not


def test_any_number_is_held_to_the_threshold() -> None:
    """Without a scale both sides pass or fail: at another threshold the same pairs have another kappa."""
    gate = gate_of(NUMBER, 0.8)
    found = calibrated([(1.0, 0.9), (1.0, 0.85), (0.0, 0.7), (0.0, 0.3)], gate)
    assert found.grades is None
    assert found.kappa == pytest.approx(1.0)
    stricter, looser = gate_of(NUMBER, 0.88), gate_of(NUMBER, 0.6)
    assert status(found, None, stricter.holds).kappa != status(found, None).kappa
    at = status(found, None, looser.holds).kappa
    assert at is not None
    assert at.value == pytest.approx(0.5)


def test_where_less_is_better_people_and_judge_pass_on_the_same_side() -> None:
    """For hallucination 0 is good: the judge's 0.1 agrees with people's pass."""
    metric = replace(NUMBER, name="hallucination", direction="lower")
    found = calibrated([(0.0, 0.1), (1.0, 0.9)], gate_of(metric, 0.5))
    assert found.kappa == pytest.approx(1.0)
    assert calibration.to_json(found)["confusion"] == {"grades": ["fail", "pass"], "counts": [[1, 0], [0, 1]]}


def test_without_a_threshold_only_the_best_passes() -> None:
    """A safety metric without a threshold has its best grade as one, on whatever scale."""
    found = calibrated(PAIRS, gate_of(replace(RUBRIC, kind="safety"), None))
    assert found.threshold == 5.0
    assert [found.holds(value) for value in (4.0, 5.0)] == [False, True]


def test_texts_on_which_people_are_split_are_counted_apart() -> None:
    """They are in no pair."""
    gate = gate_of(NUMBER, 0.5)
    texts = labels_of(NUMBER, [1.0], [])
    found = calibration.calibrate(gate, texts, [0.9, None], {}, "2026-11-21")
    assert (found.n, found.split, found.undecided) == (1, 1, 0)


def test_people_agree_with_each_other_or_not() -> None:
    """Texts with two raters say how far people agree; a third rater's pairs are not independent."""
    two = calibration.calibrate(
        gate_of(), labels_of(RUBRIC, [1, 1], [5, 4], [3]), [1, 5, 3], {}, "2026-11-21"
    )
    assert two.people is not None
    assert (two.people.n, two.people.share.value) == (2, 0.5)
    assert two.people.share.interval is not None
    three = calibration.calibrate(
        gate_of(), labels_of(RUBRIC, [1, 1, 1], [5, 4, 5]), [1, 5], {}, "2026-11-21"
    )
    assert three.people is not None
    assert three.people.n == 2
    assert three.people.share.value == pytest.approx(4 / 6)
    assert three.people.share.interval is None
    assert calibrated(PAIRS).people is None


def test_flips_are_of_grades_or_of_verdicts() -> None:
    """On a scale another grade is a flip; any number flips where it crosses the threshold."""
    repeated = {"openai:gpt-4.1": [[4.0, 5.0], [3.0, 3.0]]}
    graded = calibrated([(4.0, 4.0), (3.0, 3.0)], repeated=repeated).flips
    assert graded is not None
    assert graded["openai:gpt-4.1"].any.value == 0.5
    repeated = {"openai:gpt-4.1": [[0.81, 0.95], [0.79, 0.81]]}
    held = calibrated([(1.0, 0.9), (0.0, 0.8)], gate_of(NUMBER, 0.8), repeated=repeated).flips
    assert held is not None
    assert held["openai:gpt-4.1"].any.value == 0.5


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A calibration comes back from its file with its pairs and its kappa."""
    found = calibrated(PAIRS, tags=["b", "a"], repeated={"openai:gpt-4.1": [[4.0, 5.0]]})
    assert write_calibration(tmp_path, found) == "evals/calibration/helpfulness.json"
    back = read_calibration(tmp_path, "helpfulness", gate_of().method)
    assert back is not None
    assert back.kappa == found.kappa
    assert replace(back, people=None, by_tag=found.by_tag, flips=found.flips, doubt="") == found
    assert list((tmp_path / "evals/calibration").iterdir()) == [
        tmp_path / "evals/calibration/helpfulness.json"
    ]


def test_labels_that_changed_or_are_gone_are_told(tmp_path: Path) -> None:
    """What was measured holds for the labels that it was measured on, and for others nobody knows."""
    (tmp_path / "labels.csv").write_text("as it was")
    write_calibration(tmp_path, replace(calibrated(PAIRS), labels_digest=sha256(b"as it was")))
    doubts = []
    for now in ("as it was", "as it is", None):
        if now is None:
            (tmp_path / "labels.csv").unlink()
        else:
            (tmp_path / "labels.csv").write_text(now)
        found = read_calibration(tmp_path, "helpfulness", gate_of().method)
        assert found is not None
        doubts.append(found.doubt)
    assert doubts == [
        "",
        "the labels have changed since: run `gatehouse calibrate`",
        "its labels labels.csv are not in the repository",
    ]


@pytest.mark.parametrize("path", ["../labels.csv", "/etc/hostname", ".", "a\x00b"])
def test_labels_outside_of_the_repository_are_not_in_it(tmp_path: Path, path: str) -> None:
    """Wherever the file leads, nothing outside is read, and the digest of it counts for nothing."""
    write_calibration(tmp_path, replace(calibrated(PAIRS), labels=path))
    found = read_calibration(tmp_path, "helpfulness", gate_of().method)
    assert found is not None
    assert found.doubt == f"its labels {path} are not in the repository"


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": replace(RUBRIC, version="sha256:another rubric")},
        {"options": {"strictness": 2}},
        {"judged_by": JudgeSetting(("openai:gpt-4.1-mini",))},
        {"judged_by": JudgeSetting(("openai:gpt-4.1",), votes=5)},
    ],
    ids=["rubric", "options", "judge", "votes"],
)
def test_another_way_of_judging_is_not_calibrated(tmp_path: Path, changed: dict[str, Any]) -> None:
    """A changed rubric, option or judge finds no calibration; a changed threshold does."""
    write_calibration(tmp_path, calibrated(PAIRS))
    other = replace(gate_of(), **changed)
    assert read_calibration(tmp_path, "helpfulness", other.method) is None
    assert read_calibration(tmp_path, "helpfulness", gate_of(threshold=3.0).method) is not None


def test_other_entries_are_kept(tmp_path: Path) -> None:
    """A second judge's calibration stands beside the first; calibrating again replaces one's own."""
    first = calibrated(PAIRS)
    write_calibration(tmp_path, first)
    before = (tmp_path / "evals/calibration/helpfulness.json").read_text()
    write_calibration(tmp_path, replace(first, key="sha256:other"))
    write_calibration(tmp_path, replace(first, date="2026-12-01"))
    again = read_calibration(tmp_path, "helpfulness", first.key)
    assert again is not None
    assert again.date == "2026-12-01"
    assert read_calibration(tmp_path, "helpfulness", "sha256:other") is not None
    assert last_day(tmp_path, "helpfulness") == "2026-12-01"
    after = (tmp_path / "evals/calibration/helpfulness.json").read_text().splitlines()
    new = {'    "sha256:other": {', '      "date": "2026-12-01",', "    },"}
    assert set(after) - set(before.splitlines()) == new


def test_the_file_changes_by_lines(tmp_path: Path) -> None:
    """Each pair and each interval is one line of the file."""
    path = write_calibration(tmp_path, calibrated(PAIRS))
    lines = (tmp_path / path).read_text().splitlines()
    assert "        [2, 3, 4]," in lines
    assert [line for line in lines if '"agreement": {"value": 0.65, "interval": [' in line] != []
    assert json.loads("\n".join(lines))["entries"][gate_of().method]["n"] == 20


def spoilt(folder: Path, change: dict[str, Any]) -> Path:
    """A calibration file with some keys of its entry changed."""
    path = folder / write_calibration(folder, calibrated(PAIRS))
    data = json.loads(path.read_text())
    data["entries"][gate_of().method] |= change
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "content",
    [
        "<<<<<<< HEAD\n",
        "[]",
        '{"schema": 1, "metric": "helpfulness", "entries": {"x": 1}}',
        '{"schema": 1, "metric": "other", "entries": {}}',
        {"pairs": [[1, 1]]},
        {"pairs": [["4", 4, 1]]},
        {"pairs": [[4, 4, 10**15]], "n": 10**15},
        {"threshold": 10**400},
        {"kappa": 0.9},
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: str | dict[str, Any]) -> None:
    """A file that is not one of ours is an error that names it, and is left as it is."""
    path = spoilt(tmp_path, content if isinstance(content, dict) else {})
    if isinstance(content, str):
        path.write_text(content)
    before = path.read_text()
    with pytest.raises(UserError, match=r"evals/calibration/helpfulness\.json"):
        read_calibration(tmp_path, "helpfulness", gate_of().method)
    with pytest.raises(UserError):
        write_calibration(tmp_path, replace(calibrated(PAIRS), key="sha256:other"))
    assert path.read_text() == before


def test_a_newer_file_is_not_guessed_at(tmp_path: Path) -> None:
    """A file of a later schema is left to the Gatehouse that knows it."""
    (tmp_path / "evals/calibration").mkdir(parents=True)
    (tmp_path / "evals/calibration/helpfulness.json").write_text('{"schema": 99}')
    with pytest.raises(UserError, match="Use a newer Gatehouse"):
        read_calibration(tmp_path, "helpfulness", "sha256:k")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": 21}, '"n" is not the number of its pairs'),
        ({"grades": [1, 1, 1]}, '"grades" are not in order'),
        ({"grades": [1, 2, 3]}, "a grade of its pairs is not on its scale"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """Numbers that cannot be of one measurement are not used."""
    spoilt(tmp_path, changed)
    with pytest.raises(UserError, match=said):
        read_calibration(tmp_path, "helpfulness", gate_of().method)


def test_no_file_no_calibration(tmp_path: Path) -> None:
    """Where nothing was calibrated there is nothing, and a name that is no file's is refused."""
    assert read_calibration(tmp_path, "helpfulness", "sha256:k") is None
    assert last_day(tmp_path, "helpfulness") is None
    for name in ("../../etc/passwd", "a/b", "", ".hidden"):
        with pytest.raises(UserError, match="not usable for a file"):
            read_calibration(tmp_path, name, "sha256:k")


def test_a_link_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    """A folder of calibrations that is a link to elsewhere is neither read nor written."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repository/evals").mkdir(parents=True)
    (tmp_path / "repository/evals/calibration").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="out of the repository"):
        write_calibration(tmp_path / "repository", calibrated(PAIRS))
    assert list((tmp_path / "elsewhere").iterdir()) == []
