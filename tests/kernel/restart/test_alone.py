# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""An instance that alone has sockets is not stopped, and what it got of clients drains."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from testing.host import ROOT, client
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import WHERE, Edge, Traffic, ask, serving_only, until
from udpgrm.kernel.descriptors import state

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")


def systemctl(verb: str, generation: int) -> None:
    """Do what an operator does past udpgrm."""
    command = ["systemctl", verb, f"edge@{generation}.service"]
    subprocess.run(command, check=True, timeout=PATIENCE_S)


def activate(edge: Edge, generation: int) -> None:
    """Make a generation active by hand."""
    done = edge.host.run("working-gen", WHERE, str(generation))
    assert done.returncode == 0, done.stderr


def await_halt(command: subprocess.Popen[str]) -> None:
    """Wait until a command has stopped itself."""
    until(lambda: state(command.pid) == "T", "the command to stop itself")


def sockets(edge: Edge, generation: int) -> int:
    """Return how many living sockets a generation has."""
    generations = edge.host.group(WHERE)["generations"]
    found = [one for one in generations if one["generation"] == generation]
    return sum(len(one["sockets"]) for one in found)


def interrupted_canary(edge: Edge) -> subprocess.Popen[str]:
    """Begin a restart that stands before its canary, where SIGTERM rolls it back."""
    command = edge.start("restart", "edge", "--foreground", halt="enroll")
    await_halt(command)
    command.send_signal(signal.SIGTERM)  # delivered once it continues
    return command


def test_the_old_one_is_dead(serving: Edge) -> None:
    command = interrupted_canary(serving)
    systemctl("stop", 1)
    with Traffic(2) as clients:
        command.send_signal(signal.SIGCONT)
        assert command.communicate(timeout=PATIENCE_S) and command.returncode == 2
        assert serving.alive() == [2]
        canary, stop_new = serving.journal()["steps"][-2:]
        assert (canary["result"], stop_new["step"]) == ("cancelled", "stop_new")
        assert stop_new["reason"] == "only edge@2.service has sockets: it is left running"
        assert serving.host.run("rollback", "edge").returncode == 255
        done = serving.restart("--resume")
        assert done.returncode == 0, str(serving.journal()["steps"][-1])[-900:]
    assert (clients.first, clients.lost, clients.moved) == (2, 0, 0)
    assert serving.journal()["outcome"] == "finished"
    assert serving_only(serving, 2)


def test_the_old_one_is_started_again(serving: Edge) -> None:
    command = interrupted_canary(serving)
    systemctl("stop", 1)
    with Traffic(1) as clients:
        systemctl("start", 1)
        until(lambda: sockets(serving, 1) == 2, "the sockets of generation 1")
        command.send_signal(signal.SIGCONT)
        assert command.communicate(timeout=PATIENCE_S) and command.returncode == 3
        assert serving.steps()[-3:] == ["canary", "demote", "drain_new"]
        resumed = serving.start("restart", "edge", "--resume")
        until(lambda: serving.steps()[-2:] == ["drain_new"] * 2, "the drain to continue")
        clients.await_answers()
        with client() as new:
            assert ask(new) == 1
    assert resumed.communicate(timeout=PATIENCE_S) and resumed.returncode == 1
    assert (clients.first, clients.lost, clients.moved) == (2, 0, 0)
    assert serving.steps()[-1] == "stop_new"
    assert serving_only(serving, 1)


def test_active_for_a_while_before_the_stop(serving: Edge) -> None:
    command = serving.start(halt="drain")
    await_halt(command)
    activate(serving, 1)
    with Traffic(1) as clients:
        activate(serving, 2)
        command.send_signal(signal.SIGCONT)
        until(lambda: serving.steps().count("drain") == 2, "the second drain")
        clients.await_answers()
    await_halt(command)
    command.send_signal(signal.SIGCONT)
    assert command.communicate(timeout=PATIENCE_S) and command.returncode == 0
    assert (clients.first, clients.lost, clients.moved) == (1, 0, 0)
    results = [step["result"] for step in serving.journal()["steps"][-4:]]
    assert results == ["done", "undrained", "done", "done"]
    assert serving_only(serving, 2)


def test_kept_while_systemd_is_silent(
    serving: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, stand_in = tmp_path / "silent", tmp_path / "bin" / "systemctl"
    stand_in.parent.mkdir()
    real = ROOT / "tests" / "kernel" / "units" / "systemctl"
    stand_in.write_text(f'#!/bin/sh\n[ -e {silent} ] && exit 1\nexec {real} "$@"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    drain = {"until": {"flows": 0, "quiet_s": None}, "max_s": 0.1, "on_timeout": "keep"}
    serving.define(drain=drain, timeouts={"enroll_s": 1})
    with Traffic(1) as clients:
        command = serving.start(halt="verify")
        await_halt(command)
        systemctl("stop", 2)
        silent.touch()
        command.send_signal(signal.SIGCONT)
        _, errors = command.communicate(timeout=PATIENCE_S)
        assert (command.returncode, serving.journal()["outcome"]) == (3, None), errors
        silent.unlink()
        assert serving.restart("--resume").returncode == 1
    assert (clients.first, clients.lost, clients.moved) == (1, 0, 0)
    assert serving_only(serving, 1)
