# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm hooks: cgroups get and lose their hooks while the daemon runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from tests.kernel.support import Host
from udpgrm.build import sources
from udpgrm.kernel import cgroups


@pytest.fixture
def child(cgroup: Path) -> Iterator[Path]:
    """Another cgroup, below the one of the tests."""
    path = cgroup / "child"
    path.mkdir()
    yield path
    path.rmdir()


def test_add_and_remove(host: Host, child: Path) -> None:
    assert host.json("hooks", "list")["cgroups"] == [str(host.cgroup)]
    would = host.json("hooks", "add", str(child), "--check")
    assert would == {"schema": 1, "cgroup": str(child), "changed": True}
    assert host.json("hooks", "list")["cgroups"] == [str(host.cgroup)]
    assert host.json("hooks", "add", str(child))["changed"] is True
    assert host.json("hooks", "list")["cgroups"] == [str(host.cgroup), str(child)]
    assert host.json("hooks", "add", str(child))["changed"] is False
    assert host.json("hooks", "remove", str(child))["changed"] is True
    assert host.json("hooks", "remove", str(child))["changed"] is False


def test_links_go_with_their_cgroup(host: Host, cgroup: Path) -> None:
    before = set((host.directory / "links").iterdir())
    for number in range(2):  # a service manager makes one anew at each start
        path = cgroup / f"start{number}"
        path.mkdir()
        assert host.json("hooks", "add", str(path))["changed"] is True
        path.rmdir()
    assert len(set((host.directory / "links").iterdir()) - before) == len(sources.HOOKS)


def test_what_is_missing_is_added(host: Host, child: Path) -> None:
    assert host.json("hooks", "add", str(child))["changed"] is True
    identity = cgroups.identity(child)
    (host.directory / "links" / f"{identity}-sendmsg4").unlink()
    assert host.json("hooks", "add", str(child))["changed"] is True
    assert (host.directory / "links" / f"{identity}-sendmsg4").exists()
    assert host.json("hooks", "add", str(child))["changed"] is False


def test_removed_hooks_are_gone(host: Host) -> None:
    assert host.run("hooks", "remove", str(host.cgroup)).returncode == 0
    with pytest.raises(grm.NotHooked, match="no udpgrm hooks"):
        grm.bind("127.0.0.1:4433")
    assert host.run("hooks", "list").stdout == ""


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["hooks"], "an operand is missing"),
        (["hooks", "drop", "/"], "'drop' is none of list, add, remove"),
        (["hooks", "add"], "an operand is missing"),
        (["hooks", "add", "/nowhere"], "/nowhere is not a cgroup2 directory"),
        (["hooks", "list", "/"], "unexpected '/'"),
    ],
)
def test_misuse(host: Host, words: list[str], complaint: str) -> None:
    done = host.run(*words)
    assert (done.returncode, complaint in done.stderr) == (255, True), done.stderr
