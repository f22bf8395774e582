# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the role's check of entries before it changes a host."""

from __future__ import annotations

import json
import typing as t

import yaml

from ..fake_command import FakeCommand
from ..playbook import ROOT, Ansible

ROLE = ROOT / "roles" / "udpgrm"
ENTRY = {"name": "dns", "exec_start": "/usr/bin/dns %i", "groups": [{"address": "0.0.0.0:53"}]}
#: Units that a service may take the place of, and some that it may not.
UNITS = {
    "old-dns.service": True,
    "old@dns.service": True,
    "old-dns.socket": False,
    "--now.service": False,
    "a.service b.service": False,
    "dns@1.service": False,
    "dns-first.service": False,
}


def test_units_to_adopt(ansible: Ansible) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight.yml").read_text())
    [check] = [task for task in tasks if task["name"] == "Check the services"]
    plays: list[dict[str, t.Any]] = [
        {
            "hosts": "all",
            "gather_facts": False,
            "vars_files": [str(ROLE / "vars/main.yml")],
            "vars": {"udpgrm_services": [{**ENTRY, "adopt_unit": unit}]},
            "tasks": [{**check, "ignore_errors": True}],
        }
        for unit in UNITS
    ]
    playbook = ansible.directory / "check.yml"
    playbook.write_text(json.dumps(plays))
    status, output = ansible.run(playbook, {"fl1": FakeCommand(ansible.directory / "fl1")})
    assert status == 0, output
    results = [part.count("ignoring") == 0 for part in output.split("PLAY [")[1 : len(UNITS) + 1]]
    assert results == list(UNITS.values()), output
    assert "adopt_unit another .service unit than the service's own" in " ".join(output.split())
