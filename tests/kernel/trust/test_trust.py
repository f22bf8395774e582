# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test what an unprivileged process in a hooked cgroup cannot do; it runs as another user."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, answer, client, received, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.trust.unprivileged import NOBODY, start_unprivileged, unprivileged

pytestmark = pytest.mark.daemon("shared")

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)


@pytest.fixture
def victim(host: Host) -> Iterator[socket.socket]:
    """Root's socket, the only one of generation 1, which is active."""
    sock = grm.bind(WHERE)[0]
    grm.enroll([sock], 1)
    grm.promote(sock, 1)
    yield sock
    sock.close()


def test_the_kernel_keeps_others_from_the_address(victim: socket.socket) -> None:
    """Check that SO_REUSEPORT shares with the same user only: all other tests rely on it."""
    done = unprivileged(
        """
try:
    bind("127.0.0.1")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    )
    assert done.stdout == "EADDRINUSE\n"


@pytest.mark.daemon("own")
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
    """Keep a socket in the group of its first device, as the kernel does."""
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
    """Apply options to the bound address, not to the one that connect(2) shows.

    Others can bind that one as soon as the socket has left it.
    """
    subprocess.run(["ip", "address", "add", "10.9.0.1/32", "dev", "lo"], check=True)
    attacker = start_unprivileged("""
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
""")
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
    """Refuse another owner at the address, whom the kernel lets bind by SO_REUSEADDR of both."""
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
        with start_unprivileged(
            """
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    sock.setsockopt(socket.SOL_SOCKET, option, 1)
sock.bind(("127.0.0.1", 4433))
print("bound")
sys.stdin.readline()
"""
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "bound\n"
            refused = host.run("enroll", WHERE, f"--cgroup={host.cgroup}", "--count=2", "--gen=1")
            other.communicate("\n", timeout=PATIENCE_S)
        assert refused.returncode == 255
        assert f"{WHERE} is another user's" in refused.stderr


_CLOSED = """
sock = bind("127.0.0.1")
attempt(sock, DISSECTOR, struct.pack("=II", 0, 17))
attempt(sock, GEN, 1)
while sock.getsockopt(UDP, GEN, 8)[4:] == bytes([255] * 4):
    time.sleep(0.01)
print("registered", flush=True)
sys.stdin.readline()
sock.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def left_behind(host: Host) -> Iterator[None]:
    """Yield while a user's group remains, whose only socket was closed by a living process.

    The daemon is stopped, or it would delete the group soon.
    """
    with start_unprivileged(_CLOSED) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        assert host.group(WHERE)["dissector"]["flow_timeout"] == 17
        with host.stopped():
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "closed\n"
            yield
        process.communicate("")


def test_root_does_not_use_files_of_another_user(host: Host) -> None:
    with left_behind(host):
        mine = grm.bind(WHERE, flow_timeout=20)[0]
    with mine:
        assert grm.enroll([mine], 1) == [0]
        assert host.group(WHERE)["dissector"]["flow_timeout"] == 20


def test_files_of_a_user_exclude_no_other_user(host: Host) -> None:
    """Refuse another user the address only until the daemon sees the first one's sockets gone."""
    other = """
sock = bind("127.0.0.1")
print(attempt(sock, WORKING, 1), flush=True)
while (answer := attempt(sock, WORKING, 1)) == "EBADF":
    time.sleep(0.1)
print(answer)
"""
    with contextlib.ExitStack() as stack:
        with left_behind(host):
            process = stack.enter_context(start_unprivileged(other, NOBODY - 1))
            assert process.stdout is not None
            assert process.stdout.readline() == "EBADF\n"
        assert process.stdout.readline() == "done\n"


@pytest.mark.daemon("own")
def test_an_application_of_a_group_it_never_joined(host: Host) -> None:
    """Use application 0 in the next group if the full queue refused the socket's join."""
    host.process.send_signal(signal.SIGSTOP)
    flood = """
sock, other = bind("127.0.0.1"), bind("127.0.0.2")
while attempt(other, GEN, 0) == "done":
    pass
value = struct.pack("=IIII100sIHBBI", 1, 0, 4, 0, b"", 1, 6, 0, 0, 0xffffffff)
print(attempt(sock, DISSECTOR, value.ljust(376, b"\\0")), attempt(sock, 204, 3), flush=True)
sys.stdin.readline()
while (answer := attempt(sock, GEN, 1)) == "EAGAIN":
    time.sleep(0.01)
print(answer, flush=True)
sys.stdin.readline()
"""
    with start_unprivileged(flood) as process:
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


def test_a_flow_stays_when_another_user_asks(host: Host, victim: socket.socket) -> None:
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


def test_a_group_without_sockets_is_deleted(host: Host) -> None:
    assert unprivileged('print(attempt(bind("127.0.0.1"), GEN, 7))').stdout == "done\n"
    wait_for(lambda: not host.json("list", WHERE)["groups"], "the group to be deleted")
    mine = grm.bind(WHERE, flow_timeout=17)[0]
    grm.enroll([mine], 0)
    assert host.group(WHERE)["dissector"]["flow_timeout"] == 17
    mine.close()


@pytest.mark.daemon("own")
def test_a_group_that_is_deleted_meanwhile_is_not_looked_for(host: Host) -> None:
    for port in range(6000, 6006):  # the daemon may look before the kernel has closed the socket
        unprivileged(f'attempt(bind("127.0.0.1", None, {port}), GEN, 7); time.sleep(0.3)')
        host.run("delete", f"127.0.0.1:{port}")
    status = Path(f"/proc/{host.process.pid}/status")

    def waits() -> int:
        return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", status.read_text(), re.M)[0])

    def sleeps() -> bool:
        before = waits()
        time.sleep(4)
        return waits() - before <= 2

    wait_for(sleeps, "the daemon to sleep, after what is due")


@pytest.mark.daemon("own")
def test_names_do_not_forge_lines(host: Host) -> None:
    attacker = start_unprivileged(
        """
value = struct.pack("=IIII100s", 16, 0, 0, 0, b"") + b"x\\n0.0.0.0:53\\x1b[31m"
sock = bind("127.0.0.1")
value = value.ljust(148, b"\\0") + b"[]"  # no object
print(attempt(sock, DISSECTOR, value.ljust(632, b"\\0")), flush=True)
sys.stdin.read()
"""
    )
    with attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "done\n"
        lines = host.run("list").stdout.splitlines()
        assert [line for line in lines if not line.startswith("\t")] == [WHERE]
        assert "\x1b" not in "".join(lines)
        refused = host.run("dissector", "set", WHERE, "dns")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (255, 1)
        assert "another dissector" in refused.stderr
        assert "\x1b" not in refused.stderr


def test_unprivileged_users_in_a_namespace_of_their_own(host: Host) -> None:
    """Ignore groups of a user's own network namespace in commands, whatever their address."""
    process = start_unprivileged("""
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
    sys.exit("no user namespaces")
for port in (53, 4433):
    globals()[f"sock{port}"] = sock = bind("0.0.0.0", None, port)
    print(attempt(sock, DISSECTOR, struct.pack("=I", 4)), attempt(sock, GEN, 5), flush=True)
sys.stdin.readline()
""")
    with process, grm.bind("0.0.0.0:4433")[0] as mine:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["done done\n"] * 2
        grm.enroll([mine], 1)
        assert host.json("dissector", "set", "0.0.0.0:53", "dns")["changed"]
        assert host.json("dissector", "set", "0.0.0.0:4433", "flow")["changed"]
        assert host.json("working-gen", "0.0.0.0:4433", "newest")["after"] == 1
        for arguments in (["working-gen", "0.0.0.0:53", "newest"], ["delete", "0.0.0.0:53"]):
            refused = host.run(*arguments)
            assert refused.returncode == 255
            assert "in this network namespace" in refused.stderr
        assert len(host.json("list", "0.0.0.0:53")["groups"]) == 1
        process.communicate("")


@pytest.mark.daemon("own")
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
