# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The language of classic BPF: instructions, and where they lead.

Source: Linux Documentation/networking/filter.rst, linux/filter.h and, for what loads at
negative offsets mean, net/core/filter.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# classes, and in a class: sizes, modes, operands, operations
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
FROM_X = 0x08
TAX, TXA, RETURN_A = 0x00, 0x80, 0x10
ARITHMETIC = {0x00, 0x10, 0x20, 0x40, 0x50, 0xA0}
DIVISIONS, SHIFTS, NEG = {0x30, 0x90}, {0x60, 0x70}, 0x80
JA, JEQ, JGT, JGE, JSET = 0x00, 0x10, 0x20, 0x30, 0x40
MEMORY_SLOTS = 16
U32 = 0xFFFFFFFF

# loads at negative offsets: from another header, or of something beside the packet
SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF = 0xFFFFF000, 0xFFF00000, 0xFFE00000
AD_PROTOCOL, AD_RXHASH, AD_CPU, AD_XOR_X, AD_RANDOM = 0, 32, 36, 40, 56
ANCILLARY = {AD_PROTOCOL, AD_RXHASH, AD_CPU, AD_XOR_X, AD_RANDOM}


@dataclass(frozen=True)
class Instruction:
    """A classic instruction: code, jump offsets if true and if false, constant."""

    code: int
    jt: int
    jf: int
    k: int


Filter = Sequence[Instruction]


def loads_beside_packet(filter_: Filter) -> list[int]:
    """Return the positions of loads that only socket filters may make: they fail.

    These are loads of ancillary data that the conversion does not know (as SKF_AD_VLAN_TAG).
    """
    return [
        position
        for position, item in enumerate(filter_)
        if item.code & 0xE7 == LD | ABS
        and item.k >= SKF_AD_OFF
        and item.k - SKF_AD_OFF not in ANCILLARY
    ]


def successors(item: Instruction, position: int) -> tuple[int, ...]:
    """Return the positions that may follow an instruction; conditions may always hold."""
    kind, operation = item.code & 0x07, item.code & 0xF0
    if kind == RET:
        return ()
    if kind != JMP:
        return (position + 1,)
    if operation == JA:
        return (position + 1 + item.k,)
    yes, no = position + 1 + item.jt, position + 1 + item.jf
    if not item.code & FROM_X:
        if operation == JGE and item.k == 0:
            return (yes,)
        if (operation == JSET and item.k == 0) or (operation == JGT and item.k == U32):
            return (no,)
    return (yes,) if yes == no else (yes, no)
