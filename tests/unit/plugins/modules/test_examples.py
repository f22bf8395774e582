# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Every example of a module's documentation is a task that does what its name says."""

from __future__ import annotations

import importlib
import json
import pathlib
import typing as t

import pytest
import yaml

from ..fake_command import FakeCommand
from ..fake_host import group
from ..fake_services import service
from ..playbook import MODULES, Ansible

PACKAGE = "ansible_collections.udpgrm.fleet.plugins.modules"
EDGE = "0.0.0.0:4433"


def host(directory: pathlib.Path, name: str) -> FakeCommand:
    """Return a host in whose state the examples of a module succeed."""
    services = [service("dns", polls=3)]
    if name == "udpgrm_dissector":
        return FakeCommand(directory, [], services)
    groups = [group(EDGE, 3, [1, 2, 3, 4]), group("[2001:db8::1]:4433", 2, [1, 2])]
    for generation in groups[0]["generations"]:
        generation["sockets_alive"] = 4
    return FakeCommand(directory, groups, services)


def tasks(name: str) -> list[dict[str, t.Any]]:
    found: list[dict[str, t.Any]] = yaml.safe_load(
        importlib.import_module(f"{PACKAGE}.{name}").EXAMPLES
    )
    return found


# What has to be before an example, by its name.
BEFORE = {
    "Roll back while the old instance drains": tasks("udpgrm_restart")[0]
    | {"udpgrm.fleet.udpgrm_restart": {"service": "dns", "release": "2.4.2"}},
}
# Examples that find nothing to do, or only try.
UNCHANGED = {
    "Check that a dissector of our own loads on this kernel",
    "Resume a restart that a crash of the host's systemd has cut",
    "Reserve the host for this run",  # which ends with the run, or with the boot
}
READ_ONLY = {"drain", "info", "probe", "service_info", "support"}
# Parts of a playbook or of the role, which would change this machine, or need the rest of it.
PARTS = {
    "udpgrm_host_info",
    "udpgrm_files",
    "udpgrm_instances",
    "udpgrm_reboot",
    "udpgrm_report",
    "udpgrm_rollout",
}


# What the versions differ in is not the modules' doing; one of these has an action plugin.
OLDEST = ["udpgrm_drain", "udpgrm_restart"]


@pytest.mark.parametrize(
    "name, ansible",
    [
        *((name, "newest") for name in MODULES if name not in PARTS),
        *((name, "oldest") for name in OLDEST),
    ],
    indirect=["ansible"],
)
def test_examples(name: str, ansible: Ansible) -> None:
    examples: list[dict[str, t.Any]] = []
    for task in tasks(name):
        examples += [BEFORE[task["name"]]] if task["name"] in BEFORE else []
        examples.append(task)
    playbook = ansible.directory / "examples.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": examples}]))
    status, output = ansible.run(playbook, {"fl1": host(ansible.directory / "fl1", name)})
    assert status == 0, output
    results = [line.partition(":")[0] for line in output.splitlines() if "[fl1]" in line]
    changes = name.removeprefix("udpgrm_") not in READ_ONLY
    assert results == [
        "changed" if changes and task["name"] not in UNCHANGED else "ok" for task in examples
    ], output
