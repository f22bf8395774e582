# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Instructions as RFC 9669 has them, and jumps that know where they lead."""

from __future__ import annotations

import pytest

from udpgrm.kernel import ebpf
from udpgrm.kernel.ebpf import ALU64, JMP, JMP32, Code, Helper


def test_instructions() -> None:
    code = Code()
    code.alu(ebpf.MOV, 0, 42, ALU64)
    code.alu_register(ebpf.XOR, 7, 9)
    code.load(2, 1, 6, -8)
    code.emit(ebpf.STORE_DOUBLE, 10, 3, -16)
    code.call(Helper.SKB_LOAD_BYTES)
    code.alu(ebpf.MOV, 0, -1)
    code.emit(JMP | ebpf.EXIT)
    assert code.assemble() == bytes.fromhex(
        "b7000000 2a000000"
        "ac970000 00000000"
        "6961f8ff 00000000"
        "7b3af0ff 00000000"
        "85000000 1a000000"
        "b4000000 ffffffff"
        "95000000 00000000"
    )


def test_jumps() -> None:
    code = Code()
    code.jump("end", JMP32 | ebpf.JGT, 2, value=5)
    code.jump("end", JMP | ebpf.JNE, 3, right=4)
    code.jump("next")
    code.label("next")
    code.alu(ebpf.MOV, 0, 0)
    code.label("end")
    code.emit(JMP | ebpf.EXIT)
    assert code.wants("end")
    assert not code.wants("other")
    assert code.assemble() == bytes.fromhex(
        "26020300 05000000 5d430200 00000000 05000000 00000000 b4000000 00000000 9500000000000000"
    )


def test_a_label_that_never_comes() -> None:
    code = Code()
    code.jump("nowhere")
    with pytest.raises(KeyError):
        code.assemble()
