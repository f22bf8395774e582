# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The table of a restart, a column per host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from testing.analysis import HostReport

ROWS: list[tuple[str, Callable[[HostReport], str]]] = [
    ("packets sent", lambda r: str(r.sent)),
    ("packets answered", lambda r: str(r.answered)),
    ("packets lost", lambda r: str(r.lost)),
    ("old flows answered by the old instance", lambda r: str(r.old.right)),
    ("   of them long-lived, across the switch", lambda r: str(r.carried)),
    ("old flows answered by another (moved)", lambda r: str(r.old.another)),
    ("flows begun during the switch, stayed", lambda r: str(r.during.right)),
    ("flows begun during the switch, moved", lambda r: str(r.during.another)),
    ("new flows answered by the new instance", lambda r: str(r.new.right)),
    ("new flows answered by another (misdirected)", lambda r: str(r.new.another)),
    ("answers after the old instance had ended", lambda r: str(r.answered_after_stop)),
    ("longest pause of a long-lived flow, s", lambda r: f"{r.longest_pause:.2f}"),
    ("switch, s (*)", lambda r: "-" if r.seconds is None else f"{r.seconds:.2f}"),
]
FOOTNOTE = (
    "(*) from the begin of the step that sets the working generation to the first answer\n"
    "    of the new instance"
)


def render(reports: Sequence[HostReport]) -> str:
    """Return the table, the problems and notes below it, and the verdict as the last line."""
    width = max(len(label) for label, _ in ROWS)
    lines = [" " * width + "".join(f"{report.host:>10}" for report in reports)]
    for label, value in ROWS:
        lines.append(f"{label:<{width}}" + "".join(f"{value(report):>10}" for report in reports))
    lines.append(FOOTNOTE)
    problems = [f"{report.host}: {text}" for report in reports for text in report.problems]
    lines += problems
    lines += [f"{report.host}: note: {text}" for report in reports for text in report.notes]
    lost, moved, misdirected = (
        sum(report.lost for report in reports),
        sum(report.old.another + report.during.another for report in reports),
        sum(report.new.another for report in reports),
    )
    lines.append(
        f"{'FAILED' if problems or not reports else 'OK'}: "
        f"{lost} lost, {moved} moved, {misdirected} misdirected"
    )
    return "\n".join(lines)
