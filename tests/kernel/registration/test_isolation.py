# SPDX-License-Identifier: Apache-2.0
"""Groups that share an address and nothing else."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import pytest

import udpgrm.client as grm
from testing.host import ROOT, Host, answer, client
from testing.waiting import PATIENCE_S

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)

_OTHER_NAMESPACE = """
import ctypes, os, select, socket, subprocess, sys
assert ctypes.CDLL(None).unshare(0x40000000) == 0
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
import udpgrm.client as grm
old, new = grm.bind("127.0.0.1:4433")[0], grm.bind("127.0.0.1:4433")[0]
assert grm.working_generation(old) == 0, "this namespace's group is another one"
grm.enroll([old], 7, 120); grm.promote(old, 7)
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def exchange(expected):
    peer.sendto(b"hi", ("127.0.0.1", 4433))
    ready = select.select([old, new], [], [], 120)[0]
    assert ready == [expected], ready
    _, sender = ready[0].recvfrom(100)
    ready[0].sendto(b"yo", sender)
exchange(old)
grm.enroll([new], 8, 120); grm.promote(new, 8)
exchange(old)
print("ready", flush=True); sys.stdin.read()
assert grm.working_generation(old) == 8
exchange(old)
"""


def test_two_network_namespaces_are_two_groups(host: Host) -> None:
    mine = grm.bind(ADDRESS)[0]
    grm.enroll([mine], 1)
    grm.promote(mine, 1)
    with client() as peer:
        peer.sendto(b"hi", TARGET)
        answer([mine], 1)
        other = subprocess.Popen(
            [sys.executable, "-c", _OTHER_NAMESPACE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin"},
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            groups = host.json("list")["groups"]
            assert [group["address"] for group in groups] == [ADDRESS, ADDRESS]
            assert len({group["netns_cookie"] for group in groups}) == 2
            working = sorted(group["applications"][0]["working_generation"] for group in groups)
            assert working == [1, 8]
            # a command means the group of its own namespace
            assert host.json("working-gen", ADDRESS, "newest")["before"] == 1
            peer.sendto(b"hi", TARGET)
            answer([mine], 1)
        finally:
            other.communicate(b"", timeout=PATIENCE_S)
        assert other.returncode == 0
    mine.close()


def test_bound_devices_are_two_groups(host: Host) -> None:
    subprocess.run(
        ["ip", "link", "add", "veth7", "type", "veth", "peer", "name", "veth8"], check=True
    )
    try:
        plain = grm.bind("0.0.0.0:4433")[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound, plain:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth7")
            bound.bind(("0.0.0.0", 4433))
            grm.enroll([plain], 1)
            assert grm.working_generation(bound) is None
            grm.enroll([bound], 2)
            grm.promote(bound, 2)
            assert grm.working_generation(plain) == 0
            groups = host.json("list", "0.0.0.0:4433")["groups"]
            assert sorted(group["ifindex"] > 0 for group in groups) == [False, True]
            refused = host.run("working-gen", "0.0.0.0:4433", "1")
            assert (refused.returncode, len(refused.stderr.splitlines())) == (255, 1)
            assert "different devices" in refused.stderr
            assert host.run("delete", "0.0.0.0:4433").returncode == 0
            assert host.json("list")["groups"] == []
    finally:
        subprocess.run(["ip", "link", "delete", "veth7"], check=True)


@pytest.mark.parametrize("address", ["0.0.0.0:4433", "[::]:4434"])
def test_wildcard_and_exact_address_are_two_groups(host: Host, address: str) -> None:
    exact = address.replace("0.0.0.0", "127.0.0.1").replace("::", "::1")
    one, two = grm.bind(address)[0], grm.bind(exact)[0]
    with one, two:
        grm.enroll([one], 1)
        grm.enroll([two], 2)
        assert len(host.json("list")["groups"]) == 2


def test_an_ipv6_socket_at_an_ipv4_address(host: Host) -> None:
    """Put an IPv6 socket at an IPv4 address, as Java makes it, into the IPv4 address's group."""
    assert host.json("dissector", "set", ADDRESS, "flow", "flow_timeout=17")["changed"]
    with contextlib.ExitStack() as stack:
        socks = []
        for generation in (1, 2):
            sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("::ffff:127.0.0.1", 4433))
            grm.enroll([sock], generation)
            socks.append(sock)
        assert host.group("[::ffff:127.0.0.1]:4433")["dissector"]["flow_timeout"] == 17
        assert host.json("working-gen", ADDRESS, "1")["after"] == 1
        old = stack.enter_context(client())
        old.sendto(b"hi", TARGET)
        assert answer(socks, 1) == [0]
        assert host.json("working-gen", ADDRESS, "newest")["after"] == 2
        new = stack.enter_context(client())
        for peer, position in ((new, 1), (old, 0)):
            peer.sendto(b"hi", TARGET)
            assert answer(socks, 1) == [position]
