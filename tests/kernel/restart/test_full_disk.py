# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The journals' file system is full as a step ends: nothing is half-done, and a resume ends it."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.restarts import Edge, Traffic, serving_only, until
from udpgrm.kernel.descriptors import state

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")


@pytest.fixture
def disk(edge: Edge) -> Iterator[Path]:
    """Yield a small file system for the journals alone."""
    edge.state.mkdir(mode=0o755)
    options = "size=1m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(edge.state)], check=True)
    try:
        yield edge.state
    finally:
        edge.clean()
        subprocess.run(["umount", str(edge.state)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Have no byte left in a file system."""
    with (disk / "filling").open("wb", buffering=0) as file:
        with pytest.raises(OSError) as raised:
            while True:
                file.write(bytes(4096))
        assert raised.value.errno == errno.ENOSPC
        try:
            yield
        finally:
            (disk / "filling").unlink()


@pytest.mark.parametrize("broken", ["full", "read-only"])
def test_a_check_fails_where_a_restart_would(disk: Path, edge: Edge, broken: str) -> None:
    """Fail before the first restart, too, and leave nothing behind."""
    with contextlib.ExitStack() as stack:
        if broken == "full":
            stack.enter_context(full(disk))
        else:
            remount = ["mount", "-o", "remount", str(disk)]
            stack.callback(subprocess.run, [*remount, "-o", "rw"], check=True)
            subprocess.run([*remount, "-o", "ro"], check=True)
        for arguments in (["--check"], []):
            done = edge.restart(*arguments)
            assert done.returncode == 255, done
            [line] = done.stderr.splitlines()
            assert str(disk) in line
    assert (list(disk.glob("*.json")), edge.alive()) == ([], [])
    assert edge.restart("--check").returncode == 0
    assert edge.restart().returncode == 0


# the first step, both sides of the promotion, and those that wait and end processes
@pytest.mark.parametrize("step", ["prepare", "start", "promote", "drain", "stop"])
def test_full_as_a_step_ends(disk: Path, edge: Edge, step: str) -> None:
    assert edge.restart().returncode == 0
    # a drain ends, and a stop comes, when no flow is left
    with Traffic(keep=step not in ("drain", "stop")) as traffic:
        command = edge.start(halt=step)
        until(lambda: state(command.pid) == "T", "the command to stop itself")
        before = edge.journal()
        with full(disk):
            command.send_signal(signal.SIGCONT)
            _, error = command.communicate()
            assert (command.returncode, "No space left on device" in error) == (3, True), error
            assert "(udpgrm restart edge --resume continues)" in error
            assert edge.restart().returncode != 0  # another does not begin
            assert edge.restart("--resume").returncode == 3
            assert edge.host.run("rollback", "edge").returncode != 0
            assert edge.journal() == before
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic after that")
    done = edge.restart("--resume", "--json")
    assert json.loads(done.stdout)["outcome"] == "finished", done.stderr
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(edge, 2)
