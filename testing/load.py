# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Queries: a resolver's, each from a port of its own, and dnsperf's, from a few fixed ones."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: Queries a second, of each of the two.
RATE = 250
LOOPBACK = "127.0.0.1"
_TIMEOUT_S = 5.0
_BETWEEN_CONNECTIONS_S = 0.02
# a TXT record: type, class, time to live, length, length of its string
_NAME = re.compile(rb"\x00\x10\x00\x01.{4}\x00..([a-z]+[0-9]+)", re.DOTALL)
# flags: recursion desired; one question: whoami.example. IN TXT
_QUESTION = b"\1\0\0\1\0\0\0\0\0\0" + b"\6whoami\7example\0" + b"\0\x10\0\1"
_DNSPERF_QUERIES = "www.example. A\nwhoami.example. TXT\n"


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer, the name of the instance that gave it, and when (time.monotonic)."""

    name: str
    sent: float
    received: float


class Resolver(threading.Thread):
    """Asks which instance answers, at a steady rate, never twice from one port in a row.

    A query is lost when no answer has come after 5 s; it is asked once.
    """

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        super().__init__(name="resolver", daemon=True)
        self.sent = 0
        self.lost: list[float] = []
        self.refused: list[bytes] = []
        self.answers: list[Answer] = []
        self._place = host, port
        self._ending = threading.Event()
        self._waiting: dict[int, tuple[socket.socket, bytes, float]] = {}
        self._poll = select.epoll()

    def run(self) -> None:
        """Ask until told to end, then wait for what was asked."""
        due = time.monotonic()
        while not self._ending.is_set():
            now = time.monotonic()
            if now >= due:
                self._ask(now)
                # from when it was due; but a late thread sends no burst
                due = max(due + 1 / RATE, now)
            self._listen(max(due - time.monotonic(), 0))
        while self._waiting:
            self._listen(0.05)
        self._poll.close()

    def end(self) -> None:
        """Stop asking; returns when every query is answered or lost."""
        self._ending.set()
        self.join()

    def _ask(self, now: float) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect(self._place)
        query = self.sent.to_bytes(4, "big")[2:] + _QUESTION
        self._poll.register(sock, select.EPOLLIN)
        self._waiting[sock.fileno()] = sock, query, now
        self.sent += 1
        with contextlib.suppress(ConnectionRefusedError):  # no listener: lost in the end
            sock.send(query)

    def _listen(self, timeout: float) -> None:
        for fd, _ in self._poll.poll(timeout):
            self._receive(fd)
        # after what has come was read: a late thread loses nothing that was answered
        limit = time.monotonic() - _TIMEOUT_S
        for fd, (_, _, sent) in list(self._waiting.items()):
            if sent > limit:
                break
            self._drop(fd)
            self.lost.append(sent)

    def _receive(self, fd: int) -> None:
        sock, query, sent = self._waiting[fd]
        try:
            reply = sock.recv(512)
        except ConnectionRefusedError:
            return
        if reply[:2] != query[:2]:
            return
        self._drop(fd)
        name = _NAME.search(reply)
        if name:
            self.answers.append(Answer(name[1].decode(), sent, time.monotonic()))
        else:
            self.refused.append(reply)

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._waiting.pop(fd)[0].close()


def ask_by_tcp(port: int) -> str:
    """Name of the instance that answers on a connection of its own."""
    query = b"\0\1" + _QUESTION
    with socket.create_connection((LOOPBACK, port), _TIMEOUT_S) as connection:
        connection.sendall(len(query).to_bytes(2, "big") + query)
        reply = b""
        while not (name := _NAME.search(reply)):
            piece = connection.recv(4096)
            assert piece, f"the connection ended after {reply!r}"
            reply += piece
    return name[1].decode()


class Connections:
    """Clients of TCP: each question on a connection of its own, from several threads."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self._port = port
        self.answers: list[Answer] = []
        self.failed: list[str] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self) -> None:
        while not self._ending.wait(_BETWEEN_CONNECTIONS_S):
            sent = time.monotonic()
            try:
                name = ask_by_tcp(self._port)
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))
            else:
                self.answers.append(Answer(name, sent, time.monotonic()))

    def __enter__(self) -> Connections:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop asking, and wait for the answers."""
        self._ending.set()
        for thread in self._threads:
            thread.join()


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of queries by their outcome."""

    sent: int
    lost: int


class Dnsperf:
    """A dnsperf with four sockets."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="udpgrm-queries-")
        queries = Path(self._directory.name, "queries")
        queries.write_text(_DNSPERF_QUERIES)
        self._process = subprocess.Popen(
            [
                *("dnsperf", "-s", host, "-p", str(port), "-d", str(queries)),
                *("-c", "4", "-Q", str(RATE), "-t", str(_TIMEOUT_S), "-l", "3600"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> Counts:
        """Stop it and read its statistics."""
        self._process.send_signal(signal.SIGINT)
        text, _ = self._process.communicate(timeout=30)
        self._directory.cleanup()
        counts = {
            what: int(number)
            for what, number in re.findall(r"Queries (sent|completed|lost): +(\d+)", text)
        }
        assert counts["completed"], text
        failed = re.findall(r"Response codes: .*(?:SERVFAIL|REFUSED|NXDOMAIN).*", text)
        assert not failed, failed
        return Counts(counts["sent"], counts["lost"])

    def kill(self) -> None:
        """End it whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()


class Load:
    """Both at once."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self.resolver = Resolver(port, host)
        self.dnsperf = Dnsperf(port, host)
        self._counted: Counts | None = None
        self.resolver.start()

    def end(self) -> Counts:
        """Stop both, the first time; sums of their counts."""
        if self._counted is None:
            perf = self.dnsperf.end()
            self.resolver.end()
            assert not self.resolver.refused, self.resolver.refused[:3]
            resolver = self.resolver
            self._counted = Counts(perf.sent + resolver.sent, perf.lost + len(resolver.lost))
        return self._counted

    def names_since(self, when: float) -> set[str]:
        """Return the instances that have answered what was asked since then."""
        return {answer.name for answer in list(self.resolver.answers) if answer.sent >= when}


@contextlib.contextmanager
def load(port: int, host: str = LOOPBACK) -> Iterator[Load]:
    """Load on a port, gone when the block is left."""
    running = Load(port, host)
    try:
        yield running
    finally:
        running.dnsperf.kill()
        running.resolver.end()
