# SPDX-License-Identifier: Apache-2.0
"""Limit what the daemon costs: memory, descriptors, wakeups, searches for sockets.

Times are measured by `make bench` (benchmarks/footprint.py), on a machine that does nothing else.
"""

from __future__ import annotations

import compileall
import os
import re
import time
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import ROOT, Host, cpu_seconds, wait_for

ADDRESS = "127.0.0.1:4433"


@pytest.fixture(autouse=True, scope="module")
def byte_code() -> None:
    """Have byte code, as packages do: a daemon that compiles its modules takes 1 MB more."""
    assert compileall.compile_dir(str(ROOT / "udpgrm"), quiet=1)


def status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_memory_and_descriptors(host: Host) -> None:
    pid = host.process.pid
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for generation in range(3):  # caches fill
        for sock in [sock for _ in range(20) for sock in grm.bind(ADDRESS)]:
            grm.enroll([sock], generation)
            sock.close()
    for generation in range(200):
        with grm.bind(ADDRESS)[0] as sock:
            grm.enroll([sock], generation)
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) == before, "as many descriptors as before")
    resident = status(pid, "VmRSS")
    print(f"daemon: {resident} kB resident")
    assert resident < 25 * 1024
    # one that asks what the kernel may hold up, and waits
    assert status(pid, "Threads") <= 2


def test_idle_daemon_sleeps(host: Host) -> None:
    pid = host.process.pid

    def activity() -> tuple[int, float]:
        return status(pid, "voluntary_ctxt_switches"), cpu_seconds(pid)

    def sleeps() -> bool:
        before = activity()
        time.sleep(5)
        return activity() == before

    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 1)
        wait_for(sleeps, "the daemon to sleep, after what follows a registration")


def test_registration_beside_many_descriptors(host: Host) -> None:
    """Register without looking through 2,000 other descriptors of the application."""
    made = []
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    try:
        before = cpu_seconds(host.process.pid)
        for _ in range(100):
            made += grm.bind(ADDRESS)
            grm.enroll(made[-1:], 1)
        made += (many := grm.bind("127.0.0.1:4434", 256))
        assert grm.enroll(many, 1) == list(range(256))
        # through 2,000 descriptors for each of 356 sockets takes a minute
        assert cpu_seconds(host.process.pid) - before < 5
    finally:
        for fd in others:
            os.close(fd)
        for sock in made:
            sock.close()


def test_registration_survives_a_busy_group_table(host: Host) -> None:
    """Register in more groups, one after another, than are prepared at a time."""
    made = []
    try:
        for port in range(10_000, 10_100):
            made += grm.bind(f"127.0.0.1:{port}")
            grm.enroll(made[-1:], 1)
        assert len(host.json("list")["groups"]) == 100
    finally:
        for sock in made:
            sock.close()
