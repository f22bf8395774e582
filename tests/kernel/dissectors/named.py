# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of named dissectors, and packets to them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Optional

import udpgrm.client as grm
from testing.host import client, received
from tests.kernel.dissectors import held
from tests.kernel.dissectors.held import HeldSockets
from udpgrm import abi
from udpgrm.abi import DissectorType

ADDRESS = "127.0.0.1:4433"


FIRST_BYTE = """\
#include "dissectors/results.h"

static __always_inline int dissect(struct steering *s)
{
	u32 cookie;

	if (payload_half(s->md, PARAMETER(at), &cookie))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	return to_named(s, cookie);
}
"""
SCHEMA = {
    "description": "a cookie somewhere",
    "properties": {"at": {"type": "integer", "minimum": 0, "maximum": 99, "description": "offset"}},
    "required": ["at"],
    "additionalProperties": False,
}


def write(library: Path, name: str, body: str) -> Path:
    """Make a folder of an operator's dissector."""
    folder = library / name
    folder.mkdir(exist_ok=True)
    (folder / "body.h").write_text(body)
    (folder / "parameters.json").write_text(json.dumps(SCHEMA))
    return folder


def dissector(name: str, parameters: dict[str, Any]) -> bytes:
    text = json.dumps(parameters).encode()
    return bytes(abi.Dissector(type=DissectorType.NAMED, name=name.encode(), parameters=text))


def cookie_of(sock: socket.socket) -> int:
    """Return the udpgrm cookie of a socket, which must be that of its generation and index."""
    state = grm.socket_generation(sock)
    assert state.index is not None
    assert state.cookie == abi.make_cookie(state.generation % 32, state.index)
    return state.cookie


class Sockets(HeldSockets):
    """Sockets of named dissectors."""

    def bound(self, value: bytes) -> socket.socket:
        return self.bind(("127.0.0.1", 4433), value)

    def enrolled(self, value: bytes, generation: int, count: int = 1) -> list[socket.socket]:
        made = [self.bound(value) for _ in range(count)]
        grm.enroll(made, generation)
        return made


sockets = held.fixture_of(Sockets)


def send(payload: bytes, sender: Optional[socket.socket] = None) -> None:
    if sender is not None:
        sender.sendto(payload, ("127.0.0.1", 4433))
        return
    with client() as sock:
        sock.sendto(payload, ("127.0.0.1", 4433))


def got(sockets: list[socket.socket]) -> list[int]:
    """Positions of the sockets that packets came to."""
    return [position for position, _ in received(sockets)]
