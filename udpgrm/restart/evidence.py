# SPDX-License-Identifier: Apache-2.0
"""Probes of a service, and which generation received and answered them by the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from udpgrm.dissectors import kinds
from udpgrm.dissectors.kind import Kind
from udpgrm.probes import remote, runner
from udpgrm.probes.specs import ConnectProbe, ProbeSpec, QuicProbe
from udpgrm.restart import unseen
from udpgrm.restart.groups import Groups, find
from udpgrm.restart.prober import StepFailed
from udpgrm.restart.silent import Silent
from udpgrm.services.definition import Group, Service
from udpgrm.state import address, flows, second_groups
from udpgrm.state.maps import Maps
from udpgrm.state.probing import Probing
from udpgrm.state.steered import foreign
from udpgrm.state.view import GroupView

#: The kernel's longest tick: what it counts in ticks may expire so much earlier.
_TICK_S = 0.01

Peer = tuple[str, int]


class _Flow(Protocol):
    """A flow to a service: runner.Held, another host's, or one without an answer."""

    source: Peer

    def ask(self) -> runner.ProbeResult: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Target:
    """One probe of one group; spec None: packets without an answer."""

    group: Group
    view: GroupView
    spec: Optional[ProbeSpec]

    @property
    def where(self) -> str:
        """Return the address to probe: loopback for a wildcard address, unless it is a device's."""
        ip = ipaddress.ip_address(self.view.ip)
        device = address.device_name(self.view.ifindex)
        if ip.is_unspecified and not device:
            loopback = "127.0.0.1" if ip.version == 4 else "::1"
            return address.form(loopback, self.view.port, tcp=self.view.tcp)
        return address.form(self.view.ip, self.view.port, device, tcp=self.view.tcp)

    @property
    def kind(self) -> Kind:
        """Return the kind of the group's dissector."""
        return kinds.of_type(self.view.dissector, self.view.name.encode())

    @property
    def working(self) -> int:
        """Return the generation that new flows go to."""
        return self.view.working[self.group.application]

    def lives(self, generation: int) -> bool:
        """Return whether a generation has a socket that a flow can begin with."""
        found = find(self.view, self.group.application, generation)
        return found is not None and found.alive > 0

    @property
    def converses(self) -> bool:
        """Return whether one question takes several packets; only the first is a new flow."""
        return isinstance(self.spec, QuicProbe) and self.spec.connects

    @property
    def stays(self) -> bool:
        """Return whether a flow of this probe must stay with the instance that it began with."""
        if self.kind.has_flow_table:
            return self.spec is not None and not self.kind.keyed_by
        return self.converses and self.kind.reads_quic


@dataclass
class _Held:
    """A flow that was begun before the promotion.

    asked_at: when (monotonic seconds) its last question was sent; its flow entry is not older.
    """

    target: _Target
    flow: _Flow
    asked_at: float

    def may_have_expired(self) -> bool:
        """Return whether its flow entry may have reached the group's flow timeout by now."""
        if not self.target.kind.has_flow_table:
            return False
        return time.monotonic() - self.asked_at >= self.target.view.flow_timeout - _TICK_S


class KernelProber:
    """Probes a service, and asks the kernel where the packets went.

    Use as a context manager: flows are held till its end.
    """

    def __init__(self, service: Service, groups: Groups) -> None:
        """Probe this service's groups."""
        self._service = service
        self._groups = groups
        self._held: list[_Held] = []
        self._elsewhere: dict[str, remote.Prober] = {}

    def __enter__(self) -> KernelProber:
        """Return itself: flows that begin are held until the exit."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the held flows and the probing hosts."""
        self._release()
        for prober in self._elsewhere.values():
            prober.close()
        self._elsewhere.clear()

    def _release(self) -> None:
        """Close the held flows and delete their entries, so that no drain waits for them."""
        for held in self._held:
            held.flow.close()
            delete_flow(self._groups.maps, held.target.view.group_id, held.flow.source)
        self._held.clear()

    def _targets(self) -> Iterator[_Target]:
        for group in self._service.groups:
            view = self._groups.view(group)
            if view is None:
                raise StepFailed(f"the group at {group.address} is gone")
            unasked = (ConnectProbe() if view.tcp else None,)
            for spec in self._service.probes_of(group) or unasked:
                yield _Target(group, view, spec)

    def _timed(self, limit: float) -> Iterator[_Target]:
        deadline = time.monotonic() + limit
        for target in self._targets():
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"no time remained for the probe of {target.where} ({limit:g} s: see timeouts)"
                )
            yield target

    def canary(self, new: int, evidence: dict[str, Any]) -> None:
        """Probe the new generation; only the probe's packets are steered there."""
        seen = evidence["probes"] = []
        for target in self._timed(self._service.timeouts.canary_s):
            with self._flow(target) as (flow, probing):
                try:
                    probing.steer(flow.source, new, target.group.application)
                except LookupError as error:
                    raise StepFailed(f"{target.where}: {error}") from error
                seen.append(_ask(flow, probing))
                # first: what received the packet may be in no generation any longer
                _refuse_connected(target.where, flow, probing)
                evaluate(seen[-1], new, "steered")
                self._refuse_unseen(target, flow, new)

    def hold(self, old: int, evidence: dict[str, Any]) -> None:
        """Begin flows with the old generation, where it answers."""
        if self._held:
            return
        held = evidence["held"] = []
        for target in self._targets():
            if not target.stays or target.working != old or not target.lives(old):
                continue  # new flows go elsewhere: the last attempt of this step got so far
            flow = self._begin(target)
            asked_at = time.monotonic()
            result = flow.ask()
            if result.passed:
                self._held.append(_Held(target, flow, asked_at))
                self._refuse_unseen(target, flow, old)
            else:  # an instance without an answer may be the reason for the restart
                flow.close()
            held.append(_result_fields(result))

    def _refuse_unseen(self, target: _Target, flow: _Flow, generation: int) -> None:
        """Raise StepFailed if the answer of a generation has made no flow where it had to."""
        if target.stays and target.kind.has_flow_table:
            unseen.refuse(self._groups.maps, target.view.group_id, flow.source, generation)

    def verify(self, old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        """Verify that new flows reach the new generation, and held flows still the old one."""
        try:
            if old is not None:  # first, as they expire
                self._verify_old(old, new, evidence)
            self._verify_programs()
            self._verify_new(new, evidence)
        finally:
            self._release()

    def _verify_programs(self) -> None:
        """Raise StepFailed if the kernel runs another program than udpgrm's for a group."""
        for target in self._targets():
            taken = foreign(self._groups.maps, target.view.netns).get(target.view.group_id)
            if taken is not None:
                raise StepFailed(
                    f"{target.group.address} is steered by {taken.program}, not by udpgrm: it was "
                    "attached outside of hooked cgroups (docs/limits.md)"
                )

    def _verify_new(self, new: int, evidence: dict[str, Any]) -> None:
        seen = evidence["probes"] = []
        for target in self._timed(self._service.timeouts.verify_s):
            if target.spec is None and target.kind.reads_payload:
                continue  # a packet of that content could be any client's
            with self._flow(target) as (flow, probing):
                probing.watch(flow.source)
                seen.append(_ask(flow, probing))
                if not target.kind.reads_payload or seen[-1]["path"] is not None:
                    evaluate(
                        seen[-1], new, *(("new", "existing") if target.converses else ("new",))
                    )
                elif not seen[-1]["passed"]:
                    raise StepFailed(_failure(seen[-1]))

    def _verify_old(self, old: int, new: int, evidence: dict[str, Any]) -> None:
        seen = evidence["old_flows"] = []
        for held in self._held:
            with Probing(self._groups.maps, held.target.view.group_id) as probing:
                probing.watch(held.flow.source)
                entry = _ask(held.flow, probing)
            moved = entry["received_generation"] == new
            entry["expired"] = moved and held.may_have_expired()
            seen.append(entry)
            if entry["expired"]:  # rightly a new flow, whose later packets are of a known one
                evaluate(entry, new, "new", "existing")
            else:
                evaluate(entry, old, "existing", "connected")

    def _begin(self, target: _Target) -> _Flow:
        """Return a flow from a port of its own. Raises OSError."""
        spec = target.spec
        if spec is None:
            return Silent(target.where)
        if spec.from_host is None:
            return runner.hold(spec, target.where)
        prober = self._elsewhere.setdefault(spec.from_host, remote.Prober(spec.from_host))
        return prober.hold(spec, target.view.address)

    @contextlib.contextmanager
    def _flow(self, target: _Target) -> Iterator[tuple[_Flow, Probing]]:
        """Yield a flow for one question; its entries are deleted afterwards."""
        maps, group_id = self._groups.maps, target.view.group_id
        with contextlib.closing(self._begin(target)) as flow, Probing(maps, group_id) as probing:
            delete_flow(maps, group_id, flow.source)  # an earlier client's of this port
            try:
                yield flow, probing
            finally:
                delete_flow(maps, group_id, flow.source)


def _refuse_connected(where: str, flow: _Flow, probing: Probing) -> None:
    """Raise StepFailed if the server has connected the socket that the probe's packet came to."""
    found = probing.connected(flow.source)
    if found is None:
        return
    # None: it has given its array entry back
    if probing.evidence(flow.source).received_socket in (None, found.received_socket):
        raise StepFailed(
            f"{where}: the server has connected the socket that serves all peers to one of them, "
            f"the probe: {second_groups.CONNECTS_LISTENING} (docs/limits.md)"
        )


def _ask(flow: _Flow, probing: Probing) -> dict[str, Any]:
    """Probe, and return the result with what the kernel saw of it."""
    result = flow.ask()
    found = probing.evidence(flow.source)
    return {
        **_result_fields(result),
        "received_generation": found.received_generation,
        "path": found.path,
        "replied_generation": found.replied_generation,
        "packets_in": found.packets_in,
        "packets_out": found.packets_out,
    }


def _result_fields(result: runner.ProbeResult) -> dict[str, Any]:
    return {
        "probe": result.type,
        "address": result.address,
        "source": None if result.source is None else address.form(*result.source),
        "passed": result.passed,
        "reason": result.reason,
        "sent": result.sent,
        "received": result.received,
        "elapsed_s": round(result.elapsed_s, 4),
        "attempts": result.attempts,
    }


def evaluate(entry: dict[str, Any], wanted: int, *paths: str) -> None:
    """Raise StepFailed unless the packet went to the wanted generation, and was answered.

    The entry is about the last packet, which may have come by any of the paths.
    """
    if entry["received_generation"] != wanted or entry["path"] not in paths:
        raise StepFailed(
            f"{_failure(entry)}; wanted generation {wanted} to get it as {' or '.join(paths)}"
        )
    if not entry["passed"]:
        raise StepFailed(_failure(entry))
    # None: answered by a socket of its own, or no hook saw it
    if entry["replied_generation"] not in (None, wanted):
        raise StepFailed(f"{_failure(entry)}; generation {wanted} should have answered")


def _failure(entry: dict[str, Any]) -> str:
    """Return the probe, what it sent and received, and the generations that got and answered it."""
    got, replied = entry["received_generation"], entry["replied_generation"]
    parts = [f"{entry['probe']} probe of {entry['address']} from {entry['source']}"]
    parts.append("passed" if entry["passed"] else f"failed: {entry['reason']}")
    parts.append(f"sent {entry['sent']}")
    parts.append(f"received {entry['received'] or 'nothing'}")
    if got is None:
        parts.append("no generation got it")
    else:
        parts.append(f"generation {got} got it as {entry['path']}")
    if replied is not None:
        parts.append(f"generation {replied} answered")
    return "; ".join(parts)


def delete_flow(maps: Maps, group_id: int, peer: Peer) -> None:
    """Delete a peer's flow entries in a group, so that a drain does not wait for them."""
    group, key = maps.group(group_id), bytes(address.flow_key(*peer))
    flows.delete(maps, group, [(table, key) for table in set(group.table) - {0}])
