# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _hosts

AT = {"ansible_host": "192.0.2.1"}


class Undefined(dict[str, t.Any]):
    def get(self, _name: str, _default: t.Any = None) -> t.Any:
        raise AnsibleUndefinedVariable("not yet")


@pytest.mark.parametrize(
    "one, other",
    [
        ({}, {}),
        ({}, AT),
        (AT, {**AT, "ansible_port": 2222}),
        # a gateway, and two networks with the same private addresses
        ({**AT, "ansible_user": "root%one"}, {**AT, "ansible_user": "root%other"}),
        (AT, {**AT, "ansible_ssh_common_args": "-J bastion"}),
        ({**AT, "ansible_connection": "local"}, {**AT, "ansible_connection": "local"}),
        ({"ansible_host": "{{ later }}"}, {"ansible_host": "{{ later }}"}),
        (Undefined(), Undefined()),
    ],
)
def test_hosts_that_may_be_two(one: dict[str, t.Any], other: dict[str, t.Any]) -> None:
    assert _hosts.named_twice({"a": one, "b": other}, ["a", "b"]) == ""


def test_names_of_one_host() -> None:
    hostvars = {"a": AT, "b": {}, "192.0.2.1": {}, "c": {**AT, "ansible_connection": "ssh"}}
    assert _hosts.named_twice(hostvars, list(hostvars)) == (
        "a and 192.0.2.1 and c of the inventory are one host, 192.0.2.1: leave all but one out"
    )
    assert _hosts.named_twice(hostvars, ["a", "b"]) == ""
