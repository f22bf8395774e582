# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of dispatching QUIC connections by the server name in their first packet (BESPOKE)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

import udpgrm.client as grm
from benchmarks.measure import Case, program_times
from benchmarks.rawburst import Burst
from benchmarks.report import Row
from benchmarks.steering import EMPTY, rows_of
from benchmarks.traffic import Groups, Sources
from udpgrm import abi

SECTION = "QUIC by server name, ns per packet of 1,200 bytes over an empty program"
#: Initials take a thousand times as long as anything else.
_SOURCES = 50
_ROUNDS = 11
_NAME = "www.example"


def _dissector() -> abi.Dissector:
    value = abi.Dissector(
        type=abi.DissectorType.BESPOKE, digest=abi.DIGEST_QUIC_SNI, max_apps=2, sni_count=1
    )
    value.sni[0] = abi.SniEntry(app=1, hostname=_NAME.encode())
    return value


def _initial() -> bytes:
    """Return the first datagram of a client."""
    quic = QuicConnection(configuration=QuicConfiguration(server_name=_NAME))
    quic.connect(("127.0.0.1", 443), now=time.monotonic())
    datagram: bytes = quic.datagrams_to_send(now=time.monotonic())[0][0]
    return datagram


def measure(groups: Groups) -> Iterator[Row]:
    """Measure a connection that is known by its cookie, and two kinds of Initial packets."""
    initial = _initial()
    with Sources(_SOURCES) as sources, ExitStack() as stack:
        group = groups.make(_dissector())
        cookie = grm.socket_generation(group.working[0]).cookie.to_bytes(2, "big")
        packets = {
            EMPTY: (groups.without_steering(), initial),
            "known by its cookie": (group, (b"\x40\1" + cookie).ljust(len(initial), b"\0")),
            "first packet of another version": (group, initial[:1] + b"\x1a\2\3\4" + initial[5:]),
            "first packet, decrypted and read": (group, initial),
        }
        cases = []
        for name, (target, payload) in packets.items():
            burst = stack.enter_context(Burst(sources.names, target.port, payload))
            cases.append(Case(name, [target.program], _SOURCES, burst.send))
        yield from rows_of(SECTION, program_times(cases, _ROUNDS), {})
