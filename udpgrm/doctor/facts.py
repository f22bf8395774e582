# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Facts of a host and of its sockets, not evaluated yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from udpgrm.state.second_groups import SecondGroup


@dataclass(frozen=True)
class Group:
    """A live group. alive: living sockets by slot; working: generations by application.

    has_flows: sends make entries in its flow tables.
    failing_loads: positions of the instructions of its filter that no steering program can run.
    foreign_program: what steers it instead of udpgrm's program; empty: nothing that was seen.
    lookup_programs: those of its network namespace that may choose a packet's socket.
    """

    group_id: int
    address: str
    family: int
    netns: int
    ifindex: int
    uid: int
    has_program: bool
    max_apps: int
    working: tuple[int, ...]
    alive: Mapping[int, int]
    second: Optional[SecondGroup] = None
    has_flows: bool = False
    failing_loads: tuple[int, ...] = ()
    foreign_program: str = ""
    lookup_programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreachable:
    """Processes whose sockets could not be read, and why.

    cgroup: theirs if they were not asked for; None: they were, or no process can be read.
    """

    why: str
    cgroup: Optional[str] = None


@dataclass(frozen=True)
class Host:
    """The state in a pin directory, and the hooked cgroups.

    cgroups are paths of hooked cgroups; daemon: its pid, None: none runs; daemon_lacks: why it
    may not duplicate sockets of other processes. unreachable: processes that could not be read.
    unmounted: why there can be no state; empty: there can. outside: SO_COOKIEs of sockets of
    generations that are in no reuseport group of the kernel.
    """

    directory: str
    has_state: bool
    daemon: Optional[int] = None
    cgroups: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    daemon_lacks: str = ""
    unreachable: tuple[Unreachable, ...] = ()
    unmounted: str = ""
    outside: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Socket:
    """A UDP socket that is not connected, with the records of hooks and daemon.

    address None: not bound. hooked: hooks answer its calls. known: the bind hook
    has seen it. deleted: it was in a group that is deleted. group_id: of
    the live group it is in. generation: what it asked for. index: its index
    there; full: it has none as the generation is full. entered: the group's
    socket array has it. ifindex: the device it is bound to, 0: none. cgroup: the
    process's. limits: options and memberships that meet a limit of the kernel.
    locked: it has SO_LOCK_FILTER. option_programs, send_programs: those of others on its cgroup
    that see socket options, and that may change where it sends after udpgrm's hooks.
    """

    pid: int
    fd: int
    cookie: int
    family: int
    address: Optional[str]
    reuseport: bool
    netns: int
    cgroup: str
    ifindex: int = 0
    v6only: bool = False
    hooked: bool = False
    known: bool = False
    uid: int = 0
    deleted: bool = False
    group_id: Optional[int] = None
    application: int = 0
    generation: Optional[int] = None
    index: Optional[int] = None
    full: bool = False
    entered: bool = True
    limits: frozenset[str] = frozenset()
    locked: bool = False
    option_programs: tuple[str, ...] = ()
    send_programs: tuple[str, ...] = ()


class Code(str, Enum):
    """The code of a finding, for programs: docs/doctor.md explains each."""

    NOT_BOUND = "not_bound"
    NO_REUSEPORT = "no_reuseport"
    NO_STATE = "no_state"
    NO_HOOKS = "no_hooks"
    MADE_OUTSIDE = "made_outside"
    BOUND_BEFORE_HOOKS = "bound_before_hooks"
    GROUP_DELETED = "group_deleted"
    OTHER_NAMESPACE = "other_namespace"
    OTHER_OWNER = "other_owner"
    NOT_REGISTERED = "not_registered"
    GENERATION_FULL = "generation_full"
    DAEMON_DOWN = "daemon_down"
    WAITING = "waiting"
    DAEMON_LACKS_RIGHT = "daemon_lacks_right"
    FILTER_LOCKED = "filter_locked"
    NOT_IN_GROUP = "not_in_group"
    NO_PROGRAM = "no_program"
    FOREIGN_PROGRAM = "foreign_program"
    TWO_KERNEL_GROUPS = "two_kernel_groups"
    SECOND_KERNEL_GROUP = "second_kernel_group"
    HOOKS_REMOVED = "hooks_removed"
    WORKING_GENERATION_EMPTY = "working_generation_empty"
    DRAINING = "draining"
    NOT_PROMOTED = "not_promoted"
    TWO_GROUPS = "two_groups"
    SHADOWED = "shadowed"
    LIMIT_FILTER = "limit_filter"
    LIMIT_GRO = "limit_gro"
    LIMIT_TRANSPARENT = "limit_transparent"
    LIMIT_MULTICAST = "limit_multicast"
    LIMIT_BROADCAST = "limit_broadcast"
    LIMIT_ERRORS = "limit_errors"
    LIMIT_TUNNEL = "limit_tunnel"
    LIMIT_LOOKUP = "limit_lookup"
    LIMIT_SENDS = "limit_sends"
    NO_HOOKED_CGROUP = "no_hooked_cgroup"
    UNREACHABLE = "unreachable"
    NO_SOCKETS = "no_sockets"
    REUSEPORT_BY_HOOK = "reuseport_by_hook"
    RESTART_LOSES = "restart_loses"


@dataclass(frozen=True)
class Finding:
    """A finding: what it is, why, and what to do.

    A problem is something to do; a note is good to know.
    """

    code: Code
    what: str
    why: str
    do: str
    problem: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """A socket, whether packets are steered to it, and its findings."""

    socket: Socket
    steered: bool
    findings: list[Finding] = field(default_factory=list)
