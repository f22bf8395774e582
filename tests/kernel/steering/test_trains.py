# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""UDP_GRO: only where a train cannot hold flows of two sockets."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import Host
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
    """Why its datagrams are not counted: all headers have the length of the whole train."""
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
    """One send of ten datagrams, which no socket without UDP_GRO gets as one."""
    grm.put(sock, grm.DISSECTOR, grm.dissector(grm.NOOP))
    grm.register(sock, 1)
    grm.put(sock, grm.WORKING_GEN, grm.u32(1))
    segment = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 100))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendmsg([b"x" * 1000], [segment], 0, ("127.0.0.1", 4433))
    sock.settimeout(PATIENCE_S)
    assert [len(sock.recv(2000)) for _ in range(10)] == [100] * 10
    assert "\t\trx_processed_total 1\n" in host.run("list").stdout
