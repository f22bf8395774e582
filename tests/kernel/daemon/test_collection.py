# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Garbage collection while servers register: what is new is not taken for garbage."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import udpgrm.client as grm
from testing.host import Host, wait_for

FIRST, WHERE = "127.0.0.1:4432", "127.0.0.1:4433"
#: Holds a collection after its first group, from the first one on that may delete a group.
HELD = """
import time
from pathlib import Path
from udpgrm.daemon.garbage_collection import GarbageCollector
steps = GarbageCollector.steps
def held(self):
    is_held = failing() and bool(self._childless)
    for turn, _ in enumerate(steps(self)):
        if is_held and not turn:
            Path({held!r}).touch()
            while failing():
                time.sleep(0.01)
        yield
    if is_held:
        Path({ended!r}).touch()
GarbageCollector.steps = held
"""


@contextlib.contextmanager
def serving(where: str, generation: int) -> Iterator[socket.socket]:
    """A socket at an address, which has asked for a generation."""
    [sock] = grm.bind(where)
    with sock:
        grm.set_option(sock, grm.Option.SOCKET_GEN, generation.to_bytes(4, "little"))
        yield sock


def test_a_group_that_is_served_again_during_a_collection(bare_host: Host, tmp_path: Path) -> None:
    """A server starts again while other groups are looked at: its group is kept."""
    held, ended = tmp_path / "held", tmp_path / "ended"
    bare_host.start(fault=HELD.format(held=str(held), ended=str(ended)))
    with serving(FIRST, 1) as first:
        grm.wait_registered([first])
        with serving(WHERE, 1) as old:
            grm.wait_registered([old])
            bare_host.fault.touch()
        wait_for(held.exists, "a collection that finds the group without a socket again")
        with serving(WHERE, 2) as new:
            bare_host.fault.unlink()
            wait_for(ended.exists, "the collection's end")
            assert grm.socket_generation(new).index == 0
            [generation] = bare_host.group(WHERE)["generations"]
            assert (generation["generation"], generation["sockets_alive"]) == (2, 1)
