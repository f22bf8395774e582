# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""A run has ended if this control node, and no other of its name, has no such process."""

from __future__ import annotations

import pathlib
import socket

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _run

GONE = f"{2**22 + 1}:3:task"


def test_a_run_of_this_node() -> None:
    assert not _run.has_ended(_run.name("task"))
    assert _run.has_ended(f"{_run.node()}:{GONE}")


def test_a_run_of_another_node_with_the_same_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not _run.has_ended(f"{socket.gethostname()}:{GONE}")
    here = _run.node()
    other = tmp_path / "machine-id"
    other.write_text("another machine\n")
    monkeypatch.setattr(_run, "_MACHINE_ID", other)
    assert not _run.has_ended(f"{here}:{GONE}")
    monkeypatch.setattr(_run, "_MACHINE_ID", tmp_path / "none")
    assert not _run.has_ended(f"{here}:{GONE}")
    assert _run.has_ended(f"{_run.node()}:{GONE}")
