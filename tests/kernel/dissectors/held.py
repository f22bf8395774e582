# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets with a dissector, closed after the test that has made them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from typing import Optional, TypeVar

import pytest

from testing.host import plain_socket
from udpgrm.abi import Option

_Sockets = TypeVar("_Sockets", bound="HeldSockets")


class HeldSockets:
    """Sockets of one group or several. Use as a context manager."""

    def __init__(self) -> None:
        self.all: list[socket.socket] = []

    def __enter__(self) -> HeldSockets:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.all:
            sock.close()

    def bind(
        self, where: tuple[str, int], dissector: bytes, application: Optional[int] = None
    ) -> socket.socket:
        """Make a bound socket of a group with this dissector, which is in no generation."""
        sock = plain_socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
        self.all.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, dissector)
        if application is not None:
            number = application.to_bytes(4, sys.byteorder)
            sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_APP, number)
        return sock


def fixture_of(kind: type[_Sockets]) -> Callable[[], Iterator[_Sockets]]:
    """Return the fixture of a kind of sockets."""

    @pytest.fixture(name="sockets")
    def made() -> Iterator[_Sockets]:
        sockets = kind()
        with sockets:
            yield sockets

    return made
