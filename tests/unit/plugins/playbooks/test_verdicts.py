# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The verdict of a rolling restart is that of its own run, on what its hosts were seen to be."""

from __future__ import annotations

import json
import signal
import time
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _run

from ..fake_command import FakeCommand
from ..fake_services import service
from ..playbook import LIMIT_S, PLAYBOOKS, Ansible, both_versions, versions_in_turn
from .fleet import Claim, Fleet


def add_service(host: FakeCommand, name: str, **behaviour: t.Any) -> None:
    host.set_services(*host.services.values(), {**service(name, **behaviour), "address": "[::]:53"})


def two_services(ansible: Ansible) -> Fleet:
    fleet = Fleet(ansible, [{}, {}, {}])
    for number, host in enumerate(fleet.hosts.values()):
        add_service(host, "dns", **({} if number else {"rolls_back": "dead"}))
    return fleet


@both_versions
def test_two_rollouts_in_one_run(ansible: Ansible) -> None:
    """Evaluate the second rollout without results of the first one's tasks."""
    fleet = two_services(ansible)
    playbook = ansible.directory / "site.yml"
    plays = [
        {
            "import_playbook": str(PLAYBOOKS / "rolling_restart.yml"),
            "vars": {"udpgrm_service": name},
        }
        for name in ("echo", "dns")
    ]
    playbook.write_text(json.dumps(plays))
    settings: dict[str, t.Any] = {
        "udpgrm_bake": 0,
        "udpgrm_batches": [1, 2],
        "udpgrm_report": False,
    }
    status, output = ansible.run(playbook, fleet.hosts, udpgrm_release="2", **settings)
    assert (status, fleet.working) == (2, [2, 2, 2]), output
    assert "echo: 3 updated" in output
    assert "dns: 1 rolled back, 2 untouched" in output


def test_several_services_in_one_rollout(ansible: Ansible) -> None:
    fleet = two_services(ansible)
    given: dict[str, t.Any] = {"udpgrm_service": None, "udpgrm_services_to_restart": "[echo, dns]"}
    status, output = fleet.run(udpgrm_canary="fl2", **given)
    assert status == 2, output
    assert "echo: 3 updated" in output
    assert "dns: 2 updated, 1 rolled back" in output
    assert "fl1 dns: canary: dead" in output
    assert "fl1 dns" in fleet.report
    status, output = fleet.run(udpgrm_services_to_restart=["echo"])
    assert "udpgrm_service: set it, or udpgrm_services_to_restart, not both" in output
    assert status != 0


def test_hosts_with_other_services(ansible: Ansible) -> None:
    """Refuse hosts with other services, whose failures would not stop the run."""
    fleet = two_services(ansible)
    folder = ansible.directory / "host_vars"
    folder.mkdir()
    for host, name in ("fl1", "dns"), ("fl2", "echo"), ("fl3", "echo"):
        (folder / f"{host}.json").write_text(json.dumps({"udpgrm_service": name}))
    given = fleet.given(udpgrm_batches=[2, 1])
    del given["udpgrm_service"]
    status, output = ansible.run(PLAYBOOKS / "rolling_restart.yml", fleet.hosts, **given)
    assert (status, fleet.working) == (2, [1, 1, 1]), output
    assert "udpgrm_service: that of fl2 is not that of fl1: restart each in a run" in output


@versions_in_turn("strategy", ["free", "host_pinned"])
def test_the_strategy_is_the_playbooks(
    ansible: Ansible, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_STRATEGY", strategy)
    fleet = Fleet(ansible, [{}, {}])
    status, output = fleet.run()
    assert (status, fleet.working) == (0, [2, 2]), output
    assert "echo: 2 updated" in output


def test_a_host_that_loses_power_after_its_switch(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{"loses_power": 0.5}, {}])
    status, output = fleet.run(udpgrm_bake=1)
    assert (status, fleet.working) == (2, [1, 1]), output
    assert "generation 1 is active, not 2, which the restart has switched to" in output
    assert "echo: 1 failed, 1 untouched" in output


def test_a_host_that_loses_power_while_others_are_restarted(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {"loses_power": 0.5}])
    status, output = fleet.run()
    # the last batch is not looked at before the end
    fleet.hosts["fl2"].services["echo"]["working"] = 1
    assert (status, fleet.working[0]) == (2, 2), output
    assert "echo: 1 updated, 1 failed" in output


@pytest.mark.parametrize("batches", [[2], [1]])
def test_a_host_that_has_two_names(ansible: Ansible, batches: list[int]) -> None:
    """Restart the host once: refuse its other name, in the same batch and in a later one."""
    fleet = Fleet(ansible, [{}])
    fleet.hosts["alias"] = fleet.hosts["fl1"]
    one = ("--forks", "1")  # hosts of a test are files without locks
    status, output = fleet.run(*one, udpgrm_batches=batches, udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [2, 2]), output
    assert "echo: 1 updated, 1 failed" in output
    assert "alias: echo: fl1 and alias of the inventory are one host" in output
    # the claim has ended with the run
    status, output = fleet.run("--limit", "fl1", udpgrm_release="3")
    assert (status, fleet.working) == (0, [3, 3]), output


def test_two_names_with_one_address(ansible: Ansible) -> None:
    """Begin nothing."""
    fleet = Fleet(ansible, [{}, {}, {}])
    fleet.lead("127.0.0.1", "fl1", "fl3")
    for options in ["--check"], []:
        status, output = fleet.run(*options, udpgrm_batches=["100%"])
        assert (status, fleet.working) == (2, [1, 1, 1]), output
        assert "fl1 and fl3 of the inventory are one host, 127.0.0.1: leave all" in output
        assert "3 untouched" in output


def test_the_lines_of_a_default_run(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    batches = [1, "10%", "25%", "50%", "100%"]
    status, output = fleet.run(udpgrm_batches=batches)
    assert status == 0, output
    assert len([line for line in output.splitlines() if line.strip()]) <= 25, output


def test_batches_larger_than_the_forks_bake_once(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    status, output = fleet.run("--forks", "1", udpgrm_batches=[2, 1], udpgrm_bake=5)
    assert (status, fleet.working) == (0, [2, 2, 2]), output
    # a task of its own for the batch, and for the last one to say that it is not looked at
    assert output.count("TASK [Inspect the services]") == 2
    inspections = [host.modules.count("udpgrm_service_info.py") for host in fleet.hosts.values()]
    assert inspections == [1, 1, 0]
    journals = [host.services["echo"]["journal"] for host in fleet.hosts.values()]
    assert journals[2]["started"] - journals[1]["started"] >= 5


@pytest.mark.parametrize(
    "options, wrong",
    [
        (["--tags", "web"], "leave nothing of this playbook"),
        (["--skip-tags", "untagged"], "leave nothing of this playbook"),
        (["--start-at-task", "Report"], "can only be run from its beginning"),
        (["--limit", "other"], "--limit excludes all hosts of the run: other"),
    ],
)
@pytest.mark.parametrize("playbook", ["rolling_restart", "status"])
def test_a_run_of_nothing_is_no_success(
    ansible: Ansible, playbook: str, options: list[str], wrong: str
) -> None:
    fleet = Fleet(ansible, [{}, {}])
    fleet.hosts["other"] = fleet.hosts.pop("fl2")
    status, output = fleet.run(*options, playbook=playbook, udpgrm_hosts="fl1")
    assert (status != 0, fleet.working) == (True, [1, 1]), output
    assert wrong in " ".join(output.split())


@versions_in_turn("playbook", ["rolling_restart", "rolling_reboot", "status", "site"])
def test_an_inventory_without_hosts_is_no_success(ansible: Ansible, playbook: str) -> None:
    """Fail without hosts, as of an unreadable source, of which Ansible only warns.

    A syntax check needs no host.
    """
    fleet = Fleet(ansible, [])
    status, output = fleet.run("--syntax-check", playbook=playbook)
    assert status == 0, output
    status, output = fleet.run(playbook=playbook)
    assert status != 0, output
    assert "the inventory has no hosts" in " ".join(output.split())


def test_notes_of_a_plan_are_warnings(ansible: Ansible) -> None:
    """Warn that a restart would cut clients off, though all hosts of the run are well."""
    fleet = Fleet(ansible, [{"notes": ["clients lose their session"]}, {}])
    note = "fl1: echo: clients lose their session"
    for options in ["--check"], []:
        status, output = fleet.run(*options)
        assert status == 0, output
        assert f"[WARNING]: {note}" in output
        result = json.loads((ansible.directory / "report.json").read_text())
        assert result["notes"] == [note]


@versions_in_turn("playbook", ["rolling_restart", "status"])
def test_misspelt_variables(ansible: Ansible, playbook: str) -> None:
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(playbook=playbook, udpgrm_max_failure=3)
    assert (status != 0, fleet.working) == (True, [1]), output
    text = " ".join(output.split())
    assert (
        "udpgrm_max_failure: no variable of udpgrm.fleet; did you mean udpgrm_max_failures?" in text
    )


@both_versions
def test_messages_keep_their_cause(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    fleet.hosts["fl1"].break_module("udpgrm_restart", "No space left on device")
    fleet.gone = {"fl2"}
    status, output = fleet.run(udpgrm_batches=[2])
    assert status == 2
    reasons = [line for line in output.splitlines() if line.startswith(("fl1: ", "fl2: "))]
    assert [reason.split()[0] for reason in reasons] == ["fl1:", "fl2:"]
    assert "No space left on device" in reasons[0]
    assert "Connection refused" in reasons[1]


def test_another_rollout_is_refused_or_replaced(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    claim = Claim(fleet.hosts["fl1"])
    status, output = fleet.run()
    assert (status, fleet.working) == (2, [1]), output
    assert "echo: a rollout of ann@other continues since 2027-01-15 08:00:00 UTC" in output
    status, output = fleet.run(udpgrm_other_rollout="replace")
    assert (status, fleet.working) == (0, [2]), output
    assert not claim.path.exists()
    # flock(2) needs no more than a file that may be read
    assert claim.path.with_suffix(".rollout.lock").stat().st_mode & 0o077 == 0


def test_another_rollout_is_waited_for(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    claim = Claim(fleet.hosts["fl1"])
    playbook = PLAYBOOKS / "rolling_restart.yml"
    run = ansible.start(playbook, fleet.hosts, **fleet.given(udpgrm_other_rollout="wait"))
    assert run.stdout is not None
    output = ""
    for line in run.stdout:
        output += line
        if "fl1: echo: waits for the rollout of ann@other" in line:
            claim.path.unlink()
    assert (run.wait(), fleet.working) == (0, [2]), output


def test_a_rollout_of_this_node_that_was_killed_is_in_no_ones_way(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    Claim(fleet.hosts["fl1"], f"{_run.node()}:{2**22 + 1}:3:x")
    status, output = fleet.run()
    assert (status, fleet.working) == (0, [2]), output


def test_the_page_is_in_the_working_directory(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD", "/nonexistent")
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(udpgrm_report=True)
    assert status == 0, output
    assert "fl1" in (ansible.directory / "udpgrm-report.html").read_text()


@pytest.mark.parametrize("nothing", [False, "false", ""])
def test_no_page(ansible: Ansible, nothing: object) -> None:
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(udpgrm_report=nothing)
    assert status == 0, output
    assert not [*ansible.directory.glob("*.html"), *ansible.directory.glob("udpgrm-report.json")]


def test_the_result_for_machines(ansible: Ansible, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "true")
    fleet = Fleet(ansible, [{}, {"rolls_back": "dead"}, {}])
    status, output = fleet.run(udpgrm_report=True, udpgrm_batches=[1])
    assert status == 2, output
    result = json.loads((ansible.directory / "udpgrm-report.json").read_text())
    assert [host["status"] for host in result["hosts"]] == ["updated", "rolled_back", "untouched"]
    assert result["state"] == "stopped"
    assert f"echo: 1 updated, 1 rolled back, 1 untouched; {result['summary']}" in output
    _before, _stats, shown = output.partition("CUSTOM STATS:")
    stats = json.loads(shown.partition("RUN: ")[2].strip())
    assert stats == {"rolling_restart": {"echo": {**result, "at": stats_at(stats)}}}


def stats_at(stats: dict[str, t.Any]) -> t.Any:
    """Return when the stats' document was made, which is before the one on the disk was."""
    return stats["rolling_restart"]["echo"]["at"]


def test_the_page_is_there_after_an_abort(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    run = ansible.start(
        PLAYBOOKS / "rolling_restart.yml", fleet.hosts, **fleet.given(udpgrm_bake=300)
    )
    deadline = time.monotonic() + LIMIT_S
    while not fleet.hosts["fl1"].services["echo"]["journal"] and time.monotonic() < deadline:
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    output, _none = run.communicate(timeout=LIMIT_S)
    assert run.returncode != 0, output
    assert "the run has not ended, or was aborted since" in fleet.report
