# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A daemon with other programs takes over under traffic; what its predecessor left is seen."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, ROOT, Host, client, received, wait_for
from testing.waiting import PATIENCE_S
from udpgrm.kernel import netns, sockopt
from udpgrm.state import connected
from udpgrm.state import maps as state

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)


@pytest.fixture
def other_version(tmp_path: Path) -> list[str]:
    """Return a command whose steering program counts every new flow twice."""
    tree = tmp_path / "other"
    for name in ("bin", "bpf", "udpgrm"):
        shutil.copytree(ROOT / name, tree / name)
    steering = tree / "bpf/steering.h"
    text = steering.read_text()
    changed = text.replace("total[RX_NEW_FLOW_TOTAL]++;", "total[RX_NEW_FLOW_TOTAL] += 2;")
    assert changed != text
    steering.write_text(changed)
    command = [sys.executable, str(tree / "bin/udpgrm")]
    # a start waits for its compiler, and a busy machine's takes minutes
    subprocess.run([*command, "build"], check=True, stdout=subprocess.DEVNULL)
    return command


def test_new_programs_under_traffic(
    bare_host: Host, other_version: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.start("--persist")
    sockets = grm.bind(WHERE, 2)
    grm.enroll(sockets[:1], 1)
    grm.enroll(sockets[1:], 2)
    grm.promote(sockets[0], 1)
    with client() as old:
        old.sendto(b"?", TO)
        [(position, peer)] = received(sockets)
        assert position == 0
        sockets[0].sendto(b"!", peer)
        # read when it is over, however long a start takes
        sockets[0].setsockopt(socket.SOL_SOCKET, sockopt.SO_RCVBUFFORCE, 1 << 24)
        grm.promote(sockets[0], 2)
        bare_host.kill()
        monkeypatch.setattr("testing.host.COMMAND", other_version)
        done = threading.Event()
        sent: list[int] = []

        def send() -> None:
            while not done.wait(0.02):
                sent.append(old.sendto(b"?", TO))

        before = programs(bare_host)
        traffic = threading.Thread(target=send)
        traffic.start()
        try:
            bare_host.start("--persist")
            wait_for(lambda: programs(bare_host) - before, "the new program")
            replaced = len(sent)
            wait_for(lambda: len(sent) > replaced + 20, "packets to it")
        finally:
            done.set()
            traffic.join()
        found = received(sockets)
    assert [position for position, _ in found] == [0] * len(sent)
    counted = bare_host.counters(WHERE)["rx_new_flow_total"]
    with client() as new:
        new.sendto(b"?", TO)
        assert [position for position, _ in received(sockets)] == [1]
    # no socket has registered since: the program was replaced at the start
    assert bare_host.counters(WHERE)["rx_new_flow_total"] == counted + 2
    for sock in sockets:
        sock.close()


def programs(host: Host) -> set[int]:
    """Return the ids of the programs that steer this host's sockets."""
    with contextlib.closing(state.open_pinned(host.directory)) as maps:
        return {item.program for item in connected.records(maps, netns.own_cookie()) or ()}


def test_unchanged_programs_are_left_alone(bare_host: Host) -> None:
    bare_host.start("--persist")
    sockets = grm.bind(WHERE)
    grm.enroll(sockets, 1)
    before = programs(bare_host)
    assert len(before) == 1
    bare_host.kill()
    bare_host.start("--persist")
    with grm.bind("127.0.0.1:4434")[0] as other:
        grm.enroll([other], 1)  # the daemon looks at programs before it serves
        assert before < programs(bare_host)
    sockets[0].close()


def test_groups_of_an_earlier_daemon(bare_host: Host) -> None:
    bare_host.start()
    sockets = grm.bind(WHERE)
    grm.enroll(sockets, 5)
    grm.promote(sockets[0], 5)
    bare_host.process.terminate()
    assert bare_host.process.wait(PATIENCE_S) == 0
    bare_host.start()
    shown = bare_host.run("list").stdout
    assert re.match(r"127\.0\.0\.1:4433 \(old\)\n\tnetns 0x", shown)
    assert "socket generations:" not in shown
    with client() as sock:
        sock.sendto(b"?", TO)
        assert len(received(sockets)) == 1
    # asked for again, it is a group of this daemon
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(TO)
    grm.enroll([other], 1)
    assert bare_host.run("list").stdout.splitlines()[0] == WHERE
    other.close()
    sockets[0].close()
    wait_for(lambda: "(old)" not in bare_host.run("list").stdout, "the old group to go")


_ELSEWHERE = """
mount -t bpf bpf /sys/fs/bpf || exit 1
"$@" &
trap 'kill -TERM $!; wait $!' EXIT
read -r line
"""


def test_groups_of_another_container_are_not_of_an_earlier_daemon(bare_host: Host) -> None:
    """Ignore groups of a pin directory of the same path in another bpf file system."""
    log = bare_host.scratch / "elsewhere"
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            [
                *("unshare", "-m", "sh", "-c", _ELSEWHERE, "sh", *COMMAND, "--daemon"),
                *(f"--pin-dir={bare_host.directory}", f"--install={bare_host.cgroup}"),
            ],
            stdin=subprocess.PIPE,
            stderr=out,
        )
        wait_for(lambda: "Tailing" in log.read_text(), "the other daemon to start")
        sockets = grm.bind(WHERE)
        grm.enroll(sockets, 5)
        daemon.communicate(b"")
    bare_host.start()
    with sockets[0]:
        assert bare_host.run("list").stdout == ""
        with grm.bind("127.0.0.1:7000")[0] as mine:
            grm.enroll([mine], 1)
            assert WHERE not in bare_host.run("list").stdout
