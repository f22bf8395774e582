# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Groups and probes of the simulated kernel, behind the interfaces of the real ones."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, cast

from tests.simulation.units import SOCKETS, Server
from udpgrm import abi
from udpgrm.restart.drain import Sample
from udpgrm.restart.groups import SPENT, Groups
from udpgrm.restart.plan import GroupFacts
from udpgrm.restart.prober import StepFailed
from udpgrm.restart.strays import Stray
from udpgrm.services.definition import Group, Service
from udpgrm.state.maps import Maps
from udpgrm.state.view import GroupView

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Longer than any drain waits for quiet.
_REMEMBERED_S = 10.0
_MISSED = "rx_new_flow_working_gen_dispatch_error"


class SimulatedGroups(Groups):
    """The groups of the service; what the simulation has no model of fails loudly."""

    def __init__(self, world: World, groups: Sequence[Group]) -> None:
        self._world = world
        self.groups = groups

    @property
    def maps(self) -> Maps:
        raise AssertionError("the simulation has no maps")

    def _here(self, name: str) -> bool:
        """Return whether there is state: a daemon has run since the boot."""
        self._world.called(name)
        return self._world.has_state

    def _want_state(self, name: str) -> None:
        if not self._here(name):
            raise FileNotFoundError(f"{name}: no state")

    def facts(self) -> list[GroupFacts]:
        self._want_state("facts")
        living = {
            number: unit.sockets for number, unit in self._world.units.all.items() if unit.sockets
        }
        return [
            GroupFacts(
                group.address,
                0,
                self._world.working.get(group.address),
                abi.GENERATION_SLOTS,
                living,
            )
            for group in self.groups
        ]

    def check_dissectors(self, service: Service) -> None:
        self._want_state("check_dissectors")

    def refuse_second_groups(self) -> None:
        self._want_state("refuse_second_groups")

    def set_dissectors(self, service: Service) -> None:
        self._want_state("set_dissectors")

    def share_addresses(self, service: Service, reserved: Sequence[str] = ()) -> None:
        self._want_state("share_addresses")

    def omitted(self, pids: Iterable[int]) -> list[str]:
        return []

    def tried(self, service: Service) -> list[str]:
        return []

    def release(self, service: Service) -> None:
        """Nothing is reserved."""

    def peers_elsewhere(self, pids: Iterable[int]) -> set[tuple[str, int]]:
        return set()

    def strays(self) -> list[Stray]:
        self._want_state("strays")
        return []

    def living(self, generation: int) -> dict[str, int]:
        count = self._world.units.get(generation).sockets if self._here("living") else 0
        return {group.address: count for group in self.groups}

    def view(self, group: Group, with_flows: bool = False) -> Optional[GroupView]:
        """Return none: packets are not counted, so no restart has notes of them."""
        return None

    def cookies(self, generation: Optional[int]) -> set[int]:
        return set()

    def working(self) -> dict[str, Optional[int]]:
        self._want_state("working")
        return {group.address: self._world.working.get(group.address) for group in self.groups}

    @contextlib.contextmanager
    def held(self, generation: int, pids: Sequence[int]) -> Iterator[dict[str, socket.socket]]:
        self._want_state("held")
        there = pids and self._world.units.get(generation).sockets
        found = {group.address: _Socket(self._world, group.address) for group in self.groups}
        yield cast(dict[str, socket.socket], found if there else {})

    def limits(self, generation: int, pids: Sequence[int]) -> list[str]:
        return []

    def sample(self, generation: int) -> Sample:
        world = self._world
        if not self._here("sample"):
            return Sample(at=world.scheduler.now, sockets=0, flows=0, packets=0, quiet_s=None)
        return Sample(
            at=world.scheduler.now,
            sockets=world.units.get(generation).sockets * len(self.groups),
            flows=world.clients.flows(generation),
            packets=0,
            quiet_s=world.clients.quiet_s(generation),
            connected=world.clients.connected(generation),
        )

    def reading(self) -> dict[str, Any]:
        if not self._here("reading"):
            return {}
        return {self.groups[0].address: {"missed": self._world.clients.missed}}

    def spent(self, before: dict[str, Any]) -> dict[str, int]:
        now = self.reading()
        spent = dict.fromkeys(SPENT, 0)
        for where, reading in now.items():
            then = before.get(where, {"missed": 0})
            spent[_MISSED] += max(0, reading["missed"] - then["missed"])
        return spent


class _Socket:
    """A duplicate of a server's socket."""

    type = socket.SOCK_DGRAM

    def __init__(self, world: World, where: str) -> None:
        self._world, self._where = world, where

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert option == abi.Option.WORKING_GEN
        self._world.called("setsockopt")
        self._world.promote(self._where, int.from_bytes(value, "little"))

    def fileno(self) -> int:
        return 9


class SimulatedProber:
    """Probes that pass if the instance answers, and if the kernel steers to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._has_held = False

    def __enter__(self) -> SimulatedProber:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def _ask(self, generation: int) -> None:
        self._world.called("probe")
        self._world.scheduler.wait(0.005)
        unit = self._world.units.get(generation)
        server = self._world.server_of(generation)
        has_faded = server is Server.FADES and generation in self._world.working.values()
        if not unit.sockets or server is Server.MUTE or has_faded:
            raise StepFailed(f"generation {generation} does not answer")
        self._world.clients.probed(generation)

    def canary(self, new: int, evidence: dict[str, Any]) -> None:
        evidence["probes"] = []
        self._ask(new)

    def hold(self, old: int, evidence: dict[str, Any]) -> None:
        evidence["held"] = []
        with contextlib.suppress(StepFailed):  # which may be why it is restarted
            self._ask(old)
            self._has_held = True

    def verify(self, old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        evidence["old_flows"], evidence["probes"] = [], []
        if old is not None and self._has_held:
            self._ask(old)
        self._ask(new)
        if set(self._world.working.values()) != {new}:
            raise StepFailed("another generation got it")


class _Flow(NamedTuple):
    """A flow, which has packets until its end. life: of its instance, with which it ends.

    is_connected: the server has connected a socket to its peer.
    """

    end: float
    begin: float
    life: int
    is_connected: bool = False


class Clients:
    """Users of the service: each begins a flow now and then, at the working generation.

    While that is dead, the kernel gives a flow to another one. begun: when one got its last flow.
    """

    def __init__(self, world: World, every_s: float) -> None:
        self._world, self._every_s = world, every_s
        self._next = 0.0
        self._count = 0
        self._known: dict[int, list[_Flow]] = {}
        self._promoted: set[int] = set()
        self.begun: dict[int, float] = {}
        self.missed = 0

    def arrive(self) -> None:
        """Let those begin that are due, as the routing was until now."""
        while self._next <= self._world.scheduler.now:
            world = self._world
            lasts = world.random.choice((0.3, 0.8, 2.0, 2.0, 12.0))
            addresses = list(world.working)
            if addresses:
                where = addresses[self._count % len(addresses)]
                self._begin(where, lasts)
            self._count += 1
            self._next += self._every_s

    def _begin(self, where: str, lasts: float) -> None:
        world = self._world
        self._promoted |= set(world.working.values())
        to = world.routed(where)
        world.invariants.begins(where, to)
        if to is None:
            living = [number for number, unit in world.units.all.items() if unit.sockets]
            if not living:
                return
            to = max(living, key=lambda number: (number in self._promoted, number))
            self.missed += 1
        life = world.units.get(to).begins
        self.begun[to] = self._next
        is_connected = world.config.connects and lasts > 2.0
        self._add(to, _Flow(self._next + lasts, self._next, life, is_connected))

    def _add(self, generation: int, flow: _Flow) -> None:
        self._known.setdefault(generation, []).append(flow)

    def _of(self, generation: int, at: float) -> list[_Flow]:
        """Return the flows that an instance had by then; they end with its sockets."""
        self.arrive()
        now, unit = self._world.scheduler.now, self._world.units.get(generation)
        self._known[generation] = kept = [
            flow
            for flow in self._known.get(generation, ())
            if flow.end > now - _REMEMBERED_S and flow.life == unit.begins
        ]
        return [flow for flow in kept if flow.begin <= at] if unit.sockets else []

    def flows(self, generation: int, until: float = math.inf) -> int:
        """Return how many flows an instance has, begun by then."""
        now = self._world.scheduler.now
        return sum(flow.end > now for flow in self._of(generation, until))

    def connected(self, generation: int, until: float = math.inf) -> int:
        """Return how many of these have a socket of their own."""
        now = self._world.scheduler.now
        return sum(flow.is_connected and flow.end > now for flow in self._of(generation, until))

    def quiet_s(self, generation: int, ago: float = 0.0) -> Optional[float]:
        """Return how long its other flows were quiet so many seconds ago; None: there was none."""
        at = self._world.scheduler.now - ago
        others = [flow for flow in self._of(generation, at) if not flow.is_connected]
        return min((max(0.0, at - flow.end) for flow in others), default=None)

    def probed(self, generation: int) -> None:
        """Receive a probe at an instance: a packet that begins no flow."""
        now = self._world.scheduler.now
        self._add(generation, _Flow(now, now, self._world.units.get(generation).begins))

    def leave(self, generation: int) -> None:
        """Let the flows of an instance end soon: it has told its clients to leave."""
        soon = self._world.scheduler.now + 0.3
        flows = self._of(generation, math.inf)
        self._known[generation] = [flow._replace(end=min(flow.end, soon)) for flow in flows]


def groups_of(world: World, directory: Path, groups: Sequence[Group]) -> Groups:
    """Return the groups as foreground makes them."""
    return SimulatedGroups(world, groups)


__all__ = ["SOCKETS", "Clients", "SimulatedGroups", "SimulatedProber", "groups_of"]
