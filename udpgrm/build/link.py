# SPDX-License-Identifier: Apache-2.0
"""Templates to programs: numbers in the bytecode become maps and constants.

A reference is a 64-bit load (BPF_LD | BPF_IMM | BPF_DW, two instructions) with
source register BPF_PSEUDO_MAP_FD and a number of bpf/abi.h's enum relocation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from udpgrm.kernel.libbpf import PSEUDO_MAP_FD

_INSTRUCTION = struct.Struct("=BBhi")
_LD_IMM64 = 0x18


def references(code: bytes) -> Iterator[tuple[int, int]]:
    """(byte offset, number) of every reference of a template."""
    offset = 0
    while offset < len(code):
        opcode, registers, _, number = _INSTRUCTION.unpack_from(code, offset)
        if opcode == _LD_IMM64:
            if registers >> 4 == PSEUDO_MAP_FD:
                yield offset, number
            offset += 8
        offset += 8


def link(code: bytes, maps: Mapping[int, int], constants: Mapping[int, int]) -> bytes:
    """Bind every reference to a map's fd or to an unsigned 64-bit constant.

    Raises KeyError with the number of a reference that is neither.
    """
    linked = bytearray(code)
    for offset, number in references(code):
        _, registers, _, _ = _INSTRUCTION.unpack_from(code, offset)
        if number in maps:
            _INSTRUCTION.pack_into(linked, offset, _LD_IMM64, registers, 0, maps[number])
            continue
        value = constants[number]
        low, high = struct.unpack("=ii", struct.pack("=Q", value))
        _INSTRUCTION.pack_into(linked, offset, _LD_IMM64, registers & 0x0F, 0, low)
        _INSTRUCTION.pack_into(linked, offset + 8, 0, 0, 0, high)
    return bytes(linked)
