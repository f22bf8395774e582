# SPDX-License-Identifier: Apache-2.0
"""CBPF groups and applications: linked filters on real packets."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, client, close, copy_of_templates, received
from tests.kernel.dissectors import held
from tests.kernel.dissectors.held import HeldSockets
from udpgrm import abi
from udpgrm.abi import DissectorType, Option

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
#: ldh [0]; ret a
COOKIE_AT_0 = [(0x28, 0, 0, 0), (0x16, 0, 0, 0)]
#: ld [0]; ret a
WORD_AT_0 = [(0x20, 0, 0, 0), (0x16, 0, 0, 0)]


def dissector(program: Sequence[tuple[int, int, int, int]], max_apps: int = 0) -> bytes:
    value = abi.Dissector(type=DissectorType.CBPF, filter_len=len(program), max_apps=max_apps)
    for position, item in enumerate(program):
        value.filter[position] = abi.CbpfInstruction(*item)
    return bytes(value)


class Sockets(HeldSockets):
    """Sockets of groups with filters."""

    def bound(self, value: bytes, port: int = 4433, app: int = 0) -> socket.socket:
        return self.bind(("127.0.0.1", port), value, app)

    def enrolled(self, value: bytes, generation: int, app: int = 0) -> socket.socket:
        sock = self.bound(value, app=app)
        grm.enroll([sock], generation)
        return sock


sockets = held.fixture_of(Sockets)


def send(payload: bytes, port: int = 4433) -> None:
    with client() as sock:
        sock.sendto(payload, ("127.0.0.1", port))


def cookie_of(sock: socket.socket) -> bytes:
    return grm.socket_generation(sock).cookie.to_bytes(2, "big")


def test_cookies(host: Host, sockets: Sockets) -> None:
    value = dissector(COOKIE_AT_0)
    old, new = sockets.enrolled(value, 1), sockets.enrolled(value, 2)
    grm.promote(new, 2)
    for _ in range(5):
        send(cookie_of(old) + b"payload")
        assert [position for position, _ in received([old, new])] == [0]
        send(cookie_of(new))
        assert [position for position, _ in received([old, new])] == [1]
    send(b"\x00\x00")  # bad checksum
    assert [position for position, _ in received([old, new])] == [1]
    send(b"\x00")  # too short for the load
    assert len(received([old, new])) == 1
    dead = cookie_of(old)
    close(old)
    send(dead)
    assert len(received([new])) == 1
    assert host.counters(ADDRESS) == {
        "rx_processed_total": 13,
        "rx_packet_too_short_error": 1,
        "rx_dissected_ok_total": 12,
        "rx_flow_ok": 10,
        "rx_flow_other_error": 1,
        "rx_flow_new_unseen": 1,
        "rx_flow_new_bad_cookie": 1,
        "rx_new_flow_total": 2,
        "rx_new_flow_working_gen_dispatch_ok": 2,
    }


def test_cookies_that_were_never_given(host: Host, sockets: Sockets) -> None:
    """Count a cookie of a generation or index without a socket as new, not as a dead socket's."""
    apps = [sockets.enrolled(dissector(COOKIE_AT_0, max_apps=3), 1, app) for app in range(3)]
    for sock in apps:
        grm.promote(sock, 1)
    for slot, index, app in ((1, 1, 0), (12, 0, 1), (29, 255, 2), (30, 0, 0), (31, 0, 0)):
        send(abi.make_cookie(slot, index).to_bytes(2, "big"))
        assert [position for position, _ in received(apps)] == [app], (slot, index)
    assert host.counters(ADDRESS) == {
        "rx_processed_total": 5,
        "rx_dissected_ok_total": 5,
        "rx_flow_new_unseen": 5,
        "rx_new_flow_total": 5,
        "rx_new_flow_working_gen_dispatch_ok": 5,
    }


def test_applications(host: Host, sockets: Sockets) -> None:
    value = dissector(WORD_AT_0, max_apps=3)
    apps = [sockets.enrolled(value, 7, app) for app in range(3)]
    for app, sock in enumerate(apps):
        grm.promote(sock, 7)
        assert grm.socket_generation(sock).cookie == abi.make_cookie(app * 10 + 7, 0)
    view = host.group(ADDRESS)
    assert view["dissector"]["max_apps"] == 3
    assert [item["working_generation"] for item in view["applications"]] == [7, 7, 7]
    for number, expected in (
        (0x80000000, 0),
        (0x80000001, 1),
        (0x80000002, 2),
        (0x80000003, 0),  # no such application
        (0xFFFFFFFF, 0),
        (0x00010000, 0),
        (0x7FFFFFFF, 0),
    ):
        send(number.to_bytes(4, "big"))
        assert [position for position, _ in received(apps)] == [expected], hex(number)
    other = sockets.enrolled(value, 8, 2)
    grm.promote(other, 8)
    send((0x80000002).to_bytes(4, "big"))
    assert [position for position, _ in received([*apps, other])] == [3]
    send(bytes(2) + cookie_of(apps[2]))
    assert [position for position, _ in received([*apps, other])] == [2]
    # nothing of its working generation lives: the one before, and no other application's
    close(other)
    for _ in range(10):
        send((0x80000002).to_bytes(4, "big"))
    assert [position for position, _ in received(apps)] == [2] * 10


def test_application_limits(host: Host, sockets: Sockets) -> None:
    sock = sockets.bound(dissector(COOKIE_AT_0, max_apps=2))
    with pytest.raises(OSError) as caught:
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_APP, (2).to_bytes(4, sys.byteorder))
    assert caught.value.errno == errno.EOVERFLOW
    for length in (376, 632):
        whole = dissector([(0x06, 0, 0, 0)] * 32)
        sock = sockets.bound(whole[:length], port=5000 + length)
        raw = sock.getsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, 632)
        assert raw == whole


def test_what_a_filter_sees(host: Host, sockets: Sockets) -> None:
    """Show a filter the payload at offset 0, its length as len, and ETH_P_IP."""
    ethertype_then_length = [
        (0x28, 0, 0, 0xFFFFF000),  # ldh [proto]
        (0x15, 0, 4, 0x0800),  # jne fail
        (0x80, 0, 0, 0),  # ld len
        (0x15, 0, 2, 9),
        (0x30, 0, 0, 8),  # ldb [8]
        (0x15, 1, 0, 0x55),
        (0x06, 0, 0, 0x80000000),
        (0x06, 0, 0, 0x80000001),
    ]
    value = dissector(ethertype_then_length, max_apps=2)
    apps = [sockets.enrolled(value, 1, app) for app in range(2)]
    for sock in apps:
        grm.promote(sock, 1)
    for payload, app in ((bytes(8) + b"\x55", 1), (bytes(9), 0), (bytes(9) + b"\x55", 0)):
        send(payload)
        assert [position for position, _ in received(apps)] == [app]


def test_long_packets(host: Host, sockets: Sockets) -> None:
    """Load beyond the linear part of a packet."""
    value = dissector([(0x28, 0, 0, 60_000), (0x16, 0, 0, 0)])
    old, new = sockets.enrolled(value, 1), sockets.enrolled(value, 2)
    grm.promote(new, 2)
    send(bytes(60_000) + cookie_of(old) + bytes(10))
    send(bytes(60_000) + cookie_of(new))
    assert [position for position, _ in received([old, new])] == [0, 1]
    send(bytes(60_000))
    assert host.counters(ADDRESS)["rx_packet_too_short_error"] == 1


#: Loads at the offset that no packet has, a division by what a packet says, an unknown
#: instruction, the end of the filter, a jump out of it.
FAULTY = {
    "rx_packet_too_short_error": [[(0x20, 0, 0, 100), (0x16, 0, 0, 0)]],
    "rx_cbpf_prog_error": [
        [(0xB1, 0, 0, 0), (0x3C, 0, 0, 0), (0x16, 0, 0, 0)],
        [(0x34, 0, 0, 0), (0x16, 0, 0, 0)],
        [(0x20, 0, 0, 0xFFFFF02C), (0x16, 0, 0, 0)],  # SKF_AD_VLAN_TAG
        [(0xFF, 0, 0, 0), (0x16, 0, 0, 0)],
        [(0x00, 0, 0, 1)],
        [(0x05, 0, 0, 9), (0x16, 0, 0, 0)],
    ],
}


@pytest.mark.parametrize(
    ("counter", "program"),
    [(counter, program) for counter, programs in FAULTY.items() for program in programs],
)
def test_filters_with_faults_are_accepted(
    host: Host, sockets: Sockets, counter: str, program: list[tuple[int, int, int, int]]
) -> None:
    """Register such a filter; count and still deliver each packet that meets its fault."""
    sock = sockets.enrolled(dissector(program), 1)
    grm.promote(sock, 1)
    for _ in range(3):
        send(b"\x00123")
    assert len(received([sock])) == 3
    assert host.counters(ADDRESS) == {"rx_processed_total": 3, counter: 3}


def test_only_packets_that_meet_a_fault_fail(own_host: Host, sockets: Sockets) -> None:
    by_first_byte = [(0x30, 0, 0, 0), (0x15, 0, 1, 7), (0xFF, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
    sock = sockets.enrolled(dissector(by_first_byte), 1)
    grm.promote(sock, 1)
    for payload in (b"\x07", b"\x01", b"\x02"):
        send(payload)
    assert len(received([sock])) == 3
    counted = own_host.counters(ADDRESS)
    assert (counted["rx_cbpf_prog_error"], counted["rx_dissected_ok_total"]) == (1, 2)
    message = f"filter of {ADDRESS}: instruction 2 (0xff, 0x0) is unknown"
    assert own_host.errors.read_text().count(message) == 1


def test_ancillary_loads(host: Host, sockets: Sockets) -> None:
    """Let filters load the hash, the CPU and the network header, and steer by them."""
    port = 4433
    for at in (0xFFFFF020, 0xFFFFF024, 0xFFF0000C):
        port += 1
        value = dissector([(0x20, 0, 0, at), (0x06, 0, 0, 0x80000000)])
        old, new = sockets.bound(value, port), sockets.bound(value, port)
        grm.enroll([old], 1)
        grm.enroll([new], 2)
        grm.promote(old, 1)
        for _ in range(10):
            send(bytes(50), port)
        assert [position for position, _ in received([old, new])] == [0] * 10, hex(at)


def test_a_new_filter_needs_no_compiler(
    bare_host: Host, sockets: Sockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attach a filter where there is no compiler, and write no file for it."""
    cache = copy_of_templates(tmp_path)
    before = sorted(cache.iterdir())
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(cache))
    # the daemon finds this bcc first, and fails as soon as it is used
    broken = tmp_path / "modules" / "bcc"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise SystemExit('it was used')\n")
    version = importlib.util.find_spec("bcc")
    assert version is not None
    assert version.origin is not None
    shutil.copy(Path(version.origin).parent / "version.py", broken)
    bare_host.start(fault=f"sys.path.insert(0, {str(broken.parent)!r})")
    sock = sockets.enrolled(dissector([(0x06, 0, 0, os.getpid())]), 1)
    grm.promote(sock, 1)
    send(b"x")
    assert len(received([sock])) == 1
    assert "socket_critical" not in bare_host.counters(ADDRESS)
    assert sorted(cache.iterdir()) == before
