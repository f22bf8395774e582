# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Instances of a server: processes in cgroups of their own, as systemd would run them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from testing.host import inside
from tests.servers.configurations import Kind

_START_S = 30.0
_STOP_S = 30.0


class Instance:
    """A running instance; its name is in its answers."""

    def __init__(self, kind: Kind, name: str, port: int, parent: Path, scratch: Path) -> None:
        """Start it below the cgroup `parent` and wait until it says that it is ready."""
        self.name = name
        self.directory = scratch / name
        self.directory.mkdir()
        self.cgroup = parent / name
        self.cgroup.mkdir()
        self.log = self.directory / "log"
        notify = self.directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("wb") as log:
            ready.bind(str(notify))
            self.process = subprocess.Popen(
                inside(self.cgroup, *kind(self.directory, port)),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": str(notify)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._wait_until_ready(ready)

    def _wait_until_ready(self, ready: socket.socket) -> None:
        ready.settimeout(0.1)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096):
                    return
        self.kill()
        raise AssertionError(f"{self.name} did not get ready:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Ask it to end, as `systemctl stop` does, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(_STOP_S)
        # systemd takes either status for a success
        assert status in (0, -signal.SIGTERM), (
            f"{self.name} ended with {status}:\n{self.log.read_text()}"
        )
        self.kill()

    def kill(self) -> None:
        """End whatever is left of it."""
        if not self.cgroup.exists():
            return
        (self.cgroup / "cgroup.kill").write_text("1")
        self.process.wait()
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()
                return
            time.sleep(0.01)
        self.cgroup.rmdir()


@contextlib.contextmanager
def instances(parent: Path, prefix: str) -> Iterator[Instances]:
    """Yield what starts instances, all of which end with the block."""
    scratch = Path(tempfile.mkdtemp(prefix="udpgrm-servers-"))
    started = Instances(parent, scratch, prefix)
    try:
        yield started
    finally:
        for instance in started.all:
            instance.kill()
        shutil.rmtree(scratch)


class Instances:
    """Instances below one cgroup, numbered as they are started."""

    def __init__(self, parent: Path, scratch: Path, prefix: str) -> None:
        self.all: list[Instance] = []
        self._parent = parent
        self._scratch = scratch
        self._prefix = prefix

    def start(self, kind: Kind, port: int) -> Instance:
        """Start one more."""
        name = f"{self._prefix}{len(self.all)}"
        self.all.append(Instance(kind, name, port, self._parent, self._scratch))
        return self.all[-1]
