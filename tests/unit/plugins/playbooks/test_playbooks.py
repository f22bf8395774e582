# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The playbooks that restart services, and show them."""

from __future__ import annotations

import typing as t

import pytest

from ..fake_services import FOREVER, service
from ..playbook import Ansible, both_versions, versions_in_turn
from .fleet import Fleet


@both_versions
def test_all_hosts_once(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": 3}, {}, {}, {"polls": 6}])
    status, output = fleet.run("--check")
    assert (status, fleet.working) == (0, [1, 1, 1, 1]), output
    assert "echo: 4 planned" in output
    assert [len(host.modules) for host in fleet.hosts.values()] == [1, 1, 1, 1]
    status, output = fleet.run()
    assert (status, fleet.working) == (0, [2, 2, 2, 2]), output
    assert "echo: 4 updated" in output
    for name, host in fleet.hosts.items():
        modules = host.modules[1:]  # check mode's
        assert modules == ["udpgrm_restart.py", "udpgrm_drain.py"], name
    assert all(name in fleet.report for name in fleet.hosts)
    status, output = fleet.run()
    assert (status, fleet.working) == (0, [2, 2, 2, 2]), output
    assert "echo: 4 unchanged" in output


def test_the_first_restart_ends_what_was_adopted(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": 3}, {"rolls_back": "dead"}])
    for host in fleet.hosts.values():
        (host.path / "state").mkdir()
        (host.path / "state" / "echo.adopted").write_text("old-echo.service\n")
    status, output = fleet.run("--check", udpgrm_max_failures=1)
    assert (status, [host.boot_changes for host in fleet.hosts.values()]) == (0, [[], []]), output
    status, output = fleet.run(udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [2, 1]), output
    replaced, kept = fleet.hosts.values()
    assert (replaced.boot_changes, kept.boot_changes) == (["disable old-echo.service"], [])


@both_versions
def test_one_budget_for_all_batches(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}, {"rolls_back": "nobody answers"}, {}, {}])
    fleet.gone = {"fl2"}
    status, output = fleet.run(udpgrm_batches=[1], udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [2, 1, 2, 1, 1, 1]), output
    assert "echo: 2 updated, 1 rolled back, 1 unreachable, 2 untouched" in output
    assert "stopped: 2 failed, at most 1 may (udpgrm_max_failures): fl2 unreachable" in output
    assert "fl4 rolled back (canary: nobody answers)" in output
    assert "nobody answers" in fleet.report
    assert "Stopped." in fleet.report
    # only the hosts remember anything
    fleet.gone = set()
    fleet.hosts["fl4"].set_services(service())
    begun = len(fleet.hosts["fl1"].modules)
    status, output = fleet.run()
    assert (status, fleet.working) == (0, [2] * 6), output
    assert "echo: 4 updated, 2 unchanged" in output
    assert len(fleet.hosts["fl1"].modules) == begun + 1


def test_failures_within_the_budget_fail_the_run_at_its_end(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"refuses": "no generation is free"}, {}, {}])
    status, output = fleet.run(udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [1, 2, 2]), output
    assert "echo: 2 updated, 1 failed" in output


@both_versions
def test_go_back_where_that_is_possible(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": FOREVER}, {}, {"rolls_back": "dead"}, {}])
    status, output = fleet.run(udpgrm_on_stop="rollback")
    assert (status, fleet.working) == (2, [1, 2, 1, 1]), output
    assert "echo: 1 updated, 2 rolled back, 1 untouched" in output
    assert "fl2: not rolled back: echo: nothing to go back to: the old instance has ended" in output
    assert "fl1: went back as the run was stopped" in output
    assert "stopped: 1 failed, at most 0 may (udpgrm_max_failures): fl3 rolled back" in output


def test_go_back_where_the_look_failed(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": FOREVER}, {"polls": FOREVER}, {}])
    fleet.hosts["fl1"].break_module("udpgrm_service_info")
    # a batch larger than the forks is looked at in a round trip of its own
    given: dict[str, t.Any] = {"udpgrm_on_stop": "rollback", "udpgrm_batches": [2, 1]}
    status, output = fleet.run("--forks", "1", **given)
    assert (status, fleet.working) == (2, [1, 1, 1]), output
    assert "echo: 2 rolled back, 1 untouched" in output


def test_batches_bake_and_wait(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    status, output = fleet.run(udpgrm_bake=1, udpgrm_pause=2)
    assert status == 0, output
    first, second = (host.services["echo"]["journal"] for host in fleet.hosts.values())
    assert second["started"] - first["started"] >= 3


def test_run_again_while_hosts_drain(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": 9}])
    fleet.hosts["fl1"].break_module("udpgrm_drain")
    assert fleet.run()[0] == 2
    (fleet.hosts["fl1"].path / "broken-udpgrm_drain.py").unlink()
    status, output = fleet.run()
    assert status == 0, output
    assert "echo: 1 updated" in output
    assert "changed=0" in output


def test_more_errors_stop_it(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"errors": 5}, {}, {}])
    status, output = fleet.run()
    assert (status, fleet.working) == (2, [2, 1, 1]), output
    assert "fl1: 5.00% of packets are dropped or misdirected, 0.00% were before" in output


def test_canaries_come_first(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {"rolls_back": "dead"}])
    status, output = fleet.run(udpgrm_canary="fl3")
    assert (status, fleet.working) == (2, [1, 1, 1]), output
    assert "echo: 1 rolled back, 2 untouched" in output
    status, output = fleet.run(udpgrm_canary="fl9")
    assert status != 0
    assert "no host of the inventory is meant by 'fl9'" in " ".join(output.split())
    assert fleet.working == [1, 1, 1]


@versions_in_turn("nothing", ["", None, []])
def test_no_canary_is_not_all_of_them(ansible: Ansible, nothing: object) -> None:
    fleet = Fleet(ansible, [{"rolls_back": "dead"}, {}, {}])
    status, output = fleet.run(udpgrm_canary=nothing)
    assert (status, fleet.working) == (2, [1, 1, 1]), output
    assert "echo: 1 rolled back, 2 untouched" in output


@both_versions
def test_canaries_as_a_list(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {"rolls_back": "dead"}, {}])
    status, output = fleet.run(udpgrm_canary=["fl2", "fl3"])
    assert (status, fleet.working) == (2, [1, 1, 2]), output


def assert_not_there(fleet: Fleet, playbook: str, hosts: str, named: str) -> None:
    status, output = fleet.run(playbook=playbook, udpgrm_hosts=hosts)
    assert (status != 0, fleet.working) == (True, [1])
    assert f"no host of the inventory is meant by '{named}'" in " ".join(output.split())


@pytest.mark.parametrize("playbook", ["status", "rollback", "upgrade_daemon"])
def test_hosts_that_are_not_there(ansible: Ansible, playbook: str) -> None:
    assert_not_there(Fleet(ansible, [{}]), playbook, "fl1,nosuch", "nosuch")


@versions_in_turn("hosts, named", [("nosuch", "nosuch"), ("fl1,nosuch", "nosuch"), ("", "")])
def test_hosts_that_are_not_there_to_restart(ansible: Ansible, hosts: str, named: str) -> None:
    assert_not_there(Fleet(ansible, [{}]), "rolling_restart", hosts, named)


def test_canaries_with_commas_and_a_limit(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {"rolls_back": "dead"}, {}])
    given = {"udpgrm_canary": "fl1,fl3", "udpgrm_hosts": "fl1,fl2,fl3,fl4"}
    # one canary is left, so the first batch has one host
    status, output = fleet.run("--limit", "fl2,fl3,fl4", **given)
    assert status == 2
    assert "echo: 1 rolled back, 2 untouched" in output
    # check mode reports no outcome of the interrupted restart
    status, output = fleet.run("--check", **given)
    assert (status, "echo: 4 planned" in output) == (0, True), output


@versions_in_turn(
    "name, value, wanted",
    [
        ("udpgrm_bake", "10s", "it is a whole number of seconds"),
        ("udpgrm_pause", "", "it is a whole number of seconds"),
        ("udpgrm_max_failures", "10%", "it is a whole number of hosts"),
        ("udpgrm_max_error_share", "5%", "it is a number such as 0.001"),
        ("udpgrm_on_stop", "rolback", "it is stay or rollback"),
        ("udpgrm_service", None, "set it to the name of a service"),
        ("udpgrm_batches", "[1,2", "not sizes of batches: '[1,2'"),
        ("udpgrm_services_to_restart", ["a b"], "it is a list of names of services"),
        ("udpgrm_other_rollout", "no", "it is refuse, wait or replace"),
        ("udpgrm_report", "/nonexistent/report.html", "/nonexistent/report.html cannot be written"),
        ("udpgrm_report", "/dev/null", "/dev/null cannot be written: it is not a file"),
    ],
)
def test_the_wrong_variable_is_named(
    ansible: Ansible, name: str, value: t.Any, wanted: str
) -> None:
    fleet = Fleet(ansible, [{}])
    given: dict[str, t.Any] = {name: value}
    status, output = fleet.run(**given)
    assert (status != 0, fleet.working) == (True, [1]), output
    assert f"{name}: {wanted}" in " ".join(output.split())
    assert "Traceback" not in output


@both_versions
def test_batches_as_words(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {"rolls_back": "dead"}, {}])
    status, output = fleet.run(udpgrm_batches="[2, 100%]")
    assert (status, fleet.working) == (2, [2, 1, 1]), output
    status, output = fleet.run(udpgrm_batches=0)
    assert status != 0
    assert "not sizes of batches: 0; they are a number of hosts" in output
    assert "Traceback" not in output


@both_versions
def test_words_of_hosts_are_no_templates(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"refuses": "{{ 6 * 7 }} <b>"}, {}])
    status, output = fleet.run()
    assert (status, fleet.working) == (2, [1, 1])
    assert "failed: udpgrm restart: {{ 6 * 7 }} <b>" in output
    assert "{{ 6 * 7 }} &lt;b&gt;" in fleet.report


@both_versions
def test_rollback_and_status(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"polls": FOREVER}, {"polls": FOREVER}])
    fleet.hosts["fl1"].break_module("udpgrm_drain")
    fleet.hosts["fl2"].break_module("udpgrm_drain")
    fleet.run()
    assert fleet.working == [2, 2]
    status, output = fleet.run(playbook="status")
    assert status == 0, output
    assert output.count("echo drain, release 2; 0.0.0.0:4433: echo@1.service") == 2, output
    status, output = fleet.run("--check", playbook="rollback")
    assert (status, fleet.working) == (0, [2, 2]), output
    status, output = fleet.run(playbook="rollback")
    assert (status, fleet.working) == (0, [1, 1]), output
    assert output.count("changed=1") == 2, output
    status, output = fleet.run(playbook="rollback")
    assert (status, output.count("changed=0")) == (0, 2), output
