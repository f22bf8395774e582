# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Random schedules of what servers do with sockets, against what the kernel lists.

A server here is a process that takes orders on a socket pair; each has a generation. Whatever
they do, a generation has as many connected sockets as the kernel lists of the processes that it
was enrolled by, and a drain does not end while there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import time
import traceback
from dataclasses import dataclass, field

from hypothesis import strategies as st

import udpgrm.client as grm
from testing.host import Host
from testing.waiting import PATIENCE_S
from tests.kernel.connections.acceptor import reuseport
from udpgrm.kernel import sockopt
from udpgrm.restart.drain import Decision, Watcher
from udpgrm.restart.groups import Groups
from udpgrm.services.definition import DrainUntil, Group

WHERE = ("0.0.0.0", 4433)
_libc = ctypes.CDLL(None, use_errno=True)


def _obey(channel: socket.socket, generation: int) -> None:
    """Do what is asked: a letter and a number, answered by a letter and SO_COOKIE."""
    held: dict[int, socket.socket] = {}
    main = reuseport(WHERE)
    grm.enroll([main], generation, timeout=PATIENCE_S)
    channel.send(b"+" + bytes(8))
    while order := channel.recv(16):
        word, number = order[:1], int.from_bytes(order[1:], "big")
        cookie = 0
        if word == b"b":
            held[number] = reuseport(WHERE)
            cookie = sockopt.cookie(held[number])
        elif word == b"c":
            held[number].connect(("127.0.0.1", 1000 + number))
        elif word == b"d":
            _libc.connect(held[number].fileno(), bytes(16), 16)
        elif word == b"x":
            held.pop(number).close()
        elif word == b"f" and os.fork() == 0:
            signal.pause()  # the child has the sockets too, until it is killed with the others
        channel.send(b"+" + cookie.to_bytes(8, "big"))
    os._exit(0)


@dataclass(eq=False)
class Server:
    """A process of a generation; its sockets by number, and all that it has ever had."""

    generation: int
    cookies: dict[int, int] = field(default_factory=dict)
    all: set[int] = field(default_factory=set)
    dead: bool = False

    def __post_init__(self) -> None:
        self._channel, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)  # its children are killed with it
            self._channel.close()
            try:
                _obey(there, self.generation)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        there.close()
        self._channel.settimeout(2 * PATIENCE_S)
        assert self._channel.recv(16)[:1] == b"+"

    def order(self, word: str, number: int = 0) -> int:
        """Have it do something; returns a cookie."""
        self._channel.send(word.encode() + number.to_bytes(2, "big"))
        answer = self._channel.recv(16)
        assert answer[:1] == b"+", f"server {self.generation} has ended"
        return int.from_bytes(answer[1:], "big")

    def kill(self) -> None:
        """End it and its children."""
        if self.dead:
            return
        self.dead = True
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._channel.close()


#: (server, what it does, to which of its sockets)
Act = tuple[int, str, int]
ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("bbccccdxxfk"), st.integers(0, 5)), max_size=25
)
_generations = itertools.count(1)


def _listed() -> set[int]:
    """SO_COOKIEs of the connected sockets at the address, as ss(8) shows them."""
    command = ["ss", "-u", "-e", "-n", "-H", "state", "established", "sport", "=", f":{WHERE[1]}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(word[3:], 16) for word in shown.split() if word.startswith("sk:")}


def _play(servers: list[Server], act: Act) -> None:
    server, word, number = servers[act[0]], act[1], act[2]
    if server.dead:
        return
    if word == "k":
        server.kill()
    elif word == "f":
        server.order("f")
    elif word == "b" and number not in server.cookies:
        server.cookies[number] = server.order("b", number)
        server.all.add(server.cookies[number])
    elif word in "cdx" and number in server.cookies:
        server.order(word, number)
        if word == "x":
            del server.cookies[number]


def _compare(groups: Groups, servers: list[Server]) -> None:
    """Compare the count with the sockets that ss lists, once killed processes have ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        listed = _listed()
        samples = {server: groups.sample(server.generation) for server in servers}
        counts = {server.generation: samples[server].connected for server in servers}
        wanted = {server.generation: len(listed & server.all) for server in servers}
        if counts == wanted and listed == _listed():
            break
        assert time.monotonic() < deadline, (counts, wanted)
        time.sleep(0.01)
    for server, sample in samples.items():
        decision = Watcher(DrainUntil(flows=0), 60).decide(sample)
        assert (decision is Decision.DRAINED) == (not wanted[server.generation])


def run(host: Host, acts: list[Act]) -> None:
    """Play one schedule, and compare after each half of it."""
    with contextlib.ExitStack() as stack:
        groups = Groups(host.directory, [Group(f"{WHERE[0]}:{WHERE[1]}")])
        stack.callback(groups.maps.close)
        servers = []
        for _ in range(3):
            servers.append(Server(next(_generations)))
            stack.callback(servers[-1].kill)
        for part in (acts[: len(acts) // 2], acts[len(acts) // 2 :]):
            for act in part:
                _play(servers, act)
            _compare(groups, servers)
