# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from udpgrm.cli import common, options
from udpgrm.state import maps as state


@pytest.mark.parametrize(("written", "found"), [(0, None), (412, 412)])
def test_a_daemon_that_starts_has_no_pid_yet(
    tmp_path: Path, written: int, found: Optional[int]
) -> None:
    """Report no pid of a daemon that has the lock, but has not written its pid.

    The daemon locks before it writes the pid, and removes the pid before it unlocks.
    """
    held = state.lock(tmp_path)
    assert held is not None
    maps: Any = SimpleNamespace(config=SimpleNamespace(pid=written))
    arguments = options.parse(["list", f"--pin-dir={tmp_path}"])
    try:
        assert common.daemon_pid(arguments, maps) == found
    finally:
        os.close(held)
