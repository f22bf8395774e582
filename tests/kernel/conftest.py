# SPDX-License-Identifier: Apache-2.0
"""Real programs, real sockets: a network namespace and a hooked cgroup of our own.

The test process itself moves into both, so its sockets are hooked ones and no
packet leaves it. Whatever a test leaves is taken away after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host, remove_cgroup, remove_pins
from testing.waiting import PATIENCE_S
from udpgrm.kernel import cgroups

#: Of cgroups and pin directories; the process's number follows.
_NAME = "udpgrm-test-"
_BPFFS = Path("/sys/fs/bpf")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="session", autouse=True)
def own_network() -> Iterator[None]:
    """A network namespace with nothing but loopback."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert _libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    assert _libc.setns(home, _CLONE_NEWNET) == 0
    os.close(home)


@pytest.fixture(scope="session", autouse=True)
def patient_enrollment() -> Iterator[None]:
    """Let the client library wait as long as tests do, where they do not say how long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grm, "enroll", functools.partial(grm.enroll, timeout=PATIENCE_S))
        yield


@pytest.fixture(scope="session")
def cgroup() -> Iterator[Path]:
    """A cgroup that holds this process while the tests run."""
    root = cgroups.default_root()
    before = root / cgroups.own_path().lstrip("/")
    _remove_leftovers(root)
    path = root / f"{_NAME}{os.getpid()}"
    path.mkdir()
    (path / "cgroup.procs").write_text(str(os.getpid()))
    yield path
    (before / "cgroup.procs").write_text(str(os.getpid()))
    remove_cgroup(path)


def _remove_leftovers(root: Path) -> None:
    """Remove what runs have left that were killed: their workers clean up nothing."""
    for path in root.glob(f"{_NAME}*"):
        if not Path("/proc", path.name[len(_NAME) :]).exists():
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                remove_cgroup(path)
                remove_pins(_BPFFS / path.name)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the templates, once for all workers of pytest-xdist."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    directory = run / "cache"
    os.environ["UDPGRM_CACHE_DIR"] = str(directory)
    with (run / "cache.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*COMMAND, "build"], check=True, stdout=subprocess.DEVNULL)
    return directory


@pytest.fixture
def bare_host(cgroup: Path, cache: Path, tmp_path: Path) -> Iterator[Host]:
    """A host on which no daemon runs yet."""
    scratch = tmp_path / "daemon"
    scratch.mkdir()
    host = Host(_BPFFS / cgroup.name, cgroup, scratch)
    try:
        yield host
    finally:
        host.clean()


@pytest.fixture
def host(bare_host: Host) -> Host:
    """A host with a daemon, as the reference is run."""
    bare_host.start()
    return bare_host


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Sockets that the test adds, closed after it."""
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()
