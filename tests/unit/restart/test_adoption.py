# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of processes that are in execve(2), which takes its time on a busy host."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import time
from collections.abc import Iterator

import pytest

from udpgrm.kernel import pidfd
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.restart import adoption

NEVER = 0.0


def hang(monkeypatch: pytest.MonkeyPatch, times: int, number: int = errno.EAGAIN) -> None:
    """Let the first looks at a process find it in execve(2), or unreachable for another reason."""
    real, looks = pidfd.sockets_of, itertools.count()

    def sockets_of(pid: int) -> Iterator[tuple[int, int]]:
        if next(looks) < times:
            raise Unreachable(number, "no")
        return real(pid)

    monkeypatch.setattr(pidfd, "sockets_of", sockets_of)


def bound(deadline: float) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{sock.getsockname()[1]}"
        with contextlib.ExitStack() as stack:
            found = adoption.bound_sockets([os.getpid()], where, deadline)
            for _, duplicate in found:
                stack.enter_context(duplicate)
            return len(found)


def test_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hang(monkeypatch, 3)
    assert bound(time.monotonic() + 100) == 1


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    hang(monkeypatch, 3)
    with pytest.raises(Unreachable):
        bound(NEVER)


def test_no_other_reason_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hang(monkeypatch, 3, errno.EPERM)
    with pytest.raises(Unreachable):
        bound(time.monotonic() + 100)
