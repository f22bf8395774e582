# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of groups, and packets to and from them, without Python between two packets.

No process reads the packets: queues fill and the kernel drops further ones,
after the programs have run.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Optional

import udpgrm.client as grm
from benchmarks import programs
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.kernel import libbpf, sockopt
from udpgrm.state import address
from udpgrm.state import maps as state

SOURCES = 1000
SOCKETS = 4
PAYLOAD = bytes(64)
Instruction = tuple[int, int, int, int]


def plain(port: int = 0, reuse: bool = False) -> socket.socket:
    """Make a UDP socket on loopback that is in no group."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def filter_of(instructions: Sequence[Instruction]) -> abi.Dissector:
    """Return the dissector value of a cBPF filter."""
    value = abi.Dissector(type=abi.DissectorType.CBPF, filter_len=len(instructions))
    for position, item in enumerate(instructions):
        value.filter[position] = abi.CbpfInstruction(*item)
    return value


@dataclass
class Group:
    """Sockets of one port by generation, the last one working, and their program."""

    port: int
    generations: list[list[socket.socket]]
    group_id: int
    program: int

    @property
    def working(self) -> list[socket.socket]:
        """Return the sockets that new flows go to."""
        return self.generations[-1]

    def assure(self, peers: Sequence[tuple[str, int]], generation: int = -1) -> None:
        """Make the flows of these IPv4 peers, spread over a generation's sockets."""
        family = int(socket.AF_INET).to_bytes(2, sys.byteorder)
        values = [
            family + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)
            for host, port in peers
        ]
        sockets = self.generations[generation]
        level, option = socket.IPPROTO_UDP, Option.FLOW_ASSURE.value
        for position, sock in enumerate(sockets):
            mine = values[position :: len(sockets)]
            run(map(sock.setsockopt, repeat(level), repeat(option), mine))


def run(calls: Iterator[object]) -> None:
    """Make calls, in C."""
    collections.deque(calls, maxlen=0)


class Groups:
    """Makes groups through the socket API; closes everything at the end."""

    def __init__(self, directory: Path, ports: Iterable[int] = range(5000, 30000)) -> None:
        self.maps = state.open_pinned(directory)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.maps.close)
        self._ports = iter(ports)

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep_fd(self, fd: int) -> int:
        """Close an fd at the end."""
        self._stack.callback(os.close, fd)
        return fd

    def keep(self, sock: socket.socket) -> socket.socket:
        """Close a socket at the end."""
        return self._stack.enter_context(sock)

    def make(
        self,
        dissector: Optional[abi.Dissector] = None,
        generations: int = 1,
        sockets: int = SOCKETS,
    ) -> Group:
        """Make a group with its generations enrolled; FLOW if no dissector is given."""
        port = next(self._ports)
        value = dissector or abi.Dissector(type=abi.DissectorType.FLOW)
        made: list[list[socket.socket]] = []
        for generation in range(1, generations + 1):
            made.append([])
            for _ in range(sockets):
                sock = self._stack.enter_context(plain(port, reuse=True))
                sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, bytes(value))
                made[-1].append(sock)
            grm.enroll(made[-1], generation, timeout=20)
        grm.promote(made[-1][0], generations)
        group_id = self._group_id_of(port)
        map_id = libbpf.map_lookup(self.maps["sockets"], state.index(group_id), 4)
        assert map_id is not None
        found = programs.using_map(libbpf.PROG_SK_REUSEPORT, int.from_bytes(map_id, sys.byteorder))
        program = self.keep_fd(found)
        return Group(port, made, group_id, program)

    def without_steering(self) -> Group:
        """Make a group whose program does nothing."""
        port = next(self._ports)
        made = [self._stack.enter_context(plain(port, reuse=True)) for _ in range(SOCKETS)]
        program = programs.empty(libbpf.PROG_SK_REUSEPORT, libbpf.SK_REUSEPORT_SELECT)
        attach(made[0], self.keep_fd(program))
        return Group(port, [made], -1, program)

    def _group_id_of(self, port: int) -> int:
        for group_id in range(self.maps.config.groups):
            group = self.maps.group(group_id)
            if group.state == abi.GroupState.LIVE and address.port_of(group.key) == port:
                return group_id
        raise LookupError(f"no group at port {port}")


def attach(sock: socket.socket, program: int) -> None:
    """Steer a socket's reuseport group by a program."""
    sock.setsockopt(socket.SOL_SOCKET, sockopt.SO_ATTACH_REUSEPORT_EBPF, program)


class Sources:
    """Connected sockets, each with a port of its own; their sends run no hook."""

    def __init__(self, count: int = SOURCES) -> None:
        self.sockets = [plain() for _ in range(count)]
        self.names = [sock.getsockname() for sock in self.sockets]

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.sockets:
            sock.close()

    def aim(self, groups: Sequence[Group]) -> None:
        """Connect them to groups in turn."""
        for position, sock in enumerate(self.sockets):
            sock.connect(("127.0.0.1", groups[position % len(groups)].port))

    def send(self, payload: bytes = PAYLOAD) -> None:
        """Send a packet from each socket."""
        run(map(socket.socket.send, self.sockets, repeat(payload)))
