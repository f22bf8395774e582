# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes of a restart that come from another host: another network namespace, over a cable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.processes import ROOT
from testing.waiting import PATIENCE_S
from tests import fake_ssh
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import Edge

__all__ = ["edge"]

HERE, THERE = "198.51.100.1", "198.51.100.2"
WHERE = f"{HERE}:4433"
#: The command, which waits for the other host as long as it takes on a busy machine.
PATIENT = [
    *(sys.executable, "-c"),
    f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.probes.remote as remote
remote._PATIENCE_S = {PATIENCE_S}
from udpgrm.cli.main import run
run()
""",
]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Yield the other host, with ssh to it."""
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    enter = ["nsenter", "--net", f"--target={holder.pid}"]
    directory = tmp_path / "ssh"
    directory.mkdir()

    def ip(arguments: str, *inside: str) -> None:
        subprocess.run([*inside, "ip", *arguments.split()], check=True)

    try:
        # until the namespace is the holder's
        ip("link add near type veth peer name far")
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            assert holder.poll() is None
        ip(f"link set far netns {holder.pid}")
        ip(f"address add {HERE}/24 dev near")
        ip("link set near up")
        ip(f"address add {THERE}/24 dev far", *enter)
        ip("link set far up", *enter)
        fake_ssh.install(directory, monkeypatch, came_from=HERE, enter=enter)
        monkeypatch.setattr("testing.host.COMMAND", PATIENT)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "near"], check=False)
        holder.communicate()


def define(edge: Edge, address: str, host: str = "probe@far") -> None:
    edge.addresses = [address]
    edge.unit()
    edge.define(probes=[{"type": "echo", "from": host, "timeout_s": 30}])


def evidence(document: dict[str, Any], step: str) -> dict[str, Any]:
    seen = {item["step"]: item["evidence"] for item in document["steps"]}[step]
    assert isinstance(seen, dict)
    return seen


@pytest.mark.parametrize("address", [WHERE, "0.0.0.0:4433"])
@pytest.mark.usefixtures("far")
def test_another_host_proves_a_restart(edge: Edge, address: str) -> None:
    define(edge, address)
    first = edge.restart("--json")
    assert first.returncode == 0, first.stdout + first.stderr
    second = edge.restart("--json")
    assert second.returncode == 0, second.stdout + second.stderr
    document = json.loads(second.stdout)
    [canary] = evidence(document, "canary")["probes"]
    [new] = evidence(document, "verify")["probes"]
    [old] = evidence(document, "verify")["old_flows"]
    for seen, generation, path in ((canary, 2, "steered"), (new, 2, "new"), (old, 1, "existing")):
        assert seen["source"].startswith(f"{THERE}:")
        assert seen["address"] == WHERE
        assert seen["passed"]
        assert (seen["received_generation"], seen["path"]) == (generation, path)


@pytest.mark.usefixtures("far")
def test_a_host_that_cannot_be_reached_rolls_back_before_users_notice(edge: Edge) -> None:
    define(edge, WHERE)
    assert edge.restart().returncode == 0
    define(edge, WHERE, host="nowhere")
    failed = edge.restart("--json")
    assert failed.returncode == 1
    document = json.loads(failed.stdout)
    assert document["outcome"] == "rolled_back"
    canary = next(item for item in document["steps"] if item["step"] == "canary")
    assert canary["reason"] == (
        "from nowhere: ssh: connect to host nowhere port 22: No route to host"
    )
    assert (edge.alive(), edge.working(WHERE)) == ([1], 1)


@pytest.mark.usefixtures("far")
def test_by_hand(edge: Edge) -> None:
    define(edge, WHERE)
    assert edge.restart().returncode == 0
    asked = edge.host.run("probe", "--type=echo", "--from=far", "--json", WHERE, "retries=0")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    result = json.loads(asked.stdout)
    assert result["passed"]
    assert result["source"][0] == THERE
    refused = edge.host.run("probe", "--type=echo", "--from=-oProxyCommand=x", WHERE)
    assert refused.returncode == 255
    assert "probe: from: " in refused.stderr
