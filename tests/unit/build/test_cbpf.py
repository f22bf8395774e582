# SPDX-License-Identifier: Apache-2.0
"""Filters as C against an interpreter of the language, on random filters."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from udpgrm.build.cbpf import Instruction, statements

_PRELUDE = """
#include <stdio.h>
#include <string.h>
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32;
#define UDP_HEADER 8
#define htons(x) __builtin_bswap16(x)
struct sk_reuseport_md { const u8 *payload; u32 len; u16 eth_protocol; };
#define LOAD(name, n) static int name(struct sk_reuseport_md *md, u32 at, u32 *value) { \\
	u32 size = md->len - UDP_HEADER; \\
	if (at > 0xffff || at + n > size) return -1; \\
	*value = 0; \\
	for (int i = 0; i < n; i++) *value = *value << 8 | md->payload[at + i]; \\
	return 0; }
LOAD(payload_byte, 1)
LOAD(payload_half, 2)
LOAD(payload_word, 4)
"""
_PACKETS = [b"", b"\x00", b"\x80\x01", bytes(range(40)), bytes(range(255, 215, -1)), b"\xff" * 64]
_MASK = 0xFFFFFFFF


def interpret(program: list[Instruction], packet: bytes) -> int | None:
    """The result, or None when the filter fails. Written from filter.rst alone."""
    a = x = position = 0
    memory = [0] * 16

    def load(at: int, size: int) -> int:
        if at > 0xFFFF or at + size > len(packet):
            raise ValueError
        return int.from_bytes(packet[at : at + size], "big")

    def alu(operation: int, value: int) -> int:
        table = {
            0x00: lambda: a + value,
            0x10: lambda: a - value,
            0x20: lambda: a * value,
            0x30: lambda: a // value,
            0x40: lambda: a | value,
            0x50: lambda: a & value,
            0x60: lambda: a << (value & 31),
            0x70: lambda: a >> (value & 31),
            0x90: lambda: a % value,
            0xA0: lambda: a ^ value,
        }
        return table[operation]() & _MASK

    try:
        while True:
            item = program[position]
            position += 1
            code, k = item.code, item.k
            if code in (0x20, 0x28, 0x30):
                at_protocol = code == 0x28 and k == 0xFFFFF000
                a = 0x0800 if at_protocol else load(k, {0x20: 4, 0x28: 2, 0x30: 1}[code])
            elif code in (0x40, 0x48, 0x50):
                a = load((x + k) & _MASK, {0x40: 4, 0x48: 2, 0x50: 1}[code])
            elif code == 0xB1:
                x = (load(k, 1) & 15) * 4
            elif code == 0x00:
                a = k
            elif code == 0x01:
                x = k
            elif code == 0x80:
                a = len(packet)
            elif code == 0x81:
                x = len(packet)
            elif code == 0x60:
                a = memory[k]
            elif code == 0x61:
                x = memory[k]
            elif code == 0x02:
                memory[k] = a
            elif code == 0x03:
                memory[k] = x
            elif code == 0x84:
                a = -a & _MASK
            elif code & 7 == 4:
                a = alu(code & 0xF0, x if code & 8 else k)
            elif code == 0x05:
                position += k
            elif code & 7 == 5:
                value = x if code & 8 else k
                taken = {
                    0x10: a == value,
                    0x20: a > value,
                    0x30: a >= value,
                    0x40: bool(a & value),
                }[code & 0xF0]
                position += item.jt if taken else item.jf
            elif code == 0x06:
                return k
            elif code == 0x16:
                return a
            elif code == 0x07:
                x = a
            elif code == 0x87:
                a = x
            else:
                return None
    except (ValueError, KeyError, IndexError, ZeroDivisionError):
        return None


_CODES = [
    *(0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1, 0x00, 0x01, 0x80, 0x81, 0x60, 0x61, 0x02, 0x03),
    *(operation << 4 | 4 | source for operation in range(11) for source in (0, 8)),
    *(0x05, 0x06, 0x16, 0x07, 0x87),
    *(operation << 4 | 5 | source for operation in range(1, 5) for source in (0, 8)),
]


def random_filter(source: random.Random) -> list[Instruction]:
    length = source.randint(1, 64)
    program = []
    for position in range(length):
        code = source.choice(_CODES) if source.random() < 0.99 else source.randrange(0x10000)
        left = length - position - 1
        k = source.choice(
            [source.randrange(8), source.randrange(64), source.randrange(2**32), 0xFFFFF000]
        )
        if code == 0x05:
            k = source.randrange(left + 2)
        elif code & 0x67 in (0x60, 0x61) or code in (2, 3):
            k = source.randrange(17)
        jumps = [min(source.randrange(12), 255) for _ in range(2)]
        program.append(Instruction(code, jumps[0], jumps[1], k))
    return program


def run_as_c(filters: list[list[Instruction]], scratch: Path) -> list[int | None]:
    """Results of every filter on every packet, through gcc."""
    parts = [_PRELUDE]
    for number, program in enumerate(filters):
        body = "\n".join(statements(tuple(program)))
        parts.append(
            f"static int f{number}(struct sk_reuseport_md *md, u32 *result) {{\n"
            f"\tu32 a = 0, x = 0, m[16] = {{}};\n{body}\nfail:\n\treturn -1;\n}}\n"
        )
    parts.append("int main(void) {\n\tu32 r;\n\tint failed;\n\tstruct sk_reuseport_md md;\n")
    for packet in _PACKETS:
        text = ", ".join(map(str, packet)) or "0"
        parts.append(
            f"\tmd = (struct sk_reuseport_md){{(u8[]){{{text}}}, {len(packet) + 8}, 8}};\n"
        )
        for number in range(len(filters)):
            parts.append(f"\tr = 0; failed = f{number}(&md, &r);\n")
            parts.append('\tprintf(failed ? "fail\\n" : "%u\\n", r);\n')
    parts.append("\treturn 0;\n}\n")
    (scratch / "filters.c").write_text("".join(parts))
    subprocess.run(
        ["gcc", "-w", "-O1", "-fwrapv", "-o", scratch / "filters", scratch / "filters.c"],
        check=True,
    )
    done = subprocess.run([scratch / "filters"], capture_output=True, text=True, check=True)
    return [None if line == "fail" else int(line) for line in done.stdout.splitlines()]


def test_random_filters(tmp_path: Path) -> None:
    source = random.Random(20261122)
    filters = [random_filter(source) for _ in range(400)]
    # one of each instruction by itself, so that none escapes by chance
    before = [Instruction(0x20, 0, 0, 4), Instruction(0x07, 0, 0, 0), Instruction(0x28, 0, 0, 1)]
    after = [Instruction(0x16, 0, 0, 0), Instruction(0x06, 0, 0, 77)]
    filters += [[*before, Instruction(code, 0, 1, 3), *after] for code in _CODES]
    results = run_as_c(filters, tmp_path)
    expected = [interpret(program, packet) for packet in _PACKETS for program in filters]
    assert results == expected
    assert 200 < sum(result is not None for result in expected) < len(expected)


@pytest.mark.parametrize(
    "program",
    [
        [Instruction(0x34, 0, 0, 0)],  # division by zero
        [Instruction(0x04, 0, 0, 1)],  # runs off the end
        [Instruction(0x05, 0, 0, 1)],  # jumps off the end
        [Instruction(0x05, 0, 0, 2**32 - 1)],  # jumps backwards
        [Instruction(0xFFFF, 0, 0, 0)],
    ],
)
def test_what_cannot_run_fails(program: list[Instruction]) -> None:
    assert "result" not in " ".join(statements(tuple(program)))
