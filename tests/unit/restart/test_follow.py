# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Restarts in units, by a systemd that says what tests want."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from testing.waiting import wait_for
from udpgrm.restart import follow, lock, statedir, systemd
from udpgrm.restart.follow import LaunchError
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome, Position, Result, Step


class Seen:
    """States that were shown."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def show(self, journal: dict[str, Any]) -> None:
        self.states.append(journal["state"])


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of this directory come first; nothing is active."""
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path / "restarts"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(follow, "_GRACE_S", 0.3)
    program(tmp_path, "systemctl", "echo inactive")
    return tmp_path


def program(scratch: Path, name: str, body: str) -> None:
    path = scratch / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def make() -> Journal:
    return Journal(statedir.path_of("edge"), "edge", "", time.time())


def test_follow_to_the_end() -> None:
    seen, held = Seen(), threading.Event()

    def work() -> None:
        with lock.locked("edge"):
            journal = make()
            record = journal.begin(Step.DRAIN)
            held.set()
            wait_for(lambda: seen.states, "the drain to be shown")
            journal.end(record, Result.DONE, "", Position(Step.STOP, Outcome.FINISHED))

    worker = threading.Thread(target=work)
    worker.start()
    held.wait()
    last = follow.follow("edge", seen).journal
    worker.join()
    assert last is not None and last.position.outcome is Outcome.FINISHED
    assert seen.states == ["drain", "finished"]


def test_follow_a_restart_that_no_process_runs() -> None:
    journal = make()
    journal.begin(Step.DRAIN)
    begun = time.monotonic()
    assert follow.follow("edge", Seen()).journal == journal
    assert time.monotonic() - begun > 0.2


def test_follow_none() -> None:
    assert follow.follow("edge", Seen()).journal is None


def test_launch(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr("sys.argv", ["/usr/bin/true", "restart", "edge"])
    program(scratch, "systemd-run", f'printf "%s\\n" "$@" >{scratch}/arguments')
    assert follow.launch("edge", ["restart", "edge"]) == "udpgrm-restart-edge.service"
    arguments = (scratch / "arguments").read_text().splitlines()
    assert arguments[:4] == [
        "--quiet",
        "--no-ask-password",
        "--unit=udpgrm-restart-edge.service",
        "--collect",
    ]
    assert "--setenv=SUDO_USER=alice" in arguments
    assert arguments[-2:] == ["restart", "edge"]


def test_launch_fails(scratch: Path) -> None:
    program(scratch, "systemd-run", "echo Failed to start it. >&2; exit 1")
    with pytest.raises(LaunchError, match=r"^Failed to start it\.$"):
        follow.launch("edge", [])


def test_a_drain_that_no_unit_continues(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "runs", lambda: True)
    program(scratch, "systemd-run", "echo Failed to start it. >&2; exit 1")
    with pytest.raises(LaunchError) as failed:
        follow.continue_drain("edge@1", [])
    assert str(failed.value) == (
        "no process continues the drain of edge@1: Failed to start it. "
        "(udpgrm restart edge@1 --resume)"
    )
    with lock.locked("edge@1"):  # of a process that continues it
        follow.continue_drain("edge@1", [])


def test_a_unit_that_ends_at_once(scratch: Path) -> None:
    program(scratch, "journalctl", "echo udpgrm: edge: no unit edge@.service")
    with pytest.raises(LaunchError, match=r"^edge: no unit edge@\.service$"):
        follow.await_begin("edge", "udpgrm-restart-edge.service", None)


def test_a_unit_that_begins() -> None:
    before = make()
    before.save()
    before.begin(Step.START)
    follow.await_begin("edge", "udpgrm-restart-edge.service", make())
