# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import socket

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils._address import parse_address


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("[2001:DB8:0::1]:65535", "[2001:db8::1]:65535"),
        ("[::]:0443", "[::]:443"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1:443"),
        ("[0::FFFF:c000:0201]:443", "192.0.2.1:443"),
        ("[FE80::1%eth0]:443", "[fe80::1%eth0]:443"),
        ("0.0.0.0%vrf-blue:443", "0.0.0.0%vrf-blue:443"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(parse_address(text)) == canonical


def test_equal_however_written() -> None:
    assert parse_address("[2001:db8::1]:53") == parse_address("[2001:0DB8::0001]:53")
    assert parse_address("192.0.2.1:53") != parse_address("192.0.2.1:54")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:",
        ":443",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:443 ",
        "192.0.2.1:443\n",
        "192.0.2.256:443",
        "192.0.2:443",
        "[192.0.2.1]:443",
        "2001:db8::1:443",
        "[2001:db8::1]",
        "[fe80::1%]:443",
        "[fe80::1%a/b]:443",
        "localhost:443",
        "192.0.2.1:٤٤",
        "--force:1",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an address: "):
        parse_address(text)


def test_a_device_selects() -> None:
    lo = socket.if_nametoindex("lo")
    assert parse_address("0.0.0.0:443").selects("0.0.0.0:443", 7)
    assert parse_address("0.0.0.0%lo:443").selects("0.0.0.0:443", lo)
    assert not parse_address("0.0.0.0%lo:443").selects("0.0.0.0:443", 0)
    assert not parse_address("0.0.0.0%no-such:443").selects("0.0.0.0:443", lo)
    assert not parse_address("0.0.0.0:443").selects("0.0.0.0:444", 0)
