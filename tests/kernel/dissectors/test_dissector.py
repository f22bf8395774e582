# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Operators' dissectors and policies: udpgrm dissector."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, plain_socket, wait_for, wait_for_index
from testing.waiting import PATIENCE_S
from tests.kernel.dissectors.named import (
    ADDRESS,
    FIRST_BYTE,
    Sockets,
    cookie_of,
    dissector,
    got,
    send,
    sockets,
    write,
)
from udpgrm.abi import Option

__all__ = ["sockets"]


UNBOUNDED = FIRST_BYTE.replace("PARAMETER(at), &cookie)", "0, &cookie) + *(u8 *)s->md->data")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an operator's folder of dissectors."""
    directory = tmp_path / "dissectors"
    directory.mkdir(mode=0o755)
    monkeypatch.setenv("UDPGRM_DISSECTORS_DIR", str(directory))
    return directory


def test_an_operators_dissector(library: Path, bare_host: Host, sockets: Sockets) -> None:
    write(library, "somewhere", FIRST_BYTE)
    bare_host.start()
    value = dissector("somewhere", {"at": 7})
    old, new = sockets.enrolled(value, 1)[0], sockets.enrolled(value, 2)[0]
    grm.promote(new, 2)
    for position, sock in enumerate((old, new)):
        send(b"7 bytes" + cookie_of(sock).to_bytes(2, "big"))
        assert got([old, new]) == [position]
    assert "socket_critical" not in bare_host.counters(ADDRESS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FIRST_BYTE.replace("u32 cookie;", ""), "use of undeclared identifier 'cookie'"),
        (FIRST_BYTE.replace("PARAMETER(at)", "PARAMETER(of)"), "POSITION_of"),
        (UNBOUNDED, "offset is outside of the packet"),
        (FIRST_BYTE.replace("PARAMETER(at)", "CONST(PARAMETERS + 7)"), "no map and no constant"),
    ],
    ids=["compiler", "parameter", "verifier", "constant"],
)
def test_an_operators_bad_dissector(
    library: Path, bare_host: Host, sockets: Sockets, body: str, reason: str
) -> None:
    write(library, "bad", body)
    checked = bare_host.run("dissector", "check", "bad", "at=0")
    assert checked.returncode == 1
    assert reason in checked.stdout
    bare_host.start()
    sock = sockets.bound(dissector("bad", {"at": 0}))
    assert grm.enroll([sock], 1) == [0]
    send(b"packet")
    assert got([sock]) == [0]
    assert bare_host.counters(ADDRESS)["socket_critical"] == 1
    assert reason in bare_host.errors.read_text()
    sock.close()
    # once it is put right, the next group has it, with the same daemon
    write(library, "bad", FIRST_BYTE)
    assert bare_host.run("delete", ADDRESS).returncode == 0
    sock = sockets.enrolled(dissector("bad", {"at": 0}), 1)[0]
    grm.promote(sock, 1)
    send(cookie_of(sock).to_bytes(2, "big"))
    assert got([sock]) == [0]
    assert bare_host.counters(ADDRESS)["rx_flow_ok"] == 1


@pytest.fixture
def uncompiled(library: Path) -> bytes:
    """Return a dissector that no earlier test has left in the cache."""
    write(library, "slow", FIRST_BYTE + f"/* {library} */\n")
    return dissector("slow", {"at": 0})


#: Begins no compilation while the fault is there.
HELD_COMPILER = """
import time
from udpgrm.daemon.compiling import Compiler
due = Compiler.due.fget
def held(self):
    found = due(self)
    return found if found is None or not failing() else time.monotonic() + 0.1
Compiler.due = property(held)
"""


def ask(sock: socket.socket, generation: int = 1) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, bytes([generation, 0, 0, 0]))


def test_killed_while_sockets_wait_for_the_compiler(
    uncompiled: bytes, bare_host: Host, sockets: Sockets
) -> None:
    """Register each socket in the last generation that it asked for."""
    bare_host.fault.touch()
    bare_host.start("--persist", fault=HELD_COMPILER)
    made = [sockets.bound(uncompiled) for _ in range(12)]
    for generation in (1, 2):
        for sock in made:
            ask(sock, generation)
    wait_for(lambda: "socket group created" in bare_host.events.read_text(), "the compilation")
    bare_host.kill()
    assert grm.socket_generation(made[0]).index is None
    bare_host.start("--persist")
    for sock in made:
        wait_for_index(sock)
    assert [item["generation"] for item in bare_host.group(ADDRESS)["generations"]] == [2]
    assert "socket_critical" not in bare_host.counters(ADDRESS)


def test_others_are_served_while_a_dissector_compiles(
    uncompiled: bytes, bare_host: Host, sockets: Sockets
) -> None:
    bare_host.fault.touch()
    bare_host.start(fault=HELD_COMPILER)
    sock = sockets.bound(uncompiled)
    ask(sock)
    with grm.bind("127.0.0.1:4434")[0] as other:
        grm.enroll([other], 1)
        assert grm.socket_generation(sock).index is None, "it did not wait for the compiler"
    bare_host.fault.unlink()
    wait_for_index(sock)


def test_a_group_that_waits_for_the_compiler_is_kept(
    uncompiled: bytes, host: Host, sockets: Sockets
) -> None:
    """Keep a group without sockets while a process ends, and the daemon collects garbage."""
    sock = sockets.bound(uncompiled)
    ask(sock)
    enroll = f"grm.enroll(grm.bind('127.0.0.1:4434'), 1, {PATIENCE_S})"
    code = f"import udpgrm.client as grm; {enroll}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=2 * PATIENCE_S)
    wait_for_index(sock)


def test_folders_that_others_can_write_to(library: Path, host: Host) -> None:
    folder = write(library, "open", FIRST_BYTE)
    (folder / "body.h").chmod(0o666)
    checked = host.run("dissector", "check", "open", "at=0")
    assert checked.returncode == 255
    assert "body.h is writable by others than root" in checked.stderr


def test_policies(host: Host, sockets: Sockets) -> None:
    arguments = ("dissector", "set", ADDRESS, "quic", "cid_length=8")
    assert host.json(*arguments, "--check")["changed"] is True
    assert host.json(*arguments)["changed"] is True
    again = host.json(*arguments)
    assert again["changed"] is False
    assert again["after"] == {
        "type": "named",
        "name": "quic",
        "parameters": {"cid_length": 8},
        "flows": 0,
    }
    sock = plain_socket()
    sockets.all.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    grm.enroll([sock], 1)  # an application that knows of no dissector
    grm.promote(sock, 1)
    send(b"\x40" + cookie_of(sock).to_bytes(2, "big") + bytes(6))
    assert host.counters(ADDRESS)["rx_flow_ok"] == 1
    for other in (("flow",), ("quic", "cid_length=9")):
        refused = host.run("dissector", "set", ADDRESS, *other)
        assert refused.returncode == 255
        assert "has sockets of another dissector" in refused.stderr
    assert host.json("dissector", "unset", ADDRESS)["changed"] is True
    assert host.json("dissector", "unset", ADDRESS)["changed"] is False


def test_a_policy_that_an_application_agrees_with(host: Host, sockets: Sockets) -> None:
    host.json("dissector", "set", ADDRESS, "flow")
    sockets.all += grm.bind(ADDRESS)
    assert host.group(ADDRESS)["dissector"]["flow_timeout"] == 125
    assert host.run("dissector", "set", ADDRESS, "flow").returncode == 0
    assert "set it before" in host.run("dissector", "set", ADDRESS, "noop").stderr
    with pytest.raises(PermissionError):
        grm.bind(ADDRESS, flow_timeout=7)


def test_what_there_is(library: Path, host: Host) -> None:
    write(library, "mine", FIRST_BYTE)
    (write(library, "open", FIRST_BYTE) / "body.h").chmod(0o666)
    host.json("dissector", "set", "[2001:db8::1]:53", "dns")
    found = host.json("dissector", "list")
    by_name = {item["name"]: item for item in found["dissectors"]}
    assert by_name["quic"]["shipped"] and not by_name["mine"]["shipped"]
    assert by_name["mine"]["about"] == "a cookie somewhere"
    assert "writable by others" in by_name["open"]["problem"]
    assert found["policies"] == [
        {
            "address": "[2001:db8::1]:53",
            "type": "named",
            "name": "dns",
            "parameters": {},
            "flows": 0,
        }
    ]
    text = host.run("dissector", "list").stdout
    assert "UNUSABLE: dissector open" in text
    assert "[2001:db8::1]:53\tdns\n" in text
    shown = host.json("dissector", "show", "mine")
    assert shown["path"] == str(library / "mine")
    assert [item["name"] for item in shown["parameters"]] == ["at"]
    assert "at " in host.run("dissector", "show", "mine").stdout
    assert host.json("dissector", "check", "mine", "at=1")["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "an operand is missing"),
        (("forget",), "'forget' is none of list, show, check, set, unset"),
        (("show",), "an operand is missing"),
        (("show", "nosuch"), "no dissector 'nosuch'"),
        (("show", "quic", "more"), "unexpected 'more'"),
        (("check", "quic"), "parameter cid_length is missing"),
        (("check", "quic", "--flows=8"), "--flows does not go with dissector check"),
        (("set", ADDRESS), "an operand is missing"),
        (("set", "nowhere", "dns"), "not an ADDRESS:PORT"),
        (("set", ADDRESS, "cbpf"), "cbpf is a type of its own"),
        (("set", ADDRESS, "noop", "x=1"), "unknown parameter 'x'"),
        (("set", ADDRESS, "noop", "--flows=8"), "--flows goes with flow"),
        (("set", ADDRESS, "flow", "flow_timeout=0"), "flow_timeout: '0' is not 1.."),
    ],
)
def test_misuse(host: Host, arguments: tuple[str, ...], reason: str) -> None:
    done = host.run("dissector", *arguments)
    assert (done.returncode, done.stdout) == (255, "")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert host.json("dissector", "list")["policies"] == []


def test_a_policy_of_flows(host: Host, sockets: Sockets) -> None:
    host.json("dissector", "set", "[::]:4433", "flow", "flow_timeout=7", "--flows=128")
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sockets.all.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("::", 4433))
    grm.enroll([sock], 1)
    assert wait_for(lambda: host.group("[::]:4433"), "the group")["dissector"]["flow_timeout"] == 7
