# SPDX-License-Identifier: Apache-2.0
"""A service's groups in the kernel, as a restart reads and changes them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from udpgrm import abi
from udpgrm.kernel import netns, pidfd
from udpgrm.restart import drops, host, limited, omitted, sharing, strays
from udpgrm.restart.drain import Sample
from udpgrm.restart.plan import GroupFacts, Refused
from udpgrm.restart.strays import Stray
from udpgrm.services import policy
from udpgrm.services.definition import Group, Service
from udpgrm.state import address, counters, holders, policies, second_groups
from udpgrm.state import maps as state
from udpgrm.state import sharing as kernel_sharing
from udpgrm.state.entries import GroupEntries
from udpgrm.state.finding import Finder, SeveralGroups
from udpgrm.state.maps import Maps
from udpgrm.state.view import GenerationView, GroupView, working_of

#: A packet of a new flow that no socket of the working generation could be given to,
#: or of a known flow that another group's socket has.
STRAYED = "rx_new_flow_working_gen_dispatch_error"
DISPATCH_ERRORS = ("rx_internal_state_error", "rx_flow_rg_conflict", STRAYED)
#: Sends on a flow that belongs to another generation: it has moved.
CROSSED = "tx_flow_crossed"
MISDIRECTED = (*DISPATCH_ERRORS, CROSSED)
#: The counts of what a restart has cost.
SPENT = (*MISDIRECTED, "dropped", "packets")
_PACKETS = ("rx_processed_total", "tx_total")


def find(view: GroupView, application: int, generation: int) -> Optional[GenerationView]:
    """Return a generation of a group; None: it has no socket."""
    for item in view.generations:
        if (item.application, item.generation) == (application, generation):
            return item
    return None


def _of(group: Group, working: Sequence[int]) -> int:
    """Return the working generation of a group's application. Raises Refused."""
    if group.application >= len(working):
        raise Refused(
            f"{group.address} has no application {group.application}, only {len(working)}"
        )
    return working[group.application]


class Groups:
    """The groups of a service, in this network namespace."""

    def __init__(self, directory: Path, groups: Sequence[Group]) -> None:
        """Use the maps pinned in a directory, which are opened when first needed."""
        self._directory = directory
        self.groups = groups
        self._maps: Optional[Maps] = None
        self._netns = netns.own_cookie()

    @property
    def maps(self) -> Maps:
        """Return the pinned maps. Raises FileNotFoundError and StateError."""
        if self._maps is None:
            self._maps = state.open_pinned(self._directory)
        return self._maps

    def view(self, group: Group, with_flows: bool = False) -> Optional[GroupView]:
        """Return a group; None: the kernel has none at its address. Raises Refused for several."""
        [(_, view)] = self._views([group], with_flows)
        return view

    def _views(
        self, groups: Optional[Sequence[Group]] = None, with_flows: bool = False
    ) -> Iterator[tuple[Group, Optional[GroupView]]]:
        """Yield groups (all by default) with their views, of one reading of connected sockets."""
        finder = Finder(self.maps, self._netns)
        for group in self.groups if groups is None else groups:
            try:
                view = finder.find(group.address, with_flows)
            except SeveralGroups as error:
                raise Refused(str(error)) from error
            yield group, view

    def _ids(self) -> Iterator[tuple[Group, Optional[int]]]:
        """Yield all groups with their ids, without the views that take longer."""
        finder = Finder(self.maps, self._netns)
        for group in self.groups:
            try:
                group_id = finder.find_id(group.address)
            except SeveralGroups as error:
                raise Refused(str(error)) from error
            yield group, group_id

    def _cookies_of(self, group: Group, group_id: int, generation: int) -> set[int]:
        """Return the SO_COOKIEs of a generation's living sockets in one group."""
        slot_id = abi.slot_of(self.maps.group(group_id).max_apps, group.application, generation)
        try:
            with GroupEntries(self.maps, group_id) as entries:
                slot = entries.slot(slot_id)
                if (slot.app, slot.generation) != (group.application, generation):
                    return set()
                taken = set(slot.array_entry) - {abi.ENTRY_NONE}
                return {cookie for cookie in map(entries.cookie_at, taken) if cookie is not None}
        except LookupError:  # the group is being taken apart this moment
            return set()

    def has_had(self, group: Group, generation: int) -> bool:
        """Return whether its slot has, or had last, sockets of a generation."""
        view = self.view(group)
        if view is None:
            return False
        try:
            with GroupEntries(self.maps, view.group_id) as entries:
                slot = entries.slot(abi.slot_of(view.max_apps, group.application, generation))
        except LookupError:  # the group is being taken apart this moment
            return False
        return (slot.app, slot.generation) == (group.application, generation)

    def facts(self) -> list[GroupFacts]:
        """Return the facts that a plan is made of. Raises Refused."""
        return [self._facts(group, view) for group, view in self._views()]

    def refuse_second_groups(self) -> None:
        """Raise Refused for sockets at an address that would be another group to the kernel."""
        for group in self.groups:
            view = self.view(group)
            found = None if view is None else second_groups.find(self.maps, view)
            if found is not None:
                raise Refused(
                    f"sockets at {group.address} are {found.what}: {found.why} ({found.do})"
                )

    def _facts(self, group: Group, view: Optional[GroupView]) -> GroupFacts:
        if view is None:
            return GroupFacts(group.address, group.application, None, abi.GENERATION_SLOTS, {})
        return GroupFacts(
            address=group.address,
            application=group.application,
            working=_of(group, view.working),
            share=abi.GENERATION_SLOTS // len(view.working),
            living={
                item.generation: item.alive + (item.connected or 0)
                for item in view.generations
                if item.application == group.application and item.has_sockets
            },
        )

    def check_dissectors(self, service: Service) -> None:
        """Raise Refused if an address cannot get the dissector that the definition names."""
        for _ in self._dissectors(service):
            pass

    def set_dissectors(self, service: Service) -> None:
        """Give the addresses the dissectors that the definition names. Raises Refused."""
        for where, wanted in self._dissectors(service):
            policies.put(self.maps, where, wanted)

    def _dissectors(self, service: Service) -> Iterator[tuple[str, abi.Policy]]:
        for group in self.groups:
            wanted = policy.of_group(service, group)
            if wanted is None:
                continue
            conflict = policies.conflict(self.maps, group.address, wanted)
            if conflict is not None:
                raise Refused(conflict)
            yield group.address, wanted

    def strays(self) -> list[Stray]:
        """Return the sockets at the addresses that are in no generation."""
        found = []
        for where in dict.fromkeys(group.address for group in self.groups):
            view = self.view(next(group for group in self.groups if group.address == where))
            known = 0 if view is None else sum(item.alive for item in view.generations)
            found += strays.find(self.maps, where, known)
        return found

    def share_addresses(self, service: Service, reserved: Sequence[str] = ()) -> None:
        """Let the bind hooks set SO_REUSEPORT if the definition says so. Raises Refused.

        reserved: addresses that a new instance may not bind until `release`.
        """
        sharing.apply(self.maps, service, reserved)

    def omitted(self, pids: Iterable[int]) -> list[str]:
        """Return the addresses that processes serve by UDP and that are no groups."""
        return omitted.find(self.maps, [group.address for group in self.groups], pids)

    def tried(self, service: Service) -> list[str]:
        """Return the reserved addresses that an instance has tried to bind; without state, none."""
        with contextlib.suppress(FileNotFoundError):
            return kernel_sharing.tried(self.maps, service.name)
        return []

    def release(self, service: Service) -> None:
        """Let instances bind what was reserved."""
        with contextlib.suppress(FileNotFoundError):
            kernel_sharing.release(self.maps, service.name)

    def living(self, generation: int) -> dict[str, int]:
        """Return the number of living sockets of a generation, by address; without state, none."""
        found = dict.fromkeys((group.address for group in self.groups), 0)
        with contextlib.suppress(FileNotFoundError):
            for group, view in self._views():
                item = None if view is None else find(view, group.application, generation)
                found[group.address] = 0 if item is None else item.alive
        return found

    def cookies(self, generation: Optional[int]) -> set[int]:
        """Return the SO_COOKIEs of a generation's or all living sockets; without state, none."""
        found: set[int] = set()
        with contextlib.suppress(FileNotFoundError):
            for group, view in self._views():
                for item in [] if view is None else view.generations:
                    if item.application == group.application and generation in (
                        None,
                        item.generation,
                    ):
                        found |= {one.so_cookie for one in item.sockets if one.alive}
        return found

    def working(self) -> dict[str, Optional[int]]:
        """Return the working generation, by address; None: no group there. Raises Refused."""
        found: dict[str, Optional[int]] = {}
        for group, group_id in self._ids():
            working = None if group_id is None else working_of(self.maps.group(group_id))
            found[group.address] = None if working is None else _of(group, working)
        return found

    @contextlib.contextmanager
    def held(self, generation: int, pids: Sequence[int]) -> Iterator[dict[str, socket.socket]]:
        """Yield one living socket of a generation by address, duplicated from its processes."""
        wanted: dict[int, str] = {}  # address by SO_COOKIE
        for group, group_id in self._ids():
            if group_id is not None:
                cookies = self._cookies_of(group, group_id, generation)
                wanted.update(dict.fromkeys(cookies, group.address))
        with contextlib.ExitStack() as stack:
            found: dict[str, socket.socket] = {}
            # one look at all descriptors, however many groups there are
            for holder in holders.find(self.maps, wanted):
                where = wanted[holder.cookie]
                if holder.pid in pids and where not in found:
                    fd = pidfd.socket_at(*holder)
                    if fd is not None:
                        found[where] = stack.enter_context(socket.socket(fileno=fd))
            yield found

    def limits(self, generation: int, pids: Sequence[int]) -> list[str]:
        """Return notes of what steering does not reach of a generation, and of its processes."""
        with self.held(generation, pids) as sockets:
            return [*limited.of_processes(pids), *limited.of_sockets(sockets)]

    def peers_elsewhere(self, pids: Iterable[int]) -> set[tuple[str, int]]:
        """Return the peers of processes' connected UDP sockets at other ports than the groups'."""
        ports = {address.read(group.address).port for group in self.groups}
        found = set()
        for pid in pids:
            with contextlib.suppress(OSError):  # in execve(2), or out of reach
                for _, fd in pidfd.sockets_of(pid):
                    with socket.socket(fileno=fd) as sock, contextlib.suppress(OSError):
                        is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
                        if not is_inet or sock.proto != socket.IPPROTO_UDP:
                            continue
                        if sock.getsockname()[1] not in ports:
                            found.add(sock.getpeername()[:2])
        return found

    def sample(self, generation: int) -> Sample:
        """Return a sample of how far a generation has drained, over all groups."""
        sockets = connected = unknown = packets = flows = flow_timeout = 0
        counted, unseen = True, False
        quiet: list[float] = []
        with contextlib.suppress(FileNotFoundError):
            for group, view in self._views(with_flows=True):
                if view is None:
                    continue
                unknown += view.connected_unknown or 0
                item = find(view, group.application, generation)
                if item is None or not item.has_sockets:
                    continue
                sockets += item.alive
                connected += item.connected or 0
                packets += item.packets_in + item.packets_out
                quiet += [] if item.quiet_s is None else [item.quiet_s]
                counted = counted and item.flows is not None
                flows += item.flows or 0
                flow_timeout = max(flow_timeout, view.flow_timeout)
                one_way = item.packets_in and not (item.packets_out or item.connected)
                unseen = unseen or bool(view.flow_timeout and one_way)
        return Sample(
            at=host.current.monotonic(),
            sockets=sockets,
            flows=flows if counted else None,
            packets=packets,
            quiet_s=min(quiet, default=None),
            connected=connected,
            unknown=unknown,
            flow_timeout=flow_timeout,
            unseen=unseen,
        )

    def reading(self) -> dict[str, Any]:
        """Return the counters and drops as they are now, to be compared with later ones."""
        with contextlib.suppress(FileNotFoundError):
            dropped = drops.read([group.address for group in self.groups])
            return {
                group.address: {
                    "metrics": self._metrics(group_id),
                    "drops": dropped[group.address],
                }
                for group, group_id in self._ids()
            }
        return {}

    def _metrics(self, group_id: Optional[int]) -> dict[str, int]:
        if group_id is None:
            return {}
        reading = counters.read(self.maps, group_id)
        totals = {name: reading.metrics[name] for name in (*DISPATCH_ERRORS, *_PACKETS)}
        return {**totals, CROSSED: reading.crossed}

    def spent(self, before: dict[str, Any]) -> dict[str, int]:
        """Return the packets that went wrong since an earlier reading, and the count of all."""
        now = self.reading()
        spent = dict.fromkeys(SPENT, 0)
        for where, reading in now.items():
            then = before.get(where, {"metrics": {}, "drops": {}})
            for name, count in reading["metrics"].items():
                # a group that is made again counts from 0
                spent["packets" if name in _PACKETS else name] += max(
                    0, count - then["metrics"].get(name, 0)
                )
            spent["dropped"] += drops.since(then["drops"], reading["drops"])
        return spent
