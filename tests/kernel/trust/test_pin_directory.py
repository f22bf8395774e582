# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Refuse a pin directory that another user can make first, as in a bpffs of mode 1777."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing import host as support
from testing.host import Host, remove_pins, wait_for
from tests.kernel.trust.unprivileged import NOBODY
from udpgrm.kernel import bpffs


@pytest.fixture
def shared() -> Iterator[Path]:
    """Yield a directory in bpffs where every user may make directories, as mode 1777 allows."""
    path = Path(f"/sys/fs/bpf/udpgrm-shared-{os.getpid()}")
    path.mkdir()
    path.chmod(0o1777)
    yield path
    for entry in path.iterdir():
        entry.unlink() if entry.is_symlink() else remove_pins(entry)
    path.rmdir()


def give_away(path: Path) -> None:
    """Give a directory to another user, as if that user had made it.

    No user but root comes into /sys/fs/bpf where it is mode 0700.
    """
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


#: Commands that would open pins there.
COMMANDS = (
    ["list", "--json"],
    ["metrics"],
    ["hooks", "list"],
    ["doctor"],
    ["drain", "127.0.0.1:4433", "1"],
    ["working-gen", "127.0.0.1:4433", "newest"],
)


def is_refused(host: Host, directory: Path, why: str, *others: list[str]) -> None:
    """Check that the daemon and the commands that read there refuse a directory."""
    host.directory = directory
    hook = f"--install={host.cgroup}"
    for arguments in (["--daemon", "--force", "--persist", hook], [hook], ["list"], *others):
        done = host.run(*arguments)
        assert done.returncode == 255, (arguments, done)
        assert why in done.stderr, (arguments, done.stderr)


def test_the_directory_of_another_user(bare_host: Host, shared: Path) -> None:
    pins = shared / "pins"
    pins.mkdir(mode=0o700)
    give_away(pins)
    is_refused(bare_host, pins, f"{pins} belongs to uid {NOBODY}", *COMMANDS)
    assert list(pins.iterdir()) == []


def test_one_above_it_that_another_user_can_swap(bare_host: Host, shared: Path) -> None:
    site = shared / "site"
    (site / "pins").mkdir(mode=0o700, parents=True)
    give_away(site)
    is_refused(bare_host, site / "pins", f"{site} belongs to uid {NOBODY}")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_one_that_others_can_write_to(bare_host: Host, shared: Path, mode: int) -> None:
    pins = shared / "pins"
    pins.mkdir()
    pins.chmod(mode)
    is_refused(bare_host, pins, f"{pins} is writable by others than root")


def test_a_link_is_not_followed(bare_host: Host, shared: Path, tmp_path: Path) -> None:
    """Remove no file where another user's link points, and pin nothing there."""
    (tmp_path / "users").write_text("root's file")
    pins = shared / "pins"
    pins.symlink_to(tmp_path)
    give_away(pins)
    is_refused(bare_host, pins, f"{pins} is a symbolic link")
    assert (tmp_path / "users").read_text() == "root's file"
    (shared / "mine").mkdir(mode=0o700)
    pins.unlink()
    pins.symlink_to(shared / "mine")  # not even root's own
    is_refused(bare_host, pins, f"{pins} is a symbolic link")


def test_a_link_on_the_way(bare_host: Host, shared: Path) -> None:
    (shared / "mine" / "pins").mkdir(mode=0o700, parents=True)
    (shared / "way").symlink_to("mine")
    give_away(shared / "way")
    is_refused(bare_host, shared / "way" / "pins", f"{shared / 'way'} is a symbolic link of uid")
    (shared / "way").unlink()
    (shared / "way").symlink_to("mine")
    assert bpffs.distrusted(shared / "way" / "pins") is None


def test_roots_own_directory_where_any_user_may_make_some(bare_host: Host, shared: Path) -> None:
    bare_host.directory = shared / "pins"
    bare_host.start()
    assert bare_host.directory.stat().st_mode & 0o777 == 0o700
    assert bare_host.run("list").returncode == 0


def test_the_hint_mounts_so_that_only_root_can_make_directories(
    bare_host: Host, tmp_path: Path
) -> None:
    bare_host.directory = tmp_path / "pins"
    assert "mount -t bpf -o mode=0700 bpf /sys/fs/bpf" in bare_host.run("--daemon").stderr


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """Yield a bpf file system in a mount namespace, and what runs other commands there."""
    path = tmp_path / "bpf"
    path.mkdir()
    script = 'mount -t bpf -o mode=0700 bpf "$0" && echo mounted && exec sleep infinity'
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mounted\n"
            there = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
            monkeypatch.setattr(support, "COMMAND", [*there, *support.COMMAND])
            yield path, there
        finally:
            holder.kill()


def test_an_unmount_under_a_daemon_is_reported(
    bare_host: Host, mounted: tuple[Path, list[str]]
) -> None:
    path, there = mounted
    bare_host.directory = path / "pins"
    bare_host.start()
    subprocess.run([*there, "umount", "--lazy", path], check=True)
    [sock] = grm.bind("127.0.0.1:4433")
    with sock:  # its end makes the daemon collect garbage soon
        grm.enroll([sock], 1)
    lost = f"{bare_host.directory} is no longer this daemon's"
    wait_for(lambda: lost in bare_host.errors.read_text(), "the daemon to notice")
    unmounted = f"no BPF file system is mounted above {bare_host.directory}"
    assert f"daemon: not running, and {unmounted}" in bare_host.run("status").stdout
    assert unmounted in bare_host.run("doctor").stdout
    assert unmounted in bare_host.run("list").stderr
    assert bare_host.errors.read_text().count(lost) == 1
    assert bare_host.kill(signal.SIGTERM) == 0
