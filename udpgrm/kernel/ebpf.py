# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""eBPF instructions and code with labels.

Source of the encoding: RFC 9669. Classic BPF uses the same codes for arithmetic
and for jumps, so they can be copied.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from enum import IntEnum
from typing import Optional

INSTRUCTION = struct.Struct("=BBhI")
_U32 = 0xFFFFFFFF

# classes
ALU, JMP, JMP32, ALU64 = 0x04, 0x05, 0x06, 0x07
# source of an operand: a register instead of the immediate
REGISTER = 0x08
# arithmetic
ADD, SUB, AND, LSH, XOR, MOV, TO_BIG_ENDIAN = 0x00, 0x10, 0x50, 0x60, 0xA0, 0xB0, 0xD8
# jumps
JA, JEQ, JGT, JNE, CALL, EXIT = 0x00, 0x10, 0x20, 0x50, 0x80, 0x90
# memory: BPF_LDX | BPF_MEM, BPF_STX | BPF_MEM by bytes
LOADS = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
STORE_WORD, STORE_DOUBLE = 0x63, 0x7B
#: Source register of a call within the program.
PSEUDO_CALL = 1
CALL_CODE = JMP | CALL


class Helper(IntEnum):
    """The ids of kernel functions: enum bpf_func_id."""

    GET_PRANDOM_U32 = 7
    GET_SMP_PROCESSOR_ID = 8
    SKB_LOAD_BYTES = 26
    SKB_LOAD_BYTES_RELATIVE = 68


class Code:
    """A sequence of instructions; jumps name labels that may come later."""

    def __init__(self) -> None:
        """Start without instructions."""
        self._instructions: list[tuple[int, int, int, int, int]] = []
        self._labels: dict[Hashable, int] = {}
        self._jumps: dict[int, Hashable] = {}

    def label(self, name: Hashable) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._instructions)

    def wants(self, name: Hashable) -> bool:
        """Return whether a jump leads to this label: the verifier refuses unreachable code."""
        return name in self._jumps.values()

    def emit(
        self, code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0
    ) -> None:
        """Append an instruction as it is."""
        self._instructions.append((code, to, source, offset, value))

    def alu(self, operation: int, to: int, value: int, kind: int = ALU) -> None:
        """Append arithmetic of a register and an immediate."""
        self.emit(kind | operation, to, value=value)

    def alu_register(self, operation: int, to: int, source: int, kind: int = ALU) -> None:
        """Append arithmetic of two registers."""
        self.emit(kind | operation | REGISTER, to, source)

    def load(self, size: int, to: int, base: int, offset: int) -> None:
        """Append a load from memory into a register."""
        self.emit(LOADS[size], to, base, offset)

    def call(self, helper: Helper) -> None:
        """Append a call of a kernel function; it changes the registers 0 to 5."""
        self.emit(CALL_CODE, value=helper)

    def jump(
        self,
        label: Hashable,
        condition: int = JMP | JA,
        left: int = 0,
        right: Optional[int] = None,
        value: int = 0,
    ) -> None:
        """Append a jump, if registers `left` and `right` (or the value) meet a condition."""
        self._jumps[len(self._instructions)] = label
        if right is not None:
            condition |= REGISTER
        self.emit(condition, left, right or 0, value=value)

    def assemble(self) -> bytes:
        """Return the instructions, 8 bytes each. Raises KeyError for an undefined label."""
        assembled = []
        for position, (code, to, source, offset, value) in enumerate(self._instructions):
            if position in self._jumps:
                offset = self._labels[self._jumps[position]] - position - 1
            assembled.append(INSTRUCTION.pack(code, source << 4 | to, offset, value & _U32))
        return b"".join(assembled)
