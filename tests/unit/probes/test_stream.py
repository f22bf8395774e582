# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes over TCP, against real listeners on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from testing.waiting import PATIENCE_S
from udpgrm.probes import runner, specs
from udpgrm.state import address

ANSWERED = specs.EchoProbe(timeout_s=PATIENCE_S)


@dataclass
class Listener:
    address: str
    peers: list[tuple[str, int]] = field(default_factory=list)


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket, int], None]) -> Iterator[Listener]:
    """Listen until the end of the block; serve: gets each connection, and its number from 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        here = sock.getsockname()
        running = Listener(address.form(*here, tcp=True))
        done = threading.Event()

        def run() -> None:
            while True:
                connection, peer = sock.accept()
                with connection:
                    if done.is_set():
                        return
                    running.peers.append(peer)
                    with contextlib.suppress(OSError):
                        serve(connection, len(running.peers) - 1)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield running
        finally:
            done.set()
            socket.create_connection(here).close()
            thread.join()


def echo(connection: socket.socket, _number: int) -> None:
    connection.sendall(connection.recv(100))


def test_a_right_answer() -> None:
    with listener(echo) as there:
        result = runner.run(ANSWERED, there.address)
    assert result.passed, result
    assert (result.type, result.address, result.attempts) == ("echo", there.address, 1)
    assert there.peers == [result.source]


def test_the_port_is_known_before_it_connects() -> None:
    with listener(echo) as there, runner.hold(ANSWERED, there.address) as flow:
        assert there.peers == []
        assert flow.ask().passed
        assert there.peers == [flow.source]


def test_another_attempt_comes_from_the_same_port() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        if number:
            echo(connection, number)

    with listener(serve) as there:
        result = runner.run(ANSWERED, there.address)
    assert (result.passed, result.attempts) == (True, 2), result
    assert there.peers == [result.source] * 2


def test_dns_messages_have_their_length_before_them() -> None:
    def serve(connection: socket.socket, _number: int) -> None:
        length = int.from_bytes(connection.recv(2), "big")
        query = connection.recv(length)
        assert len(query) == length
        answer = query[:2] + b"\x80\0" + query[4:]
        connection.sendall(length.to_bytes(2, "big") + answer)

    with listener(serve) as there:
        result = runner.run(specs.DnsProbe(timeout_s=PATIENCE_S), there.address)
    assert (result.passed, result.reason) == (True, "DNS NOERROR, 0 answers")


def test_a_connection_is_enough_for_connect() -> None:
    with listener(lambda *_: None) as there:
        result = runner.run(specs.ConnectProbe(timeout_s=PATIENCE_S), there.address)
    assert (result.passed, result.reason) == (True, "the connection was established")


def test_a_closed_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        where = address.form(*sock.getsockname(), tcp=True)
        result = runner.run(specs.ConnectProbe(timeout_s=0.2, retries=1), where)
    assert (result.passed, result.attempts) == (False, 2)
    assert result.reason == "refused: no socket at that port (a reset)"


def test_no_answer() -> None:
    with listener(lambda *_: None) as there:
        result = runner.run(specs.DnsProbe(timeout_s=0.2, retries=0), there.address)
    assert not result.passed
    assert "closed without an answer" in result.reason or "reset" in result.reason
