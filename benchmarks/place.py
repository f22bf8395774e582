# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The environment of a run: a network namespace, cgroups and daemons of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testing.host import COMMAND, Host
from udpgrm.kernel import cgroups

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """The cgroups of this run.

    hooked: where daemons install their hooks. bare: without hooks. empty: for
    hooks that do nothing. A socket belongs to the cgroup it was made in.
    """

    hooked: Path
    bare: Path
    empty: Path


def enter(cgroup: Path) -> None:
    """Make the sockets of this process belong to a cgroup from now on."""
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def inside(cgroup: Path, back: Path) -> Iterator[None]:
    """Make sockets in a cgroup while the with block lasts."""
    enter(cgroup)
    try:
        yield
    finally:
        enter(back)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make a network with loopback only, and three cgroups; all removed afterwards."""
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    root = cgroups.default_root()
    home = root / cgroups.own_path().lstrip("/")
    paths = [root / f"udpgrm-bench-{os.getpid()}-{name}" for name in ("hooked", "bare", "empty")]
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace (root is needed)")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for path in paths:
            path.mkdir()
        enter(paths[0])
        yield Place(*paths)
    finally:
        enter(home)
        for path in paths:
            _remove(path)
        _libc.setns(network, _CLONE_NEWNET)
        os.close(network)


def _remove(cgroup: Path) -> None:
    # a process that has just ended is counted for a moment
    for _ in range(100):
        with contextlib.suppress(OSError):
            cgroup.rmdir()
            return
        if not cgroup.exists():
            return
        time.sleep(0.02)


@contextlib.contextmanager
def templates() -> Iterator[None]:
    """Make a cache with all templates of this checkout, for daemons started meanwhile."""
    with tempfile.TemporaryDirectory(prefix="udpgrm-bench-") as directory:
        before = os.environ.get("UDPGRM_CACHE_DIR")
        os.environ["UDPGRM_CACHE_DIR"] = directory
        try:
            subprocess.run([*COMMAND, "build"], check=True, stdout=subprocess.DEVNULL)
            yield
        finally:
            del os.environ["UDPGRM_CACHE_DIR"]
            if before is not None:
                os.environ["UDPGRM_CACHE_DIR"] = before


@contextlib.contextmanager
def unstarted(where: Place) -> Iterator[Host]:
    """Make a pin directory for daemons, not started yet."""
    scratch = Path(tempfile.mkdtemp(prefix="udpgrm-bench-"))
    host = Host(Path(f"/sys/fs/bpf/udpgrm-bench-{os.getpid()}"), where.hooked, scratch)
    try:
        yield host
    finally:
        host.clean()


@contextlib.contextmanager
def daemon(where: Place, *options: str) -> Iterator[Host]:
    """Run a daemon with hooks on the hooked cgroup."""
    with unstarted(where) as host:
        host.start(*options)
        yield host


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Stay on one CPU (the last), and collect no garbage, while something is timed."""
    allowed = os.sched_getaffinity(0)
    gc.disable()
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        gc.enable()
