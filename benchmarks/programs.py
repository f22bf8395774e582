# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The kernel's figures of BPF programs and maps: run times, memory, and their owners."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

from udpgrm.kernel import libbpf
from udpgrm.kernel.libbpf_types import TestRunOpts, lib

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_lib.bpf_obj_get_info_by_fd.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

_STATS_RUN_TIME = 0
# r0 = 1; exit: SK_PASS of sk_reuseport, "continue" of the cgroup types
_EMPTY = bytes.fromhex("b7000000010000009500000000000000")


class _Info(ctypes.Structure):
    """struct bpf_prog_info of bpf.h as far as run_cnt; what is not read here is padding."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("head", ctypes.c_uint32 * 11),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("middle", ctypes.c_uint64 * 16),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
    ]


def _info(fd: int, map_ids: int = 0) -> tuple[_Info, list[int]]:
    ids = (ctypes.c_uint32 * max(map_ids, 1))()
    info = _Info(nr_map_ids=map_ids, map_ids=ctypes.addressof(ids) if map_ids else 0)
    size = ctypes.c_uint32(ctypes.sizeof(info))
    if _lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)):
        raise OSError(ctypes.get_errno(), "program info")
    return info, list(ids)[: info.nr_map_ids]


@contextlib.contextmanager
def run_statistics() -> Iterator[None]:
    """Have the kernel time every run of every program while the with block lasts."""
    fd = _lib.bpf_enable_stats(_STATS_RUN_TIME)
    if fd < 0:
        raise OSError(-fd, f"cannot enable run statistics: {os.strerror(-fd)}")
    try:
        yield
    finally:
        os.close(fd)


def run_time(fd: int) -> tuple[int, int]:
    """Return (nanoseconds, runs) of a program while statistics were on."""
    info, _ = _info(fd)
    return info.run_time_ns, info.run_cnt


def empty(kind: int, attach_type: int) -> int:
    """Load a program that does nothing. Returns an fd."""
    return libbpf.prog_load(kind, "udpgrm_empty", _EMPTY, attach_type)


def run_repeatedly(fd: int, data: bytes, runs: int) -> tuple[float, int]:
    """Run a program on a packet; returns (mean nanoseconds, the last result)."""
    opts = TestRunOpts(
        sz=ctypes.sizeof(TestRunOpts), data_in=data, data_size_in=len(data), repeat=runs
    )
    error = lib.bpf_prog_test_run_opts(fd, ctypes.byref(opts))
    if error:
        raise OSError(-error, f"test run: {os.strerror(-error)}")
    return float(opts.duration), int(opts.retval)


def using_map(kind: int, map_id: int) -> int:
    """Open the newest program of a type that refers to a map. Returns an fd."""
    found, number = -1, ctypes.c_uint32(0)
    while _lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        fd = _lib.bpf_prog_get_fd_by_id(number)
        if fd < 0:
            continue  # unloaded meanwhile
        head, _ = _info(fd)
        ids = _info(fd, head.nr_map_ids)[1] if head.type == kind and head.nr_map_ids else []
        if map_id in ids:
            if found >= 0:
                os.close(found)
            found = fd
        else:
            os.close(fd)
    if found < 0:
        raise LookupError(f"no program uses map {map_id}")
    return found


def memory(fd: int) -> int:
    """Return the bytes that the kernel accounts for a map or a program."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    found = re.search(r"^memlock:\s+(\d+)", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])
