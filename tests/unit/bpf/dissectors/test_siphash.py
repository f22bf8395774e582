# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The hash of what flows are keyed by, and the pieces of packets that it is made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.dissectors.keys import KEY, Keys, siphash


def test_the_second_implementation() -> None:
    """Vectors of the authors' vectors.h, vectors_sip128, of SipHash-2-4."""
    for length, expected in (
        (0, "a3817f04ba25a8e66df67214c7550293"),
        (1, "da87c1d86b99af44347659119b22fc45"),
    ):
        assert siphash(bytes(range(length)), KEY, 2, 4).hex() == expected


@given(words=st.binary(max_size=40).map(lambda data: data[: len(data) // 8 * 8]))
def test_hashes(keys: Keys, words: bytes) -> None:
    assert keys.siphash(words) == siphash(words, KEY, 1, 3)


@given(packet=st.binary(min_size=16, max_size=60), at=st.integers(0, 80), end=st.integers(16, 60))
def test_pieces(keys: Keys, packet: bytes, at: int, end: int) -> None:
    end = min(end, len(packet))
    assert keys.piece(packet, at, end) == packet[at:end][:16].ljust(16, b"\0")
