# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Filters as they are linked, on real packets, against two other interpreters.

Ours in Python (tests/filters.py) says what any filter returns and how it fails; the
kernel's own is asked where it takes a filter at all. UDPGRM_FILTER_RUNS packets go
through random filters; `make kernel-filters` sets it to 100,000.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence

import pytest

from testing.waiting import PATIENCE_S
from tests.filters import Packet, interpret, one_of_each, random_filter
from udpgrm.build.link import link
from udpgrm.dissectors.classic import Instruction
from udpgrm.dissectors.filter_code import FAILED, TOO_SHORT, convert
from udpgrm.kernel import ebpf, libbpf
from udpgrm.kernel.ebpf import ALU64, JMP, Code

RUNS = int(os.environ.get("UDPGRM_FILTER_RUNS", "6000"))
_PACKETS_PER_FILTER = 6
_ADDRESS = "127.0.0.1"
_FILTER, _RESULT_MAP = 0x10000, 1
_ATTACH_CBPF, _ATTACH_EBPF = 51, 52
_MAP_LOOKUP = 1
_SOCKETS = 64
_PAYLOADS = [b"\x00", b"\x80\x01", bytes(range(40)), bytes(range(255, 215, -1)), b"\xff" * 64]
#: Instructions that the verifier follows: a program may have a million.
_MOST_VERIFIED = 8000
_RETURN_A = Instruction(0x16, 0, 0, 0)


def _program() -> bytes:
    """Run a filter, leave its result and the number of runs in a map, drop the packet."""
    code = Code()
    code.emit(ebpf.CALL_CODE, value=_FILTER)
    code.alu_register(ebpf.MOV, 6, 0, ALU64)
    code.alu(ebpf.MOV, 1, 0)
    code.emit(ebpf.STORE_DOUBLE, 10, 1, -8)
    code.alu_register(ebpf.MOV, 2, 10, ALU64)
    code.alu(ebpf.ADD, 2, -8, ALU64)
    code.emit(0x18, 1, libbpf.PSEUDO_MAP_FD, value=_RESULT_MAP)
    code.emit(0)
    code.emit(ebpf.CALL_CODE, value=_MAP_LOOKUP)
    code.jump("end", JMP | ebpf.JEQ, 0, value=0)
    code.emit(ebpf.STORE_DOUBLE, 0, 6, 0)
    code.load(8, 1, 0, 8)
    code.alu(ebpf.ADD, 1, 1, ALU64)
    code.emit(ebpf.STORE_DOUBLE, 0, 1, 8)
    code.label("end")
    code.alu(ebpf.MOV, 0, 0)
    code.emit(JMP | ebpf.EXIT)
    return code.assemble()


class Linked:
    """A socket whose packets meet a linked filter and nothing else."""

    def __init__(self) -> None:
        self._map = libbpf.map_create(libbpf.MAP_ARRAY, "test_result", 4, 16, 1, libbpf.F_MMAPABLE)
        self._memory = mmap.mmap(self._map, mmap.PAGESIZE)
        self._template = _program()
        #: Instructions that the verifier followed to accept the present filter.
        self.verified = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind((_ADDRESS, 0))
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((_ADDRESS, 0))
        self.to = self.socket.getsockname()

    def close(self) -> None:
        self._memory.close()
        os.close(self._map)
        self.socket.close()
        self.sender.close()

    def attach(self, program: Sequence[Instruction]) -> None:
        code = link(self._template, {_RESULT_MAP: self._map}, {}, {_FILTER: convert(program)})
        fd = libbpf.prog_load(
            libbpf.PROG_SK_REUSEPORT, "test_filter", code, libbpf.SK_REUSEPORT_SELECT
        )
        try:
            self.verified = libbpf.verified_instructions(fd)
            self.socket.setsockopt(socket.SOL_SOCKET, _ATTACH_EBPF, fd)
        finally:
            os.close(fd)

    def run(self, payload: bytes) -> int:
        runs = struct.unpack_from("=Q", self._memory, 8)[0]
        self.sender.sendto(payload, self.to)
        deadline = time.monotonic() + PATIENCE_S
        while struct.unpack_from("=Q", self._memory, 8)[0] == runs:
            assert time.monotonic() < deadline, "the packet met no filter"
        result: int = struct.unpack_from("=q", self._memory)[0]
        return result

    def packet(self, payload: bytes) -> Packet:
        """Return a packet from this host, as the documentation's interpreter takes it."""
        address = socket.inet_aton(_ADDRESS)
        network = bytes([0x45, *bytes(8), socket.IPPROTO_UDP, 0, 0]) + address + address
        return Packet(payload, network, 0x0800, min(os.sched_getaffinity(0)))


@pytest.fixture(scope="module", autouse=True)
def one_cpu() -> Iterator[None]:
    """Run on one CPU, as filters ask which one it is."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def linked() -> Iterator[Linked]:
    linked = Linked()
    yield linked
    linked.close()


def filters(count: int, unknown: float = 0.01) -> Iterator[list[Instruction]]:
    source = random.Random(20261129)
    yield from one_of_each()
    for _ in range(count):
        yield random_filter(source, unknown)


def test_as_documented(linked: Linked) -> None:
    seen: dict[int, int] = {FAILED: 0, TOO_SHORT: 0, 0: 0}
    for number, program in enumerate(filters(RUNS // _PACKETS_PER_FILTER)):
        linked.attach(program)
        source = random.Random(number)
        payloads = [*_PAYLOADS, source.randbytes(source.randint(0, 60))]
        for payload in payloads:
            expected = interpret(program, linked.packet(payload))
            assert linked.run(payload) == expected, (number, program, payload)
            seen[min(expected, 0)] += 1
    assert all(count > RUNS // 50 for count in seen.values()), seen


def test_long_packets(linked: Linked) -> None:
    """Load beyond the part of a packet that is in one piece."""
    payload = random.Random(3).randbytes(60_000)
    for code in (0x20, 0x28, 0x30):
        for at in (4000, 4090, 40_000, 59_990, 59_998, 59_999, 60_000, 65_527, 65_536, 2**31):
            program = [Instruction(code, 0, 0, at), _RETURN_A]
            linked.attach(program)
            assert linked.run(payload) == interpret(program, linked.packet(payload)), (code, at)
            program = [Instruction(1, 0, 0, at - 7), Instruction(code + 0x20, 0, 0, 7), _RETURN_A]
            linked.attach(program)
            assert linked.run(payload) == interpret(program, linked.packet(payload)), (code, at)


def test_hash_and_random(linked: Linked) -> None:
    for what, is_same in ((0xFFFFF020, True), (0xFFFFF038, False)):
        linked.attach([Instruction(0x20, 0, 0, what), _RETURN_A])
        results = {linked.run(b"x") for _ in range(5)}
        assert (len(results) == 1) == is_same, hex(what)


def _for_sockets(program: list[Instruction]) -> list[Instruction]:
    """Return the filter with a socket's number as its result."""
    end = len(program)
    changed = [
        Instruction(0x05, 0, 0, end - position - 1) if item.code == 0x16 else item
        for position, item in enumerate(program)
    ]
    changed = [
        Instruction(0x06, 0, 0, item.k % _SOCKETS) if item.code == 0x06 else item
        for item in changed
    ]
    return [*changed, Instruction(0x54, 0, 0, _SOCKETS - 1), _RETURN_A]


class Kernels:
    """Sockets of which the kernel's own interpreter chooses one."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        for _ in range(_SOCKETS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(self.sockets[0].getsockname() if self.sockets else (_ADDRESS, 0))
            self.sockets.append(sock)
        self._poll = select.poll()
        for sock in self.sockets:
            self._poll.register(sock, select.POLLIN)

    def attach(self, program: list[Instruction]) -> bool:
        """Return whether the kernel takes the filter."""
        code = b"".join(struct.pack("=HBBI", i.code, i.jt, i.jf, i.k) for i in program)
        buffer = ctypes.create_string_buffer(code, len(code))
        value = struct.pack("@HP", len(program), ctypes.addressof(buffer))
        try:
            self.sockets[0].setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, value)
        except OSError:
            return False
        return True

    def run(self, sender: socket.socket, payload: bytes) -> int:
        sender.sendto(payload, self.sockets[0].getsockname())
        ((fd, _),) = self._poll.poll(1000 * PATIENCE_S)
        numbers = {sock.fileno(): number for number, sock in enumerate(self.sockets)}
        self.sockets[numbers[fd]].recv(2048)
        return numbers[fd]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def test_as_the_kernels_own(linked: Linked) -> None:
    kernels = Kernels()
    taken = 0
    try:
        for program in filters(RUNS // _PACKETS_PER_FILTER // 2, unknown=0):
            program = _for_sockets(program)
            if len(program) > 64 or not kernels.attach(program):
                continue
            taken += 1
            linked.attach(program)
            for payload in _PAYLOADS[1:]:
                ours = max(linked.run(payload), 0)  # a filter that fails says 0 there
                chosen = kernels.run(linked.sender, payload)
                if ours < _SOCKETS:  # one that left the filter as it was may miss its new end
                    assert chosen == ours, (program, payload)
    finally:
        kernels.close()
    assert taken > RUNS // 150, "the kernel took too few of the filters"


def _conditions(codes: Sequence[int], jump: int = 1) -> list[Instruction]:
    """Return as many conditions as a filter can have; paths meet again at once or far ahead."""
    return [Instruction(codes[at % len(codes)], jump, 0, 1 << at % 31) for at in range(62 - jump)]


def _kept_alike() -> list[Instruction]:
    """Memory that on every path holds something else, of another range."""
    program = []
    for slot in range(15):
        program += [Instruction(0x45, 1, 0, 1 << slot), Instruction(0x54, 0, 0, 0xFF >> slot % 8)]
        program.append(Instruction(0x02, 0, 0, slot))
    return program + [Instruction(0x60, 0, 0, slot) for slot in range(15)]


def _kept_offsets() -> list[Instruction]:
    """Memory that some paths have written, and then loads at what it holds."""
    program = []
    for slot in range(15):
        program += [Instruction(0x45, 1, 0, 1 << slot), Instruction(0x02, 0, 0, slot)]
    for slot in range(15):
        program += [Instruction(0x61, 0, 0, slot), Instruction(0x50, 0, 0, 4)]
    return program


def _ranges() -> list[Instruction]:
    """Return code that computes a number whose range depends on the path, and loads at it."""
    program = []
    for bit in range(13):
        program += [Instruction(0x45, 0, 1, 1 << bit), Instruction(0x54, 0, 0, 0x7FFFFFFF >> bit)]
        program.append(Instruction(0x74, 0, 0, 1))
    return program + [Instruction(0x07, 0, 0, 0), Instruction(0x50, 0, 0, 4)] * 10


@pytest.mark.parametrize(
    "program",
    [
        _conditions([0x45]),
        _conditions([0x25, 0x35, 0x15]),
        _conditions([0x4D, 0x2D, 0x1D]),
        _conditions([0x45, 0x04, 0x74]),
        _conditions([0x45], jump=30),
        _kept_alike(),
        _kept_offsets(),
        _ranges(),
        [Instruction(0x20, 0, 0, at) for at in range(62)],
        [Instruction(0x9C, 0, 0, 0)] * 62,
        [
            Instruction(0x15, 0, 1, at) if at % 2 else Instruction(0x06, 0, 0, at)
            for at in range(62)
        ],
    ],
)
def test_no_filter_is_too_much_for_the_verifier(linked: Linked, program: list[Instruction]) -> None:
    """Load filters with so many paths that it would take years to follow them all."""
    program = [Instruction(0x20, 0, 0, 0), *program, _RETURN_A]
    assert len(program) <= 64
    linked.attach(program)
    assert linked.verified < _MOST_VERIFIED


def test_no_random_filter_either(linked: Linked) -> None:
    for program in filters(500):
        linked.attach(program)
        assert linked.verified < _MOST_VERIFIED, program
