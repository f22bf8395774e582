# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""bpf/lines.h: a line says of a flow what its tables say, or that it does not know.

All peers share a line here, of three flows.
"""

from __future__ import annotations

import ctypes
import random
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.support import HERE, compile_c
from udpgrm import abi

UNSURE, HAS_IT, KNOWS_NONE = range(3)
BEGIN = 1 << 33
SLOTS = (3, 4)
MAPPED = b"\0" * 10 + b"\xff\xff" + bytes([192, 0, 2])
PEERS = [abi.FlowKey((ctypes.c_uint8 * 16)(*MAPPED, last), 53) for last in range(1, 6)]
IPV6 = abi.FlowKey((ctypes.c_uint8 * 16)(0x20, 1), 53)


class Entry(NamedTuple):
    array_entry: int
    slot: int


@dataclass
class Socket:
    owner: int
    array_entry: int
    slot: int
    closed: bool = False


class Group:
    """A group of two generations, each with a table, and the lines in front of them."""

    def __init__(self, functions: ctypes.CDLL, timeout: int) -> None:
        self._functions = functions
        self.record = abi.Group(timeout_jiffies=timeout, lines_since=BEGIN)
        for slot in SLOTS:
            self.record.table[slot] = slot + 1
            self.record.table_mask |= 1 << slot
        self.now = BEGIN + 1
        self.sockets = [Socket(7, 11, SLOTS[0]), Socket(8, 12, SLOTS[0]), Socket(9, 13, SLOTS[1])]
        functions.test_clear(self.now)

    def advance(self, jiffies: int) -> None:
        self.now += jiffies
        self._functions.test_set_clock(self.now)

    def send(self, sock: Socket, key: abi.FlowKey) -> None:
        if not sock.closed:
            stale = ctypes.c_bool()
            self._functions.test_refresh(
                ctypes.byref(self.record),
                sock.slot,
                ctypes.byref(key),
                sock.owner,
                sock.array_entry,
                ctypes.byref(stale),
            )

    def answer(self, key: abi.FlowKey) -> tuple[int, Entry]:
        """Return what the line answers."""
        array_entry, slot = ctypes.c_uint32(), ctypes.c_uint32()
        found = self._functions.test_ask_line(
            ctypes.byref(self.record),
            ctypes.byref(key),
            ctypes.byref(array_entry),
            ctypes.byref(slot),
        )
        return found, Entry(array_entry.value, slot.value)

    def entries(self, key: abi.FlowKey) -> list[tuple[int, abi.Flow]]:
        """Return the slots and entries of a flow that its tables have."""
        found = []
        for slot in SLOTS:
            flow = abi.Flow()
            if self._functions.test_get(slot + 1, ctypes.byref(key), ctypes.byref(flow)):
                found.append((slot, flow))
        return found

    def truth(self, key: abi.FlowKey) -> Optional[Entry]:
        """Return the fresh entry that the tables have."""
        fresh = [
            Entry(flow.array_entry, slot)
            for slot, flow in self.entries(key)
            if flow.last >= self.now - self.record.timeout_jiffies
        ]
        assert len(fresh) <= 1
        return fresh[0] if fresh else None

    def close(self, sock: Socket) -> None:
        """Close a socket, and find that out by a packet of each of its flows."""
        sock.closed = True
        for key in PEERS:
            for slot, flow in self.entries(key):
                if flow.owner == sock.owner:
                    flow.flags |= 1
                    self._functions.test_put(slot + 1, ctypes.byref(key), ctypes.byref(flow))

    def reuse(self, sock: Socket) -> None:
        """Give a closed socket's array entry to another one, as the daemon does."""
        if sock.closed:
            self.record.lines_since = self.now
            for key in PEERS:
                for slot, flow in self.entries(key):
                    if flow.array_entry == sock.array_entry:
                        gone = abi.Flow(array_entry=abi.ENTRY_NONE)
                        self._functions.test_put(slot + 1, ctypes.byref(key), ctypes.byref(gone))
            sock.closed = False
            sock.owner += 10

    def check(self) -> None:
        for key in PEERS:
            found, entry = self.answer(key)
            truth = self.truth(key)
            if found == KNOWS_NONE:
                assert truth is None
            elif found == HAS_IT and not self._is_closed(entry.array_entry):
                assert truth == entry

    def _is_closed(self, array_entry: int) -> bool:
        """Return whether the selection of an array entry fails, so that the tables are asked."""
        return any(sock.closed and sock.array_entry == array_entry for sock in self.sockets)


Step = Callable[[Group], None]
sockets = st.integers(0, 2)
sends: st.SearchStrategy[Step] = st.builds(
    lambda number, key: lambda group: group.send(group.sockets[number], key),
    sockets,
    st.sampled_from(PEERS),
)
steps: st.SearchStrategy[Step] = st.one_of(
    sends,
    sends,
    st.sampled_from([0, 1, 99, 100, 101, 5000, 10001, 31250, 40000, 1 << 32]).map(
        lambda jiffies: lambda group: group.advance(jiffies)
    ),
    sockets.map(lambda number: lambda group: group.close(group.sockets[number])),
    sockets.map(lambda number: lambda group: group.reuse(group.sockets[number])),
    st.tuples(sockets, st.sampled_from(SLOTS)).map(
        lambda moved: lambda group: setattr(group.sockets[moved[0]], "slot", moved[1])
    ),
)


def overflowing(lines: Iterable[int]) -> int:
    """Return how many flows do not fit into their lines of three."""
    return sum(max(0, flows - 3) for flows in Counter(lines).values())


def test_ports_in_a_row_are_spread_like_peers_drawn_by_chance(functions: ctypes.CDLL) -> None:
    bits, ports = 18, range(10_000, 60_000)
    peers = [
        abi.FlowKey((ctypes.c_uint8 * 16)(*MAPPED, last), socket.htons(port))
        for last in range(1, 9)
        for port in ports
    ]
    hashes = [functions.test_line_hash(ctypes.byref(peer)) >> (64 - bits) for peer in peers]
    chance = random.Random(1)
    drawn = [chance.randrange(1 << bits) for _ in peers]
    assert overflowing(hashes) < 1.1 * overflowing(drawn)


@settings(max_examples=400)
@given(timeout=st.sampled_from([100, 31250]), schedule=st.lists(steps, max_size=30))
def test_what_a_line_says_is_what_tables_say(
    functions: ctypes.CDLL, timeout: int, schedule: list[Step]
) -> None:
    group = Group(functions, timeout)
    for step in schedule:
        step(group)
        group.check()
        group.advance(1)
        group.check()


def test_it_says_something(functions: ctypes.CDLL) -> None:
    group = Group(functions, 100)
    assert group.answer(PEERS[0])[0] == KNOWS_NONE
    group.send(group.sockets[0], PEERS[0])
    assert group.answer(PEERS[0]) == (HAS_IT, Entry(11, SLOTS[0]))
    assert group.answer(PEERS[1])[0] == KNOWS_NONE
    group.advance(101)
    assert group.answer(PEERS[0])[0] == UNSURE  # a table has an expired entry


def test_more_flows_than_it_holds(functions: ctypes.CDLL) -> None:
    group = Group(functions, 100)
    group.advance(101)
    for key in PEERS:
        group.send(group.sockets[0], key)
    found = [group.answer(key)[0] for key in PEERS]
    assert found.count(HAS_IT) == abi.LINE_FLOWS
    assert KNOWS_NONE not in found
    group.advance(101)
    # what was replaced had been refreshed until then
    assert [group.answer(key)[0] for key in PEERS].count(KNOWS_NONE) == 2


def test_other_keys_have_no_line(functions: ctypes.CDLL) -> None:
    group = Group(functions, 100)
    group.advance(101)
    group.send(group.sockets[0], IPV6)
    for key in (IPV6, abi.FlowKey(PEERS[0].addr, 53, 1)):
        assert group.answer(key)[0] == UNSURE


def test_a_flow_that_was_replaced_while_fresh(functions: ctypes.CDLL) -> None:
    group = Group(functions, 31250)
    for key in PEERS[: abi.LINE_FLOWS]:
        group.send(group.sockets[0], key)
    group.advance(31251)
    for key in PEERS[: abi.LINE_FLOWS]:
        group.send(group.sockets[0], key)
    group.advance(20000)  # none was refreshed of late
    group.send(group.sockets[0], PEERS[3])
    assert group.answer(PEERS[3])[0] == HAS_IT
    assert [group.answer(key)[0] for key in PEERS].count(UNSURE) == 2  # one of them had none
    group.advance(11251)
    assert [group.answer(key)[0] for key in PEERS].count(KNOWS_NONE) == 2


def test_two_that_write_at_once(tmp_path: Path) -> None:
    program = compile_c(HERE / "lines_beside.c", tmp_path / "beside", "-pthread", "-O2")
    subprocess.run([str(program)], check=True)
