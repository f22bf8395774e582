# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A UDP server on loopback that answers as a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Callable

from udpgrm.state import address

#: Returns the answer to the n-th datagram (from 0): datagrams, and pauses in seconds.
Answer = Callable[[bytes, int], Iterable["bytes | float"]]


@dataclass
class Server:
    address: str
    seen: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)


@contextlib.contextmanager
def server(answer: Answer, ip: str = "127.0.0.1") -> Iterator[Server]:
    """Serve until the end of the block."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((ip, 0))
        here = sock.getsockname()
        running = Server(address.form(here[0], here[1]))

        def serve() -> None:
            while True:
                data, peer = sock.recvfrom(65535)
                if not data:
                    return
                running.seen.append((data, peer[:2]))
                for item in answer(data, len(running.seen) - 1):
                    if isinstance(item, float):
                        time.sleep(item)
                    else:
                        sock.sendto(item, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield running
        finally:
            with socket.socket(family, socket.SOCK_DGRAM) as last:
                last.sendto(b"", here)
            thread.join()


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """Yield an address on loopback that refuses all packets, and that no other process gets.

    It is that of a socket with another peer. A test may open the port, with SO_REUSEPORT.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.connect(("127.0.0.1", 9))
        yield address.form(*sock.getsockname())
