# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Results: one row each, as a table for people and as JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from benchmarks.stats import Summary

_HEAD = ("", "unit", "value", "quartiles", "in all", "reference", "ratio", "bar", "")


@dataclass(frozen=True)
class Row:
    """A figure.

    value: what the bar is about, for programs the marginal cost. total: the
    same without anything taken off. reference: what the reference implementation
    cost. bar: the most it may be.
    """

    section: str
    name: str
    unit: str
    value: Summary
    total: Optional[float] = None
    reference: Optional[float] = None
    bar: Optional[float] = None

    @property
    def ratio(self) -> Optional[float]:
        """Return the cost relative to the reference's; under 1 is better."""
        return self.value.median / self.reference if self.reference else None

    @property
    def holds(self) -> Optional[bool]:
        """Return whether the bar holds; None: there is none."""
        return None if self.bar is None else self.value.median <= self.bar


def single(
    section: str,
    name: str,
    unit: str,
    value: float,
    bar: Optional[float] = None,
    reference: Optional[float] = None,
) -> Row:
    """Return a row of one value, which has no quartiles."""
    return Row(section, name, unit, Summary(value, value, value), None, reference, bar)


def number(value: Optional[float]) -> str:
    """Return two significant digits, or all before the point; "" for None."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    return f"{value:,.{digits}f}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "holds", False: "MISSED"}[row.holds]
    low, high = number(row.value.low), number(row.value.high)
    return (
        row.name,
        row.unit,
        number(row.value.median),
        "" if low == high else f"{low} .. {high}",
        number(row.total),
        number(row.reference),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        number(row.bar),
        verdict,
    )


def table(rows: Sequence[Row]) -> str:
    """Return a block per section, columns aligned over all of them."""
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(_HEAD, *cells)]

    def line(items: Sequence[str]) -> str:
        first = items[0].ljust(widths[0])
        rest = (item.rjust(width) for item, width in zip(items[1:], widths[1:]))
        return "  ".join((first, *rest)).rstrip()

    lines = []
    section = None
    for row, items in zip(rows, cells):
        if row.section != section:
            section = row.section
            lines += ["", section, line(_HEAD)]
        lines.append(line(items))
    return "\n".join(lines[1:]) + "\n"


def document(rows: Sequence[Row], machine: dict[str, Any]) -> dict[str, Any]:
    """Return the results for programs."""
    results = [{**asdict(row), "ratio": row.ratio, "holds": row.holds} for row in rows]
    return {"schema": 1, "machine": machine, "results": results}
