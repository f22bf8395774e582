# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Refused programs of servers in the log: users decide how often they try."""

from __future__ import annotations

import os

import pytest

from udpgrm import abi, log
from udpgrm.daemon.foreign import Foreign
from udpgrm.kernel import sockopt


def refused(foreign: Foreign, pid: int, epoch: int = 1) -> None:
    message = abi.Message(
        group_id=3,
        epoch=epoch,
        pid=pid,
        ns_pid=pid,
        generation=sockopt.SO_ATTACH_REUSEPORT_CBPF,
    )
    foreign.refused(message, abi.Group())


def processes(lines: list[str]) -> list[str]:
    return [line.partition("of process ")[2].split()[0] for line in lines]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the logged problems."""
    logged: list[str] = []
    monkeypatch.setattr(log, "problem", lambda text, *_: logged.append(text))
    return logged


def test_each_process_is_named_once(lines: list[str]) -> None:
    """Name two processes once each that try in turns, as all instances of a server do."""
    foreign = Foreign()
    for _ in range(100):
        for pid in (7, 8):
            refused(foreign, pid)
    assert processes(lines) == ["7", "8"]
    refused(foreign, 7, epoch=2)  # another group
    assert processes(lines) == ["7", "8", "7"]


def test_many_processes_do_not_fill_the_log(lines: list[str]) -> None:
    foreign = Foreign()
    for pid in range(1_000_000, 1_000_500):
        refused(foreign, pid)
    assert len(lines) == 16
    assert "further processes are not logged" in lines[-1]
    assert "not logged" not in lines[-2]


def test_the_daemon_is_no_server(lines: list[str]) -> None:
    refused(Foreign(), os.getpid())
    assert lines == []
    refused(Foreign(), os.getppid())
    assert processes(lines) == [str(os.getppid())]
