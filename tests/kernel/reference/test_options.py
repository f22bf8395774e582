# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The socket options as applications in C make them: reference, section 2.

test_options.py has the values and errnos one by one; here is what an application sees over time,
and how hooks treat what is not theirs.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from testing.host import Host, close, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel import sockopts as grm

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"


@pytest.fixture
def sock(host: Host, sockets: list[socket.socket]) -> socket.socket:
    """Return a socket bound while the hooks are there."""
    sockets.append(grm.udp())
    return sockets[0]


@pytest.fixture
def own_sock(own_host: Host, sockets: list[socket.socket]) -> socket.socket:
    """Return a socket of a daemon of the test's own."""
    sockets.append(grm.udp())
    return sockets[0]


def counters(host: Host) -> dict[str, int]:
    """Return the counters of `udpgrm list` that are not 0."""
    lines = host.run("list", ADDRESS).stdout.splitlines()
    metrics = lines[lines.index("\tmetrics:") + 1 :]
    return {name: int(value) for name, value in (line.split() for line in metrics)}


@pytest.mark.parametrize("size", [4, 5, 8, 11, 12, 13, 16, 115, 116, 117, 375, 376, 632, 4096])
def test_optlen_comes_back_as_asked(sock: socket.socket, size: int) -> None:
    """Return the longest value that fits the given length, and zeroes behind it."""
    value = grm.dissector(grm.NOOP, label=b"x" * 99)
    grm.put(sock, grm.DISSECTOR, value)
    written = max(length for length in (4, 8, 12, 16, 116, 376, 632) if length <= size)
    expected = value[:written].ljust(size, b"\0")
    assert grm.get(sock, grm.DISSECTOR, size) == (expected, size)


def test_wrong_lengths_of_a_get(sock: socket.socket) -> None:
    for option in range(200, 205):
        for size in (0, 1, 2, 3):
            assert grm.get_error(sock, option, size) == 14  # EFAULT
        assert grm.get_error(sock, option, 4097) == 92  # ENOPROTOOPT


@pytest.mark.parametrize("length", [4, 5, 8, 12, 16, 17, 116, 117, 376, 632, 4096])
def test_lengths_of_a_set(sock: socket.socket, length: int) -> None:
    """Read the longest value that fits the length; take zero for the rest, and for all beyond."""
    filter_ = grm.filter_of(*([(0x16, 0, 0, 7)] * 64))
    full = grm.dissector(grm.CBPF, timeout=1, apps=2, label=b"y" * 99, rest=filter_)
    sent = full.ljust(length, b"\xff")[:length]
    if length < 376:  # a filter of no instructions
        assert grm.put_error(sock, grm.DISSECTOR, sent) == 1  # EPERM
        return
    taken = max(size for size in (376, 632) if size <= length)
    grm.put(sock, grm.DISSECTOR, sent)
    assert grm.get(sock, grm.DISSECTOR, 632)[0] == full[:taken].ljust(632, b"\0")
    # a filter sent as 376 bytes holds 32 instructions
    assert full[:376].count(struct.pack("=HBBI", 0x16, 0, 0, 7)) == 32


@pytest.mark.parametrize("length", range(4))
def test_a_set_of_a_word_that_is_cut(sock: socket.socket, length: int) -> None:
    """Take a cut value as the first bytes of the word, whatever the option."""
    word = struct.unpack("=I", (b"\x04" + bytes(2))[:length].ljust(4, b"\0"))[0]
    grm.put(sock, grm.DISSECTOR, (b"\x04" + bytes(2))[:length])
    assert grm.get_u32(sock, grm.DISSECTOR) == word
    for option in (grm.WORKING_GEN, grm.SOCKET_GEN):
        grm.put(sock, option, b"\xee\xdd\xcc"[:length])
        assert grm.get_u32(sock, option) == int.from_bytes(b"\xee\xdd\xcc"[:length], "little")


def test_other_options_pass_however_long(sock: socket.socket) -> None:
    """Pass long values of other options to the kernel, without EFAULT."""
    for size in (4, 4096, 4097, 100_000):
        value = struct.pack("=I", 65536).ljust(size, b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, value)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 131072
    for option in (199, 205):
        for size in (4, 5000):
            assert grm.get_error(sock, option, size) == 92
            assert grm.put_error(sock, option, bytes(size)) == 92


def test_an_answer_of_another_hook_is_left_alone(
    own_host: Host, sockets: list[socket.socket]
) -> None:
    """Let the daemon of the inner cgroup answer, and the outer one add nothing."""
    inner = own_host.cgroup / "inner"
    inner.mkdir()
    other = Host(Path(f"{own_host.directory}-inner"), inner, own_host.scratch / "inner")
    other.scratch.mkdir()
    try:
        other.start()
        (inner / "cgroup.procs").write_text(str(os.getpid()))
        sock = grm.udp()
        sockets.append(sock)
        grm.put(sock, grm.WORKING_GEN, grm.u32(7))
        assert grm.get_u32(sock, grm.WORKING_GEN) == 7
        assert grm.put_error(sock, grm.SOCKET_APP, grm.u32(1)) == 75  # EOVERFLOW
        assert grm.get_error(sock, grm.FLOW_ASSURE) == 1  # EPERM
        assert "app 0  gen 7" in other.run("list").stdout
        assert own_host.run("list").stdout == ""
    finally:
        (own_host.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        other.clean()
        wait_for(lambda: "populated 0" in (inner / "cgroup.events").read_text(), "an empty cgroup")
        inner.rmdir()


def test_a_socket_at_first(sock: socket.socket) -> None:
    unregistered = (grm.UNREGISTERED, grm.UNREGISTERED, 0xFF7F)
    assert grm.socket_gen(sock) == unregistered
    grm.put(sock, grm.WORKING_GEN, grm.u32(1))
    assert grm.socket_gen(sock) == unregistered


@pytest.mark.parametrize("generation", [0, 1, 31, 32, 33, 2**31, 2**32 - 1])
def test_a_registration_without_a_daemon(
    own_host: Host, own_sock: socket.socket, generation: int
) -> None:
    """Set the generation at once, uncut, and the index when the stopped daemon continues."""
    slot = generation % 32
    with own_host.stopped():
        grm.put(own_sock, grm.SOCKET_GEN, grm.u32(generation))
        cookie = grm.cookie_of(slot, 255)
        assert grm.socket_gen(own_sock) == (generation, grm.UNREGISTERED, cookie)
    wait_for(lambda: grm.socket_gen(own_sock)[1] == 0, "the index")
    assert grm.socket_gen(own_sock) == (generation, 0, grm.cookie_of(slot, 0))


def test_known_cookies(host: Host, sockets: list[socket.socket]) -> None:
    known = {(0, 0): 0x0080, (1, 0): 0x00A1, (31, 0): 0x007F, (31, 255): 0xFF7F, (1, 255): 0xFFA1}
    for (slot, index), cookie in known.items():
        assert grm.cookie_of(slot, index) == cookie
    for slot in (0, 1, 31):
        sock = grm.udp()
        sockets.append(sock)
        grm.register(sock, slot)
        assert grm.socket_gen(sock)[2] == known[slot, 0]


def test_a_socket_that_moves_keeps_its_index(own_host: Host, sockets: list[socket.socket]) -> None:
    """Keep the index until the daemon gives the next: the socket never reads as unregistered."""
    for index in range(3):
        sockets.append(grm.udp())
        assert grm.register(sockets[-1], 1) == index
    mover = sockets[2]
    with own_host.stopped():
        for generation in (2, 35, 1, 2):
            grm.put(mover, grm.SOCKET_GEN, grm.u32(generation))
            assert grm.socket_gen(mover) == (generation, 2, grm.cookie_of(generation % 32, 2))
    wait_for(lambda: grm.socket_gen(mover)[1] == 0, "the next index")
    assert grm.socket_gen(mover) == (2, 0, grm.cookie_of(2, 0))
    with own_host.stopped():  # again in the same generation: nothing changes
        grm.put(mover, grm.SOCKET_GEN, grm.u32(2))
        assert grm.socket_gen(mover) == (2, 0, grm.cookie_of(2, 0))
    # the lowest free index is taken: that which the mover has left
    sockets.append(grm.udp())
    assert grm.register(sockets[-1], 1) == 2


def test_a_full_generation(own_host: Host, sockets: list[socket.socket]) -> None:
    """Register no 257th socket: a new one gets no index, one of another generation stays there."""
    for _ in range(256):
        sockets.append(grm.udp())
        grm.put(sockets[-1], grm.SOCKET_GEN, grm.u32(1))
    wait_for(lambda: grm.socket_gen(sockets[-1])[1] == 255, "the last index")
    assert [grm.socket_gen(sock)[1] for sock in sockets] == list(range(256))
    sockets.append(grm.udp())
    grm.put(sockets[-1], grm.SOCKET_GEN, grm.u32(1))
    wait_for(lambda: "too many sockets in the gen!" in own_host.events.read_text(), "the complaint")
    assert grm.socket_gen(sockets[-1]) == (1, grm.UNREGISTERED, grm.cookie_of(1, 255))
    sockets.append(grm.udp())
    assert grm.register(sockets[-1], 2) == 0
    grm.put(sockets[-1], grm.SOCKET_GEN, grm.u32(1))
    wait_for(lambda: own_host.events.read_text().count("too many sockets") == 2, "the complaint")
    assert grm.socket_gen(sockets[-1]) == (1, 0, grm.cookie_of(1, 0))
    # a place that gets free can be had by asking again
    close(sockets[7])
    grm.put(sockets[-1], grm.SOCKET_GEN, grm.u32(1))
    wait_for(lambda: grm.socket_gen(sockets[-1])[1] == 7, "the index of the one that closed")


def test_applications(host: Host, sockets: list[socket.socket]) -> None:
    """Share the slots out among applications, each with its own working generation."""
    value = grm.dissector(grm.CBPF, apps=4, rest=grm.filter_of(*grm.COOKIE_FIRST))
    for app in range(4):
        sock = grm.udp()
        sockets.append(sock)
        grm.put(sock, grm.DISSECTOR, value)
        grm.put(sock, grm.SOCKET_APP, grm.u32(app))
        assert grm.get_u32(sock, grm.SOCKET_APP) == app
        grm.register(sock, 9 + app)
        grm.put(sock, grm.WORKING_GEN, grm.u32(9 + app))
        slot = app * 8 + (9 + app) % 8
        assert grm.socket_gen(sock) == (9 + app, 0, grm.cookie_of(slot, 0))
    assert [grm.get_u32(sock, grm.WORKING_GEN) for sock in sockets] == [9, 10, 11, 12]
    assert grm.put_error(sockets[0], grm.SOCKET_APP, grm.u32(0)) is None
    assert grm.put_error(sockets[0], grm.SOCKET_APP, grm.u32(1)) == 17  # EEXIST
    sockets.append(grm.udp())
    assert grm.put_error(sockets[-1], grm.SOCKET_APP, grm.u32(4)) == 75  # EOVERFLOW


def test_an_assured_flow_counts_as_a_send(own_host: Host, sockets: list[socket.socket]) -> None:
    peer = grm.sockaddr("192.0.2.1", 1234)
    for _ in range(2):
        sockets.append(grm.udp())
    one, two = sockets
    grm.put(one, grm.FLOW_ASSURE, peer)
    assert counters(own_host) == {"tx_total": 1, "tx_flow_create_ok": 1}
    grm.put(one, grm.FLOW_ASSURE, peer.ljust(28, b"\0"))
    assert counters(own_host) == {"tx_total": 2, "tx_flow_create_ok": 1, "tx_flow_update_ok": 1}
    assert grm.put_error(two, grm.FLOW_ASSURE, peer) == 17  # EEXIST
    expected = {
        "tx_total": 3,
        "tx_flow_create_ok": 1,
        "tx_flow_update_ok": 1,
        "tx_flow_update_conflict": 1,
    }
    assert counters(own_host) == expected
    # another address family is no send
    assert grm.put_error(one, grm.FLOW_ASSURE, grm.sockaddr("2001:db8::1", 1)) == 1
    assert counters(own_host) == expected


def test_assuring_replaces_a_stale_entry(own_host: Host, own_sock: socket.socket) -> None:
    grm.put(own_sock, grm.DISSECTOR, grm.dissector(grm.FLOW, timeout=1))
    grm.put(own_sock, grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1234))
    wait_for(lambda: "(stale)" in own_host.run("flows", "-v").stdout, "the entry to expire")
    grm.put(own_sock, grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1234))
    assert counters(own_host) == {
        "tx_total": 2,
        "tx_flow_create_ok": 2,
        "tx_flow_create_from_expired_ok": 1,
    }


@pytest.mark.parametrize(
    "value",
    [
        grm.dissector(grm.NOOP),
        grm.dissector(grm.CBPF, rest=grm.filter_of(*grm.COOKIE_FIRST)),
        grm.dissector(grm.BESPOKE, digest=0xDEAD),
    ],
)
def test_sends_of_other_dissectors_count_nothing(
    own_host: Host, own_sock: socket.socket, value: bytes
) -> None:
    grm.put(own_sock, grm.DISSECTOR, value)
    grm.register(own_sock, 1)
    own_sock.sendto(b"x", ("127.0.0.1", 9))
    assert grm.put_error(own_sock, grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1)) == 1  # EPERM
    assert counters(own_host) == {}


def test_one_sendmsg_counts_once(own_host: Host, own_sock: socket.socket) -> None:
    """Count one send, however many packets UDP_SEGMENT makes of it."""
    grm.register(own_sock, 1)
    segment = (socket.IPPROTO_UDP, 103, struct.pack("=H", 100))
    own_sock.sendmsg([b"x" * 1000], [segment], 0, ("127.0.0.1", 9))
    assert counters(own_host) == {"tx_total": 1, "tx_flow_create_ok": 1}


def test_the_first_set_that_fails_creates_the_group(host: Host, sock: socket.socket) -> None:
    """Create a group of FLOW with timeout 0, which later accepts these values and no others."""
    assert grm.get_error(sock, grm.DISSECTOR, 632) == 77  # EBADFD
    assert grm.put_error(sock, grm.SOCKET_APP, grm.u32(3)) == 75
    assert grm.get(sock, grm.DISSECTOR, 632)[0] == grm.dissector(grm.FLOW)
    assert grm.put_error(sock, grm.DISSECTOR, grm.dissector(grm.NOOP)) == 1
    assert grm.put_error(sock, grm.DISSECTOR, grm.dissector(grm.FLOW, timeout=125)) == 1
    assert grm.put_error(sock, grm.DISSECTOR, b"") is None
    verbose = grm.dissector(grm.FLOW | grm.VERBOSE)
    grm.put(sock, grm.DISSECTOR, verbose)
    assert grm.get(sock, grm.DISSECTOR, 632)[0] == verbose
    grm.put(sock, grm.DISSECTOR, grm.dissector(grm.FLOW))
    assert grm.get_u32(sock, grm.DISSECTOR) == grm.FLOW


def test_an_application_in_c(host: Host, tmp_path: Path) -> None:
    """Make the calls that the reference documents, compiled without a header of ours."""
    source = Path(__file__).with_name("application.c")
    subprocess.run(["cc", "-Wall", "-Werror", "-o", tmp_path / "app", source], check=True)
    done = subprocess.run(
        [tmp_path / "app"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == "generation 5 index 0 cookie 0x0025 working 5\n", done.stderr
