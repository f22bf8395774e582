# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Initial packets to applications."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.dissectors.bespoke import oracle, packets
from tests.unit.bpf.dissectors.bespoke.code import BYTES, Code, Sanitized, dissector
from tests.unit.bpf.dissectors.bespoke.packets import (
    PING,
    ack,
    client_hello,
    crypto,
    extension,
    hello,
    initial,
    padding,
    server_name,
    split,
    varint,
)

DCID = bytes.fromhex("8394c8f03e515708")
#: RFC 9001, appendix A.2: the CRYPTO frame, start and tag of the protected packet.
RFC_FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c0000"
    "0413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017"
    "001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559f"
    "edba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408"
    "050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff080110"
    "0104800075300901100f088394c8f03e51570806048000ffff"
)
RFC_START = "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8ba"
RFC_TAG = "e221af44860018ab0856972e194cd934"
NAMES = [(b"example.com", 1), (b"other.example", 2), (b"example.co", 3)]


@pytest.fixture(autouse=True)
def names(code: Code) -> None:
    code.prepare(dissector(NAMES))


def app(code: Code, stream: bytes, **options: object) -> int | None:
    """Return the application of a ClientHello in one frame."""
    return code.initial(initial(crypto(stream), **options)).app  # type: ignore[arg-type]


def test_rfc_9001(code: Code) -> None:
    packet = initial(RFC_FRAME)
    # so the whole packet is the published one
    assert packet.hex().startswith(RFC_START)
    assert packet.hex().endswith(RFC_TAG)
    opened = code.initial(packet)
    assert opened.payload == RFC_FRAME.ljust(1162, b"\0")
    assert opened.stream[:241] == RFC_FRAME[4:]
    assert opened.present == b"\1" * 241 + bytes(BYTES - 241)
    assert opened.app == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"example.com", 1),
        (b"other.example", 2),
        (b"example.co", 3),
        (b"Example.com", 0),  # names are compared byte by byte
        (b"example.com.", 0),
        (b"example.c", 0),
        (b"xample.com", 0),
        (b"", 0),
        (b"\0", 0),
        (b"example.com\0", 0),
        (b"a" * 61, 0),
        (b"a" * 62, 0),
        (b"a" * 255, 0),
        (b"example.com".ljust(62, b"\0"), 0),
    ],
)
def test_names(code: Code, name: bytes, expected: int) -> None:
    assert app(code, hello(name)) == expected


def test_tables(code: Code) -> None:
    longest = b"l" * 61
    full = [(b"%d.example" % number, number % 4) for number in range(7)] + [(longest, 3)]
    code.prepare(dissector(full))
    for name, expected in full:
        assert app(code, hello(name)) == expected
    assert app(code, hello(longest[1:])) == 0
    code.prepare(dissector([]))
    assert app(code, hello(b"example.com")) == 0
    # the first of equals
    code.prepare(dissector([(b"same", 2), (b"same", 3)]))
    assert app(code, hello(b"same")) == 2
    # what follows a name's end, and entries beyond the count
    value = dissector([(b"same", 2), (b"same", 3)])
    raw = bytearray(bytes(value))
    entry = type(value).sni.offset
    raw[entry + 2 + 5 : entry + 64] = b"\xff" * 57
    raw[type(value).sni_count.offset] = 1
    raw[entry + 64] = 1
    code.prepare(type(value).from_buffer_copy(raw))
    assert app(code, hello(b"same")) == 2


@pytest.mark.parametrize("before", [0, 1, 5, 40])
def test_server_name_need_not_be_first(code: Code, before: int) -> None:
    others = [extension(1000 + number, b"x" * number) for number in range(before)]
    assert app(code, client_hello([*others, server_name(b"example.com")]), size=1452) == 1


def test_number_of_extensions(code: Code) -> None:
    others = [extension(1000, b"")] * 63
    assert app(code, client_hello([*others, server_name(b"example.com")])) == 1
    assert app(code, client_hello([*others, others[0], server_name(b"example.com")])) == 0


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\1",
        hello(b"example.com")[:60],
        b"\2" + hello(b"example.com")[1:],  # a ServerHello
        client_hello([]),
        client_hello([extension(10, b"")]),
        client_hello([server_name(b"example.com", kind=1)]),
        client_hello([extension(0, b"")]),
        client_hello([extension(51, b"x" * 60000)])[:1000],
    ],
)
def test_without_a_name(code: Code, stream: bytes) -> None:
    assert app(code, stream) == 0


def test_lengths_in_a_hello(code: Code) -> None:
    for session in (0, 1, 32, 255):
        for suites in (1, 3, 200):
            stream = client_hello([server_name(b"other.example")], bytes(session), suites)
            assert app(code, stream, size=1400) == 2


@pytest.mark.parametrize("length", [*range(8), *range(8, 21), 21, 255])
def test_length_of_dcid(code: Code, length: int) -> None:
    dcid = bytes(range(100, 100 + length)) if length < 100 else bytes(length)
    expected = 1 if 8 <= length <= 20 else None
    assert app(code, hello(b"example.com"), dcid=dcid) == expected


@pytest.mark.parametrize("number_bytes", [1, 2, 3, 4])
@pytest.mark.parametrize("scid", [0, 8, 20])
@pytest.mark.parametrize("token", [0, 1, 63, 64, 500])
def test_headers(code: Code, number_bytes: int, scid: int, token: int) -> None:
    number = 0x7F >> 1 if number_bytes == 1 else (1 << 8 * number_bytes) - 3
    packet = initial(
        crypto(hello(b"example.com")),
        number=number,
        number_bytes=number_bytes,
        scid=bytes(scid),
        token=b"t" * token,
    )
    assert code.initial(packet).app == 1
    # what follows in the datagram is another packet
    assert code.initial(packet + b"\xe0\0\0\0\1\x08" + bytes(30)).app == 1


FRAMES = {
    "padding first": padding(100) + crypto(hello(b"example.com")),
    "some padding first": padding(3) + crypto(hello(b"example.com")),
    "ping first": PING + crypto(hello(b"example.com")),
    "pings": PING * 300 + crypto(hello(b"example.com")),
    "ack first": ack() + crypto(hello(b"example.com")),
    "ack of many ranges": ack(80) + crypto(hello(b"example.com")),
    "ack with ecn": ack(3, ecn=True) + crypto(hello(b"example.com")),
    "types in eight bytes": varint(1, 8) + varint(0, 4) + crypto(hello(b"example.com")),
    "empty crypto": crypto(b"") + crypto(hello(b"example.com")),
    "twice": crypto(hello(b"example.com")) * 2,
    "overlapping": crypto(hello(b"example.com")[:40]) + crypto(hello(b"example.com")[20:], 20),
    "split": b"".join(split(hello(b"example.com"), [1, 5, 70])),
    "split in the name": b"".join(split(hello(b"example.com"), [64, 68, 69])),
    "reordered": b"".join(reversed(split(hello(b"example.com"), [10, 50, 60, 70]))),
    "interleaved": (PING + padding(9)).join(split(hello(b"example.com"), range(4, 80, 7))[::-1]),
    "then close": crypto(hello(b"example.com")) + b"\x1c\0\0\0",
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames(code: Code, what: str) -> None:
    opened = code.initial(initial(FRAMES[what]))
    assert opened.app == 1
    stream = hello(b"example.com")
    assert opened.stream[: len(stream)] == stream
    assert opened.present == b"\1" * len(stream) + bytes(BYTES - len(stream))


@given(data=st.data())
def test_any_way_to_send_it(code: Code, data: st.DataObject) -> None:
    name, expected = data.draw(st.sampled_from([*NAMES, (b"unknown.example", 0)]))
    stream = hello(name, before=data.draw(st.integers(0, 12)), size=data.draw(st.integers(0, 300)))
    at = data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12))
    frames = data.draw(st.permutations(split(stream, sorted(at))))
    fill = st.sampled_from([b"", PING, padding(1), padding(7), padding(20), ack(), ack(2, True)])
    filled = b"".join(frame + data.draw(fill) for frame in frames)
    packet = initial(
        filled,
        data.draw(st.binary(min_size=8, max_size=20)),
        number=data.draw(st.integers(0, 200)),
        number_bytes=data.draw(st.integers(1, 4)),
        scid=data.draw(st.binary(max_size=20)),
        token=data.draw(st.binary(max_size=100)),
        size=data.draw(st.integers(1200, 1500)),
    )
    opened = code.initial(packet)
    assert opened.app == expected
    assert opened.stream[: len(stream)] == stream


def test_a_part_of_the_hello(code: Code) -> None:
    """Find the server name although a part of the hello that is not read has not come."""
    stream = client_hello([extension(51, b"k" * 1184), server_name(b"example.com")])
    whole = len(stream)
    start, end = crypto(stream[:90]), crypto(stream[whole - 40 :], whole - 40)
    assert code.initial(initial(end + start)).app == 1
    assert code.initial(initial(end)).app == 0
    assert code.initial(initial(start)).app == 0


def test_large_hellos(code: Code) -> None:
    """Find the server name in the first of two datagrams; the second has no start."""
    stream = hello(b"example.com", size=1300)
    first, second = split(stream, [1100])
    assert code.initial(initial(first)).app == 1
    assert code.initial(initial(second, number=3)).app == 0
    # a name behind 2 KB is not looked for
    late = client_hello([extension(51, bytes(1900)), server_name(b"example.com")])
    assert code.initial(initial(crypto(late), size=4000)).app == 1
    late = client_hello([extension(51, bytes(2000)), server_name(b"example.com")])
    assert code.initial(initial(crypto(late), size=4000)).app == 0
    assert code.initial(initial(crypto(b"x" * 40, 1 << 40) + FRAMES["split"])).app == 1


@pytest.mark.parametrize("size", [1200, 2047, 2048, 2049, 2100, 3000, 9000, 60000])
def test_large_packets(code: Code, size: int) -> None:
    assert app(code, hello(b"example.com"), size=size) == 1


@pytest.mark.parametrize("before", range(BYTES - 120, BYTES + 10))
def test_edge_of_the_room(code: Code, before: int) -> None:
    """Read a frame that is cut at the limit as far as it is there."""
    stream = hello(b"example.com")
    opened = code.initial(initial(padding(before) + crypto(stream), size=3000))
    kept = max(0, min(len(stream), BYTES - before - 4))
    assert opened.present.count(1) == kept
    assert opened.app == (1 if kept >= stream.index(b"example.com") + 11 else 0)


@pytest.mark.parametrize("size", range(40, 140))
def test_ends_of_packets(code: Code, size: int) -> None:
    stream = hello(b"example.com")
    frames = padding(max(0, size - 100)) + crypto(stream)
    assert code.initial(initial(frames, size=0)).app == 1
    assert code.initial(initial(frames[:-1], size=0)).app is None


@pytest.mark.parametrize(
    "frames",
    [
        b"\x04\0\0\0",  # RESET_STREAM
        b"\x08\0abc",  # STREAM
        b"\x1d\0\0",
        b"\x1e",
        varint(0x4000),
        b"\6" + varint(0) + varint(2000),  # longer than the packet
        b"\6" + varint(0) + varint(1 << 40),
        b"\2" + varint(5) + varint(0) + varint(1 << 30) + varint(0),
        b"\2" + varint(5) + varint(0) + varint(2000) + varint(0),
    ],
)
def test_no_frames_of_an_initial_packet(code: Code, frames: bytes) -> None:
    assert code.initial(initial(frames + crypto(hello(b"example.com")))).app is None


def test_other_keys(code: Code) -> None:
    """Refuse what a client sends after the server's first answer, under other keys."""
    chance = random.Random(9001)
    for _ in range(300):
        packet = initial(ack() + FRAMES["split"], chance.randbytes(8), keys_of=DCID)
        assert code.initial(packet).app is None


def test_reserved_bits(code: Code) -> None:
    assert code.initial(initial(RFC_FRAME, first=0xC4)).app is None
    assert code.initial(initial(RFC_FRAME, first=0xC8)).app is None


def test_truncated(code: Code) -> None:
    packet = initial(RFC_FRAME)
    for length in range(24, len(packet)):
        assert code.initial(packet[:length]).app is None
    for length in (0, 1, 3, 16, 19, 20):
        short = bytearray(packet)
        short[16:18] = varint(length, 2)
        assert code.initial(bytes(short)).app is None


def test_number_of_programs(code: Code) -> None:
    """Make far fewer tail calls than the 33 that the kernel allows, whatever the frames."""
    for frames in (PING * 1160, (PING + padding(1)) * 580, crypto(b"") * 380, padding(1160)):
        assert code.initial(initial(frames)).calls < 12
    full = initial(PING * 4000, size=3000)
    assert code.initial(full).calls < 20


def mutations(chance: random.Random) -> list[bytes]:
    """Packets of which some bytes are others, bytes of any kind, and frames that are none."""
    made = []
    for _ in range(500):
        packet = initial(chance.choice(list(FRAMES.values())), chance.randbytes(8))
        made.append(packets.mutated(packet, chance))
        made.append(chance.randbytes(chance.randrange(24, 1300)))
    # under the right keys
    for _ in range(500):
        made.append(initial(chance.randbytes(chance.randrange(1, 1500))))
        frames = packets.mutated(chance.choice(list(FRAMES.values())).ljust(60, b"\0"), chance)
        made.append(initial(frames, size=chance.choice((0, 1200, 3000))))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_mutated(sanitized: Sanitized, seed: int) -> None:
    """Read mutated packets as the second reader does, without undefined behaviour."""
    made = mutations(random.Random(seed))
    garbled = 0
    for packet, opened in zip(made, sanitized.initial(dissector(NAMES), made)):
        app, stream = oracle.read(packet, dict(NAMES))
        assert opened.app == app, packet.hex()
        garbled += app is None
        if app is not None:
            there = {at: opened.stream[at] for at in range(BYTES) if opened.present[at]}
            assert there == stream.bytes, packet.hex()
    assert 100 < garbled < len(made) - 100


def test_nothing_is_within_limit_the_packet_before(code: Code) -> None:
    first = code.initial(initial(crypto(hello(b"other.example"))))
    second = code.initial(initial(crypto(hello(b"example.com")[:60])))
    assert (first.app, second.app) == (2, 0)
    assert second.present.count(1) == 60
