# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Values of the socket options that are refused, cut or shared out: reference, section 2."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest

from testing.host import Host
from tests.kernel import sockopts as grm

ADDRESS = "127.0.0.1:4433"


@pytest.fixture
def sock(shared_host: Host, sockets: list[socket.socket]) -> socket.socket:
    """Return a socket bound while the hooks are there."""
    sockets.append(grm.udp())
    return sockets[0]


FILTER = grm.filter_of(*grm.COOKIE_FIRST)
ONE_TOO_MANY = grm.u32(65) + grm.filter_of(*[(0x16, 0, 0, 0)] * 64)[4:]
INVALID: list[tuple[int, dict[str, Any]]] = [
    *((kind, {}) for kind in (2, 5, 6, 15, 0x7FFF, 0x10000, 0xFFFFFFFF)),
    *(
        (kind, wrong)
        for kind in (grm.FLOW, grm.NOOP)
        for wrong in ({"rest": FILTER}, {"apps": 1}, {"digest": 1}, {"digest": 0xDEAD})
    ),
    (grm.CBPF, {}),
    (grm.CBPF, {"rest": ONE_TOO_MANY}),
    (grm.CBPF, {"rest": FILTER, "apps": 5}),
    (grm.CBPF, {"rest": FILTER, "digest": 0xDEAD}),
    (grm.BESPOKE, {"digest": 0}),
]


@pytest.mark.parametrize("verbose", [0, grm.VERBOSE])
@pytest.mark.parametrize(("kind", "wrong"), INVALID)
def test_what_is_invalid(
    shared_host: Host, sock: socket.socket, kind: int, wrong: dict[str, Any], verbose: int
) -> None:
    """Fail with EPERM and create no group; the socket may still get one."""
    assert grm.put_error(sock, grm.DISSECTOR, grm.dissector(kind | verbose, **wrong)) == 1
    assert grm.get_error(sock, grm.DISSECTOR, 632) == 77  # EBADFD
    assert grm.get_u32(sock, grm.WORKING_GEN) == grm.UNREGISTERED
    assert shared_host.groups() == []
    grm.put(sock, grm.DISSECTOR, grm.dissector(grm.NOOP))


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        (grm.WORKING_GEN, grm.u32(0), None),
        (grm.SOCKET_GEN, grm.u32(0), None),
        (grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1), None),
        (grm.FLOW_ASSURE, grm.sockaddr("2001:db8::1", 1), 1),
        (grm.SOCKET_APP, grm.u32(0), None),
        (grm.SOCKET_APP, grm.u32(1), 75),
    ],
)
def test_the_first_set_of_any_option_creates_the_group(
    shared_host: Host, sock: socket.socket, option: int, value: bytes, error: int | None
) -> None:
    """Create a group of FLOW with timeout 0, whether the set succeeds or not."""
    with shared_host.stopped():  # a running daemon deletes groups without registered sockets
        assert grm.put_error(sock, option, value) == error
        assert grm.get(sock, grm.DISSECTOR, 632)[0] == grm.dissector(grm.FLOW)
        assert shared_host.group(ADDRESS)["dissector"]["flow_timeout"] == 125


@pytest.mark.parametrize(
    ("length", "flow"),
    [
        (27, "[2001:db8:1:2::]:1234"),  # 16 bytes: half of the address
        (28, "[2001:db8:1:2:3:4:5:6]:1234"),
        (32, "[2001:db8:1:2:3:4:5:6]:1234"),
    ],
)
def test_lengths_of_a_peer(
    shared_host: Host, sockets: list[socket.socket], length: int, flow: str
) -> None:
    port = 4600 + length  # of its own: groups of other namespaces are in the answer, too
    sock = grm.udp("::1", port)
    sockets.append(sock)
    grm.register(sock, 1)
    value = grm.sockaddr("2001:db8:1:2:3:4:5:6", 1234).ljust(32, b"\xff")[:length]
    grm.put(sock, grm.FLOW_ASSURE, value)
    (group,) = shared_host.json("flows", f"[::1]:{port}")["groups"]
    assert [item["remote"] for item in group["flows"]] == [flow]


@pytest.mark.parametrize("apps", range(5))
def test_slots_of_applications(shared_host: Host, sockets: list[socket.socket], apps: int) -> None:
    """32 / applications each, rounded down; a generation's slot is its number modulo these."""
    share = 32 // max(apps, 1)
    value = grm.dissector(grm.CBPF, apps=apps, rest=FILTER)
    numbers = (0, share - 1, share, 2**32 - 1)
    for app, generation in itertools.product(range(max(apps, 1)), numbers):
        sock = grm.udp()
        sockets.append(sock)
        grm.put(sock, grm.DISSECTOR, value)
        grm.put(sock, grm.SOCKET_APP, grm.u32(app))
        index = grm.register(sock, generation)
        slot = app * share + generation % share
        assert grm.socket_gen(sock) == (generation, index, grm.cookie_of(slot, index))
