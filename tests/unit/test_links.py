# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Links that a user has put where root writes: fs.protected_symlinks may be 0. None is followed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from udpgrm.build import cache
from udpgrm.build.sources import HOOKS
from udpgrm.cli import prometheus
from udpgrm.kernel import trust
from udpgrm.restart import former, journal, lock, statedir
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


@pytest.mark.parametrize(
    "name", ["udpgrm.prom", f".udpgrm.prom.{os.getpid()}"], ids=["file", "draft"]
)
def test_metrics(victim: Path, place: Path, name: str) -> None:
    (place / name).symlink_to(victim)
    prometheus.write(place / "udpgrm.prom", "metrics\n")
    assert victim.read_text() == "root's"
    assert (place / "udpgrm.prom").read_text() == "metrics\n"
    assert not (place / "udpgrm.prom").is_symlink()


@pytest.mark.parametrize("name", ["edge.json", "edge.json.new"])
def test_journal(victim: Path, place: Path, name: str) -> None:
    (place / name).symlink_to(victim)
    Journal(statedir.path_of("edge"), "edge", "groups: []\n", 1.5).save()
    assert victim.read_text() == "root's"
    assert json.loads((place / "edge.json").read_text())["service"] == "edge"


def test_lock(victim: Path, place: Path) -> None:
    (place / "edge.lock").symlink_to(victim)
    with pytest.raises(OSError) as refused, lock.locked("edge"):
        pass
    assert refused.value.errno == errno.ELOOP
    assert victim.read_text() == "root's"


def test_former_unit(victim: Path, place: Path) -> None:
    for name in ("edge.unit", "edge.unit.new"):
        (place / name).symlink_to(victim)
    former.save("edge", former.Former(3, "old.service"))
    assert victim.read_text() == "root's"
    assert former.load("edge") == former.Former(3, "old.service")


USER = 1234


@pytest.fixture
def users_link(tmp_path: Path, place: Path) -> Path:
    """Return a symbolic link of a user, in a directory that every user may write to."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "link"
    link.symlink_to(place)
    os.lchown(link, USER, USER)
    return link


def test_a_directory_of_roots(tmp_path: Path, place: Path, users_link: Path) -> None:
    assert trust.distrusted(place) is None
    mine = tmp_path / "mine"
    mine.symlink_to(place)
    assert trust.distrusted(mine) is None
    private = users_link.parent / "private"
    private.mkdir()
    assert trust.distrusted(private) is None  # a sticky bit keeps it


def test_directories_that_others_can_change(tmp_path: Path, place: Path, users_link: Path) -> None:
    below = place / "below"
    below.mkdir()
    assert trust.distrusted(users_link) == (
        f"{users_link} is a symbolic link of uid {USER}: remove it"
    )
    assert trust.distrusted(users_link / "below") == trust.distrusted(users_link)
    assert "is writable by others than root: name a directory" in str(
        trust.distrusted(users_link.parent)
    )
    for mode in (0o775, 0o757):
        place.chmod(mode)
        for path in (place, below, tmp_path / "place/../place/below"):
            assert trust.distrusted(path) == (
                f"{place} is writable by others than root: chmod go-w {place}"
            )
    place.chmod(0o755)
    os.chown(place, USER, USER)
    for path in (place, below):
        assert f"{place} belongs to uid {USER}: " in str(trust.distrusted(path))
    again = tmp_path / "again"
    again.symlink_to(again)
    with pytest.raises(OSError, match="symbolic links"):
        trust.distrusted(again)


def test_a_state_directory_of_a_user(place: Path) -> None:
    os.chown(place, USER, USER)
    reason = f"cannot use the state directory {place}: {place} belongs to uid {USER}"
    for use in (journal.load, lambda name: lock.locked(name).__enter__()):
        with pytest.raises(statedir.JournalError, match=reason):
            use("edge")
    assert not list(place.iterdir())


def test_a_cache_directory_of_a_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse another user's cache directory: templates in it become programs of the kernel."""
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(place))
    program = HOOKS[0].program
    (place / cache._file_name(program)).write_bytes(b"")
    assert cache.template(program) == b""
    os.chown(place, USER, USER)
    reason = f"cannot use the cache directory {place}: {place} belongs to uid {USER}"
    with pytest.raises(cache.Unavailable, match=reason):
        cache.template(program)
    (place / cache._file_name(program)).unlink()
    with pytest.raises(cache.Unavailable, match=reason):
        cache.compile_missing([program])
    assert not list(place.iterdir())
