# SPDX-License-Identifier: Apache-2.0
"""CBPF groups and applications: compiled filters on real packets."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import udpgrm.client as grm
from tests.kernel.support import Host, client, received, wait_for, wait_for_index
from udpgrm import abi
from udpgrm.abi import DissectorType, Option

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


def unlike_any_other(number: int) -> list[tuple[int, int, int, int]]:
    """A filter that no test before can have left in the cache."""
    return [(0x06, 0, 0, os.getpid() << 8 | number)]


class Sockets:
    """Sockets of groups with filters, closed after the test."""

    def __init__(self) -> None:
        self.all: list[socket.socket] = []

    def bound(self, value: bytes, port: int = 4433, app: int = 0) -> socket.socket:
        sock = client()
        self.all.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, value)
        number = app.to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_APP, number)
        return sock

    def enrolled(self, value: bytes, generation: int, app: int = 0) -> socket.socket:
        sock = self.bound(value, app=app)
        grm.enroll([sock], generation)
        return sock


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    for sock in sockets.all:
        sock.close()


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
    old.close()
    send(dead)
    assert len(received([new])) == 1
    assert host.counters(ADDRESS) == {
        "rx_processed_total": 13,
        "rx_cbpf_prog_error": 1,
        "rx_dissected_ok_total": 12,
        "rx_flow_ok": 10,
        "rx_flow_other_error": 1,
        "rx_flow_new_unseen": 1,
        "rx_flow_new_bad_cookie": 1,
        "rx_new_flow_total": 2,
        "rx_new_flow_working_gen_dispatch_ok": 2,
    }


def test_cookies_that_were_never_given(host: Host, sockets: Sockets) -> None:
    """Of a generation or an index that nobody has: new, and not a dead socket's."""
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
    other.close()
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
    """Offset 0 is the first byte of the payload; len is its length; ETH_P_IP."""
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
    """Loads beyond the linear part of a packet."""
    value = dissector([(0x28, 0, 0, 60_000), (0x16, 0, 0, 0)])
    old, new = sockets.enrolled(value, 1), sockets.enrolled(value, 2)
    grm.promote(new, 2)
    send(bytes(60_000) + cookie_of(old) + bytes(10))
    send(bytes(60_000) + cookie_of(new))
    assert [position for position, _ in received([old, new])] == [0, 1]
    send(bytes(60_000))
    assert host.counters(ADDRESS)["rx_cbpf_prog_error"] == 1


def test_without_a_compiled_filter_the_group_still_delivers(
    bare_host: Host, sockets: Sockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(os.environ["UDPGRM_CACHE_DIR"], cache)
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(cache))
    bare_host.start()
    shutil.rmtree(cache)
    cache.write_text("in the way")
    sock = sockets.bound(dissector(unlike_any_other(3)))
    assert grm.enroll([sock], 1) == [0]
    grm.promote(sock, 1)
    send(b"x")
    assert len(received([sock])) == 1
    assert bare_host.counters(ADDRESS)["socket_critical"] == 1
    said = [line for line in bare_host.errors.read_text().splitlines() if "no steering" in line]
    assert len(said) == 1
    assert said[0].startswith(f"no steering for {ADDRESS}: cannot use the cache directory")


def test_daemon_killed_while_it_compiles(bare_host: Host, sockets: Sockets) -> None:
    bare_host.start("--persist")
    sock = sockets.bound(dissector(unlike_any_other(1)))
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, sys.byteorder))
    wait_for(lambda: "socket group created" in bare_host.events.read_text(), "the compilation")
    bare_host.kill()
    assert grm.socket_generation(sock).index is None
    bare_host.start("--persist")
    wait_for_index(sock)
    assert "socket_critical" not in bare_host.counters(ADDRESS)


def test_others_are_served_while_a_filter_compiles(host: Host, sockets: Sockets) -> None:
    sock = sockets.bound(dissector(unlike_any_other(2)))
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, sys.byteorder))
    with grm.bind("127.0.0.1:4434")[0] as other:
        grm.enroll([other], 1)
        assert grm.socket_generation(sock).index is None, "it did not wait for its filter"
    wait_for_index(sock)


def test_a_group_that_waits_for_its_filter_is_kept(host: Host, sockets: Sockets) -> None:
    """Also when the daemon looks for groups without sockets meanwhile, as a process has ended."""
    waiting = [
        sockets.bound(dissector(unlike_any_other(number)), port=4430 + number)
        for number in range(5, 9)
    ]
    for sock in waiting:
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, sys.byteorder))
    code = "import udpgrm.client as grm; grm.enroll(grm.bind('127.0.0.1:4434'), 1, 120)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert grm.socket_generation(waiting[-1]).index is None, "it did not wait for its filter"
    for sock in waiting:
        wait_for_index(sock)
