# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Whichever process is killed at any step, a resume ends the restart, and no packet is lost."""

from __future__ import annotations

import json
import subprocess

import pytest

from testing.waiting import PATIENCE_S
from tests.kernel.restarts import WHERE, Edge, Traffic, serving_only, until
from udpgrm.kernel.descriptors import state
from udpgrm.restart import machine
from udpgrm.restart.machine import Step

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")


def kill_at(edge: Edge, step: str, *arguments: str, with_daemon: bool = False) -> None:
    """Begin a command, and kill it in a step: announced, and not recorded as ended."""
    command = edge.start(*arguments, halt=step)
    if arguments[:1] == ("rollback",):
        until(lambda: step in edge.steps(), step)
    else:
        edge.await_step(step)
    command.kill()
    if with_daemon:
        edge.host.kill()
    command.communicate()
    assert edge.journal()["outcome"] is None
    if with_daemon:
        edge.host.start()


@pytest.mark.parametrize(
    "with_daemon",
    [
        pytest.param(False, id="command"),
        pytest.param(True, id="command and daemon", marks=pytest.mark.daemon("own")),
    ],
)
@pytest.mark.parametrize("step", [step.value for step in machine.FORWARD])
def test_killed(serving: Edge, step: str, with_daemon: bool) -> None:
    with Traffic(keep=step != "stop") as traffic:  # the stop comes when no flow is left
        kill_at(serving, step, with_daemon=with_daemon)
        if step != "drain":  # then the next one may begin, see test_overlap.py
            assert serving.restart().returncode == 255  # it is not deleted
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic after the kill")
    done = serving.restart("--resume", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["outcome"] == "finished"
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 2)


@pytest.mark.parametrize("step", ["start", "enroll", "canary", "promote", "verify"])
def test_killed_as_a_step_has_ended(serving: Edge, step: str) -> None:
    """Resume from a step whose effect is in the kernel, but whose end is not recorded."""
    with Traffic() as traffic:
        command = serving.start(halt=step)
        until(lambda: state(command.pid) == "T", "the command to stop itself")
        command.kill()
        command.communicate()
        assert serving.journal()["steps"][-1]["step"] == step
    done = serving.restart("--resume", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 2)


@pytest.mark.parametrize("step", ["demote", "drain_new", "stop_new"])
def test_killed_on_the_way_back(serving: Edge, step: str) -> None:
    with Traffic() as traffic:
        kill_at(serving, "drain")
        kill_at(serving, step, "rollback", "edge")
        done = serving.restart("--resume", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["outcome"] == "rolled_back"
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 1)


@pytest.mark.parametrize("step", [Step.ENROLL, Step.CANARY, Step.PROMOTE, Step.VERIFY, Step.DRAIN])
def test_killed_together_with_the_new_instance(serving: Edge, step: Step) -> None:
    with Traffic(1) as old:  # a flow of the old instance
        kill_at(serving, step.value)
        (serving.host.cgroup / "edge@2.service/cgroup.kill").write_text("1")
        done = serving.restart("--resume", "--json")
        until(lambda: serving.alive() == [1], "the new instance to be gone")
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["outcome"] == "rolled_back"
    assert (old.lost, old.moved) == (0, 0)
    assert serving_only(serving, 1)


def test_killed_together_with_both_instances(serving: Edge) -> None:
    """Fail a resume that finds no instance, and finish it once the operator has started one."""
    with Traffic(1, patience_s=1):
        kill_at(serving, "drain")
        for generation in (1, 2):
            (serving.host.cgroup / f"edge@{generation}.service/cgroup.kill").write_text("1")
        until(lambda: serving.alive() == [], "the instances to be gone")
    for _ in range(2):
        done = serving.restart("--resume")
        assert done.returncode == 2, done.stdout + done.stderr
        remedy = "start one of them (systemctl start edge@2.service), then udpgrm restart edge --re"
        assert f"neither edge@1.service nor edge@2.service runs: {remedy}" in done.stdout
    subprocess.run(["systemctl", "start", "edge@2.service"], check=True)
    done = serving.restart("--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert serving_only(serving, 2)


def test_an_interrupted_restart_is_resumed(serving: Edge) -> None:
    """Resume all services without a name, as at boot, and report a journal that cannot be read."""
    assert serving.host.run("restart", "--resume").returncode == 0
    kill_at(serving, "canary")
    (serving.state / "lost.json").write_text("{")
    done = serving.host.run("restart", "--resume")
    assert done.returncode == 255
    assert f"{serving.state / 'lost.json'} cannot be read" in done.stderr
    assert serving.journal()["outcome"] == "finished"
    assert serving_only(serving, 2)


@pytest.mark.daemon("own")
def test_a_machine_that_was_rebooted(serving: Edge) -> None:
    """Resume after a reboot, of which only the journal is left: no pins, no processes."""
    with Traffic(1, patience_s=1):
        kill_at(serving, "drain")
        serving.host.kill()
        for generation in (1, 2):
            (serving.host.cgroup / f"edge@{generation}.service/cgroup.kill").write_text("1")
        until(lambda: serving.alive() == [], "the instances to be gone")
    subprocess.run(["rm", "-r", str(serving.host.directory)], check=True)
    (serving.state / "edge.json").write_text(
        json.dumps({**serving.journal(), "boot_id": "earlier"})
    )
    done = serving.restart("--resume", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    serving.host.start()
    assert serving.restart("--check").returncode == 0


@pytest.mark.daemon("own")
@pytest.mark.parametrize("step", [step.value for step in machine.FORWARD])
def test_the_machine_was_rebooted_and_generations_begin_again(serving: Edge, step: str) -> None:
    """Close a restart of before the boot, after which units have started generation 1 again."""
    with Traffic(1, keep=step != "stop", patience_s=1):
        kill_at(serving, step)
        serving.host.kill()
        serving.clean()
    subprocess.run(["rm", "-r", str(serving.host.directory)], check=True)
    serving.host.start()
    left = {**serving.journal(), "boot_id": "earlier"}
    (serving.state / "edge.json").unlink()
    assert serving.restart().returncode == 0
    assert serving_only(serving, 1)
    (serving.state / "edge.json").write_text(json.dumps(left))
    refused = serving.host.run("rollback", "edge")
    assert refused.returncode == 255
    assert "the machine was rebooted" in refused.stderr
    status = 0 if step in ("drain", "stop") else 1
    assert serving.host.run("restart", "--resume").returncode == status
    assert serving.journal()["outcome"] == ("rolled_back" if status else "finished")
    assert serving_only(serving, 1)


def test_a_generation_that_is_active_again_is_not_stopped(serving: Edge) -> None:
    """Fail the drain of a generation that an operator has made active again."""
    with Traffic(1):
        command = serving.start()
        serving.await_step("drain")
        serving.host.run("working-gen", WHERE, "1")
    output = "".join(command.communicate(timeout=PATIENCE_S))
    assert command.returncode == 2
    assert "generation 1 is active again: it is not stopped (udpgrm list)" in output
    assert serving.alive() == [1, 2]
    assert (serving.journal()["step"], serving.journal()["outcome"]) == ("drain", "failed")
    serving.host.run("working-gen", WHERE, "2")
    assert serving.restart("--resume").returncode == 0
    assert serving_only(serving, 2)


def test_a_resumed_stop_drains_what_was_active_meanwhile(serving: Edge) -> None:
    """Drain the old instance again if an operator let it be active before the resume."""
    no_stop = serving.units / "edge@1.service.no-stop"
    no_stop.touch()
    assert serving.restart().returncode == 2
    assert (serving.journal()["step"], serving.journal()["outcome"]) == ("stop", "failed")
    no_stop.unlink()
    serving.host.run("working-gen", WHERE, "1")
    with Traffic(1) as traffic:
        until(lambda: traffic.first == 1, "a flow of generation 1")
        serving.host.run("working-gen", WHERE, "2")
        command = serving.start("restart", "edge", "--resume")
        until(lambda: serving.steps()[-2:] == ["stop", "drain"], "the drain")
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic while it drains")
        assert serving.alive() == [1, 2]
    output = "".join(command.communicate(timeout=PATIENCE_S))
    assert command.returncode == 0, output
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 2)


def test_a_new_instance_that_users_have_reached_drains(serving: Edge) -> None:
    """Drain a new instance before its rollback if an operator let it be active."""
    serving.define(groups=[{"address": WHERE, "sockets": 3}], timeouts={"enroll_s": 600})
    command = serving.start()
    serving.await_step("enroll")
    until(lambda: serving.host.run("working-gen", WHERE, "2").returncode == 0, "its sockets")
    with Traffic(1) as traffic:
        until(lambda: traffic.first == 2, "a flow of generation 2")
        until(lambda: "active" in serving.journal()["steps"][-1]["evidence"], "the next look")
        serving.host.run("working-gen", WHERE, "1")
        undo = serving.start("rollback", "edge")
        until(lambda: serving.steps()[-1] == "drain_new", "the drain")
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic while it drains")
        assert serving.alive() == [1, 2]
    for process in (command, undo):
        process.communicate(timeout=PATIENCE_S)
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving.journal()["outcome"] == "rolled_back"
    assert serving_only(serving, 1)
