# SPDX-License-Identifier: Apache-2.0
"""The linker of templates: it binds references to maps, constants and functions.

A reference is a 64-bit load (BPF_LD | BPF_IMM | BPF_DW, two instructions) with
source register BPF_PSEUDO_MAP_FD and a value of bpf/abi.h's enum relocation. A
call of a function that is linked has a value of enum linked_function instead of
the id of a kernel function.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping

from udpgrm.abi import LinkedFunction
from udpgrm.kernel.ebpf import CALL_CODE, PSEUDO_CALL
from udpgrm.kernel.libbpf import PSEUDO_MAP_FD

_INSTRUCTION = struct.Struct("=BBhi")
_LD_IMM64 = 0x18
#: Kernel functions have lower ids.
_FIRST_FUNCTION = min(LinkedFunction)
NO_FUNCTIONS: Mapping[int, bytes] = {}


def _instructions(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (byte offset, code, source register, immediate) of every instruction."""
    offset = 0
    while offset < len(code):
        opcode, registers, _, number = _INSTRUCTION.unpack_from(code, offset)
        yield offset, opcode, registers >> 4, number
        offset += 16 if opcode == _LD_IMM64 else 8


#: Positions of what is linked: (byte offset, number) each.
_Positions = tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=32)
def _positions(code: bytes) -> tuple[_Positions, _Positions]:
    """Return a template's references (relocations), and its calls of linked functions.

    Kept, as a template is linked for each of many groups.
    """
    found, calls = [], []
    for offset, opcode, source, number in _instructions(code):
        if opcode == _LD_IMM64 and source == PSEUDO_MAP_FD:
            found.append((offset, number))
        elif opcode == CALL_CODE and source == 0 and number >= _FIRST_FUNCTION:
            calls.append((offset, number))
    return tuple(found), tuple(calls)


def references(code: bytes) -> _Positions:
    """Return (byte offset, relocation) of every reference of a template."""
    return _positions(code)[0]


def link(
    code: bytes,
    maps: Mapping[int, int],
    constants: Mapping[int, int],
    functions: Mapping[int, bytes] = NO_FUNCTIONS,
) -> bytes:
    """Bind every reference to a map's fd or to an unsigned 64-bit constant.

    Functions that are called are appended to the program, each once. Raises
    KeyError with the relocation of an unbound reference.
    """
    linked = bytearray(code)
    found, calls = _positions(code)
    for offset, number in found:
        _, registers, _, _ = _INSTRUCTION.unpack_from(code, offset)
        if number in maps:
            _INSTRUCTION.pack_into(linked, offset, _LD_IMM64, registers, 0, maps[number])
            continue
        value = constants[number]
        low, high = struct.unpack("=ii", struct.pack("=Q", value))
        _INSTRUCTION.pack_into(linked, offset, _LD_IMM64, registers & 0x0F, 0, low)
        _INSTRUCTION.pack_into(linked, offset + 8, 0, 0, 0, high)
    placed: dict[int, int] = {}
    for offset, number in calls:
        if number not in placed:
            placed[number] = len(linked)
            linked += functions[number]
        distance = (placed[number] - offset) // _INSTRUCTION.size - 1
        _INSTRUCTION.pack_into(linked, offset, CALL_CODE, PSEUDO_CALL << 4, 0, distance)
    return bytes(linked)
