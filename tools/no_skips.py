"""Fails when a JUnit report holds a skipped test: `python tools/no_skips.py REPORT`.

A test that could not run has measured nothing; locally pytest says so, in CI it has to be mended.
"""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET


def skipped(report: str) -> list[str]:
    """A line for each test of this JUnit file that was skipped; an expected failure is none."""
    return [
        f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in ET.parse(report).iter("testcase")  # noqa: S314 pytest wrote it a moment ago
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


if __name__ == "__main__":
    lines = skipped(sys.argv[1])
    if lines:
        print(
            f"{len(lines)} tests were skipped; here every test has to run:",
            *lines,
            sep="\n  ",
            file=sys.stderr,
        )
    sys.exit(1 if lines else 0)
