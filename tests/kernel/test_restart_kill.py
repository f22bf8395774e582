# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Whoever is killed at whatever step, a resume ends the restart, and no packet is lost."""

from __future__ import annotations

import json

import pytest

from tests.kernel.restarts import Edge, Traffic, serving_only, until
from udpgrm.restart import machine
from udpgrm.restart.machine import Step

pytest_plugins = ("tests.kernel.restart_fixtures",)


def kill_at(edge: Edge, step: str, *words: str, with_daemon: bool = False) -> None:
    """Begin a command, and kill it when the journal announces a step."""
    command = edge.start(*words)
    if words[:1] == ("rollback",):
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


@pytest.mark.parametrize("with_daemon", [False, True], ids=["command", "command and daemon"])
@pytest.mark.parametrize("step", [step.value for step in machine.FORWARD])
def test_killed(serving: Edge, step: str, with_daemon: bool) -> None:
    # the traffic's own flows end with it, so the drain before a stop is to let them be
    flows = 100 if step == "stop" else 0
    serving.define(drain={"until": {"flows": flows, "quiet_s": None}, "max_s": 20})
    with Traffic() as traffic:
        kill_at(serving, step, with_daemon=with_daemon)
        assert serving.restart().returncode == 255  # it is not forgotten
        asked = traffic.asked
        until(lambda: traffic.asked > asked + 20, "traffic after the kill")
    done = serving.restart("--resume", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["outcome"] == "finished"
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
