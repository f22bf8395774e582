# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Rolling reboots, up to the reboot itself, which the rollout scenario of molecule does."""

from __future__ import annotations

import json
import typing as t

import pytest

from ..fake_services import FOREVER, STATUS, service
from ..playbook import Ansible, both_versions
from .fleet import Claim, Fleet
from .test_hooks import Hooks, fails

#: Hosts of these tests have flows that do not end.
AT_ONCE = {"max_s": 0.0}
#: Ansible's message here, as it would reboot the machine of the tests.
REFUSED = "Reboot the host: Running ansible.builtin.reboot with local connection would reboot"


def run(fleet: Fleet, *options: str, **variables: t.Any) -> tuple[int, str]:
    """Run the playbook with what it takes."""
    return fleet.run(*options, playbook="rolling_reboot", **variables)


@pytest.fixture
def fleet(ansible: Ansible, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    found = Fleet(ansible, [{"drain": AT_ONCE}] * 3)
    given = found.given
    restarts = ("udpgrm_service", "udpgrm_release", "udpgrm_batches")

    def without(**variables: t.Any) -> dict[str, t.Any]:
        return {
            key: value
            for key, value in given(**variables).items()
            if key not in restarts or key in variables
        }

    monkeypatch.setattr(found, "given", without)
    return found


@both_versions
def test_check_mode_plans_and_touches_nothing(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory)
    status, output = run(fleet, "--check", **hooks.variables)
    assert status == 0, output
    message = "reboot: 3 planned; all 3 hosts would be rebooted: run it without --check"
    assert message in output, output
    assert {name for host in fleet.hosts.values() for name in host.modules} == {
        "udpgrm_claim.py",
        "udpgrm_service_info.py",
    }
    assert hooks.lines == []
    assert not any((host.path / "state").exists() for host in fleet.hosts.values())


@both_versions
def test_a_reboot_that_fails_leaves_its_host_out(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory)
    status, output = run(fleet, **hooks.variables)
    assert status == 2, output
    assert "reboot: 1 failed, 2 untouched" in output
    assert f"fl1: {REFUSED}" in output
    assert "repair it, then run the same command with --limit to the hosts" in output
    assert [line.split(":")[0] for line in hooks.lines] == [
        "before_batch fl1",
        "before_host fl1",
        "after_batch fl1",
        "on_stop_tasks fl1",
    ]


def test_a_hook_or_a_drain_that_fails(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory, before_host=fails("inventory_hostname == 'fl1'"))
    fleet.hosts["fl2"].set_services(service(drain={**AT_ONCE, "on_timeout": "fail"}))
    status, output = run(fleet, udpgrm_max_failures=1, **hooks.variables)
    assert status == 2, output
    assert "fl1: udpgrm_before_host: Ask the balancer: 6 it says no" in output, output
    assert "fl2: Wait until the clients have left: echo: not drained in " in output, output
    assert "reboot: 2 failed, 1 untouched" in output


def test_a_host_with_a_restart_is_not_taken_out(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory)
    journal = {**STATUS["services"][0]["restart"], "running": True, "outcome": None}
    journal.update(step="canary", state="canary", polls=FOREVER)
    fleet.hosts["fl1"].set_services({**service(), "journal": journal})
    status, output = run(fleet, **hooks.variables)
    assert status == 2, output
    assert "fl1: echo: a restart runs; reboot the host when it has ended" in output
    assert not any(line.startswith("before_host") for line in hooks.lines)
    assert not (fleet.hosts["fl1"].path / "state" / "echo.rollout").exists()


def test_a_host_that_another_run_has_is_not_taken_out(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory)
    claim = Claim(fleet.hosts["fl1"])
    refused = "fl1: echo: a rollout of ann@other continues since 2027-01-15 08:00:00 UTC"
    for option in ["--check"], []:
        status, output = run(fleet, *option, udpgrm_max_failures=3, **hooks.variables)
        assert (status, refused in output) == (2, True), output
        assert not any(line.startswith("before_host fl1") for line in hooks.lines)
    assert json.loads(claim.path.read_text())["by"] == "ann@other"
    status, output = run(fleet, udpgrm_other_rollout="replace", **hooks.variables)
    assert f"fl1: {REFUSED}" in output
    assert not claim.path.exists()


@pytest.mark.parametrize("batches", [["100%"], [1]])
def test_a_host_that_has_two_names(
    ansible: Ansible, fleet: Fleet, batches: list[int | str]
) -> None:
    """Take the host out under one of its names only; its claim ends with the run."""
    hooks = Hooks(ansible.directory)
    fleet.hosts["alias"] = fleet.hosts["fl1"]
    one = ("--forks", "1")  # hosts of a test are files without locks
    given = {"udpgrm_max_failures": 4, "udpgrm_batches": batches, **hooks.variables}
    status, output = run(fleet, *one, **given)
    assert status == 2, output
    assert "alias: echo: fl1 and alias of the inventory are one host, where the run" in output
    out = [line for line in hooks.lines if line.startswith("before_host")]
    assert [line.split(":")[0] for line in out] == [f"before_host fl{i}" for i in (1, 2, 3)]
    assert not (fleet.hosts["fl1"].path / "state" / "echo.rollout").exists()


def test_two_names_with_one_address(ansible: Ansible, fleet: Fleet) -> None:
    hooks = Hooks(ansible.directory)
    fleet.lead("127.0.0.1", "fl1", "fl3")
    status, output = run(fleet, **hooks.variables)
    assert status == 2, output
    assert "fl1 and fl3 of the inventory are one host, 127.0.0.1: leave all" in output
    assert "reboot: 3 untouched" in output
    assert [line.split(":")[0] for line in hooks.lines] == ["on_stop_tasks fl1"]


def test_what_a_reboot_needs_and_what_it_does_not_know(ansible: Ansible, fleet: Fleet) -> None:
    status, output = run(fleet)
    assert (status != 0, "udpgrm_before_host: set it to a file" in output) == (True, True), output
    hooks = Hooks(ansible.directory)
    status, output = run(fleet, udpgrm_service="echo", **hooks.variables)
    text = " ".join(output.split())
    assert (status != 0, "udpgrm_service: a rolling reboot is of hosts" in text) == (True, True)
    assert hooks.lines == []
