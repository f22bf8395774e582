# SPDX-License-Identifier: Apache-2.0
"""Classic BPF filters as `bpf_asm -c` prints them, one initializer each.

    { 0x28,  0,  0, 0000000000 },
    { 0x16,  0,  0, 0x00000000 },

Comments of C and a missing last comma are fine. So is the form without -c, for
iptables' xt_bpf: the count, then code, jt, jf and k of each.

    2,40 0 0 0,22 0 0 0,
"""

from __future__ import annotations

import re

from udpgrm import abi
from udpgrm.dissectors.classic import Instruction

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_NUMBER = r"(0[xX][0-9a-fA-F]{1,8}|0{1,10}|[1-9][0-9]{0,9})"
_INSTRUCTION = re.compile(
    r"\{\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*(?:,\s*)?\}\s*(?P<comma>,?)\s*"
)
_DECIMAL = re.compile(r"\s*\d+\s*,[\d\s,]*")
_FIELDS = (("code", 0xFFFF), ("jt", 0xFF), ("jf", 0xFF), ("k", 0xFFFFFFFF))


def parse(text: str) -> tuple[Instruction, ...]:
    """Read a filter of 1 to 64 instructions. Raises ValueError with one clear line."""
    # comments keep their line ends, so that errors name the right line
    text = _COMMENT.sub(lambda found: " " + "\n" * found[0].count("\n"), text)
    if _DECIMAL.fullmatch(text):
        return _parse_decimal(text)
    position = len(text) - len(text.lstrip())
    program: list[Instruction] = []
    comma = ","
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        found = _INSTRUCTION.match(text, position)
        if found is None or not comma:
            raise ValueError(
                f"line {line}: not an instruction as bpf_asm -c prints them: {{ code, jt, jf, k }},"
            )
        program.append(_instruction(found.groups()[:4], line))
        if len(program) > abi.MAX_FILTER:
            raise ValueError(f"more than {abi.MAX_FILTER} instructions")
        comma, position = found["comma"], found.end()
    if not program:
        raise ValueError("no instruction")
    return tuple(program)


def _parse_decimal(text: str) -> tuple[Instruction, ...]:
    count, *items = [item.split() for item in text.rstrip().rstrip(",").split(",")]
    if count != [str(len(items))]:
        raise ValueError(f"declares {' '.join(count)} instructions and has {len(items)}")
    if not 1 <= len(items) <= abi.MAX_FILTER:
        raise ValueError(f"{len(items)} instructions, not 1..{abi.MAX_FILTER}")
    for number, words in enumerate(items, 1):
        if len(words) != len(_FIELDS):
            raise ValueError(f"instruction {number}: {len(words)} numbers, not {len(_FIELDS)}")
    return tuple(_instruction(tuple(words), 1) for words in items)


def _instruction(words: tuple[str, ...], line: int) -> Instruction:
    values = [int(word, 16) if word[:2] in ("0x", "0X") else int(word) for word in words]
    for (name, most), value in zip(_FIELDS, values):
        if value > most:
            raise ValueError(f"line {line}: {name} is {value}, more than {most}")
    return Instruction(*values)
