# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Who can lock a service."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from udpgrm.restart import lock


def test_other_users_cannot_keep_a_service_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flock(2) needs no more than a file that may be read."""
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    umask = os.umask(0)
    try:
        with lock.beginning("edge"), lock.locked("edge"):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(umask)
    assert modes == {"edge.begin": 0o600, "edge.lock": 0o600}
