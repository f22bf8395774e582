# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the conversations that the radius dissector finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.dissectors.keys import KEY, Keys, siphash

REQUEST, ACCEPT, CHALLENGE = 1, 2, 11
STATE = 24
NAME = b"\1\7alice"
#: Attributes that are looked at.
MOST = 96


def attribute(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value) + 2]) + value


def packet(code: int, *attributes: bytes, identifier: int = 7) -> bytes:
    body = b"".join(attributes)
    return bytes([code, identifier]) + (20 + len(body)).to_bytes(2, "big") + bytes(16) + body


def expected(state: bytes) -> bytes:
    padded = state.ljust(-(-len(state) // 16) * 16, b"\0")
    return siphash((len(state) + 2).to_bytes(8, "little") + padded, KEY, 1, 3)


@given(
    state=st.binary(min_size=1, max_size=253),
    before=st.lists(st.tuples(st.integers(25, 255), st.binary(max_size=253)), max_size=8),
    identifier=st.integers(0, 255),
    padding=st.binary(max_size=20),
)
def test_states(
    keys: Keys, state: bytes, before: list[tuple[int, bytes]], identifier: int, padding: bytes
) -> None:
    attributes = [NAME, *(attribute(*item) for item in before), attribute(STATE, state)]
    for code in (REQUEST, CHALLENGE):
        payload = packet(code, *attributes, identifier=identifier) + padding
        assert keys.state(payload, code) == expected(state)
        assert keys.state(payload, code ^ 1) is None


def test_states_differ_by_every_byte(keys: Keys) -> None:
    states = [b"\0", b"\0\0", bytes(15), bytes(16), bytes(17), b"a" * 16, b"a" * 17, b"a" * 253]
    found = {keys.state(packet(REQUEST, attribute(STATE, state)), REQUEST) for state in states}
    assert len(found) == len(states)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\1",
        packet(REQUEST),
        packet(REQUEST, NAME),
        packet(REQUEST, NAME, attribute(STATE, b"")),
        packet(REQUEST, NAME, b"\x18\x05ab"),  # longer than the packet
        packet(REQUEST, NAME, b"\x4f\0\x18\5abc"),  # an attribute of no length
        packet(REQUEST, NAME, b"\x4f\1\x18\5abc"),
        packet(REQUEST, NAME) + attribute(STATE, b"padding"),
        packet(REQUEST, *[NAME] * MOST, attribute(STATE, b"abc")),
    ],
)
def test_what_has_none(keys: Keys, payload: bytes) -> None:
    assert keys.state(payload, REQUEST) is None


def test_the_last_attribute_that_is_looked_at(keys: Keys) -> None:
    payload = packet(REQUEST, *[NAME] * (MOST - 1), attribute(STATE, b"abc"))
    assert keys.state(payload, REQUEST) == expected(b"abc")
