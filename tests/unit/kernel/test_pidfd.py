# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Descriptors that the daemon takes from other processes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from testing.waiting import PATIENCE_S
from udpgrm.kernel import descriptors, pidfd, sockopt

MAIN_THREAD_ENDS = """
import ctypes, socket, sys, threading
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def serve():
    print("up", flush=True)
    sys.stdin.read()
threading.Thread(target=serve).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_only_sockets_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take no file, whose close(2) may wait for the server of its file system for ever."""
    taken = []

    def no_cookie(fd: int) -> tuple[int, int]:
        taken.append(stat.S_ISSOCK(os.fstat(fd).st_mode))
        return 0, 0

    monkeypatch.setattr(descriptors, "_cookie", no_cookie)
    with (tmp_path / "file").open("w") as file, socket.socket():
        assert pidfd.socket_at(os.getpid(), file.fileno(), 1) is None
        for _, fd in pidfd.sockets_of(os.getpid()):
            os.close(fd)
    assert taken and all(taken)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise BlockingIOError rather than wait for a failed thread, and start another one."""
    with socket.socket() as sock:
        with monkeypatch.context() as patch:
            patch.setattr(descriptors, "_cookie", mock.Mock(side_effect=MemoryError))
            with pytest.raises(BlockingIOError, match="a thread has failed"):
                pidfd.socket_at(os.getpid(), sock.fileno(), 1)
        fd = pidfd.socket_at(os.getpid(), sock.fileno(), sockopt.cookie(sock))
        assert fd is not None
        os.close(fd)


def _is_new() -> bool:
    fd = descriptors.pidfd_open(os.getpid(), os.O_EXCL)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def test_a_process_whose_main_thread_has_ended() -> None:
    command = [sys.executable, "-c", MAIN_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"up\n"
        while descriptors.state(server.pid) != "Z":
            time.sleep(0.01)
        if _is_new():
            families = []
            for number, cookie, fd in pidfd.numbered_sockets_of(server.pid):
                with socket.socket(fileno=fd) as sock:
                    families.append(sock.family)
                again = pidfd.socket_at(server.pid, number, cookie)
                assert again is not None
                os.close(again)
            assert socket.AF_INET in families
        else:
            with pytest.raises(descriptors.Unreachable, match=r"Linux 6\.9"):
                list(pidfd.sockets_of(server.pid))
        server.kill()


def test_kernels_without_descriptors_of_threads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name Linux 6.9 to an older kernel."""
    plain = descriptors.pidfd_open

    def old(pid: int, flags: int = 0) -> int:
        return plain(pid, flags | 1 << 20 if flags else 0)  # EINVAL

    monkeypatch.setattr(descriptors, "pidfd_open", old)
    command = [sys.executable, "-c", MAIN_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"up\n"
        while descriptors.state(server.pid) != "Z":
            time.sleep(0.01)
        with pytest.raises(descriptors.Unreachable, match=r"main thread .*Linux 6\.9") as caught:
            pidfd.socket_at(server.pid, 3, 1)
        assert caught.value.errno == errno.EINVAL
        server.kill()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let calls hang, as far as one can see, until the yielded event is set."""
    event, plain = threading.Event(), descriptors._take

    def take(*arguments: Any) -> Any:
        event.wait()
        return plain(*arguments)

    monkeypatch.setattr(descriptors, "_take", take)
    monkeypatch.setattr(descriptors, "state", lambda pid, thread=None: "D" if thread else "S")
    yield event
    event.set()
    while descriptors.stuck():
        time.sleep(0.01)


def _open_descriptors() -> Sequence[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_a_call_that_hangs_is_abandoned(hanging: threading.Event) -> None:
    before = _open_descriptors()
    with socket.socket() as sock:
        for attempt in range(3):
            with pytest.raises(descriptors.Unreachable, match="hangs in execve") as caught:
                pidfd.socket_at(os.getpid(), sock.fileno(), 1)
            assert caught.value.errno == errno.EAGAIN
            assert descriptors.stuck() == {os.getpid()}, attempt
        hanging.set()
        while descriptors.stuck():
            time.sleep(0.01)
        assert pidfd.socket_at(os.getpid(), sock.fileno(), 1) is None
    assert _open_descriptors() == before


def test_a_call_that_hangs_for_a_moment_comes_back(hanging: threading.Event) -> None:
    assert not descriptors.have_come_back(0)
    with pytest.raises(descriptors.Unreachable, match="hangs in execve"):
        pidfd.socket_at(os.getpid(), 0, 1)
    assert not descriptors.have_come_back(0)
    threading.Timer(0.1, hanging.set).start()
    assert descriptors.have_come_back(PATIENCE_S)
    assert pidfd.socket_at(os.getpid(), 0, 1) is None


def test_users_cannot_let_any_number_hang(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_MOST_STUCK", 0)
    monkeypatch.setattr(descriptors, "_is_roots", lambda pid: False)
    threads = threading.active_count()
    with pytest.raises(descriptors.Unreachable, match="0 processes hang"):
        list(pidfd.sockets_of(os.getpid()))
    assert threading.active_count() == threads


def test_one_that_is_only_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a thread that waits for its turn on a busy machine."""
    plain = descriptors._take

    def slow(*arguments: Any) -> Any:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return plain(*arguments)

    monkeypatch.setattr(descriptors, "_take", slow)
    with socket.socket() as sock:
        assert pidfd.socket_at(os.getpid(), sock.fileno(), 1) is None


def test_a_missing_right_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "CAP_SYS_PTRACE is missing" in descriptors.lacks_right(_without_rights())
    yama = tmp_path / "ptrace_scope"
    yama.write_text("3\n")
    monkeypatch.setattr(descriptors, "_YAMA", yama)
    assert "Yama" in descriptors.lacks_right()
    yama.write_text("1\n")
    assert descriptors.lacks_right() == ""


def _without_rights() -> int:
    """Start a process without capabilities, and return its pid."""
    child = subprocess.Popen(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "sleep", "60"],
        stdin=subprocess.DEVNULL,
    )
    _children.append(child)
    with contextlib.suppress(OSError):
        while "sleep" not in Path(f"/proc/{child.pid}/comm").read_text():
            time.sleep(0.01)
    return child.pid


_children: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def end_children() -> Iterator[None]:
    yield
    while _children:
        child = _children.pop()
        child.kill()
        child.wait()
