# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Loads of a classic filter in eBPF: from the packet, by helper, or beside the packet."""

from __future__ import annotations

from collections.abc import Hashable

from udpgrm.dissectors import classic
from udpgrm.kernel import ebpf
from udpgrm.kernel.ebpf import ALU64, JMP, JMP32, Code, Helper

_MAX_OFFSET = 0xFFFF
_START_MAC, _START_NET = 0, 1

# struct sk_reuseport_md
_DATA, _DATA_END, PACKET_LEN, _ETH_PROTOCOL, IP_PROTOCOL, _HASH = 0, 8, 16, 20, 24, 32
UDP_HEADER, IPPROTO_UDP = 8, 17
#: Beyond it a packet is seldom in one piece: no use to look there directly.
_DIRECT = 4096

#: Registers. Calls preserve the last five: the filter's own, and a zero unknown to the verifier.
R0, R1, _R2, _R3, _R4, _R5, CONTEXT, A, X, UNKNOWN, STACK = range(11)
#: Below the stack's end: where loads by helper go. The filter's memory follows.
LOADED = -8
_HALF = LOADED + 4


def hide(code: Code, register: int) -> None:
    """Hide a register's value from the verifier, without a change of it."""
    code.alu_register(ebpf.XOR, register, UNKNOWN)


class Loads:
    """Appends the loads of one filter to its code."""

    def __init__(self, code: Code) -> None:
        """Append to this code."""
        self._code = code
        self._loads = 0

    def packet(self, target: int, k: int, size: int) -> bool:
        """Append a load at a constant offset; return False if there is no such data here."""
        if k >= classic.SKF_AD_OFF:
            return self._ancillary(target, k - classic.SKF_AD_OFF)
        code = self._code
        if k >= classic.SKF_LL_OFF:
            start = _START_NET if k >= classic.SKF_NET_OFF else _START_MAC
            code.alu(ebpf.MOV, _R2, k & 0xFFFFF)
            code.alu(ebpf.MOV, _R5, start)
            self._bytes(target, size, Helper.SKB_LOAD_BYTES_RELATIVE)
        else:
            self._payload(target, k, size)
        if size > 1:
            code.alu(ebpf.TO_BIG_ENDIAN, target, 8 * size)
        return True

    def indirect(self, k: int, size: int) -> None:
        """Append a load at X + k, from the packet itself, else by helper."""
        code = self._code
        helper, loaded = self._labels()
        code.alu_register(ebpf.MOV, _R2, X)
        code.alu(ebpf.ADD, _R2, k)
        self._forget(_R2)
        code.jump("too short", JMP32 | ebpf.JGT, _R2, value=_MAX_OFFSET)
        code.alu(ebpf.ADD, _R2, UDP_HEADER)
        code.jump(helper, JMP | ebpf.JGT, _R2, value=_DIRECT)
        code.load(8, R1, CONTEXT, _DATA)
        code.alu_register(ebpf.ADD, R1, _R2, ALU64)
        self._directly(A, 0, size, helper)
        code.jump(loaded)
        code.label(helper)
        self._bytes(A, size, Helper.SKB_LOAD_BYTES)
        code.label(loaded)
        if size > 1:
            code.alu(ebpf.TO_BIG_ENDIAN, A, 8 * size)

    def _forget(self, register: int) -> None:
        """Hide a register's value from the verifier, and what it was made of.

        A pointer will depend on it: the verifier would follow paths apart that differ in what it
        was made of. It does not keep what half of a slot of the stack holds.
        """
        self._code.emit(ebpf.STORE_WORD, STACK, register, _HALF)
        self._code.load(4, register, STACK, _HALF)

    def _labels(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return names for where a load by helper is, and where the next instruction is."""
        self._loads += 1
        return ("helper", self._loads), ("loaded", self._loads)

    def _payload(self, target: int, k: int, size: int) -> None:
        """Append a load from the packet itself, else by helper."""
        code, offset = self._code, UDP_HEADER + k
        helper, loaded = self._labels()
        if offset <= _DIRECT:
            code.load(8, R1, CONTEXT, _DATA)
            self._directly(target, offset, size, helper)
            code.jump(loaded)
        code.label(helper)
        code.alu(ebpf.MOV, _R2, offset)
        self._bytes(target, size, Helper.SKB_LOAD_BYTES)
        code.label(loaded)

    def _directly(self, target: int, offset: int, size: int, otherwise: Hashable) -> None:
        """Append a load of the packet itself, from register 1; a jump where it is not all there."""
        code = self._code
        code.load(8, _R4, CONTEXT, _DATA_END)
        code.alu_register(ebpf.MOV, _R3, R1, ALU64)
        code.alu(ebpf.ADD, _R3, offset + size, ALU64)
        code.jump(otherwise, JMP | ebpf.JGT, _R3, _R4)
        code.load(size, target, R1, offset)

    def _bytes(self, target: int, size: int, helper: Helper) -> None:
        """Append a load by helper, from the offset in register 2."""
        code = self._code
        code.alu_register(ebpf.MOV, R1, CONTEXT, ALU64)
        code.alu_register(ebpf.MOV, _R3, STACK, ALU64)
        code.alu(ebpf.ADD, _R3, LOADED, ALU64)
        code.alu(ebpf.MOV, _R4, size)
        code.call(helper)
        code.jump("too short", JMP | ebpf.JNE, R0, value=0)
        code.load(size, target, STACK, LOADED)

    def _ancillary(self, target: int, what: int) -> bool:
        """Append a load of what is beside the packet; return False if it is unknown."""
        code = self._code
        if what == classic.AD_PROTOCOL:
            code.load(4, target, CONTEXT, _ETH_PROTOCOL)
            code.alu(ebpf.TO_BIG_ENDIAN, target, 16)
        elif what == classic.AD_RXHASH:
            code.load(4, target, CONTEXT, _HASH)
        elif what in (classic.AD_CPU, classic.AD_RANDOM):
            is_cpu = what == classic.AD_CPU
            code.call(Helper.GET_SMP_PROCESSOR_ID if is_cpu else Helper.GET_PRANDOM_U32)
            code.alu_register(ebpf.MOV, target, R0)
        elif what == classic.AD_XOR_X:
            code.alu_register(ebpf.XOR, target, X)
        else:
            return False
        return True
