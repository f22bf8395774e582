# SPDX-License-Identifier: Apache-2.0
"""Packets that full receive queues dropped: /proc/net/udp, see proc(5).

/proc/net/tcp has none; what it is read for are listeners.
"""

from __future__ import annotations

import sys
from pathlib import Path

from udpgrm.state import address

_LOCAL, _REMOTE, _INODE, _DROPS = 1, 2, 9, 12


def read(where: str) -> dict[str, int]:
    """Return drops by inode of the sockets at ADDRESS:PORT, in this network namespace."""
    wanted = address.read(where)
    name = ("tcp" if wanted.tcp else "udp") + ("6" if wanted.ip.version == 6 else "")
    return parse(Path("/proc/net", name).read_text(encoding="ascii"), where)


def parse(table: str, where: str) -> dict[str, int]:
    """Return the drops of unconnected sockets at ADDRESS:PORT from a table's text."""
    ip, port, _, is_tcp = address.read(where)
    words = [ip.packed[start : start + 4] for start in range(0, len(ip.packed), 4)]
    local = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    found = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[_LOCAL] == f"{local}:{port:04X}" and fields[_REMOTE].endswith(":0000"):
            found[fields[_INODE]] = 0 if is_tcp else int(fields[_DROPS])
    return found


def since(before: dict[str, int], now: dict[str, int]) -> int:
    """Return the drops between two readings; sockets that closed meanwhile count as none."""
    return sum(max(0, count - before.get(inode, 0)) for inode, count in now.items())
