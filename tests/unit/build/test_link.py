# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Linking: references become maps and constants, and nothing else changes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from udpgrm.abi import LinkedFunction
from udpgrm.build.link import link, references

MAPS = {1: 17, 2: 2**31 - 1, 15: 3}
FIRST_FUNCTION = LinkedFunction.FILTER
CONSTANTS = {64: 0, 65: 2**64 - 1, 66: 250, 67: 1 << 32}

EXIT = bytes.fromhex("9500000000000000")


def instruction(opcode: int, registers: int, offset: int, immediate: int) -> bytes:
    return struct.pack("=BBhi", opcode, registers, offset, immediate)


def load(destination: int, source: int, low: int, high: int = 0) -> bytes:
    """Return a 64-bit load of two instructions; source 1 makes it a reference."""
    return instruction(0x18, source << 4 | destination, 0, low) + instruction(0, 0, 0, high)


@dataclass(frozen=True)
class Part:
    """Instructions before and after linking."""

    before: bytes
    after: bytes
    number: int = 0


registers = st.integers(0, 10)
i32 = st.integers(-(2**31), 2**31 - 1)
u64 = st.integers(0, 2**64 - 1)


@st.composite
def others(draw: st.DrawFn) -> Part:
    """Any instruction that is no 64-bit load and calls no linked function."""
    opcode = draw(st.integers(0, 255).filter(lambda item: item != 0x18))
    immediate = draw(i32)
    assume(opcode != 0x85 or immediate < FIRST_FUNCTION)
    code = instruction(opcode, draw(st.integers(0, 255)), draw(st.integers(-9, 9)), immediate)
    return Part(code, code)


@st.composite
def plain_loads(draw: st.DrawFn) -> Part:
    """64-bit loads of a value: their second half may look like a reference."""
    code = instruction(0x18, draw(registers), 0, draw(i32))
    code += draw(st.one_of(st.binary(min_size=8, max_size=8), st.just(load(1, 1, 1)[:8])))
    return Part(code, code)


@st.composite
def map_references(draw: st.DrawFn) -> Part:
    register, number = draw(registers), draw(st.sampled_from(sorted(MAPS)))
    return Part(load(register, 1, number), load(register, 1, MAPS[number]), number)


@st.composite
def constant_references(draw: st.DrawFn) -> Part:
    register, number = draw(registers), draw(st.sampled_from(sorted(CONSTANTS)))
    low, high = struct.unpack("=ii", struct.pack("=Q", CONSTANTS[number]))
    return Part(load(register, 1, number), load(register, 0, low, high), number)


@given(st.lists(st.one_of(others(), plain_loads(), map_references(), constant_references())))
def test_only_references_change(parts: list[Part]) -> None:
    code = b"".join(part.before for part in parts)
    linked = link(code, MAPS, CONSTANTS)
    assert len(linked) == len(code)
    assert linked == b"".join(part.after for part in parts)
    assert [number for _, number in references(code)] == [
        part.number for part in parts if part.number
    ]


@given(value=u64, register=registers)
def test_any_unsigned_constant(value: int, register: int) -> None:
    linked = link(load(register, 1, 64) + EXIT, {}, {64: value})
    opcode, named, offset, low = struct.unpack_from("=BBhI", linked)
    high = struct.unpack_from("=BBhI", linked, 8)
    assert (opcode, named, offset) == (0x18, register, 0)
    assert high[:3] == (0, 0, 0)
    assert high[3] << 32 | low == value
    assert linked[16:] == EXIT


def test_offsets_of_references() -> None:
    code = EXIT + load(1, 1, 64) + load(2, 0, 64) + load(3, 1, 1) + EXIT
    assert list(references(code)) == [(8, 64), (40, 1)]


@pytest.mark.parametrize("number", [0, 3, 63, 68, -1])
def test_an_unknown_reference(number: int) -> None:
    with pytest.raises(KeyError) as error:
        link(load(1, 1, 1) + load(1, 1, number), MAPS, CONSTANTS)
    assert error.value.args == (number,)


def call(number: int, source: int = 0) -> bytes:
    return instruction(0x85, source << 4, 0, number)


def test_functions_come_behind_the_program_once() -> None:
    first, second = instruction(0xB7, 0, 0, 1) + EXIT, instruction(0xB7, 0, 0, 2) + EXIT
    code = call(FIRST_FUNCTION + 1) + load(1, 0, 0) + call(FIRST_FUNCTION) + call(26)
    code += call(FIRST_FUNCTION + 1) + EXIT
    linked = link(code, {}, {}, {FIRST_FUNCTION: first, FIRST_FUNCTION + 1: second, 9: b""})
    assert linked == (
        call(6, 1) + load(1, 0, 0) + call(5, 1) + call(26) + call(1, 1) + EXIT + second + first
    )


def test_a_function_that_there_is_not() -> None:
    with pytest.raises(KeyError) as error:
        link(call(FIRST_FUNCTION), {}, {}, {})
    assert error.value.args == (FIRST_FUNCTION,)


def test_nothing_to_link() -> None:
    assert link(b"", MAPS, CONSTANTS) == b""


def test_the_template_stays_as_it_is() -> None:
    code = load(1, 1, 1)
    first, second = link(code, {1: 5}, {}), link(code, {1: 6}, {})
    assert (first, second) == (load(1, 1, 5), load(1, 1, 6))
