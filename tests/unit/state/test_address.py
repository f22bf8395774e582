# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Addresses: as users write them, and as the hooks put them into keys."""

from __future__ import annotations

import ctypes
import ipaddress
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udpgrm import abi
from udpgrm.state import address

ports = st.integers(1, 65535)
ips = st.ip_addresses()


def text_of(ip: address.IPAddress, port: int) -> str:
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


@pytest.mark.parametrize(
    "text, ip, port",
    [
        ("192.0.2.1:443", "192.0.2.1", 443),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("[::]:65535", "::", 65535),
        ("[2001:DB8:0::1]:443", "2001:db8::1", 443),
        ("192.0.2.1:0443", "192.0.2.1", 443),
    ],
)
def test_right(text: str, ip: str, port: int) -> None:
    assert address.read(text)[:2] == (ipaddress.ip_address(ip), port)


def test_listeners_of_tcp() -> None:
    where = address.read("[2001:db8::1%eth0]:53/tcp")
    assert (where.tcp, where.port, where.device) == (True, 53, "eth0")
    assert str(where) == "[2001:db8::1%eth0]:53/tcp"
    assert where.plain == "[2001:db8::1]:53/tcp"
    assert address.of_key(where.key) == where.plain
    assert bytes(where.key) != bytes(where._replace(tcp=False).key)
    with pytest.raises(ValueError, match="sockets of UDP are wanted here"):
        address.read_udp("192.0.2.1:53/tcp")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_sockets_are_of_their_protocol(kind: int) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        where = address.read(str(address.bound(sock)))
        assert where.tcp == (kind == socket.SOCK_STREAM)
        assert where.selects_socket(sock)
        assert not where._replace(tcp=not where.tcp).selects_socket(sock)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "443",
        ":443",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2.1:1_0",
        "192.0.2.1:٣",
        "192.0.2.1:" + "9" * 5000,
        "192.0.2:443",
        "192.0.2.256:443",
        "192.0.2.1/32:443",
        "192.0.2.1:443/udp",
        "192.0.2.1:443/tcp/tcp",
        "localhost:443",
        "[192.0.2.1]:443",
        "2001:db8::1:443",
        "2001:db8::1",
        "[2001:db8::1]",
        "[2001:db8::1]443",
        "[2001:db8::1:443",
        "2001:db8::1]:443",
        "[[::]]:443",
        "[]:443",
        "a\nb:1",
    ],
)
def test_wrong(text: str) -> None:
    with pytest.raises(ValueError) as error:
        address.read(text)
    assert str(error.value).startswith(f"not an ADDRESS:PORT: {text!r} ")
    assert len(str(error.value).splitlines()) == 1


@given(ips, ports)
def test_parse_undoes_form(ip: address.IPAddress, port: int) -> None:
    assert address.form(str(ip), port) == text_of(ip, port)
    meant = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    assert address.read(address.form(str(ip), port))[:2] == (meant or ip, port)


@given(st.text())
def test_any_text_is_right_or_a_value_error(text: str) -> None:
    try:
        ip, port = address.read(text)[:2]
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert address.read(address.form(str(ip), port))[:2] == (ip, port)


@given(ip=ips, port=ports)
@example(ip=ipaddress.ip_address("127.0.0.1"), port=443)
@example(ip=ipaddress.ip_address("::ffff:0:0:1"), port=256)
def test_keys_that_hooks_make(functions: ctypes.CDLL, ip: address.IPAddress, port: int) -> None:
    key = abi.GroupKey()
    addr = ctypes.create_string_buffer(ip.packed, 16)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    functions.test_group_key(ctypes.byref(key), family, port, addr, None)
    if ip.version == 6 and ip.ipv4_mapped:
        ip, family = ip.ipv4_mapped, socket.AF_INET
    assert (key.netns, key.ifindex, key.family) == (4026531840, 7, family)
    assert address.port_of(key) == port
    found = address.ip_of(key)
    assert ipaddress.ip_address(found) == ip
    assert address.of_key(key) == text_of(ipaddress.ip_address(found), port)


@pytest.mark.parametrize(
    ("family", "source", "bound"),
    [
        (socket.AF_INET, "192.0.2.1", "0.0.0.0"),
        (socket.AF_INET6, "2001:db8::1", "::"),
        (socket.AF_INET6, "::ffff:192.0.2.1", "::"),
    ],
)
def test_what_connect_shows_of_a_wildcard(
    functions: ctypes.CDLL, family: int, source: str, bound: str
) -> None:
    key = abi.GroupKey()
    addr = ctypes.create_string_buffer(ipaddress.ip_address(source).packed, 16)
    request = abi.SocketRequest(wildcard=1, ifindex=3)
    functions.test_group_key(ctypes.byref(key), family, 443, addr, ctypes.byref(request))
    assert (key.ifindex, key.family, address.ip_of(key)) == (3, family, bound)


def test_a_dual_stack_sockets_v4_peer() -> None:
    raw = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.9")
    key = abi.FlowKey(addr=(ctypes.c_uint8 * 16)(*raw), port=socket.htons(4433))
    assert address.of_key(key) == "192.0.2.9:4433"


@pytest.mark.parametrize(
    "text, plain, device, usual",
    [
        ("[FE80::5%eth0]:443", "[fe80::5]:443", "eth0", "[fe80::5%eth0]:443"),
        ("0.0.0.0%vrf-blue:443", "0.0.0.0:443", "vrf-blue", "0.0.0.0%vrf-blue:443"),
        ("[::%3]:0443", "[::]:443", "3", "[::%3]:443"),
        ("[::ffff:192.0.2.1%eth0.7]:443", "192.0.2.1:443", "eth0.7", "192.0.2.1%eth0.7:443"),
    ],
)
def test_devices(text: str, plain: str, device: str, usual: str) -> None:
    where = address.read(text)
    assert (where.plain, where.device, str(where)) == (plain, device, usual)
    assert address.read(usual) == where
    assert where.port == 443


@pytest.mark.parametrize("device", ["", "a b", "a/b", "a%b", "a:b", "sixteen-letters-"])
def test_no_device(device: str) -> None:
    with pytest.raises(ValueError, match=r"network device|ADDRESS:PORT"):
        address.read(f"[fe80::1%{device}]:443")


def test_a_selection() -> None:
    lo = socket.if_nametoindex("lo")
    plain, device = address.read("[fe80::1]:443"), address.read("[fe80::1%lo]:443")
    assert plain.selects("[fe80::1]:443", 0) and plain.selects("[fe80::1]:443", 7)
    assert device.selects("[fe80::1]:443", lo) and not device.selects("[fe80::1]:443", 0)
    assert not device.selects("[fe80::2]:443", lo)
    gone = address.read("[fe80::1%no-such]:443")
    assert not gone.selects("[fe80::1]:443", lo)
    with pytest.raises(ValueError, match="no network device 'no-such'"):
        gone.ifindex()


@given(ips.filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None), ports)
def test_every_usual_spelling_is_read(ip: address.IPAddress, port: int) -> None:
    for device in ("", "eth0"):
        where = address.Where(ip, port, device)
        assert address.read(str(where)) == where


@pytest.mark.parametrize(
    "ip",
    ["::192.0.2.1", "::ffff:192.0.2.1", "::1", "::", "2001:db8::c000:201", "fe80::1", "1.2.3.4"],
)
def test_groups_are_listed_as_their_address_is_read(ip: str) -> None:
    """List an address in the form that can be given back, whatever inet_ntop(3) makes of it."""
    listed = address.of_key(address.flow_key(ip, 53))
    where = address.read(address.form(ip, 53))
    assert listed == where.plain
    assert where.selects(listed, 0)
