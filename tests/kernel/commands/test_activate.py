# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm activate with real hooks, a descriptor store and a command that is executed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import ROOT, Host, client, received
from testing.waiting import PATIENCE_S
from tests.unit.bpf.dissectors.bespoke.packets import crypto, hello, initial
from udpgrm import abi

pytestmark = pytest.mark.daemon("shared")

ACTIVATE = [sys.executable, str(ROOT / "bin/udpgrm_activate")]
#: The same, which waits for the daemon as long as it takes on a busy machine.
PATIENT = [
    *(sys.executable, "-c"),
    f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from udpgrm.activate import command
command._TIMEOUT_S = {PATIENCE_S}
command.run()
""",
]
WHERE = "127.0.0.1:4433"
#: Code that reports the variables and sockets of sd_listen_fds(3).
REPORT = """
import json, os, socket
count = int(os.environ["LISTEN_FDS"])
socks = [socket.socket(fileno=3 + number) for number in range(count)]
print(json.dumps({
    "pid": int(os.environ["LISTEN_PID"]) == os.getpid(),
    "pidfdid": os.environ.get("LISTEN_PIDFDID"),
    "names": os.environ["LISTEN_FDNAMES"],
    "bound": [sock.getsockname()[:2] for sock in socks],
    "gen": [int.from_bytes(sock.getsockopt(17, 201, 4), "little") for sock in socks],
    "working": int.from_bytes(socks[0].getsockopt(17, 200, 4), "little"),
    "app": int.from_bytes(socks[0].getsockopt(17, 204, 4), "little"),
    "rcvbuf": socks[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
}))
"""


class Store:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.settimeout(PATIENCE_S)
        self.kept: list[socket.socket] = []

    def take(self) -> tuple[str, int]:
        data, fds, _, _ = socket.recv_fds(self.sock, 4096, 253)
        self.kept += [socket.socket(fileno=fd) for fd in fds]
        return data.decode(), len(fds)

    def close(self) -> None:
        self.sock.close()
        for sock in self.kept:
            sock.close()


@pytest.fixture(params=["path", "abstract"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, str]]:
    if request.param == "path":
        where = address = str(tmp_path / "notify")
    else:
        where, address = f"@udpgrm-test-{os.getpid()}", f"\0udpgrm-test-{os.getpid()}"
    store = Store(address)
    yield store, where
    store.close()


def activate(
    *arguments: str, notify: str = "", program: Sequence[str] = PATIENT
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    environment["LISTEN_PIDFDID"] = "4711"  # of a shell that systemd started, say
    if notify:
        environment["NOTIFY_SOCKET"] = notify
    return subprocess.run(
        [*program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_store(host: Host, store: tuple[Store, str]) -> None:
    keeper, where = store
    done = activate("--count=3", "--advance-working-gen", "edge", WHERE, notify=where)
    assert (done.returncode, done.stderr) == (0, "")
    assert keeper.take() == ("FDSTOREREMOVE=1\nFDNAME=edge", 0)
    assert keeper.take() == ("FDSTORE=1\nFDNAME=edge", 3)
    assert [grm.socket_generation(sock).generation for sock in keeper.kept] == [1, 1, 1]
    assert sorted(grm.socket_generation(sock).index or 0 for sock in keeper.kept) == [0, 1, 2]
    assert grm.working_generation(keeper.kept[0]) == 1
    with client() as sock:
        sock.sendto(b"?", ("127.0.0.1", 4433))
        assert len(received(keeper.kept)) == 1
    # the next instance's go beside them
    assert activate("edge", WHERE, notify=where).returncode == 0
    assert keeper.take() == ("FDSTOREREMOVE=1\nFDNAME=edge", 0)
    assert keeper.take() == ("FDSTORE=1\nFDNAME=edge", 1)
    assert grm.socket_generation(keeper.kept[3]).generation == 2
    assert grm.working_generation(keeper.kept[0]) == 1


def test_more_than_one_message_holds(host: Host, store: tuple[Store, str]) -> None:
    keeper, where = store
    assert activate("--count=256", "edge", WHERE, notify=where).returncode == 0
    assert [keeper.take()[1] for _ in range(3)] == [0, 253, 3]


def test_command(host: Host) -> None:
    done = activate(
        "--count=2", "--rcvbuf=50000", "-f", "7", "edge", WHERE, "--", sys.executable, "-c", REPORT
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "pid": True,
        "pidfdid": None,
        "names": "edge:edge",
        "bound": [["127.0.0.1", 4433]] * 2,
        "gen": [1, 1],
        "working": 0,
        "app": 0,
        "rcvbuf": 100000,
    }


def test_application_and_filter(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "filter"
    file.write_text("{ 0x06,  0,  0, 0x80000001 },\n")
    done = activate(
        *("-b", str(file), "-m", "2", "-a", "1", "--no-register", "edge", WHERE),
        *("--", sys.executable, "-c", REPORT),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["app"], report["gen"]) == (1, [0xFFFFFFFF])


def test_the_next_generation_is_the_applications_own(
    host: Host, store: tuple[Store, str], tmp_path: Path
) -> None:
    keeper, where = store
    file = tmp_path / "filter"
    file.write_text("{ 0x06,  0,  0, 0x80000001 },\n")
    arguments = ("-b", str(file), "-m", "2", "edge", WHERE)
    first = ("-a", "1", "--generation=7", "--advance-working-gen")
    for options in (first, ("-a", "1"), ("-a", "0")):
        assert activate(*options, *arguments, notify=where).returncode == 0
        assert [keeper.take()[1] for _ in range(2)] == [0, 1]
    assert [grm.socket_generation(sock).generation for sock in keeper.kept] == [7, 8, 1]


def test_both_families_in_one_socket(host: Host) -> None:
    command = [
        "--",
        sys.executable,
        "-c",
        "import socket; print(socket.socket(fileno=3).getsockopt(41, 26))",
    ]
    assert activate("-4", "edge", "[::]:4433", *command).stdout == "0\n"
    assert activate("edge", "[::]:4434", *command).stdout == "1\n"


def test_address_that_is_not_there(host: Host) -> None:
    done = activate("edge", "192.0.2.7:4433", "--", "true")
    assert (done.returncode, done.stderr) == (
        255,
        "udpgrm activate: 192.0.2.7:4433: Cannot assign requested address\n",
    )
    assert activate("--freebind", "edge", "192.0.2.7:4433", "--", "true").returncode == 0


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["edge", WHERE], "no process would keep the sockets"),
        (["-b", "/nowhere", "edge", WHERE, "--", "true"], "/nowhere: No such file"),
        (["edge", WHERE, "--", "/nowhere"], "/nowhere: No such file"),
    ],
)
def test_refusals(host: Host, arguments: list[str], complaint: str) -> None:
    done = activate(*arguments)
    assert (done.returncode, complaint in done.stderr) == (255, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_privileged_port_of_a_user(host: Host) -> None:
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    done = subprocess.run(
        [*user, *ACTIVATE, "edge", "127.0.0.1:80", "--", "true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        255,
        "udpgrm activate: 127.0.0.1:80: Permission denied\n",
    )


def test_no_reader_at_notify_socket(host: Host) -> None:
    done = activate("edge", WHERE, notify="/nowhere/notify")
    assert (done.returncode, done.stderr) == (
        255,
        "udpgrm activate: NOTIFY_SOCKET /nowhere/notify: No such file or directory\n",
    )


@pytest.mark.daemon("own")
def test_no_daemon(host: Host) -> None:
    host.kill()  # its hooks stay
    done = activate("edge", WHERE, "--", "true", program=ACTIVATE)
    assert (done.returncode, "got no index in 5 s" in done.stderr) == (255, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_names_of_servers(host: Host) -> None:
    """Steer Initial packets to the application of their server name, each activated on its own."""
    bespoke = ("-d", "0xDEAD", "-m", "2", "-s", "two.example:1")
    wait = ["--", sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with contextlib.ExitStack() as running:
        for app in ("0", "1"):
            process = subprocess.Popen(
                [*PATIENT, *bespoke, "-a", app, "--advance-working-gen", "edge", WHERE, *wait],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            running.enter_context(process)
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        with client() as sock:
            for name, count in ((b"two.example", 2), (b"other.example", 3)):
                for _ in range(count):
                    sock.sendto(initial(crypto(hello(name))), ("127.0.0.1", 4433))
        generations = host.group(WHERE)["generations"]
        assert [
            (generation["application"], generation["generation"], generation["packets_in"])
            for generation in generations
        ] == [(0, 1, 3), (1, 1, 2)]


def test_another_dissector(host: Host) -> None:
    mine = grm.bind(WHERE)[0]
    done = activate("-n", "edge", WHERE, "--", "true")
    assert (done.returncode, "has another dissector" in done.stderr) == (255, True), done.stderr
    mine.close()


def test_no_hooks(bare_host: Host) -> None:
    bare_host.start(install=False)
    done = activate("edge", WHERE, "--", "true")
    assert (done.returncode, "no udpgrm hooks" in done.stderr) == (255, True)


def test_values_of_the_option_are_those_of_the_kernel(host: Host) -> None:
    done = activate(
        *("-t", "LABEL", "-f", "9", "edge", WHERE, "--", sys.executable, "-c"),
        "import socket; print(socket.socket(fileno=3).getsockopt(17, 202, 632).hex())",
    )
    value = abi.Dissector.from_buffer_copy(bytes.fromhex(done.stdout))
    assert (value.type, value.flow_timeout_s, value.label) == (0, 9, b"LABEL")


@pytest.mark.daemon("own")
@pytest.mark.parametrize("arguments", [(), ("-n",)])
def test_the_operators_dissector(host: Host, arguments: tuple[str, ...]) -> None:
    """Keep the operator's dissector: a library's with any option, a built-in one without any."""
    kind = ("dns",) if arguments else ("flow", "flow_timeout=7")
    assert host.run("dissector", "set", WHERE, *kind).returncode == 0
    done = activate("--generation=5", *arguments, "edge", WHERE, "--", sys.executable, "-c", REPORT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gen"] == [5]


def test_a_generation_goes_with_a_registration(host: Host) -> None:
    done = activate("--generation=5", "--no-register", "edge", WHERE, "--", "true")
    assert (done.returncode, "--generation excludes" in done.stderr) == (255, True)
