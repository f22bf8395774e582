# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of steering a packet, by dissector and state of its flow.

A case more is a line in `Scene` and, if it has a bar, one in `_BARS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import udpgrm.client as grm
from benchmarks.measure import Case, program_times
from benchmarks.rawburst import Burst
from benchmarks.report import Row
from benchmarks.stats import marginal, summary
from benchmarks.traffic import PAYLOAD, SOURCES, Group, Groups, Instruction, Sources, filter_of
from udpgrm import abi

FROM_AFAR = "Steering, ns per packet over an empty program, packets as from a network"
FROM_SOCKETS = "The same, packets from 1,000 sockets on the same CPU"
EMPTY = "empty program"
_NOOP = abi.Dissector(type=abi.DissectorType.NOOP)

#: ldh [0]; ret a
_COOKIE: list[Instruction] = [(0x28, 0, 0, 0), (0x16, 0, 0, 0)]
#: QUIC by its first byte: a connection ID that begins with 1 has the cookie in bytes 2 and 3.
_QUIC: list[Instruction] = [
    (0x30, 0, 0, 0),  # ldb [0]
    (0x45, 4, 0, 0x80),  # jset #0x80, long
    (0x30, 0, 0, 1),  # ldb [1]
    (0x15, 0, 7, 1),  # jeq #1, , new
    (0x28, 0, 0, 2),  # ldh [2]
    (0x16, 0, 0, 0),  # ret a
    (0x01, 0, 0, 6),  # long: ldx #6
    (0x50, 0, 0, 0),  # ldb [x + 0]
    (0x15, 0, 2, 1),  # jeq #1, , new
    (0x48, 0, 0, 1),  # ldh [x + 1]
    (0x16, 0, 0, 0),  # ret a
    (0x06, 0, 0, 0xFFFFFFFF),  # new: ret #-1
]

#: name -> (what the reference cost, the most it may cost)
_BARS: dict[str, tuple[float, float]] = {
    "NOOP": (186, 65),
    "CBPF, cookie": (268, 95),
    "CBPF, QUIC filter, short header": (387, 110),
    "CBPF, QUIC filter, long header": (387, 110),
    "FLOW, new": (426, 150),
    "FLOW, established": (435, 160),
    "FLOW, new, one drains": (426, 210),
    "FLOW, established, one drains": (435, 210),
    "FLOW, established in the one that drains": (435, 210),
}


def _with_cookie(group: Group, before: bytes) -> bytes:
    """Return a packet for a flow of the group's first socket: its cookie after `before`."""
    cookie = grm.socket_generation(group.working[0]).cookie.to_bytes(2, "big")
    return (before + cookie).ljust(len(PAYLOAD), b"\0")


class Scene:
    """A group for every case, with its flows, and the packet it is sent."""

    def __init__(self, groups: Groups, sources: Sources) -> None:
        cookie, quic = groups.make(filter_of(_COOKIE)), groups.make(filter_of(_QUIC))
        known, draining = groups.make(), groups.make(generations=2)
        drained = groups.make(generations=2)
        known.assure(sources.names)
        draining.assure(sources.names, 0)
        drained.assure(sources.names, 1)
        self.cases: dict[str, tuple[Group, bytes]] = {
            EMPTY: (groups.without_steering(), PAYLOAD),
            "NOOP": (groups.make(_NOOP), PAYLOAD),
            "CBPF, cookie": (cookie, _with_cookie(cookie, b"")),
            "CBPF, QUIC filter, short header": (quic, _with_cookie(quic, b"\x40\x01")),
            "CBPF, QUIC filter, long header": (quic, _with_cookie(quic, b"\xc0\0\0\0\1\10\1")),
            "FLOW, new": (groups.make(), PAYLOAD),
            "FLOW, established": (known, PAYLOAD),
            "FLOW, new, one drains": (groups.make(generations=2), PAYLOAD),
            "FLOW, established, one drains": (drained, PAYLOAD),
            "FLOW, established in the one that drains": (draining, PAYLOAD),
        }

    def from_sockets(self, sources: Sources) -> list[Case]:
        """Send the packets from sockets of this machine."""
        return [
            Case(
                name,
                [group.program],
                SOURCES,
                partial(sources.send, payload),
                partial(sources.aim, [group]),
            )
            for name, (group, payload) in self.cases.items()
        ]

    def from_afar(self, sources: Sources, stack: ExitStack) -> list[Case]:
        """Send the packets from one raw socket: no other sockets fill the caches."""
        cases = []
        for name, (group, payload) in self.cases.items():
            burst = stack.enter_context(Burst(sources.names, group.port, payload))
            cases.append(Case(name, [group.program], SOURCES, burst.send))
        return cases


def rows_of(
    section: str, times: dict[str, list[float]], bars: dict[str, tuple[float, float]]
) -> list[Row]:
    """Return rows of cases over the empty program among them, which comes first."""
    result = [Row(section, EMPTY, "ns", summary(times[EMPTY]), summary(times[EMPTY]).median)]
    for name, values in times.items():
        if name != EMPTY:
            over = summary(marginal(values, times[EMPTY]))
            reference, bar = bars.get(name, (None, None))
            result.append(Row(section, name, "ns", over, summary(values).median, reference, bar))
    return result


def measure(groups: Groups) -> Iterator[Row]:
    """Measure all cases, with both kinds of sender."""
    with Sources() as sources, ExitStack() as stack:
        scene = Scene(groups, sources)
        times = program_times(scene.from_afar(sources, stack))
        yield from rows_of(FROM_AFAR, times, _BARS)
        times = program_times(scene.from_sockets(sources))
        yield from rows_of(FROM_SOCKETS, times, _BARS)
