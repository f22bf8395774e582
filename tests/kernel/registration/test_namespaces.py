# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers that are in other namespaces than their sockets, or than the daemon."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from testing.host import ROOT, Host, client, wait_for
from testing.waiting import PATIENCE_S

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
#: Enters new namespaces after bind(2), registers there, and echoes.
SERVER = f"""
import ctypes, os, sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
libc = ctypes.CDLL(None, use_errno=True)
[sock] = grm.bind({ADDRESS!r})
if libc.unshare(int(sys.argv[1])):
    sys.exit(os.strerror(ctypes.get_errno()))
if os.fork():  # a new pid namespace begins with a child
    os.wait()
    os._exit(0)
generation = int(sys.argv[2])
grm.enroll([sock], generation, {PATIENCE_S})
grm.promote(sock, generation)
print("up", flush=True)
while True:
    data, peer = sock.recvfrom(100)
    sock.sendto(data + b" from %d" % generation, peer)
"""
NETWORK, USER, MOUNTS, PIDS = 0x40000000, 0x10000000, 0x20000, 0x20000000


@contextlib.contextmanager
def moved(namespaces: int, generation: int) -> Iterator[None]:
    """Have a server that has left the namespaces that its socket was bound in."""
    command = [sys.executable, "-c", SERVER, str(namespaces), str(generation)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def ask(peer: socket.socket) -> bytes:
    peer.settimeout(PATIENCE_S)
    peer.sendto(b"x", ("127.0.0.1", 4433))
    return peer.recv(100)


@pytest.mark.parametrize(
    "namespaces",
    [NETWORK, USER, USER | NETWORK, PIDS, USER | PIDS | MOUNTS],
    ids=["network", "user", "user and network", "pids", "user, pids and mounts"],
)
def test_servers_that_have_moved(host: Host, namespaces: int) -> None:
    """Keep the socket in its network namespace, and in its group there."""
    with moved(namespaces, 1), client() as old, client() as new:
        assert ask(old) == b"x from 1"
        with moved(namespaces, 2):
            assert (ask(new), ask(old)) == (b"x from 2", b"x from 1")
            metrics = host.counters(ADDRESS)
            assert metrics["tx_total"] == metrics["rx_processed_total"] == 3
            assert "steered, generation 2" in host.run("doctor", ADDRESS).stdout
    wait_for(lambda: not host.groups(ADDRESS), "the group to be deleted")
