# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The examples of docs/rollout-hooks.md do what they say, to real servers."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.documentation import blocks
from testing.host import wait_for
from testing.processes import started

from .examples import run_tasks

HOOKS = blocks("rollout-hooks.md")
BATCH = {"rollout_begin": {"batch": ["fl1", "fl2"], "services": ["edge"]}}
ALERTMANAGER = "http://127.0.0.1:9493"


def ask(path: Path, command: str) -> str:
    """Return HAProxy's answer to a command."""
    socat = ["socat", "-", str(path)]
    return subprocess.run(
        socat, input=f"{command}\n", capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Path]:
    """Yield the socket of an HAProxy with a server fl1."""
    path, config = tmp_path / "admin.sock", tmp_path / "haproxy.cfg"
    config.write_text(
        f"global\n  stats socket {path} level admin\n"
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
        "backend edge\n  server fl1 127.0.0.1:9\n"
    )
    with started(["haproxy", "-db", "-f", str(config)]):
        wait_for(path.exists, "the socket")
        yield path


def test_haproxy(haproxy: Path, tmp_path: Path) -> None:
    given = {"haproxy_socket": str(haproxy), "haproxy_host": "balancer"}
    # the 6th column is the state that the operator has set: 0 ready, 8 drained
    state = "show servers state edge"
    for name, wanted in (("out", "8"), ("in", "0")):
        status, output = run_tasks(tmp_path, HOOKS[f"hooks/haproxy-{name}.yml"], **given)
        assert status == 0, output
        line = next(line for line in ask(haproxy, state).splitlines() if " fl1 " in line)
        assert line.split()[6] == wanted, line
    unknown = HOOKS["hooks/haproxy-out.yml"].replace("edge/", "nosuch/")
    assert run_tasks(tmp_path, unknown, **given)[0] != 0


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Path]:
    """Yield the socket of a bird with a protocol edge."""
    path, config = tmp_path / "bird.ctl", tmp_path / "bird.conf"
    config.write_text(
        "router id 192.0.2.1;\nprotocol static edge { ipv4; route 198.51.100.0/24 unreachable; }\n"
    )
    command = ["bird", "-f", "-c", str(config), "-s", str(path), "-P", str(tmp_path / "bird.pid")]
    with started(command):
        wait_for(path.exists, "the socket")
        yield path


def test_bird(bird: Path, tmp_path: Path) -> None:
    given = {"bird_socket": str(bird), "bird_protocol": "edge"}
    for name, routes in (("out", 0), ("in", 1)):
        status, output = run_tasks(tmp_path, HOOKS[f"hooks/bird-{name}.yml"], **given)
        assert status == 0, output
        shown = subprocess.run(
            ["birdc", "-s", str(bird), "show", "route"], capture_output=True, text=True, check=True
        ).stdout
        assert shown.count("198.51.100.0/24") == routes, shown
    given["bird_protocol"] = "nosuch"
    assert run_tasks(tmp_path, HOOKS["hooks/bird-out.yml"], **given)[0] != 0


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[None]:
    config = tmp_path / "alertmanager.yml"
    config.write_text("{route: {receiver: none}, receivers: [{name: none}]}\n")
    command = ["prometheus-alertmanager", f"--config.file={config}", "--cluster.listen-address="]
    command += [f"--storage.path={tmp_path}", "--web.listen-address=127.0.0.1:9493"]
    with started(command):
        wait_for(lambda: is_there(f"{ALERTMANAGER}/-/ready"), "Alertmanager")
        yield


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.usefixtures("alertmanager")
def test_a_silence_in_alertmanager(tmp_path: Path) -> None:
    given = {**BATCH, "alertmanager": ALERTMANAGER}
    status, output = run_tasks(tmp_path, HOOKS["hooks/silence.yml"], **given)
    assert status == 0, output
    with urllib.request.urlopen(f"{ALERTMANAGER}/api/v2/silences", timeout=5) as answer:
        (silence,) = json.load(answer)
    assert silence["status"]["state"] == "active"
    assert silence["matchers"][0]["value"] == "(fl1|fl2)(:[0-9]+)?"
