# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The maps: their names, the programs' names for them, and how each is made."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional, Union

from udpgrm import abi
from udpgrm.abi import Relocation
from udpgrm.kernel import btf, libbpf

#: Ids of flow tables, of all groups together; 0 is no table.
MAX_TABLES = 4096
#: Bytes of each ring buffer, root's and the other users'; root's is served first.
MESSAGE_BYTES = 1 << 18
RINGS = ("root_messages", "messages")
#: The ring buffer has room for about 4,600 (48 bytes and a header of 8).
MESSAGES_PER_USER = 1000
#: Messages deferred, as a program is compiled or a socket looked for: by socket cookie and flags.
DEFERRED_KEY_BYTES = 12
MAX_DEFERRED = 8192
#: Arrays of maps by group id; inner_ids has their ids in this order, after the tables'.
BY_GROUP = ("slots", "sockets", "counters", "sockmaps")
#: Steering programs are called by this and their group's id.
STEERING_PREFIX = "udpgrm_"
#: Room in the map of all entries, and what one user may have, per group.
ENTRIES_PER_GROUP = 256
#: sizeof(struct quic_tables), sizeof(struct quic_scratch) of bpf/dissectors/bespoke/scratch.h.
QUIC_TABLES_BYTES = 9528
QUIC_SCRATCH_BYTES = 13656
#: The key of SipHash, bpf/crypto/siphash.h.
HASH_KEY_BYTES = 16
_QUIC_STAGES = 4
_MAX_POLICIES = 1024
_MAX_PROBES = 1024
_MAX_ADOPTED = 4096
#: The directory of an adopted cgroup, NUL-padded.
ADOPTED_PATH_BYTES = 512
_MAX_ENROLLED = 65536
#: Generations with connected sockets in one reading, of all readers at a time.
_MAX_CONNECTED = 4096
_MAX_UNITS = 1024
_MAX_SERVICE_CGROUPS = 4096
_MAX_SHARED = 16384
_MIN_LINE_BITS = 14


class Limits(NamedTuple):
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
    """The configuration of the daemon that made the maps, for the processes that open them."""

    _fields_ = [
        ("layout", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("hz", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
    ]


#: Makes a map of these sizes, with this name unless it has one of its own; returns an fd.
_Make = Callable[[Limits, str], int]
_Struct = type[ctypes.Structure]
_Entries = Union[int, Callable[[Limits], int]]


class _Map(NamedTuple):
    make: _Make
    relocation: Optional[Relocation] = None


def make_flow_table(entries: int) -> int:
    """Make a generation's flow table. Returns an fd."""
    key, value = ctypes.sizeof(abi.FlowKey), ctypes.sizeof(abi.Flow)
    return libbpf.map_create(libbpf.MAP_LRU_HASH, "udpgrm_flows", key, value, entries)


def make_slots() -> int:
    """Make the map of a group's generations. Returns an fd."""
    value = ctypes.sizeof(abi.Slot)
    return libbpf.map_create(libbpf.MAP_ARRAY, "udpgrm_slots", 4, value, abi.GENERATION_SLOTS)


def make_sockets() -> int:
    """Make the map of a group's sockets by array entry. Returns an fd."""
    return libbpf.map_create(
        libbpf.MAP_REUSEPORT_SOCKARRAY, "udpgrm_socks", 4, 8, abi.GROUP_ENTRIES
    )


def make_sockmap() -> int:
    """Make the map of a group's sockets that are registered with tubular too. Returns an fd.

    Tubular keeps them in a SOCKMAP, and the kernel refuses a socket of a SOCKMAP in a
    REUSEPORT_SOCKARRAY.
    """
    return libbpf.map_create(libbpf.MAP_SOCKMAP, "udpgrm_sockmap", 4, 8, abi.GROUP_ENTRIES)


def make_counters() -> int:
    """Make the map of a group's counters. Returns an fd."""
    value = ctypes.sizeof(abi.Counters)
    return libbpf.map_create(libbpf.MAP_PERCPU_ARRAY, "udpgrm_counters", 4, value, 1)


def _bytes(part: Union[int, _Struct]) -> int:
    return part if isinstance(part, int) else ctypes.sizeof(part)


def _plain(
    kind: int,
    name: str,
    key: Union[int, _Struct],
    value: Union[int, _Struct],
    entries: _Entries,
    flags: int = 0,
) -> _Make:
    def make(limits: Limits, groups_map: str) -> int:
        count = entries if isinstance(entries, int) else entries(limits)
        return libbpf.map_create(kind, name or groups_map, _bytes(key), _bytes(value), count, flags)

    return make


def _array(name: str, value: Union[int, _Struct], entries: _Entries, flags: int = 0) -> _Make:
    return _plain(libbpf.MAP_ARRAY, name, 4, value, entries, flags)


def _hash(
    name: str, key: Union[int, _Struct], value: Union[int, _Struct], entries: _Entries
) -> _Make:
    """Return the maker of a hash whose entries take memory only while they exist."""
    return _plain(libbpf.MAP_HASH, name, key, value, entries, libbpf.F_NO_PREALLOC)


def _outer(name: str, entries: _Entries, inner: Callable[[Limits], int]) -> _Make:
    """Return the maker of an array of maps that are like `inner`."""

    def make(limits: Limits, _: str) -> int:
        count = entries if isinstance(entries, int) else entries(limits)
        fd = inner(limits)
        try:
            return libbpf.map_create(libbpf.MAP_ARRAY_OF_MAPS, name, 4, 4, count, inner_fd=fd)
        finally:
            os.close(fd)

    return make


def _storage(name: str, kind: _Struct, flags: int = 0) -> _Make:
    """Return the maker of a map of records that belong to sockets."""

    def make(_: Limits, __: str) -> int:
        size = ctypes.sizeof(kind)
        types = btf.storage_type(size)
        try:
            return libbpf.map_create(
                libbpf.MAP_SK_STORAGE, name, 4, size, 0, libbpf.F_NO_PREALLOC | flags, btf=types
            )
        finally:
            os.close(types[0])

    return make


def _groups(limits: Limits) -> int:
    return limits.groups


def _lines(limits: Limits) -> int:
    """Return the number of lines, a power of two: a full table's flows are in most of them."""
    return 1 << max(_MIN_LINE_BITS, (limits.flows // 4 - 1).bit_length())


#: The maps by the name of the pin. config comes first: it describes the others.
MAPS = {
    "config": _Map(_array("udpgrm_config", Config, 1)),
    "socket_request": _Map(
        _storage("udpgrm_request", abi.SocketRequest), Relocation.SOCKET_REQUEST
    ),
    "registrations": _Map(_storage("udpgrm_place", abi.Registration), Relocation.REGISTRATIONS),
    "accepted": _Map(
        _storage("udpgrm_accepted", abi.Membership, libbpf.F_CLONE), Relocation.ACCEPTED
    ),
    "group_index": _Map(
        _plain(libbpf.MAP_HASH, "udpgrm_index", abi.GroupKey, 4, _groups),
        Relocation.GROUP_INDEX,
    ),
    # a byte for each port: whether it ever had a group
    "ports": _Map(_array("udpgrm_ports", abi.PORTS, 1), Relocation.PORTS),
    "groups": _Map(_array("", abi.Group, _groups, libbpf.F_MMAPABLE), Relocation.GROUPS),
    "dissectors": _Map(_array("udpgrm_dissect", abi.Dissector, _groups), Relocation.DISSECTORS),
    # the key of hashes of packets' contents, which no other process knows
    "hash_key": _Map(_array("udpgrm_hashkey", HASH_KEY_BYTES, 1)),
    "free_groups": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_freegrp", 0, 4, _groups), Relocation.FREE_GROUPS
    ),
    "free_tables": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_freetbl", 0, 4, MAX_TABLES), Relocation.FREE_TABLES
    ),
    "table_index": _Map(
        _hash("udpgrm_tables", abi.TableKey, 4, MAX_TABLES), Relocation.TABLE_INDEX
    ),
    "inner_ids": _Map(
        _array(
            "udpgrm_innerids",
            4,
            lambda limits: MAX_TABLES + len(BY_GROUP) * limits.groups,
            libbpf.F_MMAPABLE,
        )
    ),
    "flow_tables": _Map(
        _outer("udpgrm_flowtbls", MAX_TABLES, lambda limits: make_flow_table(limits.flows)),
        Relocation.FLOW_TABLES,
    ),
    # mapped: at the begin of a page, or a line would be in two cache lines
    "lines": _Map(_array("udpgrm_lines", abi.Line, _lines, libbpf.F_MMAPABLE), Relocation.LINES),
    "slots": _Map(_outer("udpgrm_slotss", _groups, lambda _: make_slots()), Relocation.SLOTS),
    "sockets": _Map(
        _outer("udpgrm_sockets", _groups, lambda _: make_sockets()), Relocation.SOCKETS
    ),
    "sockmaps": _Map(
        _outer("udpgrm_sockmaps", _groups, lambda _: make_sockmap()), Relocation.SOCKMAPS
    ),
    "counters": _Map(
        _outer("udpgrm_countss", _groups, lambda _: make_counters()), Relocation.COUNTERS
    ),
    "entries": _Map(
        _hash("udpgrm_entries", 8, abi.EntryRef, lambda limits: limits.groups * ENTRIES_PER_GROUP),
        Relocation.ENTRIES,
    ),
    # allocated as a whole: a message can still be deferred when memory is short
    "deferred": _Map(
        _plain(libbpf.MAP_HASH, "udpgrm_deferred", DEFERRED_KEY_BYTES, abi.Message, MAX_DEFERRED)
    ),
    "policies": _Map(
        _hash("udpgrm_policies", abi.GroupKey, abi.Policy, _MAX_POLICIES), Relocation.POLICIES
    ),
    "users": _Map(_array("udpgrm_users", abi.User, abi.USERS, libbpf.F_MMAPABLE), Relocation.USERS),
    "probes": _Map(_hash("udpgrm_probes", abi.ProbeKey, abi.Probe, _MAX_PROBES), Relocation.PROBES),
    "adopted": _Map(
        _hash("udpgrm_adopted", abi.AdoptedKey, abi.Adopted, _MAX_ADOPTED), Relocation.ADOPTED
    ),
    "adopted_paths": _Map(
        _hash("udpgrm_adpaths", abi.AdoptedKey, ADOPTED_PATH_BYTES, _MAX_ADOPTED)
    ),
    "enrolled": _Map(
        _hash("udpgrm_enrolled", abi.AdoptedKey, abi.Adopted, _MAX_ENROLLED), Relocation.ENROLLED
    ),
    "enrolled_counts": _Map(
        _array("udpgrm_enrcount", abi.EnrolledCount, abi.USERS, libbpf.F_MMAPABLE),
        Relocation.ENROLLED_COUNTS,
    ),
    "service_units": _Map(
        _hash("udpgrm_units", abi.UnitKey, 8, _MAX_UNITS), Relocation.SERVICE_UNITS
    ),
    "service_cgroups": _Map(
        _plain(libbpf.MAP_HASH, "udpgrm_ucgroups", 8, 8, _MAX_SERVICE_CGROUPS),
        Relocation.SERVICE_CGROUPS,
    ),
    "shared_addresses": _Map(
        _hash("udpgrm_shared", abi.SharedKey, 4, _MAX_SHARED), Relocation.SHARED_ADDRESSES
    ),
    "connected": _Map(
        _plain(libbpf.MAP_LRU_HASH, "udpgrm_connectd", abi.ConnectedKey, 8, _MAX_CONNECTED),
        Relocation.CONNECTED,
    ),
    "quic_stages": _Map(
        _plain(libbpf.MAP_PROG_ARRAY, "udpgrm_qstages", 4, 4, _QUIC_STAGES), Relocation.QUIC_STAGES
    ),
    "quic_scratch": _Map(
        _plain(libbpf.MAP_PERCPU_ARRAY, "udpgrm_qscratch", 4, QUIC_SCRATCH_BYTES, 1),
        Relocation.QUIC_SCRATCH,
    ),
    "quic_tables": _Map(_array("udpgrm_qtables", QUIC_TABLES_BYTES, 1), Relocation.QUIC_TABLES),
    "steer_stages": _Map(
        _plain(libbpf.MAP_PROG_ARRAY, "udpgrm_stages", 4, 4, len(abi.SteerStage)),
        Relocation.STEER_STAGES,
    ),
    # for TCP groups: the kernel wants programs of one attach type in an array
    "tcp_stages": _Map(_plain(libbpf.MAP_PROG_ARRAY, "udpgrm_tstages", 4, 4, len(abi.SteerStage))),
    "steer_scratch": _Map(
        _plain(libbpf.MAP_PERCPU_ARRAY, "udpgrm_scratch", 4, abi.SteerScratch, 1),
        Relocation.STEER_SCRATCH,
    ),
    "root_groups": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_rootgrp", 0, 4, _groups), Relocation.ROOT_GROUPS
    ),
    "spare_groups": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_sparegrp", 0, 4, _groups), Relocation.SPARE_GROUPS
    ),
    "root_spares": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_rootspr", 0, 4, _groups), Relocation.ROOT_SPARES
    ),
    "root_tables": _Map(
        _plain(libbpf.MAP_QUEUE, "udpgrm_roottbl", 0, 4, MAX_TABLES), Relocation.ROOT_TABLES
    ),
    "root_messages": _Map(
        _plain(libbpf.MAP_RINGBUF, "udpgrm_rootmsg", 0, 0, MESSAGE_BYTES), Relocation.ROOT_MESSAGES
    ),
    "messages": _Map(
        _plain(libbpf.MAP_RINGBUF, "udpgrm_messages", 0, 0, MESSAGE_BYTES), Relocation.MESSAGES
    ),
}

#: Maps that programs refer to, by the programs' names for them.
RELOCATIONS = {
    entry.relocation: name for name, entry in MAPS.items() if entry.relocation is not None
}


def groups_name(directory: Path) -> str:
    """Return the name of the map of groups, by which maps without pins are recognised.

    It encodes the directory and its bpf file system: directories of containers have equal paths.
    """
    above = os.stat(directory.absolute().parent)
    identity = f"{above.st_dev}/{above.st_ino}/{directory.name}"
    return f"udpgrm_{zlib.crc32(os.fsencode(identity)):08x}"
