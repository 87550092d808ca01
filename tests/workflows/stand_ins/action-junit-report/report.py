"""Counts a JUnit report's tests as mikepenz/action-junit-report does, which reads testcases, not counts."""

from __future__ import annotations

import os
import sys
from xml.etree import ElementTree as ET


def main() -> None:
    """Print how the tests of the report ended; an unreadable report is an error."""
    tests = list(ET.parse(os.environ["IN_PATH"]).getroot().iter("testcase"))  # noqa: S314 a test's own file
    skipped = [test for test in tests if test.find("skipped") is not None]
    failed = [
        t
        for t in tests
        if t not in skipped and (t.find("failure") is not None or t.find("error") is not None)
    ]
    passed = len(tests) - len(skipped) - len(failed)
    counts = f"{len(tests)} tests run, {passed} passed, {len(skipped)} skipped, {len(failed)} failed."
    sys.stdout.write(f"{os.environ['IN_NAME']} - {counts}\n")


if __name__ == "__main__":
    main()
