# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Mutations of kept inputs, for the short form: the same seed makes the same inputs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

MOST_BYTES = 4096
#: Lengths, counts and types at their limits.
_NUMBERS = (0, 1, 0x3F, 0x7F, 0x80, 0xC0, 0xFF)
_WORDS = (
    b"null",
    b"-1",
    b"1e999",
    b"{}",
    b"[]",
    b'""',
    b"\xff\xfe",
    b"\0",
    b"18446744073709551616",
)


def mutated(inputs: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield so many inputs, each made of a kept one by up to four changes."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 4)):
            _change(data, inputs, chance)
        yield bytes(data[:MOST_BYTES])


def _change(data: bytearray, inputs: Sequence[bytes], chance: random.Random) -> None:
    """Make one change in place."""
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.randint(1, 16))
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = chance.choice(_NUMBERS)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data[at:at] = data[at:end]
    elif kind == 5:
        data[at:at] = chance.choice(_WORDS)
    else:
        other = chance.choice(inputs)
        data[at:] = other[chance.randint(0, len(other)) :]
