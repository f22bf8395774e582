# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the findings of udpgrm doctor on real processes, in each case that can be provoked."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

import udpgrm.client as grm
from testing.host import Host, client, inside, plain_socket, received, wait_for, wait_for_index
from tests.kernel.dissectors.named import dissector, write
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.kernel import cgroups

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
#: Binds with SO_REUSEPORT, after whatever is to happen before; says so and stays.
PROCESS = """
import ctypes, socket, subprocess, sys
libc = ctypes.CDLL(None)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
{before}
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", 4433))
print("up", flush=True)
sys.stdin.read()
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            before: str = "", cgroup: Optional[Path] = None, code: str = PROCESS
        ) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code.format(before=before)]
            if cgroup is not None:
                command = inside(cgroup, *command)
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            return process

        yield start


@pytest.fixture
def outside() -> Iterator[Path]:
    """Yield a cgroup without hooks."""
    path = cgroups.default_root() / f"udpgrm-outside-{os.getpid()}"
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    wait_for(lambda: "populated 0" in (path / "cgroup.events").read_text(), "its processes to end")
    path.rmdir()


def own_socket(reuseport: int = 1) -> socket.socket:
    sock = plain_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
    sock.bind(("127.0.0.1", 4433))
    return sock


def ask_for(sock: socket.socket, generation: int) -> None:
    """Register without waiting for the index."""
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, generation)


class Diagnosis:
    """The doctor's answer: as JSON and as text.

    It was made while no process of another test hung in execve(2), which doctor would report.
    """

    def __init__(self, host: Host, *arguments: str) -> None:
        self.view: dict[str, Any] = {}
        self.lines: list[str] = []
        self.status = 0

        def has_looked_everywhere() -> bool:
            done = host.run("doctor", *arguments, "--json")
            assert done.returncode in (0, 1), done.stderr
            self.status, self.view = done.returncode, json.loads(done.stdout)
            text = host.run("doctor", *arguments).stdout
            self.lines = text.splitlines()
            return "unreachable" not in self.general and "not looked at: " not in text

        wait_for(has_looked_everywhere, "no process to hang")
        assert self.view["ok"] == (self.status == 0)

    @property
    def sockets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.view["sockets"]
        return found

    @property
    def only(self) -> dict[str, Any]:
        assert len(self.sockets) == 1, self.lines
        return self.sockets[0]

    @property
    def codes(self) -> list[str]:
        """Return the codes of all sockets' findings."""
        return [finding["code"] for sock in self.sockets for finding in sock["findings"]]

    @property
    def general(self) -> list[str]:
        return [finding["code"] for finding in self.view["findings"]]


def test_all_is_well(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock, client() as other:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        other.connect(("127.0.0.1", 4433))  # a flow of its own is in no group
        pid = os.getpid()
        for arguments in ([], [ADDRESS], [f"--pid={pid}"], [f"--pid={pid}", ADDRESS]):
            diagnosis = Diagnosis(host, *arguments)
            assert diagnosis.status == 0, diagnosis.lines
            line = f"pid {pid} fd {sock.fileno()} {ADDRESS}: steered, generation 1 index 0"
            assert diagnosis.lines == [line]
        assert [diagnosis.only[key] for key in ("steered", "generation", "index")] == [True, 1, 0]


def test_generations_that_do_not_work_are_no_problem(host: Host) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(grm.bind(ADDRESS)[0]) for _ in range(3)]
        for generation, sock in enumerate(sockets, 1):
            grm.enroll([sock], generation)
        grm.promote(sockets[1], 2)
        diagnosis = Diagnosis(host, ADDRESS)
        assert diagnosis.status == 0, diagnosis.lines
        assert diagnosis.codes == ["draining", "not_promoted"]
        assert all(sock["steered"] for sock in diagnosis.sockets)


def test_not_bound(host: Host, start: Start) -> None:
    code = PROCESS.replace('sock.bind(("127.0.0.1", 4433))', "")
    diagnosis = Diagnosis(host, f"--pid={start(code=code).pid}")
    assert (diagnosis.status, diagnosis.codes) == (1, ["not_bound"])
    assert diagnosis.only["address"] is None
    assert ": NOT steered: not bound: " in diagnosis.lines[0]


def test_no_reuseport(host: Host) -> None:
    with own_socket(reuseport=0):
        diagnosis = Diagnosis(host, ADDRESS)
        # no operand names this process's address
        assert (diagnosis.status, diagnosis.codes) == (1, ["no_reuseport"])
        assert Diagnosis(host).status == 0


def test_no_hooks_in_its_cgroup(own_host: Host, start: Start, outside: Path) -> None:
    process = start(cgroup=outside)
    diagnosis = Diagnosis(own_host, f"--pid={process.pid}")
    assert (diagnosis.status, diagnosis.codes) == (1, ["no_hooks"])
    assert diagnosis.only["cgroup"] == str(outside)
    assert f"hooks are at {own_host.cgroup}" in diagnosis.lines[0]
    assert f"udpgrm hooks add {outside}" in diagnosis.lines[0]
    # its advice helps
    assert own_host.run("hooks", "add", str(outside)).returncode == 0
    assert Diagnosis(own_host, ADDRESS).codes == ["bound_before_hooks"]
    advice = Diagnosis(own_host, ADDRESS).lines[0].partition("udpgrm enroll ")[2].split()
    assert own_host.run("enroll", *advice, "--gen=0").returncode == 0
    assert Diagnosis(own_host, ADDRESS).status == 0


def test_hooks_of_an_ancestor(own_host: Host, start: Start) -> None:
    below = own_host.cgroup / "below"
    below.mkdir()
    try:
        process = start(cgroup=below)
        assert Diagnosis(own_host, f"--pid={process.pid}").codes == ["not_registered"]
    finally:
        (below / "cgroup.kill").write_text("1")
        process.wait()
        below.rmdir()


def test_made_outside_and_moved_in(own_host: Host, start: Start, outside: Path) -> None:
    process = start(f"open('{own_host.cgroup}/cgroup.procs', 'w').write('0')", outside)
    diagnosis = Diagnosis(own_host, f"--pid={process.pid}")
    assert (diagnosis.status, diagnosis.codes) == (1, ["made_outside"])
    assert f"hooks are at {own_host.cgroup}" in diagnosis.lines[0]


def test_bound_before_the_hooks(bare_host: Host) -> None:
    with own_socket() as sock:
        bare_host.start()
        assert Diagnosis(bare_host, ADDRESS).codes == ["bound_before_hooks"]
        sock.close()
        with own_socket():
            assert Diagnosis(bare_host, ADDRESS).codes == ["not_registered"]


def test_hooks_that_were_taken_off(own_host: Host) -> None:
    with own_socket() as sock:
        grm.enroll([sock], 0)
        assert own_host.run("hooks", "remove", str(own_host.cgroup)).returncode == 0
        diagnosis = Diagnosis(own_host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["hooks_removed"])
        assert diagnosis.only["steered"] is True
        assert f"udpgrm hooks add {own_host.cgroup}" in diagnosis.lines[-1]


def test_no_cgroup_has_hooks(bare_host: Host) -> None:
    bare_host.start(install=False)
    with own_socket():
        diagnosis = Diagnosis(bare_host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["no_hooks"])
        assert diagnosis.general == ["no_hooked_cgroup"]


def test_no_state(bare_host: Host, own_host: Host) -> None:
    with own_socket():
        diagnosis = Diagnosis(bare_host, f"--pin-dir={own_host.directory}-none", ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["no_state"])
        assert "those of another --pin-dir" in diagnosis.lines[0]
    assert Diagnosis(bare_host, f"--pin-dir={own_host.directory}-none").general == ["no_state"]


def test_other_network_namespace(host: Host, start: Start) -> None:
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 0)
        process = start(
            before="assert libc.unshare(0x40000000) == 0\n"
            'subprocess.run(["ip", "link", "set", "lo", "up"], check=True)\n'
            "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        )
        diagnosis = Diagnosis(host, f"--pid={process.pid}", ADDRESS)
        assert diagnosis.codes == ["other_namespace"]
        assert str(diagnosis.only["netns_cookie"]) in diagnosis.lines[0]
        assert Diagnosis(host, f"--pid={os.getpid()}", ADDRESS).status == 0


def test_a_server_of_another_container_is_left_alone(
    host: Host, start: Start, outside: Path
) -> None:
    process = start(
        before="assert libc.unshare(0x40000000) == 0\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        cgroup=outside,
        code=PROCESS.replace('"127.0.0.1"', '"0.0.0.0"'),
    )
    assert Diagnosis(host, "0.0.0.0:4433").general == ["no_sockets"]
    assert Diagnosis(host, f"--pid={process.pid}").codes == ["no_hooks"]


def test_not_registered(host: Host) -> None:
    # stopped, or it deletes the group, which has no registered socket
    with host.stopped(), grm.bind(ADDRESS)[0]:  # has set the dissector
        diagnosis = Diagnosis(host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["not_registered"])
        assert diagnosis.only["generation"] is None


def test_the_group_was_deleted(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 0)
        assert host.run("delete", ADDRESS).returncode == 0
        assert Diagnosis(host, ADDRESS).codes == ["group_deleted"]
        grm.enroll([sock], 0)
        assert Diagnosis(host, ADDRESS).status == 0


def test_daemon_down(bare_host: Host) -> None:
    bare_host.start("--persist")
    old, new = own_socket(), own_socket()
    with old, new:
        grm.enroll([old], 0)
        bare_host.kill()
        new.close()
        diagnosis = Diagnosis(bare_host, ADDRESS)
        # steering continues, so this is no problem yet
        assert (diagnosis.status, diagnosis.general, diagnosis.codes) == (0, ["daemon_down"], [])
        new = own_socket()
        ask_for(new, 0)
        diagnosis = Diagnosis(bare_host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["daemon_down"])
        assert diagnosis.view["daemon"] == {"running": False, "pid": None}
        bare_host.start("--persist")
        wait_for_index(new)
        assert Diagnosis(bare_host, ADDRESS).status == 0
        new.close()


def test_a_daemon_that_does_not_answer(own_host: Host) -> None:
    with own_host.stopped(), own_socket() as sock:
        ask_for(sock, 3)
        diagnosis = Diagnosis(own_host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["waiting"])
        assert f"the daemon (pid {own_host.process.pid}) has not answered" in diagnosis.lines[0]


def test_the_257th_socket(host: Host) -> None:
    sockets = [own_socket() for _ in range(256)]
    grm.enroll(sockets, 0)
    sockets.append(own_socket())
    refusal = "too many sockets in the gen!"
    before = host.events.read_text().count(refusal)
    ask_for(sockets[-1], 0)
    wait_for(lambda: host.events.read_text().count(refusal) > before, "the refusal")
    diagnosis = Diagnosis(host, ADDRESS)
    assert (diagnosis.status, diagnosis.codes) == (1, ["generation_full"])
    wrong = [sock for sock in diagnosis.sockets if not sock["steered"]]
    assert [sock["fd"] for sock in wrong] == [sockets[-1].fileno()]
    for sock in sockets:
        sock.close()


def test_a_generation_without_sockets_is_active(host: Host) -> None:
    with own_socket() as sock:
        grm.enroll([sock], 1)
        grm.promote(sock, 9)
        diagnosis = Diagnosis(host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["working_generation_empty"])
        assert diagnosis.only["steered"] is True  # flows it has stay with it
        advice = diagnosis.lines[0].partition("udpgrm working-gen ")[2].split()
        assert host.run("working-gen", *advice).returncode == 0
        assert Diagnosis(host, ADDRESS).status == 0


def test_no_program(bare_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "dissectors"
    library.mkdir(mode=0o755)
    monkeypatch.setenv("UDPGRM_DISSECTORS_DIR", str(library))
    write(library, "broken", "no C")
    bare_host.start()
    with own_socket() as sock:
        value = dissector("broken", {"at": 0})
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, value)
        grm.enroll([sock], 0)
        diagnosis = Diagnosis(bare_host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["no_program"])
        assert "no steering for" in bare_host.errors.read_text()


def test_two_groups_at_one_address(host: Host) -> None:
    with own_socket() as plain, plain_socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.bind(("127.0.0.1", 4433))
        for sock in (plain, bound):
            grm.enroll([sock], 0)
        diagnosis = Diagnosis(host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (0, ["two_groups", "two_groups"])
        assert "of device 1" in diagnosis.lines[0]


def test_two_groups_of_the_kernel(host: Host) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        for sock, only in ((one, 0), (two, 1)):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind(("::", 4433))
            grm.enroll([sock], 0)
        diagnosis = Diagnosis(host, "[::]:4433")
        assert (diagnosis.status, set(diagnosis.codes)) == (1, {"two_kernel_groups"})


def test_a_socket_that_connect_has_taken_out(host: Host) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("0.0.0.0", 4433))
        grm.enroll([sock], 1)
        sock.connect(("127.0.0.1", 9))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.connect(sock.fileno(), bytes(16), 16) == 0  # AF_UNSPEC: to no peer
        diagnosis = Diagnosis(host, f"--pid={os.getpid()}")
        assert (diagnosis.status, diagnosis.codes) == (1, ["not_in_group"])
        assert diagnosis.only["steered"] is False


def _join(sock: socket.socket, family: int) -> None:
    if family == socket.AF_INET:
        group = socket.inet_aton("239.1.1.1") + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    else:
        group = socket.inet_pton(family, "ff15::1") + socket.if_nametoindex("lo").to_bytes(
            4, "little"
        )
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)


def _switch(*places: tuple[int, int]) -> Callable[[socket.socket, int], None]:
    """Turn an option on, of IPv4 or of IPv6."""

    def turn_on(sock: socket.socket, family: int) -> None:
        sock.setsockopt(*places[-1 if family == socket.AF_INET6 else 0], 1)

    return turn_on


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(
    "code, do",
    [
        ("limit_gro", _switch((socket.IPPROTO_UDP, 104))),
        ("limit_errors", _switch((socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25))),
        ("limit_transparent", _switch((socket.IPPROTO_IP, 19), (socket.IPPROTO_IPV6, 75))),
        ("limit_broadcast", _switch((socket.SOL_SOCKET, socket.SO_BROADCAST))),
        ("limit_multicast", _join),
        ("limit_tunnel", lambda sock, _: sock.setsockopt(socket.IPPROTO_UDP, 100, 3)),  # L2TP
    ],
)
def test_limits_of_the_kernel(
    host: Host, family: int, code: str, do: Callable[[socket.socket, int], None]
) -> None:
    where = "0.0.0.0:4433" if family == socket.AF_INET else "[::]:4433"
    with grm.bind(where)[0] as sock, grm.bind(where)[0] as plain:
        grm.enroll([sock, plain], 0)
        do(sock, family)
        diagnosis = Diagnosis(host, where)
        assert (diagnosis.status, diagnosis.codes) == (0, [code]), diagnosis.lines
        noted = [item["fd"] for item in diagnosis.sockets if item["findings"]]
        assert noted == [sock.fileno()]
        assert "docs/limits.md" in diagnosis.lines[0]


def test_a_group_of_ipv4_beside_a_wildcard_of_both(host: Host) -> None:
    with grm.bind("[::]:4433")[0] as both, grm.bind("0.0.0.0:4433")[0] as four, client() as sender:
        grm.enroll([both], 0)
        grm.enroll([four], 0)
        sender.sendto(b"?", ("127.0.0.1", 4433))
        assert [position for position, _ in received([both, four])] == [1]
        diagnosis = Diagnosis(host)
        assert (diagnosis.status, diagnosis.codes) == (1, ["shadowed"])


def test_a_filter_that_cannot_work(host: Host) -> None:
    value = abi.Dissector(type=abi.DissectorType.CBPF, filter_len=2)
    value.filter[0] = abi.CbpfInstruction(0x20, 0, 0, 0xFFFFF02C)  # ld vlan_tci
    value.filter[1] = abi.CbpfInstruction(0x06, 0, 0, 0x80000000)
    with own_socket() as sock:
        sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, bytes(value))
        grm.enroll([sock], 0)
        diagnosis = Diagnosis(host, ADDRESS)
        assert (diagnosis.status, diagnosis.codes) == (1, ["limit_filter"])


def test_nothing_there(host: Host) -> None:
    diagnosis = Diagnosis(host, "127.0.0.1:9")
    assert (diagnosis.status, diagnosis.general) == (1, ["no_sockets"])
    assert diagnosis.lines[0].startswith("no UDP socket at 127.0.0.1:9: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pid=0"],
        ["--pid=4194304"],
        ["--unit=none-such.service"],
        ["--pid=1", "--unit=none-such.service"],
        ["127.0.0.1"],
        [ADDRESS, ADDRESS],
    ],
)
def test_misuse(host: Host, arguments: list[str]) -> None:
    for extra in ([], ["--json"]):
        done = host.run("doctor", *arguments, *extra)
        assert (done.returncode, done.stdout) == (255, "")
        assert len(done.stderr.splitlines()) == 1


def test_nothing_is_changed(host: Host) -> None:
    with own_socket():
        Diagnosis(host, ADDRESS)
        assert host.groups() == [], "it has made a group"
