# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The hosts of patterns, and a check of ansible-playbook's options that would skip all of a playbook."""

from __future__ import annotations

import pathlib
import typing as t

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._paths import PLAYBOOKS

Variables = t.Mapping[str, t.Any]
_NAMESPACE = "udpgrm.fleet."
_SSH = ("ssh", "smart", "ansible.builtin.ssh")
# Variables by which ssh(1) finds a machine; a gateway may choose it by the user or the key.
_WAY = (
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_executable",
)


class Inventory:
    """The hosts and groups that a play's variables name."""

    def __init__(self, loader: DataLoader, variables: Variables) -> None:
        self._inventory = InventoryManager(loader, parse=False)
        for group, hosts in variables["groups"].items():
            self._inventory.add_group(group)
            for host in hosts:
                self._inventory.add_host(host, group=group)
        self.is_empty = not self._inventory.hosts

    def meant(self, patterns: t.Any) -> list[str]:
        """Return the hosts of patterns; without any in the inventory the patterns. Raises AnsibleError for a pattern of none."""
        terms = [str(item) for item in split_host_pattern(_flat([patterns])) if item]
        if terms and self.is_empty:
            return terms
        for term in terms:
            if term[0] not in "!&" and not self._inventory.get_hosts(pattern=[term]):
                raise AnsibleError(f"no host of the inventory is meant by {term!r}")
        # no pattern at all would mean every host
        found = self._inventory.get_hosts(pattern=terms) if terms else []
        if not found:
            raise AnsibleError(f"no host of the inventory is meant by {','.join(terms)!r}")
        return [host.name for host in found]

    def within_limit(self, hosts: list[str], limit: str | None) -> list[str]:
        """Return the hosts within --limit."""
        if not limit or self.is_empty:
            return hosts
        self._inventory.subset(limit)
        limited = {host.name for host in self._inventory.get_hosts(pattern="all")}
        self._inventory.subset(None)
        return [name for name in hosts if name in limited]


def variable(
    loader: DataLoader, variables: Variables, hosts: t.Sequence[str], name: str
) -> dict[str, t.Any]:
    """Return a variable of hosts, None where it is not set.

    Ansible knows no variables of hosts before its first play, so the inventory is read for them.
    """
    hostvars = variables.get("hostvars")
    if hostvars is not None:
        return {host: hostvars[host].get(name) for host in hosts}
    inventory = InventoryManager(loader, sources=context.CLIARGS.get("inventory"))
    manager = VariableManager(loader, inventory)
    found = {}
    for host in hosts:
        entry = inventory.get_host(host)
        found[host] = entry and manager.get_vars(host=entry, include_hostvars=False).get(name)
    return found


def named_twice(hostvars: t.Mapping[str, Variables], names: t.Iterable[str]) -> str:
    """Return which names lead to one machine, as far as the inventory tells; empty: none do.

    Names that differ in how they lead there are recognized by the machine itself.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        try:
            variables = hostvars[name]
            connection = variables.get("ansible_connection") or constants.DEFAULT_TRANSPORT
            way = tuple(str(variables.get(key) or "") for key in _WAY)
        except AnsibleError:  # undefined as yet
            continue
        if connection in _SSH and not any("{{" in part for part in way):
            found.setdefault((way[0] or name, *way[1:]), []).append(name)
    return "; ".join(
        f"{' and '.join(same)} of the inventory are one host, {way[0]}: leave all but one out"
        for way, same in found.items()
        if len(same) > 1
    )


def refuse_empty() -> None:
    """Raise AnsibleError for an inventory without hosts, as one whose source cannot be read: Ansible would succeed.

    A syntax check needs none.
    """
    if not context.CLIARGS.get("syntax"):
        raise AnsibleError(
            "the inventory has no hosts: nothing would be done; see Ansible's warnings of its sources"
        )


def check_command_line(limited: list[str], variables: Variables) -> None:
    """Raise AnsibleError for options that would skip all of a playbook of the collection.

    Only where it is given to ansible-playbook itself: one that imports it may have tags, and other plays.
    """
    if not any(_is_ours(str(name)) for name in context.CLIARGS.get("args") or ()):
        return
    only = set(variables.get("ansible_run_tags") or ["all"])
    without = set(variables.get("ansible_skip_tags") or [])
    if not only & {"all", "untagged"} or without & {"all", "untagged"}:
        raise AnsibleError(
            "--tags or --skip-tags leave nothing of this playbook: its tasks have no tags"
        )
    if context.CLIARGS.get("start_at_task"):
        raise AnsibleError("--start-at-task: this playbook can only be run from its beginning")
    if not limited:
        raise AnsibleError(f"--limit excludes all hosts of the run: {variables['ansible_limit']}")


def _is_ours(name: str) -> bool:
    return name.startswith(_NAMESPACE) or pathlib.Path(name).resolve().parent == PLAYBOOKS


def _flat(terms: list[t.Any]) -> list[str]:
    found: list[str] = []
    for term in terms:
        found += _flat(term) if isinstance(term, list) else [str("" if term is None else term)]
    return found
