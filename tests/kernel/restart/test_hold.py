# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A drained instance is held for a rollback."""

from __future__ import annotations

import pytest

from testing.host import client
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import UNTIL_NO_FLOWS, Edge, Traffic, ask, serving_only, until

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")

LONG = {**UNTIL_NO_FLOWS, "hold_s": 3600}


def holds(edge: Edge) -> bool:
    last = edge.journal()["steps"][-1]
    return last["step"] == "drain" and "hold" in last["evidence"]


def test_a_held_instance_serves_again_at_once(serving: Edge) -> None:
    serving.define(drain=LONG)
    command = serving.start("restart", "edge", "--json")
    serving.await_step("drain")
    until(lambda: holds(serving), "the hold")
    assert (serving.alive(), serving.working()) == ([1, 2], 2)
    evidence = serving.journal()["steps"][-1]["evidence"]
    assert (evidence["drained"], evidence["hold"]["hold_s"]) == (True, 3600)
    with Traffic(1) as new:
        undo = serving.start("rollback", "edge", "--json")
        until(lambda: serving.steps()[-1] == "drain_new", "drain_new")
        with client() as late:
            assert ask(late) == 1
    assert "start" not in serving.steps()[serving.steps().index("drain") :]
    for process, status in ((command, 1), (undo, 0)):
        _printed, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, errors
    assert (new.first, new.lost, new.moved) == (2, 0, 0)
    assert serving_only(serving, 1)


def test_a_hold_ends(serving: Edge) -> None:
    serving.define(drain={**UNTIL_NO_FLOWS, "hold_s": 2})
    done = serving.restart("--json")
    assert done.returncode == 0, done.stderr
    drain = next(step for step in serving.journal()["steps"] if step["step"] == "drain")
    assert drain["ended"] - drain["evidence"]["hold"]["begun"] >= 2
    assert serving_only(serving, 2)


def test_the_next_restart_ends_a_hold(serving: Edge) -> None:
    serving.define(drain=LONG)
    serving.start("restart", "edge", "--json")
    serving.await_step("drain")
    until(lambda: holds(serving), "the hold")
    last = serving.start("restart", "edge", "--json")
    serving.await_step("drain")
    until(lambda: serving.alive() == [2, 3], "the end of the first")
    assert serving.host.run("rollback", "edge").returncode == 0
    assert last.communicate(timeout=PATIENCE_S) and last.returncode == 1
    assert serving_only(serving, 2)


def test_an_instance_that_ends_is_not_held(serving: Edge) -> None:
    serving.define(drain=LONG)
    command = serving.start("restart", "edge", "--json")
    serving.await_step("drain")
    until(lambda: holds(serving), "the hold")
    (serving.host.cgroup / "edge@1.service/cgroup.kill").write_text("1")
    assert command.communicate(timeout=PATIENCE_S) and command.returncode == 0
    assert serving_only(serving, 2)
