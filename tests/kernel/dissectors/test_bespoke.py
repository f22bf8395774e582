# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""BESPOKE groups: QUIC connections by the server name of their ClientHello."""

from __future__ import annotations

import errno
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

import udpgrm.client as grm
from testing.host import (
    ROOT,
    Host,
    client,
    close,
    copy_of_templates,
    plain_socket,
    received,
    wait_for,
)
from testing.waiting import PATIENCE_S
from tests.kernel.dissectors import held
from tests.kernel.dissectors.held import HeldSockets
from tests.unit.bpf.dissectors.bespoke.code import Code, dissector
from tests.unit.bpf.dissectors.bespoke.packets import (
    PING,
    VERSION_2,
    ack,
    client_hello,
    crypto,
    extension,
    hello,
    initial,
    long,
    mutated,
    padding,
    server_name,
    short,
    split,
)
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.build import cache as templates
from udpgrm.build import sources

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
NAMES = [(b"one.example", 1), (b"two.example", 2), (b"three.example", 3), (b"nought.example", 0)]
DCID = bytes.fromhex("8394c8f03e515708")
HELLO = crypto(hello(b"two.example"))


class Sockets(HeldSockets):
    """Sockets of one group."""

    def __init__(self) -> None:
        super().__init__()
        self.value = dissector(NAMES)
        self.host = "127.0.0.1"

    def bound(self, app: int = 0) -> socket.socket:
        return self.bind((self.host, 4433), bytes(self.value), app)

    def working(self, generation: int, apps: int = 4) -> list[socket.socket]:
        """Return a socket of each application, in a generation that gets new flows."""
        made = [self.bound(app) for app in range(apps)]
        for sock in made:
            grm.enroll([sock], generation)
            grm.promote(sock, generation)
        return made


sockets = held.fixture_of(Sockets)


def reached(sockets: Sequence[socket.socket], *payloads: bytes) -> list[int]:
    """Return the position of the socket that each packet reached; no packet reached two."""
    positions = []
    where = sockets[0].getsockname()
    with client(sockets[0].family) as sender:
        for payload in payloads:
            sender.sendto(payload, where)
            got = received(sockets, 1.0)
            assert len(got) == 1, payload.hex()
            positions.append(got[0][0])
    return positions


def ours(sock: socket.socket, length: int = 8) -> bytes:
    """Return a connection ID with a socket's cookie."""
    cookie = grm.socket_generation(sock).cookie.to_bytes(2, "big")
    return (b"\1" + cookie + b"\3\4").ljust(length, b"\7")


def test_names(host: Host, sockets: Sockets) -> None:
    apps = sockets.working(7)
    for name, app in [*NAMES, (b"four.example", 0), (b"Two.example", 0)]:
        assert reached(apps, initial(crypto(hello(name)))) == [app]
    assert host.counters(ADDRESS) == {
        "rx_processed_total": 6,
        "rx_dissected_ok_total": 6,
        "rx_flow_new_unseen": 6,
        "rx_new_flow_total": 6,
        "rx_new_flow_working_gen_dispatch_ok": 6,
    }
    assert host.group(ADDRESS)["dissector"]["type"] == "bespoke"


@pytest.mark.parametrize("apps", [2, 3])
def test_number_of_applications(host: Host, sockets: Sockets, apps: int) -> None:
    sockets.value = dissector(NAMES[: apps - 1], apps)
    first = sockets.working(1, apps)
    later = sockets.working(2, apps)
    for name, app in NAMES[:3]:
        expected = apps + (app if app < apps else 0)
        assert reached(first + later, initial(crypto(hello(name)))) == [expected]


def test_ipv6(host: Host, sockets: Sockets) -> None:
    sockets.host = "::1"
    apps = sockets.working(1)
    assert reached(apps, initial(HELLO), initial(PING), short(ours(apps[3]))) == [2, 0, 3]


@pytest.mark.parametrize("name", ["two.example", "Nobody.example", None])
def test_aioquic(host: Host, sockets: Sockets, name: str | None) -> None:
    """Steer the Initial packets of a real client by its server name."""
    apps = sockets.working(1)
    expected = 2 if name == "two.example" else 0
    for alpn in (["h3"], ["x" * length for length in range(1, 30)]):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=alpn, server_name=name)
        connection = QuicConnection(configuration=configuration)
        connection.connect(("127.0.0.1", 4433), now=0)
        (datagram, _), *more = connection.datagrams_to_send(now=0)
        assert not more
        assert reached(apps, datagram) == [expected]


def hellos() -> Iterator[tuple[str, bytes, int]]:
    """Datagrams with a ClientHello for two.example: (what, packet, application)."""
    stream = hello(b"two.example", size=200)
    parts = split(stream, [1, 30, 61, 66, 68, 200])
    yield "padding first", initial(padding(200) + crypto(stream)), 2
    yield "ping first", initial(PING + crypto(stream)), 2
    yield "ack first", initial(ack(9, ecn=True) + crypto(stream)), 2
    yield "split", initial(b"".join(parts)), 2
    yield "reordered", initial((PING + padding(5)).join(reversed(parts))), 2
    yield "a part is missing", initial(b"".join(parts[:3] + parts[4:])), 0
    late = client_hello([extension(5, b"")] * 30 + [server_name(b"two.example")])
    yield "name is late", initial(crypto(late)), 2
    yield "coalesced", initial(crypto(stream), size=600) + long(DCID, size=500), 2
    yield "token", initial(crypto(stream), token=bytes(300), scid=bytes(20)), 2
    yield "jumbo", initial(crypto(stream), size=9000), 2
    yield "many frames", initial(PING * 600 + crypto(stream)), 2
    yield "other version", initial(crypto(stream), version=VERSION_2), 0
    yield "version negotiation", initial(crypto(stream), version=0), 0
    yield "other keys", initial(crypto(stream), keys_of=bytes(8)), 0
    yield "no frames", initial(b"\x08" + crypto(stream)), 0
    yield "no crypto", initial(PING), 0
    yield "truncated", initial(crypto(stream))[:-1], 0
    yield "half", initial(crypto(stream))[:600], 0
    yield "header", initial(crypto(stream))[:24], 0
    for length in (7, 8, 15, 20, 21):
        packet = initial(crypto(stream), bytes(range(100, 100 + length)))
        yield f"connection ID of {length} bytes", packet, 2 if 8 <= length <= 20 else 0
    # as large as one with a post-quantum key share is
    large = hello(b"two.example", size=1300)
    first, second = split(large, [1100])
    yield "first of two", initial(first), 2
    yield "second of two", initial(second, number=3), 0
    late = client_hello([extension(51, bytes(1216)), server_name(b"two.example")])
    first, second = split(late, [1100])
    yield "first of two, name in the second", initial(first), 0
    yield "second of two, with the name", initial(second, number=3), 0


def test_client_hellos(host: Host, sockets: Sockets) -> None:
    apps = sockets.working(1)
    for what, packet, app in hellos():
        assert reached(apps, packet) == [app], what
    count = len(list(hellos()))
    counters = host.counters(ADDRESS)
    assert counters["rx_new_flow_working_gen_dispatch_ok"] == count
    assert counters["rx_dissected_ok_total"] == count


def test_cookies(host: Host, sockets: Sockets) -> None:
    old = sockets.working(1)
    new = sockets.working(2)
    for app in range(4):
        dcid = ours(old[app])
        for packet in (
            short(dcid),
            short(dcid, 24),
            *(long(dcid, kind) for kind in (1, 2, 3)),
            long(dcid.ljust(20, b"\7")),
            long(dcid, kind=0, version=VERSION_2),
        ):
            assert reached(old + new, packet) == [app]
    assert host.counters(ADDRESS)["rx_flow_ok"] == 28


def test_connection_ids_of_others(host: Host, sockets: Sockets) -> None:
    old = sockets.working(1)
    new = sockets.working(2)
    good = ours(old[2])
    bad = bytes([good[0], good[1], good[2] ^ 0x20]) + good[3:]
    for packet in (
        short(b"\2" + good[1:]),
        long(b"\0" + good[1:]),
        long(good[:7]),
        long(good.ljust(21, b"\7")),
        short(bad),
        long(bad),
    ):
        assert reached(old + new, packet) == [4]
    assert host.counters(ADDRESS)["rx_flow_new_bad_cookie"] == 2


def test_cookie_of_an_application(host: Host, sockets: Sockets) -> None:
    """Begin a new flow of the application in the fifth byte where the cookie is 0."""
    apps = sockets.working(1)
    for number in (0, 1, 2, 3, 4, 255):
        dcid = b"\1\0\0\x55" + bytes([number]) + b"\7\7\7"
        expected = number if number < 4 else 0
        assert reached(apps, short(dcid), long(dcid)) == [expected] * 2
    counters = host.counters(ADDRESS)
    assert counters["rx_new_flow_total"] == 12
    assert "rx_flow_new_bad_cookie" not in counters


def test_dead_sockets(host: Host, sockets: Sockets) -> None:
    """Treat a packet with the cookie of a closed socket as a new flow of its application."""
    old = sockets.working(1)
    new = sockets.working(2)
    dcid = ours(old[3])
    close(old[3])
    assert reached(new, short(dcid)) == [3]
    assert host.counters(ADDRESS)["rx_flow_other_error"] == 1


def test_initial_packets_within_a_connection(host: Host, sockets: Sockets) -> None:
    """Steer later Initial packets by the connection ID that the server has chosen.

    Their keys are those of the client's first connection ID.
    """
    old = sockets.working(1)
    new = sockets.working(2)
    everyone = old + new
    for app in range(4):
        dcid = ours(old[app], 8 + app)
        assert reached(everyone, initial(ack(), dcid, keys_of=DCID)) == [app]
        together = initial(ack(), dcid, keys_of=DCID, size=100) + long(dcid)
        assert reached(everyone, together) == [app]
        # a client's own choice may look like ours
        assert reached(everyone, initial(HELLO, dcid)) == [4 + 2]
        assert reached(everyone, initial(crypto(b"x", 2000), dcid)) == [4]


def test_one_application(host: Host, sockets: Sockets) -> None:
    sockets.value = dissector([(b"two.example", 0)], max_apps=0)
    old = sockets.working(1, 1)
    new = sockets.working(2, 1)
    packets = (
        initial(HELLO),
        initial(PING),
        initial(HELLO, ours(old[0])),
        initial(ack(), ours(old[0]), keys_of=DCID),
    )
    assert reached(old + new, *packets) == [1, 1, 1, 0]


def test_too_short(host: Host, sockets: Sockets) -> None:
    apps = sockets.working(1)
    for length in (0, 1, 5, 23):
        reached(apps, initial(HELLO)[:length])
        reached(apps, short(ours(apps[1]))[:length])
    assert reached(apps, short(ours(apps[1]), 24)) == [1]
    counters = host.counters(ADDRESS)
    assert counters["rx_packet_too_short_error"] == 8
    assert counters["rx_dissected_ok_total"] == 1


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Code:
    """Return the same code, compiled for this machine."""
    code = Code(tmp_path_factory.mktemp("bespoke"))
    code.prepare(dissector(NAMES))
    return code


@pytest.mark.parametrize("seed", range(3))
def test_mutated_packets(host: Host, sockets: Sockets, code: Code, seed: int) -> None:
    """Deliver each packet once, to the socket that the C code selects on this machine."""
    apps = sockets.working(1)
    chance = random.Random(seed)
    seeds = [packet for _, packet, _ in hellos() if len(packet) < 2000]
    seeds += [short(DCID), long(DCID), initial(HELLO, b"\1\0\0\3\2\5\6\7")]
    with client() as sender:
        for _ in range(20):
            sent = {}
            for _ in range(20):
                packet = mutated(chance.choice(seeds), chance).ljust(24, b"\0")
                sent[packet] = expected(code, packet)
                sender.sendto(packet, ("127.0.0.1", 4433))
            got: dict[bytes, int] = {}
            while ready := select.select(apps, [], [], PATIENCE_S * (len(got) < len(sent)))[0]:
                for sock in ready:
                    data = sock.recv(65536)
                    assert data not in got
                    got[data] = apps.index(sock)
            assert got == sent
    counters = host.counters(ADDRESS)
    assert "rx_internal_state_error" not in counters


def expected(code: Code, packet: bytes) -> int:
    """Return the application whose only socket a packet has to reach."""
    found = code.connection(packet)
    assert found is not None
    app = code.initial(packet).app if found.is_initial else None
    if app is not None or not found.is_ours:
        return app or 0
    if not found.cookie:
        return found.app if found.app < 4 else 0
    slot = found.cookie & 31
    return slot // 8 if abi.make_cookie(slot, found.cookie >> 8) == found.cookie else 0


def test_daemons_come_and_go(own_host: Host, sockets: Sockets) -> None:
    """Continue steering without a daemon, and with the next."""
    apps = sockets.working(1)
    own_host.kill(signal.SIGKILL)
    assert reached(apps, initial(HELLO), initial(PING)) == [2, 0]
    own_host.start()
    more = sockets.working(2)
    assert reached(apps + more, initial(HELLO), short(ours(apps[1]))) == [6, 1]
    # a clean exit takes the pins away; then the kernel chooses for Initial packets
    dcid = ours(apps[1])
    assert own_host.kill(signal.SIGTERM) == 0
    assert len(reached(apps + more, *[initial(HELLO)] * 5)) == 5
    assert reached(apps + more, short(dcid)) == [1]


def test_new_programs(
    bare_host: Host, sockets: Sockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put the programs for Initial packets of a later daemon in place of the earlier one's."""
    tree = tmp_path / "other"
    for name in ("bin", "bpf", "udpgrm"):
        shutil.copytree(ROOT / name, tree / name)
    changed = tree / "bpf/dissectors/bespoke/hello.h"
    text = changed.read_text()
    assert text.count("app = dissector->sni[entry].app;") == 1
    changed.write_text(text.replace("app = dissector->sni[entry].app;", "app = 3;"))
    bare_host.start("--persist")
    apps = sockets.working(1)
    assert reached(apps, initial(HELLO)) == [2]
    bare_host.kill()
    command = [sys.executable, str(tree / "bin/udpgrm")]
    subprocess.run([*command, "build"], check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setattr("testing.host.COMMAND", command)
    bare_host.start("--persist")
    seen = {2}

    def is_replaced() -> bool:
        # whichever program it is, a packet reaches a socket
        seen.update(reached(apps, initial(HELLO)))
        return 3 in seen

    wait_for(is_replaced, "the new programs")
    assert seen == {2, 3}
    assert reached(apps, initial(HELLO), initial(PING)) == [3, 0]


def test_two_groups(host: Host, sockets: Sockets) -> None:
    """Share the programs for Initial packets between groups, but not the names."""
    apps = sockets.working(1)
    others = Sockets()
    others.host, others.value = "127.0.0.2", dissector([(b"two.example", 1)], 2)
    try:
        pair = others.working(5, 2)
        for _ in range(3):
            assert reached(apps, initial(HELLO)) == [2]
            assert reached(pair, initial(HELLO)) == [1]
        assert host.counters("127.0.0.2:4433")["rx_processed_total"] == 3
    finally:
        for sock in others.all:
            sock.close()


def test_no_group_waits_for_its_programs(
    bare_host: Host, sockets: Sockets, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compile them as the daemon starts, as applications give up after a second."""
    where = copy_of_templates(tmp_path)
    for path in [*where.glob("*bespoke*"), *where.glob("quic_*")]:
        path.unlink()
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(where))
    programs = sources.parts(sources.steering("bespoke"))
    assert templates.missing(programs) == programs
    bare_host.start()
    assert templates.missing(programs) == []
    apps = sockets.working(1)
    assert reached(apps, initial(HELLO)) == [2]


def test_values(host: Host) -> None:
    good = [
        dissector([], 0),
        dissector([], 4),
        dissector([(b"a" * 61, 0)], 0),
        dissector([(b"", 0)], 1),
        dissector([(b"%d" % number, 3) for number in range(8)], 4),
    ]
    bad = [
        abi.Dissector(type=abi.DissectorType.BESPOKE),
        abi.Dissector(type=abi.DissectorType.BESPOKE, digest=0xDEAF),
        abi.Dissector(type=abi.DissectorType.CBPF, digest=0xDEAD, filter_len=1),
        abi.Dissector(type=abi.DissectorType.FLOW, digest=0xDEAD),
        dissector([], 5),
        dissector([(b"a", 1)], 0),
        dissector([(b"a", 1)], 1),
        dissector([(b"a", 0), (b"b", 2)], 2),
        dissector([(b"a" * 62, 0)], 1),
        dissector([(b"%d" % number, 0) for number in range(7)] + [(b"a" * 62, 0)], 1),
    ]
    too_many = dissector([(b"a", 0)] * 8, 1)
    too_many.sni_count = 9
    for value in [*bad, too_many]:
        assert set_on_new_group(value) == errno.EPERM
    assert not host.groups()
    for value in good:
        assert set_on_new_group(value) == 0
    # names beyond the count are not read
    ragged = dissector([(b"a", 0), (b"b" * 62, 9)], 1)
    ragged.sni_count = 1
    assert set_on_new_group(ragged) == 0


def set_on_new_group(value: abi.Dissector) -> int:
    """Set a socket option and read it back; return the error, 0 for none."""
    with plain_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        try:
            sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, bytes(value))
        except OSError as error:
            return error.errno or -1
        assert sock.getsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, 632) == bytes(value)
        return 0
