# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm restart --release: a release is restarted to once, and known while it serves."""

from __future__ import annotations

import json
from typing import Any, Optional

from testing.host import wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import Edge, Traffic

pytest_plugins = ("tests.kernel.restart_fixtures",)


def serves(edge: Edge) -> Optional[str]:
    [service] = edge.host.json("status")["services"]
    release: Optional[str] = service["release"]
    return release


def plan(edge: Edge, release: str) -> dict[str, Any]:
    return edge.host.json("restart", "edge", "--check", f"--release={release}")


def test_once_for_a_release(edge: Edge) -> None:
    planned = plan(edge, "1")
    assert (planned["action"], planned["from_release"], planned["release"]) == (
        "restart",
        None,
        "1",
    )
    for changed in (True, False):
        done = edge.restart("--release=1", "--json")
        assert done.returncode == 0, done.stderr
        journal = json.loads(done.stdout)
        assert (journal["changed"], journal["release"], journal["running"]) == (changed, "1", False)
    assert (edge.working(), serves(edge), plan(edge, "1")["action"]) == (1, "1", "none")
    assert edge.restart("--release=1").stderr == "udpgrm: edge: release 1 serves already\n"
    journal = json.loads(edge.restart("--release=2", "--json").stdout)
    assert (journal["from_release"], journal["release"], edge.working()) == ("1", "2", 2)
    assert "release 2" in edge.host.run("status").stdout


def test_fingerprint(edge: Edge) -> None:
    """Take a fingerprint where no release is named; a named one is another release."""
    assert edge.restart().returncode == 0
    assert (serves(edge) or "").startswith("sha256:")
    assert edge.restart("--release=auto").returncode == 0
    assert edge.working() == 1
    edge.define(flows_per_generation=1024)
    assert plan(edge, "auto")["action"] == "restart"
    edge.define()
    assert [plan(edge, name)["action"] for name in ("auto", "2")] == ["none", "restart"]


def test_a_restart_that_drains_is_waited_for_and_handed_over(edge: Edge) -> None:
    edge.restart("--release=1")
    with Traffic():
        first = edge.start("restart", "edge", "--release=2", "--json")
        edge.await_step("drain")
        assert serves(edge) == "2"
        planned = plan(edge, "2")
        assert (planned["action"], planned["to_generation"]) == ("wait", 2)
        waited = edge.restart("--release=2", "--until=verified", "--json")
        assert waited.returncode == 0, waited.stderr
        journal = json.loads(waited.stdout)
        assert (journal["changed"], journal["running"], journal["step"]) == (False, True, "drain")
        late = edge.restart("--follow", "--timeout=0", "--json")
        assert (late.returncode, json.loads(late.stdout)["running"]) == (3, True)
        assert "continues in drain" in late.stderr
        # the release that drains is known to the next restart as its predecessor's
        second = edge.start("restart", "edge", "--release=3", "--json")
        edge.await_step("drain")
        assert serves(edge) == "3"
    for command, returncode in ((first, 3), (second, 0)):
        printed, errors = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == returncode, errors
    assert (json.loads(printed)["from_release"], edge.working()) == ("2", 3)


def test_a_restart_that_was_cut(edge: Edge) -> None:
    """Resume an interrupted restart for its own release, and refuse another release."""
    edge.restart("--release=1")
    edge.unit("mute-2")  # its probe waits for the answer
    command = edge.start("restart", "edge", "--release=2")
    edge.await_step("canary")
    command.kill()
    command.communicate(timeout=PATIENCE_S)
    other = edge.restart("--release=3")
    assert other.returncode == 255
    assert "a restart to another release (2) is unfinished in canary" in other.stderr
    assert "a restart to another release" in edge.restart("--release=auto").stderr
    follow = edge.restart("--follow", "--timeout=0", "--json")
    assert (follow.returncode, json.loads(follow.stdout)["running"]) == (3, False)
    assert "was interrupted in canary" in follow.stderr
    assert plan(edge, "2")["action"] == "resume"
    edge.define(answer_s=0.1)
    done = edge.restart("--release=2", "--json")
    journal = json.loads(done.stdout)
    assert (journal["changed"], journal["release"]) == (True, "2")


def test_a_rollback_serves_the_release_before(edge: Edge) -> None:
    edge.restart("--release=1")
    with Traffic():
        command = edge.start("restart", "edge", "--release=2")
        edge.await_step("drain")
        back = edge.host.run("rollback", "edge", "--until=verified", "--json")
        assert back.returncode == 0, back.stderr
        journal = json.loads(back.stdout)
        assert (journal["outcome"], journal["running"], journal["changed"]) == (None, True, True)
        wait_for(lambda: serves(edge) == "1", "the release before")
    command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, edge.working(), serves(edge)) == (1, 1, "1")


def test_misuse(edge: Edge) -> None:
    for arguments, message in (
        (("--release=",), "--release: the name is missing"),
        (("--release=1", "--resume"), "--release and --resume do not combine"),
        (("--release=1", "--follow"), "--follow and --release do not combine"),
        (("--until=soon",), "--until: 'soon' is not one of verified, finished"),
        (("--timeout=1",), "--timeout goes with --follow"),
    ):
        done = edge.restart(*arguments)
        assert (done.returncode, message in done.stderr) == (255, True)
