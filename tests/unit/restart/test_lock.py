# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the lock on a service, against other users and killed processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.waiting import PATIENCE_S
from udpgrm.restart import lock
from udpgrm.restart.host import Host


def test_other_users_cannot_keep_a_service_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let no other user read the lock files, which is all that flock(2) needs."""
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    umask = os.umask(0)
    try:
        with lock.beginning("edge"), lock.locked("edge"):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(umask)
    assert modes == {"edge.begin": 0o600, "edge.lock": 0o600}


def test_was_killed() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert not Host().was_killed(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Host().was_killed(process.pid)
    assert not Host().was_killed(process.pid)


def _locks() -> None:
    with lock.locked("edge"):
        pass


@pytest.mark.parametrize("waits", [_locks, lambda: lock.lasting(["edge"])])
def test_a_killed_process_that_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: Callable[[], Any]
) -> None:
    """Wait for a killed process, which holds its lock until a write to the disk is done."""
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(lock, "_LOOK_S", 0.0)
    asked, held = threading.Event(), threading.Event()

    def was_killed(_: Host, pid: int) -> bool:
        asked.set()
        return pid == os.getpid()

    def hold() -> None:
        with lock.locked("edge"):
            held.set()
            asked.wait(PATIENCE_S)

    monkeypatch.setattr(Host, "was_killed", was_killed)
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE_S)
    assert not waits()
    holder.join()
    assert asked.is_set()
