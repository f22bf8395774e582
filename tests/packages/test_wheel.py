# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The wheel, installed with pip for root, on the same host; it compiles its programs there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed import steady
from testing.processes import ROOT
from tests.packages.conftest import ARTIFACTS, Machine
from tests.packages.test_deb import ECHO


@pytest.fixture(scope="module")
def pip(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return pip's own wheel, which runs as it is: hosts have none."""
    work = tmp_path_factory.mktemp("pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work)]
    subprocess.run([*command, "pip"], check=True)
    [wheel] = work.glob("pip-*.whl")
    machine.copy(wheel, to="/root")
    return f"python3 /root/{wheel.name}/pip"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = sorted(ARTIFACTS.glob("udpgrm-*.whl"))
    if not found:
        work = tmp_path_factory.mktemp("wheel")
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        subprocess.run([*build, "--wheel-dir", str(work), str(ROOT)], check=True)
        found = sorted(work.glob("*.whl"))
    return found[0]


def test_restart_under_traffic(machine: Machine, pip: str, wheel: Path) -> None:
    packages = (ROOT / "testbed/role-packages.txt").read_text().replace("\n", " ")
    machine.run(f"apt-get install -y --no-install-recommends {packages}")
    machine.copy(wheel, to="/root")
    machine.copy(ROOT / "examples/echo_server.py", to="/opt")
    machine.run(f"{pip} install --break-system-packages /root/{wheel.name}")
    machine.run("mkdir -p /etc/udpgrm/services.d && systemctl daemon-reload")
    machine.run("systemctl enable --now udpgrm udpgrm-resume")
    machine.run(ECHO + "systemctl enable --now udpgrm-first@echo")
    with steady.traffic({"fl1": machine.address}, 4433) as seen:
        machine.run("udpgrm restart echo")
    assert seen["fl1"].is_well, seen["fl1"]
    assert seen["fl1"].generations == {1, 2}


def test_what_one_reads(machine: Machine) -> None:
    machine.run("test -s /usr/local/share/man/man8/udpgrm-restart.8")
    machine.run("test -s /usr/local/share/bash-completion/completions/udpgrm")


def test_removal(machine: Machine, pip: str) -> None:
    machine.run("systemctl disable --now udpgrm-first@echo udpgrm-resume udpgrm")
    machine.run(f"systemctl stop 'echo@*' && {pip} uninstall -y --break-system-packages udpgrm")
    # pip leaves the directories of data files
    left = "find /usr/local /lib/systemd /etc/systemd -path '*udpgrm*' -not -type d"
    assert machine.run(left).stdout == ""
