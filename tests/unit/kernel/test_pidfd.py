# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Descriptors that the daemon takes from other processes."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from udpgrm.kernel import pidfd


def test_only_sockets_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """close(2) of a file may wait for whoever serves its file system, for ever."""
    taken = []

    def no_cookie(fd: int) -> int:
        taken.append(stat.S_ISSOCK(os.fstat(fd).st_mode))
        return 0

    monkeypatch.setattr(pidfd, "_cookie", no_cookie)
    with (tmp_path / "file").open("w") as file, socket.socket():
        assert pidfd.socket_at(os.getpid(), file.fileno(), 1) is None
        for _, fd in pidfd.sockets_of(os.getpid()):
            os.close(fd)
    assert taken and all(taken)
