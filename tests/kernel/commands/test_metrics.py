# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Metrics in Prometheus' form, of real groups and a real daemon."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

import udpgrm.client as grm
from testing.host import Host, answer, client
from tests.kernel.daemon.test_footprint import status

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)


def samples(text: str) -> dict[str, float]:
    """Values by name and labels; netns, which differs between runs, is left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pairs = [re.sub(r'netns="\d+",', "", line).rsplit(" ", 1) for line in lines]
    found = {name: float(value) for name, value in pairs}
    assert len(found) == len(lines)
    return found


def scrape(host: Host) -> dict[str, float]:
    done = host.run("metrics", "--prometheus")
    assert done.returncode == 0, done.stderr
    return samples(done.stdout)


def test_a_group_with_two_generations(host: Host) -> None:
    group = f'address="{ADDRESS}",ifindex="0"'
    sockets = [grm.bind(ADDRESS)[0] for _ in range(2)]
    for generation, sock in enumerate(sockets, 1):
        grm.enroll([sock], generation)
    grm.promote(sockets[0], 1)
    started = time.time()
    with client() as early, client() as late:
        early.sendto(b"hi", TARGET)
        assert answer(sockets, 1) == [0]
        grm.promote(sockets[1], 2)
        for peer in (early, late):
            peer.sendto(b"hi", TARGET)
        assert sorted(answer(sockets, 2)) == [0, 1]
    found = scrape(host)
    one, two = (f'{group},application="0",generation="{number}"' for number in (1, 2))
    expected = {
        f"udpgrm_received_packets_total{{{group}}}": 3,
        f'udpgrm_dispatched_packets_total{{{group},path="existing"}}': 1,
        f'udpgrm_dispatched_packets_total{{{group},path="new"}}': 2,
        f'udpgrm_dispatch_errors_total{{{group},reason="no_working_socket"}}': 0,
        f'udpgrm_flow_misses_total{{{group},reason="unseen"}}': 2,
        f"udpgrm_flow_sends_total{{{group}}}": 3,
        f"udpgrm_flows_created_total{{{group}}}": 2,
        f"udpgrm_flow_refreshes_total{{{group}}}": 1,
        f'udpgrm_working_generation{{{group},application="0"}}': 2,
        f"udpgrm_generation_working{{{one}}}": 0,
        f"udpgrm_generation_working{{{two}}}": 1,
        f"udpgrm_generation_sockets{{{one}}}": 1,
        f"udpgrm_generation_flows{{{one}}}": 1,
        f"udpgrm_generation_flows{{{two}}}": 1,
        f"udpgrm_generation_received_packets_total{{{one}}}": 2,
        f"udpgrm_generation_sent_packets_total{{{two}}}": 1,
        "udpgrm_groups": 1,
        "udpgrm_daemon_up": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    last = found[f"udpgrm_generation_last_received_timestamp_seconds{{{two}}}"]
    assert started - 0.2 <= last <= time.time() + 0.2
    for sock in sockets:
        sock.close()


def test_packets_without_an_active_instance(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock, client() as peer:
        grm.enroll([sock], 1)
        grm.promote(sock, 9)
        peer.sendto(b"hi", TARGET)
        answer([sock], 1)
        name = f'udpgrm_dispatch_errors_total{{address="{ADDRESS}",ifindex="0",reason='
        found = scrape(host)
        assert found[name + '"no_working_socket"}'] == 1
        assert sum(value for key, value in found.items() if key.startswith(name)) == 1


def test_health_of_the_daemon(bare_host: Host) -> None:
    assert scrape(bare_host)["udpgrm_daemon_up"] == 0
    before = time.time()
    bare_host.start("--persist")
    with bare_host.stopped():  # a running daemon would use more memory meanwhile
        found = scrape(bare_host)
        resident = status(bare_host.process.pid, "VmRSS") * 1024
    assert found["udpgrm_daemon_up"] == 1
    # btime is in whole seconds
    assert before - 2 < found["udpgrm_daemon_start_time_seconds"] < time.time() + 1
    assert abs(found["udpgrm_daemon_resident_memory_bytes"] - resident) < 1 << 20
    bare_host.kill()
    found = scrape(bare_host)
    assert found["udpgrm_daemon_up"] == 0
    assert found["udpgrm_groups"] == 0
    assert "udpgrm_daemon_open_fds" not in found


def test_into_a_file(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "udpgrm.prom"
    done = host.run("metrics", "--prometheus", f"--output={file}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert samples(file.read_text())["udpgrm_daemon_up"] == 1
    file.unlink()
    device = tmp_path / "null"
    os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for arguments in (
        ["metrics", f"--output={file}"],
        ["metrics", "--listen=127.0.0.1:0", f"--output={file}"],
        ["metrics", "--prometheus", "--json"],
        ["list", "--prometheus"],
        ["metrics", "--prometheus", f"--output={tmp_path}/none/udpgrm.prom"],
        ["metrics", "--prometheus", f"--output={device}"],
        ["metrics", "--prometheus", f"--output={tmp_path}"],
        ["metrics", "--prometheus", "--output=/"],
        ["metrics", "--prometheus", "--output="],
    ):
        done = host.run(*arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (255, "", 1)
    assert not file.exists()
    assert device.is_char_device()
