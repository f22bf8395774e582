# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers whose sockets are hard to take: hung, without main thread, out of the daemon's reach."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing import host as support
from testing.host import ROOT, Host, inside, remove_cgroup, wait_for, wait_for_index
from testing.waiting import PATIENCE_S
from tests.kernel.registration.hanging import hung_process
from udpgrm.abi import Option
from udpgrm.kernel import cgroups, inside_netns, netns

ADDRESS = "127.0.0.1:4433"
WITHOUT_PTRACE = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
_MAIN_THREAD_ENDS = f"""
import ctypes, sys, threading
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
main = threading.current_thread()
ended = threading.Event()
def serve():
    while open("/proc/self/status").read().split("State:")[1].split()[0] != "Z":
        pass
    sock = grm.bind("{ADDRESS}", 1)[0]
    grm.enroll([sock], 1, timeout={PATIENCE_S})
    grm.promote(sock, 1)
    print("up", flush=True)
    sys.stdin.read()
threading.Thread(target=serve).start()
ctypes.CDLL(None).syscall(60, 0)
"""

_TELLS_NAMESPACE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from udpgrm.kernel import netns
print(netns.own_cookie(), flush=True)
sys.stdin.read()
"""


def test_a_process_that_hangs_in_execve(host: Host, tmp_path: Path) -> None:
    with hung_process(tmp_path / "mount") as hung:
        # the daemon looks for it in all processes, and touches none that has not got it
        with host.stopped(), grm.bind("127.0.0.1:4434")[0] as lost:
            lost.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 0)
        with grm.bind(ADDRESS)[0] as sock:
            assert grm.enroll([sock], 1) == [0]
            grm.promote(sock, 1)
            wait_for(lambda: "was closed before" in host.errors.read_text(), "the daemon to look")
            message = f"process {hung.pid} hangs in execve(2)"
            assert message not in host.errors.read_text()
            done = host.run("doctor", ADDRESS, "--json")
            view = json.loads(done.stdout)
            # another test of this file may run beside
            assert {item["code"] for item in view["findings"]} == {"unreachable"}
            assert any(message in item["why"] for item in view["findings"])
            assert [item["steered"] for item in view["sockets"]] == [True]
            assert host.run("working-gen", ADDRESS, "1").returncode == 0
            host.process.terminate()
            assert host.process.wait(PATIENCE_S) == 0


def test_other_namespaces_are_found_beside_a_process_that_hangs(tmp_path: Path) -> None:
    with hung_process(tmp_path / "mount"):
        holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _TELLS_NAMESPACE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            cookie = int(holder.stdout.readline())
            assert inside_netns.run_in(cookie, netns.own_cookie) == cookie
            assert inside_netns.run_in(1 << 60, netns.own_cookie) is None
            assert netns.own_cookie() != cookie
            holder.kill()


def test_one_that_asks_and_hangs_is_registered_later(host: Host, tmp_path: Path) -> None:
    """Register a socket later whose process hangs, and cannot be read at first."""
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
sock = grm.bind("{ADDRESS}")[0]
sock.set_inheritable(True)
grm.set_option(sock, 201, bytes(4))
os.open(sys.argv[1], os.O_RDONLY)
os.execv("/bin/sleep", ["sleep", "60"])
"""
    with hung_process(tmp_path / "mount"):
        host.process.send_signal(signal.SIGSTOP)
        server = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "mount/file")])
        try:
            # its exec has begun once its memory is another one's
            wait_for(lambda: not _command_of(server.pid), "the server to hang")
            host.process.send_signal(signal.SIGCONT)
            with grm.bind("127.0.0.1:4434")[0] as other:
                grm.enroll([other], 1)
            assert [item["generations"] for item in host.json("list", ADDRESS)["groups"]] == [[]]
        finally:
            host.process.send_signal(signal.SIGCONT)
    # the file system has gone with the other process: the exec ends
    try:
        wait_for(lambda: host.json("list", ADDRESS)["groups"][0]["generations"], "the registration")
    finally:
        server.kill()
        server.wait()


def _command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_server_without_a_main_thread(host: Host) -> None:
    command = [sys.executable, "-c", _MAIN_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        for arguments in ([ADDRESS], [f"--pid={server.pid}"]):
            view = json.loads(host.run("doctor", *arguments, "--json").stdout)
            assert [(item["pid"], item["steered"]) for item in view["sockets"]] == [
                (server.pid, True)
            ]
        server.kill()


def test_a_daemon_without_the_right(bare_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(support, "COMMAND", [*WITHOUT_PTRACE, *support.COMMAND])
        bare_host.start("--persist")
        done = bare_host.run("preflight")
        assert done.returncode == 1
        [line] = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        assert "right to take sockets" in line and "CAP_SYS_PTRACE" in line
    with grm.bind(ADDRESS)[0] as sock:
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 0)
        wait_for(lambda: "CAP_SYS_PTRACE" in bare_host.errors.read_text(), "the log")
        [line] = [line for line in bare_host.errors.read_text().splitlines() if "socket" in line]
        assert f"process {os.getpid()}" in line and "EPERM" in line
        view = json.loads(bare_host.run("doctor", ADDRESS, "--json").stdout)
        # a process of another test may hang
        codes = {item["code"]: item["why"] for item in view["findings"]}
        assert codes.keys() - {"unreachable"} == {"daemon_lacks_right"}
        assert "CAP_SYS_PTRACE" in codes["daemon_lacks_right"]
        [found] = view["sockets"]
        assert [item["code"] for item in found["findings"]] == ["daemon_lacks_right"]
        # nothing is lost: one with the right does it
        bare_host.kill()
        bare_host.start("--persist")
        wait_for_index(sock)


def test_a_doctor_without_the_right(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 0)
        monkeypatch.setattr(support, "COMMAND", [*WITHOUT_PTRACE, *support.COMMAND])
        done = host.run("doctor", f"--pid={os.getpid()}")
        assert done.returncode == 1
        [line] = done.stdout.splitlines()
        assert line.startswith("not looked at: EPERM: CAP_SYS_PTRACE is missing")


def test_threads_in_a_control_group_of_their_own(cgroup: Path) -> None:
    """Find a process with a threaded cgroup in the cgroup above, where the kernel lists it."""
    unit = cgroup / "unit"
    (unit / "threads").mkdir(parents=True)
    try:
        (unit / "threads/cgroup.type").write_text("threaded")
        with subprocess.Popen(inside(unit, "cat"), stdin=subprocess.PIPE) as process:
            wait_for(lambda: cgroups.processes(unit) == [process.pid], "the process in its unit")
    finally:
        remove_cgroup(unit)
