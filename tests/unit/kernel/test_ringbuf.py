# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reading a ring buffer, in a file that is laid out like the kernel's."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udpgrm.kernel.ringbuf import RingBuffer

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Producer:
    """The kernel's side: consumer position, producer position, data, the data once more."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self._memory = mmap.mmap(self.fd, 0)
        self._end = 0

    def start_at(self, position: int) -> None:
        self._end = position
        self._put(0, struct.pack("=Q", position))
        self._publish()

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)

    def _put(self, offset: int, data: bytes) -> None:
        self._memory[offset : offset + len(data)] = data

    def _write(self, position: int, data: bytes) -> None:
        # the kernel maps the same pages twice
        for number, byte in enumerate(data):
            place = 2 * PAGE + (position + number) % SIZE
            self._put(place, bytes([byte]))
            self._put(place + SIZE, bytes([byte]))

    def _publish(self) -> None:
        self._put(PAGE, struct.pack("=Q", self._end))

    @property
    def consumed(self) -> int:
        return int(struct.unpack("=Q", self._memory[:8])[0])

    def room(self) -> int:
        return SIZE - (self._end - self.consumed)

    def reserve(self, payload: bytes, flags: int = 0) -> int:
        """Append a record; returns its position."""
        position = self._end
        self._write(position, struct.pack("=II", len(payload) | flags, 0) + payload)
        self._end += (len(payload) + 8 + 7) // 8 * 8
        self._publish()
        return position

    def commit(self, position: int, payload: bytes, flags: int = 0) -> None:
        self._write(position, struct.pack("=I", len(payload) | flags))


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.close()


@pytest.fixture
def ring(producer: Producer) -> RingBuffer:
    return RingBuffer(producer.fd, SIZE)


def records(ring: RingBuffer) -> Iterator[bytes]:
    """Read the records there are now; each is consumed when the next is asked for."""
    for end, record in ring.ahead():
        if record is not None:
            yield record
        ring.consume(end)


def test_read_ahead_of_what_is_consumed(producer: Producer, ring: RingBuffer) -> None:
    ends = []
    for payload in (b"one", b"two"):
        producer.reserve(payload)
        [(end, record)] = ring.ahead()
        assert record == payload
        ends.append(end)
    assert producer.consumed == 0
    assert [record for _, record in RingBuffer(producer.fd, SIZE).ahead()] == [b"one", b"two"]
    ring.consume(ends[0])
    assert producer.consumed == ends[0]
    assert [record for _, record in RingBuffer(producer.fd, SIZE).ahead()] == [b"two"]


def test_nothing(ring: RingBuffer) -> None:
    assert list(records(ring)) == []


def test_records_in_order(producer: Producer, ring: RingBuffer) -> None:
    for payload in (b"one", b"", b"twelve bytes", b"8 bytes!"):
        producer.reserve(payload)
    assert list(records(ring)) == [b"one", b"", b"twelve bytes", b"8 bytes!"]
    assert list(records(ring)) == []
    assert producer.room() == SIZE


def test_a_record_is_consumed_when_the_next_is_asked_for(
    producer: Producer, ring: RingBuffer
) -> None:
    first, second = producer.reserve(b"one"), producer.reserve(b"two")
    read = records(ring)
    assert next(read) == b"one"
    assert producer.consumed == first
    # a reader that is killed now leaves the record to the next
    assert list(records(RingBuffer(producer.fd, SIZE))) == [b"one", b"two"]
    producer.start_at(0)
    ring = RingBuffer(producer.fd, SIZE)
    assert (producer.reserve(b"one"), producer.reserve(b"two")) == (first, second)
    read = records(ring)
    assert next(read) == b"one"
    assert next(read) == b"two"
    assert producer.consumed == second
    assert next(read, None) is None
    assert producer.room() == SIZE


def test_records_that_come_meanwhile_are_read_the_next_time(
    producer: Producer, ring: RingBuffer
) -> None:
    # or a busy sender would keep the daemon from everything else
    producer.reserve(b"one")
    read = records(ring)
    assert next(read) == b"one"
    producer.reserve(b"two")
    assert list(read) == []
    assert list(records(ring)) == [b"two"]


def test_a_busy_record_holds_up_those_behind_it(producer: Producer, ring: RingBuffer) -> None:
    producer.reserve(b"one")
    busy = producer.reserve(b"two", BUSY)
    producer.reserve(b"three")
    assert list(records(ring)) == [b"one"]
    assert producer.consumed == busy
    assert list(records(ring)) == []
    producer.commit(busy, b"two")
    assert list(records(ring)) == [b"two", b"three"]


def test_a_discarded_record_is_passed_over(producer: Producer, ring: RingBuffer) -> None:
    producer.reserve(b"one")
    producer.reserve(b"never sent", DISCARDED)
    producer.reserve(b"two")
    producer.reserve(b"nor this", DISCARDED)
    assert list(records(ring)) == [b"one", b"two"]
    assert producer.room() == SIZE


@pytest.mark.parametrize("before_the_end", [8, 16, 40, 48])
def test_a_record_across_the_end(producer: Producer, ring: RingBuffer, before_the_end: int) -> None:
    producer.start_at(SIZE - before_the_end)
    ring = RingBuffer(producer.fd, SIZE)
    payload = bytes(range(40))
    producer.reserve(payload)
    producer.reserve(b"next")
    assert list(records(ring)) == [payload, b"next"]


def test_positions_beyond_32_bits(producer: Producer, ring: RingBuffer) -> None:
    producer.start_at(2**32 - 16)
    ring = RingBuffer(producer.fd, SIZE)
    for payload in (b"before", b"across", b"after"):
        producer.reserve(payload)
    assert list(records(ring)) == [b"before", b"across", b"after"]
    assert producer.consumed == 2**32 + 32


def test_a_full_ring(producer: Producer, ring: RingBuffer) -> None:
    payload = bytes(SIZE - 8)
    producer.start_at(SIZE - 24)
    ring = RingBuffer(producer.fd, SIZE)
    producer.reserve(payload)
    assert producer.room() == 0
    assert list(records(ring)) == [payload]


payloads = st.binary(max_size=200)
#: Messages that are appended before each reading.
batches = st.lists(st.lists(st.tuples(payloads, st.booleans()), max_size=6), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(start=st.integers(0, 2**33).map(lambda number: number & ~7), batches=batches)
def test_nothing_is_lost_doubled_or_reordered(
    producer: Producer, ring: RingBuffer, start: int, batches: list[list[tuple[bytes, bool]]]
) -> None:
    producer.start_at(start)
    ring = RingBuffer(producer.fd, SIZE)
    for batch in batches:
        for payload, discarded in batch:
            producer.reserve(payload, DISCARDED if discarded else 0)
        expected = [payload for payload, discarded in batch if not discarded]
        assert list(records(ring)) == expected
        assert producer.room() == SIZE
