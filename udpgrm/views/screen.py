# SPDX-License-Identifier: Apache-2.0
"""The table of rows, by rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from rich.table import Table
from rich.text import Text

from udpgrm.state.view import GroupView
from udpgrm.views.history import Row, State

_STYLES = {
    State.WORKING: "bold green",
    State.DRAINING: "yellow",
    State.WAITING: "cyan",
    State.DRAINED: "dim",
}
_COLUMNS = ("gen", "state", "sockets", "flows", "in/s", "out/s", "in", "out", "quiet")


def table(groups: Sequence[tuple[GroupView, Sequence[Row]]], title: str) -> Table:
    """Return all groups in one table, a section each."""
    result = Table(title=title, title_justify="left", expand=False, pad_edge=False, box=None)
    result.add_column("group", no_wrap=True)
    for column in _COLUMNS:
        result.add_column(column, justify="left" if column == "state" else "right")
    result.add_column("packets", no_wrap=True)
    for group, rows in groups:
        head = Text(f"{group.address} {group.name}", style="bold")
        if not rows:
            result.add_row(head, Text("no registered socket", style="dim"))
        for row in rows:
            result.add_row(head, *_cells(row, len(group.working) > 1))
            head = Text("")
        result.add_section()
    return result


def _cells(row: Row, with_application: bool) -> list[Text]:
    style = _STYLES[row.state]
    generation = str(row.generation)
    if with_application:
        generation = f"{row.application}:{generation}"
    cells = [
        generation,
        row.state.value,
        str(row.sockets),
        "-" if row.flows is None else str(row.flows),
        _rate(row.rate_in),
        _rate(row.rate_out),
        str(row.packets_in),
        str(row.packets_out),
        "-" if row.quiet is None else f"{row.quiet:.1f}s",
        row.graph,
    ]
    return [Text(cell, style=style) for cell in cells]


def _rate(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.0f}"
