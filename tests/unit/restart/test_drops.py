# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Drops of sockets, from /proc/net/udp."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from udpgrm.restart import drops

TABLE = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 501 2 0000000000000000 3
  100: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 502 2 0000000000000000 0
  101: 0100007F:1151 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 503 2 0000000000000000 9
  102: 0100007F:1152 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 504 2 0000000000000000 9
"""  # noqa: E501


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is in native byte order")
def test_parse() -> None:
    one, device, none = "127.0.0.1:4433", "127.0.0.1%lo:4433", "127.0.0.1:4435"
    counts = {"501": 3, "502": 0}
    assert drops.parse(TABLE, [one, device, none]) == {one: counts, device: counts, none: {}}


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is in native byte order")
def test_listeners_drop_nothing() -> None:
    where = "127.0.0.1:4433/tcp"
    assert drops.parse(TABLE, [where]) == {where: {"501": 0, "502": 0}}


def test_listeners_here_are_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        where = f"127.0.0.1:{sock.getsockname()[1]}/tcp"
        assert len(drops.read([where])[where]) == 1


def test_since() -> None:
    assert drops.since({"501": 3, "502": 1}, {"501": 5, "503": 4}) == 6
    assert drops.since({}, {}) == 0


@pytest.mark.parametrize(
    ("family", "ip"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_full_queue(family: socket.AddressFamily, ip: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.bind((ip, 0))
        port = sock.getsockname()[1]
        where = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        before = drops.read([where])[where]
        assert before == {str(Path(f"/proc/self/fd/{sock.fileno()}").stat().st_ino): 0}
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for _ in range(50):
                sender.sendto(bytes(500), (ip, port))
        assert 0 < drops.since(before, drops.read([where])[where]) < 50
