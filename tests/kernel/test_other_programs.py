# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs of others on the cgroup hooks that udpgrm uses, beside udpgrm's own."""

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
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import Host, client, inside, plain_socket, received, remove_cgroup, wait_for
from udpgrm.abi import Option
from udpgrm.kernel import libbpf, sockopt
from udpgrm.kernel.ebpf import ALU64, EXIT, JEQ, JMP, JNE, MOV, Code
from udpgrm.state.connected import connect_parts

ADDRESS = "127.0.0.1:4433"
_DENY = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit
_STORE_WORD = 0x62
_OPTION_NAME = 28  # in struct bpf_sockopt
_OPTION_LENGTH = 32
_PEER_PORT = 24  # in struct bpf_sock_addr
_ALLOW_OVERRIDE = 1
_libbpf = ctypes.CDLL("libbpf.so.1")
_SK_LOOKUP, _LOOKUP = 30, 36  # of enum bpf_prog_type, of enum bpf_attach_type
#: Ports that a server asks at, and that its questions go to instead.
_SERVICE, _BACKEND = 5300, 5301


def _balancer() -> bytes:
    """Return a program that sends to the backend what is sent to the service."""
    code = Code()
    code.load(4, 2, 1, _PEER_PORT)
    code.jump("allow", JMP | JNE, 2, value=socket.htons(_SERVICE))
    code.emit(_STORE_WORD, 1, offset=_PEER_PORT, value=socket.htons(_BACKEND))
    code.label("allow")
    code.alu(MOV, 0, 1, ALU64)
    code.emit(JMP | EXIT)
    return code.assemble()


def _refuser() -> bytes:
    """Return a program that refuses SO_ATTACH_REUSEPORT_EBPF."""
    code = Code()
    code.load(4, 2, 1, _OPTION_NAME)
    code.alu(MOV, 0, 0, ALU64)
    code.jump("refuse", JMP | JEQ, 2, value=sockopt.SO_ATTACH_REUSEPORT_EBPF)
    code.alu(MOV, 0, 1, ALU64)
    code.label("refuse")
    code.emit(JMP | EXIT)
    return code.assemble()


def _taker() -> bytes:
    """Return a program that answers UDP_GRM_SOCKET_GEN itself."""
    code = Code()
    code.load(4, 2, 1, _OPTION_NAME)
    code.jump("allow", JMP | JNE, 2, value=Option.SOCKET_GEN)
    code.emit(_STORE_WORD, 1, offset=_OPTION_LENGTH, value=-1)
    code.label("allow")
    code.alu(MOV, 0, 1, ALU64)
    code.emit(JMP | EXIT)
    return code.assemble()


@contextlib.contextmanager
def overridable(cgroup: Path, kind: int, attach_type: int, code: bytes) -> Iterator[None]:
    """Have a program on a cgroup that runs for those below until one of them has another."""
    program = libbpf.prog_load(kind, "other", code, attach_type)
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    _libbpf.bpf_prog_attach(program, target, attach_type, _ALLOW_OVERRIDE)
    try:
        yield
    finally:
        _libbpf.bpf_prog_detach2(program, target, attach_type)
        for fd in (target, program):
            os.close(fd)


@contextlib.contextmanager
def attached(cgroup: Path, kind: int, attach_type: int, code: bytes) -> Iterator[None]:
    """Have a program of another on a cgroup, after those that are there."""
    program = libbpf.prog_load(kind, "other", code, attach_type)
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    link = libbpf.link_create(program, target, attach_type)
    try:
        yield
    finally:
        libbpf.link_detach(link)
        for fd in (link, target, program):
            os.close(fd)


def test_one_that_looks_sockets_up(host: Host) -> None:
    """Name a program at whose address the kernel drops the choice of steering, which is counted."""
    pass_all = bytes.fromhex("b7000000010000009500000000000000")
    program = libbpf.prog_load(_SK_LOOKUP, "other", pass_all, _LOOKUP)
    with grm.bind(ADDRESS)[0] as sock, Path("/proc/self/ns/net").open() as namespace:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        assert findings(host) == []
        link = libbpf.link_create(program, namespace.fileno(), _LOOKUP)
        [found] = findings(host)
        assert (found["code"], found["problem"]) == ("limit_lookup", False)
        assert "(other) (sk_lookup) of its network namespace" in found["why"]
        os.close(link)
    os.close(program)


def has_option(sock: socket.socket, option: int) -> bool:
    """Return whether an option of SOL_SOCKET is on."""
    return sock.getsockopt(socket.SOL_SOCKET, option) != 0


@pytest.mark.skipif(not connect_parts(), reason="connect(2) leaves sockets in their group")
def test_a_bind_that_is_denied_leaves_no_option(host: Host) -> None:
    """Remove SO_REUSEADDR after a denied bind, so that no other user can bind there."""
    with grm.bind(ADDRESS)[0] as working, grm.bind(ADDRESS)[0] as accepted:
        grm.enroll([working], 1)
        accepted.connect(("127.0.0.1", 9))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bind = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_INET4_BIND
            with attached(host.cgroup, *bind, _DENY), pytest.raises(PermissionError):
                new.bind(("127.0.0.1", 4433))
            new.bind(("127.0.0.1", 4433))
            grm.enroll([new], 2)
            wait_for(lambda: not has_option(new, socket.SO_REUSEADDR), "the option to be gone")


def findings(host: Host) -> list[dict[str, Any]]:
    """Return what doctor finds of the first socket."""
    answer = json.loads(host.run("doctor", ADDRESS, "--json").stdout)
    found: list[dict[str, Any]] = answer["sockets"][0]["findings"]
    return found


def test_one_that_changes_the_peer_of_a_send(host: Host) -> None:
    """Name it where it runs after udpgrm's hooks; before them it does no harm."""
    hook = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_UDP4_SENDMSG
    with contextlib.ExitStack() as held:
        old, new = (held.enter_context(grm.bind(ADDRESS)[0]) for _ in range(2))
        backend = held.enter_context(plain_socket())
        backend.bind(("127.0.0.1", _BACKEND))
        grm.enroll([old], 1)
        grm.promote(old, 1)
        assert findings(host) == []
        held.enter_context(attached(host.cgroup, *hook, _balancer()))
        [found] = findings(host)
        assert (found["code"], found["problem"]) == ("limit_sends", False)
        assert f"(other) of {host.cgroup} changes where a packet is sent" in found["why"]
        for action in ("remove", "add"):
            assert host.run("hooks", action, str(host.cgroup)).returncode == 0
        assert findings(host) == []
        old.sendto(b"question", ("127.0.0.1", _SERVICE))
        grm.enroll([new], 2)
        grm.promote(new, 2)
        assert [position for position, _ in received([backend])] == [0]
        backend.sendto(b"answer", ("127.0.0.1", 4433))
        assert [position for position, _ in received([new, old])] == [1]


def test_one_that_refuses_the_steering_program(host: Host) -> None:
    hook = libbpf.PROG_CGROUP_SOCKOPT, libbpf.CGROUP_SETSOCKOPT
    with grm.bind(ADDRESS)[0] as sock, attached(host.cgroup, *hook, _refuser()):
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 1)
        wait_for(lambda: "cannot be registered" in host.errors.read_text(), "the daemon's message")
        assert "another program on its cgroup refuses" in host.errors.read_text()
        [found] = findings(host)
        assert found["code"] == "waiting"
        assert f"(other) of {host.cgroup} refuses SO_ATTACH_REUSEPORT_EBPF" in found["why"]


def test_one_that_takes_the_options(host: Host, cgroup: Path) -> None:
    """Name the program that answers the option: the server's call succeeds, and does nothing."""
    server = cgroup / "server"
    server.mkdir()
    hook = libbpf.PROG_CGROUP_SOCKOPT, libbpf.CGROUP_SETSOCKOPT
    try:
        command = inside(server, sys.executable, "-c", _ASKS)
        with (
            attached(server, *hook, _taker()),
            subprocess.Popen(command, stdin=subprocess.PIPE) as process,
        ):
            wait_for(lambda: str(process.pid) in host.run("doctor", ADDRESS).stdout, "its socket")
            found = host.run("doctor", ADDRESS).stdout
            assert f"(other) of {server} answers that option itself" in found
            process.kill()
    finally:
        remove_cgroup(server)


def test_one_above_that_ours_would_end(host: Host, cgroup: Path) -> None:
    """Refuse hooks below an overridable program, which the kernel would not run there then."""
    below = cgroup / "below"
    below.mkdir()
    hook = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_INET4_CONNECT
    connects = "import socket; socket.socket(socket.AF_INET, 2).connect(('127.0.0.1', 9))"
    try:
        assert host.run("hooks", "remove", str(cgroup)).returncode == 0
        with overridable(cgroup, *hook, _DENY):
            done = host.run("hooks", "add", str(below))
            assert done.returncode == 255, done
            [line] = done.stderr.splitlines()
            assert f"(other) of {cgroup} would not run for it any longer" in line
            assert host.json("hooks", "list")["cgroups"] == []
            tried = subprocess.run(
                inside(below, sys.executable, "-c", connects), capture_output=True, check=False
            )
            assert b"PermissionError" in tried.stderr
        assert host.run("hooks", "add", str(below)).returncode == 0
    finally:
        remove_cgroup(below)


def test_as_many_as_there_can_be(host: Host, cgroup: Path) -> None:
    """Name some of the 64 programs in the message, in one line."""
    full = cgroup / "full"
    full.mkdir()
    hook = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_INET4_CONNECT
    allow = bytes.fromhex("b7000000010000009500000000000000")
    try:
        with contextlib.ExitStack() as others:
            for _ in range(64):
                others.enter_context(attached(full, *hook, allow))
            done = host.run("hooks", "add", str(full))
        assert done.returncode == 255, done
        assert "it has 64 programs already" in done.stderr
        assert done.stderr.endswith(" and 61 more\n")
    finally:
        remove_cgroup(full)


def test_a_connect_that_is_refused(host: Host) -> None:
    """Keep the socket in its generation."""
    hook = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_INET4_CONNECT
    with grm.bind(ADDRESS)[0] as sock, client() as peer:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        with attached(host.cgroup, *hook, _DENY), pytest.raises(PermissionError):
            sock.connect(("127.0.0.1", 9))
        wait_for(lambda: has_option(sock, socket.SO_REUSEPORT), "the socket to be in its group")
        peer.sendto(b"new", ("127.0.0.1", 4433))
        assert len(received([sock])) == 1
        assert host.counters(ADDRESS)["rx_new_flow_working_gen_dispatch_ok"] == 1


_ASKS = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", 4433))
sock.setsockopt(socket.IPPROTO_UDP, 201, 1)
sys.stdin.read()
"""


def test_one_that_refuses_every_getsockopt(host: Host, cgroup: Path) -> None:
    """Report that the daemon cannot tell which socket it has, and register it later."""
    server = cgroup / "server"
    server.mkdir()
    hook = libbpf.PROG_CGROUP_SOCKOPT, libbpf.CGROUP_GETSOCKOPT
    refusal = "refuses getsockopt(2) on its sockets"
    try:
        with attached(server, *hook, _DENY):
            command = inside(server, sys.executable, "-c", _ASKS)
            process = subprocess.Popen(command, stdin=subprocess.PIPE)
            wait_for(lambda: refusal in host.errors.read_text(), "the daemon's message")
            assert "SCM_RIGHTS" not in host.errors.read_text()
            assert f"process {process.pid} {refusal}" in host.run("doctor", ADDRESS).stdout
        with process:
            wait_for(lambda: host.group(ADDRESS)["generations"], "the socket to be registered")
            process.kill()
    finally:
        remove_cgroup(server)
