"""A calibration as lines of plain text, for the terminal and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.evals.agreement import confusion
from gatehouse.evals.judges.calibration import PASS_FAIL, graded
from gatehouse.evals.judges.standing import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.evals.agreement import Agreement, Estimate
    from gatehouse.evals.judges.calibration import Calibration

SHOWN_TAGS = 20
"""Tags shown, those with the most texts; all are in the file."""


def lines_of(calibration: Calibration, standing: str) -> list[str]:
    """What was measured; `standing` is what that comes to."""
    one, found = calibration, calibration.agreement()
    lines = [f"{one.metric}, judged by {', '.join(one.judges)}", f"  {standing}"]
    if found:
        lines += [f"  same grade {_percent(found.share)}", f"  judge less people {_signed(found.bias)}"]
    if one.people:
        kappa = f"kappa {show(one.people.kappa)}" if one.people.kappa else "kappa undefined"
        same = _percent(one.people.share)
        lines.append(f"  people with each other: {kappa}, same grade {same}, {one.people.n} texts")
    if one.undecided or one.split:
        lines.append(f"  left out: judge undecided {one.undecided}, raters split {one.split}")
    lines += [
        f"  {judge} flips on {_percent(flips.any)} of {flips.texts} texts; "
        f"two of its grades differ in {_percent(flips.pairwise)}"
        for judge, flips in (one.flips or {}).items()
    ]
    if found:
        lines += ["", *_confusion(one)]
    if one.by_tag:
        lines += ["", *_by_tag(one.by_tag)]
    return lines


def _confusion(calibration: Calibration) -> list[str]:
    """The counts, people's grades down and the judge's across."""
    grades = calibration.grades or PASS_FAIL
    names = [f"{grade:g}" for grade in grades] if calibration.grades else ["fail", "pass"]
    counts = confusion(graded(calibration.spread(), calibration.grades, calibration.holds), grades)
    rows = [
        ["people \\ judge", *names],
        *([name, *map(str, row)] for name, row in zip(names, counts, strict=True)),
    ]
    return _aligned(rows)


def _by_tag(by_tag: Mapping[str, Agreement]) -> list[str]:
    most = sorted(by_tag, key=lambda tag: -by_tag[tag].n)
    rows = [["tag", "n", "kappa", "same grade", "judge less people"]]
    rows += [
        [
            tag[:40],
            str(part.n),
            show(part.kappa) if part.kappa else "undefined",
            _percent(part.share),
            _signed(part.bias),
        ]
        for tag, part in ((tag, by_tag[tag]) for tag in most[:SHOWN_TAGS])
    ]
    more = len(most) - SHOWN_TAGS
    return [*_aligned(rows), *([f"  and {more} more tags"] if more > 0 else [])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _percent(estimate: Estimate) -> str:
    interval = estimate.interval
    shown = f" [{interval[0]:.0%}, {interval[1]:.0%}]" if interval else ""
    return f"{estimate.value:.0%}{shown}"


def _signed(estimate: Estimate) -> str:
    interval = estimate.interval
    shown = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
    return f"{estimate.value:+.2f}{shown}"
