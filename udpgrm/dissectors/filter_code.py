# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Conversion of classic BPF filters to a function in eBPF, as the kernel converts its own.

The function gets the context of an sk_reuseport program and returns the filter's
result, FAILED or TOO_SHORT (bpf/dissectors/cbpf/body.h). A filter fails when
a packet reaches an unknown instruction, a jump out of range, or a division by zero.

The verifier has to accept any filter quickly, and 64 jumps have 2**64 paths. It
takes two states for the same where they differ in numbers only that it never had
to know exactly. So it is kept from knowing any: a register whose content it
cannot know (it is 0) is mixed into each value that is compared, kept or returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from udpgrm.dissectors import classic
from udpgrm.dissectors.classic import Filter, Instruction
from udpgrm.dissectors.filter_loads import (
    CONTEXT,
    IP_PROTOCOL,
    IPPROTO_UDP,
    LOADED,
    PACKET_LEN,
    R0,
    R1,
    STACK,
    UDP_HEADER,
    UNKNOWN,
    A,
    Loads,
    X,
    hide,
)
from udpgrm.kernel import ebpf
from udpgrm.kernel.ebpf import ALU64, JMP, JMP32, Code

FAILED, TOO_SHORT = -1, -2
_MEMORY = (classic.LD | classic.MEM, classic.LDX | classic.MEM)
_CONDITIONS = (classic.JEQ, classic.JGT, classic.JGE, classic.JSET)
#: Bytes of a memory cell, as of what loads leave on the stack: so all are kept alike.
_CELL = 8


def convert(filter_: Filter) -> bytes:
    """Return the function of a filter, whatever its faults."""
    return _Conversion(filter_).function()


def faults(filter_: Filter) -> list[str]:
    """Return the faults of a filter: instructions that fail if a packet gets there."""
    conversion = _Conversion(filter_)
    conversion.function()
    return conversion.faults


class _Conversion:
    """The conversion of one filter."""

    def __init__(self, filter_: Filter) -> None:
        self._filter = filter_
        self._code = Code()
        self._loads = Loads(self._code)
        self.faults: list[str] = []
        #: Offsets of the memory cells that are read, by index; the rest is not kept.
        self._slots = {
            number: LOADED - _CELL * position
            for position, number in enumerate(
                sorted({item.k for item in filter_ if item.code in _MEMORY}), 1
            )
            if number < classic.MEMORY_SLOTS
        }

    def function(self) -> bytes:
        """Return the function: all reachable instructions, and the exits that are used."""
        code = self._code
        self._enter()
        reached = {0}
        for position, item in enumerate(self._filter):
            if position not in reached:
                continue
            code.label(position)
            reached.update(self._instruction(position, item))
        for name, result in (("failed", FAILED), ("too short", TOO_SHORT)):
            if code.wants(name):
                code.label(name)
                code.alu(ebpf.MOV, R0, result, ALU64)
                code.emit(JMP | ebpf.EXIT)
        if code.wants("done"):
            code.label("done")
            hide(code, R0)
            code.emit(JMP | ebpf.EXIT)
        return code.assemble()

    def _enter(self) -> None:
        code = self._code
        code.alu_register(ebpf.MOV, CONTEXT, R1, ALU64)
        code.load(4, UNKNOWN, CONTEXT, IP_PROTOCOL)
        code.alu(ebpf.XOR, UNKNOWN, IPPROTO_UDP)
        code.alu(ebpf.MOV, A, 0)
        code.alu(ebpf.MOV, X, 0)
        for offset in self._slots.values():
            code.emit(ebpf.STORE_DOUBLE, STACK, UNKNOWN, offset)

    def _hidden(self, register: int, source: int) -> int:
        self._code.alu_register(ebpf.MOV, register, source)
        hide(self._code, register)
        return register

    def _instruction(self, position: int, item: Instruction) -> Iterable[int]:
        """Append an instruction, and return the positions that may follow it."""
        parts = {
            classic.LD: self._load,
            classic.LDX: self._load,
            classic.ST: self._store,
            classic.STX: self._store,
            classic.ALU: self._arithmetic,
            classic.JMP: self._condition,
            classic.RET: self._return,
            classic.MISC: self._move,
        }
        if item.code > 0xFF or not parts[item.code & 0x07](item):
            self.faults.append(f"instruction {position} ({item.code:#x}, {item.k:#x}) is unknown")
            self._code.jump("failed")
            return ()
        successors = classic.successors(item, position)
        inside = [target for target in successors if target < len(self._filter)]
        if len(inside) < len(successors):
            self.faults.append(f"instruction {position} leads out of the filter")
        targets = [target if target in inside else "failed" for target in successors]
        if len(targets) == 2:
            self._jump_if(item, targets[0])
        if targets and targets[-1] != position + 1:
            self._code.jump(targets[-1])
        return inside

    def _load(self, item: Instruction) -> bool:
        mode, size = item.code & 0xE0, classic.SIZES.get(item.code & 0x18)
        target = A if item.code & 0x07 == classic.LD else X
        code = self._code
        if item.code == classic.LDX | classic.MSH | 0x10:
            if item.k >= classic.SKF_AD_OFF:
                return False
            self._loads.packet(X, item.k, 1)
            code.alu(ebpf.AND, X, 0xF)
            code.alu(ebpf.LSH, X, 2)
        elif target == A and size is not None and mode == classic.ABS:
            return self._loads.packet(A, item.k, size)
        elif target == A and size is not None and mode == classic.IND:
            self._loads.indirect(item.k, size)
        elif size != 4 or mode not in (classic.IMM, classic.LEN, classic.MEM):
            return False
        elif mode == classic.IMM:
            code.alu(ebpf.MOV, target, item.k)
        elif mode == classic.LEN:
            code.load(4, target, CONTEXT, PACKET_LEN)
            code.alu(ebpf.SUB, target, UDP_HEADER)
        elif item.k in self._slots:
            code.load(8, target, STACK, self._slots[item.k])
        else:
            return False
        return True

    def _store(self, item: Instruction) -> bool:
        if item.code not in (classic.ST, classic.STX) or item.k >= classic.MEMORY_SLOTS:
            return False
        if item.k in self._slots:
            value = self._hidden(R0, A if item.code == classic.ST else X)
            self._code.emit(ebpf.STORE_DOUBLE, STACK, value, self._slots[item.k])
        return True

    def _arithmetic(self, item: Instruction) -> bool:
        operation, from_x, code = item.code & 0xF0, bool(item.code & classic.FROM_X), self._code
        if operation == classic.NEG:
            if not from_x:
                code.alu(classic.NEG, A, 0)
            return not from_x
        if operation in classic.DIVISIONS:
            if not from_x and not item.k:
                return False
            if from_x:
                code.jump("failed", JMP32 | ebpf.JEQ, self._hidden(R0, X), value=0)
        elif operation not in classic.ARITHMETIC | classic.SHIFTS:
            return False
        if from_x:
            # shifts take the low five bits, as in the kernel
            code.alu_register(operation, A, X)
        else:
            code.alu(operation, A, item.k & 31 if operation in classic.SHIFTS else item.k)
        return True

    def _condition(self, item: Instruction) -> bool:
        """Return whether a jump is known; it is appended once its targets are known."""
        operation = item.code & 0xF0
        return item.code == classic.JMP if operation == classic.JA else operation in _CONDITIONS

    def _jump_if(self, item: Instruction, target: object) -> None:
        left = self._hidden(R0, A)
        right = self._hidden(R1, X) if item.code & classic.FROM_X else None
        condition = JMP32 | item.code & 0xF0
        self._code.jump(target, condition, left, right, 0 if right is not None else item.k)

    def _return(self, item: Instruction) -> bool:
        if item.code == classic.RET:
            self._code.alu(ebpf.MOV, R0, item.k)
        elif item.code == classic.RET | classic.RETURN_A:
            self._code.alu_register(ebpf.MOV, R0, A)
        else:
            return False
        self._code.jump("done")
        return True

    def _move(self, item: Instruction) -> bool:
        moves: dict[int, Optional[tuple[int, int]]] = {
            classic.MISC | classic.TAX: (X, A),
            classic.MISC | classic.TXA: (A, X),
        }
        move = moves.get(item.code)
        if move is not None:
            self._code.alu_register(ebpf.MOV, *move)
        return move is not None
