# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Show no values of entries, which may be vaulted, in any task of the role."""

from __future__ import annotations

import json
import typing as t

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ..fake_command import FakeCommand
from ..playbook import ROOT, Ansible, both_versions

ROLE = ROOT / "roles" / "udpgrm"
SECRET = "hunter22"
ENTRIES = """
udpgrm_services:
  - name: dns
    exec_start: /usr/bin/dns %i
    profile: dns
    groups: [{{address: "0.0.0.0:53"}}]
    environment: {{TOKEN: {vaulted}}}
    environment_file: {{TOKEN: {vaulted}}}
  - {{name: Wrong, exec_start: /usr/bin/dns, groups: [], environment: {{TOKEN: {vaulted}}}}}
  - {{name: gone, state: absent, environment: {{TOKEN: {vaulted}}}}}
"""


def tasks_of(tasks: t.Iterable[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    """Yield tasks, also those in blocks."""
    for task in tasks:
        yield task
        yield from tasks_of(task.get("block", []))


def role_tasks() -> list[dict[str, t.Any]]:
    found = [yaml.safe_load(path.read_text()) for path in (ROLE / "tasks").glob("*.yml")]
    return [task for tasks in found for task in tasks_of(tasks)]


def run(ansible: Ansible, tasks: list[dict[str, t.Any]]) -> tuple[int, str]:
    """Run tasks with entries whose values are vaulted."""
    password = ansible.directory / "password"
    password.write_text("open sesame")
    vault = VaultLib([("default", VaultSecret(b"open sesame"))])
    text = json.dumps(vault.encrypt(SECRET).decode())
    variables = ansible.directory / "entries.yml"
    variables.write_text(ENTRIES.format(vaulted=f"!vault {text}"))
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars/main.yml"), str(variables)],
        "tasks": tasks,
    }
    playbook = ansible.directory / "secrets.yml"
    playbook.write_text(json.dumps([play]))
    host = FakeCommand(ansible.directory / "fl1")
    return ansible.run(playbook, {"fl1": host}, f"--vault-password-file={password}")


@both_versions
def test_an_entry_that_is_wrong_is_named_only(ansible: Ansible) -> None:
    [check] = [task for task in role_tasks() if task["name"] == "Check the services"]
    shown = {"ansible.builtin.debug": {"msg": "{{ udpgrm_services[0].environment.TOKEN }}"}}
    status, output = run(ansible, [{**check, "ignore_errors": True}, shown])
    assert status == 0, output
    checked, _name, decrypted = output.partition("TASK [ansible.builtin.debug]")
    assert "The entry 'Wrong' of udpgrm_services is not valid" in " ".join(checked.split())
    assert SECRET not in checked
    # the entries do have it
    assert SECRET in decrypted


@both_versions
def test_no_loop_has_values_of_entries(ansible: Ansible) -> None:
    names = ("udpgrm_services", "_udpgrm_present", "_udpgrm_absent")
    loops = [
        task
        for task in role_tasks()
        if "loop" in task and any(name in str(task["loop"]) for name in names)
    ]
    assert len(loops) >= 4
    shown = [
        {"name": task["name"], "ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": task["loop"]}
        for task in loops
    ]
    status, output = run(ansible, shown)
    assert status == 0, output
    assert output.count("TASK [") == len(loops)
    assert "dns" in output and "gone" in output
    assert SECRET not in output
