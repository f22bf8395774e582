# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The lock on a pin directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from udpgrm.daemon import directory
from udpgrm.kernel import bpffs
from udpgrm.state import maps as state


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that root alone can have made."""
    monkeypatch.setattr(bpffs, "distrusted", lambda _: None)
    made = tmp_path / "pins"
    made.mkdir(mode=0o700)
    return made


def test_a_command_that_takes_long_to_look(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a daemon wait for a command that a busy machine lets hold the lock for long."""
    command = state.lock(pins, shared=True)
    assert command is not None
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 100:
            os.close(command)

    monkeypatch.setattr(time, "sleep", pause)
    held = directory.lock(pins)
    assert held is not None
    assert len(pauses) == 100
    os.close(held)


def test_another_daemon(pins: Path) -> None:
    other = state.lock(pins)
    assert other is not None
    assert directory.lock(pins) is None
    os.close(other)
    held = directory.lock(pins)
    assert held is not None
    os.close(held)
