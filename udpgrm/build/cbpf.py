# SPDX-License-Identifier: Apache-2.0
"""Classic BPF filters to C statements, one each.

Source of the language: Linux Documentation/networking/filter.rst and
linux/filter.h. Whatever cannot be run jumps to `fail`: an unknown instruction,
a jump or memory slot out of range, a division by zero, the end of the filter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: "word", 0x08: "half", 0x10: "byte"}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_X = 0x08
_TAX, _TXA = 0x00, 0x80
_RETURN_A = 0x10
#: SKF_AD_OFF + SKF_AD_PROTOCOL: the EtherType, in host order.
_PROTOCOL = 0xFFFFF000
#: SKF_LL_OFF: from here up, offsets mean headers and what the kernel knows beside the packet.
_BESIDE_PACKET = 0xFFE00000
_ARITHMETIC = {0x00: "+", 0x10: "-", 0x20: "*", 0x40: "|", 0x50: "&", 0xA0: "^"}
_DIVISIONS = {0x30: "/", 0x90: "%"}
_SHIFTS = {0x60: "<<", 0x70: ">>"}
_NEG = 0x80
_JA = 0x00
_CONDITIONS = {0x10: "a == {}", 0x20: "a > {}", 0x30: "a >= {}", 0x40: "a & {}"}
_FAIL = "goto fail;"


@dataclass(frozen=True)
class Instruction:
    """One instruction: code, jump offsets if true and if false, constant."""

    code: int
    jt: int
    jf: int
    k: int


def statements(program: tuple[Instruction, ...]) -> list[str]:
    """C statements over a, x, m[16], md and *result; labels where jumps lead."""
    bodies = [_statement(item, position, len(program)) for position, item in enumerate(program)]
    text = "\n".join(bodies)
    lines = []
    for position, body in enumerate(bodies):
        label = _label(position)
        if f"goto {label};" in text:
            lines.append(f"{label}:")
        lines.append(f"\t{body}")
    return [*lines, f"\t{_FAIL}"]


def loads_beside_packet(program: Iterable[Instruction]) -> list[int]:
    """Return the positions of loads that only socket filters can do: they always fail here.

    Those are of headers below UDP (SKF_NET_OFF, SKF_LL_OFF) and of ancillary data (SKF_AD_OFF: the
    processor, the kernel's hash), but for SKF_AD_PROTOCOL.
    """
    return [
        position
        for position, item in enumerate(program)
        if item.code & 0x07 == _LD
        and item.code & 0xE0 == _ABS
        and item.k >= _BESIDE_PACKET
        and not (item.k == _PROTOCOL and _SIZES.get(item.code & 0x18) == "half")
    ]


def _label(position: int) -> str:
    return f"at_{position}"


def _jump(position: int, length: int) -> str:
    return f"goto {_label(position)};" if position < length else _FAIL


def _statement(item: Instruction, position: int, length: int) -> str:
    kind = item.code & 0x07
    if item.code > 0xFF:
        return _FAIL
    if kind in (_LD, _LDX):
        return _load(item, "a" if kind == _LD else "x") or _FAIL
    if kind in (_ST, _STX):
        value = "a" if kind == _ST else "x"
        return f"m[{item.k}] = {value};" if item.code == kind and item.k < 16 else _FAIL
    if kind == _ALU:
        return _arithmetic(item) or _FAIL
    if kind == _JMP:
        return _branch(item, position, length)
    if kind == _RET:
        values = {_RET: f"{item.k}u", _RET | _RETURN_A: "a"}
        returned = values.get(item.code)
        return f"*result = {returned}; return 0;" if returned else _FAIL
    moves = {_MISC | _TAX: "x = a;", _MISC | _TXA: "a = x;"}
    return moves.get(item.code, _FAIL)


def _load(item: Instruction, target: str) -> Optional[str]:
    mode, size = item.code & 0xE0, _SIZES.get(item.code & 0x18)
    if mode == _MSH and item.code == _LDX | _MSH | 0x10:
        return f"if (payload_byte(md, {item.k}u, &x)) goto fail; x = (x & 0xf) << 2;"
    if size is None:
        return None
    if mode in (_ABS, _IND) and target == "a":
        if mode == _ABS and size == "half" and item.k == _PROTOCOL:
            return "a = htons(md->eth_protocol);"
        # an offset beyond 64 KiB fails in the load; with x it wraps as u32 does
        offset = f"{item.k}u" if mode == _ABS else f"x + {item.k}u"
        return f"if (payload_{size}(md, {offset}, &a)) goto fail;"
    if size != "word":
        return None
    plain: dict[int, Optional[str]] = {
        _IMM: f"{target} = {item.k}u;",
        _LEN: f"{target} = md->len - UDP_HEADER;",
        _MEM: f"{target} = m[{item.k}];" if item.k < 16 else None,
    }
    return plain.get(mode)


def _arithmetic(item: Instruction) -> Optional[str]:
    operation, from_x = item.code & 0xF0, bool(item.code & _X)
    operand = "x" if from_x else f"{item.k}u"
    if operation in _ARITHMETIC:
        return f"a = a {_ARITHMETIC[operation]} {operand};"
    if operation in _SHIFTS:
        amount = "(x & 31)" if from_x else f"{item.k & 31}"
        return f"a = a {_SHIFTS[operation]} {amount};"
    if operation in _DIVISIONS:
        sign = _DIVISIONS[operation]
        if from_x:
            return f"if (!x) goto fail; a = a {sign} x;"
        return f"a = a {sign} {operand};" if item.k else None
    return "a = -a;" if operation == _NEG and not from_x else None


def _branch(item: Instruction, position: int, length: int) -> str:
    operation = item.code & 0xF0
    if operation == _JA:
        return _jump(position + 1 + item.k, length) if item.code == _JMP else _FAIL
    condition = _CONDITIONS.get(operation)
    if condition is None:
        return _FAIL
    test = condition.format("x" if item.code & _X else f"{item.k}u")
    yes = _jump(position + 1 + item.jt, length)
    no = _jump(position + 1 + item.jf, length)
    return f"if ({test}) {yes} else {no}"
