# SPDX-License-Identifier: Apache-2.0
"""The history of readings: rates and a small graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from udpgrm import abi
from udpgrm.state.view import GenerationView, GroupView

#: (group id, slot, generation): a slot that is used again is another row.
Key = tuple[int, int, int]
LENGTH = 40
_BARS = " ▁▂▃▄▅▆▇█"


class State(str, Enum):
    """The state of a generation; waiting: newer than the working one, not promoted yet."""

    WORKING = "working"
    WAITING = "waiting"
    DRAINING = "draining"
    DRAINED = "drained"


@dataclass(frozen=True)
class Row:
    """A generation at one moment; rates in packets per second, None at first sight."""

    generation: int
    application: int
    state: State
    sockets: int
    flows: Optional[int]
    packets_in: int
    packets_out: int
    rate_in: Optional[float]
    rate_out: Optional[float]
    quiet: Optional[float]  # seconds since the last packet either way
    graph: str


def state_of(group: GroupView, item: GenerationView) -> State:
    """Return the state of a generation."""
    if item.working:
        return State.WORKING
    if abi.is_from(group.working[item.application], item.generation):
        return State.WAITING
    return State.DRAINING if item.flows or item.flows is None else State.DRAINED


def graph(values: Iterable[float]) -> str:
    """Return a graph of one character per value, the highest of them full."""
    shown: Sequence[float] = list(values)
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    steps = len(_BARS) - 1
    return "".join(
        _BARS[max(1, round(value / top * steps))] if value > 0 else _BARS[0] for value in shown
    )


class History:
    """The last readings of every generation."""

    def __init__(self) -> None:
        """Start without readings."""
        self._last: dict[Key, tuple[float, int, int]] = {}
        self._rates: dict[Key, deque[float]] = {}

    def rows(self, now: float, group: GroupView) -> list[Row]:
        """Return the generations of a group, with rates since the last call. `now` in seconds."""
        return [self._row(now, group, item) for item in group.generations]

    def drop_all_but(self, seen: set[Key]) -> None:
        """Drop generations that are gone."""
        for key in set(self._last) - seen:
            del self._last[key]
            self._rates.pop(key, None)

    def _row(self, now: float, group: GroupView, item: GenerationView) -> Row:
        key = key_of(group, item)
        rate_in = rate_out = None
        if key in self._last:
            then, packets_in, packets_out = self._last[key]
            elapsed = max(now - then, 1e-6)
            rate_in = max(0, item.packets_in - packets_in) / elapsed
            rate_out = max(0, item.packets_out - packets_out) / elapsed
            rates = self._rates.setdefault(key, deque(maxlen=LENGTH))
            rates.append(rate_in + rate_out)
        self._last[key] = (now, item.packets_in, item.packets_out)
        return Row(
            generation=item.generation,
            application=item.application,
            state=state_of(group, item),
            sockets=item.alive,
            flows=item.flows,
            packets_in=item.packets_in,
            packets_out=item.packets_out,
            rate_in=rate_in,
            rate_out=rate_out,
            quiet=item.quiet_s,
            graph=graph(self._rates.get(key, ())),
        )


def key_of(group: GroupView, item: GenerationView) -> Key:
    """Return the key of a generation."""
    return (group.group_id, item.slot, item.generation)
