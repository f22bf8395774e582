# SPDX-License-Identifier: Apache-2.0
"""Packets that full receive queues dropped: /proc/net/udp, see proc(5).

/proc/net/tcp has none; what it is read for are listeners.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from udpgrm.state import address

_LOCAL, _REMOTE, _INODE, _DROPS = 1, 2, 9, 12


def read(addresses: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return drops by address and inode, of the sockets of this network namespace.

    Each table is read once: it has a line for each socket of the namespace.
    """
    by_table: dict[str, list[str]] = {}
    for text in addresses:
        where = address.read(text)
        name = ("tcp" if where.tcp else "udp") + ("6" if where.ip.version == 6 else "")
        by_table.setdefault(name, []).append(text)
    found: dict[str, dict[str, int]] = {}
    for name, texts in by_table.items():
        found.update(parse(Path("/proc/net", name).read_text(encoding="ascii"), texts))
    return found


def parse(table: str, addresses: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the drops of unconnected sockets at some ADDRESS:PORT from a table's text."""
    found: dict[str, dict[str, int]] = {text: {} for text in addresses}
    wanted: dict[str, list[str]] = {}  # addresses that differ in their device are one here
    for text in found:
        wanted.setdefault(_local(address.read(text)), []).append(text)
    for line in table.splitlines()[1:]:
        fields = line.split()
        if not fields[_REMOTE].endswith(":0000"):
            continue
        for text in wanted.get(fields[_LOCAL], ()):
            found[text][fields[_INODE]] = 0 if text.endswith(address.TCP) else int(fields[_DROPS])
    return found


def _local(where: address.Where) -> str:
    """Return an address as the tables have it."""
    packed = where.ip.packed
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    local = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{local}:{where.port:04X}"


def since(before: dict[str, int], now: dict[str, int]) -> int:
    """Return the drops between two readings; sockets that closed meanwhile count as none."""
    return sum(max(0, count - before.get(inode, 0)) for inode, count in now.items())
