# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""keys.c as a library, and what it computes, written a second time."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Optional

from tests.unit.bpf.support import compile_c
from udpgrm import abi

SOURCE = Path(__file__).with_name("keys.c")
KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
#: Of the headers before a payload.
BEFORE = 28
_MASK = 2**64 - 1


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


def siphash(data: bytes, key: tuple[int, int], compression: int, finalization: int) -> bytes:
    """Return the hash of 128 bits (Aumasson, Bernstein: SipHash-c-d)."""
    v0, v1 = key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D ^ 0xEE
    v2, v3 = key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0 = (v0 + v1) & _MASK
            v1 = _rotated(v1, 13) ^ v0
            v0 = _rotated(v0, 32)
            v2 = (v2 + v3) & _MASK
            v3 = _rotated(v3, 16) ^ v2
            v0 = (v0 + v3) & _MASK
            v3 = _rotated(v3, 21) ^ v0
            v2 = (v2 + v1) & _MASK
            v1 = _rotated(v1, 17) ^ v2
            v2 = _rotated(v2, 32)

    last = data[len(data) // 8 * 8 :].ljust(7, b"\0") + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8] + last):
        v3 ^= word
        rounds(compression)
        v0 ^= word
    v2 ^= 0xEE
    rounds(finalization)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    rounds(finalization)
    return struct.pack("<QQ", first, v0 ^ v1 ^ v2 ^ v3)


class Keys:
    """The functions of keys.c, with a key of the hash."""

    def __init__(self, scratch: Path) -> None:
        self._library = ctypes.CDLL(str(compile_c(SOURCE, scratch / "keys.so", "-shared", "-fPIC")))
        self._library.test_set_hash_key(*map(ctypes.c_uint64, KEY))

    def siphash(self, data: bytes) -> bytes:
        """Return the hash of whole words."""
        found = ctypes.create_string_buffer(16)
        self._library.test_siphash(data, len(data) // 8, found)
        return found.raw

    def piece(self, packet: bytes, at: int, end: int) -> bytes:
        """Return 16 bytes of a packet, 0 beyond `end`."""
        found = (ctypes.c_uint64 * 2)()
        self._library.test_piece(packet, len(packet), at, end, found)
        return struct.pack("<QQ", *found)

    def call(self, payload: bytes) -> tuple[Optional[bytes], bool]:
        """Return the hash of a SIP message's flow, None without one; and whether it ends it."""
        key, ends = abi.FlowKey(), ctypes.c_uint64()
        packet = bytes(BEFORE) + payload
        arguments = (packet, BEFORE, len(packet), ctypes.byref(key), ctypes.byref(ends))
        if self._library.test_sip_key(*arguments):
            return None, False
        assert (key.port, key.keyed_by) == (0, abi.KeyedBy.CALL_ID)
        return bytes(key.addr), bool(ends.value)

    def state(self, payload: bytes, code: int) -> Optional[bytes]:
        """Return the hash of a RADIUS packet's flow, None without one."""
        key = abi.FlowKey()
        packet = bytes(BEFORE) + payload
        if self._library.test_radius_key(packet, BEFORE, len(packet), code, ctypes.byref(key)):
            return None
        assert (key.port, key.keyed_by) == (0, abi.KeyedBy.STATE)
        return bytes(key.addr)
