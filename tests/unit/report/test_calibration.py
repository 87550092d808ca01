"""A calibration as people read it in a terminal."""

from __future__ import annotations

from gatehouse.evals.agreement import agreement, flips
from gatehouse.evals.judges.calibration import Calibration
from gatehouse.report.calibration import SHOWN_TAGS, lines_of

FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)


def calibration_of(*pairs: tuple[float, float, int], grades: tuple[float, ...] | None = FIVE) -> Calibration:
    """A calibration with everything that there is to say."""
    one = agreement([(4.0, 4.0), (2.0, 3.0), (5.0, 5.0)], FIVE, "quadratic")
    more = agreement([(4.0, 4.0), (2.0, 3.0), (5.0, 5.0), (1.0, 1.0)], FIVE, "quadratic")
    return Calibration(
        metric="helpfulness",
        key="sha256:k",
        judges=("openai:a", "ollama:b:1"),
        embeddings=None,
        version="sha256:v",
        labels="labels.csv",
        labels_digest="sha256:l",
        date="2026-11-21",
        threshold=4.0 if grades else 0.5,
        direction="higher",
        grades=grades,
        pairs=pairs,
        undecided=2,
        split=1,
        people=one,
        by_tag={**{f"tag{i}": one for i in range(SHOWN_TAGS + 3)}, "common": more} if grades else {},
        flips={"openai:a": found} if (found := flips([[1, 1], [1, 2]])) else {},
    )


def test_everything_is_said() -> None:
    """Standing, agreement, bias with its sign, people, what is left out, flips, confusion and tags."""
    lines = lines_of(calibration_of((2.0, 3.0, 1), (4.0, 4.0, 8), (5.0, 4.0, 2)), "calibrated: kappa 0.5")
    assert lines[:4] == [
        "helpfulness, judged by openai:a, ollama:b:1",
        "  calibrated: kappa 0.5",
        "  same grade 73% [43%, 90%]",
        "  judge less people -0.09 [-0.45, +0.27]",
    ]
    assert lines[4].startswith("  people with each other: kappa 0.")
    assert lines[4].endswith(", same grade 67% [21%, 94%], 3 texts")
    assert lines[5] == "  left out: judge undecided 2, raters split 1"
    assert lines[6].startswith(
        "  openai:a flips on 50% [9%, 91%] of 2 texts; two of its grades differ in 50%"
    )
    assert lines[8:14] == [
        "  people \\ judge  1  2  3  4  5",
        "  1               0  0  0  0  0",
        "  2               0  0  1  0  0",
        "  3               0  0  0  0  0",
        "  4               0  0  0  8  0",
        "  5               0  0  0  2  0",
    ]
    assert lines[15].split() == ["tag", "n", "kappa", "same", "grade", "judge", "less", "people"]
    assert lines[16].split()[:2] == ["common", "4"]
    assert lines[-1] == "  and 4 more tags"


def test_a_metric_of_any_number_passes_or_fails() -> None:
    """Without a scale the table has pass and fail, at the threshold."""
    lines = lines_of(calibration_of((0.0, 0.7, 3), (1.0, 0.9, 4), grades=None), "")
    assert lines[-3:] == [
        "  people \\ judge  fail  pass",
        "  fail               0     3",
        "  pass               0     4",
    ]


def test_nothing_compared_has_no_table() -> None:
    """Where no pair is there, what was left out is all there is to say."""
    lines = lines_of(calibration_of(grades=None), "not calibrated")
    assert "  left out: judge undecided 2, raters split 1" in lines
    assert not any("people \\" in line for line in lines)
