# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Conversion of classic BPF filters to a function in eBPF, as the kernel converts its own.

Source of the language: Linux Documentation/networking/filter.rst, linux/filter.h
and, for what loads at negative offsets mean, net/core/filter.c. The function gets
the context of an sk_reuseport program and returns the filter's result, FAILED or
TOO_SHORT (bpf/dissectors/cbpf/body.h). What cannot be run fails when a packet
gets there: an unknown instruction, a jump out of range, a division by zero.

The verifier has to accept any filter quickly, and 64 jumps have 2**64 paths. It
takes two states for the same where they differ in numbers only that it never had
to know exactly. So it is kept from knowing any: a register whose content it
cannot know (it is 0) is mixed into each value that is compared, kept or returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from udpgrm.kernel import ebpf
from udpgrm.kernel.ebpf import ALU64, JMP, JMP32, Code, Helper

FAILED, TOO_SHORT = -1, -2

_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_FROM_X = 0x08
_TAX, _TXA, _RETURN_A = 0x00, 0x80, 0x10
_ARITHMETIC = {0x00, 0x10, 0x20, 0x40, 0x50, 0xA0}
_DIVISIONS, _SHIFTS, _NEG = {0x30, 0x90}, {0x60, 0x70}, 0x80
_JA, _JEQ, _JGT, _JGE, _JSET = 0x00, 0x10, 0x20, 0x30, 0x40
_MEMORY_SLOTS = 16
_U32 = 0xFFFFFFFF
_MAX_OFFSET = 0xFFFF

# loads at negative offsets: from another header, or of something beside the packet
_SKF_AD_OFF, _SKF_NET_OFF, _SKF_LL_OFF = 0xFFFFF000, 0xFFF00000, 0xFFE00000
_AD_PROTOCOL, _AD_RXHASH, _AD_CPU, _AD_XOR_X, _AD_RANDOM = 0, 32, 36, 40, 56
_ANCILLARY = {_AD_PROTOCOL, _AD_RXHASH, _AD_CPU, _AD_XOR_X, _AD_RANDOM}
_START_MAC, _START_NET = 0, 1

# struct sk_reuseport_md
_DATA, _DATA_END, _PACKET_LEN, _ETH_PROTOCOL, _IP_PROTOCOL, _HASH = 0, 8, 16, 20, 24, 32
_UDP_HEADER, _IPPROTO_UDP = 8, 17
#: Beyond it a packet is seldom in one piece: no use to look there directly.
_DIRECT = 4096

# registers: calls preserve these, for the filter's and for the zero unknown to the verifier
_R0, _R1, _R2, _R3, _R4, _R5, _CONTEXT, _A, _X, _UNKNOWN, _STACK = range(11)
#: Below the stack's end: where loads go, then M, 8 bytes each so that all are kept alike.
_LOADED, _SLOT = -8, 8


@dataclass(frozen=True)
class Instruction:
    """A classic instruction: code, jump offsets if true and if false, constant."""

    code: int
    jt: int
    jf: int
    k: int


Filter = Sequence[Instruction]


def convert(filter_: Filter) -> bytes:
    """Return the function of a filter, whatever its faults."""
    return _Conversion(filter_).function()


def faults(filter_: Filter) -> list[str]:
    """Return the faults of a filter: instructions that fail if a packet gets there."""
    conversion = _Conversion(filter_)
    conversion.function()
    return conversion.faults


def loads_beside_packet(filter_: Filter) -> list[int]:
    """Return the positions of loads that only socket filters may make: they fail.

    These are loads of ancillary data that `_Conversion` does not know (as SKF_AD_VLAN_TAG).
    """
    return [
        position
        for position, item in enumerate(filter_)
        if item.code & 0xE7 == _LD | _ABS
        and item.k >= _SKF_AD_OFF
        and item.k - _SKF_AD_OFF not in _ANCILLARY
    ]


def _successors(item: Instruction, position: int) -> tuple[int, ...]:
    """Return the positions that may follow an instruction; conditions may always hold."""
    kind, operation = item.code & 0x07, item.code & 0xF0
    if kind == _RET:
        return ()
    if kind != _JMP:
        return (position + 1,)
    if operation == _JA:
        return (position + 1 + item.k,)
    yes, no = position + 1 + item.jt, position + 1 + item.jf
    if not item.code & _FROM_X:
        if operation == _JGE and item.k == 0:
            return (yes,)
        if (operation == _JSET and item.k == 0) or (operation == _JGT and item.k == _U32):
            return (no,)
    return (yes,) if yes == no else (yes, no)


class _Conversion:
    """The conversion of one filter."""

    def __init__(self, filter_: Filter) -> None:
        self._filter = filter_
        self._code = Code()
        self._loads = 0
        self.faults: list[str] = []
        #: Offsets of the memory cells that are read, by index; the rest is not kept.
        self._slots = {
            number: _LOADED - _SLOT * position
            for position, number in enumerate(
                sorted({item.k for item in filter_ if item.code in (_LD | _MEM, _LDX | _MEM)}), 1
            )
            if number < _MEMORY_SLOTS
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
                code.alu(ebpf.MOV, _R0, result, ALU64)
                code.emit(JMP | ebpf.EXIT)
        if code.wants("done"):
            code.label("done")
            self._hide(_R0)
            code.emit(JMP | ebpf.EXIT)
        return code.assemble()

    def _enter(self) -> None:
        code = self._code
        code.alu_register(ebpf.MOV, _CONTEXT, _R1, ALU64)
        code.load(4, _UNKNOWN, _CONTEXT, _IP_PROTOCOL)
        code.alu(ebpf.XOR, _UNKNOWN, _IPPROTO_UDP)
        code.alu(ebpf.MOV, _A, 0)
        code.alu(ebpf.MOV, _X, 0)
        for offset in self._slots.values():
            code.emit(ebpf.STORE_DOUBLE, _STACK, _UNKNOWN, offset)

    def _hide(self, register: int) -> None:
        """Hide a register's value from the verifier, without a change of it."""
        self._code.alu_register(ebpf.XOR, register, _UNKNOWN)

    def _hidden(self, register: int, source: int) -> int:
        self._code.alu_register(ebpf.MOV, register, source)
        self._hide(register)
        return register

    def _instruction(self, position: int, item: Instruction) -> Iterable[int]:
        """Append an instruction, and return the positions that may follow it."""
        parts = {
            _LD: self._load,
            _LDX: self._load,
            _ST: self._store,
            _STX: self._store,
            _ALU: self._arithmetic,
            _JMP: self._condition,
            _RET: self._return,
            _MISC: self._move,
        }
        if item.code > 0xFF or not parts[item.code & 0x07](item):
            self.faults.append(f"instruction {position} ({item.code:#x}, {item.k:#x}) is unknown")
            self._code.jump("failed")
            return ()
        successors = _successors(item, position)
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
        mode, size = item.code & 0xE0, _SIZES.get(item.code & 0x18)
        target = _A if item.code & 0x07 == _LD else _X
        code = self._code
        if item.code == _LDX | _MSH | 0x10:
            if item.k >= _SKF_AD_OFF:
                return False
            self._load_packet(_X, item.k, 1)
            code.alu(ebpf.AND, _X, 0xF)
            code.alu(ebpf.LSH, _X, 2)
        elif target == _A and size is not None and mode == _ABS:
            return self._load_packet(_A, item.k, size)
        elif target == _A and size is not None and mode == _IND:
            self._load_indirect(item.k, size)
        elif size != 4 or mode not in (_IMM, _LEN, _MEM):
            return False
        elif mode == _IMM:
            code.alu(ebpf.MOV, target, item.k)
        elif mode == _LEN:
            code.load(4, target, _CONTEXT, _PACKET_LEN)
            code.alu(ebpf.SUB, target, _UDP_HEADER)
        elif item.k in self._slots:
            code.load(8, target, _STACK, self._slots[item.k])
        else:
            return False
        return True

    def _load_packet(self, target: int, k: int, size: int) -> bool:
        """Append a load at a constant offset; return False if there is no such data here."""
        if k >= _SKF_AD_OFF:
            return self._load_ancillary(target, k - _SKF_AD_OFF)
        code = self._code
        if k >= _SKF_LL_OFF:
            start = _START_NET if k >= _SKF_NET_OFF else _START_MAC
            code.alu(ebpf.MOV, _R2, k & 0xFFFFF)
            code.alu(ebpf.MOV, _R5, start)
            self._load_bytes(target, size, Helper.SKB_LOAD_BYTES_RELATIVE)
        else:
            self._load_payload(target, k, size)
        if size > 1:
            code.alu(ebpf.TO_BIG_ENDIAN, target, 8 * size)
        return True

    def _load_payload(self, target: int, k: int, size: int) -> None:
        """Append a load from the packet itself, else by helper."""
        code, offset = self._code, _UDP_HEADER + k
        self._loads += 1
        helper, loaded = ("helper", self._loads), ("loaded", self._loads)
        if offset <= _DIRECT:
            code.load(8, _R1, _CONTEXT, _DATA)
            code.load(8, _R2, _CONTEXT, _DATA_END)
            code.alu_register(ebpf.MOV, _R3, _R1, ALU64)
            code.alu(ebpf.ADD, _R3, offset + size, ALU64)
            code.jump(helper, JMP | ebpf.JGT, _R3, _R2)
            code.load(size, target, _R1, offset)
            code.jump(loaded)
        code.label(helper)
        code.alu(ebpf.MOV, _R2, offset)
        self._load_bytes(target, size, Helper.SKB_LOAD_BYTES)
        code.label(loaded)

    def _load_bytes(self, target: int, size: int, helper: Helper) -> None:
        """Append a load by helper, from the offset in register 2."""
        code = self._code
        code.alu_register(ebpf.MOV, _R1, _CONTEXT, ALU64)
        code.alu_register(ebpf.MOV, _R3, _STACK, ALU64)
        code.alu(ebpf.ADD, _R3, _LOADED, ALU64)
        code.alu(ebpf.MOV, _R4, size)
        code.call(helper)
        code.jump("too short", JMP | ebpf.JNE, _R0, value=0)
        code.load(size, target, _STACK, _LOADED)

    def _load_ancillary(self, target: int, what: int) -> bool:
        code = self._code
        if what == _AD_PROTOCOL:
            code.load(4, target, _CONTEXT, _ETH_PROTOCOL)
            code.alu(ebpf.TO_BIG_ENDIAN, target, 16)
        elif what == _AD_RXHASH:
            code.load(4, target, _CONTEXT, _HASH)
        elif what in (_AD_CPU, _AD_RANDOM):
            code.call(Helper.GET_SMP_PROCESSOR_ID if what == _AD_CPU else Helper.GET_PRANDOM_U32)
            code.alu_register(ebpf.MOV, target, _R0)
        elif what == _AD_XOR_X:
            code.alu_register(ebpf.XOR, target, _X)
        else:
            return False
        return True

    def _load_indirect(self, k: int, size: int) -> None:
        """Append a load at X + k; by helper, as the verifier does not know a bound of X."""
        code = self._code
        code.alu_register(ebpf.MOV, _R2, _X)
        code.alu(ebpf.ADD, _R2, k)
        self._hide(_R2)
        code.jump("too short", JMP32 | ebpf.JGT, _R2, value=_MAX_OFFSET)
        code.alu(ebpf.ADD, _R2, _UDP_HEADER)
        self._load_bytes(_A, size, Helper.SKB_LOAD_BYTES)
        if size > 1:
            code.alu(ebpf.TO_BIG_ENDIAN, _A, 8 * size)

    def _store(self, item: Instruction) -> bool:
        if item.code not in (_ST, _STX) or item.k >= _MEMORY_SLOTS:
            return False
        if item.k in self._slots:
            value = self._hidden(_R0, _A if item.code == _ST else _X)
            self._code.emit(ebpf.STORE_DOUBLE, _STACK, value, self._slots[item.k])
        return True

    def _arithmetic(self, item: Instruction) -> bool:
        operation, from_x, code = item.code & 0xF0, bool(item.code & _FROM_X), self._code
        if operation == _NEG:
            if not from_x:
                code.alu(_NEG, _A, 0)
            return not from_x
        if operation in _DIVISIONS:
            if not from_x and not item.k:
                return False
            if from_x:
                code.jump("failed", JMP32 | ebpf.JEQ, self._hidden(_R0, _X), value=0)
        elif operation not in _ARITHMETIC | _SHIFTS:
            return False
        if from_x:
            # shifts take the low five bits, as in the kernel
            code.alu_register(operation, _A, _X)
        else:
            code.alu(operation, _A, item.k & 31 if operation in _SHIFTS else item.k)
        return True

    def _condition(self, item: Instruction) -> bool:
        """Return whether a jump is known; it is appended once its targets are known."""
        operation = item.code & 0xF0
        return item.code == _JMP if operation == _JA else operation in (_JEQ, _JGT, _JGE, _JSET)

    def _jump_if(self, item: Instruction, target: object) -> None:
        left = self._hidden(_R0, _A)
        right = self._hidden(_R1, _X) if item.code & _FROM_X else None
        condition = JMP32 | item.code & 0xF0
        self._code.jump(target, condition, left, right, 0 if right is not None else item.k)

    def _return(self, item: Instruction) -> bool:
        if item.code == _RET:
            self._code.alu(ebpf.MOV, _R0, item.k)
        elif item.code == _RET | _RETURN_A:
            self._code.alu_register(ebpf.MOV, _R0, _A)
        else:
            return False
        self._code.jump("done")
        return True

    def _move(self, item: Instruction) -> bool:
        moves: dict[int, Optional[tuple[int, int]]] = {
            _MISC | _TAX: (_X, _A),
            _MISC | _TXA: (_A, _X),
        }
        move = moves.get(item.code)
        if move is not None:
            self._code.alu_register(ebpf.MOV, *move)
        return move is not None
