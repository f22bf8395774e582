# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Adoptions that are refused, before any client notices."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.kernel.adoption.test_migration import ADOPT, define, start_old
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import WHERE, Edge

__all__ = ["edge"]


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_a_service_without_its_template_unit(edge: Edge, arguments: list[str]) -> None:
    """Refuse a unit whose restart could not follow, and leave its sockets as they were."""
    define(edge, enrollment="adopted")
    start_old(edge, reuseport=0)
    (edge.units / "edge@.service").unlink()
    done = edge.host.run(*ADOPT, *arguments)
    assert done.returncode == 255
    assert "systemd has no unit edge@.service: write it to" in done.stderr
    assert edge.host.json("list", WHERE)["groups"] == []
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="already in use"):
            second.bind(("127.0.0.1", 4433))


def test_a_unit_whose_stop_may_reach_its_successor(edge: Edge) -> None:
    """Refuse a unit whose ExecStop= asks at a port that both instances share, as BIND's does."""
    define(edge)
    start_old(edge)
    stop = edge.units / "edge-old.service.exec-stop"
    stop.write_text("{ path=/sbin/rndc ; argv[]=/sbin/rndc stop ; ignore_errors=no ; pid=0 }\n")
    done = edge.host.run(*ADOPT)
    assert done.returncode == 255
    assert "ExecStop=/sbin/rndc stop names neither $MAINPID nor" in done.stderr
    stop.write_text("{ path=/bin/kill ; argv[]=/bin/kill $MAINPID ; ignore_errors=no ; pid=0 }\n")
    assert edge.host.run(*ADOPT).returncode == 0


def test_a_unit_that_systemd_would_start_again(edge: Edge) -> None:
    """Refuse a unit that an active unit triggers, as a socket unit may; ignore inactive ones."""
    define(edge)
    start_old(edge)
    triggers = edge.units / "edge-old.service.triggered-by"
    triggers.write_text("edge-old.service edge-old.timer")
    done = edge.host.run(*ADOPT)
    assert done.returncode == 255
    assert "edge-old.service: edge-old.service would start it again beside" in done.stderr
    triggers.write_text("edge-old.timer")
    assert edge.host.run(*ADOPT).returncode == 0


def test_a_service_whose_server_chooses_the_dissector(edge: Edge) -> None:
    start_old(edge)
    done = edge.host.run(*ADOPT)
    assert (done.returncode, "name the one in the definition" in done.stderr) == (255, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edge"], "name the unit that serves now"),
        (["edge", "--unit=no.service"], "unit no.service has no cgroup: it does not run"),
        (
            ["edge", "--unit=edge-old.service"],
            f"edge-old.service has no socket at {WHERE}: it has 127.0.0.1:5353",
        ),
        (["nobody", "--unit=edge-old.service"], "no service 'nobody'"),
    ],
)
def test_refusals(edge: Edge, arguments: list[str], message: str) -> None:
    define(edge)
    start_old(edge, port=5353)
    done = edge.host.run("adopt", *arguments)
    assert (done.returncode, done.stdout) == (255, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
