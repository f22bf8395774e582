# SPDX-License-Identifier: Apache-2.0
"""Views of groups, for people and programs: read once, then plain values."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

from udpgrm import abi
from udpgrm.abi import DissectorType
from udpgrm.dissectors import kinds
from udpgrm.kernel import libbpf
from udpgrm.state import address, connected, counters
from udpgrm.state.connected import Counts
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

#: A flow of a cookie kind that was quiet for longer counts as ended. QUIC's idle
#: timeout is mostly that or less, NATs time out sooner (RFC 4787, 4.3: 2 minutes at most).
SEEN_LATELY_S = 30


class SocketView:
    """A socket of a generation; cookie is the udpgrm one, so_cookie the kernel's (0: dead)."""

    def __init__(self, index: int, cookie: int, so_cookie: int, array_entry: int) -> None:
        self.index = index
        self.cookie = cookie
        self.so_cookie = so_cookie
        self.array_entry = array_entry

    @property
    def alive(self) -> bool:
        """Return whether the socket is open."""
        return self.so_cookie != 0


class FlowView(NamedTuple):
    """An entry of a flow table; age in seconds since its last refresh."""

    remote: Optional[str]  # None: it has a key
    key: Optional[str]  # the hash of what its packets have, in hexadecimal; None: its peer
    hash: int  # a short name for people
    so_cookie: int
    array_entry: int
    slot: int
    age: float
    expired: bool


class GenerationView(NamedTuple):
    """A generation that has sockets; closed sockets are in it until garbage collection.

    `sockets` are unconnected, with packets of any peer: a connected one is a flow.
    """

    application: int
    generation: int
    slot: int
    working: bool
    sockets: list[SocketView]
    flows: Optional[int]  # with the connected sockets
    packets_in: int
    packets_out: int
    last_in_age: Optional[float]
    last_out_age: Optional[float]
    connected: Optional[int] = None  # sockets connected to a peer; None: not to be counted

    @property
    def alive(self) -> int:
        """Return how many of its sockets live."""
        return sum(socket.alive for socket in self.sockets)

    @property
    def has_sockets(self) -> bool:
        """Return whether it has a living socket, connected or not."""
        return bool(self.alive or self.connected)

    @property
    def quiet_s(self) -> Optional[float]:
        """Return the seconds since the last packet, either way; None: there was none."""
        ages = [age for age in (self.last_in_age, self.last_out_age) if age is not None]
        return min(ages, default=None)


class GroupView(NamedTuple):
    """A group, with its generations."""

    group_id: int
    address: str
    ip: str
    port: int
    netns: int
    ifindex: int
    uid: int  # its owner
    dissector: DissectorType
    verbose: bool
    flow_timeout: int
    max_apps: int
    label: str
    name: str  # of a named dissector, else of its type
    parameters: str  # of a named dissector, as JSON
    working: list[int]  # by application
    metrics: dict[str, int]
    crossed: int  # see GroupCounters
    generations: list[GenerationView]
    flows: list[FlowView]
    connected_unknown: Optional[int] = None  # connected sockets of no known generation
    filter_len: int = 0  # instructions of its filter; 0 also: not known
    digest: int = 0  # which built-in of BESPOKE
    tcp: bool = False  # its sockets are listeners


#: Counts the flows of a slot with these sockets; None: flows are not counted.
_FlowCounter = Callable[[int, list[SocketView]], Optional[int]]


def printable(text: str) -> str:
    """Return an application's text in one line and without a terminal's escapes."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def working_of(group: abi.Group) -> list[int]:
    """Return a group's working generations, by application."""
    return list(group.working)[: max(group.max_apps, 1)]


def _text(chosen: bytes) -> str:
    return printable(chosen.decode(errors="replace"))


class Viewer:
    """Reads groups; one reading of the clock serves them all."""

    def __init__(self, maps: Maps) -> None:
        """Read jiffies now."""
        self._maps = maps
        self._now = maps.clock.now()
        self._hz: int = maps.config.hz
        self._connected: dict[int, Optional[Counts]] = {}  # by network namespace

    def connected(self, namespace: int) -> Optional[Counts]:
        """Return the connected sockets of a namespace's generations, of one reading."""
        if namespace not in self._connected:
            self._connected[namespace] = connected.count(self._maps, namespace)
        return self._connected[namespace]

    def _age(self, then: int) -> float:
        return max(0.0, (self._now - then) / self._hz)

    def group_ids(self, only: Optional[str] = None) -> Iterator[int]:
        """Yield the ids of the live groups, or of the groups at one ADDRESS[%DEVICE]:PORT."""
        where = None if only is None else address.read(only)
        wanted = b"" if where is None else address.of_any_device(where.key)
        for group_id, group in self._maps.live_groups():
            key = group.key
            # most are of other addresses, whose texts would take long
            if where is None or (
                address.of_any_device(key) == wanted
                and where.selects(address.of_key(key), key.ifindex)
            ):
                yield group_id

    def groups(self, only: Optional[str] = None, with_flows: bool = True) -> list[GroupView]:
        """Return the live groups, by address; their flows only if with_flows."""
        views = (self.group(group_id, with_flows) for group_id in self.group_ids(only))
        found = [view for view in views if view is not None]
        return sorted(found, key=lambda view: (view.address, view.netns, view.ifindex))

    def group(self, group_id: int, with_flows: bool) -> Optional[GroupView]:
        """Return one group; without flows their counts are None. None: it was deleted just now."""
        group = self._maps.live_group(group_id)
        if group is None:
            return None
        dissector = self._maps.dissector(group_id)
        kind = kinds.of_type(group.type, dissector.name)
        flows = list(self._flows(group)) if with_flows else []
        reading = counters.read(self._maps, group_id)
        count = _flow_counter(group, flows) if with_flows else None
        found = list(self._generations(group_id, working_of(group), reading, count))
        generations, connected_unknown = self._with_connected(group_id, group, found, with_flows)
        return GroupView(
            group_id=group_id,
            address=address.of_key(group.key),
            ip=address.ip_of(group.key),
            port=address.port_of(group.key),
            netns=group.key.netns,
            ifindex=group.key.ifindex,
            uid=group.uid,
            dissector=kind.type,
            verbose=bool(group.type & abi.DISSECTOR_VERBOSE),
            flow_timeout=group.flow_timeout_s if kind.has_flow_table else 0,
            max_apps=dissector.max_apps,
            label=_text(dissector.label),
            name=printable(kind.name),
            parameters=_text(kind.parameters_text(dissector)),
            working=working_of(group),
            metrics=reading.metrics,
            crossed=reading.crossed,
            generations=generations,
            flows=flows,
            connected_unknown=connected_unknown,
            filter_len=kind.filter_length(dissector),
            digest=dissector.digest,
            tcp=bool(group.key.protocol),
        )

    def _with_connected(
        self, group_id: int, group: abi.Group, found: list[GenerationView], with_flows: bool
    ) -> tuple[list[GenerationView], Optional[int]]:
        """Add connected sockets to their generations, which may have no other sockets.

        Returns also how many are of an unknown generation; None: they cannot be counted.
        """
        working = working_of(group)
        counts = self.connected(group.key.netns)
        if counts is None:
            return found, None
        of_group = {
            (member.application, member.generation): count
            for member, count in counts.items()
            if member.is_of(group_id, group.epoch) and member.application < len(working)
        }
        unknown = of_group.pop((0, abi.GENERATION_NONE), 0)
        merged = []
        for item in found:
            count = of_group.pop((item.application, item.generation), 0)
            flows = None if item.flows is None else item.flows + count
            merged.append(item._replace(connected=count, flows=flows))
        for (application, generation), count in of_group.items():
            merged.append(
                GenerationView(
                    application=application,
                    generation=generation,
                    slot=abi.slot_of(group.max_apps, application, generation),
                    working=working[application] == generation,
                    sockets=[],
                    flows=count if with_flows else None,
                    packets_in=0,
                    packets_out=0,
                    last_in_age=None,
                    last_out_age=None,
                    connected=count,
                )
            )
        return sorted(merged, key=lambda item: (item.slot, item.generation)), unknown

    def _generations(
        self,
        group_id: int,
        working: list[int],
        reading: counters.GroupCounters,
        count: Optional[_FlowCounter],
    ) -> Iterator[GenerationView]:
        try:
            group_entries = GroupEntries(self._maps, group_id)
        except LookupError:  # being made or taken apart this moment
            return
        with group_entries:
            for number, slot in group_entries.used_slots():
                sockets = []
                for position, array_entry in enumerate(slot.array_entry):
                    if array_entry != abi.ENTRY_NONE:
                        alive = group_entries.cookie_at(array_entry) or 0
                        cookie = abi.make_cookie(number, position)
                        sockets.append(SocketView(position, cookie, alive, array_entry))
                flows = count(number, sockets) if count is not None else None
                last_in, last_out = reading.last_in[number], reading.last_out[number]
                packets_in = reading.packets_in[number] - slot.base_in
                packets_out = reading.packets_out[number] - slot.base_out
                yield GenerationView(
                    application=slot.app,
                    generation=slot.generation,
                    slot=number,
                    working=working[slot.app] == slot.generation,
                    sockets=sockets,
                    flows=flows,
                    packets_in=packets_in,
                    packets_out=packets_out,
                    last_in_age=self._age(last_in) if packets_in else None,
                    last_out_age=self._age(last_out) if packets_out else None,
                )

    def _flows(self, group: abi.Group) -> Iterator[FlowView]:
        has_table = kinds.has_flow_table(group)
        timeout = group.timeout_jiffies if has_table else SEEN_LATELY_S * self._hz
        for slot, table in enumerate(group.table):
            if not table:
                continue
            with self._maps.inner("flow_tables", table) as fd:
                if fd is None:
                    continue
                for key_bytes, value in libbpf.map_items(
                    fd, ctypes.sizeof(abi.FlowKey), ctypes.sizeof(abi.Flow)
                ):
                    key = abi.FlowKey.from_buffer_copy(key_bytes)
                    flow = abi.Flow.from_buffer_copy(value)
                    yield FlowView(
                        remote=None if key.keyed_by else address.of_key(key),
                        key=bytes(key.addr).hex() if key.keyed_by else None,
                        hash=zlib.crc32(key_bytes),
                        so_cookie=flow.owner,
                        array_entry=flow.array_entry,
                        slot=slot,
                        age=self._age(flow.last),
                        expired=self._now - flow.last > timeout,
                    )


def _flow_counter(group: abi.Group, flows: list[FlowView]) -> _FlowCounter:
    """Return the counter of a generation's live flows; for cookie kinds, if it drains.

    Cookie kinds count the flows seen lately. A TCP group has no others than connections.
    """
    if group.key.protocol:
        return lambda *_: 0
    fresh = [flow for flow in flows if not flow.expired]

    def of_sockets(_: int, sockets: list[SocketView]) -> int:
        owners = {socket.so_cookie for socket in sockets if socket.alive}
        return sum(flow.so_cookie in owners for flow in fresh)

    def of_slot(slot: int, _: list[SocketView]) -> Optional[int]:
        return sum(flow.slot == slot for flow in fresh) if group.table[slot] else None

    return of_sockets if kinds.has_flow_table(group) else of_slot
