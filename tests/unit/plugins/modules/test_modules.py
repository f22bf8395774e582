# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Modules as Ansible runs them: a process of their own, with a udpgrm command in PATH."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ..fake_host import group

ADDRESS = "0.0.0.0:4433"
# Answers from, and changes, a file of groups; leaves a line per call beside it.
COMMAND = """#!{python}
import json, sys
sys.path.insert(0, {tests!r})
from fake_host import FakeHost
with open({state!r}) as file:
    host = FakeHost(*json.load(file))
status, out, err = host(sys.argv[1:])
with open({state!r}, "w") as file:
    json.dump(host.groups, file)
with open({state!r} + ".calls", "a") as file:
    print(*sys.argv[1:], file=file)
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


class Machine:
    """A directory with a fake udpgrm command and its state."""

    def __init__(self, directory: pathlib.Path, *groups: dict[str, t.Any]) -> None:
        self.path = directory
        self.state = directory / "groups.json"
        self.state.write_text(json.dumps(groups))
        tests = str(pathlib.Path(__file__).resolve().parents[1])
        command = directory / "udpgrm"
        command.write_text(
            COMMAND.format(python=sys.executable, tests=tests, state=str(self.state))
        )
        command.chmod(0o755)

    def run(self, name: str, arguments: dict[str, t.Any], check: bool = False) -> dict[str, t.Any]:
        """Return what the module prints, as an object."""
        module = f"ansible_collections.udpgrm.fleet.plugins.modules.{name}"
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}),
            env={"PATH": str(self.path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        result = json.loads(done.stdout)
        assert isinstance(result, dict)
        assert done.returncode == (1 if result.get("failed") else 0)
        return result

    @property
    def calls(self) -> list[str]:
        """The command lines udpgrm was run with."""
        file = pathlib.Path(f"{self.state}.calls")
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path, group(ADDRESS, 1, [1, 2]), group("[2001:db8::1]:53", 0, [0]))


@pytest.mark.parametrize("check", [False, True])
def test_info(machine: Machine, check: bool) -> None:
    result = machine.run("udpgrm_info", {}, check)
    assert result["changed"] is False
    assert (result["schema"], result["version"], result["daemon"]["pid"]) == (1, "0.1.0", 412)
    assert [g["address"] for g in result["groups"]] == [ADDRESS, "[2001:db8::1]:53"]


@pytest.mark.parametrize(
    "address, found",
    [
        (ADDRESS, [ADDRESS]),
        (["[2001:DB8:0::1]:53", "192.0.2.1:1"], ["[2001:db8::1]:53"]),
        ([], []),
    ],
)
def test_info_filter(machine: Machine, address: str | list[str], found: list[str]) -> None:
    result = machine.run("udpgrm_info", {"address": address})
    assert [g["address"] for g in result["groups"]] == found


def test_group_switches_once(machine: Machine) -> None:
    task = {"address": ADDRESS, "working_gen": "newest", "dissector": {"type": "flow"}}
    predicted = machine.run("udpgrm_group", task, check=True)
    done = machine.run("udpgrm_group", task)
    for result in predicted, done:
        assert result["changed"] is True
        assert (result["before"]["working_gen"], result["after"]["working_gen"]) == (1, 2)
        assert result["diff"] == {"before": result["before"], "after": result["after"]}
        assert result["started_at"] <= result["finished_at"]
    assert [call for call in machine.calls if not call.startswith("list")] == [
        f"working-gen {ADDRESS} newest --app 0 --check --json",
        f"working-gen {ADDRESS} newest --app 0 --json",
    ]
    assert machine.run("udpgrm_group", task)["changed"] is False


def test_group_absent(machine: Machine) -> None:
    task = {"address": ADDRESS, "state": "absent"}
    assert [machine.run("udpgrm_group", task, check=True)["changed"] for _repeat in range(2)] == [
        True,
        True,
    ]
    assert [machine.run("udpgrm_group", task)["changed"] for _repeat in range(2)] == [True, False]


@pytest.mark.parametrize(
    "task, message",
    [
        ({"address": "0.0.0.0"}, "not an address: '0.0.0.0'"),
        ({"working_gen": "latest"}, "not a generation: 'latest'"),
        ({"application": 4}, "value of application must be one of"),
        ({"state": "gone"}, "value of state must be one of"),
        ({"dissector": {"type": "magic"}}, "value of type must be one of"),
        ({"dissector": {"timeout": 1}}, "Unsupported parameters"),
        (
            {"state": "absent", "working_gen": "1"},
            "working_gen and dissector are not allowed with state=absent",
        ),
    ],
)
def test_group_refuses_before_anything_runs(
    machine: Machine, task: dict[str, t.Any], message: str
) -> None:
    result = machine.run("udpgrm_group", {"address": ADDRESS, **task})
    assert result["failed"] is True
    assert message in result["msg"]
    assert machine.calls == []


def test_info_refuses_before_anything_runs(machine: Machine) -> None:
    result = machine.run("udpgrm_info", {"address": [ADDRESS, "nowhere"]})
    assert (result["failed"], result["msg"].partition(";")[0]) == (
        True,
        "not an address: 'nowhere'",
    )
    assert machine.calls == []


def test_group_failure_is_one_line(machine: Machine) -> None:
    result = machine.run("udpgrm_group", {"address": "192.0.2.1:1", "working_gen": "newest"})
    assert result["failed"] is True
    assert result["msg"].startswith("no group at 192.0.2.1:1: ")
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(
    "module, arguments", [("udpgrm_info", {}), ("udpgrm_group", {"address": ADDRESS})]
)
def test_without_the_command(machine: Machine, module: str, arguments: dict[str, str]) -> None:
    (machine.path / "udpgrm").unlink()
    result = machine.run(module, arguments)
    assert result["failed"] is True
    assert "udpgrm" in result["msg"]
