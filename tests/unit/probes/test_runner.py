# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes against real servers on loopback: right, wrong, silent, late, and absent ones."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.probes.servers import closed_port, server
from udpgrm.probes import runner, specs

#: Where no answer comes, and where one does.
ECHO = specs.EchoProbe(timeout_s=0.2)
ANSWERED = specs.EchoProbe(timeout_s=PATIENCE_S)
Replies = Iterable["bytes | float"]


def echo(data: bytes, _number: int) -> Replies:
    return [data]


def silence(_data: bytes, _number: int) -> Replies:
    return []


def test_a_right_answer() -> None:
    with server(echo) as there:
        result = runner.run(ANSWERED, there.address)
    assert result.passed
    assert result.reason == "the nonce came back"
    assert (result.type, result.address, result.attempts) == ("echo", there.address, 1)
    assert result.sent == result.received == there.seen[0][0].hex()
    assert result.source == there.seen[0][1]
    assert result.elapsed_s > 0


def test_no_answer() -> None:
    with server(silence) as there:
        result = runner.run(ECHO, there.address)
    assert not result.passed
    assert result.reason == "no reply within 0.2 s"
    assert result.received is None
    assert result.attempts == len(there.seen) == 3
    # the same question each time, from the same port
    assert len(set(there.seen)) == 1
    assert result.elapsed_s >= 0.6


def test_a_lost_question_is_asked_again() -> None:
    with server(lambda data, number: [data] if number >= 2 else []) as there:
        result = runner.run(specs.EchoProbe(timeout_s=0.2, retries=5 * 60), there.address)
    assert result.passed
    assert result.attempts >= 3


def test_no_retries() -> None:
    with server(lambda data, number: [data] if number == 1 else []) as there:
        result = runner.run(specs.EchoProbe(timeout_s=0.1, retries=0), there.address)
    assert not result.passed
    assert result.attempts == len(there.seen) == 1


def test_a_late_answer_counts_for_the_attempt_after() -> None:
    questions: list[bytes] = []

    def answer_the_first(data: bytes, number: int) -> list[bytes]:
        questions.append(data)
        return [questions[0]] if number >= 1 else []

    with server(answer_the_first) as there:
        result = runner.run(specs.EchoProbe(timeout_s=0.2, retries=5 * 60), there.address)
    assert result.passed
    assert result.attempts >= 2


def test_a_wrong_answer() -> None:
    with server(lambda _data, _number: [b"wrong"]) as there:
        result = runner.run(specs.EchoProbe(timeout_s=1), there.address)
    assert not result.passed
    assert result.reason == "this is not the nonce that was sent"
    assert result.received == b"wrong".hex()
    assert re.fullmatch(
        rf"echo probe of {re.escape(there.address)} from 127\.0\.0\.1:\d+ failed: this is not "
        r"the nonce that was sent; sent [0-9a-f]{32} \(16 bytes\) in 3 attempts, "
        rf"got {b'wrong'.hex()} \(5 bytes\)",
        str(result),
    )


def test_a_wrong_answer_before_the_right_one() -> None:
    with server(lambda data, _number: [b"wrong", b"", data]) as there:
        result = runner.run(ANSWERED, there.address)
    assert result.passed
    assert result.attempts == 1


def test_a_wrong_answer_to_this_very_question_is_not_asked_again() -> None:
    refused = specs.DnsProbe(rcode="NOERROR", timeout_s=PATIENCE_S)
    with server(lambda data, _number: [data[:2] + b"\x81\x05" + data[4:]]) as there:
        result = runner.run(refused, there.address)
    assert not result.passed
    assert result.reason == "DNS REFUSED, NOERROR was expected"
    assert result.attempts == 1
    assert result.elapsed_s < PATIENCE_S


def test_refused() -> None:
    with closed_port() as where:
        result = runner.run(ANSWERED, where)
    assert not result.passed
    assert result.reason == "refused: no socket at that port (ICMP port unreachable)"
    assert result.attempts == 3
    assert result.elapsed_s < PATIENCE_S
    assert str(result).endswith("got nothing")


def test_refused_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass a server that opens its port between two attempts."""
    refused, reason = threading.Event(), runner._network_reason

    def noticed(*arguments: Any) -> str:
        refused.set()
        return reason(*arguments)

    def open_and_answer(where: str) -> None:
        refused.wait()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", int(where.rpartition(":")[2])))
            sock.settimeout(PATIENCE_S)
            sock.sendto(*sock.recvfrom(100))

    monkeypatch.setattr(runner, "_network_reason", noticed)
    with closed_port() as where:
        thread = threading.Thread(target=open_and_answer, args=(where,))
        thread.start()
        result = runner.run(specs.EchoProbe(timeout_s=PATIENCE_S, retries=1000), where)
        thread.join()
    assert result.passed
    assert result.attempts > 1


def test_a_given_source() -> None:
    with closed_port() as unused, server(echo) as there:
        port = int(unused.rpartition(":")[2])
        result = runner.run(ANSWERED, there.address, source=("127.0.0.2", port))
        assert result.passed
        assert result.source == there.seen[0][1] == ("127.0.0.2", port)
        assert runner.run(ANSWERED, there.address, source=("127.0.0.2", port)).passed


@pytest.mark.parametrize(
    ("source", "reason"),
    [(("192.0.2.1", 0), "Cannot assign requested address"), (("::1", 0), "Address family")],
)
def test_a_source_that_cannot_be(source: tuple[str, int], reason: str) -> None:
    with closed_port() as where:
        result = runner.run(ECHO, where, source=source)
        with pytest.raises(OSError, match=reason):
            runner.hold(ECHO, where, source=source)
    assert not result.passed
    assert result.reason.startswith("cannot be sent: ")
    assert reason in result.reason
    assert (result.source, result.attempts, result.received) == (None, 0, None)


def test_a_source_that_is_taken() -> None:
    with server(echo) as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        result = runner.run(ECHO, there.address, source=other.getsockname())
    assert result.reason == "cannot be sent: Address already in use"


@pytest.mark.parametrize(
    ("listens", "wildcard", "source"),
    [
        ("127.0.0.1", "0.0.0.0", None),
        ("127.0.0.3", "0.0.0.0", ("127.0.0.3", 0)),
        ("127.0.0.1", "0.0.0.0", ("0.0.0.0", 0)),
        ("::1", "[::]", None),
        ("::1", "[::]", ("::1", 0)),
    ],
)
def test_wildcards(listens: str, wildcard: str, source: tuple[str, int] | None) -> None:
    with server(echo, listens) as there:
        where = f"{wildcard}:{there.address.rpartition(':')[2]}"
        result = runner.run(ANSWERED, where, source=source)
    assert result.passed
    assert result.address == where
    assert result.source is not None
    assert result.source[0] == listens


def test_a_held_flow_keeps_its_port_and_asks_again() -> None:
    with server(echo) as there, runner.hold(ANSWERED, there.address) as held:
        results = [held.ask() for _ in range(3)]
        assert {peer for _, peer in there.seen} == {held.source}
    assert all(result.passed and result.source == held.source for result in results)
    assert len({result.sent for result in results}) == 3


def test_an_answer_to_an_earlier_question_does_not_count() -> None:
    def one_behind(data: bytes, number: int) -> Replies:
        late.append(data)
        return [late[number - 1]] if number else []

    late: list[bytes] = []
    spec = specs.EchoProbe(timeout_s=1, retries=0)
    with server(one_behind) as there, runner.hold(spec, there.address) as held:
        assert held.ask().received is None
        result = held.ask()
    assert not result.passed
    assert result.received == late[0].hex()


def test_a_second_answer_does_not_count_for_the_next_question() -> None:
    """Drop a second answer, even where replies have no sign of what they answer."""
    spec = specs.RawProbe(payload="00", timeout_s=1, retries=0)
    with (
        server(lambda _data, number: [b"1", b"2"] if number == 0 else []) as there,
        runner.hold(spec, there.address) as held,
    ):
        assert held.ask().received == b"1".hex()
        time.sleep(1)
        result = held.ask()
    assert not result.passed
    assert result.received is None


def test_a_held_flow_recovers() -> None:
    spec = specs.EchoProbe(timeout_s=1, retries=0)
    with (
        server(lambda data, number: [data] if number != 1 else []) as there,
        runner.hold(spec, there.address) as held,
    ):
        assert [held.ask().passed for _ in range(3)] == [True, False, True]


def test_every_type_is_sent_as_it_is() -> None:
    """Send packets that begin with the bytes of their probe's type."""
    spoken = {
        specs.EchoProbe(): b"",
        specs.RawProbe(payload="0102"): b"\1\2",
        specs.DnsProbe(): b"",
        specs.QuicProbe(): b"\xc0\x1a\x2a\x3a\x4a",
        specs.StunProbe(): b"\0\1\0\0\x21\x12\xa4\x42",
        specs.SipProbe(): b"OPTIONS sip:127.0.0.1:",
        specs.NtpProbe(): b"\x23",  # version 4, client
        specs.RadiusProbe(secret="x"): b"\x0c",  # Status-Server
        specs.CoapProbe(): b"\x40\0",  # confirmable, empty
        specs.DtlsProbe(): b"\x16\xfe\xff",  # a handshake in a record of DTLS 1.0
    }
    over_udp = {spec for spec in specs.TYPES.values() if "udp" in spec.protocols}
    assert {type(spec) for spec in spoken} == over_udp
    for spec, begins in spoken.items():
        # what fits any answer comes at once, and nothing fits the others
        timeout_s = PATIENCE_S if spec.type == "raw" else 0.5
        with (
            server(lambda _data, _number: [b"x"]) as there,
            runner.hold(spec, there.address) as held,
        ):
            held._spec = type(spec)(**{**vars(spec), "timeout_s": timeout_s, "retries": 0})
            result = held.ask()
        assert there.seen[0][0].startswith(begins)
        assert result.type == spec.type
        assert result.passed == (spec.type == "raw")


def test_long_datagrams_are_cut_in_the_text_only() -> None:
    with server(silence) as there:
        result = runner.run(specs.QuicProbe(timeout_s=0.05, retries=0), there.address)
    assert len(result.sent) == 2400
    assert re.search(r"sent [0-9a-f]{64}\.\.\. \(1200 bytes\) in 1 attempts", str(result))
