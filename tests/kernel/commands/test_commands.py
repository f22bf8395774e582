# SPDX-License-Identifier: Apache-2.0
"""The command line on a real group: JSON, errors, commands of our own.

tests/kernel/reference has the forms of the reference.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host, answer, client, close

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)


@pytest.fixture
def group(host: Host) -> Iterator[list[socket.socket]]:
    """Make two generations of one socket and one flow each; the second one is active."""
    made = []
    for generation in (1, 2):
        made += grm.bind(ADDRESS)
        grm.enroll(made[-1:], generation)
        grm.promote(made[-1], generation)
        peer = client()
        peer.sendto(b"hi", TARGET)
        answer(made[-1:], 1)
        peer.close()
    yield made
    for sock in made:
        sock.close()


@pytest.mark.daemon("own")
def test_metrics_of_one_address(host: Host, group: list[socket.socket]) -> None:
    with grm.bind("127.0.0.1:4434")[0] as other:
        grm.enroll([other], 1)
        everything = host.run("metrics").stdout.splitlines()
        lines = host.run("metrics", ADDRESS).stdout.splitlines()
        assert lines == [line for line in everything if "4434" not in line]
        assert len(everything) == 2 * len(lines) - 1
        assert [item["address"] for item in host.json("metrics", ADDRESS)["groups"]] == [ADDRESS]
    assert len(host.run("metrics", "127.0.0.1:9").stdout.splitlines()) == 1


def test_json_of_metrics_and_flows(host: Host, group: list[socket.socket]) -> None:
    metrics = host.json("metrics")["groups"]
    assert metrics[0]["address"] == ADDRESS
    assert metrics[0]["working_generations"] == {"0": 2}
    assert metrics[0]["metrics"]["tx_flow_create_ok"] == 2
    flows = host.json("flows")["groups"][0]["flows"]
    assert sorted((flow["generation"], flow["index"]) for flow in flows) == [(1, 0), (2, 0)]
    assert not any(flow["expired"] for flow in flows)


def test_working_gen(host: Host, group: list[socket.socket]) -> None:
    answer_ = host.json("working-gen", ADDRESS, "1", "--check")
    assert answer_ == {
        "schema": 1,
        "address": ADDRESS,
        "application": 0,
        "changed": True,
        "before": 2,
        "after": 1,
    }
    assert grm.working_generation(group[0]) == 2
    assert host.json("working-gen", ADDRESS, "1")["changed"] is True
    assert grm.working_generation(group[0]) == 1
    with client() as peer:
        peer.sendto(b"hi", TARGET)
        assert answer(group, 1) == [0]
    assert host.json("working-gen", ADDRESS, "1")["changed"] is False
    assert host.json("working-gen", ADDRESS, "newest")["after"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["working-gen", ADDRESS, "3"],
        ["working-gen", ADDRESS, "newer"],
        ["working-gen", ADDRESS, "4294967296"],
        ["working-gen", ADDRESS, "1", "--app=1"],
        ["working-gen", "127.0.0.1:9", "1"],
        ["working-gen", ADDRESS],
        ["list", "localhost"],
        ["list", "127.0.0.1"],
        ["list", "127.0.0.1:0"],
        ["list", "::1:4433"],
        ["flows", ADDRESS, ADDRESS],
        ["delete"],
        ["delete", "127.0.0.1:9"],
        ["lists"],
        ["list", "--daemon"],
        ["list", "--nothing"],
        ["list", "--count=3"],
        ["probe", ADDRESS, "--count=0"],
        ["flows", "-i"],
        ["--pin-dir=/sys/fs/bpf/\udcff", "delete", ADDRESS],
        [],
    ],
)
def test_misuse_is_one_line_and_changes_nothing(
    host: Host, group: list[socket.socket], arguments: list[str]
) -> None:
    before = host.groups()
    for extra in ([], ["--json"]):
        done = host.run(*arguments, *extra)
        assert done.returncode == 255
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
    after = host.groups()
    for view in (before, after):
        (found,) = view
        for generation in found["generations"]:
            del generation["last_in_age"], generation["last_out_age"]
    assert before == after


def test_a_directory_of_cgroup_version_1(host: Host, tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    for arguments in (["hooks", "add", str(tmp_path)], ["enroll", ADDRESS, f"--cgroup={tmp_path}"]):
        done = host.run(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (255, 1)
        assert f"{tmp_path} is not a cgroup2 directory" in done.stderr


def test_nowhere_to_complain(bare_host: Host) -> None:
    for stdout, stderr in (("/dev/full", "/dev/full"), ("/dev/null", "/dev/full")):
        with open(stdout, "w") as out, open(stderr, "w") as err:
            done = subprocess.run([*COMMAND, "bogus"], stdout=out, stderr=err, check=False)
        assert done.returncode == 255


def test_no_state(bare_host: Host) -> None:
    for arguments in (["list"], ["flows"], ["metrics"], ["delete", ADDRESS], ["probe", ADDRESS]):
        done = bare_host.run(*arguments)
        assert done.returncode == 255
        assert done.stderr.startswith(f"udpgrm: no state in {bare_host.directory}")
    view = bare_host.json("list")
    assert view["daemon"] == {"running": False, "pid": None}
    assert view["groups"] == []


def test_probe(host: Host, group: list[socket.socket]) -> None:
    view = host.json("probe", ADDRESS, "--count=5", "--timeout=0")
    assert view == {
        "schema": 1,
        "address": ADDRESS,
        "passed": True,
        "generation": 2,
        "sent": 5,
        "answered": 0,
        "received": 5,
        "dispatch_errors": 0,
    }
    with host.stopped():  # else its garbage collection may come first
        close(group[1])
        done = host.run("probe", ADDRESS, "--count=5", "--timeout=0")
    assert done.returncode == 1
    assert "NOT passed" in done.stdout


def test_a_probe_of_more_descriptors_than_select_knows(
    host: Host, group: list[socket.socket]
) -> None:
    command = [*COMMAND, f"--pin-dir={host.directory}", "probe", ADDRESS, "--count=1000"]
    limited = ["sh", "-c", 'ulimit -n 4096 && exec "$@"', "sh", *command, "--timeout=1"]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed, sent 1000" in done.stdout


def test_an_application_that_the_group_has_not(host: Host, group: list[socket.socket]) -> None:
    for command in (
        ("working-gen", ADDRESS, "1"),
        ("drain", ADDRESS, "1"),
        ("enroll", ADDRESS, f"--cgroup={host.cgroup}"),
    ):
        done = host.run(*command, "--app=3")
        assert done.returncode == 255
        assert done.stderr == f"udpgrm: {ADDRESS} has no application 3, only 1\n"


def test_preflight_and_build(host: Host) -> None:
    view = host.json("preflight")
    assert view["ok"] is True
    assert {"program hook setsockopt", "program steering flow"} <= {
        check["name"] for check in view["checks"]
    }
    view = host.json("build")
    assert view["changed"] is False
    assert "steer_noop" in view["cached"]


@pytest.mark.daemon("own")
def test_top(host: Host) -> None:
    sockets = grm.bind(ADDRESS, 2)
    grm.enroll(sockets[:1], 1)
    grm.enroll(sockets[1:], 2)
    grm.promote(sockets[0], 1)
    done = host.run("top", "--count=2")
    assert done.returncode == 0, done.stderr
    last = done.stdout.rpartition("udpgrm top")[2]
    assert re.search(rf"{re.escape(ADDRESS)} flow +1 +working +1 +0 +0 +0 +0 +0 +-", last)
    assert re.search(r"\n +2 +waiting +1 ", last)
    for sock in sockets:
        sock.close()


@pytest.mark.daemon("own")
def test_list_of_several_addresses(host: Host, group: list[socket.socket]) -> None:
    """List each group once, and the addresses in their usual spelling."""
    found = host.json("list", "[::ffff:127.0.0.1]:4433", ADDRESS, "192.0.2.1:1")
    assert found["addresses"] == [ADDRESS, "192.0.2.1:1"]
    assert [item["address"] for item in found["groups"]] == [ADDRESS]
    assert host.json("list")["addresses"] == []
    assert host.run("list", ADDRESS, ADDRESS).returncode == 255  # text is for one
