# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm status: services with their instances, before, during and after a restart."""

from __future__ import annotations

import json
import re

import udpgrm.client as grm
from testing.waiting import PATIENCE_S
from tests.kernel.conftest import network
from tests.kernel.restart_fixtures import edge, serving
from tests.kernel.restarts import ALSO, WHERE, Edge, Traffic

__all__ = ["edge", "serving"]


def test_before_there_is_anything(edge: Edge) -> None:
    document = edge.host.json("status")
    assert [item["name"] for item in document["services"]] == ["edge"]
    assert document["services"][0]["restart"] is None
    assert document["services"][0]["groups"][0]["generations"] == []
    assert "never restarted" in edge.host.run("status").stdout


def test_a_service_that_serves(serving: Edge) -> None:
    with Traffic(1):
        [service] = serving.host.json("status", "edge")["services"]
    assert (service["state"], service["restart"]["outcome"]) == ("settled", "finished")
    [group] = service["groups"]
    [generation] = group["generations"]
    assert generation["instance"] == "edge@1.service"
    assert (generation["state"], generation["sockets"], generation["expected_sockets"]) == (
        "working",
        2,
        2,
    )
    assert generation["flows"] >= 1
    assert 0 <= generation["working_for_s"] < 600
    shown = serving.host.run("status").stdout
    assert re.search(r"^edge  finished none -> 1, switched in \d+ ms$", shown, re.MULTILINE)
    assert re.search(r"    gen 1  working  edge@1.service  2/2 sockets  \d+ flows  in ", shown)


def test_a_group_of_another_network_namespace(serving: Edge) -> None:
    """Leave a group at the service's address in another network namespace out of its status."""
    with network():
        sockets = grm.bind(WHERE, 1)
    grm.enroll(sockets, 7)
    grm.promote(sockets[0], 7)
    try:
        [service] = serving.host.json("status", "edge")["services"]
        [group] = service["groups"]
        assert (group["working_generation"], len(group["generations"])) == (1, 1)
        assert len(serving.host.json("list", WHERE)["groups"]) == 2
    finally:
        sockets[0].close()


def test_while_it_drains(serving: Edge) -> None:
    with Traffic(1):  # whose flow keeps it draining
        restart = serving.start()
        serving.await_step("drain")
        [service] = serving.host.json("status")["services"]
        assert service["state"] == "drain"
        states = {item["generation"]: item["state"] for item in service["groups"][0]["generations"]}
        assert states[2] == "working"
        assert states[1] == "draining"
    restart.communicate(timeout=PATIENCE_S)
    assert serving.host.json("status")["services"][0]["state"] == "settled"


def test_a_journal_that_cannot_be_read(serving: Edge) -> None:
    """Report the other services, and the unreadable journal as a problem of its service."""
    other = {"groups": [{"address": ALSO}], "instances": {"unit": "other@.service"}}
    (serving.services / "other.yaml").write_text(json.dumps(other))
    for name in ("edge", "edge@7"):
        path = serving.state / f"{name}.json"
        good = path.read_bytes() if path.exists() else None
        path.write_bytes(b"\xff")
        document = serving.host.json("status")
        assert [item["name"] for item in document["services"]] == ["other"]
        [problem] = document["problems"]
        assert problem.startswith(f"{path} cannot be read (")
        assert document["others"] == []
        assert f"not read: {path} cannot be read" in serving.host.run("status").stdout
        assert serving.host.json("status", "other")["problems"] == []
        done = serving.host.run("status", "edge")
        assert (done.returncode, done.stderr.startswith(f"udpgrm: {path} cannot be")) == (255, True)
        if good is not None:
            path.write_bytes(good)


def test_a_definition_that_is_no_file(edge: Edge) -> None:
    (edge.services / "dangling.yaml").symlink_to("nowhere")
    document = edge.host.json("status")
    assert document["daemon"]["running"] is True
    assert [item["name"] for item in document["services"]] == ["edge"]
    assert document["problems"] == [
        f"{edge.services}/dangling.yaml: is not a file that can be read"
    ]


def test_what_is_not_read_and_other_groups(edge: Edge) -> None:
    (edge.services / "broken.yaml").write_text("groups: 5\n")
    other = grm.bind("127.0.0.1:5000")[0]
    document = edge.host.json("status")
    assert document["others"] == ["127.0.0.1:5000"]
    assert all("broken.yaml" in problem for problem in document["problems"])
    done = edge.host.run("status", "broken")
    assert (done.returncode, "broken.yaml: instances: missing" in done.stderr) == (255, True)
    done = edge.host.run("status", "broke")
    assert (done.returncode, "did you mean broken?" in done.stderr) == (255, True)
    assert WHERE not in document["others"]
    other.close()
