# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Tables and documents of benchmark results."""

from __future__ import annotations

import json
from typing import Optional

import pytest

from benchmarks.report import Row, document, number, table
from benchmarks.stats import Summary


def row(
    name: str = "NOOP",
    median: float = 62.5,
    section: str = "Steering",
    reference: Optional[float] = None,
    bar: Optional[float] = None,
) -> Row:
    return Row(section, name, "ns", Summary(median, median - 1, median + 1), 119, reference, bar)


@pytest.mark.parametrize(
    ("median", "bar", "expected"), [(65, 65, True), (65.1, 65, False), (1, None, None)]
)
def test_a_bar_holds_up_to_its_value(
    median: float, bar: Optional[float], expected: Optional[bool]
) -> None:
    assert row(median=median, bar=bar).holds is expected


def test_ratio_to_the_reference() -> None:
    assert row(median=93, reference=186).ratio == 0.5
    assert row().ratio is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0.00"),
        (-0.456, "-0.46"),
        (1.234, "1.2"),
        (9.96, "10.0"),
        (10, "10"),
        (-12.6, "-13"),
        (1234.5, "1,234"),
    ],
)
def test_numbers(value: Optional[float], text: str) -> None:
    assert number(value) == text


def test_table_has_a_block_per_section_and_aligned_columns() -> None:
    rows = [row(bar=65, reference=186), row("a longer name", 70, bar=65), row("x", section="More")]
    lines = table(rows).splitlines()
    assert [line for line in lines if line in ("Steering", "More")] == ["Steering", "More"]
    assert lines[lines.index("More") - 1] == ""
    good, bad = (next(line for line in lines if line.startswith(name)) for name in ("NOOP", "a l"))
    assert good.endswith("holds")
    assert bad.endswith("MISSED")
    assert good.index(" ns ") == bad.index(" ns ")
    assert "62 .. 64" in good
    assert "0.34" in good


def test_equal_quartiles_are_not_shown() -> None:
    single = Row("Start", "once", "s", Summary(2.0, 2.0, 2.0))
    assert ".." not in table([single])


def test_document_can_be_read_back() -> None:
    machine = {"kernel": "6.18"}
    read = json.loads(json.dumps(document([row(bar=65, reference=125)], machine)))
    assert read["schema"] == 1
    assert read["machine"] == machine
    (result,) = read["results"]
    assert result["value"] == {"median": 62.5, "low": 61.5, "high": 63.5}
    assert (result["ratio"], result["bar"], result["holds"]) == (0.5, 65, True)
