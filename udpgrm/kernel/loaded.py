# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The programs that the kernel has."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

from udpgrm.kernel import libbpf
from udpgrm.kernel.libbpf_types import ProgInfo, lib


def programs_of_type(kind: int) -> Iterator[tuple[str, list[int]]]:
    """Yield (name, ids of its maps) of every loaded program of a type."""
    number = ctypes.c_uint32(0)
    while lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        found, name, maps = _program(number.value)
        if found == kind:
            yield name, maps


def program(number: int) -> tuple[str, list[int]]:
    """Return (name, ids of its maps) of the program with this id; ("", []): it is gone."""
    _, name, maps = _program(number)
    return name, maps


def _program(number: int) -> tuple[int, str, list[int]]:
    """Return (type, name, ids of its maps) of a program; (0, "", []): it is gone."""
    fd = lib.bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return 0, "", []
    try:
        ids = (ctypes.c_uint32 * 64)()
        info = ProgInfo(nr_map_ids=len(ids), map_ids=ctypes.addressof(ids))
        libbpf.object_info(fd, info)
    finally:
        os.close(fd)
    name = info.name.decode(errors="replace")
    return int(info.type), name, list(ids[: min(info.nr_map_ids, len(ids))])
