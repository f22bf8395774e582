# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The log of errors that come again and again."""

from __future__ import annotations

import errno
import os

import pytest

from udpgrm import log
from udpgrm.daemon import errors


def no_memory(what: str) -> OSError:
    return OSError(errno.ENOMEM, f"{what}: {os.strerror(errno.ENOMEM)}")


def test_errors_of_the_machine_are_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = [5.0]
    monkeypatch.setattr(log, "problem", lines.append)
    monkeypatch.setattr("udpgrm.daemon.errors.time.monotonic", lambda: now[0])
    logged = errors.Errors()
    for _ in range(3):
        logged.report(no_memory("map"))
        logged.report(no_memory("program"), "cannot look for sockets now")
    assert lines == [
        "OSError: map: Cannot allocate memory (what waits for it is tried again)",
        "cannot look for sockets now: program: Cannot allocate memory "
        "(what waits for it is tried again)",
    ]
    now[0] += 60
    logged.report(no_memory("map"))
    assert lines[2:] == [
        "OSError: map: Cannot allocate memory "
        "(what waits for it is tried again, 2 times since this was logged)"
    ]


def test_other_errors_are_always_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "problem", lines.append)
    for _ in range(2):
        errors.Errors().report(LookupError("all entries are taken"))
    assert lines == ["LookupError: all entries are taken"] * 2


def test_different_errors_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "problem", lambda _: None)
    logged = errors.Errors()
    for number in range(1000):
        logged.report(no_memory(str(number)))
    assert len(logged._logged) <= 64
