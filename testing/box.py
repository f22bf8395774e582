# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A host by testbed/box: this machine's packages, none of its services, systemd as PID 1."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from testing.processes import ROOT


class Box:
    """The host; commands run in it as root."""

    def __init__(self, name: str, limit_s: float = 300) -> None:
        """Name it, and how long a command may take."""
        self._name = name
        self._limit_s = limit_s

    def command(
        self, verb: str, *arguments: str, text: str = "", errors: int = subprocess.STDOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of testbed/box; its two outputs are one, unless errors is a pipe."""
        return subprocess.run(
            [str(ROOT / "testbed/box"), verb, self._name, *arguments],
            input=text,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=self._limit_s,
            check=False,
        )

    def up(self) -> None:
        """Start it in the network namespace of this process."""
        done = self.command("up", f"/proc/{os.getpid()}/ns/net")
        assert done.returncode == 0, done.stdout

    def run(self, script: str, *, status: int = 0, text: str = "") -> str:
        """Run a script of the shell, and return what it printed."""
        done = self.command("sh", "sh", "-ec", script, text=text)
        assert done.returncode == status, f"{script}\n{done.stdout}"
        return done.stdout


@contextlib.contextmanager
def box(name: str) -> Iterator[Box]:
    """Start a host in the network namespace of this process, and end it."""
    host = Box(f"{name}-{os.getpid()}")
    try:
        host.up()
        yield host
    finally:
        host.command("down")
