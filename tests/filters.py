# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Classic BPF as its documentation has it: an interpreter, and filters made by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from udpgrm.dissectors.classic import Instruction
from udpgrm.dissectors.filter_code import FAILED, TOO_SHORT

_MASK = 0xFFFFFFFF
PROTOCOL, CPU, XOR_X = 0xFFFFF000, 0xFFFFF024, 0xFFFFF028
NET_OFF = 0xFFF00000


@dataclass(frozen=True)
class Packet:
    """A packet as a filter sees it: payload, network header, EtherType and CPU."""

    payload: bytes
    network: bytes = b""
    protocol: int = 0x0800
    cpu: int = 0


class _Failed(Exception):
    pass


class _TooShort(Exception):
    pass


class _Machine:
    """The registers of one run. Written from filter.rst alone."""

    def __init__(self, program: Sequence[Instruction], packet: Packet) -> None:
        self.program, self.packet = program, packet
        self.a = self.x = self.position = 0
        self.memory = [0] * 16

    def run(self) -> int:
        while True:
            if not self.position < len(self.program):
                raise _Failed
            item = self.program[self.position]
            self.position += 1
            if item.code == 0x06:
                return item.k
            if item.code == 0x16:
                return self.a
            if item.code > 0xFF:
                raise _Failed
            (self.load, self.load, self.keep, self.keep, self.alu, self.jump, self.no, self.move)[
                item.code & 7
            ](item)

    def no(self, item: Instruction) -> None:
        raise _Failed

    def bytes_at(self, at: int, size: int, absolute: bool) -> int:
        source = self.packet.payload
        if absolute and NET_OFF <= at < PROTOCOL:
            at, source = at - NET_OFF, self.packet.network + bytes(8) + source
        if at + size > len(source):
            raise _TooShort
        return int.from_bytes(source[at : at + size], "big")

    def load(self, item: Instruction) -> None:
        code, k = item.code, item.k
        if code in (0x20, 0x28, 0x30):
            if k >= PROTOCOL:
                known = {PROTOCOL: self.packet.protocol, CPU: self.packet.cpu}
                if k == XOR_X:
                    self.a ^= self.x
                elif k not in known:
                    raise _Failed
                else:
                    self.a = known[k]
            else:
                self.a = self.bytes_at(k, {0x20: 4, 0x28: 2, 0x30: 1}[code], True)
        elif code in (0x40, 0x48, 0x50):
            at = (self.x + k) & _MASK
            self.a = self.bytes_at(at, {0x40: 4, 0x48: 2, 0x50: 1}[code], False)
        elif code == 0xB1:
            if k >= PROTOCOL:
                raise _Failed
            self.x = (self.bytes_at(k, 1, True) & 15) * 4
        elif code in (0x60, 0x61) and k >= 16:
            raise _Failed
        else:
            values = {0x00: k, 0x80: len(self.packet.payload), 0x60: self.memory[k & 15]}
            if code & ~1 not in values:
                raise _Failed
            if code & 1:
                self.x = values[code & ~1]
            else:
                self.a = values[code]

    def keep(self, item: Instruction) -> None:
        if item.code not in (2, 3) or item.k >= 16:
            raise _Failed
        self.memory[item.k] = self.a if item.code == 2 else self.x

    def alu(self, item: Instruction) -> None:
        operation, value = item.code & 0xF0, self.x if item.code & 8 else item.k
        if operation in (0x30, 0x90) and value == 0:
            raise _Failed
        if item.code == 0x84:
            self.a = -self.a & _MASK
            return
        table = {
            0x00: lambda: self.a + value,
            0x10: lambda: self.a - value,
            0x20: lambda: self.a * value,
            0x30: lambda: self.a // value,
            0x40: lambda: self.a | value,
            0x50: lambda: self.a & value,
            0x60: lambda: self.a << (value & 31),
            0x70: lambda: self.a >> (value & 31),
            0x90: lambda: self.a % value,
            0xA0: lambda: self.a ^ value,
        }
        if operation not in table:
            raise _Failed
        self.a = table[operation]() & _MASK

    def jump(self, item: Instruction) -> None:
        operation, value = item.code & 0xF0, self.x if item.code & 8 else item.k
        if item.code == 0x05:
            self.position += item.k
            return
        table = {
            0x10: self.a == value,
            0x20: self.a > value,
            0x30: self.a >= value,
            0x40: bool(self.a & value),
        }
        if operation not in table:
            raise _Failed
        self.position += item.jt if table[operation] else item.jf

    def move(self, item: Instruction) -> None:
        if item.code == 0x07:
            self.x = self.a
        elif item.code == 0x87:
            self.a = self.x
        else:
            raise _Failed


def interpret(program: Sequence[Instruction], packet: Packet) -> int:
    """Return the result of a filter, FAILED or TOO_SHORT."""
    try:
        return _Machine(program, packet).run()
    except _Failed:
        return FAILED
    except _TooShort:
        return TOO_SHORT


#: Every instruction of the language.
CODES = [
    *(0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1, 0x00, 0x01, 0x80, 0x81, 0x60, 0x61, 0x02, 0x03),
    *(operation << 4 | 4 | source for operation in range(8) for source in (0, 8)),
    *(0x84, 0x94, 0x9C, 0xA4, 0xAC, 0x05, 0x06, 0x16, 0x07, 0x87),
    *(operation << 4 | 5 | source for operation in range(1, 5) for source in (0, 8)),
]
#: Codes that end no path early, so that the rest of a filter is seldom unreachable.
_FREQUENT = [code for code in CODES if code not in (0x06, 0x16, 0x05, 0x40, 0x48, 0x50)]
#: Addresses, and what no packet has; the header's length only where no more is loaded.
_FROM_NETWORK = [NET_OFF + 12, NET_OFF + 14, NET_OFF + 16, NET_OFF + 0xFFF00]


def random_filter(source: random.Random, unknown: float = 0.01) -> list[Instruction]:
    """Return a filter; some jumps leave it, and `unknown` of the instructions are none."""
    length = source.randint(1, 64)
    program = []
    for position in range(length):
        code = source.choice(_FREQUENT if source.random() < 0.7 else CODES)
        if source.random() < unknown:
            code = source.randrange(0x200)
        left = length - position - 1
        k = source.choice([source.randrange(8), source.randrange(40), source.randrange(2**32)])
        if code == 0x05:
            k = source.randrange(left + 2) if source.random() < 0.95 else source.randrange(2**32)
        elif code & 0x67 in (0x60, 0x61) or code in (2, 3):
            k = source.randrange(17 if source.random() < 0.05 else 16)
        elif code in (0x20, 0x28, 0x30, 0xB1):
            network = source.choice([PROTOCOL, CPU, XOR_X, *_FROM_NETWORK])
            if code == 0xB1 and source.random() < 0.5:
                network = NET_OFF
            k = network if source.random() < 0.1 else source.randrange(44)
        elif code & 0x07 == 0x04 and code & 0xF0 in (0x60, 0x70):
            k = source.randrange(32)
        room = min(left + (source.random() < 0.05), 12)
        jumps = [source.randrange(room) if room else 0 for _ in range(2)]
        program.append(Instruction(code, jumps[0], jumps[1], k))
    if source.random() < 0.9:
        program[-1] = Instruction(source.choice([0x06, 0x16]), 0, 0, source.randrange(2**32))
    return program


def one_of_each() -> list[list[Instruction]]:
    """Return filters of one instruction of the language each, so that none is missed by chance."""
    before = [Instruction(0x20, 0, 0, 4), Instruction(0x07, 0, 0, 0), Instruction(0x28, 0, 0, 1)]
    after = [Instruction(0x16, 0, 0, 0), Instruction(0x06, 0, 0, 77)]
    return [
        [*before, Instruction(code, 0, 1, k), *after] for code in CODES for k in (0, 3, 2**32 - 1)
    ]
