# SPDX-License-Identifier: Apache-2.0
"""The socket options, value by value and errno by errno (reference, section 2)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import Host, wait_for, wait_for_index
from udpgrm import abi
from udpgrm.abi import DissectorType, Option

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
_libc = ctypes.CDLL(None, use_errno=True)


def u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def get(sock: socket.socket, option: int, size: int = 4) -> bytes:
    """Call getsockopt(2) itself: Python's own refuses more than 1024 bytes."""
    value = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(sock.fileno(), socket.IPPROTO_UDP, option, value, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return value.raw[: length.value]


def put(sock: socket.socket, option: int, value: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, option, value)


def assure(sock: socket.socket, value: bytes) -> None:
    """Assure a flow. EAGAIN: other tests have taken the flow tables that were prepared."""

    def is_done() -> bool:
        with contextlib.suppress(BlockingIOError):
            put(sock, Option.FLOW_ASSURE, value)
            return True
        return False

    wait_for(is_done, "a flow table")


def get_error(sock: socket.socket, option: int, size: int = 4) -> int:
    with pytest.raises(OSError) as caught:
        get(sock, option, size)
    assert caught.value.errno is not None
    return caught.value.errno


def put_error(sock: socket.socket, option: int, value: bytes) -> int:
    with pytest.raises(OSError) as caught:
        put(sock, option, value)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 4433))
        yield sock


def another() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    return sock


def test_without_hooks(bare_host: Host, bound: socket.socket) -> None:
    for option in Option:
        assert get_error(bound, option) == errno.ENOPROTOOPT
        assert put_error(bound, option, u32(0)) == errno.ENOPROTOOPT


@pytest.mark.parametrize("option", Option)
def test_set_without_state(host: Host, option: Option) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert put_error(sock, option, u32(0)) == errno.EBADF
        sock.bind(("127.0.0.1", 0))  # no SO_REUSEPORT
        assert put_error(sock, option, u32(0)) == errno.EBADF


def test_bound_before_the_hooks(bare_host: Host, bound: socket.socket) -> None:
    bare_host.start()
    assert put_error(bound, Option.WORKING_GEN, u32(1)) == errno.EBADF
    assert get(bound, Option.WORKING_GEN) == u32(abi.GENERATION_NONE)
    assert get_error(bound, Option.SOCKET_GEN) == errno.EBADFD


def test_bound_before_the_hooks_and_the_group(bare_host: Host, bound: socket.socket) -> None:
    """Show a socket without state the group that others of its address have made."""
    bare_host.start()
    with another() as sock:
        put(sock, Option.WORKING_GEN, u32(7))
        assert get(bound, Option.WORKING_GEN) == u32(7)
        assert get(bound, Option.DISSECTOR, 632) == dissector(DissectorType.FLOW)
    assert put_error(bound, Option.WORKING_GEN, u32(8)) == errno.EBADF
    assert get_error(bound, Option.SOCKET_GEN) == errno.EBADFD


@pytest.mark.parametrize("reuseport", [0, 1])
def test_a_bind_that_failed(host: Host, reuseport: int) -> None:
    """Take SO_REUSEPORT as it was set when the socket was bound at last."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        taken.bind(("127.0.0.1", 4433))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="Address already in use"):
            sock.bind(("127.0.0.1", 4433))
        assert put_error(sock, Option.WORKING_GEN, u32(1)) == errno.EBADF
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
        sock.bind(("127.0.0.1", 4434))
        if reuseport:
            put(sock, Option.WORKING_GEN, u32(1))
        else:
            assert put_error(sock, Option.WORKING_GEN, u32(1)) == errno.EBADF


def test_a_second_bind(host: Host) -> None:
    """Refuse options on a socket whose SO_REUSEPORT came too late: its second bind(2) fails."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 4433))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="Invalid argument"):
            sock.bind(("127.0.0.1", 4433))
        assert put_error(sock, Option.WORKING_GEN, u32(1)) == errno.EBADF


def test_a_port_that_was_given_back(host: Host) -> None:
    """Refuse options once connect(2) to AF_UNSPEC gave the port back; others may have it then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        first = sock.getsockname()[1]
        put(sock, Option.WORKING_GEN, u32(7))
        sock.connect(("127.0.0.1", 9))
        assert _libc.connect(sock.fileno(), bytes(16), 16) == 0
        assert put_error(sock, Option.WORKING_GEN, u32(8)) == errno.EBADF
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", first))
            sock.connect(("127.0.0.1", 9))
            second = sock.getsockname()[1]
            assert second not in (0, first)
        with grm.bind(f"127.0.0.1:{second}")[0] as beside:
            grm.enroll([beside], 0)  # a group without any is collected
            put(sock, Option.WORKING_GEN, u32(9))
            [group] = host.groups(f"127.0.0.1:{second}")
        assert group["applications"][0]["working_generation"] == 9


def test_not_yet_bound_with_reuseport(host: Host) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        assert put_error(sock, Option.WORKING_GEN, u32(1)) == errno.EBADF
        assert get(sock, Option.WORKING_GEN) == u32(abi.GENERATION_NONE)
        assert get_error(sock, Option.SOCKET_GEN) == errno.EBADFD
        assert get_error(sock, Option.DISSECTOR, 632) == errno.EBADFD


def test_values_before_the_group(host: Host, bound: socket.socket) -> None:
    assert get(bound, Option.WORKING_GEN) == u32(abi.GENERATION_NONE)
    generation, index, cookie = struct.unpack("=IIHxx", get(bound, Option.SOCKET_GEN, 12))
    assert (generation, index) == (abi.GENERATION_NONE, abi.GENERATION_NONE)
    assert cookie == abi.make_cookie(31, 255) == 0xFF7F
    assert get_error(bound, Option.DISSECTOR, 632) == errno.EBADFD
    assert get(bound, Option.SOCKET_APP) == u32(0)
    assert host.groups() == []


def test_working_generation(host: Host, bound: socket.socket) -> None:
    with host.stopped():  # a running daemon deletes groups without registered sockets
        put(bound, Option.WORKING_GEN, u32(7))
        assert get(bound, Option.WORKING_GEN) == u32(7)
        with another() as sock:  # has set no option itself
            assert get(sock, Option.WORKING_GEN) == u32(7)
        view = host.group(ADDRESS)
    assert view["applications"] == [{"application": 0, "working_generation": 7}]
    assert view["dissector"]["type"] == "flow"
    assert view["dissector"]["flow_timeout"] == 125


@pytest.mark.parametrize("length", [0, 1, 3])
def test_short_values_begin_a_word(host: Host, bound: socket.socket, length: int) -> None:
    put(bound, Option.WORKING_GEN, u32(9))
    put(bound, Option.WORKING_GEN, b"\xff" * length)
    assert get(bound, Option.WORKING_GEN) == (b"\xff" * length).ljust(4, b"\0")


@pytest.mark.parametrize("length", [4, 5, 7, 8, 100, 4096, 5000])
def test_longer_values_are_cut(host: Host, bound: socket.socket, length: int) -> None:
    put(bound, Option.WORKING_GEN, u32(9) + b"\xff" * (length - 4))
    assert get(bound, Option.WORKING_GEN) == u32(9)


@pytest.mark.parametrize("option", Option)
def test_get_lengths(host: Host, bound: socket.socket, option: Option) -> None:
    put(bound, Option.WORKING_GEN, u32(1))
    for size in (1, 2, 3):
        assert get_error(bound, option, size) == errno.EFAULT
    assert get_error(bound, option, 4097) == errno.ENOPROTOOPT
    if option == Option.FLOW_ASSURE:
        assert get_error(bound, option, 28) == errno.EPERM
    else:
        for size in (4, 5, 13, 632, 4096):
            assert len(get(bound, option, size)) == size


def test_partial_socket_gen(host: Host, bound: socket.socket) -> None:
    put(bound, Option.SOCKET_GEN, u32(5))
    wait_for_index(bound)
    full = struct.pack("=IIHH", 5, 0, abi.make_cookie(5, 0), 0)
    assert get(bound, Option.SOCKET_GEN, 12) == full
    assert get(bound, Option.SOCKET_GEN, 8) == full[:8]
    assert get(bound, Option.SOCKET_GEN, 11) == full[:8] + bytes(3)
    assert get(bound, Option.SOCKET_GEN, 4) == full[:4]
    assert get(bound, Option.SOCKET_GEN, 16) == full + bytes(4)


@pytest.mark.parametrize("generation", [0, 1, 31, 32, 33, 2**31, 2**32 - 1])
def test_any_generation_is_accepted(host: Host, bound: socket.socket, generation: int) -> None:
    assert grm.enroll([bound], generation) == [0]
    place = grm.socket_generation(bound)
    assert place.generation == generation
    assert place.cookie == abi.make_cookie(generation % 32, 0)
    grm.promote(bound, generation)
    group = host.group(ADDRESS)
    assert group["applications"][0]["working_generation"] == generation
    assert [item["generation"] for item in group["generations"]] == [generation]


def test_other_options_pass(host: Host, bound: socket.socket) -> None:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    udp_cork = 1
    put(bound, udp_cork, u32(0))
    for option in (199, 205):
        assert get_error(bound, option) == errno.ENOPROTOOPT
        assert put_error(bound, option, bytes(5000)) == errno.ENOPROTOOPT


def test_tcp_is_left_alone(host: Host) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert get_error(sock, Option.WORKING_GEN) == errno.EOPNOTSUPP  # TCP's own answer
        assert put_error(sock, Option.WORKING_GEN, u32(1)) == errno.ENOPROTOOPT


def dissector(kind: int, **fields: object) -> bytes:
    return bytes(abi.Dissector(type=kind, **fields))


def test_dissector_is_set_once(host: Host, bound: socket.socket) -> None:
    noop = dissector(DissectorType.NOOP, label=b"edge")
    put(bound, Option.DISSECTOR, noop)
    put(bound, Option.DISSECTOR, noop)
    assert get(bound, Option.DISSECTOR, 632) == noop
    for size in (4, 8, 12, 16, 116, 376):
        assert get(bound, Option.DISSECTOR, size) == noop[:size]
    assert get(bound, Option.DISSECTOR, 120) == noop[:116] + bytes(4)
    verbose = dissector(DissectorType.NOOP | abi.DISSECTOR_VERBOSE, label=b"edge")
    put(bound, Option.DISSECTOR, verbose)
    assert get(bound, Option.DISSECTOR, 4) == verbose[:4]
    for other in (
        dissector(DissectorType.FLOW, label=b"edge"),
        dissector(DissectorType.NOOP, label=b"edgy"),
        dissector(DissectorType.NOOP),
        dissector(DissectorType.NOOP, label=b"edge", flow_timeout_s=1),
    ):
        assert put_error(bound, Option.DISSECTOR, other) == errno.EPERM
    assert get(bound, Option.DISSECTOR, 632) == verbose


@pytest.mark.parametrize("length", [4, 8, 12, 16, 28, 116, 376, 632, 700])
def test_short_forms_of_the_dissector(host: Host, bound: socket.socket, length: int) -> None:
    value = dissector(DissectorType.FLOW, flow_timeout_s=5 if length >= 8 else 0)
    put(bound, Option.DISSECTOR, (value + bytes(100))[:length])
    assert get(bound, Option.DISSECTOR, 632) == value


def test_the_rest_of_a_short_form_counts_as_zero(host: Host, bound: socket.socket) -> None:
    put(bound, Option.DISSECTOR, u32(DissectorType.FLOW) + b"\xff" * 3)
    assert get(bound, Option.DISSECTOR, 632) == dissector(DissectorType.FLOW)


@pytest.mark.parametrize(
    "value",
    [
        dissector(2),
        dissector(5),
        dissector(0x4000),
        dissector(DissectorType.FLOW, filter_len=1),
        dissector(DissectorType.FLOW, max_apps=1),
        dissector(DissectorType.NOOP, digest=1),
        dissector(DissectorType.NOOP, max_apps=4),
        dissector(DissectorType.CBPF),
        dissector(DissectorType.CBPF, filter_len=65),
        dissector(DissectorType.CBPF, filter_len=1, max_apps=5),
        dissector(DissectorType.CBPF, filter_len=1, digest=1),
    ],
)
def test_invalid_dissector_creates_no_group(host: Host, bound: socket.socket, value: bytes) -> None:
    for _ in range(40):  # more often than there are prepared groups: none is lost
        assert put_error(bound, Option.DISSECTOR, value) == errno.EPERM
    assert get(bound, Option.WORKING_GEN) == u32(abi.GENERATION_NONE)
    assert host.groups() == []
    put(bound, Option.DISSECTOR, dissector(DissectorType.FLOW))


def test_failing_set_creates_the_group(host: Host, bound: socket.socket) -> None:
    assert put_error(bound, Option.SOCKET_APP, u32(1)) == errno.EOVERFLOW
    assert get(bound, Option.WORKING_GEN) == u32(0)
    assert get(bound, Option.DISSECTOR, 632) == dissector(DissectorType.FLOW)


@pytest.mark.parametrize("generation", [1, 2**32 - 1])
def test_application(host: Host, bound: socket.socket, generation: int) -> None:
    put(bound, Option.SOCKET_APP, u32(0))
    assert put_error(bound, Option.SOCKET_APP, u32(4)) == errno.EOVERFLOW
    grm.enroll([bound], generation)
    put(bound, Option.SOCKET_APP, u32(0))
    assert put_error(bound, Option.SOCKET_APP, u32(1)) == errno.EEXIST


def sockaddr(host: str, port: int) -> bytes:
    if ":" in host:
        return (
            struct.pack("=H", socket.AF_INET6)
            + struct.pack("!HI", port, 0)
            + socket.inet_pton(socket.AF_INET6, host)
            + bytes(4)
        )
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def test_flow_assure(host: Host, bound: socket.socket) -> None:
    """Assure flows of sockets in no generation, too, before the daemon has seen them."""
    peer = sockaddr("192.0.2.1", 1234)
    assure(bound, peer)
    assure(bound, peer)
    with another() as sock:
        assert put_error(sock, Option.FLOW_ASSURE, peer) == errno.EEXIST
        assure(sock, sockaddr("192.0.2.1", 1235))
    for value in (sockaddr("2001:db8::1", 1), bytes(28), struct.pack("=H", 7) + bytes(14)):
        assert put_error(bound, Option.FLOW_ASSURE, value) == errno.EPERM
    assert get_error(bound, Option.FLOW_ASSURE, 16) == errno.EPERM


def test_flow_assure_mapped_addresses(host: Host) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        for sock in (one, two):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("::", 4433))
        assure(one, sockaddr("192.0.2.1", 99))
        assert put_error(two, Option.FLOW_ASSURE, sockaddr("::ffff:192.0.2.1", 99)) == errno.EEXIST
        assure(two, sockaddr("2001:db8::1", 99))
        assert put_error(one, Option.FLOW_ASSURE, sockaddr("2001:db8::1", 99)) == errno.EEXIST


@pytest.mark.parametrize(
    ("where", "peer"),
    [("::1", "192.0.2.1"), ("::1", "::ffff:192.0.2.1"), ("::ffff:127.0.0.1", "::1")],
)
def test_flow_assure_of_a_family_that_cannot_arrive(host: Host, where: str, peer: str) -> None:
    """Refuse IPv4 peers of an IPv6 socket, but at a wildcard or a mapped address."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((where, 4433))
        assert put_error(sock, Option.FLOW_ASSURE, sockaddr(peer, 99)) == errno.EPERM
        assure(sock, sockaddr("192.0.2.1" if "." in where else "::1", 99))


def test_flow_assure_needs_a_flow_group(host: Host, bound: socket.socket) -> None:
    put(bound, Option.DISSECTOR, dissector(DissectorType.NOOP))
    assert put_error(bound, Option.FLOW_ASSURE, sockaddr("192.0.2.1", 1)) == errno.EPERM


@pytest.mark.parametrize("state", ["stopped", "dead"])
def test_everything_but_the_index_works_without_a_daemon(
    own_host: Host, bound: socket.socket, state: str
) -> None:
    os.kill(own_host.process.pid, signal.SIGSTOP)
    if state == "dead":
        own_host.kill()
    put(bound, Option.DISSECTOR, dissector(DissectorType.FLOW, flow_timeout_s=9))
    put(bound, Option.SOCKET_GEN, u32(3))
    put(bound, Option.WORKING_GEN, u32(3))
    assure(bound, sockaddr("192.0.2.1", 1))
    assert get(bound, Option.WORKING_GEN) == u32(3)
    assert grm.socket_generation(bound) == grm.SocketGeneration(3, None, abi.make_cookie(3, 255))
    if state == "dead":
        own_host.start()
    else:
        os.kill(own_host.process.pid, signal.SIGCONT)
    wait_for_index(bound)


def test_full_queue(own_host: Host, bound: socket.socket) -> None:
    grm.enroll([bound], 0)
    with own_host.stopped():
        accepted = 0
        with pytest.raises(BlockingIOError):
            while accepted < 100_000:
                put(bound, Option.SOCKET_GEN, u32(accepted + 1))
                accepted += 1
        assert 1000 < accepted < 100_000
        assert grm.socket_generation(bound).generation == accepted
        put(bound, Option.WORKING_GEN, u32(5))  # needs no message
        assert get(bound, Option.WORKING_GEN) == u32(5)
    wait_for(lambda: grm.socket_generation(bound).index == 0, "the last registration")
    assert grm.enroll([bound], 1) == [0]


def test_table_full(bare_host: Host) -> None:
    config = bare_host.scratch / "conf"
    config.write_text("[limits]\ngroups = 3\nprepared_groups = 3\n")
    bare_host.start(f"--config={config}")
    made = []
    try:
        for port in range(5000, 5003):
            made += grm.bind(f"127.0.0.1:{port}")
        with pytest.raises(OSError) as caught:
            grm.bind("127.0.0.1:5003")
        assert caught.value.errno == errno.EBADF
    finally:
        for sock in made:
            sock.close()
