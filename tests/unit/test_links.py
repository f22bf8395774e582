# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Links that a user has put where root writes: fs.protected_symlinks may be 0. None is followed."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from udpgrm.cli import prometheus
from udpgrm.restart import journal
from udpgrm.restart.journal import Journal


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("root's")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(path))
    return path


@pytest.mark.parametrize("name", ["udpgrm.prom", ".udpgrm.prom.new"])
def test_metrics(victim: Path, place: Path, name: str) -> None:
    (place / name).symlink_to(victim)
    prometheus.write(place / "udpgrm.prom", "metrics\n")
    assert victim.read_text() == "root's"
    assert (place / "udpgrm.prom").read_text() == "metrics\n"
    assert not (place / "udpgrm.prom").is_symlink()


@pytest.mark.parametrize("name", ["edge.json", "edge.json.new"])
def test_journal(victim: Path, place: Path, name: str) -> None:
    (place / name).symlink_to(victim)
    Journal(journal.path_of("edge"), "edge", "groups: []\n", 1.5).save()
    assert victim.read_text() == "root's"
    assert json.loads((place / "edge.json").read_text())["service"] == "edge"


def test_lock(victim: Path, place: Path) -> None:
    (place / "edge.lock").symlink_to(victim)
    with pytest.raises(OSError) as refused, journal.locked("edge"):
        pass
    assert refused.value.errno == errno.ELOOP
    assert victim.read_text() == "root's"
