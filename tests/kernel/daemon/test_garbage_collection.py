# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Garbage collection while servers register: what is new is not taken for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import ROOT, Host, answer, client, inside, wait_for, wait_for_index
from tests.kernel.trust.unprivileged import start_unprivileged, unprivileged
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.kernel import libbpf
from udpgrm.state import maps as state

FIRST, WHERE = "127.0.0.1:4432", "127.0.0.1:4433"
#: Holds a collection after its first group.
HELD = """
import time
from pathlib import Path
from udpgrm.daemon.garbage_collection import GarbageCollector
steps = GarbageCollector.steps
def held(self):
    is_held = failing() and {when}
    for turn, _ in enumerate(steps(self)):
        if is_held and not turn:
            Path({held!r}).touch()
            while failing():
                time.sleep(0.01)
                {meanwhile}
        yield
    if is_held:
        Path({ended!r}).touch()
GarbageCollector.steps = held
"""


@contextlib.contextmanager
def serving(where: str, generation: int) -> Iterator[socket.socket]:
    """Yield a socket at an address, which has asked for a generation."""
    [sock] = grm.bind(where)
    with sock:
        grm.set_option(sock, Option.SOCKET_GEN, generation.to_bytes(4, "little"))
        yield sock


def hold(host: Host, path: Path, when: str, meanwhile: str) -> Path:
    """Start a daemon that holds its collections as long as host.fault is there."""
    fault = HELD.format(held=str(path), ended=f"{path}-ended", when=when, meanwhile=meanwhile)
    host.start(fault=fault)
    return path


@pytest.fixture
def held(bare_host: Host, tmp_path: Path) -> Path:
    """Return the file that holds a daemon's first collection that may delete a group."""
    return hold(bare_host, tmp_path / "held", when="bool(self._childless)", meanwhile="pass")


def go_on(host: Host, held: Path) -> None:
    """Let a collection that is held end."""
    host.fault.unlink()
    wait_for(Path(f"{held}-ended").exists, "the collection's end")


def test_a_group_that_is_served_again_during_a_collection(bare_host: Host, held: Path) -> None:
    """Keep a group whose server starts again while the daemon looks at other groups."""
    with serving(FIRST, 1) as first:
        grm.wait_registered([first])
        with serving(WHERE, 1) as old:
            grm.wait_registered([old])
            bare_host.fault.touch()
        wait_for(held.exists, "a collection that finds the group without a socket again")
        with serving(WHERE, 2) as new:
            go_on(bare_host, held)
            assert grm.socket_generation(new).index == 0
            [generation] = bare_host.group(WHERE)["generations"]
            assert (generation["generation"], generation["sockets_alive"]) == (2, 1)


#: Holds the deletion of a group that has been decided.
DECIDED = """
import time
from pathlib import Path
from udpgrm.state import maps
delete = maps.delete
def held(*arguments):
    Path({held!r}).touch()
    while failing():
        time.sleep(0.01)
    delete(*arguments)
maps.delete = held
"""


def test_a_group_that_is_served_again_as_it_is_deleted(bare_host: Host, tmp_path: Path) -> None:
    """Register a socket whose message the daemon reads after it deleted the group.

    The hook that sent the message had found the group before.
    """
    held = tmp_path / "held"
    bare_host.start(fault=DECIDED.format(held=str(held)))
    bare_host.fault.touch()
    with serving(WHERE, 1) as old:
        grm.wait_registered([old])
    wait_for(held.exists, "the deletion of the group")
    with serving(WHERE, 2) as new:
        bare_host.fault.unlink()
        wait_for_index(new)
        [generation] = bare_host.group(WHERE)["generations"]
        assert (generation["generation"], generation["sockets_alive"]) == (2, 1)


def test_a_socket_that_comes_and_moves_during_a_collection(bare_host: Host, tmp_path: Path) -> None:
    """Keep the socket's flow in the table of a generation that has no other socket."""
    # messages are served meanwhile
    held = hold(bare_host, tmp_path / "held", when="True", meanwhile="yield")
    with serving(FIRST, 1) as first, serving(WHERE, 9) as other, client() as peer:
        grm.wait_registered([first, other])
        bare_host.fault.touch()
        with serving("127.0.0.1:4434", 1) as third:  # its end makes the daemon collect
            grm.wait_registered([third])
        wait_for(held.exists, "a collection")
        with serving(WHERE, 1) as sock, serving(WHERE, 3) as new:
            grm.wait_registered([sock, new])
            sock.sendto(b"!", peer.getsockname())
            grm.enroll([sock], 2)
            go_on(bare_host, held)
            grm.promote(new, 3)
            peer.sendto(b"?", ("127.0.0.1", 4433))
            assert answer([sock, new], 1) == [0]


REGISTER = """
port = int(sys.argv[1])
sock = bind("127.0.0.1", port=port)
sock.setsockopt(UDP, GEN, struct.pack("=I", 1))
while index_of(sock) == 0xffffffff:
    time.sleep(0.01)
"""


def test_an_address_that_root_takes_over_during_a_collection(bare_host: Host, held: Path) -> None:
    """Delete the user's group, and nothing of root's at the same address."""
    with start_unprivileged("sys.argv.append('4432')" + REGISTER + "print(); input()") as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        unprivileged(REGISTER, "4433")
        bare_host.fault.touch()
        wait_for(held.exists, "a collection that finds the user's group without a socket again")
        with serving(WHERE, 1) as roots:
            go_on(bare_host, held)
            wait_for_index(roots)
            with serving(WHERE, 1) as second:
                wait_for_index(second)
                [generation] = bare_host.group(WHERE)["generations"]
                assert generation["sockets_alive"] == 2
        other.stdin.write("\n")


ENROLL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
[sock] = grm.bind({WHERE!r})
grm.enroll([sock], int(sys.argv[1]))
"""


def test_enrollments_of_ended_instances(host: Host, cgroup: Path) -> None:
    """Delete the enrollments of ended instances, each of which had a cgroup of its own."""
    maps = state.open_pinned(host.directory)
    with contextlib.closing(maps), serving(WHERE, 1) as sock:
        grm.wait_registered([sock])
        for generation in range(2, 5):
            instance = cgroup / f"instance-{generation}"
            instance.mkdir()
            command = inside(instance, sys.executable, "-c", ENROLL, str(generation))
            subprocess.run(command, check=True)
            instance.rmdir()
        sizes = ctypes.sizeof(abi.AdoptedKey), ctypes.sizeof(abi.Adopted)

        def generations() -> set[int]:
            found = libbpf.map_items(maps["enrolled"], *sizes)
            return {abi.Adopted.from_buffer_copy(value).generation for _, value in found}

        wait_for(lambda: generations() == {1}, "all to be deleted but the living one")
        assert maps.enrolled_count(0).made - maps.enrolled_count(0).gone == 2
