# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The modules that begin restarts, undo them, and wait for their end."""

from __future__ import annotations

import time

from ..fake_services import FOREVER, service
from .machine import Machine


def test_restart_once_for_a_release(machine: Machine) -> None:
    task = {"service": "echo", "release": "2"}
    planned = machine.run("udpgrm_restart", task, check=True)
    assert (planned["changed"], planned["plan"]["to_generation"]) == (True, 2)
    assert machine.services["echo"]["journal"] is None
    done = machine.run("udpgrm_restart", task)
    for result in planned, done:
        assert result["before"] == {"generation": 1, "release": None}
        assert result["after"] == {"generation": 2, "release": "2"}
        assert result["diff"] == {"before": result["before"], "after": result["after"]}
    assert done["restart"]["outcome"] == "finished"
    assert len(done["measured"]) == 2
    again = machine.run("udpgrm_restart", task)
    assert (again["changed"], again["after"]) == (False, {"generation": 2, "release": "2"})
    assert machine.run("udpgrm_restart", {**task, "release": "3"})["changed"] is True


def test_restart_by_fingerprint(machine: Machine) -> None:
    task = {"service": "echo"}
    assert machine.run("udpgrm_restart", task)["after"]["release"].startswith("sha256:")
    assert machine.run("udpgrm_restart", task)["changed"] is False
    # a file that the unit's command names
    (machine.path / "echo.conf").write_text("new")
    assert machine.run("udpgrm_restart", task)["changed"] is True
    (machine.path / "services.d" / "echo.yaml").write_text("new")
    assert machine.run("udpgrm_restart", task)["changed"] is True


def test_restart_returns_while_the_old_instance_drains(machine: Machine) -> None:
    machine.set_services(service(polls=4))
    result = machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert (result["changed"], result["restart"]["state"]) == (True, "drain")
    # asked for again, it waits for the same
    planned = machine.run("udpgrm_restart", {"service": "echo", "release": "2"}, check=True)
    again = machine.run("udpgrm_restart", {"service": "echo", "release": "2", "wait": "finished"})
    for result in planned, again:
        assert result["changed"] is False
        assert result["before"] == result["after"] == {"generation": 2, "release": "2"}
    assert again["restart"]["outcome"] == "finished"
    assert machine.services["echo"]["journal"]["to_generation"] == 2


def test_services_are_read_after_the_bake_of_a_rollout(machine: Machine) -> None:
    machine.set_services(service(), service("dns"))
    rollout = {"run": "control:1:2:a", "by": "root@control"}
    task = {"service": "echo", "release": "2", "rollout": rollout}
    began = time.monotonic()
    asked = {**task, "rollout": {**rollout, "bake": 2, "inspect": ["dns", "echo", "gone"]}}
    result = machine.run("udpgrm_restart", asked)
    assert (result["changed"], time.monotonic() - began >= 2) == (True, True)
    seen = result["inspected"].pop("echo")
    info = machine.run("udpgrm_service_info", {"service": "echo"})
    assert seen.keys() == info.keys() - {"invocation"}
    assert seen["services"][0]["measured"]["at"] >= result["measured"][-1]["at"] + 2
    assert result["inspected"]["dns"]["services"][0]["name"] == "dns"
    # the restart has not failed
    assert result["inspected"]["gone"]["msg"].endswith(
        "no service 'gone' in /etc/udpgrm/services.d"
    )
    for arguments in (asked, {**task, "release": "3"}):
        assert "inspected" not in machine.run("udpgrm_restart", arguments)


def test_restart_to_another_release_meanwhile(machine: Machine) -> None:
    machine.set_services(service(polls=FOREVER))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    result = machine.run("udpgrm_restart", {"service": "echo", "release": "3"})
    assert result["changed"] is True
    assert result["before"] == {"generation": 2, "release": "2"}
    assert result["after"] == {"generation": 3, "release": "3"}


def test_restart_to_another_release_than_one_that_was_cut(machine: Machine) -> None:
    machine.set_services(service(cut=True))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    result = machine.run("udpgrm_restart", {"service": "echo", "release": "3"})
    assert result["failed"] is True
    assert "a restart to another release (2) is unfinished in canary" in result["msg"]


def test_interrupted_restart_is_resumed(machine: Machine) -> None:
    machine.set_services(service(cut=True))
    cut = machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert (cut["failed"], "was interrupted in canary" in cut["msg"]) == (True, True)
    done = machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert (done["changed"], done["restart"]["outcome"]) == (True, "finished")
    assert machine.services["echo"]["journal"]["to_generation"] == 2


def test_restart_of_an_earlier_release_is_resumed_first(machine: Machine) -> None:
    machine.set_services(service(cut=True))
    machine.run("udpgrm_restart", {"service": "echo"})
    (machine.path / "echo.conf").write_text("new")
    done = machine.run("udpgrm_restart", {"service": "echo"})
    assert (done["changed"], done["after"]["generation"]) == (True, 3)
    assert machine.run("udpgrm_restart", {"service": "echo"})["changed"] is False


def test_check_mode_plans_to_resume(machine: Machine) -> None:
    machine.set_services(service(cut=True))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    planned = machine.run("udpgrm_restart", {"service": "echo", "release": "2"}, check=True)
    assert planned["plan"] == {"from_generation": 1, "to_generation": 2}
    assert machine.services["echo"]["working"] == 1


def test_restart_that_is_rolled_back_fails(machine: Machine) -> None:
    machine.set_services(service(rolls_back="nobody answers"))
    result = machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert (result["failed"], result["restart"]["outcome"]) == (True, "rolled_back")
    assert result["msg"] == "echo: the restart was rolled back: nobody answers"
    # it is tried again, as the release does not serve
    assert machine.run("udpgrm_restart", {"service": "echo", "release": "2"})["failed"] is True


def test_refusal_is_the_hosts_line(machine: Machine) -> None:
    machine.set_services(service(refuses="no generation is free"))
    for check in (False, True):
        result = machine.run("udpgrm_restart", {"service": "echo"}, check=check)
        assert (result["failed"], result["msg"]) == (
            True,
            "udpgrm restart: no generation is free",
        )


def test_rollback_while_it_drains(machine: Machine) -> None:
    back = {"service": "echo", "state": "rolled_back", "wait": "finished"}
    refused = machine.run("udpgrm_restart", back)
    assert (refused["failed"], "there was no restart" in refused["msg"]) == (True, True)
    machine.set_services(service(polls=FOREVER))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert machine.run("udpgrm_restart", back, check=True)["changed"] is True
    assert machine.services["echo"]["working"] == 2
    done = machine.run("udpgrm_restart", back)
    assert (done["changed"], done["restart"]["outcome"]) == (True, "rolled_back")
    assert (done["before"]["generation"], done["after"]["generation"]) == (2, 1)
    assert machine.run("udpgrm_restart", back)["changed"] is False


def test_rollback_after_the_end(machine: Machine) -> None:
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    result = machine.run("udpgrm_restart", {"service": "echo", "state": "rolled_back"})
    assert "the old instance has ended" in result["msg"]


def test_release_of_a_restart_that_was_undone_does_not_serve(machine: Machine) -> None:
    machine.set_services(service(polls=FOREVER))
    task = {"service": "echo", "release": "2"}
    releases = []
    for state in ("started", "rolled_back"):
        machine.run("udpgrm_restart", {**task, "state": state, "wait": "verified"})
        releases.append(machine.run("udpgrm_service_info", {})["services"][0]["release"])
    assert releases == ["2", None]


def test_resume_of_nothing(machine: Machine) -> None:
    result = machine.run("udpgrm_restart", {"service": "echo", "state": "resumed"})
    assert result["changed"] is False


def test_drain_of_a_service(machine: Machine) -> None:
    assert machine.run("udpgrm_drain", {"service": "echo"})["drained"] is True
    machine.set_services(service(polls=5))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    looked = machine.run("udpgrm_drain", {"service": "echo"})
    assert (looked["drained"], looked["flows"], looked["generation"]) == (False, 3, 1)
    task = {"service": "echo", "timeout": 120, "interval": 120}
    assert machine.run("udpgrm_drain", task, check=True)["drained"] is False
    waited = machine.run("udpgrm_drain", task)
    assert (waited["drained"], waited["restart"]["outcome"]) == (True, "finished")


def test_drain_of_a_restart_that_was_cut(machine: Machine) -> None:
    machine.set_services(service(cut=True))
    machine.run("udpgrm_restart", {"service": "echo", "release": "2"})
    # the shortest interval of the action plugin
    result = machine.run("udpgrm_drain", {"service": "echo", "timeout": 2, "interval": 2})
    assert (result["failed"], "was interrupted in canary" in result["msg"]) == (True, True)
