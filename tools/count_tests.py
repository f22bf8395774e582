#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Add up the JUnit files of several pytest runs.

    tools/count_tests.py DIRECTORY

Prints ``N passed, N failed, N skipped``. Exits with 1 when a test failed, or none ran.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def count(files: list[Path]) -> Counter[str]:
    """Return the tests that passed, failed (errors count as such) and were skipped."""
    total: Counter[str] = Counter()
    for file in files:
        for suite in ET.parse(file).iter("testsuite"):
            tests, failures, errors, skipped = (
                int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")
            )
            failed = failures + errors
            total.update(passed=tests - failed - skipped, failed=failed, skipped=skipped)
    return total


def main(directory: str) -> int:
    """Run the command line."""
    total = count(sorted(Path(directory).glob("*.xml")))
    print(", ".join(f"{total[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped")))
    return 0 if total["passed"] and not total["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
