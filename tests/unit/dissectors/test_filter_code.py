# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The code that filters become: whole and small, with faults reported.

What it does is compared in tests/kernel/dissectors/test_filters.py, by running it.
"""

from __future__ import annotations

import random

import pytest

from tests.filters import Packet, interpret, one_of_each, random_filter
from udpgrm.dissectors.classic import Instruction
from udpgrm.dissectors.filter_code import FAILED, TOO_SHORT, convert, faults
from udpgrm.kernel.ebpf import INSTRUCTION

_EXIT, _JA = 0x95, 0x05
_RETURN = Instruction(0x16, 0, 0, 0)


def successors(code: bytes, position: int) -> list[int]:
    opcode, _, offset, _ = INSTRUCTION.unpack_from(code, 8 * position)
    if opcode == _EXIT:
        return []
    if opcode == _JA:
        return [position + 1 + offset]
    is_jump = opcode & 0x07 in (0x05, 0x06) and opcode != 0x85
    return [position + 1, *([position + 1 + offset] if is_jump else [])]


def check_flow(code: bytes) -> None:
    """Check what the verifier refuses: unreachable instructions, jumps backwards or outside."""
    length = len(code) // 8
    reached = {0}
    for position in range(length):
        assert position in reached, f"instruction {position} of {length} cannot be reached"
        following = successors(code, position)
        assert all(position < target < length for target in following)
        reached.update(following)


def test_all_code_is_reached_and_ends() -> None:
    source = random.Random(20261129)
    for program in [*one_of_each(), *(random_filter(source, 0.05) for _ in range(2000))]:
        code = convert(program)
        check_flow(code)
        assert len(code) // 8 < 64 * 24 + 30


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([Instruction(0x34, 0, 0, 0), _RETURN], "instruction 0 (0x34, 0x0) is unknown"),
        ([Instruction(0x04, 0, 0, 1)], "instruction 0 leads out of the filter"),
        ([Instruction(0x05, 0, 0, 1), _RETURN], "instruction 0 leads out of the filter"),
        ([Instruction(0x05, 0, 0, 2**32 - 1), _RETURN], "instruction 0 leads out of the filter"),
        ([Instruction(0x15, 0, 1, 7), _RETURN], "instruction 0 leads out of the filter"),
        ([_RETURN, Instruction(0xFFFF, 0, 0, 0)], ""),  # no packet gets there
        ([Instruction(0x8C, 0, 0, 0), _RETURN], "instruction 0 (0x8c, 0x0) is unknown"),
        ([Instruction(0x60, 0, 0, 16), _RETURN], "instruction 0 (0x60, 0x10) is unknown"),
        # SKF_AD_VLAN_TAG
        ([Instruction(0x20, 0, 0, 0xFFFFF02C), _RETURN], "instruction 0 (0x20, 0xfffff02c)"),
    ],
)
def test_what_cannot_run_is_named(program: list[Instruction], message: str) -> None:
    found = faults(program)
    assert len(found) == bool(message)
    assert all(message in fault for fault in found)
    check_flow(convert(program))


def test_random_filters_are_of_all_kinds() -> None:
    """Draw filters that fail, that read too far, and that succeed."""
    source = random.Random(1)
    packet = Packet(bytes(range(40)), bytes(20))
    results = [interpret(random_filter(source), packet) for _ in range(2000)]
    assert results.count(FAILED) > 100
    assert results.count(TOO_SHORT) > 50
    assert sum(result >= 0 for result in results) > 500
