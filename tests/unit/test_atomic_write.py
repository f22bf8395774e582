# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Files are replaced in one step, and drafts of killed writers do not stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from testing.host import ROOT
from udpgrm import atomic_write

#: Is killed when its draft is complete, and has no other name yet.
_KILLED = """
import os, signal, sys
from pathlib import Path
from udpgrm import atomic_write
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
atomic_write.replace(Path(sys.argv[1]), b"half")
"""


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Be a process that has written nothing yet."""
    atomic_write._remove_drafts.cache_clear()


def kill_a_writer(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_next_writer_removes_a_killed_ones_draft(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_bytes(b"before")
    kill_a_writer(path)
    assert path.read_bytes() == b"before"
    assert len(os.listdir(tmp_path)) == 2
    atomic_write.replace(path, b"after", 0o600)
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["edge.yaml"]


def test_drafts_of_others_stay(tmp_path: Path) -> None:
    """Keep the draft of another living writer, and hidden files that are no drafts."""
    others = [f".edge.yaml.udpgrm-{os.getppid()}", ".edge.yaml.99999999", "edge.udpgrm-99999999"]
    for name in others:
        (tmp_path / name).touch()
    atomic_write.replace(tmp_path / "edge.yaml", b"after")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "edge.yaml"])


def test_drafts_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for drafts once, whatever the number of files that a process writes."""
    listdir = mock.Mock(wraps=os.listdir)
    monkeypatch.setattr(os, "listdir", listdir)
    for name in ("a", "b"):
        atomic_write.replace(tmp_path / name, b"after")
    listdir.assert_called_once_with(tmp_path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write.replace(tmp_path / "directory", b"after")
    assert os.listdir(tmp_path) == ["directory"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_replaced_and_not_followed(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    """Replace links of the user who owns the directory, whatever fs.protected_symlinks says."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o600)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    link(secret, theirs / "udpgrm.prom")
    link(secret, theirs / f".udpgrm.prom.udpgrm-{os.getpid()}")
    atomic_write.replace(theirs / "udpgrm.prom", b"metrics")
    assert (secret.read_bytes(), secret.stat().st_mode & 0o777) == (b"secret", 0o600)
    assert secret.stat().st_nlink == 1
    assert not (theirs / "udpgrm.prom").is_symlink()
    assert (theirs / "udpgrm.prom").read_bytes() == b"metrics"
    assert os.listdir(theirs) == ["udpgrm.prom"]
