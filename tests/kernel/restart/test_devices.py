# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Services that are bound to a network device, or at a link-local address."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import Host, received, wait_for
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import Edge
from udpgrm.kernel import sockopt

__all__ = ["edge"]

LOCAL, OTHER = "[fe80::5%dev0]:4433", "[fe80::5%dev1]:4433"


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    """Make two devices, connected to each other: dev0 with addresses, both with one link-local."""
    script = """
    ip link add dev0 type veth peer name dev1
    ip addr add 10.9.0.1/24 dev dev0
    for device in dev0 dev1; do
        ip link set "$device" up
        ip addr add fe80::5/64 dev "$device" nodad
    done
    """
    subprocess.run(["sh", "-ec", script], check=True)
    wait_for(_are_ready, "the devices' carrier and addresses")
    yield
    subprocess.run(["ip", "link", "del", "dev0"], check=True)


def _are_ready() -> bool:
    """Return whether both devices have a carrier and checked link-local addresses."""
    links = json.loads(subprocess.check_output(["ip", "-j", "address"]))
    found = [link for link in links if link["ifname"] in ("dev0", "dev1")]
    addresses = [address for link in found for address in link["addr_info"]]
    return (
        [link["operstate"] for link in found] == ["UP", "UP"]
        and sum(address["family"] == "inet6" for address in addresses) == 4
        and not any(address.get("tentative") for address in addresses)
    )


@pytest.mark.parametrize(
    "bound, defined, probes",
    [
        ("0.0.0.0%dev0:4433", "0.0.0.0:4433", True),
        ("0.0.0.0%dev0:4433", "0.0.0.0%dev0:4433", False),
        ("10.9.0.1%dev0:4433", "10.9.0.1:4433", True),
        ("[::%dev0]:4433", "[::]:4433", True),
        (LOCAL, LOCAL, True),
    ],
)
def test_restarts(edge: Edge, bound: str, defined: str, probes: bool) -> None:
    edge.addresses = [bound]
    edge.unit()
    edge.addresses = [defined]
    edge.define(**({} if probes else {"probes": []}))
    for generation in (1, 2):  # the second holds flows with the first
        done = edge.restart()
        assert done.returncode == 0, done.stdout + done.stderr
        verified = next(item for item in edge.journal()["steps"] if item["step"] == "verify")
        assert [item["received_generation"] for item in verified["evidence"]["probes"]] == [
            generation
        ]
    status = edge.host.json("status", "edge")
    assert status["others"] == []
    [shown] = status["services"]
    assert shown["groups"][0]["working_generation"] == 2


def test_commands_distinguish_devices(host: Host) -> None:
    with grm.bind(LOCAL)[0] as one, grm.bind(OTHER)[0] as two:
        for sock in (one, two):
            grm.enroll([sock], 1)
            grm.promote(sock, 1)
        assert len(host.json("list", "[fe80::5]:4433")["groups"]) == 2
        for where, sock in ((LOCAL, one), (OTHER, two)):
            [group] = host.json("list", where)["groups"]
            assert group["generations"][0]["sockets"][0]["socket_cookie"] == sockopt.cookie(sock)
            view = json.loads(host.run("doctor", where, "--json").stdout)
            assert [item["fd"] for item in view["sockets"]] == [sock.fileno()]
            before = len(received([sock]))
            assert (before, host.run("probe", where, "--timeout=0").returncode) == (0, 0)
            assert len(received([sock])) == 8
            assert host.run("working-gen", where, "1").returncode == 0
            done = host.run("enroll", where, f"--cgroup={host.cgroup}", "--gen=2", "--json")
            assert done.returncode == 0 and len(json.loads(done.stdout)["sockets"]) == 1
        done = host.run("working-gen", "[fe80::5]:4433", "1")
        assert done.returncode == 255
        assert f"on different devices: {LOCAL}, {OTHER}" in done.stderr
        assert host.run("delete", LOCAL).returncode == 0
        assert len(host.json("list")["groups"]) == 1


def test_what_is_missing_is_named(host: Host) -> None:
    with pytest.raises(ValueError, match=r"link-local: name its device too, as \[fe80::5%eth0\]"):
        grm.bind("[fe80::5]:4433")
    done = host.run("probe", "--type=echo", "[fe80::5]:4433")
    assert done.returncode == 255 and "name its device too" in done.stderr
    done = host.run("list", "[fe80::5%none]:4433")
    assert done.returncode == 255 and "no network device 'none'" in done.stderr
    done = host.run("probe", "--type=echo", "0.0.0.0%dev1:4433", "timeout_s=0.1")
    assert done.returncode == 1 and "dev1 has no IPv4 address" in done.stdout
