# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Limit an unprivileged process: groups, sockets, the daemon's time and the compiler's."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, cpu_seconds, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.trust.unprivileged import NOBODY, start_unprivileged, unprivileged
from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import open_pinned

WHERE = "127.0.0.1:4433"


def start_small(host: Host, code: str = "") -> Host:
    """Start a daemon with quotas that a test can reach; code: what it runs first."""
    config = host.scratch / "udpgrm.conf"
    config.write_text("[limits]\ngroups = 64\ngroups_per_user = 5\ntables_per_user = 8\n")
    host.start(f"--config={config}", fault=code)
    return host


@pytest.fixture
def small_host(bare_host: Host) -> Host:
    """Return a host with such a daemon."""
    return start_small(bare_host)


def test_quota_of_groups(small_host: Host) -> None:
    done = unprivileged(
        """
socks = [bind("127.0.0.1", None, 6000 + number) for number in range(12)]
print(*(attempt(sock, GEN, 1) for sock in socks))
time.sleep(0.2)
"""
    )
    assert done.stdout.split() == ["done"] * 5 + ["EBADF"] * 7
    mine = [grm.bind(f"127.0.0.1:{7000 + number}")[0] for number in range(12)]
    for sock in mine:
        grm.enroll([sock], 1)  # root has no quota
        sock.close()
    # the user's quota is free again with its groups
    wait_for(
        lambda: (
            unprivileged('print(attempt(bind("127.0.0.1", None, 6100), GEN, 1))').stdout == "done\n"
        ),
        "the quota to be free again",
    )


def test_quota_of_flow_tables(small_host: Host) -> None:
    code = """
def is_pending(sock):
    _, index, cookie = struct.unpack_from("=III", sock.getsockopt(UDP, GEN, 12))
    return index == 0xffffffff or cookie >> 16 & 1
sock = bind("127.0.0.1")
for generation in range(9):  # the daemon goes by the last one it finds: one after the other
    attempt(sock, GEN, generation)
    while generation < 8 and is_pending(sock):
        time.sleep(0.01)
sys.stdin.read()
"""
    refusal = f"uid {NOBODY} has 8 flow tables (limits.tables_per_user)"
    with start_unprivileged(code) as process, grm.bind("127.0.0.1:7000")[0] as mine:
        wait_for(lambda: refusal in small_host.errors.read_text(), "the refusal")
        assert grm.enroll([mine], 1) == [0]
        process.communicate("")


def test_quota_of_sockets(small_host: Host) -> None:
    """Allow a user 256 sockets for each of the user's groups."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
socks = [bind("127.0.0.1") for _ in range(5 * 256 + 10)]
for number, sock in enumerate(socks):
    while attempt(sock, GEN, number // 256) == "EAGAIN":
        time.sleep(0.01)
def placed():
    answers = (sock.getsockopt(UDP, GEN, 8) for sock in socks)
    return sum(answer[4:] != bytes([255] * 4) for answer in answers)
while placed() < 5 * 256:
    time.sleep(0.1)
sys.stdin.readline()
print(placed())
"""
    refusal = f"uid {NOBODY} has 1280 sockets (256 for each of limits.groups_per_user)"
    with start_unprivileged(code) as process:
        wait_for(lambda: refusal in small_host.errors.read_text(), "the refusal")
        assert process.communicate("\n")[0] == "1280\n"
    mine = grm.bind("127.0.0.1:7000")[0]
    assert grm.enroll([mine], 1) == [0]
    mine.close()
    wait_for(
        lambda: (
            unprivileged(
                """
sock = bind("127.0.0.1", None, 6000)
attempt(sock, GEN, 1)
time.sleep(0.5)
print(sock.getsockopt(UDP, GEN, 8)[4])
"""
            ).stdout
            == "0\n"
        ),
        "the quota to be free again",
    )


def test_quota_of_processes_that_enroll(bare_host: Host) -> None:
    """Record no more enrolled processes than the user's quota: each has a record in every group."""
    # to collect garbage meanwhile is to count some twice, until it is done again
    small_host = start_small(bare_host, "import udpgrm.daemon.server as s; s.COLLECT_EVERY = 1e6")
    code = """
socks = [bind("127.0.0.1", None, 6000 + number) for number in range(5)]
for _ in range(420):
    if os.fork() == 0:
        for sock in socks:
            while attempt(sock, GEN, 1) == "EAGAIN":
                time.sleep(0.01)
        os.write(1, b"done\\n")
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""
    with contextlib.closing(open_pinned(small_host.directory)) as maps:
        count = maps.enrolled_count(abi.user_of(NOBODY))
        with start_unprivileged(code) as process:
            assert process.stdout is not None
            for _ in range(420):
                assert process.stdout.readline() == "done\n"
            sizes = ctypes.sizeof(abi.AdoptedKey), ctypes.sizeof(abi.Adopted)
            noted = list(libbpf.map_items(maps["enrolled"], *sizes))
            assert abi.USER_ENROLLED - 8 <= len(noted) <= abi.USER_ENROLLED
            assert count.made - count.gone == len(noted)
            process.communicate("")
        wait_for(lambda: count.made == count.gone, "the quota to be free again")


def test_many_processes_leave_descriptors_for_others(bare_host: Host) -> None:
    """Register root's socket although a user's processes use up descriptors of the daemon.

    The daemon holds a descriptor for each process that it watches.
    """
    bare_host.start(descriptors=256)
    code = """
for _ in range(300):
    if os.fork() == 0:
        sock = bind("127.0.0.1")
        while attempt(sock, GEN, os.getpid()) == "EAGAIN":
            time.sleep(0.01)
        while sock.getsockopt(UDP, GEN, 8)[4:] == bytes([255] * 4):
            time.sleep(0.1)
        print(end=".", flush=True)
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
for _ in range(300):
    os.wait()
"""
    with start_unprivileged(code) as process:
        assert process.stdout is not None
        assert process.stdout.read(300) == "." * 300
        with grm.bind("127.0.0.1:7000")[0] as mine:
            assert grm.enroll([mine], 1) == [0]
        process.communicate("")


def test_a_flood_of_messages_leaves_room_for_others(host: Host) -> None:
    """Leave room for root's message while the daemon is stopped, and serves none."""
    mine = grm.bind(WHERE)[0]
    with host.stopped():
        done = unprivileged(
            """
sock = bind("127.0.0.2")
answers = [attempt(sock, GEN, number) for number in range(6000)]
print(answers.count("done"), answers.count("EAGAIN"))
"""
        )
        taken, refused = map(int, done.stdout.split())
        assert (taken, refused) == (1000, 5000)
        mine.setsockopt(socket.IPPROTO_UDP, 201, 3)  # root's still fits
    wait_for(lambda: grm.socket_generation(mine).index is not None, "the registration")
    mine.close()


def test_a_socket_of_roots_brings_no_quota(host: Host) -> None:
    """Count a socket that root made against the quota of the user that uses it."""
    mine = grm.bind(WHERE)[0]
    code = """
sock = socket.socket(fileno=int(sys.argv[1]))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.2", 4433))
answers = [attempt(sock, GEN, number) for number in range(3000)]
print(answers.count("done"), answers.count("EAGAIN"))
"""
    with host.stopped():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            done = unprivileged(code, str(made.fileno()), pass_fds=[made.fileno()])
        assert done.stdout == "1000 2000\n"
    assert grm.enroll([mine], 1) == [0]
    mine.close()


def test_ever_new_filters_delay_no_other_user(host: Host) -> None:
    """Attach each new filter at once, without a compiler process."""
    compilers = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children")
    with (
        start_unprivileged(
            """
socks = []
for number in range(40):
    socks.append(sock := bind("127.0.0.1", None, 6000 + number))
    value = struct.pack("=IIII100sIHBBI", 1, 0, 0, 0, b"", 1, 6, 0, 0, number)
    attempt(sock, DISSECTOR, value.ljust(376, b"\\0"))
    attempt(sock, GEN, 1)
print("asked", flush=True)
while any(index_of(sock) == 0xFFFFFFFF for sock in socks):
    time.sleep(0.01)
print(sum(index_of(sock) == 0 for sock in socks), flush=True)
sys.stdin.read()
"""
        ) as process,
        grm.bind("127.0.0.1:7000")[0] as mine,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        before = cpu_seconds(host.process.pid)
        assert grm.enroll([mine], 1) == [0]
        assert cpu_seconds(host.process.pid) - before < 5
        assert process.stdout.readline() == "40\n"
        assert compilers.read_text() == ""
    assert "no steering" not in host.errors.read_text()


#: Registers sockets that it closes at once, and has many descriptors to look through.
_CLOSES = """
import resource
most = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = [os.dup(0) for _ in range(most - 100)]
keeper = bind("127.0.0.2")
attempt(keeper, GEN, 0)
print("begins", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    sock = bind("127.0.0.2")
    if attempt(sock, GEN, 1) == "EAGAIN":
        time.sleep(0.001)
    sock.close()
"""


@contextlib.contextmanager
def closing_sockets() -> Iterator[None]:
    """Yield an unprivileged process that makes the daemon search for closed sockets."""
    with start_unprivileged(_CLOSES) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield


def test_a_search_delays_no_other_user(host: Host) -> None:
    with closing_sockets(), grm.bind("127.0.0.1:7000")[0] as mine:
        time.sleep(1)
        before = cpu_seconds(host.process.pid)
        assert grm.enroll([mine], 1, timeout=PATIENCE_S) == [0]
        assert cpu_seconds(host.process.pid) - before < 3


def test_a_search_does_not_keep_the_daemon_from_ending(host: Host) -> None:
    with closing_sockets():
        time.sleep(1)
        assert host.kill(signal.SIGTERM) == 0
