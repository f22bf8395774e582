# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What an unprivileged process in a hooked cgroup cannot do. It runs as another user."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from tests.kernel.support import Host, answer, client, received, wait_for

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)
NOBODY = 65534
_PRELUDE = """
import ctypes, errno, os, select, socket, struct, sys, time
UDP = socket.IPPROTO_UDP
WORKING, GEN, DISSECTOR, ASSURE = 200, 201, 202, 203
def bind(where, device=None, port=4433):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.bind((where, port))
    return sock
def attempt(sock, option, value):
    try:
        sock.setsockopt(UDP, option, value)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


def unprivileged(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as nobody; what it prints is the answer."""
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE + code],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd="/",
    )


@pytest.fixture
def victim(host: Host) -> Iterator[socket.socket]:
    """Root's socket, the only one of generation 1, which works."""
    sock = grm.bind(WHERE)[0]
    grm.enroll([sock], 1)
    grm.promote(sock, 1)
    yield sock
    sock.close()


def test_the_kernel_keeps_others_from_the_address(victim: socket.socket) -> None:
    """What everything else here relies on: SO_REUSEPORT shares with the same user only."""
    done = unprivileged(
        """
try:
    bind("127.0.0.1")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    )
    assert done.stdout == "EADDRINUSE\n"


def test_not_through_a_device_changed_after_the_bind(host: Host) -> None:
    for name in ("veth5", "veth7"):
        subprocess.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True
        )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            victim.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth5")
            victim.bind(("0.0.0.0", 4433))
            grm.enroll([victim], 1)
            grm.promote(victim, 1)
            done = unprivileged(
                """
sock = bind("0.0.0.0", "veth7")
# CAP_NET_RAW is needed to leave a device; a fresh socket may take any
for device in (b"veth5", b""):
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        print("moved")
    except OSError as error:
        print(errno.errorcode[error.errno])
    print(attempt(sock, WORKING, 9))
"""
            )
            # whatever the kernel thinks of the move, the group is its owner's
            assert grm.working_generation(victim) == 1, done.stdout
            groups = {item["ifindex"]: item for item in host.json("list")["groups"]}
            theirs = groups[socket.if_nametoindex("veth5")]
            assert theirs["applications"][0]["working_generation"] == 1
    finally:
        for name in ("veth5", "veth7"):
            subprocess.run(["ip", "link", "delete", name], check=True)


def test_a_socket_stays_with_the_device_it_was_bound_to(host: Host) -> None:
    """There it shares the kernel's reuseport group; a device can be changed later."""
    subprocess.run(
        ["ip", "link", "add", "veth5", "type", "veth", "peer", "name", "veth6"], check=True
    )
    try:
        with contextlib.ExitStack() as stack:
            socks = []
            for device in (b"veth5", b"veth6"):
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                sock.bind(("0.0.0.0", 4433))
                socks.append(sock)
            grm.enroll(socks[:1], 1)
            grm.promote(socks[0], 1)
            socks[1].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth5")
            grm.promote(socks[1], 9)
            assert grm.working_generation(socks[0]) == 1
    finally:
        subprocess.run(["ip", "link", "delete", "veth5"], check=True)


def test_not_through_connect(host: Host) -> None:
    """It shows an address that was not bound, where others can bind as soon as it has left it."""
    subprocess.run(["ip", "address", "add", "10.9.0.1/32", "dev", "lo"], check=True)
    attacker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _PRELUDE
            + """
sock = bind("0.0.0.0")
sock.connect(("127.0.0.1", 9))
assert sock.getsockname()[0] == "127.0.0.1"
print(attempt(sock, WORKING, 0))
ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)  # AF_UNSPEC: disconnect
sock.connect(("10.9.0.1", 9))
assert sock.getsockname()[0] == "10.9.0.1"
print("away", flush=True)
sys.stdin.readline()
print(attempt(sock, WORKING, 77))
""",
        ],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    with attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "done\n"
        assert attacker.stdout.readline() == "away\n"
        with grm.bind(WHERE)[0] as mine:
            grm.enroll([mine], 1)
            grm.promote(mine, 1)
            assert attacker.communicate("go\n")[0] == "done\n"
            assert grm.working_generation(mine) == 1
    subprocess.run(["ip", "address", "delete", "10.9.0.1/32", "dev", "lo"], check=True)


def test_another_owner_at_the_same_address_is_refused(host: Host) -> None:
    """The kernel allows it where both have SO_REUSEADDR."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            victim.setsockopt(socket.SOL_SOCKET, option, 1)
        victim.bind(TO)
        grm.enroll([victim], 1)
        grm.promote(victim, 1)
        done = unprivileged(
            """
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    sock.setsockopt(socket.SOL_SOCKET, option, 1)
sock.bind(("127.0.0.1", 4433))
print(attempt(sock, WORKING, 9), attempt(sock, GEN, 9))
"""
        )
        assert done.stdout == "EBADF EBADF\n"
        assert grm.working_generation(victim) == 1


_CLOSED = """
sock = bind("127.0.0.1")
attempt(sock, DISSECTOR, struct.pack("=II", 0, 17))
attempt(sock, GEN, 1)
while sock.getsockopt(UDP, GEN, 8)[4:] == bytes([255] * 4):
    time.sleep(0.01)
sock.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def left_behind() -> Iterator[None]:
    """A group of nobody's whose only socket was closed, by a process that lives on."""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + _CLOSED],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "closed\n"
        yield
        process.communicate("")


def test_root_has_no_use_for_what_another_user_left(host: Host) -> None:
    with left_behind():
        assert host.group(WHERE)["dissector"]["flow_timeout"] == 17
        mine = grm.bind(WHERE, flow_timeout=20)[0]
        assert grm.enroll([mine], 1) == [0]
        assert host.group(WHERE)["dissector"]["flow_timeout"] == 20
        mine.close()


def test_what_a_user_left_keeps_no_other_user_out(host: Host) -> None:
    """For longer than the daemon takes to see that its sockets are gone."""
    with left_behind():
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _PRELUDE
                + """
sock = bind("127.0.0.1")
answers = [attempt(sock, WORKING, 1)]
end = time.monotonic() + 10
while answers[-1] != "done" and time.monotonic() < end:
    time.sleep(0.1)
    answers.append(attempt(sock, WORKING, 1))
print(*dict.fromkeys(answers))
""",
            ],
            user=NOBODY - 1,
            group=NOBODY - 1,
            extra_groups=[],
            text=True,
            capture_output=True,
            check=True,
            cwd="/",
        )
        assert done.stdout == "EBADF done\n"


def test_an_application_of_a_group_it_never_joined(host: Host) -> None:
    """Its join was refused, the queue being full: it is 0 in the next group, which has no more."""
    host.process.send_signal(signal.SIGSTOP)
    flood = """
sock, other = bind("127.0.0.1"), bind("127.0.0.2")
while attempt(other, GEN, 0) == "done":
    pass
value = struct.pack("=IIII100sIHBBI", 1, 0, 4, 0, b"", 1, 6, 0, 0, 0xffffffff)
print(attempt(sock, DISSECTOR, value.ljust(376, b"\\0")), attempt(sock, 204, 3), flush=True)
sys.stdin.readline()
while (said := attempt(sock, GEN, 1)) == "EAGAIN":
    time.sleep(0.01)
print(said, flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + flood],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "done done\n"
        host.process.send_signal(signal.SIGCONT)
        wait_for(lambda: host.run("delete", WHERE).returncode == 0, "the group to be deleted")
        process.stdin.write("go\n")
        assert process.stdout.readline() == "done\n"
        wait_for(lambda: host.group(WHERE)["generations"], "the registration")
        process.communicate("")


def test_not_through_another_namespace(host: Host, victim: socket.socket) -> None:
    done = unprivileged(
        """
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
    print("no user namespaces")
else:
    sock = bind("0.0.0.0")
    print(attempt(sock, WORKING, 9))
"""
    )
    assert done.stdout in ("done\n", "no user namespaces\n")
    assert grm.working_generation(victim) == 1


def test_a_flow_stays_whoever_else_asks(host: Host, victim: socket.socket) -> None:
    with client() as peer:
        peer.sendto(b"?", TO)
        answer([victim], 1)
        done = unprivileged(
            f"""
sock = bind("127.0.0.2")
print(attempt(sock, GEN, 1))
value = struct.pack("=HH4s8x", socket.AF_INET, socket.htons({peer.getsockname()[1]}),
                    socket.inet_aton("127.0.0.1"))
print(attempt(sock, ASSURE, value))
"""
        )
        assert done.stdout == "done\ndone\n"  # in a group of its own
        peer.sendto(b"?", TO)
        assert len(received([victim])) == 1


def test_a_group_without_sockets_is_forgotten(host: Host) -> None:
    assert unprivileged('print(attempt(bind("127.0.0.1"), GEN, 7))').stdout == "done\n"
    wait_for(lambda: not host.json("list", WHERE)["groups"], "the group to be forgotten")
    mine = grm.bind(WHERE, flow_timeout=17)[0]
    grm.enroll([mine], 0)
    assert host.group(WHERE)["dissector"]["flow_timeout"] == 17
    mine.close()


def test_a_group_that_is_deleted_meanwhile_is_not_looked_for(host: Host) -> None:
    for port in range(6000, 6006):  # the daemon may look before the kernel has closed the socket
        unprivileged(f'attempt(bind("127.0.0.1", None, {port}), GEN, 7); time.sleep(0.3)')
        host.run("delete", f"127.0.0.1:{port}")
    time.sleep(1.5)  # for what is due
    status = Path(f"/proc/{host.process.pid}/status")

    def waits() -> int:
        return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", status.read_text(), re.M)[0])

    before = waits()
    time.sleep(4)
    assert waits() - before <= 2, "the daemon does not sleep"


@pytest.fixture
def small_host(bare_host: Host) -> Host:
    """Quotas that a test can reach."""
    config = bare_host.scratch / "udpgrm.conf"
    config.write_text("[limits]\ngroups = 64\ngroups_per_user = 5\ntables_per_user = 8\n")
    bare_host.start(f"--config={config}")
    return bare_host


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
    # what the user had is given back with its groups
    wait_for(
        lambda: (
            unprivileged('print(attempt(bind("127.0.0.1", None, 6100), GEN, 1))').stdout == "done\n"
        ),
        "the quota to be free again",
    )


def test_quota_of_flow_tables(small_host: Host) -> None:
    unprivileged(
        """
sock = bind("127.0.0.1")
for generation in range(32):
    attempt(sock, GEN, generation)
    time.sleep(0.02)
"""
    )
    log = small_host.errors.read_text()
    assert f"uid {NOBODY} has 8 flow tables (limits.tables_per_user)" in log
    mine = grm.bind("127.0.0.1:7000")[0]
    assert grm.enroll([mine], 1) == [0]
    mine.close()


def test_quota_of_sockets(small_host: Host) -> None:
    """256 for each of the groups that a user may have."""
    done = unprivileged(
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
socks = [bind("127.0.0.1") for _ in range(5 * 256 + 10)]
for number, sock in enumerate(socks):
    while attempt(sock, GEN, number // 256) == "EAGAIN":
        time.sleep(0.01)
def placed():
    answers = (sock.getsockopt(UDP, GEN, 8) for sock in socks)
    return sum(answer[4:] != bytes([255] * 4) for answer in answers)
end = time.monotonic() + 20
while placed() < 5 * 256 and time.monotonic() < end:
    time.sleep(0.1)
time.sleep(1)
print(placed())
"""
    )
    assert done.stdout == "1280\n"
    log = small_host.errors.read_text()
    assert f"uid {NOBODY} has 1280 sockets (256 for each of limits.groups_per_user)" in log
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


def test_many_processes_leave_descriptors_for_others(bare_host: Host) -> None:
    """The daemon has one for each process that it watches."""
    bare_host.start(descriptors=256)
    code = """
end = time.monotonic() + 20
for _ in range(300):
    if os.fork() == 0:
        sock = bind("127.0.0.1")
        while attempt(sock, GEN, os.getpid()) == "EAGAIN" and time.monotonic() < end:
            time.sleep(0.01)
        while sock.getsockopt(UDP, GEN, 8)[4:] == bytes([255] * 4) and time.monotonic() < end:
            time.sleep(0.1)
        print(end=".", flush=True)
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
for _ in range(300):
    os.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + code],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(300) == "." * 300
        with grm.bind("127.0.0.1:7000")[0] as mine:
            assert grm.enroll([mine], 1) == [0]
        process.communicate("")


def test_a_flood_of_messages_leaves_room_for_others(host: Host) -> None:
    """The daemon is stopped meanwhile, so nothing is served: the worst case."""
    mine = grm.bind(WHERE)[0]
    host.process.send_signal(19)  # SIGSTOP
    try:
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
    finally:
        host.process.send_signal(18)  # SIGCONT
    wait_for(lambda: grm.socket_generation(mine).index is not None, "the registration", 60)
    mine.close()


def test_a_socket_of_roots_brings_no_quota(host: Host) -> None:
    """One that root has made, and somebody else uses."""
    mine = grm.bind(WHERE)[0]
    host.process.send_signal(signal.SIGSTOP)
    code = """
sock = socket.socket(fileno=int(sys.argv[1]))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.2", 4433))
answers = [attempt(sock, GEN, number) for number in range(3000)]
print(answers.count("done"), answers.count("EAGAIN"))
"""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            done = subprocess.run(
                [sys.executable, "-c", _PRELUDE + code, str(made.fileno())],
                pass_fds=[made.fileno()],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
            )
        assert done.stdout == "1000 2000\n"
    finally:
        host.process.send_signal(signal.SIGCONT)
    assert grm.enroll([mine], 1) == [0]
    mine.close()


def test_compilations_are_rationed(host: Host) -> None:
    """Ever new filters take half a processor at most, and others' steering goes on."""
    victim = grm.bind(WHERE)[0]
    grm.enroll([victim], 1)
    grm.promote(victim, 1)
    unprivileged(
        """
for number in range(20):
    sock = bind("127.0.0.1", None, 6000 + number)
    value = struct.pack("=IIII100sIHBBI", 1, 0, 0, 0, b"", 1, 6, 0, 0, number)
    attempt(sock, DISSECTOR, value.ljust(376, b"\\0"))
    attempt(sock, GEN, 1)
"""
    )
    other = grm.bind("127.0.0.1:7000")[0]
    assert grm.enroll([other], 1, timeout=2) == [0]  # needs no compiler: not behind them
    children = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children")
    assert len(children.read_text().split()) <= 1
    other.close()
    victim.close()


def test_who_waits_for_a_compiler_keeps_nobody_waiting(host: Host) -> None:
    """However often it asks meanwhile, for a group whose turn is far away."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        flood = pool.submit(
            unprivileged,
            """
socks = []
for number in range(40):
    socks.append(sock := bind("127.0.0.1", None, 6000 + number))
    value = struct.pack("=IIII100sIHBBI", 1, 0, 0, 0, b"", 1, 6, 0, 0, os.getpid() << 8 | number)
    attempt(sock, DISSECTOR, value.ljust(376, b"\\0"))
    attempt(sock, GEN, 1)
end, done = time.monotonic() + 10, 0
while time.monotonic() < end:
    done += attempt(sock, GEN, done & 31) == "done"
print(done)
""",
        )
        time.sleep(9)
        with grm.bind("127.0.0.1:7000")[0] as mine:
            assert grm.enroll([mine], 1, timeout=1.5) == [0]
        assert int(flood.result().stdout) > 5000


#: Registers sockets that it closes at once, and has many descriptors to look through.
_CLOSES = """
import resource
most = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = [os.dup(0) for _ in range(most - 100)]
keeper = bind("127.0.0.2")
attempt(keeper, GEN, 0)
print("begins", flush=True)
end = time.monotonic() + 6
while time.monotonic() < end:
    sock = bind("127.0.0.2")
    if attempt(sock, GEN, 1) == "EAGAIN":
        time.sleep(0.001)
    sock.close()
"""


@contextlib.contextmanager
def closing_sockets() -> Iterator[None]:
    """An unprivileged process that sends the daemon after sockets which are no more."""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + _CLOSES],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield


def test_a_search_keeps_nobody_waiting(host: Host) -> None:
    with closing_sockets(), grm.bind("127.0.0.1:7000")[0] as mine:
        time.sleep(1)
        assert grm.enroll([mine], 1, timeout=3) == [0]


def test_a_search_does_not_keep_the_daemon_from_ending(host: Host) -> None:
    with closing_sockets():
        time.sleep(1)
        assert host.kill(signal.SIGTERM) == 0


def test_names_do_not_forge_lines(host: Host) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        attacker = pool.submit(
            unprivileged,
            """
value = struct.pack("=IIII100s", 16, 0, 0, 0, b"") + b"x\\n0.0.0.0:53\\x1b[31m"
sock = bind("127.0.0.1")
value = value.ljust(148, b"\\0") + b"[]"  # no object
print(attempt(sock, DISSECTOR, value.ljust(632, b"\\0")))
time.sleep(3)
""",
        )
        wait_for(lambda: WHERE in host.run("list").stdout, "the group")
        lines = host.run("list").stdout.splitlines()
        assert [line for line in lines if not line.startswith("\t")] == [WHERE]
        assert "\x1b" not in "".join(lines)
        refused = host.run("dissector", "set", WHERE, "dns")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (255, 1)
        assert "another dissector" in refused.stderr
        assert "\x1b" not in refused.stderr
        assert attacker.result().stdout == "done\n"


def test_strangers_in_a_namespace_of_their_own(host: Host) -> None:
    """They may have any address there; commands do not mean them."""
    stranger = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _PRELUDE
            + """
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
    sys.exit("no user namespaces")
for port in (53, 4433):
    globals()[f"sock{port}"] = sock = bind("0.0.0.0", None, port)
    print(attempt(sock, DISSECTOR, struct.pack("=I", 4)), attempt(sock, GEN, 5), flush=True)
sys.stdin.readline()
""",
        ],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    with stranger, grm.bind("0.0.0.0:4433")[0] as mine:
        assert stranger.stdout is not None
        assert [stranger.stdout.readline() for _ in range(2)] == ["done done\n"] * 2
        grm.enroll([mine], 1)
        assert host.json("dissector", "set", "0.0.0.0:53", "dns")["changed"]
        assert host.json("dissector", "set", "0.0.0.0:4433", "flow")["changed"]
        assert host.json("working-gen", "0.0.0.0:4433", "newest")["after"] == 1
        for words in (["working-gen", "0.0.0.0:53", "newest"], ["delete", "0.0.0.0:53"]):
            refused = host.run(*words)
            assert refused.returncode == 255
            assert "in this network namespace" in refused.stderr
        assert len(host.json("list", "0.0.0.0:53")["groups"]) == 1
        stranger.communicate("")


def test_nonsense(host: Host, victim: socket.socket) -> None:
    unprivileged(
        """
import random
random.seed(1)
sock = bind("127.0.0.3")
for _ in range(3000):
    option = random.randrange(198, 208)
    value = random.randbytes(random.choice((0, 1, 4, 8, 12, 16, 28, 116, 376, 632, 5000)))
    attempt(sock, option, value)
    try:
        sock.getsockopt(UDP, option, random.randrange(1024))
    except OSError:
        pass
"""
    )
    assert host.process.poll() is None
    assert grm.enroll([victim], 1) == [0]
