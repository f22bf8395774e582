# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Read the holders of a socket from the kernel, without a duplicate of any other socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import ROOT, Host
from udpgrm.kernel import descriptors, pidfd, sockopt
from udpgrm.state import holders
from udpgrm.state import maps as state
from udpgrm.state.holders import Holder
from udpgrm.state.maps import Maps

#: Prints the cookie of a socket, and its process as it knows it.
_SERVER = f"""
import os, socket, sys
sys.path.insert(0, {str(ROOT)!r})
from udpgrm.kernel import sockopt
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(sockopt.cookie(sock), sock.fileno(), os.getpid(), flush=True)
sys.stdin.read()
"""
#: Code of a process in a pid namespace that reads the holders itself.
_READER = f"""
import os, socket, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from udpgrm.kernel import sockopt
from udpgrm.state import holders, maps
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
cookies = {{sockopt.cookie(sock), int(sys.argv[2])}}
found = holders.find(maps.open_pinned(Path(sys.argv[1])), cookies)
print(os.getpid(), found == [(os.getpid(), sock.fileno(), sockopt.cookie(sock))])
"""


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield made


@pytest.fixture
def maps(host: Host) -> Iterator[Maps]:
    opened = state.open_pinned(host.directory)
    yield opened
    opened.close()


def test_every_descriptor_of_a_socket_is_found(maps: Maps, sock: socket.socket) -> None:
    cookie, own = sockopt.cookie(sock), os.getpid()
    with sock.dup() as twin:
        expected = [Holder(own, fd, cookie) for fd in sorted((sock.fileno(), twin.fileno()))]
        assert sorted(holders.find(maps, {cookie})) == expected
    assert holders.find(maps, {cookie}) == [Holder(own, sock.fileno(), cookie)]
    assert holders.find(maps, {0}) == []


def test_no_other_socket_is_duplicated(
    maps: Maps, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicate no other socket: the copy would take packets after its owner closed it."""
    taken, plain = [], descriptors._duplicate

    def duplicate(directory: str, pidfd: int, number: int) -> tuple[int, int]:
        taken.append((directory, number))
        return plain(directory, pidfd, number)

    monkeypatch.setattr(descriptors, "_duplicate", duplicate)
    cookie, own = sockopt.cookie(sock), os.getpid()
    [(pid, fd)] = holders.duplicates(maps, {cookie, 1}).values()
    with socket.socket(fileno=fd) as copy:
        assert (pid, sockopt.cookie(copy)) == (own, cookie)
    assert taken == [(f"/proc/{own}/task/{own}/fd", sock.fileno())]


@pytest.mark.parametrize("namespace", [[], ["unshare", "--fork", "--pid", "--mount-proc"]])
def test_processes_are_named_as_the_reader_knows_them(maps: Maps, namespace: list[str]) -> None:
    command = [*namespace, sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdin is not None
        cookie, number, own = map(int, server.stdout.readline().split())
        [holder] = holders.find(maps, {cookie})
        assert holder.number == number
        status = Path(f"/proc/{holder.pid}/status").read_text()
        assert int(status.partition("\nNSpid:")[2].splitlines()[0].split()[-1]) == own
        fd = pidfd.socket_at(*holder)
        assert fd is not None
        os.close(fd)


def test_a_reader_in_a_pid_namespace(host: Host, sock: socket.socket) -> None:
    """Show the reader no sockets of processes outside its PID namespace."""
    inside = ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c", _READER]
    command = [*inside, str(host.directory), str(sockopt.cookie(sock))]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read.stdout.split() == ["1", "True"]
