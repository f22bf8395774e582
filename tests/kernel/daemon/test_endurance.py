# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Expose the daemon to a long life: huge processes, unknown messages, other layouts."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host, wait_for
from testing.waiting import PATIENCE_S
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state import maps as state

WHERE = "127.0.0.1:4433"
MANY = 16_000


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 2000, max(before[1], MANY + 2000)))
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(MANY)]
    yield
    for fd in fds:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_process_with_16_000_descriptors(host: Host, many_descriptors: None) -> None:
    sockets = grm.bind(WHERE, 2)
    assert grm.enroll(sockets, 1) == [0, 1]
    # the hint is wrong: the number in the first argument is another file by then
    with host.stopped():
        moved = grm.bind(WHERE)[0]
        moved.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 1)
        elsewhere = socket.socket(fileno=os.dup(moved.fileno()))
        moved.close()
    wait_for(lambda: grm.socket_generation(elsewhere).index == 2, "the search")
    for sock in (*sockets, elsewhere):
        sock.close()


def test_a_limit_of_descriptors_of_the_daemon_itself(host: Host) -> None:
    """Hold no descriptor for a group, so that there can be more groups than the limit."""
    before = open_descriptors(host)
    made = []
    for number in range(60):
        made += grm.bind(f"127.0.0.1:{10_000 + number}")
        grm.enroll(made[-1:], 1)
    grm.enroll(made[:1], 2)
    wait_for(lambda: open_descriptors(host) == before, "the descriptors of before")
    for sock in made:
        sock.close()


def open_descriptors(host: Host) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def test_messages_that_make_no_sense(bare_host: Host) -> None:
    """Survive messages of another version's hooks, or of a damaged map."""
    bare_host.start("--persist")
    sock = grm.bind(WHERE)[0]
    grm.enroll([sock], 1)
    bare_host.kill()
    maps = state.open_pinned(bare_host.directory)
    for number, message in enumerate(
        (
            abi.Message(flags=0xFFFFFFFF, group_id=0xFFFFFFFF, cookie=1),
            abi.Message(flags=3, group_id=0, epoch=99, pid=1, fd=-1, cookie=2),
            abi.Message(
                flags=3, group_id=0, epoch=maps.group(0).epoch, pid=2**31, app=77, cookie=3
            ),
            abi.Message(flags=7, group_id=0, epoch=maps.group(0).epoch, uid=2**32 - 1, cookie=4),
        )
    ):
        key = number.to_bytes(layout.DEFERRED_KEY_BYTES, "little")
        libbpf.map_update(maps["deferred"], key, bytes(message))
    maps.close()
    bare_host.start("--persist")
    assert grm.enroll([sock], 2) == [0]
    assert bare_host.process.poll() is None
    sock.close()


def test_another_layout_is_refused_and_kept(bare_host: Host) -> None:
    bare_host.start("--persist")
    bare_host.kill()
    maps = state.open_pinned(bare_host.directory)
    config = maps.config
    config.layout += 1
    maps.write_config(config)
    maps.close()
    before = sorted(path.name for path in bare_host.directory.iterdir())
    done = bare_host.run("--daemon", f"--install={bare_host.cgroup}")
    assert done.returncode == 255
    complaint = done.stderr.splitlines()[-1]
    assert f"have layout {config.layout}, this version knows {abi.LAYOUT}" in complaint
    assert "run the version that made them, or remove the directory" in complaint
    assert sorted(path.name for path in bare_host.directory.iterdir()) == before
    assert bare_host.run("list").returncode == 255


def test_a_config_record_of_any_content(bare_host: Host) -> None:
    """Print one line on a damaged config record, which commands read first."""
    bare_host.start("--persist")
    bare_host.kill()
    fd = libbpf.pinned(str(bare_host.directory / "config"))
    libbpf.map_update(fd, state.index(0), b"\xff" * ctypes.sizeof(layout.Config))
    os.close(fd)
    done = bare_host.run("list")
    assert (done.returncode, len(done.stderr.splitlines())) == (255, 1)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_a_parent_leaves(bare_host: Host, closed: str) -> None:
    """Start with closed streams and blocked signals, write to no other file, and stop."""
    options = ["--daemon", f"-p{bare_host.directory}", f"-i{bare_host.cgroup}"]
    inherited = (signal.SIGINT, signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, inherited)
    try:
        daemon = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        wait_for(lambda: bare_host.json("list")["cgroups"], "the hooks")
        with grm.bind(WHERE)[0] as sock:
            grm.enroll([sock], 1)
    finally:
        daemon.terminate()
        out, err = daemon.communicate(timeout=PATIENCE_S)
    assert daemon.returncode == 0
    events = [line.split(b" 127")[0] for line in out.splitlines()]
    joined = [b"socket group created", b"socket found"]
    expected = [*joined, b"socket found", b"registering socket"]
    assert events == ([] if closed.startswith(">") or " " in closed else expected)
    assert len(err.splitlines()) == (0 if "2>" in closed else 4)
