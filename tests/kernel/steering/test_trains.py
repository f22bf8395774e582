# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""UDP_GRO: only where a train cannot hold flows of two sockets."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import ROOT, Host, received, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel import sockopts as grm
from tests.kernel.dissectors import named
from udpgrm.kernel.sockopt import UDP_GRO

UDP_SEGMENT = 103
BY_PEER = [grm.dissector(grm.FLOW), grm.dissector(grm.NOOP | grm.VERBOSE)]
BY_CONTENT = [
    grm.dissector(grm.CBPF, rest=grm.filter_of(*grm.COOKIE_FIRST)),
    grm.dissector(grm.BESPOKE | grm.VERBOSE, digest=0xDEAD),
]


@pytest.fixture
def sock(host: Host) -> Iterator[socket.socket]:
    with grm.udp() as made:
        yield made


def has_trains(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO))


@pytest.mark.parametrize("value", BY_PEER)
def test_flows_by_peer_may_come_in_trains(host: Host, sock: socket.socket, value: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    grm.put(sock, grm.DISSECTOR, value)
    grm.register(sock, 1)
    assert has_trains(sock)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    assert has_trains(sock)


@pytest.mark.parametrize("value", BY_CONTENT)
def test_flows_by_content_do_not(host: Host, sock: socket.socket, value: bytes) -> None:
    """Set before there is a group it is turned off, set later it is refused."""
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    grm.put(sock, grm.DISSECTOR, value)
    grm.register(sock, 1)
    assert not has_trains(sock)
    assert "UDP_GRO is off now" in host.errors.read_text()
    with grm.udp() as other:  # in the group by its address alone
        for one in (sock, other):
            with pytest.raises(OSError) as caught:
                one.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            assert caught.value.errno == errno.ENOPROTOOPT
            one.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
            one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    with grm.udp(port=4434) as elsewhere:
        elsewhere.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        assert has_trains(elsewhere)


#: Adds up the lengths that a steering program sees, in counters that are its own here.
LENGTHS = """\
#include "dissectors/results.h"

static __always_inline int dissect(struct steering *s)
{
	u16 *udp = s->md->data, in_ip_header = 0;

	if ((void *)(udp + 4) > s->md->data_end || PARAMETER(at))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	bpf_skb_load_bytes_relative(s->md, 2, &in_ip_header, 2, BPF_HDR_START_NET);
	s->counters->total[RX_FLOW_OK] += s->md->len;
	s->counters->total[RX_FLOW_RG_CONFLICT] += htons(udp[2]);
	s->counters->total[RX_FLOW_OTHER_ERROR] += htons(in_ip_header);
	return to_new(s, 0);
}
"""


def test_no_length_tells_a_train(
    bare_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count a train as one packet: each header has the length of the whole train."""
    library = tmp_path / "dissectors"
    library.mkdir(mode=0o755)
    named.write(library, "lengths", LENGTHS)
    monkeypatch.setenv("UDPGRM_DISSECTORS_DIR", str(library))
    bare_host.start()
    with grm.udp() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        grm.put(sock, grm.DISSECTOR, named.dissector("lengths", {"at": 0}))
        grm.register(sock, 1)
        segment = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 100))
        peer.sendmsg([b"x" * 1000], [segment], 0, ("127.0.0.1", 4433))
        sock.settimeout(PATIENCE_S)
        assert [len(sock.recv(2000)) for _ in range(10)] == [100] * 10
    counted = bare_host.counters(named.ADDRESS)
    assert counted["rx_processed_total"] == 1
    udp_header, ip_header = 8, 20
    assert counted["rx_flow_ok"] == counted["rx_flow_rg_conflict"] == udp_header + 1000
    assert counted["rx_flow_other_error"] == ip_header + udp_header + 1000


def test_a_train_counts_once(host: Host, sock: socket.socket) -> None:
    """Count a send of ten datagrams once; a socket without UDP_GRO receives ten."""
    grm.put(sock, grm.DISSECTOR, grm.dissector(grm.NOOP))
    grm.register(sock, 1)
    grm.put(sock, grm.WORKING_GEN, grm.u32(1))
    segment = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 100))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendmsg([b"x" * 1000], [segment], 0, ("127.0.0.1", 4433))
    sock.settimeout(PATIENCE_S)
    assert [len(sock.recv(2000)) for _ in range(10)] == [100] * 10
    assert "\t\trx_processed_total 1\n" in host.run("list").stdout


_SIOCETHTOOL, _ETHTOOL_STSO, _ETHTOOL_SGRO = 0x8946, 0x1F, 0x2C


def set_offload(device: str, command: int, value: int) -> None:
    """Set one of the offloads of a device, as ethtool(8)."""
    request = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        where = struct.pack("16sQ8x", device.encode(), ctypes.addressof(request))
        fcntl.ioctl(sock, _SIOCETHTOOL, where)


#: Sends what comes on standard input in datagrams of 100 bytes, from one port.
_SENDER = f"""
import socket, struct, sys
from tests.kernel.steering import test_trains as trains
trains.set_offload("dev1", {_ETHTOOL_STSO}, 0)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
segment = (socket.IPPROTO_UDP, {UDP_SEGMENT}, struct.pack("=H", 100))
while data := sys.stdin.buffer.read(2000):
    sock.sendmsg([data], [segment], 0, ("10.9.0.1", 4433))
"""
_COMMAND = [sys.executable, _SENDER]
_SETTINGS = """
mount -t sysfs sysfs /sys
echo 2000000000 >/sys/class/net/dev0/gro_flush_timeout
echo 100000 >/sys/class/net/dev0/napi_defer_hard_irqs
"""


@pytest.fixture
def sender(shared_host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process elsewhere, whose datagrams arrive one by one at a device that joins them."""
    with subprocess.Popen(
        [
            "unshare",
            "--net",
            "sh",
            "-c",
            f'echo; read -r _; exec {sys.executable} -c "$0"',
            _SENDER,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=ROOT,
    ) as there:
        try:
            assert there.stdin and there.stdout and there.stdout.read(1)
            script = f"""
            ip link add dev0 type veth peer name dev1 netns {there.pid}
            ip addr add 10.9.0.1/24 dev dev0
            ip link set dev0 up
            nsenter --net=/proc/{there.pid}/ns/net sh -ec '
                ip addr add 10.9.0.2/24 dev dev1
                ip link set dev1 up gso_max_segs 1'
            unshare --mount sh -ec '{_SETTINGS}'
            """
            subprocess.run(["sh", "-ec", script], check=True)
            set_offload("dev0", _ETHTOOL_SGRO, 1)
            there.stdin.write(b"\n")
            yield there
        finally:
            there.kill()


def test_real_trains(
    shared_host: Host, sender: subprocess.Popen[bytes], sockets: list[socket.socket]
) -> None:
    """Deliver a whole train under FLOW; under a filter each datagram goes to its own generation."""
    assert sender.stdin
    sockets.append(grm.udp("10.9.0.1"))
    sockets[0].setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    grm.register(sockets[0], 0)
    sockets[0].settimeout(PATIENCE_S)

    def is_joined() -> bool:
        sender.stdin.write(b"x" * 2000)  # type: ignore[union-attr]
        return len(sockets[0].recv(65536)) > 100

    wait_for(is_joined, "a train")
    sockets.pop().close()
    where = "10.9.0.1:4433"
    wait_for(lambda: not shared_host.json("list", where)["groups"], "its collection")
    for generation in (1, 2):
        sockets.append(grm.udp("10.9.0.1"))
        if generation == 1:  # before there is a group that keeps it off
            sockets[0].setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        grm.put(sockets[-1], grm.DISSECTOR, BY_CONTENT[0])
        grm.register(sockets[-1], generation)
    cookies = [grm.socket_gen(sock)[2].to_bytes(2, "big") for sock in sockets]
    sender.stdin.write(b"".join(cookie.ljust(100) for cookie in cookies * 10))
    counts = [0, 0]

    def have_arrived() -> bool:
        for position, _ in received(sockets):
            counts[position] += 1
        return sum(counts) >= 20

    wait_for(have_arrived, "the datagrams")
    assert counts == [10, 10]
