# SPDX-License-Identifier: Apache-2.0
"""A service, as udpgrm/services/loader.py reads it. Defaults are here and nowhere else.

Addresses are written as `udpgrm list` writes them. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from udpgrm.probes.specs import ProbeSpec

Enrollment = Literal["socket_api", "store", "adopted"]
Reuseport = Literal["server", "set"]
Protocol = Literal["udp", "tcp"]
OnTimeout = Literal["stop", "keep", "fail"]
InstanceShare = Literal["state", "cache"]


@dataclass(frozen=True)
class Dissector:
    """The dissector of a group's packets: its name and parameters.

    flow: flow_timeout; noop: nothing; cbpf: filter ([[code, jt, jf, k], ...]),
    max_apps; bespoke: sni ({host: application}), max_apps. Other names are folders
    of the dissector library, with keys of their own.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Group:
    """A reuseport group of the service.

    sockets: how many each instance registers. dissector: None = the application
    decides, by UDP_GRM_DISSECTOR or not at all. reuseport: SO_REUSEPORT is set by the server or
    the bind hooks; None = by the hooks if sockets are adopted. address: with /tcp at its end
    if the protocol is tcp.
    """

    address: str
    sockets: int = 1
    application: int = 0
    dissector: Optional[Dissector] = None
    reuseport: Optional[Reuseport] = None
    protocol: Protocol = "udp"


@dataclass(frozen=True)
class Instances:
    """The way that instances run.

    template: `unit` is a template, and an instance's name is its generation.
    decoy: `unit` is one unit whose main process is mmdecoy, and a
    restart is a restart of that unit.
    """

    kind: Literal["template", "decoy"]
    unit: str

    def unit_of(self, generation: int) -> str:
        """Return the unit that runs the instance of a generation."""
        if self.kind == "decoy":
            return self.unit
        stem, _, suffix = self.unit.partition("@")
        return f"{stem}@{generation}{suffix}"


@dataclass(frozen=True)
class DrainUntil:
    """The condition of a drained generation: all fields but None must hold.

    flows: at most so many live ones remain. quiet_s: no packet came or went for so long.
    """

    flows: Optional[int] = 0
    quiet_s: Optional[float] = 5.0


@dataclass(frozen=True)
class Notice:
    """The notice to an instance that its drain begins: one of a signal and a command.

    signal: to the unit's main process. command: %i is the instance's generation.
    """

    signal: Optional[str] = None
    command: Optional[tuple[str, ...]] = None


@dataclass(frozen=True)
class Drain:
    """The begin and the limits of a drain. on_timeout: what follows after max_s.

    stop: the instance is stopped, keep: it continues until the operator stops it,
    fail: it continues, and the restart has failed. max_instances: how many instances may
    live at once, the new one included; None = as many as a group has generations. min_memory:
    how much must be left for the new one, in multiples of what the old one uses; None = any.
    hold_s: how long a drained instance is kept for a rollback.
    """

    until: DrainUntil = DrainUntil()
    max_s: float = 300.0
    on_timeout: OnTimeout = "stop"
    begin: Optional[Notice] = None
    max_instances: Optional[int] = None
    min_memory: Optional[float] = None
    hold_s: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The packets that a restart may cost before it is rolled back; None = any number."""

    misdirected: Optional[int] = None
    dropped: Optional[int] = None


@dataclass(frozen=True)
class Timeouts:
    """The time limits of a restart's steps."""

    start_s: float = 30.0
    enroll_s: float = 10.0
    canary_s: float = 5.0
    verify_s: float = 5.0


@dataclass(frozen=True)
class Service:
    """A service. name: the stem of its file. probes: empty = kernel evidence alone.

    profile: the one that it was completed by. unit_from: the unit of the server's package, of
    which the template is made. unit_settings: directives of [Service] and their values, in the
    place of that unit's.
    instance_shares: its directories that instances share. instance_files: path that the
    server reads, and the jinja2 template of what each instance finds there.
    """

    name: str
    groups: tuple[Group, ...]
    instances: Instances
    enrollment: Enrollment = "socket_api"
    probes: tuple[ProbeSpec, ...] = ()
    drain: Drain = Drain()
    flows_per_generation: int = 65536
    budget: Budget = Budget()
    timeouts: Timeouts = Timeouts()
    profile: Optional[str] = None
    unit_from: Optional[str] = None
    unit_settings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    instance_shares: tuple[InstanceShare, ...] = ()
    instance_files: tuple[tuple[str, str], ...] = ()

    @property
    def has_made_unit(self) -> bool:
        """Return whether `udpgrm service unit` makes its template unit."""
        return bool(self.unit_from or self.unit_settings)

    def reuseport_of(self, group: Group) -> Reuseport:
        """Return whether the server or the hooks set SO_REUSEPORT on sockets of a group."""
        return group.reuseport or ("set" if self.enrollment == "adopted" else "server")

    def shared_addresses(self) -> list[str]:
        """Return the addresses at which the bind hooks set SO_REUSEPORT for its instances."""
        return [group.address for group in self.groups if self.reuseport_of(group) == "set"]

    def probes_of(self, group: Group) -> tuple[ProbeSpec, ...]:
        """Return the probes of a group."""
        return tuple(
            probe
            for probe in self.probes
            if probe.address in (None, group.address) and group.protocol in probe.protocols
        )
