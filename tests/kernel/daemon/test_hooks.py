# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm hooks: cgroups get and lose their hooks while the daemon runs."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host
from testing.waiting import PATIENCE_S
from udpgrm.build import sources
from udpgrm.kernel import cgroups, libbpf


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
    line = host.run("hooks", "add", str(child), "--check").stdout
    assert line == f"{child}: hooked (not done: --check)\n"
    assert would == {"schema": 1, "cgroup": str(child), "changed": True}
    assert host.json("hooks", "list")["cgroups"] == [str(host.cgroup)]
    assert host.json("hooks", "add", str(child))["changed"] is True
    assert host.json("hooks", "list")["cgroups"] == [str(host.cgroup), str(child)]
    assert host.json("hooks", "add", str(child))["changed"] is False
    assert host.json("hooks", "remove", str(child))["changed"] is True
    assert host.json("hooks", "remove", str(child))["changed"] is False


def test_links_go_with_their_cgroup(host: Host, cgroup: Path) -> None:
    before = set((host.directory / "links").iterdir())
    for number in range(2):  # a service manager makes one again at each start
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
    "arguments, complaint",
    [
        (["hooks"], "an operand is missing"),
        (["hooks", "drop", "/"], "'drop' is none of list, add, remove"),
        (["hooks", "add"], "an operand is missing"),
        (["hooks", "add", "/nowhere"], "/nowhere is not a cgroup2 directory"),
        (["hooks", "list", "/"], "unexpected '/'"),
    ],
)
def test_misuse(host: Host, arguments: list[str], complaint: str) -> None:
    done = host.run(*arguments)
    assert (done.returncode, complaint in done.stderr) == (255, True), done.stderr


EXCLUSIVE, OVERRIDABLE, MULTI = range(3)  # attach flags


def attach_other(cgroup: Path, flags: int) -> None:
    """Attach another one's setsockopt program; it goes with the cgroup."""
    code = bytes.fromhex("b700000001000000") + bytes.fromhex("9500000000000000")  # return 1
    program = libbpf.prog_load(
        libbpf.PROG_CGROUP_SOCKOPT, "firewall", code, libbpf.CGROUP_SETSOCKOPT
    )
    target = os.open(cgroup, os.O_RDONLY)
    lib = ctypes.CDLL("libbpf.so.1")
    try:
        assert lib.bpf_prog_attach(program, target, libbpf.CGROUP_SETSOCKOPT, flags) == 0
    finally:
        os.close(program)
        os.close(target)


@pytest.mark.parametrize(
    "flags, below, holds",
    [
        (EXCLUSIVE, False, True),
        (EXCLUSIVE, True, True),
        (OVERRIDABLE, False, True),
        (OVERRIDABLE, True, True),  # it would end there
        (MULTI, False, False),
        (MULTI, True, False),
    ],
)
def test_another_program_on_the_cgroup(
    host: Host, child: Path, flags: int, below: bool, holds: bool
) -> None:
    # hooks above that allow others would let any program in
    assert host.run("hooks", "remove", str(host.cgroup)).returncode == 0
    attach_other(child, flags)
    target = child / "below" if below else child
    target.mkdir(exist_ok=True)
    try:
        done = host.run("hooks", "add", str(target))
        if not holds:
            assert done.returncode == 0, done.stderr
            return
        assert done.returncode == 255
        [line] = done.stderr.splitlines()
        assert "(firewall)" in line and f" {child} " in line
        assert "needs root" not in line
        assert host.json("hooks", "list")["cgroups"] == [], "half installed"
        daemon = subprocess.run(
            [*COMMAND, "--daemon", f"--pin-dir={host.directory}-other", f"--install={target}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert daemon.returncode == 255 and "(firewall)" in daemon.stderr
    finally:
        if below:
            target.rmdir()


def test_a_cgroup_full_of_programs(host: Host, child: Path) -> None:
    for _ in range(64):
        attach_other(child, MULTI)
    done = host.run("hooks", "add", str(child))
    assert done.returncode == 255
    assert "it has 64 programs already" in done.stderr and "(firewall)" in done.stderr
