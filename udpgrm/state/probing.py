# SPDX-License-Identifier: Apache-2.0
"""Evidence about single peers: the generations that received their packets and replied."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Optional

from udpgrm import abi
from udpgrm.abi import ProbePath
from udpgrm.kernel import libbpf
from udpgrm.state import address, connected
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

#: A record whose command has died is ignored after that (seconds).
LIFETIME_S = 60


@dataclass(frozen=True)
class Evidence:
    """The programs' record of one peer; None: no packet that way yet.

    path is steered (by the record itself), existing (a known flow) or new; or connected: no
    program has seen a packet, and the kernel gives the peer's to a socket that is connected to it.
    """

    received_generation: Optional[int]
    received_socket: Optional[int]  # SO_COOKIE
    path: Optional[str]
    replied_generation: Optional[int]
    replied_socket: Optional[int]
    packets_in: int
    packets_out: int


class Probing:
    """The probe records of one group, all deleted when the with block ends."""

    def __init__(self, maps: Maps, group_id: int) -> None:
        """Probe the live group with this id."""
        self._maps = maps
        self._group_id = group_id
        self._group = maps.group(group_id)
        self._expires = maps.clock.now() + LIFETIME_S * maps.config.hz
        self._peers: set[bytes] = set()

    def __enter__(self) -> Probing:
        """Return itself: the records are deleted at the exit."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove every record."""
        for peer in list(self._peers):
            self._remove(peer)

    def watch(self, peer: tuple[str, int]) -> None:
        """Record what happens to packets from and to (ip, port), again."""
        self._write(peer, abi.Probe())

    def steer(self, peer: tuple[str, int], generation: int, application: int = 0) -> None:
        """Watch a peer, and steer its packets to a generation.

        Raises LookupError if the generation has no registered socket.
        """
        slot = abi.slot_of(self._group.max_apps, application, generation)
        with GroupEntries(self._maps, self._group_id) as entries:
            record = entries.slot(slot)
            if not record.live or record.generation != generation:
                raise LookupError(f"generation {generation} has no registered socket")
        self._write(peer, abi.Probe(steer=slot + 1))

    def evidence(self, peer: tuple[str, int]) -> Evidence:
        """Return what was recorded since the peer was last watched or steered."""
        raw = libbpf.map_lookup(self._maps["probes"], self._key(peer), ctypes.sizeof(abi.Probe))
        probe = abi.Probe() if raw is None else abi.Probe.from_buffer_copy(raw)
        with GroupEntries(self._maps, self._group_id) as entries:
            generations = {slot + 1: item.generation for slot, item in entries.used_slots()}
            received = entries.cookie_at(probe.received_entry) if probe.received else None
        path = ProbePath(probe.path)
        if path is ProbePath.NONE:
            found = self.connected(peer)
            if found is not None:
                return found
        return Evidence(
            received_generation=generations.get(probe.received),
            received_socket=received,
            path=None if path is ProbePath.NONE else path.name.lower(),
            replied_generation=generations.get(probe.replied),
            replied_socket=probe.replied_by or None,
            packets_in=probe.packets_in,
            packets_out=probe.packets_out,
        )

    def connected(self, peer: tuple[str, int]) -> Optional[Evidence]:
        """Return the evidence of a connected socket of the group with this peer; None: no such."""
        key, group = bytes(address.flow_key(*peer)), self._group
        for record in connected.records(self._maps, group.key.netns) or ():
            is_of_group = record.member.is_of(self._group_id, group.epoch)
            if is_of_group and record.connected and record.peer == key:
                return Evidence(
                    received_generation=record.member.generation,
                    received_socket=record.cookie,
                    path=ProbePath.CONNECTED.name.lower(),
                    replied_generation=None,
                    replied_socket=None,
                    packets_in=0,
                    packets_out=0,
                )
        return None

    def clear(self, peer: tuple[str, int]) -> None:
        """Stop watching this peer."""
        self._remove(self._key(peer))

    def _key(self, peer: tuple[str, int]) -> bytes:
        key = abi.ProbeKey(
            group_id=self._group_id, epoch=self._group.epoch, remote=address.flow_key(*peer)
        )
        return bytes(key)

    def _write(self, peer: tuple[str, int], probe: abi.Probe) -> None:
        probe.expires = self._expires
        key = self._key(peer)
        libbpf.map_update(self._maps["probes"], key, bytes(probe))
        if key not in self._peers:
            self._peers.add(key)
            self._group.probes += 1

    def _remove(self, key: bytes) -> None:
        if key in self._peers:
            self._peers.discard(key)
            if libbpf.map_delete(self._maps["probes"], key):  # unless the daemon has deleted it
                self._group.probes -= 1
