# SPDX-License-Identifier: Apache-2.0
"""The daemon's life: starting, stopping, being killed, being adopted from."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Optional

import pytest

import udpgrm.client as grm
from testing.host import (
    COMMAND,
    ROOT,
    Host,
    answer,
    client,
    plain_socket,
    received,
    wait_for,
    wait_for_index,
)
from testing.waiting import PATIENCE_S
from udpgrm.abi import Option
from udpgrm.daemon import directory as pins
from udpgrm.state import maps as state

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)


def test_clean_exit_takes_everything_away(host: Host) -> None:
    assert host.directory.is_dir()
    assert host.kill(signal.SIGTERM) == 0
    assert not host.directory.exists()
    with plain_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(TARGET)
        try:
            grm.working_generation(sock)
        except grm.NotHooked:
            return
    raise AssertionError("the hooks are still there")


def test_interrupt_is_a_clean_exit(host: Host) -> None:
    assert host.kill(signal.SIGINT) == 0
    assert not host.directory.exists()


def test_messages(host: Host) -> None:
    sock = plain_socket()
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(TARGET)
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        wait_for(lambda: "setting working gen" in host.events.read_text(), "the event")
    events = [line.split(" 127")[0] for line in host.events.read_text().splitlines()]
    assert events == [
        "socket group created",
        "socket found",
        "registering socket",
        "Working gen app=0 1",
        "setting working gen",
    ]
    assert host.errors.read_text().splitlines() == [
        "Loading BPF",
        f"Pinning bpf programs to {host.directory}",
        f"Installing BPF into cgroup {host.cgroup}",
        "Tailing message ring buffer",
    ]


def test_second_daemon_is_refused(host: Host) -> None:
    second = host.run("--daemon")
    assert second.returncode == 255
    assert f"Looks like {host.directory}" in second.stderr
    assert " exists" in second.stderr
    assert host.json("list")["daemon"] == {"running": True, "pid": host.process.pid}


def test_a_second_daemon_with_other_pins_is_refused(host: Host) -> None:
    """Refuse a second daemon on the same cgroup, where its hooks would never run."""
    other = host.directory.with_name(f"{host.directory.name}-2")
    second = host.run(f"--pin-dir={other}", "--daemon", "--persist", f"--install={host.cgroup}")
    assert second.returncode == 255
    assert f"{host.cgroup} is hooked by another udpgrm daemon" in second.stderr
    assert f"whose pins are in {host.directory}:" in second.stderr
    assert not other.exists()
    with grm.bind(ADDRESS)[0] as sock:
        assert grm.enroll([sock], 1) == [0]


def test_install_later(bare_host: Host) -> None:
    """Attach what a daemon has pinned with --install alone; fail without a daemon."""
    alone = bare_host.run(f"--install={bare_host.cgroup}")
    assert alone.returncode == 255
    assert len(alone.stderr.splitlines()) == 2  # the step, and why it failed
    bare_host.start(install=False)
    assert bare_host.json("list")["cgroups"] == []
    for _ in range(2):  # the second time there is nothing left to do
        assert bare_host.run(f"--install={bare_host.cgroup}").returncode == 0
    assert bare_host.json("list")["cgroups"] == [str(bare_host.cgroup)]
    with grm.bind(ADDRESS)[0] as sock:
        assert grm.enroll([sock], 1) == [0]


def test_without_sendmsg(bare_host: Host) -> None:
    bare_host.start("--without-sendmsg")
    with grm.bind(ADDRESS)[0] as sock, client() as peer:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        peer.sendto(b"hi", TARGET)
        answer([sock], 1)
        assert "tx_total" not in bare_host.counters(ADDRESS)


def test_wrong_cgroup_leaves_nothing(bare_host: Host, tmp_path: Path) -> None:
    failed = bare_host.run("--daemon", f"--install={tmp_path}")
    assert failed.returncode == 255
    assert failed.stderr == f"udpgrm: {tmp_path} is not a cgroup2 directory\n"
    assert not bare_host.directory.exists()


def test_unreadable_config_leaves_nothing(bare_host: Host, tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text("[limits]\ngroups = many\n")
    failed = bare_host.run("--daemon", f"--config={config}")
    assert failed.returncode == 255
    assert failed.stderr.startswith(f"udpgrm: {config}: limits.groups: 'many'")
    assert not bare_host.directory.exists()


def test_sd_notify(bare_host: Host, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            bare_host.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        manager.settimeout(PATIENCE_S)
        assert manager.recv(100) == b"READY=1"


def test_a_service_manager_that_is_gone(
    bare_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    bare_host.start()
    assert bare_host.json("list")["groups"] == []
    assert bare_host.kill(signal.SIGTERM) == 0
    assert "cannot notify the service manager (READY=1)" in bare_host.errors.read_text()


def test_started_while_another_ends(bare_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock the directory again if an ending daemon removed it after it was made or locked."""
    directory, lock = bare_host.directory, state.lock
    ends = iter([True, True])

    def removed(where: Path) -> Optional[int]:
        if next(ends, False):
            held = lock(where)
            where.rmdir()
            return held
        return lock(where)

    monkeypatch.setattr(state, "lock", removed)
    held = pins.lock(directory)
    assert held is not None
    assert os.path.samestat(os.fstat(held), os.stat(directory))
    os.close(held)


class Traffic(threading.Thread):
    """Long-lived flows and new ones, against servers in this process."""

    def __init__(self, flows: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self.flows = flows
        self.stopping = threading.Event()
        self.sent = self.answered = 0
        self.moved: list[tuple[bytes, bytes]] = []

    def run(self) -> None:
        home = {sock: self.exchange(sock) for sock in self.flows}
        while not self.stopping.is_set():
            for sock in self.flows:
                now = self.exchange(sock)
                if now != home[sock]:
                    self.moved.append((home[sock], now))
            with client() as sock:
                self.exchange(sock)

    def exchange(self, sock: socket.socket) -> bytes:
        self.sent += 1
        sock.settimeout(PATIENCE_S)
        sock.sendto(b"hi", TARGET)
        data = sock.recv(100)
        self.answered += 1
        return data


class Echo(threading.Thread):
    """Answers with the name of the socket."""

    def __init__(self, sockets: dict[socket.socket, bytes]) -> None:
        super().__init__(daemon=True)
        self.sockets = sockets
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            for sock in select.select(list(self.sockets), [], [], 0.05)[0]:
                _, peer = sock.recvfrom(100)
                sock.sendto(self.sockets[sock], peer)


def test_killed_under_traffic(bare_host: Host) -> None:
    """Lose no packet, move no flow; the next daemon adopts everything."""
    bare_host.start("--persist")
    old, new = grm.bind(ADDRESS, 2), grm.bind(ADDRESS, 2)
    grm.enroll(old, 1)
    grm.promote(old[0], 1)
    flows = [client() for _ in range(30)]
    echo = Echo({**dict.fromkeys(old, b"old"), **dict.fromkeys(new, b"new")})
    traffic = Traffic(flows)
    echo.start()
    traffic.start()
    try:
        wait_for(lambda: traffic.answered > 200, "traffic")
        grm.enroll(new, 2)
        grm.promote(new[0], 2)
        time.sleep(0.2)
        before = bare_host.group(ADDRESS)
        for _ in range(3):
            bare_host.kill()
            time.sleep(0.2)
            # asked for while no daemon runs
            late = grm.bind(ADDRESS)[0]
            late.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (2).to_bytes(4, sys.byteorder))
            echo.sockets[late] = b"new"
            assert grm.socket_generation(late).index is None
            bare_host.start("--persist")
            wait_for_index(late)
        wait_for(lambda: traffic.answered > 500, "more traffic")
    finally:
        traffic.stopping.set()
        traffic.join(PATIENCE_S)
        echo.stopping.set()
        echo.join(PATIENCE_S)
    assert traffic.sent == traffic.answered
    assert traffic.moved == []
    after = bare_host.group(ADDRESS)
    assert after["applications"] == before["applications"]
    for name, value in before["metrics"].items():
        assert after["metrics"][name] >= value
    assert "rx_new_flow_working_gen_dispatch_error" not in bare_host.counters(ADDRESS)
    one, two = after["generations"]
    assert [one["generation"], two["generation"]] == [1, 2]
    assert one["sockets"] == before["generations"][0]["sockets"]
    assert two["sockets"][:2] == before["generations"][1]["sockets"]
    assert [item["index"] for item in two["sockets"]] == [0, 1, 2, 3, 4]
    assert one["flows"] >= 30
    for sock in [*flows, *echo.sockets]:
        sock.close()


def test_adoption_after_a_generation_ended(bare_host: Host) -> None:
    """Use the table of the ended generation again, and no table of the living one."""
    bare_host.start("--persist")
    first = spawn_owner(1)
    with grm.bind(ADDRESS)[0] as old, client() as peer:
        grm.enroll([old], 2)
        grm.promote(old, 2)
        peer.sendto(b"hi", TARGET)
        answer([old], 1)
        first.communicate(b"")
        wait_for(lambda: len(bare_host.group(ADDRESS)["generations"]) == 1, "the end of 1")
        bare_host.kill()
        bare_host.start("--persist")
        with grm.bind(ADDRESS)[0] as new:
            grm.enroll([new], 3)
            grm.promote(new, 3)
            peer.sendto(b"hi", TARGET)
            assert answer([old, new], 1) == [0]
            assert bare_host.group(ADDRESS)["generations"][0]["flows"] == 1


def test_ordinary_directory_is_left_alone(bare_host: Host, tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("mine")
    failed = bare_host.run("--daemon", f"--pin-dir={tmp_path / 'pins'}")
    assert failed.returncode == 255
    assert "mount -t bpf" in failed.stderr
    assert not (tmp_path / "pins").exists()
    failed = bare_host.run("--daemon", f"--pin-dir={tmp_path}")
    assert failed.returncode == 255
    assert (tmp_path / "groups").read_text() == "mine"


def test_signal_while_starting(bare_host: Host) -> None:
    for delay in (0.05, 0.15, 0.25):
        daemon = subprocess.Popen(
            [*COMMAND, "--daemon", f"-p{bare_host.directory}", f"-i{bare_host.cgroup}"],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) in (
            0,
            -signal.SIGTERM,
        )  # the interpreter itself may be starting
        assert not bare_host.directory.exists()


def test_events_without_a_reader(bare_host: Host) -> None:
    os.close(bare_host.start_unread())
    with grm.bind(ADDRESS)[0] as sock:
        assert grm.enroll([sock], 1) == [0]
    assert bare_host.kill(signal.SIGTERM) == 0


def test_clean_stop_with_persist_keeps_steering(bare_host: Host) -> None:
    bare_host.start("--persist")
    with grm.bind(ADDRESS)[0] as old, client() as peer:
        grm.enroll([old], 1)
        grm.promote(old, 1)
        peer.sendto(b"hi", TARGET)
        answer([old], 1)
        assert bare_host.kill(signal.SIGTERM) == 0
        view = bare_host.json("list")
        assert view["daemon"] == {"running": False, "pid": None}
        assert len(view["groups"]) == 1
        peer.sendto(b"hi", TARGET)
        answer([old], 1)
        assert bare_host.counters(ADDRESS)["rx_flow_ok"] == 1
        bare_host.start("--persist")
        assert grm.enroll([old], 2) == [0]


def test_force_replaces_a_running_daemon(host: Host) -> None:
    first = host.process
    with grm.bind(ADDRESS)[0] as old:
        grm.enroll([old], 1)
        host.start("--force")
        first.terminate()
        assert first.wait(PATIENCE_S) == 0
        assert host.json("list")["daemon"]["pid"] == host.process.pid
        with grm.bind("127.0.0.1:4434")[0] as sock:
            assert grm.enroll([sock], 1) == [0]


def spawn_owner(generation: int, address: str = ADDRESS) -> subprocess.Popen[bytes]:
    """Another process with one registered socket; its stdin ends it."""
    code = (
        "import sys, udpgrm.client as grm\n"
        f"s = grm.bind({address!r})\n"
        f"grm.enroll(s, {generation}, {PATIENCE_S}); grm.promote(s[0], {generation})\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_ended_generations_and_groups_are_collected(host: Host) -> None:
    """Delete generations as soon as their process ends."""
    first, second = spawn_owner(1), spawn_owner(2)
    assert [item["generation"] for item in host.group(ADDRESS)["generations"]] == [1, 2]
    first.communicate(b"")
    wait_for(lambda: len(host.group(ADDRESS)["generations"]) == 1, "the generation's end")
    second.communicate(b"")
    # the group goes in the second round that finds no socket; other ends make rounds
    for number in range(2):
        other = spawn_owner(number, "127.0.0.1:4434")
        other.communicate(b"")
    wait_for(lambda: not host.json("list", ADDRESS)["groups"], "the group's end")
    with grm.bind(ADDRESS)[0] as sock:
        assert grm.working_generation(sock) == 0


def test_process_that_dies_before_it_is_served(host: Host) -> None:
    with host.stopped():
        sock = grm.bind(ADDRESS)[0]
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, sys.byteorder))
        sock.close()
    wait_for(lambda: "was closed before" in host.errors.read_text(), "the daemon's word")
    with grm.bind(ADDRESS)[0] as sock:
        assert grm.enroll([sock], 1) == [0]


def test_socket_handed_to_another_process(host: Host) -> None:
    """Register a socket whose descriptor is gone from the caller when the daemon looks for it."""
    with host.stopped():
        sock = grm.bind(ADDRESS)[0]
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, (1).to_bytes(4, sys.byteorder))
        moved = socket.socket(fileno=os.dup(sock.fileno()))
        sock.close()
    wait_for_index(moved)
    moved.close()


def test_deleted_group(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock, client() as peer:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        assert host.run("delete", ADDRESS).returncode == 0
        assert host.json("list")["groups"] == []
        assert grm.working_generation(sock) is None
        peer.sendto(b"hi", TARGET)
        assert len(received([sock])) == 1, "a deleted group still delivers"
        assert grm.enroll([sock], 2) == [0]
        assert grm.working_generation(sock) == 0
        again = host.run("delete", "127.0.0.1:9")
        assert again.returncode == 255
        assert len(again.stderr.splitlines()) == 1
