# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets on their way to a tubular that hangs."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import pytest

from testing.waiting import PATIENCE_S
from udpgrm.daemon import tubular

MOST = 64


def register(handing: tubular.Tubular, group_id: int) -> bool:
    """Have a socket of a group handed on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        handing.hold(group_id, 0, sock.fileno())
    return handing.register(group_id, 1, 0, "edge")


def test_a_bounded_number_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tubular, "_TIMEOUT_S", PATIENCE_S)  # tubular hangs until the test ends
    path = str(tmp_path / "tubular")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        handing = tubular.Tubular(path)
        before = len(os.listdir("/proc/self/fd"))
        answers = [register(handing, number) for number in range(MOST + 20)]
        taken = sum(answers)
        assert taken in (MOST, MOST + 1)  # one of them may be on its way
        assert len(os.listdir("/proc/self/fd")) <= before + taken + 1  # refused ones are closed
    assert select.select([handing], [], [], PATIENCE_S)[0]
    assert next(handing.failed()) == (0, 1)


def test_a_failure_is_reported_once(tmp_path: Path) -> None:
    handing = tubular.Tubular(str(tmp_path / "nothing listens"))
    for number in (1, 2):
        assert register(handing, number)
    failed: list[tuple[int, int]] = []
    while len(failed) < 2:
        assert select.select([handing], [], [], PATIENCE_S)[0]
        failed += handing.failed()
    assert failed == [(1, 1), (2, 1)]
    assert not list(handing.failed())  # it may be readable once more, for what was reported
