# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The rulebook, by ansible-rulebook itself: an alert fires, and the rollback is called."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.processes import ROOT

PROGRAMS = ROOT / "build/venvs/rulebook/bin"
TOKEN = "a-long-random-word"
PATIENCE_S = 120.0
#: In place of the collection's own: it notes its call.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: echo "{{ udpgrm_service }}" >> NOTES
      run_once: true
"""

INVENTORY = """
all:
  hosts:
    localhost: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}
"""


class Rulebook:
    """A running rulebook."""

    def __init__(self, port: int, notes: Path, log: Path) -> None:
        self.port = port
        self.notes = notes
        self.log = log

    def post(self, status: str, token: str = TOKEN, alert: str = "UdpgrmPacketsMisdirected") -> int:
        """Send what Alertmanager sends, and return the answer's status."""
        labels = {"alertname": alert, "address": "0.0.0.0:4433"}
        body = {"status": status, "groupKey": "a", "commonLabels": labels, "alerts": []}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/endpoint", json.dumps(body), headers)
        return connection.getresponse().status

    def called(self) -> list[str]:
        """Return the services that were rolled back."""
        return self.notes.read_text().split() if self.notes.exists() else []


def free_port() -> int:
    """Return a port that is free, below those that the kernel gives to others meanwhile."""
    for port in range(20000, 32768):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


@pytest.fixture
def rulebook(tmp_path: Path) -> Iterator[Rulebook]:
    notes, port = tmp_path / "notes", free_port()
    collection = tmp_path / "collections/ansible_collections/udpgrm/fleet"
    (collection / "playbooks").mkdir(parents=True)
    shutil.copytree(ROOT / "extensions", collection / "extensions")
    shutil.copy(ROOT / "galaxy.yml", collection)
    playbook = PLAYBOOK.replace("NOTES", str(notes))
    (collection / "playbooks/rollback.yml").write_text(playbook)
    inventory, variables = tmp_path / "inventory.yml", tmp_path / "vars.yml"
    inventory.write_text(INVENTORY)
    given = {"udpgrm_service": "edge", "udpgrm_webhook_token": TOKEN, "udpgrm_webhook_port": port}
    variables.write_text(json.dumps(given))
    command = [str(PROGRAMS / "ansible-rulebook"), "--rulebook", "udpgrm.fleet.rollback"]
    command += ["--inventory", str(inventory), "--vars", str(variables)]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield Rulebook(port, notes, tmp_path / "log")
    finally:
        process.terminate()
        process.wait(60)


def test_an_alert_that_fires_rolls_back(rulebook: Rulebook) -> None:
    assert rulebook.post("resolved") == 200
    assert rulebook.post("firing", alert="UdpgrmGroupsNearlyFull") == 200
    assert rulebook.post("firing", token="wrong") == 401
    assert rulebook.post("firing") == 200
    deadline = time.monotonic() + PATIENCE_S
    while not rulebook.called():
        assert time.monotonic() < deadline, rulebook.log.read_text()
        time.sleep(0.2)
    # Alertmanager repeats it
    assert rulebook.post("firing") == 200
    time.sleep(10)
    assert rulebook.called() == ["edge"]
