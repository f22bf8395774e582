# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A server that makes a connected socket for each peer, and what tests do with it.

    python3 acceptor.py NAME ADDRESS PORT GENERATION

Answers every packet with its name. GENERATION is empty for a server that knows nothing of
udpgrm. It takes a new peer's packet on its unconnected socket and answers on a connected one.
A packet that came to a socket just before it was connected to another peer is taken for a
new peer's, too, as servers of this kind do, since the kernel promises no more.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[3]
_STRAY = "a packet of another peer"
#: As in testing/waiting.py, which this program would have to find first.
PATIENCE_S = 120.0


def reuseport(where: tuple[str, int]) -> socket.socket:
    """Return a bound socket that shares its address."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(where)
    return sock


def serve(name: bytes, where: tuple[str, int], generation: Optional[int]) -> None:
    """Serve until killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    main = reuseport(where)
    if generation is not None:
        sys.path.insert(0, str(ROOT))
        import udpgrm.client as grm

        grm.enroll([main], generation, PATIENCE_S)
    poll = select.epoll()
    poll.register(main, select.EPOLLIN)
    sessions: dict[int, socket.socket] = {}

    def accept(peer: tuple[str, int]) -> None:
        session = reuseport(where)
        session.connect(peer)
        sessions[session.fileno()] = session
        poll.register(session, select.EPOLLIN)
        session.send(name)

    print("up", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == main.fileno():
                accept(main.recvfrom(2048)[1])
                continue
            data, peer = sessions[fd].recvfrom(2048)
            if peer != sessions[fd].getpeername():
                print(_STRAY, flush=True)
                accept(peer)
            elif data == b"bye":
                poll.unregister(fd)
                sessions.pop(fd).close()
            else:
                sessions[fd].send(name)


class Acceptor:
    """A server as a process in a cgroup of its own.

    strays: packets that came to the socket of another peer, known once it has stopped.
    """

    strays = 0

    def __init__(
        self, parent: Path, name: str, where: tuple[str, int], generation: Optional[int] = None
    ) -> None:
        self.cgroup = parent / name
        self.cgroup.mkdir()
        number = "" if generation is None else str(generation)
        self.process = subprocess.Popen(
            [
                "sh",
                "-c",
                'echo $$ >"$0/cgroup.procs"; exec "$@"',
                str(self.cgroup),
                sys.executable,
                __file__,
                name,
                where[0],
                str(where[1]),
                number,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def stop(self) -> None:
        """Kill it and remove its cgroup."""
        (self.cgroup / "cgroup.kill").write_text("1")
        self.process.wait()
        if self.process.stdout is not None:
            self.strays = self.process.stdout.read().count(_STRAY)
            self.process.stdout.close()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()
                return
            time.sleep(0.02)


def ask(peers: Sequence[socket.socket], where: tuple[str, int]) -> list[str]:
    """Names of the servers that answer each of these sockets."""
    names = []
    for peer in peers:
        peer.settimeout(PATIENCE_S)
        peer.sendto(b"?", where)
        names.append(peer.recv(100).decode())
    return names


if __name__ == "__main__":
    serve(
        sys.argv[1].encode(),
        (sys.argv[2], int(sys.argv[3])),
        int(sys.argv[4]) if sys.argv[4] else None,
    )
