# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A host with systemd and the packages of this machine, in the network of the tests."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from testing import box
from testing.host import TEMPLATES

_UNITS = {
    "udpgrm.slice": "[Slice]\n",
    "udpgrm.service": "[Unit]\nRequires=udpgrm.slice\nAfter=udpgrm.slice\n[Service]\nType=notify\n"
    "ExecStart=/usr/bin/udpgrm --daemon --persist --install=/sys/fs/cgroup/udpgrm.slice\n",
}


class Box:
    """The host; commands run in it."""

    def __init__(self) -> None:
        """Start it, and udpgrm in it."""
        self._host = box.Box(str(os.getpid()), limit_s=600)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        self._host.up()
        for name, text in _UNITS.items():
            self.write(Path("/etc/systemd/system", name), text)
        # templates: the daemon of each box would compile its own
        self.run("cp", "-rT", str(TEMPLATES), "/var/cache/udpgrm")
        # a slice has its cgroup from its first unit on
        self.run("mkdir", "-p", "/sys/fs/cgroup/udpgrm.slice", "/etc/udpgrm/services.d")
        self.run("systemctl", "start", "udpgrm.service")

    def _sh(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return self._host.command("sh", *arguments, text=text, errors=subprocess.PIPE)

    def run(self, *arguments: str, text: str = "") -> str:
        """Run a command, and return what it printed."""
        done = self._sh(*arguments, text=text)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: Path, text: str) -> None:
        """Write a file, or what is added to one."""
        self.run("sh", "-c", f"mkdir -p {path.parent} && cat >>{path}", text=text)

    def restart(self, service: str) -> dict[str, Any]:
        """Restart a service, and return the journal."""
        done = self._sh("udpgrm", "restart", service, "--json")
        if done.returncode:
            logs = self._sh("journalctl", "--no-pager", "--lines=20", f"--unit={service}@*")
            raise AssertionError(f"{done.stdout}{done.stderr}{logs.stdout}")
        journal: dict[str, Any] = json.loads(done.stdout)
        return journal

    def close(self) -> None:
        """End it."""
        self._host.command("down")
