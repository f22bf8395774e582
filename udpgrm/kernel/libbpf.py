# SPDX-License-Identifier: Apache-2.0
"""Maps, programs, links and pins through the distribution's libbpf.

Every function raises OSError with the kernel's errno. File descriptors are
plain ints that the caller closes. Source: bpf(2), libbpf's bpf.h (1.0 ABI).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from udpgrm.kernel.libbpf_types import (
    LinkInfo,
    MapCreateOpts,
    MapInfo,
    ProgInfo,
    ProgLoadOpts,
    TestRunOpts,
    lib,
)

# enum bpf_map_type
MAP_HASH = 1
MAP_ARRAY = 2
MAP_PROG_ARRAY = 3
MAP_PERCPU_ARRAY = 6
MAP_LRU_HASH = 9
MAP_ARRAY_OF_MAPS = 12
MAP_SOCKMAP = 15
MAP_REUSEPORT_SOCKARRAY = 20
MAP_QUEUE = 22
MAP_SK_STORAGE = 24
MAP_RINGBUF = 27

# map flags
F_NO_PREALLOC = 1 << 0
#: Flag of socket storage: an accepted connection gets a copy of its listener's record.
F_CLONE = 1 << 9
F_MMAPABLE = 1 << 10

# update flags
ANY = 0
NOEXIST = 1

# enum bpf_prog_type
PROG_CGROUP_SKB = 8
PROG_CGROUP_SOCK = 9
PROG_CGROUP_SOCK_ADDR = 18
PROG_SK_REUSEPORT = 21
PROG_CGROUP_SOCKOPT = 25
PROG_SCHED_CLS = 3
PROG_TRACING = 26

# enum bpf_attach_type
CGROUP_INET_EGRESS = 1
CGROUP_INET4_BIND = 8
CGROUP_INET6_BIND = 9
CGROUP_INET4_CONNECT = 10
CGROUP_INET6_CONNECT = 11
CGROUP_INET4_POST_BIND = 12
CGROUP_INET6_POST_BIND = 13
CGROUP_UDP4_SENDMSG = 14
CGROUP_UDP6_SENDMSG = 15
CGROUP_GETSOCKOPT = 21
CGROUP_SETSOCKOPT = 22
TRACE_ITER = 28
TRACE_RAW_TP = 23
CGROUP_INET_SOCK_RELEASE = 34
SK_REUSEPORT_SELECT = 39
#: The same, and the kernel runs it for the queue of a closing listener (Linux 5.14).
SK_REUSEPORT_SELECT_OR_MIGRATE = 40

PSEUDO_MAP_FD = 1


class VerifierError(OSError):
    """Raised when the kernel refuses a program; `log` is the verifier's."""

    def __init__(self, error: int, name: str, log: str) -> None:
        """Keep the log beside the errno of the load."""
        lines = [line for line in log.splitlines() if line]
        reason = next((line for line in reversed(lines) if "processed" not in line), "")
        super().__init__(error, f"cannot load {name}: {os.strerror(error)}: {reason}")
        self.log = log


def _check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def cpus() -> int:
    """Return the number of possible CPUs, which is that of values of a per-CPU look-up."""
    return _check(lib.libbpf_num_possible_cpus(), "possible CPUs")


def map_create(
    kind: int,
    name: str,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int = 0,
    inner_fd: int = 0,
    btf: tuple[int, int, int] = (0, 0, 0),
) -> int:
    """Create a map; `btf` is (fd, key type id, value type id). Returns its fd."""
    opts = MapCreateOpts(sz=ctypes.sizeof(MapCreateOpts), map_flags=flags, inner_map_fd=inner_fd)
    opts.btf_fd, opts.btf_key_type_id, opts.btf_value_type_id = btf
    fd = lib.bpf_map_create(
        kind, name.encode(), key_size, value_size, max_entries, ctypes.byref(opts)
    )
    return _check(fd, f"cannot create map {name}")


def map_update(fd: int, key: Optional[bytes], value: bytes, flags: int = ANY) -> None:
    """Set an element; a queue has no key and takes None (it pushes)."""
    _check(lib.bpf_map_update_elem(fd, key, value, flags), "map update")


def map_update_batch(fd: int, items: Mapping[int, int]) -> None:
    """Set elements of a map of 32-bit keys and values in one call.

    Each call that changes a map of maps waits for running programs, for
    milliseconds: worth doing once.
    """
    count = ctypes.c_uint32(len(items))
    keys = (ctypes.c_uint32 * len(items))(*items.keys())
    values = (ctypes.c_uint32 * len(items))(*items.values())
    result = lib.bpf_map_update_batch(fd, keys, values, ctypes.byref(count), None)
    _check(result, "map update")


def map_fill(fd: int, value: bytes, count: int) -> None:
    """Set the first elements of an array to a value, in one call."""
    keys = (ctypes.c_uint32 * count)(*range(count))
    length = ctypes.c_uint32(count)
    result = lib.bpf_map_update_batch(fd, keys, value * count, ctypes.byref(length), None)
    _check(result, "map update")


def map_lookup(fd: int, key: bytes, value_size: int) -> Optional[bytes]:
    """Return the value of a key, or None. Per-CPU maps: the values of all CPUs."""
    value = ctypes.create_string_buffer(value_size)
    result = lib.bpf_map_lookup_elem(fd, key, value)
    if result == -errno.ENOENT:
        return None
    _check(result, "map lookup")
    return value.raw


def map_pop(fd: int, value_size: int) -> Optional[bytes]:
    """Take the first value out of a queue, or return None if it has none."""
    value = ctypes.create_string_buffer(value_size)
    result = lib.bpf_map_lookup_and_delete_elem(fd, None, value)
    if result == -errno.ENOENT:
        return None
    _check(result, "map pop")
    return value.raw


def map_first_missing(fd: int, keys: Sequence[int], value_size: int) -> int:
    """Return the position of the first of these 32-bit keys that a map lacks, else their count.

    A call of its own because it is asked for hundreds of keys at a time.
    """
    lookup, value = lib.bpf_map_lookup_elem, ctypes.create_string_buffer(value_size)
    for position, number in enumerate(keys):
        key = number.to_bytes(4, sys.byteorder)
        if lookup(fd, key, value):
            return position
    return len(keys)


def map_delete(fd: int, key: bytes) -> bool:
    """Delete a key; return False if it was not there."""
    result = lib.bpf_map_delete_elem(fd, key)
    if result == -errno.ENOENT:
        return False
    _check(result, "map delete")
    return True


def map_items(
    fd: int, key_size: int, value_size: int, room: int = 1024
) -> Iterator[tuple[bytes, bytes]]:
    """Yield every (key, value) of a hash, each once however the hash changes meanwhile.

    Read by whole buckets (BPF_MAP_LOOKUP_BATCH): iteration from key to key starts
    over if the present key is deleted. Elements of an array are read as well. room: how
    many are read in a call.
    """
    position = ctypes.create_string_buffer(max(key_size, 4))
    start: Optional[bytes] = None
    while True:
        keys = ctypes.create_string_buffer(room * key_size)
        values = ctypes.create_string_buffer(room * value_size)
        count = ctypes.c_uint32(room)
        result = lib.bpf_map_lookup_batch(
            fd, start, position, keys, values, ctypes.byref(count), None
        )
        if result == -errno.ENOSPC:  # a bucket is larger
            room *= 2
            continue
        if result != -errno.ENOENT:
            _check(result, "map lookup")
        raw_keys, raw_values = keys.raw, values.raw
        for number in range(count.value):
            yield (
                raw_keys[number * key_size : (number + 1) * key_size],
                raw_values[number * value_size : (number + 1) * value_size],
            )
        if result == -errno.ENOENT:
            return
        start = position.raw


def object_info(fd: int, info: ctypes.Structure) -> None:
    """Read what the kernel says of a map, program or link."""
    size = ctypes.c_uint32(ctypes.sizeof(info))
    _check(lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "information")


def map_info(fd: int) -> MapInfo:
    """Return the type, sizes and name of a map."""
    info = MapInfo()
    object_info(fd, info)
    return info


def map_id(fd: int) -> int:
    """Return the kernel's id of a map."""
    return int(map_info(fd).id)


def prog_id(fd: int) -> int:
    """Return the kernel's id of a program."""
    info = ProgInfo()
    object_info(fd, info)
    return int(info.id)


def prog_by_id(number: int) -> int:
    """Return a new fd of the program with this id. Raises FileNotFoundError."""
    return _check(lib.bpf_prog_get_fd_by_id(number), f"program id {number}")


def verified_instructions(fd: int) -> int:
    """Return how many instructions the verifier processed to accept a program."""
    info = ProgInfo()
    object_info(fd, info)
    return int(info.verified_insns)


def link_cgroup(fd: int) -> int:
    """Return the id of the cgroup that a link attaches to; 0: it was removed."""
    info = LinkInfo()
    object_info(fd, info)
    return int(info.cgroup)


def map_by_id(map_id: int) -> int:
    """Return a new fd of the map with this id."""
    return _check(lib.bpf_map_get_fd_by_id(map_id), f"map id {map_id}")


def prog_load(
    kind: int, name: str, code: bytes, attach_type: int = 0, attach_btf_id: int = 0
) -> int:
    """Load instructions (8 bytes each). Raises VerifierError, PermissionError. Returns an fd."""
    opts = ProgLoadOpts(sz=ctypes.sizeof(ProgLoadOpts), expected_attach_type=attach_type)
    opts.attach_btf_id = attach_btf_id
    args = (kind, name.encode()[:15], b"GPL", code, len(code) // 8)
    fd: int = lib.bpf_prog_load(*args, ctypes.byref(opts))
    if fd >= 0:
        return fd
    # a log costs memory and time: only if the load without one has failed
    log = ctypes.create_string_buffer(1 << 20)
    opts.log_level, opts.log_size, opts.log_buf = 1, len(log), ctypes.addressof(log)
    fd = lib.bpf_prog_load(*args, ctypes.byref(opts))
    if fd == -errno.EPERM and not log.value:
        raise PermissionError(errno.EPERM, f"cannot load {name}")
    if fd < 0:
        raise VerifierError(-fd, name, log.value.decode(errors="replace"))
    return fd


def prog_bind_map(prog_fd: int, map_fd: int) -> None:
    """Let a program hold a map that it does not refer to."""
    _check(lib.bpf_prog_bind_map(prog_fd, map_fd, None), "cannot bind a map")


def prog_test_run(fd: int, data: bytes) -> int:
    """Run a program once on a packet; returns its 32-bit result."""
    opts = TestRunOpts(sz=ctypes.sizeof(TestRunOpts), data_in=data, data_size_in=len(data))
    _check(lib.bpf_prog_test_run_opts(fd, ctypes.byref(opts)), "test run")
    return int(opts.retval)


def link_create(prog_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach a program to a cgroup with a link, beside others. Returns an fd."""
    return _check(lib.bpf_link_create(prog_fd, target_fd, attach_type, None), "cannot attach")


def iterator_create(prog_fd: int) -> int:
    """Attach an iterator program; its pin, when read, runs it. Returns an fd."""
    return _check(lib.bpf_link_create(prog_fd, 0, TRACE_ITER, None), "cannot attach an iterator")


def tracepoint_open(prog_fd: int) -> int:
    """Attach a program to the tracepoint that it was loaded for. Returns a link's fd."""
    opened = lib.bpf_raw_tracepoint_open(None, prog_fd)
    return _check(opened, "cannot attach to a tracepoint")


def iterator_run(link_fd: int) -> int:
    """Begin a reading of an iterator in this thread's network namespace. Returns an fd to read."""
    return _check(lib.bpf_iter_create(link_fd), "cannot run an iterator")


def link_update(link_fd: int, prog_fd: int) -> None:
    """Replace a link's program, atomically."""
    _check(lib.bpf_link_update(link_fd, prog_fd, None), "link update")


def link_detach(link_fd: int) -> None:
    """Detach a link now, even if another process holds it."""
    _check(lib.bpf_link_detach(link_fd), "link detach")


def pin(fd: int, path: str) -> None:
    """Pin an object in bpffs."""
    _check(lib.bpf_obj_pin(fd, os.fsencode(path)), f"cannot pin {path}")


def pinned(path: str) -> int:
    """Return an fd of a pinned object."""
    return _check(lib.bpf_obj_get(os.fsencode(path)), f"cannot open {path}")


def has_helper(kind: int, helper: int) -> bool:
    """Return whether programs of this type may call this helper here."""
    return int(lib.libbpf_probe_bpf_helper(kind, helper, None)) == 1
