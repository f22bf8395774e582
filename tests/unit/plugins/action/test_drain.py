# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the progress that udpgrm_drain shows while it waits, and when it shows none."""

from __future__ import annotations

import json
import re
import typing as t

import pytest

from ..fake_command import FakeCommand
from ..fake_host import group
from ..fake_services import FOREVER, service
from ..playbook import Ansible, both_versions

EDGE = "0.0.0.0:4433"
GENERATION = {"address": EDGE, "generation": 1}


@pytest.fixture
def fleet(ansible: Ansible) -> dict[str, FakeCommand]:
    """Return a host whose generation 1 loses one of 3 flows with each look."""
    place = ansible.directory / "fl1"
    return {"fl1": FakeCommand(place, [group(EDGE, 2, [1, 2])], [service(polls=FOREVER)])}


def run(
    ansible: Ansible, fleet: dict[str, FakeCommand], arguments: dict[str, t.Any], *options: str
) -> tuple[int, str]:
    task = {"name": "Wait", "udpgrm.fleet.udpgrm_drain": arguments}
    playbook = ansible.directory / "drain.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    return ansible.run(playbook, fleet, *options)


@both_versions
def test_flows_left(ansible: Ansible, fleet: dict[str, FakeCommand]) -> None:
    status, output = run(ansible, fleet, GENERATION)
    assert status == 0, output
    lines = [line for line in output.splitlines() if line.startswith("fl1: ")]
    assert [line.split(", ")[1] for line in lines] == ["2 flows left", "1 flows left"]


@both_versions
def test_time_is_up(ansible: Ansible, fleet: dict[str, FakeCommand]) -> None:
    status, output = run(ansible, fleet, {**GENERATION, "timeout": 0})
    assert status == 2, output
    # the time is that of the look itself, whatever the machine makes of it
    assert re.search(r"generation 1 has not drained in \d+ s: 2 flows left", output), output


def test_check_mode_looks_once(ansible: Ansible, fleet: dict[str, FakeCommand]) -> None:
    status, output = run(ansible, fleet, GENERATION, "--check")
    assert (status, len(fleet["fl1"].modules)) == (0, 1), output


@pytest.mark.parametrize("wrong", [{"timeout": "soon"}, {"interval": [5]}, {"flows": "few"}])
def test_numbers(ansible: Ansible, fleet: dict[str, FakeCommand], wrong: dict[str, t.Any]) -> None:
    status, output = run(ansible, fleet, {**GENERATION, **wrong})
    assert status == 2
    assert f"{next(iter(wrong))} " in output.replace("'", " ")
    assert "Traceback" not in output
    assert fleet["fl1"].calls == []
