# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A fresh Debian 12 host of the testbed that has nothing of udpgrm, and packages for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.processes import FLEET, ROOT

#: Where artifacts are: `make release` has a directory for them.
ARTIFACTS = Path(os.environ.get("UDPGRM_ARTIFACTS", ROOT / "build"))
ARCHIVES = "/var/cache/apt/archives"
#: Debian's packages of the tutorial, as hosts cannot reach Debian.
FROM_DEBIAN = ("coturn",)


class Machine:
    """A host, by its number."""

    address = "10.77.0.3"

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script of the shell as root."""
        done = subprocess.run(
            [FLEET, "sh", "1", "sh", "-ec", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if check:
            assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def started(self, script: str) -> subprocess.Popen[str]:
        """Start a script of the shell as root."""
        return subprocess.Popen(
            [FLEET, "sh", "1", "sh", "-ec", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def copy(self, *paths: Path, to: str) -> None:
        """Copy files into a directory."""
        for path in paths:
            with path.open("rb") as file:
                target = f"{to}/{path.name}"
                subprocess.run([FLEET, "sh", "1", "dd", "status=none", f"of={target}"], stdin=file)


def repacked(package: Path, directory: Path, version: str) -> Path:
    """Return the same package as a later version."""
    tree = directory / version
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", text, flags=re.M))
    module = tree / "usr/lib/python3/dist-packages/udpgrm/version.py"
    module.write_text(f'__version__ = "{version}"\n')
    new = directory / f"udpgrm_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(new)], check=True, capture_output=True)
    return new


@pytest.fixture(scope="session")
def package() -> Path:
    """Return the Debian package."""
    [found] = ARTIFACTS.glob("udpgrm_*.deb")
    return found


@pytest.fixture(scope="session")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    owner = str(os.getpid())
    os.environ["FLEET_RELEASES"] = "bookworm"
    host = Machine()
    try:
        subprocess.run([FLEET, "up", "1", owner], check=True)
        host.run("! test -e /usr/bin/udpgrm")
        cache = tmp_path_factory.mktemp("archives")
        download(host, cache, package)
        host.copy(*cache.glob("*.deb"), to=ARCHIVES)
        host.copy(package, to="/root")
        # they cannot be updated there, and an update that fails would fail the tutorial
        host.run("rm -f /etc/apt/sources.list.d/* && : > /etc/apt/apt.conf.d/99offline")
        yield host
    finally:
        subprocess.run([FLEET, "down", owner], check=True)


def download(host: Machine, cache: Path, package: Path) -> None:
    """Fetch what the host's apt is going to ask for."""
    (cache / "partial").mkdir()
    status = cache / "status"
    status.write_text(host.run("cat /var/lib/dpkg/status").stdout)
    subprocess.run(
        [
            *("apt-get", "--quiet=2", "--yes", "--download-only", "install"),
            f"--option=Dir::State::Status={status}",
            f"--option=Dir::Cache::Archives={cache}",
            "--option=Debug::NoLocking=true",
            "--option=APT::Sandbox::User=root",
            *(*FROM_DEBIAN, str(package)),
        ],
        check=True,
    )
    shutil.rmtree(cache / "partial")
