# SPDX-License-Identifier: Apache-2.0
"""The maps that hold all state: made once, pinned, opened by everyone else.

What belongs to one group (its sockets, slots and counters) and to one
generation (its flow table) are maps inside of arrays of maps, under the
group's id and the table's. Such an inner map lives as long as the array holds
it, so a daemon that is killed leaves nothing to find again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from udpgrm import abi
from udpgrm.abi import Relocation
from udpgrm.kernel import btf, libbpf

#: Ids of flow tables, of all groups together; 0 is no table.
MAX_TABLES = 4096
MESSAGE_BYTES = 1 << 18
#: Of about 4,600 that the ring buffer has room for (48 bytes and a header of 8).
MESSAGES_PER_USER = 1000
_SEATS_PER_GROUP = 256
#: Messages that wait for a compiler: by socket cookie and flags.
DEFERRED_KEY_BYTES = 12
#: Arrays of maps by group id; inner_ids has their ids in this order, after the tables'.
_OUTER = ("slots", "sockets", "counters", "sockmaps")
MAX_DEFERRED = 8192
#: Steering programs are called by this and their group's id.
STEERING_PREFIX = "udpgrm_"
MAX_POLICIES = 1024
MAX_PROBES = 1024
MAX_ADOPTED = 4096
#: sizeof(struct quic_tables), sizeof(struct quic_scratch) of bpf/dissectors/bespoke/scratch.h.
QUIC_TABLES_BYTES = 9528
QUIC_SCRATCH_BYTES = 13656
_QUIC_STAGES = 4


class StateError(Exception):
    """The pinned state cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """Sizes, from the configuration.

    groups: how many groups there can be. flows: entries of a generation's flow
    table. prepared_groups, prepared_tables: how many are kept ready for hooks.
    groups_per_user, tables_per_user: what one unprivileged user may have.
    """

    groups: int = 512
    flows: int = 65536
    prepared_groups: int = 128
    prepared_tables: int = 4
    groups_per_user: int = 64
    tables_per_user: int = 128


class Config(ctypes.Structure):
    """What the daemon that made the maps says to those who open them."""

    _fields_ = [
        ("layout", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("hz", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
    ]


def _size(kind: type[ctypes.Structure]) -> int:
    return ctypes.sizeof(kind)


def make_flow_table(entries: int) -> int:
    """A generation's flow table. Returns an fd."""
    return libbpf.map_create(
        libbpf.MAP_LRU_HASH, "udpgrm_flows", _size(abi.FlowKey), _size(abi.Flow), entries
    )


def make_slots() -> int:
    """A group's generations. Returns an fd."""
    return libbpf.map_create(
        libbpf.MAP_ARRAY, "udpgrm_slots", 4, _size(abi.Slot), abi.GENERATION_SLOTS
    )


def make_sockets() -> int:
    """A group's sockets by seat. Returns an fd."""
    return libbpf.map_create(libbpf.MAP_REUSEPORT_SOCKARRAY, "udpgrm_socks", 4, 8, abi.GROUP_SEATS)


def make_sockmap() -> int:
    """The same for a group whose sockets go on to tubular. Returns an fd.

    Tubular keeps them in a SOCKMAP, and the kernel wants a socket in no
    REUSEPORT_SOCKARRAY then.
    """
    return libbpf.map_create(libbpf.MAP_SOCKMAP, "udpgrm_sockmap", 4, 8, abi.GROUP_SEATS)


def make_counters() -> int:
    """A group's counters. Returns an fd."""
    return libbpf.map_create(libbpf.MAP_PERCPU_ARRAY, "udpgrm_counters", 4, _size(abi.Counters), 1)


def _make_outer(name: str, entries: int, inner: int) -> int:
    try:
        return libbpf.map_create(libbpf.MAP_ARRAY_OF_MAPS, name, 4, 4, entries, inner_fd=inner)
    finally:
        os.close(inner)


def _make_storage(name: str, kind: type[ctypes.Structure]) -> int:
    types = btf.storage_type(_size(kind))
    try:
        return libbpf.map_create(
            libbpf.MAP_SK_STORAGE, name, 4, _size(kind), 0, libbpf.F_NO_PREALLOC, btf=types
        )
    finally:
        os.close(types[0])


def groups_name(directory: Path) -> str:
    """What the map of groups is called: by it maps that outlive their pins are known."""
    return f"udpgrm_{zlib.crc32(str(directory.resolve()).encode()):08x}"


def _make_all(limits: Limits, groups_map: str) -> Iterator[tuple[str, int]]:
    kinds = libbpf
    yield (
        "config",
        libbpf.map_create(kinds.MAP_ARRAY, "udpgrm_config", 4, _size(Config), 1),
    )
    yield "socket_request", _make_storage("udpgrm_request", abi.SocketRequest)
    yield "socket_place", _make_storage("udpgrm_place", abi.SocketPlace)
    yield (
        "group_index",
        libbpf.map_create(kinds.MAP_HASH, "udpgrm_index", _size(abi.GroupKey), 4, limits.groups),
    )
    yield (
        "groups",
        libbpf.map_create(
            kinds.MAP_ARRAY,
            groups_map,
            4,
            _size(abi.Group),
            limits.groups,
            libbpf.F_MMAPABLE,
        ),
    )
    yield (
        "dissectors",
        libbpf.map_create(
            kinds.MAP_ARRAY, "udpgrm_dissect", 4, _size(abi.Dissector), limits.groups
        ),
    )
    yield (
        "free_groups",
        libbpf.map_create(kinds.MAP_QUEUE, "udpgrm_freegrp", 0, 4, limits.groups),
    )
    yield (
        "free_tables",
        libbpf.map_create(kinds.MAP_QUEUE, "udpgrm_freetbl", 0, 4, MAX_TABLES),
    )
    yield (
        "table_index",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_tables",
            _size(abi.TableKey),
            4,
            MAX_TABLES,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "inner_ids",
        libbpf.map_create(
            kinds.MAP_ARRAY,
            "udpgrm_innerids",
            4,
            4,
            MAX_TABLES + len(_OUTER) * limits.groups,
            libbpf.F_MMAPABLE,
        ),
    )
    yield "flow_tables", _make_outer("udpgrm_flowtbls", MAX_TABLES, make_flow_table(limits.flows))
    yield "slots", _make_outer("udpgrm_slotss", limits.groups, make_slots())
    yield "sockets", _make_outer("udpgrm_sockets", limits.groups, make_sockets())
    yield "sockmaps", _make_outer("udpgrm_sockmaps", limits.groups, make_sockmap())
    yield "counters", _make_outer("udpgrm_countss", limits.groups, make_counters())
    yield (
        "seats",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_seats",
            8,
            _size(abi.SeatRef),
            limits.groups * _SEATS_PER_GROUP,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "deferred",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_deferred",
            DEFERRED_KEY_BYTES,
            _size(abi.Message),
            MAX_DEFERRED,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "policies",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_policies",
            _size(abi.GroupKey),
            _size(abi.Policy),
            MAX_POLICIES,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "users",
        libbpf.map_create(
            kinds.MAP_ARRAY, "udpgrm_users", 4, _size(abi.User), abi.USERS, libbpf.F_MMAPABLE
        ),
    )
    yield (
        "probes",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_probes",
            _size(abi.ProbeKey),
            _size(abi.Probe),
            MAX_PROBES,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "adopted",
        libbpf.map_create(
            kinds.MAP_HASH,
            "udpgrm_adopted",
            _size(abi.AdoptedKey),
            _size(abi.Adopted),
            MAX_ADOPTED,
            libbpf.F_NO_PREALLOC,
        ),
    )
    yield (
        "quic_stages",
        libbpf.map_create(kinds.MAP_PROG_ARRAY, "udpgrm_stages", 4, 4, _QUIC_STAGES),
    )
    yield (
        "quic_scratch",
        libbpf.map_create(kinds.MAP_PERCPU_ARRAY, "udpgrm_scratch", 4, QUIC_SCRATCH_BYTES, 1),
    )
    yield (
        "quic_tables",
        libbpf.map_create(kinds.MAP_ARRAY, "udpgrm_qtables", 4, QUIC_TABLES_BYTES, 1),
    )
    yield (
        "messages",
        libbpf.map_create(kinds.MAP_RINGBUF, "udpgrm_messages", 0, 0, MESSAGE_BYTES),
    )


NAMES = (
    "config",
    "socket_request",
    "socket_place",
    "group_index",
    "groups",
    "dissectors",
    "free_groups",
    "free_tables",
    "table_index",
    "inner_ids",
    "flow_tables",
    "slots",
    "sockets",
    "sockmaps",
    "counters",
    "seats",
    "deferred",
    "policies",
    "users",
    "probes",
    "adopted",
    "quic_stages",
    "quic_scratch",
    "quic_tables",
    "messages",
)

#: Maps that programs refer to, by what they call them.
RELOCATIONS = {
    Relocation.SOCKET_REQUEST: "socket_request",
    Relocation.SOCKET_PLACE: "socket_place",
    Relocation.GROUP_INDEX: "group_index",
    Relocation.GROUPS: "groups",
    Relocation.DISSECTORS: "dissectors",
    Relocation.FREE_GROUPS: "free_groups",
    Relocation.FREE_TABLES: "free_tables",
    Relocation.TABLE_INDEX: "table_index",
    Relocation.FLOW_TABLES: "flow_tables",
    Relocation.COUNTERS: "counters",
    Relocation.SEATS: "seats",
    Relocation.MESSAGES: "messages",
    Relocation.POLICIES: "policies",
    Relocation.USERS: "users",
    Relocation.PROBES: "probes",
    Relocation.ADOPTED: "adopted",
    Relocation.SLOTS: "slots",
    Relocation.SOCKETS: "sockets",
    Relocation.SOCKMAPS: "sockmaps",
    Relocation.QUIC_STAGES: "quic_stages",
    Relocation.QUIC_SCRATCH: "quic_scratch",
    Relocation.QUIC_TABLES: "quic_tables",
}


def index(number: int) -> bytes:
    """The key of an array's element."""
    return number.to_bytes(4, sys.byteorder)


class Maps:
    """Open file descriptors of the pinned maps, by name."""

    def __init__(self, fds: dict[str, int]) -> None:
        """Take over the descriptors; `close` closes them."""
        self.fds = fds
        self._mapped: dict[str, mmap.mmap] = {}

    def __getitem__(self, name: str) -> int:
        """The fd of a map."""
        return self.fds[name]

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}

    @property
    def config(self) -> Config:
        """A copy of the configuration record."""
        data = libbpf.map_lookup(self["config"], index(0), _size(Config))
        assert data is not None
        return Config.from_buffer_copy(data)

    def write_config(self, config: Config) -> None:
        """Replace the configuration record."""
        libbpf.map_update(self["config"], index(0), bytes(config))

    def group(self, number: int) -> abi.Group:
        """The group record itself: reads and writes go to the kernel's memory."""
        memory = self._memory("groups", self._groups * _size(abi.Group))
        return abi.Group.from_buffer(memory, number * _size(abi.Group))

    def user(self, number: int) -> abi.User:
        """What one user has in use: the record itself."""
        memory = self._memory("users", abi.USERS * _size(abi.User))
        return abi.User.from_buffer(memory, number * _size(abi.User))

    def socket_map(self, number: int) -> str:
        """Which of the maps of maps holds a group's sockets."""
        return "sockmaps" if self.has_inner("sockmaps", number) else "sockets"

    @functools.cached_property
    def _groups(self) -> int:
        return int(self.config.groups)

    def _memory(self, name: str, length: int) -> mmap.mmap:
        """An array's elements in the kernel's memory."""
        if name not in self._mapped:
            page = mmap.PAGESIZE
            self._mapped[name] = mmap.mmap(self[name], (length + page - 1) // page * page)
        return self._mapped[name]

    def dissector(self, number: int) -> abi.Dissector:
        """A copy of a group's dissector."""
        data = libbpf.map_lookup(self["dissectors"], index(number), _size(abi.Dissector))
        assert data is not None
        return abi.Dissector.from_buffer_copy(data)

    def _inner_id(self, outer: str, number: int) -> ctypes.c_uint32:
        """Where the id of an inner map is noted; 0: there is none.

        Noted, because asking a map of maps waits for all running programs, for
        milliseconds, on kernel 6.1 (no more on 6.18).
        """
        position = number
        if outer != "flow_tables":
            position += MAX_TABLES + _OUTER.index(outer) * self._groups
        memory = self._memory("inner_ids", 4 * (MAX_TABLES + len(_OUTER) * self._groups))
        return ctypes.c_uint32.from_buffer(memory, 4 * position)

    def has_inner(self, outer: str, number: int) -> bool:
        """Whether a map of maps has a map there."""
        return self._inner_id(outer, number).value != 0

    def put_inner(self, outer: str, fds: Mapping[int, int]) -> None:
        """Put maps, by their fds, into a map of maps, in the place of those there."""
        libbpf.map_update_batch(self[outer], fds)
        for number, fd in fds.items():
            self._inner_id(outer, number).value = libbpf.map_id(fd)

    def drop_inner(self, outer: str, number: int) -> None:
        """Take a map out of a map of maps; it goes when nobody uses it any more."""
        self._inner_id(outer, number).value = 0
        libbpf.map_delete(self[outer], index(number))

    @contextlib.contextmanager
    def inner(self, outer: str, number: int) -> Iterator[Optional[int]]:
        """An fd of an inner map for the length of a with block; None: empty."""
        identity = self._inner_id(outer, number).value
        fd = None
        if identity:
            with contextlib.suppress(FileNotFoundError):  # replaced just now
                fd = libbpf.map_by_id(identity)
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)


def make(limits: Limits, hz: int, groups_map: str = "udpgrm_groups") -> Maps:
    """Make every map, all or none. `hz` is the kernel's jiffies per second."""
    fds: dict[str, int] = {}
    maps = Maps(fds)
    try:
        for name, fd in _make_all(limits, groups_map):
            fds[name] = fd
        maps.write_config(Config(layout=abi.LAYOUT, groups=limits.groups, hz=hz))
    except OSError:
        maps.close()
        raise
    return maps


def create(directory: Path, limits: Limits, hz: int) -> Maps:
    """Make and pin every map, all or none."""
    maps = make(limits, hz, groups_name(directory))
    try:
        for name in reversed(NAMES):  # config last: with it the state is whole
            libbpf.pin(maps[name], str(directory / name))
    except OSError:
        unpin(directory)
        maps.close()
        raise
    return maps


def open_pinned(directory: Path) -> Maps:
    """The maps of a running or earlier daemon.

    Raises FileNotFoundError when there are none, StateError when they are
    another version's.
    """
    fds = {"config": libbpf.pinned(str(directory / "config"))}
    maps = Maps(fds)
    try:
        found = maps.config.layout
        if found != abi.LAYOUT:
            raise StateError(
                f"the maps in {directory} have layout {found}, this version knows {abi.LAYOUT}: "
                "run the version that made them, or remove the directory (flows will move)"
            )
        for name in NAMES[1:]:
            fds[name] = libbpf.pinned(str(directory / name))
    except FileNotFoundError as error:
        maps.close()
        raise StateError(f"{directory} lacks a map: {error}; remove the directory") from error
    except (OSError, StateError):
        maps.close()
        raise
    return maps


def unpin(directory: Path) -> None:
    """Remove the pins of all maps; programs that use the maps keep them."""
    for name in NAMES:
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()


def flows_in(table: int) -> Iterator[abi.Flow]:
    """The entries of a flow table, by its fd."""
    for _, value in libbpf.map_items(table, _size(abi.FlowKey), _size(abi.Flow)):
        yield abi.Flow.from_buffer_copy(value)


def forget(maps: Maps, number: int) -> None:
    """Delete a group: its sockets are in none until they ask again.

    The daemon takes its maps back when it next looks.
    """
    group = maps.group(number)
    libbpf.map_delete(maps["group_index"], bytes(group.key))
    group.state = abi.GroupState.DELETED
    with maps.inner(maps.socket_map(number), number) as fd:
        # a socket that is still here could not take a seat in its next group
        if fd is not None:
            for seat in range(min(group.next_seat, abi.GROUP_SEATS)):
                libbpf.map_delete(fd, index(seat))


def lock(directory: Path, shared: bool = False) -> Optional[int]:
    """The daemon's lock on its pin directory; None: another daemon has it.

    Held as long as the returned fd is open, so it ends with its process.
    `shared` is for those who only ask whether a daemon runs.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return fd
