# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The files that the role's templates make, as both ends of ansible-core render them."""

from __future__ import annotations

import json
import re
import typing as t

import yaml
from ansible_collections.udpgrm.fleet.plugins.filter.rollout import FilterModule

from ..fake_command import FakeCommand
from ..playbook import ROOT, Ansible, both_versions

ROLE = ROOT / "roles" / "udpgrm"
SERVICES: list[dict[str, t.Any]] = [
    {
        "name": "dns",
        "exec_start": "/usr/bin/dns %i",
        "groups": [{"address": "0.0.0.0:53", "dissector": {"name": "dns"}}],
        "environment": {"PLAIN": 'a "b"'},
        "environment_file": {"TOKEN": 'a\\b"c $d', "NUMBER": 1},
    },
    {"name": "echo", "exec_start": "/usr/bin/echo", "groups": [{"address": "[::]:7"}]},
    {"name": "turn", "profile": "coturn", "groups": [{"address": "[::]:8"}]},
    {"name": "calls", "unit_from": "kamailio.service", "groups": [{"address": "[::]:9"}]},
    {"name": "gone", "state": "absent"},
]


def test_definitions_have_their_own_keys_only() -> None:
    keys = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_udpgrm_definition_keys"]
    found = FilterModule().filters()["definitions"](SERVICES[:3], keys)
    assert found == {
        "dns": {"instances": {"unit": "dns@.service"}, "groups": SERVICES[0]["groups"]},
        "echo": {"instances": {"unit": "echo@.service"}, "groups": SERVICES[1]["groups"]},
        "turn": {
            "instances": {"unit": "turn@.service"},
            "groups": SERVICES[2]["groups"],
            "profile": "coturn",
        },
    }


def rendered(ansible: Ansible, template: str) -> dict[str, str]:
    place = ansible.directory / "rendered"
    lookup = f"lookup('ansible.builtin.template', '{ROLE}/templates/{template}')"
    task = {"ansible.builtin.copy": {"content": f"{{{{ {lookup} }}}}", "dest": str(place)}}
    play: dict[str, t.Any] = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [task],
    }
    playbook = ansible.directory / "render.yml"
    playbook.write_text(json.dumps([play]))
    host = FakeCommand(ansible.directory / "fl1")
    status, output = ansible.run(playbook, {"fl1": host}, udpgrm_services=SERVICES)
    assert status == 0, output
    assert "DEPRECATION" not in output
    return {item["path"]: item["content"] for item in yaml.safe_load(place.read_text())}


@both_versions
def test_units_of_services(ansible: Ansible) -> None:
    files = rendered(ansible, "service_files.yml.j2")
    units = "/etc/systemd/system/"
    assert sorted(files) == [
        units + name
        for name in (
            *("calls-first.service", "dns-first.service", "dns@.service"),
            *("echo-first.service", "echo@.service", "turn-first.service"),
        )
    ]
    assert "ExecStart=/usr/bin/udpgrm restart turn" in files[f"{units}turn-first.service"]
    assert (
        "ExecStart=/usr/bin/systemctl start calls@1.service" in files[f"{units}calls-first.service"]
    )
    find = yaml.safe_load((ROLE / "tasks" / "uninstall.yml").read_text())[0]
    pattern = re.compile(find["ansible.builtin.find"]["contains"])
    for name, text in files.items():
        assert name.endswith("@.service") or any(map(pattern.match, text.splitlines())), name
    dns, echo = files[f"{units}dns@.service"], files[f"{units}echo@.service"]
    assert 'Environment="PLAIN=a \\"b\\""' in dns.splitlines()
    assert "EnvironmentFile=/etc/udpgrm/environment/dns" in dns.splitlines()
    assert "EnvironmentFile" not in echo
    assert echo.startswith("# SPDX") and "Restart=on-failure" in echo.splitlines()
    assert "NoNewPrivileges=true" in echo.splitlines()
    assert "ExecStart=/usr/bin/udpgrm dissector apply dns" in files[f"{units}dns-first.service"]
    assert "TOKEN" not in "".join(files.values())


@both_versions
def test_secrets(ansible: Ansible) -> None:
    files = rendered(ansible, "environment_files.yml.j2")
    assert files == {
        "/etc/udpgrm/environment/dns": 'TOKEN="a\\\\b\\"c $d"\nNUMBER="1"\n',
    }


@both_versions
def test_the_daemons_files(ansible: Ansible) -> None:
    files = rendered(ansible, "daemon_files.yml.j2")
    assert sorted(files) == [
        "/etc/systemd/system/udpgrm-first@.service",
        "/etc/systemd/system/udpgrm-resume.service",
        "/etc/systemd/system/udpgrm.service",
        "/etc/systemd/system/udpgrm.slice",
        "/etc/udpgrm/udpgrm.conf",
    ]
    first = files["/etc/systemd/system/udpgrm-first@.service"].splitlines()
    assert "ExecStart=/usr/bin/udpgrm restart %i" in first
    assert "groups = 512" in files["/etc/udpgrm/udpgrm.conf"].splitlines()
