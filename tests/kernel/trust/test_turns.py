# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Root is served before users, users in turns, and neither is charged for sockets that are gone."""

from __future__ import annotations

import contextlib
import os
import re
import socket

import udpgrm.client as grm
from testing.host import Host, wait_for, wait_for_index
from tests.kernel.trust.unprivileged import NOBODY, start_unprivileged, unprivileged
from udpgrm.abi import Option

#: Counts the programs that the daemon has loaded for groups, in its log.
COUNTING = """
import udpgrm.loader.programs as programs
from udpgrm import log
load = programs.Linker.steering
def counted(self, group_id):
    log.step(f"loading a program for group {group_id}")
    return load(self, group_id)
programs.Linker.steering = counted
"""
_MANY = """
for number in range(int(sys.argv[2])):
    sock = bind("127.0.0.1", None, int(sys.argv[1]) + number)
    attempt(sock, GEN, 1)
    if sys.argv[3] == "close":
        sock.close()
    else:
        globals()[f"kept{number}"] = sock
print("asked", flush=True)
if sys.argv[3] == "keep":
    sys.stdin.read()
"""


def ask(sock: socket.socket, generation: int = 1) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, generation.to_bytes(4, "little"))


def order(host: Host) -> list[int]:
    """Ports in the order in which their sockets were registered."""
    found = re.findall(r"^registering socket 127\.0\.0\.1:(\d+) ", host.events.read_text(), re.M)
    return [int(port) for port in found]


def test_root_is_served_first(bare_host: Host) -> None:
    """Serve root before six users that asked earlier, and load nothing for closed sockets."""
    bare_host.start(fault=COUNTING)
    with contextlib.ExitStack() as stack:
        with bare_host.stopped():
            for number in range(6):
                unprivileged(_MANY, str(20000 + 100 * number), "15", "close", user=NOBODY - number)
            mine = [stack.enter_context(grm.bind(f"127.0.0.1:{7000 + n}")[0]) for n in range(3)]
            for sock in mine:  # none of the users' messages is served yet
                ask(sock)
        for sock in mine:
            wait_for_index(sock)
        closed, loaded = "was closed before", "loading a program"
        wait_for(
            lambda: bare_host.errors.read_text().count(closed) == 90,
            "the users' messages",
        )
        log = bare_host.errors.read_text()
        assert log.count(loaded) == 3
        assert log.rindex(loaded) < log.index(closed), "a user's message was served before root's"


def test_users_take_turns(host: Host) -> None:
    """Register sockets of two users in turn, not all of the first user's before the second's."""
    code = """
first = [bind("127.0.0.1", None, 20000 + number) for number in range(8)]
print(*(attempt(sock, GEN, 1) for sock in first), flush=True)
sys.stdin.read()
"""
    with contextlib.ExitStack() as stack:
        with host.stopped():
            for number in range(2):
                own = code.replace("20000", str(20000 + 100 * number))
                process = stack.enter_context(start_unprivileged(own, NOBODY - number))
                assert process.stdout is not None
                assert process.stdout.readline().split() == ["done"] * 8
        wait_for(lambda: len(order(host)) == 16, "all registrations")
        users = [port // 100 for port in order(host)]
        assert users == [200, 201] * 8


def test_users_cannot_take_what_is_prepared_for_root(host: Host) -> None:
    """Stop the daemon, so that nothing is prepared again: each user gets its quota all the same."""
    with host.stopped(), contextlib.ExitStack() as stack:
        answers = []
        for number in range(3):
            done = unprivileged(
                """
socks = [bind("127.0.0.1", None, int(sys.argv[1]) + number) for number in range(80)]
print(*(attempt(sock, GEN, 1) for sock in socks))
""",
                str(20000 + 100 * number),
                user=NOBODY - number,
            )
            answers += done.stdout.split()
        assert (answers.count("done"), answers.count("EBADF")) == (192, 48)
        mine = [stack.enter_context(grm.bind(f"127.0.0.1:{7000 + n}")[0]) for n in range(32)]
        for sock in mine:
            ask(sock)
        # its flows have a table too, although users had the prepared ones
        assert host.group("127.0.0.1:7000")["address"] == "127.0.0.1:7000"


def test_the_last_word_of_a_socket_holds(host: Host) -> None:
    """Register the generation that root asked for last, though root's message is served first."""
    with grm.bind("127.0.0.1:7000")[0] as sock:
        grm.enroll([sock], 1)
        with host.stopped():
            done = unprivileged(
                """
sock = socket.socket(fileno=int(sys.argv[1]))
print(attempt(sock, GEN, 2), attempt(sock, GEN, 3))
""",
                str(sock.fileno()),
                pass_fds=[sock.fileno()],
            )
            assert done.stdout == "done done\n"
            ask(sock, 5)
        wait_for(
            lambda: (
                [item["generation"] for item in host.group("127.0.0.1:7000")["generations"]] == [5]
            ),
            "the last generation",
        )
        other = grm.bind("127.0.0.1:7001")[0]
        grm.enroll([other], 1)  # all messages before have been served by now
        assert [item["generation"] for item in host.group("127.0.0.1:7000")["generations"]] == [5]
        other.close()


def test_a_log_without_a_reader_delays_no_client(bare_host: Host) -> None:
    """Continue while the log's pipe is full of lines that users cause."""
    reader = bare_host.start_unread(steps=True)
    for _ in range(3):
        unprivileged(_MANY, "20000", "900", "close")
        with grm.bind("127.0.0.1:7000")[0] as mine:
            assert grm.enroll([mine], 1) == [0]
    os.close(reader)
