# SPDX-License-Identifier: Apache-2.0
"""Real programs, real sockets: a network namespace and a hooked cgroup of our own.

The test process itself moves into both, so its sockets are hooked ones and no
packet leaves it. Fixtures remove what a test leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, TEMPLATES, Host, remove_cgroup, remove_pins
from testing.waiting import PATIENCE_S
from udpgrm.kernel import cgroups
from udpgrm.state import maps as state
from udpgrm.state import policies

#: Begins the names of cgroups and pin directories; the pid follows.
_NAME = "udpgrm-test-"
_SHARED = "-shared"
_BPFFS = Path("/sys/fs/bpf")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Be in a new network namespace with nothing but loopback."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert _libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    try:
        yield
    finally:
        assert _libc.setns(home, _CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture(scope="session", autouse=True)
def own_network() -> Iterator[None]:
    """Yield a network namespace with nothing but loopback."""
    with network():
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_enrollment() -> Iterator[None]:
    """Let the client library wait as long as tests do, where they do not say how long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grm, "enroll", functools.partial(grm.enroll, timeout=PATIENCE_S))
        yield


@contextlib.contextmanager
def _inside(cgroup: Path) -> Iterator[None]:
    """Be in a cgroup."""
    before = cgroups.default_root() / cgroups.own_path().lstrip("/")
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


@pytest.fixture(scope="session")
def cgroup() -> Iterator[Path]:
    """Yield a cgroup that holds this process while the tests run."""
    root = cgroups.default_root()
    _remove_leftovers(root)
    path = root / f"{_NAME}{os.getpid()}"
    path.mkdir()
    with _inside(path):
        yield path
    remove_cgroup(path)


def _remove_leftovers(root: Path) -> None:
    """Remove what runs have left that were killed: their workers clean up nothing."""
    for path in root.glob(f"{_NAME}*"):
        if not Path("/proc", path.name[len(_NAME) :].partition("-")[0]).exists():
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                remove_cgroup(path)
                remove_pins(_BPFFS / path.name)
                remove_pins(_BPFFS / (path.name + _SHARED))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache of this run's own; what sources of earlier runs need is compiled once."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    directory = run / "cache"
    with TEMPLATES.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = {**os.environ, "UDPGRM_CACHE_DIR": str(TEMPLATES)}
        subprocess.run([*COMMAND, "build"], env=environment, check=True, stdout=subprocess.DEVNULL)
        if not directory.exists():
            shutil.copytree(TEMPLATES, directory)
    os.environ["UDPGRM_CACHE_DIR"] = str(directory)
    return directory


@pytest.fixture
def bare_host(cgroup: Path, cache: Path, tmp_path: Path) -> Iterator[Host]:
    """Yield a host on which no daemon runs yet."""
    scratch = tmp_path / "daemon"
    scratch.mkdir()
    host = Host(_BPFFS / cgroup.name, cgroup, scratch)
    try:
        yield host
    finally:
        host.clean()


@pytest.fixture
def own_host(bare_host: Host) -> Host:
    """Return a host with a daemon of the test's own, as the reference is run."""
    bare_host.start()
    return bare_host


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    """Return a host with a daemon of the test's own, or the shared one by `daemon("shared")`.

    The mark is a file's as a rule; tests in it that do something to the daemon are `daemon("own")`.
    """
    mark = request.node.get_closest_marker("daemon")
    is_shared = mark is not None and mark.args == ("shared",)
    found: Host = request.getfixturevalue("shared_host" if is_shared else "own_host")
    return found


@pytest.fixture(scope="session")
def running_host(
    cgroup: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """Yield a host whose daemon runs until the last test, with a cgroup inside the tests' own."""
    path = cgroup / "shared"
    path.mkdir()
    host = Host(_BPFFS / (cgroup.name + _SHARED), path, tmp_path_factory.mktemp("daemon"))
    try:
        host.start()
        yield host
    finally:
        host.clean()
        remove_cgroup(path)


@pytest.fixture
def shared_host(running_host: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    """Yield a host with a daemon that other tests use too, which saves a start of a second.

    Groups of different network namespaces have nothing in common but policies, which go with the
    test; each test has a namespace of its own. Not for tests that do something to the daemon.
    """
    assert "bare_host" not in request.fixturenames, "one of these"
    daemon = running_host.process
    with network(), _inside(running_host.cgroup):
        yield running_host
    assert daemon.poll() is None, running_host.errors.read_text()
    with contextlib.closing(state.open_pinned(running_host.directory)) as maps:
        for where, _ in policies.each(maps):
            policies.remove(maps, where)


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Sockets that the test adds, closed after it."""
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()
