# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The client library of each language, by one set of tests.

Each language has a program that makes the calls it is told of (clients/*/conformance*), and
example servers and clients. UDPGRM_CLIENTS names the languages: `make clients` has all, and other
runs those that need no compiler but C's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import ROOT, Host, inside, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel import sockopts as grm

LANGUAGES = os.environ.get("UDPGRM_CLIENTS", "python c").split()
PATIENCE_MS = int(PATIENCE_S * 1000)
IP, PORT = "127.0.0.1", 4433
ADDRESS = f"{IP}:{PORT}"
#: How long a flow of an example server lives: until a busy machine has started the next server.
FLOW_S = 15
FLOW = f"bind {IP} {PORT} 1 flow 0"


class Client:
    """A language's conformance program."""

    def __init__(self, program: list[str]) -> None:
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid

    def ask(self, *arguments: object) -> list[str]:
        """Make a call; its answer, of which the first word is ok or error."""
        assert self._process.stdin and self._process.stdout
        print(*arguments, file=self._process.stdin)
        return self._process.stdout.readline().split()

    def call(self, *arguments: object) -> list[str]:
        """Make a call that succeeds; its result."""
        status, *result = self.ask(*arguments)
        assert status == "ok", (arguments, status, result)
        return result

    def fail(self, *arguments: object) -> str:
        """Make a call that fails; its kind of error."""
        status, kind, _ = self.ask(*arguments)
        assert status == "error", arguments
        return kind

    def descriptors(self) -> int:
        """Return how many descriptors the client has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self) -> None:
        """End it by the end of its input."""
        self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0


def build(language: str) -> Path:
    """Build a language's programs; their directory."""
    subprocess.run([str(ROOT / "clients/build"), language], check=True)
    return ROOT / "build/clients" / language


@pytest.fixture(scope="module", params=LANGUAGES)
def program(request: pytest.FixtureRequest) -> list[str]:
    """Return the command of a language's conformance program."""
    if request.param == "python":
        return [sys.executable, str(ROOT / "clients/python/conformance.py")]
    return [str(build(request.param) / "conformance")]


@contextlib.contextmanager
def running(program: list[str], cgroup: Path) -> Iterator[Client]:
    """Yield a client in a cgroup."""
    made = Client(inside(cgroup, *program))
    yield made
    made.end()


@pytest.fixture
def client(shared_host: Host, program: list[str]) -> Iterator[Client]:
    """Yield a client in the hooked cgroup."""
    with running(program, shared_host.cgroup) as made:
        yield made


@pytest.fixture
def own_client(host: Host, program: list[str]) -> Iterator[Client]:
    """Yield a client of a daemon that the test may stop."""
    with running(program, host.cgroup) as made:
        yield made


def test_a_probe(bare_host: Host, program: list[str]) -> None:
    """Find hooks by the probe, also those that a killed daemon has left."""
    with running(program, bare_host.cgroup) as client:
        assert client.call("probe") == ["no"]
        (unshared,) = client.call(f"plain {IP} {PORT}")
        assert client.fail("working_generation", unshared) == "not_hooked"
        client.call("close", unshared)
        before = client.descriptors()
        assert client.fail(FLOW) == "not_hooked"
        assert client.descriptors() == before
        bare_host.start()
        assert client.call("probe") == ["yes"]
        bare_host.kill()
        assert client.call("probe") == ["yes"]


def test_enrollment(client: Client) -> None:
    sockets = client.call(f"bind {IP} {PORT} 3 flow 9")
    assert len(sockets) == 3
    unregistered = [str(grm.UNREGISTERED), "none", str(grm.cookie_of(31, 255))]
    assert client.call("socket_generation", sockets[0]) == unregistered
    assert client.call("working_generation", sockets[0]) == ["0"]
    assert client.call("enroll", 33, "forever", *sockets) == ["0", "1", "2"]
    for index, sock in enumerate(sockets):
        expected = ["33", str(index), str(grm.cookie_of(1, index))]
        assert client.call("socket_generation", sock) == expected
    assert client.call("enroll", 2**32 - 1, PATIENCE_MS, sockets[2]) == ["0"]
    assert client.call("working_generation", sockets[0]) == ["0"]
    client.call("promote", sockets[0], 2**32 - 2)
    assert client.call("working_generation", sockets[2]) == [str(2**32 - 2)]


def test_ipv6(client: Client, sockets: list[socket.socket]) -> None:
    (sock,) = client.call("bind ::1 4433 1 flow 0")
    assert client.call("enroll", 7, PATIENCE_MS, sock) == ["0"]
    client.call("assure_flow", sock, "2001:db8::1", 1234)
    sockets.append(grm.udp("::1"))
    eexist = 17  # so it was this peer's flow
    assert grm.put_error(sockets[0], grm.FLOW_ASSURE, grm.sockaddr("2001:db8::1", 1234)) == eexist


def test_no_group(client: Client) -> None:
    (sock,) = client.call(f"plain {IP} {PORT}")
    assert client.call("working_generation", sock) == ["none"]
    assert client.fail("promote", sock, 1) == "not_hooked"
    assert client.fail("enroll", 1, 10, sock) == "not_hooked"
    assert client.fail("assure_flow", sock, "192.0.2.1", 1) == "not_hooked"


DISSECTORS = {
    "flow 77": grm.dissector(grm.FLOW, timeout=77),
    "noop": grm.dissector(grm.NOOP),
    "cbpf 2 2147483649": grm.dissector(
        grm.CBPF, apps=2, rest=grm.filter_of((0x06, 0, 0, 0x80000001))
    ),
    "named dns {}": grm.dissector(16, rest=b"dns".ljust(32, b"\0") + b"{}"),
}


def test_dissectors(client: Client, sockets: list[socket.socket]) -> None:
    """Send the same bytes from each language, so that sockets of several can share a group."""
    for port, (arguments, value) in enumerate(DISSECTORS.items(), PORT):
        client.call(f"bind {IP} {port} 1 {arguments}")
        sockets.append(grm.udp(port=port))
        assert grm.get(sockets[-1], grm.DISSECTOR, 632)[0] == value, arguments
        grm.put(sockets[-1], grm.DISSECTOR, value)


def test_another_dissector(client: Client) -> None:
    """Refuse a server that asks for another dissector than the group's."""
    client.call(FLOW)
    before = client.descriptors()
    assert client.fail(f"bind {IP} {PORT} 2 flow 78") == "permission"
    assert client.fail(f"bind {IP} 4436 1 named {'x' * 32} {{}}") == "invalid"
    assert client.fail(f"bind {IP} 4436 1 flow 1.5") == "invalid"
    assert client.descriptors() == before


def test_a_daemon_that_does_not_answer(host: Host, own_client: Client) -> None:
    (sock,) = own_client.call(FLOW)
    with host.stopped():
        assert own_client.fail("enroll", 5, 20, sock) == "timed_out"
        assert own_client.fail("wait_registered", 20, sock) == "timed_out"
        expected = ["5", "none", str(grm.cookie_of(5, 255))]
        assert own_client.call("socket_generation", sock) == expected
        own_client.call("promote", sock, 5)
        assert own_client.call("working_generation", sock) == ["5"]
    assert own_client.call("wait_registered", PATIENCE_MS, sock) == ["0"]
    with host.stopped():  # it moves: the index that it has is another generation's
        assert own_client.fail("enroll", 6, 20, sock) == "timed_out"
        assert own_client.call("socket_generation", sock)[:2] == ["6", "none"]
    assert own_client.call("wait_registered", PATIENCE_MS, sock) == ["0"]


def test_a_full_queue(host: Host, own_client: Client, sockets: list[socket.socket]) -> None:
    """Wait with an enrollment until the daemon takes messages again."""
    sockets.append(grm.udp())
    (sock,) = own_client.call(FLOW)
    with host.stopped():
        generation = 0
        while grm.put_error(sockets[0], grm.SOCKET_GEN, grm.u32(generation)) is None:
            generation += 1
        assert own_client.fail("enroll", 5, 20, sock) == "timed_out"
        assert own_client.call("socket_generation", sock)[0] == str(grm.UNREGISTERED)
    assert own_client.call("enroll", 5, PATIENCE_MS, sock) == ["0"]


def test_flows(client: Client, sockets: list[socket.socket]) -> None:
    one, two = client.call(f"bind {IP} {PORT} 2 flow 0")
    client.call("assure_flow", one, "192.0.2.1", 1234)
    client.call("assure_flow", one, "192.0.2.1", 1234)
    assert client.fail("assure_flow", two, "192.0.2.1", 1234) == "exists"
    assert client.fail("assure_flow", two, "::ffff:192.0.2.1", 1234) == "exists"
    assert client.fail("assure_flow", two, "2001:db8::1", 1234) == "permission"
    sockets.append(grm.udp())
    assert grm.put_error(sockets[0], grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1234)) == 17
    assert grm.put_error(sockets[0], grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", 1235)) is None
    (noop,) = client.call(f"bind {IP} 4434 1 noop")
    assert client.fail("assure_flow", noop, "192.0.2.1", 1) == "permission"


@contextlib.contextmanager
def server(host: Host, *command: object) -> Iterator[subprocess.Popen[str]]:
    """Yield an example server in the hooked cgroup."""
    arguments = [str(word) for word in command]
    process = subprocess.Popen(inside(host.cgroup, *arguments), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def is_working(host: Host, generation: int) -> bool:
    """Return whether new flows go to a generation with a registered socket."""
    groups = host.groups()
    return any(
        item["generation"] == generation and item["working"] and item["sockets"]
        for group in groups
        for item in group["generations"]
    )


def restart(host: Host, serve: Path, arguments: list[object], client: Path) -> None:
    """Restart an example server under a flow that stays and a new one; then let it drain."""
    with (
        server(host, serve, IP, PORT, 1, *arguments, "promote") as old,
        contextlib.ExitStack() as stack,
    ):
        wait_for(lambda: is_working(host, 1), "the first server")
        (stays,) = [Client([str(client), IP, str(PORT)])]
        stack.callback(stays.end)
        assert stays.ask("/one") == ["1", str(old.pid), "/one"]
        new = stack.enter_context(server(host, serve, IP, PORT, 2, *arguments, "promote"))
        wait_for(lambda: is_working(host, 2), "the second server")
        moves = Client([str(client), IP, str(PORT)])
        stack.callback(moves.end)
        assert moves.ask("/two") == ["2", str(new.pid), "/two"]
        assert stays.ask("/three") == ["1", str(old.pid), "/three"]
        old.send_signal(signal.SIGTERM)
        if arguments:  # the echo servers drain
            assert stays.ask("/four") == ["1", str(old.pid), "/four"]
            assert old.wait(PATIENCE_S) == 0
            assert stays.ask("/five") == ["2", str(new.pid), "/five"]


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name not in ("python", "c++")])
def test_the_examples(shared_host: Host, language: str) -> None:
    """Keep a flow, in Go also an HTTP/3 connection, at its server; the next one reaches the new."""
    directory = build(language)
    servers = sorted(directory.glob("*_server"))
    assert servers
    for serve in servers:
        if serve.name == "h3_server":
            restart(shared_host, serve, [], directory / "h3_client")
        else:
            restart(shared_host, serve, [FLOW_S], directory / "echo_client")
        shared_host.run("delete", ADDRESS)
