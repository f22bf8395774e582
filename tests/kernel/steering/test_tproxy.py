# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets to addresses that no device has: by a TPROXY rule, and by a local route.

See docs/limits.md.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import Host, received, wait_for

pytestmark = pytest.mark.daemon("shared")

PORT = 4433
_RULES = f"""
table ip proxy {{
    chain before {{
        type filter hook prerouting priority mangle;
        ip daddr 198.51.100.0/24 udp dport {PORT} tproxy to :{PORT} meta mark set 1 accept
    }}
}}
"""
_CLIENT = f"""
import socket
for host in range(1, 41):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (f"198.51.100.{{host}}", {PORT}))
"""
_FLOWS = 40


@pytest.fixture
def client(host: Host) -> Iterator[list[str]]:
    """Yield the command's start for a namespace whose packets arrive here at a device."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE
    ) as there:
        try:
            assert there.stdout and there.stdout.read(1)
            pid = str(there.pid)
            inside = ["nsenter", f"--net=/proc/{pid}/ns/net"]
            script = f"""
            ip link add dev0 type veth peer name dev1 netns {pid}
            ip addr add 10.9.0.1/24 dev dev0
            ip link set dev0 up
            """
            subprocess.run(["sh", "-ec", script], check=True)
            script = """
            ip addr add 10.9.0.2/24 dev dev1
            ip link set dev1 up
            ip route add 198.51.100.0/24 via 10.9.0.1
            """
            subprocess.run([*inside, "sh", "-ec", script], check=True)
            yield inside
        finally:
            there.kill()


def instances() -> list[socket.socket]:
    """Return sockets of a transparent proxy: of generation 1, which is active, and of 2."""
    found = []
    for generation in (1, 2):
        sock = grm.bind(f"0.0.0.0:{PORT}")[0]
        sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        grm.enroll([sock], generation)
        found.append(sock)
    grm.promote(found[0], 1)
    return found


def counts_of_flows(client: list[str], sockets: list[socket.socket]) -> list[int]:
    """Begin flows; how many each socket got when all have arrived."""
    subprocess.run([*client, sys.executable, "-c", _CLIENT], check=True)
    counts = [0] * len(sockets)

    def have_arrived() -> bool:
        for number, sock in enumerate(sockets):
            counts[number] += len(received([sock]))
        return sum(counts) >= _FLOWS

    wait_for(have_arrived, "the packets")
    return counts


def test_a_rule_passes_the_steering_program_by(host: Host, client: list[str]) -> None:
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    for command in ("rule add fwmark 1 lookup 100", "route add local default dev lo table 100"):
        subprocess.run(["ip", *command.split()], check=True)
    one, two = instances()
    with one, two:
        # by the kernel's hash: that all are of one has the probability 2^-39
        assert all(counts_of_flows(client, [one, two]))
        assert "rx_processed_total" not in host.counters(f"0.0.0.0:{PORT}")
        done = host.run("doctor", f"0.0.0.0:{PORT}", "--json")
        assert "limit_transparent" in done.stdout


def test_a_local_route_does_not(host: Host, client: list[str]) -> None:
    subprocess.run(["ip", "route", "add", "local", "198.51.100.0/24", "dev", "lo"], check=True)
    one, two = instances()
    with one, two:
        assert counts_of_flows(client, [one, two]) == [_FLOWS, 0]
        assert host.counters(f"0.0.0.0:{PORT}")["rx_processed_total"] == _FLOWS
