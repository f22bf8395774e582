# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The role with udpgrm_install_method=package, on the same host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from testbed import steady
from testing.processes import FLEET, ROOT
from tests.packages.conftest import ARTIFACTS, Machine

PROGRAMS = Path(sys.executable).parent
Play = Callable[..., str]


def collection(work: Path) -> str:
    """Return the path of the collection's tarball: the release's, or one that is built."""
    found = sorted(ARTIFACTS.glob("udpgrm-fleet-*.tar.gz"))
    if found and ARTIFACTS != ROOT / "build":
        return str(found[0])
    build = [sys.executable, str(ROOT / "tools/build_collection"), "--output", str(work)]
    return subprocess.run(build, check=True, capture_output=True, text=True).stdout.split()[-1]


@pytest.fixture(scope="module")
def play(machine: Machine, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Run playbooks of the collection's tarball on the host."""
    work = tmp_path_factory.mktemp("collection")
    tarball = collection(work)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(work / "collections")}
    galaxy = [str(PROGRAMS / "ansible-galaxy"), "collection", "install", "--offline", tarball]
    subprocess.run(galaxy, check=True, capture_output=True, env=environment)
    inventory = work / "fleet"
    hosts = subprocess.run([FLEET, "inventory", "1"], check=True, capture_output=True, text=True)
    inventory.write_text(hosts.stdout)

    def run(*playbooks: str, **variables: Any) -> str:
        command = [str(PROGRAMS / "ansible-playbook"), f"--inventory={inventory}"]
        command += [f"--inventory={ROOT / 'demo/inventory'}"]
        variables = {
            "udpgrm_install_method": "package",
            "udpgrm_package": str(package),
            "udpgrm_bake": 1,
            **variables,
        }
        command += [f"--extra-vars={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [*command, *playbooks],
            capture_output=True,
            text=True,
            env=environment,
            cwd=work,  # for the report
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_collections_files(machine: Machine, play: Play) -> None:
    # their packages are in apt's cache, and the host reaches no registry
    machine.run("touch /var/lib/apt/lists")
    server = str(ROOT / "demo/playbooks/server.yml")
    play(server, "udpgrm.fleet.site", udpgrm_install_method="files")
    assert machine.run("readlink /usr/bin/udpgrm").stdout.startswith("/usr/lib/udpgrm/")


def test_files_become_a_package_under_traffic(machine: Machine, play: Play) -> None:
    with steady.traffic({"fl1": machine.address}, 4433) as seen:
        play("udpgrm.fleet.site")
        play("udpgrm.fleet.rolling_restart", udpgrm_service="echo")
        play("udpgrm.fleet.upgrade_daemon")
    assert seen["fl1"].is_well, seen["fl1"]
    assert seen["fl1"].generations == {1, 2}
    assert "changed=0 " in play("udpgrm.fleet.site")
    units = "ls -d /etc/systemd/system/udpgrm.slice /usr/lib/udpgrm 2>/dev/null || true"
    assert machine.run(units).stdout == ""
    state = "dpkg-query --show --showformat='${db:Status-Status}' udpgrm"
    assert machine.run(state).stdout == "installed"


def test_removal(machine: Machine, play: Play) -> None:
    play("udpgrm.fleet.uninstall", udpgrm_uninstall_services="true")
    left = "find / /sys/fs/bpf /run -xdev -name '*udpgrm*' -not -path '/root/*'"
    assert machine.run(left).stdout == ""
    assert machine.run("systemctl list-units --all --plain --no-legend '*udpgrm*'").stdout == ""
