# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of labelled groups are handed on to tubular when their generation is active."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, client, received, wait_for, wait_for_index
from testing.waiting import PATIENCE_S
from udpgrm import abi
from udpgrm.abi import DissectorType, Option
from udpgrm.kernel import libbpf
from udpgrm.state import maps as state

WHERE = "127.0.0.1:4433"
#: Duplicates wait for a promotion however long that takes on a busy machine, and tubular's answer
#: does; or for the time that they have.
PATIENT = f"""
import udpgrm.daemon.tubular as tubular
tubular._HOLD_S = tubular._TIMEOUT_S = {PATIENCE_S}
"""
HASTY = PATIENT + "tubular._TIMEOUT_S = 1.0\n"
AS_IT_IS = ""


class Tubular:
    """A daemon that takes sockets and gives the configured answer."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.messages: list[tuple[bytes, int]] = []
        self.answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            with channel:
                data, fds, _, _ = socket.recv_fds(channel, 4096, 253)
                for fd in fds:
                    os.close(fd)
                self.messages.append((data, len(fds)))
                if self.answer:
                    channel.send(self.answer)
                else:
                    channel.recv(1)  # until the other end has had enough

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tubular.sock"


@pytest.fixture
def patience() -> str:
    """Code that the daemon runs first; tests parametrize it."""
    return PATIENT


@pytest.fixture
def sockets(bare_host: Host, path: Path, patience: str) -> Iterator[list[socket.socket]]:
    """Three sockets of a labelled group, in generation 1."""
    bare_host.start(f"--tubular={path}", fault=patience)
    dissector = abi.Dissector(type=DissectorType.FLOW, label=b"edge")
    made = []
    for _ in range(3):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 4433))
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, bytes(dissector))
    grm.enroll(made, 1)
    yield made
    for sock in made:
        sock.close()


def events(host: Host) -> list[str]:
    return host.events.read_text().splitlines()


def test_registered_with_its_label(
    bare_host: Host, path: Path, sockets: list[socket.socket]
) -> None:
    tubular = Tubular(path, b"OK")
    try:
        grm.promote(sockets[0], 1)
        wait_for(lambda: tubular.messages, "the sockets to arrive")
        assert tubular.messages == [(b"edge#", 3)]
        grm.promote(sockets[0], 1)
        wait_for(
            lambda: "No new sockets to register to tubular" in events(bare_host), "the second time"
        )
        assert tubular.messages == [(b"edge#", 3)]
    finally:
        tubular.close()
    assert bare_host.counters(WHERE).get("socket_critical", 0) == 0
    lines = bare_host.errors.read_text().splitlines()
    assert lines[-2:] == [f"Tubular path {path}", "Tailing message ring buffer"]


def test_steering_continues(sockets: list[socket.socket]) -> None:
    plain = grm.bind("127.0.0.2:4433")
    grm.enroll(plain, 1)
    theirs = libbpf.map_create(libbpf.MAP_SOCKMAP, "tubular", 4, 8, 16)
    try:
        for position, sock in enumerate(sockets):
            fd = sock.fileno().to_bytes(8, sys.byteorder)
            libbpf.map_update(theirs, state.index(position), fd)
        with pytest.raises(OSError):  # as it would be without the label
            fd = plain[0].fileno().to_bytes(8, sys.byteorder)
            libbpf.map_update(theirs, state.index(5), fd)
    finally:
        os.close(theirs)
        plain[0].close()
    grm.promote(sockets[0], 1)
    with client() as sock:
        for _ in range(3):
            sock.sendto(b"?", ("127.0.0.1", 4433))
        found = received(sockets, 0.5)
    assert len(found) == 3 and len({position for position, _ in found}) == 1


@pytest.mark.parametrize(
    "answer, reason, patience",
    [
        (b"NO", "answered 'NO'", PATIENT),
        (b"", "timed out", HASTY),
        (None, "No such file", PATIENT),
    ],
)
def test_failures_are_logged_and_counted(
    bare_host: Host, path: Path, sockets: list[socket.socket], answer: bytes, reason: str
) -> None:
    tubular = Tubular(path, answer) if answer is not None else None
    try:
        grm.promote(sockets[0], 1)
        wait_for(
            lambda: any(
                line.startswith("Tubular register failed: ") and reason in line
                for line in events(bare_host)
            ),
            "the failure to be logged",
        )
    finally:
        if tubular is not None:
            tubular.close()
    # counted after it was logged
    wait_for(lambda: bare_host.counters(WHERE).get("socket_critical"), "the failure to be counted")
    counters = bare_host.counters(WHERE)
    assert (counters["socket_critical"], counters["socket_critical_gauge"]) == (1, 1)


@pytest.mark.parametrize("patience", [HASTY])
def test_one_that_hangs_keeps_no_other_waiting(
    bare_host: Host, path: Path, sockets: list[socket.socket]
) -> None:
    """Serve the second message although tubular hangs with the first one."""
    tubular = Tubular(path, b"")
    try:
        with grm.bind("127.0.0.2:4433")[0] as other:
            with bare_host.stopped():
                grm.promote(sockets[0], 1)
                other.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 1)
            failure = "Tubular register failed: timed out"
            wait_for(lambda: failure in events(bare_host), "tubular to be given up")
            wait_for_index(other)
            log = events(bare_host)
            [created] = [line for line in log if "group created 127.0.0.2:4433" in line]
            assert log.index(created) < log.index(failure)
    finally:
        tubular.close()


@pytest.fixture
def began() -> float:
    """Return a time before the sockets are registered."""
    return time.monotonic()


@pytest.mark.parametrize("patience", [AS_IT_IS])
def test_held_for_ten_seconds(bare_host: Host, began: float, sockets: list[socket.socket]) -> None:
    """Hold duplicates for 10 s, in which a promotion may come, and then close them."""

    def held() -> int:
        """Duplicates of sockets: the daemon's other descriptors come and go."""
        found = 0
        for path in fds.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += str(path.readlink()).startswith("socket:")
        return found

    fds = Path(f"/proc/{bare_host.process.pid}/fd")

    before = held()
    wait_for(lambda: held() < before, "the first duplicate to be closed")
    assert time.monotonic() > began + 10
    wait_for(lambda: held() == before - 3, "the others to be closed")
