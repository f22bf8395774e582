# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Tasks of the operator around a batch, around a host, and when a rollout stops."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ..fake_services import service
from ..playbook import GONE, PLAYBOOKS, Ansible, both_versions, versions_in_turn
from .fleet import Fleet

HOOKS = ("before_batch", "before_host", "after_host", "after_batch", "on_stop_tasks")
#: A line for each hook and host: its name, the host, and what the hook knows of the restart.
FACTS = {
    "on_stop_tasks": (
        "{{ rollout_stop.reason }}, {{ rollout_restarts[0].status }}, "
        "{{ rollout_stop.hosts | map(attribute='status') | join(' ') }}"
    ),
}
RESTART = (
    "{{ rollout_restarts[0].status }} {{ rollout_restarts[0].to_generation | default(0, true) }} "
    "{{ rollout_begin.batch | join(' ') }}"
)


class Hooks:
    """Files of tasks that leave lines in a log; C(more): tasks that follow, by hook."""

    def __init__(self, directory: pathlib.Path, **more: t.Any) -> None:
        self._log = directory / "hooks.log"
        self.variables: dict[str, t.Any] = {}
        for hook in HOOKS:
            line = f"{hook} {{{{ inventory_hostname }}}}: {FACTS.get(hook, RESTART)}"
            tasks = [
                {
                    "name": f"Note {hook}",
                    "ansible.builtin.shell": f"cat >>{self._log}",
                    "args": {"stdin": line},
                    "delegate_to": "localhost",
                    "vars": {"ansible_connection": "local"},
                },
                *more.get(hook, []),
            ]
            (directory / f"{hook}.yml").write_text(json.dumps(tasks))
            self.variables[f"udpgrm_{hook}"] = f"{hook}.yml"

    @property
    def lines(self) -> list[str]:
        """The lines that the hooks have logged."""
        return self._log.read_text().splitlines() if self._log.exists() else []


def fails(when: str) -> list[dict[str, t.Any]]:
    task = {"name": "Ask the balancer", "ansible.builtin.fail": {"msg": "{{ 6 }} it says no"}}
    return [{**task, "when": when}]


def loses(host: str) -> list[dict[str, t.Any]]:
    """Return a task whose host is gone."""
    task = {"name": "Tell the balancer", "ansible.builtin.command": "true"}
    return [{**task, "vars": GONE, "when": f"inventory_hostname == '{host}'"}]


@both_versions
def test_hooks_are_run_in_their_order_with_the_restarts(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    hooks = Hooks(ansible.directory)
    status, output = fleet.run(**hooks.variables)
    assert (status, fleet.working) == (0, [2, 2, 2]), output
    assert "echo: 3 updated" in output
    assert hooks.lines[:4] == [
        "before_batch fl1: untouched 0 fl1",
        "before_host fl1: untouched 0 fl1",
        "after_host fl1: updated 2 fl1",
        "after_batch fl1: updated 2 fl1",
    ]
    second = hooks.lines[4:]
    assert [line.split(" ")[0] for line in second] == [
        "before_batch",
        *["before_host"] * 2,
        *["after_host"] * 2,
        "after_batch",
    ]
    assert second[0] == "before_batch fl2: untouched 0 fl2 fl3"
    # a host that is done is not taken out again, but brought back
    done = len(hooks.lines)
    status, output = fleet.run(**hooks.variables)
    assert (status, "echo: 3 unchanged" in output) == (0, True), output
    assert [line.split(":")[0] for line in hooks.lines[done : done + 3]] == [
        "before_batch fl1",
        "after_host fl1",
        "after_batch fl1",
    ]


def test_three_round_trips_a_host(ansible: Ansible) -> None:
    """Make three round trips: to plan; to restart, bake and check; to wait."""
    fleet = Fleet(ansible, [{}, {}])
    hooks = Hooks(ansible.directory)
    gates = [{"name": "open", "command": ["true"]}]
    status, output = fleet.run(udpgrm_gates=gates, udpgrm_bake=1, **hooks.variables)
    assert (status, fleet.working) == (0, [2, 2]), output
    restart, drain = "udpgrm_restart.py", "udpgrm_drain.py"
    # tasks of hooks run elsewhere, with the host's Python
    modules = [[m for m in host.modules if m.startswith("udpgrm")] for host in fleet.hosts.values()]
    assert modules == [[restart, restart, drain]] * 2


@versions_in_turn(
    "hook, working, status",
    [
        ("before_batch", [1, 1, 1, 1], "2 failed"),
        ("before_host", [1, 2, 1, 1], "1 updated, 1 failed"),
        ("after_host", [2, 2, 1, 1], "1 updated, 1 failed"),
        ("after_batch", [2, 2, 1, 1], "1 updated, 1 failed"),
    ],
)
def test_a_hook_that_fails_is_a_failure_of_its_host(
    ansible: Ansible, hook: str, working: list[int], status: str
) -> None:
    fleet = Fleet(ansible, [{}, {}, {}, {}])
    hooks = Hooks(ansible.directory, **{hook: fails("inventory_hostname == 'fl1'")})
    code, output = fleet.run(udpgrm_batches=[2, 2], **hooks.variables)
    assert (code, fleet.working) == (2, working), output
    assert f"echo: {status}, 2 untouched" in output
    assert f"fl1: udpgrm_{hook}: Ask the balancer: 6 it says no" in output
    # the other hosts' hooks have not been left out, the failed host's have
    assert any(line.startswith("after_host fl2") for line in hooks.lines) == (
        hook != "before_batch"
    )
    if hook == "before_host":
        assert not any(line.startswith("after_host fl1") for line in hooks.lines)
    assert hooks.lines[-1].startswith("on_stop_tasks fl1: ")
    assert "failed, at most 0 may" in hooks.lines[-1]


@versions_in_turn(
    "hook, working, status",
    [
        ("before_batch", [1, 1, 1], "1 failed, 1 unreachable, 1 untouched"),
        ("before_host", [1, 2, 1], "1 updated, 1 unreachable, 1 untouched"),
        ("after_host", [2, 2, 1], "1 updated, 1 unreachable, 1 untouched"),
    ],
)
def test_a_hook_that_reaches_no_host(
    ansible: Ansible, hook: str, working: list[int], status: str
) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    hooks = Hooks(ansible.directory, **{hook: loses("fl1")})
    code, output = fleet.run(udpgrm_batches=[2, 1], **hooks.variables)
    assert (code != 0, fleet.working) == (True, working), output
    assert f"echo: {status}" in output
    assert "a task did not reach its host" in output


def test_a_host_that_would_be_refused_meets_no_hook(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"refuses": "no generation is free"}, {}, {}])
    fleet.gone = {"fl2"}
    hooks = Hooks(ansible.directory)
    status, output = fleet.run(udpgrm_max_failures=2, **hooks.variables)
    assert (status, fleet.working) == (2, [1, 1, 2]), output
    assert "echo: 1 updated, 1 failed, 1 unreachable" in output
    assert [line for line in hooks.lines if "host fl1" in line or "host fl2" in line] == []


def test_a_first_host_that_is_refused_leaves_the_batch_its_hook(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"refuses": "no generation is free"}, {}])
    hooks = Hooks(ansible.directory)
    status, output = fleet.run(udpgrm_batches=[2], udpgrm_max_failures=1, **hooks.variables)
    assert (status, fleet.working) == (2, [1, 2]), output
    ran = [line.split(":")[0] for line in hooks.lines if not line.startswith("on_stop")]
    assert ran == ["before_batch fl1", "before_host fl2", "after_host fl2", "after_batch fl2"]


def test_a_host_that_was_rolled_back_is_brought_back(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"rolls_back": "dead"}, {}])
    hooks = Hooks(ansible.directory)
    status, output = fleet.run(**hooks.variables)
    assert (status, fleet.working) == (2, [1, 1]), output
    assert "after_host fl1: rolled_back 2 fl1" in hooks.lines
    assert hooks.lines[-1].endswith("rolled_back untouched")
    fleet.hosts["fl1"].set_services(service())
    status, output = fleet.run(**hooks.variables)
    assert (status, fleet.working) == (0, [2, 2]), output


def test_hooks_on_stop_alone(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"rolls_back": "dead"}, {}])
    hooks = Hooks(ansible.directory, on_stop_tasks=fails("true"))
    status, output = fleet.run(udpgrm_on_stop_tasks="on_stop_tasks.yml")
    assert (status, fleet.working) == (2, [1, 1]), output
    assert len(hooks.lines) == 1
    assert "udpgrm_on_stop_tasks: Ask the balancer: 6 it says no" in " ".join(output.split())
    assert "echo: 1 rolled back, 1 untouched" in output
    fleet.hosts["fl1"].set_services(service())
    status, output = fleet.run(udpgrm_on_stop_tasks="on_stop_tasks.yml")
    assert (status, len(hooks.lines)) == (0, 1), output


@both_versions
def test_a_wrong_hook_is_refused_before_anything_begins(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(udpgrm_before_host="nosuch.yml")
    assert (status != 0, fleet.working) == (True, [1]), output
    assert "udpgrm_before_host: there is no file" in " ".join(output.split())
    (ansible.directory / "wrong.yml").write_text("- no_such_module:\n")
    status, output = fleet.run(udpgrm_after_host="wrong.yml")
    assert (status != 0, fleet.working) == (True, [1]), output
    assert "no_such_module" in output


def test_a_hook_of_the_inventory_is_refused(ansible: Ansible) -> None:
    """Refuse a hook that the playbook does not know when it is parsed, and would not run."""
    fleet = Fleet(ansible, [{}])
    hooks = Hooks(ansible.directory)
    groups = ansible.directory / "group_vars"
    groups.mkdir()
    (groups / "all.json").write_text(json.dumps(hooks.variables))
    status, output = fleet.run()
    assert (status, fleet.working) == (2, [1]), output
    assert "udpgrm_before_batch: give it with -e" in output


@pytest.mark.parametrize(
    "variables", [{"udpgrm_hosts": "fl1"}, {"udpgrm_canary": "fl2"}, {"udpgrm_batches": [2]}]
)
def test_hosts_and_batches_of_the_inventory_are_refused(
    ansible: Ansible, variables: dict[str, t.Any]
) -> None:
    """Refuse them, as Ansible makes the batches before it reads the inventory's variables."""
    fleet = Fleet(ansible, [{}, {}])
    groups = ansible.directory / "group_vars"
    groups.mkdir()
    (groups / "all.json").write_text(json.dumps(variables))
    given = fleet.given()
    del given["udpgrm_batches"]
    status, output = ansible.run(PLAYBOOKS / "rolling_restart.yml", fleet.hosts, **given)
    assert (status, fleet.working) == (2, [1, 1]), output
    assert f"{next(iter(variables))}: give it with -e" in output


def test_hooks_of_the_second_of_two_rollouts(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    hooks = Hooks(ansible.directory)
    plays = [
        {"import_playbook": str(PLAYBOOKS / "rolling_restart.yml"), "vars": variables}
        for variables in ({"udpgrm_release": "2"}, {"udpgrm_release": "3", **hooks.variables})
    ]
    playbook = ansible.directory / "site.yml"
    playbook.write_text(json.dumps(plays))
    given = fleet.given()
    del given["udpgrm_release"]
    status, output = ansible.run(playbook, fleet.hosts, **given)
    assert (status, fleet.working) == (0, [3, 3]), output
    assert [line for line in hooks.lines if line.startswith("after_host")] == [
        "after_host fl1: updated 3 fl1",
        "after_host fl2: updated 3 fl2",
    ]


#: Its name and arguments cannot be templated again, once it has failed.
LOOP = {
    "name": "Tell {{ balancer }}",
    "ansible.builtin.fail": {"msg": "{{ balancer }} says no"},
    "loop": ["b1", "b2"],
    "loop_control": {"loop_var": "balancer"},
}
UNDEFINED = {"name": "Tell {{ balancer }}", "ansible.builtin.command": "tell {{ balancer }}"}


@versions_in_turn(
    "task, hook",
    [(task, hook) for task in (LOOP, UNDEFINED) for hook in HOOKS],
)
def test_a_task_whose_variables_are_gone_fails_as_its_hook(
    ansible: Ansible, task: dict[str, t.Any], hook: str
) -> None:
    fleet = Fleet(ansible, [{}, {}])
    hooks = Hooks(ansible.directory, **{hook: [task]})
    brake = ansible.directory / "brake"
    if hook == "on_stop_tasks":
        brake.write_text("stop")
    status, output = fleet.run(udpgrm_brake=str(brake), **hooks.variables)
    assert status == 2, output
    assert f"udpgrm_{hook}: Tell" in " ".join(output.split())
    counted = "2 untouched" if hook == "on_stop_tasks" else "1 failed, 1 untouched"
    assert f"echo: {counted}" in output
